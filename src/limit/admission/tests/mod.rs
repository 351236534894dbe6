mod minute;

use std::{
    pin::pin,
    sync::Mutex,
    task::{Context, Poll, Wake, Waker},
};

use jiff::{Timestamp, tz::TimeZone};
use proptest::prelude::*;

use super::*;
use crate::{
    limit::{Allowance, Calendar, CalendarUnit, Now, Rate, Weights},
    wait_queue::{QueueBounds, Room, Ticket, TurnWaiter},
};

fn at(seconds: i64) -> Moment {
    Moment {
        monotonic: Now::from_nanos(seconds * 1_000_000_000),
        wall: Timestamp::from_second(1_800_000_000 + seconds).unwrap(),
    }
}

fn limit(name: &str) -> Limit {
    Limit {
        name: name.into(),
        requests: None,
        tokens: None,
        cost: None,
        concurrent: None,
        weights: Weights::default(),
        enforce: true,
        goes_on: false,
        queue: None,
    }
}

fn rate(quantity: u64, burst: u64) -> Option<Allowance> {
    Some(Allowance::Rate(Rate::new(quantity, Duration::from_secs(60), burst)))
}

fn applied(limit: Limit) -> Applied {
    Applied { counter: Arc::new(Counter::new(&limit)), limit: Arc::new(limit) }
}

fn tokens(input: u64, output: u64) -> Demand {
    Demand { tokens: TokenCount { input, output, ..TokenCount::default() }, ..Demand::default() }
}

fn left(applied: &Applied, now: Moment) -> [Option<u64>; 3] {
    let remaining = applied.counter.remaining(&applied.limit, now);
    [remaining.requests, remaining.tokens, remaining.cost].map(|left| left.map(|left| left.remaining))
}

#[test]
fn all_limits_admit_or_none_is_charged() {
    let client = applied(Limit { requests: rate(60, 6), concurrent: Some(4), ..limit("client") });
    let group = applied(Limit { tokens: rate(6_000, 100), ..limit("group") });
    let limits = [client.clone(), group];
    let first = Admitted::take(&limits, tokens(60, 40), at(0)).unwrap();
    let refused = Admitted::take(&limits, tokens(10, 10), at(0)).unwrap_err();
    assert_eq!((&*refused.limit.name, refused.unit), ("group", Unit::Tokens));
    assert_eq!(refused.wait, Some(Duration::from_millis(200)));
    // The client's limit granted a request and a slot, and has both again.
    assert_eq!((left(&client, at(0)), client.counter.in_flight()), ([Some(5), None, None], 1));
    first.settle(tokens(60, 40), at(0));
    assert_eq!(client.counter.in_flight(), 0);
}

#[test]
fn what_was_used_replaces_what_was_expected() {
    let limits = [applied(Limit { tokens: rate(6_000, 1_000), requests: rate(60, 6), ..limit("one") })];
    // Expected 400, used 150.
    Admitted::take(&limits, tokens(100, 300), at(0)).unwrap().settle(tokens(100, 50), at(0));
    assert_eq!(left(&limits[0], at(0)), [Some(5), Some(850), None]);
    // Expected 10, used 900: the rest of the burst and 40 of debt.
    Admitted::take(&limits, tokens(5, 5), at(0)).unwrap().settle(tokens(5, 885), at(0));
    assert_eq!(left(&limits[0], at(0)), [Some(4), Some(0), None]);
    assert_eq!(
        Admitted::take(&limits, tokens(1, 0), at(0)).unwrap_err().wait,
        Some(Duration::from_millis(410))
    );
}

#[test]
fn a_request_that_no_response_came_for_costs_nothing() {
    let limits = [applied(Limit {
        tokens: rate(6_000, 1_000),
        requests: rate(60, 6),
        cost: Some(Allowance::Period {
            calendar: Calendar::new(CalendarUnit::Month, TimeZone::UTC),
            quantity: 5_000,
        }),
        ..limit("one")
    })];
    let demand = Demand { cost: Money::from_nanos(700), ..tokens(100, 300) };
    let admitted = Admitted::take(&limits, demand, at(0)).unwrap();
    assert_eq!(left(&limits[0], at(0)), [Some(5), Some(600), Some(4_300)]);
    drop(admitted);
    assert_eq!(left(&limits[0], at(0)), [Some(6), Some(1_000), Some(5_000)]);
}

#[test]
fn a_response_that_outruns_its_expectation_is_charged_while_it_comes() {
    let limits = [applied(Limit { tokens: rate(6_000, 1_000), ..limit("one") })];
    let mut admitted = Admitted::take(&limits, tokens(100, 100), at(0)).unwrap();
    admitted.charge_so_far(tokens(100, 50), at(0));
    assert_eq!(left(&limits[0], at(0))[1], Some(800));
    admitted.charge_so_far(tokens(100, 400), at(0));
    assert_eq!(left(&limits[0], at(0))[1], Some(500));
    admitted.settle(tokens(100, 600), at(0));
    assert_eq!(left(&limits[0], at(0))[1], Some(300));
}

#[test]
fn a_limit_that_does_not_enforce_admits_and_says_what_it_would_do() {
    let shadow = applied(Limit { requests: rate(1, 1), enforce: false, ..limit("shadow") });
    let limits = [shadow.clone()];
    assert_eq!(Admitted::take(&limits, Demand::default(), at(0)).unwrap().would_refuse(), None);
    // That request was given back when it was dropped, so one that stays is needed.
    let _first = Admitted::take(&limits, Demand::default(), at(0)).unwrap();
    let second = Admitted::take(&limits, Demand::default(), at(0)).unwrap();
    let (limit, unit) = second.would_refuse().unwrap();
    assert_eq!((&*limit.name, *unit), ("shadow", Unit::Requests));
    // What it would have refused is not counted, as it would not be if it did refuse.
    drop(second);
    assert_eq!(left(&shadow, at(0)), [Some(0), None, None]);
}

#[test]
fn a_limit_that_is_reached_twice_counts_once() {
    let one = applied(Limit { requests: rate(60, 6), concurrent: Some(1), ..limit("one") });
    let admitted = Admitted::take(&[one.clone(), one.clone()], Demand::default(), at(0)).unwrap();
    assert_eq!((left(&one, at(0))[0], one.counter.in_flight()), (Some(5), 1));
    admitted.settle(Demand::default(), at(0));
}

#[test]
fn the_parts_of_what_was_taken_end_by_themselves() {
    let one = applied(Limit { requests: rate(60, 6), concurrent: Some(1), ..limit("one") });
    let other = applied(Limit { requests: rate(60, 6), concurrent: Some(1), ..limit("other") });
    let admitted = Admitted::take(&[one.clone(), other.clone()], Demand::default(), at(0)).unwrap();
    let (of_one, of_other) = admitted.split(|applied| Arc::ptr_eq(&applied.counter, &one.counter));
    assert_eq!((one.counter.in_flight(), other.counter.in_flight()), (1, 1));
    drop(of_other);
    assert_eq!((left(&other, at(0))[0], other.counter.in_flight()), (Some(6), 0));
    of_one.settle(Demand::default(), at(0));
    assert_eq!((left(&one, at(0))[0], one.counter.in_flight()), (Some(5), 0));
}

/// Notes how many requests are in flight in the moment in which it is woken.
struct InFlightWhenWoken {
    counter: Arc<Counter>,
    seen: Mutex<Vec<u32>>,
}

impl Wake for InFlightWhenWoken {
    fn wake(self: Arc<Self>) {
        self.seen.lock().unwrap().push(self.counter.in_flight());
    }
}

fn queued(name: &str, concurrent: u32) -> Applied {
    let bounds = QueueBounds { room: Room::LARGEST, wait: Duration::from_secs(60) };
    applied(Limit { concurrent: Some(concurrent), queue: Some(bounds), ..limit(name) })
}

fn wait_for(applied: &Applied) -> TurnWaiter {
    let waiter = applied.counter.queue().join(Room::LARGEST, Ticket::anonymous()).unwrap();
    while is_woken(&waiter, Waker::noop()) {}
    waiter
}

fn is_woken(waiter: &TurnWaiter, waker: &Waker) -> bool {
    pin!(waiter.woken()).poll(&mut Context::from_waker(waker)) == Poll::Ready(())
}

/// A request that is woken before everything is given back would be refused by the rest.
#[test]
fn a_request_that_waits_is_woken_when_all_limits_have_their_parts_back() {
    let (own, places) = (queued("own", 1), applied(Limit { concurrent: Some(1), ..limit("places") }));
    let take = || {
        Admitted::take_turn(
            &[own.clone(), places.clone()],
            Demand::default(),
            at(0),
            std::slice::from_ref(&own.counter),
        )
    };
    for is_settled in [true, false] {
        let admitted = take().unwrap();
        let waiter = wait_for(&own);
        let seen = Arc::new(InFlightWhenWoken { counter: places.counter.clone(), seen: Mutex::default() });
        let waker = Waker::from(seen.clone());
        let mut woken = pin!(waiter.woken());
        assert!(woken.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        if is_settled {
            admitted.settle(Demand::default(), at(0));
        } else {
            drop(admitted);
        }
        assert_eq!(*seen.seen.lock().unwrap(), [0]);
        assert!(take().is_ok());
    }
}

/// Its tries are nothing to the other limits.
#[test]
fn a_request_that_is_refused_at_its_turn_takes_nothing_of_other_limits() {
    let (places, own) = (queued("places", 2), queued("own", 1));
    let turns = [places.counter.clone(), own.counter.clone()];
    let limits = [places, own];
    let _first = Admitted::take(&limits, Demand::default(), at(0)).unwrap();
    let [of_places, of_own] = limits.each_ref().map(wait_for);
    let refused = Admitted::take_turn(&limits, Demand::default(), at(0), &turns);
    assert_eq!(&*refused.unwrap_err().limit.name, "own");
    // What is given back wakes.
    assert!(!is_woken(&of_places, Waker::noop()) && !is_woken(&of_own, Waker::noop()));
}

#[test]
fn the_same_limit_counts_other_subjects_apart() {
    let limit = Limit { requests: rate(1, 1), ..limit("one") };
    let (one, other) = (applied(limit.clone()), applied(limit));
    let _one = Admitted::take(std::slice::from_ref(&one), Demand::default(), at(0)).unwrap();
    assert!(Admitted::take(&[other], Demand::default(), at(0)).is_ok());
    assert!(Admitted::take(&[one], Demand::default(), at(0)).is_err());
}

#[derive(Debug, Clone)]
enum Ending {
    Settled(u64),
    Dropped,
}

proptest! {
    /// Whatever happens to requests, in whatever order: what is left in the end is what the settled ones used, and nothing is in flight.
    #[test]
    fn nothing_leaks(
        requests in prop::collection::vec(
            (1..500_u64, prop_oneof![(0..900_u64).prop_map(Ending::Settled), Just(Ending::Dropped)], any::<bool>()),
            1..40,
        ),
    ) {
        let quantity = 1_000_000;
        let one = applied(Limit {
            tokens: Some(Allowance::Period { calendar: Calendar::new(CalendarUnit::Month, TimeZone::UTC), quantity }),
            requests: rate(1_000, 1_000),
            concurrent: Some(100),
            ..limit("one")
        });
        let limits = [one.clone()];
        let (mut open, mut settled, mut used) = (Vec::new(), 0, 0);
        let mut end = |admitted: Admitted, ending: &Ending| match ending {
            Ending::Dropped => drop(admitted),
            Ending::Settled(tokens_used) => {
                settled += 1;
                used += tokens_used;
                admitted.settle(tokens(*tokens_used, 0), at(0));
            }
        };
        for (expected, ending, at_once) in &requests {
            let admitted = Admitted::take(&limits, tokens(*expected, 0), at(0)).unwrap();
            if *at_once { end(admitted, ending) } else { open.push((admitted, ending)) }
        }
        open.into_iter().rev().for_each(|(admitted, ending)| end(admitted, ending));
        prop_assert_eq!(one.counter.in_flight(), 0);
        prop_assert_eq!(left(&one, at(0)), [Some(1_000 - settled), Some(quantity - used), None]);
    }
}
