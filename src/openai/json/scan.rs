//! The grammar of JSON (RFC 8259), walked along without recursion and without looking at more than it needs.

use std::borrow::Cow;

use super::{
    leaf::{Leaf, NotJson},
    specials::{PIECE, control, ordinary, plain, specials},
};

/// A string as it is written, without its quotes.
#[derive(Debug, Clone, Copy)]
pub(in crate::openai) struct Written<'j> {
    pub(in crate::openai) text: &'j [u8],
    /// The first eight bytes, or as many as there are, as [`word_of`] gives them; of one with escapes it is [`ESCAPED`].
    pub(in crate::openai) word: u64,
}

#[cfg(test)]
thread_local! {
    /// How many bytes scans on this thread went back. All else that a scan does is linear.
    pub(in crate::openai) static REWOUND: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// No text in UTF-8 begins so.
const ESCAPED: u64 = u64::MAX;

impl Written<'_> {
    /// Whether it may have escapes.
    #[inline(always)]
    pub(in crate::openai) fn is_escaped(&self) -> bool {
        self.word == ESCAPED
    }
}

/// A place in a JSON text.
pub(super) struct Scan<'j> {
    json: &'j [u8],
    at: usize,
    /// The objects and arrays around the value that is being skipped.
    enclosing: Enclosing,
    /// How many objects and arrays may be around a value.
    depth_limit: usize,
    /// The scan ended because of that.
    too_deep: bool,
}

impl<'j> Scan<'j> {
    pub(super) fn new(json: &'j [u8]) -> Self {
        Self { json, at: 0, enclosing: Enclosing::default(), depth_limit: usize::MAX, too_deep: false }
    }

    /// The same, for a text whose values may be that deep.
    pub(super) fn within(json: &'j [u8], depth_limit: usize) -> Self {
        Self { depth_limit, ..Self::new(json) }
    }

    /// Whether the scan ended at a value that is too deep, and not at something that is not JSON.
    pub(super) fn is_too_deep(&self) -> bool {
        self.too_deep
    }

    /// Goes back to an offset where a value began.
    pub(super) fn rewind(&mut self, offset: usize) {
        #[cfg(test)]
        REWOUND.set(REWOUND.get() + self.at.saturating_sub(offset));
        self.at = offset;
    }

    /// What was read since this offset.
    pub(super) fn since(&self, offset: usize) -> &'j [u8] {
        self.json.get(offset..self.at).unwrap_or_default()
    }

    /// Counts an object or array that was entered.
    pub(super) fn descend(&mut self) -> Result<(), NotJson> {
        let Some(left) = self.depth_limit.checked_sub(1) else { return self.deep() };
        self.depth_limit = left;
        Ok(())
    }

    /// How many objects and arrays may be around a value, beyond those that were counted.
    pub(super) fn depth_left(&self) -> usize {
        self.depth_limit
    }

    /// Sets it to what it was.
    pub(super) fn ascend(&mut self, depth_left: usize) {
        self.depth_limit = depth_left;
    }

    /// Whether the value that is to be read is an empty string.
    #[inline]
    pub(super) fn is_empty_string(&self) -> bool {
        matches!(self.json.get(self.at..), Some([b'"', b'"', ..]))
    }

    /// How many bytes have been read.
    pub(super) fn offset(&self) -> usize {
        self.at
    }

    /// The next byte that is no white space.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        let byte = *self.json.get(self.at)?;
        if byte > b' ' {
            return Some(byte);
        }
        // Most white space is one space.
        match self.json.get(self.at + 1) {
            Some(next) if byte == b' ' && *next > b' ' => {
                self.at += 1;
                Some(*next)
            }
            _ => self.pass_white_space(),
        }
    }

    #[inline(never)]
    fn pass_white_space(&mut self) -> Option<u8> {
        loop {
            let byte = *self.json.get(self.at)?;
            if !matches!(byte, b' ' | b'\n' | b'\t' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    /// Only white space is left.
    pub(super) fn end(&mut self) -> Result<(), NotJson> {
        self.peek().map_or(Ok(()), |_| self.wrong())
    }

    /// Takes the opening byte of an object or array; false when it closes at once.
    pub(super) fn enter(&mut self, closing: u8) -> bool {
        self.at += 1;
        let empty = self.peek() == Some(closing);
        self.at += usize::from(empty);
        !empty
    }

    /// Enters an object that is a message and begins in a usual way, up to the value of its `content`.
    #[inline(always)]
    pub(super) fn enter_message(&mut self) -> Option<Role> {
        let Beginning { length, role } = usual_beginning(self.json.get(self.at..)?)?;
        if role.is_some() {
            self.at += length;
        }
        role
    }

    /// After a member or element: whether there is another one.
    #[inline]
    pub(super) fn goes_on(&mut self, closing: u8) -> Result<bool, NotJson> {
        let next = self.peek();
        if next != Some(b',') && next != Some(closing) {
            return self.wrong();
        }
        self.at += 1;
        Ok(next == Some(b','))
    }

    /// A member's key and its colon.
    #[inline(always)]
    pub(super) fn key(&mut self) -> Result<Cow<'j, [u8]>, NotJson> {
        let key = self.string()?;
        if key.is_escaped() {
            return self.escaped_key(&key).map(Cow::Owned);
        }
        self.colon()?;
        Ok(Cow::Borrowed(key.text))
    }

    #[cold]
    fn escaped_key(&mut self, key: &Written<'_>) -> Result<Vec<u8>, NotJson> {
        let decoded = self.decoded::<String>(self.quoted(key))?;
        self.colon()?;
        Ok(decoded.into_bytes())
    }

    /// The same as it is written.
    #[inline(always)]
    pub(super) fn written_key(&mut self) -> Result<Written<'j>, NotJson> {
        let key = self.string()?;
        self.colon()?;
        Ok(key)
    }

    /// A string's text.
    pub(super) fn text(&mut self) -> Result<Cow<'j, str>, NotJson> {
        let text = self.string()?;
        match std::str::from_utf8(text.text) {
            Ok(plain) if !text.is_escaped() => Ok(Cow::Borrowed(plain)),
            _ => self.decoded(self.quoted(&text)).map(Cow::Owned),
        }
    }

    /// A string as it is written.
    #[inline(always)]
    pub(super) fn written(&mut self) -> Result<Written<'j>, NotJson> {
        self.string()
    }

    /// Passes over a string; whether there is anything in it.
    pub(super) fn has_text(&mut self) -> Result<bool, NotJson> {
        self.string().map(|string| !string.text.is_empty())
    }

    /// Passes over one value.
    #[inline(always)]
    pub(super) fn skip(&mut self) -> Result<(), NotJson> {
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            _ => self.value().map(drop),
        }
    }

    /// Passes over whole numbers with a comma behind each, up to so many, to the value after them; how many there were.
    pub(super) fn pass_counts(&mut self, most: usize) -> usize {
        let mut count = 0;
        while count < most {
            self.peek();
            let rest = self.json.get(self.at..).unwrap_or_default();
            let digits = match rest.first_chunk().map(|word| digits_of(u64::from_le_bytes(*word))) {
                Some(digits) if digits < 8 => digits,
                _ => rest.iter().take_while(|byte| byte.is_ascii_digit()).count(),
            };
            let leading_zero = digits > 1 && rest.first() == Some(&b'0');
            if digits == 0 || leading_zero || rest.get(digits) != Some(&b',') {
                break;
            }
            self.at += digits + 1;
            count += 1;
        }
        count
    }

    /// A number, of the same kind that serde_json would choose.
    pub(super) fn number(&mut self) -> Result<Leaf<'j>, NotJson> {
        if let Some(count) = self.short_count() {
            return Ok(Leaf::Count(count));
        }
        if let Some(number) = self.short_decimal() {
            return Ok(Leaf::Number(number));
        }
        let number = self.digits()?;
        let whole = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok());
        whole.map_or_else(|| self.decoded(number).map(Leaf::Number), |count| Ok(Leaf::Count(count)))
    }

    /// Passes over one value; true when it is an array or object with something in it.
    pub(super) fn value(&mut self) -> Result<bool, NotJson> {
        let mut filled = false;
        loop {
            match self.peek() {
                Some(b'"') => drop(self.string()?),
                Some(b'-' | b'0'..=b'9') if self.short_count().is_some() => {}
                Some(b'-' | b'0'..=b'9') => drop(self.digits()?),
                Some(b'n') => self.word(b"null")?,
                Some(b't') => self.word(b"true")?,
                Some(b'f') => self.word(b"false")?,
                Some(b'[') => {
                    if self.enter(b']') {
                        filled = true;
                        self.enclose(false)?;
                        if self.next_is_digit() {
                            self.pass_counts(usize::MAX);
                        }
                        continue;
                    }
                }
                Some(b'{') => {
                    let usual = self.pass_usual()?;
                    filled |= usual.is_some();
                    if usual == Some(Passed::ToValue) {
                        continue;
                    }
                    if usual.is_none() && self.enter(b'}') {
                        filled = true;
                        self.enclose(true)?;
                        if !self.pass_strings()? {
                            continue;
                        }
                    }
                }
                _ => return self.wrong(),
            }
            if !self.leave()? {
                return Ok(filled);
            }
        }
    }

    /// Passes over objects of an array that begin in a usual way and have no more than that, or over one; `None` if the first is another one.
    #[inline(always)]
    fn pass_usual(&mut self) -> Result<Option<Passed>, NotJson> {
        let mut passed = None;
        loop {
            let rest = self.json.get(self.at..).unwrap_or_default();
            let Some(Beginning { length, .. }) = usual_beginning(rest) else { return Ok(passed) };
            if self.enclosing.depth >= self.depth_limit {
                return self.deep();
            }
            self.at += length;
            if self.json.get(self.at) != Some(&b'"') {
                self.enclosing.push(true);
                return Ok(Some(Passed::ToValue));
            }
            self.string()?;
            if self.json.get(self.at) != Some(&b'}') {
                self.enclosing.push(true);
                return Ok(Some(Passed::Value));
            }
            self.at += 1;
            if self.enclosing.innermost() != Some(false) || self.json.get(self.at) != Some(&b',') {
                return Ok(Some(Passed::Value));
            }
            self.at += 1;
            self.peek();
            passed = Some(Passed::ToValue);
        }
    }

    /// After a value: leaves what it ends, and goes to the value after it; false when there is none.
    fn leave(&mut self) -> Result<bool, NotJson> {
        while let Some(object) = self.enclosing.innermost() {
            if !self.goes_on(if object { b'}' } else { b']' })? {
                self.enclosing.pop();
            } else if !object || !self.pass_strings()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Before a key: passes over members whose values are strings. True when the last of them has been read, and nothing is known of what follows;
    /// false at the value of a member that is no string.
    #[inline(always)]
    fn pass_strings(&mut self) -> Result<bool, NotJson> {
        loop {
            self.peek();
            self.string()?;
            self.colon()?;
            if self.peek() != Some(b'"') {
                return Ok(false);
            }
            self.string()?;
            if self.json.get(self.at) != Some(&b',') {
                return Ok(true);
            }
            self.at += 1;
        }
    }

    #[inline(always)]
    fn next_is_digit(&self) -> bool {
        self.json.get(self.at).is_some_and(u8::is_ascii_digit)
    }

    fn enclose(&mut self, object: bool) -> Result<(), NotJson> {
        if self.enclosing.depth >= self.depth_limit {
            return self.deep();
        }
        self.enclosing.push(object);
        Ok(())
    }

    fn deep<T>(&mut self) -> Result<T, NotJson> {
        self.too_deep = true;
        self.wrong()
    }

    #[inline(always)]
    fn colon(&mut self) -> Result<(), NotJson> {
        if self.json.get(self.at) != Some(&b':') && self.peek() != Some(b':') {
            return self.wrong();
        }
        self.at += 1;
        Ok(())
    }

    fn word(&mut self, word: &[u8]) -> Result<(), NotJson> {
        if !self.json.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            return self.wrong();
        }
        self.at += word.len();
        Ok(())
    }

    /// A string. Most are shorter than eight bytes and have no escapes: they are read here and now.
    #[inline(always)]
    fn string(&mut self) -> Result<Written<'j>, NotJson> {
        if let Some([b'"', bytes @ ..]) = self.json.get(self.at..).and_then(|rest| rest.first_chunk::<9>()) {
            let word = u64::from_le_bytes(*bytes);
            let length = specials(word).trailing_zeros() as usize / 8;
            if let Some((text, [b'"', ..])) = bytes.split_at_checked(length) {
                self.at += length + 2;
                return Ok(Written { text, word: first_bytes(word, length) });
            }
            return self.long_string(length);
        }
        if self.peek() != Some(b'"') {
            return self.wrong();
        }
        self.long_string(0)
    }

    /// A string, whose first bytes, so many, are known to be ordinary.
    #[inline(never)]
    fn long_string(&mut self, known: usize) -> Result<Written<'j>, NotJson> {
        let begun = self.at + 1;
        let rest = self.json.get(begun..).unwrap_or_default();
        let length = ordinary(rest, known);
        self.at = begun + length;
        if rest.get(length) != Some(&b'"') {
            return self.escaped(begun);
        }
        self.at += 1;
        let text = rest.get(..length).unwrap_or_default();
        let word = text.first_chunk().map_or_else(|| word_of(text), |bytes| u64::from_le_bytes(*bytes));
        Ok(Written { text, word })
    }

    /// A string that began there, from something within it that is not ordinary.
    #[inline(never)]
    fn escaped(&mut self, begun: usize) -> Result<Written<'j>, NotJson> {
        // Up to there no control character has been found.
        let mut searched = self.at;
        loop {
            let passed = match self.json.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => self.escape(),
                None | Some(..b' ') => self.wrong(),
                Some(_) => Ok(()),
            };
            if let Err(error) = passed {
                // What is wrong first counts.
                self.search(searched)?;
                return Err(error);
            }
            self.at += plain(self.json.get(self.at..).unwrap_or_default());
            // While the bytes are in the nearest cache.
            if self.at - searched >= PIECE {
                self.search(searched)?;
                searched = self.at;
            }
        }
        self.search(searched)?;
        let text = self.json.get(begun..self.at).unwrap_or_default();
        self.at += 1;
        Ok(Written { text, word: ESCAPED })
    }

    /// Fails at the first control character since this offset.
    fn search(&mut self, since: usize) -> Result<(), NotJson> {
        let Some(first) = control(self.since(since)) else { return Ok(()) };
        self.at = since + first;
        self.wrong()
    }

    /// A string that was just read, with its quotes.
    fn quoted(&self, string: &Written<'_>) -> &'j [u8] {
        // The colon of a key is not read yet.
        self.json.get(self.at - string.text.len() - 2..self.at).unwrap_or_default()
    }

    fn escape(&mut self) -> Result<(), NotJson> {
        match self.json.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => {
                let digits = self.json.get(self.at + 2..self.at + 6);
                if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    return self.wrong();
                }
                self.at += 6;
            }
            _ => return self.wrong(),
        }
        Ok(())
    }

    /// A whole number of less than [`FITS`] digits, as nearly all are: in one go. Anything else is left where it is.
    fn short_count(&mut self) -> Option<u64> {
        let rest = self.json.get(self.at..)?;
        let mut count = 0;
        let mut length = 0;
        for byte in rest.iter().take(FITS) {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                break;
            }
            count = count * 10 + u64::from(digit);
            length += 1;
        }
        let leading_zero = length > 1 && rest.first() == Some(&b'0');
        let goes_on = matches!(rest.get(length), Some(b'.' | b'e' | b'E'));
        if length == 0 || length == FITS || leading_zero || goes_on {
            return None;
        }
        self.at += length;
        Some(count)
    }

    /// A number such as `0.7`: with so few digits that dividing gives the nearest `f64`, since both numbers are exact in it (W. D. Clinger,
    /// How to Read Floating Point Numbers Accurately, 1990). Anything else is left where it is.
    fn short_decimal(&mut self) -> Option<f64> {
        const TENS: [f64; 16] =
            [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
        let rest = self.json.get(self.at..)?;
        let (mut digits, mut point, mut length) = (0_u64, None, 0);
        for byte in rest.iter().take(TENS.len()) {
            match byte {
                b'0'..=b'9' => digits = digits * 10 + u64::from(byte - b'0'),
                b'.' if point.is_none() && length > 0 => point = Some(length),
                _ => break,
            }
            length += 1;
        }
        let point = point?;
        let fraction = length - point - 1;
        let leading_zero = point > 1 && rest.first() == Some(&b'0');
        let goes_on = matches!(rest.get(length), Some(b'0'..=b'9' | b'.' | b'e' | b'E'));
        if fraction == 0 || leading_zero || goes_on {
            return None;
        }
        self.at += length;
        Some(digits as f64 / TENS.get(fraction)?)
    }

    /// A number's text.
    fn digits(&mut self) -> Result<&'j [u8], NotJson> {
        let begun = self.at;
        self.at += usize::from(self.next_is(b"-"));
        let leading_zero = self.next_is(b"0");
        let whole = self.pass_digits();
        if whole == 0 || (leading_zero && whole > 1) {
            return self.wrong();
        }
        if self.next_is(b".") {
            self.at += 1;
            if self.pass_digits() == 0 {
                return self.wrong();
            }
        }
        if self.next_is(b"eE") {
            self.at += 1;
            self.at += usize::from(self.next_is(b"+-"));
            if self.pass_digits() == 0 {
                return self.wrong();
            }
        }
        Ok(self.json.get(begun..self.at).unwrap_or_default())
    }

    fn next_is(&self, any: &[u8]) -> bool {
        self.json.get(self.at).is_some_and(|byte| any.contains(byte))
    }

    fn pass_digits(&mut self) -> usize {
        let rest = self.json.get(self.at..).unwrap_or_default();
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        count
    }

    /// What is rarely needed is left to serde_json: escapes, and numbers that are no counts.
    fn decoded<T: serde::de::DeserializeOwned>(&self, written: &[u8]) -> Result<T, NotJson> {
        serde_json::from_slice(written).or_else(|_| self.wrong())
    }

    fn wrong<T>(&self) -> Result<T, NotJson> {
        Err(NotJson { at: self.at })
    }
}

/// How far a scan has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Passed {
    /// To a value that is to be read.
    ToValue,
    /// Over a value.
    Value,
}

/// Whose a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::openai) enum Role {
    User,
    Assistant,
}

/// How an object begins, up to a value.
struct Beginning {
    length: usize,
    /// It is a message, and the value is its `content`.
    role: Option<Role>,
}

/// How most messages, and parts of them, begin: written by SDKs with spaces or without.
#[inline(always)]
fn usual_beginning(object: &[u8]) -> Option<Beginning> {
    if !matches!(object.get(2), Some(b'r' | b't')) {
        return None;
    }
    let begins_with = |beginning: &[u8], role| {
        object.starts_with(beginning).then_some(Beginning { length: beginning.len(), role })
    };
    let (user, assistant) = (Some(Role::User), Some(Role::Assistant));
    if object.starts_with(br#"{"role":""#) {
        let other = || begins_with(br#"{"role":"assistant","content":"#, assistant);
        return begins_with(br#"{"role":"user","content":"#, user).or_else(other);
    }
    if object.starts_with(br#"{"role": "#) {
        let other = || begins_with(br#"{"role": "assistant", "content": "#, assistant);
        return begins_with(br#"{"role": "user", "content": "#, user).or_else(other);
    }
    let spaced = || begins_with(br#"{"type": "text", "text": "#, None);
    begins_with(br#"{"type":"text","text":"#, None).or_else(spaced)
}

/// The first eight bytes of `text`, or as many as there are, as one number.
pub(in crate::openai) const fn word_of(text: &[u8]) -> u64 {
    let (mut word, mut at) = (0, 0);
    while at < text.len() && at < 8 {
        word |= (text[at] as u64) << (8 * at);
        at += 1;
    }
    word
}

/// How many of the eight bytes of a word are digits, up to the first other byte. In those, the highest bit is set by adding, if not before; before them
/// nothing carries.
#[inline(always)]
fn digits_of(word: u64) -> usize {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    let values = word ^ (EACH * u64::from(b'0'));
    let others = (values.wrapping_add(EACH * (0x80 - 10)) | values) & (EACH << 7);
    others.trailing_zeros() as usize / 8
}

/// The first `length` bytes of a word, less than eight.
#[inline(always)]
fn first_bytes(word: u64, length: usize) -> u64 {
    word & !(u64::MAX << (8 * length))
}

/// The objects and arrays around a value, one bit each: set for an object. Only what is deeper than 64 takes memory.
#[derive(Default)]
struct Enclosing {
    /// The innermost 64, the last one lowest.
    bits: u64,
    depth: usize,
    /// Those around them, 64 in each.
    outer: Vec<u64>,
}

impl Enclosing {
    fn push(&mut self, object: bool) {
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.outer.push(self.bits);
        }
        self.bits = self.bits << 1 | u64::from(object);
        self.depth += 1;
    }

    fn pop(&mut self) {
        self.bits >>= 1;
        self.depth -= 1;
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.bits = self.outer.pop().unwrap_or_default();
        }
    }

    /// Whether the innermost is an object, if there is one.
    fn innermost(&self) -> Option<bool> {
        (self.depth > 0).then_some(self.bits & 1 == 1)
    }
}

/// Any number of so many digits fits into 64 bits.
const FITS: usize = 19;
