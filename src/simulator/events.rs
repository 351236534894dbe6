//! Generated event streams, rendered frame by frame as they are sent.

use std::{
    fmt::{Arguments, Display, Formatter, Write as _},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::{BufMut, BytesMut};

use super::{answers, endpoint::Facts, plan::Plan};

/// The words of every answer; some take more than one byte a letter, so that cuts fall inside letters too.
const WORDS: &[&str] = &[
    "The", " sluice", " opens", ",", " and", " the", " words", " flow", " through", " one", " by", " one",
    " —", " nothing", " held", " back", ",", " nothing", " lost", ".",
];
/// The most text of one answer, bytes.
const MAX_TEXT: usize = 64 * 1024 * 1024;

/// Whose stream it is: the events' names, shapes, and how it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Chat,
    Completions,
    Responses,
    Messages,
}

/// What every event of one answer repeats.
#[derive(Debug)]
pub(super) struct Stamp {
    /// Number of the request.
    pub(super) number: u64,
    /// The model's name, as a JSON string.
    pub(super) model: String,
    /// Unix seconds.
    pub(super) created: u64,
}

/// A generated stream: an opening, numbered frames, a closing.
#[derive(Debug)]
pub struct Events {
    dialect: Dialect,
    stamp: Stamp,
    plan: Plan,
    include_usage: bool,
    /// Of every frame, up to its delta.
    prefix: String,
    padding: String,
    sequence: u64,
    /// Between two writes of frames.
    pub(super) interval: Duration,
}

impl Events {
    pub(super) fn new(dialect: Dialect, facts: &Facts, stamp: Stamp, plan: &Plan, pace: Duration) -> Self {
        Self {
            dialect,
            prefix: prefix(dialect, &stamp),
            stamp,
            include_usage: facts.include_usage,
            padding: "x".repeat(plan.size),
            sequence: 0,
            interval: plan.interval.unwrap_or(pace),
            plan: plan.clone(),
        }
    }

    /// How many frames there are.
    pub(super) fn frames(&self) -> u64 {
        let frames = frames(&self.plan);
        if self.plan.error_event { frames / 2 } else { frames }
    }

    /// How many frames go out in one write.
    pub(super) fn batch(&self) -> u64 {
        self.plan.batch
    }

    /// Writes what comes before the first frame.
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
        let made = Made(self.plan.stamp);
        match self.dialect {
            Dialect::Chat => {
                let prefix = &self.prefix;
                self.event(out, None, format_args!(
                    r#"{prefix}{{"content":"{word}{padding}"}},"logprobs":null,"finish_reason":null}}]{usage}{made}}}"#
                ));
            }
            Dialect::Completions => {
                let prefix = &self.prefix;
                self.event(out, None, format_args!(
                    r#"{prefix}"{word}{padding}","index":0,"logprobs":null,"finish_reason":null}}]{usage}}}"#
                ));
            }
            Dialect::Responses => {
                let (number, sequence) = (self.stamp.number, self.sequence);
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

    /// Writes what comes after the last frame.
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
            let usage = answers::usage_of_completions(&self.plan);
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

    /// With `include_usage`, every chunk but the last says that it has none (OpenAI API reference, chat streaming).
    fn no_usage(&self) -> &'static str {
        if self.include_usage { r#","usage":null"# } else { "" }
    }

    fn responses_opening(&mut self, out: &mut BytesMut) {
        let id = self.stamp.number;
        let begun = answers::response(&self.stamp, &self.plan, "in_progress", None);
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
        let id = self.stamp.number;
        let text = text(&self.plan);
        let item = answers::response_item(id, &text);
        let part = answers::response_part(&text);
        let place = format!(r#""item_id":"msg_sim{id}","output_index":0,"content_index":0"#);
        self.numbered(
            out,
            "response.output_text.done",
            format_args!(r#"{place},"text":"{text}","logprobs":[]"#),
        );
        self.numbered(out, "response.content_part.done", format_args!(r#"{place},"part":{part}"#));
        self.numbered(out, "response.output_item.done", format_args!(r#""output_index":0,"item":{item}"#));
        if self.plan.done {
            let whole = answers::response(&self.stamp, &self.plan, "completed", Some(&text));
            self.numbered(out, "response.completed", format_args!(r#""response":{whole}"#));
        }
    }

    fn messages_opening(&self, out: &mut BytesMut) {
        let (id, model, (input, _)) = (self.stamp.number, &self.stamp.model, tokens(&self.plan));
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

    /// The provider's own mid-stream error; the stream ends after it without its terminal event.
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

    /// An event of the Responses API: its type in both places, and its number.
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

/// When it was written, as a field, if that is wanted.
struct Made(bool);

impl Display for Made {
    fn fmt(&self, out: &mut Formatter<'_>) -> std::fmt::Result {
        if !self.0 {
            return Ok(());
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        write!(out, r#","made_ns":{}"#, since.as_nanos())
    }
}

/// The number of frames of an answer; without a wish, as many as there are words.
pub(super) fn frames(plan: &Plan) -> u64 {
    plan.frames.unwrap_or(WORDS.len() as u64)
}

/// The tokens in and out.
pub(super) fn tokens(plan: &Plan) -> (u64, u64) {
    plan.usage.unwrap_or_else(|| (9, frames(plan)))
}

/// The whole text of an answer: what its frames say one after the other, up to a bound. Needs no escaping in JSON.
pub(super) fn text(plan: &Plan) -> String {
    let padding = "x".repeat(plan.size);
    let mut text = String::new();
    for index in 0..frames(plan) {
        let word = word(index);
        if text.len() + word.len() + padding.len() > MAX_TEXT {
            break;
        }
        text.push_str(word);
        text.push_str(&padding);
    }
    text
}

fn word(index: u64) -> &'static str {
    let turn = usize::try_from(index).unwrap_or_default();
    WORDS.get(turn % WORDS.len()).copied().unwrap_or_default()
}

fn prefix(dialect: Dialect, stamp: &Stamp) -> String {
    let Stamp { number, model, created } = stamp;
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
