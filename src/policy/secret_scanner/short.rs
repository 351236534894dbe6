//! Keys that are too short to be searched for within texts.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use super::Bytes;

/// As lenient as the programs that decode it.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// A key of less than eight bytes, such as `dev`. It occurs in ordinary texts by chance, and guessing it needs no leak, so it is
/// found only as a value's last word (`Bearer dev`), plainly or in base64, alone or beside a colon (`Basic`).
#[derive(Clone)]
pub(super) struct ShortKey<'k>(Bytes<'k>);

impl<'k> ShortKey<'k> {
    pub(super) fn new(key: &'k [u8]) -> Self {
        Self(Bytes::Lent(key))
    }

    pub(super) fn into_owned(self) -> ShortKey<'static> {
        ShortKey(self.0.into_owned())
    }

    pub(super) fn is_key(&self, key: &[u8]) -> bool {
        verify_slices_are_equal(&self.0, key).is_ok()
    }

    pub(super) fn is(&self, text: &[u8]) -> bool {
        let word = last_word(text);
        let decodes = |engine: &GeneralPurpose| engine.decode(word).is_ok_and(|text| self.is_login(&text));
        // No longer than a user's name of ordinary length, so the decoding is bounded.
        self.is_login(word) || (word.len() <= 512 && (decodes(&STANDARD) || decodes(&URL_SAFE)))
    }

    pub(super) fn is_in_any_case(&self, name: &[u8]) -> bool {
        name.eq_ignore_ascii_case(&self.0)
    }

    /// The key, `user:key` or `key:password`.
    fn is_login(&self, text: &[u8]) -> bool {
        let key = &*self.0;
        text == key
            || text.strip_suffix(key).is_some_and(|user| user.ends_with(b":"))
            || text.strip_prefix(key).is_some_and(|password| password.starts_with(b":"))
    }
}

fn last_word(text: &[u8]) -> &[u8] {
    text.trim_ascii_end().rsplit(u8::is_ascii_whitespace).next().unwrap_or_default()
}
