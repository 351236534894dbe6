//! Whoever reads the log stops reading.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
};

use sluicegate::simulator::{Gate, Head, Script, Step};

use crate::{
    cli::process::{BINARY, command, listening},
    harness::{Answer, CHAT, Client, Http, authorised, chat, post, safely, simulator, take, whole},
    metrics::scrape::Scrape,
    reload::edits::Files,
    tls::pki::Authority,
};

const EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n";
const REST: &str = "data: [DONE]\n\n";

/// A line of the log is about this long when the path is.
const LONG_PATH: usize = 1000;

/// Gone when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn streams_go_on_and_lines_are_counted_when_nobody_reads_stdout() {
    let upstream = simulator().await;
    let files = Files::new(&upstream.url(), &Authority::new());
    let mut serve = command(BINARY);
    serve.arg("serve").arg("--config").arg(files.path()).stdout(Stdio::piped());
    let mut gateway = Killed(serve.spawn().unwrap());
    let mut out = BufReader::new(gateway.0.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("\"message\":\"serving\"") {
        line.clear();
        out.read_line(&mut line).unwrap();
    }
    let (listeners, admin) = listening(&line);
    let (address, admin) = (listeners[0], admin.unwrap());

    let gate = Gate::new();
    let begun = vec![Step::Head(Head::event_stream()), Step::Send(EVENT.into()), Step::Gate(gate.clone())];
    upstream.queue(Script::new(begun.into_iter().chain([Step::Send(REST.into())]).collect()));
    let mut client = Client::connect(address, Http::One).await;
    let request = post(address, Http::One, "/v1/chat/completions").body(whole(CHAT)).unwrap();
    let mut response = safely(client.send(request)).await.unwrap();
    take(response.body_mut(), EVENT.len()).await;

    // The pipe, and the queue in front of it, fill up.
    let mut asking = Client::connect(address, Http::One).await;
    let path = format!("/nowhere/{}", "x".repeat(LONG_PATH));
    let dropped = async || Scrape::of(admin, "").await.sum("sluicegate_log_lines_dropped_total", &[]);
    let mut asked = 0;
    while dropped().await == 0.0 {
        assert!(asked < 100_000, "the log takes lines without end");
        for _ in 0..500 {
            let request = authorised(address, Http::One, "GET", &path).body(whole("")).unwrap();
            assert_eq!(asking.ask(request).await.status, 404);
            asked += 1;
        }
    }
    gate.open();
    let answer = safely(Answer::read(response)).await;
    assert!(answer.whole && answer.text() == REST, "{answer:?}");
    assert!(chat(address, Http::Two).await.whole);

    // When it is read again, it says how many are missing.
    let told = tokio::task::spawn_blocking(move || {
        let lines =
            out.lines().map(|line| serde_json::from_str::<serde_json::Value>(&line.unwrap()).unwrap());
        lines.into_iter().find_map(|line| line["dropped"].as_u64()).unwrap()
    });
    let told = safely(told).await.unwrap();
    assert!(told > 0);
    assert!(dropped().await >= told as f64);
}
