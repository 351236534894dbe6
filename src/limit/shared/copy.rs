//! Makes a process' own counts copies of the shared ones.

use super::{plan::timed, replica::LastSum, wire::nanos};
use crate::limit::{Counter, Now, Period, Unit, counter::Meter};

/// For how long a copy is good enough to refuse a request. Other gateways may give something back meanwhile.
const FRESH: i64 = 10_000_000_000;

/// What is needed to read a reply.
#[derive(Debug, Clone, Copy)]
pub(super) struct Copying {
    /// When the call was sent. What is read from it is never later than it is: a request that is asked too early is refused by the server.
    pub(super) sent: Now,
    /// The server's time.
    pub(super) now: f64,
    /// Counts changes of the server.
    pub(super) servers: u32,
    /// Whether the call restored what the store had lost. What another one says of a younger value is less than what this process has seen.
    pub(super) is_restored: bool,
}

impl Copying {
    /// A time of the server's, in nanoseconds as those of [`Now`].
    fn local(self, time: f64) -> i64 {
        self.sent.nanos().saturating_add(nanos(time - self.now))
    }
}

/// Copies one count. `state` is its value and when it was born; `period` is what it is counted in, with its end for the store.
pub(super) fn copy(
    counter: &Counter,
    unit: Unit,
    state: (f64, f64),
    period: (Option<Period>, Option<f64>),
    copying: Copying,
) {
    let (Some(position), Some(replica)) = (timed(unit), counter.shared.get()) else { return };
    let (value, born) = state;
    let mut known = replica.known();
    let last = known.seen.get(position).copied().flatten();
    let is_lost = last.is_some_and(|last| {
        Some(last.end) == period.1 && (last.born != born || last.servers != copying.servers)
    });
    if is_lost && !copying.is_restored {
        return;
    }
    match known.copied.get_mut(position) {
        Some(last) if *last <= copying.now => *last = copying.now,
        _ => return,
    }
    known.fresh_until = copying.sent.nanos().saturating_add(FRESH);
    match (counter.timed(unit), period) {
        (Some(Meter::Clock(clock)), _) => clock.set(copying.local(value)),
        (Some(Meter::Period(count)), (Some(period), Some(end))) if value >= 0.0 => {
            #[expect(clippy::cast_sign_loss, reason = "not negative")]
            count.set(period, value as u64);
            if let Some(seen) = known.seen.get_mut(position) {
                *seen = Some(LastSum { end, sum: value, born, servers: copying.servers });
            }
        }
        _ => {}
    }
}
