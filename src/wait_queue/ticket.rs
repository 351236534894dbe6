//! What a queue knows of a request that waits in it.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::priority::Priority;

/// The largest weight, so that sums of weights do not overflow.
const LARGEST_WEIGHT: u64 = 1 << 40;

/// Which waiters are served in turns with others: a client. Waiters of one flow are served in the order in which their requests arrived.
#[derive(Debug, Clone, Copy, Default, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(not(test), derive(PartialEq))]
#[cfg_attr(
    test,
    expect(clippy::derived_hash_with_manual_eq, reason = "equality is that of the field, and counted")
)]
pub struct FlowKey(pub u64);

impl FlowKey {
    /// The flow of the client with this `identity`. The hash has a secret of the process, so nobody can choose an identity that shares a flow
    /// with another.
    pub fn of(identity: &[u8]) -> Self {
        static SECRET: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self(SECRET.hash_one(identity))
    }
}

/// The number of a request among all of the process that have had to wait. A request takes one when it first waits and keeps it in every queue, so
/// that it gets its place back where it has been before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArrivalNumber(u64);

impl ArrivalNumber {
    /// The number after all those that were taken so far.
    pub fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What a queue knows of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// The client.
    pub flow: FlowKey,
    /// The client's priority.
    pub priority: Priority,
    /// When the request first waited, among others.
    pub arrival: ArrivalNumber,
    /// What the request is expected to use, in tokens. Flows share what is served by it.
    pub weight: u64,
    /// Bytes of the request that are held in memory while it waits.
    pub bytes: u64,
}

impl Ticket {
    /// A request of no client in particular, that arrives now and counts as one.
    pub fn anonymous() -> Self {
        Self {
            flow: FlowKey::default(),
            priority: Priority::default(),
            arrival: ArrivalNumber::next(),
            weight: 1,
            bytes: 0,
        }
    }

    /// The weight as queues count it: at least one, and not so much that sums overflow.
    pub(super) fn cost(&self) -> i64 {
        i64::try_from(self.weight.clamp(1, LARGEST_WEIGHT)).unwrap_or(i64::MAX)
    }

    /// How much more than its weight the request has used, if that was `used`.
    pub(super) fn excess(&self, used: u64) -> i64 {
        Self { weight: used, ..*self }.cost() - self.cost()
    }
}

#[cfg(test)]
thread_local! {
    /// Comparisons of flows on this thread.
    pub(super) static COMPARISONS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

#[cfg(test)]
impl PartialEq for FlowKey {
    fn eq(&self, other: &Self) -> bool {
        COMPARISONS.with(|count| count.set(count.get() + 1));
        self.0 == other.0
    }
}
