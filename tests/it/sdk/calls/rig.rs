//! The upstreams of the calls, and a gateway before them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use sluicegate::{
    config::KeyHash,
    simulator::{Identity, Options, Record, Simulator, Tls},
};

use serde_json::{Value, json};

use super::{
    super::bench::certificates,
    data::{Data, Upstream},
};
use crate::{
    cli::process::sluicegate,
    folder::Folder,
    harness::{CLIENT_KEY, Gateway, UPSTREAM_KEY, simulator_with},
    websocket::peers::Server,
};

/// Everything that runs while calls are made.
pub(super) struct Rig {
    pub(super) folder: Folder,
    pub(super) scripted: Simulator,
    pub(super) gateway: Gateway,
    /// The gateway's file, for `sluicegate client`.
    file: String,
    over_tls: Simulator,
    /// Servers that nobody here wrote, as far as the data needs them.
    others: BTreeMap<Upstream, Server>,
}

/// One of the two ways to an upstream.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) name: &'static str,
    pub(super) base: String,
    pub(super) key: &'static str,
}

impl Rig {
    pub(super) async fn start(data: &Data) -> Self {
        let folder = Folder::new();
        certificates(Path::new(&folder.path("")));
        // Whoever presents a wrong key to this one gets the provider's own error, which is scripted.
        let scripted = Simulator::start(Options::default()).await.unwrap();
        let [certificate, key] =
            ["certs/server.pem", "certs/server.key"].map(|name| std::fs::read(folder.path(name)).unwrap());
        let tls = Tls { identity: Identity::Pem { certificate, key }, client_ca: None };
        let over_tls = simulator_with(Options { tls: Some(tls), ..Options::default() }).await;
        let needed: BTreeSet<Upstream> = data.section.iter().map(|section| section.upstream).collect();
        let others: BTreeMap<Upstream, Server> =
            needed.into_iter().filter_map(|upstream| Some((upstream, other(upstream)?))).collect();
        let toml = configuration(&folder, &scripted, &over_tls)
            + &others.iter().map(|(name, server)| route(name.name(), root(server))).collect::<String>();
        let file = folder.write("gateway.toml", &toml);
        let gateway = Gateway::start(&toml);
        Self { folder, scripted, gateway, file, over_tls, others }
    }

    /// To the upstream itself, and through the gateway.
    pub(super) fn ways(&self, upstream: Upstream, client: &str) -> [Way; 2] {
        let (plain, tls) = (self.gateway.addresses[0], self.gateway.addresses[1]);
        let (direct, through) = match upstream {
            Upstream::Scripted if client.starts_with("anthropic") => {
                (self.scripted.url(), format!("http://{plain}/anthropic"))
            }
            Upstream::Scripted => (self.scripted.url(), format!("http://{plain}")),
            Upstream::Tls => {
                let direct = format!("https://localhost:{}", self.over_tls.addr().port());
                (direct, format!("https://localhost:{}/tls", tls.port()))
            }
            Upstream::Tools => {
                (format!("{}/direct/{client}", self.scripted.url()), format!("http://{plain}/{client}"))
            }
            other => (root(&self.others[&other]).to_owned(), format!("http://{plain}/{}", other.name())),
        };
        [
            Way { name: "direct", base: direct, key: UPSTREAM_KEY },
            Way { name: "through", base: through, key: CLIENT_KEY },
        ]
    }

    /// What `sluicegate client` prints for a tool, with the address of one of the ways in it.
    pub(super) fn settings(&self, tool: &str, way: &Way) -> String {
        let url = format!("http://{}", self.gateway.addresses[0]);
        let arguments = ["client", tool, "--config", &self.file, "--route", tool, "--url", &url];
        let done = sluicegate(&arguments);
        assert_eq!(done.code, Some(0), "{tool}: {}", done.err);
        let (at, base) = (format!("{url}/{tool}"), &way.base);
        assert!(done.out.contains(&at), "{}", done.out);
        done.out.replace(&at, base)
    }

    /// What a tool has sent to the upstream on one of the ways, in alphabetical order.
    pub(super) fn sent_by(&self, tool: &str, way: &Way) -> Value {
        let path = format!("/{}/{tool}", way.name);
        let mut sent: Vec<String> = Vec::new();
        for record in self.scripted.records() {
            let Some(target) = record.target.strip_prefix(&path) else { continue };
            let body: Value = serde_json::from_slice(&record.body).unwrap_or_default();
            let members: Vec<&String> =
                body.as_object().into_iter().flat_map(|members| members.keys()).collect();
            sent.push(format!("{} {target} {members:?}", record.method));
        }
        sent.sort();
        json!(sent)
    }

    /// Makes a script trust the certificates, and only them.
    pub(super) fn introduce(&self, script: &mut Command) {
        let ca = self.folder.path("certs/ca.pem");
        script.env("NODE_EXTRA_CA_CERTS", &ca).env("SSL_CERT_FILE", &ca);
    }

    /// What the scripted upstream received, by the id of the call.
    pub(super) fn requests(&self) -> BTreeMap<String, Vec<Record>> {
        let mut requests: BTreeMap<String, Vec<Record>> = BTreeMap::new();
        for record in self.scripted.records() {
            let Some(id) = record.headers.get("x-simulate-id") else { continue };
            requests.entry(id.to_str().unwrap().to_owned()).or_default().push(record);
        }
        requests
    }
}

/// A server's URL without the version of its API.
fn root(server: &Server) -> &str {
    server.said().trim_end_matches("/v1")
}

fn other(upstream: Upstream) -> Option<Server> {
    match upstream {
        Upstream::Scripted | Upstream::Tls | Upstream::Tools => None,
        Upstream::Aimock => Some(Server::aimock()),
        Upstream::Llama => Some(Server::llama()),
    }
}

/// As a newcomer would write it, except that retries do not wait long.
fn configuration(folder: &Folder, scripted: &Simulator, over_tls: &Simulator) -> String {
    let url = scripted.url();
    let [certificate, key, ca] =
        ["server.pem", "server.key", "ca.pem"].map(|name| folder.path(&format!("certs/{name}")));
    let port = over_tls.addr().port();
    format!(
        r#"
        [[listener]]
        address = "127.0.0.2:0"
        [[listener]]
        address = "127.0.0.1:0"
        tls = {{ certificate = {certificate:?}, key = {key:?} }}
        [defaults]
        retry = {{ backoff = "20ms" }}
        breaker = "off"
        [upstream.openai]
        url = "{url}"
        key = {{ env = "UPSTREAM_KEY" }}
        [upstream.azure]
        url = "{url}"
        auth = {{ header = "api-key" }}
        key = {{ env = "UPSTREAM_KEY" }}
        [upstream.anthropic]
        url = "{url}"
        auth = {{ header = "x-api-key" }}
        key = {{ env = "UPSTREAM_KEY" }}
        [upstream.tls]
        url = "https://localhost:{port}"
        key = {{ env = "UPSTREAM_KEY" }}
        tls = {{ ca = {ca:?} }}
        [route.openai]
        path = "/v1"
        upstreams = ["openai"]
        [route.azure]
        path = "/openai"
        upstreams = ["azure"]
        [route.anthropic]
        path = "/anthropic"
        rewrite = "/"
        upstreams = ["anthropic"]
        [route.tls]
        path = "/tls"
        rewrite = "/"
        upstreams = ["tls"]
        [route.claude-code]
        path = "/claude-code"
        rewrite = "/through/claude-code"
        upstreams = ["anthropic"]
        [route.codex]
        path = "/codex"
        rewrite = "/through/codex"
        upstreams = ["openai"]
        [route.aider]
        path = "/aider"
        rewrite = "/through/aider"
        upstreams = ["openai"]
        [client.tester]
        key = "{}"
        "#,
        KeyHash::of(CLIENT_KEY.as_bytes()),
    )
}

/// A route to a server that takes any key.
fn route(name: &str, url: &str) -> String {
    format!(
        r#"
        [upstream.{name}]
        url = "{url}"
        key = {{ env = "UPSTREAM_KEY" }}
        [route.{name}]
        path = "/{name}"
        rewrite = "/"
        upstreams = ["{name}"]
        "#
    )
}
