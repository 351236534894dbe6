//! The texts of faults, by language. A text is a template: `{name}` stands for the argument of that name.

use std::{collections::HashMap, sync::LazyLock, time::Duration};

use super::{Fault, Mistake, kinds::retry_seconds};

/// Templates by [`Fault::key`]. A test checks that every file is TOML and has a text for every fault.
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
struct Argument {
    name: &'static str,
    value: String,
}

impl Fault {
    /// The message for the client: what happened, which setting or header is concerned, what to do next, and where more of it stands: the
    /// section of `docs/errors.md` about the fault's code.
    pub fn message(&self, locale: Locale) -> String {
        let code = self.row().code;
        let template = locale.templates().get(self.key()).map_or(code, String::as_str);
        let mut message = fill(template, &self.arguments());
        for part in [" (docs/errors#", code, ")"] {
            message.push_str(part);
        }
        message
    }

    /// The name of the fault's text.
    fn key(&self) -> &'static str {
        match self {
            Self::NoRoute { mistake, .. } => match &**mistake {
                Mistake::Unknown => "no_route",
                Mistake::BaseUrl { base, .. } if base.is_empty() => "no_route_bare_base",
                Mistake::BaseUrl { .. } => "no_route_base",
                Mistake::Probe => "no_route_probe",
            },
            Self::MethodNotAllowed { .. } => "method_not_allowed",
            Self::MethodUnsupported(_) => "method_unsupported",
            Self::UpgradeUnsupported => "upgrade_unsupported",
            Self::WebSocketUnavailable => "websocket_unavailable",
            Self::BadPath(_) => "bad_path",
            Self::BadRequest(_) => "bad_request",
            Self::TooManyHeaders(_) => "too_many_headers",
            Self::TlsRequired => "tls_required",
            Self::KeyMissing => "key_missing",
            Self::KeyUnknown => "key_unknown",
            Self::KeyOfProvider(_) => "key_of_provider",
            Self::KeyMalformed(_) => "key_malformed",
            Self::KeysConflict(_) => "keys_conflict",
            Self::RouteForbidden => "route_forbidden",
            Self::OriginRefused => "origin_refused",
            Self::OriginUnlisted => "origin_unlisted",
            Self::ModelForbidden(_) => "model_forbidden",
            Self::ModelNotFound { names, .. } if names.is_empty() => "model_not_found_alone",
            Self::ModelNotFound { .. } => "model_not_found",
            Self::IdOwner(problem) => problem.text(),
            Self::ModelUnknown => "model_unknown",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::BodyInvalid(_) => "body_invalid",
            Self::BodyNotEditable(_) => "body_not_editable",
            Self::BodyStalled(_) => "body_stalled",
            Self::BodyBroken(_) => "body_broken",
            Self::Overloaded => "overloaded",
            Self::NoDescriptors(_) => "no_descriptors",
            Self::Draining => "draining",
            Self::TotalTimeout(_) => "total_timeout",
            Self::Connect(_) => "connect",
            Self::ConnectTimeout(_) => "connect_timeout",
            Self::FirstByteTimeout(_) => "first_byte_timeout",
            Self::FirstTokenTimeout(_) => "first_token_timeout",
            Self::Unavailable(_) => "unavailable",
            Self::Full(_) => "full",
            Self::RateLimited(_) => "rate_limited",
            Self::NoAnswer(_) => "no_answer",
            Self::BadAnswer(_) => "bad_answer",
            Self::UnusableHead(_) => "unusable_head",
            Self::Unreadable(_) => "unreadable",
            Self::KeyUnusable(_) => "key_unusable",
            Self::Withheld(_) => "withheld",
            Self::AnswerTooLarge { .. } => "answer_too_large",
            Self::Truncated(_) => "truncated",
            Self::Idle(_) => "idle",
            Self::TunnelIdle(_) => "tunnel_idle",
            Self::CallerStalled => "caller_stalled",
            Self::CutByDrain => "cut_by_drain",
            Self::Internal(_) => "internal",
        }
    }

    fn arguments(&self) -> Vec<Argument> {
        match self {
            Self::NoRoute { method, path, mistake } => arguments_of_no_route(method, path, mistake),
            Self::KeyOfProvider(provider) => vec![argument("provider", provider)],
            Self::MethodNotAllowed { method, allowed } => {
                vec![argument("method", method), argument("allowed", allowed)]
            }
            Self::MethodUnsupported(method) => vec![argument("method", method)],
            Self::BadPath(cause) | Self::KeyMalformed(cause) | Self::KeysConflict(cause) => {
                vec![argument("reason", cause)]
            }
            Self::BadRequest(reason) | Self::BadAnswer(reason) | Self::UnusableHead(reason) => {
                vec![argument("reason", reason)]
            }
            Self::BodyInvalid(error) => vec![argument("reason", error)],
            Self::BodyNotEditable(error) => vec![argument("reason", error)],
            Self::TooManyHeaders(limit) => vec![argument("limit", limit)],
            Self::BodyTooLarge { limit } | Self::AnswerTooLarge { limit } => vec![argument("limit", limit)],
            Self::ModelNotFound { model, names } if names.is_empty() => vec![argument("model", model)],
            Self::ModelNotFound { model, names } => vec![argument("model", model), argument("names", names)],
            Self::ModelForbidden(model) => vec![argument("model", model)],
            Self::Withheld(status) => vec![argument("status", status)],
            Self::BodyStalled(span)
            | Self::TotalTimeout(span)
            | Self::ConnectTimeout(span)
            | Self::FirstByteTimeout(span)
            | Self::FirstTokenTimeout(span)
            | Self::Idle(span)
            | Self::TunnelIdle(span) => vec![argument("seconds", &span.as_secs_f64())],
            Self::IdOwner(problem) => {
                problem.seconds().iter().map(|wait| argument("seconds", wait)).collect()
            }
            Self::Unavailable(wait) | Self::Full(wait) | Self::RateLimited(wait) => {
                vec![seconds_to_wait(*wait)]
            }
            Self::UpgradeUnsupported
            | Self::WebSocketUnavailable
            | Self::TlsRequired
            | Self::KeyMissing
            | Self::KeyUnknown
            | Self::RouteForbidden
            | Self::OriginRefused
            | Self::OriginUnlisted
            | Self::ModelUnknown
            | Self::BodyBroken(_)
            | Self::Overloaded
            | Self::NoDescriptors(_)
            | Self::Draining
            | Self::Connect(_)
            | Self::NoAnswer(_)
            | Self::Unreadable(_)
            | Self::KeyUnusable(_)
            | Self::Truncated(_)
            | Self::CallerStalled
            | Self::CutByDrain
            | Self::Internal(_) => Vec::new(),
        }
    }
}

impl Locale {
    fn templates(self) -> &'static Templates {
        match self {
            Self::En => &EN,
        }
    }
}

fn argument(name: &'static str, value: &impl ToString) -> Argument {
    Argument { name, value: value.to_string() }
}

fn arguments_of_no_route(method: &str, path: &str, mistake: &Mistake) -> Vec<Argument> {
    let mut arguments = vec![argument("method", &method), argument("path", &path)];
    if let Mistake::BaseUrl { base, path } = mistake {
        arguments.push(argument("correct", path));
        arguments.extend((!base.is_empty()).then(|| argument("base", base)));
    }
    arguments
}

fn seconds_to_wait(wait: Duration) -> Argument {
    argument("seconds", &retry_seconds(wait))
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
