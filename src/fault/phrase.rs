//! The parts of messages that have a text of their own in each language: reasons, and the names of types.

use std::{error::Error, fmt};

use super::{
    Language,
    messages::{Argument, IntoValue, Value, argument},
};
use crate::{
    coding::Undecodable,
    openai::{EditError, FactsError, Invalid, Kinds, MODEL_LIMIT, Names, Problem, Type},
};

/// Declares phrases: an enum, each variant of which has a text in the table `$table` of each language's file, with its fields for placeholders.
/// A row is
///
/// ```text
/// /// documentation
/// Variant { placeholder: Type = example, … } = "name of the text";
/// ```
macro_rules! phrases {
    (
        $(#[$attribute:meta])*
        $visibility:vis enum $Phrase:ident in $table:literal {
            $(
                $(#[$doc:meta])*
                $variant:ident $({ $($name:ident: $type:ty = $example:expr),* })? = $text:literal;
            )*
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $visibility enum $Phrase {
            $( $(#[$doc])* $variant $({ $( #[doc = concat!("`{", stringify!($name), "}` of the text.")] $name: $type ),* })?, )*
        }

        impl $crate::fault::messages::IntoValue for $Phrase {
            fn value(&self) -> $crate::fault::messages::Value {
                match self {
                    $( Self::$variant $({ $($name),* })? => $crate::fault::messages::Value::Phrase(
                        concat!($table, ".", $text),
                        vec![$($( $crate::fault::messages::argument(stringify!($name), $name) ),*)?],
                    ), )*
                }
            }
        }

        #[cfg(test)]
        impl Phrase for $Phrase {
            fn examples() -> Vec<Self> {
                vec![ $( Self::$variant $({ $($name: $example),* })? ),* ]
            }
        }
    };
}

/// A set of phrases.
#[cfg(test)]
pub(in crate::fault) trait Phrase: IntoValue + Sized {
    /// One of each.
    fn examples() -> Vec<Self>;

    /// One of each, as arguments of messages.
    fn values() -> Vec<Value> {
        Self::examples().iter().map(Value::of).collect()
    }
}

phrases! {
    /// Why a request or a response is rejected: the `{reason}` of a message.
    pub enum Reason in "reason" {
        /// The path does not begin with `/`.
        PathNotAbsolute = "path_not_absolute";
        /// `%` without two hex digits.
        PathEscape = "path_escape";
        /// An encoded slash that some programs take for a slash.
        PathEncodedSlash = "path_encoded_slash";
        /// A backslash.
        PathBackslash = "path_backslash";
        /// A control character.
        PathControl = "path_control";
        /// More `..` than segments.
        PathAboveRoot = "path_above_root";
        /// A semicolon.
        PathSemicolon = "path_semicolon";
        /// The path of a request for a resource is not the route's.
        PathOfNoRoute = "path_of_no_route";
        /// Characters that may not stand in a path or query.
        TargetCharacters = "target_characters";

        /// Keys of two clients.
        CredentialsDiffer = "credentials_differ";
        /// More credentials than are looked up.
        CredentialsTooMany { limit: usize = 4 } = "credentials_too_many";
        /// Several Authorization headers.
        AuthorizationRepeated = "authorization_repeated";
        /// Another scheme than `Bearer`.
        AuthorizationForm = "authorization_form";
        /// A header without a key.
        HeaderWithoutKey { header: &'static str = "x-api-key" } = "header_without_key";
        /// The key is in the request line.
        KeyInRequestLine = "key_in_request_line";

        /// An ephemeral key that somebody else has issued.
        EphemeralForeign = "ephemeral_foreign";
        /// An ephemeral key that cannot be opened.
        EphemeralAltered = "ephemeral_altered";
        /// An ephemeral key of nobody, on a route for clients.
        EphemeralNoClient = "ephemeral_no_client";
        /// The client of an ephemeral key was removed.
        EphemeralClientGone = "ephemeral_client_gone";
        /// The client of an ephemeral key may not use the route.
        EphemeralRoute = "ephemeral_route";
        /// The route does not lead to the upstream of an ephemeral key.
        EphemeralUpstream = "ephemeral_upstream";
        /// Another upstream than that of an ephemeral key serves the model.
        EphemeralModel = "ephemeral_model";

        /// There is no Host header.
        HostMissing = "host_missing";
        /// Several Host headers.
        HostRepeated = "host_repeated";
        /// Host is not a host.
        HostForm = "host_form";
        /// The authority is not a host.
        AuthorityForm = "authority_form";
        /// Host and :authority differ.
        HostsDiffer = "hosts_differ";
        /// A preflight request that announces no method.
        AnnouncedMethod = "announced_method";
        /// A preflight request that announces no list of headers, or too long a one.
        AnnouncedHeaders { most: usize = 4096 } = "announced_headers";
        /// Another transfer coding than chunked.
        TransferCoding = "transfer_coding";
        /// Several content types.
        ContentTypeRepeated = "content_type_repeated";
        /// `x-sluicegate-timeout` is not a time limit.
        TimeoutForm = "timeout_form";
        /// `limit` of a list of models.
        ListLimit { least: usize = 1, most: usize = 1000 } = "list_limit";
        /// `model` is not the name of an Azure deployment.
        NoDeployment = "no_deployment";

        /// A WebSocket handshake by another method than GET.
        HandshakeMethod = "handshake_method";
        /// A WebSocket handshake without `Connection: upgrade`.
        HandshakeConnection = "handshake_connection";
        /// A WebSocket handshake without a key.
        HandshakeKey = "handshake_key";
        /// A WebSocket handshake of another version.
        HandshakeVersion = "handshake_version";
        /// A WebSocket handshake with a body.
        HandshakeBody = "handshake_body";
        /// A WebSocket handshake whose query names several models.
        HandshakeModels = "handshake_models";

        /// There is no body.
        BodyEmpty = "body_empty";
        /// The body is not JSON.
        BodyNotJson { line: usize = 1, column: usize = 7 } = "body_not_json";
        /// The body cannot be decoded.
        BodyNotDecodable { problem: Decoding = Decoding::NotGzip } = "body_not_decodable";
        /// `model` in another case.
        ModelCase = "model_case";
        /// A member is there twice.
        MemberRepeated { member: &'static str = "model" } = "member_repeated";
        /// A member has another type.
        MemberType { member: &'static str = "stream", expected: ValueType = ValueType::Boolean } = "member_type";
        /// `model` is too long.
        ModelTooLong { limit: usize = MODEL_LIMIT } = "model_too_long";
        /// A member cannot be set in the body.
        BodyWithoutMembers { member: &'static str = "model" } = "body_without_members";

        /// The response is not an event stream.
        AnswerNotStream = "answer_not_stream";
        /// The response is not a JSON object.
        AnswerNotObject = "answer_not_object";
        /// The response lacks the member that clients read it from.
        AnswerLacks { member: &'static str = "choices" } = "answer_lacks";
        /// An event of the response cannot be read.
        AnswerEvent = "answer_event";
        /// A response that issues an ephemeral key cannot be searched.
        AnswerSecretUnread = "answer_secret_unread";
        /// A response that issues an ephemeral key has none.
        AnswerSecretMissing = "answer_secret_missing";
        /// A response that issues an ephemeral key has it in another place too.
        AnswerSecretElsewhere = "answer_secret_elsewhere";
        /// The response redirects out of the route.
        AnswerRedirects = "answer_redirects";
        /// The response switches protocols.
        AnswerSwitches = "answer_switches";
        /// The response switches to another protocol than WebSocket.
        AnswerSwitchesElsewhere = "answer_switches_elsewhere";
        /// The response's `Sec-WebSocket-Accept` is wrong.
        AnswerAccept = "answer_accept";
        /// The response uses an extension that was not offered.
        AnswerExtension = "answer_extension";
    }
}

phrases! {
    /// Why a body cannot be decoded: the `{problem}` of a reason.
    pub enum Decoding in "decoding" {
        /// The body is not gzip.
        NotGzip = "not_gzip";
        /// The body is not zstd, or its window is too large.
        NotZstd = "not_zstd";
        /// The body expands too much.
        Expands { times: usize = 200 } = "expands";
    }
}

phrases! {
    /// The type of a JSON value, with its article: the `{expected}` of a reason.
    pub enum ValueType in "type" {
        /// `true` or `false`.
        Boolean = "boolean";
        /// A text.
        String = "string";
    }
}

phrases! {
    /// The reason of a WebSocket close frame, where it is not the message of a fault.
    pub enum CloseReason in "close" {
        /// The process drains.
        Draining = "draining";
        /// The upstream's connection ended.
        UpstreamLost = "upstream_lost";
        /// An upstream refused a web page's connection.
        UpstreamRefused { status: u16 = 403 } = "upstream_refused";
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Value::of(self).text(Language::EN))
    }
}

impl Error for Reason {}

impl CloseReason {
    /// The text.
    pub fn text(self, language: Language) -> String {
        Value::of(&self).text(language)
    }
}

/// The names from the API's documentation, the types in the words of JSON Schema and the numbers are the same in all languages.
impl IntoValue for Invalid {
    fn value(&self) -> Value {
        let param = argument("param", self.param().unwrap_or_default());
        let (text, mut arguments) = match self.problem {
            Problem::NotAnObject { found } => {
                return Value::Phrase("problem.not_an_object", vec![argument("found", &found)]);
            }
            Problem::TooDeep { most } => {
                return Value::Phrase("problem.too_deep", vec![argument("limit", &most)]);
            }
            Problem::Missing => ("problem.missing", vec![]),
            Problem::WrongType { found, allowed } => {
                ("problem.wrong_type", vec![argument("found", &found), argument("allowed", &allowed)])
            }
            Problem::UnknownValue { length, allowed } => {
                ("problem.unknown_value", vec![argument("length", &length), argument("allowed", &allowed)])
            }
            Problem::NotAName => ("problem.not_a_name", vec![]),
            Problem::EmptyArray => ("problem.empty_array", vec![]),
            Problem::ArrayTooLong { found, most } => ("problem.array_too_long", of_length(found, most)),
            Problem::StringTooShort { length, least } => {
                ("problem.string_too_short", of_length(length, least))
            }
            Problem::StringTooLong { length, most } => ("problem.string_too_long", of_length(length, most)),
            Problem::TooManyMembers { found, most } => ("problem.too_many_members", of_length(found, most)),
            Problem::NameTooLong { most } => ("problem.name_too_long", vec![argument("limit", &most)]),
            Problem::TooSmall { least, .. } => ("problem.too_small", vec![argument("limit", &least)]),
            Problem::TooLarge { most, .. } => ("problem.too_large", vec![argument("limit", &most)]),
            Problem::Needs { other } => ("problem.needs", vec![argument("other", other)]),
            Problem::Duplicate => ("problem.duplicate", vec![]),
        };
        arguments.push(param);
        Value::Phrase(text, arguments)
    }
}

fn of_length(found: usize, limit: usize) -> Vec<Argument> {
    vec![argument("found", &found), argument("limit", &limit)]
}

impl IntoValue for Kinds {
    fn value(&self) -> Value {
        Value::Text(self.to_string())
    }
}

impl IntoValue for Names {
    fn value(&self) -> Value {
        Value::Names(self.all().map(str::to_owned).collect())
    }
}

impl From<&FactsError> for Reason {
    fn from(error: &FactsError) -> Self {
        match *error {
            FactsError::Empty => Self::BodyEmpty,
            FactsError::NotJson { line, column, .. } => Self::BodyNotJson { line, column },
            FactsError::NotDecodable { problem } => Self::BodyNotDecodable { problem: problem.into() },
            FactsError::OtherCase => Self::ModelCase,
            FactsError::Duplicate { field } => Self::MemberRepeated { member: field },
            FactsError::WrongType { field, expected } => {
                Self::MemberType { member: field, expected: expected.into() }
            }
            FactsError::ModelTooLong => Self::ModelTooLong { limit: MODEL_LIMIT },
        }
    }
}

/// Only a body's form is the client's doing.
impl From<&EditError> for Reason {
    fn from(error: &EditError) -> Self {
        match *error {
            EditError::NotAnObject { member }
            | EditError::NotToBeSet { member }
            | EditError::NotJson { member, .. } => Self::BodyWithoutMembers { member },
            EditError::NotAField { field } => Self::BodyWithoutMembers { member: field },
            EditError::Overlap | EditError::OutOfBounds => Self::BodyWithoutMembers { member: "model" },
        }
    }
}

impl From<Undecodable> for Decoding {
    fn from(problem: Undecodable) -> Self {
        match problem {
            Undecodable::NotGzip => Self::NotGzip,
            Undecodable::NotZstd => Self::NotZstd,
            Undecodable::Expands { times } => Self::Expands { times },
        }
    }
}

impl From<Type> for ValueType {
    fn from(value_type: Type) -> Self {
        match value_type {
            Type::Boolean => Self::Boolean,
            Type::String => Self::String,
        }
    }
}
