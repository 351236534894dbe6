//! Encodes the spans of one exchange: a SERVER span for the exchange, and below it a CLIENT span for each attempt.
//!
//! Attributes of generative AI are on the attempts alone. A backend takes each span with a model for a call of it, and would count a request twice otherwise.
//!
//! Source: OpenTelemetry semantic conventions 1.41, "HTTP spans", "Recording errors", "Generative client AI spans".

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{
    AttemptView, Style, TraceView, preset,
    proto::{Attributes, bytes, field_length, fixed32, fixed64, message, varint},
    view::cut,
};
use crate::money::Cost;

/// Field numbers of `Span`, `Event` and `Status`, and of `spans` in `ScopeSpans`.
mod field {
    pub(super) const SPANS: u32 = 2;
    pub(super) const TRACE_ID: u32 = 1;
    pub(super) const SPAN_ID: u32 = 2;
    pub(super) const TRACE_STATE: u32 = 3;
    pub(super) const PARENT_SPAN_ID: u32 = 4;
    pub(super) const NAME: u32 = 5;
    pub(super) const KIND: u32 = 6;
    pub(super) const START: u32 = 7;
    pub(super) const END: u32 = 8;
    pub(super) const ATTRIBUTES: u32 = 9;
    pub(super) const EVENTS: u32 = 11;
    pub(super) const STATUS: u32 = 15;
    pub(super) const FLAGS: u32 = 16;
    pub(super) const EVENT_TIME: u32 = 1;
    pub(super) const EVENT_NAME: u32 = 2;
    pub(super) const STATUS_CODE: u32 = 3;
}

/// `SPAN_KIND_SERVER` and `SPAN_KIND_CLIENT`.
const SERVER: u64 = 2;
const CLIENT: u64 = 3;

/// `STATUS_CODE_ERROR`
const ERROR: u64 = 2;

/// `flags`: the trace is sampled, and it is known whether the parent is of another process (trace.proto, `SpanFlags`).
const SAMPLED: u32 = 0x01;
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// The cost of a call. The conventions have no name for it (1.41); this one is read by Langfuse (docs, "OpenTelemetry (OTEL) for LLM Observability",
/// property mapping) and others. They take it for US dollars, so the currency is beside it on the request's span.
const USAGE_COST: &str = "gen_ai.usage.cost";

/// What a method that HTTP does not define is called. (Its name could be anything.)
const OTHER_METHOD: &str = "_OTHER";

/// The buffers of one thread, used again for each exchange.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    /// All spans of the exchange, as fields.
    spans: Vec<u8>,
    /// The span that is being written.
    span: Vec<u8>,
    /// The name of the span that is being written.
    name: String,
}

/// Writes all spans and returns how many they are.
pub(super) fn write<'a>(
    style: Style,
    view: &TraceView<'a>,
    attempts: impl Iterator<Item = AttemptView<'a>>,
    buffers: &mut Buffers,
) -> u64 {
    buffers.spans.clear();
    buffers.exchange(style, view);
    let mut spans = 1;
    for attempt in attempts {
        buffers.attempt(style, view, &attempt);
        spans += 1;
    }
    spans
}

impl Buffers {
    /// What was written.
    pub(super) fn spans(&self) -> &[u8] {
        &self.spans
    }

    fn exchange(&mut self, style: Style, view: &TraceView<'_>) {
        let Self { span, name, .. } = self;
        span.clear();
        name.clear();
        name.push_str(span_method(view.method));
        if let Some(path) = view.route_path {
            name.push(' ');
            name.push_str(path);
        }
        let parent = view.trace.parent_number();
        let remote = if parent.is_some() { IS_REMOTE } else { 0 };
        let ids = Ids { span: view.trace.span_number(), parent, flags: SAMPLED | HAS_IS_REMOTE | remote };
        begin(span, view, ids, name, SERVER);
        let start = nanos(view.time);
        fixed64(span, field::START, start);
        fixed64(span, field::END, start + span_nanos(view.total));
        let mut attributes = Attributes { out: span, tag: field::ATTRIBUTES };
        of_exchange(&mut attributes, view);
        preset::of_exchange(&mut attributes, style.preset, view);
        if view.is_error {
            failed(span);
        }
        self.finish();
    }

    fn attempt(&mut self, style: Style, view: &TraceView<'_>, attempt: &AttemptView<'_>) {
        let Self { span, name, .. } = self;
        span.clear();
        name.clear();
        name.push_str(view.operation.unwrap_or_else(|| span_method(view.method)));
        let model = attempt.model.or(view.model).map(cut).filter(|_| view.operation.is_some());
        if let Some(model) = model {
            name.push(' ');
            name.push_str(model);
        }
        let ids = Ids {
            span: view.trace.attempt_span_number(attempt.number),
            parent: Some(view.trace.span_number()),
            flags: SAMPLED | HAS_IS_REMOTE,
        };
        begin(span, view, ids, name, CLIENT);
        let start = nanos(view.time) + span_nanos(attempt.start);
        fixed64(span, field::START, start);
        fixed64(span, field::END, start + span_nanos(attempt.total));
        let mut attributes = Attributes { out: span, tag: field::ATTRIBUTES };
        of_attempt(&mut attributes, view, attempt);
        if view.operation.is_some() {
            gen_ai(&mut attributes, style, view, attempt);
            preset::of_attempt(&mut attributes, style.preset, view, attempt);
        }
        events(span, view, attempt, start);
        if attempt.error.is_some() {
            failed(span);
        }
        self.finish();
    }

    /// Adds the finished span to the others.
    fn finish(&mut self) {
        bytes(&mut self.spans, field::SPANS, &self.span);
    }
}

/// The ids of a span.
#[derive(Clone, Copy)]
struct Ids {
    span: u64,
    parent: Option<u64>,
    flags: u32,
}

fn begin(span: &mut Vec<u8>, view: &TraceView<'_>, ids: Ids, name: &str, kind: u64) {
    bytes(span, field::TRACE_ID, &view.trace.trace_number().to_be_bytes());
    bytes(span, field::SPAN_ID, &ids.span.to_be_bytes());
    if let Some(state) = view.trace.state() {
        bytes(span, field::TRACE_STATE, state.as_bytes());
    }
    if let Some(parent) = ids.parent {
        bytes(span, field::PARENT_SPAN_ID, &parent.to_be_bytes());
    }
    fixed32(span, field::FLAGS, ids.flags);
    bytes(span, field::NAME, name.as_bytes());
    varint(span, field::KIND, kind);
}

fn of_exchange(attributes: &mut Attributes<'_>, view: &TraceView<'_>) {
    method(attributes, view.method);
    attributes.maybe_text("http.route", view.route_path);
    attributes.text("url.path", view.path);
    attributes.text("url.scheme", if view.tls { "https" } else { "http" });
    attributes.text("network.protocol.version", view.version);
    let mut address = [0; 45];
    attributes.text("client.address", written(view.client, &mut address));
    attributes.maybe_number("http.response.status_code", view.status.map(u64::from));
    attributes.maybe_text("error.type", view.error.map(cut));
    attributes.text("sluicegate.request_id", view.request_id);
    attributes.maybe_text("sluicegate.route", view.route);
    attributes.maybe_text("sluicegate.caller", view.caller);
    attributes.maybe_text("sluicegate.group", view.group);
    for (name, value) in view.tags {
        attributes.text_below("sluicegate.tags.", name, value);
    }
    attributes.text("sluicegate.who", view.who);
    attributes.text("sluicegate.phase", view.phase);
    attributes.number("sluicegate.attempts", view.attempts.into());
    attributes.maybe_text("sluicegate.limit", view.limit);
    if let Some(waited) = view.queue {
        attributes.fraction("sluicegate.queue.duration", waited.as_secs_f64());
        attributes.maybe_number("sluicegate.queue.position", view.queue_position);
    }
    if let Some(cost) = view.cost {
        attributes.fraction("sluicegate.cost", units(cost));
        attributes.text("sluicegate.cost.currency", &cost.currency);
        attributes.flag("sluicegate.cost.estimated", cost.is_estimated);
    }
    attributes.number("sluicegate.request.bytes", view.bytes_in);
    attributes.number("sluicegate.response.bytes", view.bytes_out);
    attributes.maybe_number("sluicegate.websocket.turns", view.turns);
}

fn of_attempt(attributes: &mut Attributes<'_>, view: &TraceView<'_>, attempt: &AttemptView<'_>) {
    method(attributes, view.method);
    if let Some(target) = attempt.target {
        attributes.text("server.address", &target.address);
        attributes.number("server.port", target.port.into());
    }
    attributes.maybe_number("http.response.status_code", attempt.status.map(u64::from));
    if attempt.number > 1 {
        attributes.number("http.request.resend_count", u64::from(attempt.number) - 1);
    }
    attributes.maybe_text("error.type", attempt.error.map(cut));
    attributes.text("sluicegate.upstream", attempt.upstream);
    attributes.text("sluicegate.target", attempt.url);
    attributes.maybe_number("sluicegate.key", attempt.key.map(|number| number as u64));
    if let Some(reused) = attempt.reused {
        attributes.flag("sluicegate.connection.reused", reused);
    }
}

fn gen_ai(attributes: &mut Attributes<'_>, style: Style, view: &TraceView<'_>, attempt: &AttemptView<'_>) {
    let names = style.names;
    attributes.maybe_text(names.operation, view.operation);
    let provider = attempt.target.and_then(|target| target.provider);
    attributes.text(names.provider, provider.unwrap_or(attempt.upstream));
    attributes.maybe_text(names.request_model, attempt.model.or(view.model).map(cut));
    if let Some(stream) = view.stream {
        attributes.flag(names.request_stream, stream);
    }
    if !attempt.is_answer {
        return;
    }
    attributes.maybe_text(names.response_model, view.response_model.map(cut));
    if let Some(reason) = view.finish_reason {
        attributes.list_of_one(names.finish_reasons, reason);
    }
    if let Some(first) = attempt.first_token {
        attributes.fraction(names.time_to_first_chunk, first.as_secs_f64());
    }
    if let Some(usage) = view.usage {
        attributes.maybe_number(names.input_tokens, usage.input);
        attributes.maybe_number(names.output_tokens, usage.output);
        attributes.maybe_number(names.cache_read_tokens, usage.cached_input);
        attributes.maybe_number(names.cache_write_tokens, usage.cache_write);
        attributes.maybe_number(names.reasoning_tokens, usage.reasoning);
    }
    if let Some(cost) = view.cost {
        attributes.fraction(USAGE_COST, units(cost));
    }
}

/// The cost in units of its currency.
pub(super) fn units(cost: &Cost) -> f64 {
    cost.amount.nanos() as f64 / 1e9
}

fn events(span: &mut Vec<u8>, view: &TraceView<'_>, attempt: &AttemptView<'_>, start: u64) {
    let last_frame = view.last_frame.filter(|_| attempt.is_answer);
    let last_frame = last_frame.map(|last| last.saturating_sub(attempt.start));
    let events = [
        ("connected", attempt.connect.filter(|_| attempt.reused.is_some())),
        ("head", attempt.head),
        ("first_token", attempt.first_token),
        ("last_frame", last_frame),
    ];
    for (name, at) in events {
        let Some(at) = at else { continue };
        message(span, field::EVENTS, 1 + 8 + field_length(name.len()));
        fixed64(span, field::EVENT_TIME, start + span_nanos(at));
        bytes(span, field::EVENT_NAME, name.as_bytes());
    }
}

fn failed(span: &mut Vec<u8>) {
    message(span, field::STATUS, 2);
    varint(span, field::STATUS_CODE, ERROR);
}

fn method(attributes: &mut Attributes<'_>, method: &str) {
    attributes.text("http.request.method", known_method(method));
}

/// Whether HTTP defines the method (RFC 9110 section 9, RFC 5789, RFC 10008).
fn known_method(method: &str) -> &str {
    match method {
        "CONNECT" | "DELETE" | "GET" | "HEAD" | "OPTIONS" | "PATCH" | "POST" | "PUT" | "QUERY" | "TRACE" => {
            method
        }
        _ => OTHER_METHOD,
    }
}

/// The method in the name of a span.
fn span_method(method: &str) -> &str {
    if known_method(method) == OTHER_METHOD { "HTTP" } else { method }
}

/// An address as text, without an allocation.
fn written(address: std::net::IpAddr, buffer: &mut [u8; 45]) -> &str {
    use std::io::Write as _;
    let whole = buffer.len();
    let mut rest = &mut buffer[..];
    let length = match write!(rest, "{address}") {
        Ok(()) => whole - rest.len(),
        Err(_) => 0,
    };
    std::str::from_utf8(&buffer[..length]).unwrap_or_default()
}

pub(super) fn nanos(time: SystemTime) -> u64 {
    span_nanos(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn span_nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX / 4)
}
