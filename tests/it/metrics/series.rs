//! How many series there can be, whatever clients send. The formula is that of `docs/metrics.md`.

use std::{fs, net::SocketAddr, time::Duration};

use sluicegate::telemetry::metrics::{
    measures::MAX_ERRORS,
    models::{MAX_COMBINATIONS, MAX_MODELS},
    sdk::Sdk,
};

use super::Scrape;
use crate::{
    docs::page::root,
    harness::{
        Client, Gateway, GatewayToml, Http, Keys, all_of, authorised, request, safely, send, simulator, whole,
    },
};

/// What a configuration has of each; the numbers of series follow from them.
#[derive(Clone, Copy)]
struct Sizes {
    routes: usize,
    upstreams: usize,
    targets: usize,
    keys: usize,
    clients: usize,
    limits: usize,
    workers: usize,
    certificates: usize,
}

/// Error codes, and results of attempts, of which there are fewer.
const CODES: usize = 80;

impl Sizes {
    /// The rows of the table in `docs/metrics.md`: what a row is about, and the most series of it.
    fn rows(self) -> [(&'static str, usize); 9] {
        let Self { routes, upstreams, targets, keys, clients, limits, workers, certificates } = self;
        // What has no name of its own is counted as `_other`.
        let (r, u, c) = (routes + 1, upstreams + 1, clients + 1);
        let (models, combinations) = (MAX_MODELS + 1, MAX_COMBINATIONS + 1);
        [
            ("route", r * (131 + 2 * 21 + 2 * CODES)),
            ("route and upstream", r * u * (2 * 6 * 3 * 7 + 2 + u)),
            ("client", c * 5 + c * r * u * 7),
            ("model", models * (7 + u * 12)),
            ("combination", combinations * (20 * (MAX_ERRORS + 2) + 24 + 19)),
            ("SDK", Sdk::variety()),
            ("upstream, target, key", u * (21 + 10 + 21 + 6) + targets * (8 + CODES) + keys * 9),
            ("limit", limits * (3 + 21 + 6 + 3 + 7)),
            ("process, worker, certificate", 80 + 3 * workers + certificates),
        ]
    }

    fn most(self) -> usize {
        self.rows().iter().map(|(_, most)| most).sum()
    }
}

#[test]
fn the_page_has_the_formula_and_its_worst_case() {
    let page = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let example = Sizes {
        routes: 10,
        upstreams: 5,
        targets: 10,
        keys: 10,
        clients: 100,
        limits: 10,
        workers: 8,
        certificates: 4,
    };
    for (about, most) in example.rows() {
        let number = thousands(most);
        let is_row = |line: &str| {
            line.starts_with(&format!("| {about} |")) && line.ends_with(&format!("| {number} |"))
        };
        assert!(page.lines().any(is_row), "docs/metrics.md has no row for {about} that ends with {number}");
    }
    let most = thousands(example.most());
    assert!(page.contains(&format!("**{most}**")), "docs/metrics.md does not say that the sum is {most}");
}

fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Requests with a model, a path, a client key and a `user-agent` that nobody has sent before.
const JUNK: usize = 10_000;

/// Connections on which they are sent.
const CONNECTIONS: usize = 20;

async fn send_junk(address: SocketAddr) {
    all_of(0..CONNECTIONS, CONNECTIONS, move |connection| async move {
        let mut client = Client::connect(address, Http::One).await;
        for number in (0..JUNK).filter(|number| number % CONNECTIONS == connection) {
            let asked = match number % 4 {
                // The simulator answers for any model; it has none that begins with `missing-`.
                0 | 1 => {
                    let missing = if number % 4 == 0 { "missing-" } else { "" };
                    let body = format!(r#"{{"model":"{missing}m-{number}","messages":[]}}"#);
                    authorised(address, Http::One, "POST", "/v1/chat/completions")
                        .header("content-type", "application/json")
                        .body(whole(body))
                }
                2 => authorised(address, Http::One, "GET", &format!("/v1/junk/{number}")).body(whole("")),
                _ => request(address, Http::One, "GET", &format!("/{number}"))
                    .header("authorization", format!("Bearer sk-junk-{number}"))
                    .body(whole("")),
            };
            let mut asked = asked.unwrap();
            let agent = format!("junk-{number}/{number}").parse().unwrap();
            asked.headers_mut().insert("user-agent", agent);
            client.ask(asked).await;
        }
    })
    .await;
}

#[tokio::test]
async fn ten_thousand_junk_models_paths_and_clients_stay_within_the_bound() {
    let upstream = simulator().await;
    let more = "[admin]\naddress = \"127.0.0.1:0\"\n[model.kept]\nupstreams = [\"sim\"]\n\
                [pricing]\ncurrency = \"EUR\"\n[pricing.model.\"*\"]\ninput = \"1\"\noutput = \"1\"";
    let gateway = Gateway::with(&upstream, Http::One, Keys { more, ..Keys::default() });
    let address = gateway.address();
    send_junk(address).await;
    // A response may be here before its exchange has ended.
    safely(async {
        while gateway.counts().exchanges.values().sum::<u64>() < JUNK as u64 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    // The model that the configuration names comes last, and has its place.
    let asked = authorised(address, Http::One, "POST", "/v1/chat/completions")
        .header("content-type", "application/json")
        .body(whole(r#"{"model":"kept","messages":[]}"#));
    send(address, Http::One, asked.unwrap()).await;
    safely(async {
        while gateway.counts().exchanges.values().sum::<u64>() <= JUNK as u64 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let scrape = Scrape::of(gateway.admin.unwrap(), "").await;
    assert_eq!(scrape.sum("sluicegate_model_requests_total", &["model=\"kept\"", "result=\"ok\""]), 1.0);
    assert!(scrape.sum("sluicegate_model_cost_total", &["model=\"_other\""]) > 0.0);
    let (by_model, by_client) =
        (scrape.sum("sluicegate_model_cost_total", &[]), scrape.sum("sluicegate_cost_total", &[]));
    assert!((by_model - by_client).abs() < 1e-9, "{by_model} {by_client}");
    let series = scrape.text.lines().filter(|line| !line.starts_with('#')).count();
    let sizes = Sizes {
        routes: 1,
        upstreams: 1,
        targets: 1,
        keys: 1,
        clients: 1,
        limits: 0,
        workers: 2,
        certificates: 0,
    };
    assert!(series <= sizes.most(), "{series} series, at most {}", sizes.most());
    assert_eq!(scrape.sum("sluicegate_models_tracked", &[]), MAX_MODELS as f64);
    assert!(scrape.sum("sluicegate_model_requests_total", &["model=\"_other\""]) > (JUNK / 4) as f64);
    assert_eq!(scrape.sum("sluicegate_requests_total", &[]), JUNK as f64 + 1.0);
    for junk in ["missing-", "sk-junk", "/junk", "junk-"] {
        assert!(!scrape.text.contains(junk), "{junk} is in a label\n{}", scrape.text);
    }
}

#[tokio::test]
async fn a_model_that_a_reload_names_has_its_place_though_all_are_taken() {
    let upstream = simulator().await;
    let toml = GatewayToml::before(&upstream.url(), "").admin();
    let gateway = Gateway::start(&toml);
    let ask = async |model: &str| {
        let asked = authorised(gateway.address(), Http::One, "POST", "/v1/chat/completions")
            .header("content-type", "application/json")
            .body(whole(format!(r#"{{"model":"{model}","messages":[]}}"#)));
        assert_eq!(send(gateway.address(), Http::One, asked.unwrap()).await.status, 200);
    };
    for number in 0..MAX_MODELS {
        ask(&format!("first-{number}")).await;
    }
    gateway.log.line(MAX_MODELS).await;
    ask("late").await;
    gateway.log.line(MAX_MODELS + 1).await;
    gateway.reload(&toml.clone().more("[model.late]\nupstreams = [\"sim\"]")).await;
    ask("late").await;
    gateway.log.line(MAX_MODELS + 2).await;
    let scrape = Scrape::of(gateway.admin.unwrap(), "").await;
    let of = |model: &str| scrape.sum("sluicegate_model_requests_total", &[&format!("model=\"{model}\"")]);
    assert_eq!((of("late"), of("_other"), of("first-0")), (1.0, 1.0, 1.0), "{}", scrape.text);
    let times =
        scrape.sum("gen_ai_server_request_duration_seconds_count", &["gen_ai_request_model=\"late\""]);
    assert_eq!(times, 1.0);
    assert_eq!(scrape.sum("sluicegate_models_tracked", &[]), MAX_MODELS as f64);
}
