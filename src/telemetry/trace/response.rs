//! What a collector's response means.
//!
//! Source: OpenTelemetry Protocol specification, "OTLP/HTTP Response" and "OTLP/HTTP Throttling".

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header};
use prost::{
    bytes::Buf,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};

/// The longest `retry-after` that is waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// What is done after a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// The collector has taken the data, except so many spans or data points.
    Taken {
        /// Number of spans or data points that it has rejected.
        rejected: u64,
    },
    /// The same request may succeed later, after this time if the collector has named one.
    Later(Option<Duration>),
    /// The same request will fail again.
    Refused,
}

impl Receipt {
    /// The meaning of a response whose head says this.
    pub fn of(status: StatusCode, headers: &HeaderMap) -> Self {
        if status.is_success() {
            return Self::Taken { rejected: 0 };
        }
        match status.as_u16() {
            429 | 502 | 503 | 504 => Self::Later(retry_after(headers)),
            // Redirects too: the headers may hold a key, which another host must not get.
            _ => Self::Refused,
        }
    }

    /// The number of spans or data points that a response of success says were rejected. A body that is no such message says nothing.
    #[must_use]
    pub fn with_body(self, body: &[u8]) -> Self {
        match self {
            Self::Taken { .. } => Self::Taken { rejected: rejected(body).unwrap_or(0) },
            other => other,
        }
    }
}

/// Seconds or a date (RFC 9110 section 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = httpdate::parse_http_date(text).ok()?;
            date.duration_since(SystemTime::now()).unwrap_or_default()
        }
    };
    Some(wait.min(LONGEST_WAIT))
}

/// `partial_success.rejected_spans` of an `ExportTraceServiceResponse`, or what is in its place for metrics: field 1 of field 1.
fn rejected(body: &[u8]) -> Option<u64> {
    let mut partial = length_delimited(body, 1)?;
    while partial.has_remaining() {
        let (tag, wire) = decode_key(&mut partial).ok()?;
        if tag == 1 && wire == WireType::Varint {
            let count = decode_varint(&mut partial).ok()?;
            // A negative number is nonsense.
            return i64::try_from(count).ok().map(|_| count);
        }
        skip_field(wire, tag, &mut partial, DecodeContext::default()).ok()?;
    }
    None
}

/// The content of the first field of bytes with this tag.
fn length_delimited(mut message: &[u8], wanted: u32) -> Option<&[u8]> {
    while message.has_remaining() {
        let (tag, wire) = decode_key(&mut message).ok()?;
        if tag == wanted && wire == WireType::LengthDelimited {
            let length = usize::try_from(decode_varint(&mut message).ok()?).ok()?;
            return message.get(..length);
        }
        skip_field(wire, tag, &mut message, DecodeContext::default()).ok()?;
    }
    None
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn of(status: u16, retry_after: Option<&str>) -> Receipt {
        let mut headers = HeaderMap::new();
        if let Some(text) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_str(text).unwrap());
        }
        Receipt::of(StatusCode::from_u16(status).unwrap(), &headers)
    }

    #[test]
    fn few_statuses_are_worth_another_try() {
        for status in [429, 502, 503, 504] {
            assert_eq!(of(status, None), Receipt::Later(None));
            assert_eq!(of(status, Some("7")), Receipt::Later(Some(Duration::from_secs(7))));
        }
        for status in [301, 307, 308, 400, 401, 403, 404, 413, 500, 501] {
            assert_eq!(of(status, Some("7")), Receipt::Refused, "{status}");
        }
        assert_eq!(of(503, Some("999999999")), Receipt::Later(Some(LONGEST_WAIT)));
        assert_eq!(of(503, Some("soon")), Receipt::Later(None));
        assert_eq!(of(503, Some("Sun, 06 Nov 1994 08:49:37 GMT")), Receipt::Later(Some(Duration::ZERO)));
    }

    #[test]
    fn a_partial_success_is_read() {
        let taken = |body: &[u8]| of(200, None).with_body(body);
        // partial_success { rejected_spans: 300, error_message: "no" }, behind an unknown field.
        let body = [0x78, 1, 0x0a, 7, 0x08, 0xac, 0x02, 0x12, 2, b'n', b'o'];
        assert_eq!(taken(&body), Receipt::Taken { rejected: 300 });
        let negative = [0x0a, 11, 0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        for nothing in [&b""[..], b"<html>", b"\x0a\xff", &[0x0a, 0], &negative] {
            assert_eq!(taken(nothing), Receipt::Taken { rejected: 0 }, "{nothing:?}");
        }
    }

    proptest! {
        #[test]
        fn no_body_is_a_panic(body in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = of(200, None).with_body(&body);
        }
    }
}
