//! The main job, in each combination of protocols.

use sluicegate::app::Ended;

use super::harness::{BOTH, Gateway, chat, simulator};

#[tokio::test]
async fn a_stream_passes_in_every_combination_of_protocols() {
    let upstream = simulator().await;
    for up in BOTH {
        let gateway = Gateway::before(&upstream, up, "");
        for (exchange, down) in BOTH.into_iter().enumerate() {
            let direct = chat(upstream.addr(), down).await;
            assert_eq!(direct.status, 401, "the simulator wants its own key");
            let answer = chat(gateway.address(), down).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert!(answer.whole && answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
            assert!(answer.headers.contains_key("x-request-id"));
            let line = gateway.log.line(exchange + 1).await;
            assert_eq!(line["phase"], "done", "{line}");
            assert_eq!(line["finish_reason"], "stop", "{line}");
        }
        assert_eq!(gateway.stop().await, Ended::Drained);
    }
}
