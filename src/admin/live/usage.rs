//! Who uses what: clients, models, queues, and the store in which limits are shared.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::patch::object;
use crate::{
    body::OpenExchange,
    money::{Cost, Money},
    snapshot::Snapshot,
    telemetry::metrics::{
        request_counts::Counts,
        sample::{RequestResult, Tokens},
    },
};

/// Clients that are listed.
const CLIENTS: usize = 200;

/// Queues that are listed.
const QUEUES: usize = 100;

/// Name of clients without one: those of open routes.
const UNKNOWN: &str = "(no client)";

/// Name of models without series of their own, of which there are [`MAX_MODELS`](crate::telemetry::metrics::models::MAX_MODELS) at most.
const OTHER: &str = "_other";

/// What is shown of a client.
#[derive(Default)]
struct ClientUse {
    in_flight: usize,
    tokens: Tokens,
    cost: Money,
}

/// What is shown of a model.
#[derive(Default)]
struct ModelUse {
    requests: u64,
    failed: u64,
    tokens: Tokens,
    cost: Money,
}

/// The clients that have requests in flight, or have used tokens or money; at most [`CLIENTS`], the busiest ones. Costs are those in `currency`.
pub(super) fn clients(open: &[&OpenExchange], counts: &Counts, currency: Option<&str>) -> Value {
    let mut found: BTreeMap<&str, ClientUse> = BTreeMap::new();
    for exchange in open {
        found.entry(exchange.about.caller.as_deref().unwrap_or(UNKNOWN)).or_default().in_flight += 1;
    }
    for ([client, ..], used) in counts.callers.iter().filter(|(_, used)| !used.tokens.is_empty()) {
        let tokens = &mut found.entry(client.as_deref().unwrap_or(UNKNOWN)).or_default().tokens;
        tokens.input += used.tokens.input;
        tokens.output += used.tokens.output;
    }
    for ([client, _, _, of], costs) in counts.costs.iter().filter(|_| currency.is_some()) {
        if of.as_deref() == currency {
            let cost = &mut found.entry(client.as_deref().unwrap_or(UNKNOWN)).or_default().cost;
            *cost = cost.saturating_add(costs.reported).saturating_add(costs.estimated);
        }
    }
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort_by_key(|(_, used)| std::cmp::Reverse((used.in_flight, used.tokens.output)));
    let row = |used: ClientUse| {
        object([
            ("in_flight", json!(used.in_flight)),
            ("tokens_in", json!(used.tokens.input)),
            ("tokens_out", json!(used.tokens.output)),
            ("cost", shown(used.cost, currency)),
        ])
    };
    let listed = found.into_iter().take(CLIENTS).map(|(name, used)| (name.to_owned(), row(used)));
    Value::Object(listed.collect())
}

/// The models that the metrics tell apart, and all others together. Costs are those in `currency`.
pub(super) fn models(counts: &Counts, currency: Option<&str>) -> Value {
    let mut found: BTreeMap<&str, ModelUse> = BTreeMap::new();
    for (key, measures) in counts.models.iter() {
        let model = found.entry(key.model.as_deref().unwrap_or(OTHER)).or_default();
        model.requests += measures.results.iter().sum::<u64>();
        let failed = RequestResult::ALL.iter().zip(measures.results);
        model.failed += failed
            .filter(|(result, _)| **result == RequestResult::Failed)
            .map(|(_, count)| count)
            .sum::<u64>();
        model.tokens.input += measures.tokens.input;
        model.tokens.output += measures.tokens.output;
        let in_currency = |cost: &&Cost| Some(&*cost.currency) == currency;
        let cost =
            measures.cost.as_deref().filter(in_currency).map_or_else(Money::default, |cost| cost.amount);
        model.cost = model.cost.saturating_add(cost);
    }
    let row = |used: ModelUse| {
        object([
            ("requests", json!(used.requests)),
            ("failed", json!(used.failed)),
            ("tokens_in", json!(used.tokens.input)),
            ("tokens_out", json!(used.tokens.output)),
            ("cost", shown(used.cost, currency)),
        ])
    };
    Value::Object(found.into_iter().map(|(name, used)| (name.to_owned(), row(used))).collect())
}

/// How many requests wait, for each limit that has a queue; at most [`QUEUES`].
pub(super) fn queues(snapshot: &Snapshot) -> Value {
    let queued = snapshot.limits.queued().take(QUEUES);
    let shown: Map<String, Value> =
        queued.map(|one| (one.limit.to_string(), json!(one.view.depth()))).collect();
    Value::Object(shown)
}

/// How limits are shared; null: they are not.
pub(super) fn store(snapshot: &Snapshot) -> Value {
    let Some(sharing) = snapshot.limits.sharing() else { return Value::Null };
    let state = sharing.state();
    object([
        ("available", json!(state.is_available)),
        ("reason", json!(state.trouble)),
        ("gateways", json!(state.nodes)),
        ("fallback_share", json!(state.fallback_share)),
        ("fallbacks", json!(state.fallbacks)),
        ("remembered_refusals", json!(state.remembered)),
        ("pending_corrections", json!(state.pending)),
    ])
}

/// An amount as decimal text; null where nothing has a price.
fn shown(cost: Money, currency: Option<&str>) -> Value {
    currency.map_or(Value::Null, |_| cost.to_string().into())
}
