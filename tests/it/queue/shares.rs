//! Who gets how much of a full target, by the tokens that the upstream reports.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
};

use sluicegate::{
    simulator::{Gate, Simulator},
    upstream::TargetState,
};
use tokio::task::JoinHandle;

use super::rig::{client, gated, key_of};
use crate::{
    faults::rig::until,
    harness::{Answer, Client, Gateway, GatewayToml, Http, post, safely, simulator, whole},
};

/// Requests in flight at the target.
const MOST: usize = 2;

/// Requests that a client without end always has under way.
const BACKLOG: usize = 5;

const ID: &str = "x-simulate-id";

/// A client, and what each of its requests uses.
#[derive(Clone, Copy)]
struct Flow {
    client: &'static str,
    prompt: u64,
    completion: u64,
}

impl Flow {
    fn tokens(&self) -> u64 {
        self.prompt + self.completion
    }
}

/// A request that is under way.
struct Open {
    flow: Flow,
    gate: Gate,
    answer: JoinHandle<Answer>,
}

/// Requests before one target, of which the test ends one after the other.
struct Stage {
    upstream: Simulator,
    address: SocketAddr,
    target: Arc<TargetState>,
    open: HashMap<String, Open>,
    sent: usize,
    ended: Vec<String>,
    /// Reported tokens by client.
    served: BTreeMap<&'static str, u64>,
}

impl Stage {
    fn new(upstream: Simulator, gateway: &Gateway) -> Self {
        let target = gateway.inside().live.load().upstreams["sim"].target(0).state.clone();
        let address = gateway.address();
        Self {
            upstream,
            address,
            target,
            open: HashMap::new(),
            sent: 0,
            ended: Vec::new(),
            served: BTreeMap::new(),
        }
    }

    /// Sends a request, and waits until it is in flight or in the queue.
    async fn send(&mut self, flow: Flow) {
        let id = format!("r-{}", self.sent);
        self.sent += 1;
        let gate = Gate::new();
        self.upstream.queue_for(&id, gated(&gate, flow.prompt, flow.completion));
        let answer = tokio::spawn(ask(self.address, flow.client, id.clone()));
        self.open.insert(id, Open { flow, gate, answer });
        until(|| self.target.waiting() + MOST.min(self.open.len()) == self.open.len()).await;
        self.in_flight().await;
    }

    /// The requests that the upstream works on, in the order in which they came.
    async fn in_flight(&self) -> Vec<String> {
        let most = MOST.min(self.open.len());
        let look = self.upstream.wait_for(|records| {
            let ids = records.iter().map(|record| record.headers[ID].to_str().unwrap().to_owned());
            let open: Vec<String> = ids.filter(|id| !self.ended.contains(id)).collect();
            (open.len() == most).then_some(open)
        });
        safely(look).await
    }

    /// Ends the request that has been in flight for longest, and returns whose it was.
    async fn end_one(&mut self) -> Flow {
        let id = self.in_flight().await.remove(0);
        let Open { flow, gate, answer } = self.open.remove(&id).unwrap();
        gate.open();
        assert_eq!(answer.await.unwrap().status, 200);
        self.ended.push(id);
        *self.served.entry(flow.client).or_default() += flow.tokens();
        flow
    }

    fn total(&self) -> u64 {
        self.served.values().sum()
    }

    fn share(&self, client: &str) -> f64 {
        self.served[client] as f64
    }
}

async fn ask(address: SocketAddr, client: &str, id: String) -> Answer {
    let body = r#"{"model":"m","messages":[{"role":"user","content":"Hi"}]}"#;
    let request = post(address, Http::One, "/v1/chat/completions").header(ID, id).body(whole(body)).unwrap();
    let (mut head, body) = request.into_parts();
    head.headers.insert("authorization", format!("Bearer {}", key_of(client)).parse().unwrap());
    let mut client = Client::connect(address, Http::One).await;
    safely(client.ask(http::Request::from_parts(head, body))).await
}

fn gateway(upstream: &Simulator) -> Gateway {
    let toml = GatewayToml::before(&upstream.url(), format!("max_pending = {MOST}"))
        .defaults("retry = { max_wait = \"60s\" }")
        .more(client("small", ""))
        .more(client("middle", ""))
        .more(client("large", ""))
        .more(client("modest", ""))
        .more(client("batch", "priority = \"low\""));
    Gateway::start(&toml)
}

/// Three clients ask for as much as they can get, in requests of different sizes; one asks for less than its share, and one has low priority.
#[tokio::test]
async fn clients_share_a_full_target_by_reported_tokens() {
    const GREEDY: [Flow; 4] = [
        Flow { client: "small", prompt: 60, completion: 40 },
        Flow { client: "middle", prompt: 100, completion: 200 },
        Flow { client: "large", prompt: 500, completion: 100 },
        Flow { client: "batch", prompt: 100, completion: 100 },
    ];
    const MODEST: Flow = Flow { client: "modest", prompt: 50, completion: 50 };
    /// The modest client sends one request for so many that are served.
    const PACE: usize = 12;

    let upstream = simulator().await;
    let gateway = gateway(&upstream);
    let mut stage = Stage::new(upstream, &gateway);
    for _ in 0..BACKLOG {
        for flow in GREEDY {
            stage.send(flow).await;
        }
    }
    // What the requests use is not known before the first ones have ended.
    for _ in 0..40 {
        let flow = stage.end_one().await;
        stage.send(flow).await;
    }
    stage.served.clear();
    let mut asked = 0;
    let mut served = 0;
    while stage.total() < 66_000 {
        let flow = stage.end_one().await;
        if flow.client != MODEST.client {
            stage.send(flow).await;
        }
        served += 1;
        if served % PACE == 0 {
            let waits = stage.open.values().filter(|open| open.flow.client == MODEST.client).count();
            assert_eq!(waits, 0, "it has got all that it asked for so far");
            stage.send(MODEST).await;
            asked += MODEST.tokens();
        }
    }
    let (modest, batch) = (stage.share("modest"), stage.share("batch"));
    assert!(modest >= (asked - MODEST.tokens()) as f64, "{:?}", stage.served);
    let of_low = batch / stage.total() as f64;
    assert!((0.09..0.12).contains(&of_low), "low priority has 10 %: {of_low} {:?}", stage.served);
    let fair = (stage.total() as f64 - modest - batch) / 3.0;
    for flow in &GREEDY[..3] {
        let ratio = stage.share(flow.client) / fair;
        assert!((0.9..1.1).contains(&ratio), "{}: {ratio} {:?}", flow.client, stage.served);
    }
    let all = stage.sent;
    while !stage.open.is_empty() {
        stage.end_one().await;
    }
    gateway.finish(all).await;
}
