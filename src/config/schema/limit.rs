//! `[limit.NAME]`

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use jiff::tz::TimeZone;

use super::client::model_pattern;
use crate::{
    config::{
        declare::{
            Context, Declared as _, Keys as _, Kind as _, ParseAs, Shape, choice, count, described, flag,
            list, parse_as, reference, size as byte_size, span, table, text,
        },
        problem::complaint,
        reader::{Node, Table},
    },
    money::Money,
};

/// The most requests or tokens that a limit counts: a third of what a double of the shared store holds exactly.
const COUNTS: RangeInclusive<u64> = 1..=1_000_000_000_000;

/// The most money that a limit counts. In nano-units, that is what a double of the shared store holds exactly.
const MOST_MONEY: Money = Money::from_nanos(9_000_000_000_000_000);

/// The spans over which a limit may count.
const PERIODS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(366 * 86_400);

/// How long a request may wait for a limit.
const WAITS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3_600);

/// The part of `per` that is admitted at once if `burst` does not say it.
const USUAL_BURST: u32 = 10;

table! {
    /// `[limit.NAME]`: how much may be used.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Limit(table, context) {
        each: Each = choice(EACH).or(Each::Client),
            "Whose use counts together: that of each client, each group, each route, each model, or of the whole gateway. On routes without \
             client keys, all callers are one client; a client without a group is a group of its own; a model is its `[model]` table.",
            { since: "0.2.0" };
        requests: Option<u64> = count::<u64>(COUNTS).optional(),
            "Number of requests per `per`.",
            { example: &["600"], since: "0.2.0" };
        tokens: Option<u64> = count::<u64>(COUNTS).optional(),
            "Number of tokens per `per`, input and output together. What a request will probably use is reserved when it is admitted, and \
             corrected when the upstream has reported what it did use.",
            { example: &["200_000"], since: "0.2.0" };
        cost: Option<Money> = amount().optional(),
            "Money per `per`, as text, in the currency of `[pricing]`. What a request will probably cost is reserved when it is admitted, and \
             corrected by what it did cost.",
            { example: &[r#""500""#], since: "0.2.0" };
        weights = described(Shape::Table(TokenWeights::keys())),
            "What a token of each class counts in `tokens`.",
            { default: "each counts as 1", example: &["{ cached_input = 0.1 }"], since: "0.2.0" };
        per = described(Shape::Either(vec![Shape::Choice(vec!["day", "month"]), a_span()])),
            "The time for which `requests`, `tokens` and `cost` are meant: a span, which has no beginning and no end, or \"day\" or \"month\" for the \
             days or months of the calendar in `timezone`. \"1d\" is a span of 24 hours.",
            { default: "required with `requests`, `tokens` and `cost`", example: &[r#""1m""#, r#""month""#], since: "0.2.0" };
        burst = described(Shape::Either(vec![
                a_span(), Shape::Table(BurstSizes::keys()),
            ])),
            "How much of the numbers may be used at once: what they admit in this span, or as many as a table says.",
            { default: "a tenth of `per`; at least one request", example: &[r#""6s""#, "{ requests = 60, tokens = 20_000 }"], since: "0.2.0" };
        timezone = described(Shape::Text("name of a time zone, for example \"Europe/Berlin\"")),
            "Time zone of the calendar, for `per = \"day\"` and `per = \"month\"`.",
            { default: "UTC", example: &[r#""Europe/Berlin""#], since: "0.2.0" };
        concurrent: Option<u32> = count::<u32>(1..=1_000_000).optional(),
            "Number of requests at once. A request counts until its response has ended.",
            { shipped: "50", since: "0.2.0" };
        enforce: bool = flag().or(true),
            "Whether the limit refuses requests. With `false` it only counts: the access line of a request that it would refuse has its name.",
            { since: "0.2.0" };
        exhausted: Exhausted = choice(EXHAUSTED).or(Exhausted::Refuse),
            "What happens when the limit is reached: \"refuse\" answers with 429; \"next\" goes on to the next upstream or model of the route, \
             and answers with 429 when none is left. For limits by model: with `each = \"model\"`, or with `models`.",
            { since: "0.2.0" };
        queue: Option<QueueTable> = parse_as(queue_shape, queue).optional(),
            "How requests wait instead of being refused with 429. Of those that wait, higher priorities go first, and clients of one priority share what \
             becomes free by tokens. Not with `exhausted = \"next\"`.",
            { default: "none: they are refused at once", example: &[r#"{ size = 100, bytes = "64MiB", wait = "10s" }"#], since: "0.2.0" };
        models: Option<Vec<String>> = list(text("model name, with a trailing * for any rest", model_pattern)).non_empty(ALL).optional(),
            "Models that the limit is about. A trailing `*` matches any rest of a name.",
            { default: "all", example: &[r#"["gpt-5*"]"#], since: "0.2.0" };
        routes: Option<Vec<Arc<str>>> = list(reference("route", |names| &names.routes)).non_empty(ALL).optional(),
            "Routes that the limit is about.",
            { default: "all", example: &[r#"["openai"]"#], since: "0.2.0" };
        clients: Option<Vec<Arc<str>>> = list(reference("client", |names| &names.clients)).non_empty(ALL).optional(),
            "Clients that the limit is about.",
            { default: "all", example: &[r#"["team-a"]"#], since: "0.2.0" };
        groups: Option<Vec<Arc<str>>> = list(reference("group", |names| &names.groups)).non_empty(ALL).optional(),
            "Groups that the limit is about.",
            { default: "all", example: &[r#"["research"]"#], since: "0.2.0" };
    }
    derived {
        /// What a token of each class counts.
        weights: TokenWeights = Some(weights(table, context));
        /// The time for which the numbers are meant; `None` where only requests at once are limited.
        per: Option<Per> = per(table);
        /// How much may be used at once.
        burst: Burst = burst(table, context, per.as_ref());
    }
    check {
        {
            is_a_limit(table, per.as_ref());
            may_go_on(table, exhausted, each, models.as_ref());
            may_queue(table, exhausted, enforce);
        }
    }
}

const ALL: &str = "leave the key out to mean all";

const EACH: &[(&str, Each)] = &[
    ("client", Each::Client),
    ("group", Each::Group),
    ("route", Each::Route),
    ("model", Each::Model),
    ("gateway", Each::Gateway),
];

const EXHAUSTED: &[(&str, Exhausted)] = &[("refuse", Exhausted::Refuse), ("next", Exhausted::Next)];

/// What happens when a limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exhausted {
    /// The request is refused.
    Refuse,
    /// The next candidate is tried.
    Next,
}

/// Whose use a limit counts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Each {
    /// Each client's.
    Client,
    /// That of the clients of each group.
    Group,
    /// That of each route.
    Route,
    /// That of each model.
    Model,
    /// All use.
    Gateway,
}

/// The time for which the numbers of a limit are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Per {
    /// Any span of this length.
    Span(Duration),
    /// Each day of the calendar in a time zone.
    Day(TimeZone),
    /// Each month of the calendar in a time zone.
    Month(TimeZone),
}

/// How much of a limit's numbers may be used at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Burst {
    /// What they admit in this span.
    Span(Duration),
    /// So many; `None`: what they admit in a tenth of `per`.
    Sizes {
        /// Of the requests.
        requests: Option<u64>,
        /// Of the tokens.
        tokens: Option<u64>,
        /// Of the money.
        cost: Option<Money>,
    },
}

impl Burst {
    /// As if `burst` were not there.
    pub const USUAL: Self = Self::Sizes { requests: None, tokens: None, cost: None };

    /// How many units may be used at once of `quantity` per `per`, at least one; `size` is what a table of sizes says of this unit.
    pub fn of(self, quantity: u64, per: Duration, size: Option<u64>) -> u64 {
        let span = match self {
            Self::Span(span) => span,
            Self::Sizes { .. } => per / USUAL_BURST,
        };
        let part = u128::from(quantity) * span.as_nanos() / per.as_nanos().max(1);
        size.unwrap_or_else(|| u64::try_from(part).unwrap_or(u64::MAX)).max(1)
    }
}

table! {
    /// `burst` of a limit as a table.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct BurstSizes(table, context) {
        requests: Option<u64> = count::<u64>(COUNTS).optional(), "Number of requests that may come at once.";
        tokens: Option<u64> = count::<u64>(COUNTS).optional(), "Number of tokens that may be used at once.";
        cost: Option<Money> = amount().optional(), "Money that may be spent at once, as text.";
    }
}

table! {
    /// What a token of each class counts, in thousandths.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct TokenWeights(table, context) {
        input: u32 = parse_as(weight_shape, weight).written_as("1.0").or(1_000),
            "Input, except what was read from a provider's cache.";
        cached_input: u32 = parse_as(weight_shape, weight).written_as("1.0").or(1_000),
            "Input that was read from a provider's cache.";
        output: u32 = parse_as(weight_shape, weight).written_as("1.0").or(1_000),
            "Output, reasoning included.";
    }
}

table! {
    /// `queue` of a limit.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct QueueTable(table, context) {
        size: usize = count::<usize>(1..=65_536).or(100),
            "Number of requests that may wait for one client, or whatever `each` says. Further requests are refused.",
            { since: "0.2.0" };
        bytes: u64 = byte_size::<u64>(1 << 10..=1 << 40).or(64 << 20),
            "Bytes of their bodies. They count in `server.max_buffered` as well.",
            { since: "0.2.0" };
        wait: Duration = span(WAITS).or(Duration::from_secs(10)),
            "The longest wait of a request; then it is refused with 429 `queue_timeout`. The wait counts in `timeout.total`. A request that the limit \
             would admit only later is refused at once.",
            { since: "0.2.0" };
    }
}

/// An amount of money of which there is some.
fn amount() -> ParseAs<Money> {
    parse_as(
        || Shape::Text("amount of money, as decimal text"),
        |node, _| {
            let help = r#"write the amount as text, for example "500" or "0.25""#;
            let text = node.value.as_str().or_else(|| node.mistyped("an amount, as a string", help))?;
            let amount =
                node.accept(Money::parse(text).map_err(|error| complaint(error.to_string(), help)))?;
            if (Money::from_nanos(1)..=MOST_MONEY).contains(&amount) {
                return Some(amount);
            }
            node.fail(complaint(format!("must be more than 0 and at most {MOST_MONEY}"), help));
            None
        },
    )
}

/// The shape of a span over which a limit may count.
fn a_span() -> Shape {
    span(PERIODS).shape()
}

fn weights(table: &Table<'_>, context: &Context<'_>) -> TokenWeights {
    let read =
        table.get("weights").and_then(|node| TokenWeights::read(&node.table(TokenWeights::NAMES)?, context));
    read.unwrap_or(TokenWeights { input: 1_000, cached_input: 1_000, output: 1_000 })
}

fn weight_shape() -> Shape {
    Shape::Number(0.0, 1000.0)
}

/// A number from 0 to 1000, in thousandths.
fn weight(node: &Node<'_>, _: &Context<'_>) -> Option<u32> {
    let help = "write a number from 0 to 1000, for example 0.1";
    let number = match node.value.as_float().map(toml::de::DeFloat::as_str) {
        Some(text) => text.parse::<f64>().ok(),
        None => node.value.as_integer().and_then(|whole| whole.as_str().parse::<f64>().ok()),
    };
    let Some(number) = number else { return node.mistyped("a number", help) };
    if !(0.0..=1000.0).contains(&number) {
        node.fail(complaint("must be from 0 to 1000", help));
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1,000,000")]
    Some((number * 1000.0).round() as u32)
}

fn per(table: &Table<'_>) -> Option<Option<Per>> {
    let zone = zone(table)?;
    let Some(node) = table.get("per") else {
        if let Some(zone) = table.get("timezone") {
            zone.warn(complaint("has no effect without `per`", "remove it"));
        }
        return Some(None);
    };
    let unit = node.string()?;
    let per = match unit {
        "day" => Per::Day(zone),
        "month" => Per::Month(zone),
        _ => Per::Span(node.span(PERIODS)?),
    };
    if let (Per::Span(_), Some(zone)) = (&per, table.get("timezone")) {
        zone.warn(complaint(
            "has no effect: `per` is a span of time, which has no beginning",
            r#"remove it, or write per = "day" or per = "month""#,
        ));
    }
    Some(Some(per))
}

fn zone(table: &Table<'_>) -> Option<TimeZone> {
    let Some(node) = table.get("timezone") else { return Some(TimeZone::UTC) };
    node.parse(|name| {
        TimeZone::get(name).map_err(|_| {
            complaint(
                "is not the name of a time zone",
                r#"write a name of the IANA database, for example "Europe/Berlin""#,
            )
        })
    })
}

fn burst(table: &Table<'_>, context: &Context<'_>, per: Option<&Option<Per>>) -> Option<Burst> {
    let Some(node) = table.get("burst") else { return Some(Burst::USUAL) };
    match per {
        Some(Some(Per::Day(_) | Per::Month(_))) => {
            node.fail(complaint(
                "is not for periods of the calendar",
                "remove it: all of a day or month may be used at once; write another limit with a shorter `per` to prevent that",
            ));
            return None;
        }
        Some(None) => {
            node.fail(complaint(
                "is not for requests at once",
                "remove it, or add `requests`, `tokens` or `cost` with `per`",
            ));
            return None;
        }
        _ => {}
    }
    if node.is_table() {
        let sizes = BurstSizes::read(&node.table(BurstSizes::NAMES)?, context)?;
        return Some(Burst::Sizes { requests: sizes.requests, tokens: sizes.tokens, cost: sizes.cost });
    }
    Some(Burst::Span(node.span(PERIODS)?))
}

/// A limit has something to limit, and `per` where that is per time.
fn is_a_limit(table: &Table<'_>, per: Option<&Option<Per>>) {
    let counted = ["requests", "tokens", "cost"].map(|key| table.get(key)).into_iter().flatten().next();
    match (counted, table.get("concurrent"), per) {
        (Some(node), _, Some(None)) => node.fail(complaint("needs `per`", r#"for example: per = "1m""#)),
        (None, Some(_), Some(Some(_))) => {
            let node = table.get("per");
            node.iter().for_each(|node| {
                node.fail(complaint(
                    "is not for requests at once",
                    "remove it, or add `requests`, `tokens` or `cost`",
                ));
            });
        }
        (None, None, _) => table.fail(complaint(
            "limits nothing",
            r#"for example: requests = 600, per = "1m"; or concurrent = 50"#,
        )),
        _ => {}
    }
}

/// Only a limit by model can be reached for one candidate and not for another.
fn may_go_on(
    table: &Table<'_>,
    exhausted: Option<Exhausted>,
    each: Option<Each>,
    models: Option<&Option<Vec<String>>>,
) {
    let is_by_model = each == Some(Each::Model) || matches!(models, Some(Some(_)));
    if exhausted != Some(Exhausted::Next) || is_by_model {
        return;
    }
    if let Some(node) = table.get("exhausted") {
        node.fail(complaint(
            "is for limits by model: another upstream would not help",
            r#"remove it, or write each = "model", or name the limit's `models`"#,
        ));
    }
}

fn queue_shape() -> Shape {
    Shape::Table(QueueTable::keys())
}

fn queue(node: &Node<'_>, context: &Context<'_>) -> Option<QueueTable> {
    QueueTable::read(&node.table(QueueTable::NAMES)?, context)
}

/// A request either waits for a limit or goes on to another model.
fn may_queue(table: &Table<'_>, exhausted: Option<Exhausted>, enforce: Option<bool>) {
    let Some(node) = table.get("queue") else { return };
    if exhausted == Some(Exhausted::Next) {
        node.fail(complaint(
            r#"is not for `exhausted = "next"`: a request either waits or goes on to another model"#,
            "remove one of the two",
        ));
    }
    if enforce == Some(false) {
        node.warn(complaint("has no effect: the limit only counts", "remove it, or remove `enforce`"));
    }
}
