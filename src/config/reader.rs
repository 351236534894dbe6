//! A typed reader of TOML values that know their path and place. What is wrong goes into the [`Report`] and reads as `None`, like
//! what is absent: the reading goes on, and the report decides at the end.

use std::{ops::RangeInclusive, time::Duration};

use toml::de::{DeTable, DeValue};

use super::{
    naming::{is_name, shown, suggestion},
    problem::{Complaint, complaint},
    report::Report,
    size, span,
};

/// One value of the file.
#[derive(Clone)]
pub(crate) struct Node<'a> {
    /// `route.openai.upstreams[0]`
    pub(crate) path: String,
    /// In bytes from the file's beginning.
    pub(crate) offset: usize,
    pub(crate) value: &'a DeValue<'a>,
    report: &'a Report<'a>,
}

impl<'a> Node<'a> {
    /// Tells that the value is wrong.
    pub(crate) fn fail(&self, complaint: Complaint) {
        self.report.problem(&self.path, self.offset, complaint);
    }

    /// Tells that it is sound, but worth saying.
    pub(crate) fn warn(&self, complaint: Complaint) {
        self.report.warning(&self.path, self.offset, complaint);
    }

    /// What a parser made of the value; its complaint is told.
    pub(crate) fn accept<T>(&self, parsed: Result<T, Complaint>) -> Option<T> {
        parsed.map_err(|complaint| self.fail(complaint)).ok()
    }

    pub(crate) fn is_str(&self, text: &str) -> bool {
        self.value.as_str() == Some(text)
    }

    pub(crate) fn is_table(&self) -> bool {
        self.value.is_table()
    }

    pub(crate) fn string(&self) -> Option<&'a str> {
        self.value.as_str().or_else(|| self.mistyped("a string", ""))
    }

    pub(crate) fn parse<T>(&self, parser: impl FnOnce(&str) -> Result<T, Complaint>) -> Option<T> {
        self.accept(parser(self.string()?))
    }

    pub(crate) fn boolean(&self) -> Option<bool> {
        self.value.as_bool().or_else(|| self.mistyped("true or false", ""))
    }

    pub(crate) fn count(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let Some(integer) = self.value.as_integer() else { return self.mistyped("a whole number", "") };
        let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let number = number.filter(|number| range.contains(number));
        number.or_else(|| {
            self.fail(complaint(format!("must be from {} to {}", range.start(), range.end()), ""));
            None
        })
    }

    pub(crate) fn span(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let span = self.quantity("a span of time, as a string", span::HELP, span::parse)?;
        self.within(span, &range)
    }

    /// A span, or "off" as `Some(None)`.
    pub(crate) fn span_or_off(&self, range: RangeInclusive<Duration>) -> Option<Option<Duration>> {
        let help = r#"write a span, as in "5s", or "off""#;
        match self.quantity(r#"a span of time, as a string, or "off""#, help, span::parse_or_off)? {
            None => Some(None),
            Some(span) => self.within(span, &range).map(Some),
        }
    }

    /// A size in bytes.
    pub(crate) fn size(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let bytes = self.quantity("a size, as a string", size::HELP, size::parse)?;
        if range.contains(&bytes) {
            return Some(bytes);
        }
        let (least, most) = (size::written(*range.start()), size::written(*range.end()));
        self.fail(complaint(format!("must be from {least} to {most}"), ""));
        None
    }

    /// One of a few words.
    pub(crate) fn choice<T: Clone>(&self, choices: &[(&str, T)]) -> Option<T> {
        let written = self.string()?;
        let found = choices.iter().find(|(word, _)| *word == written);
        found.map(|(_, value)| value.clone()).or_else(|| {
            let words: Vec<String> = choices.iter().map(|(word, _)| format!("{word:?}")).collect();
            let help = suggestion(written, choices.iter().map(|(word, _)| *word)).unwrap_or_default();
            self.fail(complaint(format!("must be {}", words.join(" or ")), help));
            None
        })
    }

    /// The elements of an array; `None` when it is not one.
    pub(crate) fn items(&self) -> Option<Vec<Self>> {
        let Some(array) = self.value.as_array() else { return self.mistyped("an array", "put it in [ ]") };
        let item = |(index, item): (usize, &'a toml::Spanned<DeValue<'a>>)| Self {
            path: format!("{}[{index}]", self.path),
            offset: item.span().start,
            value: item.get_ref(),
            report: self.report,
        };
        Some(array.iter().enumerate().map(item).collect())
    }

    /// The elements of an array that must hold at least one.
    pub(crate) fn some_items(&self, help: &'static str) -> Option<Vec<Self>> {
        let items = self.items()?;
        if items.is_empty() {
            self.fail(complaint("is an empty list", help));
        }
        Some(items)
    }

    /// A table in which only these keys are known.
    pub(crate) fn table(&self, known: &'static [&'static str]) -> Option<Table<'a>> {
        Some(self.any_table()?.knowing(known))
    }

    /// A table whose keys are names that the file's author chose: each checked, with its value.
    pub(crate) fn named(&self) -> Option<Vec<(&'a str, Self)>> {
        let entries = self.any_table()?.entries;
        for (name, node) in &entries {
            if !is_name(name) {
                let help = "letters, digits, `-`, `_` and `.`, at most 64, and nothing that looks like a key";
                node.fail(complaint("cannot be a name", help));
            }
        }
        Some(entries)
    }

    /// A table with any keys.
    pub(crate) fn entries(&self) -> Option<Vec<(&'a str, Self)>> {
        Some(self.any_table()?.entries)
    }

    /// Wrong type; for a secret in clear the message must not, and does not, quote it.
    pub(crate) fn mistyped<T>(&self, wanted: &str, help: &'static str) -> Option<T> {
        self.fail(complaint(format!("must be {wanted}, not {}", kind(self.value)), help));
        None
    }

    fn any_table(&self) -> Option<Table<'a>> {
        let Some(table) = self.value.as_table() else { return self.mistyped("a table", "") };
        Some(Table::of(table, &self.path, self.offset, self.report))
    }

    fn quantity<T>(
        &self,
        wanted: &str,
        help: &'static str,
        parser: fn(&str) -> Result<T, Complaint>,
    ) -> Option<T> {
        self.value.as_str().map_or_else(|| self.mistyped(wanted, help), |text| self.accept(parser(text)))
    }

    fn within(&self, span: Duration, range: &RangeInclusive<Duration>) -> Option<Duration> {
        if range.contains(&span) {
            return Some(span);
        }
        let (least, most) = (span::written(*range.start()), span::written(*range.end()));
        self.fail(complaint(format!("must be from {least} to {most}"), ""));
        None
    }
}

/// A table of the file, its unknown keys told already.
pub(crate) struct Table<'a> {
    path: String,
    offset: usize,
    entries: Vec<(&'a str, Node<'a>)>,
    known: &'static [&'static str],
    report: &'a Report<'a>,
}

impl<'a> Table<'a> {
    /// The file as a whole.
    pub(crate) fn root(
        table: &'a DeTable<'a>,
        known: &'static [&'static str],
        report: &'a Report<'a>,
    ) -> Self {
        Self::of(table, "", 0, report).knowing(known)
    }

    pub(crate) fn get(&self, key: &'static str) -> Option<Node<'a>> {
        debug_assert!(self.known.contains(&key), "{key} is not among the keys known in {}", self.path);
        self.entries.iter().find(|(name, _)| *name == key).map(|(_, node)| node.clone())
    }

    /// A value without which the table is no good.
    pub(crate) fn required(&self, key: &'static str, help: &'static str) -> Option<Node<'a>> {
        self.get(key).or_else(|| {
            self.report.problem(&join(&self.path, key), self.offset, complaint("is missing", help));
            None
        })
    }

    /// The one of two keys that is written; both is wrong.
    pub(crate) fn either(&self, one: &'static str, other: &'static str) -> Option<Node<'a>> {
        match (self.get(one), self.get(other)) {
            (Some(_), Some(second)) => {
                second.fail(complaint(format!("`{one}` is written too"), "write one of them"));
                None
            }
            (first, second) => first.or(second),
        }
    }

    /// A table within; when it is not written, an empty one.
    pub(crate) fn section(&self, key: &'static str, known: &'static [&'static str]) -> Self {
        self.get(key).and_then(|node| node.table(known)).unwrap_or_else(|| Self {
            path: join(&self.path, key),
            offset: self.offset,
            entries: Vec::new(),
            known,
            report: self.report,
        })
    }

    /// Tells that the table is wrong as a whole.
    pub(crate) fn fail(&self, complaint: Complaint) {
        self.report.problem(&self.path, self.offset, complaint);
    }

    /// Tells every key that is not among these.
    fn knowing(self, known: &'static [&'static str]) -> Self {
        for (key, node) in self.entries.iter().filter(|(key, _)| !known.contains(key)) {
            let help = suggestion(key, known.iter().copied());
            let help = help.unwrap_or_else(|| format!("known here: {}", known.join(", ")));
            node.fail(complaint("unknown key", help));
        }
        Self { known, ..self }
    }

    fn of(table: &'a DeTable<'a>, path: &str, offset: usize, report: &'a Report<'a>) -> Self {
        let entry = |(key, value): (&'a toml::Spanned<_>, &'a toml::Spanned<DeValue<'a>>)| {
            let name: &'a std::borrow::Cow<'a, str> = key.get_ref();
            let name: &'a str = name;
            // The place of a table is its name: what it holds may be spread over the file.
            let place = if value.get_ref().is_table() { key.span() } else { value.span() };
            let node = Node { path: join(path, name), offset: place.start, value: value.get_ref(), report };
            (name, node)
        };
        let entries = table.iter().map(entry).collect();
        Self { path: path.to_owned(), offset, entries, known: &[], report }
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a bare number",
        DeValue::Float(_) => "a bare fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

fn join(path: &str, key: &str) -> String {
    let key = shown(key, "…").replace('`', "");
    if path.is_empty() { key } else { format!("{path}.{key}") }
}
