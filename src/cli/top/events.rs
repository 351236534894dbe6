//! The events of the live page, as a client of the admin listener gets them.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, task::spawn_local, time::timeout};

/// The events that are shown. A gateway that does not know the query sends all of them.
const EVENTS: &str = "/live/events?topics=state";

/// How long the listener may take to answer, and how long it may be silent: it sends something every 5 s.
const PATIENCE: Duration = Duration::from_secs(15);

/// Limit in bytes of one message.
const LONGEST: usize = 8 << 20;

/// The events, and the state that follows from them.
#[derive(Debug)]
pub(super) struct Events {
    response: Response<Incoming>,
    unread: Vec<u8>,
    state: Value,
    /// The gateway's clock in milliseconds, and when it had that value.
    clock: (i64, Instant),
}

/// Why there are no events.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreachable {
    #[error("admin listener {0} does not answer")]
    Connect(SocketAddr, #[source] std::io::Error),
    #[error("admin listener {0} does not answer")]
    Http(SocketAddr, #[source] hyper::Error),
    #[error("admin listener {0} does not answer in time")]
    Late(SocketAddr),
    #[error("admin listener {0} requires its token: set SLUICEGATE_ADMIN_TOKEN")]
    Token(SocketAddr),
    #[error("admin listener {0} answers {1}: it may be an older version, which has no live page")]
    Refused(SocketAddr, StatusCode),
    #[error("the connection to the admin listener ended")]
    Ended,
    #[error("what the admin listener sends cannot be read")]
    Unreadable,
}

impl Events {
    /// Asks the admin listener at `address` for its events.
    ///
    /// # Errors
    /// [`Unreachable`]
    pub(super) async fn connect(address: SocketAddr, token: Option<&str>) -> Result<Self, Unreachable> {
        let asked = timeout(PATIENCE, ask(address, token));
        let response = asked.await.map_err(|_| Unreachable::Late(address))??;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED => return Err(Unreachable::Token(address)),
            status => return Err(Unreachable::Refused(address, status)),
        }
        Ok(Self { response, unread: Vec::new(), state: Value::Null, clock: (0, Instant::now()) })
    }

    /// The state as it is known.
    pub(super) fn state(&self) -> &Value {
        &self.state
    }

    /// The gateway's clock, in milliseconds.
    pub(super) fn now(&self) -> i64 {
        let passed = i64::try_from(self.clock.1.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.clock.0.saturating_add(passed)
    }

    /// Waits until the state has changed, or was heard of.
    ///
    /// # Errors
    /// The connection ended, is silent, or sends something else.
    pub(super) async fn next(&mut self) -> Result<(), Unreachable> {
        loop {
            while let Some(end) = memchr::memmem::find(&self.unread, b"\n\n") {
                let message: Vec<u8> = self.unread.drain(..end + 2).collect();
                if self.take(&message)? {
                    return Ok(());
                }
            }
            if self.unread.len() > LONGEST {
                return Err(Unreachable::Unreadable);
            }
            let frame = timeout(PATIENCE, self.response.body_mut().frame()).await;
            let frame = frame.ok().flatten().and_then(Result::ok).ok_or(Unreachable::Ended)?;
            self.unread.extend_from_slice(frame.data_ref().map(|data| &**data).unwrap_or_default());
        }
    }

    /// Takes a message. Returns whether it was about the state.
    fn take(&mut self, message: &[u8]) -> Result<bool, Unreachable> {
        let text = std::str::from_utf8(message).map_err(|_| Unreachable::Unreadable)?;
        let member = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let (Some(event), Some(data)) = (member("event"), member("data")) else { return Ok(false) };
        if !matches!(event, "state" | "delta") {
            return Ok(false);
        }
        let mut data: Value = serde_json::from_str(data).map_err(|_| Unreachable::Unreadable)?;
        match event {
            "state" => self.state = data["state"].take(),
            _ => merge(&mut self.state, data["patch"].take()),
        }
        self.clock = (data["now"].as_i64().unwrap_or_default(), Instant::now());
        Ok(true)
    }
}

/// Applies a JSON merge patch (RFC 7396).
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(own) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            own.remove(&name);
        } else {
            merge(own.entry(name).or_insert(Value::Null), value);
        }
    }
}

async fn ask(address: SocketAddr, token: Option<&str>) -> Result<Response<Incoming>, Unreachable> {
    let stream = TcpStream::connect(address).await.map_err(|error| Unreachable::Connect(address, error))?;
    let refused = |error| Unreachable::Http(address, error);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(refused)?;
    spawn_local(async move { drop(connection.await) });
    let mut request = Request::get(EVENTS).header(header::HOST, address.to_string());
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|_| Unreachable::Token(address))?;
    sender.send_request(request).await.map_err(refused)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn patches_change_the_state() {
        let mut state = json!({ "a": { "b": 1, "c": [1] }, "d": 2 });
        merge(&mut state, json!({ "a": { "b": null, "c": [2], "e": { "f": true } } }));
        assert_eq!(state, json!({ "a": { "c": [2], "e": { "f": true } }, "d": 2 }));
    }
}
