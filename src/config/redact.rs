//! The file as it may be shown: as written, with whatever could be a secret masked.

use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

use super::headers::is_credential;

const MASK: &str = "…";

/// A table as JSON. References to secrets (`{ env = … }`) are shown; hashes of keys, user info in URLs, values of headers whose name
/// sounds like a credential, and strings where only a reference may stand are not.
pub(crate) fn table(table: &DeTable<'_>) -> Value {
    entries(table, Place::Table)
}

/// What the value is the value of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Table,
    /// A name that a client chose: the string there is its key's hash, or in a listener a path.
    Secret,
    Headers,
    Reference,
}

fn entries(table: &DeTable<'_>, place: Place) -> Value {
    let is_source = |key: &str| matches!(key, "env" | "file" | "credential");
    let reference = place == Place::Secret && table.keys().all(|key| is_source(key.get_ref()));
    let place = if reference { Place::Reference } else { place };
    let entry = |(key, node): (&toml::Spanned<std::borrow::Cow<'_, str>>, &toml::Spanned<DeValue<'_>>)| {
        let key: &str = key.get_ref();
        (key.to_owned(), value(node.get_ref(), inner(key, place)))
    };
    Value::Object(table.iter().map(entry).collect::<Map<_, _>>())
}

fn inner(key: &str, place: Place) -> Place {
    match place {
        Place::Reference => Place::Reference,
        Place::Headers if is_credential(key) => Place::Secret,
        Place::Headers => Place::Headers,
        _ => match key {
            "headers" | "set" => Place::Headers,
            "key" | "keys" | "token" | "credentials" => Place::Secret,
            _ => Place::Table,
        },
    }
}

fn value(value: &DeValue<'_>, place: Place) -> Value {
    match value {
        DeValue::String(_) if place == Place::Secret => MASK.into(),
        DeValue::String(text) => without_user_info(text).into(),
        DeValue::Integer(integer) => {
            i64::from_str_radix(integer.as_str(), integer.radix()).unwrap_or_default().into()
        }
        DeValue::Float(float) => float.as_str().into(),
        DeValue::Boolean(boolean) => (*boolean).into(),
        DeValue::Datetime(date) => date.to_string().into(),
        DeValue::Array(items) => items.iter().map(|item| self::value(item.get_ref(), place)).collect(),
        DeValue::Table(table) => entries(table, place),
    }
}

fn without_user_info(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{MASK}@{host}"),
        None => text.to_owned(),
    }
}
