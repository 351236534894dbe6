//! The outline of a JSON text that is too long to be kept: a few named members, whatever stands between them.
//!
//! Pure: bytes in, bytes out. It reads a text of any length in pieces, with bounded memory, and never fails.

use memchr::memchr2;

/// Limit of an outline in bytes. A text with a larger one has none.
const LIMIT: usize = 64 << 10;

/// Objects and arrays around a member that is kept; what is deeper is left out.
const DEPTH: usize = 8;

/// Elements of one array that are kept.
const ELEMENTS: u32 = 256;

/// Limit of a kept string in bytes. Of a longer one, some of its beginning is kept.
const TEXT_LIMIT: usize = 256;

/// Limit of a kept member's name in bytes.
const NAME_LIMIT: usize = 40;

/// Which members are kept.
#[derive(Debug)]
pub struct Members {
    /// Members with these names in any case, at any depth; of an object among them, only members with these names again.
    pub named: &'static [&'static [u8]],
    /// Members with these names, and all that is in them.
    pub whole: &'static [&'static [u8]],
}

/// Makes the outline of one JSON object, or of an array of them, from its bytes as they pass: the same with only the [`Members`] that are
/// wanted, in their order and as deep as they were.
///
/// Values that are left out are passed over by their quotes and brackets alone, so an outline does not show that a text is valid JSON.
/// Members whose names are written with escapes are left out.
#[derive(Debug)]
pub struct Outline {
    members: &'static Members,
    kept: Vec<u8>,
    state: State,
    /// The kept objects and arrays around this place.
    levels: Vec<Level>,
    /// Objects and arrays around this place within a value that is left out.
    skipped: u32,
    /// What is left out is the rest of an array, whose end is kept.
    skips_rest: bool,
    /// The last byte was the backslash of an escape.
    escaped: bool,
    name: Vec<u8>,
    /// Where the string that is being kept begins.
    text_from: usize,
    /// All of the value that follows is kept.
    keeps_all: bool,
    has_escaped_names: bool,
}

#[derive(Debug)]
struct Level {
    closing: u8,
    keeps_all: bool,
    elements: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Value,
    Name,
    InName,
    Colon {
        kept: bool,
    },
    Text {
        cut: bool,
    },
    Word,
    Skipped,
    SkippedText,
    AfterValue,
    Complete,
    /// The text is no JSON object or array, or its outline is too large.
    Lost,
}

impl Outline {
    /// An outline at the start of a text.
    pub fn new(members: &'static Members) -> Self {
        Self {
            members,
            kept: Vec::new(),
            state: State::Value,
            levels: Vec::new(),
            skipped: 0,
            skips_rest: false,
            escaped: false,
            name: Vec::new(),
            text_from: 0,
            keeps_all: false,
            has_escaped_names: false,
        }
    }

    /// Takes in the next bytes.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while let Some(first) = bytes.first() {
            let taken = match self.state {
                State::Text { cut } => self.text(bytes, cut),
                State::Word => self.word(bytes),
                State::Skipped => self.skip(bytes),
                State::SkippedText => self.skip_text(bytes),
                State::InName => self.in_name(bytes),
                State::Lost => return,
                State::Value | State::Name | State::Colon { .. } | State::AfterValue | State::Complete => {
                    self.between(*first);
                    1
                }
            };
            bytes = bytes.get(taken..).unwrap_or_default();
            if self.kept.len() > LIMIT {
                self.state = State::Lost;
            }
        }
    }

    /// Whether the text was an object or an array, which has ended.
    pub fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// Whether a member was left out because its name is written with escapes.
    pub fn has_escaped_names(&self) -> bool {
        self.has_escaped_names
    }

    /// What was kept so far: a JSON text once it is complete, else the beginning of one.
    pub fn kept(&self) -> &[u8] {
        &self.kept
    }

    /// One byte between names and values.
    fn between(&mut self, byte: u8) {
        if matches!(byte, b' ' | b'\n' | b'\t' | b'\r') {
            return;
        }
        match (self.state, byte) {
            (State::Value, b']') | (State::Name, b'}') => self.close(byte),
            (State::Value, _) => self.value(byte),
            (State::Name, b'"') => {
                self.name.clear();
                self.state = State::InName;
            }
            (State::Colon { kept: true }, b':') => self.state = State::Value,
            (State::Colon { kept: false }, b':') => self.leave_out(),
            (State::AfterValue, b',') => {
                let in_object = self.levels.last().is_some_and(|level| level.closing == b'}');
                self.state = if in_object { State::Name } else { State::Value };
            }
            (State::AfterValue, b'}' | b']') => self.close(byte),
            _ => self.state = State::Lost,
        }
    }

    fn close(&mut self, byte: u8) {
        if self.levels.pop().is_none_or(|level| level.closing != byte) {
            self.state = State::Lost;
            return;
        }
        self.kept.push(byte);
        self.state = if self.levels.is_empty() { State::Complete } else { State::AfterValue };
    }

    /// The first byte of a value that is kept if it has a place.
    fn value(&mut self, byte: u8) {
        match self.levels.last_mut() {
            None if !matches!(byte, b'{' | b'[') => {
                self.state = State::Lost;
                return;
            }
            Some(level) if level.closing == b']' => {
                level.elements += 1;
                if level.elements > ELEMENTS {
                    // The rest of the array, in one go.
                    self.state = State::Skipped;
                    (self.skipped, self.skips_rest) = (1, true);
                    self.skip(&[byte]);
                    return;
                }
                self.keeps_all = level.keeps_all;
                self.separate();
            }
            None | Some(_) => {}
        }
        match byte {
            b'"' => {
                self.kept.push(byte);
                self.text_from = self.kept.len();
                self.state = State::Text { cut: false };
            }
            b'{' | b'[' if self.levels.len() == DEPTH => {
                self.kept.extend_from_slice(if byte == b'{' { b"{}" } else { b"[]" });
                self.leave_out();
                self.skip(&[byte]);
            }
            b'{' | b'[' => {
                self.kept.push(byte);
                let closing = if byte == b'{' { b'}' } else { b']' };
                self.levels.push(Level { closing, keeps_all: self.keeps_all, elements: 0 });
                self.state = if byte == b'{' { State::Name } else { State::Value };
            }
            _ => {
                self.text_from = self.kept.len();
                self.kept.push(byte);
                self.state = State::Word;
            }
        }
    }

    fn leave_out(&mut self) {
        self.skipped = 0;
        self.state = State::Skipped;
    }

    /// Writes the comma before a member or element, unless it is the first.
    fn separate(&mut self) {
        if !matches!(self.kept.last(), Some(b'{' | b'[')) {
            self.kept.push(b',');
        }
    }

    fn in_name(&mut self, bytes: &[u8]) -> usize {
        let (inside, ended) = self.string(bytes);
        let part = bytes.get(..inside).unwrap_or_default();
        let room = NAME_LIMIT + 1 - self.name.len();
        self.name.extend_from_slice(part.get(..room).unwrap_or(part));
        if ended {
            self.name_ended();
        }
        inside + usize::from(ended)
    }

    fn name_ended(&mut self) {
        let name = self.name.as_slice();
        let among = |names: &[&[u8]]| names.contains(&name);
        let parent_keeps_all = self.levels.last().is_some_and(|level| level.keeps_all);
        self.keeps_all = parent_keeps_all || among(self.members.whole);
        let plain = name.len() <= NAME_LIMIT && !name.iter().any(|byte| matches!(byte, b'\\' | 0..b' '));
        self.has_escaped_names |= name.contains(&b'\\');
        // The reader of the outline decides whether case counts.
        let is_named = || self.members.named.iter().any(|known| known.eq_ignore_ascii_case(name));
        let kept = plain && (self.keeps_all || is_named());
        if kept {
            self.separate();
            self.kept.push(b'"');
            self.kept.extend_from_slice(&self.name);
            self.kept.extend_from_slice(b"\":");
        }
        self.state = State::Colon { kept };
    }

    fn text(&mut self, bytes: &[u8], mut cut: bool) -> usize {
        let (inside, ended) = self.string(bytes);
        if !cut {
            let room = TEXT_LIMIT + 1 - (self.kept.len() - self.text_from);
            self.kept.extend_from_slice(bytes.get(..inside.min(room)).unwrap_or_default());
            cut = self.kept.len() - self.text_from > TEXT_LIMIT;
            if cut {
                self.cut_text();
            }
            self.state = State::Text { cut };
        }
        if ended {
            self.kept.push(b'"');
            self.state = State::AfterValue;
        }
        inside + usize::from(ended)
    }

    /// Keeps as much of a long string as has neither escapes nor characters of several bytes: it can be cut anywhere.
    fn cut_text(&mut self) {
        let text = self.kept.get(self.text_from..).unwrap_or_default();
        let plain = text.iter().take_while(|byte| byte.is_ascii() && **byte != b'\\').count();
        self.kept.truncate(self.text_from + plain.min(TEXT_LIMIT));
    }

    fn word(&mut self, bytes: &[u8]) -> usize {
        let end = bytes.iter().position(|byte| {
            matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\t' | b'\r' | b'"' | b'{' | b'[')
        });
        let word = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
        let room = TEXT_LIMIT.saturating_sub(self.kept.len() - self.text_from);
        self.kept.extend_from_slice(word.get(..room).unwrap_or(word));
        if end.is_some() {
            self.state = State::AfterValue;
        }
        word.len()
    }

    /// Passes over a part of a value that is left out, outside its strings.
    fn skip(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            // Commas are looked for only where one ends the value.
            let found = if self.skipped == 0 { structural::<b','>(rest) } else { structural::<b'"'>(rest) };
            let Some(found) = found else { return bytes.len() };
            at += found;
            match bytes.get(at) {
                Some(b'"') => {
                    self.state = State::SkippedText;
                    return at + 1;
                }
                Some(b'{' | b'[') => self.skipped += 1,
                Some(b'}' | b']') if self.skipped > 1 => self.skipped -= 1,
                Some(closing @ (b'}' | b']')) if self.skipped == 1 => {
                    if std::mem::take(&mut self.skips_rest) {
                        self.close(*closing);
                    } else {
                        self.state = State::AfterValue;
                    }
                    return at + 1;
                }
                // The end of a number or word belongs to what is around it.
                Some(_) if self.skipped == 0 => {
                    self.state = State::AfterValue;
                    return at;
                }
                _ => {}
            }
            at += 1;
        }
    }

    fn skip_text(&mut self, bytes: &[u8]) -> usize {
        let (inside, ended) = self.string(bytes);
        if ended {
            self.state = if self.skipped == 0 { State::AfterValue } else { State::Skipped };
        }
        inside + usize::from(ended)
    }

    /// How many bytes at the beginning are inside the string, and whether its closing quote follows them.
    fn string(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut at = usize::from(std::mem::take(&mut self.escaped)).min(bytes.len());
        while let Some(found) = memchr2(b'"', b'\\', bytes.get(at..).unwrap_or_default()) {
            at += found;
            if bytes.get(at) == Some(&b'"') {
                return (at, true);
            }
            at += 2;
        }
        self.escaped = at > bytes.len();
        (bytes.len(), false)
    }
}

/// The first quote, bracket, brace or `OTHER`. Looks at 32 bytes at once, and so at no more than it must of a list of numbers.
fn structural<const OTHER: u8>(bytes: &[u8]) -> Option<usize> {
    let (blocks, _) = bytes.as_chunks::<32>();
    let any = |block: &&[u8; 32]| block.iter().fold(false, |any, byte| any | is_structural::<OTHER>(*byte));
    let passed = blocks.iter().take_while(|block| !any(block)).count() * 32;
    let rest = bytes.get(passed..)?;
    rest.iter().position(|byte| is_structural::<OTHER>(*byte)).map(|at| passed + at)
}

/// With one bit set, a bracket is a brace.
fn is_structural<const OTHER: u8>(byte: u8) -> bool {
    (byte == b'"') | (byte == OTHER) | ((byte | 0x20) == b'{') | ((byte | 0x20) == b'}')
}

#[cfg(test)]
mod tests;
