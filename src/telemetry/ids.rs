//! The ids that connect a request, its access line and a trace. The ids are random, unique for any practical purpose, and
//! not secret.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

/// Limit in bytes of `x-trace-id`; longer values are ignored.
const LONGEST_TRACE_ID: usize = 64;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const X_TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-client-request-id");

const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Limit in bytes of a `tracestate` that is kept (Trace Context section 3.3.1.5: at least so many characters are propagated).
const LONGEST_STATE: usize = 512;

/// Limit in bytes of a client's own request id, OpenAI's for `x-client-request-id`.
const LONGEST_CALLER_ID: usize = 512;

/// A request id: `req_` and 32 lowercase hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId([u8; 36]);

impl RequestId {
    /// Generates a random id.
    pub fn random() -> Self {
        let mut id = *b"req_00000000000000000000000000000000";
        if let Some((_, digits)) = id.split_first_chunk_mut::<4>() {
            digits.copy_from_slice(&hex::<32>(fastrand::u128(..)));
        }
        Self(id)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        ascii(&self.0)
    }

    /// The value for `x-request-id`.
    pub fn header(&self) -> HeaderValue {
        value(&self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The position of an exchange in a distributed trace (W3C Trace Context).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace id sent upstream.
    trace: [u8; 32],
    /// The gateway's span, the parent of the upstream's span.
    span: [u8; 16],
    sampled: bool,
    /// The client's span, if this continues its trace.
    parent: Option<[u8; 16]>,
    /// Whether the client chose `trace` or `named`.
    given: bool,
    /// The client's name of the trace, if it cannot be sent as a trace id, or another one is.
    named: Option<Box<str>>,
    /// The `tracestate` that came with `parent`, if it is kept.
    state: Option<Box<str>>,
}

/// The ids that a client has given its request itself, for the log alone. At least one is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerIds {
    /// `x-request-id`
    pub request_id: Option<Box<str>>,
    /// `x-client-request-id` (OpenAI API reference, "Debugging requests").
    pub client_request_id: Option<Box<str>>,
}

impl CallerIds {
    /// The ids in a request's headers, boxed because few requests have any. An id that is longer than 512 bytes (OpenAI's limit), has other
    /// characters than visible ASCII, is there twice, or in which `is_secret` finds a key, is ignored.
    pub fn of(headers: &HeaderMap, is_secret: impl Fn(&[u8]) -> bool) -> Option<Box<Self>> {
        let id = |name: &HeaderName| {
            let id = only(headers, name)?;
            let is_id = (1..=LONGEST_CALLER_ID).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic);
            (is_id && !is_secret(id)).then(|| Box::from(ascii(id)))
        };
        let (request_id, client_request_id) = (id(&X_REQUEST_ID), id(&X_CLIENT_REQUEST_ID));
        let is_any = request_id.is_some() || client_request_id.is_some();
        is_any.then(|| Box::new(Self { request_id, client_request_id }))
    }
}

impl TraceContext {
    /// Continues the trace of a valid `traceparent`, with a new span. Otherwise begins a trace: under the client's `x-trace-id`
    /// if it is 32 hex digits, else under a random id. Any other valid `x-trace-id` (1 to 64 of `A-Z a-z 0-9 _ -`) is used only in
    /// the log.
    pub fn of(headers: &HeaderMap) -> Self {
        let name = only(headers, &X_TRACE_ID).filter(|name| is_trace_name(name));
        let parent = only(headers, &TRACEPARENT).and_then(Parent::parse);
        if let Some(Parent { trace, span: parent, sampled }) = parent {
            let named = name.filter(|name| !name.eq_ignore_ascii_case(&trace)).map(|name| ascii(name).into());
            return Self {
                trace,
                span: span(),
                sampled,
                parent: Some(parent),
                given: true,
                named,
                state: None,
            };
        }
        let given = name.and_then(|name| <[u8; 32]>::try_from(name.to_ascii_lowercase()).ok()).filter(is_id);
        let named = if given.is_some() { None } else { name.map(|name| ascii(name).into()) };
        Self {
            trace: given.unwrap_or_else(trace),
            span: span(),
            sampled: true,
            parent: None,
            given: name.is_some(),
            named,
            state: None,
        }
    }

    /// Begins a new trace, regardless of the request's headers.
    pub fn random() -> Self {
        let (trace, span) = (trace(), span());
        Self { trace, span, sampled: true, parent: None, given: false, named: None, state: None }
    }

    /// Keeps the client's `tracestate` for the spans of this trace, unless `is_secret` finds a key in it. List members beyond 512 bytes are left out,
    /// as section 3.3.1.5 of Trace Context allows. It is forwarded upstream as it came, whether it is kept or not.
    pub fn keep_state(&mut self, headers: &HeaderMap, is_secret: impl Fn(&[u8]) -> bool) {
        if self.parent.is_some() && headers.contains_key(TRACESTATE) {
            self.state = state(headers).filter(|state| !is_secret(state.as_bytes()));
        }
    }

    /// The client's `tracestate`, if it was kept.
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// The trace id for the log, which the client gets too: that of its `traceparent`, else its own name of the trace, else the one that is
    /// sent upstream.
    pub fn trace_id(&self) -> &str {
        self.named.as_deref().filter(|_| self.parent.is_none()).unwrap_or_else(|| ascii(&self.trace))
    }

    /// The client's own name of the trace, where [`TraceContext::trace_id`] is that of its `traceparent`.
    pub fn trace_name(&self) -> Option<&str> {
        self.named.as_deref().filter(|_| self.parent.is_some())
    }

    /// The trace id that is sent upstream, and under which the trace is exported.
    pub fn sent_trace_id(&self) -> &str {
        ascii(&self.trace)
    }

    /// Whether the client says that it records the trace itself.
    pub fn is_recorded_by_client(&self) -> bool {
        self.sampled && self.parent.is_some()
    }

    /// The trace id that is sent upstream, where [`TraceContext::trace_id`] is the client's own name of the trace.
    pub fn w3c_trace_id(&self) -> Option<&str> {
        (self.named.is_some() && self.parent.is_none()).then(|| ascii(&self.trace))
    }

    /// Whether `is_secret` finds a key in what the client chose.
    pub fn holds_secret(&self, is_secret: impl Fn(&[u8]) -> bool) -> bool {
        let in_name = self.named.as_deref().is_some_and(|name| is_secret(name.as_bytes()));
        let in_parent = self.parent.is_some_and(|parent| is_secret(&parent));
        in_name || in_parent || (self.given && is_secret(&self.trace))
    }

    /// The value for `x-trace-id`.
    pub fn header(&self) -> HeaderValue {
        value(self.trace_id().as_bytes())
    }

    /// Whether the client's `tracestate` may be forwarded: it belongs to the trace that it came with (section 3.3 of Trace Context:
    /// a `tracestate` without a valid `traceparent` is discarded).
    pub fn keeps_tracestate(&self) -> bool {
        self.parent.is_some()
    }

    /// Whether the client has not said that the trace is not recorded.
    pub fn is_sampled(&self) -> bool {
        self.sampled
    }

    /// The trace id as a number.
    pub fn trace_number(&self) -> u128 {
        number(&self.trace)
    }

    /// The gateway's span, as a number.
    pub fn span_number(&self) -> u64 {
        number(&self.span) as u64
    }

    /// The client's span of which the gateway's is a child, as a number.
    pub fn parent_number(&self) -> Option<u64> {
        self.parent.map(|parent| number(&parent) as u64)
    }

    /// The span of the attempt with this number, counted from 1. It follows from the gateway's span, so that nothing needs to remember it.
    pub fn attempt_span_number(&self, attempt: u32) -> u64 {
        // An odd factor maps different numbers to different spans; it is that of splitmix64.
        let mixed = self.span_number().wrapping_add(u64::from(attempt).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        if mixed == 0 { 1 } else { mixed }
    }

    /// The `traceparent` to send upstream, with the gateway's span as the parent.
    pub fn traceparent(&self) -> HeaderValue {
        self.traceparent_with(&self.span)
    }

    /// The same with the span of an attempt as the parent.
    pub fn traceparent_of(&self, attempt: u32) -> HeaderValue {
        self.traceparent_with(&hex(self.attempt_span_number(attempt).into()))
    }

    fn traceparent_with(&self, span: &[u8; 16]) -> HeaderValue {
        let mut parent = [b'-'; 55];
        let sampled = if self.sampled { b"01" } else { b"00" };
        for (at, part) in [(0, &b"00"[..]), (3, &self.trace), (36, span), (53, sampled)] {
            if let Some(place) = parent.get_mut(at..at + part.len()) {
                place.copy_from_slice(part);
            }
        }
        value(&parent)
    }
}

/// The fields used of a `traceparent`.
struct Parent {
    trace: [u8; 32],
    span: [u8; 16],
    sampled: bool,
}

impl Parent {
    /// Parses a `traceparent` (Trace Context section 3.2): `version "-" trace-id "-" parent-id "-" flags`, lowercase hex only. Version `ff`
    /// and ids of zeros are invalid. Version 00 has nothing after the flags. A higher version is read like 00 if the flags end the
    /// value or a dash follows.
    fn parse(text: &[u8]) -> Option<Self> {
        let (version, rest) = field::<2>(text)?;
        let (trace, rest) = field::<32>(rest.strip_prefix(b"-")?)?;
        let (span, rest) = field::<16>(rest.strip_prefix(b"-")?)?;
        let (flags, rest) = field::<2>(rest.strip_prefix(b"-")?)?;
        let ends = rest.is_empty() || (&version != b"00" && rest.starts_with(b"-"));
        let valid = ends && &version != b"ff" && is_id(&trace) && is_id(&span);
        let flags = u8::from_str_radix(ascii(&flags), 16).ok()?;
        valid.then_some(Self { trace, span, sampled: flags & 1 == 1 })
    }
}

/// Splits off the first `N` bytes, if they are lowercase hex.
fn field<const N: usize>(text: &[u8]) -> Option<([u8; N], &[u8])> {
    let (field, rest) = text.split_first_chunk::<N>()?;
    field.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).then_some((*field, rest))
}

/// Whether `id` is lowercase hex and not all zeros.
fn is_id<const N: usize>(id: &[u8; N]) -> bool {
    field::<N>(id).is_some() && id.iter().any(|&byte| byte != b'0')
}

fn is_trace_name(name: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=LONGEST_TRACE_ID).contains(&name.len()) && name.iter().all(allowed)
}

/// Returns the value of a header that was sent exactly once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h [u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then_some(value.as_bytes())
}

/// The list members of all `tracestate` headers, as one list of at most [`LONGEST_STATE`] bytes. `None` if there is none, or one with other characters
/// than visible ASCII.
fn state(headers: &HeaderMap) -> Option<Box<str>> {
    let mut list = String::new();
    for value in headers.get_all(TRACESTATE) {
        let members = value.to_str().ok()?.split(',').map(str::trim).filter(|member| !member.is_empty());
        for member in members {
            if list.len() + 1 + member.len() > LONGEST_STATE {
                return (!list.is_empty()).then(|| list.into());
            }
            if !list.is_empty() {
                list.push(',');
            }
            list.push_str(member);
        }
    }
    (!list.is_empty()).then(|| list.into())
}

fn trace() -> [u8; 32] {
    hex(fastrand::u128(1..))
}

fn span() -> [u8; 16] {
    hex(fastrand::u64(1..).into())
}

/// Returns the last `N` hex digits of `number`.
fn hex<const N: usize>(number: u128) -> [u8; N] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    std::array::from_fn(|place| {
        let digit = (number >> (4 * (N - 1 - place))) as usize % DIGITS.len();
        DIGITS[digit]
    })
}

/// The number that lowercase hex digits write, at most 32 of them.
fn number(digits: &[u8]) -> u128 {
    let digit = |digit: u8| if digit.is_ascii_digit() { digit - b'0' } else { (digit & 0x0f) + 9 };
    digits.iter().fold(0, |number, byte| number << 4 | u128::from(digit(*byte)))
}

/// Converts bytes that are ASCII by construction to text.
fn ascii(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// Converts an id to a header value. Ids contain only bytes that are valid in a header value.
fn value(id: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(id).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn of(pairs: &[(&'static str, &str)]) -> TraceContext {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        TraceContext::of(&headers)
    }

    fn sent(context: &TraceContext) -> String {
        context.traceparent().to_str().unwrap().to_owned()
    }

    #[test]
    fn request_ids_look_right_and_differ() {
        let (one, other) = (RequestId::random(), RequestId::random());
        assert_ne!(one, other);
        assert_eq!(one.as_str().len(), 36);
        assert!(
            one.as_str()
                .strip_prefix("req_")
                .unwrap()
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        );
        assert_eq!(one.header(), one.as_str());
    }

    #[test]
    fn ids_are_numbers_too_and_each_attempt_has_a_span_of_its_own() {
        let context = of(&[("traceparent", VALID)]);
        assert_eq!(context.trace_number(), 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!(context.parent_number(), Some(0x00f0_67aa_0ba9_02b7));
        let sent = |attempt| context.traceparent_of(attempt).to_str().unwrap()[36..52].to_owned();
        assert_eq!(u64::from_str_radix(&sent(1), 16), Ok(context.attempt_span_number(1)));
        let own = format!("{:016x}", context.span_number());
        assert!(sent(1) != sent(2) && sent(1) != own && sent(2) != own);
    }

    #[test]
    fn a_trace_is_continued_under_a_span_of_our_own() {
        let context = of(&[("traceparent", VALID), ("x-trace-id", "mine")]);
        assert!(context.keeps_tracestate());
        assert_eq!(
            (context.trace_id(), context.trace_name(), context.w3c_trace_id()),
            (TRACE, Some("mine"), None)
        );
        let same = of(&[("traceparent", VALID), ("x-trace-id", TRACE)]);
        assert_eq!((same.trace_id(), same.trace_name(), same.w3c_trace_id()), (TRACE, None, None));
        let sent = sent(&context);
        assert!(sent.starts_with(&format!("00-{TRACE}-")) && sent.ends_with("-01"), "{sent}");
        assert!(!sent.contains("00f067aa0ba902b7"), "{sent}");
        assert!(Parent::parse(sent.as_bytes()).is_some(), "{sent}");
    }

    #[test]
    fn a_tracestate_is_kept_with_its_parent_and_within_its_bound() {
        let kept = |parent: &str, states: &[&str]| {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", parent.parse().unwrap());
            for state in states {
                headers.append("tracestate", HeaderValue::from_bytes(state.as_bytes()).unwrap());
            }
            let mut context = TraceContext::of(&headers);
            context.keep_state(&headers, |text| text.ends_with(b"sk-1"));
            context.state().map(str::to_owned)
        };
        assert_eq!(kept(VALID, &["a=1 , b=2,", ",c=3"]).as_deref(), Some("a=1,b=2,c=3"));
        assert_eq!(kept("bad", &["a=1"]), None);
        for none in [&[][..], &[""], &[" , ,"], &["a=sk-1"], &["a=é"], &["a=1", "b=\u{80}"]] {
            assert_eq!(kept(VALID, none), None, "{none:?}");
        }
        let members: Vec<String> = (0..32).map(|number| format!("v{number:02}={}", "x".repeat(28))).collect();
        let long = kept(VALID, &[&members.join(",")]).unwrap();
        assert_eq!(long, members[..15].join(","));
        assert_eq!(kept(VALID, &[&format!("a={}", "x".repeat(600))]), None);
    }

    #[test]
    fn the_sampled_flag_is_kept_and_the_others_are_not() {
        for (flags, kept) in [("00", "00"), ("01", "01"), ("fe", "00"), ("ff", "01")] {
            let context = of(&[("traceparent", &format!("{}{flags}", &VALID[..53]))]);
            assert!(context.keeps_tracestate());
            assert_eq!(&sent(&context)[53..], kept);
        }
    }

    #[test]
    fn a_higher_version_is_read_as_far_as_we_know_it() {
        for valid in [format!("cc{}", &VALID[2..]), format!("01{}-more", &VALID[2..])] {
            assert_eq!(of(&[("traceparent", &valid)]).trace_id(), TRACE);
        }
    }

    #[test]
    fn invalid_parents_begin_a_new_trace() {
        let invalid = [
            String::new(),
            VALID[..54].to_owned(),
            format!("{VALID}-more"),
            format!("{VALID}0"),
            format!("cc{}more", &VALID[2..]),
            format!("ff{}", &VALID[2..]),
            VALID.to_uppercase(),
            VALID.replace(TRACE, &"0".repeat(32)),
            VALID.replace("00f067aa0ba902b7", &"0".repeat(16)),
            VALID.replace('-', "_"),
            VALID.replace("4bf9", "4bg9"),
            format!("{}0x", &VALID[..53]),
        ];
        for parent in &invalid {
            let context = of(&[("traceparent", parent)]);
            assert!(!context.keeps_tracestate(), "{parent}");
            assert_ne!(context.trace_id(), TRACE, "{parent}");
            assert!(Parent::parse(sent(&context).as_bytes()).is_some());
        }
        assert!(!of(&[("traceparent", VALID), ("traceparent", VALID)]).keeps_tracestate());
    }

    #[test]
    fn a_trace_may_be_named_by_the_caller() {
        let hex = of(&[("x-trace-id", &TRACE.to_uppercase())]);
        assert_eq!(hex.trace_id(), TRACE);
        assert!(sent(&hex).contains(TRACE) && !hex.keeps_tracestate());

        let named = of(&[("x-trace-id", "Job_7-a"), ("traceparent", "bad")]);
        assert_eq!((named.trace_id(), named.trace_name()), ("Job_7-a", None));
        assert!(sent(&named).contains(named.w3c_trace_id().unwrap()));
        assert!(Parent::parse(sent(&named).as_bytes()).is_some());
        assert_eq!(of(&[("x-trace-id", &"0".repeat(32))]).trace_id(), "0".repeat(32));

        for refused in ["", "with space", "semi;colon", &"a".repeat(65)] {
            assert_ne!(of(&[("x-trace-id", refused)]).trace_id(), refused);
        }
    }

    #[test]
    fn a_clients_own_ids_are_kept_if_they_are_ids_and_no_keys() {
        let ids = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
            }
            let ids = CallerIds::of(&headers, |id| id.starts_with(b"sk-"))?;
            Some((ids.request_id.map(String::from), ids.client_request_id.map(String::from)))
        };
        let some = |id: &str| Some(id.to_owned());
        assert_eq!(
            ids(&[("x-request-id", "a:1/b"), ("x-client-request-id", "c")]),
            Some((some("a:1/b"), some("c")))
        );
        assert_eq!(ids(&[("x-client-request-id", "c"), ("x-request-id", "sk-1")]), Some((None, some("c"))));
        let long = "a".repeat(513);
        for ignored in ["", "a b", "sk-1", &long] {
            assert_eq!(ids(&[("x-request-id", ignored)]), None, "{ignored}");
        }
        assert_eq!(ids(&[("x-request-id", "a"), ("x-request-id", "a")]), None);
        assert_eq!(ids(&[("x-request-id", &long[1..])]), Some((some(&long[1..]), None)));
    }

    proptest! {
        #[test]
        fn whatever_comes_what_is_sent_is_valid(parent in "[0-9a-f-]{0,60}|[ -~]{0,60}", name in "[ -~]{0,70}") {
            let context = of(&[("traceparent", &parent), ("x-trace-id", &name)]);
            prop_assert!(Parent::parse(sent(&context).as_bytes()).is_some());
            prop_assert!(!context.trace_id().is_empty());
        }

        #[test]
        fn valid_parents_are_continued(trace in "[0-9a-f]{31}[1-9a-f]", span in "[1-9a-f][0-9a-f]{15}", flags in "[0-9a-f]{2}") {
            let context = of(&[("traceparent", &format!("00-{trace}-{span}-{flags}"))]);
            prop_assert!(context.keeps_tracestate());
            prop_assert_eq!(context.trace_id(), &trace);
        }
    }
}
