//! The tools, with their settings as they are printed. Each is a whole file in the tool's own language, so that it can be saved or run as it is.

use std::fmt::Write as _;

use super::gateway::{Api, Settings};

/// A program or library whose settings are known.
pub(super) struct Tool {
    pub(super) name: &'static str,
    /// What it is, in a few words.
    about: &'static str,
    pub(super) api: Api,
    /// How its settings are known to work.
    tried: &'static str,
    /// What begins a comment.
    comment: &'static str,
    /// The settings. `@BASE_URL@`, `@MODEL@` and `@CA@` stand for values; a line behind `+ca ` is for an authority that is not public.
    template: &'static str,
}

/// In the order in which they are listed.
pub(super) const TOOLS: [Tool; 14] = [
    Tool {
        name: "curl",
        about: "a shell command",
        api: Api::OpenAi,
        tried: "Tried with curl 7.88.1 on 2026-11-28.",
        comment: "#",
        template: include_str!("tools/curl.sh"),
    },
    Tool {
        name: "openai-python",
        about: "OpenAI's SDK for Python",
        api: Api::OpenAi,
        tried: "Tried with openai 3.57.0 and 2.54.0 on 2026-11-28.",
        comment: "#",
        template: include_str!("tools/openai-python.py"),
    },
    Tool {
        name: "openai-node",
        about: "OpenAI's SDK for JavaScript and TypeScript",
        api: Api::OpenAi,
        tried: "Tried with openai 7.59.0 on 2026-11-28.",
        comment: "//",
        template: include_str!("tools/openai-node.mjs"),
    },
    Tool {
        name: "anthropic-python",
        about: "Anthropic's SDK for Python",
        api: Api::Anthropic,
        tried: "Tried with anthropic 2.14.0 on 2026-11-28.",
        comment: "#",
        template: include_str!("tools/anthropic-python.py"),
    },
    Tool {
        name: "langchain",
        about: "LangChain for Python",
        api: Api::OpenAi,
        tried: "Tried with langchain-openai 1.7.4 on 2026-11-28.",
        comment: "#",
        template: include_str!("tools/langchain.py"),
    },
    Tool {
        name: "ai-sdk",
        about: "the AI SDK for JavaScript",
        api: Api::OpenAi,
        tried: "Tried with ai 6.0.326 and @ai-sdk/openai-compatible 2.0.92 on 2026-11-28.",
        comment: "//",
        template: include_str!("tools/ai-sdk.mjs"),
    },
    Tool {
        name: "llama-index",
        about: "LlamaIndex for Python",
        api: Api::OpenAi,
        tried: "Tried with llama-index-llms-openai-like 0.8.1 on 2026-11-28.",
        comment: "#",
        template: include_str!("tools/llama-index.py"),
    },
    Tool {
        name: "claude-code",
        about: "Claude Code",
        api: Api::Anthropic,
        tried: "Tried with Claude Code 2.1.332 on 2026-11-28.",
        comment: "#",
        template: include_str!("tools/claude-code.sh"),
    },
    Tool {
        name: "codex",
        about: "Codex CLI, ~/.codex/config.toml",
        api: Api::OpenAi,
        tried: "Tried with codex-cli 0.171.0 on 2026-11-28.",
        comment: "#",
        template: include_str!("tools/codex.toml"),
    },
    Tool {
        name: "aider",
        about: "aider",
        api: Api::OpenAi,
        tried: "Tried with aider 0.86.2 on 2026-11-28.",
        comment: "#",
        template: include_str!("tools/aider.sh"),
    },
    Tool {
        name: "open-webui",
        about: "Open WebUI, a docker command",
        api: Api::OpenAi,
        tried: "Checked against its documentation of 2026-11-28 (docs.openwebui.com), not run.",
        comment: "#",
        template: include_str!("tools/open-webui.sh"),
    },
    Tool {
        name: "continue",
        about: "Continue, ~/.continue/config.yaml",
        api: Api::OpenAi,
        tried: "Checked against its documentation of 2026-11-28 (docs.continue.dev), not run.",
        comment: "#",
        template: include_str!("tools/continue.yaml"),
    },
    Tool {
        name: "opencode",
        about: "OpenCode, opencode.jsonc",
        api: Api::OpenAi,
        tried: "Tried with opencode 1.18.33 on 2026-11-28.",
        comment: "//",
        template: include_str!("tools/opencode.jsonc"),
    },
    Tool {
        name: "llm",
        about: "the command llm, extra-openai-models.yaml",
        api: Api::OpenAi,
        tried: "Tried with llm 0.32.1 on 2026-11-28.",
        comment: "#",
        template: include_str!("tools/llm.yaml"),
    },
];

/// All tools, one a line.
pub(super) fn list() -> String {
    let mut text = "Settings for these tools: sluicegate client TOOL [--as CLIENT]\n\n".to_owned();
    for tool in &TOOLS {
        // Writing to a String does not fail.
        let _infallible = writeln!(text, "  {:18} {}", tool.name, tool.about);
    }
    text
}

impl Tool {
    /// The settings for a gateway.
    pub(super) fn settings(&self, gateway: &Settings) -> String {
        let client = gateway.client.as_ref().map(|name| format!(", client {name}")).unwrap_or_default();
        let first =
            format!("{} through route {} of Sluicegate{client}. {}", self.name, gateway.route, self.tried);
        let key = "The client key is read from the environment variable SLUICEGATE_CLIENT_KEY.".to_owned();
        let mut text = String::new();
        for line in [first, key].iter().chain(&gateway.notes) {
            let _infallible = writeln!(text, "{} {line}", self.comment);
        }
        let ca = gateway.ca.as_ref().map(|path| path.display().to_string());
        for line in self.template.lines() {
            let line = match (line.strip_prefix("+ca "), &ca) {
                (Some(_), None) => continue,
                (Some(line), Some(_)) => line,
                (None, _) => line,
            };
            let line = line.replace("@BASE_URL@", &gateway.base_url).replace("@MODEL@", &gateway.model);
            text.push_str(&line.replace("@CA@", ca.as_deref().unwrap_or_default()));
            text.push('\n');
        }
        text
    }
}
