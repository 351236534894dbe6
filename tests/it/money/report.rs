//! What operators see of limits: `/limits`, `/status`, `/metrics` and `sluicegate limits`.

use http::StatusCode;
use serde_json::Value;
use sluicegate::{
    config::KeyHash,
    simulator::{Gate, Head, Script, Simulator, Step},
};

use crate::{
    cli::{
        health::free,
        process::{BINARY, Done, Running, command, sluicegate as run_sluicegate},
    },
    folder::Folder,
    harness::{
        Answer, CLIENT_KEY, Client, Gateway, GatewayToml, Http, UPSTREAM_KEY, chat, request, safely,
        simulator, whole,
    },
};

const TOKEN: &str = "a-token-of-the-operator";

const LIMITS: &str = r#"
[limit.fair-use]
requests = 10
per = "day"
timezone = "Europe/Berlin"
concurrent = 4
[limit.team]
each = "group"
cost = "1"
per = "1h"
[limit.trial]
each = "gateway"
requests = 1
per = "month"
enforce = false
[limit.unused]
each = "route"
tokens = 1000
per = "1m"
[group.research]
limits = ["team"]
[pricing]
currency = "EUR"
[pricing.model."gpt-4o-mini"]
input = "1"
output = "10"
"#;

fn toml(upstream: &Simulator) -> GatewayToml {
    GatewayToml::before(&upstream.url(), "")
        .defaults("limits = [\"fair-use\", \"trial\"]")
        .client("group = \"research\"")
        .more(LIMITS)
}

/// A completion that costs 0.0005.
fn completion() -> Script {
    let body = r#"{"object":"chat.completion","model":"gpt-4o-mini","choices":[],"usage":{"prompt_tokens":100,"completion_tokens":40,"total_tokens":140}}"#;
    Script::new(vec![Step::Head(Head::json(StatusCode::OK, body.len())), Step::Send(body.into())])
}

async fn page(gateway: &Gateway, path: &str) -> Answer {
    let admin = gateway.admin.unwrap();
    let mut client = Client::connect(admin, Http::One).await;
    client.ask(request(admin, Http::One, "GET", path).body(whole("")).unwrap()).await
}

fn limit<'v>(limits: &'v Value, name: &str) -> &'v Value {
    let all = limits.as_array().unwrap_or_else(|| panic!("{limits}"));
    all.iter().find(|limit| limit["name"] == name).unwrap_or_else(|| panic!("no {name} in {limits}"))
}

fn metrics_have(metrics: &str) {
    for line in [
        r#"sluicegate_limit_saturation_ratio{limit="fair-use",unit="requests"} 0.3"#,
        r#"sluicegate_limit_saturation_ratio{limit="fair-use",unit="concurrent"} 0.25"#,
        r#"sluicegate_limit_saturation_ratio{limit="unused",unit="tokens"} 0"#,
        r#"sluicegate_limit_decisions_total{limit="fair-use",decision="admitted"} 3"#,
        r#"sluicegate_limit_decisions_total{limit="trial",decision="admitted"} 1"#,
        r#"sluicegate_limit_decisions_total{limit="trial",decision="would_refuse"} 2"#,
        r#"sluicegate_cost_total{caller="tester",route="main",upstream="sim",currency="EUR",usage="reported"} 0.001"#,
    ] {
        assert!(metrics.lines().any(|shown| shown == line), "{line}\n{}", metrics);
    }
}

#[tokio::test]
async fn limits_say_what_is_used_and_by_whom() {
    let upstream = simulator().await;
    let gateway = Gateway::start(&toml(&upstream).admin());
    for _ in 0..2 {
        upstream.queue(completion());
        assert_eq!(chat(gateway.address(), Http::One).await.status, StatusCode::OK);
    }
    gateway.finished(2).await;
    // A third one is still in flight.
    let gate = Gate::new();
    upstream.queue(Script::new(vec![Step::Gate(gate.clone()), Step::Head(Head::event_stream())]));
    let address = gateway.address();
    let third = tokio::spawn(async move { chat(address, Http::One).await });
    safely(upstream.wait_for(|records| (records.len() == 3).then_some(()))).await;

    let shown = page(&gateway, "/limits").await.json();
    let fair_use = limit(&shown["limits"], "fair-use");
    assert_eq!((&fair_use["each"], &fair_use["enforce"]), (&"client".into(), &true.into()));
    assert_eq!(
        fair_use["units"],
        serde_json::json!({
            "requests": { "quantity": 10, "per": "day", "timezone": "Europe/Berlin" },
            "concurrent": { "quantity": 4 },
        })
    );
    let subject = &fair_use["subjects"][0];
    assert_eq!((&subject["name"], &subject["saturation"]), (&"tester".into(), &0.3.into()), "{subject}");
    assert_eq!(
        (&subject["units"]["requests"]["used"], &subject["units"]["requests"]["remaining"]),
        (&3.into(), &7.into())
    );
    assert_eq!(subject["units"]["concurrent"], serde_json::json!({ "used": 1, "remaining": 3 }));
    let team = limit(&shown["limits"], "team");
    let units = &team["units"]["cost"];
    assert_eq!(
        (&units["quantity"], &units["burst"], &units["per"], &units["currency"]),
        (&"1".into(), &"0.1".into(), &"1h".into(), &"EUR".into())
    );
    assert_eq!(team["subjects"][0]["name"], "research");
    let trial = limit(&shown["limits"], "trial");
    assert_eq!((&trial["enforce"], &trial["subjects"][0]["name"]), (&false.into(), &Value::Null));
    assert_eq!(limit(&shown["limits"], "unused")["subjects"], serde_json::json!([]));

    // `/status` has the same, and one client's are those that its requests count as.
    let status = page(&gateway, "/status").await.json();
    assert_eq!(limit(&status["limits"], "fair-use")["subjects"][0]["name"], "tester");
    let own = page(&gateway, "/limits?client=tester").await.json();
    let names: Vec<&str> =
        own["limits"].as_array().unwrap().iter().filter_map(|limit| limit["name"].as_str()).collect();
    assert_eq!(names, ["fair-use", "team", "trial"]);
    assert_eq!(page(&gateway, "/limits?client=nobody").await.status, StatusCode::NOT_FOUND);

    metrics_have(page(&gateway, "/metrics").await.text());
    gate.open();
    third.await.unwrap();
    gateway.finish(3).await;
}

#[tokio::test]
async fn limits_agree_with_the_headers_of_a_response() {
    let upstream = simulator().await;
    let hourly = "[limit.hourly]\neach = \"client\"\nrequests = 10\nper = \"1h\"\nburst = \"30m\"";
    let gateway = Gateway::start(
        &GatewayToml::before(&upstream.url(), "").defaults("limits = [\"hourly\"]").more(hourly).admin(),
    );
    for taken in 1..=3 {
        upstream.queue(completion());
        let answer = chat(gateway.address(), Http::One).await;
        gateway.finished(taken).await;
        let remaining: usize =
            answer.headers["x-ratelimit-remaining-requests"].to_str().unwrap().parse().unwrap();
        assert_eq!(remaining, 5 - taken);
        let shown = page(&gateway, "/limits").await.json();
        let requests = &limit(&shown["limits"], "hourly")["subjects"][0]["units"]["requests"];
        assert_eq!(
            (&requests["used"], &requests["remaining"]),
            (&taken.into(), &remaining.into()),
            "{shown}"
        );
    }
    gateway.finish(3).await;
}

#[tokio::test]
async fn the_command_prints_what_the_admin_listener_says() {
    let upstream = simulator().await;
    let (folder, admin) = (Folder::new(), free());
    let text = toml(&upstream).to_string();
    let text = text.replace("$CLIENT_HASH", &KeyHash::of(CLIENT_KEY.as_bytes()).to_string());
    let file = folder.write(
        "gateway.toml",
        &format!("{text}\n[admin]\naddress = {admin:?}\ntoken = {{ env = \"TOKEN_OF_ADMIN\" }}\n"),
    );
    let mut start = command(BINARY);
    let mut gateway = Running::of(
        start.args(["--config", &file]).env("UPSTREAM_KEY", UPSTREAM_KEY).env("TOKEN_OF_ADMIN", TOKEN),
    );
    let address = gateway.address();
    let sluicegate = |arguments: &[&str]| -> Done {
        command(BINARY).args(arguments).env("SLUICEGATE_ADMIN_TOKEN", TOKEN).output().unwrap().into()
    };
    let nothing = sluicegate(&["limits", "--config", &file]);
    assert_eq!((nothing.code, &*nothing.err), (Some(0), ""));
    assert!(nothing.out.contains("fair-use"), "{}", nothing.out);
    upstream.queue(completion());
    assert_eq!(chat(address, Http::One).await.status, StatusCode::OK);
    gateway.line(|line| line.contains("\"cost\":\"0.0005\""));

    let done = sluicegate(&["limits", "--config", &file]);
    assert_eq!((done.code, &*done.err), (Some(0), ""));
    let words: Vec<Vec<&str>> = done.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["LIMIT", "EACH", "SUBJECT", "UNIT", "USED", "OF", "FULL", "IN"]);
    assert!(
        words.iter().any(
            |row| row.starts_with(&["fair-use", "client", "tester", "requests", "1", "10", "per", "day"])
        ),
        "{}",
        done.out
    );
    let team = words.iter().find(|row| row.starts_with(&["team", "group", "research", "cost"]));
    assert!(team.is_some_and(|row| row.contains(&"EUR")), "{}", done.out);
    let json = sluicegate(&["limits", "tester", "--config", &file, "--json"]);
    let shown: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(shown["limits"].as_array().map(Vec::len), Some(3), "{}", json.out);

    for (arguments, error) in [
        (&["limits", "nobody", "--config", &*file][..], "no client has this name"),
        (&["limits", "a/b", "--config", &file], "a client's name has letters"),
    ] {
        let refused = sluicegate(arguments);
        assert_eq!((refused.code, &*refused.out), (Some(1), ""));
        assert!(refused.err.contains(error), "{}", refused.err);
    }
    let stranger = run_sluicegate(&["limits", "--admin", &admin]);
    assert_eq!(stranger.code, Some(1));
    assert!(stranger.err.contains("requires its token: set SLUICEGATE_ADMIN_TOKEN"), "{}", stranger.err);
    gateway.terminate();
    gateway.ended();
    let gone = sluicegate(&["limits", "--config", &file]);
    assert_eq!(gone.code, Some(1));
    assert!(gone.err.contains(&format!("admin listener {admin} does not answer")), "{}", gone.err);
}
