//! A gateway before an upstream that issues ephemeral keys.

use http::{Request, StatusCode};
use serde_json::{Value, json};
use sluicegate::simulator::{Head, Options, Protocols, Script, Simulator, Step};

use crate::harness::{Answer, BOTH, Gateway, GatewayToml, Http, Sent, post, request, send, whole};

/// The upstream's secret.
pub const SECRET: &str = "ek_68af296e8e408191a1120ab6383263c2";

pub struct Rig {
    pub upstream: Simulator,
    pub spare: Simulator,
    pub gateway: Gateway,
}

impl Rig {
    /// A gateway with two upstreams; `server` are lines of `[server]`.
    pub async fn new(server: &str) -> Self {
        let (upstream, spare) = (plain().await, plain().await);
        let gateway = Gateway::start(&toml(&upstream, &spare, server));
        Self { upstream, spare, gateway }
    }

    /// The file of the gateway.
    pub fn toml(&self, server: &str) -> GatewayToml {
        toml(&self.upstream, &self.spare, server)
    }

    /// The response of the gateway where the upstream issues `body`.
    pub async fn issue_at(&self, http: Http, path: &str, body: &[u8]) -> Answer {
        self.upstream.queue(answer(StatusCode::OK, body));
        let request = post(self.gateway.address(), http, path).body(whole("{}")).unwrap();
        send(self.gateway.address(), http, request).await
    }

    /// An ephemeral key of the gateway.
    pub async fn issue(&self) -> String {
        let body = secret(SECRET, in_seconds(600)).to_string();
        let answer = self.issue_at(BOTH[0], "/v1/realtime/client_secrets", body.as_bytes()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        self.upstream.reset();
        answer.json()["value"].as_str().unwrap().to_owned()
    }

    /// A request with this key.
    pub fn with_key(&self, method: &str, path: &str, key: &str, body: &str) -> Request<Sent> {
        let request = request(self.gateway.address(), BOTH[0], method, path);
        let request = request.header("authorization", format!("Bearer {key}"));
        request.header("content-type", "application/sdp").body(whole(body.to_owned())).unwrap()
    }

    pub async fn send(&self, request: Request<Sent>) -> Answer {
        send(self.gateway.address(), BOTH[0], request).await
    }
}

/// A simulator that takes any key.
pub async fn plain() -> Simulator {
    Simulator::start(Options { protocols: Protocols::Both, ..Options::default() }).await.unwrap()
}

fn toml(upstream: &Simulator, spare: &Simulator, server: &str) -> GatewayToml {
    GatewayToml::new()
        .listener("h2c = true")
        .server(server)
        .defaults("retry = { retries = 3, backoff = \"10ms\", max_backoff = \"20ms\" }\nbreaker = \"off\"")
        .upstream("main", &upstream.url(), "")
        .upstream("spare", &spare.url(), "")
}

/// A JSON response.
pub fn answer(status: StatusCode, body: &[u8]) -> Script {
    Script::new(vec![Step::Head(Head::json(status, body.len())), Step::Send(body.to_vec().into())])
}

/// What `POST realtime/client_secrets` answers.
pub fn secret(value: &str, expires_at: u64) -> Value {
    json!({
        "value": value,
        "expires_at": expires_at,
        "session": { "type": "realtime", "object": "realtime.session", "id": "sess_1", "model": "gpt-realtime" },
    })
}

/// The time in so many seconds, in seconds since 1970.
pub fn in_seconds(seconds: i64) -> u64 {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    now.saturating_add_signed(seconds)
}
