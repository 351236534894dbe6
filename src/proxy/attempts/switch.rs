//! A response of 101 to a request for a WebSocket connection.

use std::sync::Arc;

use http::{Response, StatusCode, header};

use super::{candidate::Candidate, retry::AttemptError};
use crate::{
    exchange::Exchange,
    fault::Fault,
    policy,
    proxy::{
        arrival::Handshake,
        delivery::{ClientResponse, SwitchedUpstream},
    },
    snapshot::Route,
    upstream::{self, Answer},
};

/// Makes the client's response of 101 from the upstream's, and takes the upstream's connection.
///
/// # Errors
/// The handshake is not complete, or the connection was lost.
pub(super) async fn switched(
    exchange: &mut Exchange,
    mut answer: Answer,
    handshake: &Handshake,
    route: &Arc<Route>,
    candidate: &Candidate,
) -> Result<ClientResponse, AttemptError> {
    handshake.check_answer(answer.headers()).map_err(AttemptError::Fault)?;
    let headers = std::mem::take(answer.headers_mut());
    let taken = upstream::upgrade(answer.into_body());
    let io = taken.map_err(|error| AttemptError::Fault(Fault::NoAnswer(error.into())))?;
    let (mut head, ()) = Response::new(()).into_parts();
    head.status = StatusCode::SWITCHING_PROTOCOLS;
    head.version = exchange.record.version;
    head.headers = headers;
    head.headers.remove(header::CONTENT_LENGTH);
    let id = policy::to_caller(&mut head.headers, &route.response_headers, candidate.secrets(), None);
    exchange.record.upstream_request_id = id.and_then(|id| id.to_str().map(str::to_owned).ok());
    handshake.to_client(&mut head.headers);
    Ok(ClientResponse::switched(
        head,
        SwitchedUpstream { io, permit: None, ids: None, idle: candidate.timeouts.websocket_idle },
    ))
}
