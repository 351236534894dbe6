//! Generated event streams. Each frame is rendered when it is sent.

use std::{
    fmt::{Arguments, Display, Formatter, Write as _},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::{BufMut, BytesMut};

use super::{
    bodies,
    content::{Dialect, ResponseMeta, frames, text, tokens, word},
    endpoint::RequestParams,
    plan::Plan,
};

/// A generated event stream: opening events, numbered content frames, closing events.
#[derive(Debug)]
pub struct Events {
    dialect: Dialect,
    meta: ResponseMeta,
    plan: Plan,
    include_usage: bool,
    /// The part of every frame before its delta.
    prefix: String,
    padding: String,
    sequence: u64,
    /// Time between two batches of frames.
    pub(super) interval: Duration,
}

impl Events {
    pub(super) fn new(
        dialect: Dialect,
        params: &RequestParams,
        meta: ResponseMeta,
        plan: &Plan,
        pace: Duration,
    ) -> Self {
        Self {
            dialect,
            prefix: prefix(dialect, &meta),
            meta,
            include_usage: params.include_usage,
            padding: "x".repeat(plan.size),
            sequence: 0,
            interval: plan.interval.unwrap_or(pace),
            plan: plan.clone(),
        }
    }

    /// The number of content frames.
    pub(super) fn frames(&self) -> u64 {
        let frames = frames(&self.plan);
        if self.plan.error_event { frames / 2 } else { frames }
    }

    /// The number of frames in one write.
    pub(super) fn batch(&self) -> u64 {
        self.plan.batch
    }

    /// Writes the events before the first frame.
    pub(super) fn opening(&mut self, out: &mut BytesMut) {
        match self.dialect {
            Dialect::Chat => self.chat(out, r#"{"role":"assistant","content":"","refusal":null}"#, "null"),
            Dialect::Completions => {}
            Dialect::Responses => self.responses_opening(out),
            Dialect::Messages => self.messages_opening(out),
        }
    }

    /// Writes frame `index`.
    pub(super) fn frame(&mut self, index: u64, out: &mut BytesMut) {
        if self.plan.comments {
            out.put_slice(b": simulated comment");
            out.put_slice(self.plan.newline.repeat(2).as_bytes());
        }
        if self.plan.malformed && index == self.frames() / 2 {
            self.event(out, None, format_args!(r#"{{"id":"malformed","#));
            return;
        }
        let (word, padding, usage) = (word(index), &self.padding, self.no_usage());
        let timestamp = Timestamp(self.plan.timestamps);
        match self.dialect {
            Dialect::Chat => {
                let prefix = &self.prefix;
                self.event(out, None, format_args!(
                    r#"{prefix}{{"content":"{word}{padding}"}},"logprobs":null,"finish_reason":null}}]{usage}{timestamp}}}"#
                ));
            }
            Dialect::Completions => {
                let prefix = &self.prefix;
                self.event(out, None, format_args!(
                    r#"{prefix}"{word}{padding}","index":0,"logprobs":null,"finish_reason":null}}]{usage}}}"#
                ));
            }
            Dialect::Responses => {
                let (number, sequence) = (self.meta.number, self.sequence);
                self.event(out, Some("response.output_text.delta"), format_args!(
                    r#"{{"type":"response.output_text.delta","sequence_number":{sequence},"item_id":"msg_sim{number}","output_index":0,"content_index":0,"delta":"{word}{padding}","logprobs":[]}}"#
                ));
                self.sequence += 1;
            }
            Dialect::Messages => self.event(out, Some("content_block_delta"), format_args!(
                r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"{word}{padding}"}}}}"#
            )),
        }
    }

    /// Writes the events after the last frame.
    pub(super) fn closing(&mut self, out: &mut BytesMut) {
        if self.plan.error_event {
            return self.error(out);
        }
        match self.dialect {
            Dialect::Chat => {
                self.chat(out, "{}", r#""stop""#);
                self.closing_of_completions(out);
            }
            Dialect::Completions => {
                let (prefix, usage) = (&self.prefix, self.no_usage());
                self.event(
                    out,
                    None,
                    format_args!(
                        r#"{prefix}"","index":0,"logprobs":null,"finish_reason":"stop"}}]{usage}}}"#
                    ),
                );
                self.closing_of_completions(out);
            }
            Dialect::Responses => self.responses_closing(out),
            Dialect::Messages => self.messages_closing(out),
        }
    }

    /// The usage chunk, if asked for, and `[DONE]`.
    fn closing_of_completions(&self, out: &mut BytesMut) {
        if self.include_usage {
            let Some((head, _)) = self.prefix.split_once(r#""choices""#) else { return };
            let usage = bodies::usage_of_completions(&self.plan);
            self.event(out, None, format_args!(r#"{head}"choices":[],"usage":{usage}}}"#));
        }
        if self.plan.done {
            self.event(out, None, format_args!("[DONE]"));
        }
    }

    fn chat(&self, out: &mut BytesMut, delta: &str, finish: &str) {
        let (prefix, usage) = (&self.prefix, self.no_usage());
        self.event(
            out,
            None,
            format_args!(r#"{prefix}{delta},"logprobs":null,"finish_reason":{finish}}}]{usage}}}"#),
        );
    }

    /// With `include_usage`, every chunk except the last has `"usage":null` (OpenAI API reference, chat streaming).
    fn no_usage(&self) -> &'static str {
        if self.include_usage { r#","usage":null"# } else { "" }
    }

    fn responses_opening(&mut self, out: &mut BytesMut) {
        let id = self.meta.number;
        let begun = bodies::response(&self.meta, &self.plan, "in_progress", None);
        self.numbered(out, "response.created", format_args!(r#""response":{begun}"#));
        self.numbered(out, "response.in_progress", format_args!(r#""response":{begun}"#));
        self.numbered(out, "response.output_item.added", format_args!(
            r#""output_index":0,"item":{{"id":"msg_sim{id}","type":"message","status":"in_progress","role":"assistant","content":[]}}"#
        ));
        self.numbered(out, "response.content_part.added", format_args!(
            r#""item_id":"msg_sim{id}","output_index":0,"content_index":0,"part":{{"type":"output_text","text":"","annotations":[],"logprobs":[]}}"#
        ));
    }

    fn responses_closing(&mut self, out: &mut BytesMut) {
        let id = self.meta.number;
        let text = text(&self.plan);
        let item = bodies::response_item(id, &text);
        let part = bodies::response_part(&text);
        let position = format!(r#""item_id":"msg_sim{id}","output_index":0,"content_index":0"#);
        self.numbered(
            out,
            "response.output_text.done",
            format_args!(r#"{position},"text":"{text}","logprobs":[]"#),
        );
        self.numbered(out, "response.content_part.done", format_args!(r#"{position},"part":{part}"#));
        self.numbered(out, "response.output_item.done", format_args!(r#""output_index":0,"item":{item}"#));
        if self.plan.done {
            let whole = bodies::response(&self.meta, &self.plan, "completed", Some(&text));
            self.numbered(out, "response.completed", format_args!(r#""response":{whole}"#));
        }
    }

    fn messages_opening(&self, out: &mut BytesMut) {
        let (id, model, (input, _)) = (self.meta.number, &self.meta.model, tokens(&self.plan));
        self.event(out, Some("message_start"), format_args!(
            r#"{{"type":"message_start","message":{{"id":"msg_sim{id}","type":"message","role":"assistant","model":{model},"content":[],"stop_reason":null,"stop_sequence":null,"usage":{{"input_tokens":{input},"output_tokens":1}}}}}}"#
        ));
        self.event(
            out,
            Some("content_block_start"),
            format_args!(
                r#"{{"type":"content_block_start","index":0,"content_block":{{"type":"text","text":""}}}}"#
            ),
        );
        self.event(out, Some("ping"), format_args!(r#"{{"type":"ping"}}"#));
    }

    fn messages_closing(&self, out: &mut BytesMut) {
        let (_, output) = tokens(&self.plan);
        self.event(
            out,
            Some("content_block_stop"),
            format_args!(r#"{{"type":"content_block_stop","index":0}}"#),
        );
        self.event(out, Some("message_delta"), format_args!(
            r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn","stop_sequence":null}},"usage":{{"output_tokens":{output}}}}}"#
        ));
        if self.plan.done {
            self.event(out, Some("message_stop"), format_args!(r#"{{"type":"message_stop"}}"#));
        }
    }

    /// Writes the provider's mid-stream error event. No terminal event follows.
    fn error(&mut self, out: &mut BytesMut) {
        const MESSAGE: &str = "The server had an error while processing your request.";
        match self.dialect {
            Dialect::Chat | Dialect::Completions => self.event(
                out,
                None,
                format_args!(
                    r#"{{"error":{{"message":"{MESSAGE}","type":"server_error","param":null,"code":null}}}}"#
                ),
            ),
            Dialect::Responses => self.numbered(
                out,
                "error",
                format_args!(r#""code":"server_error","message":"{MESSAGE}","param":null"#),
            ),
            Dialect::Messages => self.event(
                out,
                Some("error"),
                format_args!(r#"{{"type":"error","error":{{"type":"api_error","message":"{MESSAGE}"}}}}"#),
            ),
        }
    }

    /// Writes an event of the Responses API: it has its type as event name and as field, and a sequence number.
    fn numbered(&mut self, out: &mut BytesMut, kind: &str, rest: Arguments<'_>) {
        let sequence = self.sequence;
        self.event(
            out,
            Some(kind),
            format_args!(r#"{{"type":"{kind}","sequence_number":{sequence},{rest}}}"#),
        );
        self.sequence += 1;
    }

    fn event(&self, out: &mut BytesMut, name: Option<&str>, data: Arguments<'_>) {
        let newline = self.plan.newline;
        // Writing into memory cannot fail.
        let _ = match name {
            Some(name) => write!(out, "event: {name}{newline}data: {data}{newline}{newline}"),
            None => write!(out, "data: {data}{newline}{newline}"),
        };
    }
}

/// The field with the current time, if the plan asks for it.
struct Timestamp(bool);

impl Display for Timestamp {
    fn fmt(&self, out: &mut Formatter<'_>) -> std::fmt::Result {
        if !self.0 {
            return Ok(());
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        write!(out, r#","made_ns":{}"#, since.as_nanos())
    }
}

fn prefix(dialect: Dialect, meta: &ResponseMeta) -> String {
    let ResponseMeta { number, model, created } = meta;
    match dialect {
        Dialect::Chat => format!(
            r#"{{"id":"chatcmpl-sim{number}","object":"chat.completion.chunk","created":{created},"model":{model},"service_tier":"default","system_fingerprint":"fp_simulator","choices":[{{"index":0,"delta":"#
        ),
        Dialect::Completions => format!(
            r#"{{"id":"cmpl-sim{number}","object":"text_completion","created":{created},"model":{model},"choices":[{{"text":"#
        ),
        Dialect::Responses | Dialect::Messages => String::new(),
    }
}
