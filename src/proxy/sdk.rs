//! Headers about retries that the official SDKs send and obey.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::fault::{SHOULD_RETRY, would_be_retried};

/// An SDK's own count of its retries (openai-python `_base_client.py`, openai-node `client.ts`).
const RETRY_COUNT: HeaderName = HeaderName::from_static("x-stainless-retry-count");

/// How often the SDK has sent the same request before, according to its headers.
pub(super) fn retries_so_far(headers: &HeaderMap) -> u32 {
    let count = headers.get(RETRY_COUNT).and_then(|count| count.to_str().ok());
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// Tells SDKs not to retry a response that they would retry by its status: the gateway has tried everything already.
pub(super) fn forbid_retry(status: StatusCode, headers: &mut HeaderMap) {
    if would_be_retried(status) {
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
}
