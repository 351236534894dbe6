//! Requests that are checked (`validate`): what is refused and how, and what is not.

mod refused;
mod sound;

use bytes::Bytes;
use sluicegate::simulator::Simulator;

use super::harness::{Answer, Gateway, Http, post, send, whole};

/// A route for each level before one upstream, beside the one that checks nothing.
const ROUTES: &str = r#"
    [route.basic]
    path = "/basic"
    rewrite = "/v1"
    upstreams = ["sim"]
    validate = "basic"
    [route.strict]
    path = "/strict"
    rewrite = "/v1"
    upstreams = ["sim"]
    validate = "strict"
"#;

fn gateway(upstream: &Simulator) -> Gateway {
    Gateway::before(upstream, Http::One, ROUTES)
}

/// The path of an operation below its base.
fn path(operation: &str) -> &str {
    match operation {
        "chat" => "chat/completions",
        other => other,
    }
}

/// Sends a request to one of the routes.
async fn ask(gateway: &Gateway, route: &str, operation: &str, body: impl Into<Bytes>) -> Answer {
    let path = format!("/{route}/{}", path(operation));
    let request = post(gateway.address(), Http::One, &path).body(whole(body)).unwrap();
    send(gateway.address(), Http::One, request).await
}
