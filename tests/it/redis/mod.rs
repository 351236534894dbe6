//! Limits that several gateways share in a real Redis.

mod cluster;
mod exact;
mod flood;
mod hazards;
mod process;
mod processes;
mod secured;
mod secured_sets;
mod sentinel;
mod shares;
mod slow;
mod starts;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

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

/// How long three Sentinels may take to agree on another master. On a machine that stops one of them for two seconds, that one does nothing for half a
/// minute (documentation of Redis Sentinel, "TILT mode").
const AGREED: Duration = Duration::from_secs(240);

/// Waits until the gateway uses a master that the Sentinels have agreed on, by another connection than those `before`.
async fn has_followed(gateway: &Gateway, before: u64) {
    let sharing = sharing(gateway);
    let followed = async {
        while sharing.statistics().connections() == before || !sharing.state().is_available {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(AGREED, followed).await.expect("the Sentinels agree");
}

/// The number of connections that a gateway has made to the store.
fn connections(gateway: &Gateway) -> u64 {
    sharing(gateway).statistics().connections()
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

    /// The mean, in seconds. A wait that ends at a deadline of a second is in no bucket of the metric; that none is longer than the deadline by the gateway's
    /// own timers is asserted in `src/limit/shared/tests/waits.rs`.
    fn mean(&self) -> f64 {
        self.0.sum() / self.count().max(1) as f64
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

/// Requests that four clients on a thread of their own send one after the other, to all gateways in turn, until they are ended.
struct Load {
    sent: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Load {
    /// Begins. A request that is not admitted fails the test.
    fn on(gateways: &[Gateway]) -> Self {
        let addresses: Vec<SocketAddr> = gateways.iter().map(Gateway::address).collect();
        let (sent, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let shared = (sent.clone(), is_over.clone());
        let thread = std::thread::spawn(move || {
            let client = async |number: usize| {
                for address in addresses.iter().cycle().skip(number) {
                    if shared.1.load(Ordering::Relaxed) {
                        return;
                    }
                    assert_eq!(chat(*address, Http::One).await.status, StatusCode::OK);
                    shared.0.fetch_add(1, Ordering::Relaxed);
                }
            };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { tokio::join!(client(0), client(1), client(2), client(3)) });
        });
        Self { sent, is_over, thread }
    }

    /// Waits for so many more requests.
    async fn goes_on_for(&self, requests: usize) {
        let until = self.sent.load(Ordering::Relaxed) + requests;
        safely(async {
            while self.sent.load(Ordering::Relaxed) < until {
                assert!(!self.thread.is_finished(), "a request has failed");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    /// Ends. Returns the number of requests.
    async fn end(self) -> usize {
        self.is_over.store(true, Ordering::Relaxed);
        // The upstream of the last requests is on this thread.
        safely(async {
            while !self.thread.is_finished() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        self.thread.join().unwrap();
        self.sent.load(Ordering::Relaxed)
    }
}

/// How many were admitted. The others were refused by the limit.
fn admitted(answers: &[Answer]) -> usize {
    let admitted = answers.iter().filter(|answer| answer.status == StatusCode::OK).count();
    let refused = answers.iter().filter(|answer| answer.status == StatusCode::TOO_MANY_REQUESTS).count();
    assert_eq!(admitted + refused, answers.len(), "nothing else happens");
    admitted
}
