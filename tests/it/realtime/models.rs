//! The model of a session: read, checked and replaced where it stands.

use http::StatusCode;
use sluicegate::simulator::Simulator;

use super::rig::{answer, in_seconds, plain, secret};
use crate::harness::{Answer, BOTH, Gateway, GatewayToml, authorised, post, send, whole};

const FORM: &str = "multipart/form-data; boundary=b";

async fn asked(gateway: &Gateway, upstream: &Simulator, path: &str, body: &str) -> Answer {
    let created = secret("ek_0123456789abcdef", in_seconds(60)).to_string();
    upstream.queue(answer(StatusCode::CREATED, created.as_bytes()));
    let request = if body.starts_with("--b") {
        authorised(gateway.address(), BOTH[0], "POST", path).header("content-type", FORM)
    } else {
        post(gateway.address(), BOTH[0], path)
    };
    let answer = send(gateway.address(), BOTH[0], request.body(whole(body.to_owned())).unwrap()).await;
    if answer.status != 201 {
        upstream.reset();
    }
    answer
}

fn form(model: &str) -> String {
    format!(
        "--b\r\nContent-Disposition: form-data; name=\"sdp\"\r\n\r\nv=0\r\n--b\r\n\
         Content-Disposition: form-data; name=\"session\"\r\n\r\n{{\"type\":\"realtime\", \"model\" : \"{model}\"}}\r\n--b--\r\n"
    )
}

/// The path and the body of each operation that makes a session.
fn sessions(model: &str) -> [(&'static str, String); 5] {
    [
        (
            "/v1/realtime/client_secrets",
            format!("{{\"session\": {{\"type\":\"realtime\",\"model\" : \"{model}\"}} ,\"x\":1}}"),
        ),
        ("/v1/realtime/translations/client_secrets", format!("{{\"session\":{{\"model\":\"{model}\"}}}}")),
        ("/v1/realtime/sessions", format!("{{\"model\":\"{model}\",\"voice\":\"a\"}}")),
        (
            "/v1/realtime/transcription_sessions",
            format!("{{\"input_audio_transcription\":{{\"model\":\"{model}\"}}}}"),
        ),
        ("/v1/realtime/calls", form(model)),
    ]
}

#[tokio::test]
async fn an_alias_of_a_table_and_a_model_of_a_step_reach_the_session() {
    let upstream = plain().await;
    let toml = GatewayToml::new()
        .upstream("main", &upstream.url(), "")
        .route("model_tables = \"only\"")
        .more("[model.gpt-realtime]\nupstreams = [{ upstream = \"main\", model = \"gpt-realtime-2026\" }]\naliases = [\"voice\"]");
    let gateway = Gateway::start(&toml);
    let pairs = sessions("voice").into_iter().zip(sessions("gpt-realtime-2026"));
    for (number, ((path, body), (_, expected))) in pairs.enumerate() {
        let answer = asked(&gateway, &upstream, path, &body).await;
        assert_eq!(answer.status, 201, "{path}: {answer:?}");
        let record = upstream.records().pop().unwrap();
        assert_eq!(String::from_utf8_lossy(&record.body), expected);
        assert_eq!(gateway.log.line(number + 1).await["model"], "voice");
    }
    for (path, body) in sessions("another") {
        let answer = asked(&gateway, &upstream, path, &body).await;
        assert_eq!((answer.status.as_u16(), &*answer.code()), (404, "model_not_found"), "{path}");
    }
}

#[tokio::test]
async fn a_client_that_is_limited_to_some_models_is_checked_by_all_of_a_session() {
    let upstream = plain().await;
    let toml = GatewayToml::new()
        .upstream("main", &upstream.url(), "")
        .client("models = [\"gpt-realtime*\", \"gpt-4o-transcribe\"]");
    let gateway = Gateway::start(&toml);
    for (path, body) in sessions("gpt-realtime") {
        assert_eq!(asked(&gateway, &upstream, path, &body).await.status, 201, "{path}");
    }
    for (path, body) in sessions("o3") {
        assert_eq!(asked(&gateway, &upstream, path, &body).await.code(), "model_not_allowed", "{path}");
    }
    let path = "/v1/realtime/client_secrets";
    let with = |transcription: &str| {
        format!(
            "{{\"session\":{{\"model\":\"gpt-realtime\",\"audio\":{{\"input\":{{\"transcription\":{{\"model\":\"{transcription}\"}}}}}}}}}}"
        )
    };
    assert_eq!(asked(&gateway, &upstream, path, &with("gpt-4o-transcribe")).await.status, 201);
    assert_eq!(asked(&gateway, &upstream, path, &with("whisper-1")).await.code(), "model_not_allowed");
    assert_eq!(asked(&gateway, &upstream, path, "{\"session\":{}}").await.code(), "model_required");
    let twice = "{\"model\":\"gpt-realtime\",\"session\":{\"model\":\"gpt-realtime\"}}";
    assert_eq!(asked(&gateway, &upstream, path, twice).await.code(), "invalid_body");
}
