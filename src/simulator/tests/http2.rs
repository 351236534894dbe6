use h2::{Reason, RecvStream, client::SendRequest};
use http::{Request, StatusCode};

use super::*;

/// An HTTP/2 connection by prior knowledge.
async fn connect(simulator: &Simulator) -> SendRequest<Bytes> {
    let socket = TcpStream::connect(simulator.addr()).await.unwrap();
    let (send, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    send
}

async fn get(send: &mut SendRequest<Bytes>) -> (StatusCode, RecvStream) {
    let request = Request::get("http://sim/v1/anything").body(()).unwrap();
    let response = send.send_request(request, true).unwrap().0.await.unwrap();
    (response.status(), response.into_body())
}

/// The body up to its end, and how it ended.
async fn read(body: &mut RecvStream) -> (String, Result<(), h2::Error>) {
    let mut text = Vec::new();
    while let Some(piece) = body.data().await {
        match piece {
            Ok(piece) => text.extend_from_slice(&piece),
            Err(error) => return (String::from_utf8(text).unwrap(), Err(error)),
        }
    }
    (String::from_utf8(text).unwrap(), Ok(()))
}

fn cut(how: Cut) -> Script {
    Script::new(vec![
        Step::Head(Head::event_stream()),
        Step::Send(Bytes::from_static(b"begun")),
        Step::Cut(how),
    ])
}

#[tokio::test]
async fn streams_run_side_by_side_and_trailers_cross_both_ways() {
    let simulator = simulator().await;
    let mut send = connect(&simulator).await;
    let gate = Gate::new();
    simulator.queue(gated(&["one", "two"], &gate));
    let (_, mut first) = get(&mut send).await;
    assert_eq!(first.data().await.unwrap().unwrap(), "one");

    let request = Request::post("http://sim/v1/files").header("x-simulate", "trailers").body(()).unwrap();
    let (answer, mut upload) = send.send_request(request, false).unwrap();
    upload.send_data(Bytes::from_static(b"hello"), false).unwrap();
    let sum = [(http::HeaderName::from_static("x-sum"), http::HeaderValue::from_static("5"))];
    upload.send_trailers(http::HeaderMap::from_iter(sum)).unwrap();
    let mut body = answer.await.unwrap().into_body();
    assert!(read(&mut body).await.0.contains("2cf24dba5fb0a30e26e83b2ac5b9e29e"));
    assert_eq!(body.trailers().await.unwrap().unwrap()["x-simulate-trailer"], "done");

    gate.open();
    assert_eq!(read(&mut first).await.0, "two");
    let records = (simulator.record(1).await, simulator.record(2).await);
    assert_eq!((records.0.connection, records.1.connection, records.1.on_connection), (1, 1, 2));
    assert_eq!(
        (records.1.protocol, &records.1.trailers["x-sum"]),
        (http::Version::HTTP_2, &"5".parse().unwrap())
    );
    assert_eq!((records.1.authority.as_deref(), records.1.target.as_str()), (Some("sim"), "/v1/files"));
    assert!(simulator.records().iter().all(|record| ended(record) == Ended::Answered));
}

#[tokio::test]
async fn every_cut_comes_after_its_bytes() {
    let simulator = simulator().await;
    for (how, reason) in [(Cut::Reset, Reason::INTERNAL_ERROR), (Cut::ChunkError, Reason::PROTOCOL_ERROR)] {
        simulator.queue(cut(how));
        let (text, end) = read(&mut get(&mut connect(&simulator).await).await.1).await;
        assert_eq!((text.as_str(), end.unwrap_err().reason()), ("begun", Some(reason)));
    }
    simulator.queue(cut(Cut::Close));
    let (text, end) = read(&mut get(&mut connect(&simulator).await).await.1).await;
    assert_eq!(text, "begun");
    assert!(!end.unwrap_err().is_reset());
    assert_eq!(ended(&simulator.record(3).await), Ended::CutByScript(Cut::Close));
}

#[tokio::test]
async fn who_leaves_is_noticed() {
    let simulator = simulator().await;
    let mut send = connect(&simulator).await;
    for _ in 0..2 {
        simulator.queue(gated(&["one", "two"], &Gate::new()));
    }
    let (_, mut body) = get(&mut send).await;
    body.data().await.unwrap().unwrap();
    drop(body);
    let record = simulator.record(1).await;
    assert_eq!((ended(&record), record.sent), (Ended::PeerReset, 3));

    let socket = TcpStream::connect(simulator.addr()).await.unwrap();
    let (mut send, connection) = h2::client::handshake(socket).await.unwrap();
    let driver = tokio::spawn(connection);
    let (_, mut body) = get(&mut send).await;
    body.data().await.unwrap().unwrap();
    driver.abort();
    assert_eq!(ended(&simulator.record(2).await), Ended::PeerClosed);
}

#[tokio::test]
async fn more_than_the_window_waits_for_the_reader() {
    let simulator = simulator().await;
    let big = Bytes::from(vec![b'x'; 300_000]);
    simulator.queue(Script::new(vec![Step::Head(Head::event_stream()), Step::Send(big)]));
    let mut send = connect(&simulator).await;
    let (_, mut body) = get(&mut send).await;
    let mut length = 0;
    while let Some(piece) = body.data().await {
        let piece = piece.unwrap();
        length += piece.len();
        body.flow_control().release_capacity(piece.len()).unwrap();
    }
    assert_eq!((length, simulator.record(1).await.sent), (300_000, 300_000));
}
