//! Reading a JSON answer as it passes.

use std::collections::VecDeque;

use memchr::memmem;

use super::{
    Dialect, Reading,
    dialect::{Definition, TailMember},
    json::Shape,
    reading::Gathered,
};

/// Bytes kept of an answer's beginning, where the model's name usually is.
const HEAD: usize = 1 << 10;

/// Bytes kept of an answer's end, where the usage usually is.
const TAIL: usize = 8 << 10;

/// Occurrences of one key that are tried, from the end.
const TRIES: usize = 4;

/// Reads one JSON answer in one dialect, keeping its first 1 KiB and its last 8 KiB at most.
///
/// An answer that fits is read whole. Of a longer one, what is read is certain too: a member counts only where it is
/// shown to be a member of the answer itself, and not of something quoted or nested in it.
#[derive(Debug)]
pub struct AnswerReader {
    dialect: Dialect,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    /// Bytes between head and tail were dropped.
    gap: bool,
}

impl AnswerReader {
    /// A reader at the start of an answer.
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, head: Vec::new(), tail: VecDeque::new(), gap: false }
    }

    /// Takes in the next bytes of the answer.
    pub fn bytes(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min(HEAD - self.head.len()));
        self.head.extend_from_slice(head);
        let excess = (self.tail.len() + rest.len()).saturating_sub(TAIL);
        self.gap |= excess > 0;
        self.tail.drain(..excess.min(self.tail.len()));
        self.tail.extend(rest.get(rest.len().saturating_sub(TAIL)..).unwrap_or(rest));
    }

    /// What the answer says. If it was cut short or is not JSON: what its beginning says, if that much was kept.
    pub fn finish(mut self) -> Reading {
        let dialect = self.dialect.definition();
        let mut gathered = Gathered::default();
        if self.gap {
            read_members(dialect, &self.head, &mut gathered);
            let tail = self.tail.make_contiguous();
            for member in dialect.tail_members {
                read_tail_member(dialect, member, tail, &mut gathered);
            }
        } else {
            self.head.extend_from_slice(self.tail.make_contiguous());
            let mut whole = Gathered::default();
            if read_members(dialect, &self.head, &mut whole) {
                gathered = whole;
            }
        }
        gathered.reading(dialect.cached_tokens)
    }
}

/// Reads the end of the answer from the key of a `member` on that is a member of the answer itself.
///
/// The opening in place of all that came before the key gives a whole JSON document only if the key is exactly as deep as
/// the opening says; and a quote with a backslash before it is text, not a key.
fn read_tail_member(dialect: &Definition, member: &TailMember, tail: &[u8], gathered: &mut Gathered) {
    for at in memmem::rfind_iter(tail, member.key).take(TRIES) {
        let Some(b',' | b'{' | b' ' | b'\n' | b'\t' | b'\r') =
            at.checked_sub(1).and_then(|before| tail.get(before))
        else {
            continue;
        };
        let document = [member.opening, tail.get(at..).unwrap_or_default()].concat();
        let mut found = Gathered::default();
        if read_members(dialect, &document, &mut found) {
            gathered.name_model(found.model.as_deref());
            gathered.tokens.update(&found.tokens);
            gathered.finish_reason = found.finish_reason.or(gathered.finish_reason);
            return;
        }
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
            assert!(
                reader.head.len() <= HEAD && reader.tail.len() <= TAIL && reader.tail.capacity() <= 2 * TAIL
            );
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
