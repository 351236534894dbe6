//! The timeouts of a client connection, behind a single timer.
//!
//! The deadline follows from the [`ConnectionState`]. A timer that is armed too early is left to fire and is then checked again;
//! only an earlier deadline resets it. So a frame costs a few comparisons and no timer call.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::time::Sleep;

use crate::{
    body::{ConnectionState, Cut},
    pause,
};

/// How long an aborted exchange may take to tell its client.
pub(super) const CUT_GRACE: Duration = Duration::from_secs(2);

/// A new exchange is checked this soon, so that a short `total` timeout that it has set by then is kept.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// The timeouts of a connection, from the configuration in effect when it was accepted.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectionTimeouts {
    pub(super) header: Duration,
    pub(super) keep_alive: Duration,
    pub(super) stall: Duration,
}

/// Which timeout has expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// No request arrived for `keep_alive`.
    Idle,
    /// A request head was not completed in time.
    Head,
    /// The client reads nothing.
    Stall,
    /// An exchange, or a connection that should close, did not end in time.
    Overdue,
}

/// Something that has been awaited since a moment, and may be for a limited time.
#[derive(Debug, Clone, Copy)]
struct Wait {
    since: Instant,
    limit: Duration,
}

impl Wait {
    /// When it is over, pauses of the process counted.
    fn end(self) -> Instant {
        self.since + self.limit
    }

    /// When it is over, as known at `now`: pauses of the process do not count.
    fn end_at(self, now: Instant) -> Instant {
        if now < self.end() { self.end() } else { pause::deadline(self.since, self.limit) }
    }
}

/// The timer of a connection.
#[derive(Debug)]
pub(super) struct Clock {
    state: Rc<ConnectionState>,
    timeouts: ConnectionTimeouts,
    http2: bool,
    timer: Pin<Box<Sleep>>,
    armed: Instant,
    /// When timeouts were last checked.
    checked: Instant,
    /// The timer was reset and not polled since, so it would wake no task.
    unpolled: bool,
    /// Exchanges begun when the timer last took them into account.
    seen_exchanges: u64,
    /// Set when the connection was told to close: since then, or since the client last read bytes.
    closing: Option<Instant>,
    writes: u64,
    /// What the client had taken when it was last seen to take anything.
    taken: u64,
    /// When it was last seen to take anything, or to have nothing to take.
    taken_at: Instant,
    /// Whether it had something to take at the last check.
    has_untaken: bool,
    /// Stalled HTTP/2 streams that were aborted since the last call of `take_stalled`.
    stalled: u64,
}

impl Clock {
    pub(super) fn new(state: Rc<ConnectionState>, timeouts: ConnectionTimeouts, http2: bool) -> Self {
        let checked = Instant::now();
        let armed = checked + if http2 { timeouts.keep_alive } else { timeouts.header };
        let timer = Box::pin(tokio::time::sleep_until(armed.into()));
        let (writes, seen_exchanges) = (state.writes(), state.exchanges());
        Self {
            state,
            timeouts,
            http2,
            timer,
            armed,
            checked,
            unpolled: true,
            seen_exchanges,
            closing: None,
            writes,
            taken: 0,
            taken_at: checked,
            has_untaken: false,
            stalled: 0,
        }
    }

    /// Checks the timeouts at `at` at the latest.
    pub(super) fn look_at(&mut self, at: Instant) {
        if at < self.armed {
            self.arm(at);
        }
    }

    /// The connection is to close as soon as possible, counted from `now`.
    pub(super) fn closing(&mut self, now: Instant) {
        self.closing.get_or_insert(now);
        self.look_at(now + self.timeouts.stall);
    }

    /// Whether the client had something to take at the last check.
    pub(super) fn has_untaken(&self) -> bool {
        self.has_untaken
    }

    /// Streams aborted since the last call.
    pub(super) fn take_stalled(&mut self) -> u64 {
        std::mem::take(&mut self.stalled)
    }

    /// To be polled after the connection has become pending.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Due> {
        if let Some(at) = self.earlier() {
            self.look_at(at);
        }
        while self.fired(cx) {
            let now = Instant::now();
            if self.was_paused(now) {
                self.arm(now + pause::GAP);
                continue;
            }
            if let Some(due) = self.due(now) {
                return Poll::Ready(due);
            }
            self.arm(self.next(now));
        }
        Poll::Pending
    }

    /// Whether the process was paused since the last check. Its sockets have to be read then before anything is late, and nobody knows
    /// yet which streams have moved.
    fn was_paused(&mut self, now: Instant) -> bool {
        let since = std::mem::replace(&mut self.checked, now);
        let was_paused = pause::lost_since(since) > Duration::ZERO;
        if was_paused {
            self.state.handles().iter().for_each(|handle| handle.progress.excuse());
        }
        was_paused
    }

    /// Polls the timer only when that has an effect: once after each reset, and when it has elapsed.
    fn fired(&mut self, cx: &mut Context<'_>) -> bool {
        // The timer lies apart, and a frame that was passed on in this poll has read the time.
        if !self.unpolled
            && (self.state.time().is_some_and(|now| now < self.armed) || !self.timer.is_elapsed())
        {
            return false;
        }
        // Without cooperative budget, tokio's timer does not register the waker.
        self.unpolled = !tokio::task::coop::has_budget_remaining();
        self.timer.as_mut().poll(cx).is_ready()
    }

    fn arm(&mut self, at: Instant) {
        self.armed = at;
        self.unpolled = true;
        self.timer.as_mut().reset(at.into());
    }

    /// A deadline that may be earlier than the armed one. Called at each poll, so it reads the system clock only when something
    /// began.
    fn earlier(&mut self) -> Option<Instant> {
        let begun = self.state.exchanges();
        if begun != self.seen_exchanges {
            let now = Instant::now();
            if self.state.open_exchanges() as u64 <= begun - self.seen_exchanges {
                // None was open before, when nobody looked at what the client takes.
                self.taken_at = now;
            }
            self.seen_exchanges = begun;
            return Some(now + FIRST_LOOK.min(self.tick()));
        }
        match self.blocked() {
            _ if self.state.busy() => None,
            // Not a response: h2's replies to PING and SETTINGS, which the client does not read.
            Some(blocked) => Some(blocked.end()),
            None => self.quiet().map(Wait::end),
        }
    }

    /// Asks the kernel whether the client has taken anything since the last check. The I/O learns that late: Linux wakes a writer only when
    /// a large part of its buffer is free. A client that takes nothing while an exchange is open is also found before the buffer is full.
    fn check_socket(&mut self, now: Instant) {
        self.has_untaken = false;
        if !self.state.busy() && self.state.blocked_since().is_none() {
            return;
        }
        let Some(sent) = self.state.sent() else { return };
        self.has_untaken = sent.untaken > 0;
        if sent.taken != self.taken || !self.has_untaken {
            self.taken = sent.taken;
            self.taken_at = now;
        }
    }

    /// The timeout that has expired at `now`. Stalled streams are aborted here, because that does not concern the connection.
    fn due(&mut self, now: Instant) -> Option<Due> {
        self.check_socket(now);
        if self.blocked().is_some_and(|blocked| now >= blocked.end_at(now)) {
            self.state.handles().iter().for_each(|handle| handle.abort.cut(Cut::WriteStall));
            return Some(Due::Stall);
        }
        if self.http2 && self.state.ending_is_stalled(now, self.timeouts.stall) {
            return Some(Due::Stall);
        }
        if self.state.busy() {
            return self.exchange_due(now);
        }
        if self.state.writes() != self.writes {
            self.writes = self.state.writes();
            self.closing = self.closing.map(|_| now);
        }
        if self.quiet().is_none_or(|quiet| now < quiet.end_at(now)) {
            return None;
        }
        Some(match (self.closing, self.awaits_head()) {
            (Some(_), _) => Due::Overdue,
            (None, true) => Due::Head,
            (None, false) => Due::Idle,
        })
    }

    /// Aborts overdue exchanges. An exchange that cannot be aborted alone ends the connection.
    fn exchange_due(&mut self, now: Instant) -> Option<Due> {
        // While the connection is blocked, it is not for a stream's own window that its bytes wait, and `blocked_since` decides.
        let blocked = self.state.blocked_since().is_some();
        let stall = (self.http2 && !blocked).then_some(self.timeouts.stall);
        for handle in self.state.handles() {
            if blocked {
                handle.progress.excuse();
            }
            if let Some(cause) = handle.overdue(now, stall) {
                handle.abort.cut(cause);
            }
            let asked_in_vain = handle.abort.cut_since().is_some_and(|since| now >= since + CUT_GRACE);
            let stalled = handle.abort.cause() == Some(Cut::WriteStall);
            if !(asked_in_vain || stalled) {
                continue;
            }
            if !(self.http2 && handle.abort.abort_task()) {
                return Some(Due::Overdue);
            }
            self.stalled += u64::from(stalled);
        }
        None
    }

    /// When to check again.
    fn next(&self, now: Instant) -> Instant {
        let quiet = || self.quiet().map(|quiet| quiet.end_at(now));
        let looked = if self.state.busy() { self.exchange_deadline(now) } else { quiet() };
        let stall = self.blocked().map(|blocked| blocked.end_at(now));
        let ending = (self.http2 && self.state.has_unsent_endings()).then(|| now + self.tick());
        // No deadline: writes began to block between two checks, or what was due has just been handled.
        looked
            .into_iter()
            .chain(stall)
            .chain(ending)
            .min()
            .unwrap_or(now + self.tick())
            .max(now + Duration::from_millis(1))
    }

    fn exchange_deadline(&self, now: Instant) -> Option<Instant> {
        let handles = self.state.handles();
        let deadlines = handles.iter().filter_map(|handle| match handle.abort.cut_since() {
            Some(since) => Some(since + CUT_GRACE),
            None => handle.abort.deadline(),
        });
        // An exchange that was aborted stays until its task has run; it must not make the timer spin.
        deadlines.filter(|at| *at > now).chain([now + self.tick()]).min()
    }

    /// The wait for the client to take what was written, or is to be.
    fn blocked(&self) -> Option<Wait> {
        let since = match self.state.blocked_since() {
            Some(since) => since.max(self.taken_at),
            None if self.has_untaken => self.taken_at,
            None => return None,
        };
        Some(Wait { since, limit: self.timeouts.stall })
    }

    /// The wait of a connection without an open exchange, unless something is still being written.
    fn quiet(&self) -> Option<Wait> {
        if self.state.blocked_since().is_some() {
            return None;
        }
        let ConnectionTimeouts { header, keep_alive, stall } = self.timeouts;
        if let Some(since) = self.closing {
            return Some(Wait { since, limit: stall });
        }
        let idle = self.state.idle_since()?;
        if self.http2 {
            return Some(Wait { since: idle, limit: keep_alive });
        }
        Some(match (self.state.head_since(), self.state.exchanges()) {
            (Some(head), _) => Wait { since: head, limit: header },
            (None, 0) => Wait { since: idle, limit: header },
            (None, _) => Wait { since: idle, limit: keep_alive },
        })
    }

    /// On HTTP/2 any frame looks like the beginning of a head, so only `keep_alive` applies.
    fn awaits_head(&self) -> bool {
        !self.http2 && (self.state.exchanges() == 0 || self.state.head_since().is_some())
    }

    fn tick(&self) -> Duration {
        (self.timeouts.stall / 4).clamp(Duration::from_millis(50), Duration::from_secs(15))
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::AsyncWriteExt,
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::body::{ClientSocket, ExchangeHandle};

    /// Polls the clock once.
    async fn look(clock: &mut Clock) {
        std::future::poll_fn(|cx| {
            let _ = clock.poll(cx);
            Poll::Ready(())
        })
        .await;
    }

    /// While no exchange is open nobody looks at what the client takes, so that time says nothing about the next response.
    #[tokio::test]
    async fn the_time_between_two_exchanges_does_not_count_as_a_stall() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let socket = ClientSocket::new(listener.accept().await.unwrap().0);
        // A kernel that has received nothing does not count.
        peer.write_all(b"request").await.unwrap();
        std::future::poll_fn(|cx| socket.tcp().poll_read_ready(cx)).await.unwrap();
        let now = Instant::now();
        let state = ConnectionState::new(now);
        state.writes_to(socket.watch());
        let second = Duration::from_secs(1);
        let timeouts =
            ConnectionTimeouts { header: 60 * second, keep_alive: 600 * second, stall: 10 * second };
        let mut clock = Clock::new(state.clone(), timeouts, false);
        let exchange = Rc::new(ExchangeHandle::default());
        state.open(exchange.clone());
        look(&mut clock).await;
        assert_eq!(clock.due(now), None);
        state.close(&exchange);
        // Much later, by the clock that it is given, the client asks again, and has not taken the beginning of the response at the first look.
        clock.taken_at = now.checked_sub(60 * second).unwrap();
        state.open(Rc::new(ExchangeHandle::default()));
        state.wrote(1000);
        look(&mut clock).await;
        assert_eq!(clock.due(now + second), None);
        assert_eq!(clock.due(now + 12 * second), Some(Due::Stall));
    }
}
