use super::support::*;
use crate::{
    body::Cut,
    config::{self, ClientAddress},
    pause,
    snapshot::Listener,
};
use http_body_util::BodyExt;
use std::time::Duration;
use tokio::io::AsyncReadExt;

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

/// Blocks the worker for longer than any of the clocks, as a stopped process is.
async fn pause(setup: &Setup) {
    let blocked = setup.listening.workers().ask(SAFETY, |_| std::thread::sleep(pause::GAP * 3 / 2));
    assert_eq!(safely(blocked).await, [Some(())]);
}

/// The client goes on only after the pause, when all of these clocks have run out.
#[tokio::test]
async fn a_pause_of_the_process_cuts_nobody() {
    let short = Duration::from_secs(1);
    let server = || config::Server {
        handshake_timeout: short,
        header_timeout: short,
        keep_alive: short,
        write_stall: short,
        ..server()
    };
    let h2c = Listener { h2c: true, ..plain() };
    let proxied = Listener { client_address: ClientAddress::ProxyProtocol(Vec::new()), ..plain() };
    let request = get("/hello");
    let (half, rest) = request.split_at(9);
    for (listener, before, half, rest) in [
        (plain(), "", "", &*request),
        (plain(), "", half, rest),
        (plain(), &*request, "", &*request),
        (plain(), &*request, half, rest),
        (proxied, "", "PROXY UNK", &format!("NOWN\r\n{request}")),
        (h2c, "", half, rest),
    ] {
        let setup = Setup::new(server(), listener);
        let mut tcp = setup.connect().await;
        if !before.is_empty() {
            send(&mut tcp, before).await;
            safely(read_to(&mut tcp, "hello")).await;
        }
        send(&mut tcp, half).await;
        setup.counted(|counters| &counters.accepted, 1).await;
        pause(&setup).await;
        send(&mut tcp, rest).await;
        safely(read_to(&mut tcp, "hello")).await;
    }
}

#[tokio::test]
async fn a_client_that_reads_again_after_a_pause_is_not_cut() {
    // More than all buffers on the way.
    const LEFT: usize = 16 << 20;
    let server = || config::Server { write_stall: Duration::from_secs(1), ..server() };
    let mut setup = Setup::new(server(), plain());
    let mut tcp = setup.connect().await;
    send(&mut tcp, get("/flood")).await;
    assert_eq!(safely(setup.told()).await, StandInEvent::Begun("/flood".into()));
    pause(&setup).await;
    safely(tcp.read_exact(&mut vec![0; LEFT])).await.unwrap();
    setup.counted(|counters| &counters.write_stalled, 0).await;

    let setup = Setup::new(server(), Listener { h2c: true, ..plain() });
    let mut requests = http2(setup.connect().await).await;
    let mut flood = safely(get2(&mut requests, "/flood")).await.unwrap().into_body();
    pause(&setup).await;
    let mut left = LEFT;
    while left > 0 {
        let frame = safely(flood.frame()).await.unwrap().unwrap();
        left = left.saturating_sub(frame.into_data().unwrap().len());
    }
    setup.counted(|counters| &counters.write_stalled, 0).await;
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
    let end = safely(AsyncReadExt::read_to_end(&mut tcp, &mut rest)).await;
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
    let end = safely(BodyExt::collect(flood.into_body())).await;
    assert!(end.is_err(), "a stream that was cut looks whole");
}
