//! The SDK of a client, by `user-agent` and by the header that SDKs made by Stainless send.
//!
//! Only families of this list are labels, and only major versions up to [`MOST_MAJOR`], so a client cannot make series.

use http::{HeaderMap, HeaderName, header};

/// The largest major version with a series of its own.
const MOST_MAJOR: u8 = 20;

/// The SDKs whose requests from a web page have the browser's `user-agent`.
const STAINLESS: HeaderName = HeaderName::from_static("x-stainless-lang");
const STAINLESS_VERSION: HeaderName = HeaderName::from_static("x-stainless-package-version");

/// How the products of `user-agent` begin, and the family that they belong to. The first row that fits counts, so programs that are built on an
/// SDK come before it.
///
/// Sources: `_base_client.py` and `client.ts` of the SDKs of OpenAI and Anthropic (`OpenAI/Python 1.2.3`, `Anthropic/JS 0.3.0`); provider-utils of
/// the AI SDK (`ai-sdk/openai/2.0.1`); openai/codex (`codex_cli_rs/0.50.0`); each program's own documentation.
const FAMILIES: &[(&str, &str)] = &[
    ("claude-cli/", "claude-code"),
    ("codex", "codex"),
    ("aider", "aider"),
    ("litellm/", "litellm"),
    ("open-webui", "open-webui"),
    ("langchain", "langchain"),
    ("ai-sdk/", "ai-sdk"),
    ("ai/", "ai-sdk"),
    ("openai/python ", "openai-python"),
    ("asyncopenai/python ", "openai-python"),
    ("azureopenai/python ", "openai-python"),
    ("asyncazureopenai/python ", "openai-python"),
    ("openai/js ", "openai-node"),
    ("azureopenai/js ", "openai-node"),
    ("openai/go ", "openai-go"),
    ("openai/java ", "openai-java"),
    ("openai/ruby ", "openai-ruby"),
    ("openai/", "openai-dotnet"),
    ("anthropic/python ", "anthropic-python"),
    ("asyncanthropic/python ", "anthropic-python"),
    ("anthropic/js ", "anthropic-node"),
    ("anthropic/", "anthropic-other"),
    ("google-genai-sdk/", "google-genai"),
    ("ollama", "ollama"),
    ("curl/", "curl"),
    ("python-requests/", "python-requests"),
    ("python-httpx/", "httpx"),
    ("python/", "aiohttp"),
    ("aiohttp/", "aiohttp"),
    ("axios/", "axios"),
    ("node", "node"),
    ("undici", "node"),
    ("go-http-client/", "go"),
    ("okhttp/", "okhttp"),
    ("java-http-client/", "java"),
    ("mozilla/", "browser"),
];

/// The family of everything that is not in the list.
const OTHER: &str = "_other";

/// The SDK of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sdk {
    /// The name of the family; `_other` if it is not in the list.
    pub family: &'static str,
    /// Major version; `None` if it is not known, or is larger than [`MOST_MAJOR`].
    major: Option<u8>,
}

/// The families of SDKs that run in web pages, by `x-stainless-lang`.
const IN_PAGE: [(&str, &str); 2] = [("js", "openai-node"), ("python", "openai-python")];

/// The last `user-agent` that was read, and what it said: most requests of a worker have one of a few, and often the one before.
#[derive(Debug, Default)]
pub struct SdkMemo {
    agent: Vec<u8>,
    sdk: Sdk,
}

impl Sdk {
    /// The SDK that a request names.
    pub fn of(headers: &HeaderMap) -> Self {
        let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        let sdk = Self::of_agent(agent);
        if sdk.may_be_in_page() { Self::of_stainless(headers).unwrap_or(sdk) } else { sdk }
    }

    /// The major version; `_other` if it is not known.
    pub fn major(self) -> String {
        self.major.map_or_else(|| OTHER.to_owned(), |major| major.to_string())
    }

    /// The largest number of different values.
    pub fn variety() -> usize {
        let mut names: Vec<_> = FAMILIES.iter().map(|(_, name)| *name).collect();
        names.sort_unstable();
        names.dedup();
        // Each version, and none; and those that are not in the list, whose version is not read.
        names.len() * (usize::from(MOST_MAJOR) + 2) + 1
    }

    fn of_agent(agent: &str) -> Self {
        let fits = |(begin, _): &(&str, &str)| {
            agent.get(..begin.len()).is_some_and(|own| own.eq_ignore_ascii_case(begin))
        };
        let Some((begin, family)) = FAMILIES.iter().find(|row| fits(row)) else { return Self::default() };
        let rest = agent.get(begin.len()..).unwrap_or_default();
        // `ai-sdk/openai/2.0.1`: the version is the first number behind a slash or a space.
        let version =
            rest.split(['/', ' ']).find(|part| part.starts_with(|first: char| first.is_ascii_digit()));
        Self { family, major: version.and_then(major) }
    }

    fn of_stainless(headers: &HeaderMap) -> Option<Self> {
        let language = headers.get(STAINLESS)?.as_bytes();
        let (_, family) = IN_PAGE.iter().find(|(name, _)| name.as_bytes() == language)?;
        let version = headers.get(STAINLESS_VERSION).and_then(|version| version.to_str().ok());
        Some(Self { family, major: version.and_then(major) })
    }

    fn may_be_in_page(self) -> bool {
        self.family == "browser" || self.family == OTHER
    }
}

impl Default for Sdk {
    fn default() -> Self {
        Self { family: OTHER, major: None }
    }
}

impl SdkMemo {
    /// The SDK that a request names.
    pub fn read(&mut self, headers: &HeaderMap) -> Sdk {
        let agent = headers.get(header::USER_AGENT).map_or(&b""[..], |agent| agent.as_bytes());
        if !agent.is_empty() && agent == self.agent {
            return self.sdk;
        }
        let sdk = Sdk::of(headers);
        self.agent.clear();
        // A longer one is read each time.
        if agent.len() <= 256 && !sdk.may_be_in_page() {
            self.agent.extend_from_slice(agent);
            self.sdk = sdk;
        }
        sdk
    }
}

fn major(version: &str) -> Option<u8> {
    let digits = version.split(|next: char| !next.is_ascii_digit()).next()?;
    digits.parse().ok().filter(|major| *major <= MOST_MAJOR)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use http::HeaderValue;

    use super::*;

    fn named(agent: &str) -> (&'static str, String) {
        let mut headers = HeaderMap::new();
        headers.insert(header::USER_AGENT, HeaderValue::from_str(agent).unwrap());
        let (sdk, again) = (Sdk::of(&headers), &mut SdkMemo::default());
        assert_eq!((again.read(&headers), again.read(&headers)), (sdk, sdk));
        (sdk.family, sdk.major())
    }

    #[test]
    fn sdks_are_known_by_what_they_send() {
        for (agent, family, major) in [
            ("OpenAI/Python 1.109.1", "openai-python", "1"),
            ("AsyncOpenAI/Python 2.3.0", "openai-python", "2"),
            ("OpenAI/JS 6.1.0", "openai-node", "6"),
            ("Anthropic/JS 0.65.0", "anthropic-node", "0"),
            ("claude-cli/2.0.14 (external, cli)", "claude-code", "2"),
            ("codex_cli_rs/0.50.0 (Debian 12; x86_64)", "codex", "0"),
            ("ai-sdk/openai/2.0.53 ai-sdk/provider-utils/3.0.12 runtime/node.js/22", "ai-sdk", "2"),
            ("curl/8.5.0", "curl", "8"),
            ("node", "node", "_other"),
            ("OpenAI/Python 99999.0", "openai-python", "_other"),
            ("something of one's own/7", "_other", "_other"),
            ("", "_other", "_other"),
        ] {
            assert_eq!(named(agent), (family, major.to_owned()), "{agent}");
        }
    }

    #[test]
    fn an_sdk_in_a_web_page_is_known_by_its_own_header() {
        let mut headers = HeaderMap::new();
        headers.insert(header::USER_AGENT, HeaderValue::from_static("Mozilla/5.0 (X11; Linux x86_64)"));
        assert_eq!(Sdk::of(&headers).family, "browser");
        headers.insert(STAINLESS, HeaderValue::from_static("js"));
        headers.insert(STAINLESS_VERSION, HeaderValue::from_static("5.12.2"));
        let sdk = SdkMemo::default().read(&headers);
        assert_eq!((sdk.family, sdk.major()), ("openai-node", "5".to_owned()));
    }

    #[test]
    fn clients_cannot_make_series() {
        let mut seen = HashSet::new();
        for number in 0..10_000 {
            for begin in ["OpenAI/Python ", "curl/", "x"] {
                seen.insert(named(&format!("{begin}{number}.0")));
            }
        }
        assert!(seen.len() <= 2 * (usize::from(MOST_MAJOR) + 2) + 1 && Sdk::variety() < 1000, "{seen:?}");
    }
}
