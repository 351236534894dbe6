//! Why the content of a file or variable is not a secret, and how to fix it.
//!
//! Most keys that "do not work" were pasted with something around them: the quotes of a shell, the whole line of an `.env` file, the byte
//! order mark of an editor. A provider answers such a key with a 401 that does not say why.

/// Why a text is not a valid [`Secret`](super::Secret). Does not contain the text. Its `Display` is a predicate: the caller names the
/// file or variable first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// Empty, apart from white space.
    #[error("is empty")]
    Empty,
    /// Begins with U+FEFF, which some editors write in front of UTF-8.
    #[error("begins with a byte order mark (BOM)")]
    ByteOrderMark,
    /// UTF-16, as `>` writes it in PowerShell 5.
    #[error("is UTF-16")]
    Utf16,
    /// A line of an `.env` file or of a shell script.
    #[error("is an assignment (NAME=value)")]
    Assignment,
    /// A JSON object, for example a service account.
    #[error("is a JSON object")]
    Json,
    /// Begins or ends with a quote.
    #[error("is in quotes")]
    Quotes,
    /// Begins with `Bearer` or `Basic`.
    #[error("begins with the authentication scheme (\"Bearer\" or \"Basic\")")]
    Scheme,
    /// Has a line break before its end.
    #[error("contains line breaks: it has several lines")]
    Lines,
    /// Begins or ends with white space.
    #[error("begins or ends with spaces")]
    Padding,
    /// Has white space in it.
    #[error("contains spaces")]
    Spaces,
    /// A header value with it would be refused or changed on the way (RFC 9110 §5.5).
    #[error("contains characters that are not visible ASCII")]
    NotVisible,
}

impl InvalidSecret {
    /// How to fix it.
    #[must_use]
    pub fn help(self) -> &'static str {
        match self {
            Self::Empty => "write the secret into it, in one line",
            Self::ByteOrderMark => "save it as UTF-8 without BOM",
            Self::Utf16 => "save it as UTF-8 without BOM (PowerShell: `Set-Content -Encoding ascii`)",
            Self::Assignment => "leave only the value: remove the name, `=` and any quotes",
            Self::Json => "leave only the secret itself, in one line",
            Self::Quotes => "remove the quotes: the content is used as it is",
            Self::Scheme => "leave only the key: the gateway writes the scheme itself",
            Self::Lines => {
                "leave one secret, in one line; several keys go into several files, listed in `keys`"
            }
            Self::Padding => "remove the spaces and tabs at the beginning and the end",
            Self::Spaces => "remove the spaces: a secret is one word of visible ASCII",
            Self::NotVisible => "copy the secret again, as plain text: a secret is one line of visible ASCII",
        }
    }

    /// What is wrong with `bytes`, of which line breaks at the end were removed, as a key, a token or a password.
    pub(super) fn of_secret(bytes: &[u8]) -> Result<&str, Self> {
        let text = plain_text(bytes)?;
        if text.starts_with('{') {
            return Err(Self::Json);
        }
        if is_assignment(text, |_| true) {
            return Err(Self::Assignment);
        }
        if text.starts_with(is_quote) || text.ends_with(is_quote) {
            return Err(Self::Quotes);
        }
        one_line(text)?;
        if has_scheme(text) {
            return Err(Self::Scheme);
        }
        if text.contains(char::is_whitespace) {
            return Err(Self::Spaces);
        }
        visible(text)
    }

    /// The same of the value of a header, which may have spaces, quotes and a scheme in it. Only the name of an environment variable is
    /// taken for an assignment: `v1=…` may be a value.
    pub(super) fn of_header_value(bytes: &[u8]) -> Result<&str, Self> {
        let text = plain_text(bytes)?;
        if is_assignment(text, |name| name.contains('_') && !name.contains(|c: char| c.is_ascii_lowercase()))
        {
            return Err(Self::Assignment);
        }
        one_line(text)?;
        visible(text)
    }
}

fn plain_text(bytes: &[u8]) -> Result<&str, InvalidSecret> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(InvalidSecret::Utf16);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| InvalidSecret::NotVisible)?;
    if text.starts_with('\u{feff}') {
        return Err(InvalidSecret::ByteOrderMark);
    }
    if text.trim().is_empty() {
        return Err(InvalidSecret::Empty);
    }
    Ok(text)
}

/// `NAME=value` or `export NAME=value`, and the name is `likely`. A key in base64 may end with `=`, but nothing follows there.
fn is_assignment(text: &str, likely: impl Fn(&str) -> bool) -> bool {
    let text = text.trim();
    let line = text.strip_prefix("export ").unwrap_or(text);
    let Some((name, value)) = line.split_once('=') else { return false };
    let name = name.trim();
    let is_word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let is_name = is_word && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    is_name && likely(name) && !value.trim_matches(['=', ' ']).is_empty()
}

fn is_quote(c: char) -> bool {
    matches!(c, '"' | '\'' | '`' | '“' | '”' | '‘' | '’' | '«' | '»')
}

fn has_scheme(text: &str) -> bool {
    let scheme = text.split_once(' ').map(|(scheme, _)| scheme).unwrap_or_default();
    scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("basic")
}

fn one_line(text: &str) -> Result<(), InvalidSecret> {
    if text.trim().contains(['\r', '\n']) {
        return Err(InvalidSecret::Lines);
    }
    if text.trim() != text {
        return Err(InvalidSecret::Padding);
    }
    Ok(())
}

fn visible(text: &str) -> Result<&str, InvalidSecret> {
    let is_visible = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if is_visible { Ok(text) } else { Err(InvalidSecret::NotVisible) }
}

#[cfg(test)]
mod tests {
    use super::{InvalidSecret::*, *};

    #[test]
    fn what_was_pasted_with_a_secret_is_named() {
        for (text, why) in [
            ("", Empty),
            (" \t", Empty),
            ("\u{feff}sk-abc", ByteOrderMark),
            ("OPENAI_API_KEY=sk-abc", Assignment),
            ("openai_key = sk-abc", Assignment),
            ("export KEY=\"sk-abc\"", Assignment),
            ("KEY=sk-abc\nOTHER=sk-def", Assignment),
            ("{\"key\":\"sk-abc\"}", Json),
            ("\"sk-abc\"", Quotes),
            ("'sk-abc'", Quotes),
            ("`sk-abc`", Quotes),
            ("sk-abc\"", Quotes),
            ("“sk-abc”", Quotes),
            ("Bearer sk-abc", Scheme),
            ("basic dTpw", Scheme),
            ("sk-abc\nsk-def", Lines),
            ("sk-abc\r\nsk-def", Lines),
            ("# my key\nsk-abc", Lines),
            (" sk-abc", Padding),
            ("sk-abc ", Padding),
            ("sk-abc\t", Padding),
            ("sk-abc\n ", Padding),
            ("sk abc", Spaces),
            ("sk\tabc", Spaces),
            ("schlüssel", NotVisible),
            ("sk-abc\u{200b}", NotVisible),
            ("sk-\0abc", NotVisible),
        ] {
            assert_eq!(InvalidSecret::of_secret(text.as_bytes()), Err(why), "{text:?}");
        }
        assert_eq!(InvalidSecret::of_secret(b"\xff\xfes\0k\0"), Err(Utf16));
        assert_eq!(InvalidSecret::of_secret(b"sk-\xff"), Err(NotVisible));
    }

    #[test]
    fn keys_of_every_alphabet_are_secrets() {
        for text in ["sk-proj-a_b-c", "YWJjZA==", "YWJjZGU=", "user:pass=word", "a.b.c", "key#1", "a\"b", "{"]
        {
            let read = InvalidSecret::of_secret(text.as_bytes());
            assert_eq!(read.is_ok(), text != "{", "{text}: {read:?}");
        }
    }

    #[test]
    fn the_value_of_a_header_may_be_more_than_one_word() {
        for text in ["Bearer sk-abc", "\"quoted\"", "v1=abc", "a b", "Signature=abc", "{\"a\": 1}"] {
            assert_eq!(InvalidSecret::of_header_value(text.as_bytes()), Ok(text));
        }
        for (text, why) in [
            ("HELICONE_API_KEY=sk-abc", Assignment),
            ("\u{feff}sk-abc", ByteOrderMark),
            ("sk-abc ", Padding),
            ("a\nb", Lines),
            ("a\tb", NotVisible),
            ("ü", NotVisible),
            ("", Empty),
        ] {
            assert_eq!(InvalidSecret::of_header_value(text.as_bytes()), Err(why), "{text:?}");
        }
    }
}
