//! Answers keep to their windows (RFC 9113, section 6.9), to the byte.

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
    let long = [("x-simulate".to_owned(), "frames=200; size=1000".to_owned())];
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
