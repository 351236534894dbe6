//! The binary, with a directory of clients' files.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, path::PathBuf};

use http::{Request, StatusCode};
use serde_json::Value;
use sluicegate::{
    config::KeyHash,
    simulator::{Gate, Head, Script, Simulator, Step},
};

use crate::{
    cli::process::{Done, Running, sluicegate},
    folder::Folder,
    harness::{Answer, CHAT, GatewayToml, Http, Sent, request, safely, send, simulator, whole},
    metrics::scrape::Scrape,
};

pub const EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n";

/// Files, without a gateway.
pub struct Files {
    pub folder: Folder,
    pub upstream: Simulator,
}

/// A gateway that follows them.
pub struct Serving {
    pub process: Running,
    pub address: SocketAddr,
    pub admin: SocketAddr,
}

impl Files {
    /// A gateway.toml with `[client_files]` and these lines more, and the directory.
    pub async fn new(more: &str) -> Self {
        let files = Self { folder: Folder::new(), upstream: simulator().await };
        fs::create_dir(files.folder.path("clients.d")).unwrap();
        files.configure(more);
        files
    }

    /// Writes gateway.toml.
    pub fn configure(&self, more: &str) {
        let toml = GatewayToml::before(&self.upstream.url(), "").admin();
        let toml = toml.more(format!("[client_files]\ndirectory = \"clients.d\"\n{more}"));
        fs::write(self.folder.path("new.toml"), toml.to_string()).unwrap();
        fs::rename(self.folder.path("new.toml"), self.folder.path("gateway.toml")).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path(&format!("clients.d/{name}")).into()
    }

    /// Writes a file that appears as a whole, with the mode that files of clients have.
    pub fn write(&self, name: &str, text: &str) {
        let temporary = self.path(".temporary");
        fs::write(&temporary, text).unwrap();
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o640)).unwrap();
        fs::rename(&temporary, self.path(name)).unwrap();
    }

    /// Writes the file of a client with a key.
    pub fn client(&self, name: &str, key: &str, lines: &str) {
        self.write(&format!("{name}.toml"), &format!("key = \"{}\"\n{lines}", KeyHash::of(key.as_bytes())));
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    pub fn serve(&self) -> Serving {
        let mut process = Running::start(&["serve", "--config", &self.folder.path("gateway.toml")]);
        let (listeners, admin) = process.addresses();
        Serving { process, address: listeners[0], admin: admin.unwrap() }
    }

    /// `sluicegate key new --write` with these arguments.
    pub fn issue(&self, arguments: &[&str]) -> Done {
        let config = self.folder.path("gateway.toml");
        sluicegate(&[&["key", "new", "--write", "--config", &config], arguments].concat())
    }

    pub fn check(&self) -> Done {
        sluicegate(&["check", "--config", &self.folder.path("gateway.toml")])
    }

    /// A stream that waits at the gate behind its first event.
    pub fn waiting(&self) -> Gate {
        let gate = Gate::new();
        self.upstream.queue(Script::new(vec![
            Step::Head(Head::event_stream()),
            Step::Send(EVENT.into()),
            Step::Gate(gate.clone()),
            Step::Send("data: [DONE]\n\n".into()),
        ]));
        gate
    }
}

impl Serving {
    /// A chat request with this key.
    pub fn request(&self, key: &str) -> Request<Sent> {
        let request = request(self.address, Http::One, "POST", "/v1/chat/completions");
        let request = request.header("authorization", format!("Bearer {key}"));
        request.header("content-type", "application/json").body(whole(CHAT)).unwrap()
    }

    pub async fn ask(&self, key: &str) -> Answer {
        send(self.address, Http::One, self.request(key)).await
    }

    pub async fn admits(&self, key: &str) -> bool {
        let answer = self.ask(key).await;
        assert!([StatusCode::OK, StatusCode::UNAUTHORIZED].contains(&answer.status), "{answer:?}");
        answer.status == StatusCode::OK
    }

    /// Waits until changed files have been read and are in effect.
    pub fn files_read(&mut self) {
        self.process.line(|line| line.contains("\"message\":\"client files read\""));
    }

    /// Waits for the line about a file that is not used.
    pub fn complaint(&mut self, about: &str) -> String {
        self.process.line(|line| line.contains("client file not used") && line.contains(about))
    }

    pub async fn status(&self) -> Value {
        let status = request(self.admin, Http::One, "GET", "/status").body(whole("")).unwrap();
        send(self.admin, Http::One, status).await.json()
    }

    /// Asks for the status until it is as wanted.
    pub async fn status_when(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        safely(async {
            loop {
                let status = self.status().await;
                if wanted(&status) {
                    return status;
                }
            }
        })
        .await
    }

    pub async fn metric(&self, name: &str, label: &str) -> f64 {
        Scrape::of(self.admin, "").await.sum(name, &[label])
    }
}

/// The key that `key new` has printed.
pub fn key_of(done: &Done) -> String {
    let line = done
        .out
        .lines()
        .find(|line| line.contains("sk-sg-"))
        .unwrap_or_else(|| panic!("{}{}", done.out, done.err));
    line.trim_start_matches(['#', ' ']).to_owned()
}
