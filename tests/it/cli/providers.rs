//! `run` with the keys of several providers.

use std::{fs, net::TcpListener, process::Command};

use http::StatusCode;
use serde_json::{Value, json};
use sluicegate::simulator::{Head, Options, Record, Script, Simulator, Step};

use super::{
    process::{BINARY, Running, shell},
    run::{bare, done, free},
};
use crate::{folder::Folder, harness::UPSTREAM_KEY};

/// A provider that lists these models.
fn provider(models: &[&str]) -> Simulator {
    let options = Options { require_key: Some(UPSTREAM_KEY.to_owned()), ..Options::default() };
    let provider = Simulator::spawn_threads(&options, 1).unwrap();
    let models: Vec<Value> = models.iter().map(|id| json!({ "id": id, "object": "model" })).collect();
    let list = json!({ "object": "list", "data": models }).to_string();
    let head = Step::Head(Head::json(StatusCode::OK, list.len()));
    provider.queue(Script::new(vec![head, Step::Send(list.into())]));
    provider
}

/// OpenAI's, Groq's and Anthropic's keys, and where their imitations are.
fn with_three(mut command: Command, [openai, groq, anthropic]: [&Simulator; 3]) -> Command {
    for (name, upstream, path) in
        [("OPENAI", openai, "/v1"), ("GROQ", groq, ""), ("ANTHROPIC", anthropic, "")]
    {
        command.env(format!("{name}_API_KEY"), UPSTREAM_KEY);
        command.env(format!("{name}_BASE_URL"), format!("{}{path}", upstream.url()));
    }
    command
}

/// The last request that an upstream got: its path, and the header with the key.
fn last(upstream: &Simulator) -> (String, &'static str) {
    let record: Record = upstream.records().pop().unwrap();
    let header = if record.headers.contains_key("authorization") { "authorization" } else { "x-api-key" };
    assert!(record.headers[header].to_str().unwrap().ends_with(UPSTREAM_KEY));
    (record.target, header)
}

#[test]
fn models_and_paths_tell_providers_apart() {
    let openai = provider(&["gpt-4o-mini", "shared", "claude-like-name"]);
    let groq = provider(&["llama-3.1-8b-instant", "shared", "openai/gpt-oss-120b"]);
    let anthropic = provider(&["claude-haiku-4-5"]);
    let (folder, [listen, admin]) = (Folder::new(), free());
    let file = folder.path("gateway.toml");
    let arguments = ["run", "--listen", &listen, "--admin", &admin, "--write", &file];
    let mut command = with_three(bare(&arguments), [&openai, &groq, &anthropic]);
    let mut running = Running::of(&mut command);
    let mut printed = Vec::new();
    let curl = running.line(|line| {
        printed.push(line.trim().to_owned());
        line.starts_with("curl ")
    });
    for expected in [
        format!("provider    OpenAI ({}/v1): accepts the key", openai.url()),
        "models    all that are not another provider's".to_owned(),
        format!("provider    Groq ({}/openai/v1): accepts the key", groq.url()),
        "models    openai/*, llama-3.1-8b-instant".to_owned(),
        format!("provider    Anthropic ({}/v1): accepts the key", anthropic.url()),
        "models    claude-*, and everything at /v1/messages".to_owned(),
    ] {
        assert!(printed.contains(&expected), "{expected}: {printed:#?}");
    }
    assert!(shell(&curl).out.ends_with("data: [DONE]\n\n"));
    assert_eq!(last(&openai), ("/v1/chat/completions".to_owned(), "authorization"));
    let key = curl.split("Bearer ").nth(1).unwrap().split('"').next().unwrap();
    let post = |path: &str, model: &str| {
        let body =
            json!({ "model": model, "max_tokens": 9, "messages": [{ "role": "user", "content": "Hello" }] });
        let json = "-H 'content-type: application/json'";
        let answer = shell(&format!(
            "curl -s -w '%{{http_code}}' http://{listen}{path} -H 'authorization: Bearer {key}' {json} -d '{body}'"
        ));
        assert!(answer.out.ends_with("200"), "{path} {model}: {}", answer.out);
    };
    for (path, model, upstream, arrived, header) in [
        (
            "/v1/chat/completions",
            "llama-3.1-8b-instant",
            &groq,
            "/openai/v1/chat/completions",
            "authorization",
        ),
        ("/v1/chat/completions", "openai/gpt-oss-20b", &groq, "/openai/v1/chat/completions", "authorization"),
        ("/v1/chat/completions", "shared", &openai, "/v1/chat/completions", "authorization"),
        ("/v1/responses", "o3", &openai, "/v1/responses", "authorization"),
        // A name of the first provider is an exception from another's beginning.
        ("/v1/chat/completions", "claude-like-name", &openai, "/v1/chat/completions", "authorization"),
        ("/v1/chat/completions", "claude-sonnet-4-5", &anthropic, "/v1/chat/completions", "authorization"),
        ("/v1/messages", "claude-sonnet-4-5", &anthropic, "/v1/messages", "x-api-key"),
        ("/v1/messages", "anything", &anthropic, "/v1/messages", "x-api-key"),
    ] {
        let before: usize = [&openai, &groq, &anthropic].map(|one| one.records().len()).iter().sum();
        post(path, model);
        let after: usize = [&openai, &groq, &anthropic].map(|one| one.records().len()).iter().sum();
        assert_eq!((last(upstream), after), ((arrived.to_owned(), header), before + 1), "{path} {model}");
    }
    // What was written says the same, and is valid.
    let written = fs::read_to_string(&file).unwrap();
    assert!(!written.contains(UPSTREAM_KEY) && written.contains("[model.\"claude-*\"]"), "{written}");
    let mut check = Command::new(BINARY);
    check.args(["check", "--config", &file, "--as", "you", "/v1/chat/completions", "--model", "claude-x"]);
    let checked = done(&mut with_three(check, [&openai, &groq, &anthropic]));
    assert_eq!(checked.code, Some(0), "{}{}", checked.out, checked.err);
    assert!(checked.out.contains("1. anthropic-openai for claude-x"), "{}", checked.out);
    let mut check = with_three(Command::new(BINARY), [&openai, &groq, &anthropic]);
    let checked = done(check.args(["check", "--config", &file]));
    assert!(!checked.out.contains("warning"), "{}", checked.out);
    assert_eq!(checked.code, Some(0), "{}{}", checked.out, checked.err);
}

#[test]
fn a_provider_that_refuses_its_key_is_left_out() {
    let (openai, groq) = (provider(&["gpt-4o-mini"]), provider(&["llama"]));
    let [listen, admin] = free();
    let mut command = bare(&["run", "--listen", &listen, "--admin", &admin]);
    command.env("OPENAI_API_KEY", "sk-refused").env("OPENAI_BASE_URL", format!("{}/v1", openai.url()));
    command.env("GROQ_API_KEY", UPSTREAM_KEY).env("GROQ_BASE_URL", groq.url());
    let mut running = Running::of(&mut command);
    let refused = running.line(|line| line.trim().starts_with("not served"));
    assert!(refused.contains("OpenAI refuses the key in OPENAI_API_KEY (GET /v1/models: 401"), "{refused}");
    let curl = running.line(|line| line.starts_with("curl "));
    assert!(shell(&curl).out.ends_with("data: [DONE]\n\n"));
    assert_eq!(groq.records().last().unwrap().target, "/openai/v1/chat/completions");
    // If all refuse, there is nothing to serve.
    let [listen, admin] = free();
    let mut command = bare(&["run", "--listen", &listen, "--admin", &admin]);
    command.env("OPENAI_API_KEY", "sk-refused").env("OPENAI_BASE_URL", format!("{}/v1", openai.url()));
    command.env("GROQ_API_KEY", "gsk-refused").env("GROQ_BASE_URL", groq.url());
    let ended = done(&mut command);
    assert_eq!(ended.code, Some(1), "{}", ended.out);
    assert!(ended.err.contains("OpenAI refuses the key in OPENAI_API_KEY"), "{}", ended.err);
    assert!(!ended.err.contains("sk-refused"), "{}", ended.err);
}

/// One that cannot be asked may still be reached later, so its beginnings count.
#[test]
fn a_provider_that_is_down_is_served() {
    let openai = provider(&["gpt-4o-mini"]);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let [listen, admin] = free();
    let mut command = bare(&["run", "--listen", &listen, "--admin", &admin]);
    command.env("OPENAI_API_KEY", UPSTREAM_KEY).env("OPENAI_BASE_URL", format!("{}/v1", openai.url()));
    command.env("ANTHROPIC_API_KEY", UPSTREAM_KEY).env("ANTHROPIC_BASE_URL", format!("http://{nobody}"));
    let mut running = Running::of(&mut command);
    let down = running.line(|line| line.contains("Anthropic"));
    assert!(down.contains("cannot be reached now (connect:"), "{down}");
    let models = running.line(|line| line.trim().starts_with("models"));
    assert!(models.contains("claude-*"), "{models}");
}
