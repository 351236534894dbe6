//! Requests that two readers may take for different ones, and what is left of them behind the gateway: nothing, or exactly one
//! meaning.
//!
//! After each come the bytes of another request. That one is answered too, last, or the connection is closed; so whatever the
//! gateway took for a request of its own is seen.

mod framing;
mod heads;
mod lines;

use super::{
    recorder::{Recorder, Seen},
    strict,
};
use tokio::io::AsyncWriteExt;

use crate::harness::{BOTH, CLIENT_KEY, Gateway, Keys, Raw, safely};

/// What is sent, and what may come of it.
struct Row {
    name: &'static str,
    /// Where the rule or the attack is described.
    source: &'static str,
    /// `$H` stands for a host and the caller's key, `$T` for a content type, `$L` for a length of 7, each with its line end; and `$B` for a
    /// body of that length.
    bytes: Vec<u8>,
    want: Want,
}

/// Method, target, body.
type Meant = (&'static str, &'static str, &'static str);

enum Want {
    /// These reach the upstream, and the connection goes on.
    Passes(&'static [Meant]),
    /// These reach the upstream, and the connection is closed: after their answers, or with another one of this status.
    Ends(&'static [Meant], u16),
    /// Nothing reaches the upstream. This status, and the connection goes on.
    Answered(u16),
    /// Nothing reaches the upstream. This status, or none at all (0), and the connection is closed.
    Refused(u16),
}

use Want::{Answered, Ends, Passes, Refused};

/// The request that comes after each, and asks for the connection's end.
const NEXT: &str = "GET /v1/next HTTP/1.1\r\n$Hconnection: close\r\n\r\n";

/// What `$H` stands for.
const HEAD: &str = "host: gateway\r\nauthorization: Bearer KEY\r\n";

const BODY: &str = r#"{"a":1}"#;

/// Whether a body is read whole, or passed on.
const KINDS: [&str; 2] = ["application/json", "application/octet-stream"];

fn row(name: &'static str, source: &'static str, bytes: impl AsRef<[u8]>, want: Want) -> Row {
    Row { name, source, bytes: bytes.as_ref().to_vec(), want }
}

impl Row {
    fn written(&self, kind: &str) -> Vec<u8> {
        let known = HEAD.replace("KEY", CLIENT_KEY);
        let kind = format!("content-type: {kind}\r\n");
        let bytes = [&self.bytes, NEXT.as_bytes()].concat();
        let marks: [(&[u8], &[u8]); 4] = [
            (b"$H", known.as_bytes()),
            (b"$T", kind.as_bytes()),
            (b"$L", b"content-length: 7\r\n"),
            (b"$B", BODY.as_bytes()),
        ];
        marks.into_iter().fold(bytes, |bytes, (mark, text)| replaced(&bytes, mark, text))
    }

    fn meant(&self) -> Vec<Meant> {
        match self.want {
            Passes(meant) => [meant, &[("GET", "/v1/next", "")]].concat(),
            Ends(meant, _) => meant.to_vec(),
            Answered(_) => vec![("GET", "/v1/next", "")],
            Refused(_) => Vec::new(),
        }
    }

    fn statuses(&self) -> Vec<u16> {
        match self.want {
            Passes(meant) => vec![200; meant.len() + 1],
            Ends(meant, status) => {
                [200].repeat(meant.len()).into_iter().chain((status > 0).then_some(status)).collect()
            }
            Answered(status) => vec![status, 200],
            Refused(status) => (status > 0).then_some(status).into_iter().collect(),
        }
    }
}

fn replaced(bytes: &[u8], mark: &[u8], by: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(mark.len()).position(|window| window == mark) {
        replaced.extend_from_slice(&rest[..at]);
        replaced.extend_from_slice(by);
        rest = &rest[at + mark.len()..];
    }
    [&replaced[..], rest].concat()
}

/// Sends each row over a connection of its own, and compares what came of it. All that differ are told at once.
async fn besiege(rows: &[Row]) {
    let mut wrong = Vec::new();
    for up in BOTH {
        let recorder = Recorder::start(up).await;
        let gateway = Gateway::to(
            &recorder.url(),
            up,
            Keys {
                // Whoever waits for more than comes is answered soon.
                server: "header_timeout = \"300ms\"\nbody_idle = \"300ms\"",
                ..Keys::default()
            },
        );
        for row in rows {
            let kinds = if row.bytes.windows(2).any(|pair| pair == b"$T") { &KINDS[..] } else { &KINDS[..1] };
            for kind in kinds {
                let (statuses, seen) = send(&gateway, &recorder, row, kind).await;
                if statuses != row.statuses() || seen != row.meant() {
                    let Row { name, source, .. } = row;
                    wrong.push(format!("{name} ({source}, {kind}, {up:?}): {statuses:?} {seen:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{:#?}", wrong);
}

/// What the caller was told, and which requests reached the upstream.
async fn send(gateway: &Gateway, recorder: &Recorder, row: &Row, kind: &str) -> (Vec<u16>, Vec<Meant>) {
    let mut caller = Raw::connect(gateway.address()).await;
    // It may be refused, and closed, while it is being sent.
    let _ = safely(caller.tcp.write_all(&row.written(kind))).await;
    let (answered, _) = caller.read_to_end().await;
    let statuses = strict::answers(&answered).into_iter().map(|answer| answer.status);
    if let Refused(1..) = row.want {
        assert!(answered.starts_with(b"HTTP/1.1 "), "{}: {}", row.name, String::from_utf8_lossy(&answered));
    }
    let leak = |text: String| -> &'static str { text.leak() };
    let seen = recorder.take().await.into_iter().filter_map(|seen| match seen {
        Seen::Whole(request) => {
            if let Some(name) = not_for_upstreams(&request) {
                return Some(("BROKEN", leak(name), ""));
            }
            let body = String::from_utf8(request.body).unwrap();
            Some((leak(request.method), leak(request.target), leak(body)))
        }
        // A part of it is not acted upon, and its end is told by the connection's (RFC 9112 §8) or the stream's.
        Seen::Cut => None,
        Seen::Broken(why, bytes) => {
            Some(("BROKEN", leak(why), leak(String::from_utf8_lossy(&bytes).into_owned())))
        }
    });
    (statuses.filter(|status| *status != 100).collect(), seen.collect())
}

/// A field that makes an upstream read the request in another way than the gateway did, if there is one: `x-…-url` and its like replace
/// target or method (CVE-2018-14773), and no trailer was meant to pass that means anything (`x-sum` and `x-other` are the tests').
fn not_for_upstreams(request: &strict::Request) -> Option<String> {
    const OVERRIDES: [&str; 5] =
        ["x-original-url", "x-rewrite-url", "x-http-method-override", "x-http-method", "x-method-override"];
    let override_of = |name: &str| OVERRIDES.contains(&name.replace('_', "-").as_str());
    let header = request.headers.iter().map(|(name, _)| name).find(|name| override_of(name));
    let trailer = request
        .trailers
        .iter()
        .map(|(name, _)| name)
        .find(|name| !["x-sum", "x-other"].contains(&name.as_str()));
    header.or(trailer).cloned()
}
