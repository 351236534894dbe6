//! Floods of HTTP/2 frames. Each lasts until a neighbour on the same single worker has had a number of whole answers; what a flood has cost
//! by then is counted in the memory of the gateway, which is a process of its own, and in the requests that the upstream was sent.

use std::{cell::Cell, net::SocketAddr};

use bytes::BytesMut;
use sluicegate::simulator::Simulator;
use tokio::{io::AsyncWriteExt, sync::Notify};

use super::frames::{
    CANCEL, CONTINUATION, DATA, END_STREAM, ENHANCE_YOUR_CALM, Frame, GOAWAY, HEADERS, MAX_HEADER_LIST_SIZE,
    PADDED, PRIORITY, Peer, RST_STREAM, Told, block, bytes_of, integer, literal, next, post,
};
use crate::{
    cli::process::Running,
    folder::Folder,
    harness::{CHAT, Client, Gateway, GatewayToml, Http, Keys, post as asking, safely, simulator, whole},
};

/// Whole answers that the neighbour gets during a flood.
const ANSWERS: usize = 10;
/// What a flood writes at least, unless it is ended before.
const LEAST: usize = 4 << 20;
/// How much the gateway may grow by it. A frame is 9 to 17 bytes long; keeping 40 for each would take more.
///
/// Nothing is kept for a frame or a refused stream: most floods cost about 100 KiB, whatever they write. What costs is a request that is open.
/// One that waits for its body takes 10 KiB; one whose body is streamed (as in `too_many_streams`, `text/plain`) has a connection to the
/// upstream and takes 47 KiB. 128 of them, as many as one connection may open, are 5.8 MiB, and the next connection of the attacker finds
/// the memory of the last one free again: 5.2 to 5.4 MiB were measured after 22 connections.
const GROWTH: usize = 8 << 20;

/// What frames of the same kind come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// The connection is ended with GOAWAY and this code; the attacker comes again.
    GoAway(u32),
    /// The connection is cut.
    Cut,
    /// They are borne.
    Never,
}

const CALM: Ends = Ends::GoAway(ENHANCE_YOUR_CALM);

/// What is written next, from the number of the next free stream on.
type Wave = Box<dyn Fn(&mut u32) -> Vec<Frame>>;

struct Flood {
    what: &'static str,
    /// Before the flood.
    begin: Vec<Frame>,
    wave: Wave,
    /// Whether the attacker reads what the gateway says.
    reads: bool,
    ends: Ends,
    /// Requests of one connection that may reach the upstream.
    requests: usize,
}

impl Flood {
    /// Of the same frame.
    fn of(what: &'static str, begin: Vec<Frame>, frame: Frame, ends: Ends) -> Self {
        Self::new(what, begin, move |_| vec![frame.clone(); 500], ends)
    }

    fn new(
        what: &'static str,
        begin: Vec<Frame>,
        wave: impl Fn(&mut u32) -> Vec<Frame> + 'static,
        ends: Ends,
    ) -> Self {
        Self { what, begin, wave: Box::new(wave), reads: true, ends, requests: 0 }
    }

    fn unread(self) -> Self {
        Self { reads: false, ends: Ends::Cut, ..self }
    }

    fn asking(self, requests: usize) -> Self {
        Self { requests, ..self }
    }

    /// Of streams: for each, these frames.
    fn of_streams(what: &'static str, each: impl Fn(u32) -> Vec<Frame> + 'static, ends: Ends) -> Self {
        let wave = move |stream: &mut u32| {
            let frames = (0..100).flat_map(|number| each(*stream + 2 * number)).collect();
            *stream += 200;
            frames
        };
        Self::new(what, Vec::new(), wave, ends)
    }
}

/// The gateway as a process of its own, with one worker.
struct Besieged {
    gateway: Running,
    address: SocketAddr,
    upstream: Simulator,
    _folder: Folder,
}

impl Besieged {
    async fn new() -> Self {
        let (folder, upstream) = (Folder::new(), simulator().await);
        let configuration = GatewayToml::before(&upstream.url(), "")
            .listener("h2c = true")
            .server("threads = 1\nwrite_stall = \"1s\"")
            .to_string();
        let mut gateway =
            Running::start(&["serve", "--config", &folder.write("gateway.toml", &configuration)]);
        Self { address: gateway.address(), gateway, upstream, _folder: folder }
    }

    /// A number of whole answers, one after the other on one connection.
    async fn neighbour(&self, answers: usize) {
        let mut client = Client::connect(self.address, Http::Two).await;
        for _ in 0..answers {
            let request = asking(self.address, Http::Two, "/v1/chat/completions").body(whole(CHAT)).unwrap();
            let answer = client.ask(request).await;
            assert!(answer.whole && answer.text().ends_with("data: [DONE]\n\n"), "{answer:?}");
        }
    }
}

/// Floods until the connection is ended, and tells how (one that is to be cut is never let go), or enough was written and it is `over`.
async fn attack(flood: &Flood, address: SocketAddr, begun: &Notify, over: &dyn Fn() -> bool) -> Option<Told> {
    let Peer { tcp, .. } = {
        let mut peer = Peer::connect(address).await;
        peer.write(&flood.begin).await;
        peer
    };
    let (mut reader, mut writer) = tcp.into_split();
    let reading = flood.reads.then(|| {
        tokio::spawn(async move {
            let mut read = BytesMut::new();
            while let Some(frame) = next(&mut reader, &mut read).await {
                if frame.kind == GOAWAY {
                    return Told::GoAway(frame.goaway());
                }
            }
            Told::Closed
        })
    });
    let (mut stream, mut wrote) = (1, 0);
    while flood.ends == Ends::Cut || wrote < LEAST || !over() {
        let bytes = bytes_of(&(flood.wave)(&mut stream));
        begun.notify_one();
        if safely(writer.write_all(&bytes)).await.is_err() {
            let told = match reading {
                Some(reading) => safely(reading).await.unwrap(),
                None => Told::Closed,
            };
            return Some(told);
        }
        wrote += bytes.len();
    }
    if let Some(reading) = reading {
        reading.abort();
    }
    None
}

async fn besiege(flood: Flood) {
    let what = flood.what;
    let mut besieged = Besieged::new().await;
    besieged.neighbour(3).await;
    let before = besieged.gateway.resident();
    let (begun, done) = (Notify::new(), Cell::new(false));
    let neighbour = async {
        begun.notified().await;
        besieged.neighbour(ANSWERS).await;
        done.set(true);
    };
    let attackers = async {
        let mut attacks = Vec::new();
        while attacks.is_empty() || !done.get() {
            attacks.push(attack(&flood, besieged.address, &begun, &|| done.get()).await);
        }
        attacks
    };
    let ((), attacks) = tokio::join!(neighbour, attackers);
    let grown = besieged.gateway.resident().saturating_sub(before);
    assert!(grown < GROWTH, "{what}: {} KiB more than before", grown >> 10);
    let ended: Vec<_> = attacks.iter().flatten().copied().collect();
    match flood.ends {
        Ends::GoAway(code) => assert!(ended.contains(&Told::GoAway(code)), "{what}: {ended:?}"),
        Ends::Cut => assert!(ended.contains(&Told::Closed), "{what}: {ended:?}"),
        Ends::Never => assert!(ended.is_empty(), "{what}: {ended:?}"),
    }
    let asked = besieged.upstream.records().len() - 3 - ANSWERS;
    assert!(
        asked <= flood.requests * attacks.len(),
        "{what}: {asked} requests, {} connections",
        attacks.len()
    );
    // Nothing of it is left that a drain would wait for.
    besieged.gateway.terminate();
    assert_eq!(besieged.gateway.ended().0, Some(0), "{what}");
}

fn open(stream: u32) -> Frame {
    Frame::headers(stream, 0, block(post("/v1/embeddings")))
}

/// A whole request that is answered late.
fn ask(stream: u32) -> Frame {
    let late = [("x-simulate".to_owned(), "delay=1h".to_owned())];
    Frame::headers(stream, END_STREAM, block(post("/v1/embeddings").into_iter().chain(late)))
}

/// CVE-2023-44487. What is reset before it was accepted is never asked of the upstream; what was accepted between two reads may be.
#[tokio::test]
async fn rapid_reset() {
    let each = |stream| vec![ask(stream), Frame::reset(stream, CANCEL)];
    besiege(Flood::of_streams("rapid reset", each, CALM).asking(20)).await;
}

/// CVE-2025-8671 ("MadeYouReset"): errors of the caller's that make the gateway reset the stream; 256 of them, by which time as many requests
/// may have been begun.
#[tokio::test]
async fn made_you_reset() {
    const MOST: usize = 257;
    let window = |stream| vec![ask(stream), Frame::window(stream, (1 << 31) - 1)];
    besiege(Flood::of_streams("by a window", window, CALM).asking(MOST)).await;
    let itself = |stream: u32| {
        let dependency = [&stream.to_be_bytes()[..], &[0]].concat();
        vec![ask(stream), Frame::new(PRIORITY, 0, stream, dependency)]
    };
    besiege(Flood::of_streams("by a priority", itself, CALM).asking(MOST)).await;
    let length = |stream| {
        let fields = post("/v1/embeddings").into_iter().chain([("content-length".into(), "1".into())]);
        vec![Frame::headers(stream, 0, block(fields)), Frame::data(stream, 0, "xx")]
    };
    besiege(Flood::of_streams("by a length", length, CALM).asking(MOST)).await;
    // CVE-2019-9516 and its like: header blocks that are nothing.
    let empty = |stream| vec![Frame::headers(stream, END_STREAM, "")];
    besiege(Flood::of_streams("by no header", empty, CALM)).await;
}

/// The two limits themselves: 20 streams that were reset before they were accepted, 256 that were reset for the caller's errors.
#[tokio::test]
async fn how_many_resets_are_borne() {
    let upstream = simulator().await;
    let gateway = Gateway::with(&upstream, Http::One, Keys { one_worker: true, ..Keys::default() });
    let resets = |count| {
        (0..count).flat_map(|n| [ask(1 + 2 * n), Frame::reset(1 + 2 * n, CANCEL)]).collect::<Vec<_>>()
    };
    let mut peer = Peer::connect(gateway.address()).await;
    peer.write(&resets(20)).await;
    assert!(peer.is_unimpressed().await);
    let mut peer = Peer::connect(gateway.address()).await;
    peer.write(&resets(21)).await;
    assert_eq!(peer.told(0).await, Told::GoAway(ENHANCE_YOUR_CALM));
    let mut peer = Peer::connect(gateway.address()).await;
    let itself = |stream: u32| Frame::new(PRIORITY, 0, stream, [&stream.to_be_bytes()[..], &[0]].concat());
    peer.write(&(0..300).flat_map(|n| [ask(1 + 2 * n), itself(1 + 2 * n)]).collect::<Vec<_>>()).await;
    let mut reset = 0;
    while let Some(frame) = peer.next().await {
        reset += usize::from(frame.kind == RST_STREAM);
    }
    assert!(reset <= 256, "{reset}");
}

/// RFC 9113, section 5.1.2: more streams than were allowed are refused, and in the end so is the connection. Of those that are open no more than
/// were allowed can have reached the upstream.
#[tokio::test]
async fn too_many_streams() {
    besiege(Flood::of_streams("streams", |stream| vec![open(stream)], CALM).asking(128)).await;
}

/// CVE-2024-27316 and its family: a header block that does not end.
#[tokio::test]
async fn continuations() {
    let begun = Frame::new(HEADERS, 0, 1, block(post("/v1/embeddings")));
    let next = |payload: Vec<u8>| Frame::new(CONTINUATION, 0, 1, payload);
    besiege(Flood::of("empty ones", vec![begun.clone()], next(Vec::new()), CALM)).await;
    let field = next(block([("x-a", "y".repeat(4000))]));
    besiege(Flood::of("whole fields", vec![begun.clone()], field, CALM)).await;
    let string = [&[0, 1, b'x'][..], &integer(0, 7, 1 << 24)].concat();
    besiege(Flood::of("one string", vec![begun, next(string)], next(vec![b'a'; 1000]), CALM)).await;
}

/// A field of 4,000 bytes in the dynamic table, called for by one byte each (CVE-2016-6581, RFC 7541, section 7.3).
#[tokio::test]
async fn header_bombs() {
    let bomb = |stream| {
        let big = if stream == 1 { literal(0x40, b"x-a", &[b'a'; 4000]) } else { Vec::new() };
        let block = [block(post("/v1/embeddings")), big, vec![0x80 | 62; 10_000]].concat();
        vec![Frame::headers(stream, END_STREAM, block)]
    };
    besiege(Flood::of_streams("bomb", bomb, CALM)).await;
}

/// CVE-2019-9512 and CVE-2019-9515: each asks for an answer. Who takes the answers may go on; who does not is cut off.
#[tokio::test]
async fn pings_and_settings() {
    for frame in [Frame::ping([7; 8]), Frame::settings(&[(MAX_HEADER_LIST_SIZE, 1 << 20)])] {
        besiege(Flood::of("read", Vec::new(), frame.clone(), Ends::Never)).await;
        besiege(Flood::of("unread", Vec::new(), frame, Ends::Never).unread()).await;
    }
}

/// CVE-2019-9518, and DATA that is hardly more than its head.
#[tokio::test]
async fn data_of_nothing() {
    let frames = [Frame::data(1, 0, ""), Frame::new(DATA, PADDED, 1, [0]), Frame::data(1, 0, "x")];
    for (what, frame) in ["empty", "padded", "a byte"].into_iter().zip(frames) {
        besiege(Flood::of(what, vec![open(1)], frame, CALM).asking(1)).await;
    }
}

/// CVE-2019-9511, CVE-2019-9513, CVE-2019-9514: frames that say nothing that would have to be kept.
#[tokio::test]
async fn frames_of_no_consequence() {
    let depends_on_3 = Frame::new(PRIORITY, 0, 1, [0, 0, 0, 3, 0]);
    besiege(Flood::of("PRIORITY", vec![open(1)], depends_on_3, Ends::Never).asking(1)).await;
    let idle = |stream| vec![Frame::new(PRIORITY, 0, stream, [0; 5])];
    besiege(Flood::of_streams("PRIORITY of idle streams", idle, Ends::Never)).await;
    besiege(Flood::of("WINDOW_UPDATE", Vec::new(), Frame::window(0, 1), Ends::Never)).await;
    besiege(Flood::of("a stream's", vec![open(1)], Frame::window(1, 1), Ends::Never).asking(1)).await;
    besiege(Flood::of("RST_STREAM", vec![open(1)], Frame::reset(1, CANCEL), Ends::Never).asking(1)).await;
    besiege(Flood::of("unknown", vec![open(1)], Frame::new(0x42, 0, 1, ""), Ends::Never).asking(1)).await;
}
