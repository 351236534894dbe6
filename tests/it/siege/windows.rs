//! Answers keep to their windows (RFC 9113, section 6.9), to the byte.

use std::time::Duration;

use super::frames::{
    DATA, END_STREAM, Frame, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, PING, PRIORITY, Peer, RST_STREAM, block,
    post,
};
use crate::harness::{Gateway, Http, Keys, simulator};

/// Reads so many bytes of an answer, and makes sure that the next do not follow.
async fn comes(peer: &mut Peer, wanted: usize) {
    let mut came = 0;
    while came < wanted {
        came += peer.next_of(DATA).await.payload.len();
    }
    for number in 1..=2 {
        peer.write(&[Frame::ping([number; 8])]).await;
        loop {
            let frame = peer.next().await.unwrap();
            came += if frame.kind == DATA { frame.payload.len() } else { 0 };
            if frame.kind == PING && frame.payload == [number; 8] {
                break;
            }
        }
    }
    assert_eq!(came, wanted);
}

/// A request for a long answer, which begins. Nothing of another may come before it.
async fn begin(peer: &mut Peer, stream: u32) {
    begin_answer(peer, stream, "frames=200; size=1000").await;
}

/// The same for an answer that is simulated so.
async fn begin_answer(peer: &mut Peer, stream: u32, simulate: &str) {
    let long = [("x-simulate".to_owned(), simulate.to_owned())];
    let fields = post("/v1/chat/completions").into_iter().chain(long);
    let chat = Frame::data(stream, END_STREAM, r#"{"model":"m","stream":true,"messages":[]}"#);
    peer.write(&[Frame::headers(stream, 0, block(fields)), chat]).await;
    loop {
        let frame = peer.next().await.expect("closed");
        assert!(!matches!(frame.kind, DATA | GOAWAY | RST_STREAM), "{frame:?}");
        if frame.kind == HEADERS && frame.stream == stream {
            break;
        }
    }
}

/// Reads to the end of an answer.
async fn ends(peer: &mut Peer, stream: u32) {
    loop {
        let frame = peer.next_of(DATA).await;
        if frame.stream == stream && frame.flags & END_STREAM != 0 {
            break;
        }
    }
}

/// Sections 6.5.3, 6.9.1 and 6.9.2: settings count in their order, a new one counts for what is open by the difference, and a window may be less
/// than nothing.
#[tokio::test]
async fn windows_of_a_stream() {
    let upstream = simulator().await;
    let gateway = Gateway::with(&upstream, Http::One, Keys { one_worker: true, ..Keys::default() });
    let size = |size| Frame::settings(&[(INITIAL_WINDOW_SIZE, size)]);
    let settings = [(INITIAL_WINDOW_SIZE, 100), (INITIAL_WINDOW_SIZE, 1)];
    let mut peer = Peer::connect_with(gateway.address(), &settings).await;
    begin(&mut peer, 1).await;
    comes(&mut peer, 1).await;
    let steps = [
        (Frame::window(1, 3), 3),
        (Frame::new(PRIORITY, 0, 1, [0, 0, 0, 0, 255]), 0),
        (size(11), 10),
        (size(2), 0),
        (Frame::window(1, 9), 0),
        (Frame::window(1, 1), 1),
        // From 2, by way of nothing, to 5.
        (Frame::settings(&[(INITIAL_WINDOW_SIZE, 0), (INITIAL_WINDOW_SIZE, 5)]), 3),
        (Frame::window(0, 1000), 0),
    ];
    for (frame, wanted) in steps {
        peer.write(&[frame]).await;
        comes(&mut peer, wanted).await;
    }
    peer.write(&[size(1 << 20), Frame::window(0, 1 << 20)]).await;
    ends(&mut peer, 1).await;
    // A stream that is opened behind a shut window.
    let mut peer = Peer::connect_with(gateway.address(), &[(INITIAL_WINDOW_SIZE, 0)]).await;
    begin(&mut peer, 1).await;
    comes(&mut peer, 0).await;
    peer.write(&[size(1)]).await;
    comes(&mut peer, 1).await;
}

/// Section 6.9.1: the connection's window is 65,535 bytes at first, whatever the settings, and it is that of all streams.
#[tokio::test]
async fn the_window_of_the_connection() {
    let upstream = simulator().await;
    let gateway = Gateway::with(&upstream, Http::One, Keys { one_worker: true, ..Keys::default() });
    let mut peer = Peer::connect_with(gateway.address(), &[(INITIAL_WINDOW_SIZE, 1 << 20)]).await;
    begin(&mut peer, 1).await;
    comes(&mut peer, 65_535).await;
    begin(&mut peer, 3).await;
    comes(&mut peer, 0).await;
    peer.write(&[Frame::window(0, 1)]).await;
    comes(&mut peer, 1).await;
    peer.write(&[Frame::window(1, 1000)]).await;
    comes(&mut peer, 0).await;
    peer.write(&[Frame::window(0, 1 << 20)]).await;
    ends(&mut peer, 1).await;
}

/// `write_stall` is about a client that takes nothing. One that takes little, for several times that span, is not cut: neither by its windows,
/// nor by its socket.
#[tokio::test]
async fn a_slow_and_steady_reader_is_not_cut() {
    const ENDLESS: &str = "frames=100000000; size=1000; interval=0";
    let upstream = simulator().await;
    let keys = Keys { one_worker: true, server: r#"write_stall = "1s""#, ..Keys::default() };
    // Of the windows 2.5 KB/s. The kernel shows room in a socket only when half of its buffer is free, and takes more.
    for (what, wide, pace, bytes) in
        [("the connection's window", false, 200, 500), ("the socket", true, 80, 4 << 10)]
    {
        upstream.reset();
        let gateway = Gateway::with(&upstream, Http::One, keys);
        let mut peer = Peer::connect_with(gateway.address(), &[(INITIAL_WINDOW_SIZE, i32::MAX as u32)]).await;
        if wide {
            peer.write(&[Frame::window(0, i32::MAX as u32 - 65_535)]).await;
        }
        begin_answer(&mut peer, 1, ENDLESS).await;
        let mut left = if wide { 0 } else { 65_535 };
        for _ in 0..3000 / pace {
            while left > 0 {
                left -= peer.next_of(DATA).await.payload.len().min(left);
            }
            // The reader's pace.
            tokio::time::sleep(Duration::from_millis(pace)).await;
            if !wide {
                peer.write(&[Frame::window(0, bytes as u32)]).await;
            }
            left = bytes;
        }
        assert!(gateway.log.access().is_empty(), "cut, though {what} is not shut");
        // Then it takes nothing.
        let line = gateway.log.line(1).await;
        assert_eq!((&line["who"], &line["error"]), (&"downstream".into(), &"write_stall".into()), "{line}");
        drop(peer);
        gateway.finish(1).await;
    }
}
