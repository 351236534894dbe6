//! Finds the ids of kept things (files, responses, conversations …) in JSON as it passes: requests, answers, events.
//!
//! The text is not parsed: strings and the members that they stand in are recognized at any depth, and a piece may end anywhere. What is
//! not JSON gives no ids, or too many, which does no harm: an id that nobody asks for is only remembered for a while.

use memchr::memchr2;

/// The longest id, in bytes.
const LONGEST: usize = 200;

/// The shortest: what is shorter is a version or an index.
const SHORTEST: usize = 6;

/// So many bytes of a sealed text (`encrypted_content`) tell it from all others: they hold its time and its initialisation vector.
const SEALED_PREFIX: usize = 128;

/// Members that hold the id of something kept, or several.
///
/// Sources: OpenAI API reference and the types of openai-python; Anthropic API reference (`file_id`, `container`, `skill_id`).
const REFERENCES: [&[u8]; 34] = [
    b"previous_response_id",
    b"response_id",
    b"conversation",
    b"conversation_id",
    b"file_id",
    b"file_ids",
    b"input_file_id",
    b"output_file_id",
    b"error_file_id",
    b"training_file",
    b"validation_file",
    b"result_files",
    b"image_file_id",
    b"vector_store_id",
    b"vector_store_ids",
    b"container",
    b"container_id",
    b"thread_id",
    b"assistant_id",
    b"run_id",
    b"eval_id",
    b"batch_id",
    b"upload_id",
    b"part_ids",
    b"session_id",
    b"skill_id",
    b"agent_id",
    b"environment_id",
    b"vault_ids",
    b"video_id",
    b"character_id",
    b"voice_id",
    b"fine_tuning_job_id",
    b"cached_content",
];

/// Members whose object is something kept, so that its `id` is a reference: `{"conversation": {"id": …}}`.
const HOLDERS: [&[u8]; 7] =
    [b"conversation", b"prompt", b"audio", b"voice", b"container", b"video", b"character"];

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundId<'a> {
    /// The id of something kept that is named on purpose.
    Reference(&'a [u8]),
    /// Any other `id`: of the thing itself, of an item, of a call.
    Id(&'a [u8]),
    /// The beginning of a sealed text, which opens in one account alone.
    Sealed(&'a [u8]),
}

/// Finds ids in one text. Memory: one string of at most [`LONGEST`] bytes, twice.
#[derive(Debug, Default)]
pub struct IdScanner {
    state: ScanState,
    /// The string being read, as far as it is kept.
    text: Vec<u8>,
    is_too_long: bool,
    member: Member,
    /// The member whose object is being read, if it is one of [`HOLDERS`].
    is_in_holder: bool,
    /// The last string, until it is known whether it is a key.
    is_undecided: bool,
    has_item_reference: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum ScanState {
    #[default]
    Outside,
    Inside,
    /// Behind a backslash.
    Escaped,
}

/// What the member that is being read is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Member {
    Reference {
        is_holder: bool,
    },
    Holder,
    Id,
    Type,
    Sealed,
    #[default]
    Other,
}

impl IdScanner {
    /// Takes in the next bytes of the text.
    pub fn scan(&mut self, mut bytes: &[u8], found: &mut impl FnMut(FoundId<'_>)) {
        while let Some((first, rest)) = bytes.split_first() {
            bytes = match self.state {
                ScanState::Outside => {
                    self.outside(*first, found);
                    rest
                }
                ScanState::Escaped => {
                    self.keep(std::slice::from_ref(first));
                    self.state = ScanState::Inside;
                    rest
                }
                ScanState::Inside => self.inside(bytes),
            };
        }
    }

    /// Notes that the text has ended.
    pub fn finish(&mut self, found: &mut impl FnMut(FoundId<'_>)) {
        self.decide(false, found);
    }

    /// Whether a list of items has one that is only a reference to a kept item, so that every `id` may be one.
    pub fn has_item_reference(&self) -> bool {
        self.has_item_reference
    }

    fn outside(&mut self, byte: u8, found: &mut impl FnMut(FoundId<'_>)) {
        match byte {
            b'"' => {
                self.decide(false, found);
                self.text.clear();
                self.is_too_long = false;
                self.state = ScanState::Inside;
            }
            b':' => self.decide(true, found),
            b' ' | b'\t' => {}
            b'\r' | b'\n' => self.decide(false, found),
            b'{' => {
                self.decide(false, found);
                self.is_in_holder =
                    matches!(self.member, Member::Holder | Member::Reference { is_holder: true });
                self.member = Member::Other;
            }
            b'}' => {
                self.decide(false, found);
                self.is_in_holder = false;
                self.member = Member::Other;
            }
            _ => self.decide(false, found),
        }
    }

    /// Reads on in a string; the rest of the bytes.
    fn inside<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let Some(end) = memchr2(b'"', b'\\', bytes) else {
            self.keep(bytes);
            // Strings of JSON have no line breaks: this is another text, such as the comment of an event stream.
            if bytes.contains(&b'\n') {
                self.state = ScanState::Outside;
            }
            return &[];
        };
        let (text, rest) = bytes.split_at(end);
        if let Some(line) = memchr::memchr(b'\n', text) {
            self.state = ScanState::Outside;
            return &bytes[line + 1..];
        }
        self.keep(text);
        let is_end = rest.first() == Some(&b'"');
        self.state = if is_end { ScanState::Outside } else { ScanState::Escaped };
        self.is_undecided = is_end;
        &rest[1..]
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = LONGEST - self.text.len().min(LONGEST);
        self.is_too_long |= bytes.len() > room;
        self.text.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Decides about the last string: it was a key or a value.
    #[inline]
    fn decide(&mut self, is_key: bool, found: &mut impl FnMut(FoundId<'_>)) {
        if !std::mem::replace(&mut self.is_undecided, false) {
            return;
        }
        if is_key {
            self.member = Member::of(&self.text);
            return;
        }
        let text = &self.text[..];
        match self.member {
            Member::Type => self.has_item_reference |= text == b"item_reference",
            Member::Sealed if text.len() >= SHORTEST => {
                found(FoundId::Sealed(&text[..text.len().min(SEALED_PREFIX)]));
            }
            Member::Reference { .. } if self.is_id() => found(FoundId::Reference(text)),
            Member::Id if self.is_id() && self.is_in_holder => found(FoundId::Reference(text)),
            Member::Id if self.is_id() => found(FoundId::Id(text)),
            _ => {}
        }
    }

    fn is_id(&self) -> bool {
        !self.is_too_long && is_id(&self.text)
    }
}

impl Member {
    fn of(key: &[u8]) -> Self {
        match key {
            b"id" => Self::Id,
            b"type" => Self::Type,
            b"encrypted_content" => Self::Sealed,
            _ => {
                let is_holder = HOLDERS.contains(&key);
                match REFERENCES.contains(&key) {
                    true => Self::Reference { is_holder },
                    false if is_holder => Self::Holder,
                    false => Self::Other,
                }
            }
        }
    }
}

/// Whether a text can be an id that a provider made: `file-abc`, `resp_0123`, `ft:gpt-4o:org::abc`. Words (`auto`, `none`) are none.
pub(super) fn is_id(text: &[u8]) -> bool {
    (SHORTEST..=LONGEST).contains(&text.len())
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/=+".contains(byte))
        && text.iter().any(|byte| b"-_:".contains(byte) || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(text: &str, chunk: usize) -> Vec<String> {
        let mut all = Vec::new();
        let mut scanner = IdScanner::default();
        let mut note = |found: FoundId<'_>| {
            let (mark, id) = match found {
                FoundId::Reference(id) => ('*', id),
                FoundId::Id(id) => (' ', id),
                FoundId::Sealed(id) => ('!', id),
            };
            all.push(format!("{mark}{}", String::from_utf8_lossy(id)));
        };
        for bytes in text.as_bytes().chunks(chunk) {
            scanner.scan(bytes, &mut note);
        }
        scanner.finish(&mut note);
        all
    }

    #[test]
    fn ids_are_found_in_every_place_where_requests_and_answers_have_them() {
        for (text, expected) in [
            (r#"{"previous_response_id":"resp_12"}"#, &["*resp_12"][..]),
            (r#"{"previous_response_id":null,"conversation" : "conv_12"}"#, &["*conv_12"]),
            (r#"{"conversation":{"id":"conv_12"},"id":"msg_12"}"#, &["*conv_12", " msg_12"]),
            (r#"{"input":[{"content":[{"type":"input_file","file_id":"file-12"}]}]}"#, &["*file-12"]),
            (r#"{"tools":[{"vector_store_ids":["vs_1234", "vs_5678"]}]}"#, &["*vs_1234", "*vs_5678"]),
            (r#"{"tools":[{"container":{"type":"auto","file_ids":["file-12"]}}]}"#, &["*file-12"]),
            (r#"{"tools":[{"container":"cntr_12"}]}"#, &["*cntr_12"]),
            (r#"{"tools":[{"container":"auto"}],"conversation":"none"}"#, &[]),
            (r#"{"audio":{"id":"audio_12"}}"#, &["*audio_12"]),
            (r#"{"voice":{"id":"voice_12"}}"#, &["*voice_12"]),
            (r#"{"prompt":{"id":"pmpt_12","version":"2"}}"#, &["*pmpt_12"]),
            (r#"{"prompt":"a word"}"#, &[]),
            (r#"[{"type":"item_reference","id":"msg_12"}]"#, &[" msg_12"]),
            (r#"{"encrypted_content":"gAAAAAB","id":"rs_1234"}"#, &["!gAAAAAB", " rs_1234"]),
            (r#"{"id":"batch_1","input_file_id":"file-12"}"#, &[" batch_1", "*file-12"]),
            ("event: response.created\ndata: {\"response\":{\"id\":\"resp_12\"}}\n\n", &[" resp_12"]),
            (": it's \"odd\n\ndata: {\"id\":\"resp_12\"}\n\n", &[" resp_12"]),
            // What stands in a text is no member.
            (r#"{"content":"{\"file_id\":\"file-12\"}"}"#, &[]),
            (r#"{"properties":{"file_id":{"type":"string"}}}"#, &[]),
            (r#"{"id":12,"file_id":true,"thread_id":["a b"]}"#, &[]),
        ] {
            for chunk in [1, 2, 3, 7, 1000] {
                assert_eq!(found(text, chunk), expected, "{text}");
            }
        }
    }

    #[test]
    fn only_the_beginning_of_a_long_text_is_kept() {
        let text =
            format!(r#"{{"encrypted_content":"{}","file_id":"{}"}}"#, "x1".repeat(5000), "y1".repeat(500));
        let expected = format!("!{}", "x1".repeat(SEALED_PREFIX / 2));
        assert_eq!(found(&text, 999), [expected]);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "[\"\\\\a1_:{},\\[\\]\n id]{0,80}", chunk in 1_usize..9) {
            prop_assert_eq!(found(&text, chunk), found(&text, 1));
        }
    }
}
