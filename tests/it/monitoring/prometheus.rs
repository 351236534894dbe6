//! A Prometheus (Debian's) with the shipped rules, and questions to it.

use std::{
    collections::BTreeSet,
    fs,
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    time::Duration,
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::net::TcpStream;

use crate::{
    docs::page::root,
    folder::Folder,
    harness::{Client, Http, Small, request, whole},
};

const MISSING: &str = "prometheus is needed (Debian: apt-get install prometheus; tests/setup installs it)";

/// A Prometheus that scrapes these targets as the job `sluicegate`; stopped when dropped.
pub struct Prometheus {
    process: Child,
    pub address: SocketAddr,
    _folder: Folder,
}

impl Prometheus {
    pub fn start(targets: &[SocketAddr]) -> Self {
        let folder = Folder::new();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for file in ["alerts.yaml", "rules.yaml"] {
            let rules = fs::read_to_string(root().join("deploy/prometheus").join(file)).unwrap();
            folder.write(file, &at_once(&rules));
        }
        let targets: Vec<_> = targets.iter().map(|target| format!("'{target}'")).collect();
        let config = folder.write(
            "prometheus.yml",
            &format!(
                "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\nrule_files: [alerts.yaml, rules.yaml]\n\
                 scrape_configs:\n- job_name: sluicegate\n  static_configs: [{{ targets: [{}] }}]\n",
                targets.join(", ")
            ),
        );
        let process = Command::new("prometheus")
            .arg(format!("--config.file={config}"))
            .arg(format!("--storage.tsdb.path={}", folder.path("data")))
            .arg(format!("--web.listen-address={address}"))
            .arg("--enable-feature=exemplar-storage")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect(MISSING);
        Self { process, address, _folder: folder }
    }

    /// The names of the alerts that fire.
    pub async fn firing(&self) -> BTreeSet<String> {
        let answer = self.ask("/api/v1/alerts").await;
        let alerts = answer["data"]["alerts"].as_array().cloned().unwrap_or_default();
        let fires = |alert: &&Value| alert["state"] == "firing";
        let name = |alert: &Value| alert["labels"]["alertname"].as_str().unwrap_or_default().to_owned();
        alerts.iter().filter(fires).map(name).collect()
    }

    /// The number of series or samples that an expression gives. Panics if Prometheus rejects it.
    pub async fn count(&self, expression: &str) -> usize {
        let path = format!("/api/v1/query?query={}", utf8_percent_encode(expression, NON_ALPHANUMERIC));
        let answer = self.ask(&path).await;
        assert_ne!(answer["status"], "error", "{expression}: {answer}");
        answer["data"]["result"].as_array().map_or(0, Vec::len)
    }

    /// Asks the API; null as long as it does not answer.
    async fn ask(&self, path: &str) -> Value {
        let Ok(stream) = TcpStream::connect(self.address).await else { return Value::Null };
        let io = hyper_util::rt::TokioIo::new(stream);
        let Ok(mut client) = Client::over(io, Http::One, Small::No).await else { return Value::Null };
        let asked = request(self.address, Http::One, "GET", path).body(whole("")).unwrap();
        let answer = client.ask(asked).await;
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The rules without the time for which an alert must hold.
fn at_once(rules: &str) -> String {
    let lines = rules.lines().map(|line| match line.find("for: ") {
        Some(at) if line.trim_start().starts_with("for: ") => format!("{}for: 0s", &line[..at]),
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Between two questions, so that they do not keep Prometheus from its work.
pub const BETWEEN: Duration = Duration::from_millis(500);
