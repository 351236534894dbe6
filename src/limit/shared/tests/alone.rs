//! What a gateway does while the store is away.

use super::{
    process::{away, client, online, take, until},
    *,
};
use crate::limit::counter::Meter;

/// How far the clock of tokens is ahead, in seconds, rounded.
fn ahead(applied: &Applied) -> i64 {
    let Some(Meter::Clock(clock)) = applied.counter.timed(Unit::Tokens) else { panic!() };
    (clock.arrival() - crate::limit::shared::now().monotonic.nanos() + 500_000_000) / 1_000_000_000
}

/// How much of that the store will be charged, in seconds.
fn debt(applied: &Applied) -> i64 {
    let known = applied.counter.shared.get().unwrap().known();
    let now = crate::limit::shared::now().monotonic;
    (known.alone.as_ref().map_or(0.0, |alone| alone.debt(1, now)) / 1_000_000.0).round() as i64
}

#[test]
fn what_is_admitted_by_the_share_is_corrected_by_the_share() {
    let sharing = away(0.5);
    // A token takes a second, and two by half the rate.
    let limits = [applied(Limit { tokens: rate(60, 60, 6_000), ..limit("tokens") }, &client(0))];
    let now = crate::limit::shared::now;
    let mut admitted = take(&sharing, &limits, demand(100, 0)).unwrap();
    assert_eq!((ahead(&limits[0]), debt(&limits[0])), (200, 100));
    admitted.charge_so_far(demand(300, 0), now());
    assert_eq!((ahead(&limits[0]), debt(&limits[0])), (600, 300));
    admitted.settle(demand(50, 0), now());
    assert_eq!((ahead(&limits[0]), debt(&limits[0])), (100, 50));
}

#[test]
fn what_the_store_has_admitted_is_given_back_to_the_store() {
    let sharing = away(0.5);
    let limits = [applied(Limit { tokens: rate(60, 60, 6_000), ..limit("tokens") }, &client(0))];
    let Some(Meter::Clock(clock)) = limits[0].counter.timed(Unit::Tokens) else { panic!() };
    clock.set(crate::limit::shared::now().monotonic.nanos() + 100_000_000_000);
    let granted = Granted {
        applied: limits[0].clone(),
        taken: [Taken::default(), Taken::of(100, None), Taken::default()],
    };
    let admitted = Admitted::by_store(&sharing, vec![granted], None);
    admitted.settle(demand(40, 0), crate::limit::shared::now());
    // Sixty seconds of the whole rate, and nothing that this process would be charged for.
    assert_eq!((ahead(&limits[0]), debt(&limits[0])), (40, 0));
    let [batch] = sharing.ledger.batches(None).try_into().unwrap();
    assert_eq!(batch.entries[0].amount, -60_000_000.0);
}

#[test]
fn one_reply_that_comes_too_late_is_charged_once() {
    let server = RedisServer::start(&[]);
    let (sharing, other) = (online(&server), online(&server));
    let of = || [applied(Limit { tokens: rate(60, 60, 6_000), ..limit("tokens") }, &client(0))];
    let (mine, theirs) = (of(), of());
    let late = sharing.take_alone(&mine, demand(10, 0), crate::limit::shared::now()).unwrap();
    until(|| sharing.state().pending == 0);
    let by_other = take(&other, &theirs, demand(500, 0)).unwrap();
    let in_time = take(&sharing, &mine, demand(1, 0)).unwrap();
    // The copy has what the other one has used, and the ten tokens at the whole rate.
    assert_eq!((ahead(&mine[0]), debt(&mine[0])), (511, 0));
    sharing.note_used_alone();
    assert_eq!(sharing.state().pending, 0);
    drop((late, by_other, in_time));
}

#[test]
fn a_day_that_begins_while_the_store_is_away_has_its_own_share() {
    let sharing = away(0.5);
    let limits = [applied(Limit { requests: a_day(10), ..limit("day") }, &client(0))];
    let calendar = Calendar::new(CalendarUnit::Day, TimeZone::get("Europe/Berlin").unwrap());
    let Some(Meter::Period(count)) = limits[0].counter.timed(Unit::Requests) else { panic!() };
    count.set(calendar.period(moment(0).wall), 6);
    let admitted = |millis| {
        let take = || sharing.take_alone(&limits, Demand::default(), moment(millis)).ok();
        std::iter::from_fn(take).map(std::mem::forget).count()
    };
    // Half of the four that were left, and then half of ten.
    assert_eq!(admitted(0), 2);
    assert_eq!(admitted(86_400_000), 5);
    let batches = sharing.ledger.batches(None);
    let sums: Vec<f64> = batches[0].entries.iter().map(|entry| entry.amount).collect();
    assert_eq!(sums, [2.0, 5.0], "each is charged to its own day");
}
