//! How long admissions wait for a store that does not answer, by the metric.
//!
//! What decides is the timers of the worker that waits, and no time of day: a timer of the same length that begins after an admission's own must not be
//! over before the admission, however late a busy machine looks at both.

use std::{future::poll_fn, pin::pin, task::Poll};

use tokio::{task::LocalSet, time::sleep};

use super::{process::online, *};
use crate::{limit::shared::Sharing, store::StoreWait};

/// The deadline of these tests.
const DEADLINE: Duration = Duration::from_secs(1);

/// As many calls without a reply open the circuit breaker.
const FAILURES: usize = 3;

/// What is done to a server that is in use.
type Hazard = fn(&mut RedisServer);

const HAZARDS: &[(&str, Hazard)] = &[
    ("hung", |server| server.signal("STOP")),
    ("paused", |server| drop(server.command(&["CLIENT", "PAUSE", "200000", "ALL"]))),
    ("killed", RedisServer::kill),
    ("demoted", |server| drop(server.command(&["REPLICAOF", "127.0.0.1", "1"]))),
    ("out of memory", |server| {
        server.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
        server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    }),
];

/// Admits a request. Returns whether it has waited for the store, and fails if it has waited for longer than the deadline.
async fn waits(sharing: &Arc<Sharing>, limits: &[Applied]) -> bool {
    let mut wait = StoreWait::default();
    let mut taking = pin!(sharing.take_turn(limits, Demand::default(), &[], &mut wait));
    if poll_fn(|context| Poll::Ready(taking.as_mut().poll(context).is_ready())).await {
        return false;
    }
    // Begins after the admission's own timer, so it cannot be over before that.
    let latest = sleep(DEADLINE);
    tokio::select! {
        biased;
        admitted = taking => admitted.unwrap(),
        () = latest => panic!("an admission waits longer than the deadline"),
    };
    true
}

/// Admits so many requests at once. Returns how many have waited.
fn waiting(sharing: &Arc<Sharing>, limits: &[Applied], requests: usize) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let all = LocalSet::new();
        let started: Vec<_> = (0..requests)
            .map(|_| {
                let (sharing, limits) = (sharing.clone(), limits.to_vec());
                all.spawn_local(async move { waits(&sharing, &limits).await })
            })
            .collect();
        all.await;
        let mut waited = 0;
        for one in started {
            waited += usize::from(one.await.unwrap());
        }
        waited
    })
}

#[test]
fn no_admission_waits_longer_than_the_deadline_and_none_while_the_circuit_breaker_is_open() {
    for (name, hazard) in HAZARDS {
        let mut server = RedisServer::start(&[]);
        let sharing = online(&server);
        let limits = [applied(
            Limit { requests: rate(60_000, 60, 60_000), concurrent: Some(1_000), ..limit("requests") },
            &Subject::client("t", Some("a"), None),
        )];
        let metric = || sharing.statistics().durations().count();
        let before = metric();
        hazard(&mut server);
        let mut waited = 0;
        while sharing.state().is_available {
            waited += waiting(&sharing, &limits, FAILURES) as u64;
        }
        assert!(waited <= metric() - before, "{name}: the metric has all of them");
        let found_out = metric();
        assert_eq!(waiting(&sharing, &limits, 20), 0, "{name}");
        assert_eq!(metric(), found_out, "{name}: nobody waits");
    }
}
