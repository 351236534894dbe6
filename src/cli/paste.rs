//! What people paste into a shell or a program: what may stand in it, and how.

use std::{borrow::Cow, path::Path};

use http::uri::Authority;

/// Whether a model's name needs no escaping in a shell, Python, JavaScript, JSON, TOML or YAML. A provider may list any name.
pub(super) fn is_plain_model(model: &str) -> bool {
    !model.is_empty() && model.chars().all(|one| one.is_ascii_alphanumeric() || "-._:/@".contains(one))
}

/// Whether a path needs no escaping between double quotes in any of them.
pub(super) fn is_plain_path(path: &Path) -> bool {
    let is_plain = |one: char| !one.is_control() && !"\"'\\$`!".contains(one);
    path.to_str().is_some_and(|text| text.chars().all(is_plain))
}

/// Whether it is a host with or without a port. A URI may also have user info, quotes and `$(…)` there (RFC 3986 section 3.2).
pub(super) fn is_plain_authority(authority: &Authority) -> bool {
    authority.as_str().chars().all(|one| one.is_ascii_alphanumeric() || "-._:[]".contains(one))
}

/// One word of a POSIX shell, in single quotes if it needs them.
pub(super) fn word(text: &str) -> Cow<'_, str> {
    let is_plain = |one: char| one.is_ascii_alphanumeric() || "-._:/@%+=,".contains(one);
    if !text.is_empty() && text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("'{}'", text.replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_word_stays_what_it_is_in_a_shell() {
        for text in
            ["plain/path.txt", "a b", "a'b", "$(id)", "`id`", "\"", "http://[::1]:1/v1", "a;b", "", "é"]
        {
            let output = Command::new("sh").args(["-c", &format!("printf %s {}", word(text))]).output();
            assert_eq!(String::from_utf8_lossy(&output.expect("sh").stdout), text);
        }
        assert_eq!(word("http://127.0.0.1:8080/v1"), "http://127.0.0.1:8080/v1");
    }

    #[test]
    fn what_a_shell_or_a_program_would_read_is_not_plain() {
        for model in ["", "a b", "a'b", "a\"b", "$(id)", "a\nb", "a\u{1b}[31m", "a*"] {
            assert!(!is_plain_model(model), "{model:?}");
        }
        assert!(is_plain_model("@cf/meta/llama-3.1-8b:free"));
        for path in ["a'b", "a\"b", "a$b", "a`b", "a\tb", "a\u{1b}[31m"] {
            assert!(!is_plain_path(Path::new(path)), "{path:?}");
        }
        assert!(is_plain_path(Path::new("/a folder/ä.pem")));
        for (authority, is_plain) in [
            ("llm.example.com:8443", true),
            ("[::1]:8443", true),
            ("$(id).com", false),
            ("a'b.com", false),
            ("a;id;.com", false),
            ("user:password@h.com", false),
        ] {
            assert_eq!(
                is_plain_authority(&authority.parse().expect("an authority")),
                is_plain,
                "{authority}"
            );
        }
    }
}
