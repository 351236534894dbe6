//! A whole gateway's sharing, with its own connection and heartbeat.

use super::super::reserved::{Arrival, Reserved};
use super::*;
use crate::{
    config::{self, RedisAddress, RedisServers},
    limit::shared::{Sharing, SharingSettings},
    store::{Store, StoreWait},
};

/// Starts to share limits in the server at `port`, as `[redis]` does.
pub(super) fn sharing(port: u16, fallback_share: Option<f64>) -> Arc<Sharing> {
    let address = RedisAddress { host: "127.0.0.1".into(), port };
    let redis = config::Redis {
        username: None,
        password: None,
        timeout: Duration::from_secs(1),
        prefix: "t".into(),
        servers: RedisServers::Single { address, database: 0 },
        tls: None,
        fallback_share,
    };
    let settings = SharingSettings { prefix: redis.prefix.clone(), fallback_share };
    Sharing::start(settings, |probe| Store::start(&redis, probe, Vec::new())).unwrap()
}

/// A port at which nothing listens.
pub(super) fn away(fallback_share: f64) -> Arc<Sharing> {
    sharing(redis::free_port(), Some(fallback_share))
}

pub(super) fn online(server: &RedisServer) -> Arc<Sharing> {
    let sharing = sharing(server.port(), None);
    until(|| sharing.state().is_available);
    sharing
}

/// Waits until something is so; it becomes so on another thread.
pub(super) fn until(mut is_so: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(std::time::Instant::now() < end, "it did not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Admits a request now, by the store if it is there.
pub(super) fn take(sharing: &Arc<Sharing>, limits: &[Applied], demand: Demand) -> Option<Admitted> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(sharing.take_turn(limits, demand, &[], &mut StoreWait::default())).ok()
}

/// What a client uses of a limit on requests: `index` numbers the clients of one group.
pub(super) fn client(index: usize) -> Subject {
    Subject::client("t", Some(&format!("client-{index}")), Some("g"))
}

#[test]
fn everything_is_sent_before_the_end() {
    let server = RedisServer::start(&[]);
    let sharing = online(&server);
    // More than two batches of one place.
    let limits: Vec<Applied> = (0..600)
        .map(|index| applied(Limit { requests: rate(60, 60, 60), ..limit("requests") }, &client(index)))
        .collect();
    let entry = |applied: &Applied| Entry {
        counter: applied.counter.clone(),
        unit: Unit::Requests,
        amount: 60_000_000.0,
        end: None,
    };
    sharing.note(limits.iter().map(entry).collect());
    sharing.finish();
    assert_eq!(sharing.state().pending, 0);
    assert_eq!(
        server.command(&["EXISTS", &limits[599].counter.shared.get().unwrap().subject().key]).number(),
        1
    );
    assert_eq!(server.command(&["ZCARD", "t:nodes"]).number(), 0);
    // A batch whose reply is lost is known for a day.
    let Reply::List(markers) = server.command(&["KEYS", "t:*:b:*"]) else { panic!() };
    assert!(server.command(&["PTTL", &markers[0].text()]).number() > 80_000_000);
}

#[test]
fn corrections_that_a_script_fails_at_are_dropped() {
    // Its scripts cannot write values.
    let server = RedisServer::start(&["--rename-command", "SET", "WRITE"]);
    let sharing = online(&server);
    let limits = [applied(Limit { requests: rate(60, 60, 60), ..limit("requests") }, &client(0))];
    let entry = Entry { counter: limits[0].counter.clone(), unit: Unit::Requests, amount: 60.0, end: None };
    sharing.note(vec![entry]);
    until(|| sharing.state().pending == 0);
}

#[test]
fn requests_that_may_be_refused_do_not_refuse_others_early() {
    let server = RedisServer::start(&[]);
    let sharing = online(&server);
    let limits = [applied(Limit { requests: a_day(3), concurrent: Some(3), ..limit("day") }, &client(0))];
    let _first = take(&sharing, &limits, Demand::default()).unwrap();
    let now = crate::limit::shared::now();
    let (wall, subjects) = (sharing.wall(now), &sharing.subjects);
    let arrival = Arrival { now: now.monotonic, wall, subjects, has_waited: false, counts_asked: true };
    let ask = || Reserved::take(&limits, Demand::default(), arrival);
    let on_their_way = [ask().unwrap(), ask().unwrap()];
    assert!(ask().is_err(), "it would be admitted only if another one were not");
    assert!(sharing.certain_refusal(&limits, now).is_none());
    drop(on_their_way);
    let _rest = [0, 1].map(|_| take(&sharing, &limits, Demand::default()).unwrap());
    assert!(sharing.certain_refusal(&limits, now).is_some());
}
