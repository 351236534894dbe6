use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};

use super::*;

#[tokio::test]
async fn a_connection_is_kept_and_recorded_as_it_came() {
    let simulator = simulator().await;
    let mut client = Client::of(&simulator).await;
    let request = "GET /v1/models?a=%20 HTTP/1.1\r\nHOST: Sim\r\nX-Odd:  two  words\r\n\r\n";
    for _ in 0..2 {
        client.send(request).await;
        let (head, body) = client.answer().await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(body.contains("\"gpt-4o\""));
    }
    let record = simulator.record(2).await;
    assert_eq!((record.connection, record.on_connection, ended(&record)), (1, 2, Ended::Answered));
    assert_eq!((record.head.as_ref(), record.protocol), (request.as_bytes(), Version::HTTP_11));
    assert_eq!((record.target.as_str(), record.authority.as_deref()), ("/v1/models?a=%20", Some("Sim")));
    Client::of(&simulator).await.send(request).await;
    assert_eq!(simulator.record(3).await.connection, 2);
}

#[tokio::test]
async fn part_two_waits_for_its_gate() {
    let simulator = simulator().await;
    let gate = Gate::new();
    simulator.queue(gated(&["one", "two"], &gate));
    let mut client = Client::of(&simulator).await;
    client.send("GET / HTTP/1.1\r\n\r\n").await;
    client.until("\r\n\r\n3\r\none\r\n").await;
    assert!(simulator.records()[0].ended.is_none());
    gate.open();
    assert_eq!(client.until("0\r\n\r\n").await, "3\r\ntwo\r\n0\r\n\r\n");
    assert_eq!(simulator.record(1).await.sent, 6);
}

#[tokio::test]
async fn every_cut_comes_after_exactly_its_bytes() {
    let simulator = simulator().await;
    for cut in ["reset", "close", "chunk-error"] {
        for at in 0..=40 {
            let mut client = Client::of(&simulator).await;
            let knobs = format!("X-Simulate: length=close; cut={at}; by={cut}\r\n");
            client.send(&post("/v1/chat/completions", &knobs, r#"{"model":"m","stream":true}"#)).await;
            let _ = client.until("\r\n\r\n").await;
            let (body, end) = client.rest().await;
            let tail = if cut == "chunk-error" { "no-size\r\n" } else { "" };
            let body = body.strip_suffix(tail).unwrap();
            assert_eq!((body.len(), end.is_err()), (at, cut == "reset"), "{cut} {body:?}");
        }
    }
    let records = simulator.records();
    assert_eq!(records.len(), 123);
    assert!(records.iter().all(|record| matches!(ended(record), Ended::CutByScript(_))));
    assert!(records.iter().all(|record| record.sent == (record.number - 1) % 41));
}

#[tokio::test]
async fn who_leaves_is_noticed_wherever_the_script_waits() {
    let simulator = simulator().await;
    let long = Duration::from_secs(3600);
    let waits = || [Step::Gate(Gate::new()), Step::Wait(long), Step::Stall];
    let mut number = 0;
    for reset in [false, true] {
        for wait in waits() {
            simulator.queue(Script::new(vec![
                Step::Head(Head::event_stream()),
                Step::Send(Bytes::from_static(b"x")),
                wait,
                Step::Send(Bytes::from_static(b"y")),
            ]));
            let mut client = Client::of(&simulator).await;
            client.send("GET / HTTP/1.1\r\n\r\n").await;
            client.until("1\r\nx\r\n").await;
            if reset {
                client.socket.set_zero_linger().unwrap();
            }
            drop(client);
            number += 1;
            let record = simulator.record(number).await;
            let left = if reset { Ended::PeerReset } else { Ended::PeerClosed };
            assert_eq!((ended(&record), record.sent), (left, 1));
        }
    }
}

#[tokio::test]
async fn uploads_are_hashed_in_any_framing_and_can_be_answered_first() {
    let simulator = simulator().await;
    let mut client = Client::of(&simulator).await;
    client
        .send("POST /v1/files HTTP/1.1\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    client.until("HTTP/1.1 100 Continue\r\n\r\n").await;
    client.send("3\r\nhel\r\n2\r\nlo\r\n0\r\nX-Sum: 5\r\n\r\n").await;
    let (_, body) = client.answer().await;
    assert!(body.contains("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"), "{body}");
    let record = simulator.record(1).await;
    assert_eq!(
        (record.body.as_ref(), record.trailers.get("x-sum").unwrap().as_bytes()),
        (&b"hello"[..], &b"5"[..])
    );

    client
        .send("POST /v1/files HTTP/1.1\r\nX-Simulate: early; status=413\r\nContent-Length: 5\r\n\r\n")
        .await;
    let (head, body) = client.answer().await;
    assert!(head.starts_with("HTTP/1.1 413 ") && body.contains("too large"));
    assert!(!simulator.records()[1].body_complete);
    client.send("hello").await;
    let record = simulator.record(2).await;
    assert_eq!((record.body_complete, record.body_length, ended(&record)), (true, 5, Ended::Answered));
}

#[tokio::test]
async fn interim_answers_trailers_raw_bytes_and_shortfalls_go_out_as_scripted() {
    let simulator = simulator().await;
    let sum = HeaderMap::from_iter([(HeaderName::from_static("x-sum"), HeaderValue::from_static("1"))]);
    simulator.queue(Script::new(vec![
        Step::Informational(StatusCode::EARLY_HINTS, sum.clone()),
        Step::Head(Head::event_stream()),
        Step::Send(Bytes::from_static(b"0123456789abcdef")),
        Step::Trailers(sum),
    ]));
    simulator
        .queue(Script::new(vec![Step::Raw(Bytes::from_static(b"HTTP/9 odd\n\n")), Step::Cut(Cut::Close)]));
    let mut client = Client::of(&simulator).await;
    client.send("GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(client.until("\r\n\r\n").await, "HTTP/1.1 103 Early Hints\r\nx-sum: 1\r\n\r\n");
    client.until("\r\n\r\n").await;
    assert_eq!(client.until("\r\n\r\n").await, "10\r\n0123456789abcdef\r\n0\r\nx-sum: 1\r\n\r\n");
    client.send("GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(client.rest().await.0, "HTTP/9 odd\n\n");

    let mut head = Head::event_stream();
    head.framing = Framing::Known(9);
    simulator.queue(Script::new(vec![Step::Head(head), Step::Send(Bytes::from_static(b"short"))]));
    let mut client = Client::of(&simulator).await;
    client.send("GET / HTTP/1.1\r\n\r\n").await;
    assert!(client.rest().await.0.ends_with("content-length: 9\r\n\r\nshort"));
}

#[tokio::test]
async fn scripts_go_to_the_request_of_their_id() {
    let simulator = simulator().await;
    let script = |text: &'static str| {
        let head = Head::json(StatusCode::OK, text.len());
        Script::new(vec![Step::Head(head), Step::Send(Bytes::from_static(text.as_bytes()))])
    };
    simulator.queue(script("first"));
    simulator.queue_for("mine", script("own"));
    let mut client = Client::of(&simulator).await;
    client.send("GET / HTTP/1.1\r\nX-Simulate-Id: mine\r\n\r\n").await;
    assert_eq!(client.answer().await.1, "own");
    client.send("GET / HTTP/1.1\r\nX-Simulate-Id: other\r\n\r\n").await;
    assert_eq!(client.answer().await.1, "first");
    client.send("GET / HTTP/1.1\r\n\r\n").await;
    assert!(client.answer().await.0.starts_with("HTTP/1.1 404 "));
}

#[test]
fn a_simulator_of_its_own_threads_answers_a_blocking_client() {
    use std::io::{Read, Write};
    let simulator = Simulator::spawn_threads(&Options::default(), 2).unwrap();
    let mut socket = std::net::TcpStream::connect(simulator.addr()).unwrap();
    socket.write_all(b"GET /v1/models/m HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("\"id\":\"m\""));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let address = simulator.addr();
    runtime.block_on(simulator.shutdown());
    assert!(std::net::TcpStream::connect(address).is_err());
}
