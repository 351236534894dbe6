//! A Prometheus (Debian's) with the shipped rules, and questions to it.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    time::Duration,
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::net::TcpStream;

use super::rules::{self, Alert, arms};
use crate::{
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
            folder.write(file, &at_once(&rules::read(file)));
        }
        folder.write("arms.yaml", &arms_as_alerts());
        let targets: Vec<_> = targets.iter().map(|target| format!("'{target}'")).collect();
        let config = folder.write(
            "prometheus.yml",
            &format!(
                "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\nrule_files: [alerts.yaml, arms.yaml, rules.yaml]\n\
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

    /// The alerts that fire, and those of their arms that do, as [`alarm`] names them.
    pub async fn firing(&self) -> BTreeSet<String> {
        let answer = self.ask("/api/v1/alerts").await;
        let alerts = answer["data"]["alerts"].as_array().cloned().unwrap_or_default();
        let name = |alert: &Value| {
            let label = |name: &str| alert["labels"][name].as_str().unwrap_or_default().to_owned();
            alarm(&label("alertname"), &label("severity"), &label("arm"))
        };
        alerts.iter().filter(|alert| alert["state"] == "firing").map(name).collect()
    }

    /// The number of series in which an expression gives a number; NaN is none. Panics if Prometheus rejects it.
    pub async fn count(&self, expression: &str) -> usize {
        let path = format!("/api/v1/query?query={}", utf8_percent_encode(expression, NON_ALPHANUMERIC));
        let answer = self.ask(&path).await;
        assert_ne!(answer["status"], "error", "{expression}: {answer}");
        let result = answer["data"]["result"].as_array().cloned().unwrap_or_default();
        result.iter().filter(|series| series["value"][1].as_str().is_some_and(|value| value != "NaN")).count()
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

/// How an alert is named that fires with this severity, or one arm of its expression does.
pub fn alarm(name: &str, severity: &str, arm: &str) -> String {
    let arm = if arm.is_empty() { String::new() } else { format!(", arm {arm}") };
    format!("{name} ({severity}){arm}")
}

/// All that has to fire: each alert with each of its severities, and each arm of its expression.
pub fn alarms() -> BTreeSet<String> {
    let names = rules::alerts().into_iter().flat_map(|alert| {
        let own = alarm(&alert.name, &alert.severity, "");
        let of_arms = (1..=arms(&alert.expression).len())
            .map(|arm| alarm(&alert.name, &alert.severity, &arm.to_string()))
            .collect::<Vec<_>>();
        [own].into_iter().chain(of_arms)
    });
    names.collect()
}

/// Rules in which each arm of an alert's expression is an alert with the label `arm`.
fn arms_as_alerts() -> String {
    let mut text = "groups:\n- name: arms\n  rules:\n".to_owned();
    for Alert { name, severity, expression } in rules::alerts() {
        for (index, arm) in arms(&expression).iter().enumerate() {
            let number = index + 1;
            let _ = writeln!(
                text,
                "  - alert: {name}\n    expr: |\n      {arm}\n    labels: {{ severity: {severity}, arm: \"{number}\" }}"
            );
        }
    }
    text
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
