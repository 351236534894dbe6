//! The providers that `run` knows, and which of them the environment has a key for.

use http::Uri;

/// A provider with an OpenAI-compatible API, or Anthropic's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// `[upstream.NAME]`
    pub(super) name: &'static str,
    /// As it is shown.
    pub(super) title: &'static str,
    /// The variable with the key, as the provider's own documentation names it.
    pub(super) variable: &'static str,
    pub(super) base: Base,
    /// The header with the key; `None`: `Authorization: Bearer`.
    pub(super) key_header: Option<&'static str>,
    /// A small model, for the commands that are printed.
    pub(super) model: &'static str,
}

/// Where a provider's API is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Base {
    /// At this base URL, as an SDK would be given it.
    Url(&'static str),
    /// At the address in this variable, with a path behind it: each customer has an address of their own.
    Variable {
        /// The variable's name.
        variable: &'static str,
        /// The path behind the address.
        path: &'static str,
    },
}

/// A provider that is served in this run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Provider {
    pub(super) name: String,
    pub(super) title: String,
    /// Its base URL, as an SDK would be given it.
    pub(super) base: String,
    /// The variable with its key; `None`: it needs no key.
    pub(super) variable: Option<String>,
    pub(super) key_header: Option<&'static str>,
    /// `None`: unknown, so the provider is asked.
    pub(super) model: Option<&'static str>,
}

/// In the order of preference: the first one found is served.
pub(super) const KNOWN: [Known; 12] = [
    Known {
        name: "openai",
        title: "OpenAI",
        variable: "OPENAI_API_KEY",
        base: Base::Url("https://api.openai.com/v1"),
        key_header: None,
        model: "gpt-4o-mini",
    },
    Known {
        name: "azure",
        title: "Azure OpenAI",
        variable: "AZURE_OPENAI_API_KEY",
        base: Base::Variable { variable: "AZURE_OPENAI_ENDPOINT", path: "/openai/v1" },
        key_header: Some("api-key"),
        model: "gpt-4o-mini",
    },
    Known {
        name: "openrouter",
        title: "OpenRouter",
        variable: "OPENROUTER_API_KEY",
        base: Base::Url("https://openrouter.ai/api/v1"),
        key_header: None,
        model: "openai/gpt-4o-mini",
    },
    Known {
        name: "groq",
        title: "Groq",
        variable: "GROQ_API_KEY",
        base: Base::Url("https://api.groq.com/openai/v1"),
        key_header: None,
        model: "llama-3.1-8b-instant",
    },
    Known {
        name: "mistral",
        title: "Mistral",
        variable: "MISTRAL_API_KEY",
        base: Base::Url("https://api.mistral.ai/v1"),
        key_header: None,
        model: "mistral-small-latest",
    },
    Known {
        name: "deepseek",
        title: "DeepSeek",
        variable: "DEEPSEEK_API_KEY",
        base: Base::Url("https://api.deepseek.com/v1"),
        key_header: None,
        model: "deepseek-chat",
    },
    Known {
        name: "gemini",
        title: "Gemini",
        variable: "GEMINI_API_KEY",
        base: Base::Url("https://generativelanguage.googleapis.com/v1beta/openai"),
        key_header: None,
        model: "gemini-2.5-flash",
    },
    Known {
        name: "xai",
        title: "xAI",
        variable: "XAI_API_KEY",
        base: Base::Url("https://api.x.ai/v1"),
        key_header: None,
        model: "grok-4-fast",
    },
    Known {
        name: "moonshot",
        title: "Moonshot",
        variable: "MOONSHOT_API_KEY",
        base: Base::Url("https://api.moonshot.ai/v1"),
        key_header: None,
        model: "kimi-k2-turbo-preview",
    },
    Known {
        name: "together",
        title: "Together AI",
        variable: "TOGETHER_API_KEY",
        base: Base::Url("https://api.together.xyz/v1"),
        key_header: None,
        model: "meta-llama/Llama-3.3-70B-Instruct-Turbo",
    },
    Known {
        name: "fireworks",
        title: "Fireworks AI",
        variable: "FIREWORKS_API_KEY",
        base: Base::Url("https://api.fireworks.ai/inference/v1"),
        key_header: None,
        model: "accounts/fireworks/models/llama-v3p3-70b-instruct",
    },
    ANTHROPIC,
];

/// Served at the paths of its own API, beside the others.
pub(super) const ANTHROPIC: Known = Known {
    name: "anthropic",
    title: "Anthropic",
    variable: "ANTHROPIC_API_KEY",
    base: Base::Url("https://api.anthropic.com/v1"),
    key_header: Some("x-api-key"),
    model: "claude-haiku-4-5",
};

impl Provider {
    /// The server at `url`, whose key is in that variable.
    pub(super) fn at(url: &Uri, variable: Option<String>) -> Self {
        let base = url.to_string().trim_end_matches('/').to_owned();
        let known = KNOWN.iter().find(|known| matches!(known.base, Base::Url(own) if own == base));
        Self {
            name: known.map_or("upstream", |known| known.name).to_owned(),
            title: known.map_or_else(|| url.host().unwrap_or_default(), |known| known.title).to_owned(),
            base,
            variable,
            key_header: known.and_then(|known| known.key_header),
            model: known.map(|known| known.model),
        }
    }

    /// Whether it has Anthropic's API.
    pub(super) fn is_anthropic(&self) -> bool {
        self.name == ANTHROPIC.name
    }
}

/// The small model of the provider with this host.
pub(super) fn usual_model(host: &str) -> Option<&'static str> {
    let is_there = |known: &&Known| matches!(known.base, Base::Url(url) if url.parse::<Uri>().is_ok_and(|own| own.host() == Some(host)));
    KNOWN.iter().find(is_there).map(|known| known.model)
}

impl Known {
    /// This provider, if the environment has its key. `variable` gives the value of a variable that is set and not empty.
    fn found(&self, variable: impl Fn(&str) -> Option<String>) -> Option<Provider> {
        variable(self.variable)?;
        let base = match self.base {
            Base::Url(url) => url.to_owned(),
            Base::Variable { variable: name, path } => {
                format!("{}{path}", variable(name)?.trim_end_matches('/'))
            }
        };
        Some(Provider {
            name: self.name.to_owned(),
            title: self.title.to_owned(),
            base,
            variable: Some(self.variable.to_owned()),
            key_header: self.key_header,
            model: Some(self.model),
        })
    }
}

/// The providers for which the environment has a key.
#[derive(Debug)]
pub(super) struct InEnvironment {
    /// The first one, and Anthropic, which has paths of its own.
    pub(super) served: Vec<Provider>,
    /// The others: without a configuration file there is nothing to tell their requests by.
    pub(super) left_out: Vec<Provider>,
}

/// Looks for the providers' variables.
pub(super) fn in_environment(variable: impl Fn(&str) -> Option<String> + Copy) -> InEnvironment {
    let mut found: Vec<Provider> = KNOWN.iter().filter_map(|known| known.found(variable)).collect();
    let (anthropic, mut others): (Vec<_>, Vec<_>) = found.drain(..).partition(Provider::is_anthropic);
    let left_out = others.split_off(others.len().min(1));
    others.extend(anthropic);
    InEnvironment { served: others, left_out }
}
