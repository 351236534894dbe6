//! The hash that leads similar requests to the same target.

use bytes::Bytes;
use http::HeaderMap;

use super::read;
use crate::{
    access::network_of,
    config::{Balance, HashBy},
    exchange::Record,
    snapshot::{Route, Step},
    upstream::Affinity,
};

/// The affinity of the request with this `text`, its body if that was read, for each of the route's steps; empty where no step balances by a hash.
pub(super) async fn of(
    route: &Route,
    record: &Record,
    headers: &HeaderMap,
    text: Option<&Bytes>,
) -> Vec<Affinity> {
    if route.steps.iter().all(|step| hash_by(step).is_none()) {
        return Vec::new();
    }
    let caller = match &record.caller {
        Some(caller) => Affinity::of(caller.name.as_bytes()),
        None => Affinity::of(network_of(record.client).to_string().as_bytes()),
    };
    let mut affinities = Vec::with_capacity(route.steps.len());
    for step in &route.steps {
        let found = match (hash_by(step), text) {
            (Some(HashBy::Header(name)), _) => headers.get(name).map(|value| Affinity::of(value.as_bytes())),
            (Some(HashBy::Prompt), Some(bytes)) => read::prompt(bytes).await,
            _ => None,
        };
        affinities.push(found.unwrap_or(caller));
    }
    affinities
}

fn hash_by(step: &Step) -> Option<&HashBy> {
    match &step.upstream.balance {
        Balance::Hash(by) => Some(by),
        Balance::LeastPending | Balance::RoundRobin => None,
    }
}
