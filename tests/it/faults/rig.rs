//! A gateway before two upstreams: `main`, which fails, and `spare`, which does not.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, StatusCode};
use serde_json::Value;
use sluicegate::{
    simulator::{Gate, Head, Record, Script, Simulator, Step},
    upstream::TargetState,
};
use tokio::task::JoinHandle;

use crate::harness::{
    Answer, BOTH, CHAT, COUNTED, COUNTED_TABLE, Client, Gateway, GatewayToml, Http, Pending, log, post,
    safely, simulator, whole,
};

pub const ROLE: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
pub const HELLO: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"}}]}\n\n";
pub const DONE: &str = "data: [DONE]\n\n";

/// What the spare one says, so that its answers are told from the other's.
pub const SPARE: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"from the spare one\"}}]}\n\n";

/// Quick waits: tests count attempts, and compare gaps with what was configured.
pub const QUICK: &str = r#"retry = { retries = 3, backoff = "40ms", max_backoff = "400ms" }"#;

/// Both upstreams, and the gateway.
pub struct Rig {
    pub main: Simulator,
    pub spare: Simulator,
    pub gateway: Gateway,
}

impl Rig {
    /// Under a limit of each kind that nothing here reaches: when the gateway has finished, nothing may be in flight, and what was charged must be
    /// what the log says was used; unless `defaults` has `limits` of its own. Both are asked, in their order. `defaults`, `main` and `route` are lines of their tables.
    pub async fn both(defaults: &str, main: &str, route: &str) -> Self {
        Self::new(defaults, main, &format!("upstreams = [\"main\", \"spare\"]\n{route}")).await
    }

    /// Only the one that fails is asked.
    pub async fn alone(defaults: &str, main: &str, route: &str) -> Self {
        Self::new(defaults, main, &format!("upstreams = [\"main\"]\n{route}")).await
    }

    /// Only the one that fails is asked, by one worker.
    pub async fn one_worker(defaults: &str, main: &str) -> Self {
        Self::with_workers(1, defaults, main, "upstreams = [\"main\"]").await
    }

    /// `$MAIN` in any of them is the first one's URL, and `$SPARE` the other's.
    pub async fn new(defaults: &str, main: &str, route: &str) -> Self {
        Self::with_workers(2, defaults, main, route).await
    }

    async fn with_workers(workers: usize, defaults: &str, main: &str, route: &str) -> Self {
        let (first, spare) = (simulator().await, simulator().await);
        let limits =
            if defaults.contains("limits =") { String::new() } else { format!("limits = [\"{COUNTED}\"]\n") };
        let toml = GatewayToml::new()
            .listener("h2c = true")
            .admin()
            .server(format!("threads = {workers}"))
            .defaults(format!("{limits}{defaults}"))
            .upstream("main", &first.url(), main)
            .upstream("spare", &spare.url(), "")
            .route_to(route)
            .more(COUNTED_TABLE)
            .to_string();
        let gateway = Gateway::start(&toml.replace("$MAIN", &first.url()).replace("$SPARE", &spare.url()));
        Self { main: first, spare, gateway }
    }

    /// What `main` answers next.
    pub fn main_answers(&self, scripts: impl IntoIterator<Item = Script>) {
        scripts.into_iter().for_each(|script| self.main.queue(script));
    }

    /// What `spare` answers next: a whole stream of its own.
    pub fn spare_answers(&self) {
        self.spare.queue(stream(&[ROLE, SPARE, DONE]));
    }

    /// A chat request by either protocol in turn.
    pub async fn chat(&self) -> Answer {
        self.post("/v1/chat/completions", CHAT, &[]).await
    }

    pub async fn post(&self, path: &str, body: &'static str, headers: &[(&str, &str)]) -> Answer {
        let http = BOTH[self.gateway.log.access().len() % 2];
        self.post_by(http, path, body, headers).await
    }

    pub async fn post_by(
        &self,
        http: Http,
        path: &str,
        body: &'static str,
        headers: &[(&str, &str)],
    ) -> Answer {
        let address = self.gateway.address();
        let mut request = post(address, http, path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut client = Client::connect(address, http).await;
        safely(async { client.ask(request.body(whole(body)).unwrap()).await }).await
    }

    /// A chat request that is on its way.
    pub async fn begin(&self) -> (Client, Pending) {
        let address = self.gateway.address();
        let mut client = Client::connect(address, Http::One).await;
        let request = post(address, Http::One, "/v1/chat/completions").body(whole(CHAT)).unwrap();
        let pending = client.begin(request).await;
        (client, pending)
    }

    /// A chat request of a task of its own.
    pub fn ask(&self, body: &'static str) -> JoinHandle<Answer> {
        let address = self.gateway.address();
        tokio::spawn(async move {
            let mut client = Client::connect(address, Http::One).await;
            let request = post(address, Http::One, "/v1/chat/completions").body(whole(body)).unwrap();
            safely(client.ask(request)).await
        })
    }

    /// Waits until the gateway holds that many bytes while the request of `pending` has no response.
    pub async fn until_it_holds(&self, bytes: usize, pending: &mut Pending) {
        safely(async {
            while self.gateway.buffered() < bytes as u64 {
                // The client's task has its turns meanwhile.
                let early = tokio::time::timeout(Duration::from_millis(1), &mut *pending).await;
                assert!(early.is_err(), "{early:?}");
            }
        })
        .await;
    }

    /// What is known of the first target of `upstream`.
    pub fn target(&self, upstream: &str) -> Arc<TargetState> {
        let live = self.gateway.inside().live.load();
        live.upstreams[upstream].target(0).state.clone()
    }

    /// The only line of the log.
    pub async fn line(&self) -> Value {
        self.gateway.log.line(1).await
    }

    /// How many requests each has seen.
    pub fn seen(&self) -> (usize, usize) {
        (self.main.records().len(), self.spare.records().len())
    }

    /// Waits until no request is pending at `main`.
    pub async fn until_main_is_idle(&self) {
        let live = self.gateway.inside().live.load();
        let main = live.upstreams.values().find(|upstream| &*upstream.name == "main").unwrap();
        while main.targets().any(|target| target.state.pending() > 0) {
            tokio::task::yield_now().await;
        }
    }

    /// Ends it: all is given back, and each exchange had its line.
    pub async fn finish(self, exchanges: usize) {
        let inside = self.gateway.inside().clone();
        self.gateway.finish(exchanges).await;
        for upstream in inside.live.load().upstreams.values() {
            for target in upstream.targets() {
                assert_eq!(target.state.pending(), 0, "{}", target.url);
            }
        }
    }
}

/// The number of keys of `upstream` that are in a cooldown.
pub fn keys_in_cooldown(rig: &Rig, upstream: &str) -> usize {
    let live = rig.gateway.inside().live.load();
    live.upstreams[upstream].keys.cooling_down(std::time::Instant::now()).1
}

/// Waits until something is so.
pub async fn until(mut what: impl FnMut() -> bool) {
    safely(async {
        while !what() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Waits until `upstream` has seen that many requests.
pub async fn has_seen(upstream: &Simulator, requests: usize) {
    safely(upstream.wait_for(|records| (records.len() >= requests).then_some(()))).await;
}

/// A whole stream that begins when its gate is opened.
pub fn gated(gate: &Gate) -> Script {
    after_gate(gate, streamed(&[ROLE, HELLO, DONE]))
}

pub fn after_gate(gate: &Gate, then: Vec<Step>) -> Script {
    Script::new([Step::Gate(gate.clone())].into_iter().chain(then).collect())
}

/// An event stream of these pieces, which ends in order.
pub fn stream(pieces: &[&'static str]) -> Script {
    Script::new(streamed(pieces))
}

pub fn streamed(pieces: &[&'static str]) -> Vec<Step> {
    let sent = pieces.iter().map(|piece| Step::Send((*piece).into()));
    [Step::Head(Head::event_stream())].into_iter().chain(sent).collect()
}

/// An event stream of these pieces, and then this.
pub fn stream_then(pieces: &[&'static str], last: Step) -> Script {
    let mut steps = streamed(pieces);
    steps.push(last);
    Script::new(steps)
}

/// An error answer in OpenAI's form.
pub fn refusal(status: u16, code: &str, headers: &[(&'static str, &'static str)]) -> Script {
    Script::new(refusing(status, code, headers))
}

pub fn refusing(status: u16, code: &str, headers: &[(&'static str, &'static str)]) -> Vec<Step> {
    let body = serde_json::json!({
        "error": { "message": "no", "type": "test", "param": null, "code": code }
    });
    let body = body.to_string();
    let mut head = Head::json(StatusCode::from_u16(status).unwrap(), body.len());
    for (name, value) in headers {
        head.headers.insert(*name, HeaderValue::from_static(value));
    }
    vec![Step::ReadBody(sluicegate::simulator::WHOLE), Step::Head(head), Step::Send(body.into())]
}

/// The times between the requests that an upstream has seen, in milliseconds.
pub fn gaps(records: &[Record]) -> Vec<u128> {
    records.windows(2).map(|pair| (pair[1].started - pair[0].started).as_millis()).collect()
}

/// How the log says that it ended.
pub fn assert_line(line: &Value, status: u64, attempts: u64, tried: &[(&Simulator, &str)]) {
    assert_eq!(line["status"], status, "{line:#}");
    assert_eq!(log::attempts(line) as u64, attempts, "{line:#}");
    let expected: Vec<String> =
        tried.iter().map(|(upstream, code)| format!("{} {code}", upstream.url())).collect();
    assert_eq!(log::failed_attempts(line), expected.join(", "), "{line:#}");
}
