//! Every call of the SDKs, directly to an upstream and through the gateway, and the page that says what came of it: `docs/sdks.md`.
//!
//! The calls are data: `tests/sdk/calls.toml`. Both ways, `calls.py` and `calls.mjs` make the same call with the same client; result and
//! request are compared. `SLUICEGATE_WRITE=1 cargo test --test it -- sdk::calls` writes the page.

mod answers;
mod compare;
mod data;
mod page;

use std::{collections::BTreeMap, fmt::Write as _, process::Command};

use serde_json::Value;
use sluicegate::simulator::{Options, Record, Simulator};

use super::{bench, packages};
use crate::{
    folder::Folder,
    harness::{CLIENT_KEY, Gateway, UPSTREAM_KEY},
};
use compare::Run;
use data::{Call, Case, Data};
use page::{Cell, Page};

const WRONG_KEY: &str = "sk-that-nobody-knows";

/// A cell of the page: one call by one client.
struct Made<'a> {
    call: &'a Call,
    client: &'a str,
    id: String,
}

/// Where the two ways begin.
struct Ways {
    direct: String,
    through: String,
}

#[tokio::test]
async fn each_call_comes_to_the_same_as_without_the_gateway() {
    let data = Data::read();
    // Whoever presents a wrong key gets the provider's own error, which is scripted.
    let upstream = Simulator::start(Options::default()).await.unwrap();
    let gateway = Gateway::start(&configuration(&upstream));
    let ways = Ways { direct: upstream.url(), through: format!("http://{}", gateway.address()) };
    let cells = cells(&data);
    for cell in &cells {
        for way in ["direct", "through"] {
            let scripts = answers::scripts(&data, cell.call, &ways.direct);
            scripts.into_iter().for_each(|script| upstream.queue_for(&cell.named(way), script));
        }
    }
    let results = results(&cells, &ways).await;
    let records = by_id(&upstream);
    let run = |cell: &Made<'_>, way: &str, base: &str| {
        let id = cell.named(way);
        let requests = records.get(&id).cloned().unwrap_or_default();
        Run { result: results[&id].clone(), requests, base: base.to_owned() }
    };
    let mut page = Page::new(&data);
    for cell in &cells {
        let direct = run(cell, "direct", &ways.direct);
        let through = run(cell, "through", &ways.through);
        page.put(cell.call, cell.client, Cell::of(cell.call, &direct, &through));
    }
    page.check();
    page.is_committed();
    gateway.stop().await;
}

/// All methods that send requests are in the data, or are left out with a reason.
#[test]
fn no_method_is_forgotten() {
    let mut script = packages::python("calls.py");
    let output = script.arg("--list").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let methods: BTreeMap<String, Vec<String>> = serde_json::from_slice(&output.stdout).unwrap();
    let data = Data::read();
    let mut forgotten = String::new();
    for (sdk, methods) in &methods {
        let column = format!("{sdk}-python");
        let sections = data.section.iter().filter(|section| section.clients.contains(&column));
        let made: Vec<&str> =
            sections.flat_map(|section| &section.calls).map(|call| call.call.as_str()).collect();
        let left_out = &data.left_out[sdk];
        for method in methods {
            let is_left_out = left_out.keys().any(|beginning| method.starts_with(beginning));
            if !is_left_out && !made.contains(&method.as_str()) {
                writeln!(forgotten, "{sdk}: {method}").unwrap();
            }
        }
    }
    assert!(forgotten.is_empty(), "neither called nor left out:\n{forgotten}");
}

fn cells(data: &Data) -> Vec<Made<'_>> {
    let mut cells = Vec::new();
    for section in &data.section {
        for call in &section.calls {
            for client in section.clients.iter().filter(|client| !call.not.contains(client)) {
                let id = format!("{}", cells.len());
                cells.push(Made { call, client, id });
            }
        }
    }
    cells
}

impl Made<'_> {
    fn named(&self, way: &str) -> String {
        format!("{}-{way}", self.id)
    }

    fn cases(&self, ways: &Ways) -> [Case<'_>; 2] {
        let prefix = if self.client.starts_with("anthropic") { "/anthropic" } else { "" };
        let through = format!("{}{prefix}", ways.through);
        [("direct", ways.direct.clone(), UPSTREAM_KEY), ("through", through, CLIENT_KEY)].map(
            |(way, base, key)| Case {
                id: self.named(way),
                client: self.client,
                call: &self.call.call,
                ids: &self.call.ids,
                with: self.call.arguments(self.client),
                retries: self.call.retries,
                base,
                key: if self.call.wrong_key { WRONG_KEY } else { key },
            },
        )
    }
}

/// Runs both scripts and gives what they say, by the id of cell and way.
async fn results(cells: &[Made<'_>], ways: &Ways) -> BTreeMap<String, Value> {
    let folder = Folder::new();
    let (mut python, mut node) = (packages::python("calls.py"), packages::node());
    node.arg("calls.mjs");
    let mut running = Vec::new();
    for (name, script) in [("python", &mut python), ("node", &mut node)] {
        let own = cells.iter().filter(|cell| cell.client.contains("node") == (name == "node"));
        let cases: Vec<Case<'_>> = own.flat_map(|cell| cell.cases(ways)).collect();
        let cases = folder.write(&format!("{name}.json"), &serde_json::to_string(&cases).unwrap());
        let out = folder.path(&format!("{name}-results.json"));
        bench::without_settings(script);
        script.arg(cases).arg(&out);
        running.push((out, tokio::task::spawn_blocking(said(script))));
    }
    let mut results = BTreeMap::new();
    for (out, running) in running {
        running.await.unwrap();
        let some: BTreeMap<String, Value> = serde_json::from_slice(&std::fs::read(out).unwrap()).unwrap();
        results.extend(some);
    }
    results
}

/// Waits for a script in a thread of its own.
fn said(script: &mut Command) -> impl FnOnce() + Send + 'static {
    let child =
        script.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    move || {
        let output = child.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    }
}

fn by_id(upstream: &Simulator) -> BTreeMap<String, Vec<Record>> {
    let mut records: BTreeMap<String, Vec<Record>> = BTreeMap::new();
    for record in upstream.records() {
        let Some(id) = record.headers.get("x-simulate-id") else { continue };
        records.entry(id.to_str().unwrap().to_owned()).or_default().push(record);
    }
    records
}

/// As a newcomer would write it, except that retries do not wait long.
fn configuration(upstream: &Simulator) -> String {
    let url = upstream.url();
    format!(
        r#"
        [[listener]]
        address = "127.0.0.1:0"
        [defaults]
        retry = {{ backoff = "20ms" }}
        breaker = "off"
        [upstream.openai]
        url = "{url}"
        key = {{ env = "UPSTREAM_KEY" }}
        [upstream.azure]
        url = "{url}"
        auth = {{ header = "api-key" }}
        key = {{ env = "UPSTREAM_KEY" }}
        [upstream.anthropic]
        url = "{url}"
        auth = {{ header = "x-api-key" }}
        key = {{ env = "UPSTREAM_KEY" }}
        [route.openai]
        path = "/v1"
        upstreams = ["openai"]
        [route.azure]
        path = "/openai"
        upstreams = ["azure"]
        [route.anthropic]
        path = "/anthropic"
        rewrite = "/"
        upstreams = ["anthropic"]
        [client.tester]
        key = "$CLIENT_HASH"
        "#
    )
}
