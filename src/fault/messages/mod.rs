//! The texts of faults, by language. A text is a template: `{name}` stands for the argument of that name.

use std::{collections::HashMap, sync::LazyLock};

use super::Fault;

/// Templates by [`Fault::text`]. A test checks that every file is TOML and has a text for every fault.
type Templates = HashMap<String, String>;

static EN: LazyLock<Templates> =
    LazyLock::new(|| toml::from_str(include_str!("en.toml")).unwrap_or_default());

/// The language of a message. Another language is another file beside `en.toml`, and another variant here.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Locale {
    /// English
    #[default]
    En,
}

/// What a placeholder of a text stands for.
pub(super) struct Argument {
    name: &'static str,
    value: String,
}

impl Fault {
    /// The message for the client: what happened, which setting or header is concerned, what to do next, and where more of it stands: the
    /// section of `docs/errors.md` about the fault's code.
    pub fn message(&self, locale: Locale) -> String {
        let code = self.row().code;
        let template = locale.templates().get(self.text()).map_or(code, String::as_str);
        let mut message = fill(template, &self.arguments());
        for part in [" (docs/errors#", code, ")"] {
            message.push_str(part);
        }
        message
    }
}

impl Locale {
    fn templates(self) -> &'static Templates {
        match self {
            Self::En => &EN,
        }
    }
}

pub(super) fn argument(name: &'static str, value: &impl ToString) -> Argument {
    Argument { name, value: value.to_string() }
}

/// Puts the arguments in place of their names. The arguments themselves are not searched for placeholders.
fn fill(template: &str, arguments: &[Argument]) -> String {
    let mut message = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, opened)) = rest.split_once('{') {
        message.push_str(before);
        let Some((name, after)) = opened.split_once('}') else { break };
        let argument = arguments.iter().find(|argument| argument.name == name);
        message.push_str(argument.map_or("", |argument| &argument.value));
        rest = after;
    }
    message.push_str(rest);
    message
}

#[cfg(test)]
mod page;
#[cfg(test)]
mod tests;
