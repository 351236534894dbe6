//! Stopping, and being replaced, under load.

use std::net::{SocketAddr, TcpListener};

use sluicegate::simulator::{Gate, Head, Options, Script, Simulator, Step};

use super::storm::Storm;
use crate::{
    cli::process::{BINARY, Running, command, shell},
    folder::Folder,
    harness::{Answer, BOTH, CHAT, Client, UPSTREAM_KEY, post, safely, take, whole},
    reload::edits::Files,
    tls::pki::Authority,
};

const EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n";
const REST: &str = "data: [DONE]\n\n";

/// Callers at once, on two workers.
const CALLERS: usize = 24;

/// On a thread of its own: these tests wait for threads.
fn upstream() -> Simulator {
    let options = Options { require_key: Some(UPSTREAM_KEY.to_owned()), ..Options::default() };
    Simulator::spawn_threads(&options, 1).unwrap()
}

/// Processes, one after the other, on one socket.
const GENERATIONS: usize = 3;

/// A stream in flight, which goes on when its gate is opened.
struct InFlight {
    gate: Gate,
    response: http::Response<hyper::body::Incoming>,
    client: Client,
}

impl InFlight {
    async fn begin(upstream: &Simulator, address: SocketAddr, number: usize) -> Self {
        let gate = Gate::new();
        let id = format!("in-flight-{number}");
        let steps = vec![
            Step::Head(Head::event_stream()),
            Step::Send(EVENT.into()),
            Step::Gate(gate.clone()),
            Step::Send(REST.into()),
        ];
        upstream.queue_for(&id, Script::new(steps));
        let http = BOTH[number % 2];
        let mut client = Client::connect(address, http).await;
        let request = post(address, http, "/v1/chat/completions").header("x-simulate-id", id);
        let mut response = safely(client.send(request.body(whole(CHAT)).unwrap())).await.unwrap();
        take(response.body_mut(), EVENT.len()).await;
        Self { gate, response, client }
    }

    async fn ends_whole(self) {
        self.gate.open();
        let answer = safely(Answer::read(self.response)).await;
        assert!(answer.whole && answer.text() == REST, "{answer:?}");
        // These tests block: its connection would not be closed by itself.
        self.client.leave().await;
    }
}

#[tokio::test]
async fn sigterm_under_load_cuts_and_resets_nobody() {
    let upstream = upstream();
    let files = Files::new(&upstream.url(), &Authority::new());
    let mut gateway = Running::start(&["serve", "--config", files.path().to_str().unwrap()]);
    let address = gateway.address();
    let mut in_flight = Vec::new();
    for number in 0..20 {
        in_flight.push(InFlight::begin(&upstream, address, number).await);
    }
    let storm = Storm::new(address, CALLERS, true);
    storm.wait_for(100);
    gateway.terminate();
    // Each of them was answered until it was refused: the listening socket is closed.
    let answered = storm.over();
    for stream in in_flight {
        stream.ends_whole().await;
    }
    let (code, rest) = gateway.ended();
    assert_eq!(code, Some(0), "{rest:#?}");
    let lines = rest.iter().filter(|line| line.contains("\"kind\":\"access\"")).count();
    assert_eq!(lines, answered + 20);
}

/// The shell stands for systemd: it keeps the socket, and starts the next process when one has ended.
#[tokio::test]
async fn a_restart_by_socket_activation_refuses_and_cuts_nobody() {
    let upstream = upstream();
    let files = Files::new(&upstream.url(), &Authority::new());
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = Folder::new();
    let text = files.text(0, "").replacen("127.0.0.1:0", &address.to_string(), 1);
    std::fs::write(files.path(), text).unwrap();
    let script = folder.write(
        "generations",
        "for generation in 1 2 3; do sh -c 'echo \"pid $$\"; LISTEN_PID=$$ exec \"$@\"' sh \"$@\"; echo \"ended $?\"; done",
    );
    let mut systemd = command("sh");
    systemd.args(["-c", "exec systemd-socket-activate \"$@\" 2>&1", "sh"]);
    systemd.args(["--listen", &address.to_string(), "--setenv", "UPSTREAM_KEY", "sh", &script]);
    systemd.args([BINARY, "serve", "--config", files.path().to_str().unwrap()]);
    let mut systemd = Running::of(&mut systemd);
    systemd.line(|line| line.starts_with("Listening on "));
    let mut storm = Some(Storm::new(address, CALLERS, false));
    for generation in 1..=GENERATIONS {
        let pid = systemd.line(|line| line.starts_with("pid "))[4..].to_owned();
        let serving = systemd.line(|line| line.contains("\"message\":\"serving\""));
        assert!(serving.contains(&address.to_string()), "it takes the socket that is there: {serving}");
        storm.as_ref().unwrap().wait_for(100);
        let stream = InFlight::begin(&upstream, address, generation).await;
        if generation == GENERATIONS {
            // After this one nobody holds the socket any more.
            assert!(storm.take().unwrap().end() >= GENERATIONS * 100);
        }
        assert_eq!(shell(&format!("kill -TERM {pid}")).code, Some(0));
        systemd.line(|line| line.contains("\"message\":\"drain started\""));
        stream.ends_whole().await;
        systemd.line(|line| line == "ended 0");
    }
}
