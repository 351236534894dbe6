//! Which exchanges are exported, and where they are in a trace.

use sluicegate::app::Ended;

use super::{Receiver, ask, exporting, tree};
use crate::{
    faults::rig::refusal,
    harness::{Gateway, simulator},
};

const PARENT: &str = "00f067aa0ba902b7";

fn traceparent(trace: &str, flags: &str) -> String {
    format!("00-{trace}-{PARENT}-{flags}")
}

#[tokio::test]
async fn the_clients_span_is_the_parent() {
    let mut receiver = Receiver::start(&[]);
    let upstream = simulator().await;
    let gateway = Gateway::start(&exporting(&upstream.url(), &receiver.url, ""));
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let answer = ask(&gateway, &[("traceparent", &traceparent(trace, "01"))]).await;
    gateway.log.line_of(&answer).await;
    assert_eq!(gateway.stop().await, Ended::Drained);
    let spans = receiver.spans();
    let (root, attempts) = tree(&spans);
    assert_eq!((root.text("trace"), root.text("parent")), (trace, PARENT));
    assert_eq!((root.get("remote_parent"), attempts[0].get("remote_parent")), (&true.into(), &false.into()));
}

/// The client's flag holds, even for what went wrong; without it, the random bits of the trace id decide, and what went wrong is exported in any case.
#[tokio::test]
async fn the_flag_the_share_and_what_went_wrong_decide() {
    let mut receiver = Receiver::start(&[]);
    let upstream = simulator().await;
    let gateway = Gateway::start(&exporting(&upstream.url(), &receiver.url, "sample = 0.5"));
    // The last 56 bits are compared with half of their range.
    let (low, high) = ("aaaaaaaaaaaaaaaaaa7fffffffffffff", "aaaaaaaaaaaaaaaaaa80000000000000");
    let other = "bbbbbbbbbbbbbbbbbb00000000000001";
    for (trace, flags, fails, exported) in [
        (low, "01", false, false),
        (high, "01", false, true),
        (high, "00", false, false),
        (other, "01", true, true),
        (low, "00", true, false),
    ] {
        if fails {
            upstream.queue(refusal(500, "broken", &[]));
        }
        let answer = ask(&gateway, &[("traceparent", &traceparent(trace, flags))]).await;
        assert_eq!(answer.status.as_u16(), if fails { 500 } else { 200 }, "{exported}");
        gateway.log.line_of(&answer).await;
    }
    assert_eq!(gateway.stop().await, Ended::Drained);
    let spans = receiver.spans();
    let mut traces: Vec<&str> =
        spans.iter().filter(|span| span.is_root()).map(|span| span.text("trace")).collect();
    traces.sort_unstable();
    assert_eq!(traces, [high, other]);
}

#[tokio::test]
async fn what_is_slow_is_exported_and_what_never_reached_an_upstream_is_drawn() {
    let mut receiver = Receiver::start(&[]);
    let upstream = simulator().await;
    let slow = "sample = 0\nslow = \"1ms\"";
    let gateway = Gateway::start(&exporting(&upstream.url(), &receiver.url, slow));
    let answer = ask(&gateway, &[("x-simulate", "frames=2; interval=5")]).await;
    gateway.log.line_of(&answer).await;
    assert_eq!(gateway.stop().await, Ended::Drained);
    assert_eq!(receiver.spans().len(), 2);

    let gateway = Gateway::start(&exporting(&upstream.url(), &receiver.url, "sample = 0\nslow = \"off\""));
    assert_eq!(ask(&gateway, &[("authorization", "Bearer no-key")]).await.status, 400, "two keys");
    let answer = crate::harness::send(
        gateway.address(),
        crate::harness::Http::One,
        crate::harness::request(gateway.address(), crate::harness::Http::One, "GET", "/nowhere")
            .body(crate::harness::whole(""))
            .unwrap(),
    )
    .await;
    assert_eq!(answer.status, 404);
    gateway.log.line_of(&answer).await;
    upstream.queue(refusal(429, "rate_limit_exceeded", &[]));
    let answer = ask(&gateway, &[]).await;
    gateway.log.line_of(&answer).await;
    assert_eq!(gateway.stop().await, Ended::Drained);
    let spans = receiver.spans();
    let (root, attempts) = tree(&spans);
    // A status below 500 is no failure of a server, but one of a client.
    assert_eq!((root.text("status"), root.attribute("http.response.status_code")), ("UNSET", &429.into()));
    assert_eq!(
        (attempts[0].text("status"), attempts[0].attribute("error.type")),
        ("ERROR", &"rate_limit_exceeded".into())
    );
}

/// The gateway refuses by itself as long as the circuit breaker is open; each refusal is an error, and the share is nothing.
#[tokio::test]
async fn a_flood_of_refusals_is_bounded_and_what_is_left_out_is_counted() {
    const REFUSED: usize = 200;
    let mut receiver = Receiver::start(&[]);
    let upstream = simulator().await;
    let otlp = format!("[otlp]\nendpoint = {:?}\nsample = 0\nslow = \"off\"", receiver.url);
    let toml = crate::harness::GatewayToml::before(&upstream.url(), "retry = \"off\"").more(otlp);
    let gateway = Gateway::start(&toml);
    let snapshot = gateway.inside().live.load_full();
    let hour = std::time::Duration::from_secs(3600);
    for target in snapshot.upstreams["sim"].targets() {
        target.state.hold_open(hour, std::time::Instant::now());
    }
    for _ in 0..REFUSED {
        let answer = ask(&gateway, &[]).await;
        assert_eq!((answer.status.as_u16(), &*answer.code()), (503, "upstream_unavailable"));
    }
    gateway.finished(REFUSED).await;
    assert_eq!(gateway.stop().await, Ended::Drained);
    assert!(receiver.spans().iter().all(|span| span.is_root() && span.text("status") == "ERROR"));
    let counts = snapshot.spans.counts();
    let (exported, [.., (reason, left_out)]) = (counts.exported.value(), counts.drops());
    // At most ten in each second, and they took less than twenty seconds.
    assert!(exported >= 10 && left_out > 0, "{exported} {left_out}");
    assert_eq!((reason, exported + left_out), ("rate_limited", REFUSED as u64));
}

/// Exemplars lead to traces: those that are exported, and without the table those that the client records.
#[tokio::test]
async fn only_traces_that_can_be_looked_up_are_exemplars() {
    let mut receiver = Receiver::start(&[]);
    let upstream = simulator().await;
    let drawn = exporting(&upstream.url(), &receiver.url, "sample = 0.5\nslow = \"off\"").admin();
    let alone = crate::harness::GatewayToml::before(&upstream.url(), "retry = \"off\"").admin();
    let (low, high) = ("aaaaaaaaaaaaaaaaaa7fffffffffffff", "aaaaaaaaaaaaaaaaaa80000000000000");
    for (toml, expected) in [(drawn, [false, true, false]), (alone, [true, true, false])] {
        let gateway = Gateway::start(&toml);
        let mut found = Vec::new();
        for headers in [vec![traceparent(low, "01")], vec![traceparent(high, "01")], vec![]] {
            let headers: Vec<_> = headers.iter().map(|parent| ("traceparent", parent.as_str())).collect();
            let answer = ask(&gateway, &headers).await;
            let trace = gateway.log.line_of(&answer).await["trace_id"].as_str().unwrap().to_owned();
            let admin = gateway.admin.unwrap();
            let scrape = crate::harness::request(admin, crate::harness::Http::One, "GET", "/metrics")
                .header("accept", "application/openmetrics-text");
            let scrape = scrape.body(crate::harness::whole("")).unwrap();
            let text = crate::harness::send(admin, crate::harness::Http::One, scrape).await;
            found.push((trace.clone(), text.text().contains(&format!("trace_id=\"{trace}\""))));
        }
        let has: Vec<bool> = found.iter().map(|(_, has)| *has).collect();
        // Without a parent, the gateway's own trace id decides, which is exported if its random bits say so.
        let is_drawn = |trace: &str| u64::from_str_radix(&trace[18..], 16).unwrap() >= 1 << 55;
        let last = expected == [false, true, false] && is_drawn(&found[2].0);
        assert_eq!(has, [expected[0], expected[1], expected[2] || last], "{found:?}");
        assert_eq!(gateway.stop().await, Ended::Drained);
    }
    assert!(receiver.spans().iter().all(|span| span.text("trace") != low));
}

#[tokio::test]
async fn without_the_table_nothing_is_exported_and_the_attempt_has_the_gateways_span() {
    let upstream = simulator().await;
    let gateway = Gateway::before(&upstream, crate::harness::Http::One, "");
    let answer = ask(&gateway, &[]).await;
    gateway.log.line_of(&answer).await;
    let snapshot = gateway.inside().live.load_full();
    assert!(snapshot.tracer.is_none() && snapshot.collector.is_none());
    assert!(snapshot.spans.take().is_none());
    gateway.finish(1).await;
}
