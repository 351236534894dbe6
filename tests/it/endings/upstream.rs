//! Upstreams that fail: before their answer, or by falling silent.

use std::net::TcpListener;

use http::StatusCode;
use sluicegate::simulator::{Cut, Framing, Head, Script, Simulator, Step};

use super::{EVENT, arrived, assert_ended, assert_given_up, counted};
use crate::{
    harness::{BOTH, Gateway, Http, Keys, chat, simulator},
    silence::Silence,
};

/// Every protocol on both legs before an upstream that answers with `steps`, with these timeouts.
async fn with(timeout: &str, steps: impl Fn() -> Vec<Step>, each: impl AsyncFn(&Simulator, &Gateway, Http)) {
    let upstream = simulator().await;
    let route = format!("timeout = {{ {timeout} }}");
    for up in BOTH {
        for down in BOTH {
            upstream.reset();
            let gateway = counted(&upstream.url(), up, Keys { route: &route, ..Keys::default() });
            upstream.queue(Script::new(steps()));
            each(&upstream, &gateway, down).await;
            gateway.finish(1).await;
        }
    }
}

fn silent_within_a_stream() -> Vec<Step> {
    vec![Step::Head(Head::event_stream()), Step::Send(EVENT.into()), Step::Stall]
}

#[tokio::test]
async fn one_that_nobody_listens_for() {
    // Whoever is given the port next is not listening on it within this test's time.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for up in BOTH {
        let gateway = counted(&format!("http://{nobody}"), up, Keys::default());
        for (exchange, down) in BOTH.into_iter().enumerate() {
            let answer = chat(gateway.address(), down).await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (StatusCode::BAD_GATEWAY, "upstream_unreachable")
            );
            assert!(!answer.text().contains("127.0.0.1"), "addresses are the operator's alone");
            let line = gateway.log.line(exchange + 1).await;
            assert_ended(&line, "upstream", "connect", "upstream_unreachable");
            assert!(line["cause"].as_str().is_some_and(|cause| cause.contains("refused")), "{line}");
        }
        gateway.finish(2).await;
    }
}

#[tokio::test]
async fn one_that_never_accepts() {
    for up in BOTH {
        let silence = Silence::new();
        let route = r#"timeout = { connect = "100ms" }"#;
        let gateway = counted(&silence.url(), up, Keys { route, ..Keys::default() });
        for (exchange, down) in BOTH.into_iter().enumerate() {
            let answer = chat(gateway.address(), down).await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (StatusCode::GATEWAY_TIMEOUT, "upstream_connect_timeout")
            );
            let line = gateway.log.line(exchange + 1).await;
            assert_ended(&line, "upstream", "connect", "upstream_connect_timeout");
            silence.wait_for_attempts(0).await;
        }
        gateway.finish(2).await;
    }
}

#[tokio::test]
async fn one_that_closes_without_an_answer() {
    for cut in [Cut::Reset, Cut::Close] {
        with(
            "",
            || vec![Step::Cut(cut)],
            async |_, gateway, down| {
                let answer = chat(gateway.address(), down).await;
                assert_eq!(
                    (answer.status, answer.code().as_str()),
                    (StatusCode::BAD_GATEWAY, "upstream_closed")
                );
                assert_ended(&gateway.log.line(1).await, "upstream", "first_byte", "upstream_closed");
            },
        )
        .await;
    }
}

#[tokio::test]
async fn one_that_does_not_answer_in_time() {
    with(
        r#"first_byte = "100ms""#,
        || vec![Step::Stall],
        async |upstream, gateway, down| {
            let answer = chat(gateway.address(), down).await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (StatusCode::GATEWAY_TIMEOUT, "upstream_timeout")
            );
            assert_eq!(answer.headers["x-should-retry"], "false");
            arrived(upstream, 1).await;
            let number = upstream.records()[0].number;
            assert_given_up(upstream, number).await;
            assert_ended(&gateway.log.line(1).await, "upstream", "first_byte", "upstream_timeout");
        },
    )
    .await;
}

#[tokio::test]
async fn one_that_falls_silent_between_events() {
    with(r#"idle = "100ms""#, silent_within_a_stream, async |upstream, gateway, down| {
        let answer = chat(gateway.address(), down).await;
        let told = answer.text().strip_prefix(EVENT).unwrap();
        assert!(
            answer.whole && told.starts_with("data: {\"error\":") && told.contains("upstream_idle"),
            "{told}"
        );
        let number = upstream.records()[0].number;
        assert_given_up(upstream, number).await;
        assert_ended(&gateway.log.line(1).await, "upstream", "stream", "upstream_idle");
    })
    .await;
}

#[tokio::test]
async fn one_that_falls_silent_within_a_document() {
    let document = || {
        let head = Head::new(StatusCode::OK, "application/json", Framing::Known(100));
        vec![Step::Head(head), Step::Send("{\"a\":".into()), Step::Stall]
    };
    with(r#"idle = "100ms""#, document, async |upstream, gateway, down| {
        let answer = chat(gateway.address(), down).await;
        assert_eq!((answer.text(), answer.whole), ("{\"a\":", false));
        let number = upstream.records()[0].number;
        assert_given_up(upstream, number).await;
        assert_ended(&gateway.log.line(1).await, "upstream", "stream", "upstream_idle");
    })
    .await;
}

#[tokio::test]
async fn one_that_takes_too_long_before_its_answer() {
    with(
        r#"total = "100ms""#,
        || vec![Step::Stall],
        async |upstream, gateway, down| {
            let answer = chat(gateway.address(), down).await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (StatusCode::GATEWAY_TIMEOUT, "total_timeout")
            );
            let number = upstream.records()[0].number;
            assert_given_up(upstream, number).await;
            assert_ended(&gateway.log.line(1).await, "gateway", "first_byte", "total_timeout");
        },
    )
    .await;
}

#[tokio::test]
async fn one_that_takes_too_long_within_its_answer() {
    with(r#"total = "300ms""#, silent_within_a_stream, async |upstream, gateway, down| {
        let answer = chat(gateway.address(), down).await;
        let told = answer.text().strip_prefix(EVENT).unwrap();
        assert!(answer.whole && told.contains("total_timeout"), "{told}");
        let number = upstream.records()[0].number;
        assert_given_up(upstream, number).await;
        assert_ended(&gateway.log.line(1).await, "gateway", "stream", "total_timeout");
    })
    .await;
}

/// What an upstream does after its terminal event takes nothing from the answer, however long it does it.
#[tokio::test]
async fn one_that_falls_silent_after_its_terminal_event() {
    let steps = || {
        vec![
            Step::Head(Head::event_stream()),
            Step::Send([EVENT, "data: [DONE]\n\n"].concat().into()),
            Step::Stall,
        ]
    };
    with(r#"idle = "100ms""#, steps, async |upstream, gateway, down| {
        let answer = chat(gateway.address(), down).await;
        assert!(answer.whole && answer.text().ends_with("[DONE]\n\n"), "{answer:?}");
        let number = upstream.records()[0].number;
        assert_given_up(upstream, number).await;
        assert_ended(&gateway.log.line(1).await, "upstream", "done", "");
    })
    .await;
}
