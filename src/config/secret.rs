//! Keys: in clear, to be sent upstream and never shown; and hashed, to identify a client.

use std::{fmt, str::FromStr, sync::Arc};

use zeroize::Zeroizing;

use crate::key_digest::key_digest;

mod invalid;

pub use invalid::InvalidSecret;

/// A key, password or token in clear. Its memory is wiped when the last clone is dropped, its `Debug` does not show it, and it has no
/// `Display`. It is always a valid header value.
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    /// Reads a key, a token or a password from the content of an environment variable or a file; newlines at its end are removed.
    ///
    /// # Errors
    /// If the rest is not one word of visible ASCII, or looks as if something else was pasted with the secret.
    pub fn new(content: &[u8]) -> Result<Self, InvalidSecret> {
        InvalidSecret::of_secret(without_newlines(content)).map(Self::of)
    }

    /// Reads the value of a header, which may have spaces in it.
    ///
    /// # Errors
    /// If it is not one line of visible ASCII and spaces, or looks as if something else was pasted with the value.
    pub fn header_value(content: &[u8]) -> Result<Self, InvalidSecret> {
        InvalidSecret::of_header_value(without_newlines(content)).map(Self::of)
    }

    /// The secret itself, for the header or comparison it is meant for.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn of(text: &str) -> Self {
        Self(Arc::new(Zeroizing::new(text.to_owned())))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// SHA-256 of the bytes of a client key. The gateway knows a client key by its hash only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// The hash of a key as the client sends it.
    #[must_use]
    pub fn of(key: &[u8]) -> Self {
        Self(key_digest(key))
    }

    /// The hash's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for KeyHash {
    type Err = InvalidKeyHash;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("sha256:").ok_or(InvalidKeyHash)?.as_bytes();
        let mut hash = [0; 32];
        if digits.len() != 2 * hash.len() {
            return Err(InvalidKeyHash);
        }
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair.iter().try_fold(0, |high, digit| Ok(high << 4 | nibble(*digit)?))?;
        }
        Ok(Self(hash))
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second, ..] = self.0;
        write!(f, "KeyHash({first:02x}{second:02x}…)")
    }
}

/// Error: a text is not `sha256:` and 64 lowercase hex digits. Does not contain the text, which may be a key in clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the hash of a key: `sha256:` and 64 lowercase hex digits are expected")]
pub struct InvalidKeyHash;

fn without_newlines(content: &[u8]) -> &[u8] {
    let length = content.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
    content.get(..length).unwrap_or_default()
}

fn nibble(digit: u8) -> Result<u8, InvalidKeyHash> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(InvalidKeyHash),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_trimmed_and_never_shown() {
        let secret = Secret::new(b"sk-abc\r\n").expect("valid");
        assert_eq!(secret.expose(), "sk-abc");
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert_eq!(Secret::new(b"\n").expect_err("empty"), InvalidSecret::Empty);
        assert_eq!(Secret::header_value(b"Bearer sk-abc\n").expect("valid").expose(), "Bearer sk-abc");
    }

    #[test]
    fn the_hash_is_sha256_of_the_keys_bytes() {
        // FIPS 180-4's example for "abc".
        let written = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(KeyHash::of(b"abc").to_string(), written);
        assert_eq!(written.parse(), Ok(KeyHash::of(b"abc")));
        assert_eq!(format!("{:?}", KeyHash::of(b"abc")), "KeyHash(ba78…)");
    }

    #[test]
    fn only_the_written_form_is_a_hash() {
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let wrong = [
            hex.to_owned(),
            format!("sha256:{}", hex.to_uppercase()),
            format!("sha256:{hex}0"),
            "sk-x".to_owned(),
        ];
        for text in wrong {
            assert_eq!(text.parse::<KeyHash>(), Err(InvalidKeyHash), "{text}");
        }
    }
}
