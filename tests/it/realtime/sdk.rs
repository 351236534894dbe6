//! The official SDKs with ephemeral keys, and with the results of a batch.

use http::StatusCode;
use serde_json::{Value, json};
use sluicegate::simulator::{Head, Record, Script, Step};

use super::rig::{Rig, SECRET, answer, in_seconds, secret};
use crate::{
    harness::{CLIENT_KEY, UPSTREAM_KEY},
    sdk::packages,
};

#[tokio::test]
async fn openai_python_and_anthropic_see_what_they_would_see_at_the_provider() {
    let rig = Rig::new("").await;
    let results = "https://api.anthropic.com/v1/messages/batches/msgbatch_1/results";
    let counts = json!({"canceled": 0, "errored": 0, "expired": 0, "processing": 0, "succeeded": 1});
    let batch = json!({
        "id": "msgbatch_1", "type": "message_batch", "results_url": results, "request_counts": counts,
        "processing_status": "ended", "created_at": "2026-01-01T00:00:00Z", "expires_at": "2026-01-02T00:00:00Z",
    });
    let line = json!({"custom_id": "first", "result": {"type": "canceled"}});
    let mut created = Head::json(StatusCode::CREATED, 5);
    created.headers.insert("location", "/v1/realtime/calls/rtc_7".parse().unwrap());
    for script in [
        answer(StatusCode::OK, secret(SECRET, in_seconds(600)).to_string().as_bytes()),
        answer(StatusCode::OK, secret(SECRET, in_seconds(-1)).to_string().as_bytes()),
        Script::new(vec![Step::Head(created), Step::Send("v=0\r\n".into())]),
        answer(StatusCode::OK, b"{}"),
    ] {
        rig.upstream.queue(script);
    }
    let address = format!("http://{}", rig.gateway.address());
    let mut script = packages::python("ephemeral.py");
    script.args([&address, CLIENT_KEY]);
    let running = tokio::task::spawn_blocking(move || script.output().unwrap());
    // The WebSocket connection is the fifth request; what comes behind it is queued once it is there.
    let is_connection = |record: &Record| record.target.starts_with("/v1/realtime?");
    rig.upstream.wait_for(|records| records.iter().any(is_connection).then_some(())).await;
    rig.upstream.queue(answer(StatusCode::OK, batch.to_string().as_bytes()));
    rig.upstream.queue(answer(StatusCode::OK, format!("{line}\n").as_bytes()));
    let output = running.await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let seen: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        seen,
        json!({
            "prefixes": ["ek_sg_", "ek_sg_"],
            "location": "/v1/realtime/calls/rtc_7",
            "connected": "session.created",
            "expired": ["InvalidStatus", 401, "ephemeral_key_expired"],
            "call": ["AuthenticationError", "ephemeral_key_expired"],
            "altered": ["AuthenticationError", "invalid_ephemeral_key"],
            "foreign": ["AuthenticationError", "invalid_ephemeral_key"],
            "misused": ["PermissionDeniedError", "ephemeral_key_not_allowed"],
            "results": ["first"],
        })
    );
    let sent: Vec<_> = rig.upstream.records().into_iter().collect();
    let keys = |record: &Record| record.headers["authorization"].to_str().unwrap().to_owned();
    let (own, theirs) = (format!("Bearer {UPSTREAM_KEY}"), format!("Bearer {SECRET}"));
    let expected = [&own, &own, &theirs, &theirs, &theirs, &own, &own];
    assert_eq!(sent.iter().map(keys).collect::<Vec<_>>(), expected.map(String::clone));
    assert_eq!(rig.spare.records().len(), 0);
}
