//! The exception that an official Python SDK raises behind the gateway is the one that it raises before the provider itself, except where
//! the gateway's rules say otherwise.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::{Value, json};

use super::{
    all,
    fixture::{Ask, Body, Cell, Setting},
    run::{Rig, id_of},
};
use crate::{folder::Folder, harness::CLIENT_KEY, sdk::packages};

/// The class of each case's exception; `None`: none was raised.
type Classes = BTreeMap<String, Option<String>>;

#[tokio::test]
async fn classes_are_the_providers() {
    let providers = all();
    let mut rigs = Vec::new();
    let mut cases = Vec::new();
    for provider in &providers {
        let rig = Rig::start(provider).await;
        cases.extend(provider.cells.iter().flat_map(|cell| rig.cases(cell)));
        rigs.push(rig);
    }
    let classes = raised(&cases).await;
    let mut wrong = String::new();
    for (rig, provider) in rigs.into_iter().zip(&providers) {
        for cell in provider.cells.iter().filter(|cell| !cell.pending.contains(&Setting::Alone)) {
            let at = |way: &str| classes[&rig.case_id(cell, way)].as_deref();
            let expected = class(cell, at("direct"));
            if at("gateway") != expected {
                let name = &provider.provider;
                writeln!(wrong, "{name} {}: {expected:?}, but {:?}", cell.name, at("gateway")).unwrap();
            }
        }
        rig.gateway.stop().await;
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// What the SDK raises behind the gateway, if it raises `direct` before the provider.
fn class<'a>(cell: &Cell, direct: Option<&'a str>) -> Option<&'a str> {
    let is_messages = matches!(cell.ask, Ask::Messages | Ask::MessagesStream);
    let expected = cell.expected(Setting::Alone);
    match (expected.body, expected.status, is_messages) {
        // The upstream's own bytes.
        (Body::Upstream | Body::Spare, ..) => direct,
        // A stream that ends too early ends with an event that says so.
        (Body::UpstreamThenError, _, true) => Some("APIStatusError"),
        (Body::UpstreamThenError, _, false) => Some("APIError"),
        // A refused key is the gateway's matter, and an error at the start of a stream has its status.
        (Body::Gateway | Body::Event, 400, _) => Some("BadRequestError"),
        (Body::Gateway | Body::Event, 503, true) => Some("ServiceUnavailableError"),
        (Body::Gateway | Body::Event, 529, true) => Some("OverloadedError"),
        (Body::Gateway | Body::Event, ..) => Some("InternalServerError"),
    }
}

async fn raised(cases: &[Value]) -> Classes {
    let folder = Folder::new();
    let path = folder.write("cases.json", &serde_json::to_string(cases).unwrap());
    let ask = move || packages::python("providers.py").arg(path).output().unwrap();
    let output = tokio::task::spawn_blocking(ask).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

impl Rig<'_> {
    /// The request to the provider itself, and the one through the gateway.
    fn cases(&self, cell: &Cell) -> [Value; 2] {
        let direct = format!("{}/x", self.main.url());
        let gateway = format!("http://{}/{}", self.gateway.address(), id_of(cell, Setting::Alone));
        [("direct", direct), ("gateway", gateway)].map(|(way, base)| {
            let id = self.case_id(cell, way);
            self.queue(&id, cell);
            json!({ "id": id, "base": base, "ask": cell.ask.name(), "key": CLIENT_KEY })
        })
    }

    fn case_id(&self, cell: &Cell, way: &str) -> String {
        format!("{}-{}-{way}", self.provider.file, cell.name)
    }
}
