//! Every call of the SDKs, directly to an upstream and through the gateway, and the page that says what came of it: `docs/sdks.md`.
//!
//! The calls are data: `tests/sdk/calls.toml`. Both ways, `calls.py` and `calls.mjs` make the same call with the same client; result and
//! request are compared. `SLUICEGATE_WRITE=1 cargo test --test it -- sdk::calls` writes the page.

mod answers;
mod compare;
mod data;
mod page;
mod rig;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    process::{Command, Stdio},
};

use serde_json::Value;

use super::{bench, packages};
use compare::Run;
use data::{Call, Case, Data, Section, Upstream};
use page::{Cell, Page};
use rig::{Rig, Way};

const WRONG_KEY: &str = "sk-that-nobody-knows";

/// A cell of the page: one call by one client, in both ways.
struct Made<'a> {
    section: &'a Section,
    call: &'a Call,
    client: &'a str,
    id: String,
    ways: [Way; 2],
}

#[tokio::test]
async fn each_call_comes_to_the_same_as_without_the_gateway() {
    made("calls.toml", "calls").await;
}

/// llama.cpp's server, Claude Code, Codex and aider.
#[tokio::test]
#[ignore = "installs programs of 2 GB; .ci/release runs it"]
async fn programs_come_to_the_same_as_without_the_gateway() {
    made("tools.toml", "tools").await;
}

/// Makes the calls of a file and compares what came of them with a part of the page.
async fn made(file: &str, part: &str) {
    let data = Data::read(file);
    let rig = Rig::start(&data).await;
    let cells = cells(&data, &rig);
    for cell in &cells {
        for way in &cell.ways {
            let scripts = answers::scripts(&data, cell.call, &rig.scripted.url());
            scripts.into_iter().for_each(|script| rig.scripted.queue_for(&cell.named(way), script));
        }
    }
    let results = results(&cells, &rig).await;
    let requests = rig.requests();
    let mut page = Page::new(&data, part);
    for cell in &cells {
        let [direct, through] = cell.ways.clone().map(|way| {
            let id = cell.named(&way);
            let requests = requests.get(&id).cloned().unwrap_or_default();
            let makes_ids = cell.section.upstream != Upstream::Scripted;
            let mut result = results[&id].clone();
            if cell.section.upstream == Upstream::Tools {
                result["requests"] = rig.sent_by(cell.client, &way);
            }
            Run { result, requests, base: way.base, makes_ids }
        });
        page.put(
            cell.section,
            cell.call,
            cell.client,
            Cell::of(cell.section, cell.call, [&direct, &through]),
        );
    }
    page.check();
    page.is_committed();
    rig.gateway.stop().await;
}

/// All methods that send requests are in the data, or are left out with a reason.
#[test]
fn no_method_is_forgotten() {
    let mut script = packages::python("calls.py");
    let output = script.arg("--list").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let methods: BTreeMap<String, Vec<String>> = serde_json::from_slice(&output.stdout).unwrap();
    let data = Data::read("calls.toml");
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

fn cells<'a>(data: &'a Data, rig: &Rig) -> Vec<Made<'a>> {
    let mut cells = Vec::new();
    for section in &data.section {
        for call in &section.calls {
            for client in section.clients.iter().filter(|client| !call.not.contains(client)) {
                let (id, ways) = (cells.len().to_string(), rig.ways(section.upstream, client));
                cells.push(Made { section, call, client, id, ways });
            }
        }
    }
    cells
}

impl Made<'_> {
    fn named(&self, way: &Way) -> String {
        format!("{}-{}", self.id, way.name)
    }

    fn cases(&self, rig: &Rig) -> impl Iterator<Item = Case<'_>> {
        let arguments = |way| {
            let mut arguments = self.call.arguments(self.client);
            if self.section.upstream == Upstream::Tools {
                arguments.insert("settings".to_owned(), rig.settings(self.client, way).into());
            }
            arguments
        };
        self.ways.iter().map(move |way| Case {
            id: self.named(way),
            client: self.client,
            call: &self.call.call,
            ids: &self.call.ids,
            with: arguments(way),
            retries: self.call.retries,
            base: &way.base,
            key: if self.call.wrong_key { WRONG_KEY } else { way.key },
        })
    }
}

/// Runs both scripts and gives what they say, by the id of cell and way.
async fn results(cells: &[Made<'_>], rig: &Rig) -> BTreeMap<String, Value> {
    let (mut python, mut node) = (packages::python("calls.py"), packages::node());
    node.arg("calls.mjs");
    let mut running = Vec::new();
    for (name, script) in [("python", &mut python), ("node", &mut node)] {
        let own = cells.iter().filter(|cell| cell.client.contains("node") == (name == "node"));
        let cases: Vec<Case<'_>> = own.flat_map(|cell| cell.cases(rig)).collect();
        let cases = rig.folder.write(&format!("{name}.json"), &serde_json::to_string(&cases).unwrap());
        let out = rig.folder.path(&format!("{name}-results.json"));
        bench::without_settings(script);
        rig.introduce(script);
        if cells.iter().any(|cell| cell.section.upstream == Upstream::Tools) {
            script.env("TOOLS", packages::tools());
        }
        script.arg(cases).arg(&out);
        running.push((out, tokio::task::spawn_blocking(said(script))));
    }
    let mut results = BTreeMap::new();
    for (out, running) in running {
        running.await.unwrap();
        let some: BTreeMap<String, Value> = serde_json::from_slice(&fs::read(out).unwrap()).unwrap();
        results.extend(some);
    }
    results
}

/// Waits for a script in a thread of its own.
fn said(script: &mut Command) -> impl FnOnce() + Send + 'static {
    let child = script.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    move || {
        let output = child.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    }
}
