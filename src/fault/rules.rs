//! Errors in other words: the rules of `[[error]]`.

use std::{collections::BTreeMap, sync::Arc};

use http::StatusCode;

use super::{Language, LanguageChoice, messages::Template};

/// What a message of a rule may quote of the original error.
pub const PLACEHOLDERS: [&str; 4] = ["message", "code", "status", "request_id"];

/// Rules by which errors are put in other words; the first one that fits an error applies.
#[derive(Debug, Clone, Default)]
pub struct ErrorRules(Vec<ErrorRule>);

/// One rule. What it does not say stays as it is.
#[derive(Debug, Clone)]
pub struct ErrorRule {
    /// The errors that it is for.
    pub when: ErrorFilter,
    /// The message, by language. `{name}` stands for what the original error has of one of the [`PLACEHOLDERS`]; empty: the original message.
    pub message: BTreeMap<Language, String>,
    /// The status.
    pub status: Option<StatusCode>,
    /// `error.code`
    pub code: Option<String>,
}

/// Which errors a rule is for: those that are as all of this says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorFilter {
    /// `error.code` of the gateway; of an upstream its code, type or another word for it.
    pub code: Option<String>,
    /// The status.
    pub status: Option<StatusCode>,
    /// The upstream that has sent or caused the error.
    pub upstream: Option<Arc<str>>,
}

/// An error, before a rule is applied to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Original<'a> {
    /// Every word for the error, its code first.
    pub(super) words: &'a [&'a str],
    pub(super) status: StatusCode,
    pub(super) upstream: Option<&'a str>,
}

/// What messages of rules quote.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quoted<'a> {
    pub(super) message: &'a str,
    pub(super) code: &'a str,
    pub(super) status: StatusCode,
    pub(super) request_id: &'a str,
}

impl ErrorRules {
    /// The rules, in their order.
    pub fn new(rules: Vec<ErrorRule>) -> Self {
        Self(rules)
    }

    /// The rule for an error.
    pub(super) fn find(&self, original: Original<'_>) -> Option<&ErrorRule> {
        self.0.iter().find(|rule| rule.when.fits(original))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl ErrorRule {
    /// The rule's message in the client's language, or else in one that the rule has, with that language; `None`: the rule has none.
    pub(super) fn message(&self, choice: &LanguageChoice, quoted: Quoted<'_>) -> Option<(Language, String)> {
        let default = choice.languages.default_language();
        let wanted =
            [choice.language(), default].into_iter().find(|language| self.message.contains_key(language));
        let language = wanted.or_else(|| self.message.keys().next().copied())?;
        let template = Template::new(self.message.get(&language)?.clone());
        let mut text = String::new();
        template.fill(&mut text, |text, name| match name {
            "message" => text.push_str(quoted.message),
            "code" => text.push_str(quoted.code),
            "status" => text.push_str(quoted.status.as_str()),
            "request_id" => text.push_str(quoted.request_id),
            _ => {}
        });
        Some((language, text))
    }
}

impl ErrorFilter {
    fn fits(&self, original: Original<'_>) -> bool {
        let code = self.code.as_deref().is_none_or(|code| original.words.contains(&code));
        let status = self.status.is_none_or(|status| status == original.status);
        let upstream = self.upstream.as_deref().is_none_or(|upstream| Some(upstream) == original.upstream);
        code && status && upstream
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::fault::Languages;

    fn rule(code: Option<&str>, status: Option<u16>, upstream: Option<&str>) -> ErrorRule {
        let when = ErrorFilter {
            code: code.map(str::to_owned),
            status: status.map(|status| StatusCode::from_u16(status).unwrap()),
            upstream: upstream.map(Arc::from),
        };
        ErrorRule { when, message: BTreeMap::new(), status: None, code: Some("new".to_owned()) }
    }

    #[test]
    fn the_first_rule_that_fits_in_everything_it_says_applies() {
        let rules = [
            rule(Some("a"), Some(429), Some("x")),
            rule(Some("a"), Some(429), None),
            rule(None, Some(429), None),
            rule(Some("b"), None, None),
            rule(None, None, Some("y")),
        ];
        let rules = ErrorRules::new(rules.to_vec());
        for (words, status, upstream, expected) in [
            (&["a"][..], 429, Some("x"), Some(0)),
            (&["z", "a"], 429, Some("y"), Some(1)),
            (&["a"], 429, None, Some(1)),
            (&["b"], 429, Some("y"), Some(2)),
            (&["z", "b"], 500, Some("y"), Some(3)),
            (&[], 500, Some("y"), Some(4)),
            (&["a"], 500, None, None),
        ] {
            let original = Original { words, status: StatusCode::from_u16(status).unwrap(), upstream };
            let found = rules.find(original).map(|rule| rule.when.clone());
            assert_eq!(found, expected.map(|index: usize| rules.0[index].when.clone()), "{original:?}");
        }
    }

    #[test]
    fn a_message_is_in_the_best_language_that_it_has() {
        let (english, chinese) = (Language::EN, Language::named("zh").unwrap());
        let quoted = Quoted {
            message: "{code}",
            code: "busy",
            status: StatusCode::TOO_MANY_REQUESTS,
            request_id: "r-1",
        };
        let both = LanguageChoice::read(Languages::of(english).and(chinese), false, &HeaderMap::new());
        let only_chinese = LanguageChoice::read(Languages::of(chinese), false, &HeaderMap::new());
        let text = |texts: &[(Language, &str)], choice: &LanguageChoice| {
            let message = texts.iter().map(|(language, text)| (*language, (*text).to_owned())).collect();
            ErrorRule { message, ..rule(None, None, None) }.message(choice, quoted)
        };
        let all = [(english, "Busy: {code} {status} {request_id} {message}"), (chinese, "忙")];
        assert_eq!(text(&all, &both), Some((english, "Busy: busy 429 r-1 {code}".to_owned())));
        assert_eq!(text(&all, &only_chinese), Some((chinese, "忙".to_owned())));
        assert_eq!(text(&all[1..], &both), Some((chinese, "忙".to_owned())));
        assert_eq!(text(&[], &both), None);
    }
}
