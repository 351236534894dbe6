//! HTTP/2 connections to an upstream, shared by their streams.

use std::{
    cell::Cell,
    fmt,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    time::{Duration, Instant},
};

use hyper::{
    client::conn::http2::{self, SendRequest},
    rt::Executor,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Notify;

use super::{dialer::Dialled, io::Io};
use crate::body::Outbound;

/// Streams that are open at once on one connection before another one is made, at most: the least that RFC 9113 §6.5.2
/// recommends for SETTINGS_MAX_CONCURRENT_STREAMS. An upstream that allows fewer gets fewer.
const MAX_STREAMS: usize = 100;

/// What an upstream may send ahead on a stream and on a connection, in bytes. A slow caller holds back no more than that.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// PING after that much silence, and how long its answer may take (RFC 9113 §6.7).
const PING: Duration = Duration::from_secs(20);
const PONG: Duration = Duration::from_secs(10);

/// One connection; its task ends when the last [`Lease`] and the pool's entry are gone.
pub(super) struct Http2 {
    sender: SendRequest<Outbound>,
    shared: Rc<Shared>,
}

#[derive(Debug)]
struct Shared {
    open: Cell<usize>,
    /// What the upstream allows.
    allowed: Cell<usize>,
    idle_since: Cell<Instant>,
    /// Told when a stream is over.
    room: Rc<Notify>,
}

/// One stream's place on a connection; dropping it gives the place back.
#[derive(Debug)]
pub(super) struct Lease {
    shared: Rc<Shared>,
}

/// Runs a connection's futures on the worker's thread.
#[derive(Debug, Clone, Copy)]
struct Local;

impl<F> Executor<F> for Local
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

impl Http2 {
    /// Makes a connection of `socket`, and a task that drives it; `room` is told of streams that are over.
    pub(super) async fn open(Dialled { socket, slot }: Dialled, room: Rc<Notify>) -> hyper::Result<Self> {
        let io = TokioIo::new(Io::new(socket, Rc::default()));
        let (sender, driven) = http2::Builder::new(Local)
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PONG)
            .keep_alive_while_idle(true)
            .handshake(io)
            .await?;
        let shared = Rc::new(Shared {
            open: Cell::new(0),
            allowed: Cell::new(MAX_STREAMS),
            idle_since: Cell::new(Instant::now()),
            room,
        });
        let allowed = shared.clone();
        tokio::task::spawn_local(async move {
            // Dropped the other way round: the connection is closed before there may be another in its place.
            let (_slot, mut driven) = (slot, driven);
            let ended = poll_fn(|cx| {
                let polled = Pin::new(&mut driven).poll(cx);
                allowed.allowed.set(driven.current_max_send_streams());
                polled
            });
            if let Err(error) = ended.await {
                tracing::debug!(%error, "upstream HTTP/2 connection ended");
            }
        });
        Ok(Self { sender, shared })
    }

    /// Whether another stream may be opened on it.
    pub(super) fn has_room(&self) -> bool {
        self.sender.is_ready() && self.shared.open.get() < self.shared.allowed.get().min(MAX_STREAMS)
    }

    /// Whether it is of no use any more.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Since when no stream has been open; `None` while one is.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        (self.shared.open.get() == 0).then(|| self.shared.idle_since.get())
    }

    /// A handle to send one request with, and the place that it takes.
    pub(super) fn lease(&self) -> (SendRequest<Outbound>, Lease) {
        self.shared.open.set(self.shared.open.get() + 1);
        (self.sender.clone(), Lease { shared: self.shared.clone() })
    }
}

impl fmt::Debug for Http2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2").field("shared", &self.shared).finish_non_exhaustive()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shared.open.set(self.shared.open.get().saturating_sub(1));
        self.shared.idle_since.set(Instant::now());
        self.shared.room.notify_waiters();
    }
}
