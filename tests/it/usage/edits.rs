//! The request for the usage beside other edits of a request, and in bodies and paths of other forms.

use http::StatusCode;
use sluicegate::simulator::{Head, Script, Step};

use super::{CONTENT, DONE, FINISH, USAGE, stream_of};
use crate::harness::{BOTH, CHAT, Client, Gateway, GatewayToml, Http, post, simulator, whole};

const ASKS: &str = r#""stream_options":{"include_usage":true},"#;

fn answer() -> Script {
    stream_of([CONTENT, FINISH, USAGE, DONE].map(str::as_bytes))
}

/// Each candidate gets the edits that are meant for it, from the same body.
#[tokio::test]
async fn another_model_and_the_usage_in_one_request_by_candidate() {
    for http in BOTH {
        let upstream = simulator().await;
        for _ in 0..2 {
            let head = Head::json(StatusCode::SERVICE_UNAVAILABLE, 2);
            upstream.queue(Script::new(vec![Step::Head(head), Step::Send("{}".into())]));
        }
        upstream.queue(answer());
        let toml = GatewayToml::new()
            .upstream("plain", &upstream.url(), "")
            .upstream("marked", &upstream.url(), "include_usage = \"refuses\"")
            .listener("h2c = true")
            .route_to(r#"upstreams = ["plain", { upstream = "marked", model = "second" }, { upstream = "plain", model = "third" }]"#)
            .route("usage = \"always\"");
        let gateway = Gateway::start(&toml);
        let given = super::ask(&gateway, http, CHAT).await;
        assert_eq!(given.text(), [CONTENT, FINISH, DONE].concat());
        let sent: Vec<_> = upstream
            .records()
            .iter()
            .map(|record| String::from_utf8(record.body.to_vec()).unwrap())
            .collect();
        let asking = CHAT.replacen('{', &format!("{{{ASKS}"), 1);
        let model = |body: &str, model: &str| body.replace("gpt-4o-mini", model);
        assert_eq!(sent, [asking.clone(), model(CHAT, "second"), model(&asking, "third")]);
        for record in upstream.records() {
            assert_eq!(record.headers["content-length"], record.body.len().to_string());
        }
        gateway.finish(1).await;
    }
}

#[tokio::test]
async fn a_body_that_is_compressed_is_sent_without_its_coding() {
    use std::io::Write as _;

    let upstream = simulator().await;
    upstream.queue(answer());
    let gateway = super::gateway_before(&upstream, "");
    let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    coder.write_all(CHAT.as_bytes()).unwrap();
    let address = gateway.address();
    let request = post(address, Http::One, "/v1/chat/completions")
        .header("content-encoding", "gzip")
        .body(whole(coder.finish().unwrap()))
        .unwrap();
    let given = Client::connect(address, Http::One).await.ask(request).await;
    assert_eq!(given.text(), [CONTENT, FINISH, DONE].concat());
    let sent = upstream.record(1).await;
    assert!(!sent.headers.contains_key("content-encoding"));
    assert_eq!(String::from_utf8_lossy(&sent.body), CHAT.replacen('{', &format!("{{{ASKS}"), 1));
    assert_eq!(gateway.log.line_of(&given).await["tokens_out"], 5);
    gateway.finish(1).await;
}

/// A coding that the gateway cannot read: the request passes as it is, and so does its response.
#[tokio::test]
async fn a_body_that_cannot_be_read_asks_for_nothing() {
    let upstream = simulator().await;
    upstream.queue(answer());
    let gateway = super::gateway_before(&upstream, "");
    let address = gateway.address();
    let body = b"\x0b\x02\x80{}\x03".as_slice();
    let request = post(address, Http::One, "/v1/chat/completions")
        .header("content-encoding", "br")
        .body(whole(body))
        .unwrap();
    let given = Client::connect(address, Http::One).await.ask(request).await;
    assert_eq!(given.text(), [CONTENT, FINISH, USAGE, DONE].concat());
    assert_eq!(upstream.record(1).await.body, body);
    gateway.finish(1).await;
}

#[tokio::test]
async fn deployments_of_azure() {
    let upstream = simulator().await;
    upstream.queue(answer());
    upstream.queue(answer());
    let azure = "azure = { api_version = \"2024-10-21\", deployment = \"model\" }";
    let toml = GatewayToml::before(&upstream.url(), azure)
        .route("usage = \"always\"")
        .more("[route.azure]\npath = \"/openai\"\nupstreams = [\"sim\"]\nusage = \"always\"");
    let gateway = Gateway::start(&toml);
    for path in
        ["/v1/chat/completions", "/openai/deployments/gpt-4o-mini/chat/completions?api-version=2024-10-21"]
    {
        let given = super::ask_at(&gateway, Http::One, path, CHAT).await;
        assert_eq!(given.text(), [CONTENT, FINISH, DONE].concat(), "{path}");
    }
    for record in upstream.records() {
        assert_eq!(record.target, "/openai/deployments/gpt-4o-mini/chat/completions?api-version=2024-10-21");
        assert!(record.body.starts_with(format!("{{{ASKS}").as_bytes()), "{record:?}");
    }
    gateway.finish(2).await;
}
