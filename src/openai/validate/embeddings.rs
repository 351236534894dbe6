//! Embeddings.
//!
//! Source: openai-openapi, `CreateEmbeddingRequest`.

use super::{
    common::MODEL,
    notation::Notation,
    schema::{ANY, BOOLEAN, INTEGER, STRING, Schema, Shape, list, member, required},
};

pub(super) static SCHEMA: Schema = Schema {
    basic: Shape::of(&[
        required("model", MODEL),
        required("input", STRING.or(list(&ANY).at_least(1))),
        member("stream", BOOLEAN.or_null()),
    ]),
    strict: Shape::of(&[
        required("model", MODEL),
        // A text, several, tokens, or several of tokens. LangChain sends tokens.
        required("input", INPUT),
        member("encoding_format", STRING.or_null()),
        member("dimensions", INTEGER.from(1.0).or_null()),
        member("user", STRING.or_null()),
        member("stream", BOOLEAN.or_null()),
    ]),
    notation: Notation::Brackets,
};

const INPUT: super::schema::Rule =
    STRING.filled().or(list(&STRING.or(INTEGER).or(list(&INTEGER).at_least(1))).at_least(1).up_to(2048));
