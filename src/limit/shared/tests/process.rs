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
    // No request waits: as much as before may be asked for, and no more.
    let on_their_way = [ask().unwrap(), ask().unwrap()];
    assert!(ask().is_err());
    drop(on_their_way);
    let _rest = [0, 1].map(|_| take(&sharing, &limits, Demand::default()).unwrap());
    assert!(sharing.certain_refusal(&limits, now).is_some());
}

#[test]
fn a_request_that_is_given_up_takes_back_its_own_part_only() {
    let server = RedisServer::start(&[]);
    let sharing = online(&server);
    let limits = [applied(Limit { requests: a_day(4), ..limit("day") }, &client(0))];
    let refusing = applied(Limit { requests: a_day(1), ..limit("used up") }, &client(0));
    let _first =
        take(&sharing, &[&limits[..], std::slice::from_ref(&refusing)].concat(), Demand::default()).unwrap();
    let now = crate::limit::shared::now();
    let (wall, subjects) = (sharing.wall(now), &sharing.subjects);
    let arrival = Arrival { now: now.monotonic, wall, subjects, has_waited: false, counts_asked: true };
    let ask = || Reserved::take(&limits, Demand::default(), arrival);
    let waits = ask().unwrap();
    // One that its client gives up, and one that another limit refuses.
    let (given_up, last) = (ask().unwrap(), ask().unwrap());
    assert!(ask().is_err());
    drop(given_up);
    let second = ask().unwrap();
    assert!(Reserved::take(&[limits[0].clone(), refusing], Demand::default(), arrival).is_err());
    assert!(ask().is_err(), "three wait, and one was admitted");
    drop((last, second));
    let _more = [ask().unwrap(), ask().unwrap()];
    assert!(ask().is_err(), "the first one waits");
    drop(waits);
}

#[test]
fn clients_that_are_gone_are_not_looked_after() {
    let server = RedisServer::start(&[]);
    let sharing = online(&server);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let of = |index| vec![applied(Limit { requests: a_day(3), ..limit("day") }, &client(index))];
    // As its limit, and a configuration that has the client.
    let (stays, goes) = (of(0), of(1));
    let both = [stays.clone(), goes.clone()];
    for limits in &both {
        take(&sharing, limits, Demand::default())
            .unwrap()
            .settle(Demand::default(), crate::limit::shared::now());
    }
    until(|| sharing.state().pending == 0);
    let session = sharing.online.load(std::sync::atomic::Ordering::SeqCst);
    runtime.block_on(sharing.renew(session));
    assert_eq!(sharing.listed.lock().unwrap().len(), 2);
    assert!(!goes[0].counter.is_unused(crate::limit::shared::now()));
    let [_kept, gone] = both;
    drop(gone);
    runtime.block_on(sharing.renew(session));
    let listed = sharing.listed.lock().unwrap().clone();
    assert!(listed.len() == 1 && Arc::ptr_eq(&listed[0], &stays[0].counter));
    // The store has its count: its limit forgets it when there are many, and it goes on where it was when it comes back.
    assert!(goes[0].counter.is_unused(crate::limit::shared::now()));
    let again = of(1);
    let _admitted = [0, 1].map(|_| take(&sharing, &again, Demand::default()).unwrap());
    assert!(take(&sharing, &again, Demand::default()).is_none());
}

#[test]
fn what_is_known_of_a_counter_is_not_locked_while_the_list_is_waited_for() {
    let sharing = away(1.0);
    let limits = [applied(Limit { requests: a_day(3), ..limit("day") }, &client(0))];
    let replica = limits[0].counter.shared.get().unwrap();
    // As a renewal, which locks what is known of each counter of the list.
    let renewing = sharing.listed.lock().unwrap();
    std::thread::scope(|scope| {
        let renewing = renewing;
        scope.spawn(|| sharing.look_after(&limits[0].counter));
        until(|| replica.try_known().is_some_and(|known| known.is_listed));
        drop(renewing);
    });
    assert_eq!(sharing.listed.lock().unwrap().len(), 1);
}

#[test]
fn of_a_flood_one_request_asks_whether_old_copies_still_hold() {
    let server = RedisServer::start(&[]);
    let sharing = online(&server);
    let limits = [applied(Limit { requests: a_day(1), ..limit("day") }, &client(0))];
    let _only = take(&sharing, &limits, Demand::default()).unwrap();
    let now = crate::limit::shared::now();
    let (wall, subjects) = (sharing.wall(now), &sharing.subjects);
    let arrival = Arrival { now: now.monotonic, wall, subjects, has_waited: false, counts_asked: true };
    let ask = || Reserved::take(&limits, Demand::default(), arrival);
    let copies_end = |nanos: i64| limits[0].counter.shared.get().unwrap().known().fresh_until = nanos;
    assert!(ask().is_err());
    copies_end(now.monotonic.nanos() - 1);
    assert!(ask().is_ok(), "one asks");
    assert!(ask().is_err() && sharing.certain_refusal(&limits, now).is_some());
    // What was counted alone says nothing of the store.
    copies_end(0);
    assert!(ask().is_ok() && ask().is_ok());
}
