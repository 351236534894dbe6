//! A gateway in front of simulators under a mix of everything that dashboards and alerts are about.

use std::net::SocketAddr;

use http::StatusCode;
use rcgen::{CertificateParams, KeyPair};
use sluicegate::{
    config::KeyHash,
    simulator::{Head, Options, Script, Simulator, Step},
};
use time::{Duration, OffsetDateTime};
use tokio::task::JoinHandle;

use super::{
    cramped::Cramped,
    environment_toml::{Addresses, toml},
};
use crate::{
    folder::Folder,
    harness::{
        CLIENT_KEY, Client, Gateway, GatewayToml, Http, Raw, post, redis::RedisServer, send, simulator, whole,
    },
};

/// Connections that the second gateway takes.
const FEW: usize = 5;

/// What keeps connections that do nothing open for as long as the test takes.
const PATIENT: &str = "header_timeout = \"10m\"\nkeep_alive = \"10m\"\nbody_idle = \"10m\"";

/// Bytes of a body that fill most of what the second gateway may hold.
const UPLOAD: usize = 900_000;

/// The key of the second client.
const BATCH_KEY: &str = "sk-sg-key-of-batch-0123456789abcdefABCDEF";

/// Rounds in which Redis does not answer.
const WITHOUT_REDIS: std::ops::Range<usize> = 3..7;

/// The round in which the third gateway is restarted.
const RESTART: usize = 5;

/// Rounds in which more combinations of models and operations are used than are told apart.
const CROWDED: std::ops::Range<usize> = 0..12;

/// All that Prometheus sees.
pub struct Environment {
    pub gateway: Gateway,
    /// One whose connections are all in use, and most of its memory for bodies.
    pub small: Gateway,
    cramped: Cramped,
    toml: String,
    busy: Vec<Client>,
    _upload: Raw,
    flaky: Simulator,
    collector: Simulator,
    redis: RedisServer,
    _others: Vec<Simulator>,
    _folder: Folder,
}

impl Environment {
    pub async fn start() -> Self {
        let (main, spare, flaky) = (simulator().await, simulator().await, simulator().await);
        // It takes both keys: a key that is refused while no other can be used is not in cooldown.
        let pool = Simulator::start(Options::default()).await.unwrap();
        let collector = Simulator::start(Options::default()).await.unwrap();
        let redis = RedisServer::start(&[]);
        let folder = Folder::new();
        let toml = toml(&Addresses {
            main: &main.url(),
            spare: &spare.url(),
            flaky: &flaky.url(),
            pool: &pool.url(),
            redis: &redis.url(),
            collector: &collector.url(),
            tls: &certificate(&folder),
            batch: &KeyHash::of(BATCH_KEY.as_bytes()).to_string(),
        });
        let gateway = Gateway::start(&toml);
        let small = GatewayToml::before(&main.url(), "")
            .server(format!("max_connections = {FEW}\nmax_buffered = \"1MiB\"\n{PATIENT}"))
            .admin();
        let small = Gateway::start(&small);
        let mut _upload = Raw::connect(small.address()).await;
        begin_upload(&mut _upload).await;
        let mut busy = Vec::new();
        for _ in 1..FEW {
            busy.push(Client::connect(small.address(), Http::One).await);
        }
        // Both keys reach their limit, and reach it again when they are tried again.
        for _ in 0..100 {
            let refusal = "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\nretry-after: 300\r\ncontent-length: 2\r\n\r\n{}";
            pool.queue(Script::new(vec![Step::Raw(refusal.into())]));
        }
        let cramped = Cramped::start(&main.url()).await;
        let _others = vec![main, spare, pool];
        Self {
            gateway,
            small,
            cramped,
            toml,
            busy,
            _upload,
            flaky,
            collector,
            redis,
            _others,
            _folder: folder,
        }
    }

    /// The targets for Prometheus; the last one does not answer.
    pub fn targets(&self) -> [SocketAddr; 4] {
        let nobody = "127.0.0.1:9".parse().unwrap();
        [self.gateway.admin.unwrap(), self.small.admin.unwrap(), self.cramped.admin, nobody]
    }

    /// Begins what takes long: a stream that hangs, and one whose first token takes eleven seconds.
    pub fn begin_slow(&self) -> Vec<JoinHandle<()>> {
        let address = self.gateway.address();
        vec![
            asking(address, "/v1", "slow-model", "frames=40; interval=10; stall=900"),
            asking(address, "/v1", "slow-model", "first=11s; frames=3; usage=5,3"),
        ]
    }

    /// A round of the mix. Each has nearly all the faults in it.
    pub async fn round(&mut self, number: usize) {
        match number {
            _ if number == WITHOUT_REDIS.start => self.redis.signal("STOP"),
            _ if number == WITHOUT_REDIS.end => self.redis.signal("CONT"),
            RESTART => self.cramped.restart().await,
            _ => {}
        }
        self.answer_collector(number);
        let address = self.gateway.address();
        for plan in ["frames=6; usage=50,20", "frames=6; interval=5; usage=9,9", "status=429", "status=503"] {
            ask(address, "/v1", "model-a", plan).await;
        }
        post_as(BATCH_KEY, address, "/v1/chat/completions", "model-a", "frames=4; usage=500,60").await;
        // The first of a model makes its series.
        ask(address, "/v1", "slow-model", "frames=3; usage=5,3").await;
        for _ in 0..3 {
            ask(address, "/v1", "model-a", "frames=40; cut=900; by=reset").await;
            refuse_once(&self.flaky);
            ask(address, "/flaky", "model-a", "frames=3; usage=5,3").await;
        }
        for route in ["/dead", "/pool", "/refused", "/tight", "/tight", "/trial", "/trial"] {
            ask(address, route, "model-a", "frames=3; usage=5,3").await;
        }
        ask(self.cramped.address, "/v1", "model-a", "").await;
        leave(address).await;
        wait_in_a_queue(address).await;
        leave_a_queue(address).await;
        if CROWDED.contains(&number) {
            crowd(address, number).await;
        }
    }

    /// Reloads: once with success, once with a mistake.
    pub async fn reload(&self) {
        self.gateway.reload(&self.toml).await;
        let nothing = |_: &str| None;
        let env = sluicegate::config::Env::new(std::path::Path::new("."), &nothing);
        let problems = sluicegate::config::parse("nonsense = 1", &env).unwrap_err();
        let problems = sluicegate::config::Problems { file: "gateway.toml".into(), problems };
        self.gateway.inside().refuse(&problems);
    }

    pub fn is_busy(&self) -> bool {
        self.busy.len() == FEW - 1
    }

    /// The collector takes the spans of every other request, and refuses the rest.
    fn answer_collector(&self, number: usize) {
        let status = if number.is_multiple_of(2) { "200 OK" } else { "400 Bad Request" };
        let response = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        self.collector.queue(Script::new(vec![Step::Raw(response.into())]));
    }
}

fn refuse_once(simulator: &Simulator) {
    let head = Head::json(StatusCode::SERVICE_UNAVAILABLE, 2);
    simulator.queue(Script::new(vec![Step::Head(head), Step::Send("{}".into())]));
}

/// A client that leaves in the middle of its stream.
async fn leave(address: SocketAddr) {
    let mut client = Client::connect(address, Http::One).await;
    let body = r#"{"model":"model-a","stream":true,"messages":[]}"#;
    let asked = post(address, Http::One, "/v1/chat/completions")
        .header("x-simulate", "frames=100; interval=50")
        .body(whole(body))
        .unwrap();
    let response = client.send(asked).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    client.leave().await;
}

/// One request waits for another and is admitted; then one waits in vain.
async fn wait_in_a_queue(address: SocketAddr) {
    for interval in [10, 100] {
        let plan = format!("frames=8; interval={interval}; usage=5,8");
        let both = [(); 2].map(|()| {
            let plan = plan.clone();
            tokio::spawn(async move { ask(address, "/narrow", "model-a", &plan).await })
        });
        for one in both {
            one.await.unwrap();
        }
    }
}

/// A client leaves while its request waits for the only target.
async fn leave_a_queue(address: SocketAddr) {
    const MEANWHILE: std::time::Duration = std::time::Duration::from_millis(150);
    let first = asking(address, "/single", "model-a", "frames=6; interval=100; usage=5,6");
    tokio::time::sleep(MEANWHILE).await;
    let second = asking(address, "/single", "model-a", "frames=1; usage=5,1");
    let mut client = Client::connect(address, Http::One).await;
    let asked = post(address, Http::One, "/single/chat/completions").body(whole(r#"{"model":"model-a"}"#));
    let pending = client.begin(asked.unwrap()).await;
    tokio::time::sleep(MEANWHILE).await;
    drop(pending);
    client.leave().await;
    first.await.unwrap();
    second.await.unwrap();
}

/// More combinations of models and operations than are told apart.
async fn crowd(address: SocketAddr, number: usize) {
    for model in (0..8).map(|model| format!("many-{}", (number * 8 + model) % 80)) {
        for path in ["chat/completions", "completions", "embeddings"] {
            for route in ["/v1", "/spare"] {
                post_to(address, &format!("{route}/{path}"), &model, "frames=1").await;
            }
        }
    }
}

async fn begin_upload(connection: &mut Raw) {
    let body = "x".repeat(UPLOAD);
    let length = UPLOAD + 1;
    connection
        .write(format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {CLIENT_KEY}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
        .await;
}

fn asking(
    address: SocketAddr,
    route: &'static str,
    model: &'static str,
    plan: &'static str,
) -> JoinHandle<()> {
    tokio::spawn(async move { ask(address, route, model, plan).await })
}

async fn ask(address: SocketAddr, route: &str, model: &str, plan: &str) {
    post_to(address, &format!("{route}/chat/completions"), model, plan).await;
}

async fn post_to(address: SocketAddr, path: &str, model: &str, plan: &str) {
    post_as(CLIENT_KEY, address, path, model, plan).await;
}

async fn post_as(key: &str, address: SocketAddr, path: &str, model: &str, plan: &str) {
    let body = format!(
        r#"{{"model":"{model}","stream":true,"stream_options":{{"include_usage":true}},"messages":[],"prompt":"x","input":"x"}}"#
    );
    let mut asked = post(address, Http::One, path)
        .header("x-simulate", plan)
        .header("user-agent", "OpenAI/Python 1.109.1")
        .body(whole(body))
        .unwrap();
    asked.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    send(address, Http::One, asked).await;
}

fn certificate(folder: &Folder) -> String {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["gateway.example".into()]).unwrap();
    params.not_after = OffsetDateTime::now_utc() + Duration::days(2);
    let certificate = params.self_signed(&key).unwrap();
    let (certificate, key) =
        (folder.write("cert.pem", &certificate.pem()), folder.write("key.pem", &key.serialize_pem()));
    format!("tls = {{ certificate = \"{certificate}\", key = \"{key}\" }}")
}
