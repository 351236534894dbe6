//! The connections of the admin listener: their number is bounded, each has a deadline, and a new one is always served.
//!
//! A probe must be answered whatever other clients of this listener do. At the limit, the connection that has been quiet for longest is
//! closed for a new one, whether it is idle, sends half a request or does not read its response.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Notify,
    task::yield_now,
    time::{Instant, sleep_until},
};

/// Maximum number of connections. An operator, a scraper and the probes need a few; the rest is room for connections that are just
/// being opened.
pub(super) const MAX_CONNECTIONS: usize = 128;

/// Time limit for a request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection stays open after its last request began, or after it was given the last piece of its response: idle, or until the
/// response has been read.
const DEADLINE: Duration = Duration::from_secs(30);

/// The bounds of the connections.
#[derive(Debug, Clone, Copy)]
struct Limits {
    connections: usize,
    head: Duration,
    deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: MAX_CONNECTIONS, head: HEAD_TIMEOUT, deadline: DEADLINE }
    }
}

/// The open connections, in the order in which they were accepted; at most [`MAX_CONNECTIONS`].
#[derive(Debug, Default)]
pub(super) struct Connections {
    limits: Limits,
    open: RefCell<Vec<Rc<Connection>>>,
    /// Notified when a connection has ended, or a response is complete.
    changed: Notify,
}

#[derive(Debug)]
struct Connection {
    /// When the last request began or was given a piece of its response, or the connection was accepted.
    active: Cell<Instant>,
    /// Whether a response is being made. It takes a second at most.
    answering: Cell<bool>,
    /// Closes the connection.
    close: Notify,
}

/// A connection's entry, removed when dropped.
#[derive(Debug)]
pub(super) struct Entry {
    all: Rc<Connections>,
    connection: Rc<Connection>,
}

impl Connections {
    /// Enters a new connection. At the limit, closes the one that has been quiet for longest; waits only while all of them are having
    /// responses made.
    pub(super) async fn enter(self: &Rc<Self>) -> Entry {
        while !self.has_room() {
            self.changed.notified().await;
        }
        let connection = Rc::new(Connection {
            active: Cell::new(Instant::now()),
            answering: Cell::new(false),
            close: Notify::new(),
        });
        self.open.borrow_mut().push(connection.clone());
        Entry { all: self.clone(), connection }
    }

    fn has_room(&self) -> bool {
        let mut open = self.open.borrow_mut();
        if open.len() < self.limits.connections {
            return true;
        }
        let quiet = open.iter().enumerate().filter(|(_, connection)| !connection.answering.get());
        let Some((quietest, _)) = quiet.min_by_key(|(_, connection)| connection.active.get()) else {
            return false;
        };
        open.remove(quietest).close.notify_one();
        true
    }
}

impl Entry {
    /// Serves the connection to its end, with the responses that `answer` makes.
    pub(super) async fn serve<F, B>(
        self,
        io: impl AsyncRead + AsyncWrite + Unpin,
        answer: impl Fn(Request<Incoming>) -> F,
    ) where
        F: Future<Output = Response<B>>,
        B: Body<Data = Bytes, Error = Infallible> + Unpin + 'static,
    {
        let service = service_fn(|request| {
            self.connection.active.set(Instant::now());
            self.connection.answering.set(true);
            let response = answer(request);
            async {
                let response = response.await;
                // A connection on which many requests have arrived takes its turn after each response.
                yield_now().await;
                self.connection.answering.set(false);
                self.all.changed.notify_one();
                let connection = self.connection.clone();
                Ok::<_, Infallible>(response.map(|body| Tracked { body, connection }))
            }
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(self.all.limits.head);
        let connection = pin!(builder.serve_connection(TokioIo::new(io), service));
        tokio::select! {
            ended = connection => if let Err(error) = ended {
                tracing::debug!(%error, "admin connection ended with an error");
            },
            () = self.connection.close.notified() => {
                tracing::debug!(limit = self.all.limits.connections, "admin connection closed: it was the quietest at the limit");
            }
            () = self.connection.reach(self.all.limits.deadline) => tracing::debug!("admin connection closed: deadline reached"),
        }
    }
}

impl Connection {
    /// Waits until nothing has begun for `deadline`.
    async fn reach(&self, deadline: Duration) {
        loop {
            let at = self.active.get() + deadline;
            if at <= Instant::now() {
                return;
            }
            sleep_until(at).await;
        }
    }
}

/// A response body that keeps its connection open as long as the client takes pieces of it.
struct Tracked<B> {
    body: B,
    connection: Rc<Connection>,
}

impl<B: Body<Data = Bytes, Error = Infallible> + Unpin> Body for Tracked<B> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_ready() {
            self.connection.active.set(Instant::now());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.all.open.borrow_mut().retain(|other| !Rc::ptr_eq(other, &self.connection));
        self.all.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        task::{LocalSet, spawn_local},
    };

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

    /// A client of a connection whose responses have `size` bytes, and may wait in 1 KiB.
    async fn client(all: &Rc<Connections>, size: usize) -> DuplexStream {
        let (client, server) = duplex(1024);
        let entry = all.enter().await;
        spawn_local(entry.serve(server, move |_| async move { Response::new(Full::from(vec![b'x'; size])) }));
        client
    }

    async fn served(client: &mut DuplexStream) -> bool {
        if client.write_all(REQUEST).await.is_err() {
            return false;
        }
        let mut head = [0; 12];
        client.read_exact(&mut head).await.is_ok_and(|_| head == *b"HTTP/1.1 200")
    }

    fn limited(limits: Limits) -> Rc<Connections> {
        Rc::new(Connections { limits, ..Connections::default() })
    }

    #[tokio::test]
    async fn idle_dripping_and_stalled_clients_are_closed_at_their_deadlines() {
        let soon = Duration::from_millis(50);
        let never = Duration::from_secs(600);
        let drips = async |client: &mut DuplexStream, bytes: &[u8]| {
            while client.write_all(bytes).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let clients = async {
            for (head, deadline) in [(soon, never), (never, soon)] {
                let all = limited(Limits { head, deadline, ..Limits::default() });
                let mut silent = client(&all, 1).await;
                assert_eq!(silent.read(&mut [0]).await.unwrap_or(0), 0);
                drips(&mut client(&all, 1).await, b"G").await;
            }
            let all = limited(Limits { head: never, deadline: soon, ..Limits::default() });
            let mut stalled = client(&all, 1 << 20).await;
            assert!(served(&mut stalled).await);
            drips(&mut stalled, b" ").await;
            assert_eq!(all.open.borrow().len(), 0);
        };
        LocalSet::new().run_until(clients).await;
    }

    #[tokio::test]
    async fn at_the_limit_the_connection_that_was_quiet_for_longest_is_closed() {
        let all = limited(Limits { connections: 3, ..Limits::default() });
        let clients = async {
            let mut clients = [client(&all, 1).await, client(&all, 1).await, client(&all, 1).await];
            // The oldest one is in use.
            assert!(served(&mut clients[0]).await);
            assert!(served(&mut client(&all, 1).await).await);
            assert!(!served(&mut clients[1]).await);
            assert!(served(&mut clients[2]).await);
        };
        LocalSet::new().run_until(clients).await;
    }
}
