//! The official SDKs before upstreams that fail: for each of the `rows` a route with the failing upstream alone, and one with another
//! behind it that gives whole answers.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path, process::Command};

use serde::Deserialize;
use serde_json::{Value, json};
use sluicegate::simulator::{Record, Simulator};

use super::{
    bench::{certificates, introduce},
    packages,
    row::{Ask, Error, Expected, Row},
    rows::rows,
};
use crate::{
    folder::Folder,
    harness::{CLIENT_KEY, Gateway, UPSTREAM_KEY, log, simulator},
};

/// What a program sees of an exception.
type ClassAndCode = (&'static str, Option<&'static str>);

const PYTHON: [&str; 4] = ["sync-1", "async-1", "sync-2", "async-2"];

/// What a script says of one case.
#[derive(Debug, Deserialize)]
struct Came {
    text: String,
    /// The kind of the last event, where events have kinds.
    last: Option<String>,
    events: u64,
    error: Option<Raised>,
}

#[derive(Debug, Deserialize)]
struct Raised {
    class: String,
    status: Option<u16>,
    code: Option<String>,
    retry_after: Option<String>,
    should_retry: Option<String>,
    says: String,
}

/// One way to come to a row's upstream: alone, or with another behind it.
struct Case<'a> {
    row: &'a Row,
    alone: bool,
}

#[tokio::test]
async fn python() {
    run(packages::python("faults.py"), &PYTHON, |error| (error.python, error.code)).await;
}

#[tokio::test]
async fn node() {
    let mut script = packages::node();
    script.arg("faults.mjs");
    run(script, &["node"], |error| (error.node, error.node_code.or(error.code))).await;
}

async fn run(script: Command, kinds: &[&str], raised: fn(&Error) -> ClassAndCode) {
    let (main, spare, rows) = (simulator().await, simulator().await, rows());
    let cases: Vec<Case<'_>> =
        rows.iter().flat_map(|row| [true, false].map(|alone| Case { row, alone })).collect();
    for case in &cases {
        for kind in kinds {
            let id = case.id(kind);
            (case.row.answers)().into_iter().for_each(|script| main.queue_for(&id, script));
            spare.queue_for(&id, case.row.ask.spare());
        }
    }
    let folder = Folder::new();
    certificates(Path::new(&folder.path("")));
    let gateway = Gateway::start(&configuration(&folder, &main, &spare, &cases));
    let came = told(script, &folder, &gateway, &cases).await;
    let log = gateway.log.clone();
    gateway.stop().await;
    let lines = log.access();
    assert!(!log.text().contains(UPSTREAM_KEY) && !log.text().contains(CLIENT_KEY), "a key is in the log");
    let mut wrong = String::new();
    for case in &cases {
        for kind in kinds {
            let id = case.id(kind);
            let beginning = format!("/{id}/");
            let of_it =
                |line: &&Value| line["path"].as_str().is_some_and(|path| path.starts_with(&beginning));
            let seen = (asked(&main, &id), asked(&spare, &id));
            let lines: Vec<&Value> = lines.iter().filter(of_it).collect();
            let mut expected = case.expected().as_seen_by(raised, &main.url(), case.row);
            if let Some(events) = case.row.events_among_heartbeats {
                expected["events"] = events.into();
                expected["heartbeats"] = true.into();
            }
            let mut found = seen_of(&came[&id], seen, &lines);
            if case.row.events_among_heartbeats.is_some() {
                found["events"] = came[&id].events.into();
                let upstream: u64 = records_of(&main, &id).map(|record| record.sent).sum();
                found["heartbeats"] = (lines[0]["bytes_out"].as_u64() > Some(upstream)).into();
            }
            if found != expected {
                let says = came[&id].error.as_ref().map(|error| &error.says);
                writeln!(wrong, "{id}\n  expected {expected}\n  found    {found}\n  {says:?}").unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    let kept = |line: &Value| line["path"].as_str().unwrap().contains("kept") && line["reused"] == true;
    assert!(lines.iter().any(kept), "no batch was created by a connection that was kept");
}

/// Runs the script and gives what it says, by the id of case and kind.
async fn told(
    mut script: Command,
    folder: &Folder,
    gateway: &Gateway,
    cases: &[Case<'_>],
) -> BTreeMap<String, Came> {
    let list: Vec<Value> = cases.iter().map(Case::told).collect();
    let list = folder.write("cases.json", &Value::from(list).to_string());
    introduce(&mut script, Path::new(&folder.path("")), &gateway.address().to_string());
    let report = folder.path("report.json");
    script.env("CASES", list).env("REPORT", &report).env("KEY_ALL", CLIENT_KEY);
    // Not asked for here.
    script.env("SIMULATOR_URL", "");
    let output = tokio::task::spawn_blocking(move || script.output()).await.unwrap().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    serde_json::from_str(&fs::read_to_string(report).unwrap()).unwrap()
}

impl Case<'_> {
    /// Its route, its path and, for its upstream, a name.
    fn name(&self) -> String {
        format!("{}-{}", self.row.name, if self.alone { "alone" } else { "whole" })
    }

    /// With the kind of client.
    fn id(&self, kind: &str) -> String {
        format!("{}/{kind}", self.name())
    }

    /// What a script is told.
    fn told(&self) -> Value {
        json!({ "at": self.name(), "ask": self.row.ask.name(), "retries": self.row.retries })
    }

    fn expected(&self) -> Expected {
        if self.alone { self.row.alone } else { self.row.elsewhere }
    }
}

impl Expected {
    fn as_seen_by(&self, raised: fn(&Error) -> ClassAndCode, main: &str, row: &Row) -> Value {
        let (error, tried) = self.log;
        let tried: Vec<String> = tried.iter().map(|code| format!("{main} {code}")).collect();
        json!({
            "text": self.text,
            "error": self.error.map(|error| json!({
                "class": raised(&error).0,
                "status": error.status,
                "code": raised(&error).1,
                "retry_after": error.retry_after,
                "should_retry": error.should_retry,
            })),
            "seen": [self.seen.0, self.seen.1],
            // The SDK has asked once, however often it might.
            "lines": row.ask.requests(),
            "completed": row.ask == Ask::ResponsesStream && self.error.is_none(),
            "log": { "error": error, "tried": tried.join(", ") },
        })
    }
}

fn seen_of(came: &Came, (main, spare): (usize, usize), lines: &[&Value]) -> Value {
    let line = lines.last().unwrap();
    json!({
        "text": came.text,
        "error": came.error.as_ref().map(|error| json!({
            "class": error.class,
            "status": error.status,
            "code": error.code,
            "retry_after": error.retry_after,
            "should_retry": error.should_retry,
        })),
        "seen": [main, spare],
        "lines": lines.len(),
        "completed": came.last.as_deref() == Some("response.completed"),
        "log": { "error": line["error"], "tried": log::failed_attempts(line) },
    })
}

fn asked(upstream: &Simulator, id: &str) -> usize {
    records_of(upstream, id).count()
}

fn records_of(upstream: &Simulator, id: &str) -> impl Iterator<Item = Record> {
    let of_it = move |record: &Record| record.headers.get("x-simulate-id").is_some_and(|of| of == id);
    upstream.records().into_iter().filter(of_it)
}

fn configuration(folder: &Folder, main: &Simulator, spare: &Simulator, cases: &[Case<'_>]) -> String {
    let [certificate, key] = ["server.pem", "server.key"].map(|name| folder.path(&format!("certs/{name}")));
    let mut toml = format!(
        r#"
        [[listener]]
        address = "127.0.0.1:0"
        tls = {{ certificate = {certificate:?}, key = {key:?} }}
        [server]
        # With more, a kept connection may be another worker's.
        threads = 1
        [defaults]
        retry = {{ backoff = "20ms" }}
        breaker = "off"
        [upstream.spare]
        url = "{}"
        key = {{ env = "UPSTREAM_KEY" }}
        [client.tester]
        key = "$CLIENT_HASH"
        "#,
        spare.url(),
    );
    for case in cases {
        let (name, Row { upstream, route, .. }) = (case.name(), case.row);
        let order = if case.alone { "]" } else { ", \"spare\"]\ndelivery = \"whole\"" };
        // A request on a kept connection is sent once more by itself: here the attempts are counted.
        let pool = if upstream.contains("pool") { "" } else { "pool = { max_idle = 0 }" };
        write!(
            toml,
            r#"
            [upstream.{name}]
            url = "{}"
            key = {{ env = "UPSTREAM_KEY" }}
            {upstream}
            {pool}
            [route.{name}]
            path = "/{name}"
            rewrite = "/x"
            upstreams = ["{name}"{order}
            {route}
            "#,
            main.url(),
        )
        .unwrap();
    }
    toml
}
