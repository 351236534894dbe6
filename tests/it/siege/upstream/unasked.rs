//! Bytes that nobody asked for, on a connection that waits to be used again (response desynchronisation).

use sluicegate::simulator::{Gate, Script, Step};

use super::{NEXT, next_is_good};
use crate::harness::{BOTH, CHAT, Client, Gateway, Http, Keys, chat, post, safely, simulator, whole};

const FIRST: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

/// RFC 9112 §9.2: an answer belongs to the request before it. What comes before the next request is an answer to none, and
/// neither it nor what follows it may go to the next caller.
#[tokio::test]
async fn what_comes_while_a_connection_is_idle_is_nobodys_answer() {
    let upstream = simulator().await;
    for down in BOTH {
        for unasked in
            ["HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nothers", "HTTP/1.1 200 OK\r\nx: ", "\r\n", "x"]
        {
            upstream.reset();
            let gateway = Gateway::with(&upstream, Http::One, Keys { one_worker: true, ..Keys::default() });
            let gate = Gate::new();
            let steps = [Step::Raw(FIRST.into()), Step::Gate(gate.clone()), Step::Raw(unasked.into())];
            upstream.queue(Script::new(steps.into()));
            assert_eq!(chat(gateway.address(), down).await.text(), "{}");
            // Its line is written when the connection has been put aside.
            gateway.log.line(1).await;
            gate.open();
            safely(upstream.wait_for(|records| records[0].ended)).await;
            next_is_good(&upstream);
            let answer = chat(gateway.address(), down).await;
            assert_eq!(answer.text(), NEXT, "{down:?} {unasked:?}");
            let records = upstream.records();
            assert_ne!(records[0].connection, records[1].connection, "{down:?} {unasked:?}");
            gateway.finish(2).await;
        }
    }
}

/// The same while the last answer is still on its way to its caller.
#[tokio::test]
async fn what_comes_behind_an_answer_is_not_passed_on() {
    let upstream = simulator().await;
    for down in BOTH {
        let gateway = Gateway::with(&upstream, Http::One, Keys { one_worker: true, ..Keys::default() });
        let mut client = Client::connect(gateway.address(), down).await;
        for time in 1..=50 {
            upstream.queue(Script::new(vec![Step::Raw(format!("{FIRST}{FIRST}").into())]));
            let request = post(gateway.address(), down, "/v1/chat/completions").body(whole(CHAT)).unwrap();
            assert_eq!(client.ask(request).await.text(), "{}");
            next_is_good(&upstream);
            let request = post(gateway.address(), down, "/v1/chat/completions").body(whole(CHAT)).unwrap();
            assert_eq!(client.ask(request).await.text(), NEXT, "{down:?}, time {time}");
        }
        gateway.log.line(100).await;
        gateway.finish(100).await;
    }
}
