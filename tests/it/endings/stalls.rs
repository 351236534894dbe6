//! A caller that stops reading.

use sluicegate::simulator::{Cut, Head};

use super::{assert_ended, assert_given_up};
use crate::harness::{
    BOTH, CHAT, Client, Gateway, Http, Keys, Small, chat, cut_off, post, safely, simulator, whole,
};

#[tokio::test]
async fn an_endless_answer_that_nobody_reads() {
    let upstream = simulator().await;
    for up in BOTH {
        for down in BOTH {
            upstream.reset();
            let server = r#"write_stall = "200ms""#;
            let gateway = Gateway::with(&upstream, up, Keys { server, ..Keys::default() });
            let mut client = Client::connect_with(gateway.address(), down, Small::Yes).await;
            let request = post(gateway.address(), down, "/v1/chat/completions")
                .header("x-simulate", "frames=100000000; size=1000")
                .body(whole(CHAT))
                .unwrap();
            let answer = safely(client.send(request)).await.unwrap();
            let line = gateway.log.line(1).await;
            assert_ended(&line, "downstream", "stream", "write_stall");
            let number = upstream.records()[0].number;
            assert_given_up(&upstream, number).await;
            drop(answer);
            // On HTTP/2 that ends the stream alone.
            let mut exchanges = 1;
            if down == Http::Two {
                let request =
                    post(gateway.address(), down, "/v1/chat/completions").body(whole(CHAT)).unwrap();
                assert_eq!(client.ask(request).await.status, 200);
                exchanges += 1;
            }
            drop(client);
            assert_eq!(chat(gateway.address(), down).await.status, 200);
            gateway.log.line(exchanges + 1).await;
            gateway.finish(exchanges + 1).await;
        }
    }
}

/// Everything that came is to be delivered before the abort, but not to a caller who never takes it.
#[tokio::test]
async fn a_broken_answer_that_nobody_reads() {
    let upstream = simulator().await;
    for down in BOTH {
        let server = r#"write_stall = "200ms""#;
        let gateway = Gateway::with(&upstream, Http::One, Keys { server, ..Keys::default() });
        // More than the caller's window, and little enough for hyper to take at once.
        let body = vec![b'x'; 7000];
        upstream.queue(cut_off(Head::event_stream(), &body, Cut::Close));
        let mut client = Client::connect_with(gateway.address(), down, Small::Yes).await;
        let request = post(gateway.address(), down, "/v1/chat/completions").body(whole(CHAT)).unwrap();
        let answer = safely(client.send(request)).await.unwrap();
        assert_ended(&gateway.log.line(1).await, "upstream", "stream", "upstream_truncated");
        drop((answer, client));
        gateway.finish(1).await;
    }
}
