//! Limits that several gateways share in a real Redis.

mod cluster;
mod exact;
mod flood;
mod hazards;
mod process;
mod processes;
mod sentinel;
mod slow;

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use sluicegate::{
    limit::shared::Sharing, simulator::Simulator, store::Statistics, telemetry::metrics::histogram::Total,
};

use super::harness::{Answer, Gateway, GatewayToml, Http, chat, redis::RedisServer, safely};

/// A gateway with one limit on all of its one client's requests, counted in these servers.
fn toml(upstream: &Simulator, servers: &str, limit: &str) -> GatewayToml {
    GatewayToml::before(&upstream.url(), "retry = \"off\"\nbreaker = \"off\"")
        .defaults("limits = [\"shared\"]")
        .more(format!("[limit.shared]\n{limit}\n[redis]\n{servers}\n"))
}

fn start(upstream: &Simulator, servers: &str, limit: &str) -> Gateway {
    Gateway::start(&toml(upstream, servers, limit))
}

fn sharing(gateway: &Gateway) -> Arc<Sharing> {
    gateway.inside().live.load().limits.sharing().expect("[redis]").clone()
}

/// The setting for one server, with a timeout that no load of the machine exceeds.
fn patient(redis: &RedisServer) -> String {
    format!("url = \"{}\"\ntimeout = \"1s\"", redis.url())
}

/// Waits until limits are shared, or are not.
async fn is_shared(gateway: &Gateway, wanted: bool) {
    let sharing = sharing(gateway);
    safely(async {
        while sharing.state().is_available != wanted {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// Waits until so many corrections have not been sent yet.
async fn pending(gateway: &Gateway, wanted: impl Fn(usize) -> bool) {
    let sharing = sharing(gateway);
    safely(async {
        while !wanted(sharing.state().pending) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// How long admissions have waited for the store, by the metric.
#[derive(Debug)]
struct Waits(Total);

fn waits(gateway: &Gateway) -> Waits {
    Waits(sharing(gateway).statistics().durations())
}

impl Waits {
    fn count(&self) -> u64 {
        self.0.count()
    }

    /// Whether no admission waited longer than a bound of the metric, in seconds. The deadline is 40 ms; more than that is the delay of a busy machine.
    fn all_within(&self, bound: f64) -> bool {
        let within = self.0.cumulative(Statistics::SCALE).find(|(known, _)| *known >= bound);
        within.is_some_and(|(_, count)| count == self.count())
    }
}

/// Sends so many requests at once, to the gateways in turn.
async fn all_at_once(gateways: &[Gateway], requests: usize) -> Vec<Answer> {
    let mut sent = Vec::new();
    for number in 0..requests {
        let address = gateways[number % gateways.len()].address();
        sent.push(tokio::spawn(async move { chat(address, Http::One).await }));
    }
    let mut answers = Vec::new();
    for answer in sent {
        answers.push(answer.await.unwrap());
    }
    answers
}

/// How many were admitted. The others were refused by the limit.
fn admitted(answers: &[Answer]) -> usize {
    let admitted = answers.iter().filter(|answer| answer.status == StatusCode::OK).count();
    let refused = answers.iter().filter(|answer| answer.status == StatusCode::TOO_MANY_REQUESTS).count();
    assert_eq!(admitted + refused, answers.len(), "nothing else happens");
    admitted
}
