//! `[defaults]`: what upstreams and routes inherit. Each key is declared here once; the tables that override it refer to these
//! declarations.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use super::{
    Cors, TimeoutOverrides, Timeouts, client::limits, cors::cors, languages::languages, timeouts::SPANS,
};
use crate::config::{
    declare::{
        Choice, Context, Declared as _, Defaulted as _, Described, Flag, Keys, Kind, Or, Shape, Size,
        SpanOrOff, choice, count, defaults_table, described, flag, inherited_table, parse_as, size, span,
        table,
    },
    problem::complaint,
    reader::{Node, Table},
    span as spans,
};
use crate::{fault::Languages, openai::Level};

const HEARTBEATS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

table! {
    /// What holds for upstreams and routes that do not override it.
    #[derive(Clone)]
    pub(crate) struct Defaults(table, context) {
        body_limit: u64 = body_limit(),
            "Maximum size of a JSON body, which is read whole. A larger one gets a 413. Other bodies are streamed without a limit.";
        timeout = timeout_key().or_defaults_of::<Timeouts>(),
            "Timeouts, each named by the event that it waits for.";
        retry = retry_key().or_defaults_of::<Retry>(),
            "How often a failed request is sent again. \"off\" is the same as `retries = 0`. Where the inherited value is \"off\", a table \
             starts from the defaults shown here.";
        breaker = breaker_key().or_defaults_of::<Breaker>(),
            "When a target that keeps failing is skipped for a while (circuit breaker). Where the inherited value is \"off\", a table starts \
             from the defaults shown here.";
        heartbeat: Option<Duration> = heartbeat(),
            "After how much silence in an event stream the client gets a comment, so that proxies on the way keep the connection open.",
            { example: &[r#""15s""#] };
        limits: Vec<Arc<str>> = limits(),
            "Limits of every request: names of `[limit.NAME]` tables. A group, client, route or model adds its own `limits`. All that apply must \
             allow a request.",
            { default: "none", example: &[r#"["fair-use"]"#], since: "0.2.0" };
        validate: Option<Level> = validate(),
            "How request bodies of chat completions, completions, embeddings, Responses and Anthropic's Messages are checked before an upstream \
             is asked. \"basic\": a model, something to answer, known roles. \"strict\": all documented types, ranges and shapes as well; \
             unknown members always pass. A wrong request is rejected with 400 and the `param` that is at fault.",
            { since: "0.2.0" };
        usage: AskForUsage = usage(),
            "Whether streams of chat completions and completions are asked for their token usage: only if the client asks for it, or \
             always. With \"always\", the gateway adds `stream_options.include_usage` to requests without it, and removes the chunk with \
             the usage from the response.",
            { example: &[r#""always""#], since: "0.2.0" };
        websocket: bool = websocket(),
            "Whether WebSocket connections are passed on to upstreams. If not, they are refused with 426, and clients that can do without go \
             on with plain HTTP.",
            { since: "0.2.0" };
        languages: Languages = languages(),
            "Languages of the gateway's own error messages. A client gets the one that fits its `accept-language` best, and the first one \
             if none fits. The codes of errors are the same in all languages.",
            { example: &[r#"["en", "zh"]"#], since: "0.2.0" };
        cors: Option<Arc<Cors>> = cors(),
            "Web pages that may use all routes that do not have a `cors` of their own. Errors of requests that match no route have CORS \
             headers only by this key.",
            { example: &[r#"{ origins = ["https://app.example.com"], max_age = "10m" }"#], since: "0.2.0" };
    }
    derived {
        timeout: Timeouts = Some(timeout(table, context).over(Timeouts::default()));
        retry: Retry = Some(retry(table, context, Some(Retry::default())).over(Retry::default()));
        breaker: Option<Breaker> = Some(breaker(table, context).over(Some(Breaker::default())));
    }
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            body_limit: body_limit().default_value(),
            heartbeat: heartbeat().default_value(),
            limits: Vec::new(),
            validate: validate().default_value(),
            usage: usage().default_value(),
            websocket: websocket().default_value(),
            languages: Languages::default(),
            cors: None,
            timeout: Timeouts::default(),
            retry: Retry::default(),
            breaker: Some(Breaker::default()),
        }
    }
}

/// Whether streams are asked for their token usage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AskForUsage {
    /// If the client asks for it.
    #[default]
    AsAsked,
    /// Always: the gateway adds the member to the request, and removes the chunk from the response.
    Always,
}

inherited_table! {
    /// How often a failed request is sent again. `retries` 0: never.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Retry, overridden by RetryKeys {
        retries: u32 = count::<u32>(0..=10).or(3),
            "Maximum number of attempts after the first one.";
        backoff: Duration = span(SPANS).or(Duration::from_secs(1)),
            "Wait before the next round of attempts, once all candidates have failed. It doubles with each round, and a random part is added or taken off.";
        max_backoff: Duration = span(SPANS).or(Duration::from_secs(8)),
            "Maximum wait between rounds. Must not be below `backoff`.";
        max_wait: Duration = span(SPANS).or(Duration::from_secs(7)),
            "Maximum sum of all waits of one request: for a round, for a key in cooldown, and for the same candidate. As soon as no \
             attempt can begin in the time that is left, the client gets the error. Lower it for clients that retry by themselves and \
             ignore `x-should-retry`: each of their retries waits as long again.",
            { since: "0.2.0" };
        same_candidate: Option<SameCandidate> = parse_as(same_candidate_shape, same_candidate).written_as("\"off\"").or(None),
            "Whether a candidate that failed is tried again after its backoff, before the next candidate. A `retry-after` of the upstream \
             that is longer than `within` is not waited for.",
            { example: &[r#"{ attempts = 1, within = "3s" }"#], since: "0.2.0" };
    }
}

defaults_table! {
    /// How often a candidate that failed is tried again before the next one.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct SameCandidate {
        attempts: u32 = count::<u32>(1..=10).or(1),
            "Maximum number of further attempts at the same candidate. They count as retries.",
            { since: "0.2.0" };
        within: Duration = span(SPANS).or(Duration::from_secs(3)),
            "The longest `retry-after` that is waited for.",
            { since: "0.2.0" };
    }
}

inherited_table! {
    /// When a failing target is skipped for a while.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Breaker, overridden by BreakerKeys {
        failures: u32 = count::<u32>(1..=1000).or(5),
            "Number of consecutive failures that opens the circuit breaker.";
        open: Duration = span(SPANS).or(Duration::from_secs(10)),
            "How long the circuit breaker stays open. Then one request probes the target.";
    }
}

/// What one table of the file says of something that can be switched off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Switch<K> {
    /// Nothing: inherited.
    #[default]
    Inherited,
    /// "off"
    Off,
    /// A table; a key that is not in it is inherited, or has the built-in default when the inherited value is "off".
    Keys(K),
}

/// What one table of the file says of retries.
pub type RetryOverrides = Switch<RetryKeys>;
/// What one table of the file says of the circuit breaker.
pub type BreakerOverride = Switch<BreakerKeys>;

impl RetryOverrides {
    /// What is set here, and the inherited values of the rest.
    #[must_use]
    pub fn over(self, inherited: Retry) -> Retry {
        match self {
            Self::Inherited => inherited,
            Self::Off => Retry { retries: 0, ..inherited },
            Self::Keys(keys) if inherited.retries == 0 => keys.over(Retry::default()),
            Self::Keys(keys) => keys.over(inherited),
        }
    }
}

impl BreakerOverride {
    /// What is set here, and the inherited values of the rest. `None`: "off".
    #[must_use]
    pub fn over(self, inherited: Option<Breaker>) -> Option<Breaker> {
        match self {
            Self::Inherited => inherited,
            Self::Off => None,
            Self::Keys(keys) => Some(keys.over(inherited.unwrap_or_default())),
        }
    }
}

/// `body_limit`, in bytes.
pub(super) fn body_limit() -> Or<Size<u64>> {
    size(1 << 10..=1 << 40).or(32 << 20)
}

/// `heartbeat`; `None`: "off".
pub(super) fn heartbeat() -> Or<SpanOrOff> {
    span(HEARTBEATS).or_off().or(None)
}

/// `validate`; `None`: "off".
pub(super) fn validate() -> Or<Choice<Option<Level>>> {
    choice(&[("off", None), ("basic", Some(Level::Basic)), ("strict", Some(Level::Strict))]).or(None)
}

/// `usage`
pub(super) fn usage() -> Or<Choice<AskForUsage>> {
    choice(&[("as_asked", AskForUsage::AsAsked), ("always", AskForUsage::Always)]).or(AskForUsage::AsAsked)
}

/// `websocket`
pub(super) fn websocket() -> Or<Flag> {
    flag().or(true)
}

/// `timeout`, without a default.
pub(super) fn timeout_key() -> Described {
    described(Shape::Table(Timeouts::keys()))
}

/// `retry`, without a default.
pub(super) fn retry_key() -> Described {
    described(table_or_off::<Retry>())
}

/// `breaker`, without a default.
pub(super) fn breaker_key() -> Described {
    described(table_or_off::<Breaker>())
}

fn same_candidate_shape() -> Shape {
    table_or_off::<SameCandidate>()
}

/// A table or "off".
fn same_candidate(node: &Node<'_>, context: &Context<'_>) -> Option<Option<SameCandidate>> {
    if node.is_str("off") {
        return Some(None);
    }
    if !node.is_table() {
        let help = r#"for example: same_candidate = { attempts = 1, within = "3s" }"#;
        node.fail(complaint(r#"must be a table or "off""#, help));
        return None;
    }
    SameCandidate::read(&node.table(SameCandidate::NAMES)?, context).map(Some)
}

fn table_or_off<T: Keys>() -> Shape {
    Shape::Either(vec![Shape::Table(T::keys()), Shape::Choice(vec!["off"])])
}

/// The keys of `timeout` that are set in this table.
pub(super) fn timeout(table: &Table<'_>, context: &Context<'_>) -> TimeoutOverrides {
    TimeoutOverrides::read(&table.section("timeout", Timeouts::NAMES), context)
}

/// What this table says under `retry`. Together with what it inherits it must be in order; `None`: not known, because of a mistake.
pub(super) fn retry(table: &Table<'_>, context: &Context<'_>, inherited: Option<Retry>) -> RetryOverrides {
    let help = r#"for example: retry = { retries = 3, backoff = "1s", max_backoff = "8s" }"#;
    let table = match switch(table, "retry", Retry::NAMES, help) {
        Switch::Inherited => return Switch::Inherited,
        Switch::Off => return Switch::Off,
        Switch::Keys(table) => table,
    };
    let keys = RetryKeys::read(&table, context);
    let waits_are_read = table.get("backoff").is_some() == keys.backoff.is_some()
        && table.get("max_backoff").is_some() == keys.max_backoff.is_some()
        && table.get("max_wait").is_some() == keys.max_wait.is_some();
    let overrides = Switch::Keys(keys);
    if let Some(inherited) = inherited.filter(|_| waits_are_read) {
        in_order(&table, overrides.over(inherited));
    }
    overrides
}

/// One of the two may be inherited: the one that is written here is the one to change.
fn in_order(table: &Table<'_>, retry: Retry) {
    let Retry { backoff, max_backoff, max_wait, .. } = retry;
    if backoff > max_wait
        && retry.retries > 0
        && let Some(node) = table.get("max_wait").or_else(|| table.get("backoff"))
    {
        let message = format!(
            "allows no second round: `backoff` is {}, and `max_wait` is {}",
            spans::written(backoff),
            spans::written(max_wait)
        );
        node.warn(complaint(message, "raise `max_wait`, or lower `backoff`"));
    }
    if backoff <= max_backoff {
        return;
    }
    if let Some(node) = table.get("max_backoff") {
        let message = format!("must not be below `backoff`, which is {}", spans::written(backoff));
        node.fail(complaint(message, "raise `max_backoff`, or lower `backoff`"));
    } else if let Some(node) = table.get("backoff") {
        let message = format!("must not be above `max_backoff`, which is {}", spans::written(max_backoff));
        node.fail(complaint(message, "set `max_backoff` too"));
    }
}

/// What this table says under `breaker`.
pub(super) fn breaker(table: &Table<'_>, context: &Context<'_>) -> BreakerOverride {
    let help = r#"for example: breaker = { failures = 5, open = "10s" }"#;
    match switch(table, "breaker", Breaker::NAMES, help) {
        Switch::Inherited => Switch::Inherited,
        Switch::Off => Switch::Off,
        Switch::Keys(table) => Switch::Keys(BreakerKeys::read(&table, context)),
    }
}

/// A key that is a table or "off".
fn switch<'a>(
    table: &Table<'a>,
    key: &'static str,
    known: &'static [&'static str],
    help: &'static str,
) -> Switch<Table<'a>> {
    let Some(node) = table.get(key) else { return Switch::Inherited };
    if node.is_str("off") {
        return Switch::Off;
    }
    if !node.is_table() {
        node.fail(complaint(r#"must be a table or "off""#, help));
        return Switch::Inherited;
    }
    node.table(known).map_or(Switch::Inherited, Switch::Keys)
}
