//! An OpenAI-like upstream that follows a script: for `sluicegate demo` and `sluicegate simulate`, for tests and load.
//!
//! It speaks HTTP/1.1 and HTTP/2, plain and over TLS, answers the usual endpoints under any prefix, and keeps a
//! [`Record`] of every request: how it arrived, byte for byte, and how it ended.
//!
//! How a request is answered is decided by, in this order: a [`Script`] queued for its `x-simulate-id`, or else the
//! oldest one queued for anybody; then what its `x-simulate` header and its model name say, the header first.
//!
//! **`x-simulate: key=value; key=value; flag`.** *Content:* `frames=N` (content events, besides those around them),
//! `size=N` (more bytes in each), `usage=IN,OUT`, `status=N` (an error), `retry-after=TEXT`, `newline=lf|crlf|cr`,
//! `comments`, `no-done`, `error-event` (half-way), `malformed` (JSON, half-way). *Sending:* `delay=SPAN` (before the head),
//! `first=SPAN` (between the head and the first event), `interval=SPAN` (between frames), `batch=N` (frames in one write),
//! `split=N` (the most bytes of one write), `length=known|chunked|close`, `trailers`, `early` (answer before the
//! request's body is read). *Accidents,* after N bytes of the answer's body: `cut=N` or `cut=head`, with
//! `by=reset|close|chunk-error|no-error`, `stall=N`, `gate=N` (wait until it is opened). A span is milliseconds, or has a unit.
//!
//! **The model name** `sim-f200-i10-b16-d50-s1000`: frames, interval, batch, delay (ms), size. A model `missing-…` is
//! one that does not exist.
//!
//! **Over HTTP,** for tests in other languages: `GET /simulator/records`, `GET /simulator/wait?path=…&ended=…` (answers
//! once such a request has ended, or after 30 s), `GET /simulator/connections`, `POST /simulator/gate` (opens the gate of
//! `gate=N`), `POST /simulator/reset`. These need no key and are not recorded.

mod answers;
mod args;
mod connection;
mod control;
mod endpoint;
mod events;
mod generate;
mod http1;
mod http2;
mod plan;
mod play;
mod record;
mod refusal;
mod respond;
mod script;
mod server;
mod shared;
mod socket;
#[cfg(test)]
mod tests;
mod tls;
mod upload;
mod wire;

use std::{collections::VecDeque, io, net::SocketAddr, sync::Arc, time::Duration};

pub use args::Args;
pub use connection::Protocols;
pub use events::Events;
pub use plan::ScriptError;
pub use record::{Ended, Record};
pub use script::{Cut, Framing, Gate, Head, Script, Step, WHOLE};
pub use shared::Connections;
pub use tls::{Handshake, Identity, Tls};

use server::Server;
use shared::Shared;

/// How a simulator is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens; port 0 takes any free one.
    pub listen: SocketAddr,
    /// `None` = plain.
    pub tls: Option<Tls>,
    /// Which protocols it speaks.
    pub protocols: Protocols,
    /// The key that requests need; `None` = any or none.
    pub require_key: Option<String>,
    /// Time between frames where a request does not say.
    pub pace: Duration,
    /// Records kept; 0 = none. Their bodies together are bounded too, to 64 MiB.
    pub records: usize,
    /// HTTP/2: streams of one connection.
    pub max_streams: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls: None,
            protocols: Protocols::default(),
            require_key: None,
            pace: Duration::ZERO,
            records: 10_000,
            max_streams: 1000,
        }
    }
}

/// A running simulator; dropped, it stops and its connections are closed.
pub struct Simulator {
    shared: Arc<Shared>,
    server: Server,
    ca_pem: Option<String>,
    tls: bool,
}

impl Simulator {
    /// Starts a simulator on the current tokio runtime.
    ///
    /// # Errors
    /// The address cannot be bound, or the certificate, key or CA is none.
    pub async fn start(options: Options) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(&options));
        let (acceptor, ca_pem) = server::acceptor(&options)?;
        let tls = acceptor.is_some();
        let server = Server::spawn(options.listen, acceptor, &shared)?;
        Ok(Self { shared, server, ca_pem, tls })
    }

    /// Starts a simulator on so many threads of its own, at least one, so that it answers while the caller blocks.
    ///
    /// # Errors
    /// As [`start`](Self::start), or a thread cannot be started.
    pub fn spawn_threads(options: &Options, threads: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(options));
        let (acceptor, ca_pem) = server::acceptor(options)?;
        let tls = acceptor.is_some();
        let server = Server::spawn_threads(options.listen, acceptor.as_ref(), &shared, threads.max(1))?;
        Ok(Self { shared, server, ca_pem, tls })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Its URL without a path, like `http://127.0.0.1:9000`.
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.addr())
    }

    /// The PEM of the CA that its certificate is from, if that was made at the start.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// Queues a script for the next request that has none of its own.
    pub fn queue(&self, script: Script) {
        self.shared.queue(None, script);
    }

    /// Queues a script for the request with this `x-simulate-id`.
    pub fn queue_for(&self, id: &str, script: Script) {
        self.shared.queue(Some(id.to_owned()), script);
    }

    /// The gate of the `gate=N` knob; scripts may use it or gates of their own.
    pub fn gate(&self) -> Gate {
        self.shared.gate.clone()
    }

    /// Opens that gate for one step.
    pub fn open_gate(&self) {
        self.shared.gate.open();
    }

    /// The records, oldest first.
    pub fn records(&self) -> Vec<Record> {
        self.shared.records.list()
    }

    /// Waits until request `number` (from 1) has ended, and gives its record. Never returns for one that has left
    /// the bounded ring.
    pub async fn record(&self, number: u64) -> Record {
        self.wait_for(|records| {
            let record = records.iter().find(|record| record.number == number)?;
            record.ended.map(|_| record.clone())
        })
        .await
    }

    /// Waits until `look` finds something in the records. It is asked again at each change, and holds the records
    /// up while it looks.
    pub async fn wait_for<T>(&self, look: impl FnMut(&VecDeque<Record>) -> Option<T>) -> T {
        self.shared.records.wait_for(look).await
    }

    /// How many connections there were and are.
    pub fn connections(&self) -> Connections {
        self.shared.connections.now()
    }

    /// Waits until the connections are as `wanted`: for one to have been closed, or none to be open.
    pub async fn wait_for_connections(&self, wanted: impl FnMut(&Connections) -> bool) -> Connections {
        self.shared.connections.wait_for(wanted).await
    }

    /// Forgets records and queued scripts; numbers go on.
    pub fn reset(&self) {
        self.shared.reset();
    }

    /// Stops, and returns when its port is free and its connections are closed.
    pub async fn shutdown(self) {
        self.server.stop().await;
    }
}
