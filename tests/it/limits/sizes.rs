//! What is reserved for a request: by its text, by what it has attached, and also where its model cannot be read.

use std::net::SocketAddr;

use http::StatusCode;
use sluicegate::{
    exchange::now,
    simulator::{Gate, Head, Script, Simulator, Step},
};
use tokio::task::JoinHandle;

use super::super::{
    faults::rig::until,
    harness::{Answer, Client, Gateway, GatewayToml, Http, post, safely, simulator, whole},
};

/// A gateway whose limit counts the tokens of all requests, and refuses none.
fn counting(upstream: &Simulator) -> Gateway {
    let toml = GatewayToml::before(&upstream.url(), "")
        .defaults("limits = [\"all\"]")
        .more("[limit.all]\neach = \"gateway\"\ntokens = 1_000_000_000\nper = \"month\"");
    Gateway::start(&toml)
}

/// The tokens that count as used.
fn used(gateway: &Gateway) -> u64 {
    let snapshot = gateway.inside().live.load();
    let of_unit = |view: sluicegate::snapshot::LimitView<'_>| {
        view.subjects().flat_map(|subject| subject.units(now())).map(|unit| unit.left.used).sum::<u64>()
    };
    snapshot.limits.views().map(of_unit).sum()
}

fn ask(address: SocketAddr, content_type: &'static str, body: String) -> JoinHandle<Answer> {
    tokio::spawn(async move {
        let mut client = Client::connect(address, Http::One).await;
        let mut request = post(address, Http::One, "/v1/chat/completions").body(whole(body)).unwrap();
        request.headers_mut().insert("content-type", content_type.parse().unwrap());
        safely(client.ask(request)).await
    })
}

/// A response with these members more, when the gate is open.
fn gated(gate: &Gate, more: &str) -> Script {
    let body = format!(
        r#"{{"id":"c","object":"chat.completion","choices":[{{"index":0,"message":{{"role":"assistant","content":"Hi"}},"finish_reason":"stop"}}]{more}}}"#
    );
    let head = Head::json(StatusCode::OK, body.len());
    Script::new(vec![Step::Gate(gate.clone()), Step::Head(head), Step::Send(body.into())])
}

fn chat_of(parts: &str) -> String {
    format!(r#"{{"model":"gpt","messages":[{{"role":"user","content":{parts}}}]}}"#)
}

#[tokio::test]
async fn an_image_is_not_estimated_by_its_bytes_nor_is_text_by_images() {
    let upstream = simulator().await;
    let gateway = counting(&upstream);
    let image = "iVBORw0K".repeat(1 << 17);
    let with_image = chat_of(&format!(
        r#"[{{"type":"text","text":"What is it?"}},{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{image}"}}}}]"#
    ));
    for _ in 0..5 {
        let gate = Gate::new();
        upstream.queue(gated(
            &gate,
            r#","usage":{"prompt_tokens":780,"completion_tokens":20,"total_tokens":800}"#,
        ));
        let before = used(&gateway);
        let answer = ask(gateway.address(), "application/json", with_image.clone());
        until(|| used(&gateway) > before).await;
        let reserved = used(&gateway) - before;
        assert!((1_000..2_000).contains(&reserved), "{reserved} tokens for 1 MiB");
        gate.open();
        assert_eq!(answer.await.unwrap().status, StatusCode::OK);
        until(|| used(&gateway) == before + 800).await;
    }
    let gate = Gate::new();
    upstream.queue(gated(&gate, ""));
    let before = used(&gateway);
    let text = ask(gateway.address(), "application/json", chat_of(&format!("{:?}", "word ".repeat(8_000))));
    until(|| used(&gateway) > before).await;
    let reserved = used(&gateway) - before;
    assert!((10_000..10_500).contains(&reserved), "{reserved} tokens for 40,000 bytes of text");
    gate.open();
    assert_eq!(text.await.unwrap().status, StatusCode::OK);
    gateway.finish(6).await;
}

#[tokio::test]
async fn a_request_whose_model_cannot_be_read_is_not_free() {
    let text = "word ".repeat(8_000);
    let nameless = format!(r#"{{"messages":[{{"role":"user","content":"{text}"}}]}}"#);
    // The second is not read: its type is not that of JSON.
    for (content_type, body) in
        [("application/json", nameless), ("text/plain", chat_of(&format!("{text:?}")))]
    {
        let upstream = simulator().await;
        let gateway = counting(&upstream);
        let gate = Gate::new();
        upstream.queue(gated(&gate, ""));
        let answer = ask(gateway.address(), content_type, body);
        until(|| used(&gateway) > 0).await;
        let reserved = used(&gateway);
        assert!((10_000..10_500).contains(&reserved), "{content_type}: {reserved}");
        gate.open();
        assert_eq!(answer.await.unwrap().status, StatusCode::OK);
        gateway.finished(1).await;
        // Nobody has reported what it used.
        let charged = used(&gateway);
        assert!((10_000..10_300).contains(&charged), "{content_type}: {charged}");
        gateway.finish(1).await;
    }
}
