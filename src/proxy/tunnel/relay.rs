//! An open WebSocket connection: two directions, and its way to the end.

use std::{
    future::poll_fn,
    ops::ControlFlow,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    clocks::{Blocked, Clocks, Due},
    direction::{Direction, Moved},
    ending::Ending,
    opened::{Opened, TunnelPermits, TunnelSecrets},
    watch::Watch,
};
use crate::{
    body::{ConnectionState, Cut, Upgraded},
    exchange::{Accounting, Exchange, TunnelTally},
    fault::{Outcome, Phase, Who},
    upstream::Io,
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

/// An open connection. Dropping it closes both sides at once, and ends its exchange.
pub(super) struct TunnelRelay<C> {
    client: C,
    upstream: Upgraded<Io>,
    /// Given back before the exchange is logged.
    _permits: TunnelPermits,
    /// From the upstream to the client.
    down: Direction,
    /// From the client to the upstream.
    up: Direction,
    watch: Watch,
    /// Turns that limits have been charged for.
    charged_turns: u64,
    exchange: Box<Exchange>,
    secrets: TunnelSecrets,
    clocks: Clocks,
    stage: Stage,
}

/// Who ends the connection. It never goes back to [`Stage::Open`].
#[derive(Debug)]
enum Stage {
    /// Nobody yet, or the peers by their close frames, which [`Watch`] has seen.
    Open,
    /// The client's connection ended or failed before any close frame.
    ClientLeft,
    /// The gateway, for this reason: both peers get a close frame.
    Closing(Ending),
}

/// What follows from how far both directions have come.
enum Next {
    /// Frames may still pass.
    Wait,
    /// The client gets nothing more: its side is ended, whatever the upstream still sends. A server ends the connection first
    /// (RFC 6455 §7.1.1).
    EndClient,
    /// Everything was given to both.
    Over,
}

impl<C: AsyncRead + AsyncWrite + Unpin> TunnelRelay<C> {
    /// A connection on which nothing has passed.
    pub(super) fn new(client: C, opened: Opened, exchange: Box<Exchange>, secrets: TunnelSecrets) -> Self {
        let Opened { upstream, timeouts, permits, closed, ids } = opened;
        let record = &exchange.record;
        let mut watch = Watch::new(record.caller.clone(), closed, record.model.clone());
        watch.ids = ids;
        exchange.handle.status.enter(Phase::Stream);
        Self {
            client,
            upstream,
            _permits: permits,
            down: Direction::new(Watch::of_server()),
            up: Direction::new(watch.of_client()),
            watch,
            charged_turns: 0,
            exchange,
            secrets,
            clocks: Clocks::new(timeouts),
            stage: Stage::Open,
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
        if let Some(due) = self.due()
            && self.obey(due).is_break()
        {
            return Poll::Ready(());
        }
        for _ in 0..ROUNDS {
            self.obey_cut();
            let has_moved = self.poll_down(cx).is_ready() | self.poll_up(cx).is_ready();
            match self.next() {
                Next::Over => return Poll::Ready(()),
                Next::EndClient => {
                    self.down.finish();
                    self.clocks.close_within(CLOSE_GRACE);
                }
                Next::Wait if has_moved => {}
                Next::Wait => match self.poll_clocks(cx) {
                    Poll::Ready(due) if self.obey(due).is_break() => return Poll::Ready(()),
                    Poll::Ready(_) => {}
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Does what is due. Break: the connection is over.
    fn obey(&mut self, due: Due) -> ControlFlow<()> {
        let ending = match due {
            Due::Grace => return ControlFlow::Break(()),
            Due::Idle(idle) => Ending::Idle(idle),
            Due::Total => Ending::Total(self.exchange.record.start.elapsed()),
            Due::ClientStalled => Ending::Stalled,
            Due::UpstreamStalled(stall) => Ending::UpstreamStalled(stall),
        };
        self.close(ending);
        ControlFlow::Continue(())
    }

    /// Closes the connection if the process drains: between two turns, or at once when the drain's deadline has passed. So it does when the
    /// connection is cut for another reason.
    fn obey_cut(&mut self) {
        let cut = self.exchange.handle.abort.cause();
        let drains = self.connection().is_draining() && !self.watch.is_in_turn();
        let Some(cut) = cut.or_else(|| drains.then_some(Cut::Drain)) else { return };
        if !self.clocks.is_closing() {
            self.close(Ending::of_cut(cut, self.exchange.record.start.elapsed()));
        }
        if self.exchange.handle.abort.cause() == Some(Cut::Drain) {
            self.clocks.hurry(CUT_GRACE);
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
            Moved::Bytes(_) => {
                self.note_traffic();
                self.charge_turns();
                self.refuse_unasked();
            }
            Moved::ReceiverGone => self.client_gone(),
            Moved::Ended if self.watch.has_close() || matches!(self.stage, Stage::ClientLeft) => {
                self.clocks.close_within(CLOSE_GRACE);
            }
            Moved::Ended => self.close(Ending::UpstreamLost),
        }
        Poll::Ready(())
    }

    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self { client, upstream, up, watch, exchange, .. } = self;
        let account = exchange.account();
        let Poll::Ready(moved) = up.poll_move(client, upstream, cx, &mut |seen| watch.client(seen, account))
        else {
            return Poll::Pending;
        };
        match moved {
            Moved::Bytes(_) => {
                self.note_traffic();
                if let Some(model) = self.watch.new_model() {
                    self.exchange.handle.status.uses_model(model);
                }
                if let Some(refused) = self.watch.refused.take() {
                    self.close(refused);
                }
            }
            // What it still sends is read, and its end will be seen.
            Moved::ReceiverGone => self.up.mute(),
            Moved::Ended => {
                self.client_ended();
                self.clocks.close_within(CLOSE_GRACE);
            }
        }
        Poll::Ready(())
    }

    /// Charges what the turns have used, after each turn.
    fn charge_turns(&mut self) {
        if self.watch.turns == self.charged_turns {
            return;
        }
        self.charged_turns = self.watch.turns;
        if let Some(accounting) = self.exchange.accounting() {
            let Watch { usage, response_model, model, .. } = &self.watch;
            let model = response_model.as_deref().or(model.as_deref());
            accounting.charge_turns(usage.as_ref(), self.watch.unreported_tokens(), model);
        }
    }

    /// Closes the connection if the server has begun a turn by itself although a limit is used up.
    fn refuse_unasked(&mut self) {
        if !self.watch.take_unasked() {
            return;
        }
        if let Some(exhausted) = self.exchange.account().and_then(Accounting::exhausted) {
            self.close(Ending::LimitReached(exhausted));
        }
    }

    fn note_traffic(&mut self) {
        self.clocks.passed();
        self.watch.frames_down = self.down.frames();
        let (frames, bytes, turns) = (self.down.frames(), self.down.bytes, self.watch.turns);
        self.exchange.handle.status.tunnelled(frames, bytes, turns);
    }

    /// The client's connection has ended: without a close frame, it has left.
    fn client_ended(&mut self) {
        if matches!(self.stage, Stage::Open) && !self.watch.has_close() {
            self.stage = Stage::ClientLeft;
        }
    }

    /// The client's connection has failed: nothing more reaches it.
    fn client_gone(&mut self) {
        self.client_ended();
        self.down.mute();
        self.clocks.close_within(Duration::ZERO);
        self.clocks.hurry(Duration::ZERO);
    }

    /// Begins to close the connection from the gateway's side: each peer gets a close frame after the frame that is passing.
    fn close(&mut self, ending: Ending) {
        if matches!(self.stage, Stage::Closing(_)) {
            return;
        }
        if let Ending::LimitReached(refused) = &ending {
            let limit = &refused.limit.name;
            self.exchange.metrics().limit_decided(limit, "refused");
            self.exchange.record.limit = Some(limit.clone());
        }
        if !self.watch.server_closed && self.down.end_with(self.last_words(&ending)) {
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
        self.clocks.close_within(if is_stalled { Duration::ZERO } else { CLOSE_GRACE });
        self.stage = Stage::Closing(ending);
    }

    /// The frames that tell the client.
    fn last_words(&self, ending: &Ending) -> Vec<u8> {
        let record = &self.exchange.record;
        let language = record.languages.language();
        let mut frames = Vec::new();
        if ending.is_refusal() {
            let event = ending.fault().message_event(record.request_id.as_str(), language);
            frames = writer::text(Sender::Server, &event);
        }
        frames.extend(writer::close(Sender::Server, ending.code(), &ending.reason(language)));
        frames
    }

    fn next(&self) -> Next {
        let is_closing = matches!(self.stage, Stage::Closing(_));
        let is_client_done = self.up.is_ended() || self.watch.client_closed;
        if self.down.is_ended() {
            let is_upstream_done = self.up.is_ended() || (is_closing && is_client_done);
            return if self.down.is_shut() && is_upstream_done { Next::Over } else { Next::Wait };
        }
        let is_closed_by_both = self.watch.client_closed && self.watch.server_closed;
        let is_answered = is_closing && is_client_done && self.down.is_finished();
        if is_closed_by_both || is_answered { Next::EndClient } else { Next::Wait }
    }

    fn blocked(&self) -> Blocked {
        Blocked { client: self.down.blocked, upstream: self.up.blocked }
    }

    fn due(&mut self) -> Option<Due> {
        let blocked = self.blocked();
        self.clocks.due(Instant::now(), blocked, &self.exchange.handle, self.exchange.connection())
    }

    fn poll_clocks(&mut self, cx: &mut Context<'_>) -> Poll<Due> {
        let blocked = self.blocked();
        self.clocks.poll(blocked, &self.exchange.handle, self.exchange.connection(), cx)
    }

    fn connection(&self) -> &Rc<ConnectionState> {
        self.exchange.connection()
    }
}

impl<C> Drop for TunnelRelay<C> {
    /// Writes what is known of the connection into the record of its exchange.
    fn drop(&mut self) {
        let Self { exchange, watch, up, down, secrets, .. } = self;
        match &self.stage {
            Stage::Closing(ending) => exchange.fail(&ending.fault(), |text| secrets.found_in(text)),
            _ if watch.has_close() => {
                let who = if watch.client_was_first { Who::Downstream } else { Who::Upstream };
                exchange.conclude(Outcome { who, phase: Phase::Done, fault: None });
            }
            Stage::ClientLeft => exchange.conclude(Outcome::left(Phase::Stream)),
            Stage::Open => {}
        }
        let record = &mut exchange.record;
        record.upload.whole(up.bytes);
        record.tally.bytes = down.bytes;
        record.tally.frames = down.frames();
        record.model = watch.model.take().filter(|model| !secrets.found_in(model.as_bytes()));
        record.reading.usage = watch.usage;
        record.reading.model =
            watch.response_model.take().filter(|model| !secrets.found_in(model.as_bytes()));
        record.tunnel = Some(Box::new(TunnelTally {
            turns: watch.turns,
            failed_turns: watch.failed_turns,
            unreported_tokens: watch.unreported_tokens(),
            frames_in: up.frames(),
            close_code: watch.close_code,
            error: watch.error.take().filter(|code| !secrets.found_in(code.as_bytes())),
        }));
    }
}
