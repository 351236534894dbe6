//! How an exchange ended, as the log tells it and as the upstream saw it: exactly one line for each.

mod drain;
mod leaving;
mod refused;
mod stalls;
mod streams;
mod upstream;
mod whole;

use http::Request;
use serde_json::Value;
use sluicegate::simulator::{Record, Simulator};

use super::harness::{
    CHAT, COUNTED, COUNTED_TABLE, Gateway, Http, Keys, Sent, post, safely, whole as whole_body,
};

/// A gateway as [`Gateway::to`] makes it, under a limit of each kind that nothing here reaches: when it has finished, nothing may be in flight, and
/// what was charged must be what the log says was used.
fn counted(url: &str, up: Http, keys: Keys<'_>) -> Gateway {
    let route = format!("{}\nlimits = [\"{COUNTED}\"]", keys.route);
    let more = format!("{}\n{COUNTED_TABLE}", keys.more);
    Gateway::to(url, up, Keys { route: &route, more: &more, ..keys })
}

/// A stream's first event.
const EVENT: &str =
    "data: {\"model\":\"m-1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n";

/// Who ended it, in which phase, with which fault; nothing for none.
fn assert_ended(line: &Value, who: &str, phase: &str, error: &str) {
    let error = if error.is_empty() { Value::Null } else { error.into() };
    assert_eq!(
        (&line["who"], &line["phase"], &line["error"]),
        (&who.into(), &phase.into(), &error),
        "{line}"
    );
}

/// A streamed chat request.
fn chat_request(address: std::net::SocketAddr, http: Http) -> Request<Sent> {
    post(address, http, "/v1/chat/completions").body(whole_body(CHAT)).unwrap()
}

/// Waits until so many requests have reached the upstream.
async fn arrived(upstream: &Simulator, requests: usize) {
    safely(upstream.wait_for(|records| (records.len() == requests).then_some(()))).await;
}

/// Waits for the end of a request at the upstream, and sees that it was the gateway who ended it, before its script was over.
async fn assert_given_up(upstream: &Simulator, number: u64) -> Record {
    let record = safely(upstream.record(number)).await;
    assert!(record.ended.unwrap().1.peer_left(), "{:?}", record.ended);
    record
}
