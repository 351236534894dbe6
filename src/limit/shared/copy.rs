//! Makes a process' own counts copies of the shared ones.

use super::{plan::timed, replica::LastSum, wire::nanos};
use crate::limit::{Counter, Now, Period, Unit, counter::Meter};

/// For how long a copy is good enough to refuse a request. Other gateways may give something back meanwhile.
const FRESH: i64 = 10_000_000_000;

/// The replies that were copied last, of one counter.
#[derive(Debug, Default)]
pub(super) struct LastCopies {
    /// The server's time of each, by units.
    times: [f64; 3],
    /// When the last of them was read.
    read: i64,
    /// Counts changes of the server.
    servers: u32,
}

impl LastCopies {
    /// Notes a reply that says something newer of a unit than the last one. Returns whether it does.
    fn is_newer(&mut self, position: usize, copying: Copying) -> bool {
        if copying.servers < self.servers {
            return false;
        }
        if copying.servers > self.servers {
            // The clock of another server may be behind.
            *self = Self { servers: copying.servers, ..Self::default() };
        }
        let Some(time) = self.times.get_mut(position) else { return false };
        // In a cluster, the value may have moved to a server whose clock is behind. What was sent after the last reply is newer all the same.
        if copying.now < *time && copying.sent.nanos() <= self.read {
            return false;
        }
        *time = copying.now;
        self.read = self.read.max(copying.read.nanos());
        true
    }
}

/// What is needed to read a reply.
#[derive(Debug, Clone, Copy)]
pub(super) struct Copying {
    /// When the call was sent. What is read from it is never later than it is: a request that is asked too early is refused by the server.
    pub(super) sent: Now,
    /// When the reply was read.
    pub(super) read: Now,
    /// The server's time.
    pub(super) now: f64,
    /// Counts changes of the server, up to the one that the call was sent to.
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
    if !known.copied.is_newer(position, copying) {
        return;
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
