//! Finds keys in texts, in every form in which keys usually travel.

use std::{borrow::Cow, fmt, ops::Deref};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use memchr::memchr;
use percent_encoding::percent_decode;
use zeroize::Zeroizing;

use short::ShortKey;

mod short;

/// In bytes. Shorter keys are found as whole values only, see [`ShortKey`].
const SHORTEST: usize = 8;
/// How many layers of percent-encoding are decoded: a URL within a URL within a header.
const DEPTH: usize = 2;

/// Searches texts for keys: for the caller's credential in what goes to the upstream, or for all keys of an upstream in what goes to the
/// caller.
///
/// A key is found plainly, percent-encoded in any mix (also twice), in base64 of either alphabet with anything before and
/// after it (`Basic user:key`), and in base64 that is percent-encoded. Base64 needs no decoding, because of the key's characters in
/// it all but the outermost depend only on where the key begins modulo three. One pass over a text finds all forms: a form may begin only where
/// three bytes in a row are among the first, second and third bytes of the forms.
///
/// A text shorter than the shortest key costs one comparison. The scanner has one entry for each key, and borrows the keys until
/// [`SecretScanner::into_owned`]. Copies are wiped when they are dropped.
#[derive(Clone, Default)]
pub struct SecretScanner<'k> {
    keys: Vec<Key<'k>>,
    short: Vec<ShortKey<'k>>,
    /// Bytes of the shortest key: less cannot hold any.
    least: usize,
    beginnings: Beginnings,
}

/// A [`SecretScanner`] for header names. HTTP/2 writes them in lower case (RFC 9113 section 8.2), and so does this program, so the search
/// ignores case.
pub struct InNames<'c>(&'c SecretScanner<'c>);

impl<'k> SecretScanner<'k> {
    /// A scanner for these keys. Empty keys are ignored.
    pub fn new(keys: impl IntoIterator<Item = &'k [u8]>) -> Self {
        let mut secrets = Self { least: usize::MAX, ..Self::default() };
        for key in keys.into_iter().filter(|key| !key.is_empty()) {
            secrets.least = secrets.least.min(key.len());
            if key.len() < SHORTEST {
                secrets.short.push(ShortKey::new(key));
            } else {
                let key = Key::new(key);
                key.beginnings().for_each(|beginning| secrets.beginnings.add(beginning));
                secrets.keys.push(key);
            }
        }
        secrets
    }

    /// The same scanner with its own copies of the keys.
    pub fn into_owned(self) -> SecretScanner<'static> {
        SecretScanner {
            keys: self.keys.into_iter().map(Key::into_owned).collect(),
            short: self.short.into_iter().map(ShortKey::into_owned).collect(),
            least: self.least,
            beginnings: self.beginnings,
        }
    }

    /// The same scanner with more keys. Keys of less than eight bytes are found as whole values only.
    #[must_use]
    pub fn with(&self, keys: impl IntoIterator<Item = &'k [u8]>) -> Self {
        let mut all = self.clone();
        let more = Self::new(keys);
        for key in more.keys {
            key.beginnings().for_each(|beginning| all.beginnings.add(beginning));
            all.keys.push(key);
        }
        all.short.extend(more.short);
        all.least = match (self.keys.is_empty() && self.short.is_empty(), more.least) {
            (true, least) => least,
            (false, least) => self.least.min(least),
        };
        all
    }

    /// Whether `key` is the scanner's only key. The comparison takes constant time for keys of one length: callers who share a connection
    /// behind another proxy could otherwise find out each other's key.
    pub fn is_for(&self, key: &[u8]) -> bool {
        match (&*self.keys, &*self.short) {
            ([only], []) => verify_slices_are_equal(&only.0, key).is_ok(),
            ([], [only]) => only.is_key(key),
            _ => false,
        }
    }

    /// Whether a header value, a query or another text contains one of the keys.
    pub fn found_in(&self, text: &[u8]) -> bool {
        self.found_by(text, |text| self.holds(text))
    }

    /// For searching several header names.
    pub fn in_names(&self) -> InNames<'_> {
        InNames(self)
    }

    /// Searches a text, and the text without its percent-encoding.
    fn found_by(&self, text: &[u8], holds: impl Fn(&[u8]) -> bool) -> bool {
        if self.is_beyond(text) {
            return false;
        }
        let mut text = Cow::Borrowed(text);
        for _ in 0..DEPTH {
            if holds(&text) {
                return true;
            }
            match decoded(&text) {
                None => return false,
                Some(decoded) => text = Cow::Owned(decoded),
            }
        }
        holds(&text)
    }

    /// Whether no key fits into the text.
    fn is_beyond(&self, text: &[u8]) -> bool {
        text.len() < self.least || (self.keys.is_empty() && self.short.is_empty())
    }

    fn holds(&self, text: &[u8]) -> bool {
        self.begins_in(text, Alike::Exact) || self.short.iter().any(|key| key.is(text))
    }

    /// Whether a key begins anywhere in `text`.
    fn begins_in(&self, text: &[u8], alike: Alike) -> bool {
        let places = self.places(text);
        if places == 0 {
            return false;
        }
        let looked_at = text.get(..places + BEGINNING - 1).unwrap_or(text);
        self.beginnings.are_in(looked_at, alike)
            && self.beginnings.offsets(looked_at, alike).any(|offset| {
                let from = text.get(offset..).unwrap_or_default();
                self.keys.iter().any(|key| key.begins(from, alike))
            })
    }

    /// The number of offsets in `text` at which a key may begin. Base64 is longer than the key, so the plain key decides.
    fn places(&self, text: &[u8]) -> usize {
        match self.keys.is_empty() {
            true => 0,
            false => (text.len() + 1).saturating_sub(self.least.max(SHORTEST)),
        }
    }
}

impl InNames<'_> {
    /// Whether a header name contains one of the keys.
    pub fn found_in(&self, name: &str) -> bool {
        let Self(secrets) = self;
        secrets.found_by(name.as_bytes(), |name| {
            secrets.begins_in(name, Alike::AnyCase)
                || secrets.short.iter().any(|key| key.is_in_any_case(name))
        })
    }
}

impl fmt::Debug for SecretScanner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretScanner")
            .field("keys", &(self.keys.len() + self.short.len()))
            .finish_non_exhaustive()
    }
}

/// The bytes of a key: borrowed, or a copy that is wiped when dropped.
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

/// A key that is looked for anywhere in a text.
#[derive(Clone)]
struct Key<'k>(Bytes<'k>);

impl<'k> Key<'k> {
    fn new(key: &'k [u8]) -> Self {
        Self(Bytes::Lent(key))
    }

    fn into_owned(self) -> Key<'static> {
        Key(self.0.into_owned())
    }

    /// The first bytes of its forms.
    fn beginnings(&self) -> impl Iterator<Item = [u8; BEGINNING]> {
        let plain = self.0.first_chunk().copied();
        plain.into_iter().chain(LEADS.iter().flat_map(|lead| {
            let mut sextets = lead.sextets(&self.0).map(written);
            let mut next = || sextets.next().unwrap_or_default();
            let [first, second, third] = [next(), next(), next()];
            [[first[0], second[0], third[0]], [first[1], second[1], third[1]]]
        }))
    }

    /// Whether `text` begins with one of its forms.
    fn begins(&self, text: &[u8], alike: Alike) -> bool {
        let plainly = text.get(..self.0.len()).is_some_and(|text| match alike {
            Alike::Exact => *text == *self.0,
            Alike::AnyCase => text.eq_ignore_ascii_case(&self.0),
        });
        plainly || LEADS.iter().any(|lead| lead.begins(text, &self.0, alike))
    }
}

/// When two bytes are the same.
#[derive(Clone, Copy)]
enum Alike {
    Exact,
    AnyCase,
}

/// The bytes with which the keys' forms may begin. For each byte, bits say at which of the first places of a form it may stand: the bits from
/// [`Alike::Exact`]'s shift on as it is, those from [`Alike::AnyCase`]'s on in either case.
#[derive(Clone)]
struct Beginnings([u8; 256]);

/// How many bytes of a form are looked at.
const BEGINNING: usize = 3;

impl Alike {
    fn shift(self) -> u32 {
        match self {
            Self::Exact => 0,
            Self::AnyCase => 4,
        }
    }

    /// The bit of the last place that is looked at.
    fn last(self) -> u8 {
        1 << (BEGINNING - 1) << self.shift()
    }
}

impl Beginnings {
    fn add(&mut self, beginning: [u8; BEGINNING]) {
        for (place, byte) in beginning.into_iter().enumerate() {
            let bit = 1 << place;
            self.0[usize::from(byte)] |= bit << Alike::Exact.shift();
            for byte in [byte.to_ascii_lowercase(), byte.to_ascii_uppercase()] {
                self.0[usize::from(byte)] |= bit << Alike::AnyCase.shift();
            }
        }
    }

    /// The places that may have been reached after one more byte: its first place, and the next one of each place that was reached before.
    fn after(&self, reached: u8, byte: u8) -> u8 {
        const FIRST: u8 = 0b0001_0001;
        (reached << 1 | FIRST) & self.0[usize::from(byte)]
    }

    /// Whether a form may begin anywhere in `text`. Without a branch for each byte, because nearly all texts have none.
    fn are_in(&self, text: &[u8], alike: Alike) -> bool {
        let (mut reached, mut ever) = (0, 0);
        for byte in text {
            reached = self.after(reached, *byte);
            ever |= reached;
        }
        ever & alike.last() != 0
    }

    /// The offsets in `text` at which a form may begin.
    fn offsets(&self, text: &[u8], alike: Alike) -> impl Iterator<Item = usize> {
        let mut reached = 0;
        text.iter().enumerate().filter_map(move |(at, byte)| {
            reached = self.after(reached, *byte);
            (reached & alike.last() != 0).then(|| at + 1 - BEGINNING)
        })
    }
}

impl Default for Beginnings {
    fn default() -> Self {
        Self([0; 256])
    }
}

/// Where a key stands in its base64: how many of its first bits share a character with the bytes before it, of which there are none,
/// one or two in its group of three (RFC 4648 section 4).
struct Lead {
    shared: usize,
}

const LEADS: [Lead; 3] = [Lead { shared: 0 }, Lead { shared: 4 }, Lead { shared: 2 }];

impl Lead {
    /// What the characters that depend on the key alone stand for.
    fn sextets(&self, key: &[u8]) -> impl Iterator<Item = u8> {
        (self.shared..(key.len() * 8).saturating_sub(5)).step_by(6).map_while(|bit| {
            let pair = [*key.get(bit / 8)?, key.get(bit / 8 + 1).copied().unwrap_or_default()];
            Some((u16::from_be_bytes(pair) >> (10 - bit % 8)) as u8 & 63)
        })
    }

    /// Whether `text` begins with these characters, of either alphabet.
    fn begins(&self, text: &[u8], key: &[u8], alike: Alike) -> bool {
        let mut bytes = text.iter();
        self.sextets(key).all(|sextet| {
            let characters = written(sextet);
            bytes.next().is_some_and(|byte| match alike {
                Alike::Exact => characters.contains(byte),
                Alike::AnyCase => characters.iter().any(|character| character.eq_ignore_ascii_case(byte)),
            })
        })
    }
}

/// What base64 writes for six bits, in the one alphabet and the other (RFC 4648 sections 4 and 5).
fn written(sextet: u8) -> [u8; 2] {
    match sextet {
        0..26 => [b'A' + sextet; 2],
        26..52 => [b'a' + sextet - 26; 2],
        52..62 => [b'0' + sextet - 52; 2],
        62 => [b'+', b'-'],
        _ => [b'/', b'_'],
    }
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
