//! The languages of messages: one file of texts beside this one for each.

use std::{collections::HashMap, sync::OnceLock};

use super::Argument;

/// The tag of each language with the text of its file: English, then the others by their tags. `build.rs` writes it from the files that are there.
const FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/languages.rs"));

static TEXTS: [OnceLock<Texts>; FILES.len()] = [const { OnceLock::new() }; FILES.len()];

/// A language of messages. Each has a file in `src/fault/messages`, named by its tag (BCP 47).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Language(u8);

impl Language {
    /// English.
    pub const EN: Self = Self(0);

    /// All languages, English first.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..FILES.len().min(Self::MOST)).map(|index| Self(index as u8))
    }

    /// As many languages as a set of them can have.
    pub(super) const MOST: usize = 64;

    /// The language with this tag, in any case.
    pub fn named(tag: &str) -> Option<Self> {
        Self::all().find(|language| language.tag().eq_ignore_ascii_case(tag))
    }

    /// The tag, for example `zh`.
    pub fn tag(self) -> &'static str {
        FILES.get(self.index()).map_or("en", |(tag, _)| tag)
    }

    /// Whether the language is meant by this tag: its own, or another that its file lists.
    pub(super) fn is_meant_by(self, tag: &str) -> bool {
        let others = self.texts().map(|texts| texts.other_tags.as_slice()).unwrap_or_default();
        self.tag().eq_ignore_ascii_case(tag) || others.iter().any(|other| other.eq_ignore_ascii_case(tag))
    }

    /// Its place among all languages.
    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The text of this name, without its arguments; its name if there is none.
    pub(super) fn text(self, name: &str) -> &str {
        let text = self.texts().and_then(|texts| texts.templates.get(name));
        text.map_or(name, String::as_str)
    }

    /// The text of this name, with its arguments.
    pub(super) fn fill(self, name: &str, arguments: &[Argument]) -> String {
        fill(self.text(name), |placeholder| {
            let argument = arguments.iter().find(|argument| argument.name == placeholder);
            argument.map(|argument| argument.value.text(self)).unwrap_or_default()
        })
    }

    /// The text of its file.
    #[cfg(test)]
    pub(super) fn file(self) -> &'static str {
        FILES[self.index()].1
    }

    pub(super) fn texts(self) -> Option<&'static Texts> {
        let (_, file) = FILES.get(self.index())?;
        // A test checks that every file can be read.
        Some(TEXTS.get(self.index())?.get_or_init(|| Texts::read(file).unwrap_or_default()))
    }
}

/// Everything that the file of a language says.
#[derive(Debug, Default)]
pub(super) struct Texts {
    /// By name; the name of a text in a table is `table.name`.
    pub(super) templates: HashMap<String, String>,
    /// Other tags that mean the language.
    pub(super) other_tags: Vec<String>,
}

impl Texts {
    /// Reads the file of a language.
    pub(super) fn read(file: &str) -> Result<Self, toml::de::Error> {
        let mut texts = Self::default();
        texts.add("", toml::from_str(file)?);
        Ok(texts)
    }

    fn add(&mut self, path: &str, table: toml::Table) {
        for (name, value) in table {
            let name = [path, &name].concat();
            match value {
                toml::Value::Table(inner) => self.add(&[&name, "."].concat(), inner),
                toml::Value::String(text) => _ = self.templates.insert(name, text),
                toml::Value::Array(tags) => {
                    self.other_tags.extend(tags.iter().filter_map(|tag| tag.as_str().map(str::to_owned)));
                }
                _ => {}
            }
        }
    }
}

/// Puts values in place of their names. The values themselves are not searched for placeholders.
pub(in crate::fault) fn fill(template: &str, value: impl Fn(&str) -> String) -> String {
    let mut message = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, opened)) = rest.split_once('{') {
        message.push_str(before);
        let Some((name, after)) = opened.split_once('}') else { break };
        message.push_str(&value(name));
        rest = after;
    }
    message.push_str(rest);
    message
}
