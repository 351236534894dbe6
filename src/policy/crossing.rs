//! Whether a text carries a key, in whatever form keys usually travel.

use std::{borrow::Cow, fmt, ops::Deref, sync::OnceLock};

use memchr::{memchr, memmem};
use percent_encoding::percent_decode;
use zeroize::Zeroizing;

use short::ShortKey;

mod short;

/// Shorter keys are looked for as whole values only, see [`ShortKey`].
const SHORTEST: usize = 8;
/// How often percent-encoding is taken off: a URL within a URL within a header.
const DEPTH: usize = 2;

/// Keys that must not cross: the credential that a caller presented on its way to the upstream, or all keys of an upstream on
/// their way to the caller.
///
/// A key is found plainly, percent-encoded in any mix (also twice), in base64 of either alphabet with anything before and
/// after it (`Basic user:key`), and in base64 that is percent-encoded. It is found by substring search alone: base64 needs no decoding, because of
/// the key's characters in it all but the outermost depend only on where the key begins modulo three.
///
/// A text shorter than the shortest key costs one comparison. Holds one entry a key, and borrows the keys until
/// [`Crossing::into_owned`]. Copies are wiped when they are dropped.
#[derive(Clone, Default)]
pub struct Crossing<'k> {
    keys: Vec<Key<'k>>,
    short: Vec<ShortKey<'k>>,
    /// Bytes of the shortest key: less cannot hold any.
    least: usize,
}

impl<'k> Crossing<'k> {
    /// Watches for these keys. An empty one is none.
    pub fn new(keys: impl IntoIterator<Item = &'k [u8]>) -> Self {
        let mut crossing = Self { least: usize::MAX, ..Self::default() };
        for key in keys.into_iter().filter(|key| !key.is_empty()) {
            crossing.least = crossing.least.min(key.len());
            if key.len() < SHORTEST {
                crossing.short.push(ShortKey::new(key));
            } else {
                crossing.keys.push(Key::new(key));
            }
        }
        crossing
    }

    /// For keeping: holds copies of the keys.
    pub fn into_owned(self) -> Crossing<'static> {
        Crossing {
            keys: self.keys.into_iter().map(Key::into_owned).collect(),
            short: self.short.into_iter().map(ShortKey::into_owned).collect(),
            least: self.least,
        }
    }

    /// Whether it watches for `key` and no other.
    pub fn is_for(&self, key: &[u8]) -> bool {
        match (&*self.keys, &*self.short) {
            ([only], []) => *only.plain == *key,
            ([], [only]) => only.is_key(key),
            _ => false,
        }
    }

    /// Whether a header value, a query or another text carries one of the keys.
    pub fn carries(&self, text: &[u8]) -> bool {
        if self.is_beyond(text) {
            return false;
        }
        let mut text = Cow::Borrowed(text);
        for _ in 0..DEPTH {
            if self.holds(&text) {
                return true;
            }
            match decoded(&text) {
                None => return false,
                Some(decoded) => text = Cow::Owned(decoded),
            }
        }
        self.holds(&text)
    }

    /// Whether a header's name carries one of the keys. HTTP/2 writes names in lower case (RFC 9113 section 8.2), and so does
    /// this program: the keys are looked for without regard to case.
    pub fn carries_name(&self, name: &str) -> bool {
        if self.is_beyond(name.as_bytes()) {
            return false;
        }
        let mut name = Cow::Borrowed(name.as_bytes());
        for _ in 0..DEPTH {
            if self.holds_in_any_case(&name) {
                return true;
            }
            match decoded(&name) {
                None => return false,
                Some(decoded) => name = Cow::Owned(decoded),
            }
        }
        self.holds_in_any_case(&name)
    }

    /// Whether there is no key, or none that short.
    fn is_beyond(&self, text: &[u8]) -> bool {
        text.len() < self.least || (self.keys.is_empty() && self.short.is_empty())
    }

    fn holds(&self, text: &[u8]) -> bool {
        self.keys.iter().any(|key| key.is_in(text)) || self.short.iter().any(|key| key.is(text))
    }

    fn holds_in_any_case(&self, text: &[u8]) -> bool {
        self.keys.iter().any(|key| key.is_in_any_case(text))
            || self.short.iter().any(|key| key.is_in_any_case(text))
    }
}

impl fmt::Debug for Crossing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crossing")
            .field("keys", &(self.keys.len() + self.short.len()))
            .finish_non_exhaustive()
    }
}

/// The bytes of a key: whoever watches has them, or a copy that is wiped in the end.
#[derive(Clone)]
enum Bytes<'k> {
    Lent(&'k [u8]),
    Kept(Zeroizing<Vec<u8>>),
}

impl Bytes<'_> {
    fn into_owned(self) -> Bytes<'static> {
        Bytes::Kept(match self {
            Self::Lent(bytes) => Zeroizing::new(bytes.to_vec()),
            Self::Kept(bytes) => bytes,
        })
    }
}

impl Deref for Bytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Lent(bytes) => bytes,
            Self::Kept(bytes) => bytes,
        }
    }
}

#[derive(Clone)]
struct Key<'k> {
    plain: Bytes<'k>,
    /// Made when a text is long enough to hold one: most never are.
    base64: OnceLock<Zeroizing<Vec<Vec<u8>>>>,
}

impl<'k> Key<'k> {
    fn new(key: &'k [u8]) -> Self {
        Self { plain: Bytes::Lent(key), base64: OnceLock::new() }
    }

    fn into_owned(self) -> Key<'static> {
        Key { plain: self.plain.into_owned(), base64: self.base64 }
    }

    fn is_in(&self, text: &[u8]) -> bool {
        contains(text, &self.plain) || self.encoded(text).iter().any(|form| contains(text, form))
    }

    fn is_in_any_case(&self, text: &[u8]) -> bool {
        let holds = |needle: &[u8]| {
            let first = needle.first().map(u8::to_ascii_lowercase);
            let begins = |part: &[u8]| part.first().map(u8::to_ascii_lowercase) == first;
            text.windows(needle.len()).any(|part| begins(part) && part.eq_ignore_ascii_case(needle))
        };
        holds(&self.plain) || self.encoded(text).iter().any(|form| holds(form))
    }

    /// The base64 forms, if `text` is long enough for the shortest.
    fn encoded(&self, text: &[u8]) -> &[Vec<u8>] {
        let key = &*self.plain;
        if text.len() < base64_length(key, 0).min(base64_length(key, 1)).min(base64_length(key, 2)) {
            return &[];
        }
        self.base64.get_or_init(|| Zeroizing::new(base64_forms(key)))
    }
}

/// How many base64 characters depend on the key alone when `lead` bytes stand before it in its group of three.
fn base64_length(key: &[u8], lead: usize) -> usize {
    ((lead + key.len()) * 8 / 6).saturating_sub((lead * 8).div_ceil(6))
}

/// What base64 (RFC 4648 sections 4 and 5) makes of the key, for each place in a group of three, in both alphabets.
fn base64_forms(key: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = Vec::with_capacity(6);
    for lead in 0..3 {
        let text = base64_form(key, lead);
        if text.iter().any(|byte| matches!(byte, b'+' | b'/')) {
            forms.push(text.iter().map(|&byte| url_alphabet(byte)).collect());
        }
        forms.push(text);
    }
    forms
}

/// The characters that depend on the key alone, of what comes of it after `lead` other bytes of its group of three.
fn base64_form(key: &[u8], lead: usize) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut form = Vec::with_capacity(base64_length(key, lead));
    // Of the key's first byte, the bits that do not share a character with the lead.
    let mut held = (lead + 1) * 8 - (lead * 8).div_ceil(6) * 6;
    let mut bits = 0;
    for (at, byte) in key.iter().enumerate() {
        bits = bits << 8 | u32::from(*byte);
        held += if at == 0 { 0 } else { 8 };
        while held >= 6 {
            held -= 6;
            form.push(ALPHABET[(bits >> held) as usize % ALPHABET.len()]);
        }
    }
    form
}

fn url_alphabet(standard: u8) -> u8 {
    match standard {
        b'+' => b'-',
        b'/' => b'_',
        other => other,
    }
}

/// Texts up to this long are searched byte by byte: nearly all are, and setting up a better search costs more than they do.
const FEW: usize = 64;

fn contains(text: &[u8], needle: &[u8]) -> bool {
    if text.len() > FEW {
        return memmem::find(text, needle).is_some();
    }
    text.windows(needle.len()).any(|part| part.first() == needle.first() && part == needle)
}

/// Takes one layer of percent-encoding off, if there is any.
fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    memchr(b'%', text)?;
    match percent_decode(text).into() {
        Cow::Borrowed(_) => None,
        Cow::Owned(decoded) => Some(decoded),
    }
}

#[cfg(test)]
pub(super) mod tests;
