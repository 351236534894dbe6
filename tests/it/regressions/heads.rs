//! HEAD where the answer is the gateway's own, or an error: a status and nothing after it.

use http::StatusCode;

use crate::harness::{BOTH, Client, Gateway, authorised, request, simulator, whole};

#[tokio::test]
async fn a_refused_head_has_no_body() {
    let upstream = simulator().await;
    for up in BOTH {
        for down in BOTH {
            let gateway = Gateway::before(&upstream, up, "");
            let at = gateway.address();
            let mut client = Client::connect(at, down).await;
            let wrong = request(at, down, "HEAD", "/v1/models").header("authorization", "Bearer wrong");
            let nowhere = authorised(at, down, "HEAD", "/elsewhere");
            let missing = authorised(at, down, "HEAD", "/v1/models").header("x-simulate", "status=404");
            for (exchange, (head, status, error)) in [
                (wrong, StatusCode::UNAUTHORIZED, Some("invalid_api_key")),
                (nowhere, StatusCode::NOT_FOUND, Some("route_not_found")),
                (missing, StatusCode::NOT_FOUND, Some("upstream_error")),
            ]
            .into_iter()
            .enumerate()
            {
                let answer = client.ask(head.body(whole("")).unwrap()).await;
                let seen = (answer.status, answer.body.len(), answer.whole, answer.reset);
                assert_eq!(seen, (status, 0, true, None), "{up:?} {down:?} {answer:?}");
                let line = gateway.log.line(2 * exchange + 1).await;
                assert_eq!(line["error"].as_str(), error, "{line}");
                assert_eq!(
                    (&line["status"], &line["bytes_out"]),
                    (&status.as_u16().into(), &0.into()),
                    "{line}"
                );
                // What followed the head would stand in the way of the next answer.
                let next = authorised(at, down, "GET", "/v1/models").body(whole("")).unwrap();
                let answer = client.ask(next).await;
                assert_eq!((answer.status, answer.whole), (StatusCode::OK, true), "{answer:?}");
                gateway.log.line(2 * exchange + 2).await;
            }
            drop(client);
            gateway.finish(6).await;
        }
    }
}
