//! `wrong.txt`: wrong requests, and what the gateway says of each.

use std::{env, fmt::Write as _, fs, path::PathBuf};

use sluicegate::fault::Language;

use super::{ask, ask_in, gateway, path};
use crate::harness::{Answer, Gateway, simulator};

/// A wrong request, and what it was answered.
struct Case {
    operation: String,
    /// The first level that refuses it.
    level: String,
    name: String,
    body: String,
    answered: Vec<String>,
}

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/validation/wrong.txt")
}

/// Each case is a line `operation | level | name`, the body, and the lines of the answer. In a body, `«3:x»` stands for `xxx`, and `«3,x»` for
/// `x,x,x`.
fn cases() -> Vec<Case> {
    let text = fs::read_to_string(file()).unwrap();
    let blocks = text.split("\n\n").filter(|block| !block.trim().is_empty());
    blocks
        .map(|block| {
            let mut lines = block.trim().lines().map(str::to_owned);
            let (head, body) = (lines.next().unwrap(), lines.next().unwrap());
            let [operation, level, name] = head.split(" | ").collect::<Vec<_>>().try_into().unwrap();
            let [operation, level, name] = [operation, level, name].map(str::to_owned);
            Case { operation, level, name, body, answered: lines.collect() }
        })
        .collect()
}

/// The body with its repetitions written out.
fn written_out(body: &str) -> String {
    let mut out = String::new();
    let mut rest = body;
    while let Some((before, repeated)) = rest.split_once('«') {
        let (repeated, after) = repeated.split_once('»').unwrap();
        let at = repeated.find([':', ',']).unwrap();
        let (times, text) = (repeated[..at].parse().unwrap(), &repeated[at + 1..]);
        let separator = if &repeated[at..=at] == "," { "," } else { "" };
        out += before;
        out += &vec![text; times].join(separator);
        rest = after;
    }
    out + rest
}

/// Status, code and parameter.
fn noted(answer: &Answer) -> String {
    let error = &answer.json()["error"];
    let text = |member: &str| error[member].as_str().unwrap_or("null").to_owned();
    assert_eq!(error["type"], "invalid_request_error");
    format!("{} {} {}", answer.status.as_u16(), text("code"), text("param"))
}

/// The message in each language.
async fn messages(gateway: &Gateway, operation: &str, body: &str) -> Vec<String> {
    let path = format!("/strict/{}", path(operation));
    let mut messages = Vec::new();
    for tag in Language::all().map(Language::tag) {
        let answer = ask_in(gateway, tag, &path, body.to_owned()).await;
        assert_eq!(answer.headers["content-language"], tag);
        messages.push(format!("{tag}: {}", answer.json()["error"]["message"].as_str().unwrap()));
    }
    messages
}

#[tokio::test]
async fn wrong_requests_are_refused_as_noted_and_never_reach_an_upstream() {
    let upstream = simulator().await;
    let gateway = gateway(&upstream);
    let mut cases = cases();
    assert!(cases.len() >= 80);
    let (mut requests, mut forwarded) = (0, 0);
    for case in &mut cases {
        let body = written_out(&case.body);
        let strict = ask(&gateway, "strict", &case.operation, body.clone()).await;
        let basic = ask(&gateway, "basic", &case.operation, body.clone()).await;
        let messages = messages(&gateway, &case.operation, &body).await;
        requests += 2 + messages.len();
        let refusal = [vec![noted(&strict)], messages].concat();
        if case.level == "basic" {
            assert_eq!(noted(&basic), refusal[0], "{}", case.name);
        } else {
            assert_eq!((case.level.as_str(), basic.status.as_u16()), ("strict", 200), "{}", case.name);
            forwarded += 1;
        }
        let line = gateway.log.line_of(&strict).await;
        assert_eq!((&line["who"], &line["phase"]), (&"downstream".into(), &"intake".into()), "{line}");
        assert_eq!(line["error"], strict.json()["error"]["code"], "{line}");
        if env::var_os("SLUICEGATE_WRITE").is_some() {
            case.answered = refusal;
        } else {
            assert_eq!(case.answered, refusal, "{}", case.name);
        }
    }
    assert_eq!(upstream.records().len(), forwarded);
    if env::var_os("SLUICEGATE_WRITE").is_some() {
        fs::write(file(), text_of(&cases)).unwrap();
    }
    gateway.finish(requests).await;
}

fn text_of(cases: &[Case]) -> String {
    let mut text = String::new();
    for Case { operation, level, name, body, answered } in cases {
        writeln!(text, "{operation} | {level} | {name}\n{body}\n{}\n", answered.join("\n")).unwrap();
    }
    text
}
