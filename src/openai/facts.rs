//! What a request body says about the request.

use std::ops::Range;

use serde::de::{Error as _, IgnoredAny};
use thiserror::Error;

use crate::coding::Undecodable;

use super::{
    edit::EditPoints,
    json::{self, Leaf, NotJson, Object, Shape, Value},
    usage::{StreamOptions, UsagePoint},
};

/// Longest model name that a request may have, in bytes. It is copied, compared and logged for every request.
pub const MODEL_LIMIT: usize = 512;

/// The members of a JSON request body, or the fields of a form, that the gateway acts on. A member that is `null` counts as absent, and so does every member of a
/// body that is not an object.
///
/// Only `model` and `stream` must have their type and be there once. A request is not refused for any other member: the upstream checks
/// those.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Facts {
    /// `model`
    pub model: Option<String>,
    /// Models that the request names beside `model`: those that transcribe what a session hears.
    pub more_models: Vec<String>,
    /// `stream`
    pub stream: bool,
    /// `stream_options.include_usage`; false unless it is `true`.
    pub include_usage: bool,
    /// `background` (Responses); true unless it is `false`, so that a request is not sent again by mistake.
    pub background: bool,
    /// `store` (chat completions, Responses), if it is given and not `false`.
    pub store: bool,
    /// There is a `conversation` or a `previous_response_id` (Responses): the request depends on what the upstream keeps.
    pub continues: bool,
    /// One of the `tools` runs at the provider: its `type` is given, and is none that the client itself runs.
    pub hosted_tools: bool,
    /// There are MCP servers: `tools` of type `mcp` (Responses) or `mcp_toolset`, or `mcp_servers` (Anthropic Messages).
    pub mcp: bool,
    /// The largest of `max_tokens`, `max_completion_tokens` and `max_output_tokens`, in tokens. Values that are not counts are ignored:
    /// some upstreams take -1 for no limit, some take text.
    pub max_tokens: Option<u64>,
    /// Where the body can be edited.
    pub edit_points: EditPoints,
}

/// Why a request body does not give its [`Facts`]. No message has any of the body's content in it.
#[derive(Debug, Error)]
pub enum FactsError {
    /// There is no body.
    #[error("the request body is empty")]
    Empty,
    /// The body is not JSON; `source` says what is wrong there.
    #[error("the request body is not valid JSON at line {line} column {column}")]
    NotJson {
        /// Counted from 1.
        line: usize,
        /// Counted in bytes from 1; 0 is the line end before.
        column: usize,
        /// What is wrong, and once more where.
        source: serde_json::Error,
    },
    /// The body is not of the coding that its `content-encoding` names, or expands too much.
    #[error("the request body cannot be decoded: {problem}")]
    NotDecodable {
        /// What is wrong with it.
        problem: Undecodable,
    },
    /// Some upstreams would take it for `model`.
    #[error("`model` is not written in lower case")]
    OtherCase,
    /// A member is there twice. Readers differ in which they take, so the upstream might see another request than the
    /// one that was checked (RFC 8259, section 4).
    #[error("`{field}` is given more than once")]
    Duplicate {
        /// Path of the member.
        field: &'static str,
    },
    /// A member has a value of another type.
    #[error("`{field}` is not {expected}")]
    WrongType {
        /// Path of the member.
        field: &'static str,
        /// The type it must have.
        expected: Type,
    },
    /// The model's name is too long.
    #[error("`model` is longer than {MODEL_LIMIT} bytes")]
    ModelTooLong,
}

/// The type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Type {
    /// A text.
    #[error("a string")]
    String,
    /// `true` or `false`.
    #[error("a boolean")]
    Boolean,
}

impl Facts {
    /// Reads the facts in one pass over a whole JSON request body. Unknown members are skipped.
    ///
    /// # Errors
    /// The body is not JSON, or `model` or `stream` is ambiguous or of the wrong type.
    pub fn read(body: &[u8]) -> Result<Self, FactsError> {
        if body.trim_ascii_start().is_empty() {
            return Err(FactsError::Empty);
        }
        let mut request = Request::default();
        match json::read(body, &mut request) {
            Err(NotJson { at }) => Err(FactsError::not_json(body, at)),
            Ok(Shape::Null | Shape::Other) => Ok(Self::default()),
            Ok(Shape::Object) => request.facts(body),
        }
    }
}

impl FactsError {
    /// The member that is at fault, if it is one.
    pub fn param(&self) -> Option<&'static str> {
        match self {
            Self::OtherCase | Self::ModelTooLong => Some("model"),
            Self::Duplicate { field } | Self::WrongType { field, .. } => Some(field),
            Self::Empty | Self::NotJson { .. } | Self::NotDecodable { .. } => None,
        }
    }

    /// The message is serde_json's. It accepts some texts that are not UTF-8 here; then `at` gives the place of the error.
    pub(super) fn not_json(body: &[u8], at: usize) -> Self {
        let source = match serde_json::from_slice::<IgnoredAny>(body) {
            Err(source) => source,
            Ok(_) => serde_json::Error::custom("what should be text is not UTF-8, or a number is too large"),
        };
        if source.line() > 0 {
            return Self::NotJson { line: source.line(), column: source.column(), source };
        }
        let before = body.get(..at).unwrap_or_default();
        let line = memchr::memchr_iter(b'\n', before).count() + 1;
        let column = at - memchr::memrchr(b'\n', before).map_or(0, |end| end + 1);
        Self::NotJson { line, column, source }
    }
}

/// The request object being read. After the first problem the rest of the body is still read, because a body that
/// is not JSON at all is the more useful error.
#[derive(Default)]
pub(super) struct Request {
    facts: Facts,
    /// Which of `model` and `stream` have been read.
    seen: [Option<&'static str>; 2],
    problem: Option<FactsError>,
    has_members: bool,
    /// The value of `model`, as offsets in the body.
    model_at: Option<Range<usize>>,
    usage_point: UsagePoint,
    has_stream_options: bool,
    /// Azure OpenAI on your data, which rejects `stream_options` (Azure/azure-sdk-for-js#30751).
    has_data_sources: bool,
}

impl Object for Request {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        self.has_members = true;
        match key {
            b"model" => {
                let begin = value.begins_at();
                let model = self.leaf("model", value)?;
                self.model(&model);
                self.model_at = Some(begin..value.ends_at());
            }
            b"stream" => self.facts.stream = self.flag("stream", value)?,
            b"background" => {
                let is_off = matches!(value.leaf()?, Leaf::Null | Leaf::Bool(false));
                self.facts.background |= !is_off;
            }
            b"store" => {
                let is_off = matches!(value.leaf()?, Leaf::Null | Leaf::Bool(false));
                self.facts.store |= !is_off;
            }
            b"conversation" | b"previous_response_id" => self.facts.continues |= value.leaf()? != Leaf::Null,
            b"mcp_servers" => self.facts.mcp |= value.filled()?,
            b"tools" => value.each(|tool: Tool| self.note_tools(&tool))?,
            b"max_tokens" | b"max_completion_tokens" | b"max_output_tokens" => {
                self.facts.max_tokens = self.facts.max_tokens.max(value.leaf()?.count());
            }
            b"stream_options" => self.stream_options(value)?,
            b"data_sources" | b"dataSources" => self.has_data_sources |= value.leaf()? != Leaf::Null,
            // Some upstreams do not look at case (Go's encoding/json), and would take the last of both.
            key if key.eq_ignore_ascii_case(b"model") => {
                self.problem.get_or_insert(FactsError::OtherCase);
                return value.skip();
            }
            _ => return value.skip(),
        }
        Ok(())
    }
}

impl Request {
    /// The facts of an object that has been read from `body`.
    pub(super) fn facts(self, body: &[u8]) -> Result<Facts, FactsError> {
        if let Some(problem) = self.problem {
            return Err(problem);
        }
        let mut facts = self.facts;
        if let Some(brace) = body.iter().position(|byte| *byte == b'{') {
            let (model, is_empty) = (self.model_at, !self.has_members);
            let usage = if self.has_data_sources { UsagePoint::None } else { self.usage_point };
            facts.edit_points = EditPoints::Object { model, after_brace: brace + 1, is_empty, usage };
        }
        Ok(facts)
    }

    /// Notes what is known of one of the `tools`, or of all.
    pub(super) fn note_tools(&mut self, tool: &Tool) {
        self.facts.mcp |= tool.is_mcp;
        self.facts.hosted_tools |= tool.is_hosted;
    }

    fn stream_options(&mut self, value: &mut Value<'_>) -> Result<(), NotJson> {
        let (options, point) = StreamOptions::read(value)?;
        self.facts.include_usage |= options.include_usage;
        let is_second = std::mem::replace(&mut self.has_stream_options, true);
        self.usage_point = if is_second { UsagePoint::None } else { point };
        Ok(())
    }

    fn once(&mut self, field: &'static str) {
        if self.seen.contains(&Some(field)) {
            self.problem.get_or_insert(FactsError::Duplicate { field });
        } else if let Some(free) = self.seen.iter_mut().find(|seen| seen.is_none()) {
            *free = Some(field);
        }
    }

    fn wrong_type(&mut self, field: &'static str, expected: Type) {
        self.problem.get_or_insert(FactsError::WrongType { field, expected });
    }

    fn leaf<'j>(&mut self, field: &'static str, value: &mut Value<'j>) -> Result<Leaf<'j>, NotJson> {
        self.once(field);
        value.leaf()
    }

    fn model(&mut self, model: &Leaf<'_>) {
        match model {
            Leaf::Text(name) if name.len() > MODEL_LIMIT => {
                self.problem.get_or_insert(FactsError::ModelTooLong);
            }
            Leaf::Text(name) => self.facts.model = Some(name.clone().into_owned()),
            Leaf::Null => {}
            _ => self.wrong_type("model", Type::String),
        }
    }

    fn flag(&mut self, field: &'static str, value: &mut Value<'_>) -> Result<bool, NotJson> {
        match self.leaf(field, value)? {
            Leaf::Bool(flag) => return Ok(flag),
            Leaf::Null => {}
            _ => self.wrong_type(field, Type::Boolean),
        }
        Ok(false)
    }
}

/// The members of a request that are read into facts. Of `tools`, only the types are.
pub(super) const FACTS: [&str; 12] = [
    "model",
    "stream",
    "stream_options",
    "background",
    "store",
    "conversation",
    "previous_response_id",
    "mcp_servers",
    "tools",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
];

/// One of the `tools`, or what is known of all.
#[derive(Debug, Default)]
pub(super) struct Tool {
    is_hosted: bool,
    is_mcp: bool,
}

impl Object for Tool {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        if key != b"type" {
            return value.skip();
        }
        if let Leaf::Text(kind) = value.leaf()? {
            self.note(&kind);
        }
        Ok(())
    }
}

impl Tool {
    /// Notes a tool's type.
    pub(super) fn note(&mut self, kind: &str) {
        self.is_mcp |= matches!(kind, "mcp" | "mcp_toolset");
        self.is_hosted |= !runs_at_client(kind);
    }
}

/// Whether tools of this type are only described to the model, and run at the client.
///
/// Sources: OpenAI API reference, Responses `tools`; Anthropic's list of client tools, whose types end in a date.
fn runs_at_client(kind: &str) -> bool {
    const WHOLE: [&str; 4] = ["function", "custom", "local_shell", "apply_patch"];
    const BEGINNINGS: [&str; 4] = ["computer", "bash_", "text_editor_", "memory_"];
    WHOLE.contains(&kind) || BEGINNINGS.iter().any(|beginning| kind.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> String {
        Facts::read(body.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn the_members_that_count_in_any_order() {
        let body = r#"{"messages":[{"role":"user","content":"\"model\":\"x\" {\ud83d\ude00","model":"inner","stream":1}],
            "stream_options":{"other":1,"include_usage":true}, "max_completion_tokens":100,"max_tokens":7,
            "stream" : true, "mod\u0065l":"gpt-\u0034o","background":true,"unknown":{"a":[1,{}]}}"#;
        let at = body.find(r#""gpt-"#).unwrap();
        let model = Some(at..at + r#""gpt-\u0034o""#.len());
        let expected = Facts {
            model: Some("gpt-4o".into()),
            stream: true,
            include_usage: true,
            background: true,
            max_tokens: Some(100),
            edit_points: EditPoints::Object {
                model,
                after_brace: 1,
                is_empty: false,
                usage: UsagePoint::None,
            },
            ..Facts::default()
        };
        assert_eq!(Facts::read(body.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn null_is_absent_and_no_limit_is_not_known() {
        let body =
            r#"{"model":null,"stream":null,"stream_options":null,"max_tokens":-1,"max_output_tokens":1.5}"#;
        let model = Some(9..13);
        let null = body.find("null,\"max_tokens").unwrap();
        let usage = UsagePoint::NullOptions(null..null + 4);
        let edit_points = EditPoints::Object { model, after_brace: 1, is_empty: false, usage };
        assert_eq!(Facts::read(body.as_bytes()).unwrap(), Facts { edit_points, ..Facts::default() });
        let usage = UsagePoint::NoOptions;
        let edit_points = EditPoints::Object { model: None, after_brace: 2, is_empty: true, usage };
        assert_eq!(Facts::read(b" {} \n").unwrap(), Facts { edit_points, ..Facts::default() });
    }

    #[test]
    fn a_member_twice_is_refused() {
        assert_eq!(refused(r#"{"model":"a","model":"b"}"#), "`model` is given more than once");
        assert_eq!(refused(r#"{"model":"a","mode\u006c":"a"}"#), "`model` is given more than once");
        assert_eq!(refused(r#"{"stream":true,"x":{},"stream":true}"#), "`stream` is given more than once");
    }

    #[test]
    fn a_wrong_type_is_refused_by_name() {
        assert_eq!(refused(r#"{"model":["secret"]}"#), "`model` is not a string");
        assert_eq!(refused(r#"{"stream":"true"}"#), "`stream` is not a boolean");
        assert_eq!(
            refused(&format!(r#"{{"model":"{}"}}"#, "m".repeat(513))),
            "`model` is longer than 512 bytes"
        );
    }

    #[test]
    fn a_member_that_is_not_used_never_refuses_a_request() {
        let read = |body: &str| Facts {
            edit_points: EditPoints::default(),
            ..Facts::read(body.as_bytes()).unwrap()
        };
        for body in [
            r#"{"max_tokens":"100"}"#,
            r#"{"max_tokens":["many"],"max_tokens":{}}"#,
            r#"{"stream_options":[]}"#,
            r#"{"stream_options":{"include_usage":"yes"}}"#,
            r#"{"background":false,"stream_options":1,"stream_options":{}}"#,
        ] {
            assert_eq!(read(body), Facts::default(), "{body}");
        }
        let tokens = |body| read(body).max_tokens;
        assert_eq!(tokens(r#"{"max_tokens":"100","max_output_tokens":7}"#), Some(7));
        assert_eq!(tokens(r#"{"max_tokens":5,"max_tokens":9,"max_tokens":true}"#), Some(9));
        // Images are generated with `"background":"transparent"`.
        for body in [r#"{"background":"transparent"}"#, r#"{"background":true,"background":false}"#] {
            assert!(read(body).background, "{body}");
        }
        let twice = r#"{"stream_options":{"include_usage":true,"include_usage":false}}"#;
        assert!(read(twice).include_usage);
    }

    #[test]
    fn a_body_that_is_not_an_object_has_no_members() {
        for body in ["[]", "[{\"model\":\"m\"}]", "\"text\"", "1", "null", "true"] {
            assert_eq!(Facts::read(body.as_bytes()).unwrap(), Facts::default(), "{body}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused_with_its_place() {
        assert_eq!(refused(""), "the request body is empty");
        assert_eq!(refused(" \r\n"), "the request body is empty");
        for (body, at) in [
            ("{\n \"secret\" 1}", "line 2 column 11"),
            ("{\"model\":\"a\"", "line 1 column 12"),
            ("{} {}", "line 1 column 4"),
            ("{\"model\":[1],\"x\":secret}", "line 1 column 18"),
            ("model=secret", "line 1 column 1"),
        ] {
            assert_eq!(refused(body), format!("the request body is not valid JSON at {at}"), "{body}");
        }
    }

    #[test]
    fn no_error_has_body_content_in_it() {
        for body in [
            "{\"a\":secret}",
            "{\"model\":\"secret\u{1}\"}",
            "{\"a\":\"\\secret\"}",
            "[secret",
            "{\"stream\":\"secret\"}",
            "{secret:1}",
        ] {
            let mut told = String::new();
            let error = Facts::read(body.as_bytes()).unwrap_err();
            let mut cause: Option<&dyn std::error::Error> = Some(&error);
            while let Some(error) = cause {
                told += &format!("{error} {error:?} ");
                cause = error.source();
            }
            assert!(!told.contains("secret"), "{told}");
        }
    }

    #[test]
    fn deep_nesting_and_bytes_that_are_not_text_are_passed_over() {
        let body = [
            br#"{"x":"#.as_slice(),
            &b"[".repeat(100_000),
            &b"]".repeat(100_000),
            b",\"y\":\"\xFF\",\"stream\":true}",
        ]
        .concat();
        assert!(Facts::read(&body).unwrap().stream);
    }
}
