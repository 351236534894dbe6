//! Texts in which `{name}` stands for the argument of that name.

use std::ops::Range;

/// A text whose placeholders have been found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::fault) struct Template {
    text: String,
    /// Where the placeholders are, in their order: with their braces.
    placeholders: Box<[Range<usize>]>,
}

impl Template {
    /// Finds the placeholders of a text. A brace that is not closed belongs to the text.
    pub(in crate::fault) fn new(text: String) -> Self {
        let mut placeholders = Vec::new();
        let mut searched = 0;
        while let Some((before, opened)) = text.get(searched..).and_then(|rest| rest.split_once('{'))
            && let Some((name, _)) = opened.split_once('}')
        {
            let start = searched + before.len();
            searched = start + name.len() + 2;
            placeholders.push(start..searched);
        }
        Self { placeholders: placeholders.into(), text }
    }

    /// The text, with its placeholders.
    pub(in crate::fault) fn text(&self) -> &str {
        &self.text
    }

    /// The names of its placeholders.
    #[cfg(test)]
    pub(in crate::fault) fn names(&self) -> impl Iterator<Item = &str> {
        self.placeholders.iter().filter_map(|place| self.name(place))
    }

    /// Appends the text to `message`, with what `write` appends for each placeholder. That is not searched for placeholders.
    pub(in crate::fault) fn fill(&self, message: &mut String, mut write: impl FnMut(&mut String, &str)) {
        let mut filled = 0;
        for place in &self.placeholders {
            message.push_str(self.text.get(filled..place.start).unwrap_or_default());
            write(message, self.name(place).unwrap_or_default());
            filled = place.end;
        }
        message.push_str(self.text.get(filled..).unwrap_or_default());
    }

    fn name(&self, place: &Range<usize>) -> Option<&str> {
        self.text.get(place.start + 1..place.end - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_and_everything_else_is_text() {
        for (text, names, filled) in [
            ("", &[][..], ""),
            ("plain", &[], "plain"),
            ("{a}", &["a"], "<a>"),
            ("{a}{b}.", &["a", "b"], "<a><b>."),
            ("ein {ä} é", &["ä"], "ein <ä> é"),
            ("{} and {", &[""], "<> and {"),
            ("an open {brace", &[], "an open {brace"),
            ("} {a", &[], "} {a"),
        ] {
            let template = Template::new(text.to_owned());
            assert_eq!(template.names().collect::<Vec<_>>(), names, "{text}");
            let mut message = "> ".to_owned();
            template.fill(&mut message, |message, name| message.extend(["<", name, ">"]));
            assert_eq!(message, format!("> {filled}"));
        }
    }
}
