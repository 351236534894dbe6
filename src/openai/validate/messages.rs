//! Anthropic's Messages.
//!
//! Source: Anthropic API reference, Create a Message; anthropic-sdk-python, `types/message_create_params.py`. How a parameter is named in
//! errors is not documented; public error messages have `messages.0.content.1.tool_use.input`, `tools.0.custom.input_schema.type`,
//! `thinking.enabled.budget_tokens`.

use super::{
    common::MODEL,
    notation::Notation,
    schema::{
        ARRAY, BOOLEAN, INTEGER, Member, NUMBER, OBJECT, STRING, Schema, Shape, Variant, list, member, name,
        object, one_of, required, variant, word,
    },
};

pub(super) static SCHEMA: Schema = Schema {
    basic: Shape::of(&[
        required("model", MODEL),
        required("messages", list(&object(&MESSAGE_WITH_ROLE)).at_least(1)),
        member("stream", BOOLEAN.or_null()),
    ]),
    strict: Shape::of(&REQUEST),
    notation: Notation::Dots,
};

static REQUEST: [Member; 16] = [
    required("model", MODEL),
    // 0 fills the prompt cache only.
    required("max_tokens", INTEGER.from(0.0)),
    required("messages", list(&object(&MESSAGE)).at_least(1)),
    member("system", STRING.or(list(&object(&BLOCK))).or_null()),
    member("stream", BOOLEAN.or_null()),
    member("temperature", NUMBER.between(0.0, 1.0).or_null()),
    member("top_p", NUMBER.between(0.0, 1.0).or_null()),
    member("top_k", INTEGER.from(0.0).or_null()),
    member("stop_sequences", list(&STRING).or_null()),
    member("tools", list(&object(&TOOL)).or_null()),
    member("tool_choice", object(&TOOL_CHOICE).or_null()),
    member("thinking", object(&THINKING).or_null()),
    member("metadata", object(&METADATA).or_null()),
    member("service_tier", STRING.or_null()),
    member("container", STRING.or(OBJECT).or_null()),
    member("mcp_servers", ARRAY.or_null()),
];

const ROLES: &[Variant] = &[word("user"), word("assistant"), word("system")];

static MESSAGE_WITH_ROLE: Shape = Shape::of(&[required("role", STRING)]).by("role", ROLES).of_messages();

static MESSAGE: Shape =
    Shape::of(&[required("role", one_of(ROLES)), required("content", STRING.or(list(&object(&BLOCK))))])
        .of_messages();

/// A block of content.
static BLOCK: Shape = Shape::of(&[
    required("type", STRING),
    member("text", STRING),
    member("source", object(&SOURCE)),
    member("id", STRING),
    member("name", STRING),
    member("input", OBJECT),
    member("tool_use_id", STRING),
    member("content", STRING.or(list(&object(&INNER_BLOCK))).or_null()),
    member("is_error", BOOLEAN.or_null()),
    member("thinking", STRING),
    member("signature", STRING),
    member("data", STRING),
    member("cache_control", object(&CACHE_CONTROL).or_null()),
])
.by_known(
    "type",
    &[
        variant("text", &["text"]),
        variant("image", &["source"]),
        variant("document", &["source"]),
        variant("tool_use", &["id", "name", "input"]),
        variant("tool_result", &["tool_use_id"]),
        variant("thinking", &["thinking", "signature"]),
        variant("redacted_thinking", &["data"]),
    ],
)
.in_path();

/// A block in the result of a tool.
static INNER_BLOCK: Shape = Shape::of(&[
    required("type", STRING),
    member("text", STRING),
    member("source", object(&SOURCE)),
    member("cache_control", object(&CACHE_CONTROL).or_null()),
])
.by_known(
    "type",
    &[variant("text", &["text"]), variant("image", &["source"]), variant("document", &["source"])],
)
.in_path();

/// Where an image or a document is.
static SOURCE: Shape = Shape::of(&[
    required("type", STRING),
    member("media_type", STRING),
    member("data", STRING),
    member("url", STRING),
    member("file_id", STRING),
])
.by_known(
    "type",
    &[
        variant("base64", &["media_type", "data"]),
        variant("text", &["media_type", "data"]),
        variant("url", &["url"]),
        variant("file", &["file_id"]),
    ],
)
.in_path();

static CACHE_CONTROL: Shape = Shape::of(&[required("type", STRING), member("ttl", STRING.or_null())]);

/// A tool without a type is the client's own.
static TOOL: Shape = Shape::of(&[
    member("type", STRING.or_null()),
    member("name", name(128)),
    member("description", STRING.or_null()),
    member("input_schema", object(&INPUT_SCHEMA)),
    member("cache_control", object(&CACHE_CONTROL).or_null()),
])
.by_known("type", &[variant("custom", &["name", "input_schema"])])
.or_else("custom")
.in_path()
.of_tools();

static INPUT_SCHEMA: Shape = Shape::of(&[required("type", STRING)]);

static TOOL_CHOICE: Shape = Shape::of(&[
    required("type", STRING),
    member("name", STRING),
    member("disable_parallel_tool_use", BOOLEAN.or_null()),
])
.by_known("type", &[word("auto"), word("any"), variant("tool", &["name"]), word("none")])
.in_path();

static THINKING: Shape =
    Shape::of(&[required("type", STRING), member("budget_tokens", INTEGER.from(1024.0).or_null())])
        .by_known("type", &[variant("enabled", &["budget_tokens"]), word("disabled"), word("adaptive")])
        .in_path();

static METADATA: Shape = Shape::of(&[member("user_id", STRING.up_to(256).or_null())]);
