//! `docs/errors.md`, generated from the table of faults, their texts, and what `help.toml` says of each code.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fmt::Write as _,
    fs,
    path::Path,
};

use super::{Fault, Language, Template};
use crate::fault::Row;

const COMMAND: &str = "SLUICEGATE_WRITE=1 cargo test --lib fault::messages";

const INTRODUCTION: &str = "\
# Error codes

<!-- Generated from src/fault. Do not edit this page; write it with
     SLUICEGATE_WRITE=1 cargo test --lib fault::messages -->

Errors of the gateway are JSON in OpenAI's format with a `code` and an `x-request-id`, so that the SDKs raise the matching exception. `param` names the
member of the body that is at fault. The message ends with the place of its code on this page, such as `(docs/errors#route_not_found)`.

The message is in one of the [configured languages](how-to/languages.md), by default in English; `content-language` names it. The code is the same in all languages.
The same page says how an error gets other words.

Requests with the header `anthropic-version`, and requests to `/messages`, get errors in Anthropic's format, with Anthropic's error types and a
`request-id`; the gateway's `code` and `param` are additional members of `error` there.

A provider's own errors (400, 403, 404, 429, 500 …) are forwarded unchanged, unless an `[[error]]` table fits them, including `retry-after` and `x-ratelimit-*`, if no retry gave a better
response.

If the head of a request is not HTTP, or an HTTP/1.1 head has too many or too large headers, the response is a 400 or 431 without a body,
because there is no request yet. `/metrics` counts these.

*Retry* says whether a retry may help: `x-should-retry` of the response, where the gateway sets it; otherwise the SDKs decide by the status.
";

/// What the log has in `error` beside the codes of faults.
const IN_THE_LOG: &str = "
## In the log only

The field `error` of the [log](log.md#fields) has the codes above, a provider's own codes, and these:

### caller_left

The client left before the response was complete. Not an error of the gateway or the provider.

### upstream_error_event

The stream ended with an error event of the provider, which was forwarded.

### upstream_error

A provider's error without a code of its own was forwarded.
";

/// A code, with the faults that have it.
fn by_code() -> BTreeMap<&'static str, Vec<Fault>> {
    let mut codes: BTreeMap<&'static str, Vec<Fault>> = BTreeMap::new();
    for fault in Fault::examples() {
        codes.entry(fault.row().code).or_default().push(fault);
    }
    codes
}

fn page(help: &BTreeMap<String, String>) -> String {
    let mut page = INTRODUCTION.to_owned();
    for (code, faults) in by_code() {
        let help =
            help.get(code).unwrap_or_else(|| panic!("src/fault/messages/help.toml says nothing of `{code}`"));
        let others: String = others().map(|language| format!(" {} |", language.tag())).collect();
        let columns = "---|".repeat(5 + others.matches('|').count());
        let head = format!("| status | type | retry | ended by | message |{others}\n|{columns}\n");
        write!(page, "\n## {code}\n\n{help}\n\n{head}").unwrap();
        let rows: BTreeSet<String> = faults.iter().map(row).collect();
        rows.iter().for_each(|row| page.push_str(row));
    }
    page.push_str(IN_THE_LOG);
    page
}

fn row(fault: &Fault) -> String {
    let Row { status, kind, retry, who, .. } = fault.row();
    let retry = match retry {
        Some(true) => "yes",
        Some(false) => "no",
        None => "–",
    };
    let status = match fault {
        Fault::Withheld(_) => "the provider's".to_owned(),
        _ => status.as_u16().to_string(),
    };
    let messages: String = std::iter::once(Language::EN)
        .chain(others())
        .map(|language| format!(" {} |", shown(language.template(fault.text()).map_or("", Template::text))))
        .collect();
    format!("| {status} | `{kind}` | {retry} | `{}` |{messages}\n", who.as_str())
}

/// The languages that have a column of their own.
fn others() -> impl Iterator<Item = Language> {
    Language::all().filter(|language| *language != Language::EN)
}

/// A text in a cell of a table, with its placeholders in italics.
fn shown(template: &str) -> String {
    template.replace(['{', '}'], "*").replace('|', "\\|")
}

#[test]
fn the_page_of_error_codes_is_generated_and_complete() {
    let help: BTreeMap<String, String> = toml::from_str(include_str!("help.toml")).unwrap();
    let (known, codes) = (help.keys().map(String::as_str).collect::<BTreeSet<_>>(), by_code());
    let codes: BTreeSet<&str> = codes.into_keys().collect();
    assert_eq!(known, codes, "src/fault/messages/help.toml and the table of faults");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors.md");
    let page = page(&help);
    if env::var_os("SLUICEGATE_WRITE").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "docs/errors.md is not what the program says; run {COMMAND}");
}
