//! Requests that mean one thing in HTTP/2 and would mean another in HTTP/1.1 (RFC 9113, sections 8.2, 8.3 and 10.3), judged by the bytes that
//! an upstream receives: none, or one message in canonical form.

use super::{
    frames::{
        CONTINUATION, END_HEADERS, END_STREAM, Frame, HEADERS, PROTOCOL_ERROR, Peer,
        Told::{self, Answered, GoAway, Reset},
        block, post,
    },
    tap::{Message, Tap},
};
use crate::harness::{Gateway, Http, Keys};

type Fields = Vec<(String, String)>;

/// One request, and what becomes of it.
struct Case {
    what: String,
    fields: Fields,
    body: &'static str,
    trailers: Option<Fields>,
    told: Told,
    /// The request line of what the upstream receives, if it does.
    line: Option<&'static str>,
}

const LINE: Option<&str> = Some("POST /v1/echo HTTP/1.1");
const MALFORMED: Told = Reset(PROTOCOL_ERROR);
/// What h2 cannot put into a header map at all ends the connection, which is more than section 8.1.1 asks for.
const FATAL: Told = GoAway(PROTOCOL_ERROR);

impl Case {
    fn new(what: impl Into<String>, fields: Fields, told: Told, line: Option<&'static str>) -> Self {
        Self { what: what.into(), fields, body: "hello", trailers: None, told, line }
    }

    fn trailed(what: &str, trailers: &[(&str, &str)], told: Told, line: Option<&'static str>) -> Self {
        Self { trailers: Some(owned(trailers)), ..Self::new(what, usual(), told, line) }
    }
}

fn usual() -> Fields {
    post("/v1/echo")
}

fn owned(fields: &[(&str, &str)]) -> Fields {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The usual request with these behind it.
fn and(more: &[(&str, &str)]) -> Fields {
    [usual(), owned(more)].concat()
}

/// The usual request with this before it.
fn after(name: &str, value: &str) -> Fields {
    [owned(&[(name, value)]), usual()].concat()
}

/// The usual request with another value of this.
fn with(name: &str, value: &str) -> Fields {
    usual()
        .into_iter()
        .map(|field| if field.0 == name { (field.0, value.to_owned()) } else { field })
        .collect()
}

fn without(name: &str) -> Fields {
    usual().into_iter().filter(|field| field.0 != name).collect()
}

/// Sends each on a connection of its own, and compares what it was told and what came through with what should be.
async fn judge(settings: Keys<'_>, cases: Vec<Case>, look: impl Fn(&str, &Message)) {
    let tap = Tap::open().await;
    let gateway = Gateway::to(&tap.url(), Http::One, Keys { one_worker: true, ..settings });
    let mut wrong = Vec::new();
    for case in cases {
        let mut peer = Peer::connect(gateway.address()).await;
        peer.write(&frames(&case)).await;
        let told = peer.told(1).await;
        // Whatever the gateway made of that one, it has done so before this one is answered.
        let mut other = Peer::connect(gateway.address()).await;
        other.write(&[Frame::headers(1, END_STREAM, block(post("/v1/marker")))]).await;
        assert_eq!(other.told(1).await, Answered(200), "after {}", case.what);
        drop((peer, other));
        let mut came: Vec<Message> = tap.take().await.iter().map(|bytes| Message::only(bytes)).collect();
        came.retain(|message| message.line != "POST /v1/marker HTTP/1.1");
        let lines: Vec<_> = came.iter().map(|message| &*message.line).collect();
        if told != case.told || lines != case.line.as_slice() {
            wrong.push(format!("{}: {told:?}, {lines:?}", case.what));
        }
        came.iter().for_each(|message| {
            assert_eq!(message.all("host"), [tap.address.to_string()], "{}", case.what);
            look(&case.what, message);
        });
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn frames(case: &Case) -> Vec<Frame> {
    let mut frames = vec![Frame::headers(1, 0, block(case.fields.clone()))];
    let ends = if case.trailers.is_none() { END_STREAM } else { 0 };
    frames.push(Frame::data(1, ends, case.body));
    frames.extend(case.trailers.clone().map(|trailers| Frame::headers(1, END_STREAM, block(trailers))));
    frames
}

fn is_the_usual(what: &str, message: &Message) {
    assert_eq!(message.body, b"hello", "{what}");
    let names = ["connection", "te", "upgrade", "keep-alive", "expect", "x-smuggled", "cookie"];
    names.iter().for_each(|name| assert!(message.all(name).is_empty(), "{what}: {message:?}"));
}

/// Section 8.3: pseudo-headers come once, first, and are those that are defined.
#[tokio::test]
async fn pseudo_headers_repeated_unknown_or_out_of_place() {
    let mut cases = Vec::new();
    for (name, value) in
        [(":method", "GET"), (":scheme", "http"), (":authority", "a.test"), (":path", "/v1/other")]
    {
        cases.push(Case::new(format!("{name} twice"), after(name, value), MALFORMED, None));
        cases.push(Case::new(format!("{name} at the end"), and(&[(name, value)]), MALFORMED, None));
        let moved = [without(name), owned(&[(name, value)])].concat();
        cases.push(Case::new(format!("{name} after the headers"), moved, MALFORMED, None));
    }
    for name in [":method", ":scheme", ":path"] {
        cases.push(Case::new(format!("no {name}"), without(name), MALFORMED, None));
    }
    cases.push(Case::new("no :authority", without(":authority"), Answered(200), LINE));
    cases.push(Case::new(":status", after(":status", "200"), MALFORMED, None));
    for name in [":unknown", ":", ":Path", ":host"] {
        cases.push(Case::new(name, after(name, "x"), FATAL, None));
    }
    judge(Keys::default(), cases, is_the_usual).await;
}

/// Section 8.2.1: names in small letters, values without line ends; the rest of what would break a line of HTTP/1.1 (section 10.3).
#[tokio::test]
async fn names_and_values_that_would_break_a_line() {
    let names = [
        "X-Upper",
        "x\r\nx-smuggled",
        "x\nx-smuggled",
        "x\0",
        "x y",
        "x:y",
        "x: y",
        "",
        " x",
        "x\t",
        "x\u{7f}",
        "é",
    ];
    let values = ["a\r\nx-smuggled: 1", "a\nx-smuggled: 1", "a\rb", "a\0b", "a\u{7f}b", "a\u{1}"];
    let name = |name: &&str| Case::new(format!("{name:?}"), and(&[(name, "1")]), FATAL, None);
    let value = |value: &&str| Case::new(format!("{value:?}"), and(&[("x-a", value)]), FATAL, None);
    let mut cases: Vec<_> = names.iter().map(name).chain(values.iter().map(value)).collect();
    // White space around a value is malformed; h2 lets it through, and it means nothing in HTTP/1.1 (RFC 9112, section 5).
    for value in [" a", "a ", "\ta\t"] {
        cases.push(Case::new(format!("{value:?}"), and(&[("x-a", value)]), Answered(200), LINE));
    }
    judge(Keys::default(), cases, is_the_usual).await;
}

/// Section 8.2.2: what concerns the connection has no place in HTTP/2.
#[tokio::test]
async fn headers_of_the_connection() {
    let fields = [
        ("connection", "close"),
        ("connection", "x-a"),
        ("connection", ""),
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("upgrade", "h2c"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
        ("te", "Trailers"),
    ];
    let mut cases: Vec<_> =
        fields.iter().map(|field| Case::new(format!("{field:?}"), and(&[*field]), MALFORMED, None)).collect();
    cases.push(Case::new("te: trailers", and(&[("te", "trailers")]), Answered(200), LINE));
    cases.push(Case::new("expect", and(&[("expect", "100-continue")]), Answered(200), LINE));
    cases.push(Case::new("http2-settings", and(&[("http2-settings", "AAMAAABk")]), Answered(200), LINE));
    judge(Keys::default(), cases, is_the_usual).await;
}

/// Section 8.3.1.
#[tokio::test]
async fn paths_authorities_and_schemes_that_are_none() {
    let mut cases = Vec::new();
    let paths = [
        ("", MALFORMED, None),
        ("/v1/e cho", MALFORMED, None),
        ("/v1/echo HTTP/1.1\r\nx-smuggled: 1", MALFORMED, None),
        ("/v1/echo\r\n", MALFORMED, None),
        ("/v1/echo?a=\r\nx-smuggled: 1", MALFORMED, None),
        ("/v1/echo\0", MALFORMED, None),
        ("/v1/%0d%0aecho", Answered(400), None),
        ("*", Answered(501), None),
        ("v1/echo", MALFORMED, None),
        ("http://gate.test/v1/echo", MALFORMED, None),
        ("?/v1/echo", Answered(404), None),
        ("//evil.test/v1/echo", Answered(404), None),
        ("/v1/x/../echo", Answered(200), LINE),
        // A fragment is no part of a path; http's `Uri` drops it before anybody decides by it.
        ("/v1/echo#/../../x", Answered(200), LINE),
    ];
    for (path, told, line) in paths {
        cases.push(Case::new(format!(":path {path:?}"), with(":path", path), told, line));
    }
    for authority in ["", "a b", "a.test/v1", "a.test:1:2", "a.test\r\nx-smuggled: 1", "[::1", "a\0"] {
        cases.push(Case::new(
            format!(":authority {authority:?}"),
            with(":authority", authority),
            MALFORMED,
            None,
        ));
    }
    // Without user and password, and with a port that is one.
    for authority in ["key@a.test", "a@b@c", "a.test:99999999", "a.test:x", ":80"] {
        cases.push(Case::new(
            format!(":authority {authority:?}"),
            with(":authority", authority),
            Answered(400),
            None,
        ));
    }
    for scheme in ["ht tp", "http://x", "http\r\nx-smuggled: 1", "1http:"] {
        cases.push(Case::new(format!(":scheme {scheme:?}"), with(":scheme", scheme), MALFORMED, None));
    }
    // Nothing goes by the scheme that a caller names.
    for scheme in ["https", "ftp", "HTTP", ""] {
        cases.push(Case::new(format!(":scheme {scheme:?}"), with(":scheme", scheme), Answered(200), LINE));
    }
    judge(Keys::default(), cases, is_the_usual).await;
}

/// Section 8.3.1: a Host that names another than `:authority` is malformed; it should not be chosen between them.
#[tokio::test]
async fn two_hosts() {
    let cases = vec![
        Case::new("the same", and(&[("host", "gate.test")]), Answered(200), LINE),
        Case::new("in other letters", and(&[("host", "GATE.test")]), Answered(200), LINE),
        Case::new("another", and(&[("host", "evil.test")]), Answered(400), None),
        Case::new("the usual port", and(&[("host", "gate.test:80")]), Answered(200), LINE),
        Case::new("another port", and(&[("host", "gate.test:81")]), Answered(400), None),
        Case::new("no host", and(&[("host", "")]), Answered(400), None),
        Case::new("two", and(&[("host", "gate.test"), ("host", "gate.test")]), Answered(400), None),
        Case::new(
            "Host alone",
            [without(":authority"), owned(&[("host", "gate.test")])].concat(),
            Answered(200),
            LINE,
        ),
        Case::new(
            "two, alone",
            [without(":authority"), owned(&[("host", "gate.test"), ("host", "gate.test")])].concat(),
            Answered(400),
            None,
        ),
    ];
    judge(Keys { route: "forward_address = true", ..Keys::default() }, cases, |what, message| {
        is_the_usual(what, message);
        assert_eq!(message.all("x-forwarded-host"), ["gate.test"], "{what}");
    })
    .await;
}

/// Section 8.1.1: the length is that of the DATA, and no other number.
#[tokio::test]
async fn lengths_that_are_not_the_bodys() {
    let lengths = ["+5", "-5", "5, 5", "0x5", "5 ", " 5", "5.0", "", "18446744073709551616", "4", "0"];
    let mut cases: Vec<_> = lengths
        .iter()
        .map(|length| Case::new(format!("{length:?}"), and(&[("content-length", length)]), MALFORMED, None))
        .collect();
    let two = |first, second| and(&[("content-length", first), ("content-length", second)]);
    cases.push(Case::new("5", and(&[("content-length", "5")]), Answered(200), LINE));
    cases.push(Case::new("6", and(&[("content-length", "6")]), MALFORMED, None));
    cases.push(Case::new("5 and 6", two("5", "6"), MALFORMED, None));
    cases.push(Case::new("5 and 5", two("5", "5"), Answered(200), LINE));
    cases.push(Case {
        body: "",
        ..Case::new("0 of nothing", and(&[("content-length", "0")]), Answered(200), LINE)
    });
    cases.push(Case {
        body: "",
        ..Case::new("5 of nothing", and(&[("content-length", "5")]), MALFORMED, None)
    });
    judge(Keys::default(), cases, |what, message| {
        assert_eq!(message.body, if what == "0 of nothing" { "" } else { "hello" }.as_bytes());
    })
    .await;
}

/// Sections 8.5 and RFC 8441: there is no tunnel here. Methods are tokens (RFC 9110, section 9.1).
#[tokio::test]
async fn tunnels_and_methods() {
    let connect = |more: &[(&str, &str)]| {
        let key = usual().into_iter().filter(|(name, _)| name == "authorization").collect();
        [owned(&[(":method", "CONNECT"), (":authority", "gate.test:443")]), owned(more), key].concat()
    };
    let whole = [(":scheme", "http"), (":path", "/v1/echo")];
    let extended = [whole[0], whole[1], (":protocol", "websocket")];
    let mut cases = vec![
        Case::new("CONNECT", connect(&[]), Answered(501), None),
        Case::new("CONNECT with a path", connect(&whole), MALFORMED, None),
        Case::new("extended CONNECT", connect(&extended), MALFORMED, None),
        Case::new(":protocol", after(":protocol", "websocket"), MALFORMED, None),
        Case::new("TRACE", with(":method", "TRACE"), Answered(501), None),
        // hyper ends the whole connection, without a word.
        Case::new(
            "CONNECT with a length",
            [connect(&[]), owned(&[("content-length", "5")])].concat(),
            Told::Closed,
            None,
        ),
    ];
    for method in ["", "PO ST", "POST\r\n", "GET /v1/x HTTP/1.1\r\nx-smuggled: 1\r\n\r\n", "P\0", "P:"] {
        cases.push(Case::new(format!("{method:?}"), with(":method", method), FATAL, None));
    }
    cases.push(Case::new("post", with(":method", "post"), Answered(200), Some("post /v1/echo HTTP/1.1")));
    judge(Keys::default(), cases, is_the_usual).await;
}

/// Section 8.2.3: crumbs of a cookie would have to be one header again in HTTP/1.1. No cookie goes upstream at all.
#[tokio::test]
async fn cookies_in_crumbs() {
    let crumbs = and(&[("cookie", "a=1"), ("x-a", "1"), ("cookie", "b=2"), ("cookie", "c=3")]);
    judge(Keys::default(), vec![Case::new("crumbs", crumbs, Answered(200), LINE)], is_the_usual).await;
}

/// Section 8.1: no pseudo-headers in trailers, and nothing that says how a message is framed (RFC 9110, section 6.5.1).
#[tokio::test]
async fn trailers() {
    let cases = vec![
        Case::trailed("a sum", &[("x-sum", "7")], Answered(200), LINE),
        // They are malformed; h2 overlooks them, and nothing is made of them.
        Case::trailed(":path", &[(":path", "/v1/other"), ("x-sum", "7")], Answered(200), LINE),
        Case::trailed(":method", &[(":method", "GET")], Answered(200), LINE),
        Case::trailed(":unknown", &[(":unknown", "1")], FATAL, None),
        Case::trailed("a length", &[("content-length", "7")], Answered(200), LINE),
        Case::trailed("a host", &[("host", "evil.test")], Answered(200), LINE),
        Case::trailed("a key", &[("authorization", "Bearer x")], Answered(200), LINE),
        Case::trailed("chunks", &[("transfer-encoding", "chunked")], MALFORMED, None),
        Case::trailed("a line end", &[("x-sum", "7\r\n\r\nGET / HTTP/1.1")], FATAL, None),
    ];
    judge(Keys::default(), cases, |what, message| {
        is_the_usual(what, message);
        let forbidden = ["content-length", "host", "authorization", ":path", ":method"];
        assert!(
            message.trailers.iter().all(|(name, _)| !forbidden.contains(&&**name)),
            "{what}: {message:?}"
        );
    })
    .await;
}

/// RFC 9113, section 4.3: a header block is one, however it is cut.
#[tokio::test]
async fn a_header_block_cut_at_every_byte() {
    let tap = Tap::open().await;
    let gateway = Gateway::to(&tap.url(), Http::One, Keys { one_worker: true, ..Keys::default() });
    let block = block(usual());
    for at in 0..=block.len() {
        let (first, second) = block.split_at(at);
        let mut peer = Peer::connect(gateway.address()).await;
        let begun = Frame::new(HEADERS, END_STREAM, 1, first);
        peer.write(&[begun, Frame::new(CONTINUATION, END_HEADERS, 1, second)]).await;
        assert_eq!(peer.told(1).await, Answered(200), "cut at {at}");
        drop(peer);
        let came = tap.take().await;
        assert_eq!(came.len(), 1, "cut at {at}");
        assert_eq!(Some(&*Message::only(&came[0]).line), LINE, "cut at {at}");
    }
}
