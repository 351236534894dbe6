//! The evidence that a circuit breaker judges by: the last results of a target, and whose requests they were.
//!
//! A request that can never succeed fails at every healthy target. So failures of responses open a circuit only if more than one
//! caller has them, or if their caller is the only active one and its requests differ. A connection that cannot be opened says the same
//! about the target, independent of the client.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

/// Results that are kept, and that the failure rate is computed over; with fewer results there is no rate.
pub(super) const WINDOW: usize = 32;

/// A caller that has sent a request within this time counts as active, as does one whose response is not complete yet.
pub(super) const ACTIVE: Duration = Duration::from_secs(60);

/// Who a request is from: a hash of the client's name, or of the address of a caller without a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallerHash(u64);

impl CallerHash {
    /// The hash of `identity`.
    pub fn of(identity: &[u8]) -> Self {
        // Two bits are used for the result, and a slot of zeros has no result.
        Self(hash(identity) & !Kind::MASK | (Kind::MASK + 1))
    }

    pub(super) fn get(self) -> u64 {
        self.0
    }
}

/// What failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection could be opened, which has nothing to do with the request.
    Connection,
    /// There was no response to this request, or an error response.
    Response(RequestHash),
}

/// What was sent: equal for a request and its repetitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHash(u64);

impl RequestHash {
    /// Bytes that are hashed at each end of a body.
    const LOOKED_AT: usize = 16 << 10;

    /// The hash of a request to `path` with this body. Of a large body, only the length and both ends count.
    pub fn of(path: &str, body: &[u8]) -> Self {
        let start = &body[..body.len().min(Self::LOOKED_AT)];
        let end = &body[body.len().saturating_sub(Self::LOOKED_AT).max(start.len())..];
        let length = body.len().to_le_bytes();
        Self(path.bytes().chain(length).chain(start.iter().chain(end).copied()).fold(BASIS, step))
    }

    /// The hash of a request that is like no other: its body is not held. `id` is the request's own.
    pub fn unique(id: &[u8]) -> Self {
        Self(hash(id))
    }
}

/// FNV-1a (draft-eastlake-fnv).
const BASIS: u64 = 0xcbf2_9ce4_8422_2325;

fn step(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
}

fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().copied().fold(BASIS, step)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Success = 1,
    ConnectionFailure = 2,
    ResponseFailure = 3,
}

impl Kind {
    const MASK: u64 = 3;
}

/// The last [`WINDOW`] results of a target. Workers write without waiting for each other; a reader that meets a writer may see a result
/// that is about to be replaced.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    next: AtomicUsize,
    slots: [Slot; WINDOW],
}

#[derive(Debug, Default)]
struct Slot {
    /// The caller, with the kind of the result in the lowest two bits; 0: no result.
    caller: AtomicU64,
    request: AtomicU64,
}

/// A failure, as it was read.
#[derive(Debug, Clone, Copy)]
struct Read {
    kind: Kind,
    caller: u64,
    request: u64,
}

impl Evidence {
    /// Records that the target handled a request.
    pub(super) fn succeeded(&self, caller: CallerHash) {
        self.put(caller, Kind::Success, 0);
    }

    /// Records that the target failed.
    pub(super) fn failed(&self, caller: CallerHash, failure: Failure) {
        match failure {
            Failure::Connection => self.put(caller, Kind::ConnectionFailure, 0),
            Failure::Response(request) => self.put(caller, Kind::ResponseFailure, request.0),
        }
    }

    /// Forgets all results.
    pub(super) fn clear(&self) {
        self.slots.iter().for_each(|slot| slot.caller.store(0, Ordering::Release));
    }

    /// Whether the last `run` results, which are all failures, are evidence against the target as `needed` failures are. `only_active` is
    /// the caller that is the only active one.
    pub(super) fn condemns_run(&self, run: usize, needed: usize, only_active: Option<CallerHash>) -> bool {
        // Of a longer run only the end is known.
        run >= needed && weighs(self.newest().take(run), needed.min(WINDOW), only_active)
    }

    /// Whether half of the last [`WINDOW`] results are failures that are evidence against the target.
    pub(super) fn condemns_rate(&self, only_active: Option<CallerHash>) -> bool {
        self.newest().count() == WINDOW && weighs(self.newest(), WINDOW / 2, only_active)
    }

    fn put(&self, caller: CallerHash, kind: Kind, request: u64) {
        let at = self.next.fetch_add(1, Ordering::AcqRel) % WINDOW;
        if let Some(slot) = self.slots.get(at) {
            slot.request.store(request, Ordering::Relaxed);
            slot.caller.store(caller.0 | kind as u64, Ordering::Release);
        }
    }

    /// The results, the newest first.
    fn newest(&self) -> impl Iterator<Item = Read> {
        let next = self.next.load(Ordering::Acquire);
        let back = (1..=WINDOW).map(move |back| next.wrapping_sub(back) % WINDOW);
        back.filter_map(|at| self.slots.get(at)?.read())
    }
}

impl Slot {
    fn read(&self) -> Option<Read> {
        let caller = self.caller.load(Ordering::Acquire);
        let kind = match caller & Kind::MASK {
            1 => Kind::Success,
            2 => Kind::ConnectionFailure,
            3 => Kind::ResponseFailure,
            _ => return None,
        };
        Some(Read { kind, caller: caller & !Kind::MASK, request: self.request.load(Ordering::Relaxed) })
    }
}

/// Whether the failures among `results` weigh as much as `needed` ones. Each counts, but at most half of what is needed from one caller's
/// responses, unless that caller is the only active one and has sent different requests.
fn weighs(results: impl Iterator<Item = Read>, needed: usize, only_active: Option<CallerHash>) -> bool {
    let mut connections = 0;
    let mut failures: Vec<Read> = results.filter(|result| result.kind != Kind::Success).collect();
    failures.retain(|failure| {
        connections += usize::from(failure.kind == Kind::ConnectionFailure);
        failure.kind == Kind::ResponseFailure
    });
    if connections >= needed {
        return true;
    }
    // One response alone is never enough.
    let needed = needed.max(2);
    let most_of_one = needed.div_ceil(2);
    failures.sort_unstable_by_key(|failure| failure.caller);
    let by_caller = failures.chunk_by(|a, b| a.caller == b.caller);
    let weight = by_caller.map(|own| {
        let is_only = own.first().is_some_and(|first| only_active.is_some_and(|only| only.0 == first.caller));
        let differ =
            own.iter().any(|failure| own.first().is_some_and(|first| first.request != failure.request));
        if is_only && differ { own.len() } else { own.len().min(most_of_one) }
    });
    connections + weight.sum::<usize>() >= needed
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &[u8] = b"a";
    const B: &[u8] = b"b";

    fn only(caller: &[u8]) -> Option<CallerHash> {
        Some(CallerHash::of(caller))
    }

    /// The evidence of responses that failed: whose, and to which request.
    fn failures(of: &[(&[u8], &str)]) -> Evidence {
        let evidence = Evidence::default();
        for (caller, body) in of {
            let request = RequestHash::of("/v1/chat/completions", body.as_bytes());
            evidence.failed(CallerHash::of(caller), Failure::Response(request));
        }
        evidence
    }

    #[test]
    fn one_callers_responses_are_not_enough_while_others_are_active() {
        let same = failures(&[(A, "x"); 20]);
        assert!(!same.condemns_run(20, 3, None));
        assert!(!same.condemns_run(20, 3, only(B)));
        let different = failures(&[(A, "x"), (A, "y"), (A, "z")]);
        assert!(!different.condemns_run(3, 3, None));
        assert!(different.condemns_run(3, 3, only(A)), "nobody else can tell");
        assert!(!same.condemns_run(20, 3, only(A)), "it is always the same request");
    }

    #[test]
    fn two_callers_are_enough_but_one_of_them_counts_half_at_most() {
        assert!(failures(&[(A, "x"), (B, "x")]).condemns_run(2, 2, None));
        assert!(!failures(&[(A, "x"), (A, "y"), (A, "z"), (A, "w"), (B, "x")]).condemns_run(5, 5, None));
        assert!(failures(&[(A, "x"), (A, "y"), (A, "z"), (B, "x"), (B, "x")]).condemns_run(5, 5, None));
    }

    #[test]
    fn one_failed_connection_is_as_good_as_another() {
        let evidence = Evidence::default();
        (0..3).for_each(|_| evidence.failed(CallerHash::of(A), Failure::Connection));
        assert!(evidence.condemns_run(3, 3, None));
        assert!(!failures(&[(A, "x")]).condemns_run(1, 1, None), "one response alone is not");
    }

    #[test]
    fn a_rate_needs_a_full_window_and_more_than_one_caller() {
        for (second, condemned) in [(A, false), (B, true)] {
            let evidence = Evidence::default();
            for number in 0..WINDOW / 2 {
                assert!(!evidence.condemns_rate(None));
                let caller = if number % 2 == 0 { A } else { second };
                let request = RequestHash::unique(&number.to_le_bytes());
                evidence.failed(CallerHash::of(caller), Failure::Response(request));
                evidence.succeeded(CallerHash::of(B));
            }
            assert_eq!(evidence.condemns_rate(None), condemned);
            evidence.clear();
            assert!(!evidence.condemns_rate(None));
        }
    }

    #[test]
    fn a_long_run_is_judged_by_its_end() {
        let evidence = failures(&[(A, "x"); 100]);
        assert!(!evidence.condemns_run(100, 100, None));
        (0..WINDOW).for_each(|number| {
            let request = RequestHash::unique(&[]);
            evidence.failed(CallerHash::of(if number % 2 == 0 { A } else { B }), Failure::Response(request));
        });
        assert!(evidence.condemns_run(132, 100, None));
        assert!(!evidence.condemns_run(99, 100, None));
    }

    #[test]
    fn a_large_body_counts_by_its_length_and_ends() {
        let of = |body: &[u8]| RequestHash::of("/p", body);
        let mut body = vec![b'x'; 100 << 10];
        let before = of(&body);
        body[0] = b'y';
        assert_ne!(of(&body), before);
        body[0] = b'x';
        body.push(b'x');
        assert_ne!(of(&body), before);
        assert_ne!(RequestHash::of("/q", b""), of(b""));
        assert_eq!(of(b"ab"), of(b"ab"));
    }
}
