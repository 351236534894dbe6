//! What differs between a call through the gateway and a direct one: in its result, and in what the upstream was sent.

use std::collections::BTreeSet;

use http::{HeaderMap, header};
use serde_json::{Map, Value, json};
use sluicegate::simulator::Record;

/// Headers that are each leg's own: addresses, keys, framing, and what the gateway is documented to set (`docs/headers.md`).
const OWN: [&str; 16] = [
    "host",
    "connection",
    "authorization",
    "api-key",
    "x-api-key",
    "accept-encoding",
    "content-length",
    "transfer-encoding",
    "traceparent",
    "via",
    "x-simulate-id",
    "x-request-id",
    "x-stainless-read-timeout",
    "x-stainless-timeout",
    // The SDK retries less often where the gateway does.
    "x-stainless-retry-count",
    "keep-alive",
];

/// One way of making a call.
pub(super) struct Run {
    /// What the script says of it.
    pub(super) result: Value,
    /// What the upstream received.
    pub(super) requests: Vec<Record>,
    /// The base URL, which may stand in results.
    pub(super) base: String,
    /// Whether the upstream makes up ids. Those of a script are the same both times.
    pub(super) makes_ids: bool,
}

/// The parts that differ, by name, with both values. Ids and times that a provider makes up are left out.
pub(super) fn differences(direct: &Run, through: &Run) -> Vec<(String, Value, Value)> {
    let mut found = Vec::new();
    let (one, other) = (result(direct), result(through));
    diff("", &one, &other, &mut found);
    if !through.requests.is_empty() {
        diff("request", &requests(direct), &requests(through), &mut found);
    }
    found
}

fn result(run: &Run) -> Value {
    let mut value = run.result.clone();
    neutral(&mut value, run);
    value
}

/// Replaces what is made up for each request, and where the request went.
fn neutral(value: &mut Value, run: &Run) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let is_time = name.starts_with("created") || name.ends_with("_at");
                if is_time && member.is_number() {
                    *member = json!(0);
                }
                let is_id = name == "id" || name.ends_with("_id");
                // llama.cpp says how long it took.
                let is_own = (is_id && member.is_string()) || name == "timings";
                if run.makes_ids && is_own {
                    *member = json!("made up");
                }
                neutral(member, run);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| neutral(item, run)),
        Value::String(text) => *text = text.replace(&run.base, "BASE"),
        _ => {}
    }
}

/// The requests, each once however often it was repeated: by the SDK, or by the gateway.
fn requests(run: &Run) -> Value {
    let mut requests: Vec<Value> = run.requests.iter().map(sent).collect();
    requests.dedup();
    requests.into()
}

fn sent(request: &Record) -> Value {
    let boundary = boundary(&request.headers);
    let body = String::from_utf8_lossy(&request.body);
    let body =
        boundary.as_ref().map_or_else(|| body.to_string(), |boundary| body.replace(boundary, "BOUNDARY"));
    json!({
        "method": request.method.as_str(),
        "target": request.target,
        "headers": headers(&request.headers, boundary.as_deref()),
        "body": serde_json::from_str(&body).unwrap_or(Value::String(body)),
    })
}

fn boundary(headers: &HeaderMap) -> Option<String> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let (_, boundary) = kind.split_once("boundary=")?;
    Some(boundary.trim_matches('"').to_owned())
}

fn headers(headers: &HeaderMap, boundary: Option<&str>) -> Map<String, Value> {
    let theirs = headers.iter().filter(|(name, _)| !OWN.contains(&name.as_str()));
    theirs
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            let value = boundary.map_or(value.clone(), |boundary| value.replace(boundary, "BOUNDARY"));
            (name.as_str().to_owned(), Value::from(value))
        })
        .collect()
}

fn diff(at: &str, one: &Value, other: &Value, found: &mut Vec<(String, Value, Value)>) {
    if let (Value::Object(one), Value::Object(other)) = (one, other) {
        let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
        for name in names {
            let inner = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
            let [one, other] = [one, other].map(|of| of.get(name).unwrap_or(&Value::Null));
            diff(&inner, one, other, found);
        }
        return;
    }
    if let (Value::Array(one), Value::Array(other)) = (one, other) {
        // Items are not told apart by their numbers: a stream has many.
        one.iter().zip(other).for_each(|(one, other)| diff(at, one, other, found));
        if one.len() != other.len() {
            found.push((at.to_owned(), json!(one.len()), json!(other.len())));
        }
        return;
    }
    if one != other {
        found.push((at.to_owned(), one.clone(), other.clone()));
    }
}
