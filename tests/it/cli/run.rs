//! `run`: a provider without a configuration file.

use std::{fs, net::TcpListener};

use sluicegate::simulator::{Options, Simulator};

use super::process::{BINARY, Done, Running, command, shell, sluicegate};
use crate::{folder::Folder, harness::UPSTREAM_KEY, online, sdk::packages};

/// Two addresses that nobody listens on now.
pub fn free() -> [String; 2] {
    let sockets = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    sockets.each_ref().map(|socket| socket.local_addr().unwrap().to_string())
}

/// Without the keys of whoever runs the tests.
pub fn bare(arguments: &[&str]) -> std::process::Command {
    let mut bare = command(BINARY);
    bare.args(arguments);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().ends_with("_API_KEY") {
            bare.env_remove(name);
        }
    }
    bare.env_remove("SLUICEGATE_CLIENT_KEY");
    bare
}

pub fn done(command: &mut std::process::Command) -> Done {
    command.output().unwrap().into()
}

#[test]
fn the_printed_command_streams_an_answer_and_the_written_file_is_valid() {
    let options = Options { require_key: Some(UPSTREAM_KEY.to_owned()), ..Options::default() };
    let simulator = Simulator::spawn_threads(&options, 1).unwrap();
    let (folder, [listen, admin]) = (Folder::new(), free());
    let file = folder.path("gateway.toml");
    let url = format!("{}/v1", simulator.url());
    let arguments =
        ["run", "--to", &url, "--key-env", "UPSTREAM_KEY", "--listen", &listen, "--admin", &admin];
    let mut running = Running::of(&mut bare(&[&arguments[..], &["--write", &file]].concat()));
    let provider = running.line(|line| line.trim_start().starts_with("provider"));
    assert!(provider.ends_with("accepts the key"), "{provider}");
    let curl = running.line(|line| line.starts_with("curl "));
    let answer = shell(&curl);
    assert!(answer.out.ends_with("data: [DONE]\n\n"), "{}{}", answer.out, answer.err);
    let written = fs::read_to_string(&file).unwrap();
    let key = curl.split("Bearer ").nth(1).unwrap().split('"').next().unwrap();
    assert!(!written.contains(key) && !written.contains(UPSTREAM_KEY), "{written}");
    let checked = sluicegate(&["check", "--config", &file]);
    assert_eq!(checked.code, Some(0), "{}{}", checked.out, checked.err);
}

#[test]
fn a_refused_key_ends_it_with_the_providers_status() {
    let options = Options { require_key: Some("another".to_owned()), ..Options::default() };
    let simulator = Simulator::spawn_threads(&options, 1).unwrap();
    let [listen, admin] = free();
    let url = format!("{}/v1", simulator.url());
    let ended = done(&mut bare(&[
        "run",
        "--to",
        &url,
        "--key-env",
        "UPSTREAM_KEY",
        "--listen",
        &listen,
        "--admin",
        &admin,
    ]));
    assert_eq!(ended.code, Some(1), "{}", ended.out);
    assert!(ended.err.contains("refuses the key in UPSTREAM_KEY (GET /v1/models: 401"), "{}", ended.err);
    assert!(!ended.err.contains(UPSTREAM_KEY));
}

#[test]
fn what_is_missing_is_said_with_its_cure() {
    let nothing = done(&mut bare(&["run"]));
    assert_eq!(nothing.code, Some(1));
    for word in ["--to URL", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "AZURE_OPENAI_ENDPOINT"] {
        assert!(nothing.err.contains(word), "{word}: {}", nothing.err);
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let [_, admin] = free();
    let listen = taken.local_addr().unwrap().to_string();
    let ended =
        done(&mut bare(&["run", "--to", "http://127.0.0.1:9/v1", "--listen", &listen, "--admin", &admin]));
    assert!(ended.err.contains("--listen") && ended.err.contains("already in use"), "{}", ended.err);
    let ended = done(&mut bare(&["run", "--to", "http://127.0.0.1:9/v1", "--listen", "0.0.0.0:8080"]));
    assert!(ended.err.contains("not a loopback address"), "{}", ended.err);
}

#[test]
fn an_address_that_is_no_base_url_is_named_without_its_secrets() {
    for wrong in [
        "ftp://127.0.0.1/v1",
        "http://user:hidden@127.0.0.1:9/v1",
        "http://127.0.0.1:9/v1?key=hidden",
        "http://127.0.0.1:9/v1/chat/completions",
    ] {
        let ended = done(&mut bare(&["run", "--to", wrong]));
        assert!(ended.err.starts_with("sluicegate: --to is "), "{wrong}: {}", ended.err);
        let variables = [("OPENAI_API_KEY", "sk-x"), ("OPENAI_BASE_URL", wrong)];
        let set = done(bare(&["run"]).envs(variables));
        assert!(set.err.starts_with("sluicegate: OPENAI_BASE_URL is not"), "{wrong}: {}", set.err);
        assert!(!format!("{}{}", ended.err, set.err).contains("hidden"));
    }
}

/// The names come from the provider, and the printed commands go into a shell.
#[test]
fn a_models_name_that_a_shell_would_run_is_not_printed() {
    const NAMES: &str =
        r#"{"data": [{"id": "a'$(touch stolen)'"}, {"id": "b\u001b[31m\n\"); import os"}, {"id": "plain"}]}"#;
    let url = format!("http://{}/v1", online::target(|_| Some(("200 OK", NAMES))));
    let [listen, admin] = free();
    let mut running = Running::of(&mut bare(&["run", "--to", &url, "--listen", &listen, "--admin", &admin]));
    let curl = running.line(|line| line.starts_with("curl "));
    assert!(curl.contains(r#"{"model": "plain""#), "{curl}");
}

#[test]
fn a_kept_client_key_is_made_once() {
    let simulator = Simulator::spawn_threads(&Options::default(), 1).unwrap();
    let folder = Folder::new();
    // As a shell must read it.
    let file = folder.path("a client's key");
    let url = format!("{}/v1", simulator.url());
    let mut keys = Vec::new();
    for _ in 0..2 {
        let [listen, admin] = free();
        let arguments =
            ["run", "--to", &url, "--listen", &listen, "--admin", &admin, "--client-key-file", &file];
        let mut running = Running::of(&mut bare(&arguments));
        let curl = running.line(|line| line.starts_with("curl "));
        assert!(shell(&curl).out.ends_with("data: [DONE]\n\n"));
        keys.push(fs::read_to_string(&file).unwrap());
    }
    assert_eq!(keys[0], keys[1]);
}

#[test]
fn an_open_gateway_refuses_web_pages() {
    let simulator = Simulator::spawn_threads(&Options::default(), 1).unwrap();
    let [listen, admin] = free();
    let url = format!("{}/v1", simulator.url());
    let mut running =
        Running::of(&mut bare(&["run", "--to", &url, "--listen", &listen, "--admin", &admin, "--open"]));
    let curl = running.line(|line| line.starts_with("curl "));
    assert!(shell(&curl).out.ends_with("data: [DONE]\n\n"));
    let from_a_page = shell(&format!("{curl} -H 'origin: https://evil.example'"));
    assert!(from_a_page.out.contains("origin_not_allowed"), "{}", from_a_page.out);
    let rebound = shell(&format!("{curl} -H 'host: evil.example'"));
    assert!(rebound.out.contains("route_not_found"), "{}", rebound.out);
    assert_eq!(simulator.records().len(), 2, "the list of models, and one answer");
}

#[test]
fn a_server_that_requires_a_key_and_a_wrong_base_url_are_said_with_their_cure() {
    let options = Options { require_key: Some(UPSTREAM_KEY.to_owned()), ..Options::default() };
    let simulator = Simulator::spawn_threads(&options, 1).unwrap();
    let [listen, admin] = free();
    let url = format!("{}/v1", simulator.url());
    let ended = done(&mut bare(&["run", "--to", &url, "--listen", &listen, "--admin", &admin]));
    assert_eq!(ended.code, Some(1), "{}", ended.out);
    assert!(
        ended.err.contains("requires a key (GET /v1/models: 401") && ended.err.contains("--key-env NAME"),
        "{}",
        ended.err
    );
    let url = format!("http://{}", online::target(|_| Some(("404 Not Found", ""))));
    let mut running = Running::of(&mut bare(&["run", "--to", &url, "--listen", &listen, "--admin", &admin]));
    let provider = running.line(|line| line.trim_start().starts_with("provider"));
    assert!(provider.ends_with(&format!("perhaps its base URL is {url}/v1")), "{provider}");
}

#[test]
fn the_written_file_names_its_schema() {
    let simulator = Simulator::spawn_threads(&Options::default(), 1).unwrap();
    let (folder, url) = (Folder::new(), format!("{}/v1", simulator.url()));
    let file = folder.path("gateway.toml");
    let start = |file: &str| {
        let [listen, admin] = free();
        let arguments = ["run", "--to", &url, "--listen", &listen, "--admin", &admin, "--write", file];
        bare(&arguments)
    };
    Running::of(&mut start(&file)).line(|line| line.starts_with("curl "));
    let written = fs::read_to_string(&file).unwrap();
    assert!(written.starts_with("#:schema ./gateway.schema.json\n"), "{written}");
    let schema = fs::read_to_string(folder.path("gateway.schema.json")).unwrap();
    assert_eq!(schema, sluicegate(&["schema"]).out);
    // A schema of an earlier run is replaced; another file of that name and the configuration are not.
    Running::of(&mut start(&folder.path("second.toml"))).line(|line| line.starts_with("curl "));
    folder.write("gateway.schema.json", "{}");
    let ended = done(&mut start(&folder.path("third.toml")));
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("is not the schema of gateway.toml"), "{}", ended.err);
    let ended = done(&mut start(&file));
    assert!(ended.err.contains("gateway.toml exists and is not overwritten: move it"), "{}", ended.err);
}

/// The line `python3 -` and its program, as they are printed.
#[test]
fn the_printed_program_streams_an_answer() {
    let simulator = Simulator::spawn_threads(&Options::default(), 1).unwrap();
    let url = format!("{}/v1", simulator.url());
    for key in ["--open", "--client-key-file"] {
        let (folder, [listen, admin]) = (Folder::new(), free());
        let file = folder.path("client.key");
        let mut arguments = vec!["run", "--to", &url, "--listen", &listen, "--admin", &admin, key];
        arguments.extend((key == "--client-key-file").then_some(&*file));
        let mut running = Running::of(&mut bare(&arguments));
        running.line(|line| line == "python3 - <<'PYTHON'");
        let mut program = String::new();
        loop {
            let line = running.line(|_| true);
            if line == "PYTHON" {
                break;
            }
            program.push_str(&format!("{line}\n"));
        }
        let script = folder.write("printed.py", &program);
        let ran: Done = packages::python(&script).output().unwrap().into();
        assert!(ran.out.contains("nothing held back, nothing lost."), "{program}{}{}", ran.out, ran.err);
    }
}
