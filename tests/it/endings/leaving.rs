//! A caller that leaves: the upstream's request ends at once, in whichever phase.

use bytes::Bytes;
use hyper::body::Frame;
use sluicegate::simulator::{Head, Script, Step};

use super::{EVENT, arrived, assert_ended, assert_given_up, chat_request, counted};
use crate::{
    harness::{BOTH, Client, Http, Keys, body_of, post, safely, simulator, take},
    silence::Silence,
};

/// How a caller leaves: HTTP/2 can give up one stream.
const WAYS: [(Http, Leaving); 3] =
    [(Http::One, Leaving::Connection), (Http::Two, Leaving::Connection), (Http::Two, Leaving::Stream)];

#[derive(Debug, Clone, Copy)]
enum Leaving {
    Connection,
    Stream,
}

impl Leaving {
    /// Leaves what `stream` stands for.
    async fn leave<T>(self, client: Client, stream: T) -> Option<Client> {
        match self {
            Self::Connection => {
                client.leave().await;
                drop(stream);
                None
            }
            Self::Stream => {
                drop(stream);
                Some(client)
            }
        }
    }
}

#[tokio::test]
async fn while_the_upstream_is_silent_before_its_answer() {
    let upstream = simulator().await;
    for up in BOTH {
        for (down, leaving) in WAYS {
            upstream.reset();
            let gateway = counted(&upstream.url(), up, Keys::default());
            upstream.queue(Script::new(vec![Step::Stall]));
            let mut client = Client::connect(gateway.address(), down).await;
            let pending = client.begin(chat_request(gateway.address(), down)).await;
            arrived(&upstream, 1).await;
            let _client = leaving.leave(client, pending).await;
            let number = upstream.records()[0].number;
            assert_given_up(&upstream, number).await;
            assert_ended(&gateway.log.line(1).await, "downstream", "first_byte", "caller_left");
            drop(_client);
            gateway.finish(1).await;
        }
    }
}

#[tokio::test]
async fn while_the_upstream_is_silent_within_its_answer() {
    let upstream = simulator().await;
    for up in BOTH {
        for (down, leaving) in WAYS {
            upstream.reset();
            let gateway = counted(&upstream.url(), up, Keys::default());
            upstream.queue(Script::new(vec![
                Step::Head(Head::event_stream()),
                Step::Send(EVENT.into()),
                Step::Stall,
            ]));
            let mut client = Client::connect(gateway.address(), down).await;
            let mut answer = safely(client.send(chat_request(gateway.address(), down))).await.unwrap();
            take(answer.body_mut(), EVENT.len()).await;
            let _client = leaving.leave(client, answer).await;
            let number = upstream.records()[0].number;
            assert_given_up(&upstream, number).await;
            let line = gateway.log.line(1).await;
            assert_ended(&line, "downstream", "stream", "caller_left");
            assert_eq!((&line["bytes_out"], &line["events"]), (&EVENT.len().into(), &1.into()), "{line}");
            assert!(line["first_token_ms"].is_number(), "{line}");
            drop(_client);
            gateway.finish(1).await;
        }
    }
}

#[tokio::test]
async fn while_the_upstream_sends_without_end() {
    let upstream = simulator().await;
    for up in BOTH {
        for (down, leaving) in WAYS {
            upstream.reset();
            let gateway = counted(&upstream.url(), up, Keys::default());
            let request = post(gateway.address(), down, "/v1/chat/completions")
                .header("x-simulate", "frames=100000000; size=100")
                .body(crate::harness::whole(crate::harness::CHAT))
                .unwrap();
            let mut client = Client::connect(gateway.address(), down).await;
            let mut answer = safely(client.send(request)).await.unwrap();
            safely(http_body_util::BodyExt::frame(answer.body_mut())).await.unwrap().unwrap();
            let _client = leaving.leave(client, answer).await;
            let number = upstream.records()[0].number;
            assert_given_up(&upstream, number).await;
            assert_ended(&gateway.log.line(1).await, "downstream", "stream", "caller_left");
            drop(_client);
            gateway.finish(1).await;
        }
    }
}

/// A body that is passed on as it comes: half of it has reached the upstream.
#[tokio::test]
async fn within_an_upload_that_is_passed_on() {
    let upstream = simulator().await;
    for up in BOTH {
        for (down, leaving) in WAYS {
            upstream.reset();
            let gateway = counted(&upstream.url(), up, Keys::default());
            let mut client = Client::connect(gateway.address(), down).await;
            let (pieces, body) = body_of();
            let request = post(gateway.address(), down, "/v1/files").header("content-type", "text/plain");
            let mut request = request.body(body).unwrap();
            request.headers_mut().remove("content-type");
            let pending = client.begin(request).await;
            pieces.send(Frame::data(Bytes::from_static(b"half"))).await.unwrap();
            arrived(&upstream, 1).await;
            let _client = leaving.leave(client, (pending, pieces)).await;
            let number = upstream.records()[0].number;
            let record = assert_given_up(&upstream, number).await;
            assert!(!record.body_complete, "what was sent so far never looks whole");
            let line = gateway.log.line(1).await;
            assert_eq!(
                (&line["who"], &line["phase"]),
                (&"downstream".into(), &"first_byte".into()),
                "{line}"
            );
            drop(_client);
            gateway.finish(1).await;
        }
    }
}

/// A body that is read whole: the upstream never hears of it.
#[tokio::test]
async fn within_an_upload_that_is_read_whole() {
    let upstream = simulator().await;
    for (down, leaving) in WAYS {
        let gateway = counted(&upstream.url(), Http::One, Keys::default());
        let mut client = Client::connect(gateway.address(), down).await;
        let (pieces, body) = body_of();
        let request = post(gateway.address(), down, "/v1/chat/completions").body(body).unwrap();
        let pending = client.begin(request).await;
        pieces.send(Frame::data(Bytes::from_static(b"{\"model\":"))).await.unwrap();
        // What it holds is seen when it is there.
        while gateway.buffered() == 0 {
            tokio::task::yield_now().await;
        }
        let _client = leaving.leave(client, (pending, pieces)).await;
        let line = gateway.log.line(1).await;
        assert_eq!((&line["who"], &line["phase"]), (&"downstream".into(), &"intake".into()), "{line}");
        assert!(upstream.records().is_empty());
        drop(_client);
        gateway.finish(1).await;
    }
}

#[tokio::test]
async fn while_the_gateway_connects() {
    for up in BOTH {
        for (down, leaving) in WAYS {
            let silence = Silence::new();
            let gateway = counted(&silence.url(), up, Keys::default());
            let mut client = Client::connect(gateway.address(), down).await;
            let pending = client.begin(chat_request(gateway.address(), down)).await;
            silence.wait_for_attempts(1).await;
            let _client = leaving.leave(client, pending).await;
            assert_ended(&gateway.log.line(1).await, "downstream", "connect", "caller_left");
            silence.wait_for_attempts(0).await;
            drop(_client);
            gateway.finish(1).await;
        }
    }
}
