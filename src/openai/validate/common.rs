//! What several operations have in common.

use super::schema::{BOOLEAN, Map, OBJECT, Rule, STRING, Shape, member, name, required};

/// The name of a model. Its length is bounded for all requests ([`MODEL_LIMIT`](crate::openai::MODEL_LIMIT)).
pub(super) const MODEL: Rule = STRING.filled();

/// `metadata`: up to 16 pairs, of names with up to 64 characters and texts with up to 512.
pub(super) static METADATA: Map = Map { most: 16, name: 64, value: STRING.up_to(512) };

/// `stream_options`
pub(super) static INCLUDE: Shape = Shape::of(&[
    member("include_usage", BOOLEAN.or_null()),
    member("include_obfuscation", BOOLEAN.or_null()),
]);

/// The schema that a response must follow.
pub(super) static RESPONSE_SCHEMA: Shape = Shape::of(&[
    required("name", name(64)),
    member("description", STRING.or_null()),
    member("schema", OBJECT.or_null()),
    member("strict", BOOLEAN.or_null()),
]);
