//! One gateway, one simulator and one connection for many cases.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, combinators::BoxBody};
use hyper::ext::ReasonPhrase;
use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseResult, TestRunner},
};
use sluicegate::{
    config::KeyHash,
    simulator::{Options, Protocols, Record, Script, Simulator},
};

use super::forms::revealed;
use crate::folder::Folder;
use crate::harness::{
    Answer, BOTH, CLIENT_KEY, Client, Gateway, GatewayToml, Http, SAFETY, UPSTREAM_KEY, request,
};

/// The keys of the caller and of the upstream: an ordinary one, and one whose base64 needs all of the alphabet.
pub static CLIENT_KEYS: [&str; 2] = [CLIENT_KEY, "ck~?/+=-_.client~~??/x"];
pub static UPSTREAM_KEYS: [&str; 2] = [UPSTREAM_KEY, "uk~?/+%25=-_.upstream~~>>??//"];

/// A gateway between a caller and an upstream.
pub struct Rig {
    pub gateway: Gateway,
    pub upstream: Simulator,
    pub down: Http,
    client: Option<Client>,
    exchanges: usize,
}

/// What a caller has been given, with the words of its status line.
pub struct Given {
    pub answer: Answer,
    pub reason: Option<ReasonPhrase>,
}

impl Rig {
    /// Between a caller that speaks `down` and an upstream that is spoken to in `up`; `route` is put into the route's table.
    pub async fn new(down: Http, up: Http, route: &str) -> Self {
        let options = Options { protocols: Protocols::Both, ..Options::default() };
        let upstream = Simulator::start(options).await.unwrap();
        // Read at the start, and not again.
        let folder = Folder::new();
        let second = folder.write("second.key", UPSTREAM_KEYS[1]);
        let hashes =
            CLIENT_KEYS.map(|key| format!("{:?}", KeyHash::of(key.as_bytes()).to_string())).join(", ");
        let (url, http2) = (upstream.url(), up == Http::Two);
        let keys = format!("keys = [{{ env = \"UPSTREAM_KEY\" }}, {{ file = \"{second}\" }}]");
        let gateway = Gateway::start(
            &GatewayToml::new()
                .listener("h2c = true")
                .admin()
                .server("threads = 1")
                .defaults("retry = \"off\"\nbreaker = \"off\"")
                .upstream_of("sim", format!("url = \"{url}\"\n{keys}\nhttp2 = {http2}"))
                .route(route)
                .without_client()
                .client(format!("keys = [{hashes}]")),
        );
        Self { gateway, upstream, down, client: None, exchanges: 0 }
    }

    /// One for each combination of protocols.
    pub async fn all() -> Vec<Self> {
        let mut rigs = Vec::new();
        for (down, up) in BOTH.into_iter().flat_map(|down| BOTH.map(|up| (down, up))) {
            rigs.push(Self::new(down, up, "").await);
        }
        rigs
    }

    /// A request by this caller, without a key.
    pub fn request(&self, method: &str, path: &str) -> http::request::Builder {
        request(self.gateway.address(), self.down, method, path)
    }

    /// Sends `request`, which the upstream answers by `script` if it gets it. What the upstream got comes back with what the caller was
    /// given.
    pub async fn exchange(
        &mut self,
        mut request: Request<BoxBody<Bytes, io::Error>>,
        script: Script,
    ) -> (Option<Record>, Given) {
        self.exchanges += 1;
        let id = format!("case-{}", self.exchanges);
        request.headers_mut().insert("x-simulate-id", id.parse().unwrap());
        self.upstream.queue_for(&id, script);
        let exchange = async {
            let mut client = match self.client.take() {
                Some(client) => client,
                None => Client::connect(self.gateway.address(), self.down).await,
            };
            let mut response = client.send(request).await.unwrap();
            let reason = response.extensions_mut().remove::<ReasonPhrase>();
            let answer = Answer::read(response).await;
            // After `connection: close` or an abort there is nothing to keep.
            self.client = client.is_usable().await.then_some(client);
            Given { answer, reason }
        };
        let given = tokio::time::timeout(SAFETY, exchange).await.unwrap();
        let mine = |record: &Record| record.headers.get("x-simulate-id").is_some_and(|own| *own == *id);
        let arrived = self.upstream.records().into_iter().rev().find(mine);
        let record = match arrived {
            Some(record) => Some(self.upstream.record(record.number).await),
            None => None,
        };
        // An unused one must not wait for another request.
        self.upstream.reset();
        (record, given)
    }

    /// What the gateway wrote and shows, once all of its lines are there: nobody's key is in it.
    pub async fn finish(self) {
        self.gateway.log.line(self.exchanges).await;
        let log = self.gateway.log.text();
        let admin = self.gateway.admin.unwrap();
        let asked = request(admin, Http::One, "GET", "/config").body(crate::harness::whole("")).unwrap();
        let config = crate::harness::send(admin, Http::One, asked).await;
        assert!(config.json()["config"]["upstream"]["sim"]["http2"].is_boolean(), "{}", config.text());
        for key in CLIENT_KEYS.into_iter().chain(UPSTREAM_KEYS) {
            assert_eq!(revealed(log.as_bytes(), key), None);
            assert_eq!(revealed(&config.body, key), None);
        }
        self.gateway.stop().await;
    }
}

impl Given {
    /// All that the caller sees, as one text.
    pub fn everything(&self) -> Vec<u8> {
        let reason = self.reason.as_ref().map(ReasonPhrase::as_bytes).unwrap_or_default();
        let lines = [&self.answer.headers].into_iter().chain(&self.answer.trailers).flat_map(lines);
        [reason.to_vec()]
            .into_iter()
            .chain(lines)
            .chain([self.answer.body.to_vec()])
            .collect::<Vec<_>>()
            .join(&b"\n"[..])
    }
}

/// All that reached the upstream of a request, but for its body, as one text.
pub fn everything(record: &Record) -> Vec<u8> {
    let start = [record.method.as_str(), &record.target, record.authority.as_deref().unwrap_or_default()];
    let start = start.map(|text| text.as_bytes().to_vec()).into_iter();
    let fields = lines(&record.headers).chain(lines(&record.trailers));
    start.chain([record.head.to_vec()]).chain(fields).collect::<Vec<_>>().join(&b"\n"[..])
}

fn lines(headers: &HeaderMap) -> impl Iterator<Item = Vec<u8>> {
    headers.iter().map(|(name, value)| [name.as_str().as_bytes(), b": ", value.as_bytes()].concat())
}

/// A body of these parts, then these trailers.
pub fn streamed(
    parts: impl IntoIterator<Item = Bytes>,
    trailers: Option<HeaderMap>,
) -> BoxBody<Bytes, io::Error> {
    let frames = parts.into_iter().map(Frame::data).chain(trailers.map(Frame::trailers));
    Frames(frames.collect()).boxed()
}

/// Frames that are there already.
struct Frames(VecDeque<Frame<Bytes>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

/// Runs `test` for so many cases, each on one of four rigs: all combinations of protocols. What was logged of them all is looked at in the
/// end.
pub fn run<S: Strategy>(
    cases: u32,
    strategy: &S,
    test: &impl AsyncFn(&mut Rig, &S::Value) -> TestCaseResult,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let rigs = RefCell::new(runtime.block_on(Rig::all()));
    let config = Config { failure_persistence: None, ..Config::with_cases(cases) };
    let each = (0..rigs.borrow().len(), strategy);
    let outcome = TestRunner::new(config).run(&each, |(which, case)| {
        let rig = &mut rigs.borrow_mut()[which];
        runtime.block_on(test(rig, &case))
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    for rig in rigs.into_inner() {
        runtime.block_on(rig.finish());
    }
}

/// That `text` holds none of `keys`, however it is read.
pub fn holds_none(text: &[u8], keys: [&str; 2]) -> TestCaseResult {
    for key in keys {
        let found = revealed(text, key);
        prop_assert!(found.is_none(), "{key} is there, {}", found.unwrap_or_default());
    }
    Ok(())
}
