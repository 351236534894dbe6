//! The beginning of a request's prompt: the part that an upstream with a prompt cache finds again in later requests.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// Bytes of each part that count.
const KEPT: usize = 4 << 10;

#[derive(Deserialize)]
struct Body<'a> {
    /// Messages
    #[serde(borrow, default)]
    system: Option<&'a RawValue>,
    /// Responses
    #[serde(borrow, default)]
    instructions: Option<&'a RawValue>,
    #[serde(borrow, default)]
    messages: Option<Opening<'a>>,
    /// Responses, embeddings
    #[serde(borrow, default)]
    input: Option<Opening<'a>>,
    /// Completions
    #[serde(borrow, default)]
    prompt: Option<Opening<'a>>,
}

/// The parts of a list up to the first message of a user's, which stay the same for as long as a conversation goes on; or a text.
struct Opening<'a>(Vec<&'a str>);

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    role: Option<&'a RawValue>,
}

/// The parts of the prompt that later requests of the same conversation begin with too, in their order, each as it is written.
/// `None` when the body is not a JSON object, or has no prompt.
pub fn opening(body: &[u8]) -> Option<Vec<&[u8]>> {
    // serde would take a list for a struct, too.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    let Body { system, instructions, messages, input, prompt } = serde_json::from_slice(body).ok()?;
    let texts = messages.or(input).or(prompt)?.0;
    let before = system.into_iter().chain(instructions).map(RawValue::get);
    let kept = |text: &'_ str| text.len().min(KEPT);
    Some(before.chain(texts).map(|text| &text.as_bytes()[..kept(text)]).collect())
}

impl<'de: 'a, 'a> Deserialize<'de> for Opening<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        if !raw.get().starts_with('[') {
            return Ok(Self(vec![raw.get()]));
        }
        let mut nested = serde_json::Deserializer::from_str(raw.get());
        nested.deserialize_seq(Parts).map_err(serde::de::Error::custom)
    }
}

struct Parts;

impl<'de> Visitor<'de> for Parts {
    type Value = Opening<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Opening<'de>, A::Error> {
        let mut parts = Vec::new();
        while let Some(part) = list.next_element::<&RawValue>()? {
            parts.push(part.get());
            let role = serde_json::from_str::<Message<'_>>(part.get()).ok().and_then(|message| message.role);
            if role.is_none_or(|role| role.get() == r#""user""#) {
                while list.next_element::<IgnoredAny>()?.is_some() {}
            }
        }
        Ok(Opening(parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Option<Vec<&str>> {
        Some(opening(body.as_bytes())?.into_iter().map(|part| std::str::from_utf8(part).unwrap()).collect())
    }

    #[test]
    fn later_turns_begin_alike() {
        let first =
            r#"{"model":"m","messages":[{"role":"system","content":"S"},{"role":"user","content":"U"}]}"#;
        let second = r#"{"messages":[{"role":"system","content":"S"},{"role":"user","content":"U"},{"role":"assistant","content":"A"},{"role":"user","content":"V"}]}"#;
        assert_eq!(read(first), read(second));
        assert_eq!(read(first).unwrap().len(), 2);
    }

    #[test]
    fn every_dialect_has_one() {
        assert_eq!(read(r#"{"input":"text","instructions":"I"}"#).unwrap(), [r#""I""#, r#""text""#]);
        assert_eq!(read(r#"{"prompt":["a","b"]}"#).unwrap(), [r#""a""#]);
        let messages = r#"{"system":[{"type":"text"}],"messages":[{"role":"user","content":[1]}]}"#;
        assert_eq!(read(messages).unwrap(), [r#"[{"type":"text"}]"#, r#"{"role":"user","content":[1]}"#]);
        for none in ["", "[]", r#"["system",null,["x"]]"#, r#"{"model":"m"}"#, r#"{"messages":[1"#] {
            assert_eq!(read(none), None, "{none}");
        }
    }

    #[test]
    fn only_so_much_of_each_part_counts() {
        let long = |tail: &str| format!(r#"{{"prompt":"{}{tail}"}}"#, "x".repeat(KEPT));
        assert_eq!(read(&long("a")), read(&long("b")));
    }
}
