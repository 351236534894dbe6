//! The driver of a client connection: polls hyper's connection, reports to the [`ConnectionState`], and enforces timeouts and
//! drains.

use std::{
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http_body::Body;
use hyper::{
    Request, Response,
    body::Incoming,
    server::conn::{http1, http2},
    service::Service,
};
use hyper_util::rt::TokioIo;

use super::{
    clock::{CUT_GRACE, Clock, ConnectionTimeouts, Due},
    counters::Counters,
    executor::StreamExecutor,
    io::Io,
    registry::{Phase, RegistryEntry},
};
use crate::body::ConnectionState;

/// During a drain, a connection without a request yet may send its first one for this long: it may have waited in the backlog.
const FIRST_REQUEST_GRACE: Duration = Duration::from_secs(1);

/// What hyper's HTTP/1.1 and HTTP/2 connections have in common.
pub(super) trait Protocol: Future<Output = hyper::Result<()>> + Unpin {
    const HTTP2: bool;

    /// Accepts no further request after those in flight.
    fn close_gracefully(&mut self);
}

impl<S, B> Protocol for http1::Connection<TokioIo<Io>, S>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Unpin,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    const HTTP2: bool = false;

    fn close_gracefully(&mut self) {
        Pin::new(self).graceful_shutdown();
    }
}

impl<S, B> Protocol for http2::Connection<TokioIo<Io>, S, StreamExecutor>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Unpin,
    S::Future: 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    const HTTP2: bool = true;

    fn close_gracefully(&mut self) {
        Pin::new(self).graceful_shutdown();
    }
}

/// How the driver ended.
#[derive(Debug)]
pub(super) enum DriveEnd {
    /// hyper has finished: flushed and shut down if `Ok`.
    Done(hyper::Result<()>),
    /// A timeout or a drain ended it: the connection must be dropped.
    Dropped,
}

/// The state of the driver.
#[derive(Debug)]
pub(super) struct Driver<'a> {
    state: Rc<ConnectionState>,
    clock: Clock,
    counters: &'a Counters,
    entry: &'a RegistryEntry,
    begun: Instant,
    /// The connection was told to close.
    closing: bool,
    /// Whether no exchange was open when the drain was cut; `None` before.
    idle_at_cut: Option<bool>,
}

impl<'a> Driver<'a> {
    pub(super) fn new(
        state: Rc<ConnectionState>,
        timeouts: ConnectionTimeouts,
        http2: bool,
        counters: &'a Counters,
        entry: &'a RegistryEntry,
    ) -> Self {
        let begun = Instant::now();
        state.ready(begun);
        let clock = Clock::new(state.clone(), timeouts, http2);
        Self { state, clock, counters, entry, begun, closing: false, idle_at_cut: None }
    }

    /// The counters of this connection.
    pub(super) fn counters(&self) -> &'a Counters {
        self.counters
    }

    /// Drives `connection` to its end.
    pub(super) async fn drive<P: Protocol>(mut self, connection: &mut P) -> DriveEnd {
        poll_fn(|cx| {
            if P::HTTP2 {
                return self.poll(connection, cx);
            }
            self.state.poll_begins();
            let polled = self.poll(connection, cx);
            self.state.poll_ends();
            polled
        })
        .await
    }

    fn poll<P: Protocol>(&mut self, connection: &mut P, cx: &mut Context<'_>) -> Poll<DriveEnd> {
        self.state.driven_by(cx.waker());
        loop {
            // Before the response is sent, so that its head can announce that it is the last one.
            if self.state.busy() {
                self.apply_phase(connection);
            }
            if let Poll::Ready(done) = Pin::new(&mut *connection).poll(cx) {
                return Poll::Ready(DriveEnd::Done(done));
            }
            self.state.settled();
            // After it was told to close, hyper's connection has to be polled again: an idle one ends at once.
            if self.apply_phase(connection) {
                continue;
            }
            if self.has_nothing_to_finish() {
                return Poll::Ready(DriveEnd::Dropped);
            }
            let due = self.clock.poll(cx);
            (0..self.clock.take_stalled()).for_each(|_| self.counters.write_stalled.add());
            match due {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Due::Idle) => {
                    self.counters.idle_closed.add();
                    self.close(connection);
                }
                Poll::Ready(due) => return Poll::Ready(self.drop_for(due)),
            }
        }
    }

    /// Tells the connection to close when a drain requires it; true if it was told just now. An HTTP/1.1 connection whose request
    /// may be on its way has to wait for it, since hyper would close it unread.
    fn apply_phase<P: Protocol>(&mut self, connection: &mut P) -> bool {
        let phase = self.entry.phase();
        if phase == Phase::Cut {
            self.idle_at_cut.get_or_insert(!self.state.busy());
            self.clock.look_at(Instant::now() + CUT_GRACE);
        }
        let close = match phase {
            _ if self.closing => false,
            Phase::Serving => false,
            Phase::Draining => P::HTTP2 || self.state.busy() || !self.expects_request(),
            Phase::Cut => true,
        };
        if close {
            self.close(connection);
        }
        close
    }

    /// Whether the drain is cut and the client is owed nothing: it has sent no request, or half of one, or keeps its side of an idle
    /// connection open.
    fn has_nothing_to_finish(&self) -> bool {
        self.idle_at_cut == Some(true) && !self.state.busy() && self.state.blocked_since().is_none()
    }

    fn expects_request(&mut self) -> bool {
        if self.state.head_since().is_some() {
            return true;
        }
        let fresh_until = self.begun + FIRST_REQUEST_GRACE;
        let fresh = self.state.exchanges() == 0 && Instant::now() < fresh_until;
        if fresh {
            self.clock.look_at(fresh_until);
        }
        fresh
    }

    fn close<P: Protocol>(&mut self, connection: &mut P) {
        self.closing = true;
        self.clock.closing(Instant::now());
        connection.close_gracefully();
    }

    /// The kernel would go on sending to a client that does not read for minutes, so such a connection is reset.
    fn drop_for(&self, due: Due) -> DriveEnd {
        match due {
            Due::Head => self.counters.header_timeout.add(),
            Due::Stall => self.counters.write_stalled.add(),
            Due::Idle | Due::Overdue => {}
        }
        if self.state.blocked_since().is_some() || self.clock.has_untaken() {
            self.state.reset_when_closing(true);
        }
        tracing::debug!(?due, "client connection closed by a timeout");
        DriveEnd::Dropped
    }
}
