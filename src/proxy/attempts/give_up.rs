//! What the client gets when nothing is left to try.

use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode, header};

use super::{
    available::{NextAvailable, Unavailable},
    retry::AttemptError,
};
use crate::{
    exchange::Exchange,
    fault::{Fault, retry_seconds},
    proxy::delivery::ClientResponse,
};

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// The client's response if nothing is left to try: that of the last attempt, marked so that SDKs do not retry what the gateway has retried.
pub(super) fn give_up(
    exchange: &Exchange,
    last: Option<AttemptError>,
    available: Option<NextAvailable>,
) -> Result<ClientResponse, Fault> {
    let response = match last {
        Some(AttemptError::Fault(fault)) => return Err(fault),
        Some(AttemptError::Upstream(error)) => with_wait(error.response?, available),
        None => return Err(no_candidate(available)),
    };
    let was_retried = exchange.record.attempts.count() > 1;
    Ok(if was_retried { response.not_to_be_retried() } else { response })
}

/// The response with a `retry-after` for the key that is `available` next: since the upstream sent it, other keys may have become free, or more
/// may have gone into cooldown.
fn with_wait(mut response: ClientResponse, available: Option<NextAvailable>) -> ClientResponse {
    let Some(next) = available.filter(NextAvailable::is_a_key) else { return response };
    if response.status() == StatusCode::TOO_MANY_REQUESTS {
        let headers = response.headers_mut();
        headers.remove(RETRY_AFTER_MS);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_seconds(next.span)));
    }
    response
}

/// The fault of a request for which no candidate was available.
fn no_candidate(available: Option<NextAvailable>) -> Fault {
    let Some(NextAvailable { span, why, .. }) = available else { return Fault::Unavailable(Duration::ZERO) };
    match why {
        Unavailable::Limited => Fault::RateLimited(span),
        Unavailable::Refused => {
            Fault::KeyUnusable("every key is refused or has no credit, and all are in cooldown".into())
        }
        Unavailable::Full => Fault::Full(span),
        Unavailable::Circuit => Fault::Unavailable(span),
    }
}
