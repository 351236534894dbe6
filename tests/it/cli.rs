//! The binary itself: what it prints, and how it exits.

mod check_as;
mod client;
pub mod health;
mod log;
mod pages;
pub mod process;
mod providers;
mod run;
mod slips;

use std::fs;

use serde_json::Value;
use sluicegate::simulator::{Options, Simulator};

use crate::{
    folder::Folder,
    harness::{Answer, Client, GatewayToml, Http, SAFETY, UPSTREAM_KEY, post, request, send, whole},
};
use process::{Running, shell, sluicegate};

/// A sound configuration on a free port, before an upstream at `url`; without a client.
fn configuration(url: &str) -> String {
    GatewayToml::before(url, "")
        .server("threads = 1\ndrain = { deadline = \"200ms\" }")
        .without_client()
        .to_string()
}

#[test]
fn every_mistake_is_named_with_its_path() {
    let folder = Folder::new();
    let file = folder.write(
        "gateway.toml",
        r#"
        [[listener]]
        address = "127.0.0.1"
        [server]
        keep_alive = "75"
        [upstream.openai]
        url = "ftp://api.openai.com"
        key = { env = "THERE_IS_NO_SUCH_VARIABLE" }
        [route.openai]
        path = "/v1"
        upstreams = ["opnai"]
        acess = "open"
        [client.team-a]
        key = "sk-in-clear"
        "#,
    );
    let checked = sluicegate(&["check", "--config", &file]);
    assert_eq!((checked.code, &*checked.out), (Some(1), ""));
    let told: Vec<&str> = checked.err.lines().filter(|line| line.starts_with("error: ")).collect();
    let paths = [
        "listener[0].address",
        "server.keep_alive",
        "upstream.openai.url",
        "upstream.openai.key.env",
        "route.openai.upstreams[0]",
        "route.openai.acess",
        "client.team-a.key",
    ];
    assert_eq!(told.len(), paths.len(), "{}", checked.err);
    for path in paths {
        assert!(
            told.iter().any(|line| line.starts_with(&format!("error: {path}: "))),
            "{path}: {}",
            checked.err
        );
    }
    assert!(checked.err.contains("did you mean `access`?") && checked.err.contains("did you mean `openai`?"));
    assert!(checked.err.contains(&format!("{file}:3:")), "places are told: {}", checked.err);
    assert!(!checked.err.contains("sk-in-clear"), "a key that was written in clear is not shown");
    // What cannot be checked cannot be served.
    let served = sluicegate(&["serve", "--config", &file]);
    assert_eq!((served.code, &*served.out), (Some(1), ""));
    assert!(told.iter().all(|line| served.err.contains(line)), "{}", served.err);
}

#[test]
fn the_shipped_file_needs_a_certificate_and_a_key() {
    let folder = Folder::new();
    let shipped = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/gateway.toml")).unwrap();
    let file = folder.write("gateway.toml", &shipped);
    let checked = sluicegate(&["check", "--config", &file]);
    assert_eq!(checked.code, Some(1));
    for missing in ["certs/server.pem", "certs/server.key", "OPENAI_API_KEY"] {
        assert!(checked.err.contains(missing), "{missing}: {}", checked.err);
    }
    assert!(checked.err.contains("3 problems"), "{}", checked.err);

    let made = sluicegate(&["cert", "--out", &folder.path("certs")]);
    assert_eq!(made.code, Some(0), "{}", made.err);
    let with_key = shell(&format!("OPENAI_API_KEY=sk-x {:?} check --config {file:?}", process::BINARY));
    assert_eq!((with_key.code, &*with_key.err), (Some(0), ""));
    assert!(with_key.out.starts_with(&format!("{file}: ok, 1 warning\n")), "{}", with_key.out);
    assert!(with_key.out.contains("TLS for localhost"), "{}", with_key.out);
    assert!(!with_key.out.contains("sk-x"));
    // Files that are there are not replaced unasked.
    assert_eq!(sluicegate(&["cert", "--out", &folder.path("certs")]).code, Some(1));
}

#[test]
fn help_is_there() {
    let help = sluicegate(&["--help"]);
    assert_eq!((help.code, &*help.err), (Some(0), ""));
    for command in
        ["serve", "check", "run", "demo", "simulate", "key", "cert", "health", "client", "schema", "man"]
    {
        assert!(help.out.contains(&format!("\n  {command} ")), "{command}: {}", help.out);
        assert_eq!(sluicegate(&[command, "--help"]).code, Some(0), "{command}");
    }
    assert_eq!(sluicegate(&["serv"]).code, Some(2));
    assert_eq!(sluicegate(&["key", "new", "not a name"]).code, Some(1));
}

#[test]
fn an_address_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = Folder::new();
    let key = sluicegate(&["key", "new", "a"]).out;
    let text = configuration("http://127.0.0.1:9").replace("127.0.0.1:0", &address) + &key;
    let file = folder.write("gateway.toml", &text);
    let served = sluicegate(&["serve", "--config", &file]);
    assert_eq!(served.code, Some(1));
    assert!(served.err.contains(&address) && served.err.contains("in use"), "{}", served.err);
}

/// A gateway in a process of its own, an upstream for it, and the key of its caller, all made by the command line.
fn serving(folder: &Folder) -> (Running, Simulator, String) {
    serving_with(folder, "200ms")
}

/// One with this deadline for its drain.
fn serving_with(folder: &Folder, deadline: &str) -> (Running, Simulator, String) {
    let (file, upstream, key) = written(folder, deadline, "");
    (Running::start(&["--config", &file]), upstream, key)
}

/// Its file, with `more` tables.
fn written(folder: &Folder, deadline: &str, more: &str) -> (String, Simulator, String) {
    let options = Options { require_key: Some(UPSTREAM_KEY.to_owned()), ..Options::default() };
    let upstream = Simulator::spawn_threads(&options, 1).unwrap();
    let table = sluicegate(&["key", "new", "team-a"]).out;
    let key = table.split_whitespace().find(|word| word.starts_with("sk-sg-")).unwrap().to_owned();
    let text = configuration(&upstream.url()).replace("200ms", deadline);
    (folder.write("gateway.toml", &format!("{text}\n{more}\n{table}")), upstream, key)
}

#[tokio::test]
async fn sigterm_ends_it_in_order_with_its_log_written() {
    let folder = Folder::new();
    let (mut gateway, _upstream, key) = serving(&folder);
    let address = gateway.address();
    for _ in 0..20 {
        let asked = request(address, Http::One, "GET", "/v1/models").header("x-api-key", &key);
        assert_eq!(send(address, Http::One, asked.body(whole("")).unwrap()).await.status, 200);
    }
    gateway.terminate();
    let (code, rest) = gateway.ended();
    assert_eq!(code, Some(0));
    let lines: Vec<Value> = rest.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().filter(|line| line["kind"] == "access" && line["status"] == 200).count(), 20);
    assert_eq!(lines.last().unwrap()["message"], "drain complete");
    assert!(!rest.concat().contains(&key) && !rest.concat().contains(UPSTREAM_KEY));
}

#[tokio::test]
async fn a_drain_that_cuts_says_so() {
    let folder = Folder::new();
    let (mut gateway, upstream, key) = serving(&folder);
    let address = gateway.address();
    let asked = post(address, Http::One, "/v1/chat/completions").header("x-simulate", "gate=300");
    let mut asked = asked.body(whole(crate::harness::CHAT)).unwrap();
    asked.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    let mut client = Client::connect(address, Http::One).await;
    let response = tokio::time::timeout(SAFETY, client.send(asked)).await.unwrap().unwrap();
    gateway.terminate();
    let answer = tokio::time::timeout(SAFETY, Answer::read(response)).await.unwrap();
    // All that the upstream sent, within an event: only an abort can tell that it is not all.
    assert_eq!((answer.body.len(), answer.whole), (300, false), "{answer:?}");
    let (code, rest) = gateway.ended();
    assert_eq!(code, Some(3), "{rest:#?}");
    assert!(rest.iter().any(|line| line.contains("\"error\":\"gateway_draining\"")), "{rest:#?}");
    drop(upstream);
}

/// A stream that waits at its gate, and the gateway that it is drained by.
type Draining = (Running, Simulator, http::Response<hyper::body::Incoming>, Client);

async fn draining(folder: &Folder) -> Draining {
    draining_by(folder, "", |file| Running::start(&["--config", file])).await
}

/// The same with `more` tables in the file, by a gateway that is started in another way.
async fn draining_by(folder: &Folder, more: &str, start: impl FnOnce(&str) -> Running) -> Draining {
    let (file, upstream, key) = written(folder, "1m", more);
    let mut gateway = start(&file);
    let address = gateway.address();
    let asked = post(address, Http::One, "/v1/chat/completions").header("x-simulate", "gate=300");
    let mut asked = asked.body(whole(crate::harness::CHAT)).unwrap();
    asked.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    let mut client = Client::connect(address, Http::One).await;
    let response = tokio::time::timeout(SAFETY, client.send(asked)).await.unwrap().unwrap();
    (gateway, upstream, response, client)
}

/// Whoever waits at a terminal sees for how many requests.
#[tokio::test]
async fn a_drain_on_a_terminal_shows_what_is_left() {
    let folder = Folder::new();
    let pid = std::cell::Cell::new(String::new());
    let start = |file: &str| {
        let line = format!("echo process $$; exec {} --config {file}", process::BINARY);
        let mut script = process::command("script");
        let mut gateway = Running::of(script.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm"));
        let line = gateway.line(|line| line.starts_with("process "));
        pid.set(line.trim_start_matches("process ").to_owned());
        gateway
    };
    let (mut gateway, upstream, response, client) = draining_by(&folder, "", start).await;
    assert_eq!(shell(&format!("kill -TERM {}", pid.take())).code, Some(0));
    // The display ends no line, so that it stands before or behind a line of the log.
    let first = gateway.line(|line| line.contains("\"message\":\"drain started\""));
    upstream.open_gate();
    let answer = tokio::time::timeout(SAFETY, Answer::read(response)).await.unwrap();
    assert!(answer.whole, "{answer:?}");
    client.leave().await;
    let (code, rest) = gateway.ended();
    assert_eq!(code, Some(0));
    let rest = first + &rest.concat();
    assert!(rest.contains("draining: 1 request left, at most ") && rest.contains("\r\u{1b}[K"), "{rest:?}");
}

/// `timeout` of coreutils signals its child and then the whole group.
#[tokio::test]
async fn signals_at_once_are_one() {
    let folder = Folder::new();
    let (mut gateway, upstream, response, client) = draining(&folder).await;
    gateway.signal("TERM");
    gateway.signal("INT");
    gateway.line(|line| line.contains("\"message\":\"drain started\""));
    upstream.open_gate();
    let answer = tokio::time::timeout(SAFETY, Answer::read(response)).await.unwrap();
    assert!(answer.whole, "{answer:?}");
    client.leave().await;
    assert_eq!(gateway.ended().0, Some(0));
}

#[tokio::test]
async fn who_asks_on_has_what_is_left_cut() {
    let folder = Folder::new();
    let (mut gateway, _upstream, response, _client) = draining(&folder).await;
    let asking = async {
        loop {
            gateway.signal("TERM");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    let answer = tokio::time::timeout(SAFETY, Answer::read(response));
    let answer = tokio::select! { answer = answer => answer.unwrap(), () = asking => unreachable!() };
    assert!(!answer.whole, "{answer:?}");
    assert_eq!(gateway.ended().0, Some(3));
}

/// Whoever is woken looks for what changed, not for the callers that it befell.
#[tokio::test]
async fn what_concerns_everybody_has_a_line_of_its_own() {
    let folder = Folder::new();
    let options = Options { require_key: Some(UPSTREAM_KEY.to_owned()), ..Options::default() };
    let upstream = Simulator::spawn_threads(&options, 1).unwrap();
    let table = sluicegate(&["key", "new", "team-a"]).out;
    let key = table.split_whitespace().find(|word| word.starts_with("sk-sg-")).unwrap().to_owned();
    let more = r#"
        [upstream.gone]
        url = "http://127.0.0.1:1"
        auth = "none"
        retry = "off"
        breaker = { failures = 1 }
        [route.gone]
        path = "/gone"
        upstreams = ["gone"]
    "#;
    let text = configuration(&upstream.url())
        .replace("key = { env", "keys = [{ env = \"WITHDRAWN\" }, { env")
        .replace("UPSTREAM_KEY\" }", "UPSTREAM_KEY\" }]");
    let file = folder.write("gateway.toml", &(text + more + &table));
    let mut command = process::command(process::BINARY);
    let mut gateway =
        Running::of(command.args(["--config", &file]).env("WITHDRAWN", "sk-upstream-withdrawn-1"));
    let address = gateway.address();
    let ask = async |path: &str| {
        let mut asked = post(address, Http::One, path).body(whole(crate::harness::CHAT)).unwrap();
        asked.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        send(address, Http::One, asked).await.status
    };
    for _ in 0..2 {
        assert_eq!(ask("/v1/chat/completions").await, 200);
    }
    let line = gateway.line(|line| line.contains("upstream key disabled"));
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["kind"], &line["upstream"]), (&"message".into(), &"sim".into()), "{line}");
    assert_eq!((&line["key"], &line["why"]), (&1.into(), &"refused".into()), "{line}");
    assert_eq!(ask("/gone/chat/completions").await, 502);
    let line = gateway.line(|line| line.contains("circuit breaker opened"));
    assert!(line.contains("http://127.0.0.1:1"), "{line}");
    gateway.terminate();
    assert_eq!(gateway.ended().0, Some(0));
}

#[test]
fn the_demos_curl_line_streams_over_tls() {
    let any = "127.0.0.1:0";
    // A listener is known by its address as it is written.
    let (plain, admin) = ("127.0.0.2:0", any);
    let mut demo = Running::start(&["demo", "--listen", any, "--plain", plain, "--admin", admin]);
    let line = demo.line(|line| line.starts_with("curl "));
    assert!(line.contains("https://") && line.contains("--cacert"), "{line}");
    let streamed = shell(&line);
    assert_eq!(streamed.code, Some(0), "curl must be installed for this test; {}", streamed.err);
    assert!(
        streamed.out.starts_with("data: {") && streamed.out.ends_with("data: [DONE]\n\n"),
        "{}",
        streamed.out
    );
    let authority = line.split_whitespace().skip_while(|word| *word != "--cacert").nth(1).unwrap();
    assert!(fs::exists(authority).unwrap());
    demo.terminate();
    assert_eq!(demo.ended().0, Some(0));
    assert!(!fs::exists(authority).unwrap(), "its folder is gone with it");
}

#[tokio::test]
async fn the_simulator_answers_alone() {
    let mut simulator =
        Running::start(&["simulate", "--listen", "127.0.0.1:0", "--require-key", UPSTREAM_KEY]);
    let line = simulator.line(|line| line.contains("http://"));
    let address = line.rsplit_once("http://").unwrap().1.parse().unwrap();
    for http in crate::harness::BOTH {
        let asked = request(address, http, "GET", "/v1/models").body(whole("")).unwrap();
        assert_eq!(send(address, http, asked).await.status, 401);
        let asked = request(address, http, "GET", "/v1/models").header("x-api-key", UPSTREAM_KEY);
        let answer = send(address, http, asked.body(whole("")).unwrap()).await;
        assert_eq!(answer.json()["object"], "list");
    }
}
