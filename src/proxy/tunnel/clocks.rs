//! The clocks of an open WebSocket connection, behind one timer.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::time::{Sleep, sleep_until};

use crate::{
    body::{ConnectionState, ExchangeHandle},
    pause,
};

/// The timeouts of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct TunnelTimeouts {
    /// The longest time in which nothing passes.
    pub(super) idle: Option<Duration>,
    /// How long a peer may take nothing of what waits for it.
    pub(super) stall: Duration,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// The peers have had the time to finish.
    Grace,
    /// Nothing passed for this long.
    Idle(Duration),
    /// The total timeout of the exchange is over.
    Total,
    /// The client takes nothing.
    ClientStalled,
    /// The upstream takes nothing.
    UpstreamStalled(Duration),
}

/// Since when the write side of each direction waits for its receiver.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Blocked {
    pub(super) client: Option<Instant>,
    pub(super) upstream: Option<Instant>,
}

/// The clocks of a connection.
///
/// Whether the client takes anything, the kernel says, as for a response (`listen::clock`). It is asked only while something of what was
/// written may be on its way, so an idle connection has one timer and no look.
#[derive(Debug)]
pub(super) struct Clocks {
    timeouts: TunnelTimeouts,
    /// When something last passed in either direction.
    moved: Instant,
    /// Since when the connection is being closed, and how long that may take.
    closing: Option<(Instant, Duration)>,
    /// When the kernel is asked next what the client has taken; `None` if it had taken everything.
    look_at: Option<Instant>,
    /// Bytes that the client had taken when it was last seen to take anything.
    taken: u64,
    /// When it was last seen to take anything, or to have nothing to take.
    taken_at: Instant,
    /// Whether it had something to take at the last look.
    has_untaken: bool,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Clocks {
    /// The clocks of a connection that begins.
    pub(super) fn new(timeouts: TunnelTimeouts) -> Self {
        let now = Instant::now();
        Self {
            timeouts,
            moved: now,
            closing: None,
            look_at: None,
            taken: 0,
            taken_at: now,
            has_untaken: false,
            sleep: None,
        }
    }

    /// Something has passed.
    pub(super) fn passed(&mut self) {
        self.moved = Instant::now();
        if self.look_at.is_none() {
            // Until now the client had nothing to take.
            self.taken_at = self.moved;
            self.look_at = Some(self.moved + self.tick());
        }
    }

    /// Whether the connection is being closed.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// The connection is to be over within `grace`, if it is not being closed already.
    pub(super) fn close_within(&mut self, grace: Duration) {
        self.closing.get_or_insert((Instant::now(), grace));
    }

    /// The connection is to be over within `grace`, even if it was given more.
    pub(super) fn hurry(&mut self, grace: Duration) {
        if self.closing.is_some_and(|(_, given)| given > grace) {
            self.closing = Some((Instant::now(), grace));
        }
    }

    /// Waits until something is due.
    pub(super) fn poll(
        &mut self,
        blocked: Blocked,
        handle: &ExchangeHandle,
        connection: &ConnectionState,
        cx: &mut Context<'_>,
    ) -> Poll<Due> {
        loop {
            let now = Instant::now();
            if let Some(due) = self.due(now, blocked, handle, connection) {
                return Poll::Ready(due);
            }
            let Some(deadline) = self.deadline(blocked, handle) else { return Poll::Pending };
            let at = deadline.max(now + Duration::from_millis(1)).into();
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(at)));
            // An earlier timer is left to fire, so that traffic costs no timer call.
            if sleep.deadline() > at || sleep.is_elapsed() {
                sleep.as_mut().reset(at);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// What is due at `now`, with the pauses of the process added to all limits.
    pub(super) fn due(
        &mut self,
        now: Instant,
        blocked: Blocked,
        handle: &ExchangeHandle,
        connection: &ConnectionState,
    ) -> Option<Due> {
        if self.look_at.is_some_and(|at| now >= at) {
            self.look(now, connection);
        }
        if self.deadline(blocked, handle).is_none_or(|deadline| now < deadline) {
            return None;
        }
        let is_over = |since: Instant, limit: Duration| now >= pause::deadline(since, limit);
        if self.closing.is_some_and(|(since, grace)| is_over(since, grace)) {
            return Some(Due::Grace);
        }
        let stall = self.timeouts.stall;
        if self.untaken_since(blocked).is_some_and(|since| is_over(since, stall)) {
            return Some(if self.is_closing() { Due::Grace } else { Due::ClientStalled });
        }
        if self.is_closing() {
            return None;
        }
        if blocked.upstream.is_some_and(|since| is_over(since, stall)) {
            return Some(Due::UpstreamStalled(stall));
        }
        if handle.abort.is_late(now) {
            return Some(Due::Total);
        }
        let idle = self.timeouts.idle?;
        is_over(self.moved, idle).then_some(Due::Idle(idle))
    }

    /// The first of all limits, without pauses of the process.
    fn deadline(&self, blocked: Blocked, handle: &ExchangeHandle) -> Option<Instant> {
        let grace = self.closing.map(|(since, grace)| since + grace);
        let stall = self.timeouts.stall;
        let client = self.untaken_since(blocked).map(|since| since + stall);
        let first = [grace, client, self.look_at].into_iter().flatten().min();
        if grace.is_some() {
            return first;
        }
        let upstream = blocked.upstream.map(|since| since + stall);
        let idle = self.timeouts.idle.map(|idle| self.moved + idle);
        [first, upstream, idle, handle.abort.deadline()].into_iter().flatten().min()
    }

    /// Since when the client has taken nothing although there is something.
    fn untaken_since(&self, blocked: Blocked) -> Option<Instant> {
        match blocked.client {
            Some(since) => Some(since.max(self.taken_at)),
            None => self.has_untaken.then_some(self.taken_at),
        }
    }

    /// Asks the kernel whether the client has taken anything since the last look.
    fn look(&mut self, now: Instant, connection: &ConnectionState) {
        // A kernel that does not tell leaves it to the write that waits.
        let sent = connection.sent();
        self.has_untaken = sent.is_some_and(|sent| sent.untaken > 0);
        self.look_at = self.has_untaken.then(|| now + self.tick());
        let taken = sent.map_or(self.taken, |sent| sent.taken);
        if taken != self.taken || !self.has_untaken {
            self.taken = taken;
            self.taken_at = now;
        }
    }

    fn tick(&self) -> Duration {
        (self.timeouts.stall / 4).clamp(Duration::from_millis(50), Duration::from_secs(15))
    }
}
