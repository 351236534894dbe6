//! Reading a JSON answer as it passes.

use super::{Dialect, OUTLINED, Reading, dialect::Definition, json::Shape, reading::Gathered};
use crate::outline::Outline;

/// The longest answer that is kept whole, in bytes.
const WHOLE: usize = 9 << 10;

/// Reads one JSON answer in one dialect. A short one is kept and read whole; of a longer one, an [`Outline`] is kept, so that its members
/// are found wherever they stand.
#[derive(Debug)]
pub struct AnswerReader {
    dialect: Dialect,
    /// The answer, while it is short.
    whole: Vec<u8>,
    outline: Option<Box<Outline>>,
}

impl AnswerReader {
    /// A reader at the start of an answer.
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, whole: Vec::new(), outline: None }
    }

    /// Takes in the next bytes of the answer.
    pub fn bytes(&mut self, bytes: &[u8]) {
        if let Some(outline) = &mut self.outline {
            outline.push(bytes);
        } else if self.whole.len() + bytes.len() <= WHOLE {
            self.whole.extend_from_slice(bytes);
        } else {
            let mut outline = Box::new(Outline::new(&OUTLINED));
            outline.push(&std::mem::take(&mut self.whole));
            outline.push(bytes);
            self.outline = Some(outline);
        }
    }

    /// What the answer says. Of a long one that was cut short or is not JSON: its model, if it was named.
    pub fn finish(self) -> Reading {
        let dialect = self.dialect.definition();
        let json = self.outline.as_ref().map_or(self.whole.as_slice(), |outline| outline.kept());
        let mut gathered = Gathered::default();
        let complete = self.outline.as_ref().is_none_or(|outline| outline.is_complete());
        if read_members(dialect, json, &mut gathered) && complete {
            return gathered.reading(dialect.cached_tokens);
        }
        let model = gathered.model.filter(|_| self.outline.is_some());
        Reading { model, ..Reading::default() }
    }
}

/// Reads the members of an answer; true if it was a whole JSON object. What precedes an error is read nevertheless.
fn read_members(dialect: &Definition, json: &[u8], gathered: &mut Gathered) -> bool {
    matches!((dialect.read_answer)(json, gathered), Ok(Shape::Object))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{FinishReason, Usage};
    use super::*;

    fn read(dialect: Dialect, answer: &str, chunk: usize) -> Reading {
        let mut reader = AnswerReader::new(dialect);
        for bytes in answer.as_bytes().chunks(chunk) {
            reader.bytes(bytes);
            assert!(reader.whole.capacity() <= 2 * WHOLE);
        }
        reader.finish()
    }

    fn reading(model: &str, usage: Option<(u64, u64)>, finish_reason: Option<FinishReason>) -> Reading {
        let usage = usage.map(|(input, output)| Usage {
            input: Some(input),
            output: Some(output),
            total: Some(input + output),
            ..Usage::default()
        });
        Reading { model: Some(model.to_owned()), usage, finish_reason }
    }

    fn chat(content: &str) -> String {
        format!(
            r#"{{"id":"c","object":"chat.completion","created":1,"model":"gpt-4o","choices":[{{"index":0,"message":{{"role":"assistant","content":"{content}"}},"logprobs":null,"finish_reason":"length"}}],"usage":{{"prompt_tokens":11,"completion_tokens":22,"total_tokens":33}},"system_fingerprint":null}}
"#
        )
    }

    fn responses(text: &str) -> String {
        format!(
            r#"{{"id":"r","object":"response","created_at":1,"status":"incomplete","incomplete_details":{{"reason":"max_output_tokens"}},"model":"gpt-5","output":[{{"type":"message","content":[{{"type":"output_text","text":"{text}"}}]}}],"usage":{{"input_tokens":3,"output_tokens":4,"total_tokens":7}},"metadata":{{}}}}"#
        )
    }

    fn messages(text: &str) -> String {
        format!(
            r#"{{"id":"m","type":"message","role":"assistant","model":"claude","content":[{{"type":"text","text":"{text}"}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{{"input_tokens":5,"output_tokens":6}}}}"#
        )
    }

    fn embeddings(vector: &str) -> String {
        format!(
            r#"{{"object":"list","data":[{{"object":"embedding","index":0,"embedding":[{vector}]}}],"model":"embed","usage":{{"prompt_tokens":8,"total_tokens":8}}}}"#
        )
    }

    /// Each dialect, small enough to be kept whole and too large for it.
    #[test]
    fn the_same_is_read_of_small_answers_and_of_large_ones() {
        for len in [1, 500, 9_000, 100_000] {
            for chunk in [7, 1_000, 16_384, usize::MAX] {
                let text = "x".repeat(len);
                let expected = reading("gpt-4o", Some((11, 22)), Some(FinishReason::Length));
                assert_eq!(read(Dialect::CHAT, &chat(&text), chunk), expected);
                let expected = reading("gpt-5", Some((3, 4)), Some(FinishReason::Length));
                assert_eq!(read(Dialect::RESPONSES, &responses(&text), chunk), expected);
                let expected = reading("claude", Some((5, 6)), Some(FinishReason::Stop));
                assert_eq!(read(Dialect::MESSAGES, &messages(&text), chunk), expected);
                let vector = format!("0.5{}", ",-0.25".repeat(len));
                assert_eq!(
                    read(Dialect::OTHER, &embeddings(&vector), chunk),
                    reading("embed", Some((8, 0)), None)
                );
            }
        }
    }

    #[test]
    fn quoted_or_nested_usage_is_not_the_answers_own() {
        let quoted = r#"\"usage\":{\"prompt_tokens\":99}"#.repeat(500);
        let expected = reading("gpt-4o", Some((11, 22)), Some(FinishReason::Length));
        assert_eq!(read(Dialect::CHAT, &chat(&quoted), 999), expected);
        let filler = "x".repeat(20_000);
        let key = format!(r#"{{"model":"m","x":"{filler}","quote\"usage":{{"prompt_tokens":99}}}}"#);
        assert_eq!(read(Dialect::OTHER, &key, 999), reading("m", None, None));
        let nested = format!(
            r#"{{"model":"m","x":"{filler}","inner":{{"usage":{{"prompt_tokens":99}},"model":"n"}}}}"#
        );
        assert_eq!(read(Dialect::OTHER, &nested, 999), reading("m", None, None));
        let listed =
            format!(r#"{{"model":"m","x":"{filler}","inner":[{{"usage":{{"prompt_tokens":99}}}}]}}"#);
        assert_eq!(read(Dialect::CHAT, &listed, 999), reading("m", None, None));
    }

    /// Beyond 1 KiB and before the last 8 KiB: behind long instructions, before long log probabilities.
    #[test]
    fn what_stands_in_the_middle_of_a_large_answer_is_read() {
        let (before, after) = ("i".repeat(3_000), "l".repeat(34_000));
        let chat = format!(
            r#"{{"choices":[{{"message":{{"content":"{before}"}},"finish_reason":"tool_calls","logprobs":{{"content":[{{"token":"{after}"}}]}}}}],"model":"gpt-4o","usage":{{"prompt_tokens":1,"completion_tokens":2}},"x":"{after}"}}"#
        );
        let response = format!(
            r#"{{"status":"completed","instructions":"{before}","model":"gpt-5","usage":{{"input_tokens":1,"output_tokens":2}},"output":[{{"type":"reasoning","summary":[{{"text":"{after}"}}]}},{{"type":"function_call","arguments":"{after}"}}],"tools":[{{"name":"{after}"}}]}}"#
        );
        for size in [1_000, 16_384, usize::MAX] {
            let expected = reading("gpt-4o", Some((1, 2)), Some(FinishReason::ToolCalls));
            assert_eq!(read(Dialect::CHAT, &chat, size), expected);
            let expected = reading("gpt-5", Some((1, 2)), Some(FinishReason::ToolCalls));
            assert_eq!(read(Dialect::RESPONSES, &response, size), expected);
        }
    }

    /// Anthropic's and OpenAI's answers to a request that only counts: nothing was used.
    #[test]
    fn a_count_of_tokens_is_no_usage() {
        for answer in [r#"{"input_tokens":2095}"#, r#"{"object":"response.input_tokens","input_tokens":11}"#]
        {
            for dialect in [Dialect::OTHER, Dialect::MESSAGES, Dialect::RESPONSES] {
                assert_eq!(read(dialect, answer, 9), Reading::default(), "{answer}");
            }
        }
    }

    #[test]
    fn what_was_cut_short_tells_no_usage() {
        for len in [10, 20_000] {
            let whole = chat(&"x".repeat(len));
            for end in whole.len().saturating_sub(300)..whole.trim_end().len() {
                let reading = read(Dialect::CHAT, &whole[..end], 999);
                assert_eq!((reading.usage, reading.finish_reason), (None, None), "{}", &whole[..end]);
            }
        }
    }

    #[test]
    fn half_a_usage_at_the_end_of_the_head_is_none() {
        let filler = "x".repeat(20_000);
        for pad in 900..1_024 {
            let pad = "p".repeat(pad);
            let answer = format!(
                r#"{{"pad":"{pad}","usage":{{"input_tokens":5,"output_tokens":6}},"content":[{{"text":"{filler}"}}]}}"#
            );
            for dialect in [Dialect::CHAT, Dialect::RESPONSES, Dialect::MESSAGES] {
                let usage = read(dialect, &answer, 999).usage;
                assert!(
                    usage.is_none_or(|usage| (usage.input, usage.output) == (Some(5), Some(6))),
                    "{usage:?}"
                );
            }
        }
    }

    #[test]
    fn an_answer_of_another_shape_tells_nothing() {
        for answer in
            ["", "[]", "null", "not json", r#"{"model":5,"usage":[],"choices":{"a":1}}"#, "{\"model\":\"m\""]
        {
            assert_eq!(read(Dialect::CHAT, answer, 5), Reading::default(), "{answer}");
        }
    }

    proptest! {
        #[test]
        fn no_cut_changes_what_is_read(len in 0usize..12_000, chunk in 1usize..5_000) {
            let answer = chat(&"é".repeat(len));
            prop_assert_eq!(read(Dialect::CHAT, &answer, chunk), read(Dialect::CHAT, &answer, usize::MAX));
        }
    }
}
