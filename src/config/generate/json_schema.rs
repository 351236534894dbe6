//! A JSON Schema of the file, for editors. It knows types, keys, words and ranges of numbers; what spans of time, sizes, URLs and names may
//! be, and what must hold between keys, is known to `sluicegate check` alone.
//!
//! Its version is draft-07, the newest one that all editors' TOML plug-ins read.

use serde_json::{Map, Value, json};

use crate::config::{
    declare::{DefaultValue, Key, Keys as _, Shape},
    schema::{Root, Source},
};

/// What a span of time looks like ([`crate::config::span`]).
pub(crate) const SPAN: &str = "^ *([0-9]+ *(ms|s|m|h|d) *)+$";

/// What a size looks like ([`crate::config::size`]).
pub(crate) const SIZE: &str = "^ *[0-9]+ *([KMGTkmgt][Ii]?)?[Bb] *$";

/// The schema of a whole file.
#[must_use]
pub fn schema_json() -> Value {
    let mut schema = table(&Root::keys().iter().collect::<Vec<_>>());
    if let Some(object) = schema.as_object_mut() {
        object.insert("$schema".to_owned(), "http://json-schema.org/draft-07/schema#".into());
        object.insert("title".to_owned(), "gateway.toml of Sluicegate".into());
    }
    schema
}

/// The schema as it is printed: indented JSON and a newline.
#[must_use]
pub fn schema_text() -> String {
    format!("{:#}\n", schema_json())
}

fn table(keys: &[&Key]) -> Value {
    let properties: Map<String, Value> =
        keys.iter().map(|key| (key.name.to_owned(), property(key))).collect();
    let required: Vec<&str> =
        keys.iter().filter(|key| key.default == DefaultValue::Required).map(|key| key.name).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

fn property(key: &Key) -> Value {
    let mut schema = shape(&key.shape);
    let Some(object) = schema.as_object_mut() else { return schema };
    object.insert("description".to_owned(), key.doc.into());
    // A list that may be empty is written so where it has no default of another kind.
    let may_be_empty = key.default == DefaultValue::Value("[]".to_owned());
    if matches!(key.shape, Shape::List(_)) && !may_be_empty {
        object.insert("minItems".to_owned(), 1.into());
    }
    schema
}

fn shape(of: &Shape) -> Value {
    match of {
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::Count(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Shape::Number(least, most) => json!({ "type": "number", "minimum": least, "maximum": most }),
        Shape::Span(..) => json!({ "type": "string", "pattern": SPAN }),
        Shape::Size(..) => json!({ "type": "string", "pattern": SIZE }),
        Shape::Choice(words) => json!({ "type": "string", "enum": words }),
        Shape::Text(_) => json!({ "type": "string" }),
        Shape::Source(keys) => source(keys),
        Shape::Headers(keys) => json!({
            "type": "object",
            "additionalProperties": { "anyOf": [{ "type": "string" }, source(keys)] },
        }),
        Shape::Texts(_) => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        Shape::List(item) => json!({ "type": "array", "items": shape(item) }),
        Shape::Table(keys) => table(&keys.iter().collect::<Vec<_>>()),
        Shape::Named(keys) => {
            json!({ "type": "object", "additionalProperties": table(&keys.iter().collect::<Vec<_>>()) })
        }
        Shape::Either(shapes) => json!({ "anyOf": shapes.iter().map(shape).collect::<Vec<_>>() }),
    }
}

/// A table with exactly one of the keys of a [`Source`], and perhaps others of these keys.
fn source(keys: &[Key]) -> Value {
    let mut source = table(&keys.iter().collect::<Vec<_>>());
    let Some(object) = source.as_object_mut() else { return source };
    let is_plain = keys.iter().all(|key| Source::NAMES.contains(&key.name));
    if is_plain {
        object.insert("minProperties".to_owned(), 1.into());
        object.insert("maxProperties".to_owned(), 1.into());
    } else {
        let each: Vec<Value> = Source::NAMES.iter().map(|name| json!({ "required": [name] })).collect();
        object.insert("oneOf".to_owned(), each.into());
    }
    source
}
