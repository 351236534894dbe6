//! Recognising the chunk of a stream that has its usage and nothing else.

use memchr::memmem;

use super::super::json::{self, Leaf, NotJson, Object, Shape, Value};
use crate::sse::Scanner;

/// Whether `event`, the bytes of one server-sent event through its blank line, is the chunk that a stream of chat completions or completions gains
/// by `stream_options.include_usage`: its `choices` are an empty array, and it has a `usage` that is an object.
///
/// Not such a chunk: any with a choice (OpenRouter, Gemini and Groq put the usage there), one without a usage (Azure OpenAI begins streams with
/// `choices: []` and `prompt_filter_results`; OpenAI API reference, chat completion chunk object), an error, and one that says how a prompt
/// was filtered.
pub fn is_usage_event(event: &[u8]) -> bool {
    if !may_be_usage_event(event) {
        return false;
    }
    let mut found = false;
    let mut scanner = Scanner::new();
    let mut see = |event: crate::sse::Event<'_>| found = !event.oversized && is_usage_chunk(event.data);
    scanner.scan(event, &mut see);
    // The last event of a stream may lack its blank line.
    scanner.finish(&mut see);
    found
}

/// Whether there are `choices` that are an empty array, as the text of an event shows it. Nearly every event is decided here.
fn may_be_usage_event(event: &[u8]) -> bool {
    const KEY: &[u8] = b"\"choices\"";
    memmem::find_iter(event, KEY).any(|at| {
        let value = event.get(at + KEY.len()..).and_then(|rest| after(b':', rest));
        value.and_then(|value| after(b'[', value)).is_some_and(|inside| after(b']', inside).is_some())
    })
}

/// The bytes behind the next one, if that is `byte`. Between the tokens of its data, an event may have white space, and the beginnings of lines.
fn after(byte: u8, mut text: &[u8]) -> Option<&[u8]> {
    loop {
        text = text.trim_ascii_start();
        match text.strip_prefix(b"data:") {
            Some(rest) => text = rest,
            None => return text.strip_prefix(&[byte]),
        }
    }
}

fn is_usage_chunk(data: &[u8]) -> bool {
    let mut chunk = Chunk { data, has_no_choices: false, has_usage: false, says_more: false };
    let shape = json::read(data, &mut chunk);
    shape == Ok(Shape::Object) && chunk.has_no_choices && chunk.has_usage && !chunk.says_more
}

struct Chunk<'d> {
    data: &'d [u8],
    /// `choices` is an empty array.
    has_no_choices: bool,
    /// `usage` is an object.
    has_usage: bool,
    /// There is something that the client would get without the usage, too.
    says_more: bool,
}

impl Object for Chunk<'_> {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        match key {
            b"choices" => {
                let is_array = self.data.get(value.begins_at()) == Some(&b'[');
                let is_empty = !value.filled()?;
                self.has_no_choices = is_array && is_empty;
                self.says_more |= !self.has_no_choices;
            }
            b"usage" => {
                let is_object = self.data.get(value.begins_at()) == Some(&b'{');
                value.skip()?;
                self.has_usage = is_object;
            }
            b"error" => self.says_more |= value.leaf()?.truthy(),
            b"prompt_filter_results" | b"prompt_annotations" | b"moderation" => {
                self.says_more |= !matches!(value.leaf()?, Leaf::Null | Leaf::Nested { filled: false });
            }
            _ => value.skip()?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chunk_that_was_asked_for_in_any_form_of_an_event() {
        for event in [
            "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n",
            "data:{\"usage\":{},\"choices\" : [ ] , \"x\":{\"choices\":[1]}}\r\n\r\n",
            "id: 7\rdata: {\"choices\":\rdata: [\rdata:],\rdata: \"usage\":{}}\r\r",
            ": comment\nevent: chunk\ndata: {\"x\":{\"choices\":[1]},\"choices\":[],\"usage\":{},\"prompt_filter_results\":[]}\n\n",
            // Without the blank line, as at the end of a stream.
            "data: {\"choices\":[],\"usage\":{},\"error\":null}",
        ] {
            assert!(is_usage_event(event.as_bytes()), "{event}");
        }
    }

    #[test]
    fn no_other_chunk() {
        for data in [
            r#"{"choices":[{"delta":{}}],"usage":{"prompt_tokens":1}}"#,
            r#"{"choices":[],"usage":null}"#,
            r#"{"choices":[]}"#,
            r#"{"choices":{},"usage":{}}"#,
            r#"{"usage":{"choices":[]}}"#,
            r#"{"choices":[],"usage":{},"error":{"message":"m"}}"#,
            r#"{"choices":[],"usage":{},"prompt_filter_results":[{"prompt_index":0}]}"#,
            r#"{"choices":[],"usage":{},"choices":[{}]}"#,
            r#"{"choices":[],"usage":{}"#,
            r#"{"choices":[{"delta":{"content":"\"choices\":[],\"usage\":{}"}}]}"#,
            r#"[{"choices":[],"usage":{}}]"#,
            "[DONE]",
        ] {
            assert!(!is_usage_event(format!("data: {data}\n\n").as_bytes()), "{data}");
        }
        assert!(!is_usage_event(b"event: {\"choices\":[],\"usage\":{}}\n\n"));
    }
}
