//! No key is in a span, and the collector's own key is nowhere else.

use serde_json::Value;
use sluicegate::{app::Ended, simulator::Script};

use super::{Receiver, ask, exporting};
use crate::{
    cli::process::{BINARY, Running, command},
    faults::rig::refusing,
    folder::Folder,
    harness::{CLIENT_KEY, Gateway, GatewayToml, Http, UPSTREAM_KEY, post, request, send, simulator, whole},
};

const TOKEN: &str = "collector-token-0123456789abcdef";

/// The receiver fails the test if it finds a key anywhere in a request.
#[tokio::test]
async fn keys_that_come_where_they_should_not_are_in_no_span() {
    let mut receiver = Receiver::start(&["0123456789abcdefABCDEF"]);
    let upstream = simulator().await;
    let gateway = Gateway::start(&exporting(&upstream.url(), &receiver.url, ""));
    let address = gateway.address();
    let at = |path: &str| post(address, Http::One, path).body(whole(super::prompt())).unwrap();
    // In the path, and in the names of the trace.
    send(address, Http::One, at(&format!("/v1/{CLIENT_KEY}"))).await;
    send(address, Http::One, at(&format!("/v1/{UPSTREAM_KEY}"))).await;
    ask(&gateway, &[("x-trace-id", CLIENT_KEY)]).await;
    ask(&gateway, &[("x-request-id", CLIENT_KEY)]).await;
    let method = request(address, Http::One, CLIENT_KEY, "/v1/models")
        .header("authorization", format!("Bearer {CLIENT_KEY}"));
    send(address, Http::One, method.body(whole("")).unwrap()).await;
    // In an error of the upstream.
    upstream.queue(Script::new(refusing(400, UPSTREAM_KEY, &[])));
    let answer = ask(&gateway, &[]).await;
    gateway.log.line_of(&answer).await;
    gateway.finished(6).await;
    assert_eq!(gateway.stop().await, Ended::Drained);
    assert!(receiver.spans().iter().filter(|span| span.is_root()).count() >= 6);
}

#[tokio::test]
async fn the_collectors_key_is_sent_to_it_and_shown_to_nobody() {
    let mut receiver = Receiver::start(&[]);
    let upstream = simulator().await;
    let folder = Folder::new();
    let token = folder.write("token", &format!("Bearer {TOKEN}"));
    let otlp = format!(
        "[otlp]\nendpoint = {:?}\nheaders = {{ authorization = {{ file = {token:?} }}, x-plain = \"plain\" }}",
        receiver.url
    );
    let toml = GatewayToml::before(&upstream.url(), "retry = \"off\"").admin().more(otlp);
    let gateway = Gateway::start(&toml);
    // An upstream that repeats it: the error is withheld as for an upstream's key.
    upstream.queue(Script::new(refusing(400, TOKEN, &[])));
    let answer = ask(&gateway, &[]).await;
    assert!(!answer.text().contains(TOKEN), "{}", answer.text());
    gateway.log.line_of(&answer).await;
    let admin = gateway.admin.unwrap();
    for path in ["/config", "/status", "/metrics"] {
        let page =
            send(admin, Http::One, request(admin, Http::One, "GET", path).body(whole("")).unwrap()).await;
        assert!(page.status == 200 && !page.text().contains(TOKEN), "{path}");
        if path == "/config" {
            let shown: Value = serde_json::from_str(page.text()).unwrap();
            assert_eq!(shown["config"]["otlp"]["headers"]["authorization"]["file"], token);
            assert_eq!(shown["config"]["otlp"]["headers"]["x-plain"], "plain");
        }
    }
    assert!(!gateway.log.text().contains(TOKEN));
    assert_eq!(gateway.stop().await, Ended::Drained);
    let received = receiver.next();
    assert_eq!(received.get("headers")["authorization"], format!("Bearer {TOKEN}"));
    assert_eq!(received.get("headers")["x-plain"], "plain");
}

/// The variables count where a key is not written, and only with the table.
#[tokio::test]
async fn the_binary_takes_the_usual_variables() {
    let mut receiver = Receiver::start(&[]);
    let upstream = simulator().await;
    let folder = Folder::new();
    let run = |otlp: &str| {
        let toml = GatewayToml::before(&upstream.url(), "retry = \"off\"").admin().more(otlp).to_string();
        let file = folder.write("gateway.toml", &toml);
        Running::of(
            command(BINARY)
                .args(["serve", "--config", &file])
                .env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", format!("{}/traces/here", receiver.url))
                .env("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic%20YWJjZGVmZ2g6c2VjcmV0,x-team=blue")
                .env("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
                .env("OTEL_SERVICE_NAME", "llm-gateway")
                .env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
        )
    };
    for otlp in ["", "[otlp]\nsample = 1"] {
        let mut gateway = run(otlp);
        let address = gateway.address();
        let request = post(address, Http::One, "/v1/chat/completions").body(whole(super::prompt())).unwrap();
        assert_eq!(send(address, Http::One, request).await.status, 200);
        gateway.line(|line| line.contains("\"kind\":\"access\""));
        gateway.terminate();
        assert_eq!(gateway.ended().0, Some(0));
    }
    let received = receiver.next();
    assert_eq!(received.get("path"), "/traces/here", "the first run has sent nothing");
    assert_eq!(received.get("headers")["authorization"], "Basic YWJjZGVmZ2g6c2VjcmV0");
    assert_eq!(received.get("headers")["x-team"], "blue");
    assert_eq!(received.get("headers")["content-encoding"], Value::Null);
    assert_eq!(received.get("resource")["service.name"], "llm-gateway");
    assert_eq!(received.get("resource")["deployment.environment.name"], "test");
}

/// Its state is logged when it changes, however often it is asked.
#[tokio::test]
async fn a_collector_that_is_away_is_one_line_of_the_log() {
    let upstream = simulator().await;
    let folder = Folder::new();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let otlp = format!("[otlp]\nendpoint = \"http://{closed}\"");
    let toml = GatewayToml::before(&upstream.url(), "retry = \"off\"").more(otlp).to_string();
    let mut gateway = Running::start(&["serve", "--config", &folder.write("gateway.toml", &toml)]);
    let address = gateway.address();
    // More than one batch.
    for _ in 0..300 {
        let request = post(address, Http::One, "/v1/chat/completions").body(whole(super::prompt())).unwrap();
        assert_eq!(send(address, Http::One, request).await.status, 200);
    }
    gateway.terminate();
    let (code, lines) = gateway.ended();
    assert_eq!(code, Some(0));
    let told: Vec<&String> = lines.iter().filter(|line| line.contains("OTLP export of traces")).collect();
    let [line] = told.as_slice() else { panic!("{told:#?}") };
    assert!(line.contains("\"level\":\"warn\"") && line.contains("Connection refused"), "{line}");
}
