//! `client TOOL`: what it prints works as it is printed.

use std::{fs, process::Command};

use sluicegate::simulator::{Options, Simulator};

use super::{
    health::free,
    process::{Done, Running, command, sluicegate},
};
use crate::{folder::Folder, harness::UPSTREAM_KEY, sdk::packages};

/// What the simulator answers, in the end.
const WORDS: &str = "nothing held back, nothing lost.";

/// A gateway that runs, and its configuration.
struct Served {
    folder: Folder,
    file: String,
    key: String,
    _gateway: Running,
    _upstream: Simulator,
}

/// With TLS by a development certificate, or without.
fn served(with_tls: bool) -> Served {
    let folder = Folder::new();
    let options = Options { require_key: Some(UPSTREAM_KEY.to_owned()), ..Options::default() };
    let upstream = Simulator::spawn_threads(&options, 1).unwrap();
    let table = sluicegate(&["key", "new", "team-a"]).out;
    let key = table.split_whitespace().find(|word| word.starts_with("sk-sg-")).unwrap().to_owned();
    let tls = "tls = { certificate = \"certs/server.pem\", key = \"certs/server.key\" }";
    let tls = if with_tls { tls } else { "" };
    if with_tls {
        assert_eq!(sluicegate(&["cert", "--out", &folder.path("certs")]).code, Some(0));
    }
    let (listen, url) = (free(), upstream.url());
    let text = format!(
        r#"
        [[listener]]
        address = "{listen}"
        {tls}
        [upstream.sim]
        url = "{url}"
        key = {{ env = "UPSTREAM_KEY" }}
        [upstream.anthropic]
        url = "{url}"
        auth = {{ header = "x-api-key" }}
        key = {{ env = "UPSTREAM_KEY" }}
        [route.main]
        path = "/v1"
        upstreams = ["sim"]
        [route.anthropic]
        path = "/claude"
        rewrite = "/"
        upstreams = ["anthropic"]
        {table}
        "#
    );
    let file = folder.write("gateway.toml", &text);
    let mut gateway = Running::start(&["--config", &file]);
    gateway.address();
    Served { folder, file, key, _gateway: gateway, _upstream: upstream }
}

impl Served {
    fn settings(&self, tool: &str) -> String {
        // Nobody needs the upstreams' keys to read settings.
        let mut client = command(super::process::BINARY);
        let done: Done = client
            .args(["client", tool, "--config", &self.file])
            .env_remove("UPSTREAM_KEY")
            .output()
            .unwrap()
            .into();
        assert_eq!((done.code, &*done.err), (Some(0), ""), "{tool}");
        assert!(!done.out.contains(UPSTREAM_KEY) && !done.out.contains(&self.key), "{}", done.out);
        done.out
    }

    /// Runs a tool with the key that the settings name.
    fn answers(&self, tool: &str, mut run: Command) {
        let ca = self.folder.path("certs/ca.pem");
        if fs::exists(&ca).unwrap() {
            run.env("NODE_EXTRA_CA_CERTS", ca);
        }
        let done: Done = run.env("SLUICEGATE_CLIENT_KEY", &self.key).output().unwrap().into();
        assert_eq!(done.code, Some(0), "{tool}: {}{}", done.out, done.err);
        let said = if tool == "curl" { "data: [DONE]" } else { WORDS };
        assert!(done.out.contains(said), "{tool}: {}{}", done.out, done.err);
    }
}

fn what_is_printed_works(with_tls: bool) {
    let served = served(with_tls);
    let mut curl = command("sh");
    curl.args(["-c", &served.settings("curl")]);
    served.answers("curl", curl);
    for tool in ["openai-python", "anthropic-python"] {
        let script = served.folder.write("hello.py", &served.settings(tool));
        served.answers(tool, packages::python(&script));
    }
    let mut node = packages::node();
    node.args(["--input-type=module", "--eval", &served.settings("openai-node")]);
    served.answers("openai-node", node);
}

#[test]
fn the_settings_work_with_tls() {
    what_is_printed_works(true);
}

#[test]
fn the_settings_work_without_tls() {
    what_is_printed_works(false);
}

#[test]
fn every_tool_is_listed_and_says_what_it_was_tried_with() {
    let served = served(true);
    let list = sluicegate(&["client"]);
    let tools: Vec<&str> =
        list.out.lines().filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next()).collect();
    let wanted = [
        "curl",
        "openai-python",
        "openai-node",
        "anthropic-python",
        "langchain",
        "ai-sdk",
        "llama-index",
        "claude-code",
        "codex",
        "aider",
        "open-webui",
        "continue",
        "opencode",
        "llm",
    ];
    assert_eq!(tools, wanted);
    for tool in tools {
        let text = served.settings(tool);
        assert!(
            text.contains("Tried with ") || text.contains("Checked against its documentation of 20"),
            "{text}"
        );
        assert!(text.contains("SLUICEGATE_CLIENT_KEY") && text.contains("certs/ca.pem"), "{text}");
        assert!(!text.contains('@') || tool == "ai-sdk" || tool == "opencode", "{text}");
    }
}

#[test]
fn the_address_is_that_of_the_configuration() {
    let served = served(true);
    let address = |tool: &str, options: &[&str]| {
        let arguments = [&["client", tool, "--config", &served.file], options].concat();
        let done = sluicegate(&arguments);
        format!("{}{}", done.out, done.err)
    };
    let at = served.settings("openai-python");
    assert!(at.contains("base_url=\"https://localhost:") && at.contains("/v1\""), "{at}");
    let at = served.settings("claude-code");
    assert!(at.contains("/claude\"") && !at.contains("/v1"), "the SDK adds /v1/messages itself: {at}");
    let at = address("codex", &["--url", "https://llm.example.com", "--model", "gpt-5", "--as", "team-a"]);
    assert!(
        at.contains("base_url = \"https://llm.example.com/v1\"") && at.contains("model = \"gpt-5\""),
        "{at}"
    );
    assert!(at.contains("client team-a") && !at.contains("ca.pem"), "{at}");
    for (options, said) in [
        (&["--as", "team-b"][..], "there is no [client.team-b]; the clients are: team-a"),
        (&["--route", "nothing"], "no route leads to POST /chat/completions"),
        (&["--model", "a\"b"], "cannot stand in these settings"),
        (&["--url", "llm.example.com"], "is not the address of a gateway"),
        (&["--url", "ftp://llm.example.com"], "is not the address of a gateway"),
        (&["--url", "https://llm.example.com/behind"], "is not the address of a gateway"),
        (&["--url", "https://$(id).example.com"], "is not the address of a gateway"),
        (&["--url", "https://user:password@llm.example.com"], "is not the address of a gateway"),
    ] {
        let told = address("openai-python", options);
        assert!(told.contains(said), "{said}: {told}");
    }
    assert!(address("emacs", &[]).contains("`sluicegate client` lists the tools"));
}
