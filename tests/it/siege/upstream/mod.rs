//! Upstreams that break the rules: what their answers become, and that nothing of them reaches whoever asks next.

mod answers;
mod endless;
mod unasked;

use http::StatusCode;
use sluicegate::simulator::{Cut, Head, Script, Simulator, Step};

use super::strict::{self, Not};
use crate::harness::{BOTH, CLIENT_KEY, Client, Gateway, Http, Keys, Raw, authorised, simulator, whole};

/// What the next caller is answered with.
const NEXT: &str = r#"{"next":true}"#;

/// An answer, and what may come of it.
struct Row {
    name: &'static str,
    /// Where the rule or the attack is described.
    source: &'static str,
    method: &'static str,
    bytes: Vec<u8>,
    /// Whether the upstream closes then.
    closes: bool,
    want: Want,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Want {
    /// The caller has a whole answer: status and body.
    Whole(u16, Vec<u8>),
    /// It begins, and breaks off where the caller can see it.
    Broken(u16),
}

/// The gateway's own.
const INVALID: Want = Want::Whole(502, Vec::new());

fn with(status: u16, body: impl AsRef<[u8]>) -> Want {
    Want::Whole(status, body.as_ref().to_vec())
}

/// An answer after which the connection is kept.
fn kept(name: &'static str, source: &'static str, bytes: impl AsRef<[u8]>, want: Want) -> Row {
    Row { name, source, method: "GET", bytes: bytes.as_ref().to_vec(), closes: false, want }
}

/// An answer after which the connection is closed.
fn closed(name: &'static str, source: &'static str, bytes: impl AsRef<[u8]>, want: Want) -> Row {
    Row { closes: true, ..kept(name, source, bytes, want) }
}

/// Gives each answer to a caller of either protocol, and then a good one to another. All that differ are told at once.
async fn besiege(rows: &[Row]) {
    let upstream = simulator().await;
    let mut wrong = Vec::new();
    for down in BOTH {
        let gateway = Gateway::with(&upstream, Http::One, Keys { one_worker: true, ..Keys::default() });
        for row in rows {
            let mut steps = vec![Step::Raw(row.bytes.clone().into())];
            steps.extend(row.closes.then_some(Step::Cut(Cut::Close)));
            upstream.queue(Script::new(steps));
            let (first, second) = match down {
                Http::One => over_http1(&upstream, &gateway, row.method).await,
                Http::Two => over_http2(&upstream, &gateway, row.method).await,
            };
            if first != row.want || second != with(200, NEXT) {
                let Row { name, source, .. } = row;
                wrong.push(format!("{name} ({source}, {down:?}): {first:?}, then {second:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn next_is_good(upstream: &Simulator) {
    let head = Head::json(StatusCode::OK, NEXT.len());
    upstream.queue(Script::new(vec![Step::Head(head), Step::Send(NEXT.into())]));
}

async fn over_http1(upstream: &Simulator, gateway: &Gateway, method: &str) -> (Want, Want) {
    let mut caller = Raw::connect(gateway.address()).await;
    let line =
        |method| format!("{method} /v1/x HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {CLIENT_KEY}\r\n");
    caller.write(line(method) + "connection: close\r\n\r\n").await;
    let (bytes, _) = caller.read_to_end().await;
    next_is_good(upstream);
    let mut caller = Raw::connect(gateway.address()).await;
    caller.write(line("GET") + "connection: close\r\n\r\n").await;
    let (next, _) = caller.read_to_end().await;
    (read(&bytes, method == "HEAD"), read(&next, false))
}

/// An answer that was closed after these bytes.
fn read(bytes: &[u8], to_head: bool) -> Want {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
    let head = end.map(|end| [&bytes[..end - 2], b"x-end: of the head\r\n\r\n"].concat());
    match strict::answer(bytes) {
        Ok((answer, length)) => {
            assert_eq!(length, bytes.len(), "more than one answer: {:?}", String::from_utf8_lossy(bytes));
            told(answer.status, answer.body)
        }
        Err(Not::Yet) if to_head => told(status(&head.unwrap()), Vec::new()),
        Err(Not::Yet) => Want::Broken(status(&head.unwrap())),
        Err(Not::Canonical(why)) => panic!("{why}: {:?}", String::from_utf8_lossy(bytes)),
    }
}

fn status(head: &[u8]) -> u16 {
    String::from_utf8_lossy(&head[9..12]).parse().unwrap()
}

/// The words of the gateway's own error are of no interest here.
fn told(status: u16, body: Vec<u8>) -> Want {
    if status == 502 { INVALID } else { Want::Whole(status, body) }
}

async fn over_http2(upstream: &Simulator, gateway: &Gateway, method: &str) -> (Want, Want) {
    let at = gateway.address();
    let mut client = Client::connect(at, Http::Two).await;
    let mut answers = Vec::new();
    for method in [method, "GET"] {
        let request = authorised(at, Http::Two, method, "/v1/x").body(whole("")).unwrap();
        let answer = client.ask(request).await;
        let status = answer.status.as_u16();
        answers.push(if answer.whole { told(status, answer.body.to_vec()) } else { Want::Broken(status) });
        next_is_good(upstream);
    }
    // The one that nobody asked for.
    upstream.reset();
    let second = answers.pop().unwrap();
    (answers.pop().unwrap(), second)
}
