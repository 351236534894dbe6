//! The configuration changes while the gateway works.

pub mod edits;

use std::net::SocketAddr;

use bytes::Bytes;
use serde_json::Value;
use sluicegate::simulator::{Gate, Head, Script, Simulator, Step};
use tokio::task::JoinSet;

use crate::{
    cli::process::Running,
    harness::{Answer, CHAT, Client, Http, chat, post, request, safely, send, simulator, take, whole},
    metrics::scrape::Scrape,
    tls::pki::{Authority, Trust},
};
use edits::{Files, WAYS, Way};

const STREAMS: usize = 200;
const EDITS: usize = 50;

/// The binary, serving a file.
struct Serving {
    process: Running,
    plain: SocketAddr,
    tls: SocketAddr,
    admin: SocketAddr,
}

impl Serving {
    fn start(files: &Files) -> Self {
        let file = files.path();
        let mut process = Running::start(&["serve", "--config", file.to_str().unwrap()]);
        let (listeners, admin) = process.addresses();
        Self { process, plain: listeners[0], tls: listeners[1], admin: admin.unwrap() }
    }

    async fn status(&self) -> Value {
        let request = request(self.admin, Http::One, "GET", "/status").body(whole("")).unwrap();
        send(self.admin, Http::One, request).await.json()
    }

    /// Asks for the status until it is as wanted.
    async fn status_when(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        safely(async {
            loop {
                let status = self.status().await;
                if wanted(&status) {
                    return status;
                }
            }
        })
        .await
    }

    /// The number of the configuration that a new request meets.
    async fn number(&self) -> usize {
        let answer = chat(self.plain, Http::One).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.headers["x-number"].to_str().unwrap().parse().unwrap()
    }
}

fn generation(status: &Value) -> usize {
    usize::try_from(status["generation"].as_u64().unwrap()).unwrap()
}

fn event(stream: usize, number: usize) -> String {
    format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{stream}.{number} 🦀\"}}}}]}}\n\n")
}

/// One event for each edit, let go by the stream's gate.
fn script(stream: usize, gate: &Gate) -> Script {
    let mut steps = vec![Step::Head(Head::event_stream()), Step::Send(event(stream, 0).into())];
    for number in 1..=EDITS {
        steps.extend([Step::Gate(gate.clone()), Step::Send(event(stream, number).into())]);
    }
    steps.push(Step::Send(Bytes::from_static(b"data: [DONE]\n\n")));
    Script::new(steps)
}

/// What is left to read once a stream has begun.
fn rest(stream: usize) -> String {
    (1..=EDITS).map(|number| event(stream, number)).collect::<String>() + "data: [DONE]\n\n"
}

/// Streams that have begun; each ends with its whole answer.
async fn streams(upstream: &Simulator, address: SocketAddr) -> (Vec<Gate>, JoinSet<(usize, Answer)>) {
    let (mut gates, mut reading) = (Vec::new(), JoinSet::new());
    for stream in 0..STREAMS {
        let gate = Gate::new();
        let id = format!("stream-{stream}");
        upstream.queue_for(&id, script(stream, &gate));
        gates.push(gate);
        let http = if stream % 4 == 0 { Http::Two } else { Http::One };
        let mut client = Client::connect(address, http).await;
        let request =
            post(address, http, "/v1/chat/completions").header("x-simulate-id", id).body(whole(CHAT));
        let mut response = safely(client.send(request.unwrap())).await.unwrap();
        take(response.body_mut(), event(stream, 0).len()).await;
        reading.spawn(async move {
            let answer = Answer::read(response).await;
            drop(client);
            (stream, answer)
        });
    }
    (gates, reading)
}

#[tokio::test]
async fn streams_pass_whole_while_everything_changes() {
    let upstream = simulator().await;
    let authority = Authority::new();
    let mut files = Files::new(&upstream.url(), &authority);
    let mut gateway = Serving::start(&files);
    let (gates, mut reading) = streams(&upstream, gateway.plain).await;
    let status = gateway.status().await;
    assert_eq!(status["exchanges"].as_array().unwrap().len(), STREAMS);
    for worker in status["workers"].as_array().unwrap() {
        assert_eq!(worker["exchanges"], STREAMS / 2, "{status:#}");
    }

    let (mut sound, mut last) = (0, 0);
    for edit in 1..=EDITS {
        let way = WAYS[edit / 3 % 3];
        if edit % 3 == 0 {
            let broken = format!("broken-{edit}-edit");
            files.write(&files.text(edit, &format!("[{broken}]")), way);
            let told = |status: &Value| status["last_reload"]["problems"].to_string().contains(&broken);
            let status = gateway.status_when(told).await;
            assert_eq!((generation(&status), &status["last_reload"]["ok"]), (1 + sound, &Value::from(false)));
            assert_eq!(gateway.number().await, last, "a broken file changes nothing");
            let scrape = Scrape::of(gateway.admin, "").await;
            assert_eq!(scrape.sum("sluicegate_config_last_reload_successful", &[]), 0.0, "{}", scrape.text);
            gateway.process.line(|line| line.contains("\"level\":\"error\"") && line.contains(&broken));
        } else {
            files.write(&files.text(edit, ""), way);
            (sound, last) = (sound + 1, edit);
            let status = gateway.status_when(|status| generation(status) == 1 + sound).await;
            assert_eq!(status["last_reload"]["ok"], true);
            assert_eq!(gateway.number().await, edit, "{way:?}");
        }
        gates.iter().for_each(Gate::open);
        if edit == EDITS / 2 {
            rotate(&files, &authority, &gateway, 2 + sound).await;
            sound += 1;
        }
    }

    assert_eq!(generation(&gateway.status().await), 1 + sound);
    let scrape = Scrape::of(gateway.admin, "").await;
    assert_eq!(scrape.sum("sluicegate_config_reloads_total", &["ok"]), sound as f64, "{}", scrape.text);
    // The rotation may have been seen with one of its two files in place.
    assert_eq!(scrape.sum("sluicegate_config_last_reload_successful", &[]), 1.0);
    let refused = scrape.sum("sluicegate_config_reloads_total", &["refused"]);
    assert!((16.0..=17.0).contains(&refused), "{}", scrape.text);
    while let Some(read) = safely(reading.join_next()).await {
        let (stream, answer) = read.unwrap();
        assert_eq!(answer.headers["x-number"], "0", "it keeps the configuration that it began with");
        assert!(answer.whole && answer.text() == rest(stream), "{stream}: {answer:?}");
    }
    gateway.process.terminate();
    let (code, _) = gateway.process.ended();
    assert_eq!(code, Some(0));
}

/// Puts another certificate in place; every worker must show it then.
async fn rotate(files: &Files, authority: &Authority, gateway: &Serving, next: usize) {
    let trust = Trust::of(&[authority]);
    let new = authority.issue(&["gateway.test"]);
    let before = trust.ask(gateway.tls, "gateway.test", &[]).await.unwrap().certificate;
    assert_ne!(before, new.der);
    files.certify(&new);
    gateway.status_when(|status| generation(status) == next && status["last_reload"]["ok"] == true).await;
    // They go to the two workers in turn, which have the same to do.
    for _ in 0..8 {
        assert_eq!(trust.ask(gateway.tls, "gateway.test", &[]).await.unwrap().certificate, new.der);
    }
}

#[tokio::test]
async fn sighup_reloads_and_what_needs_a_restart_is_named() {
    let upstream = simulator().await;
    let mut files = Files::new(&upstream.url(), &Authority::new());
    let gateway = Serving::start(&files);
    gateway.process.signal("HUP");
    let status = gateway.status_when(|status| generation(status) == 2).await;
    assert_eq!(status["awaits_restart"], serde_json::json!([]));
    let text = files.text(1, "").replace("threads = 2", "threads = 3").replace("127.0.0.2:0", "127.0.0.3:0");
    files.write(&text, Way::Rename);
    let status = gateway.status_when(|status| generation(status) == 3).await;
    let awaited =
        ["listener 127.0.0.3:0 added", "listener 127.0.0.2:0 removed", "server.threads from 2 to 3"];
    assert_eq!(status["awaits_restart"], serde_json::json!(awaited));
    assert_eq!(gateway.number().await, 1, "the rest has taken effect");
    // The socket that the file has no more is open still, and answers as it did.
    let trust = Authority::new();
    let refused = Trust::of(&[&trust]).ask(gateway.tls, "gateway.test", &[]).await.unwrap_err();
    assert!(refused.to_string().contains("certificate"), "{refused}");
}
