//! Recognising the ordinary middle chunk of a stream without parsing it.

use memchr::{memchr, memmem, memrchr};

/// Most bytes of a pattern that are kept, beginning and end together. A usual one has 250.
const PATTERN_LIMIT: usize = 1024;

/// Patterns that may be learnt one after another without a match; then no more are learnt.
const PATIENCE: u8 = 8;

/// What the chunks of one stream have in common: all their bytes but those of the delta.
///
/// One chunk is parsed and says nothing new; a later one that begins and ends with the very same bytes around its
/// delta says nothing new either. **Why that is certain** (of valid JSON, for any order of keys and any white space): the
/// beginning ends inside the object of a `delta` key, which is a key and not text because in text its first quote would
/// have a backslash before it. The middle has no `}`, so it cannot leave that object, and the end, the same bytes as
/// before, closes as many objects as before. So all that lies outside the delta is the same. For legacy completions
/// the same holds of the string of a `text` key, a middle without `"`, and an end that begins with `"`.
///
/// A last member `obfuscation`, random in content and length, is left out of the comparison.
#[derive(Debug)]
pub(super) struct Ordinary {
    key: &'static [u8],
    opening: u8,
    closing: u8,
    /// The beginning, then the end.
    pattern: Vec<u8>,
    beginning: usize,
    recognised: bool,
    unmatched: u8,
}

impl Ordinary {
    /// For chat completions: what lies outside `delta`.
    pub(super) fn chat() -> Self {
        Self::around(b"\"delta\"", b'{', b'}')
    }

    /// For legacy completions: what lies outside `text`.
    pub(super) fn completions() -> Self {
        Self::around(b"\"text\"", b'"', b'"')
    }

    fn around(key: &'static [u8], opening: u8, closing: u8) -> Self {
        let pattern = Vec::new();
        Self { key, opening, closing, pattern, beginning: 0, recognised: true, unmatched: 0 }
    }

    /// Whether `data` differs from the chunk last learnt in its delta alone.
    pub(super) fn matches(&mut self, data: &[u8]) -> bool {
        let matches = self.middle(data).is_some_and(|middle| memchr(self.closing, middle).is_none());
        self.recognised |= matches;
        matches
    }

    /// Makes `data`, which was parsed and says nothing new, the pattern for the chunks to come.
    pub(super) fn learn(&mut self, data: &[u8]) {
        if self.middle(data).is_some() {
            // Only a closing byte within the delta hid it; the pattern is as good as before.
            return;
        }
        self.unmatched = if self.recognised { 0 } else { self.unmatched.saturating_add(1) };
        self.recognised = false;
        self.pattern.clear();
        let Some(beginning) = self.delta_at(data) else { return };
        let (before, rest) = data.split_at(beginning);
        let rest = without_obfuscation(rest);
        let Some(end) = memchr(self.closing, rest).and_then(|at| rest.get(at..)) else { return };
        if self.unmatched < PATIENCE && before.len() + end.len() <= PATTERN_LIMIT {
            self.beginning = beginning;
            self.pattern.reserve_exact(before.len() + end.len());
            self.pattern.extend_from_slice(before);
            self.pattern.extend_from_slice(end);
        }
    }

    /// What the pattern leaves of `data`, if that begins and ends as the pattern does.
    fn middle<'d>(&self, data: &'d [u8]) -> Option<&'d [u8]> {
        let (beginning, end) = self.pattern.split_at_checked(self.beginning)?;
        let rest = data.strip_prefix(beginning).filter(|_| !end.is_empty())?;
        without_obfuscation(rest).strip_suffix(end)
    }

    /// Where the first delta's content begins.
    fn delta_at(&self, data: &[u8]) -> Option<usize> {
        let key = memmem::find_iter(data, self.key)
            .find(|at| at.checked_sub(1).and_then(|before| data.get(before)) != Some(&b'\\'))?;
        let behind = data.get(key + self.key.len()..)?.trim_ascii_start().strip_prefix(b":")?;
        let inside = behind.trim_ascii_start().strip_prefix(&[self.opening])?;
        Some(data.len() - inside.len())
    }
}

/// The chunk up to the value of its last member, if that is `obfuscation`.
fn without_obfuscation(data: &[u8]) -> &[u8] {
    let end = data.strip_suffix(b"\"}").and_then(|value| value.get(..memrchr(b'"', value)?));
    end.filter(|end| end.ends_with(b"\"obfuscation\":") || end.ends_with(b"\"obfuscation\": "))
        .unwrap_or(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPACT: &str = r#"{"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"a"},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"xY9"}"#;

    fn learnt(data: &str) -> Ordinary {
        let mut ordinary = Ordinary::chat();
        assert!(!ordinary.matches(data.as_bytes()), "nothing is ordinary at first");
        ordinary.learn(data.as_bytes());
        ordinary
    }

    fn matches(ordinary: &mut Ordinary, data: &str) -> bool {
        ordinary.matches(data.as_bytes())
    }

    #[test]
    fn only_the_delta_and_the_obfuscation_may_differ() {
        let mut ordinary = learnt(COMPACT);
        assert!(matches(&mut ordinary, COMPACT));
        assert!(matches(&mut ordinary, &COMPACT.replace("\"a\"", "\" \\\"usage\\\": {\\n 日本\"")));
        assert!(matches(&mut ordinary, &COMPACT.replace("xY9", "a much longer one")));
        for (from, to) in [
            ("null}]", "\"stop\"}]"),
            ("\"usage\":null", "\"usage\":{\"prompt_tokens\":1}"),
            ("\"usage\":null", "\"error\":{\"message\":\"x\"}"),
            ("\"index\":0", "\"index\":1"),
            ("\"id\"", "\"error\":1,\"id\""),
            ("\"a\"}", "\"a\"},\"finish_reason\":\"stop\"},{\"delta\":{}"),
            ("\"obfuscation\"", "\"x\":1,\"obfuscation\""),
        ] {
            assert!(COMPACT.contains(from));
            assert!(!matches(&mut ordinary, &COMPACT.replace(from, to)), "{from} → {to}");
        }
    }

    #[test]
    fn any_order_and_any_white_space() {
        let spaced = r#"{ "usage": null, "choices": [ { "finish_reason": null, "delta" : { "content": "a" }, "index": 0 } ] }"#;
        let mut ordinary = learnt(spaced);
        assert!(matches(&mut ordinary, &spaced.replace("\"a\"", "\"b\"")));
        assert!(!matches(&mut ordinary, &spaced.replace("\"index\": 0", "\"index\": 2")));
        assert!(!matches(&mut ordinary, &spaced.replace("\"usage\": null", "\"usage\": {}")));
    }

    #[test]
    fn a_closing_byte_in_the_delta_hides_one_chunk_only() {
        let mut ordinary = learnt(COMPACT);
        let hidden = COMPACT.replace("\"a\"", "\"}\"");
        assert!(!matches(&mut ordinary, &hidden));
        ordinary.learn(hidden.as_bytes());
        assert!(matches(&mut ordinary, COMPACT));
    }

    #[test]
    fn a_key_that_is_only_quoted_is_no_key() {
        let quoting = COMPACT.replace("\"c\"", r#""\"delta\":{""#);
        let mut ordinary = learnt(&quoting);
        assert!(matches(&mut ordinary, &quoting.replace("\"a\"", "\"b\"")));
        assert!(!matches(&mut ordinary, &quoting.replace("\"m\"", "\"n\"")));
    }

    #[test]
    fn legacy_completions_differ_in_their_text() {
        let chunk = r#"{"id":"c","choices":[{"text":"a","index":0,"logprobs":null,"finish_reason":null}],"model":"m"}"#;
        let mut ordinary = Ordinary::completions();
        ordinary.learn(chunk.as_bytes());
        assert!(matches(&mut ordinary, &chunk.replace("\"a\"", "\" {}}]\"")));
        assert!(!matches(&mut ordinary, &chunk.replace("\"a\"", "\"\",\"finish_reason\":\"stop\"")));
        assert!(!matches(&mut ordinary, &chunk.replace("null}", "\"length\"}")));
    }

    #[test]
    fn learning_unmatched_ends_and_memory_is_bounded() {
        let mut ordinary = Ordinary::chat();
        for round in 0..100 {
            ordinary.learn(COMPACT.replace("\"c\"", &format!("\"{round}\"")).as_bytes());
        }
        assert!(!matches(&mut ordinary, &COMPACT.replace("\"c\"", "\"99\"")));
        let mut ordinary = learnt(&COMPACT.replace("\"c\"", &format!("\"{}\"", "c".repeat(PATTERN_LIMIT))));
        assert_eq!(ordinary.pattern.capacity(), 0);
        ordinary.learn(COMPACT.as_bytes());
        assert!(matches(&mut ordinary, COMPACT));
    }
}
