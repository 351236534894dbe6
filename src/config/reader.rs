//! A typed reader of TOML values that know their path and position. A mistake goes into the [`Report`] and reads as `None`, like an
//! absent value: reading continues, and the report decides at the end.

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
    /// In bytes from the beginning of the file.
    pub(crate) offset: usize,
    pub(crate) value: &'a DeValue<'a>,
    report: &'a Report<'a>,
}

impl<'a> Node<'a> {
    /// Reports a mistake in the value.
    pub(crate) fn fail(&self, complaint: Complaint) {
        self.report.problem(&self.path, self.offset, complaint);
    }

    /// The line of the file, from 1.
    pub(crate) fn line(&self) -> usize {
        self.report.line(self.offset)
    }

    /// Reports a warning about the value.
    pub(crate) fn warn(&self, complaint: Complaint) {
        self.report.warning(&self.path, self.offset, complaint);
    }

    /// The result of a parser; its complaint is reported.
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
        self.value.as_str().or_else(|| self.mistyped("a string", "put it in quotes"))
    }

    pub(crate) fn parse<T>(&self, parser: impl FnOnce(&str) -> Result<T, Complaint>) -> Option<T> {
        self.accept(parser(self.string()?))
    }

    pub(crate) fn boolean(&self) -> Option<bool> {
        self.value.as_bool().or_else(|| self.mistyped("true or false", "write true or false without quotes"))
    }

    pub(crate) fn count(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let Some(integer) = self.value.as_integer() else {
            return self.mistyped("a whole number", "write it without quotes and without a fraction");
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let number = number.filter(|number| range.contains(number));
        number.or_else(|| {
            let message = format!("must be from {} to {}", range.start(), range.end());
            self.fail(complaint(message, "choose a value in this range"));
            None
        })
    }

    pub(crate) fn span(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let span = self.quantity("a time span, as a string", span::HELP, span::parse)?;
        self.within(span, &range)
    }

    /// A span, or "off" as `Some(None)`.
    pub(crate) fn span_or_off(&self, range: RangeInclusive<Duration>) -> Option<Option<Duration>> {
        let help = r#"write a number with a unit, for example "5s", or "off""#;
        match self.quantity(r#"a time span, as a string, or "off""#, help, span::parse_or_off)? {
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
        self.fail(complaint(format!("must be from {least} to {most}"), "choose a value in this range"));
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
        let Some(array) = self.value.as_array() else { return self.mistyped("a list", "put it in [ ]") };
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

    /// A table whose keys are names that the author of the file chose: each is checked, and returned with its value.
    pub(crate) fn named(&self) -> Option<Vec<(&'a str, Self)>> {
        let entries = self.any_table()?.entries;
        for (name, node) in &entries {
            if !is_name(name) {
                let help =
                    "use at most 64 letters, digits, `-`, `_` and `.`, and nothing that looks like a key";
                node.fail(complaint("is not a valid name", help));
            }
        }
        Some(entries)
    }

    /// A value within a table, without a check of the other keys.
    pub(crate) fn child(&self, key: &str) -> Option<Self> {
        let table = self.value.as_table()?;
        let entries = Table::of(table, &self.path, self.offset, self.report).entries;
        entries.into_iter().find(|(name, _)| *name == key).map(|(_, node)| node)
    }

    /// A table with any keys.
    pub(crate) fn entries(&self) -> Option<Vec<(&'a str, Self)>> {
        Some(self.any_table()?.entries)
    }

    /// Reports a wrong type. The value is not quoted, because it may be a secret in clear.
    pub(crate) fn mistyped<T>(&self, wanted: &str, help: &'static str) -> Option<T> {
        self.fail(complaint(format!("must be {wanted}, not {}", kind(self.value)), help));
        None
    }

    fn any_table(&self) -> Option<Table<'a>> {
        let Some(table) = self.value.as_table() else {
            let help = if self.path.ends_with("timeout") {
                r#"write it as { total = "600s" }; the other keys are in docs/configuration.md"#
            } else {
                "write it as { key = value, … } or under its own [header]"
            };
            return self.mistyped("a table", help);
        };
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
        self.fail(complaint(format!("must be from {least} to {most}"), "choose a value in this range"));
        None
    }
}

/// A table of the file, whose unknown keys have been reported.
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

    /// A value that must be written.
    pub(crate) fn required(&self, key: &'static str, help: &'static str) -> Option<Node<'a>> {
        self.get(key).or_else(|| {
            self.report.problem(&join(&self.path, key), self.offset, complaint("is missing", help));
            None
        })
    }

    /// One value or a list of several, under a name or its plural. Neither is a mistake, and so are both.
    pub(crate) fn one_or_several(
        &self,
        one: &'static str,
        several: &'static str,
        help: &'static str,
    ) -> Option<Vec<Node<'a>>> {
        match (self.get(one), self.get(several)) {
            (Some(_), Some(second)) => {
                second.fail(complaint(format!("`{one}` is set too"), format!("keep `{one}` or `{several}`")));
                None
            }
            (Some(node), None) => Some(vec![node]),
            (None, Some(list)) => list.some_items(help),
            (None, None) => self.required(one, help).map(|node| vec![node]),
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

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Reports a mistake in the table as a whole.
    pub(crate) fn fail(&self, complaint: Complaint) {
        self.report.problem(&self.path, self.offset, complaint);
    }

    /// Reports a warning about the table as a whole.
    pub(crate) fn warn(&self, complaint: Complaint) {
        self.report.warning(&self.path, self.offset, complaint);
    }

    /// Reports every key that is not among these.
    fn knowing(self, known: &'static [&'static str]) -> Self {
        for (key, node) in self.entries.iter().filter(|(key, _)| !known.contains(key)) {
            let help = elsewhere(key).or_else(|| suggestion(key, known.iter().copied()));
            let help = help.unwrap_or_else(|| format!("the keys of this table are: {}", known.join(", ")));
            node.fail(complaint("unknown key", help));
        }
        Self { known, ..self }
    }

    fn of(table: &'a DeTable<'a>, path: &str, offset: usize, report: &'a Report<'a>) -> Self {
        let entry = |(key, value): (&'a toml::Spanned<_>, &'a toml::Spanned<DeValue<'a>>)| {
            let name: &'a std::borrow::Cow<'a, str> = key.get_ref();
            let name: &'a str = name;
            // The position of a table is its name: its contents may be spread over the file.
            let place = if value.get_ref().is_table() { key.span() } else { value.span() };
            let node = Node { path: join(path, name), offset: place.start, value: value.get_ref(), report };
            (name, node)
        };
        let entries = table.iter().map(entry).collect();
        Self { path: path.to_owned(), offset, entries, known: &[], report }
    }
}

/// The help for a key of LiteLLM's configuration.
fn elsewhere(key: &str) -> Option<String> {
    let help = match key {
        "num_retries" | "max_retries" => {
            "write retry = { retries = 2 } in [defaults] or in an [upstream] table"
        }
        "fallbacks" => {
            "list several upstreams in `upstreams` of a [route] or [model] table: they are tried in this order"
        }
        "rpm" | "tpm" => {
            "there is no limit per minute; `max_pending` of an [upstream] table limits concurrent requests"
        }
        _ => return None,
    };
    Some(help.to_owned())
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn join(path: &str, key: &str) -> String {
    let key = shown(key, "…").replace('`', "");
    if path.is_empty() { key } else { format!("{path}.{key}") }
}
