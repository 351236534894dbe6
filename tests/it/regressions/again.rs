//! Which requests are sent a second time, and over which connections.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use sluicegate::simulator::{Cut, Gate, Head, Script, Simulator, Step};
use tokio::{
    net::TcpListener,
    sync::mpsc::{UnboundedSender, unbounded_channel},
    task::JoinSet,
};

use super::assert_ended;
use crate::harness::{
    Answer, CHAT, Client, Gateway, GatewayToml, Http, Keys, Raw, authorised, chat, post, safely, simulator,
    whole,
};

/// Longer than an idle connection's close can be on its way.
const AT_WORK: Duration = Duration::from_millis(1500);

/// An upstream whose kept connection is used by a request, which it takes, and ends after `steps` without a byte.
async fn on_a_kept_connection(upstream: &Simulator, method: &Method, steps: Vec<Step>) -> Answer {
    upstream.reset();
    let gateway = Gateway::with(upstream, Http::One, Keys { one_worker: true, ..Keys::default() });
    let mut client = Client::connect(gateway.address(), Http::One).await;
    let request = || match *method {
        Method::POST => post(gateway.address(), Http::One, "/v1/chat/completions").body(whole(CHAT)).unwrap(),
        _ => authorised(gateway.address(), Http::One, method.as_str(), "/v1/models").body(whole("")).unwrap(),
    };
    assert_eq!(client.ask(request()).await.status, 200);
    upstream.queue(Script::new(steps));
    let answer = client.ask(request()).await;
    let line = gateway.log.line(2).await;
    if answer.status == StatusCode::OK {
        assert_ended(&line, "upstream", "done", "");
    } else {
        assert_ended(&line, "upstream", "first_byte", "upstream_closed");
    }
    let records = upstream.records();
    assert_eq!(records[0].connection, records[1].connection, "the connection was kept");
    gateway.finish(2).await;
    answer
}

/// It may have done what it was asked to, and be paid for it: only who asked can know whether to ask again (RFC 9110, section 9.2.2).
#[tokio::test]
async fn a_post_that_was_worked_on_is_sent_once() {
    let upstream = simulator().await;
    for cut in [Cut::Close, Cut::Reset] {
        let steps = vec![Step::Wait(AT_WORK), Step::Cut(cut)];
        let answer = on_a_kept_connection(&upstream, &Method::POST, steps).await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::BAD_GATEWAY, "upstream_closed"));
        assert_eq!(upstream.records().len(), 2, "one record each: {cut:?}");
    }
}

/// A close that was on its way when the request was sent: nobody worked on it.
#[tokio::test]
async fn a_post_that_met_a_close_is_sent_again() {
    let upstream = simulator().await;
    for cut in [Cut::Close, Cut::Reset] {
        let answer = on_a_kept_connection(&upstream, &Method::POST, vec![Step::Cut(cut)]).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(upstream.records().len(), 3, "the same request twice: {cut:?}");
    }
}

/// What changes nothing may be sent again whenever.
#[tokio::test]
async fn a_get_is_sent_again_at_any_time() {
    let upstream = simulator().await;
    for cut in [Cut::Close, Cut::Reset] {
        let steps = vec![Step::Wait(AT_WORK), Step::Cut(cut)];
        let answer = on_a_kept_connection(&upstream, &Method::GET, steps).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(upstream.records().len(), 3, "the same request twice: {cut:?}");
    }
}

/// Requests that come while the first connection is still being opened wait for it, rather than open one each.
#[tokio::test]
async fn a_cold_start_opens_one_http2_connection() {
    const REQUESTS: usize = 20;
    let upstream = simulator().await;
    let gateway = Gateway::with(&upstream, Http::Two, Keys { one_worker: true, ..Keys::default() });
    let gate = Gate::new();
    // All in one connection, and so before the gateway all at once.
    let mut client = Client::connect(gateway.address(), Http::Two).await;
    let mut begun = Vec::new();
    for _ in 0..REQUESTS {
        upstream.queue(Script::new(vec![
            Step::Gate(gate.clone()),
            Step::Head(Head::json(StatusCode::OK, 2)),
            Step::Send("{}".into()),
        ]));
        let request = post(gateway.address(), Http::Two, "/v1/chat/completions").body(whole(CHAT)).unwrap();
        begun.push(client.begin(request).await);
    }
    let mut asking: JoinSet<_> = begun.into_iter().collect();
    safely(upstream.wait_for(|records| (records.len() == REQUESTS).then_some(()))).await;
    for _ in 0..REQUESTS {
        gate.open();
    }
    while let Some(response) = safely(asking.join_next()).await {
        assert_eq!(Answer::read(response.unwrap().unwrap()).await.text(), "{}");
    }
    drop(client);
    let connections: Vec<_> = upstream.records().iter().map(|record| record.connection).collect();
    assert_eq!(connections, [connections[0]; REQUESTS]);
    assert_eq!(upstream.connections().opened, 1);
    gateway.finish(REQUESTS).await;
}

/// An HTTP/2 upstream that refuses one stream, by its place among all, and answers the others; a word for each is sent to `seen`.
async fn refusing(place: usize, listener: TcpListener, seen: UnboundedSender<Method>) {
    let mut streams = 0;
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(tcp).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            seen.send(request.method().clone()).unwrap();
            streams += 1;
            if streams == place {
                respond.send_reset(h2::Reason::REFUSED_STREAM);
                continue;
            }
            let head = Response::builder().header("content-type", "application/json").body(()).unwrap();
            let mut body = respond.send_response(head, false).unwrap();
            body.send_data(Bytes::from_static(b"{}"), true).unwrap();
        }
    }
}

/// Sends so many requests, the last of which is refused at first: it arrives once more, and is answered.
async fn refused_once(requests: usize) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (give, mut seen) = unbounded_channel();
    let serving = tokio::spawn(refusing(requests, listener, give));
    let gateway = Gateway::to(&url, Http::Two, Keys { one_worker: true, ..Keys::default() });
    for exchange in 1..=requests {
        let answer = chat(gateway.address(), Http::One).await;
        assert_eq!((answer.status, answer.text()), (StatusCode::OK, "{}"), "request {exchange}");
        assert_ended(&gateway.log.line(exchange).await, "upstream", "done", "");
    }
    for _ in 0..=requests {
        assert_eq!(seen.recv().await, Some(Method::POST));
    }
    assert!(seen.try_recv().is_err(), "once more, and not oftener");
    gateway.finish(requests).await;
    serving.abort();
}

/// A refused stream was not worked on, whatever it asked for (RFC 9113, section 8.7).
#[tokio::test]
async fn a_stream_refused_on_a_kept_connection_is_sent_again() {
    refused_once(2).await;
}

/// Nor was one on a new connection, where a limit on streams is not yet known and so most easily passed.
#[tokio::test]
async fn a_stream_refused_on_a_new_connection_is_sent_again() {
    refused_once(1).await;
}

/// What came of a request is not known by what comes of the connection that it was to be sent on again: where nobody listens any more,
/// the caller is told, and no other upstream is asked to do the same: a deletion may be repeated, but another account does not have the file.
#[tokio::test]
async fn what_was_sent_and_cannot_be_sent_again_there_is_sent_nowhere_else() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let spare = simulator().await;
    let at = listener.local_addr().unwrap();
    let gateway = Gateway::start(
        &GatewayToml::new()
            .server("threads = 1")
            .defaults(r#"retry = { retries = 3, backoff = "40ms", max_backoff = "400ms" }"#)
            .upstream_of("main", format!("url = \"http://{at}\"\nauth = \"none\""))
            .upstream("spare", &spare.url(), ""),
    );
    let mut client = Client::connect(gateway.address(), Http::One).await;
    let delete =
        || authorised(gateway.address(), Http::One, "DELETE", "/v1/files/f").body(whole("")).unwrap();
    let (answer, mut kept) = tokio::join!(client.ask(delete()), async {
        let mut upstream = Raw { tcp: listener.accept().await.unwrap().0 };
        upstream.until("\r\n\r\n").await;
        upstream.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
        upstream
    });
    assert_eq!(answer.status, StatusCode::OK);
    drop(listener);
    let (answer, ()) = tokio::join!(client.ask(delete()), async move {
        kept.until("\r\n\r\n").await;
    });
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::BAD_GATEWAY, "upstream_unreachable"));
    assert_ended(&gateway.log.line(2).await, "upstream", "connect", "upstream_unreachable");
    assert!(spare.records().is_empty(), "{:#?}", spare.records());
    gateway.finish(2).await;
}
