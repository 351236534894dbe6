//! Gateways as processes of their own: what they log and measure.

use std::net::SocketAddr;

use http::StatusCode;
use sluicegate::simulator::Simulator;

use super::toml;
use crate::{
    cli::process::{BINARY, Running, command, listening},
    folder::Folder,
    harness::{Http, chat, request, safely, send, whole},
};

/// A gateway with an admin listener.
pub struct Process {
    running: Running,
    pub address: SocketAddr,
    admin: SocketAddr,
    /// Lines of the log that have been read.
    seen: Vec<String>,
    _folder: Folder,
}

/// What a gateway measures of its store.
#[derive(Debug)]
pub struct Measured(String);

impl Process {
    /// Starts a gateway with one limit on its one client, counted in these servers. Does not wait for them.
    pub fn start(upstream: &Simulator, servers: &str, limit: &str) -> Self {
        Self::start_with(upstream, servers, limit, &[])
    }

    /// The same with variables in its environment.
    pub fn start_with(upstream: &Simulator, servers: &str, limit: &str, variables: &[(&str, &str)]) -> Self {
        let folder = Folder::new();
        let text = toml(upstream, servers, limit).admin().to_string();
        let file = folder.write("gateway.toml", &text);
        let mut command = command(BINARY);
        command.args(["serve", "--config", &file]).envs(variables.iter().copied());
        let mut running = Running::of(&mut command);
        let mut seen = Vec::new();
        let serving = running.line(|line| {
            seen.push(line.to_owned());
            line.contains("\"message\":\"serving\"")
        });
        let (addresses, admin) = listening(&serving);
        Self { running, address: addresses[0], admin: admin.unwrap(), seen, _folder: folder }
    }

    /// Waits for a line of the log.
    pub fn line(&mut self, text: &str) {
        if !self.seen.iter().any(|line| line.contains(text)) {
            let seen = &mut self.seen;
            self.running.line(|line| {
                seen.push(line.to_owned());
                line.contains(text)
            });
        }
    }

    /// Lines of the log that were waited for, and those before them.
    pub fn seen(&self) -> &[String] {
        &self.seen
    }

    /// Changes that have been waited for, and those before them.
    pub fn changes_seen(&self) -> usize {
        self.seen.iter().filter(|line| is_change(line)).count()
    }

    /// Sends so many requests at once, and asserts that none fails.
    pub async fn all_succeed(&self, requests: usize) {
        assert_eq!(self.admitted(requests).await, requests);
    }

    /// Sends so many requests at once. Returns how many were admitted; the others were refused by the limit.
    pub async fn admitted(&self, requests: usize) -> usize {
        let address = self.address;
        let sent: Vec<_> =
            (0..requests).map(|_| tokio::spawn(async move { chat(address, Http::One).await })).collect();
        let mut answers = Vec::new();
        for answer in sent {
            answers.push(answer.await.unwrap());
        }
        super::admitted(&answers)
    }

    /// The body of a page of the admin listener.
    pub async fn page(&self, path: &str) -> String {
        let asked = request(self.admin, Http::One, "GET", path).body(whole("")).unwrap();
        let answer = send(self.admin, Http::One, asked).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        answer.text().to_owned()
    }

    pub async fn measured(&self) -> Measured {
        Measured(self.page("/metrics").await)
    }

    /// Waits until limits are shared, or are not.
    pub async fn is_shared(&self, wanted: bool) {
        safely(async {
            while self.measured().await.is_away() == wanted {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    pub fn signal(&self, name: &str) {
        self.running.signal(name);
    }

    /// Stops the gateway in order. Returns the lines of its log about Redis: one for each change.
    pub fn changes(self) -> Vec<String> {
        self.log().into_iter().filter(|line| is_change(line)).collect()
    }

    /// Stops the gateway in order. Returns its log.
    fn log(mut self) -> Vec<String> {
        self.running.terminate();
        let (code, rest) = self.running.ended();
        assert_eq!(code, Some(0), "{rest:#?}");
        self.seen.extend(rest);
        std::mem::take(&mut self.seen)
    }
}

fn is_change(line: &str) -> bool {
    line.contains("Redis available") || line.contains("Redis unavailable")
}

impl Measured {
    /// The value of a sample of the store's metrics.
    pub fn value(&self, sample: &str) -> f64 {
        let name = format!("sluicegate_store_{sample} ");
        let value = self.0.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok());
        value.unwrap_or_else(|| panic!("{name}: {}", self.0))
    }

    pub fn is_away(&self) -> bool {
        self.value("circuit_open") == 1.0
    }

    /// Admissions that have waited for the store.
    pub fn waits(&self) -> f64 {
        self.value("duration_seconds_count")
    }
}
