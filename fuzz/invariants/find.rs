//! Finds a key in a text by undoing what is done to texts on their way. Shares nothing with the gateway's own search, which does
//! the same to the key.

use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use percent_encoding::percent_decode;

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);

/// Whether `key` is in `text`: as it is, in base64 of either alphabet within something longer, after percent-decoding up to twice.
pub fn revealed(text: &[u8], key: &[u8]) -> bool {
    let mut text = text.to_vec();
    for _ in 0..3 {
        if holds(&text, key) || in_base64(&text, key, b"+/") || in_base64(&text, key, b"-_") {
            return true;
        }
        text = percent_decode(&text).collect();
    }
    false
}

fn holds(text: &[u8], key: &[u8]) -> bool {
    memchr::memmem::find(text, key).is_some()
}

/// Whether base64 that begins at some character holds the key; `signs` tell the alphabet.
fn in_base64(text: &[u8], key: &[u8], signs: &[u8; 2]) -> bool {
    let alphabet = if signs == b"+/" { &STANDARD } else { &URL_SAFE };
    let engine = GeneralPurpose::new(alphabet, LENIENT);
    let of_it = |byte: &u8| byte.is_ascii_alphanumeric() || signs.contains(byte);
    text.split(|byte| !of_it(byte)).any(|run| {
        (0..run.len().min(4)).any(|start| {
            // One character beyond a group of four holds less than a byte.
            let part = &run[start..];
            let whole = if part.len() % 4 == 1 { part.len() - 1 } else { part.len() };
            engine.decode(&part[..whole]).is_ok_and(|bytes| holds(&bytes, key))
        })
    })
}
