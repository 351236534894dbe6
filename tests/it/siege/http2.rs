//! What RFC 9113 and RFC 7541 say is an error, frame by frame: the connection or the stream ends with the code they name, and the next
//! connection is served as if nothing had been.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::frames::{
    ACK, COMPRESSION_ERROR, CONTINUATION, DATA, ENABLE_PUSH, END_HEADERS, END_STREAM, FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR, Frame, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS, MAX_FRAME_SIZE,
    PADDED, PING, PREFACE, PRIORITY, PROTOCOL_ERROR, PUSH_PROMISE, Peer, REFUSED_STREAM, RST_STREAM,
    SETTINGS, STREAM_CLOSED,
    Told::{self, Answered, Closed, GoAway, Reset},
    WINDOW_UPDATE, WITH_PRIORITY, block, bytes_of, integer, literal, post,
};
use crate::harness::{Gateway, Http, Keys, safely, simulator};

/// What the frames of a case lead to; stream errors are those of stream 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Told(Told),
    /// Nothing: the connection lives on, and so do its streams.
    Nothing,
}

/// Ends the connection with this code.
fn fatal(code: u32) -> Then {
    Then::Told(GoAway(code))
}

/// Ends the stream with this code.
fn reset(code: u32) -> Then {
    Then::Told(Reset(code))
}

/// h2 says PROTOCOL_ERROR in many places where a more exact code is defined (section 7: the codes are information), and ends the
/// connection for some stream errors (section 5.4.2 allows it). Such a case names what is defined, for the reader.
fn fatal_not(_defined: Told) -> Then {
    fatal(PROTOCOL_ERROR)
}

type Case = (&'static str, Vec<Frame>, Then);

/// A request whose body has not come yet; its answer is not due before that.
fn open(stream: u32) -> Frame {
    Frame::headers(stream, 0, block(post("/v1/embeddings")))
}

/// A whole request that the upstream answers late: half-closed (remote) for long.
fn asked(stream: u32) -> Frame {
    let late = [("x-simulate".to_owned(), "delay=1h".to_owned())];
    Frame::headers(stream, END_STREAM, block(post("/v1/embeddings").into_iter().chain(late)))
}

/// More fields on a stream: trailers if they end it.
fn more(stream: u32, flags: u8) -> Frame {
    Frame::headers(stream, flags, block([("x-sum", "1")]))
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Frame {
    Frame::new(kind, flags, stream, payload)
}

async fn judge(cases: Vec<Case>) {
    let upstream = simulator().await;
    let server = "http2_max_streams = 3";
    let gateway = Gateway::with(&upstream, Http::One, Keys { one_worker: true, server, ..Keys::default() });
    let mut wrong = Vec::new();
    for (what, frames, then) in cases {
        let mut peer = Peer::connect(gateway.address()).await;
        peer.write(&frames).await;
        let seen = match then {
            Then::Nothing if peer.is_unimpressed().await => Then::Nothing,
            Then::Nothing => Then::Told(Closed),
            Then::Told(_) => Then::Told(peer.told(1).await),
        };
        if seen != then {
            wrong.push(format!("{what}: {seen:?}, not {then:?}"));
        }
        match seen {
            // A connection error is followed by the close (section 5.4.1).
            Then::Told(GoAway(_)) => peer.closed().await,
            // A stream error leaves the connection alone (section 5.4.2).
            Then::Told(Reset(_)) => {
                peer.write(&[Frame::ping(*b"and now?")]).await;
                loop {
                    let frame = peer.next().await.unwrap_or_else(|| panic!("closed after {what}"));
                    if frame.kind == PING && frame.payload == b"and now?" {
                        break;
                    }
                }
            }
            _ => {}
        }
        drop(peer);
        assert_served(&gateway, what).await;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

async fn assert_served(gateway: &Gateway, after: &str) {
    let mut fresh = Peer::connect(gateway.address()).await;
    fresh.write(&[open(1), Frame::data(1, END_STREAM, "{}")]).await;
    assert_eq!(fresh.told(1).await, Answered(200), "after {after}");
}

/// Section 3.4.
#[tokio::test]
async fn prefaces_that_are_none() {
    let upstream = simulator().await;
    let gateway = Gateway::with(&upstream, Http::One, Keys { one_worker: true, ..Keys::default() });
    for (preface, answered) in [
        ("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", true),
        ("neither of the two\r\n\r\n", true),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r", false),
    ] {
        let mut peer = Peer::connect_bare(gateway.address()).await;
        peer.write_bytes(preface.as_bytes()).await.unwrap();
        if !answered {
            // Who half-closes at once may have no answer.
            peer.tcp.shutdown().await.unwrap();
        }
        // It is the end of the connection in any case.
        let mut said = Vec::new();
        let _ = safely(peer.tcp.read_to_end(&mut said)).await;
        assert_eq!(
            said.starts_with(b"HTTP/1.1 "),
            answered,
            "{preface:?}: {}",
            String::from_utf8_lossy(&said)
        );
        assert_served(&gateway, preface).await;
    }
    // The first frame must be SETTINGS; h2 takes another as well, and nothing goes by that.
    let mut peer = Peer::connect_bare(gateway.address()).await;
    peer.write_bytes(&[PREFACE, &bytes_of(&[Frame::ping(*b"too soon"), Frame::settings(&[])])].concat())
        .await
        .unwrap();
    assert!(peer.is_unimpressed().await);
}

/// Sections 4.2 and 4.3.
#[tokio::test]
async fn frames_too_long_and_header_blocks_in_pieces() {
    let long = vec![0; 16_385];
    let fields = asked(1).payload;
    let begun = frame(HEADERS, END_STREAM, 1, &fields[..10]);
    let end = frame(CONTINUATION, END_HEADERS, 1, &fields[10..]);
    judge(vec![
        ("DATA too long", vec![open(1), Frame::data(1, 0, long.clone())], fatal(FRAME_SIZE_ERROR)),
        ("HEADERS too long", vec![frame(HEADERS, END_HEADERS, 1, &long)], fatal(FRAME_SIZE_ERROR)),
        ("an unknown frame too long", vec![frame(0x42, 0, 1, &long)], fatal(FRAME_SIZE_ERROR)),
        ("PING within a block", vec![begun.clone(), Frame::ping([0; 8])], fatal(PROTOCOL_ERROR)),
        (
            "PRIORITY within a block",
            vec![begun.clone(), frame(PRIORITY, 0, 1, &[0; 5]), end.clone()],
            fatal(PROTOCOL_ERROR),
        ),
        (
            "DATA within a block",
            vec![begun.clone(), Frame::data(1, END_STREAM, "x"), end.clone()],
            fatal(PROTOCOL_ERROR),
        ),
        (
            "DATA after a CONTINUATION that is not the last",
            vec![begun.clone(), frame(CONTINUATION, 0, 1, b""), Frame::data(1, END_STREAM, "x"), end.clone()],
            fatal(PROTOCOL_ERROR),
        ),
        (
            "CONTINUATION on stream 0 within a block",
            vec![begun.clone(), Frame { stream: 0, ..end.clone() }],
            fatal(PROTOCOL_ERROR),
        ),
        (
            "CONTINUATION after the last",
            vec![begun.clone(), end, frame(CONTINUATION, END_HEADERS, 1, b"")],
            fatal(PROTOCOL_ERROR),
        ),
        ("another's HEADERS within a block", vec![begun.clone(), open(3)], fatal(PROTOCOL_ERROR)),
        (
            "an unknown frame within a block",
            vec![begun.clone(), frame(0x42, 0, 1, b"")],
            fatal(PROTOCOL_ERROR),
        ),
        (
            "another's CONTINUATION",
            vec![begun, frame(CONTINUATION, END_HEADERS, 3, b"")],
            fatal(PROTOCOL_ERROR),
        ),
        (
            "an unknown frame",
            vec![open(1), frame(0x42, 0xff, 1, b"x"), frame(0x42, 0, 0, b"")],
            Then::Nothing,
        ),
    ])
    .await;
}

/// Sections 5.1, 5.1.1, 5.1.2, and 8.1 about what may follow what.
#[tokio::test]
async fn frames_in_the_wrong_state() {
    judge(vec![
        ("DATA on an idle stream", vec![Frame::data(1, 0, "x")], fatal(PROTOCOL_ERROR)),
        ("RST_STREAM on an idle stream", vec![Frame::reset(1, 8)], fatal(PROTOCOL_ERROR)),
        ("WINDOW_UPDATE on an idle stream", vec![Frame::window(1, 1)], fatal(PROTOCOL_ERROR)),
        (
            "CONTINUATION on an idle stream",
            vec![frame(CONTINUATION, END_HEADERS, 1, b"")],
            fatal(PROTOCOL_ERROR),
        ),
        ("PRIORITY on an idle stream", vec![frame(PRIORITY, 0, 5, &[0, 0, 0, 1, 0])], Then::Nothing),
        (
            "PRIORITY of an idle stream on itself",
            vec![frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 0])],
            reset(PROTOCOL_ERROR),
        ),
        ("DATA after the end", vec![asked(1), Frame::data(1, 0, "x")], fatal_not(Reset(STREAM_CLOSED))),
        ("HEADERS after the end", vec![asked(1), more(1, END_STREAM)], fatal_not(Reset(STREAM_CLOSED))),
        (
            "CONTINUATION after the end",
            vec![asked(1), frame(CONTINUATION, END_HEADERS, 1, b"")],
            fatal(PROTOCOL_ERROR),
        ),
        ("WINDOW_UPDATE after the end", vec![asked(1), Frame::window(1, 1)], Then::Nothing),
        ("PRIORITY after the end", vec![asked(1), frame(PRIORITY, 0, 1, &[0; 5])], Then::Nothing),
        ("RST_STREAM after the end", vec![asked(1), Frame::reset(1, 8)], Then::Nothing),
        ("a stream of the server's", vec![open(2)], fatal(PROTOCOL_ERROR)),
        ("an older stream", vec![open(5), open(3)], fatal(PROTOCOL_ERROR)),
        ("trailers that do not end", vec![open(1), more(1, 0)], reset(PROTOCOL_ERROR)),
        (
            "trailers that do not end, after DATA",
            vec![open(1), Frame::data(1, 0, "x"), more(1, 0)],
            reset(PROTOCOL_ERROR),
        ),
        (
            "a pseudo-header in trailers that do not end",
            vec![open(1), Frame::data(1, 0, "x"), Frame::headers(1, 0, block([(":method", "POST")]))],
            reset(PROTOCOL_ERROR),
        ),
        ("GOAWAY", vec![open(1), frame(GOAWAY, 0, 0, &[0; 8])], Then::Nothing),
    ])
    .await;
}

/// Section 5.1, of a stream that the caller has reset.
#[tokio::test]
async fn frames_after_a_reset() {
    judge(vec![
        (
            "DATA after RST_STREAM",
            vec![open(1), Frame::reset(1, 8), Frame::data(1, 0, "x")],
            reset(STREAM_CLOSED),
        ),
        (
            "HEADERS after RST_STREAM",
            vec![open(1), Frame::reset(1, 8), more(1, END_STREAM)],
            fatal_not(Reset(STREAM_CLOSED)),
        ),
        (
            "CONTINUATION after RST_STREAM",
            vec![open(1), Frame::reset(1, 8), frame(CONTINUATION, END_HEADERS, 1, b"")],
            fatal(PROTOCOL_ERROR),
        ),
        ("RST_STREAM twice", vec![open(1), Frame::reset(1, 8), Frame::reset(1, 8)], Then::Nothing),
        (
            "WINDOW_UPDATE and PRIORITY after RST_STREAM",
            vec![open(1), Frame::reset(1, 8), Frame::window(1, 1), frame(PRIORITY, 0, 1, &[0; 5])],
            Then::Nothing,
        ),
        ("RST_STREAM for no known reason", vec![open(1), Frame::reset(1, 0xff)], Then::Nothing),
    ])
    .await;
}

/// Section 5.1.2: the stream is refused, and those before it are not.
#[tokio::test]
async fn one_stream_too_many() {
    let upstream = simulator().await;
    let server = "http2_max_streams = 3";
    let gateway = Gateway::with(&upstream, Http::One, Keys { one_worker: true, server, ..Keys::default() });
    let mut peer = Peer::connect(gateway.address()).await;
    peer.write(&[open(1), open(3), open(5), open(7)]).await;
    assert_eq!(peer.told(7).await, Reset(REFUSED_STREAM));
    for stream in [1, 3, 5] {
        peer.write(&[Frame::data(stream, END_STREAM, "{}")]).await;
        assert_eq!(peer.told(stream).await, Answered(200));
    }
    gateway.log.line(3).await;
}

/// Sections 6.1 to 6.4.
#[tokio::test]
async fn data_headers_priority_and_resets() {
    let fields = block(post("/v1/embeddings"));
    let padded = [&[200][..], &fields[..100]].concat();
    let dependent = [&1_u32.to_be_bytes()[..], &[0], &fields].concat();
    let twice = |length| {
        let head = [fields.clone(), block([("content-length", length)])].concat();
        vec![Frame::headers(1, 0, head), Frame::data(1, 0, "test"), Frame::data(1, END_STREAM, "test")]
    };
    judge(vec![
        // Section 8.1.1.
        ("DATA twice of a length of one", twice("4"), reset(PROTOCOL_ERROR)),
        ("DATA twice of a length of more", twice("9"), reset(PROTOCOL_ERROR)),
        ("DATA on stream 0", vec![frame(DATA, 0, 0, b"x")], fatal(PROTOCOL_ERROR)),
        (
            "DATA with too much padding",
            vec![open(1), frame(DATA, PADDED, 1, &[5, 0, 0])],
            fatal(PROTOCOL_ERROR),
        ),
        (
            "DATA without its padding's length",
            vec![open(1), frame(DATA, PADDED, 1, b"")],
            fatal_not(GoAway(FRAME_SIZE_ERROR)),
        ),
        ("HEADERS on stream 0", vec![frame(HEADERS, END_HEADERS, 0, &fields)], fatal(PROTOCOL_ERROR)),
        (
            "HEADERS with too much padding",
            vec![frame(HEADERS, END_HEADERS | PADDED, 1, &padded)],
            fatal(PROTOCOL_ERROR),
        ),
        (
            "HEADERS without their priority",
            vec![frame(HEADERS, END_HEADERS | WITH_PRIORITY, 1, b"x")],
            fatal_not(GoAway(FRAME_SIZE_ERROR)),
        ),
        (
            "HEADERS that depend on themselves",
            vec![frame(HEADERS, END_HEADERS | WITH_PRIORITY, 1, &dependent)],
            reset(PROTOCOL_ERROR),
        ),
        ("PRIORITY on stream 0", vec![frame(PRIORITY, 0, 0, &[0; 5])], fatal(PROTOCOL_ERROR)),
        (
            "PRIORITY of four bytes",
            vec![open(1), frame(PRIORITY, 0, 1, &[0; 4])],
            fatal_not(Reset(FRAME_SIZE_ERROR)),
        ),
        ("PRIORITY on itself", vec![open(1), frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 0])], reset(PROTOCOL_ERROR)),
        ("RST_STREAM on stream 0", vec![Frame::reset(0, 8)], fatal(PROTOCOL_ERROR)),
        (
            "RST_STREAM of three bytes",
            vec![open(1), frame(RST_STREAM, 0, 1, &[0; 3])],
            fatal_not(GoAway(FRAME_SIZE_ERROR)),
        ),
    ])
    .await;
}

/// Sections 6.5 to 6.8.
#[tokio::test]
async fn settings_pushes_pings_and_goodbyes() {
    let set = |name, value| vec![Frame::settings(&[(name, value)])];
    judge(vec![
        (
            "an acknowledgement that says something",
            vec![frame(SETTINGS, ACK, 0, &[0; 6])],
            fatal_not(GoAway(FRAME_SIZE_ERROR)),
        ),
        ("SETTINGS on a stream", vec![open(1), frame(SETTINGS, 0, 1, b"")], fatal(PROTOCOL_ERROR)),
        ("SETTINGS of five bytes", vec![frame(SETTINGS, 0, 0, &[0; 5])], fatal_not(GoAway(FRAME_SIZE_ERROR))),
        ("ENABLE_PUSH 2", set(ENABLE_PUSH, 2), fatal(PROTOCOL_ERROR)),
        ("a window of 2^31", set(INITIAL_WINDOW_SIZE, 1 << 31), fatal_not(GoAway(FLOW_CONTROL_ERROR))),
        ("frames of 16383", set(MAX_FRAME_SIZE, 16_383), fatal(PROTOCOL_ERROR)),
        ("frames of 2^24", set(MAX_FRAME_SIZE, 1 << 24), fatal(PROTOCOL_ERROR)),
        ("a setting that is not known", set(0xfafa, u32::MAX), Then::Nothing),
        ("no streams of the server's", set(MAX_CONCURRENT_STREAMS, 0), Then::Nothing),
        ("a push", vec![open(1), frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])], fatal(PROTOCOL_ERROR)),
        ("PING on a stream", vec![open(1), frame(PING, 0, 1, &[0; 8])], fatal(PROTOCOL_ERROR)),
        ("PING of six bytes", vec![frame(PING, 0, 0, &[0; 6])], fatal_not(GoAway(FRAME_SIZE_ERROR))),
        ("an answer to no PING", vec![frame(PING, ACK, 0, &[7; 8])], Then::Nothing),
        ("GOAWAY on a stream", vec![open(1), frame(GOAWAY, 0, 1, &[0; 8])], fatal(PROTOCOL_ERROR)),
    ])
    .await;
}

/// Sections 6.9 and 6.10.
#[tokio::test]
async fn windows_and_continuations() {
    let most = (1 << 31) - 1;
    judge(vec![
        ("by nothing, of the connection", vec![Frame::window(0, 0)], fatal(PROTOCOL_ERROR)),
        ("by nothing, of a stream", vec![open(1), Frame::window(1, 0)], fatal_not(Reset(PROTOCOL_ERROR))),
        ("of three bytes", vec![frame(WINDOW_UPDATE, 0, 0, &[0; 3])], fatal_not(GoAway(FRAME_SIZE_ERROR))),
        ("the connection's beyond the most", vec![Frame::window(0, most)], fatal(FLOW_CONTROL_ERROR)),
        ("a stream's beyond the most", vec![open(1), Frame::window(1, most)], reset(FLOW_CONTROL_ERROR)),
        (
            "beyond the most by SETTINGS",
            vec![open(1), Frame::window(1, 1), Frame::settings(&[(INITIAL_WINDOW_SIZE, most)])],
            fatal(FLOW_CONTROL_ERROR),
        ),
        (
            "below nothing by SETTINGS",
            vec![open(1), Frame::settings(&[(INITIAL_WINDOW_SIZE, 0)])],
            Then::Nothing,
        ),
        (
            "CONTINUATION of nothing",
            vec![open(1), frame(CONTINUATION, END_HEADERS, 1, b"")],
            fatal(PROTOCOL_ERROR),
        ),
        ("CONTINUATION on stream 0", vec![frame(CONTINUATION, END_HEADERS, 0, b"")], fatal(PROTOCOL_ERROR)),
    ])
    .await;
}

/// RFC 7541, sections 2.3.3, 4.2, 5.1, 5.2 and 6.3. RFC 9113, section 4.3: all are connection errors of type COMPRESSION_ERROR, which h2 calls
/// PROTOCOL_ERROR.
#[tokio::test]
async fn header_blocks_that_cannot_be_read() {
    let usual = block(post("/v1/embeddings"));
    let huffman = |text: &[u8]| [&[0, 1, b'x'][..], &integer(0x80, 7, text.len()), text].concat();
    let unreadable = [
        ("index 0", integer(0x80, 7, 0)),
        ("an index beyond both tables", integer(0x80, 7, 70)),
        ("a name's index beyond both tables", [integer(0x40, 6, 70), vec![0]].concat()),
        ("an index without end", vec![0xff; 20]),
        ("a string longer than the block", vec![0, 1, b'x', 0x7f, 0xff, 0x7f, b'y']),
        ("a string that is cut off", vec![0, 5, b'x']),
        ("eight bits of padding", huffman(&[0x1f, 0xff, 0xff])),
        ("padding of zeros", huffman(&[0x18])),
        ("the end of string as a symbol", huffman(&[0xff; 4])),
        ("a literal of nothing", vec![0x40]),
        ("the index of a literal that is not kept", [literal(0, b"x-a", b"1"), vec![0x80 | 62]].concat()),
        ("the index of a literal never kept", [literal(0x10, b"x-a", b"1"), vec![0x80 | 62]].concat()),
        ("a table's new size at the end", integer(0x20, 5, 10)),
    ];
    let mut cases: Vec<Case> = unreadable
        .into_iter()
        .map(|(what, bytes)| {
            let block = [usual.clone(), bytes].concat();
            (what, vec![Frame::headers(1, END_STREAM, block)], fatal_not(GoAway(COMPRESSION_ERROR)))
        })
        .collect();
    let larger = [integer(0x20, 5, 4097), usual.clone()].concat();
    cases.push((
        "a table larger than was allowed",
        vec![Frame::headers(1, END_STREAM, larger)],
        fatal_not(GoAway(COMPRESSION_ERROR)),
    ));
    let mut kept = asked(1);
    kept.payload.extend(literal(0x40, b"x-a", b"1"));
    let emptied = [integer(0x20, 5, 0), usual.clone(), vec![0x80 | 62]].concat();
    cases.push((
        "the index of what a new size has put out of the table",
        vec![kept, Frame::headers(3, END_STREAM, emptied)],
        fatal_not(GoAway(COMPRESSION_ERROR)),
    ));
    // What is put into the table in a request that is refused is in it for the next.
    let table = [literal(0x40, b"x-a", b"1"), vec![0x80 | 62]].concat();
    let refused = [block([(":method", "GET"), (":method", "GET")]), table].concat();
    let next = [usual, vec![0x80 | 62]].concat();
    cases.push((
        "the table after a malformed request",
        vec![Frame::headers(1, END_STREAM, refused), Frame::headers(3, 0, next)],
        reset(PROTOCOL_ERROR),
    ));
    judge(cases).await;
}
