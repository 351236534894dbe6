//! HTTP/2 connections of upstreams that take no more streams: they said so before, or say it of one that was sent.

use bytes::Bytes;
use http::StatusCode;
use hyper::body::Frame;
use tokio::{net::TcpListener, task::JoinSet};

use super::assert_ended;
use crate::harness::{
    Answer, CHAT, Client, Frames, Gateway, GatewayToml, Http, Keys, Raw, authorised, body_of, chat, log,
    safely, simulator,
};

async fn listening() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

/// A stream that a GOAWAY leaves out was not looked at (RFC 9113, section 6.8), and the connection is no place to send it again.
#[tokio::test]
async fn what_a_goaway_leaves_out_is_sent_on_another_connection() {
    let (listener, url) = listening().await;
    let gateway = Gateway::to(&url, Http::Two, Keys { one_worker: true, ..Keys::default() });
    let mut asking = JoinSet::new();
    for _ in 0..2 {
        asking.spawn(chat(gateway.address(), Http::One));
    }
    let mut first = Frames::accept(&listener).await;
    first.settings(100).await;
    let (taken, left_out) = (first.request().await, first.request().await);
    assert!(taken < left_out);
    first.go_away(taken).await;
    let mut second = Frames::accept(&listener).await;
    second.settings(100).await;
    let again = second.request().await;
    for (connection, stream) in [(&mut second, again), (&mut first, taken)] {
        connection.head(stream).await;
        connection.data(stream, b"{}").await;
        connection.end(stream).await;
        let answer = safely(asking.join_next()).await.unwrap().unwrap();
        assert_eq!((answer.status, answer.text()), (StatusCode::OK, "{}"));
    }
    for exchange in gateway.log.wait_for(|lines| (lines.len() == 2).then(|| lines.to_vec())).await {
        assert_ended(&exchange, "upstream", "done", "");
    }
    gateway.finish(2).await;
}

/// A connection that refuses a stream beside others takes no more for now, whatever limit it has told; when one of them is over, it does.
#[tokio::test]
async fn a_connection_that_refuses_a_stream_is_full_until_another_is_over() {
    let (listener, url) = listening().await;
    let gateway = Gateway::to(&url, Http::Two, Keys { one_worker: true, ..Keys::default() });
    let ask = || tokio::spawn(chat(gateway.address(), Http::One));
    let one = ask();
    let mut first = Frames::accept(&listener).await;
    first.settings(100).await;
    let taken = first.request().await;
    let two = ask();
    let refused = first.request().await;
    first.refuse(refused).await;
    let mut second = Frames::accept(&listener).await;
    second.settings(100).await;
    let again = second.request().await;
    first.head(taken).await;
    first.end(taken).await;
    assert_eq!(safely(one).await.unwrap().status, StatusCode::OK);
    let three = ask();
    let next = first.request().await;
    for (connection, stream, asked) in [(&mut second, again, two), (&mut first, next, three)] {
        connection.head(stream).await;
        connection.end(stream).await;
        assert_eq!(safely(asked).await.unwrap().status, StatusCode::OK);
    }
    gateway.finish(3).await;
}

/// What an upstream allows may come after the first request was sent (RFC 9113, section 6.5.2): no request after that waits behind a stream
/// of another caller.
#[tokio::test]
async fn a_limit_on_streams_holds_from_when_it_is_told() {
    let (listener, url) = listening().await;
    let gateway = Gateway::to(&url, Http::Two, Keys { one_worker: true, ..Keys::default() });
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut caller = Raw::connect(gateway.address()).await;
        caller.post("HTTP/1.1", "/v1/chat/completions", "connection: close\r\n", CHAT).await;
        let mut connection = Frames::accept(&listener).await;
        let stream = connection.request().await;
        connection.settings(1).await;
        connection.head(stream).await;
        connection.data(stream, b"begun").await;
        caller.until("begun\r\n").await;
        held.push((caller, connection, stream));
    }
    for (mut caller, mut connection, stream) in held {
        connection.end(stream).await;
        assert_eq!(caller.read_to_end().await, (b"0\r\n\r\n".to_vec(), None));
    }
    gateway.finish(3).await;
}

/// A body that passes on is not lost with a connection that takes no more streams: nothing of it was sent.
#[tokio::test]
async fn an_upload_that_was_not_begun_goes_to_the_next_upstream() {
    let (listener, url) = listening().await;
    let spare = simulator().await;
    let gateway = Gateway::start(
        &GatewayToml::new()
            .server("threads = 1")
            .upstream_of("main", format!("url = \"{url}\"\nhttp2 = true\nauth = \"none\""))
            .upstream("spare", &spare.url(), "")
            .route("commit = \"headers\""),
    );
    // A stream that goes on keeps the connection there.
    let mut caller = Raw::connect(gateway.address()).await;
    caller.post("HTTP/1.1", "/v1/chat/completions", "connection: close\r\n", CHAT).await;
    let mut connection = Frames::accept(&listener).await;
    connection.settings(100).await;
    let stream = connection.request().await;
    connection.head(stream).await;
    connection.go_away(stream).await;
    connection.data(stream, b"begun").await;
    caller.until("begun\r\n").await;
    drop(listener);

    let (pieces, body) = body_of();
    let upload = authorised(gateway.address(), Http::One, "POST", "/v1/files")
        .header("content-type", "application/octet-stream");
    let mut client = Client::connect(gateway.address(), Http::One).await;
    let pending = client.begin(upload.body(body).unwrap()).await;
    let answer = tokio::spawn(async move { Answer::read(pending.await.unwrap()).await });
    safely(pieces.send(Frame::data(Bytes::from_static(b"all of it")))).await.unwrap();
    drop(pieces);
    assert_eq!(safely(answer).await.unwrap().status, StatusCode::OK);
    let records = spare.records();
    assert_eq!((records.len(), &*records[0].body, records[0].body_complete), (1, &b"all of it"[..], true));
    assert_eq!(log::failed_attempts(&gateway.log.line(1).await), format!("{url} upstream_unreachable"));
    connection.end(stream).await;
    caller.read_to_end().await;
    gateway.finish(2).await;
}
