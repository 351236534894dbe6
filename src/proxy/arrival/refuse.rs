//! Checks that need only the request's head.

use http::{HeaderMap, Method, header, request};

use crate::fault::{Fault, Reason};

/// Refuses requests that a gateway for HTTP APIs does not serve.
pub(super) fn unsupported(head: &request::Parts) -> Result<(), Fault> {
    match head.method {
        Method::CONNECT => return Err(Fault::MethodUnsupported("CONNECT")),
        Method::TRACE => return Err(Fault::MethodUnsupported("TRACE")),
        _ if head.uri.path() == "*" => return Err(Fault::MethodUnsupported("OPTIONS *")),
        _ => {}
    }
    // `h2c` may be ignored (RFC 9113 §3.1 has withdrawn it; curl still offers it), anything else was meant to change the protocol.
    let upgrades = head.headers.get_all(header::UPGRADE).iter();
    let offered = upgrades.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let mut wanted =
        offered.map(<[u8]>::trim_ascii).filter(|protocol| !protocol.eq_ignore_ascii_case(b"h2c"));
    let Some(first) = wanted.next() else { return Ok(()) };
    let is_websocket =
        std::iter::once(first).chain(wanted).any(|protocol| protocol.eq_ignore_ascii_case(b"websocket"));
    Err(if is_websocket { Fault::WebSocketUnavailable } else { Fault::UpgradeUnsupported })
}

/// Refuses requests that another program may understand differently. hyper accepts every list of transfer codings that ends in `chunked` and undoes
/// that one alone, so any other coding would be lost with its header (RFC 9112 §6.1). Of two content types one reader takes the first and
/// another the last (RFC 9110 §5.3).
pub(super) fn ambiguous(headers: &HeaderMap) -> Result<(), Fault> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let chunked = codings.next().is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    if !chunked || codings.next().is_some() {
        return Err(Fault::BadRequest(Reason::TransferCoding));
    }
    if headers.get_all(header::CONTENT_TYPE).iter().nth(1).is_some() {
        return Err(Fault::BadRequest(Reason::ContentTypeRepeated));
    }
    Ok(())
}
