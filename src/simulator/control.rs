//! The control API of the simulator over HTTP, for tests in other languages. All paths are under `/simulator/`:
//!
//! - `GET records` returns the records, oldest first; `?after=N` only those with a greater number.
//! - `GET wait` waits until `count=N` (default 1) records match, at most 30 s, and returns all that match. Filters:
//!   `path=` (the end of the path), `ended=` (how it ended, or `peer-left`, or `any`), `id=` (its `x-simulate-id`) and
//!   `after=N`.
//! - `GET connections` returns the connection counts: opened, open, failed.
//! - `POST gate` opens the gate of the `gate=N` setting for one response.
//! - `POST reset` drops records and queued scripts. Record numbers continue.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::{
    api_error::ApiError,
    ending::Ended,
    play::play,
    record::Record,
    request::Request,
    script::{Head, Script, Step},
    shared::Shared,
    upload::hex,
    wire::Wire,
};

const PREFIX: &str = "/simulator/";
/// The longest time that `wait` takes.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// A control request.
pub(super) enum Command {
    Records(Filter),
    Wait(Filter),
    Connections,
    Gate,
    Reset,
    NotFound(ApiError),
}

/// Selects records.
#[derive(Default)]
pub(super) struct Filter {
    after: u64,
    count: usize,
    path: Option<String>,
    ended: Option<String>,
    id: Option<String>,
}

impl Command {
    /// Reads a control request; `None` if the path is not under `/simulator/`.
    pub(super) fn of(request: &Request) -> Option<Self> {
        let name = request.path().strip_prefix(PREFIX)?;
        let query = request.target.split_once('?').map_or("", |(_, query)| query);
        Some(match (&request.method, name) {
            (&Method::GET, "records") => Self::Records(Filter::of(query)),
            (&Method::GET, "wait") => Self::Wait(Filter::of(query)),
            (&Method::GET, "connections") => Self::Connections,
            (&Method::POST, "gate") => Self::Gate,
            (&Method::POST, "reset") => Self::Reset,
            (method, _) => Self::NotFound(ApiError::unknown_url(method.as_str(), request.path())),
        })
    }
}

/// Runs a command and sends its response.
pub(super) async fn run<W: Wire>(wire: &mut W, command: Command, shared: &Shared) -> Ended {
    let (status, body) = match command {
        Command::NotFound(error) => (error.status, error.body()),
        Command::Records(filter) => (StatusCode::OK, filter.list(shared)),
        Command::Wait(filter) => {
            let enough = shared.records.wait_for(|records| {
                let matching = records.iter().filter(|record| filter.matches(record)).count();
                (matching >= filter.count).then_some(())
            });
            tokio::select! {
                () = enough => {}
                () = tokio::time::sleep(MAX_WAIT) => {}
                ended = wire.peer_gone() => return ended,
            }
            (StatusCode::OK, filter.list(shared))
        }
        Command::Connections => {
            let now = shared.connections.now();
            (StatusCode::OK, json!({"opened": now.opened, "open": now.open, "failed": now.failed}))
        }
        Command::Gate => {
            shared.gate.open();
            (StatusCode::OK, json!({}))
        }
        Command::Reset => {
            shared.reset();
            (StatusCode::OK, json!({}))
        }
    };
    let body = body.to_string();
    let head = Head::json(status, body.len());
    play(wire, Script::new(vec![Step::Head(head), Step::Send(Bytes::from(body))])).await.ended
}

impl Filter {
    fn of(query: &str) -> Self {
        let mut filter = Self { count: 1, ..Self::default() };
        for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let value = percent_decode_str(value).decode_utf8_lossy().into_owned();
            match key {
                "after" => filter.after = value.parse().unwrap_or(0),
                "count" => filter.count = value.parse().unwrap_or(1),
                "path" => filter.path = Some(value),
                "ended" => filter.ended = Some(value),
                "id" => filter.id = Some(value),
                _ => {}
            }
        }
        filter
    }

    fn matches(&self, record: &Record) -> bool {
        let path = record.target.split_once('?').map_or(record.target.as_str(), |(path, _)| path);
        let id = record.headers.get("x-simulate-id").and_then(|id| id.to_str().ok());
        record.number > self.after
            && self.path.as_deref().is_none_or(|end| path.ends_with(end))
            && self
                .ended
                .as_deref()
                .is_none_or(|wanted| record.ended.is_some_and(|(_, ended)| is(ended, wanted)))
            && self.id.as_deref().is_none_or(|wanted| id == Some(wanted))
    }

    fn list(&self, shared: &Shared) -> Value {
        let records = shared.records.list();
        records.iter().filter(|record| self.matches(record)).map(|record| describe(record, shared)).collect()
    }
}

/// Whether `ended` matches a filter. A client that leaves closes or resets its connection depending on what it had not
/// read yet, so `peer-left` matches both.
fn is(ended: Ended, wanted: &str) -> bool {
    match wanted {
        "any" => true,
        "peer-left" => ended.peer_left(),
        name => ended.name() == name,
    }
}

/// A record as JSON. Times are in milliseconds since the simulator started.
fn describe(record: &Record, shared: &Shared) -> Value {
    let since =
        |then: std::time::Instant| then.saturating_duration_since(shared.started).as_secs_f64() * 1000.0;
    json!({
        "number": record.number,
        "connection": record.connection,
        "on_connection": record.on_connection,
        "protocol": format!("{:?}", record.protocol),
        "tls": record.tls.as_ref().map(|tls| json!({
            "server_name": tls.server_name,
            "version": tls.version.map(|version| format!("{version:?}")),
            "resumed": tls.resumed,
            "client_certificate": tls.client_certificate.is_some(),
        })),
        "head": String::from_utf8_lossy(&record.head),
        "method": record.method.as_str(),
        "target": record.target,
        "authority": record.authority,
        "headers": pairs(&record.headers),
        "body": String::from_utf8_lossy(&record.body),
        "body_length": record.body_length,
        "body_complete": record.body_complete,
        "body_sha256": hex(&record.body_sha256),
        "trailers": pairs(&record.trailers),
        "started_ms": since(record.started),
        "ended_ms": record.ended.map(|(when, _)| since(when)),
        "ended": record.ended.map(|(_, ended)| ended.name()),
        "sent": record.sent,
    })
}

fn pairs(headers: &http::HeaderMap) -> Vec<[String; 2]> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| [name.as_str().to_owned(), text(value)]).collect()
}
