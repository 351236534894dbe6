//! An upstream that breaks off: the caller has every byte that came, and then an ending that nobody takes for a whole answer.

mod wire;

use std::{net::SocketAddr, sync::Arc};

use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::Value;
use sluicegate::simulator::{Cut, Framing, Gate, Head, Script, Step};

use super::harness::{
    Answer, BOTH, CUTS, Client, Gateway, Http, Sent, Small, all_of, cut_off, post, safely, simulator, whole,
};

/// A stream in the words of its API.
#[derive(Clone, Copy)]
struct Dialect {
    path: &'static str,
    events: &'static [&'static str],
    /// After so many events it is whole, even if nothing but the end of the body follows.
    finished: usize,
}

const CHAT: Dialect = Dialect {
    path: "/v1/chat/completions",
    events: &[
        "data: {\"model\":\"m-1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Grüße\"}}]}\n\n",
        ": a comment\r\n\r\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\r\n\r\n",
        "data: [DONE]\n\n",
    ],
    finished: 2,
};

const RESPONSES: Dialect = Dialect {
    path: "/v1/responses",
    events: &[
        "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{}}\n\n",
        "event: response.output_text.delta\n\
         data: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\",\"sequence_number\":1}\n\n",
        "event: response.completed\n\
         data: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\"},\"sequence_number\":2}\n\n",
    ],
    finished: 3,
};

const MESSAGES: Dialect = Dialect {
    path: "/v1/messages",
    events: &[
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"m-1\"}}\n\n",
        "event: content_block_delta\n\
         data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    ],
    finished: 3,
};

const DIALECTS: [Dialect; 3] = [CHAT, RESPONSES, MESSAGES];

const JSON: &str = r#"{"id":"c","model":"m-1","choices":[{"message":{"content":"Grüße"}}]}"#;

impl Dialect {
    fn sample(self) -> String {
        self.events.concat()
    }

    /// How many events end within the first `cut` bytes, and whether none has begun after them: what is left are comments.
    fn place(self, cut: usize) -> (usize, bool) {
        let came = String::from_utf8_lossy(&self.sample().as_bytes()[..cut]).into_owned();
        let came = came.replace("\r\n", "\n").replace('\r', "\n");
        let (mut passed, mut fields) = (0, 0);
        for line in came.split_inclusive('\n') {
            match line {
                "\n" => passed += usize::from(std::mem::take(&mut fields) > 0),
                line if line.starts_with(':') && line.ends_with('\n') => {}
                _ => fields += 1,
            }
        }
        (passed, fields == 0)
    }

    /// How many events are written in the first `cut` bytes, if the end of the stream is as good as a blank line.
    fn written(self, cut: usize) -> usize {
        let mut begun = 0;
        let events = self.events.iter().filter(|event| {
            begun += event.len();
            let blank = event.len() - event.trim_end().len();
            !event.starts_with(':') && begun - blank <= cut
        });
        events.count()
    }

    fn is_terminal(self, passed: usize) -> bool {
        passed == self.events.iter().filter(|event| !event.starts_with(':')).count()
    }
}

/// One answer that is cut.
struct Case {
    address: SocketAddr,
    down: Http,
    path: &'static str,
    id: String,
}

impl Case {
    fn new(gateway: &Gateway, down: Http, path: &'static str, id: String) -> Self {
        Self { address: gateway.address(), down, path, id }
    }

    fn request(&self) -> http::Request<Sent> {
        post(self.address, self.down, self.path)
            .header("x-simulate-id", &self.id)
            .body(whole(r#"{"model":"m","stream":true}"#))
            .unwrap()
    }

    async fn ask(&self) -> Answer {
        Client::connect(self.address, self.down).await.ask(self.request()).await
    }
}

/// The event that follows `sample` in `answer` tells of the truncation, in the dialect's words.
fn assert_error_event(dialect: Dialect, answer: &Answer, cut: usize, passed: usize) {
    let event = std::str::from_utf8(&answer.body[cut..]).unwrap();
    // A late LF is made up for.
    let event = event.strip_prefix('\n').unwrap_or(event);
    let (name, data) = event.split_once("data: ").unwrap_or_else(|| panic!("cut at {cut}: {answer:?}"));
    let data: Value = serde_json::from_str(data.strip_suffix("\n\n").unwrap()).unwrap();
    match dialect.path {
        "/v1/responses" => {
            assert_eq!(name, "event: error\n");
            assert_eq!((&data["type"], &data["code"]), (&"error".into(), &"upstream_truncated".into()));
            assert_eq!(data["sequence_number"], passed, "the next number");
            assert!(data["message"].is_string() && data["param"].is_null());
        }
        "/v1/messages" => {
            assert_eq!((name, &data["type"]), ("event: error\n", &"error".into()));
            assert_eq!(data["error"]["type"], "api_error");
        }
        _ => {
            assert_eq!(name, "");
            assert_eq!(data["error"]["code"], "upstream_truncated");
        }
    }
}

/// What the caller must have of a stream that was cut after `cut` bytes without an end of its own.
fn assert_ending(dialect: Dialect, answer: &Answer, cut: usize) {
    let sample = dialect.sample();
    let at = format!("{} cut at {cut}: {:?}", dialect.path, answer.body);
    assert!(answer.body.starts_with(&sample.as_bytes()[..cut]), "all that came: {at}");
    let (passed, boundary) = dialect.place(cut);
    if dialect.is_terminal(passed) {
        assert!(answer.whole && answer.body.len() == cut, "its terminal event went out: {at}");
        return;
    }
    if boundary {
        assert_error_event(dialect, answer, cut, passed);
    } else {
        assert_eq!(answer.body.len(), cut, "nothing is put into an event: {at}");
    }
    let raises = boundary && dialect.path != RESPONSES.path;
    assert_eq!(answer.whole, raises, "{at}");
    assert!(!String::from_utf8_lossy(&answer.body[cut..]).contains("[DONE]"), "{at}");
}

async fn assert_logged(gateway: &Gateway, answer: &Answer, complete: bool) {
    let line = gateway.log.line_of(answer).await;
    let expected: [Value; 3] = if complete {
        ["upstream".into(), "done".into(), Value::Null]
    } else {
        ["upstream".into(), "stream".into(), "upstream_truncated".into()]
    };
    assert_eq!([&line["who"], &line["phase"], &line["error"]], expected.each_ref(), "{line}");
    assert_eq!((&line["status"], &line["bytes_out"]), (&200.into(), &answer.body.len().into()), "{line}");
}

/// The close of an HTTP/2 connection ends all that is on it, so those go one by one.
fn at_once(up: Http, cut: Cut) -> usize {
    if (up, cut) == (Http::Two, Cut::Close) { 1 } else { 16 }
}

/// Everything for one upstream protocol and one kind of cut.
async fn every_byte_of_a_stream(up: Http, cut: Cut) {
    let upstream = Arc::new(simulator().await);
    let gateway = Arc::new(Gateway::before(&upstream, up, ""));
    let mut cases = Vec::new();
    for dialect in DIALECTS {
        for down in BOTH {
            cases.extend((0..=dialect.sample().len()).map(|k| (dialect, down, k)));
        }
    }
    let count = cases.len();
    all_of(cases, at_once(up, cut), |(dialect, down, k)| {
        let (upstream, gateway) = (upstream.clone(), gateway.clone());
        async move {
            let id = format!("{}{down:?}{k}", dialect.path);
            upstream.queue_for(&id, cut_off(Head::event_stream(), &dialect.sample().as_bytes()[..k], cut));
            let answer = Case::new(&gateway, down, dialect.path, id).ask().await;
            assert_ending(dialect, &answer, k);
            let (passed, _) = dialect.place(k);
            assert_logged(&gateway, &answer, dialect.is_terminal(passed)).await;
        }
    })
    .await;
    Arc::into_inner(gateway).unwrap().finish(count).await;
}

#[tokio::test]
async fn a_stream_reset_after_any_byte() {
    for up in BOTH {
        every_byte_of_a_stream(up, Cut::Reset).await;
    }
}

#[tokio::test]
async fn a_stream_whose_connection_closes_after_any_byte() {
    for up in BOTH {
        every_byte_of_a_stream(up, Cut::Close).await;
    }
}

#[tokio::test]
async fn a_stream_that_breaks_its_framing_after_any_byte() {
    for up in BOTH {
        every_byte_of_a_stream(up, Cut::ChunkError).await;
    }
}

#[tokio::test]
async fn a_stream_reset_without_an_error_after_any_byte() {
    every_byte_of_a_stream(Http::Two, Cut::NoError).await;
}

/// A JSON document cannot say that it is not whole: the transport has to.
async fn every_byte_of_a_document(up: Http, cut: Cut) {
    let upstream = Arc::new(simulator().await);
    let gateway = Arc::new(Gateway::before(&upstream, up, ""));
    let mut cases = Vec::new();
    // A body of known length has no framing within it to break.
    let known = (up, cut) != (Http::One, Cut::ChunkError);
    let known = known.then_some(Framing::Known(JSON.len() as u64));
    for framing in known.into_iter().chain([Framing::Chunked]) {
        for down in BOTH {
            cases.extend((0..=JSON.len()).map(|k| (framing, down, k)));
        }
    }
    let count = cases.len();
    all_of(cases, at_once(up, cut), |(framing, down, k)| {
        let (upstream, gateway) = (upstream.clone(), gateway.clone());
        async move {
            let id = format!("{framing:?}{down:?}{k}");
            let head = Head::new(StatusCode::OK, "application/json", framing);
            upstream.queue_for(&id, cut_off(head, &JSON.as_bytes()[..k], cut));
            let answer = Case::new(&gateway, down, CHAT.path, id).ask().await;
            assert_eq!(answer.body, JSON.as_bytes()[..k]);
            // The promised number of bytes is the whole, however the connection ended then.
            let complete = framing != Framing::Chunked && k == JSON.len();
            assert_eq!(answer.whole, complete, "{framing:?} {down:?} cut at {k}");
            assert_logged(&gateway, &answer, complete).await;
        }
    })
    .await;
    Arc::into_inner(gateway).unwrap().finish(count).await;
}

#[tokio::test]
async fn a_document_cut_after_any_byte() {
    for cut in CUTS {
        for up in BOTH {
            every_byte_of_a_document(up, cut).await;
        }
    }
}

/// The close of the connection is the answer's end on HTTP/1.1 without a length, and the end of the stream is it on HTTP/2: only the
/// stream's own words tell whether it is whole.
#[tokio::test]
async fn a_stream_that_ends_in_order_after_any_byte() {
    for up in BOTH {
        let upstream = Arc::new(simulator().await);
        let gateway = Arc::new(Gateway::before(&upstream, up, ""));
        let cases = DIALECTS.into_iter().flat_map(|dialect| {
            BOTH.into_iter()
                .flat_map(move |down| (0..=dialect.sample().len()).map(move |k| (dialect, down, k)))
        });
        let count = cases.clone().count();
        all_of(cases, 16, |(dialect, down, k)| {
            let (upstream, gateway) = (upstream.clone(), gateway.clone());
            async move {
                let id = format!("{}{down:?}{k}", dialect.path);
                let head = Head { framing: Framing::Close, ..Head::event_stream() };
                let body = dialect.sample().into_bytes()[..k].to_vec();
                upstream.queue_for(&id, Script::new(vec![Step::Head(head), Step::Send(body.into())]));
                let answer = Case::new(&gateway, down, dialect.path, id).ask().await;
                let finished = dialect.written(k) >= dialect.finished;
                if finished {
                    assert!(answer.whole && answer.body == dialect.sample().as_bytes()[..k], "{answer:?}");
                } else {
                    assert_ending(dialect, &answer, k);
                }
                assert_logged(&gateway, &answer, finished).await;
            }
        })
        .await;
        Arc::into_inner(gateway).unwrap().finish(count).await;
    }
}

/// A caller that takes little at a time makes the gateway hold much; what it holds is delivered before the ending.
#[tokio::test]
async fn a_slow_caller_has_every_byte_before_the_ending() {
    const SIZE: usize = 512 << 10;
    let event = format!("data: {}\n\n", "x".repeat(1016));
    assert_eq!(event.len(), 1024);
    let sample = event.repeat(SIZE / event.len());
    for up in BOTH {
        for cut in CUTS {
            for (down, inside) in [(Http::One, 0), (Http::One, 5), (Http::Two, 0), (Http::Two, 5)] {
                let upstream = simulator().await;
                let gateway = Gateway::before(&upstream, up, "");
                let gate = Gate::new();
                let sent = sample.as_bytes()[..SIZE - inside].to_vec();
                upstream.queue(Script::new(vec![
                    Step::Head(Head::event_stream()),
                    Step::Send(sent.clone().into()),
                    Step::Gate(gate.clone()),
                    Step::Cut(cut),
                ]));
                let mut client = Client::connect_with(gateway.address(), down, Small::Yes).await;
                let case = Case::new(&gateway, down, CHAT.path, String::new());
                let mut response = safely(client.send(case.request())).await.unwrap();
                // A TCP reset drops what the kernels still hold, so most of it must have gone through them before. A close is one too
                // where bytes wait unread, as window updates do.
                let resets = matches!((up, cut), (Http::One, Cut::Reset) | (Http::Two, Cut::Close));
                let held = if resets { 48 << 10 } else { 384 << 10 };
                let mut bytes = Vec::new();
                while bytes.len() < SIZE - held {
                    let frame = safely(response.body_mut().frame()).await.unwrap().unwrap();
                    bytes.extend_from_slice(frame.data_ref().unwrap());
                }
                gate.open();
                let rest = safely(Answer::read(response)).await;
                bytes.extend_from_slice(&rest.body);
                let line = gateway.log.line(1).await;
                let at = format!("{up:?} {down:?} {cut:?} {inside}: {} bytes, {line}", bytes.len());
                assert!(bytes.starts_with(&sent), "{at}");
                let added = String::from_utf8_lossy(&bytes[sent.len()..]).into_owned();
                assert_eq!(added.contains("upstream_truncated"), inside == 0, "{at}, {added}");
                assert_eq!(rest.whole, inside == 0, "{at}");
                drop(client);
                gateway.finish(1).await;
            }
        }
    }
}
