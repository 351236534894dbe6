//! The texts of faults, by language. A text is a template: `{name}` stands for the argument of that name.

mod choice;
mod language;
mod template;
mod value;

pub use choice::{LanguageChoice, Languages};
pub use language::Language;
pub(super) use template::Template;
pub(super) use value::{Argument, IntoValue, Value, argument};

use super::Fault;

/// Room for the reason of a close frame, in bytes (RFC 6455 §5.5).
const CLOSE_REASON: usize = 123;

/// Room for a message, in bytes, of which nearly all take less.
const USUAL_LENGTH: usize = 320;

impl Fault {
    /// The message for the client: what happened, which setting or header is concerned, what to do next, and where more of it stands: the
    /// section of `docs/errors.md` about the fault's code.
    pub fn message(&self, language: Language) -> String {
        let mut message = String::with_capacity(USUAL_LENGTH);
        language.fill(&mut message, self.text(), &self.arguments());
        language.refer_to(&mut message, self.row().code);
        message
    }

    /// The message as the reason of a WebSocket close frame: without the place where more of it stands, or only its first sentences, if the
    /// rest has no room there.
    pub fn close_reason(&self, language: Language) -> String {
        let message = self.message(language);
        if message.len() <= CLOSE_REASON {
            return message;
        }
        let mut message = String::new();
        language.fill(&mut message, self.text(), &self.arguments());
        let ends = message.match_indices(['。', '.']).map(|(at, mark)| at + mark.len());
        let is_end = |end: &usize| matches!(message.as_bytes().get(*end), None | Some(b' ' | 0x80..));
        let fitting = ends.filter(|end| *end <= CLOSE_REASON).rfind(is_end);
        fitting.and_then(|end| message.get(..end)).map_or_else(|| message.clone(), str::to_owned)
    }
}

#[cfg(test)]
mod page;
#[cfg(test)]
mod tests;
