//! Real ones read it: `promtool` and `prometheus`, of Debian's package `prometheus`.

use std::{
    io::Write,
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    time::Duration,
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::net::TcpStream;

use super::{MIX, Scrape, gateway, mix};
use crate::{
    folder::Folder,
    harness::{Client, Http, request, safely, simulator, whole},
};

const MISSING: &str = "prometheus and promtool are needed (Debian: apt-get install prometheus)";

#[tokio::test]
async fn promtool_finds_no_fault() {
    let upstream = simulator().await;
    let gateway = gateway(&upstream);
    mix(&upstream, &gateway).await;
    let scrape = Scrape::of(gateway.admin.unwrap(), "text/plain").await;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect(MISSING);
    promtool.stdin.take().unwrap().write_all(scrape.text.as_bytes()).unwrap();
    let said = promtool.wait_with_output().unwrap();
    let text = [said.stdout, said.stderr].concat();
    assert!(said.status.success() && text.is_empty(), "{}", String::from_utf8_lossy(&text));
}

/// Between two questions, so that they do not keep Prometheus from its work.
const BETWEEN: Duration = Duration::from_millis(50);

/// A Prometheus that scrapes one target; gone when dropped.
struct Prometheus {
    process: Child,
    address: SocketAddr,
    _folder: Folder,
}

impl Prometheus {
    fn scraping(target: SocketAddr) -> Self {
        let folder = Folder::new();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = folder.write(
            "prometheus.yml",
            &format!(
                "scrape_configs:\n- job_name: gateway\n  scrape_interval: 100ms\n  scrape_timeout: 100ms\n  \
                 static_configs: [{{targets: ['{target}']}}]\n"
            ),
        );
        let process = Command::new("prometheus")
            .arg(format!("--config.file={config}"))
            .arg(format!("--storage.tsdb.path={}", folder.path("data")))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect(MISSING);
        Self { process, address, _folder: folder }
    }

    /// The value of a query that gives one; asked until there is one.
    async fn value(&self, query: &str) -> String {
        let path = format!("/api/v1/query?query={}", utf8_percent_encode(query, NON_ALPHANUMERIC));
        safely(async {
            loop {
                tokio::time::sleep(BETWEEN).await;
                let Ok(stream) = TcpStream::connect(self.address).await else { continue };
                let io = hyper_util::rt::TokioIo::new(stream);
                let mut client = Client::over(io, Http::One, crate::harness::Small::No).await.unwrap();
                let asked = request(self.address, Http::One, "GET", &path).body(whole("")).unwrap();
                let answer = client.ask(asked).await;
                let found = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
                if let Some(value) = found["data"]["result"][0]["value"][1].as_str() {
                    return value.to_owned();
                }
            }
        })
        .await
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn a_real_prometheus_scrapes_it() {
    let upstream = simulator().await;
    let gateway = gateway(&upstream);
    mix(&upstream, &gateway).await;
    let prometheus = Prometheus::scraping(gateway.admin.unwrap());
    assert_eq!(prometheus.value("sum(sluicegate_requests_total)").await, MIX.to_string());
    assert_eq!(prometheus.value("up").await, "1");
    // It asks for OpenMetrics first, and knows the types from there.
    let p99 = "histogram_quantile(0.99,sum by(le)(sluicegate_request_duration_seconds_bucket))";
    assert!(prometheus.value(p99).await.parse::<f64>().unwrap() > 0.0);
}
