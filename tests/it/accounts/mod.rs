//! Requests with ids go to the account that knows them.

mod many;
mod provider;
mod rules;

use std::net::SocketAddr;

use serde_json::{Value, json};
use sluicegate::config::KeyHash;

use crate::{
    folder::Folder,
    harness::{Answer, Client, Gateway, GatewayToml, Http, request, whole},
};
use provider::Provider;

/// Two accounts, and the directory for what a gateway before them remembers.
pub struct Accounts {
    pub a: Provider,
    pub b: Provider,
    state: Folder,
}

/// The clients of the gateway: with several names, some have their account here and some there.
const CLIENTS: [&str; 6] = ["ann", "ben", "cid", "dan", "eva", "fay"];

/// Retries without waits.
const QUICK: &str = "retry = { retries = 3, backoff = \"1ms\", max_backoff = \"2ms\" }\nbreaker = \"off\"";

fn key_of(client: &str) -> String {
    format!("sk-sg-{client}-0123456789abcdefABCDEF")
}

impl Accounts {
    pub async fn start() -> Self {
        Self { a: Provider::start("a").await, b: Provider::start("b").await, state: Folder::new() }
    }

    pub fn state_file(&self) -> std::path::PathBuf {
        self.state.path("accounts.map").into()
    }

    /// A gateway.toml before one upstream with both as its targets.
    pub fn toml(&self) -> GatewayToml {
        let (a, b) = (self.a.url(), self.b.url());
        let targets = format!("{{ url = {a:?}, account = \"a\" }}, {{ url = {b:?}, account = \"b\" }}");
        let lines = format!("targets = [{targets}]\nkey = {{ env = \"UPSTREAM_KEY\" }}\n{QUICK}");
        self.usual().upstream_of("both", lines)
    }

    /// A gateway.toml before two upstreams, each with a key of its own.
    pub fn in_order(&self) -> GatewayToml {
        let second = format!("url = {:?}\nkey = {{ env = \"UPSTREAM_KEY_2\" }}\n{QUICK}", self.b.url());
        self.usual().upstream("a", &self.a.url(), QUICK).upstream_of("b", second)
    }

    fn usual(&self) -> GatewayToml {
        let state = self.state.path("");
        let mut toml = GatewayToml::new().server(format!("threads = 2\nstate_directory = {state:?}"));
        for client in CLIENTS {
            let hash = KeyHash::of(key_of(client).as_bytes());
            toml = toml.more(format!("[client.{client}]\nkey = \"{hash}\""));
        }
        toml
    }

    pub fn gateway(&self) -> Gateway {
        Gateway::start(&self.toml())
    }

    /// The account that has an id.
    pub fn owner(&self, id: &str) -> Option<char> {
        match (self.a.has(id), self.b.has(id)) {
            (true, false) => Some('a'),
            (false, true) => Some('b'),
            (false, false) => None,
            (true, true) => panic!("{id} is in both"),
        }
    }

    pub fn named(&self, name: char) -> &Provider {
        if name == 'a' { &self.a } else { &self.b }
    }

    pub fn other(&self, name: char) -> &Provider {
        if name == 'a' { &self.b } else { &self.a }
    }

    /// No request reached an account that does not know its id, except those that read.
    pub fn nothing_strayed(&self) {
        assert_eq!(self.a.state().strays, Vec::<String>::new());
        assert_eq!(self.b.state().strays, Vec::<String>::new());
    }

    pub fn looks(&self) -> usize {
        self.a.state().looks.len() + self.b.state().looks.len()
    }
}

/// A client on a connection of its own.
pub struct Caller {
    client: Client,
    address: SocketAddr,
    name: &'static str,
}

impl Caller {
    pub async fn connect(gateway: &Gateway, name: &'static str) -> Self {
        let address = gateway.address();
        Self { client: Client::connect(address, Http::One).await, address, name }
    }

    pub async fn send(&mut self, method: &str, path: &str, body: &Value) -> Answer {
        let request = request(self.address, Http::One, method, &format!("/v1/{path}"))
            .header("authorization", format!("Bearer {}", key_of(self.name)));
        let request = if body.is_null() {
            request.body(whole("")).unwrap()
        } else {
            request.header("content-type", "application/json").body(whole(body.to_string())).unwrap()
        };
        self.client.ask(request).await
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, &Value::Null).await
    }

    pub async fn post(&mut self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, body).await
    }

    /// Makes something; its id.
    pub async fn make(&mut self, path: &str, body: &Value) -> String {
        let answer = self.post(path, body).await;
        assert!(answer.status.is_success(), "POST {path} {body}: {answer:?}");
        id_of(&answer)
    }

    /// The account of the client in the route.
    pub async fn home(&mut self, accounts: &Accounts) -> char {
        let id = self.make("conversations", &json!({})).await;
        accounts.owner(&id).unwrap()
    }
}

/// The id of what was made: in a document, or in the first event.
fn id_of(answer: &Answer) -> String {
    let text = answer.text();
    if let Some(first) = text.lines().find_map(|line| line.strip_prefix("data: ")) {
        let event: Value = serde_json::from_str(first).unwrap();
        return event["response"]["id"].as_str().unwrap().to_owned();
    }
    let document: Value = serde_json::from_str(text).unwrap();
    document["id"].as_str().unwrap().to_owned()
}

fn code_of(answer: &Answer) -> String {
    let document: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    document["error"]["code"].as_str().unwrap_or_default().to_owned()
}
