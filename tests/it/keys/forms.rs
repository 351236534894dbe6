//! How a key may be written, and how to find it again: the finder shares nothing with the gateway's own.

use base64::{
    Engine,
    alphabet::URL_SAFE,
    engine::{
        DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig,
        general_purpose::{STANDARD, URL_SAFE as URL_SAFE_PADDED, URL_SAFE_NO_PAD},
    },
};
use percent_encoding::percent_decode;
use proptest::prelude::*;

/// How a key may be written.
#[derive(Debug, Clone, Copy)]
pub enum Form {
    Plain,
    /// The bytes whose bit is set are percent-encoded, in upper case where the next bit is.
    Percent(u64),
    TwicePercent(u64),
    Base64,
    Base64Url,
    Base64Unpadded,
    Base64ThenPercent(u64),
    Basic,
}

/// Any of them.
pub fn form() -> impl Strategy<Value = Form> {
    prop_oneof![
        Just(Form::Plain),
        any::<u64>().prop_map(Form::Percent),
        any::<u64>().prop_map(Form::TwicePercent),
        Just(Form::Base64),
        Just(Form::Base64Url),
        Just(Form::Base64Unpadded),
        any::<u64>().prop_map(Form::Base64ThenPercent),
        Just(Form::Basic),
    ]
}

impl Form {
    /// The key in this form, `before` and `after` being inside what is encoded.
    pub fn write(self, key: &str, before: &str, after: &str) -> String {
        let inner = format!("{before}{key}{after}");
        match self {
            Self::Plain => inner,
            Self::Percent(mix) => percent(&inner, mix),
            Self::TwicePercent(mix) => percent(&percent(&inner, mix), mix.rotate_left(9)),
            Self::Base64 => STANDARD.encode(inner),
            Self::Base64Url => URL_SAFE_PADDED.encode(inner),
            Self::Base64Unpadded => URL_SAFE_NO_PAD.encode(inner),
            Self::Base64ThenPercent(mix) => percent(&STANDARD.encode(inner), mix),
            Self::Basic => format!("Basic {}", STANDARD.encode(format!("{before}:{key}"))),
        }
    }
}

fn percent(text: &str, mix: u64) -> String {
    let bit = |at: usize| mix.rotate_right(at as u32) & 1 == 1;
    let one = |(at, byte): (usize, u8)| match (bit(at) || byte == b'%', bit(at + 1)) {
        (false, _) => char::from(byte).to_string(),
        (true, false) => format!("%{byte:02x}"),
        (true, true) => format!("%{byte:02X}"),
    };
    text.bytes().enumerate().map(one).collect()
}

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
