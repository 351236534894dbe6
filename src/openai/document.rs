//! Whether a JSON document is an answer of its operation.

use std::{fmt, io::Read};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::Endpoint;

/// Why a document is no answer of its operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAnswer {
    /// The document is not JSON, or not an object.
    NotAnObject,
    /// The document has an `error` that is not null or empty.
    Error,
    /// The document lacks this member, which every answer of its operation has.
    Lacks(&'static str),
}

/// Checks that `document` is an answer of `endpoint`: a JSON object without an error, with the member that SDKs read the answer from.
///
/// Sources: the OpenAI API reference (`choices`, `data`, `output`), the Anthropic Messages API reference (`content`). Providers send errors
/// with a status of 200, for instance OpenRouter ("Errors and Debugging").
///
/// # Errors
/// The document is something else.
pub fn check_answer(endpoint: Endpoint, document: impl Read) -> Result<(), NoAnswer> {
    let wanted = Wanted::of(endpoint);
    let mut reader = serde_json::Deserializer::from_reader(document);
    let members = reader.deserialize_map(MembersVisitor(wanted)).map_err(|_| NoAnswer::NotAnObject)?;
    reader.end().map_err(|_| NoAnswer::NotAnObject)?;
    if members.error == Kind::Filled {
        return Err(NoAnswer::Error);
    }
    let Some(Wanted { member, may_be_empty }) = wanted else { return Ok(()) };
    match members.wanted {
        Kind::Filled => Ok(()),
        Kind::EmptyList if may_be_empty => Ok(()),
        Kind::EmptyList | Kind::Nothing => Err(NoAnswer::Lacks(member)),
    }
}

/// The member that an answer is read from.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    member: &'static str,
    /// A model may have nothing to say.
    may_be_empty: bool,
}

impl Wanted {
    fn of(endpoint: Endpoint) -> Option<Self> {
        let (member, may_be_empty) = match endpoint {
            Endpoint::ChatCompletions | Endpoint::Completions => ("choices", false),
            Endpoint::Embeddings => ("data", false),
            Endpoint::Responses => ("output", true),
            Endpoint::Messages => ("content", true),
            _ => return None,
        };
        Some(Self { member, may_be_empty })
    }
}

/// The members that decide; of one that is repeated the last, as in the SDKs' parsers.
#[derive(Debug)]
struct Members {
    error: Kind,
    wanted: Kind,
}

/// How much a value says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Null, false, or an empty text or object.
    Nothing,
    EmptyList,
    /// Anything else.
    Filled,
}

#[derive(Debug)]
struct MembersVisitor(Option<Wanted>);

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members = Members { error: Kind::Nothing, wanted: Kind::Nothing };
        while let Some(name) = map.next_key::<String>()? {
            if name == "error" {
                members.error = map.next_value()?;
            } else if self.0.is_some_and(|wanted| wanted.member == name) {
                members.wanted = map.next_value()?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(members)
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KindVisitor)
    }
}

#[derive(Debug)]
struct KindVisitor;

impl KindVisitor {
    fn filled(is_filled: bool) -> Kind {
        if is_filled { Kind::Filled } else { Kind::Nothing }
    }
}

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Kind, E> {
        Ok(Kind::Nothing)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Kind, E> {
        Ok(Self::filled(value))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Kind, E> {
        Ok(Kind::Filled)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Kind, E> {
        Ok(Kind::Filled)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Kind, E> {
        Ok(Kind::Filled)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Kind, E> {
        Ok(Self::filled(!value.is_empty()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Kind, A::Error> {
        let mut kind = Kind::EmptyList;
        while list.next_element::<IgnoredAny>()?.is_some() {
            kind = Kind::Filled;
        }
        Ok(kind)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kind, A::Error> {
        let mut kind = Kind::Nothing;
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            kind = Kind::Filled;
        }
        Ok(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_what_its_sdk_reads() {
        let answers = [
            (Endpoint::ChatCompletions, r#"{"choices":[{"message":{}}]}"#),
            (Endpoint::Completions, r#" {"error":null,"choices":[{}]} "#),
            (Endpoint::Embeddings, r#"{"data":[{"embedding":[0.1]}]}"#),
            (Endpoint::Responses, r#"{"error":null,"status":"incomplete","output":[]}"#),
            (Endpoint::Messages, r#"{"type":"message","content":[]}"#),
            (Endpoint::Other, r#"{"anything":1}"#),
        ];
        for (endpoint, document) in answers {
            assert_eq!(check_answer(endpoint, document.as_bytes()), Ok(()), "{document}");
        }
    }

    #[test]
    fn anything_else_is_none_whatever_its_status() {
        let chat = Endpoint::ChatCompletions;
        let lacks = NoAnswer::Lacks("choices");
        for (document, expected) in [
            ("", NoAnswer::NotAnObject),
            ("null", NoAnswer::NotAnObject),
            ("[]", NoAnswer::NotAnObject),
            ("\"choices\"", NoAnswer::NotAnObject),
            ("<html><body>busy</body></html>", NoAnswer::NotAnObject),
            (r#"{"choices":[{}]"#, NoAnswer::NotAnObject),
            (r#"{"choices":[{}]}{"#, NoAnswer::NotAnObject),
            ("{}", lacks),
            (r#"{"choices":[]}"#, lacks),
            (r#"{"choices":null,"usage":{}}"#, lacks),
            (r#"{"message":{"choices":[1]}}"#, lacks),
            (r#"{"error":{"message":"busy"}}"#, NoAnswer::Error),
            (r#"{"error":"busy","choices":[]}"#, NoAnswer::Error),
            (r#"{"choices":[{}],"error":{"code":502}}"#, NoAnswer::Error),
        ] {
            assert_eq!(check_answer(chat, document.as_bytes()), Err(expected), "{document}");
        }
        let failed = r#"{"status":"failed","error":{"code":"server_error"},"output":[]}"#;
        assert_eq!(check_answer(Endpoint::Responses, failed.as_bytes()), Err(NoAnswer::Error));
        assert!(check_answer(Endpoint::Messages, r#"{"content":null}"#.as_bytes()).is_err());
    }
}
