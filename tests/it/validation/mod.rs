//! Requests that are checked (`validate`): what is refused and how, and what is not.

mod forms;
mod refused;
mod sound;

use bytes::Bytes;
use sluicegate::{fault::Language, simulator::Simulator};

use super::harness::{Answer, Gateway, Http, post, send, whole};

/// A route for each level before one upstream, beside the one that checks nothing.
const ROUTES: &str = r#"
    [route.basic]
    path = "/basic"
    rewrite = "/v1"
    upstreams = ["sim"]
    validate = "basic"
    languages = [LANGUAGES]
    [route.strict]
    path = "/strict"
    rewrite = "/v1"
    upstreams = ["sim"]
    validate = "strict"
    languages = [LANGUAGES]
"#;

fn gateway(upstream: &Simulator) -> Gateway {
    let languages: Vec<String> = Language::all().map(|language| format!("{:?}", language.tag())).collect();
    Gateway::before(upstream, Http::One, &ROUTES.replace("LANGUAGES", &languages.join(", ")))
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
    ask_in(gateway, "en", &format!("/{route}/{}", path(operation)), body).await
}

/// Sends a request to a path, from somebody who reads this language.
async fn ask_in(gateway: &Gateway, language: &str, path: &str, body: impl Into<Bytes>) -> Answer {
    let request = post(gateway.address(), Http::One, path).header("accept-language", language);
    let request = request.body(whole(body)).unwrap();
    send(gateway.address(), Http::One, request).await
}
