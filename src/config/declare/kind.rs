//! Kinds of values: each reads one, writes one, and knows its own shape.

use std::{
    collections::BTreeMap, fmt::Display, marker::PhantomData, ops::RangeInclusive, path::PathBuf, sync::Arc,
    time::Duration,
};

use super::{
    Declared, Keys as _, Shape,
    field::{Optional, Or, Required},
};
use crate::config::{
    naming,
    problem::{Complaint, complaint},
    reader::Node,
    schema::{Defaults, Retry, Source},
    secret::Secret,
    size as sizes,
    source::{self, Env},
    span as spans,
};

/// What stands for a value that is not written back.
const NOT_WRITTEN: &str = "…";

/// What a file is read against.
pub(crate) struct Context<'a> {
    /// Variables and files.
    pub(crate) env: &'a Env<'a>,
    /// What may be referred to.
    pub(crate) names: &'a Names<'a>,
    /// What `[defaults]` says.
    pub(crate) defaults: Defaults,
    /// `retry` of each upstream that was read, which a route inherits.
    pub(crate) retries: BTreeMap<Arc<str>, Retry>,
}

/// The names that may be referred to, sound or not: a mistake in an upstream is not also a mistake of its routes.
pub(crate) struct Names<'a> {
    pub(crate) upstreams: Vec<&'a str>,
    pub(crate) routes: Vec<&'a str>,
    pub(crate) clients: Vec<&'a str>,
    pub(crate) groups: Vec<&'a str>,
    pub(crate) limits: Vec<&'a str>,
    /// Whether there may be clients beside `clients`, which have files of their own.
    pub(crate) has_client_files: bool,
}

/// A kind of value.
pub(crate) trait Kind: Sized {
    type Value;

    /// Reads a value. `None` after a mistake that was reported.
    fn read(&self, node: &Node<'_>, context: &Context<'_>) -> Option<Self::Value>;

    /// The value in TOML, or `…` where that is never needed.
    fn written(&self, value: &Self::Value) -> String;

    fn shape(&self) -> Shape;

    /// With a value for when nothing is written.
    fn or(self, default: Self::Value) -> Or<Self> {
        Or { kind: self, default }
    }

    /// Nothing written is `None`.
    fn optional(self) -> Optional<Self> {
        Optional(self)
    }

    /// Nothing written is a mistake, with this help.
    fn required(self, help: &'static str) -> Required<Self> {
        Required { kind: self, help }
    }
}

/// `true` or `false`.
pub(crate) struct Flag;

pub(crate) const fn flag() -> Flag {
    Flag
}

impl Kind for Flag {
    type Value = bool;

    fn read(&self, node: &Node<'_>, _: &Context<'_>) -> Option<bool> {
        node.boolean()
    }

    fn written(&self, value: &bool) -> String {
        value.to_string()
    }

    fn shape(&self) -> Shape {
        Shape::Flag
    }
}

/// A whole number.
pub(crate) struct Count<T>(RangeInclusive<u64>, PhantomData<T>);

pub(crate) const fn count<T>(range: RangeInclusive<u64>) -> Count<T> {
    Count(range, PhantomData)
}

impl<T: TryFrom<u64> + Display> Kind for Count<T> {
    type Value = T;

    fn read(&self, node: &Node<'_>, _: &Context<'_>) -> Option<T> {
        T::try_from(node.count(self.0.clone())?).ok()
    }

    fn written(&self, value: &T) -> String {
        value.to_string()
    }

    fn shape(&self) -> Shape {
        Shape::Count(*self.0.start(), *self.0.end())
    }
}

/// A size in bytes.
pub(crate) struct Size<T>(RangeInclusive<u64>, PhantomData<T>);

pub(crate) const fn size<T>(range: RangeInclusive<u64>) -> Size<T> {
    Size(range, PhantomData)
}

impl<T: TryFrom<u64> + Copy> Kind for Size<T>
where
    u64: TryFrom<T>,
{
    type Value = T;

    fn read(&self, node: &Node<'_>, _: &Context<'_>) -> Option<T> {
        T::try_from(node.size(self.0.clone())?).ok()
    }

    fn written(&self, value: &T) -> String {
        format!("{:?}", sizes::written(u64::try_from(*value).unwrap_or(u64::MAX)))
    }

    fn shape(&self) -> Shape {
        Shape::Size(sizes::written(*self.0.start()), sizes::written(*self.0.end()))
    }
}

/// A span of time.
pub(crate) struct Span(RangeInclusive<Duration>);

pub(crate) const fn span(range: RangeInclusive<Duration>) -> Span {
    Span(range)
}

impl Span {
    /// Or the word "off", which is `None`.
    pub(crate) const fn or_off(self) -> SpanOrOff {
        SpanOrOff(self)
    }
}

impl Kind for Span {
    type Value = Duration;

    fn read(&self, node: &Node<'_>, _: &Context<'_>) -> Option<Duration> {
        node.span(self.0.clone())
    }

    fn written(&self, value: &Duration) -> String {
        format!("{:?}", spans::written(*value))
    }

    fn shape(&self) -> Shape {
        Shape::Span(spans::written(*self.0.start()), spans::written(*self.0.end()))
    }
}

/// A span of time, or "off".
pub(crate) struct SpanOrOff(Span);

impl Kind for SpanOrOff {
    type Value = Option<Duration>;

    fn read(&self, node: &Node<'_>, _: &Context<'_>) -> Option<Option<Duration>> {
        node.span_or_off(self.0.0.clone())
    }

    fn written(&self, value: &Option<Duration>) -> String {
        value.map_or_else(|| "\"off\"".to_owned(), |span| self.0.written(&span))
    }

    fn shape(&self) -> Shape {
        Shape::Either(vec![self.0.shape(), Shape::Choice(vec!["off"])])
    }
}

/// One of a few words.
pub(crate) struct Choice<T: 'static>(&'static [(&'static str, T)]);

pub(crate) const fn choice<T>(words: &'static [(&'static str, T)]) -> Choice<T> {
    Choice(words)
}

impl<T: Clone + PartialEq> Kind for Choice<T> {
    type Value = T;

    fn read(&self, node: &Node<'_>, _: &Context<'_>) -> Option<T> {
        node.choice(self.0)
    }

    fn written(&self, value: &T) -> String {
        let word = self.0.iter().find(|(_, meant)| meant == value);
        word.map_or_else(|| NOT_WRITTEN.to_owned(), |(word, _)| format!("{word:?}"))
    }

    fn shape(&self) -> Shape {
        Shape::Choice(self.0.iter().map(|(word, _)| *word).collect())
    }
}

/// A string with a parser of its own.
pub(crate) struct Text<T> {
    what: &'static str,
    parser: fn(&str) -> Result<T, Complaint>,
}

/// `what` is what the string is, for people.
pub(crate) const fn text<T>(what: &'static str, parser: fn(&str) -> Result<T, Complaint>) -> Text<T> {
    Text { what, parser }
}

impl<T> Kind for Text<T> {
    type Value = T;

    fn read(&self, node: &Node<'_>, _: &Context<'_>) -> Option<T> {
        node.parse(self.parser)
    }

    fn written(&self, _: &T) -> String {
        NOT_WRITTEN.to_owned()
    }

    fn shape(&self) -> Shape {
        Shape::Text(self.what)
    }
}

/// The path of a directory; a relative one starts at the folder of the file.
pub(crate) struct Directory;

pub(crate) const fn directory() -> Directory {
    Directory
}

impl Kind for Directory {
    type Value = PathBuf;

    fn read(&self, node: &Node<'_>, context: &Context<'_>) -> Option<PathBuf> {
        let path = node.string()?;
        if path.is_empty() {
            node.fail(complaint("is an empty path", "write the path of a directory"));
            return None;
        }
        Some(context.env.folder().join(path))
    }

    fn written(&self, value: &PathBuf) -> String {
        format!("{:?}", value.display().to_string())
    }

    fn shape(&self) -> Shape {
        Shape::Text("path of a directory")
    }
}

/// A value that a function of its table's file reads.
pub(crate) struct ParseAs<T> {
    shape: fn() -> Shape,
    read: fn(&Node<'_>, &Context<'_>) -> Option<T>,
    /// The default, in TOML.
    default: &'static str,
}

pub(crate) const fn parse_as<T>(
    shape: fn() -> Shape,
    read: fn(&Node<'_>, &Context<'_>) -> Option<T>,
) -> ParseAs<T> {
    ParseAs { shape, read, default: NOT_WRITTEN }
}

impl<T> ParseAs<T> {
    /// How the default is written in TOML.
    pub(crate) const fn written_as(self, default: &'static str) -> Self {
        Self { default, ..self }
    }
}

impl<T> Kind for ParseAs<T> {
    type Value = T;

    fn read(&self, node: &Node<'_>, context: &Context<'_>) -> Option<T> {
        (self.read)(node, context)
    }

    fn written(&self, _: &T) -> String {
        self.default.to_owned()
    }

    fn shape(&self) -> Shape {
        (self.shape)()
    }
}

/// A secret, never written in the file itself.
pub(crate) const fn secret() -> ParseAs<Secret> {
    parse_as(|| Shape::Source(Source::keys()), |node, context| source::secret(node, context.env))
}

/// The name of a table that must exist.
pub(crate) struct Reference {
    kind: &'static str,
    names: for<'a, 'n> fn(&'a Names<'n>) -> &'a [&'n str],
}

/// `kind` is the table's first part: `route` for the name of a `[route.NAME]`.
pub(crate) const fn reference(
    kind: &'static str,
    names: for<'a, 'n> fn(&'a Names<'n>) -> &'a [&'n str],
) -> Reference {
    Reference { kind, names }
}

impl Kind for Reference {
    type Value = Arc<str>;

    fn read(&self, node: &Node<'_>, context: &Context<'_>) -> Option<Arc<str>> {
        let name = node.string()?;
        let defined = (self.names)(context.names);
        let may_have_file = self.kind == "client" && context.names.has_client_files && naming::is_name(name);
        if defined.contains(&name) || may_have_file {
            return Some(Arc::from(name));
        }
        node.fail(naming::undefined(self.kind, name, defined.iter().copied()));
        None
    }

    fn written(&self, value: &Arc<str>) -> String {
        format!("{value:?}")
    }

    fn shape(&self) -> Shape {
        Shape::Text("name of a table")
    }
}

/// A list, in which no value stands twice. What can be read of it is read.
pub(crate) struct List<K> {
    item: K,
    /// For a list that is empty, which is a mistake then.
    empty: Option<&'static str>,
}

pub(crate) const fn list<K: Kind>(item: K) -> List<K> {
    List { item, empty: None }
}

impl<K> List<K> {
    /// An empty list is a mistake, with this help.
    pub(crate) const fn non_empty(mut self, help: &'static str) -> Self {
        self.empty = Some(help);
        self
    }
}

impl<K: Kind<Value: PartialEq>> Kind for List<K> {
    type Value = Vec<K::Value>;

    fn read(&self, node: &Node<'_>, context: &Context<'_>) -> Option<Self::Value> {
        let items = match self.empty {
            Some(help) => node.some_items(help)?,
            None => node.items()?,
        };
        let mut values: Vec<K::Value> = Vec::new();
        for item in items {
            let Some(value) = self.item.read(&item, context) else { continue };
            if values.contains(&value) {
                item.fail(complaint("is in this list twice", "remove one of the two"));
            }
            values.push(value);
        }
        Some(values)
    }

    fn written(&self, values: &Self::Value) -> String {
        let items: Vec<String> = values.iter().map(|value| self.item.written(value)).collect();
        format!("[{}]", items.join(", "))
    }

    fn shape(&self) -> Shape {
        Shape::List(Box::new(self.item.shape()))
    }
}

/// A table within a table, read only when it is written.
pub(crate) struct Nested<T>(PhantomData<T>);

pub(crate) const fn nested<T: Declared>() -> Nested<T> {
    Nested(PhantomData)
}

impl<T: Declared> Kind for Nested<T> {
    type Value = T;

    fn read(&self, node: &Node<'_>, context: &Context<'_>) -> Option<T> {
        T::read(&node.table(T::NAMES)?, context)
    }

    fn written(&self, _: &T) -> String {
        NOT_WRITTEN.to_owned()
    }

    fn shape(&self) -> Shape {
        Shape::Table(T::keys())
    }
}
