//! What is known of a key, as data: for the generated pages and for everything that looks at a file without reading it into a
//! [`Config`](crate::config::Config).

use super::Field;

/// The version whose keys are not marked with a version of their own.
const FIRST: &str = "0.1.0";

/// One key of the file.
#[derive(Debug, Clone)]
pub struct Key {
    /// Its name within its table.
    pub name: &'static str,
    /// What it does, in sentences.
    pub doc: &'static str,
    /// What its value looks like.
    pub shape: Shape,
    /// What holds when it is not written.
    pub default: DefaultValue,
    /// The rest.
    pub meta: Meta,
}

impl Key {
    /// A key as a row of a table declares it.
    pub(crate) fn new<F: Field>(name: &'static str, doc: &'static str, field: &F, meta: Meta) -> Self {
        let default = match meta.default {
            "" => field.default(),
            words => DefaultValue::Words(words),
        };
        Self { name, doc, shape: field.shape(), default, meta }
    }

    /// The keys of the table or tables that it may hold; none when its value is no table.
    #[must_use]
    pub fn inner(&self) -> Vec<&Self> {
        self.shape.keys()
    }
}

/// What a row says of a key beside name, kind and documentation.
#[derive(Debug, Clone, Copy)]
pub struct Meta {
    /// In words, when the default is not a value that could be written; else empty.
    pub default: &'static str,
    /// Values, in TOML, that show what the key is for.
    pub example: &'static [&'static str],
    /// The value, in TOML, that the shipped `gateway.toml` sets; empty: the shipped file does not set it.
    pub shipped: &'static str,
    /// The first version that knows the key.
    pub since: &'static str,
    /// How it is inherited.
    pub inheritance: Inheritance,
    /// How much of its value may be shown.
    pub secrecy: Secrecy,
    /// When a changed value takes effect.
    pub effect: Effect,
}

impl Meta {
    /// Of a key about which there is nothing special.
    pub const USUAL: Self = Self {
        default: "",
        example: &[],
        shipped: "",
        since: FIRST,
        inheritance: Inheritance::None,
        secrecy: Secrecy::Public,
        effect: Effect::NextRequest,
    };
}

/// What holds when a key is not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DefaultValue {
    /// Nothing: it must be written.
    Required,
    /// This value, in TOML.
    Value(String),
    /// Nothing is set; or what these words say.
    Words(&'static str),
}

/// How a key relates to the key of the same name in other tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inheritance {
    /// There is no such relation.
    None,
    /// The most specific value wins: route, then upstream, then `[defaults]`.
    Overrides,
    /// All values apply together.
    AddsUp,
}

/// How much of a value may be shown (in `/config`, in messages).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrecy {
    /// All of it.
    Public,
    /// Only where it is to be read from. A string in its place is masked.
    Secret,
    /// Values of headers whose name suggests a credential are masked.
    Headers,
}

/// When a changed value takes effect after the file is saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// With the next request.
    NextRequest,
    /// With the next client connection.
    NewConnections,
    /// After a restart of the process.
    Restart,
}

/// What a value looks like.
#[derive(Debug, Clone)]
pub enum Shape {
    /// `true` or `false`.
    Flag,
    /// A whole number within a range.
    Count(u64, u64),
    /// A number that may have a fraction, within a range.
    Number(f64, f64),
    /// A span of time, as a string; the range as it would be written.
    Span(String, String),
    /// A size, as a string; the range as it would be written.
    Size(String, String),
    /// One of these words, as a string.
    Choice(Vec<&'static str>),
    /// A string, and what it is.
    Text(&'static str),
    /// Where a secret or a PEM file is to be read from: `{ env }`, `{ file }` or `{ credential }`.
    Source(Vec<Key>),
    /// Header values by header name; a value may also be read from where a table of these keys says.
    Headers(Vec<Key>),
    /// Strings by names that the author of the file chooses, and what they are.
    Texts(&'static str),
    /// A list of such values.
    List(Box<Self>),
    /// A table with these keys.
    Table(Vec<Key>),
    /// Tables with these keys, by names that the author of the file chooses.
    Named(Vec<Key>),
    /// Any of these.
    Either(Vec<Self>),
}

impl Shape {
    /// The keys of the table that it is or contains. A source has keys of its own, which are documented once.
    #[must_use]
    pub fn keys(&self) -> Vec<&Key> {
        match self {
            Self::Table(keys) | Self::Named(keys) => keys.iter().collect(),
            Self::List(item) => item.keys(),
            Self::Either(shapes) => shapes.iter().flat_map(Self::keys).collect(),
            _ => Vec::new(),
        }
    }

    /// In words, for a person.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Flag => "true or false".to_owned(),
            Self::Count(least, most) => format!("whole number from {least} to {most}"),
            Self::Number(least, most) => format!("number from {least} to {most}"),
            Self::Span(least, most) => format!("span of time from {least} to {most}"),
            Self::Size(least, most) => format!("size from {least} to {most}"),
            Self::Choice(words) => {
                let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
                if quoted.len() == 1 { quoted.concat() } else { format!("one of {}", quoted.join(", ")) }
            }
            Self::Text(what) => (*what).to_owned(),
            Self::Source(_) => r#"{ env = "NAME" }, { file = "path" } or { credential = "name" }"#.to_owned(),
            Self::Headers(_) => "table of header names and values".to_owned(),
            Self::Texts(what) => (*what).to_owned(),
            Self::List(item) => format!("list, each item: {}", item.words()),
            Self::Table(keys) => {
                let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
                format!("table {{ {} }}", names.join(", "))
            }
            Self::Named(_) => "tables by name".to_owned(),
            Self::Either(shapes) => {
                let words: Vec<String> = shapes.iter().map(Self::words).collect();
                words.join(", or ")
            }
        }
    }
}
