use std::{collections::HashSet, mem};

use super::*;
use crate::{
    fault::IdOwner,
    openai::{EditError, FactsError},
};

const LOCALES: [Locale; 1] = [Locale::En];

fn no_route(mistake: Mistake) -> Fault {
    Fault::NoRoute { method: "GET".into(), path: "/{method}".into(), mistake: Box::new(mistake) }
}

/// One of each fault, and of each text of it.
pub(super) fn faults() -> Vec<Fault> {
    let span = Duration::from_millis(1500);
    vec![
        no_route(Mistake::Unknown),
        no_route(Mistake::BaseUrl { base: "/v1".into(), path: "/v1/models".into() }),
        no_route(Mistake::BaseUrl { base: String::new(), path: "/v1/messages".into() }),
        no_route(Mistake::Probe),
        Fault::MethodNotAllowed { method: "PUT".into(), allowed: "GET, POST".into() },
        Fault::MethodUnsupported("TRACE"),
        Fault::UpgradeUnsupported,
        Fault::WebSocketUnavailable,
        Fault::BadPath("the path has a backslash".into()),
        Fault::BadRequest("it has no Host header"),
        Fault::TooManyHeaders(100),
        Fault::TlsRequired,
        Fault::KeyMissing,
        Fault::KeyUnknown,
        Fault::KeyOfProvider("OpenAI"),
        Fault::KeyMalformed("it is empty".into()),
        Fault::KeysConflict("two keys".into()),
        Fault::RouteForbidden,
        Fault::OriginRefused,
        Fault::OriginUnlisted,
        Fault::ModelForbidden("gpt".into()),
        Fault::ModelNotFound { model: "gpt-5".into(), names: "`gpt-4`".into() },
        Fault::ModelNotFound { model: "gpt-5".into(), names: String::new() },
        Fault::IdOwner(IdOwner::Unknown),
        Fault::IdOwner(IdOwner::Gone),
        Fault::IdOwner(IdOwner::Differ),
        Fault::IdOwner(IdOwner::Unavailable(span)),
        Fault::ModelUnknown,
        Fault::BodyTooLarge { limit: 7 },
        Fault::BodyInvalid(FactsError::Empty),
        Fault::BodyNotEditable(EditError::NotAnObject { member: "model" }),
        Fault::BodyStalled(span),
        Fault::BodyBroken("reset".into()),
        Fault::Overloaded,
        Fault::NoDescriptors("EMFILE".into()),
        Fault::Draining,
        Fault::TotalTimeout(span),
        Fault::Connect("refused".into()),
        Fault::ConnectTimeout(span),
        Fault::FirstByteTimeout(span),
        Fault::FirstTokenTimeout(span),
        Fault::Unavailable(span),
        Fault::Full(span),
        Fault::RateLimited(span),
        Fault::NoAnswer("closed".into()),
        Fault::BadAnswer("it is not JSON"),
        Fault::UnusableHead("it redirects"),
        Fault::Unreadable("a header without a name".into()),
        Fault::KeyUnusable("it answered 401".into()),
        Fault::Withheld(400),
        Fault::AnswerTooLarge { limit: 7 },
        Fault::Truncated("closed".into()),
        Fault::Idle(span),
        Fault::TunnelIdle(span),
        Fault::CallerStalled,
        Fault::CutByDrain,
        Fault::Internal("a bug".into()),
    ]
}

fn placeholders(template: &str) -> Vec<&str> {
    template.split('{').skip(1).map(|rest| rest.split_once('}').expect("a placeholder is closed").0).collect()
}

#[test]
fn every_fault_has_a_text_and_every_text_a_fault() {
    let keys: HashSet<_> = faults().iter().map(Fault::key).collect();
    assert_eq!(keys.len(), faults().len());
    // Each kind has one text, but that without a route and that of the owner of an id four, and that of an unknown model two.
    let kinds: HashSet<_> = faults().iter().map(mem::discriminant).collect();
    assert_eq!(kinds.len(), faults().len() - 7);
    for locale in LOCALES {
        let texts: HashSet<_> = locale.templates().keys().map(String::as_str).collect();
        assert_eq!(texts, keys, "{locale:?}");
    }
}

#[test]
fn every_text_is_sentences_and_has_its_arguments_for_placeholders() {
    for locale in LOCALES {
        for fault in faults() {
            let template = &locale.templates()[fault.key()];
            let arguments: HashSet<_> = fault.arguments().iter().map(|argument| argument.name).collect();
            let placeholders: HashSet<_> = placeholders(template).into_iter().collect();
            assert!(template.ends_with('.') && !template.contains("  "), "{template:?}");
            assert_eq!(placeholders, arguments, "{template:?}");
        }
    }
}

#[test]
fn arguments_are_put_in_as_they_are() {
    let route = no_route(Mistake::Unknown);
    assert!(route.message(Locale::En).contains(" GET /{method} "), "{route}");
    assert!(route.to_string().ends_with(". (docs/errors#route_not_found)"), "{route}");
    assert!(Fault::Idle(Duration::from_millis(1500)).to_string().contains(" 1.5 s"));
    assert!(Fault::BodyStalled(Duration::from_secs(60)).to_string().contains(" 60 s"));
    assert!(Fault::Full(Duration::from_millis(1500)).to_string().contains(" 2 s"));
}
