//! How to find a key again, however it is written: the finder shares nothing with the gateway's own.

use base64::{
    Engine,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use percent_encoding::percent_decode;
use proptest::prelude::*;

pub(super) use super::key_forms::{Form, form};

/// What can be found of `key` in `text`: the way in which it can be read, if there is one.
pub fn revealed(text: &[u8], key: &str) -> Option<String> {
    let mut text = text.to_vec();
    for decoded in ["as it is", "decoded once", "decoded twice"] {
        if holds(&text, key) {
            return Some(format!("{decoded}: {}", String::from_utf8_lossy(&text)));
        }
        if let Some(run) = base64_runs(&text).find(|run| decodes_to(run, key)) {
            return Some(format!("{decoded}, in base64: {}", String::from_utf8_lossy(run)));
        }
        if !text.contains(&b'%') {
            return None;
        }
        text = percent_decode(&text).collect();
    }
    None
}

fn holds(text: &[u8], key: &str) -> bool {
    memchr::memmem::find(text, key.as_bytes()).is_some()
        || memchr::memmem::find(&text.to_ascii_lowercase(), key.to_ascii_lowercase().as_bytes()).is_some()
}

fn base64_runs(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let of_it = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte);
    text.split(move |byte| !of_it(byte)).filter(|run| run.len() >= 16)
}

/// Whether base64 that begins at some character of `run` holds the key.
fn decodes_to(run: &[u8], key: &str) -> bool {
    let lenient = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let engine = GeneralPurpose::new(&URL_SAFE, lenient);
    let run: Vec<u8> = run.iter().map(|&byte| if byte == b'+' { b'-' } else { byte }).collect();
    let run: Vec<u8> = run.into_iter().map(|byte| if byte == b'/' { b'_' } else { byte }).collect();
    (0..4).any(|start| {
        let part = &run[start..];
        // One character too many holds less than a byte.
        let whole = if part.len() % 4 == 1 { part.len() - 1 } else { part.len() };
        engine
            .decode(&part[..whole])
            .is_ok_and(|bytes| memchr::memmem::find(&bytes, key.as_bytes()).is_some())
    })
}

#[test]
fn the_finder_finds() {
    let key = "ck~?/+=-_.client~~??//";
    let text = format!("noise {} more", Form::Basic.write(key, "me", ""));
    assert!(revealed(text.as_bytes(), key).is_some());
    assert_eq!(revealed(b"ck~?/+=-_.client~~??/ and bm90aGluZyBhdCBhbGwgaW4gaXQ=", key), None);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn the_finder_finds_every_form(key in "[!-~]{16,40}", form in form(), inside in "[ -~]{0,5}", outside in "[a-z]{0,5}") {
        let text = format!("{outside} {outside}{}{outside}", form.write(&key, &inside, &inside));
        prop_assert!(revealed(text.as_bytes(), &key).is_some(), "{}", text);
    }
}
