//! The languages of messages: one file of texts beside this one for each.

use std::sync::OnceLock;

use fnv::FnvHashMap;

use super::{Argument, Template};

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

    /// What stands between two names of a list.
    pub(super) fn list_separator(self) -> &'static str {
        self.template("language.list").map_or(", ", Template::text)
    }

    /// Appends the text of this name with its arguments to `message`; its name if there is no such text.
    pub(super) fn fill(self, message: &mut String, name: &str, arguments: &[Argument]) {
        let Some(template) = self.template(name) else { return message.push_str(name) };
        template.fill(message, |message, placeholder| {
            if let Some(argument) = arguments.iter().find(|argument| argument.name == placeholder) {
                argument.value.write(self, message);
            }
        });
    }

    /// Appends to `message` where more about an error with this code stands.
    pub(super) fn refer_to(self, message: &mut String, code: &str) {
        if let Some(template) = self.template("language.reference") {
            template.fill(message, |message, _| message.push_str(code));
        }
    }

    pub(super) fn template(self, name: &str) -> Option<&'static Template> {
        self.texts()?.templates.get(name)
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
    /// By name; the name of a text in a table is `table.name`. Names are the program's, so nobody chooses them to collide.
    pub(super) templates: FnvHashMap<String, Template>,
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
                toml::Value::String(text) => _ = self.templates.insert(name, Template::new(text)),
                toml::Value::Array(tags) => {
                    self.other_tags.extend(tags.iter().filter_map(|tag| tag.as_str().map(str::to_owned)));
                }
                _ => {}
            }
        }
    }
}
