//! The cases of the Autobahn test suite (crossbario/autobahn-testsuite, `autobahntestsuite/case`), rebuilt: what a server that nobody here
//! wrote answers to each is the same with the gateway between and without it, violations of the protocol included.

use std::{net::SocketAddr, rc::Rc};

use super::{
    peers::{Server, result},
    rig::{Frame, HANDSHAKE, Peer, Upstream, ask_plainly, authorized},
};
use crate::{
    harness::{CLIENT_KEY, Gateway, GatewayToml},
    sdk::packages,
};

const MASK: [u8; 4] = [0x11, 0x9e, 0x00, 0xff];

/// The last message of a case that does not close the connection itself. Its echo shows that those of all others were sent.
const MARKER: &[u8] = b"the end of the case";

/// A case: its number in the suite, its bytes, and how many of them are written at once.
struct Case {
    name: String,
    bytes: Vec<u8>,
    piece: usize,
}

/// What came back: messages with their fragments, and control frames, each in their order.
#[derive(Debug, PartialEq, Eq)]
struct Answered {
    data: Vec<Frame>,
    control: Vec<Frame>,
}

/// A masked frame with these first bits, and a length in the shortest form.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | u8::try_from(length).unwrap()),
        length @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(0x88, &[&code.to_be_bytes(), reason].concat())
}

/// Adds a case that is closed when everything has come back.
fn add(cases: &mut Vec<Case>, name: impl Into<String>, frames: &[Vec<u8>]) {
    add_in_pieces(cases, name, frames, usize::MAX);
}

fn add_in_pieces(cases: &mut Vec<Case>, name: impl Into<String>, frames: &[Vec<u8>], piece: usize) {
    let bytes = [frames.concat(), frame(0x81, MARKER)].concat();
    cases.push(Case { name: name.into(), bytes, piece });
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    sizes(&mut cases);
    pings(&mut cases);
    reserved(&mut cases);
    fragments(&mut cases);
    texts(&mut cases);
    closes(&mut cases);
    lengths(&mut cases);
    large(&mut cases);
    cases
}

fn sizes(cases: &mut Vec<Case>) {
    for size in [0, 1, 125, 126, 127, 128, 65_535, 65_536, 1 << 20] {
        let payload = vec![b'*'; size];
        add(cases, format!("1.1 text of {size}"), &[frame(0x81, &payload)]);
        add(cases, format!("1.2 binary of {size}"), &[frame(0x82, &payload)]);
        if size < 70_000 {
            add_in_pieces(cases, format!("1.1.8 text of {size} in pieces"), &[frame(0x81, &payload)], 997);
        }
    }
    for fragment in [64, 1024, 65_536] {
        let payload = vec![b'*'; fragment];
        let mut frames = vec![frame(0x02, &payload)];
        frames.extend((0..14).map(|_| frame(0x00, &payload)));
        frames.push(frame(0x80, &payload));
        add(cases, format!("9.4 fragments of {fragment}"), &frames);
    }
}

/// Sections 9 and 10: large messages, whole, in fragments and in pieces; many messages.
fn large(cases: &mut Vec<Case>) {
    let most = vec![b'*'; 4 << 20];
    add(cases, "9.1 text of 4 MiB", &[frame(0x81, &most)]);
    add(cases, "9.2 binary of 4 MiB", &[frame(0x82, &most)]);
    let of_64 = fragmented(&most, 64 << 10);
    add(cases, "9.3 4 MiB in fragments of 64 KiB", &of_64);
    add_in_pieces(cases, "9.5 1 MiB in pieces of 1 KiB", &[frame(0x81, &most[..1 << 20])], 1 << 10);
    let thousand: Vec<_> =
        (0..1000).map(|number| frame(0x81, format!("message {number:8}").as_bytes())).collect();
    add(cases, "9.7 a thousand messages", &thousand);
    add(cases, "10.1 64 KiB in fragments of 1300", &fragmented(&most[..64 << 10], 1300));
}

/// A message in fragments.
fn fragmented(payload: &[u8], fragment: usize) -> Vec<Vec<u8>> {
    let count = payload.len().div_ceil(fragment);
    let first = |at: usize| if at == 0 { 0x01 } else { 0x00 } | if at + 1 == count { 0x80 } else { 0x00 };
    payload.chunks(fragment).enumerate().map(|(at, piece)| frame(first(at), piece)).collect()
}

fn pings(cases: &mut Vec<Case>) {
    for size in [0, 5, 125, 126] {
        add(cases, format!("2 ping of {size}"), &[frame(0x89, &vec![0xfe; size])]);
    }
    add_in_pieces(cases, "2.6 ping byte by byte", &[frame(0x89, &[0xfe; 125])], 1);
    add(cases, "2.7 unsolicited pong", &[frame(0x8a, b"")]);
    add(cases, "2.9 pong, ping", &[frame(0x8a, b"unsolicited"), frame(0x89, b"ping payload")]);
    let ten: Vec<_> = (0..10).map(|number| frame(0x89, format!("payload-{number}").as_bytes())).collect();
    add(cases, "2.10 ten pings", &ten);
    add_in_pieces(cases, "2.11 ten pings byte by byte", &ten, 1);
}

fn reserved(cases: &mut Vec<Case>) {
    for bits in 1..8 {
        for (opcode, what) in [(1, "text"), (2, "binary"), (9, "ping"), (8, "close")] {
            let name = format!("3 reserved bits {bits} of a {what}");
            add(cases, name, &[frame(0x80 | bits << 4 | opcode, b"\x03\xe8")]);
        }
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        for payload in [&b""[..], b"reserved opcode payload"] {
            add(cases, format!("4 opcode {opcode} of {}", payload.len()), &[frame(0x80 | opcode, payload)]);
        }
    }
}

fn fragments(cases: &mut Vec<Case>) {
    add(cases, "5.1 ping in two fragments", &[frame(0x09, b"one"), frame(0x80, b"two")]);
    add(cases, "5.2 pong in two fragments", &[frame(0x0a, b"one"), frame(0x80, b"two")]);
    let two = [frame(0x01, b"fragment1"), frame(0x80, b"fragment2")];
    add(cases, "5.3 two fragments", &two);
    add_in_pieces(cases, "5.5 two fragments byte by byte", &two, 1);
    let with_ping = [frame(0x01, b"fragment1"), frame(0x89, b"ping"), frame(0x80, b"fragment2")];
    add(cases, "5.6 ping between fragments", &with_ping);
    add_in_pieces(cases, "5.8 ping between fragments byte by byte", &with_ping, 1);
    add(cases, "5.9 continuation of nothing", &[frame(0x80, b"none"), frame(0x81, b"Hello")]);
    add(cases, "5.12 unfinished continuation of nothing", &[frame(0x00, b"none"), frame(0x81, b"Hello")]);
    let five: Vec<_> = [0x01_u8, 0x00, 0x00, 0x00, 0x80].map(|first| frame(first, b"fragment")).to_vec();
    add(cases, "5.15 message after fragments", &[five.concat(), frame(0x81, b"next")]);
    add(cases, "5.18 text within a message", &[frame(0x01, b"one"), frame(0x81, b"two")]);
    let pings =
        [frame(0x01, b"1"), frame(0x00, b"2"), frame(0x89, b"p"), frame(0x00, b"3"), frame(0x89, b"q")];
    add(cases, "5.19 pings between fragments", &[pings.concat(), frame(0x00, b"4"), frame(0x80, b"5")]);
}

fn texts(cases: &mut Vec<Case>) {
    let good = "Hello-µ@ßöäüàá-UTF-8!!".as_bytes();
    add(cases, "6.2 UTF-8", &[frame(0x81, good)]);
    add(cases, "6.2.2 UTF-8 cut between characters", &[frame(0x01, &good[..8]), frame(0x80, &good[8..])]);
    let letters: Vec<_> = good.iter().map(|byte| frame(0x00, &[*byte])).collect();
    add(cases, "6.2.3 UTF-8 cut everywhere", &[frame(0x01, b""), letters.concat(), frame(0x80, b"")]);
    let bad: [&[u8]; 12] = [
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
        b"\x80",
        b"\xbf",
        b"\xc0\xaf",
        b"\xe0\x80\xaf",
        b"\xf0\x80\x80\xaf",
        b"\xf8\x88\x80\x80\x80",
        b"\xed\xa0\x80\xed\xb0\x80",
        b"\xf4\x90\x80\x80",
        b"\xfe",
        b"\xff",
        b"\xce\xba\xe1\xbd",
    ];
    for (number, text) in bad.into_iter().enumerate() {
        add(cases, format!("6.3 invalid UTF-8 {number}"), &[frame(0x81, text)]);
        let (one, two) = text.split_at(text.len() / 2);
        add(cases, format!("6.4 invalid UTF-8 {number} in fragments"), &[frame(0x01, one), frame(0x80, two)]);
        add_in_pieces(cases, format!("6.4.3 invalid UTF-8 {number} in pieces"), &[frame(0x81, text)], 1);
    }
}

fn closes(cases: &mut Vec<Case>) {
    let mut alone = |name: String, frames: &[Vec<u8>]| {
        cases.push(Case { name, bytes: frames.concat(), piece: usize::MAX });
    };
    alone("7.1.2 two closes".into(), &[close(1000, b""), close(1000, b"")]);
    alone("7.1.3 ping after close".into(), &[close(1000, b""), frame(0x89, b"late")]);
    alone(
        "7.1.5 close within a message".into(),
        &[frame(0x01, b"one"), close(1000, b""), frame(0x80, b"two")],
    );
    alone("7.3.1 empty close".into(), &[frame(0x88, b"")]);
    alone("7.3.2 close of one byte".into(), &[frame(0x88, b"a")]);
    alone("7.3.5 reason of 123".into(), &[close(1000, &[b'*'; 123])]);
    alone("7.3.6 reason of 124".into(), &[close(1000, &[b'*'; 124])]);
    alone("7.5.1 reason that is no UTF-8".into(), &[close(1000, b"\xce\xba\xe1\xbd\xb9\xed\xa0\x80")]);
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] {
        alone(format!("7.7 code {code}"), &[close(code, b"")]);
    }
    for code in [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65_535] {
        alone(format!("7.9 code {code}"), &[close(code, b"")]);
    }
}

/// Lengths and masks in forms that the standard forbids.
fn lengths(cases: &mut Vec<Case>) {
    let masked = |header: &[u8], payload: &[u8]| {
        let bytes = payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key);
        [header, &MASK].concat().into_iter().chain(bytes).collect::<Vec<u8>>()
    };
    add(cases, "length of 16 bits for 2", &[masked(b"\x81\xfe\x00\x02", b"hi")]);
    add(cases, "length of 64 bits for 2", &[masked(b"\x81\xff\0\0\0\0\0\0\0\x02", b"hi")]);
    add(cases, "length with its highest bit", &[masked(b"\x81\xff\x80\0\0\0\0\0\0\x02", b"hi")]);
    add(cases, "no mask", &[b"\x81\x02hi".to_vec()]);
    add(cases, "mask of zeros", &[b"\x81\x82\0\0\0\0hi".to_vec()]);
}

/// Sends a case, and reads to the end of the connection.
async fn answered(address: SocketAddr, headers: &str, case: &Case) -> Answered {
    let mut peer: Peer = ask_plainly(address, "/v1/echo", &format!("{HANDSHAKE}{headers}")).await;
    assert!(peer.head.starts_with("HTTP/1.1 101 "), "{}", peer.head);
    let frames = peer.exchange(&case.bytes, case.piece, MARKER, &close(1000, b"")).await;
    let (control, data) = frames.into_iter().partition(|frame| frame.opcode >= 8);
    Answered { data, control }
}

#[tokio::test]
async fn a_server_answers_every_case_as_without_the_gateway() {
    let echo = tokio::task::spawn_blocking(Server::echo).await.unwrap();
    let direct: SocketAddr = format!("127.0.0.1:{}", echo.said()).parse().unwrap();
    let gateway = Gateway::start(&GatewayToml::before(&echo.url(), ""));
    let key = authorized();
    let cases = cases();
    assert!(cases.len() > 150, "{}", cases.len());
    for case in &cases {
        println!("{}", case.name);
        let expected = answered(direct, "", case).await;
        let found = answered(gateway.address(), &key, case).await;
        assert_eq!(found, expected, "{}", case.name);
        assert!(!expected.control.is_empty(), "{}: nothing came", case.name);
    }
    gateway.finish(cases.len()).await;
}

/// The same bytes as a server sends them: without masks.
fn unmasked(mut bytes: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        let extended = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let length = rest[..extended].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        let length = if extended == 0 { usize::from(second & 0x7f) } else { length };
        let (header, rest) = rest.split_at(extended);
        let (mask, rest) = rest.split_at(4);
        all.extend([&[*first, second & 0x7f], header].concat());
        let (payload, rest) = rest.split_at(length);
        all.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
        bytes = rest;
    }
    all
}

/// A server that sends the bytes of the case whose number ends the path, and answers the client's close frame.
async fn serve(mut peer: Peer, cases: Rc<Vec<(Vec<u8>, usize)>>) {
    let path = peer.head.split(' ').nth(1).unwrap();
    let (bytes, piece) = &cases[path.rsplit('/').next().unwrap().parse::<usize>().unwrap()];
    peer.accept_anybody().await;
    let _ = peer.exchange(bytes, (*piece).max(1), b"nothing", b"\x88\x02\x03\xe8").await;
}

/// The other half of the suite: a client sees the frames of a server as without the gateway.
#[tokio::test]
async fn a_client_sees_every_case_as_without_the_gateway() {
    tokio::task::LocalSet::new().run_until(clients_see_every_case()).await;
}

async fn clients_see_every_case() {
    let upstream = Upstream::start().await;
    let url = upstream.url();
    let gateway = Gateway::start(&GatewayToml::before(&upstream.url(), "retry = \"off\"\nbreaker = \"off\""));
    let mut all = cases();
    // Forms of lengths and masks that only a client has.
    all.retain(|case| {
        !case.name.contains("length of") && !case.name.contains("length with") && !case.name.contains("mask")
    });
    let sent: Rc<Vec<_>> = Rc::new(all.iter().map(|case| (unmasked(&case.bytes), case.piece)).collect());
    let serving = tokio::task::spawn_local(async move {
        loop {
            let peer = upstream.next_at_any_time().await;
            tokio::task::spawn_local(serve(peer, sent.clone()));
        }
    });
    let run = |url: String| {
        let count = all.len().to_string();
        let script = move || result(packages::python("websocket_client.py"), &[&url, &count, CLIENT_KEY]);
        tokio::task::spawn_blocking(script)
    };
    let direct = run(format!("{url}/v1/cases/").replace("http", "ws")).await.unwrap();
    let through = run(format!("ws://{}/v1/cases/", gateway.address())).await.unwrap();
    for (number, case) in all.iter().enumerate() {
        assert_eq!(through[number], direct[number], "{}", case.name);
    }
    serving.abort();
}
