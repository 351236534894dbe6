//! What RFC 9113 and RFC 7541 let a caller send, form by form, and what they promise it: every form of a request comes through as the one that is
//! meant, and what asks for an answer has it.

use super::{
    frames::{
        ACK, CONTINUATION, DATA, ENABLE_PUSH, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADER_TABLE_SIZE,
        HEADERS, INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE, PADDED,
        PING, PREFACE, PRIORITY, PROTOCOL_ERROR, Peer, SETTINGS, STREAM_CLOSED,
        Told::{Answered, GoAway, Reset},
        WITH_PRIORITY, block, bytes_of, integer, literal, post,
    },
    tap::{Message, Tap},
};
use crate::harness::{Gateway, Http, Keys, simulator};

const RESERVED: u32 = 1 << 31;
/// `custom-key` and `custom-value` in Huffman coding (RFC 7541, appendix C.4.3).
const CODED_KEY: [u8; 8] = [0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f];
const CODED_VALUE: [u8; 9] = [0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf];
/// The static table's index of this name (RFC 7541, appendix A).
const USER_AGENT: usize = 58;

/// A request on stream 1, and the message that an upstream receives for it.
struct Case {
    what: String,
    frames: Vec<Frame>,
    line: &'static str,
    body: String,
    /// A header, and its values.
    header: Option<(&'static str, Vec<&'static str>)>,
    trailers: Vec<(String, String)>,
}

impl Case {
    fn new(what: impl Into<String>, frames: Vec<Frame>, body: impl Into<String>) -> Self {
        let line = "POST /v1/echo HTTP/1.1";
        Self { what: what.into(), frames, line, body: body.into(), header: None, trailers: Vec::new() }
    }
}

fn fields() -> Vec<u8> {
    block(post("/v1/echo"))
}

fn frame(kind: u8, flags: u8, stream: u32, parts: &[&[u8]]) -> Frame {
    Frame::new(kind, flags, stream, parts.concat())
}

async fn judge(cases: Vec<Case>) {
    let tap = Tap::open().await;
    let gateway = Gateway::to(&tap.url(), Http::One, Keys { one_worker: true, ..Keys::default() });
    let mut wrong = Vec::new();
    for Case { what, frames, line, body, header, trailers } in cases {
        let mut peer = Peer::connect(gateway.address()).await;
        peer.write(&frames).await;
        let told = peer.told(1).await;
        drop(peer);
        let came: Vec<Message> = tap.take().await.iter().map(|bytes| Message::only(bytes)).collect();
        let right = |message: &Message| {
            message.line == line
                && message.body == body.as_bytes()
                && message.trailers == trailers
                && header.as_ref().is_none_or(|(name, values)| message.all(name) == *values)
        };
        if told != Answered(200) || came.len() != 1 || !right(&came[0]) {
            wrong.push(format!("{what}: {told:?}, {came:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Sections 4.1, 4.2, 6.1, 6.9 and 8.1.
#[tokio::test]
async fn every_form_of_body() {
    let data = |flags, parts: &[&[u8]]| frame(DATA, flags, 1, parts);
    let hello = Frame::data(1, END_STREAM, "hello");
    let sum = Frame::headers(1, END_STREAM, block([("x-sum", "7")]));
    let padded = END_STREAM | PADDED;
    let bodies = [
        ("in one piece", vec![hello.clone()]),
        ("in pieces", vec![data(0, &[b"he"]), data(0, &[]), data(END_STREAM, &[b"llo"])]),
        ("with an end of its own", vec![data(0, &[b"hello"]), data(END_STREAM, &[])]),
        ("with padding", vec![data(padded, &[&[6], b"hello", &[0; 6]])]),
        ("with padding of nothing", vec![data(padded, &[&[0], b"hello"])]),
        ("after padding alone", vec![data(PADDED, &[&[255], &[0; 255]]), hello.clone()]),
        ("with flags of no meaning", vec![data(END_STREAM | 0xf6, &[b"hello"])]),
        ("with the reserved bit", vec![Frame { stream: 1 | RESERVED, ..hello.clone() }]),
        ("after the connection's window", vec![Frame::window(0, 1), hello.clone()]),
        ("after the stream's window", vec![Frame::window(1, 1), hello.clone()]),
        ("after a window with the reserved bit", vec![Frame::window(1, 1 | RESERVED), hello.clone()]),
        ("after a priority", vec![frame(PRIORITY, 0, 1, &[&[0, 0, 0, 3, 7]]), hello]),
    ];
    let case = |(what, rest), body| {
        let head = [fields(), block([("trailer", "x-sum")])].concat();
        Case::new(what, [vec![Frame::headers(1, 0, head)], rest].concat(), body)
    };
    let mut cases: Vec<Case> = bodies.into_iter().map(|row| case(row, "hello")).collect();
    let mut summed = case(("before trailers", vec![data(0, &[b"hello"]), sum]), "hello");
    summed.trailers.push(("x-sum".to_owned(), "7".to_owned()));
    cases.push(summed);
    let long = "x".repeat(1 << 14);
    cases.push(case(("as long as a frame may be", vec![data(END_STREAM, &[long.as_bytes()])]), &long));
    judge(cases).await;
}

/// Sections 4.1, 5.3.2, 6.2, 6.3, 6.10 and 8.1. Priorities mean nothing any more.
#[tokio::test]
async fn every_form_of_head() {
    let fields = fields();
    let whole = |flags, parts: &[&[u8]]| vec![frame(HEADERS, END_STREAM | END_HEADERS | flags, 1, parts)];
    let cut = |at: &[usize]| {
        let (begins, ends) = ([&[0], at].concat(), [at, &[fields.len()]].concat());
        let pieces = begins.into_iter().zip(ends);
        let mut frames: Vec<Frame> =
            pieces.map(|(begin, end)| frame(CONTINUATION, 0, 1, &[&fields[begin..end]])).collect();
        (frames[0].kind, frames[0].flags) = (HEADERS, END_STREAM);
        frames.last_mut().unwrap().flags |= END_HEADERS;
        frames
    };
    let both = PADDED | WITH_PRIORITY;
    let mut heads = vec![
        ("POST".to_owned(), whole(0, &[&fields])),
        ("with padding".to_owned(), whole(PADDED, &[&[8], &fields, &[0; 8]])),
        ("with padding and priority".to_owned(), whole(both, &[&[8, 0, 0, 0, 0, 255], &fields, &[0; 8]])),
        ("in three frames".to_owned(), cut(&[5, 10])),
        ("in frames of nothing too".to_owned(), cut(&[0, 0, 20, 20, fields.len()])),
        ("with flags of no meaning".to_owned(), whole(0xd2, &[&fields])),
        ("with the reserved bit".to_owned(), vec![Frame::headers(1 | RESERVED, END_STREAM, &*fields)]),
    ];
    for (what, priority) in [
        ("the least", [0, 0, 0, 0, 0]),
        ("the most", [0, 0, 0, 0, 255]),
        ("exclusive", [0x80, 0, 0, 0, 0]),
        ("on another", [0, 0, 0, 5, 0]),
    ] {
        heads.push((format!("with priority {what}"), whole(WITH_PRIORITY, &[&priority, &fields])));
        for stream in [1, 3] {
            let before = vec![frame(PRIORITY, 0, stream, &[&priority])];
            heads.push((
                format!("after PRIORITY of {stream}, {what}"),
                [before, whole(0, &[&fields])].concat(),
            ));
        }
    }
    let before = vec![frame(PRIORITY, 0, 3, &[&[0, 0, 0, 1, 0]])];
    heads.push(("after PRIORITY of 3 on 1".to_owned(), [before, whole(0, &[&fields])].concat()));
    let mut cases: Vec<Case> = heads.into_iter().map(|(what, frames)| Case::new(what, frames, "")).collect();
    for (method, line) in [("GET", "GET /v1/echo HTTP/1.1"), ("HEAD", "HEAD /v1/echo HTTP/1.1")] {
        let mut fields = post("/v1/echo");
        method.clone_into(&mut fields[0].1);
        cases
            .push(Case { line, ..Case::new(method, vec![Frame::headers(1, END_STREAM, block(fields))], "") });
    }
    judge(cases).await;
}

/// RFC 7541, sections 4.2, 5.2, 6.1, 6.2 and 6.3.
#[tokio::test]
async fn every_form_of_header_field() {
    let string = |coded: bool, text: &[u8]| [&integer(u8::from(coded) << 7, 7, text.len()), text].concat();
    let kept = |value: &[u8]| literal(0x40, b"custom-key", value);
    let from_static = integer(0x80, 7, USER_AGENT);
    let again = [kept(b"1"), vec![0x80 | 62]].concat();
    let named = [kept(b"1"), integer(0, 4, 62), string(false, b"2")].concat();
    let older = [kept(b"1"), kept(b"2"), vec![0x80 | 63]].concat();
    let mut forms = vec![
        ("from the static table".to_owned(), from_static, "user-agent", vec![""]),
        ("from the dynamic table".to_owned(), again.clone(), "custom-key", vec!["1", "1"]),
        ("a name from the dynamic table".to_owned(), named, "custom-key", vec!["1", "2"]),
        ("the older of two".to_owned(), older, "custom-key", vec!["1", "2", "1"]),
    ];
    let plain = (false, &b"custom-key"[..], &b"custom-value"[..], "");
    let coded = (true, &CODED_KEY[..], &CODED_VALUE[..], ", in Huffman coding");
    for (form, prefix, kept) in [(0x40, 6, "kept"), (0, 4, "not kept"), (0x10, 4, "never kept")] {
        for (coded, name, value, how) in [plain, coded] {
            let (name, value) = (string(coded, name), string(coded, value));
            let own = [&[form][..], &name, &value].concat();
            let known = [integer(form, prefix, USER_AGENT), value].concat();
            forms.push((format!("a name of its own, {kept}{how}"), own, "custom-key", vec!["custom-value"]));
            forms.push((format!("a known name, {kept}{how}"), known, "user-agent", vec!["custom-value"]));
        }
    }
    let case = |what, block: Vec<u8>, header| Case {
        header,
        ..Case::new(what, vec![Frame::headers(1, END_STREAM, block)], "")
    };
    let mut cases: Vec<Case> = forms
        .into_iter()
        .map(|(what, form, name, values)| case(what, [fields(), form].concat(), Some((name, values))))
        .collect();
    for (what, sizes, more, values) in [
        ("nothing", &[0][..], kept(b"1"), vec!["1"]),
        ("the most", &[4096], again.clone(), vec!["1", "1"]),
        ("nothing and to the most", &[0, 4096], again, vec!["1", "1"]),
    ] {
        let sizes: Vec<u8> = sizes.iter().flat_map(|size| integer(0x20, 5, *size)).collect();
        let block = [sizes, fields(), more].concat();
        cases.push(case(format!("the table's size to {what}"), block, Some(("custom-key", values))));
    }
    judge(cases).await;
}

/// Sections 3.4, 6.5 and 6.5.3.
#[tokio::test]
async fn settings_are_acknowledged() {
    let upstream = simulator().await;
    let gateway = Gateway::with(&upstream, Http::One, Keys { one_worker: true, ..Keys::default() });
    let mut peer = Peer::connect_bare(gateway.address()).await;
    let begin = [PREFACE, &bytes_of(&[Frame::settings(&[(INITIAL_WINDOW_SIZE, 65_535)])])].concat();
    peer.write_bytes(&begin).await.unwrap();
    let first = peer.next().await.unwrap();
    assert_eq!((first.kind, first.flags, first.stream), (SETTINGS, 0, 0));
    let acknowledged = Frame::new(SETTINGS, ACK, 0, "");
    assert_eq!(peer.next_of(SETTINGS).await, acknowledged);
    peer.write(std::slice::from_ref(&acknowledged)).await;
    let all = [
        (HEADER_TABLE_SIZE, 4096),
        (ENABLE_PUSH, 1),
        (MAX_CONCURRENT_STREAMS, 100),
        (INITIAL_WINDOW_SIZE, 65_535),
        (MAX_FRAME_SIZE, 16_384),
        (MAX_HEADER_LIST_SIZE, 100),
    ];
    for settings in [&all[..], &[(ENABLE_PUSH, 0)], &[]] {
        peer.write(&[Frame::settings(settings)]).await;
        assert_eq!(peer.next_of(SETTINGS).await, acknowledged);
    }
    // Each once.
    peer.write(&[Frame::ping([7; 8])]).await;
    loop {
        let frame = peer.next().await.expect("the connection goes on");
        assert!(![SETTINGS, GOAWAY].contains(&frame.kind), "{frame:?}");
        if frame.kind == PING {
            break;
        }
    }
}

/// Section 6.7: the answer is the same but for its flag, and an answer has none. Section 4.1: flags that are not defined, and the reserved bit.
#[tokio::test]
async fn pings_are_answered() {
    let upstream = simulator().await;
    let gateway = Gateway::with(&upstream, Http::One, Keys { one_worker: true, ..Keys::default() });
    let mut peer = Peer::connect(gateway.address()).await;
    let pings = [(0, 0, b"a payload"), (0x16, 0, b"any flags"), (0x16, RESERVED, b"reserved!")];
    for (flags, stream, payload) in pings {
        let payload = &payload[..8];
        let answer = Frame::new(PING, ACK, 0, b"unasked!");
        peer.write(&[answer, Frame::new(PING, flags, stream, payload)]).await;
        assert_eq!(peer.next_of(PING).await, Frame::new(PING, ACK, 0, payload));
    }
}

/// Sections 6.8 and 7: what is open is answered, and then the connection is over, whatever the reason.
#[tokio::test]
async fn goodbyes_are_waited_for() {
    let upstream = simulator().await;
    // It has no other reason to end a connection as soon as that.
    let server = r#"http2_ping = "1h""#;
    let gateway = Gateway::with(&upstream, Http::One, Keys { one_worker: true, server, ..Keys::default() });
    for code in [0, 0xff] {
        let goodbye = frame(GOAWAY, 0, 0, &[&[0; 4], &u32::to_be_bytes(code), b"and more"]);
        let mut peer = Peer::connect(gateway.address()).await;
        peer.write(std::slice::from_ref(&goodbye)).await;
        peer.closed().await;
        let mut peer = Peer::connect(gateway.address()).await;
        let open = Frame::headers(1, 0, block(post("/v1/embeddings")));
        peer.write(&[open, goodbye, Frame::data(1, END_STREAM, "{}")]).await;
        assert_eq!(peer.told(1).await, Answered(200));
        peer.closed().await;
    }
}

/// Section 5.1: both sides have ended.
#[tokio::test]
async fn frames_on_a_closed_stream() {
    let upstream = simulator().await;
    let gateway = Gateway::with(&upstream, Http::One, Keys { one_worker: true, ..Keys::default() });
    let asked = Frame::headers(1, END_STREAM, block(post("/v1/embeddings")));
    let cases = [
        (Frame::new(PRIORITY, 0, 1, [0, 0, 0, 0, 255]), None),
        (Frame::window(1, 1), None),
        (Frame::reset(1, 8), None),
        (Frame::data(1, END_STREAM, "x"), Some(Reset(STREAM_CLOSED))),
        // Not the stream's error STREAM_CLOSED: it counts as another request, of a number that was used.
        (asked.clone(), Some(GoAway(PROTOCOL_ERROR))),
        (Frame::new(CONTINUATION, END_HEADERS, 1, ""), Some(GoAway(PROTOCOL_ERROR))),
    ];
    for (number, (frame, told)) in cases.into_iter().enumerate() {
        let mut peer = Peer::connect(gateway.address()).await;
        peer.write(std::slice::from_ref(&asked)).await;
        assert_eq!(peer.told(1).await, Answered(200));
        gateway.log.line(number + 1).await;
        assert!(peer.is_unimpressed().await);
        peer.write(std::slice::from_ref(&frame)).await;
        match told {
            None => assert!(peer.is_unimpressed().await, "{frame:?}"),
            Some(told) => assert_eq!(peer.told(1).await, told, "{frame:?}"),
        }
    }
}
