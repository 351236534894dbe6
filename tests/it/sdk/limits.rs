//! The official SDK before the gateway's own limits: it waits exactly as long as it is told, and gives up at once where waiting helps nobody.

use std::{fmt::Write as _, fs, path::Path};

use serde_json::Value;

use super::{
    bench::{certificates, introduce},
    packages,
};
use crate::{
    folder::Folder,
    harness::{CLIENT_KEY, Gateway, simulator},
};

/// The SDK would try twice more within 1.5 s if it did not heed `retry-after-ms`.
const RATE: &str = "requests = 1\nper = \"3s\"\nburst = { requests = 1 }";

/// One request uses more than that.
const BUDGET: &str = "cost = \"0.000001\"\nper = \"month\"";

#[tokio::test]
async fn openais_sdk_waits_for_a_rate_and_gives_up_on_a_budget() {
    let upstream = simulator().await;
    let folder = Folder::new();
    certificates(Path::new(&folder.path("")));
    let gateway = Gateway::start(&configuration(&folder, &upstream.url()));
    let mut script = packages::python("limits.py");
    introduce(&mut script, Path::new(&folder.path("")), &gateway.address().to_string());
    let report = folder.path("report.json");
    script.env("REPORT", &report).env("KEY_ALL", CLIENT_KEY).env("SIMULATOR_URL", "");
    let output = tokio::task::spawn_blocking(move || script.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
    let came: Value = serde_json::from_str(&fs::read_to_string(report).unwrap()).unwrap();
    for kind in ["sync", "async"] {
        assert_eq!(came[kind]["rate"], serde_json::json!([null, null]), "both are answered: {came}");
        assert_eq!(statuses(&gateway, "rate", kind), [200, 429, 200], "one retry, at the right time");
        let budget = &came[kind]["budget"];
        assert_eq!(budget[0], Value::Null, "{came}");
        let told = |name: &str| budget[1][name].as_str().unwrap_or_default().to_owned();
        assert_eq!(
            (told("class"), told("code")),
            ("RateLimitError".into(), "insufficient_quota".into()),
            "{came}"
        );
        assert_eq!(told("should_retry"), "false");
        assert_eq!(statuses(&gateway, "budget", kind), [200, 429], "no retry");
    }
    gateway.finish(10).await;
}

/// The statuses of the requests of one case, in their order.
fn statuses(gateway: &Gateway, limit: &str, kind: &str) -> Vec<u64> {
    let route = format!("{limit}-{kind}");
    let lines = gateway.log.access();
    let of_it = lines.iter().filter(|line| line["route"] == route.as_str());
    of_it.map(|line| line["status"].as_u64().unwrap()).collect()
}

fn configuration(folder: &Folder, upstream: &str) -> String {
    let [certificate, key] = ["server.pem", "server.key"].map(|name| folder.path(&format!("certs/{name}")));
    let mut toml = format!(
        r#"
        [[listener]]
        address = "127.0.0.1:0"
        tls = {{ certificate = {certificate:?}, key = {key:?} }}
        [upstream.sim]
        url = "{upstream}"
        key = {{ env = "UPSTREAM_KEY" }}
        [client.tester]
        key = "$CLIENT_HASH"
        [pricing]
        currency = "USD"
        [pricing.model."*"]
        input = "1"
        output = "1"
        "#
    );
    for (limit, lines) in [("rate", RATE), ("budget", BUDGET)] {
        for kind in ["sync", "async"] {
            let name = format!("{limit}-{kind}");
            write!(
                toml,
                "\n[limit.{name}]\n{lines}\n[route.{name}]\npath = \"/{name}\"\nrewrite = \"/x\"\nupstreams = [\"sim\"]\nlimits = [\"{name}\"]\n"
            )
            .unwrap();
        }
    }
    toml
}
