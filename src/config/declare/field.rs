//! A kind of value together with what holds when its key is not written.

use std::marker::PhantomData;

use super::{Context, Declared, DefaultValue, Keys, Kind, Shape};
use crate::config::reader::Table;

/// A key of a table: its kind, and its absence.
pub(crate) trait Field {
    type Value;

    /// Reads the key. `None` after a mistake for which no value can stand; a mistake in a key that has a default reads as
    /// the default, so that the rest of the file is still checked.
    fn read(&self, table: &Table<'_>, key: &'static str, context: &Context<'_>) -> Option<Self::Value>;

    fn shape(&self) -> Shape;

    fn default(&self) -> DefaultValue;

    /// A value in TOML.
    fn written(&self, value: &Self::Value) -> String;
}

/// A field that has a value when nothing is written.
pub(crate) trait Defaulted: Field {
    fn default_value(&self) -> Self::Value;
}

/// With a default.
pub(crate) struct Or<K: Kind> {
    pub(super) kind: K,
    pub(super) default: K::Value,
}

impl<K: Kind<Value: Clone>> Or<K> {
    /// The value that is written; `None` when there is none, or after a mistake.
    pub(crate) fn read_written(
        &self,
        table: &Table<'_>,
        key: &'static str,
        context: &Context<'_>,
    ) -> Option<K::Value> {
        self.kind.read(&table.get(key)?, context)
    }
}

impl<K: Kind<Value: Clone>> Field for Or<K> {
    type Value = K::Value;

    fn read(&self, table: &Table<'_>, key: &'static str, context: &Context<'_>) -> Option<K::Value> {
        Some(self.read_written(table, key, context).unwrap_or_else(|| self.default.clone()))
    }

    fn shape(&self) -> Shape {
        self.kind.shape()
    }

    fn default(&self) -> DefaultValue {
        DefaultValue::Value(self.kind.written(&self.default))
    }

    fn written(&self, value: &K::Value) -> String {
        self.kind.written(value)
    }
}

impl<K: Kind<Value: Clone>> Defaulted for Or<K> {
    fn default_value(&self) -> K::Value {
        self.default.clone()
    }
}

/// `None` when nothing is written.
pub(crate) struct Optional<K>(pub(super) K);

impl<K: Kind> Field for Optional<K> {
    type Value = Option<K::Value>;

    fn read(&self, table: &Table<'_>, key: &'static str, context: &Context<'_>) -> Option<Self::Value> {
        Some(table.get(key).and_then(|node| self.0.read(&node, context)))
    }

    fn shape(&self) -> Shape {
        self.0.shape()
    }

    fn default(&self) -> DefaultValue {
        DefaultValue::Words("none")
    }

    fn written(&self, value: &Self::Value) -> String {
        value.as_ref().map_or_else(|| "none".to_owned(), |value| self.0.written(value))
    }
}

impl<K: Kind> Defaulted for Optional<K> {
    fn default_value(&self) -> Self::Value {
        None
    }
}

/// A mistake when nothing is written.
pub(crate) struct Required<K> {
    pub(super) kind: K,
    pub(super) help: &'static str,
}

impl<K: Kind> Field for Required<K> {
    type Value = K::Value;

    fn read(&self, table: &Table<'_>, key: &'static str, context: &Context<'_>) -> Option<K::Value> {
        self.kind.read(&table.required(key, self.help)?, context)
    }

    fn shape(&self) -> Shape {
        self.kind.shape()
    }

    fn default(&self) -> DefaultValue {
        DefaultValue::Required
    }

    fn written(&self, value: &K::Value) -> String {
        self.kind.written(value)
    }
}

/// A table whose keys all have defaults; not written, it is an empty one.
pub(crate) struct Section<T>(PhantomData<T>);

pub(crate) const fn section<T: Declared + Default>() -> Section<T> {
    Section(PhantomData)
}

impl<T: Declared + Default> Field for Section<T> {
    type Value = T;

    fn read(&self, table: &Table<'_>, key: &'static str, context: &Context<'_>) -> Option<T> {
        Some(T::read(&table.section(key, T::NAMES), context).unwrap_or_default())
    }

    fn shape(&self) -> Shape {
        Shape::Table(T::keys())
    }

    fn default(&self) -> DefaultValue {
        DefaultValue::Value(in_line::<T>())
    }

    fn written(&self, _: &T) -> String {
        "…".to_owned()
    }
}

impl<T: Declared + Default> Defaulted for Section<T> {
    fn default_value(&self) -> T {
        T::default()
    }
}

/// A key from which a field of another name is made: only its shape and default are known here.
pub(crate) struct Described {
    shape: Shape,
    default: DefaultValue,
}

/// Not required; [`Described::required`] and [`Described::default`] say otherwise.
pub(crate) const fn described(shape: Shape) -> Described {
    Described { shape, default: DefaultValue::Words("none") }
}

impl Described {
    /// A key that must be written.
    pub(crate) fn required(self) -> Self {
        Self { default: DefaultValue::Required, ..self }
    }

    /// The value, in TOML, that holds when nothing is written.
    pub(crate) fn or(self, default: impl Into<String>) -> Self {
        Self { default: DefaultValue::Value(default.into()), ..self }
    }

    /// The table of defaults of `T`.
    pub(crate) fn or_defaults_of<T: Keys>(self) -> Self {
        self.or(in_line::<T>())
    }
}

impl Field for Described {
    type Value = ();

    fn read(&self, _: &Table<'_>, _: &'static str, _: &Context<'_>) -> Option<()> {
        Some(())
    }

    fn shape(&self) -> Shape {
        self.shape.clone()
    }

    fn default(&self) -> DefaultValue {
        self.default.clone()
    }

    fn written(&self, (): &()) -> String {
        String::new()
    }
}

/// The defaults of a table, as one inline table.
fn in_line<T: Keys>() -> String {
    let pair = |key: super::Key| match key.default {
        DefaultValue::Value(value) => Some(format!("{} = {value}", key.name)),
        DefaultValue::Required | DefaultValue::Words(_) => None,
    };
    let pairs: Vec<String> = T::keys().into_iter().filter_map(pair).collect();
    format!("{{ {} }}", pairs.join(", "))
}
