//! How errors are written for clients.

use http::HeaderMap;

use crate::{
    config::Config,
    fault::{ErrorRules, LanguageChoice, Languages},
};

/// How errors are written for clients.
#[derive(Debug, Default)]
pub struct ErrorTexts {
    /// Which errors clients get in other words.
    pub rules: ErrorRules,
    /// Of `[defaults]`: for errors before the route is known.
    languages: Languages,
    /// Whether any client can choose: otherwise `accept-language` is not read.
    may_choose: bool,
}

impl ErrorTexts {
    /// What `config` says.
    pub(super) fn of(config: &Config) -> Self {
        let by_route = config.routes.values().any(|route| route.languages.is_choice());
        let rules = ErrorRules::new(config.errors.clone());
        Self { rules, languages: config.languages, may_choose: by_route || config.languages.is_choice() }
    }

    /// The languages of errors for a client that sends these headers, as long as its route is not known.
    pub fn languages_for(&self, headers: &HeaderMap) -> LanguageChoice {
        LanguageChoice::read(self.languages, self.may_choose, headers)
    }

    /// The languages of errors before there is a request.
    pub fn languages(&self) -> Languages {
        self.languages
    }
}
