//! `[route.NAME]`

use std::{net::Ipv6Addr, sync::Arc, time::Duration};

use http::Method;

use super::{
    BreakerOverride, Cors, HeaderRules, Retry, RetryOverrides, TimeoutOverrides,
    client::limits,
    cors::cors,
    defaults::{
        AskForUsage, body_limit, breaker, breaker_key, heartbeat, retry, retry_key, timeout, timeout_key,
        usage, validate, websocket,
    },
    headers::{no_secrets, not_both},
    languages::languages,
    timeouts::SPANS,
};
use crate::config::{
    declare::{
        Context, Inheritance, Keys, Kind, Shape, choice, described, flag, keys, list, section, span, table,
        text,
    },
    naming,
    problem::{Complaint, complaint},
    reader::{Node, Table},
    url,
};
use crate::{fault::Languages, openai::Level};

/// What a route inherits.
const INHERITED: &str = "what its upstream and `[defaults]` say";

table! {
    /// `[route.NAME]`: which requests go to which upstreams, and how.
    #[derive(Debug, Clone)]
    pub struct Route(table, context) {
        path: String = text("path", prefix).required(r#"for example: path = "/v1""#),
            "Prefix of the paths that the route matches, by whole segments; \"/\" matches all. The longest prefix wins.",
            { shipped: r#""/v1""# };
        upstreams = described(Shape::List(Box::new(Shape::Either(vec![
                Shape::Text("name of an upstream"), Shape::Table(ChoiceTable::keys()),
            ])))).required(),
            "Upstreams in the order in which they are tried. An entry with a `model` asks that upstream for this model instead of \
             the client's. The same upstream may stand here several times with different models.",
            { shipped: r#"["openai"]"#, example: &[r#"["openai", { upstream = "openai", model = "gpt-4o-mini" }]"#] };
        rewrite: Option<String> = text("path", prefix).optional(),
            "What the prefix is replaced by in the request to the upstream.",
            { default: "the prefix stays", example: &["\"/v1\""] };
        hosts: Vec<String> = list(text("host name", host)).non_empty("leave it out to match any host").or(Vec::new()),
            "Host names that the route matches, without port.",
            { default: "any", example: &[r#"["api.example.com"]"#] };
        methods: Vec<Method> = list(text("method", method)).non_empty("leave it out to match any method").or(Vec::new()),
            "Methods that the route matches.",
            { default: "any but CONNECT and TRACE", example: &[r#"["GET", "POST"]"#] };
        limits: Vec<Arc<str>> = limits(),
            "Limits of the requests of this route, in addition to those of `[defaults]`, the client, its group and the model.",
            { default: "none", example: &[r#"["fair-use"]"#], since: "0.2.0" };
        access = described(Shape::Choice(vec!["keys", "open"])).or("\"keys\""),
            "Whether a client key is required, or the route is open to everybody.";
        refuse_origin: bool = flag().or(false),
            "Whether requests with an `Origin` header are refused. Browsers add the header to what a web page sends. For open routes on a \
             machine with a browser: any page that is open in it could otherwise send requests.",
            { since: "0.2.0" };
        cors = cors(),
            "Web pages that may send requests on the route and open WebSocket connections. The gateway then answers preflight requests, \
             adds CORS headers to every response, and refuses requests of other pages. Replaces `cors` of `[defaults]` as a whole.",
            { default: "what `[defaults]` says", example: &[r#"{ origins = ["https://app.example.com"], max_age = "10m" }"#],
              inheritance: Inheritance::Overrides, since: "0.2.0" };
        websocket = websocket(),
            "Whether WebSocket connections are passed on to the upstream. If not, they are refused with 426, and clients that can do without go \
             on with plain HTTP.",
            { default: "what `[defaults]` says", example: &["false"], inheritance: Inheritance::Overrides, since: "0.2.0" };
        body_limit = body_limit(), "Maximum size of a JSON body, or of a multipart form whose model the gateway has to know.",
            { default: "what `[defaults]` says", example: &["\"32MiB\""], inheritance: Inheritance::Overrides };
        validate = validate(), "How request bodies on this route are checked.",
            { default: "what `[defaults]` says", example: &["\"strict\""], inheritance: Inheritance::Overrides, since: "0.2.0" };
        timeout = timeout_key(), "Timeouts of requests on this route.",
            { default: INHERITED, example: &[r#"{ total = "30m" }"#], inheritance: Inheritance::Overrides };
        retry = retry_key(), "Retries of requests on this route. What is not set is inherited from the first upstream.",
            { default: INHERITED, example: &[r#"{ retries = 5, max_backoff = "20s", max_wait = "40s" }"#], inheritance: Inheritance::Overrides };
        breaker = breaker_key(), "Circuit breaker of the targets of this route's upstreams.",
            { default: INHERITED, example: &["{ failures = 10 }"], inheritance: Inheritance::Overrides };
        heartbeat = heartbeat(), "Comments in event streams of this route. If not set, the value of the first upstream applies.",
            { default: INHERITED, example: &["\"off\""], inheritance: Inheritance::Overrides };
        languages = languages(), "Languages of the gateway's own error messages on this route.",
            { default: "what `[defaults]` says", example: &[r#"["en", "zh"]"#], inheritance: Inheritance::Overrides, since: "0.2.0" };
        commit: Option<Commit> = choice(&[("headers", Commit::Headers), ("first_token", Commit::FirstToken)]).optional(),
            "When a response is passed on to the client, after which no other upstream is tried: when its head has arrived, or when its \
             first content has arrived.",
            { default: "\"first_token\" for streams that could be retried elsewhere, else \"headers\"", example: &["\"headers\""] };
        commit_after: Option<Duration> = span(SPANS).or_off().or(None),
            "After how much waiting a client of a stream gets a 200 before the upstream has answered. Errors after that are sent as an \
             event in the stream.",
            { example: &["\"20s\""] };
        delivery: Delivery = choice(&[("stream", Delivery::Stream), ("whole", Delivery::Whole)]).or(Delivery::Stream),
            "How a model's response reaches the client: as it arrives, or once it is complete. \"whole\" holds it in memory, up to \
             `body_limit`; a response that breaks off is then retried elsewhere.";
        on_disconnect: OnDisconnect =
            choice(&[("cancel", OnDisconnect::Cancel), ("drain", OnDisconnect::Drain)]).or(OnDisconnect::Cancel),
            "What happens to the upstream's response when the client leaves: the request is cancelled, or the response is read on for its \
             usage, for at most 5 minutes and 16 MiB.";
        usage = usage(),
            "Whether streams of chat completions and completions are asked for their token usage: only if the client asks for it, or \
             always.",
            { default: "what `[defaults]` says", example: &["\"always\""], inheritance: Inheritance::Overrides, since: "0.2.0" };
        next_on_context_length: bool = flag().or(false),
            "Whether a request that is rejected with `context_length_exceeded` goes to the next upstream.";
        attempt_headers: bool = flag().or(false),
            "Whether responses carry `x-sluicegate-attempts` and `x-sluicegate-upstream`.";
        model_tables: ModelTables =
            choice(&[("off", ModelTables::Off), ("prefer", ModelTables::Prefer), ("only", ModelTables::Only)]).or(ModelTables::Off),
            "Whether the upstreams of a `[model.NAME]` table that fits the model of a request replace those of the route. \"prefer\": \
             other models go to the route's own upstreams; \"only\": other models are rejected with 404 `model_not_found`. Requests \
             without a model go to the route's own upstreams.",
            { default: "\"off\"", shipped: "\"prefer\"", since: "0.2.0" };
        model_upstreams: ModelUpstreams =
            choice(&[("listed", ModelUpstreams::Listed), ("all", ModelUpstreams::All)]).or(ModelUpstreams::Listed),
            "Which upstreams the `[model.NAME]` tables may lead to on this route: those that the route lists as well, or all.",
            { since: "0.2.0" };
        model_list: ModelList =
            choice(&[("upstream", ModelList::Upstream), ("configured", ModelList::Configured)]).or(ModelList::Upstream),
            "Who answers `GET …/models` and `GET …/models/{model}`: the upstream, or the gateway, with the models of the `[model.NAME]` \
             tables that the client may use.",
            { since: "0.2.0" };
        forward_address: bool = flag().or(false),
            "Whether the upstream gets `x-forwarded-for`, `x-forwarded-proto` and `x-forwarded-host`, as this gateway determined them.";
        request_headers: HeaderRules = section::<HeaderRules>(),
            "Changes to request headers, beyond the general policy for headers.",
            { example: &[r#"{ set = { x-team = "blue" }, remove = ["x-debug"], allow = ["x-forwarded-for"], only = [] }"#] };
        response_headers: HeaderRules = section::<HeaderRules>(),
            "Changes to response headers, with the same keys.";
    }
    derived {
        /// Upstreams in the order in which they are tried, no pair of upstream and model twice; at least one.
        upstreams: Vec<Choice> = upstreams(table, context);
        /// Whether no client key is required, from `access`.
        open: bool = access(table);
        /// Maximum size of a JSON body in bytes, that of `[defaults]` included.
        body_limit: u64 =
            Some(body_limit().read_written(table, "body_limit", context).unwrap_or(context.defaults.body_limit));
        /// How request bodies are checked, as `[defaults]` says if the route does not; `None`: "off".
        validate: Option<Level> =
            Some(validate().read_written(table, "validate", context).unwrap_or(context.defaults.validate));
        /// Whether streams are asked for their token usage, that of `[defaults]` included.
        usage: AskForUsage = Some(usage().read_written(table, "usage", context).unwrap_or(context.defaults.usage));
        /// Whether WebSocket connections are passed on, by `[defaults]` too.
        websocket: bool =
            Some(websocket().read_written(table, "websocket", context).unwrap_or(context.defaults.websocket));
        /// The web pages that may use the route, those of `[defaults]` included; `None`: none.
        cors: Option<Arc<Cors>> =
            Some(cors().read_written(table, "cors", context).unwrap_or_else(|| context.defaults.cors.clone()));
        /// What this route overrides.
        timeout: TimeoutOverrides = Some(timeout(table, context));
        /// What this route overrides of its first upstream's.
        retry: RetryOverrides = Some(retry(table, context, first_retry(upstreams.as_deref(), context)));
        /// What this route overrides of each of its upstreams'.
        breaker: BreakerOverride = Some(breaker(table, context));
        /// In place of its first upstream's; `Some(None)`: written as "off".
        heartbeat: Option<Option<Duration>> = Some(heartbeat().read_written(table, "heartbeat", context));
        /// Languages of error messages, those of `[defaults]` included.
        languages: Languages =
            Some(languages().read_written(table, "languages", context).unwrap_or(context.defaults.languages));
    }
    check {
        {
            not_both(table, "request_headers", request_headers.as_ref());
            not_both(table, "response_headers", response_headers.as_ref());
            no_secrets(table, "response_headers");
            has_an_effect(table, upstreams.as_deref().filter(|_| model_tables == Some(ModelTables::Off)), delivery);
            uses_model_tables(table, model_tables, model_upstreams, model_list);
        }
    }
}

keys! {
    /// An entry of `upstreams`.
    pub(crate) struct ChoiceTable {
        upstream = described(Shape::Text("name of an upstream")).required(), "Name of an `[upstream]` table.";
        model = text("model name", model).optional(),
            "Model to ask this upstream for.",
            { default: "the client's" };
    }
}

/// One entry of a route's `upstreams`: `"openai"`, or `{ upstream = "azure", model = "gpt-4o-eu" }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The name of an `[upstream]`.
    pub upstream: Arc<str>,
    /// The model to ask for there instead of the client's; 1 to 256 printable characters, no quotes or backslashes.
    pub model: Option<Arc<str>>,
}

/// When a response is passed on to the client, after which no other upstream is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// As soon as its head has arrived.
    Headers,
    /// When its first token has arrived.
    FirstToken,
}

/// How the response of an inference reaches the client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Delivery {
    /// As it arrives.
    #[default]
    Stream,
    /// When it is complete. It is held in memory, up to `body_limit`; one that breaks off is retried elsewhere.
    Whole,
}

/// What happens to an upstream's response when its client leaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnDisconnect {
    /// The upstream request is cancelled at once.
    #[default]
    Cancel,
    /// The response is read on for its usage, for at most five minutes and 16 MiB.
    Drain,
}

/// Whether `[model.NAME]` tables decide which upstreams a request of a route goes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ModelTables {
    /// They do not.
    #[default]
    Off,
    /// Where one fits the model; other models go to the route's upstreams.
    Prefer,
    /// Models without a table are rejected.
    Only,
}

/// Which upstreams `[model.NAME]` tables may lead to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ModelUpstreams {
    /// Those that the route lists as well.
    #[default]
    Listed,
    /// All.
    All,
}

/// Who answers requests for the list of models.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ModelList {
    /// The upstream.
    #[default]
    Upstream,
    /// The gateway, with the models of the `[model.NAME]` tables that the client may use.
    Configured,
}

fn prefix(text: &str) -> Result<String, Complaint> {
    url::canonical(text).map(|()| text.to_owned())
}

pub(super) fn upstreams(table: &Table<'_>, context: &Context<'_>) -> Option<Vec<Choice>> {
    let help = r#"for example: upstreams = ["openai"]"#;
    let mut choices: Vec<Choice> = Vec::new();
    for item in table.required("upstreams", help)?.some_items(help).unwrap_or_default() {
        let Some((choice, known)) = choice_of(&item, context) else { continue };
        if known && choices.contains(&choice) {
            item.fail(complaint("is in this list twice", "remove it, or give it another `model`"));
        }
        choices.push(choice);
    }
    Some(choices)
}

/// One of `upstreams`, and whether that upstream is defined.
fn choice_of(node: &Node<'_>, context: &Context<'_>) -> Option<(Choice, bool)> {
    let help = r#"for example "openai", or { upstream = "openai", model = "gpt-4o-mini" }"#;
    let (name, model) = if node.is_table() {
        let table = node.table(ChoiceTable::NAMES)?;
        let model = table.get("model").map_or(Some(None), |node| node.parse(model).map(Some));
        (table.required("upstream", help)?, model)
    } else if node.value.is_str() {
        (node.clone(), Some(None))
    } else {
        return node.mistyped("the name of an upstream, or a table", help);
    };
    let upstream = name.string()?;
    let defined = &context.names.upstreams;
    let known = defined.contains(&upstream);
    if !known {
        name.fail(naming::undefined("upstream", upstream, defined.iter().copied()));
    }
    Some((Choice { upstream: Arc::from(upstream), model: model? }, known))
}

/// A mistake here says nothing about whether clients are needed, so the route is not checked for that.
fn access(table: &Table<'_>) -> Option<bool> {
    table.get("access").map_or(Some(false), |node| node.choice(&[("keys", false), ("open", true)]))
}

/// What the route inherits; `None`: not known, because of a mistake in the upstream.
fn first_retry(upstreams: Option<&[Choice]>, context: &Context<'_>) -> Option<Retry> {
    context.retries.get(&upstreams?.first()?.upstream).copied()
}

fn has_an_effect(table: &Table<'_>, upstreams: Option<&[Choice]>, delivery: Option<Delivery>) {
    if let Some(node) = table.get("next_on_context_length")
        && node.value.as_bool() == Some(true)
        && upstreams.is_some_and(|choices| choices.len() == 1)
    {
        node.warn(complaint("has no effect: the route has one upstream", "remove it, or add an upstream"));
    }
    if let Some(node) = table.get("commit")
        && delivery == Some(Delivery::Whole)
    {
        node.warn(complaint("has no effect: `delivery` is \"whole\"", "remove one of the two"));
    }
}

fn uses_model_tables(
    table: &Table<'_>,
    model_tables: Option<ModelTables>,
    model_upstreams: Option<ModelUpstreams>,
    model_list: Option<ModelList>,
) {
    if model_tables != Some(ModelTables::Off) {
        return;
    }
    let help = r#"set model_tables = "prefer" or "only", or remove it"#;
    if let Some(node) = table.get("model_list")
        && model_list == Some(ModelList::Configured)
    {
        node.fail(complaint("has no models to list: `model_tables` is \"off\"", help));
    }
    if let Some(node) = table.get("model_upstreams")
        && model_upstreams == Some(ModelUpstreams::All)
    {
        node.warn(complaint("has no effect: `model_tables` is \"off\"", help));
    }
}

/// A model's name that can stand in a request without being escaped.
pub(super) fn model(text: &str) -> Result<Arc<str>, Complaint> {
    // What is printed as it is: no quote, no backslash, no control or format character.
    let plain = |c: char| c.escape_debug().len() == 1;
    if text.is_empty() || text.chars().count() > 256 || !text.chars().all(plain) {
        return Err(complaint(
            "is not the name of a model",
            r#"for example "gpt-4o-mini": 1 to 256 printable characters, no quotes or backslashes"#,
        ));
    }
    Ok(Arc::from(text))
}

/// A host as in the `Host` header, without its port.
fn host(text: &str) -> Result<String, Complaint> {
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if bracketed.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()) {
        return Ok(text.to_ascii_lowercase());
    }
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(inner)
    };
    if text.len() <= 253 && text.split('.').all(label) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(complaint(
        "is not a host name",
        r#"for example "api.example.com", without scheme, port, path or wildcard"#,
    ))
}

fn method(text: &str) -> Result<Method, Complaint> {
    let help = r#"for example "POST", in capitals"#;
    if matches!(text, "CONNECT" | "TRACE") {
        return Err(complaint("is a method that is never forwarded", "remove it"));
    }
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') {
        return Err(complaint("is not a method", help));
    }
    Method::from_bytes(text.as_bytes()).map_err(|_| complaint("is not a method", help))
}
