//! The texts of faults, by language. A text is a template: `{name}` stands for the argument of that name.

mod choice;
mod language;
mod value;

pub use choice::{LanguageChoice, Languages};
pub use language::Language;
pub(super) use value::{Argument, IntoValue, Value, argument};

use super::Fault;

impl Fault {
    /// The message for the client: what happened, which setting or header is concerned, what to do next, and where more of it stands: the
    /// section of `docs/errors.md` about the fault's code.
    pub fn message(&self, language: Language) -> String {
        let code = self.row().code;
        let mut message = language.fill(self.text(), &self.arguments());
        message.push_str(&language.fill("language.reference", &[argument("code", code)]));
        message
    }

    /// The message without the place where more of it stands.
    pub fn short_message(&self, language: Language) -> String {
        language.fill(self.text(), &self.arguments())
    }
}

#[cfg(test)]
mod page;
#[cfg(test)]
mod tests;
