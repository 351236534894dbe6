//! The forms in which a key may be written, for the integration tests and for the unit tests of `policy`, which include this file.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD},
};
use proptest::prelude::*;

/// A form in which a key may be written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Form {
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

/// Any form.
pub(crate) fn form() -> impl Strategy<Value = Form> {
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
    /// Writes the key in this form, together with `before` and `after`, which are encoded too. `Basic` has no `after`.
    pub(crate) fn write(self, key: &str, before: &str, after: &str) -> String {
        let inner = format!("{before}{key}{after}");
        match self {
            Self::Plain => inner,
            Self::Percent(mix) => percent(&inner, mix),
            Self::TwicePercent(mix) => percent(&percent(&inner, mix), mix.rotate_left(9)),
            Self::Base64 => STANDARD.encode(inner),
            Self::Base64Url => URL_SAFE.encode(inner),
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
