//! HTTP/2 connections to an upstream, shared by their streams.

use std::{
    cell::{Cell, RefCell},
    error::Error,
    fmt,
    future::poll_fn,
    pin::Pin,
    rc::{Rc, Weak},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use hyper::{
    client::conn::http2::{self, SendRequest},
    rt::Executor,
};
use hyper_util::rt::TokioIo;
use tokio::sync::Notify;

use super::{dialer::Dialled, http1::MAX_HEAD, io::Io, tls::has_passed};
use crate::{body::Outbound, pause, wait_queue::WaitQueue};

/// Streams opened on one connection before another connection is made: the minimum that RFC 9113 §6.5.2 recommends for
/// SETTINGS_MAX_CONCURRENT_STREAMS. An upstream that allows fewer gets fewer.
const MAX_STREAMS: usize = 100;

/// Bytes that an upstream may send ahead on a stream and on a connection, which bounds what a slow client holds back.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// Bytes of a request body that h2 may buffer for each stream. hyper's default of 1 MiB would hide how far a body has been sent.
const SEND_BUFFER: usize = 128 << 10;

/// Silence after which a PING is sent, and the time for its reply (RFC 9113 §6.7).
const PING: Duration = Duration::from_secs(20);
const PONG: Duration = Duration::from_secs(10);

type Driven = http2::Connection<TokioIo<Io>, Outbound, Local>;

/// One connection. hyper has two tasks for it. The task of `driven` opens streams and ends when all senders are gone or when no
/// further stream may be opened. The other task has the socket and goes on until all open streams have ended.
pub(super) struct Http2 {
    sender: SendRequest<Outbound>,
    /// Alive as long as its task.
    driven: Weak<RefCell<Driven>>,
    /// When the server's certificate expires.
    expires: Option<SystemTime>,
    shared: Rc<Shared>,
}

#[derive(Debug)]
struct Shared {
    open: Cell<usize>,
    /// The upstream has refused a stream: no further stream until one of the open ones ends.
    full: Cell<bool>,
    /// The upstream accepts no further stream at all. hyper notices that only when the next one is opened.
    retired: Cell<bool>,
    idle_since: Cell<Instant>,
    /// Notified when a stream ends.
    room: Rc<Notify>,
    /// Counts the connections to the target.
    limit: Arc<WaitQueue>,
    /// Notified when the connection is idle and others wait for its permit.
    wanted: Arc<Notify>,
}

/// One stream's share of a connection; dropping it gives the share back.
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
    /// Opens HTTP/2 on a new connection and spawns the tasks that drive it. `room` is notified when a stream ends, and
    /// `wanted` when the last one ends while requests wait for a connection to the target.
    pub(super) async fn open(dialled: Dialled, room: Rc<Notify>, wanted: Arc<Notify>) -> hyper::Result<Self> {
        let limit = dialled.permit.queue().clone();
        let expires = dialled.expires;
        let io = TokioIo::new(Io::new(dialled));
        let (sender, driven) = http2::Builder::new(Local)
            .timer(pause::Timer)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_HEAD as u32)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PONG)
            .keep_alive_while_idle(true)
            .handshake(io)
            .await?;
        let shared = Rc::new(Shared {
            open: Cell::new(0),
            full: Cell::new(false),
            retired: Cell::new(false),
            idle_since: Cell::new(Instant::now()),
            room,
            limit,
            wanted,
        });
        let driven = Rc::new(RefCell::new(driven));
        let watched = Rc::downgrade(&driven);
        tokio::task::spawn_local(async move {
            if let Err(error) = poll_fn(|cx| Pin::new(&mut *driven.borrow_mut()).poll(cx)).await {
                tracing::debug!(%error, "upstream HTTP/2 connection ended with an error");
            }
        });
        Ok(Self { sender, driven: watched, expires, shared })
    }

    /// Whether another stream may be opened on the connection.
    pub(super) fn has_room(&self) -> bool {
        !self.is_closed() && !self.shared.full.get() && self.shared.open.get() < self.allowed()
    }

    /// The number of streams that the upstream allows, as far as known: its SETTINGS may arrive after the first requests were
    /// sent, and wake no task.
    fn allowed(&self) -> usize {
        let Some(driven) = self.driven.upgrade() else { return 0 };
        let allowed = driven.try_borrow().map_or(MAX_STREAMS, |driven| driven.current_max_send_streams());
        allowed.min(MAX_STREAMS)
    }

    /// Whether the connection accepts no further stream.
    pub(super) fn is_closed(&self) -> bool {
        self.shared.retired.get() || self.sender.is_closed() || has_passed(self.expires)
    }

    /// Since when the connection has been idle; `None` while a stream is open.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        (self.shared.open.get() == 0).then(|| self.shared.idle_since.get())
    }

    /// A sender for one request, and its stream's share of the connection.
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

impl Lease {
    /// `error` came instead of a response. What it says about the connection applies to the next requests too.
    pub(super) fn failed(self, error: &hyper::Error) {
        let Some(error) = beneath(error) else { return };
        let shared = self.shared.clone();
        drop(self);
        if error.is_go_away() && error.is_remote() {
            shared.retired.set(true);
        } else if error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM) {
            // One that takes no stream at all makes no room either.
            let others = shared.open.get() > 0;
            (if others { &shared.full } else { &shared.retired }).set(true);
        }
    }
}

/// Whether `error` says that the upstream has sent a response head that cannot be read: h2 then resets the stream on its own, with REFUSED_STREAM
/// if the head is too large.
pub(super) fn is_unreadable(error: &hyper::Error) -> bool {
    beneath(error).is_some_and(|error| error.is_reset() && error.is_library())
}

/// The HTTP/2 error behind `error`, if there is one.
pub(super) fn beneath(error: &hyper::Error) -> Option<&h2::Error> {
    let mut beneath = Error::source(error);
    while let Some(error) = beneath {
        if let Some(error) = error.downcast_ref() {
            return Some(error);
        }
        beneath = error.source();
    }
    None
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shared.full.set(false);
        self.shared.open.set(self.shared.open.get().saturating_sub(1));
        self.shared.idle_since.set(Instant::now());
        self.shared.room.notify_waiters();
        if self.shared.open.get() == 0 && self.shared.limit.has_waiters() {
            self.shared.wanted.notify_one();
        }
    }
}
