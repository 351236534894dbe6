use super::support::*;
use crate::{body::Cut, config, snapshot::Listener};
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(200);

/// Its body is `body`.
const POST: &str = "POST /hello HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\n";
const CHUNKED: &str =
    "POST /hello HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n";

#[tokio::test]
async fn a_head_that_does_not_come_closes_the_connection() {
    let setup = Setup::new(config::Server { header_timeout: SHORT, ..server() }, plain());
    for sent in ["", "GET / HT"] {
        let mut tcp = setup.connect().await;
        send(&mut tcp, sent).await;
        assert_eq!(safely(read_to_close(&mut tcp)).await, b"");
    }
    setup.counted(|counters| &counters.header_timeout, 2).await;
    setup.counted(|counters| &counters.idle_closed, 0).await;
}

#[tokio::test]
async fn a_second_head_has_its_own_time() {
    let setup = Setup::new(config::Server { header_timeout: SHORT, ..server() }, plain());
    let mut tcp = setup.connect().await;
    send(&mut tcp, get("/hello")).await;
    safely(read_to(&mut tcp, "hello")).await;
    send(&mut tcp, "GET /he").await;
    assert_eq!(safely(read_to_close(&mut tcp)).await, b"");
    setup.counted(|counters| &counters.header_timeout, 1).await;
}

/// Whether it came with the request before, or while that was being answered.
#[tokio::test]
async fn a_head_that_begins_behind_a_request_has_its_own_time() {
    let mut setup = Setup::new(config::Server { header_timeout: SHORT, ..server() }, plain());
    let mut tcp = setup.connect().await;
    send(&mut tcp, get("/hello") + "GET /he").await;
    safely(read_to(&mut tcp, "hello")).await;
    assert_eq!(safely(read_to_close(&mut tcp)).await, b"");
    setup.counted(|counters| &counters.header_timeout, 1).await;

    let mut tcp = setup.connect().await;
    send(&mut tcp, POST.to_owned() + "body" + &get("/slow")).await;
    safely(read_to(&mut tcp, "hello")).await;
    while safely(setup.told()).await != StandInEvent::Begun("/slow".into()) {}
    send(&mut tcp, "GET /he").await;
    setup.go.add_permits(1);
    safely(read_to(&mut tcp, "\r\n\r\nslow")).await;
    assert_eq!(safely(read_to_close(&mut tcp)).await, b"");
    setup.counted(|counters| &counters.header_timeout, 2).await;
    setup.counted(|counters| &counters.idle_closed, 0).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let setup = Setup::new(config::Server { keep_alive: SHORT, ..server() }, plain());
    let mut tcp = setup.connect().await;
    for _ in 0..2 {
        send(&mut tcp, get("/hello")).await;
        safely(read_to(&mut tcp, "hello")).await;
    }
    assert_eq!(safely(read_to_close(&mut tcp)).await, b"");
    setup.counted(|counters| &counters.idle_closed, 1).await;
    setup.counted(|counters| &counters.header_timeout, 0).await;
}

/// Nothing of a next request has come with any of these.
#[tokio::test]
async fn a_connection_is_idle_after_a_body_and_after_pipelined_requests() {
    let mut setup = Setup::new(config::Server { keep_alive: SHORT, ..server() }, plain());
    let whole = [POST.to_owned() + "body", get("/hello") + &get("/hello"), CHUNKED.to_owned()];
    for (closed, sent) in (1..).zip(whole) {
        let mut tcp = setup.connect().await;
        send(&mut tcp, sent).await;
        safely(read_to_close(&mut tcp)).await;
        setup.counted(|counters| &counters.idle_closed, closed).await;
    }
    while setup.told.try_recv().is_ok() {}
    let mut tcp = setup.connect().await;
    send(&mut tcp, POST).await;
    assert_eq!(safely(setup.told()).await, StandInEvent::Begun("/hello".into()));
    send(&mut tcp, "body").await;
    safely(read_to_close(&mut tcp)).await;
    setup.counted(|counters| &counters.idle_closed, 4).await;
}

#[tokio::test]
async fn a_slow_handler_is_not_idleness() {
    let server = config::Server { keep_alive: SHORT, header_timeout: SHORT, write_stall: SHORT, ..server() };
    let mut setup = Setup::new(server, plain());
    let mut slow = setup.connect().await;
    send(&mut slow, get("/slow")).await;
    assert_eq!(safely(setup.told()).await, StandInEvent::Begun("/slow".into()));
    // Another connection's clocks have run out meanwhile, all of them.
    let mut idle = setup.connect().await;
    send(&mut idle, get("/hello")).await;
    safely(read_to_close(&mut idle)).await;
    setup.go.add_permits(1);
    safely(read_to(&mut slow, "\r\n\r\nslow")).await;
}

#[tokio::test]
async fn an_idle_http2_connection_is_told_goodbye() {
    let server = config::Server { keep_alive: SHORT, ..server() };
    let setup = Setup::new(server, Listener { h2c: true, ..plain() });
    let tcp = setup.connect().await;
    let mut requests = http2(tcp).await;
    assert_eq!(text(get2(&mut requests, "/hello").await.unwrap()).await, "hello");
    safely(async {
        while requests.ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    setup.counted(|counters| &counters.idle_closed, 1).await;
}

#[tokio::test]
async fn a_caller_who_reads_nothing_is_cut_off() {
    let mut setup = Setup::new(config::Server { write_stall: SHORT, ..server() }, plain());
    let mut tcp = setup.connect().await;
    send(&mut tcp, get("/flood")).await;
    assert_eq!(safely(setup.ended()).await, ("/flood".into(), Some(Cut::WriteStall)));
    setup.counted(|counters| &counters.write_stalled, 1).await;
    // A reset, not an orderly end.
    let mut rest = Vec::new();
    let end = safely(tokio::io::AsyncReadExt::read_to_end(&mut tcp, &mut rest)).await;
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_stalled_http2_stream_is_reset_and_the_others_go_on() {
    let server = config::Server { write_stall: SHORT, ..server() };
    let mut setup = Setup::new(server, Listener { h2c: true, ..plain() });
    let mut requests = http2(setup.connect().await).await;
    let flood = safely(get2(&mut requests, "/flood")).await.unwrap();
    assert_eq!(safely(setup.ended()).await, ("/flood".into(), Some(Cut::WriteStall)));
    setup.counted(|counters| &counters.write_stalled, 1).await;
    assert_eq!(text(safely(get2(&mut requests, "/hello")).await.unwrap()).await, "hello");
    let end = safely(http_body_util::BodyExt::collect(flood.into_body())).await;
    assert!(end.is_err(), "a stream that was cut looks whole");
}
