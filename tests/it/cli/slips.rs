//! What a newcomer does wrong is answered with what to write.

use std::{net::TcpListener, process::Command};

use sluicegate::simulator::{Options, Simulator};

use super::{
    process::{BINARY, Running, command, sluicegate},
    run::{bare, done, free},
};
use crate::{folder::Folder, harness::GatewayToml, online};

/// What `run` says when it ends with code 1.
fn refused(command: &mut Command) -> String {
    let ended = done(command);
    assert_eq!(ended.code, Some(1), "{}{}", ended.out, ended.err);
    ended.err
}

#[test]
fn all_taken_addresses_are_said_at_once_with_free_ones() {
    let taken = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [listen, admin] = taken.each_ref().map(|socket| socket.local_addr().unwrap().to_string());
    let to = ["run", "--to", "http://127.0.0.1:9/v1", "--listen", &listen, "--admin", &admin];
    let said = refused(&mut bare(&to));
    let both = format!(
        "cannot listen on {listen} (--listen) and {admin} (--admin): already in use; try --listen 127.0.0.1:"
    );
    assert!(said.contains(&both) && said.contains(" --admin 127.0.0.1:"), "{said}");
    assert!(!said.contains("os error"), "{said}");
    let said =
        refused(&mut bare(&["demo", "--listen", &listen, "--plain", &admin, "--admin", "127.0.0.1:0"]));
    assert!(said.contains(&format!("{listen} (--listen) and {admin} (--plain): already in use")), "{said}");
    let folder = Folder::new();
    let text = GatewayToml::before("http://127.0.0.1:9", "").to_string();
    let text = text.replacen("127.0.0.1:0", &listen, 1);
    let file = folder.write("gateway.toml", &format!("{text}\n[admin]\naddress = {admin:?}\n"));
    let said = refused(command(BINARY).args(["serve", "--config", &file]));
    let keys = format!(
        "cannot listen on {listen} (listener[0].address) and {admin} (admin.address): already in use;"
    );
    assert!(said.contains(&keys), "{said}");
}

#[test]
fn an_endpoint_is_no_base_url() {
    for endpoint in ["/v1/chat/completions", "/v1/models", "/v1/messages/"] {
        let said = refused(&mut bare(&["run", "--to", &format!("http://127.0.0.1:9{endpoint}")]));
        assert!(
            said.contains("--to is an endpoint, not a base URL: write http://127.0.0.1:9/v1\n"),
            "{said}"
        );
    }
    let folder = Folder::new();
    let text = GatewayToml::before("http://127.0.0.1:9/x/chat/completions", "").to_string();
    let file = folder.write("gateway.toml", &text);
    let checked = sluicegate(&["check", "--config", &file]);
    assert!(checked.out.contains(": ok, 1 warning\n"), "{}", checked.out);
    assert!(
        checked.out.contains("is an endpoint, not a base URL") && checked.out.contains("`127.0.0.1/x`"),
        "{}",
        checked.out
    );
}

#[test]
fn a_server_without_the_api_is_asked_about_and_no_key_is_spoken_of() {
    let [listen, admin] = free();
    let url = format!("http://{}/v1", online::target(|_| Some(("404 Not Found", ""))));
    let mut running = Running::of(&mut bare(&["run", "--to", &url, "--listen", &listen, "--admin", &admin]));
    let provider = running.line(|line| line.trim_start().starts_with("provider"));
    assert!(
        provider.ends_with("answers 404 to GET /v1/models: is this an OpenAI-compatible API?"),
        "{provider}"
    );
    let [listen, admin] = free();
    let url = format!("http://{}/v1", online::target(|_| Some(("405 Method Not Allowed", ""))));
    let mut running = Running::of(&mut bare(&["run", "--to", &url, "--listen", &listen, "--admin", &admin]));
    let provider = running.line(|line| line.trim_start().starts_with("provider"));
    assert!(provider.ends_with("answers (GET /v1/models: 405)"), "{provider}");
}

#[test]
fn a_served_file_of_a_run_says_that_it_serves() {
    let simulator = Simulator::spawn_threads(&Options::default(), 1).unwrap();
    let (folder, [listen, admin]) = (Folder::new(), free());
    let file = folder.path("gateway.toml");
    let url = format!("{}/v1", simulator.url());
    let run = ["run", "--to", &url, "--listen", &listen, "--admin", &admin, "--write", &file];
    let mut first = Running::of(&mut bare(&run));
    first.line(|line| line.starts_with("curl "));
    drop(first);
    let mut serving = Running::of(command(BINARY).args(["serve", "--config", &file]));
    serving.line(|line| line.contains("serving"));
}

#[test]
fn an_address_without_an_ip_is_answered_with_one() {
    for (address, port) in [("9180", "9180"), (":9180", "9180"), ("localhost:9181", "9181"), ("x", "9180")] {
        for arguments in
            [["run", "--listen", address], ["demo", "--plain", address], ["health", "--admin", address]]
        {
            let ended = done(&mut bare(&arguments));
            assert_eq!(ended.code, Some(2));
            let said = format!("write an IP address and a port, for example 127.0.0.1:{port}");
            assert!(ended.err.contains(&said), "{arguments:?}: {}", ended.err);
        }
    }
    let ended = done(&mut bare(&["run", "--to", "localhost:9101/v1"]));
    assert!(ended.err.contains("write it as http://localhost:11434/v1"), "{}", ended.err);
}

#[test]
fn errors_of_a_run_name_its_options_and_variables() {
    let said = refused(bare(&["run"]).env("OPENAI_API_KEY", "two words"));
    assert!(said.contains("OPENAI_API_KEY refers to") && !said.contains("-->"), "{said}");
    let said = refused(bare(&["run"]).env("OPENAI_API_KEY", "sk-x").env("OPENAI_BASE_URL", "nowhere"));
    assert!(
        said.contains("OPENAI_BASE_URL is not the base URL of an API") && !said.contains("-->"),
        "{said}"
    );
    let same =
        ["run", "--to", "http://127.0.0.1:9/v1", "--listen", "127.0.0.1:9180", "--admin", "127.0.0.1:9180"];
    let said = refused(&mut bare(&same));
    assert!(said.contains("--admin is already used by --listen"), "{said}");
    let said = refused(bare(&["run"]).env("AZURE_OPENAI_API_KEY", "x"));
    assert!(said.contains("AZURE_OPENAI_API_KEY is set, but AZURE_OPENAI_ENDPOINT is not"), "{said}");
    let said = refused(&mut bare(&["run", "--to", "http://127.0.0.1:9/v1", "--key-env", "sk-proj-abc"]));
    assert!(said.contains("not the key") && !said.contains("sk-proj"), "{said}");
}

#[test]
fn a_folder_without_a_file_is_pointed_to_what_needs_none() {
    let folder = Folder::new();
    let file = folder.path("gateway.toml");
    for arguments in [&["check", "--config", &file][..], &["--config", &file]] {
        let said = refused(command(BINARY).args(arguments));
        assert!(said.contains("no file yet? `sluicegate run` and `sluicegate demo` need none"), "{said}");
        assert!(!said.contains(":1:1"), "{said}");
    }
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let folder = Folder::new();
    let text = r#"
        [[listener]]
        address = "127.0.0.1:0"
        [upstream.openai]
        url = "https://api.openai.com"
        key = { env = "PATH" }
        [route.main]
        path = "/v1"
        upstreams = ["openai"]
        [client.team-a]
        key = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        models = ["gpt-4o*"]
        "#;
    let file = folder.write("gateway.toml", text);
    let client = |arguments: &[&str]| sluicegate(&[&["client", "--config", &file], arguments].concat());
    let refused = client(&["claude-code"]);
    assert_eq!((refused.code, &*refused.out), (Some(1), ""));
    assert!(
        refused.err.contains("no upstream of route `main` is known to have Anthropic's API"),
        "{}",
        refused.err
    );
    let named = client(&["claude-code", "--route", "main"]);
    assert_eq!(named.code, Some(0), "{}", named.err);
    let refused = client(&["curl", "--as", "team-a", "--model", "o3"]);
    assert_eq!((refused.code, &*refused.out), (Some(1), ""));
    assert!(refused.err.contains("client `team-a` may not use model `o3`"), "{}", refused.err);
    assert_eq!(client(&["curl", "--as", "team-a", "--model", "gpt-4o-mini"]).code, Some(0));
}

/// Its only model is one of the first provider's.
#[test]
fn a_provider_without_models_of_its_own_is_not_written() {
    let simulators = [(); 2].map(|()| Simulator::spawn_threads(&Options::default(), 1).unwrap());
    let [openai, groq] = simulators.each_ref().map(Simulator::url);
    let (folder, [listen, admin]) = (Folder::new(), free());
    let file = folder.path("gateway.toml");
    let mut command = bare(&["run", "--listen", &listen, "--admin", &admin, "--write", &file]);
    command.env("OPENAI_API_KEY", "x").env("OPENAI_BASE_URL", format!("{openai}/v1"));
    command.env("GROQ_API_KEY", "x").env("GROQ_BASE_URL", groq);
    let mut running = Running::of(&mut command);
    let first = running.line(|line| !line.trim().is_empty());
    assert!(first.starts_with("Sluicegate is running"), "{first}");
    running.line(|line| line.contains("none that the others lack"));
    running.line(|line| line.starts_with("curl "));
    let written = std::fs::read_to_string(&file).unwrap();
    assert!(!written.contains("groq") && !written.contains("level ="), "{written}");
}
