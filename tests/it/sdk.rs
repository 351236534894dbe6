//! The official SDKs, unchanged but for base URL, key and CA, against `sluicegate serve` before `sluicegate simulate`.
//!
//! What they are asked is in `tests/sdk/`; here the two processes are started, the packages installed, and the access log is
//! compared with what the SDKs say they have sent. What they make of an upstream's faults is a table of its own, `rows`.

mod bench;
mod calls;
mod faults;
mod heartbeats;
mod limits;
mod media;
pub mod packages;
mod row;
mod rows;

use std::{collections::BTreeMap, fs, process::Command};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::harness::log;
use bench::{Bench, Log};

/// What a script has sent, in its own words.
#[derive(Deserialize)]
struct Report {
    /// Requests that left the SDK, retries included.
    requests: usize,
    /// The `x-request-id` of each answer.
    ids: Vec<String>,
    /// What the access line of a request must say, by request id.
    expect: BTreeMap<String, Map<String, Value>>,
}

#[test]
fn python() {
    run("python", packages::python("test_openai.py"));
}

#[test]
fn node() {
    let mut script = packages::node();
    script.args(["--test", "--test-concurrency=1", "--test-reporter=spec", "openai.test.mjs"]);
    run("node", script);
}

#[test]
fn anthropic_python() {
    run("anthropic-python", packages::python("test_anthropic.py"));
}

#[test]
fn anthropic_node() {
    let mut script = packages::node();
    script.arg("anthropic.mjs");
    run("anthropic-node", script);
}

fn run(name: &str, mut script: Command) {
    let bench = Bench::start(name);
    bench.introduce(&mut script);
    let output = script.output().expect("the script starts");
    let told = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "the {name} SDK is not content; its files are kept in {}\n{}",
        bench.folder().display(),
        String::from_utf8_lossy(&told)
    );
    let report = fs::read(bench.report()).expect("a report");
    let report: Report = serde_json::from_slice(&report).expect("a report in JSON");
    let log = bench.stop();
    one_line_for_each_request(&log, &report);
    log.holds_no_secret();
    log.forget();
}

fn one_line_for_each_request(log: &Log, report: &Report) {
    assert!(report.requests > 0 && !report.expect.is_empty(), "the script has asked nothing");
    assert_eq!(report.requests, report.ids.len(), "a request got no answer with a request id");
    let lines = log.access();
    let mut logged: Vec<&str> = lines.iter().map(|line| line["request_id"].as_str().unwrap()).collect();
    let mut sent: Vec<&str> = report.ids.iter().map(String::as_str).collect();
    logged.sort_unstable();
    sent.sort_unstable();
    assert_eq!(logged, sent, "one access line for each request");
    for (id, expected) in &report.expect {
        let line = lines.iter().find(|line| line["request_id"] == **id).expect("a line");
        for (key, value) in expected {
            let logged = match key.as_str() {
                // The scripts know how many attempts there were.
                "attempts" => log::attempts(line).into(),
                _ => line.get(key).cloned().unwrap_or_default(),
            };
            assert_eq!(logged, *value, "`{key}` in {line}");
        }
    }
}
