//! Names: which are allowed, which may be shown in messages, and which one was probably meant.

use super::problem::{Complaint, complaint};

/// The longest name of an upstream, a route or a client, in bytes. Names are labels of metrics and log lines.
pub const MAX_NAME: usize = 64;

/// Whether this can be the name of an upstream, a route or a client: letters, digits, `-`, `_` and `.`, the first one a letter or
/// digit, and nothing that looks like a key, because names appear in logs and metrics.
#[must_use]
pub fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        && !looks_secret(name)
}

/// Whether a text may be a key that was pasted in the wrong place, so that it must not be shown. In doubt, yes.
pub(crate) fn looks_secret(text: &str) -> bool {
    text.len() > MAX_NAME || text.contains(char::is_whitespace) || text.split(['/', ':', '@']).any(is_keylike)
}

/// The text in backticks if it may be shown, otherwise the given words.
pub(crate) fn shown(text: &str, otherwise: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.*/".contains(c);
    if !text.is_empty() && text.chars().all(plain) && !looks_secret(text) {
        format!("`{text}`")
    } else {
        otherwise.to_owned()
    }
}

/// The complaint about a name that is not defined.
pub(crate) fn undefined<'n>(kind: &str, name: &str, defined: impl Iterator<Item = &'n str>) -> Complaint {
    let message = format!("no {kind} {} is defined", shown(name, "with this name"));
    let help = suggestion(name, defined)
        .unwrap_or_else(|| format!("add a [{kind}.NAME] table, or use the name of an existing one"));
    complaint(message, help)
}

/// "did you mean …?", if one of the candidates is similar. A candidate that may be a key itself is never shown.
pub(crate) fn suggestion<'n>(written: &str, candidates: impl Iterator<Item = &'n str>) -> Option<String> {
    let written = written.to_ascii_lowercase().replace('-', "_");
    let distance = |candidate: &str| strsim::damerau_levenshtein(&written, &candidate.replace('-', "_"));
    let candidates = candidates.filter(|candidate| !looks_secret(candidate));
    let (distance, nearest) = candidates.map(|name| (distance(name), name)).min()?;
    (distance <= nearest.len().max(3) / 3).then(|| format!("did you mean `{nearest}`?"))
}

/// A key has a well-known beginning, or is long and mixes letters and digits as words do not.
fn is_keylike(part: &str) -> bool {
    let has = |kind: fn(&u8) -> bool| part.as_bytes().iter().filter(|byte| kind(byte)).count();
    let (lower, upper, digits) =
        (has(u8::is_ascii_lowercase), has(u8::is_ascii_uppercase), has(u8::is_ascii_digit));
    let marked =
        ["sk-", "sk_", "eyJ", "ghp_", "AKIA", "hf_", "gsk_"].iter().any(|mark| part.starts_with(mark));
    // A key may be stuck to the end of a word, but `task-force` is a name.
    let hidden = part.split_once("sk-").is_some_and(|(_, rest)| rest.len() >= 8 && !is_lowercase(rest));
    let mixed = part.len() >= 16 && lower > 0 && upper > 0 && digits > 0;
    let numbered = part.len() >= 16 && digits >= 4;
    marked || hidden || mixed || numbered || part.starts_with("-----BEGIN")
}

fn is_lowercase(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-' || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_and_never_keys() {
        for name in ["openai", "team-a", "gpt-4.1_mini", "0", "task-force-leader"] {
            assert!(is_name(name), "{name}");
        }
        for name in
            ["", "-a", "a b", "a/b", "ü", "sk-sg-abcdef", "xsk-AbCdEfGh", "AbCdEfGh12345678", &"a".repeat(65)]
        {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn the_nearest_is_suggested_and_the_far_is_not() {
        let known = ["header_timeout", "handshake_timeout", "keep_alive"];
        let meant = |written| suggestion(written, known.into_iter());
        assert_eq!(meant("header-timeout").as_deref(), Some("did you mean `header_timeout`?"));
        assert_eq!(meant("keepalive").as_deref(), Some("did you mean `keep_alive`?"));
        assert_eq!(meant("colour"), None);
    }

    #[test]
    fn what_looks_like_a_key_is_not_shown() {
        assert_eq!(shown("openai", "it"), "`openai`");
        assert_eq!(shown("certs/server.pem", "it"), "`certs/server.pem`");
        assert_eq!(shown("sk-abcdefgh", "it"), "it");
        assert_eq!(shown("0123456789abcdef0123", "it"), "it");
    }
}
