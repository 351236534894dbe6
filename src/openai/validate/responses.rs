//! Responses.
//!
//! Source: openai-openapi, `CreateResponse`, `InputItem` and `Tool`.

use super::{
    common::{METADATA, MODEL},
    notation::Notation,
    schema::{
        ARRAY, BOOLEAN, INTEGER, Member, NUMBER, OBJECT, STRING, Schema, Shape, Variant, list, map, member,
        name, object, one_of, required, variant, word,
    },
};

pub(super) static SCHEMA: Schema = Schema {
    basic: Shape::of(&[
        member("model", MODEL),
        member("input", STRING.or(list(&object(&ITEM_WITH_ROLE))).or_null()),
        member("stream", BOOLEAN.or_null()),
        member("prompt", OBJECT.or_null()),
        member("previous_response_id", STRING.or_null()),
        member("conversation", STRING.or(OBJECT).or_null()),
    ])
    .unless("model", &["prompt"])
    .unless("input", &["prompt", "previous_response_id", "conversation"]),
    strict: Shape::of(&REQUEST)
        .unless("model", &["prompt"])
        .unless("input", &["prompt", "previous_response_id", "conversation"]),
    notation: Notation::Brackets,
};

static REQUEST: [Member; 29] = [
    member("model", MODEL),
    member("input", STRING.or(list(&object(&ITEM))).or_null()),
    member("stream", BOOLEAN.or_null()),
    member("stream_options", object(&STREAM_OPTIONS).or_null()),
    member("prompt", object(&PROMPT).or_null()),
    member("previous_response_id", STRING.or_null()),
    member("conversation", STRING.or(OBJECT).or_null()),
    member("instructions", STRING.or_null()),
    member("include", list(&STRING).or_null()),
    member("tools", list(&object(&TOOL)).or_null()),
    member("tool_choice", STRING.or(object(&TOOL_CHOICE)).or_null()),
    member("parallel_tool_calls", BOOLEAN.or_null()),
    member("max_output_tokens", INTEGER.from(16.0).or_null()),
    member("max_tool_calls", INTEGER.or_null()),
    member("temperature", NUMBER.between(0.0, 2.0).or_null()),
    member("top_p", NUMBER.between(0.0, 1.0).or_null()),
    member("top_logprobs", INTEGER.between(0.0, 20.0).or_null()),
    member("text", object(&TEXT).or_null()),
    member("reasoning", object(&REASONING).or_null()),
    member("truncation", STRING.or_null()),
    member("background", BOOLEAN.or_null()),
    member("store", BOOLEAN.or_null()),
    member("metadata", map(&METADATA).or_null()),
    member("user", STRING.or_null()),
    member("safety_identifier", STRING.up_to(64).or_null()),
    member("prompt_cache_key", STRING.or_null()),
    member("prompt_cache_retention", STRING.or_null()),
    member("service_tier", STRING.or_null()),
    member("context_management", ARRAY.or(OBJECT).or_null()),
];

const ROLES: &[Variant] = &[word("user"), word("assistant"), word("system"), word("developer")];

/// An item may have no role, and items of further types may have any.
static ITEM_WITH_ROLE: Shape =
    Shape::of(&[member("type", STRING.or_null()), member("role", one_of(ROLES).or_null())])
        .by_known("type", &[word("message")])
        .of_messages();

/// An item of the input. One without a type is a message, or refers to another one by its `id`.
static ITEM: Shape = Shape::of(&[
    member("type", STRING.or_null()),
    member("role", one_of(ROLES)),
    member("content", STRING.or(list(&object(&PART))).or_null()),
    member("id", STRING.or_null()),
    member("status", STRING.or_null()),
    member("call_id", STRING.or_null()),
    member("name", STRING.or_null()),
    member("arguments", STRING),
    member("input", STRING),
    member("output", STRING.or(list(&object(&PART))).or(OBJECT).or_null()),
    member("summary", list(&object(&PART)).or_null()),
    member("encrypted_content", STRING.or_null()),
])
.by_known(
    "type",
    &[
        variant("message", &["role", "content"]),
        variant("function_call", &["call_id", "name", "arguments"]),
        variant("function_call_output", &["output"]),
        variant("custom_tool_call", &["call_id", "name", "input"]),
        variant("custom_tool_call_output", &["call_id", "output"]),
        variant("reasoning", &["summary"]),
        variant("item_reference", &["id"]),
    ],
)
.of_messages();

/// A part of a message, of a tool's output, or of a summary.
static PART: Shape = Shape::of(&[
    required("type", STRING),
    member("text", STRING),
    member("refusal", STRING),
    member("image_url", STRING.or_null()),
    member("detail", STRING.or_null()),
    member("file_id", STRING.or_null()),
    member("file_data", STRING.or_null()),
    member("file_url", STRING.or_null()),
    member("filename", STRING.or_null()),
    member("input_audio", OBJECT),
    member("annotations", ARRAY.or_null()),
])
.by_known(
    "type",
    &[
        variant("input_text", &["text"]),
        variant("output_text", &["text"]),
        variant("summary_text", &["text"]),
        variant("reasoning_text", &["text"]),
        variant("refusal", &["refusal"]),
        word("input_image"),
        word("input_file"),
        variant("input_audio", &["input_audio"]),
    ],
);

static TOOL: Shape = Shape::of(&[
    required("type", STRING),
    member("name", name(128)),
    member("description", STRING.or_null()),
    member("parameters", OBJECT.or_null()),
    member("strict", BOOLEAN.or_null()),
    member("vector_store_ids", list(&STRING)),
    member("server_label", STRING),
])
.by_known(
    "type",
    &[
        variant("function", &["name"]),
        variant("custom", &["name"]),
        variant("file_search", &["vector_store_ids"]),
        variant("mcp", &["server_label"]),
    ],
)
.of_tools();

static TOOL_CHOICE: Shape = Shape::of(&[required("type", STRING), member("name", STRING.or_null())])
    .by_known("type", &[variant("function", &["name"]), variant("custom", &["name"])]);

static TEXT: Shape =
    Shape::of(&[member("format", object(&FORMAT).or_null()), member("verbosity", STRING.or_null())]);

static FORMAT: Shape = Shape::of(&[
    required("type", STRING),
    member("name", name(64)),
    member("description", STRING.or_null()),
    member("schema", OBJECT),
    member("strict", BOOLEAN.or_null()),
])
.by_known("type", &[word("text"), word("json_object"), variant("json_schema", &["name", "schema"])]);

static REASONING: Shape =
    Shape::of(&[member("effort", STRING.or_null()), member("summary", STRING.or_null())]);

static PROMPT: Shape = Shape::of(&[
    required("id", STRING),
    member("version", STRING.or_null()),
    member("variables", OBJECT.or_null()),
]);

static STREAM_OPTIONS: Shape = Shape::of(&[member("include_obfuscation", BOOLEAN.or_null())]);
