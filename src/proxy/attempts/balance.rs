//! The order in which an upstream's targets are tried.

use crate::{
    config::Balance,
    snapshot::{Target, Upstream},
    upstream::Affinity,
};

/// The first result of `try_one` for the targets of `upstream`, by their numbers, in the order of its balance. `value` is what a hash is
/// compared with; `is_eligible` says which targets count as idle.
pub(super) fn first_of<T>(
    upstream: &Upstream,
    value: Option<Affinity>,
    is_eligible: impl Fn(&Target) -> bool,
    try_one: impl Fn(usize) -> Option<T>,
) -> Option<T> {
    let count = upstream.count();
    if let (Balance::Hash(_), Some(value)) = (&upstream.balance, value) {
        return nearest(upstream, value).into_iter().find_map(try_one);
    }
    let turn = upstream.turn();
    let idlest = match upstream.balance {
        Balance::LeastPending if count > 1 => idlest(upstream, turn, is_eligible),
        Balance::LeastPending | Balance::RoundRobin | Balance::Hash(_) => None,
    };
    idlest.and_then(&try_one).or_else(|| (0..count).find_map(|further| try_one((turn + further) % count)))
}

/// Of the eligible targets, the one with the least pending for its weight; among equals the one whose turn it is.
fn idlest(upstream: &Upstream, turn: usize, is_eligible: impl Fn(&Target) -> bool) -> Option<usize> {
    let count = upstream.count();
    let in_turn = (0..count).map(|further| (turn + further) % count);
    in_turn.filter(|index| is_eligible(upstream.target(*index))).min_by_key(|index| {
        let target = upstream.target(*index);
        // One more, so that of two idle ones the heavier is preferred.
        ((target.state.pending() as u64 + 1) << 16) / u64::from(target.weight.max(1))
    })
}

/// The targets of `upstream`, nearest first.
fn nearest(upstream: &Upstream, value: Affinity) -> Vec<usize> {
    let distance = |index: &usize| {
        let target = upstream.target(*index);
        value.distance(target.affinity, target.weight)
    };
    let mut order: Vec<usize> = (0..upstream.count()).collect();
    order.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
    order
}
