//! An OpenAI-like upstream that follows scripts: for `sluicegate demo`, `sluicegate simulate`, tests and load tests.
//!
//! It speaks HTTP/1.1 and HTTP/2, plain and over TLS, serves the usual endpoints under any path prefix, and keeps a
//! [`Record`] of every request: what arrived, byte for byte, and how the request ended.
//!
//! # Using it in a test
//!
//! ```no_run
//! # use sluicegate::simulator::{Cut, Ended, Gate, Head, Options, Script, Simulator, Step};
//! # async fn test() -> std::io::Result<()> {
//! let simulator = Simulator::start(Options::default()).await?;
//! let gate = Gate::new();
//! simulator.queue(Script::new(vec![
//!     Step::Head(Head::event_stream()),
//!     Step::Send("data: {\"choices\":[]}\n\n".into()),
//!     Step::Gate(gate.clone()),
//!     Step::Cut(Cut::Reset),
//! ]));
//! // … send a request to simulator.url(), read the first event, and then:
//! gate.open();
//! let record = simulator.record(1).await;
//! assert_eq!(record.ended.map(|(_, ended)| ended), Some(Ended::CutByScript(Cut::Reset)));
//! # Ok(())
//! # }
//! ```
//!
//! - **Write a script** as a list of [`Step`]s: a [`Head`], body bytes, waits, a [`Cut`]. [`Script::new`] starts when
//!   the request body has been read, [`Script::before_body`] when the head has. Without a [`Step::Cut`], the response
//!   ends properly after the last step.
//! - **Queue it** with [`Simulator::queue`] for the next request, or with [`Simulator::queue_for`] for the request with
//!   that `x-simulate-id`. A request without a script gets a generated response, see below.
//! - **Wait for an event**, never for a time: [`Simulator::record`] returns when the request with that number has ended,
//!   [`Simulator::wait_for`] when the records contain what the test looks for, [`Simulator::wait_for_connections`] when
//!   the connection counts do. A [`Gate`] holds the response until the test has seen what it waits for.
//!
//! # Generated responses
//!
//! The response to a request is decided by, in this order: the script queued for its `x-simulate-id`; the oldest script
//! queued for any request; its `x-simulate` header; its model name.
//!
//! **`x-simulate: key=value; key=value; flag`.** *Content:* `frames=N` (content events, without the events before and
//! after them), `size=N` (bytes of padding in each), `usage=IN,OUT` (token counts), `status=N` (an error),
//! `error=too-large|no-credit|moderation` (a provider's error), `retry-after=TEXT`, `newline=lf|crlf|cr`, `comments`, `no-done`, `error-event` (half-way), `malformed` (JSON,
//! half-way), `stamp` (the time in each chat frame). *Sending:* `delay=TIME` (before the head), `first=TIME` (between
//! the head and the first event), `interval=TIME` (between batches), `batch=N` (frames in one write), `split=N` (the most
//! bytes in one write), `length=known|chunked|close`, `trailers`, `early` (respond before the request body is read).
//! *Faults,* after N bytes of the response body: `cut=N` or `cut=head`, with `by=reset|close|chunk-error|no-error`;
//! `stall=N`; `gate=N` (wait until it is opened). A time is in milliseconds, or has a unit.
//!
//! **The model name** `sim-f200-i10-b16-d50-s1000`: frames, interval (ms), batch, delay (ms), size. A model
//! `missing-…` does not exist.
//!
//! **Ephemeral keys**: `POST …/realtime/client_secrets` issues one, which `…/realtime` takes.
//!
//! **WebSocket** (over HTTP/1.1): `…/realtime` plays OpenAI's Realtime API, `…/responses` its Responses API in WebSocket mode. The model, from the
//! query, `session.update` or `response.create`, and `x-simulate` of the handshake set the content and the pace of every turn; `cut`, `stall`
//! and `gate` count the bytes of frames of the whole connection. `expires=TIME` ends the session early, as an hour does (`session_expired`,
//! `websocket_connection_limit_reached`, close code 1001); `error-event` makes each turn fail half-way. The body of the record has the
//! messages of the client, one a line.
//!
//! **Over HTTP,** for tests in other languages: `GET /simulator/records`, `GET /simulator/wait?path=…&ended=…` (responds
//! when such a request has ended, or after 30 s), `GET /simulator/connections`, `POST /simulator/gate` (opens the gate of
//! `gate=N`), `POST /simulator/reset`. These need no key and are not recorded.

mod api_error;
mod args;
mod bodies;
mod connection;
mod content;
mod control;
mod ending;
mod endpoint;
mod events;
mod generate;
mod http1;
mod http2;
mod options;
mod plan;
mod play;
mod record;
mod request;
mod respond;
mod script;
mod server;
mod shared;
mod socket;
#[cfg(test)]
mod tests;
mod tls;
mod upload;
mod websocket;
mod wire;

use std::{collections::VecDeque, io, net::SocketAddr, sync::Arc};

pub use args::Args;
pub use ending::{Cut, Ended};
pub use events::Events;
pub use options::{Identity, Options, Protocols, Tls};
pub use plan::ScriptError;
pub use record::Record;
pub use script::{Framing, Gate, Head, Script, Step, WHOLE};
pub use shared::Connections;
pub use tls::Handshake;

use server::Server;
use shared::Shared;
use tls::ServerTls;

/// A running simulator. Dropping it stops it and closes its connections.
pub struct Simulator {
    shared: Arc<Shared>,
    server: Server,
    tls: Option<ServerTls>,
}

impl Simulator {
    /// Starts a simulator on the current tokio runtime.
    ///
    /// # Errors
    /// The address cannot be bound, or the certificate, key or CA is invalid.
    pub async fn start(options: Options) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(&options));
        let tls = server_tls(&options)?;
        let acceptor = tls.as_ref().map(|tls| tls.acceptor.clone());
        let server = Server::spawn(options.listen, acceptor, &shared)?;
        Ok(Self { shared, server, tls })
    }

    /// Starts a simulator on this many threads of its own (at least one), so that it works while the calling thread
    /// blocks.
    ///
    /// # Errors
    /// As for [`start`](Self::start), or a thread cannot be started.
    pub fn spawn_threads(options: &Options, threads: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(options));
        let tls = server_tls(options)?;
        let acceptor = tls.as_ref().map(|tls| &tls.acceptor);
        let server = Server::spawn_threads(options.listen, acceptor, &shared, threads.max(1))?;
        Ok(Self { shared, server, tls })
    }

    /// The address that it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Its URL without a path, like `http://127.0.0.1:9000`.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.addr())
    }

    /// The CA certificate in PEM, if the server certificate was generated at startup.
    pub fn ca_pem(&self) -> Option<&str> {
        self.tls.as_ref()?.ca_pem.as_deref()
    }

    /// Queues a script for the next request that has no script of its own.
    pub fn queue(&self, script: Script) {
        self.shared.queue(None, script);
    }

    /// Queues a script for the request with this `x-simulate-id`.
    pub fn queue_for(&self, id: &str, script: Script) {
        self.shared.queue(Some(id.to_owned()), script);
    }

    /// The gate of the `gate=N` setting. Scripts may use it, or gates of their own.
    pub fn gate(&self) -> Gate {
        self.shared.gate.clone()
    }

    /// Opens the gate of the `gate=N` setting for one step.
    pub fn open_gate(&self) {
        self.shared.gate.open();
    }

    /// The records, oldest first.
    pub fn records(&self) -> Vec<Record> {
        self.shared.records.list()
    }

    /// Waits until request `number` (from 1) has ended, and returns its record. Never returns if the record has been
    /// dropped because of the bound on records.
    pub async fn record(&self, number: u64) -> Record {
        self.wait_for(|records| {
            let record = records.iter().find(|record| record.number == number)?;
            record.ended.map(|_| record.clone())
        })
        .await
    }

    /// Waits until `look` finds something in the records. It is called again after each change, and blocks changes
    /// while it runs.
    pub async fn wait_for<T>(&self, look: impl FnMut(&VecDeque<Record>) -> Option<T>) -> T {
        self.shared.records.wait_for(look).await
    }

    /// The connection counts.
    pub fn connections(&self) -> Connections {
        self.shared.connections.now()
    }

    /// Waits until the connection counts satisfy `wanted`.
    pub async fn wait_for_connections(&self, wanted: impl FnMut(&Connections) -> bool) -> Connections {
        self.shared.connections.wait_for(wanted).await
    }

    /// Drops the records and the queued scripts. Record numbers continue.
    pub fn reset(&self) {
        self.shared.reset();
    }

    /// Stops, and returns when its port is free and its connections are closed.
    pub async fn shutdown(self) {
        self.server.stop().await;
    }
}

fn server_tls(options: &Options) -> io::Result<Option<ServerTls>> {
    options.tls.as_ref().map(|tls| ServerTls::new(tls, options.protocols)).transpose()
}
