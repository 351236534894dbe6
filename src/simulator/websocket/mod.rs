//! An imitation of OpenAI's WebSocket APIs: Realtime (`…/realtime`), and Responses in WebSocket mode (`…/responses`).
//!
//! | file | what it does |
//! |---|---|
//! | `peer` | frames: messages of the client, events of the server, cuts |
//! | `api` | what a session needs of an API |
//! | `realtime` with `turn`, `responses` | the two APIs |
//! | `session` | drives one connection |

mod api;
mod peer;
mod realtime;
mod responses;
mod session;
mod turn;

use std::{fmt::Write as _, sync::Arc};

use bytes::BytesMut;
use http::{Method, header};

use super::{
    generate::provider_headers,
    plan::Plan,
    request::{Request, RequestOrigin},
    respond::{invalid_key, unix_seconds},
    shared::Shared,
    socket::Socket,
};
use crate::websocket::handshake;
use api::Setting;
use peer::Peer;
use realtime::Realtime;
use responses::Responses;
use session::Session;

/// The subprotocol that is selected if the client offers it.
const REALTIME: &[u8] = b"realtime";

/// A handshake that is accepted.
pub(super) struct Opening {
    request: Request,
    is_realtime: bool,
    plan: Plan,
}

impl Opening {
    /// A handshake to be accepted. Gives the request back if it is none, or gets an ordinary response: that of a script, or an error.
    pub(super) fn of(request: Request, shared: &Shared) -> Result<Self, Box<Request>> {
        let is_upgrade = request
            .header(header::UPGRADE.as_str())
            .is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket"));
        if request.method != Method::GET || !is_upgrade || shared.has_script(request.header("x-simulate-id"))
        {
            return Err(request.into());
        }
        let path = request.path();
        let is_realtime = path.ends_with("/realtime") || path.ends_with("/realtime/translations");
        let is_key_wrong = shared
            .require_key
            .as_deref()
            .is_some_and(|key| !offers_key(&request, key) && invalid_key(&request, key).is_some());
        if !(is_realtime || path.ends_with("/responses")) || is_key_wrong {
            return Err(request.into());
        }
        let mut plan = Plan::default();
        let is_read = plan.read_header(request.header("x-simulate").unwrap_or_default()).is_ok();
        if !is_read || plan.error.is_some() || plan.status.is_some() {
            return Err(request.into());
        }
        Ok(Self { request, is_realtime, plan })
    }

    /// Accepts the handshake, and speaks the API until the connection ends. `early` are the bytes that were read behind the request.
    pub(super) async fn serve(
        self,
        socket: Socket,
        early: BytesMut,
        origin: &RequestOrigin,
        shared: &Arc<Shared>,
    ) {
        let Self { request, is_realtime, plan } = self;
        let query = request.target.split_once('?').map(|(_, query)| query.to_owned()).unwrap_or_default();
        let expires = plan.expires;
        let head = accepted(&request);
        let mut record = shared.records.open(|number| request.into_record(number, origin));
        let number = record.number;
        let setting = Setting { number, created: unix_seconds(), plan: plan.clone(), pace: shared.pace };
        let mut peer = Peer::new(socket, early, &plan, shared);
        let ended = match peer.begin(with_headers(head, number)).await {
            Err(ended) => ended,
            Ok(()) if is_realtime => {
                Session::new(&mut peer, Realtime::new(setting, &query), expires).run().await
            }
            Ok(()) => Session::new(&mut peer, Responses::new(setting), expires).run().await,
        };
        record.body(peer.received());
        record.end(ended, peer.sent());
    }
}

/// Whether a subprotocol item has the key, as browsers send it.
fn offers_key(request: &Request, key: &str) -> bool {
    offered(request).filter_map(handshake::key_item).any(|item| item == key.as_bytes())
}

fn offered(request: &Request) -> impl Iterator<Item = &[u8]> {
    let lines = request.headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    lines.flat_map(|line| handshake::items(line.as_bytes()))
}

/// The beginning of the response of 101.
fn accepted(request: &Request) -> String {
    let key = request.header(header::SEC_WEBSOCKET_KEY.as_str()).unwrap_or_default();
    let accept = handshake::accept(key.as_bytes());
    let mut head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {accept}\r\n"
    );
    if offered(request).any(|item| item == REALTIME) {
        head.push_str("sec-websocket-protocol: realtime\r\n");
    }
    head
}

/// `head` with the headers of a real provider, and its end.
fn with_headers(mut head: String, number: u64) -> String {
    for (name, value) in &provider_headers(number) {
        // Writing into memory cannot fail; all values are ASCII.
        let _ = write!(head, "{name}: {}\r\n", value.to_str().unwrap_or_default());
    }
    head.push_str("\r\n");
    head
}
