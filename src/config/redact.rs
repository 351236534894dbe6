//! The file as it may be shown: as written, with everything masked that could be a secret. What is secret is part of the declaration of
//! each key; a key that is not declared is masked.

use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

use super::{
    declare::{Key, Keys, Secrecy, Shape},
    headers::is_credential,
    schema::Root,
};

const MASK: &str = "…";

/// A table as JSON. References to secrets (`{ env = … }`) are shown. Hashes of keys, user info in URLs, values of headers whose name
/// suggests a credential, and strings where only a reference may stand are masked.
pub(crate) fn table(table: &DeTable<'_>) -> Value {
    let keys = Root::keys();
    entries(table, &keys.iter().collect::<Vec<_>>())
}

fn entries(table: &DeTable<'_>, keys: &[&Key]) -> Value {
    let entry = |name: &str, written: &DeValue<'_>| match keys.iter().find(|key| key.name == name) {
        Some(key) => value(written, &key.shape, key.meta.secrecy),
        None => MASK.into(),
    };
    each(table, entry)
}

fn each(table: &DeTable<'_>, entry: impl Fn(&str, &DeValue<'_>) -> Value) -> Value {
    let pairs = table.iter().map(|(name, written)| {
        let name: &str = name.get_ref();
        (name.to_owned(), entry(name, written.get_ref()))
    });
    Value::Object(pairs.collect::<Map<_, _>>())
}

fn value(written: &DeValue<'_>, shape: &Shape, secrecy: Secrecy) -> Value {
    match written {
        DeValue::Array(items) => items.iter().map(|item| value(item.get_ref(), shape, secrecy)).collect(),
        DeValue::Table(table) => within(table, shape, secrecy),
        DeValue::String(_) if secrecy != Secrecy::Public => MASK.into(),
        written => plain(written),
    }
}

fn within(table: &DeTable<'_>, shape: &Shape, secrecy: Secrecy) -> Value {
    if secrecy == Secrecy::Headers {
        return each(table, |name, written| header(name, written, shape));
    }
    if let Shape::Texts(_) = shape {
        return each(table, |_, written| plain(written));
    }
    if let Shape::Named(keys) = shape {
        let keys: Vec<&Key> = keys.iter().collect();
        return each(table, |_, written| {
            written.as_table().map_or(MASK.into(), |table| entries(table, &keys))
        });
    }
    let source = sources(shape);
    if !source.is_empty() && table.keys().all(|name| source.iter().any(|key| key.name == &**name.get_ref())) {
        return entries(table, &source);
    }
    entries(table, &shape.keys())
}

/// The value of a header, or where it is read from.
fn header(name: &str, written: &DeValue<'_>, shape: &Shape) -> Value {
    match (written, shape) {
        (DeValue::Table(table), Shape::Headers(source)) => entries(table, &source.iter().collect::<Vec<_>>()),
        _ if is_credential(name) => MASK.into(),
        _ => plain(written),
    }
}

/// The keys of a reference, where one may stand.
fn sources(shape: &Shape) -> Vec<&Key> {
    match shape {
        Shape::Source(keys) => keys.iter().collect(),
        Shape::List(item) => sources(item),
        Shape::Either(shapes) => shapes.iter().flat_map(sources).collect(),
        _ => Vec::new(),
    }
}

/// A value that is no secret.
fn plain(written: &DeValue<'_>) -> Value {
    match written {
        DeValue::String(text) => without_user_info(text).into(),
        DeValue::Integer(integer) => {
            i64::from_str_radix(integer.as_str(), integer.radix()).unwrap_or_default().into()
        }
        DeValue::Float(float) => float.as_str().into(),
        DeValue::Boolean(boolean) => (*boolean).into(),
        DeValue::Datetime(date) => date.to_string().into(),
        DeValue::Array(_) | DeValue::Table(_) => MASK.into(),
    }
}

fn without_user_info(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{MASK}@{host}"),
        None => text.to_owned(),
    }
}
