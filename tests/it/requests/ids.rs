//! The ids by which a client finds its own request again are in the log.

use crate::harness::{BOTH, CHAT, CLIENT_KEY, Gateway, Http, UPSTREAM_KEY, post, send, simulator, whole};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test]
async fn what_the_client_calls_its_request_is_logged() {
    let upstream = simulator().await;
    let gateway = Gateway::before(&upstream, Http::One, "");
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    for http in BOTH {
        let ask = async |headers: &[(&str, &str)]| {
            let mut request = post(gateway.address(), http, "/v1/chat/completions");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let answer = send(gateway.address(), http, request.body(whole(CHAT)).unwrap()).await;
            assert_eq!(answer.status, 200);
            gateway.log.line_of(&answer).await
        };
        let line = ask(&[("x-request-id", "job:7/a"), ("x-client-request-id", "c-1")]).await;
        assert_eq!(
            (&line["caller_request_id"], &line["client_request_id"]),
            (&"job:7/a".into(), &"c-1".into())
        );
        assert!(line["request_id"].as_str().unwrap().starts_with("req_"));

        let line = ask(&[("traceparent", &parent), ("x-trace-id", "job-7")]).await;
        assert_eq!((&line["trace_id"], &line["trace_name"]), (&TRACE.into(), &"job-7".into()), "{line:#}");
        assert_eq!(line.get("w3c_trace_id"), None);

        // What the upstream gets is in the log as well.
        let line = ask(&[("x-trace-id", "job-8")]).await;
        let sent =
            upstream.records().last().unwrap().headers["traceparent"].to_str().unwrap()[3..35].to_owned();
        assert_eq!((&line["trace_id"], &line["w3c_trace_id"]), (&"job-8".into(), &sent.into()), "{line:#}");

        let line = ask(&[("x-request-id", CLIENT_KEY), ("x-client-request-id", UPSTREAM_KEY)]).await;
        assert_eq!((line.get("caller_request_id"), line.get("client_request_id")), (None, None), "{line:#}");
        let line = ask(&[("traceparent", &parent), ("x-trace-id", CLIENT_KEY)]).await;
        assert_eq!(line.get("trace_name"), None, "{line:#}");
    }
    assert!([CLIENT_KEY, UPSTREAM_KEY].iter().all(|key| !gateway.log.text().contains(key)));
}
