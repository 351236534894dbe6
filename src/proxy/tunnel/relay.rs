//! An open WebSocket connection: two directions, their clocks, and its end.

use std::{
    future::poll_fn,
    ops::ControlFlow,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Sleep, sleep_until},
};

use super::{
    direction::{Direction, Moved},
    ending::Ending,
    watch::Watch,
};
use crate::{
    body::{ConnectionState, Cut},
    exchange::{Exchange, TunnelTally},
    fault::{Outcome, Phase, Who},
    pause,
    policy::SecretScanner,
    snapshot::Route,
    upstream::TargetPermit,
    websocket::{
        Close, Observed,
        writer::{self, Sender},
    },
};

/// How long the peers may take to finish once one of them, or the gateway, has begun to close the connection.
const CLOSE_GRACE: Duration = Duration::from_secs(10);

/// The same once the drain's deadline has passed.
const CUT_GRACE: Duration = Duration::from_secs(1);

/// How often each direction is moved before other tasks of the worker get their turn.
const ROUNDS: usize = 16;

/// The timeouts of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct TunnelTimeouts {
    /// The longest time in which nothing passes.
    pub(super) idle: Option<Duration>,
    /// How long the client may read nothing.
    pub(super) stall: Duration,
}

/// What an open connection consists of, beside its client.
pub(super) struct Opened {
    pub(super) upstream: Upgraded,
    pub(super) timeouts: TunnelTimeouts,
    pub(super) permits: TunnelPermits,
    /// The route, if it serves the models of tables only.
    pub(super) closed: Option<Arc<Route>>,
}

/// What an open connection holds.
#[derive(Debug)]
pub(super) struct TunnelPermits {
    /// The connection is pending at its target until it ends.
    pub(super) _target: Option<TargetPermit>,
    /// Counts the open connections.
    pub(super) _count: Arc<()>,
}

/// Finds the keys that must not be logged.
#[derive(Debug)]
pub(super) struct TunnelSecrets {
    /// The keys of all upstreams.
    pub(super) upstreams: Arc<SecretScanner<'static>>,
    /// What the client has presented as its key.
    pub(super) client: Rc<SecretScanner<'static>>,
}

impl TunnelSecrets {
    fn found_in(&self, text: &[u8]) -> bool {
        self.upstreams.found_in(text) || self.client.found_in(text)
    }
}

/// An open connection. Dropping it closes both sides at once, and ends its exchange.
pub(super) struct TunnelRelay<C> {
    client: C,
    upstream: TokioIo<Upgraded>,
    /// Given back before the exchange is logged.
    _permits: TunnelPermits,
    /// From the upstream to the client.
    down: Direction,
    /// From the client to the upstream.
    up: Direction,
    watch: Watch,
    exchange: Box<Exchange>,
    secrets: TunnelSecrets,
    timeouts: TunnelTimeouts,
    /// When something last passed in either direction.
    moved: Instant,
    /// When the connection began to close, and how long that may take.
    closing: Option<(Instant, Duration)>,
    /// Why the gateway closes it.
    ending: Option<Ending>,
    /// The client's connection ended or failed before any close frame.
    client_left: bool,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl<C: AsyncRead + AsyncWrite + Unpin> TunnelRelay<C> {
    /// A connection on which nothing has passed.
    pub(super) fn new(client: C, opened: Opened, exchange: Box<Exchange>, secrets: TunnelSecrets) -> Self {
        let Opened { upstream, timeouts, permits, closed } = opened;
        let record = &exchange.record;
        let watch = Watch::new(record.caller.clone(), closed, record.model.clone());
        exchange.handle.status.enter(Phase::Stream);
        Self {
            client,
            upstream: TokioIo::new(upstream),
            _permits: permits,
            down: Direction::new(Watch::of_server()),
            up: Direction::new(watch.of_client()),
            watch,
            exchange,
            secrets,
            timeouts,
            moved: Instant::now(),
            closing: None,
            ending: None,
            client_left: false,
            sleep: None,
        }
    }

    /// Passes everything on until the connection has ended.
    pub(super) async fn run(mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // The registry of connections and the drain wake the task of the driver, which this one goes on as.
        self.connection().driven_by(cx.waker());
        self.exchange.handle.abort.register(cx.waker());
        // A peer that sends without a pause would keep the timer from being looked at.
        if let Some(due) = self.due(Instant::now())
            && self.obey(due).is_break()
        {
            return Poll::Ready(());
        }
        for _ in 0..ROUNDS {
            self.obey_drain();
            let down = self.poll_down(cx);
            let up = self.poll_up(cx);
            if self.is_over() {
                return Poll::Ready(());
            }
            if self.is_closed_by_both() {
                self.down.finish();
                self.begin_grace(CLOSE_GRACE);
                continue;
            }
            if self.is_answered() {
                self.down.finish();
                continue;
            }
            if down.is_ready() || up.is_ready() {
                continue;
            }
            if let Poll::Ready(due) = self.poll_clock(cx) {
                if self.obey(due).is_break() {
                    return Poll::Ready(());
                }
                continue;
            }
            return Poll::Pending;
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Does what is due. Break: the connection is over.
    fn obey(&mut self, due: Due) -> ControlFlow<()> {
        match due {
            Due::Grace => return ControlFlow::Break(()),
            Due::End(ending) => self.close(ending),
        }
        ControlFlow::Continue(())
    }

    /// Closes the connection if the process drains: between two turns, or at once when the drain's deadline has passed.
    fn obey_drain(&mut self) {
        let is_cut = self.exchange.handle.abort.cause() == Some(Cut::Drain);
        let is_due = is_cut || (self.connection().is_draining() && !self.watch.is_in_turn());
        if is_due && self.closing.is_none() {
            self.close(Ending::Drain);
        }
        if is_cut && self.closing.is_some_and(|(_, grace)| grace > CUT_GRACE) {
            self.closing = Some((Instant::now(), CUT_GRACE));
        }
    }

    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self { client, upstream, down, watch, .. } = self;
        let mut observe = |seen: Observed<'_>| {
            watch.server(seen);
            true
        };
        let Poll::Ready(moved) = down.poll_move(upstream, client, cx, &mut observe) else {
            return Poll::Pending;
        };
        match moved {
            Moved::Bytes(_) => self.note_traffic(),
            Moved::ReceiverGone => self.client_gone(),
            Moved::Ended if self.watch.server_closed || self.watch.client_closed || self.client_left => {
                self.begin_grace(CLOSE_GRACE);
            }
            Moved::Ended => self.close(Ending::UpstreamLost),
        }
        Poll::Ready(())
    }

    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self { client, upstream, up, watch, .. } = self;
        let Poll::Ready(moved) = up.poll_move(client, upstream, cx, &mut |seen| watch.client(seen)) else {
            return Poll::Pending;
        };
        match moved {
            Moved::Bytes(_) => {
                self.note_traffic();
                if let Some(refused) = self.watch.refused.take() {
                    self.close(refused);
                }
            }
            // What it still sends is read, and its end will be seen.
            Moved::ReceiverGone => self.up.mute(),
            Moved::Ended => {
                self.client_left |=
                    !self.watch.client_closed && !self.watch.server_closed && self.ending.is_none();
                self.begin_grace(CLOSE_GRACE);
            }
        }
        Poll::Ready(())
    }

    fn note_traffic(&mut self) {
        self.moved = Instant::now();
        let (frames, bytes, turns) = (self.down.frames(), self.down.bytes, self.watch.turns);
        self.exchange.handle.status.tunnelled(frames, bytes, turns);
    }

    /// The client's connection has failed: nothing more reaches it.
    fn client_gone(&mut self) {
        self.client_left |= !self.watch.client_closed && !self.watch.server_closed && self.ending.is_none();
        self.down.mute();
        self.closing = Some((Instant::now(), Duration::ZERO));
    }

    /// Begins to close the connection from the gateway's side: each peer gets a close frame after the frame that is passing.
    fn close(&mut self, ending: Ending) {
        if self.ending.is_some() {
            return;
        }
        let language = self.exchange.record.languages.language();
        let mut to_client = Vec::new();
        if ending.is_refusal() {
            let request_id = self.exchange.record.request_id.as_str();
            to_client = writer::text(Sender::Server, &ending.fault().message_event(request_id, language));
        }
        to_client.extend(writer::close(Sender::Server, ending.code(), &ending.reason(language)));
        if !self.watch.server_closed && self.down.end_with(to_client) {
            self.watch.close_code.get_or_insert(ending.code());
        }
        if !self.watch.client_closed {
            let mask = fastrand::u32(..).to_be_bytes();
            self.up.end_with(writer::close(Sender::Client { mask }, Close::GOING_AWAY, ""));
        }
        let is_stalled = matches!(ending, Ending::Stalled);
        if is_stalled {
            // The kernel would go on sending for minutes.
            self.connection().reset_when_closing(true);
        }
        self.begin_grace(if is_stalled { Duration::ZERO } else { CLOSE_GRACE });
        self.ending = Some(ending);
    }

    fn begin_grace(&mut self, grace: Duration) {
        self.closing.get_or_insert((Instant::now(), grace));
    }

    /// Whether both sides have ended, and the client has been given everything.
    fn is_over(&self) -> bool {
        let is_client_done = self.up.is_ended() || self.watch.client_closed;
        let is_upstream_done = self.down.is_ended();
        self.down.is_shut()
            && is_upstream_done
            && (self.up.is_ended() || (self.ending.is_some() && is_client_done))
    }

    /// Whether the close frames of both peers have passed. A server then ends the connection first (RFC 6455 §7.1.1): the gateway, whatever its
    /// upstream does.
    fn is_closed_by_both(&self) -> bool {
        self.watch.client_closed && self.watch.server_closed && !self.down.is_ended()
    }

    /// Whether the gateway has closed the connection, and the client has answered that or ended its side.
    fn is_answered(&self) -> bool {
        self.ending.is_some()
            && !self.down.is_ended()
            && self.down.is_finished()
            && (self.watch.client_closed || self.up.is_ended())
    }

    fn poll_clock(&mut self, cx: &mut Context<'_>) -> Poll<Due> {
        loop {
            let now = Instant::now();
            let Some(deadline) = self.deadline() else { return Poll::Pending };
            if let Some(due) = self.due(now) {
                return Poll::Ready(due);
            }
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

    /// The first of all deadlines, without pauses of the process.
    fn deadline(&self) -> Option<Instant> {
        let grace = self.closing.map(|(since, grace)| since + grace);
        let idle = self.timeouts.idle.filter(|_| grace.is_none()).map(|idle| self.moved + idle);
        let stall = self.down.blocked.map(|since| since + self.timeouts.stall);
        let total = self.exchange.handle.abort.deadline().filter(|_| grace.is_none());
        [grace, idle, stall, total].into_iter().flatten().min()
    }

    /// What is due at `now`, with the pauses of the process added to the deadlines.
    fn due(&self, now: Instant) -> Option<Due> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return None;
        }
        let is_over = |since: Instant, limit: Duration| now >= pause::deadline(since, limit);
        if self.closing.is_some_and(|(since, grace)| is_over(since, grace)) {
            return Some(Due::Grace);
        }
        if self.down.blocked.is_some_and(|since| is_over(since, self.timeouts.stall)) {
            return Some(if self.ending.is_some() { Due::Grace } else { Due::End(Ending::Stalled) });
        }
        if self.closing.is_some() {
            return None;
        }
        if self.exchange.handle.abort.is_late(now) {
            let age = self.exchange.record.start.elapsed();
            return Some(Due::End(Ending::of_cut(Cut::Total, age)));
        }
        let idle = self.timeouts.idle?;
        is_over(self.moved, idle).then_some(Due::End(Ending::Idle(idle)))
    }

    fn connection(&self) -> &Rc<ConnectionState> {
        self.exchange.connection()
    }
}

/// What is due.
enum Due {
    /// The peers have had the time to finish.
    Grace,
    /// The gateway closes the connection.
    End(Ending),
}

impl<C> Drop for TunnelRelay<C> {
    /// Writes what is known of the connection into the record of its exchange.
    fn drop(&mut self) {
        let Self { exchange, watch, up, down, secrets, .. } = self;
        let is_secret = |text: &str| secrets.found_in(text.as_bytes());
        if let Some(ending) = &self.ending {
            exchange.fail(&ending.fault(), |text| secrets.found_in(text));
        } else if watch.client_closed || watch.server_closed {
            let who = if watch.client_was_first { Who::Downstream } else { Who::Upstream };
            exchange.conclude(Outcome { who, phase: Phase::Done, fault: None });
        } else if self.client_left {
            exchange.conclude(Outcome::left(Phase::Stream));
        }
        let record = &mut exchange.record;
        record.upload.whole(up.bytes);
        record.tally.bytes = down.bytes;
        record.tally.frames = down.frames();
        record.model = watch.model.take().filter(|model| !is_secret(model));
        record.reading.usage = watch.usage;
        record.reading.model = watch.response_model.take().filter(|model| !is_secret(model));
        record.tunnel = Some(Box::new(TunnelTally {
            turns: watch.turns,
            failed_turns: watch.failed_turns,
            frames_in: up.frames(),
            close_code: watch.close_code,
            error: watch.error.take().filter(|code| !is_secret(code)),
        }));
    }
}
