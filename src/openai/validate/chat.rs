//! Chat completions.
//!
//! Source: openai-openapi, `CreateChatCompletionRequest` and `ChatCompletionRequestMessage`.

use super::{
    common::{INCLUDE, METADATA, MODEL, RESPONSE_SCHEMA},
    notation::Notation,
    schema::{
        ARRAY, BOOLEAN, INTEGER, Map, Member, NUMBER, OBJECT, STRING, Schema, Shape, Variant, list, map,
        member, name, object, required, variant, word,
    },
};

pub(super) static SCHEMA: Schema = Schema {
    basic: Shape::of(&[
        required("model", MODEL),
        required("messages", list(&object(&MESSAGE_WITH_ROLE)).at_least(1)),
        member("stream", BOOLEAN.or_null()),
    ]),
    strict: Shape::of(&REQUEST).only_with("stream_options", "stream").only_with("top_logprobs", "logprobs"),
    notation: Notation::Brackets,
};

static REQUEST: [Member; 37] = [
    required("model", MODEL),
    required("messages", list(&object(&MESSAGE)).at_least(1)),
    member("stream", BOOLEAN.or_null()),
    member("stream_options", object(&INCLUDE).or_null()),
    member("temperature", NUMBER.between(0.0, 2.0).or_null()),
    member("top_p", NUMBER.between(0.0, 1.0).or_null()),
    member("n", INTEGER.between(1.0, 128.0).or_null()),
    // Some compatible servers take -1 for no limit, and the API's documentation names no bound.
    member("max_tokens", INTEGER.or_null()),
    member("max_completion_tokens", INTEGER.or_null()),
    // OpenAI wants 1 to 4; clients send an empty array for none.
    member("stop", STRING.or(list(&STRING).up_to(4)).or_null()),
    member("presence_penalty", NUMBER.between(-2.0, 2.0).or_null()),
    member("frequency_penalty", NUMBER.between(-2.0, 2.0).or_null()),
    member("logit_bias", map(&BIASES).or_null()),
    member("logprobs", BOOLEAN.or_null()),
    member("top_logprobs", INTEGER.between(0.0, 20.0).or_null()),
    member("seed", INTEGER.between(i64::MIN as f64, i64::MAX as f64).or_null()),
    // OpenAI refuses an empty array; clients send it for none.
    member("tools", list(&object(&TOOL)).up_to(128).or_null()),
    member("tool_choice", STRING.or(object(&TOOL_CHOICE)).or_null()),
    member("parallel_tool_calls", BOOLEAN.or_null()),
    member("functions", list(&object(&FUNCTION)).up_to(128).or_null()),
    member("function_call", STRING.or(object(&FUNCTION_CHOICE)).or_null()),
    member("response_format", object(&RESPONSE_FORMAT).or_null()),
    member("modalities", list(&STRING).or_null()),
    member("audio", OBJECT.or_null()),
    member("prediction", OBJECT.or_null()),
    member("web_search_options", OBJECT.or_null()),
    member("reasoning_effort", STRING.or_null()),
    member("verbosity", STRING.or_null()),
    member("service_tier", STRING.or_null()),
    member("store", BOOLEAN.or_null()),
    member("metadata", map(&METADATA).or_null()),
    member("user", STRING.or_null()),
    member("safety_identifier", STRING.up_to(64).or_null()),
    member("prompt_cache_key", STRING.or_null()),
    member("prompt_cache_retention", STRING.or_null()),
    // Azure OpenAI.
    member("data_sources", ARRAY.or_null()),
    // vLLM and others.
    member("extra_body", OBJECT.or_null()),
];

const ROLES: &[Variant] = &[
    variant("system", &["content"]),
    variant("developer", &["content"]),
    variant("user", &["content"]),
    // Its content may be null, above all beside `tool_calls`.
    word("assistant"),
    variant("tool", &["content", "tool_call_id"]),
    variant("function", &["name"]),
];

static MESSAGE_WITH_ROLE: Shape = Shape::of(&[required("role", STRING)])
    .by(
        "role",
        &[word("system"), word("developer"), word("user"), word("assistant"), word("tool"), word("function")],
    )
    .of_messages();

static MESSAGE: Shape = Shape::of(&[
    required("role", STRING),
    member("content", STRING.or(list(&object(&PART))).or_null()),
    member("name", STRING.or_null()),
    member("tool_call_id", STRING.or_null()),
    member("tool_calls", list(&object(&TOOL_CALL)).or_null()),
    member("function_call", object(&CALL).or_null()),
    member("refusal", STRING.or_null()),
    member("audio", OBJECT.or_null()),
])
.by("role", ROLES)
.of_messages();

/// A part of a message's content.
static PART: Shape = Shape::of(&[
    required("type", STRING),
    member("text", STRING),
    member("refusal", STRING),
    member("image_url", object(&IMAGE_URL)),
    member("input_audio", object(&INPUT_AUDIO)),
    member("file", object(&FILE)),
])
.by_known(
    "type",
    &[
        variant("text", &["text"]),
        variant("refusal", &["refusal"]),
        variant("image_url", &["image_url"]),
        variant("input_audio", &["input_audio"]),
        variant("file", &["file"]),
    ],
);

static IMAGE_URL: Shape = Shape::of(&[required("url", STRING), member("detail", STRING.or_null())]);

static INPUT_AUDIO: Shape = Shape::of(&[required("data", STRING), required("format", STRING)]);

static FILE: Shape = Shape::of(&[
    member("file_id", STRING.or_null()),
    member("file_data", STRING.or_null()),
    member("filename", STRING.or_null()),
]);

/// A call that the model made.
static TOOL_CALL: Shape = Shape::of(&[
    required("id", STRING),
    required("type", STRING),
    member("function", object(&CALL)),
    member("custom", object(&CUSTOM_CALL)),
])
.by_known("type", &[variant("function", &["function"]), variant("custom", &["custom"])]);

static CALL: Shape = Shape::of(&[required("name", STRING), required("arguments", STRING)]);

static CUSTOM_CALL: Shape = Shape::of(&[required("name", STRING), required("input", STRING)]);

static TOOL: Shape = Shape::of(&[
    required("type", STRING),
    member("function", object(&FUNCTION)),
    member("custom", object(&CUSTOM)),
])
.by_known("type", &[variant("function", &["function"]), variant("custom", &["custom"])])
.of_tools();

static FUNCTION: Shape = Shape::of(&[
    required("name", name(64)),
    member("description", STRING.or_null()),
    member("parameters", OBJECT.or_null()),
    member("strict", BOOLEAN.or_null()),
]);

static CUSTOM: Shape = Shape::of(&[
    required("name", STRING),
    member("description", STRING.or_null()),
    member("format", OBJECT.or_null()),
]);

static TOOL_CHOICE: Shape = Shape::of(&[
    required("type", STRING),
    member("function", object(&NAMED)),
    member("custom", object(&NAMED)),
])
.by_known("type", &[variant("function", &["function"]), variant("custom", &["custom"])]);

static NAMED: Shape = Shape::of(&[required("name", STRING)]);

static FUNCTION_CHOICE: Shape = Shape::of(&[required("name", STRING)]);

static RESPONSE_FORMAT: Shape =
    Shape::of(&[required("type", STRING), member("json_schema", object(&RESPONSE_SCHEMA))])
        .by_known("type", &[word("text"), word("json_object"), variant("json_schema", &["json_schema"])]);

/// The tokens are the names.
static BIASES: Map = Map { most: usize::MAX, name: usize::MAX, value: NUMBER.between(-100.0, 100.0) };
