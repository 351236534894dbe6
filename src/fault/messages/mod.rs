//! The texts of faults, by language. A text is a template: `{name}` stands for the argument of that name.

mod en;

use std::time::Duration;

use super::{Fault, kinds::retry_seconds};

/// The language of a message. Another language is another file beside `en.rs`, and another variant here.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Locale {
    /// English
    #[default]
    En,
}

/// What a placeholder of a text stands for.
struct Argument {
    name: &'static str,
    value: String,
}

impl Fault {
    /// The message for the client: what happened, which setting or header is concerned, and what to do next.
    pub fn message(&self, locale: Locale) -> String {
        fill(self.template(locale), &self.arguments())
    }

    fn template(&self, locale: Locale) -> &'static str {
        match locale {
            Locale::En => en::template(self),
        }
    }

    fn arguments(&self) -> Vec<Argument> {
        match self {
            Self::NoRoute { method, path } => vec![argument("method", method), argument("path", path)],
            Self::MethodNotAllowed { method, allowed } => {
                vec![argument("method", method), argument("allowed", allowed)]
            }
            Self::MethodUnsupported(method) => vec![argument("method", method)],
            Self::BadPath(cause)
            | Self::KeyMalformed(cause)
            | Self::KeysConflict(cause)
            | Self::UpstreamAuth(cause) => vec![argument("reason", cause)],
            Self::BadRequest(reason) | Self::BadAnswer(reason) => vec![argument("reason", reason)],
            Self::BodyInvalid(error) => vec![argument("reason", error)],
            Self::BodyNotEditable(error) => vec![argument("reason", error)],
            Self::TooManyHeaders(limit) => vec![argument("limit", limit)],
            Self::BodyTooLarge { limit } | Self::AnswerTooLarge { limit } => vec![argument("limit", limit)],
            Self::ModelForbidden(model) => vec![argument("model", model)],
            Self::Withheld(status) => vec![argument("status", status)],
            Self::BodyStalled(span)
            | Self::TotalTimeout(span)
            | Self::ConnectTimeout(span)
            | Self::FirstByteTimeout(span)
            | Self::FirstTokenTimeout(span)
            | Self::Idle(span) => vec![argument("seconds", span.as_secs_f64())],
            Self::Unavailable(wait) | Self::Full(wait) | Self::RateLimited(wait) => {
                vec![seconds_to_wait(*wait)]
            }
            Self::UpgradeUnsupported
            | Self::KeyMissing
            | Self::KeyUnknown
            | Self::RouteForbidden
            | Self::ModelUnknown
            | Self::BodyBroken(_)
            | Self::Overloaded
            | Self::NoDescriptors(_)
            | Self::Draining
            | Self::Connect(_)
            | Self::NoAnswer(_)
            | Self::Truncated(_)
            | Self::CallerStalled
            | Self::CutByDrain
            | Self::Internal(_) => Vec::new(),
        }
    }
}

fn argument(name: &'static str, value: impl ToString) -> Argument {
    Argument { name, value: value.to_string() }
}

fn seconds_to_wait(wait: Duration) -> Argument {
    argument("seconds", retry_seconds(wait))
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
mod tests;
