//! How connections end: by either peer, by the gateway's clocks, by a drain, by a failure.

use sluicegate::{
    app::Ended,
    websocket::writer::{self, Sender},
};

use super::rig::{CLOSE, Upstream, before, open, open_narrow};
use crate::harness::Gateway;

const CREATED: &str = r#"{"type":"response.created","response":{}}"#;
const DONE: &str = r#"{"type":"response.done","response":{"status":"completed"}}"#;

#[tokio::test]
async fn an_upstream_that_dies_between_two_frames_closes_with_1011() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&before(&upstream));
    let (mut client, mut server) = open(&gateway, &upstream, "/v1/realtime").await;
    server.text("last").await;
    drop(server);
    assert_eq!(client.next_text().await, "last");
    let (code, reason) = client.next_close().await;
    assert!(code == 1011 && reason.contains("upstream"), "{code} {reason}");
    client.close(1011, "").await;
    assert!(client.rest().await.is_empty());
    let line = gateway.log.line(1).await;
    let fields = (&line["who"], &line["phase"], &line["error"], &line["close_code"]);
    assert_eq!(fields, (&"upstream".into(), &"stream".into(), &"upstream_truncated".into(), &1011.into()));
    gateway.finish(1).await;
}

#[tokio::test]
async fn an_upstream_that_dies_within_a_frame_cuts_the_connection() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&before(&upstream));
    let (mut client, mut server) = open(&gateway, &upstream, "/v1/realtime").await;
    server.raw(b"\x81\x05hel").await;
    drop(server);
    // No close frame may stand within the message.
    assert_eq!(client.rest().await, b"\x81\x05hel");
    let line = gateway.log.line(1).await;
    assert_eq!((&line["error"], &line["close_code"]), (&"upstream_truncated".into(), &().into()), "{line}");
    gateway.finish(1).await;
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_upstreams_side() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&before(&upstream));
    let (mut client, mut server) = open(&gateway, &upstream, "/v1/realtime").await;
    client.text("last").await;
    drop(client);
    assert_eq!(server.next_text().await, "last");
    assert!(server.rest().await.is_empty());
    server.end().await;
    drop(server);
    let line = gateway.log.line(1).await;
    assert_eq!((&line["who"], &line["error"]), (&"downstream".into(), &"caller_left".into()), "{line}");
    gateway.finish(1).await;
}

#[tokio::test]
async fn close_codes_of_the_upstream_pass() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&before(&upstream));
    for code in [1000, 1001, 1003, 1007, 1009, 1011, 1012, 3000, 4999] {
        let (mut client, mut server) = open(&gateway, &upstream, "/v1/realtime").await;
        server.close(code, "as it is").await;
        assert_eq!(client.next_close().await, (code, "as it is".to_owned()));
        client.close(code, "").await;
        assert_eq!(server.next_close().await, (code, String::new()));
        server.end().await;
        assert!(client.rest().await.is_empty());
    }
    let line = gateway.log.line(9).await;
    assert_eq!(
        (&line["who"], &line["close_code"], &line["phase"]),
        (&"upstream".into(), &4999.into(), &"done".into())
    );
}

/// A server closes the TCP connection first (RFC 6455 section 7.1.1), and the gateway is one, whether its upstream does so or not.
#[tokio::test]
async fn after_both_close_frames_nobody_is_waited_for() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&before(&upstream));
    for client_is_first in [true, false] {
        let (mut client, mut server) = open(&gateway, &upstream, "/v1/realtime").await;
        if client_is_first {
            client.close(1000, "").await;
            assert_eq!(server.next_close().await.0, 1000);
        }
        server.close(1000, "").await;
        assert_eq!(client.next_close().await.0, 1000);
        if !client_is_first {
            client.close(1000, "").await;
            assert_eq!(server.next_close().await.0, 1000);
        }
        assert!(client.rest().await.is_empty());
        drop(client);
        assert!(server.rest().await.is_empty());
    }
    let lines = gateway.log.line(2).await;
    assert_eq!((&lines["phase"], &lines["error"]), (&"done".into(), &().into()), "{lines}");
    gateway.finish(2).await;
}

#[tokio::test]
async fn silence_closes_with_1001_and_traffic_does_not() {
    let upstream = Upstream::start().await;
    let toml = before(&upstream).route("timeout = { websocket_idle = \"300ms\" }");
    let gateway = Gateway::start(&toml);
    let (mut client, mut server) = open(&gateway, &upstream, "/v1/realtime").await;
    // Pings count, in either direction.
    for _ in 0..10 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        client.raw(b"\x89\x80\x01\x02\x03\x04").await;
        assert_eq!(server.next().await.opcode, 9);
    }
    let (code, reason) = client.next_close().await;
    assert!(code == 1001 && reason.contains("0.3 s"), "{code} {reason}");
    assert_eq!(server.next_close().await.0, 1001);
    client.close(1001, "").await;
    client.rest().await;
    let line = gateway.log.line(1).await;
    assert_eq!((&line["who"], &line["error"]), (&"gateway".into(), &"websocket_idle".into()), "{line}");
}

#[tokio::test]
async fn the_total_timeout_closes_with_1001() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&before(&upstream).route("timeout = { total = \"200ms\" }"));
    let (mut client, _server) = open(&gateway, &upstream, "/v1/realtime").await;
    let (code, reason) = client.next_close().await;
    assert!(code == 1001, "{reason}");
    client.close(1001, "").await;
    client.rest().await;
    assert_eq!(gateway.log.line(1).await["error"], "total_timeout");
}

#[tokio::test]
async fn a_drain_closes_with_1001_between_turns() {
    let upstream = Upstream::start().await;
    let mut gateway = Gateway::start(&before(&upstream));
    let (mut idle, idle_server) = open(&gateway, &upstream, "/v1/realtime").await;
    let (mut client, mut server) = open(&gateway, &upstream, "/v1/realtime").await;
    server.text(CREATED).await;
    assert_eq!(client.next_text().await, CREATED);
    gateway.ask_to_stop();
    let (code, reason) = idle.next_close().await;
    assert!(code == 1001 && reason.contains("shutting down"), "{code} {reason}");
    idle.close(1001, "").await;
    idle.rest().await;
    drop(idle_server);
    // The turn goes on to its end.
    server.text(DONE).await;
    assert_eq!(client.next_text().await, DONE);
    assert_eq!(client.next_close().await.0, 1001);
    assert_eq!(server.next_close().await.0, 1001);
    client.close(1001, "").await;
    client.rest().await;
    assert_eq!(gateway.ended().await, Ended::Drained);
    let lines = gateway.log.access();
    assert!(
        lines.iter().all(|line| line["error"] == "gateway_draining" && line["close_code"] == 1001),
        "{lines:#?}"
    );
}

#[tokio::test]
async fn a_drain_that_is_cut_waits_for_no_turn_and_no_client() {
    let upstream = Upstream::start().await;
    let mut gateway = Gateway::start(&before(&upstream));
    let (mut client, mut server) = open(&gateway, &upstream, "/v1/realtime").await;
    server.text(CREATED).await;
    assert_eq!(client.next_text().await, CREATED);
    gateway.ask_to_stop();
    gateway.ask_to_stop();
    assert_eq!(client.next_close().await.0, 1001);
    gateway.ended().await;
    assert!(client.rest().await.is_empty());
}

#[tokio::test]
async fn a_slow_reader_holds_the_upstream_back() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&before(&upstream));
    let (mut client, mut server) = open(&gateway, &upstream, "/v1/realtime").await;
    let message = "x".repeat(1 << 20);
    let sending = tokio::spawn(async move {
        for _ in 0..64 {
            server.text(&message).await;
        }
        server.close(1000, "").await;
        server
    });
    // The client reads nothing until the sender cannot go on: what the kernels hold is less than all.
    let mut read = 0;
    while read < 64 {
        tokio::task::yield_now().await;
        assert_eq!(client.next().await.payload.len(), 1 << 20);
        read += 1;
        let held = gateway.buffered();
        assert_eq!(held, 0);
    }
    assert_eq!(client.next_close().await.0, 1000);
    drop(sending.await.unwrap());
}

#[tokio::test]
async fn a_flood_keeps_no_connection_whose_client_has_left() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&before(&upstream));
    let (client, mut server) = open(&gateway, &upstream, "/v1/realtime").await;
    let flooding = tokio::spawn(async move {
        let frame = writer::text(server.sender(), &"x".repeat(1 << 16));
        while server.try_raw(&frame).await {}
    });
    drop(client);
    flooding.await.unwrap();
    assert_eq!(gateway.log.line(1).await["error"], "caller_left");
}

#[tokio::test]
async fn the_total_timeout_ends_a_flood() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&before(&upstream).route("timeout = { total = \"500ms\" }"));
    let (mut client, mut server) = open(&gateway, &upstream, "/v1/realtime").await;
    let flooding = tokio::spawn(async move {
        let frame = writer::text(server.sender(), &"x".repeat(1 << 16));
        while server.try_raw(&frame).await {}
    });
    while client.next().await.opcode != CLOSE {}
    client.close(1001, "").await;
    client.rest().await;
    flooding.await.unwrap();
    assert_eq!(gateway.log.line(1).await["error"], "total_timeout");
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_cut() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&before(&upstream).server("write_stall = \"1s\""));
    let (client, mut server) = open(&gateway, &upstream, "/v1/realtime").await;
    let flooding = tokio::spawn(async move {
        let frame = writer::text(server.sender(), &"x".repeat(1 << 20));
        while server.try_raw(&frame).await {}
    });
    let line = gateway.log.line(1).await;
    assert_eq!((&line["who"], &line["error"]), (&"downstream".into(), &"write_stall".into()), "{line}");
    flooding.await.unwrap();
    drop(client);
}

/// What was written fits into the kernels, so no write has to wait; the kernel knows that the client has not taken it.
#[tokio::test]
async fn a_client_that_takes_nothing_of_what_fits_into_the_kernel_is_cut() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&before(&upstream).server("write_stall = \"1s\""));
    let (client, mut server) = open_narrow(&gateway, &upstream, "/v1/realtime").await;
    // More than the client's kernel takes, and less than the gateway's.
    server.text(&"x".repeat(16 << 10)).await;
    let line = gateway.log.line(1).await;
    assert_eq!((&line["who"], &line["error"]), (&"downstream".into(), &"write_stall".into()), "{line}");
    assert_eq!(server.next_close().await.0, 1001);
    drop(client);
}

/// The time in which nothing was written does not count.
#[tokio::test]
async fn a_client_that_was_silent_for_long_has_the_whole_time_to_take_what_comes() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&before(&upstream).server("write_stall = \"2s\""));
    let (mut client, mut server) = open_narrow(&gateway, &upstream, "/v1/realtime").await;
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    let text = "x".repeat(16 << 10);
    server.text(&text).await;
    // Longer than to the first look.
    tokio::time::sleep(std::time::Duration::from_millis(900)).await;
    assert_eq!(client.next_text().await, text);
    client.text("still here").await;
    assert_eq!(server.next_text().await, "still here");
}

#[tokio::test]
async fn an_upstream_that_reads_nothing_is_lost() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&before(&upstream).server("write_stall = \"1s\""));
    let (client, server) = open(&gateway, &upstream, "/v1/realtime").await;
    let (mut reading, mut writing) = client.split();
    let flooding = tokio::spawn(async move {
        let frame = writer::text(Sender::Client { mask: [1, 2, 3, 4] }, &"x".repeat(1 << 20));
        while writing.try_raw(&frame).await {}
    });
    let (code, reason) = reading.next_close().await;
    assert!(code == 1011 && reason.contains("upstream"), "{code} {reason}");
    let line = gateway.log.line(1).await;
    assert_eq!((&line["who"], &line["error"]), (&"upstream".into(), &"upstream_truncated".into()), "{line}");
    flooding.await.unwrap();
    drop(server);
}

/// Each of its reads makes less room than one of the gateway's, so that the gateway has to wait for several of them.
#[tokio::test]
async fn a_client_that_reads_slowly_and_steadily_is_not_cut() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&before(&upstream).server("write_stall = \"1s\""));
    let (mut client, mut server) = open_narrow(&gateway, &upstream, "/v1/realtime").await;
    let flooding = tokio::spawn(async move {
        let frame = writer::text(server.sender(), &"x".repeat(1 << 20));
        while server.try_raw(&frame).await {}
    });
    for _ in 0..16 {
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        client.next_bytes(4 << 10).await;
    }
    assert!(gateway.log.access().is_empty(), "{:?}", gateway.log.access());
    drop(client);
    assert_eq!(gateway.log.line(1).await["error"], "caller_left");
    flooding.await.unwrap();
}
