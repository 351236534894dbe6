//! `sluicegate top` and `sluicegate log`, as a person or a script starts them.

use std::{io::Write, process::Stdio};

use serde_json::Value;
use sluicegate::simulator::{Gate, Head, Script, Step};

use crate::{
    cli::process::{BINARY, command},
    folder::Folder,
    harness::{
        CHAT, Client, Gateway, GatewayToml, Http, UPSTREAM_KEY, chat, post, safely, simulator, take, whole,
    },
};

const EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n";

/// What `sluicegate` prints with these arguments: its code, stdout and stderr.
async fn printed(arguments: &[&str], token: Option<&str>) -> (Option<i32>, String, String) {
    let mut process = command(BINARY);
    process.args(arguments).stdin(Stdio::null()).env_remove("SLUICEGATE_ADMIN_TOKEN");
    if let Some(token) = token {
        process.env("SLUICEGATE_ADMIN_TOKEN", token);
    }
    let output = tokio::task::spawn_blocking(move || process.output().unwrap()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn top_shows_what_is_in_flight_over_a_pipe() {
    let upstream = simulator().await;
    upstream.queue(Script::new(vec![
        Step::Head(Head::event_stream()),
        Step::Send(EVENT.into()),
        Step::Gate(Gate::new()),
    ]));
    let admin = "[admin]\naddress = \"127.0.0.1:0\"\ntoken = { env = \"UPSTREAM_KEY\" }";
    let gateway = Gateway::start(&GatewayToml::before(&upstream.url(), "").more(admin));
    let mut client = Client::connect(gateway.address(), Http::One).await;
    let asked = post(gateway.address(), Http::One, "/v1/chat/completions").body(whole(CHAT)).unwrap();
    let mut response = safely(client.send(asked)).await.unwrap();
    take(response.body_mut(), EVENT.len()).await;
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();

    let address = gateway.admin.unwrap().to_string();
    let (code, text, _) = printed(&["top", "--admin", &address], Some(UPSTREAM_KEY)).await;
    assert_eq!(code, Some(0));
    let row = text.lines().find(|line| line.ends_with(&id)).unwrap_or_else(|| panic!("{text}"));
    for part in ["tester", "gpt-4o-mini", "sim", "stream"] {
        assert!(row.contains(part), "{part}: {row}");
    }
    assert!(text.contains("1 in flight") && !text.contains('\u{1b}'), "{text}");
    let (_, json, _) = printed(&["top", "--json", "--admin", &address], Some(UPSTREAM_KEY)).await;
    let state: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(state["streams"][&id]["client"], "tester");
    let none = ["top", "--admin", &address, "--client", "other*"];
    assert!(printed(&none, Some(UPSTREAM_KEY)).await.1.contains("no request in flight"));
    let (code, _, error) = printed(&["top", "--admin", &address], None).await;
    assert_eq!((code, error.contains("set SLUICEGATE_ADMIN_TOKEN")), (Some(1), true), "{error}");
}

#[tokio::test]
async fn log_shows_the_lines_of_a_gateway_and_filters_them() {
    let upstream = simulator().await;
    let gateway = Gateway::start(&GatewayToml::before(&upstream.url(), "retry = \"off\""));
    let good = chat(gateway.address(), Http::One).await;
    upstream.queue(Script::new(vec![
        Step::Head(Head::event_stream()),
        Step::Send(EVENT.into()),
        Step::Cut(sluicegate::simulator::Cut::Reset),
    ]));
    chat(gateway.address(), Http::One).await;
    gateway.log.line(2).await;
    let folder = Folder::new();
    let file = folder.write("log", &gateway.log.text());
    let (code, all, _) = printed(&["log", &file], None).await;
    assert_eq!(code, Some(0));
    assert_eq!(all.lines().filter(|line| line.contains("gpt-4o-mini")).count(), 2, "{all}");
    assert!(all.contains("upstream_truncated: upstream ended it in phase stream"), "{all}");
    let (_, bad, _) = printed(&["log", "--errors", &file], None).await;
    assert_eq!(bad.lines().filter(|line| line.contains("gpt-4o-mini")).count(), 1, "{bad}");
    let id = good.headers["x-request-id"].to_str().unwrap();
    let (_, raw, _) = printed(&["log", "--id", id, "--raw", &file], None).await;
    assert_eq!(serde_json::from_str::<Value>(&raw).unwrap(), gateway.log.line_of(&good).await);
    let (_, none, _) = printed(&["log", "--client", "other", &file], None).await;
    assert_eq!(none, "");
    let (code, _, error) = printed(&["log", "/nowhere/log"], None).await;
    assert_eq!((code, error.contains("/nowhere/log cannot be read")), (Some(1), true), "{error}");
}

#[test]
fn log_reads_a_pipe_and_ends_when_its_reader_has_enough() {
    let mut log = command(BINARY);
    let mut log = log.args(["log"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = log.stdin.take().unwrap();
    drop(log.stdout.take());
    let line = r#"{"time":"2026-11-28T12:00:00.000Z","kind":"message","level":"info","message":"serving"}"#;
    // Until the pipe is closed.
    for _ in 0..100_000 {
        if writeln!(stdin, "{line}").is_err() {
            break;
        }
    }
    drop(stdin);
    assert_eq!(log.wait().unwrap().code(), Some(0));
}
