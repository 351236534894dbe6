//! `check --as CLIENT … --model M` says where the tables lead.

use std::process::{Command, Output};

use crate::folder::Folder;

const FILE: &str = r#"
[[listener]]
address = "127.0.0.1:0"
[upstream.one]
url = "http://127.0.0.1:1/v1"
auth = "none"
[upstream.two]
url = "http://127.0.0.1:2/v1"
auth = "none"
[route.main]
path = "/v1"
rewrite = "/"
upstreams = ["one", "two"]
model_tables = "only"
[model."gpt-4o"]
upstreams = [{ upstream = "two", model = "gpt-4o-eu" }, "one"]
aliases = ["default"]
[model."gpt-*"]
upstreams = ["one"]
[client.all]
key = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
[client.some]
key = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
models = ["gpt-4o", "gpt-5"]
"#;

fn check(client: &str, model: &str) -> Output {
    let folder = Folder::new();
    let file = folder.write("gateway.toml", FILE);
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    command.args(["check", "--config"]).arg(file).args([
        "--as",
        client,
        "/v1/chat/completions",
        "--model",
        model,
    ]);
    command.output().unwrap()
}

#[test]
fn the_table_and_its_upstreams_are_shown() {
    for client in ["all", "some"] {
        let output = check(client, "default");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains(r#"model      default ([model."gpt-4o"])"#), "{text}");
        let candidates: Vec<&str> = text.lines().filter(|line| line.starts_with("candidate")).collect();
        assert_eq!(
            candidates,
            ["candidate  1. two for gpt-4o-eu, no key", "candidate  2. one for gpt-4o, no key"]
        );
        assert!(text.contains("POST http://127.0.0.1:2/v1/chat/completions"), "{text}");
    }
    let text = String::from_utf8(check("all", "gpt-3").stdout).unwrap();
    assert!(text.contains(r#"gpt-3 ([model."gpt-*"])"#) && text.contains("1. one for gpt-3"), "{text}");
}

#[test]
fn a_refusal_is_shown() {
    for (client, model, expected) in [
        (
            "all",
            "gpt4o",
            "404 model_not_found: no [model] table of route `main` fits `gpt4o`; similar names: gpt-4o",
        ),
        ("some", "gpt-4", "client `some` may not use model `gpt-4`"),
    ] {
        let output = check(client, model);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(expected), "{text}");
    }
}
