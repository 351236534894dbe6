//! Completions.
//!
//! Source: openai-openapi, `CreateCompletionRequest`.

use super::{
    common::{INCLUDE, MODEL},
    notation::Notation,
    schema::{
        ANY, BOOLEAN, INTEGER, Map, NUMBER, STRING, Schema, Shape, list, map, member, object, required,
    },
};

pub(super) static SCHEMA: Schema = Schema {
    basic: Shape::of(&[
        required("model", MODEL),
        required("prompt", STRING.or(list(&ANY).at_least(1)).or_null()),
        member("stream", BOOLEAN.or_null()),
    ]),
    strict: Shape::of(&[
        required("model", MODEL),
        // A text, several, tokens, or several of tokens.
        required(
            "prompt",
            STRING.or(list(&STRING.or(INTEGER).or(list(&INTEGER).at_least(1))).at_least(1)).or_null(),
        ),
        member("stream", BOOLEAN.or_null()),
        member("stream_options", object(&INCLUDE).or_null()),
        member("best_of", INTEGER.between(0.0, 20.0).or_null()),
        member("echo", BOOLEAN.or_null()),
        member("suffix", STRING.or_null()),
        member("logprobs", INTEGER.between(0.0, 5.0).or_null()),
        member("max_tokens", INTEGER.or_null()),
        member("n", INTEGER.between(1.0, 128.0).or_null()),
        member("temperature", NUMBER.between(0.0, 2.0).or_null()),
        member("top_p", NUMBER.between(0.0, 1.0).or_null()),
        member("presence_penalty", NUMBER.between(-2.0, 2.0).or_null()),
        member("frequency_penalty", NUMBER.between(-2.0, 2.0).or_null()),
        member("logit_bias", map(&BIASES).or_null()),
        member("seed", INTEGER.between(i64::MIN as f64, i64::MAX as f64).or_null()),
        member("stop", STRING.or(list(&STRING).up_to(4)).or_null()),
        member("user", STRING.or_null()),
    ])
    .only_with("stream_options", "stream"),
    notation: Notation::Brackets,
};

/// The tokens are the names.
static BIASES: Map = Map { most: usize::MAX, name: usize::MAX, value: NUMBER.between(-100.0, 100.0) };
