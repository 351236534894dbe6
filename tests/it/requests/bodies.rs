//! Compressed bodies and forms are read for their facts, and go upstream as they came.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use http::Request;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use sluicegate::{
    key_digest::key_digest,
    simulator::{Head, Record, Script, Step, WHOLE},
};

use crate::{
    faults::rig::{QUICK, Rig, refusal},
    harness::{
        BOTH, CLIENT_KEY, Client, Gateway, GatewayToml, Http, Keys, Sent, authorised, body_of, post, safely,
        send, simulator, whole,
    },
};

fn coded(coding: &str, text: &[u8]) -> Vec<u8> {
    if coding == "zstd" {
        return compress_to_vec(text, CompressionLevel::Fastest);
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// Whether exactly this body has reached the upstream; it keeps the beginning and a digest of the whole.
fn came_through(record: &Record, body: &[u8]) -> bool {
    record.body_length == body.len() as u64 && record.body_sha256 == key_digest(body)
}

fn chat(model: &str, filling: usize) -> Vec<u8> {
    let text: String = (0..filling).map(|number| format!("{number:x} ")).collect();
    let messages = format!(r#"[{{"role":"user","content":"{text}"}}]"#);
    format!(r#"{{"stream":true,"messages":{messages},"model":"{model}"}}"#).into_bytes()
}

fn posted(gateway: &Gateway, http: Http, coding: &str, body: Vec<u8>) -> Request<Sent> {
    let request = post(gateway.address(), http, "/v1/chat/completions").header("content-encoding", coding);
    request.body(whole(body)).unwrap()
}

#[tokio::test]
async fn a_compressed_body_is_read_and_goes_on_as_it_came() {
    let upstream = simulator().await;
    let client = r#"models = ["small"]"#;
    let route = r#"body_limit = "1MiB""#;
    let gateway = Gateway::with(&upstream, Http::One, Keys { client, route, ..Keys::default() });
    for (http, coding) in
        [(Http::One, "gzip"), (Http::Two, "zstd"), (Http::One, "zstd"), (Http::Two, "x-gzip")]
    {
        // The larger one is decoded on another thread.
        for filling in [10, 100_000] {
            let body = coded(coding, &chat("small", filling));
            upstream.queue(Script::new(vec![
                Step::ReadBody(WHOLE),
                Step::Head(Head::event_stream()),
                Step::Send("data: [DONE]\n\n".into()),
            ]));
            let answer = send(gateway.address(), http, posted(&gateway, http, coding, body.clone())).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let record = upstream.records().pop().unwrap();
            assert!(came_through(&record, &body), "{coding}");
            assert_eq!(record.headers["content-encoding"], coding);
            let line = gateway.log.line_of(&answer).await;
            assert_eq!((&line["model"], &line["stream"]), (&"small".into(), &true.into()), "{line:#}");
            assert_eq!(line["bytes_in"], body.len(), "{line:#}");
        }
        upstream.reset();
        for (body, status, code) in [
            (coded(coding, &chat("large", 10)), 403, "model_not_allowed"),
            (coded(coding, b"{\"messages\":[]}"), 403, "model_required"),
            (coded(coding, b"not json"), 400, "invalid_body"),
            (b"{\"model\":\"small\"}".to_vec(), 400, "invalid_body"),
            (coded(coding, &chat("small", 300_000)), 413, "request_too_large"),
            (coded(coding, &[chat("small", 1), vec![b' '; 16 << 20]].concat()), 413, "request_too_large"),
        ] {
            let answer = send(gateway.address(), http, posted(&gateway, http, coding, body)).await;
            assert_eq!(
                (answer.status.as_u16(), answer.code().as_str()),
                (status, code),
                "{coding}: {answer:?}"
            );
        }
        assert!(upstream.records().is_empty());
    }
    gateway.holds_nothing().await;
}

#[tokio::test]
async fn a_compressed_body_gets_another_model_without_its_coding() {
    let upstream = simulator().await;
    let toml = GatewayToml::new()
        .listener("h2c = true")
        .upstream("sim", &upstream.url(), "")
        .route_to(r#"upstreams = [{ upstream = "sim", model = "large" }]"#);
    let gateway = Gateway::start(&toml);
    for (http, coding) in [(Http::One, "gzip"), (Http::Two, "zstd")] {
        let answer =
            send(gateway.address(), http, posted(&gateway, http, coding, coded(coding, &chat("small", 10))))
                .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let record = upstream.records().pop().unwrap();
        assert_eq!(record.headers.get("content-encoding"), None);
        assert_eq!(&record.body[..], chat("large", 10));
        assert_eq!(record.headers["content-length"], record.body.len().to_string());
    }
}

/// A form as openai-node sends it: in the order of the caller's object, which often begins with the file.
fn form(model: Option<&str>, file: usize) -> Vec<u8> {
    let mut body =
        b"--form-data-boundary-1\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\n\
        Content-Type: audio/mpeg\r\n\r\n"
            .to_vec();
    body.extend((0..file).map(|at| (at % 251) as u8));
    if let Some(model) = model {
        let field = "\r\n--form-data-boundary-1\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n";
        body.extend_from_slice(format!("{field}{model}").as_bytes());
    }
    body.extend_from_slice(b"\r\n--form-data-boundary-1--\r\n");
    body
}

const FORM: &str = "multipart/form-data; boundary=form-data-boundary-1";

fn form_to(at: std::net::SocketAddr, http: Http, path: &str, body: Sent) -> Request<Sent> {
    authorised(at, http, "POST", path).header("content-type", FORM).body(body).unwrap()
}

#[tokio::test]
async fn a_form_is_read_for_its_model_wherever_that_stands() {
    let upstream = simulator().await;
    let client = r#"models = ["whisper*"]"#;
    let route = r#"body_limit = "1MiB""#;
    let gateway = Gateway::with(&upstream, Http::One, Keys { client, route, ..Keys::default() });
    for http in BOTH {
        let ask = async |path: &str, body: Vec<u8>| {
            let request = form_to(gateway.address(), http, path, whole(body));
            send(gateway.address(), http, request).await
        };
        let body = form(Some("whisper-1"), 100_000);
        let answer = ask("/v1/audio/transcriptions", body.clone()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(came_through(&upstream.records().pop().unwrap(), &body));
        assert_eq!(gateway.log.line_of(&answer).await["model"], "whisper-1");
        for (body, status, code) in [
            (form(Some("gpt-4o-transcribe"), 1000), 403, "model_not_allowed"),
            (form(None, 1000), 403, "model_required"),
            (form(Some("whisper-1"), 1000).repeat(2), 403, "model_required"),
            (form(Some("whisper-1"), 2 << 20), 413, "request_too_large"),
        ] {
            let answer = ask("/v1/images/edits", body).await;
            assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code), "{answer:?}");
        }
        // A file has no model, and is not held: it may be larger than the limit.
        let body = form(None, 2 << 20);
        let answer = ask("/v1/files", body.clone()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let record: Record = upstream.records().pop().unwrap();
        assert!(came_through(&record, &body));
    }
}

#[tokio::test]
async fn a_form_gets_another_model_and_is_sent_again() {
    let route = r#"upstreams = ["main", { upstream = "spare", model = "whisper-large" }]"#;
    let rig = Rig::new(QUICK, "", route).await;
    for (number, http) in BOTH.into_iter().enumerate() {
        for model in [Some("whisper-1"), None] {
            rig.main_answers([refusal(503, "overloaded", &[])]);
            let body = form(model, 5000);
            let address = rig.gateway.address();
            let request = form_to(address, http, "/v1/audio/transcriptions", whole(body.clone()));
            let mut client = Client::connect(address, http).await;
            let answer = safely(client.ask(request)).await;
            assert_eq!(answer.status, 200, "{number}: {answer:?}");
            assert_eq!(&rig.main.records().pop().unwrap().body[..], body);
            let sent = rig.spare.records().pop().unwrap().body;
            let expected = match model {
                Some(_) => form(Some("whisper-large"), 5000),
                None => {
                    let field = "--form-data-boundary-1\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-large\r\n";
                    [field.as_bytes(), &body].concat()
                }
            };
            assert_eq!(sent[..], expected[..]);
        }
    }
    rig.finish(4).await;
}

/// Where nothing depends on the model, a form that may be too large to be held is not read.
#[tokio::test]
async fn a_large_form_is_streamed_where_nothing_depends_on_its_model() {
    let upstream = simulator().await;
    let route = r#"body_limit = "64KiB""#;
    let gateway = Gateway::with(&upstream, Http::One, Keys { route, ..Keys::default() });
    for http in BOTH {
        let body = form(Some("whisper-1"), 200_000);
        let request = form_to(gateway.address(), http, "/v1/audio/transcriptions", whole(body.clone()));
        let answer = send(gateway.address(), http, request).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(came_through(&upstream.records().pop().unwrap(), &body));
        assert_eq!(gateway.log.line_of(&answer).await.get("model"), None);
        // Nor is one of unknown length, which may turn out to be too large.
        let (give, pieces) = body_of();
        let mut client = Client::connect(gateway.address(), http).await;
        let pending =
            client.begin(form_to(gateway.address(), http, "/v1/audio/transcriptions", pieces)).await;
        let sending = async {
            for piece in body.chunks(50_000) {
                give.send(hyper::body::Frame::data(piece.to_vec().into())).await.unwrap();
            }
            drop(give);
        };
        let (answer, ()) = safely(async { tokio::join!(pending, sending) }).await;
        assert_eq!(answer.unwrap().status(), 200);
    }
    assert!(!gateway.log.text().contains(CLIENT_KEY));
}
