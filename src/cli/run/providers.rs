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
    /// Beginnings of the names of its models that its documentation uses for no model of another provider; none if it serves models of several
    /// makers, whose names others have as well.
    pub(super) beginnings: &'static [&'static str],
}

/// Where a provider's API is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Base {
    /// At this base URL, as an SDK would be given it.
    Url(&'static str),
    /// At this base URL, unless the variable that its own SDKs read has another one (openai-python `_client.py`, anthropic-sdk-python
    /// `_client.py`, groq-python `_client.py`).
    Usual {
        /// The base URL.
        url: &'static str,
        /// The variable's name.
        variable: &'static str,
        /// What such an SDK adds to the variable's value and this program does not.
        path: &'static str,
    },
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
pub(in crate::cli) struct Provider {
    pub(super) name: String,
    pub(super) title: String,
    /// Its base URL, as an SDK would be given it.
    pub(super) base: String,
    /// The variable with its key; `None`: it needs no key.
    pub(super) variable: Option<String>,
    pub(super) key_header: Option<&'static str>,
    /// `None`: unknown, so the provider is asked.
    pub(super) model: Option<&'static str>,
    /// See [`Known::beginnings`].
    pub(super) beginnings: &'static [&'static str],
}

/// In the order of preference: the first one found gets the requests for models that belong to no other.
pub(super) const KNOWN: [Known; 12] = [
    Known {
        name: "openai",
        title: "OpenAI",
        variable: "OPENAI_API_KEY",
        base: Base::Usual { url: "https://api.openai.com/v1", variable: "OPENAI_BASE_URL", path: "" },
        key_header: None,
        model: "gpt-4o-mini",
        beginnings: &[],
    },
    Known {
        name: "azure",
        title: "Azure OpenAI",
        variable: "AZURE_OPENAI_API_KEY",
        base: Base::Variable { variable: "AZURE_OPENAI_ENDPOINT", path: "/openai/v1" },
        key_header: Some("api-key"),
        model: "gpt-4o-mini",
        beginnings: &[],
    },
    Known {
        name: "openrouter",
        title: "OpenRouter",
        variable: "OPENROUTER_API_KEY",
        base: Base::Url("https://openrouter.ai/api/v1"),
        key_header: None,
        model: "openai/gpt-4o-mini",
        beginnings: &[],
    },
    Known {
        name: "groq",
        title: "Groq",
        variable: "GROQ_API_KEY",
        base: Base::Usual {
            url: "https://api.groq.com/openai/v1",
            variable: "GROQ_BASE_URL",
            path: "/openai/v1",
        },
        key_header: None,
        model: "llama-3.1-8b-instant",
        beginnings: &[],
    },
    Known {
        name: "mistral",
        title: "Mistral",
        variable: "MISTRAL_API_KEY",
        base: Base::Url("https://api.mistral.ai/v1"),
        key_header: None,
        model: "mistral-small-latest",
        beginnings: &[
            "mistral-",
            "ministral-",
            "magistral-",
            "codestral-",
            "devstral-",
            "pixtral-",
            "voxtral-",
            "open-mistral-",
        ],
    },
    Known {
        name: "deepseek",
        title: "DeepSeek",
        variable: "DEEPSEEK_API_KEY",
        base: Base::Url("https://api.deepseek.com/v1"),
        key_header: None,
        model: "deepseek-chat",
        beginnings: &["deepseek-"],
    },
    Known {
        name: "gemini",
        title: "Gemini",
        variable: "GEMINI_API_KEY",
        base: Base::Url("https://generativelanguage.googleapis.com/v1beta/openai"),
        key_header: None,
        model: "gemini-2.5-flash",
        beginnings: &["gemini-", "models/gemini-"],
    },
    Known {
        name: "xai",
        title: "xAI",
        variable: "XAI_API_KEY",
        base: Base::Url("https://api.x.ai/v1"),
        key_header: None,
        model: "grok-4-fast",
        beginnings: &["grok-"],
    },
    Known {
        name: "moonshot",
        title: "Moonshot",
        variable: "MOONSHOT_API_KEY",
        base: Base::Url("https://api.moonshot.ai/v1"),
        key_header: None,
        model: "kimi-k2-turbo-preview",
        beginnings: &["kimi-", "moonshot-"],
    },
    Known {
        name: "together",
        title: "Together AI",
        variable: "TOGETHER_API_KEY",
        base: Base::Url("https://api.together.xyz/v1"),
        key_header: None,
        model: "meta-llama/Llama-3.3-70B-Instruct-Turbo",
        beginnings: &[],
    },
    Known {
        name: "fireworks",
        title: "Fireworks AI",
        variable: "FIREWORKS_API_KEY",
        base: Base::Url("https://api.fireworks.ai/inference/v1"),
        key_header: None,
        model: "accounts/fireworks/models/llama-v3p3-70b-instruct",
        beginnings: &["accounts/fireworks/"],
    },
    ANTHROPIC,
];

/// Served at the paths of its own API, beside the others.
pub(super) const ANTHROPIC: Known = Known {
    name: "anthropic",
    title: "Anthropic",
    variable: "ANTHROPIC_API_KEY",
    base: Base::Usual { url: "https://api.anthropic.com/v1", variable: "ANTHROPIC_BASE_URL", path: "/v1" },
    key_header: Some("x-api-key"),
    model: "claude-haiku-4-5",
    beginnings: &["claude-"],
};

impl Provider {
    /// The server at `url`, whose key is in that variable.
    pub(super) fn at(url: &Uri, variable: Option<String>) -> Self {
        let base = url.to_string().trim_end_matches('/').to_owned();
        let known = KNOWN.iter().find(|known| known.base.url() == Some(&*base));
        Self {
            name: known.map_or("upstream", |known| known.name).to_owned(),
            title: known.map_or_else(|| url.host().unwrap_or_default(), |known| known.title).to_owned(),
            base,
            variable,
            key_header: known.and_then(|known| known.key_header),
            model: known.map(|known| known.model),
            beginnings: known.map_or(&[], |known| known.beginnings),
        }
    }

    /// The simulator at `url`, which requires the key in that variable.
    pub(in crate::cli) fn simulated(url: &str, variable: &str) -> Self {
        Self {
            name: "simulator".to_owned(),
            title: "simulated provider".to_owned(),
            base: format!("{url}/v1"),
            variable: Some(variable.to_owned()),
            key_header: None,
            model: Some("gpt-4o-mini"),
            beginnings: &[],
        }
    }

    /// The variable that may have its base URL.
    pub(super) fn address_variable(&self) -> Option<&'static str> {
        match KNOWN.iter().find(|known| known.name == self.name)?.base {
            Base::Usual { variable, .. } | Base::Variable { variable, .. } => Some(variable),
            Base::Url(_) => None,
        }
    }

    /// Whether it has Anthropic's API.
    pub(super) fn is_anthropic(&self) -> bool {
        self.name == ANTHROPIC.name
    }
}

/// The small model of the provider with this host.
pub(super) fn usual_model(host: &str) -> Option<&'static str> {
    let is_there = |known: &&Known| {
        let own = known.base.url().and_then(|url| url.parse::<Uri>().ok());
        own.is_some_and(|own| own.host() == Some(host))
    };
    KNOWN.iter().find(is_there).map(|known| known.model)
}

impl Known {
    /// This provider, if the environment has its key. `variable` gives the value of a variable that is set and not empty.
    fn found(&self, variable: impl Fn(&str) -> Option<String>) -> Option<Provider> {
        variable(self.variable)?;
        let base = match self.base {
            Base::Url(url) => url.to_owned(),
            Base::Usual { url, variable: name, path } => match variable(name) {
                Some(address) => with_path(&address, path),
                None => url.to_owned(),
            },
            Base::Variable { variable: name, path } => with_path(&variable(name)?, path),
        };
        Some(Provider {
            name: self.name.to_owned(),
            title: self.title.to_owned(),
            base,
            variable: Some(self.variable.to_owned()),
            key_header: self.key_header,
            model: Some(self.model),
            beginnings: self.beginnings,
        })
    }
}

/// The variable from which the base URL of a provider comes, or else the one with its key.
pub(super) fn source_of_base(provider: &Provider) -> &'static str {
    let known = KNOWN.iter().find(|known| known.name == provider.name);
    known.map_or("--to", |known| match known.base {
        Base::Url(_) => known.variable,
        Base::Usual { variable, .. } | Base::Variable { variable, .. } => variable,
    })
}

impl Base {
    /// The base URL that is the same for all customers.
    fn url(self) -> Option<&'static str> {
        match self {
            Self::Url(url) | Self::Usual { url, .. } => Some(url),
            Self::Variable { .. } => None,
        }
    }
}

/// The providers for which the environment has a key, in the order of preference.
pub(super) fn in_environment(variable: impl Fn(&str) -> Option<String> + Copy) -> Vec<Provider> {
    KNOWN.iter().filter_map(|known| known.found(variable)).collect()
}

/// A provider whose key the environment has, but not the address that belongs to it, and the variable of that address.
pub(super) fn without_address(variable: impl Fn(&str) -> Option<String>) -> Option<(Known, &'static str)> {
    KNOWN.into_iter().find_map(|known| match known.base {
        Base::Variable { variable: name, .. }
            if variable(known.variable).is_some() && variable(name).is_none() =>
        {
            Some((known, name))
        }
        _ => None,
    })
}

/// An address from a variable, with what belongs behind it unless that is there.
fn with_path(address: &str, path: &str) -> String {
    let address = address.trim_end_matches('/');
    if address.ends_with(path) { address.to_owned() } else { format!("{address}{path}") }
}
