//! A gateway in front of simulators under a mix of everything that dashboards and alerts are about.

use std::{fmt::Write as _, net::SocketAddr};

use http::StatusCode;
use rcgen::{CertificateParams, KeyPair};
use sluicegate::simulator::{Script, Simulator, Step};
use time::{Duration, OffsetDateTime};

use crate::{
    folder::Folder,
    harness::{Client, Gateway, GatewayToml, Http, post, send, simulator, whole},
};

/// Connections that the second gateway takes.
const FEW: usize = 5;

/// All that Prometheus sees.
pub struct Environment {
    pub gateway: Gateway,
    /// One whose connections are all in use.
    pub small: Gateway,
    toml: String,
    busy: Vec<Client>,
    flaky: Simulator,
    _others: Vec<Simulator>,
    _folder: Folder,
}

impl Environment {
    pub async fn start() -> Self {
        let (main, spare, flaky, pool) =
            (simulator().await, simulator().await, simulator().await, simulator().await);
        let folder = Folder::new();
        let toml = toml(&[&main, &spare, &flaky, &pool], &certificate(&folder));
        let gateway = Gateway::start(&toml);
        let small = GatewayToml::before(&main.url(), "").server(format!("max_connections = {FEW}")).admin();
        let small = Gateway::start(&small);
        let mut busy = Vec::new();
        for _ in 0..FEW {
            busy.push(Client::connect(small.address(), Http::One).await);
        }
        // Both keys reach their limit.
        for _ in 0..2 {
            let refusal = "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\nretry-after: 300\r\ncontent-length: 2\r\n\r\n{}";
            pool.queue(Script::new(vec![Step::Raw(refusal.into())]));
        }
        let _others = vec![main, spare, pool];
        Self { gateway, small, toml, busy, flaky, _others, _folder: folder }
    }

    /// The targets for Prometheus; the last one does not answer.
    pub fn targets(&self) -> [SocketAddr; 3] {
        [self.gateway.admin.unwrap(), self.small.admin.unwrap(), "127.0.0.1:9".parse().unwrap()]
    }

    /// Begins what takes long: a stream that hangs, and one whose first token takes eleven seconds.
    pub fn begin_slow(&self) -> Vec<tokio::task::JoinHandle<()>> {
        let address = self.gateway.address();
        let slow = |plan: &'static str| {
            tokio::spawn(async move {
                ask(address, "/v1", "slow-model", plan).await;
            })
        };
        vec![slow("frames=40; interval=10; stall=900"), slow("first=11s; frames=3; usage=5,3")]
    }

    /// A round of the mix. Each has all the faults in it.
    pub async fn round(&self, number: usize) {
        let address = self.gateway.address();
        for plan in ["frames=6; usage=50,20", "frames=6; interval=5; usage=9,9", "status=429", "status=503"] {
            ask(address, "/v1", "model-a", plan).await;
        }
        // The first of a model makes its series.
        ask(address, "/v1", "slow-model", "frames=3; usage=5,3").await;
        for _ in 0..3 {
            ask(address, "/v1", "model-a", "frames=40; cut=900; by=reset").await;
            refuse_once(&self.flaky);
            ask(address, "/flaky", "model-a", "frames=3; usage=5,3").await;
        }
        ask(address, "/dead", "model-a", "").await;
        ask(address, "/pool", "model-a", "").await;
        ask(address, "/refused", "model-a", "").await;
        // More combinations of models and operations than are told apart.
        for model in (0..8).map(|model| format!("many-{}", (number * 8 + model) % 80)) {
            for path in ["chat/completions", "completions", "embeddings"] {
                for route in ["/v1", "/spare"] {
                    post_to(address, &format!("{route}/{path}"), &model, "frames=1").await;
                }
            }
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
        self.busy.len() == FEW
    }
}

fn refuse_once(simulator: &Simulator) {
    let head = sluicegate::simulator::Head::json(StatusCode::SERVICE_UNAVAILABLE, 2);
    simulator.queue(Script::new(vec![Step::Head(head), Step::Send("{}".into())]));
}

async fn ask(address: SocketAddr, route: &str, model: &str, plan: &str) {
    post_to(address, &format!("{route}/chat/completions"), model, plan).await;
}

async fn post_to(address: SocketAddr, path: &str, model: &str, plan: &str) {
    let body = format!(
        r#"{{"model":"{model}","stream":true,"stream_options":{{"include_usage":true}},"messages":[],"prompt":"x","input":"x"}}"#
    );
    let asked = post(address, Http::One, path)
        .header("x-simulate", plan)
        .header("user-agent", "OpenAI/Python 1.109.1")
        .body(whole(body));
    send(address, Http::One, asked.unwrap()).await;
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

fn toml(simulators: &[&Simulator; 4], tls: &str) -> String {
    let mut toml = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n[[listener]]\naddress = \"127.0.0.2:0\"\n{tls}\n[admin]\naddress = \"127.0.0.1:0\"\n\
         [server]\nthreads = 2\n[client.tester]\nkey = \"$CLIENT_HASH\"\n\
         [limit.fair-use]\neach = \"client\"\nrequests = 1_000_000\nper = \"1m\"\n[defaults]\nlimits = [\"fair-use\"]\n"
    );
    let one = "keys = [{ env = \"UPSTREAM_KEY\" }]\nmax_pending = 100\nmax_connections = 100\nretry = { backoff = \"5ms\" }";
    let two =
        "keys = [{ env = \"UPSTREAM_KEY\" }, { env = \"UPSTREAM_KEY_2\" }]\nretry = { backoff = \"5ms\" }";
    let wrong = "keys = [{ env = \"UPSTREAM_KEY_2\" }]";
    let [main, spare, flaky, pool] = simulators.map(Simulator::url);
    for (name, url, lines) in [
        ("main", main.as_str(), format!("{one}\nbreaker = \"off\"")),
        ("spare", &spare, one.to_owned()),
        ("flaky", &flaky, format!("{one}\nbreaker = \"off\"")),
        ("pool", &pool, two.to_owned()),
        ("refused", &spare, wrong.to_owned()),
        ("dead", "http://127.0.0.1:9", "auth = \"none\"\nretry = { backoff = \"5ms\" }".to_owned()),
    ] {
        let _ = writeln!(toml, "[upstream.{name}]\nurl = \"{url}\"\n{lines}");
    }
    for (path, upstreams) in [
        ("v1", "\"main\", \"spare\""),
        ("spare", "\"spare\""),
        ("flaky", "\"flaky\", \"spare\""),
        ("pool", "\"pool\""),
        ("refused", "\"refused\""),
        ("dead", "\"dead\""),
    ] {
        let _ = writeln!(
            toml,
            "[route.{path}]\npath = \"/{path}\"\nrewrite = \"/v1\"\nupstreams = [{upstreams}]"
        );
    }
    toml
}
