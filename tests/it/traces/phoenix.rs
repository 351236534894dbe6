//! A real viewer takes the spans and shows them as calls of a model.

use std::{net::TcpListener, process::Stdio, time::Duration};

use serde_json::Value;
use sluicegate::app::Ended;

use super::{ask, exporting};
use crate::{
    cli::process::Running,
    folder::Folder,
    harness::{Gateway, Http, request, safely, send, simulator, whole},
    sdk::packages,
};

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What its API says, as soon as it does.
async fn page(port: u16, path: &str) -> Option<Value> {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    tokio::net::TcpStream::connect(address).await.ok()?;
    let answer =
        send(address, Http::One, request(address, Http::One, "GET", path).body(whole("")).unwrap()).await;
    (answer.status == 200).then(|| serde_json::from_slice(&answer.body).unwrap())
}

async fn wait_for(port: u16, path: &str, is_there: impl Fn(&Value) -> bool) -> Value {
    let waiting = async {
        loop {
            if let Some(found) = page(port, path).await.filter(|found| is_there(found)) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(300), waiting).await.expect("Phoenix answers")
}

#[tokio::test]
#[ignore = "installs a program of 900 MB; .ci/release runs it"]
async fn phoenix_shows_a_request_and_its_attempt_as_a_call_of_a_model() {
    let folder = Folder::new();
    let (port, grpc) = (free_port(), free_port());
    let mut command = packages::phoenix();
    command
        .arg("serve")
        .env("PHOENIX_HOST", "127.0.0.1")
        .env("PHOENIX_PORT", port.to_string())
        .env("PHOENIX_GRPC_PORT", grpc.to_string())
        .env("PHOENIX_TELEMETRY_ENABLED", "false")
        .env("PHOENIX_WORKING_DIR", folder.path("phoenix"))
        .stderr(Stdio::null());
    let _phoenix = Running::of(&mut command);
    wait_for(port, "/v1/projects", |_| true).await;
    let upstream = simulator().await;
    let url = format!("http://127.0.0.1:{port}");
    let gateway = Gateway::start(&exporting(&upstream.url(), &url, "preset = \"phoenix\""));
    let answer = safely(ask(&gateway, &[])).await;
    let line = gateway.log.line_of(&answer).await;
    let snapshot = gateway.inside().live.load_full();
    assert_eq!(gateway.stop().await, Ended::Drained);
    assert_eq!(snapshot.spans.counts().exported.value(), 2);
    let is_whole = |page: &Value| page["data"].as_array().is_some_and(|spans| spans.len() == 2);
    let page = wait_for(port, "/v1/projects/sluicegate/spans", is_whole).await;
    let spans = page["data"].as_array().unwrap();
    let of_kind = |kind: &str| {
        spans.iter().find(|span| span["span_kind"] == kind).unwrap_or_else(|| panic!("{page:#}"))
    };
    let (root, attempt) = (of_kind("CHAIN"), of_kind("LLM"));
    assert_eq!(root["context"]["trace_id"], line["trace_id"], "{page:#}");
    assert_eq!(attempt["parent_id"], root["context"]["span_id"]);
    assert_eq!(attempt["attributes"]["llm.token_count.prompt"], line["tokens_in"], "{page:#}");
    assert_eq!(attempt["attributes"]["llm.token_count.completion"], line["tokens_out"]);
    assert_eq!(attempt["attributes"]["llm.model_name"], line["response_model"]);
    assert_eq!(attempt["events"].as_array().map(Vec::len), Some(4), "{page:#}");
}
