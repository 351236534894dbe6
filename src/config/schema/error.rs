//! `[[error]]`: errors in other words.

use std::{collections::BTreeMap, sync::Arc};

use http::StatusCode;

use super::languages::language;
use crate::{
    config::{
        declare::{
            Context, Key, Keys, Kind as _, Meta, Shape, count, described, parse_as, reference, table, text,
        },
        naming::{self, shown, suggestion},
        problem::{Complaint, complaint},
        reader::{Node, Table},
    },
    fault::{ErrorFilter, ErrorRule, Fault, Language, PLACEHOLDERS},
};

/// Limit of a message in bytes.
const MOST_BYTES: usize = 2048;

const WHEN_HELP: &str = r#"for example: when = { code = "upstream_rate_limited" }"#;

table! {
    /// `[[error]]`
    pub(crate) struct ErrorTable(table, context) {
        when = described(Shape::Table(When::keys())).required(),
            "Which errors are meant: those that are as every key of this table says. An error that several `[[error]]` tables fit gets the \
             words of the first one.",
            { shipped: r#"{ code = "gateway_draining" }"#,
              example: &[r#"{ code = "upstream_rate_limited" }"#, r#"{ status = 429, upstream = "openai" }"#], since: "0.2.0" };
        message: Option<BTreeMap<Language, String>> = parse_as(message_shape, message).optional(),
            "Message of the error in each language. It may quote the original error: `{message}`, `{code}`, `{status}` and `{request_id}`. A client \
             whose language is not there gets the first of the `languages` that is.",
            { default: "stays as it is", shipped: r#"{ en = "The service is restarting. Send the request again." }"#,
              example: &[r#"{ en = "All of our capacity is in use. Try again in a minute.", zh = "当前容量已满，请一分钟后重试。" }"#], since: "0.2.0" };
        status: Option<u16> = count::<u16>(400..=599).optional(),
            "Status of the response. SDKs that would retry the original status still do, by `x-should-retry`.",
            { default: "stays as it is", example: &["503"], since: "0.2.0" };
        code: Option<String> = text("error code", new_code).optional(),
            "Code of the error, for programs.",
            { default: "stays as it is", example: &[r#""busy""#], since: "0.2.0" };
    }
    derived {
        /// From `when`.
        when: ErrorFilter = when(table, context);
    }
    check {
        changes_something(table)
    }
}

table! {
    /// `when` of an `[[error]]`.
    pub(crate) struct When(table, context) {
        code: Option<String> = text("error code", code).optional(),
            "Code of the original error: `error.code`; of an upstream's error also `type`, and Google's `status`.",
            { default: "any", example: &[r#""upstream_rate_limited""#], since: "0.2.0" };
        status: Option<u16> = count::<u16>(400..=599).optional(),
            "Status of the original error.", { default: "any", example: &["429"], since: "0.2.0" };
        upstream: Option<Arc<str>> = reference("upstream", |names| &names.upstreams).optional(),
            "Upstream that has sent the error, or that failed in an attempt of the gateway.",
            { default: "any", example: &[r#""openai""#], since: "0.2.0" };
    }
}

/// The rule of a table.
pub(crate) fn error_rule(table: ErrorTable) -> ErrorRule {
    ErrorRule {
        when: table.when,
        message: table.message.unwrap_or_default(),
        status: table.status.and_then(status),
        code: table.code,
    }
}

fn status(number: u16) -> Option<StatusCode> {
    StatusCode::from_u16(number).ok()
}

fn when(table: &Table<'_>, context: &Context<'_>) -> Option<ErrorFilter> {
    use crate::config::declare::Declared as _;

    let node = table.required("when", WHEN_HELP)?;
    let inner = node.table(When::NAMES)?;
    if inner.is_empty() {
        node.fail(complaint("names no errors", WHEN_HELP));
    }
    if let Some(code) = inner.get("code") {
        like_a_code_of_the_gateway(&code);
    }
    let When { code, status: number, upstream } = When::read(&inner, context)?;
    Some(ErrorFilter { code, status: number.and_then(status), upstream })
}

/// An upstream may have any code, so an unknown one is no mistake; one that is nearly a code of the gateway probably is.
fn like_a_code_of_the_gateway(node: &Node<'_>) {
    let Some(written) = node.value.as_str() else { return };
    let codes = Fault::codes();
    if codes.contains(&written) {
        return;
    }
    if let Some(help) = suggestion(written, codes.iter().copied()) {
        let message = format!("{} is no code of the gateway", shown(written, "this"));
        let help = format!("{help} Codes of upstreams may be anything, so if it is one, leave it");
        node.warn(complaint(message, help));
    }
}

fn code(text: &str) -> Result<String, Complaint> {
    let is_sound =
        (1..=naming::MAX_NAME).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_sound {
        return Ok(text.to_owned());
    }
    Err(complaint(
        "is not an error code",
        "write one word of at most 64 characters, for example \"rate_limit_exceeded\"",
    ))
}

/// A code that clients will compare is in the form of all others.
fn new_code(text: &str) -> Result<String, Complaint> {
    let is_word =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-' | b'.');
    let code = code(text)?;
    if code.bytes().all(is_word) {
        return Ok(code);
    }
    Err(complaint("is not an error code", "use lower-case letters, digits, `_`, `-` and `.`"))
}

fn changes_something(table: &Table<'_>) {
    if ["message", "status", "code"].iter().all(|key| table.get(key).is_none()) {
        table.fail(complaint("changes nothing", "add a `message`, a `status` or a `code`"));
    }
}

/// One text for each language.
fn message_shape() -> Shape {
    let key = |language: Language| {
        let field = text("text", |text| Ok(text.to_owned())).optional();
        Key::new(
            language.tag(),
            "The message in this language.",
            &field,
            Meta { default: "none", since: "0.2.0", ..Meta::USUAL },
        )
    };
    Shape::Table(Language::all().map(key).collect())
}

fn message(node: &Node<'_>, context: &Context<'_>) -> Option<BTreeMap<Language, String>> {
    if !node.is_table() {
        return node.mistyped("a table", r#"write one text for each language: { en = "…", zh = "…" }"#);
    }
    let mut texts = BTreeMap::new();
    for (tag, inner) in node.entries()? {
        let language = inner.accept(language(tag));
        let text = inner.parse(template);
        texts.extend(language.zip(text));
    }
    if node.entries()?.is_empty() {
        node.fail(complaint("has no text", r#"for example: message = { en = "…", zh = "…" }"#));
    }
    lacks_a_language(node, &texts, context);
    Some(texts)
}

/// A client whose language is missing gets another one.
fn lacks_a_language(node: &Node<'_>, texts: &BTreeMap<Language, String>, context: &Context<'_>) {
    let lacking = context.defaults.languages.iter().filter(|language| !texts.contains_key(language));
    let tags: Vec<&str> = lacking.map(Language::tag).collect();
    if tags.is_empty() || texts.is_empty() {
        return;
    }
    let message = format!("has no text in {}, which `languages` of [defaults] lists", tags.join(" and "));
    node.warn(complaint(message, "add it; until then these clients get a text in another language"));
}

/// A message, whose placeholders are known.
fn template(text: &str) -> Result<String, Complaint> {
    let known: Vec<String> = PLACEHOLDERS.iter().map(|name| format!("{{{name}}}")).collect();
    let help = || format!("it may have {}, and no other braces", known.join(", "));
    if text.trim().is_empty() {
        return Err(complaint("is empty", "write the message, or leave the language out"));
    }
    if text.len() > MOST_BYTES || text.chars().any(char::is_control) {
        return Err(complaint("is not a message", "write one line of at most 2048 bytes"));
    }
    let mut parts = text.split('{');
    let before = parts.next().unwrap_or_default();
    let has_stray = before.contains('}');
    let is_known = |part: &str| {
        part.split_once('}').is_some_and(|(name, rest)| PLACEHOLDERS.contains(&name) && !rest.contains('}'))
    };
    if has_stray || !parts.all(is_known) {
        return Err(complaint("has a placeholder that nothing stands for", help()));
    }
    Ok(text.to_owned())
}

/// No two rules are for the same errors, because the second one would never apply.
pub(crate) fn errors_differ(rules: &[(Node<'_>, ErrorRule)]) {
    for (index, (node, rule)) in rules.iter().enumerate() {
        let mut earlier = rules.iter().take(index);
        let Some((other, first)) = earlier.find(|(_, earlier)| covers(&earlier.when, &rule.when)) else {
            continue;
        };
        if first.when == rule.when {
            let message = format!("is for the same errors as {}", other.path);
            node.fail(complaint(message, "remove one of the two, or make them one"));
        } else {
            let message =
                format!("never applies: {} is for all of these errors, and comes first", other.path);
            node.warn(complaint(message, "put this table before that one"));
        }
    }
}

/// Whether every error that fits `one` fits `other` too.
fn covers(other: &ErrorFilter, one: &ErrorFilter) -> bool {
    fn part<T: PartialEq>(other: Option<&T>, one: Option<&T>) -> bool {
        other.is_none_or(|other| one == Some(other))
    }
    part(other.code.as_ref(), one.code.as_ref())
        && part(other.status.as_ref(), one.status.as_ref())
        && part(other.upstream.as_ref(), one.upstream.as_ref())
}
