//! Field lines that two readers may cut in different places, and fields that change what a request is.

use super::{Answered, Ends, Meant, Passes, Refused, besiege, row};

const POST: &[Meant] = &[("POST", "/v1/x", r#"{"a":1}"#)];
const GET: &[Meant] = &[("GET", "/v1/x", "")];

fn with(lines: &str) -> Vec<u8> {
    format!("GET /v1/x HTTP/1.1\r\n$H{lines}\r\n").into()
}

fn post(lines: &str) -> Vec<u8> {
    format!("POST /v1/x HTTP/1.1\r\n$H{lines}$T$L\r\n$B").into()
}

#[tokio::test]
async fn lines_and_names() {
    besiege(&[
        row("nothing odd", "RFC 9112 §5", with("x: y\r\n"), Passes(GET)),
        row("no value", "RFC 9112 §5", with("x:\r\n"), Passes(GET)),
        row("text of old", "RFC 9110 §5.5 (obs-text)", with("x: \u{e9}\r\n"), Passes(GET)),
        row("LF alone ends lines", "RFC 9112 §2.2 (MAY)", "GET /v1/x HTTP/1.1\n$Hx: y\n\n", Passes(GET)),
        row("CR within a value", "RFC 9112 §2.2", with("x: a\rb\r\n"), Refused(400)),
        row("CR twice", "RFC 9112 §2.2", with("x: a\r\r\n"), Refused(400)),
        row("CR before a name", "RFC 9112 §2.2", with("\rx: a\r\n"), Refused(400)),
        row("CR alone ends lines", "RFC 9112 §2.2", "GET /v1/x HTTP/1.1\rhost: g\r\r", Refused(400)),
        row("NUL in a value", "RFC 9110 §5.5", with("x: a\0b\r\n"), Refused(400)),
        row("NUL in a name", "RFC 9110 §5.1", with("x\0: a\r\n"), Refused(400)),
        row("DEL in a value", "RFC 9110 §5.5", with("x: \x7f\r\n"), Refused(400)),
        row("escape in a value", "RFC 9110 §5.5", with("x: \x1b[2J\r\n"), Refused(400)),
        row("vertical tab in a name", "RFC 9110 §5.1", with("x\x0b: a\r\n"), Refused(400)),
        row("space before the colon", "RFC 9112 §5.1", with("x : a\r\n"), Refused(400)),
        row("space in a name", "RFC 9110 §5.1", with("x y: a\r\n"), Refused(400)),
        row("no name", "RFC 9110 §5.1", with(": a\r\n"), Refused(400)),
        row("no colon", "RFC 9112 §5", with("x\r\n"), Refused(400)),
        row("quoted name", "RFC 9110 §5.1", with("\"x\": a\r\n"), Refused(400)),
        row("a name with a slash", "RFC 9110 §5.1", with("x/y: a\r\n"), Refused(400)),
        row("a name that is not ASCII", "RFC 9110 §5.1", with("\u{e9}: a\r\n"), Refused(400)),
        row("folded by space", "RFC 9112 §5.2", with("x: a\r\n b\r\n"), Refused(400)),
        row("folded by tab", "RFC 9112 §5.2", with("x: a\r\n\tb\r\n"), Refused(400)),
        row("space before the first", "RFC 9112 §2.2", "GET /v1/x HTTP/1.1\r\n $H\r\n", Refused(400)),
        row("empty lines before", "RFC 9112 §2.2", "\r\n\r\nGET /v1/x HTTP/1.1\r\n$H\r\n", Passes(GET)),
        row("CR before", "RFC 9112 §2.2", "\rGET /v1/x HTTP/1.1\r\n$H\r\n", Refused(400)),
        row("too many", "RFC 6585 §5", with(&"x: y\r\n".repeat(101)), Refused(431)),
        row("too large", "RFC 6585 §5", with(&format!("x: {}\r\n", "y".repeat(300_000))), Refused(431)),
    ])
    .await;
}

#[tokio::test]
async fn hosts() {
    const RULE: &str = "RFC 9112 §3.2";
    let host = |lines: &str| {
        format!("GET /v1/x HTTP/1.1\r\nauthorization: Bearer {}\r\n{lines}\r\n", crate::harness::CLIENT_KEY)
    };
    besiege(&[
        row("none", RULE, host(""), Answered(400)),
        row("two", RULE, host("host: a\r\nhost: b\r\n"), Answered(400)),
        row("the same twice", RULE, host("host: a\r\nhost: a\r\n"), Answered(400)),
        row("empty", RULE, host("host:\r\n"), Passes(GET)),
        row("a list", RULE, host("host: a, b\r\n"), Answered(400)),
        row("with a path", RULE, host("host: a/admin\r\n"), Answered(400)),
        row("with a query", RULE, host("host: a?b\r\n"), Answered(400)),
        row("with a space", RULE, host("host: a b\r\n"), Answered(400)),
        row("with two ports", RULE, host("host: a:1:2\r\n"), Answered(400)),
        row("with a letter for a port", RULE, host("host: a:b\r\n"), Answered(400)),
        row("with a name before it", "RFC 9110 §4.2.4", host("host: user@a\r\n"), Answered(400)),
        row("in HTTP/1.0, none", RULE, host("").replace("/1.1", "/1.0"), Ends(GET, 0)),
    ])
    .await;
}

/// What the sender of a request says is for the next hop alone is not for the upstream, and does not change what the rest means.
#[tokio::test]
async fn hop_by_hop_fields() {
    const RULE: &str = "RFC 9110 §7.6.1";
    besiege(&[
        row("length nominated", RULE, post("connection: content-length\r\n"), Passes(POST)),
        row("coding nominated", RULE, post("connection: transfer-encoding\r\n"), Passes(POST)),
        row("key nominated", RULE, post("connection: authorization\r\n"), Passes(POST)),
        row("host nominated", RULE, post("connection: host\r\n"), Passes(POST)),
        row("type nominated", RULE, post("connection: content-type\r\n"), Passes(POST)),
        row("close among others", RULE, post("connection: content-length, close\r\n"), Ends(POST, 0)),
        row(
            "close, then keep-alive",
            RULE,
            post("connection: close\r\nconnection: keep-alive\r\n"),
            Ends(POST, 0),
        ),
        row(
            "codings accepted",
            "RFC 9110 §10.1.4",
            post("te: gzip, chunked\r\nconnection: te\r\n"),
            Passes(POST),
        ),
        row(
            "trailers accepted",
            "RFC 9110 §10.1.4",
            post("te: trailers\r\nconnection: te\r\n"),
            Passes(POST),
        ),
        row(
            "keep-alive",
            "RFC 9112 §9.3",
            post("keep-alive: timeout=1\r\nproxy-connection: keep-alive\r\n"),
            Passes(POST),
        ),
        row(
            "another proxy's key",
            "RFC 9110 §11.7.2",
            post("proxy-authorization: Basic YTpi\r\n"),
            Passes(POST),
        ),
    ])
    .await;
}

/// `h2c` may be ignored (RFC 9113 §3.1), and is; who believes it was heeded sees an HTTP/1.1 answer.
#[tokio::test]
async fn upgrades() {
    let settings = "upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n";
    besiege(&[
        row(
            "h2c",
            "RFC 7540 §3.2",
            post(&format!("connection: upgrade, http2-settings\r\n{settings}")),
            Passes(POST),
        ),
        row("h2c, not nominated", "RFC 7540 §3.2.1", post(settings), Passes(POST)),
        row(
            "h2c, and HTTP/2 behind it",
            "RFC 7540 §3.2",
            [
                &with(&format!("connection: upgrade, http2-settings\r\n{settings}"))[..],
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
            ]
            .concat(),
            Ends(GET, 0),
        ),
        row(
            "half a handshake of WebSocket",
            "RFC 6455 §4.2.1",
            with("connection: upgrade\r\nupgrade: websocket\r\n"),
            Answered(400),
        ),
    ])
    .await;
}

#[tokio::test]
async fn expectations() {
    const RULE: &str = "RFC 9110 §10.1.1";
    besiege(&[
        row("met", RULE, post("expect: 100-continue\r\n"), Passes(POST)),
        row("in other letters", RULE, post("Expect: 100-CONTINUE\r\n"), Passes(POST)),
        row("twice", RULE, post("expect: 100-continue\r\nexpect: 100-continue\r\n"), Passes(POST)),
        row("among others", RULE, post("expect: 100-continue, x\r\n"), Passes(POST)),
        row("another", RULE, post("expect: y 100-continue\r\n"), Passes(POST)),
        row("without a body", RULE, with("expect: 100-continue\r\n"), Passes(GET)),
        row(
            "GET with a body",
            RULE,
            "GET /v1/x HTTP/1.1\r\n$H$T$Lexpect: 100-continue\r\n\r\n$B",
            Passes(&[("GET", "/v1/x", r#"{"a":1}"#)]),
        ),
        row(
            "in HTTP/1.0",
            RULE,
            "POST /v1/x HTTP/1.0\r\n$H$T$Lexpect: 100-continue\r\n\r\n$B",
            Ends(POST, 0),
        ),
        row("folded", "RFC 9112 §5.2", post("expect:\r\n 100-continue\r\n"), Refused(400)),
    ])
    .await;
}

/// Fields by which frameworks let a request say that it is another one, and fields that must be one and are two.
#[tokio::test]
async fn fields_that_change_what_a_request_is() {
    besiege(&[
        row("another target", "CVE-2018-14773", post("x-original-url: /admin\r\n"), Passes(POST)),
        row("another target, rewritten", "CVE-2018-14773", post("x-rewrite-url: /admin\r\n"), Passes(POST)),
        row("another method", "CWE-436", post("x-http-method-override: DELETE\r\n"), Passes(POST)),
        row(
            "another method, short",
            "CWE-436",
            post("x-http-method: DELETE\r\nx-method-override: PUT\r\n"),
            Passes(POST),
        ),
        row("with underscores", "RFC 3875 §4.1.18", post("x_original_url: /admin\r\n"), Passes(POST)),
        row(
            "two types",
            "RFC 9110 §5.3, §8.3",
            post("content-type: application/x-www-form-urlencoded\r\n"),
            Refused(400),
        ),
    ])
    .await;
}
