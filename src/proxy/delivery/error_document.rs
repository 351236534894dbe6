//! Holds a JSON document that came where a stream was requested, until it is known whether it is an error: some providers report a failure that
//! way, with a status of 200. A server that does not know streams answers with a document, too.

use std::time::Instant;

use bytes::Bytes;
use http_body::Body;

use super::{
    HoldBounds, HoldError, HoldTimeouts, PendingStream,
    commit::{FRAME, HeldError, LONGEST, next_within},
    probe::ERROR_KEPT,
};
use crate::{
    openai::{Endpoint, NoAnswer, check_answer, is_flat_error},
    proxy::buffered::Buffered,
};

/// Reads the body of `pending` and holds it until its end, or until it is longer than an error is, takes longer than the start of a stream may,
/// or has no room. It then goes to the client as it came.
///
/// # Errors
/// The document is an error, or ended early.
pub(super) async fn hold_error_document(
    pending: &mut PendingStream,
    clocks: HoldTimeouts,
    endpoint: Endpoint,
    bounds: &HoldBounds<'_>,
) -> Result<(), HoldError> {
    let Some(body) = &mut pending.body else { return Ok(()) };
    if body.size_hint().lower() > ERROR_KEPT as u64 {
        return Ok(());
    }
    let HoldTimeouts { start, timeouts } = clocks;
    // A document is of use as a whole only, so a late one is not cut.
    let until = start + timeouts.first_token.unwrap_or(LONGEST).min(LONGEST);
    let counted = pending.counted.get_or_insert_with(|| Buffered::new(bounds.gateway));
    let mut document = Vec::new();
    let mut frames = 0;
    while let Some(frame) = next_until(until, next_within(body, timeouts.idle, None)).await {
        let Some(frame) = frame? else {
            if !is_error(endpoint, &document) {
                return Ok(());
            }
            let counted = std::mem::replace(counted, Buffered::new(bounds.gateway));
            return Err(HoldError::Upstream(HeldError::new(document, counted)));
        };
        frames += 1;
        document.extend_from_slice(frame.data_ref().map_or(&[][..], Bytes::as_ref));
        pending.held.push_back(frame);
        // The bytes are here twice.
        let taken = 2 * document.len() + frames * FRAME;
        let has_room = counted.grow_to(taken as u64, bounds.buffered).is_ok();
        if !has_room || document.len() > ERROR_KEPT || frames > MOST_FRAMES || !may_be_object(&document) {
            return Ok(());
        }
    }
    Ok(())
}

/// The most frames that are held; an error comes in one or two.
const MOST_FRAMES: usize = 1_024;

/// The result of `next` if it is there in time.
async fn next_until<T>(until: Instant, next: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout_at(until.into(), next).await.ok()
}

/// Whether `beginning` may be that of an object.
fn may_be_object(beginning: &[u8]) -> bool {
    beginning.iter().find(|byte| !byte.is_ascii_whitespace()).is_none_or(|first| *first == b'{')
}

fn is_error(endpoint: Endpoint, document: &[u8]) -> bool {
    check_answer(endpoint, document) == Err(NoAnswer::Error) || is_flat_error(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_from_an_answer() {
        let chat = Endpoint::ChatCompletions;
        for error in [
            r#"{"code":"The service is currently unavailable","error":"Timed out waiting for first token"}"#,
            r#"{"error":{"message":"m","code":502}}"#,
            r#"{"object":"error","message":"m","type":"t","code":"1000"}"#,
        ] {
            assert!(is_error(chat, error.as_bytes()), "{error}");
        }
        for other in
            [r#"{"choices":[{}],"error":null}"#, r#"{"choices":[]}"#, "{}", "null", "", "{\"error\":1"]
        {
            assert!(!is_error(chat, other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn only_what_begins_as_an_object_is_held() {
        assert!(may_be_object(b"") && may_be_object(b"\n\n ") && may_be_object(b"\n{"));
        assert!(!may_be_object(b"data: {") && !may_be_object(b"["));
    }
}
