//! Requests at once: what the store counts of a gateway is never wrong for long.

use super::{
    process::{client, online, take, until},
    *,
};
use crate::limit::shared::Sharing;

fn at_once(most: u32, index: usize) -> Vec<Applied> {
    vec![applied(Limit { concurrent: Some(most), ..limit("at-once") }, &client(index))]
}

fn in_flight(fewest: f64, most: f64, number: u32) -> ChangeKind {
    ChangeKind::InFlight { fewest, most, number }
}

/// Runs a future of the heartbeat here.
fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn session(sharing: &Sharing) -> u32 {
    sharing.online.load(std::sync::atomic::Ordering::SeqCst)
}

#[test]
fn a_lease_is_corrected_downwards_unless_admissions_are_not_known_yet() {
    let server = RedisServer::start(&[]);
    let mut gateway = StoreGateway::new(&server, 1);
    let limits = at_once(9, 0);
    for _ in 0..3 {
        gateway.admit(&limits, Demand::default(), 0);
    }
    let mut told = |what| gateway.change(&limits[0], Unit::Concurrent, what, 0);
    // When it was counted, the third admission had not been numbered yet.
    assert_eq!(told(in_flight(1.0, 1.0, 2)), 3.0);
    assert_eq!(told(in_flight(1.0, 2.0, 3)), 2.0);
    assert_eq!(told(in_flight(4.0, 5.0, 3)), 4.0);
    assert_eq!(told(in_flight(0.0, 0.0, 3)), 0.0);
}

#[test]
fn a_count_that_is_too_high_is_found_out_by_the_next_renewal() {
    let server = RedisServer::start(&[]);
    let (sharing, other) = (online(&server), online(&server));
    let (mine, theirs) = (at_once(2, 0), at_once(2, 0));
    let held = take(&sharing, &mine, Demand::default()).unwrap();
    // A request that the gateway knows nothing of, as after a lost reply.
    let mut leak = StoreGateway::new(&server, sharing.node);
    leak.asker.session = session(&sharing);
    assert_eq!(leak.change_now(&mine[0], Unit::Concurrent, ChangeKind::Ended { count: -1.0 }), 2.0);
    assert!(take(&other, &theirs, Demand::default()).is_none());
    run(sharing.renew(session(&sharing)));
    theirs[0].counter.shared.get().unwrap().lease(&other.subjects).was_full(Now::from_nanos(i64::MIN));
    let second = take(&other, &theirs, Demand::default()).unwrap();
    assert!(take(&other, &theirs, Demand::default()).is_none());
    drop((held, second));
    until(|| sharing.state().pending + other.state().pending == 0);
    // Nothing is left, and nobody has to be looked after when that is known.
    for sharing in [&sharing, &other] {
        run(sharing.renew(session(sharing)));
        run(sharing.renew(session(sharing)));
        assert!(sharing.listed.lock().unwrap().is_empty());
    }
    assert_eq!(leak.change_now(&mine[0], Unit::Concurrent, in_flight(0.0, 9.0, 9)), 0.0);
}

#[test]
fn a_request_that_ends_while_the_connection_is_made_again_is_not_counted_any_more() {
    let server = RedisServer::start(&[]);
    let (sharing, other) = (online(&server), online(&server));
    let (mine, theirs) = (at_once(1, 0), at_once(1, 0));
    let held = take(&sharing, &mine, Demand::default()).unwrap();
    server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
    until(|| !sharing.state().is_available);
    drop(held);
    // One is begun and goes on.
    let begun = take(&sharing, &mine, Demand::default()).unwrap();
    until(|| sharing.state().is_available && other.state().is_available && sharing.state().pending == 0);
    assert!(take(&other, &theirs, Demand::default()).is_none());
    drop(begun);
    until(|| sharing.state().pending == 0);
    theirs[0].counter.shared.get().unwrap().lease(&other.subjects).was_full(Now::from_nanos(i64::MIN));
    assert!(take(&other, &theirs, Demand::default()).is_some());
}

#[test]
fn a_flood_that_others_have_no_room_for_costs_the_store_nothing() {
    let server = RedisServer::start(&[]);
    let (sharing, other) = (online(&server), online(&server));
    let (mine, theirs) = (at_once(1, 0), at_once(1, 0));
    let _held = take(&sharing, &mine, Demand::default()).unwrap();
    let start = std::time::Instant::now();
    let before = other.statistics().durations().count();
    for _ in 0..1_000 {
        assert!(take(&other, &theirs, Demand::default()).is_none());
    }
    let asked = other.statistics().durations().count() - before;
    let most = 1 + start.elapsed().as_millis() as u64 / 50;
    assert!(asked <= most, "{asked} calls in {:?}", start.elapsed());
    // A request that has waited for its turn asks.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let turns = [theirs[0].counter.clone()];
    let mut wait = crate::store::StoreWait::default();
    assert!(runtime.block_on(other.take_turn(&theirs, Demand::default(), &turns, &mut wait)).is_err());
    assert_eq!(other.statistics().durations().count() - before, asked + 1);
}

#[test]
fn counters_of_two_snapshots_have_one_lease() {
    let server = RedisServer::start(&[]);
    let sharing = online(&server);
    // The same limit after a reload that made another counter, and with another unit beside it.
    let before = at_once(3, 0);
    let with_tokens = Limit { tokens: rate(60, 60, 60), concurrent: Some(3), ..limit("at-once") };
    let after = vec![applied(with_tokens, &client(0))];
    let first = take(&sharing, &before, Demand::default()).unwrap();
    let second = take(&sharing, &after, Demand::default()).unwrap();
    run(sharing.renew(session(&sharing)));
    let mut reader = StoreGateway::new(&server, sharing.node);
    reader.asker.session = session(&sharing);
    let nothing = ChangeKind::Ended { count: 0.0 };
    assert_eq!(reader.change_now(&before[0], Unit::Concurrent, nothing), 2.0);
    let third = take(&sharing, &before, Demand::default()).unwrap();
    assert!(take(&sharing, &after, Demand::default()).is_none());
    drop((first, second, third));
}

#[test]
fn a_reconnect_sends_what_is_needed() {
    let server = RedisServer::start(&[]);
    let sharing = online(&server);
    // Many clients of which nothing has to be said, and one with a request in flight.
    let clients: Vec<Vec<Applied>> = (0..300)
        .map(|index| vec![applied(Limit { requests: rate(60, 60, 60), ..limit("requests") }, &client(index))])
        .collect();
    for limits in &clients {
        drop(take(&sharing, limits, Demand::default()));
    }
    let held = take(&sharing, &at_once(1, 0), Demand::default()).unwrap();
    until(|| sharing.state().pending == 0);
    server.command(&["CONFIG", "RESETSTAT"]);
    server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
    until(|| !sharing.state().is_available);
    until(|| sharing.state().is_available);
    let stats = server.command(&["INFO", "commandstats"]).text();
    let sets = stats.lines().find_map(|line| line.strip_prefix("cmdstat_set:calls=")).unwrap_or("0,");
    let sets: u32 = sets.split(',').next().unwrap().parse().unwrap();
    assert!(sets <= 1, "{stats}");
    drop(held);
}

#[test]
fn places_are_forgotten_when_nothing_of_them_is_open() {
    let ledger = Ledger::default();
    let limits: Vec<Applied> = (0..500)
        .map(|index| {
            let subject = Subject::client("t", Some(&format!("client-{index}")), None);
            applied(Limit { requests: rate(60, 60, 60), ..limit("requests") }, &subject)
        })
        .collect();
    let entry = |applied: &Applied| Entry {
        counter: applied.counter.clone(),
        unit: Unit::Requests,
        amount: 1.0,
        end: None,
    };
    ledger.add(limits.iter().map(entry).collect());
    let mut sent = 0;
    let mut last = None;
    loop {
        let batches = ledger.batches(last.as_ref());
        let Some(batch) = batches.last() else { break };
        assert!(batches.len() <= 64, "admissions wait behind no more");
        last = Some(batch.slot.clone());
        sent += batches.len();
        batches.iter().for_each(|batch| ledger.confirmed(batch));
    }
    assert_eq!((sent, ledger.pending(), ledger.places_in_use()), (500, 0, 0));
}
