//! Exchanges that one side would hold for ever.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, Response, StatusCode};
use hyper::body::Frame;
use sluicegate::simulator::{Head, Script, Step};
use tokio::net::{TcpListener, TcpStream};

use super::{EVENT, assert_ended};
use crate::harness::{
    Answer, BOTH, Client, Gateway, Http, Keys, authorised, body_of, safely, simulator, take,
};

/// The answer is there, and the rest of the upload never comes: the caller's doing, and told as that.
#[tokio::test]
async fn an_upload_that_stalls_within_its_early_answer() {
    let upstream = simulator().await;
    for up in BOTH {
        for down in BOTH {
            upstream.reset();
            let server = r#"body_idle = "300ms""#;
            let gateway = Gateway::with(&upstream, up, Keys { server, ..Keys::default() });
            upstream.queue(Script::before_body(vec![
                Step::Head(Head::event_stream()),
                Step::Send(EVENT.into()),
                Step::Stall,
            ]));
            let (pieces, body) = body_of();
            let request = authorised(gateway.address(), down, "POST", "/v1/files")
                .header("content-type", "application/octet-stream")
                .body(body)
                .unwrap();
            let mut client = Client::connect(gateway.address(), down).await;
            let pending = client.begin(request).await;
            let answering = tokio::spawn(pending);
            safely(pieces.send(Frame::data("begun".into()))).await.unwrap();
            let mut response = safely(answering).await.unwrap().unwrap();
            assert_eq!(take(response.body_mut(), EVENT.len()).await, EVENT.as_bytes());
            let rest = safely(Answer::read(response)).await;
            let line = gateway.log.line(1).await;
            assert_ended(&line, "downstream", "stream", "body_timeout");
            assert!(!rest.whole || rest.text().contains("body_timeout"), "it looks whole: {rest:?}");
            let number = upstream.records()[0].number;
            let record = safely(upstream.record(number)).await;
            assert!(record.ended.unwrap().1.peer_left(), "{up:?} {down:?} {:?}", record.ended);
            drop((pieces, client));
            gateway.finish(1).await;
        }
    }
}

/// A caller's HTTP/2 connection with the windows of its own making: what is received opens them again only where that is asked for.
async fn connected(address: SocketAddr, window: u32) -> SendRequest<Bytes> {
    let tcp = TcpStream::connect(address).await.unwrap();
    let mut builder = h2::client::Builder::new();
    let (sender, connection) = builder.initial_window_size(window).handshake(tcp).await.unwrap();
    // Its end is seen by the streams on it.
    tokio::spawn(async move { drop(connection.await) });
    sender
}

fn models(address: SocketAddr, id: &str) -> Request<()> {
    let request = authorised(address, Http::Two, "GET", "/v1/models").header("x-simulate-id", id);
    request.body(()).unwrap()
}

/// Sends small requests, one after the other, for as long as they are answered.
async fn keep_busy(address: SocketAddr, mut sender: SendRequest<Bytes>) -> Result<(), h2::Error> {
    loop {
        sender = sender.ready().await?;
        let (response, _) = sender.send_request(models(address, "small"), true)?;
        let mut body = response.await?.into_body();
        while let Some(piece) = body.data().await {
            let taken = piece?.len();
            body.flow_control().release_capacity(taken)?;
        }
    }
}

/// All of the answer has been handed over, and waits for a window that never opens, on a connection that is never idle.
#[tokio::test]
async fn a_last_frame_that_nobody_takes() {
    const WINDOW: usize = 5000;
    let upstream = simulator().await;
    for up in BOTH {
        let server = r#"write_stall = "300ms""#;
        let gateway = Gateway::with(&upstream, up, Keys { server, ..Keys::default() });
        let answer = vec![b' '; WINDOW + 2000];
        let steps = vec![Step::Head(Head::json(StatusCode::OK, answer.len())), Step::Send(answer.into())];
        upstream.queue_for("large", Script::new(steps));
        let mut sender =
            safely(connected(gateway.address(), WINDOW.try_into().unwrap())).await.ready().await.unwrap();
        let (response, _) = sender.send_request(models(gateway.address(), "large"), true).unwrap();
        let mut body = safely(response).await.unwrap().into_body();
        let mut taken = 0;
        while taken < WINDOW {
            taken += safely(body.data()).await.unwrap().unwrap().len();
        }
        assert_eq!(taken, WINDOW);
        let busy = tokio::spawn(keep_busy(gateway.address(), sender));
        let ending = safely(body.data()).await;
        assert!(matches!(ending, Some(Err(_))), "{up:?} {ending:?}");
        busy.abort();
    }
}

/// An upload whose answer is over has no more to do, over HTTP/2 as over HTTP/1.1: the stream is reset, though the caller keeps its own open.
#[tokio::test]
async fn an_upload_ends_with_its_early_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    for down in BOTH {
        let gateway = Gateway::to(&url, Http::Two, Keys { one_worker: true, ..Keys::default() });
        let (pieces, body) = body_of();
        let upload = authorised(gateway.address(), down, "POST", "/v1/files")
            .header("content-type", "application/octet-stream");
        let mut client = Client::connect(gateway.address(), down).await;
        let pending = client.begin(upload.body(body).unwrap()).await;
        let (answer, reset) = tokio::join!(safely(pending), async {
            safely(pieces.send(Frame::data(Bytes::from_static(b"some of it")))).await.unwrap();
            let mut connection = h2::server::handshake(listener.accept().await.unwrap().0).await.unwrap();
            let (request, mut respond) = safely(connection.accept()).await.unwrap().unwrap();
            tokio::spawn(async move { while let Some(Ok(_)) = connection.accept().await {} });
            let mut body = request.into_body();
            assert_eq!(safely(body.data()).await.unwrap().unwrap(), "some of it");
            let head = Response::builder().status(StatusCode::PAYLOAD_TOO_LARGE).body(()).unwrap();
            respond.send_response(head, true).unwrap();
            safely(body.data()).await.unwrap().unwrap_err().reason()
        });
        assert_eq!(answer.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(reset, Some(h2::Reason::CANCEL));
        drop((pieces, client));
        gateway.finish(1).await;
    }
}
