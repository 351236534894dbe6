//! Refusals that are certain before a request is read.
//!
//! A client over its limit may send many requests, and each of them would be read, searched and counted only to be refused. What such a refusal
//! depends on is in the counters already: each has the time until which nothing is admitted. So the smallest request that there may be is compared with
//! them: one that uses no tokens and costs nothing. Where that one would be refused, so would any other.
//!
//! Several limits may refuse a request, and a refusal names one of them with the time until that one admits it. Of a limit that has less left than the
//! request would use, but not nothing, only an admission knows that it refuses. An early refusal therefore may name a limit behind it.

use super::{Applied, Limit, Moment, Refused, Unit};

/// The first of `limits` that refuses every request, however little it uses. `None`: some request might be admitted, or wait in a queue. Takes nothing.
pub fn certain_refusal(limits: &[Applied], now: Moment) -> Option<Refused> {
    before_queues(limits).iter().find_map(|applied| refusal(applied, now))
}

/// The limits that are asked before any that a request might wait for. While it waits for that one, those behind it may have enough again.
pub(super) fn before_queues(limits: &[Applied]) -> &[Applied] {
    let may_wait = |limit: &Limit| limit.enforce && limit.queue.is_some();
    let end = limits.iter().position(|applied| may_wait(&applied.limit)).unwrap_or(limits.len());
    limits.get(..end).unwrap_or_default()
}

fn refusal(applied: &Applied, now: Moment) -> Option<Refused> {
    let Applied { limit, counter } = applied;
    if !limit.enforce {
        return None;
    }
    let refused = |unit, wait| Refused { limit: limit.clone(), counter: counter.clone(), unit, wait };
    // In the order of an admission.
    if limit.concurrent.is_some_and(|most| counter.in_flight() >= most) {
        return Some(refused(Unit::Concurrent, None));
    }
    let of_time = [
        (Unit::Requests, &counter.requests, limit.requests.as_ref(), 1),
        (Unit::Tokens, &counter.tokens, limit.tokens.as_ref(), 0),
        (Unit::Cost, &counter.cost, limit.cost.as_ref(), 0),
    ];
    of_time.into_iter().find_map(|(unit, meter, allowance, least)| {
        let wait = meter.wait_for(allowance, least, now)?;
        Some(refused(unit, Some(wait)))
    })
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use jiff::{Timestamp, tz::TimeZone};
    use proptest::prelude::*;

    use super::*;
    use crate::{
        limit::{
            Admitted, Allowance, Calendar, CalendarUnit, Counter, Demand, Now, Rate, TokenCount, Weights,
        },
        money::Money,
        wait_queue::{QueueBounds, Room},
    };

    fn at(nanos: i64) -> Moment {
        Moment {
            monotonic: Now::from_nanos(nanos),
            wall: Timestamp::from_nanosecond(1_800_000_000_000_000_000 + i128::from(nanos)).unwrap(),
        }
    }

    fn demand(tokens: u64, cost: u64) -> Demand {
        let tokens = TokenCount { input: tokens, ..TokenCount::default() };
        Demand { tokens, cost: Money::from_nanos(cost) }
    }

    fn allowance() -> impl Strategy<Value = Option<Allowance>> {
        let rate = (1_u64..50, 1_u64..20).prop_map(|(quantity, burst)| {
            Allowance::Rate(Rate::new(quantity, Duration::from_secs(10), burst))
        });
        let period = (1_u64..20).prop_map(|quantity| Allowance::Period {
            calendar: Calendar::new(CalendarUnit::Day, TimeZone::UTC),
            quantity,
        });
        prop::option::of(prop_oneof![rate, period])
    }

    fn limit() -> impl Strategy<Value = Applied> {
        let units = (allowance(), allowance(), allowance(), prop::option::of(1_u32..4));
        let queue = Some(QueueBounds { room: Room::LARGEST, wait: Duration::from_secs(1) });
        let queue = prop_oneof![4 => Just(None), 1 => Just(queue)];
        (units, prop::bool::weighted(0.8), queue).prop_map(|(units, enforce, queue)| {
            let (requests, tokens, cost, concurrent) = units;
            let limit = Limit {
                name: "one".into(),
                requests,
                tokens,
                cost,
                concurrent,
                weights: Weights::default(),
                enforce,
                goes_on: false,
                queue,
            };
            Applied { counter: Arc::new(Counter::new(&limit)), limit: Arc::new(limit) }
        })
    }

    /// A request, as limits see it.
    #[derive(Debug, Clone, Copy)]
    struct Asked {
        expected: Demand,
        used: Demand,
        ends: bool,
        /// Nanoseconds until the next one.
        pause: i64,
    }

    fn requests() -> impl Strategy<Value = Vec<Asked>> {
        let asked = (0..9_u64, 0..9_u64, 0..15_u64, any::<bool>(), 0..2_000_000_000_i64);
        let asked = asked.prop_map(|(tokens, cost, used, ends, pause)| Asked {
            expected: demand(tokens, cost),
            used: demand(used, used),
            ends,
            pause,
        });
        prop::collection::vec(asked, 0..30)
    }

    proptest! {
        /// Nothing that would be admitted is refused, and all that would be refused whatever it is, is.
        #[test]
        fn it_refuses_what_the_smallest_request_would_be_refused_for(
            limits in prop::collection::vec(limit(), 1..4),
            requests in requests(),
        ) {
            let mut time = 0;
            let mut in_flight = Vec::new();
            for Asked { expected, used, ends, pause } in requests {
                let certain = certain_refusal(&limits, at(time));
                let smallest = Admitted::take(&limits, demand(0, 0), at(time)).map(drop);
                let result = Admitted::take(&limits, expected, at(time));
                if let Some(refused) = &certain {
                    prop_assert!(smallest.is_err() && result.is_err(), "{refused:?}");
                    let smallest = smallest.unwrap_err();
                    prop_assert_eq!((smallest.unit, smallest.wait), (refused.unit, refused.wait));
                    prop_assert!(Arc::ptr_eq(&smallest.counter, &refused.counter));
                } else if let Err(refused) = smallest {
                    let may_wait = |applied: &Applied| applied.limit.enforce && applied.limit.queue.is_some();
                    prop_assert!(limits.iter().any(may_wait), "{refused:?}");
                }
                if let Ok(admitted) = result {
                    if ends { admitted.settle(used, at(time)) } else { in_flight.push(admitted) }
                }
                time += pause;
            }
        }
    }

    #[test]
    fn after_the_time_that_it_says_a_request_is_admitted() {
        let rate = Some(Allowance::Rate(Rate::new(60, Duration::from_secs(60), 2)));
        let limit = Limit {
            name: "one".into(),
            requests: rate,
            tokens: None,
            cost: None,
            concurrent: None,
            weights: Weights::default(),
            enforce: true,
            goes_on: false,
            queue: None,
        };
        let limits = [Applied { counter: Arc::new(Counter::new(&limit)), limit: Arc::new(limit) }];
        for _ in 0..2 {
            assert!(certain_refusal(&limits, at(0)).is_none());
            Admitted::take(&limits, demand(0, 0), at(0)).unwrap().settle(demand(0, 0), at(0));
        }
        let refused = certain_refusal(&limits, at(0)).unwrap();
        assert_eq!(refused.wait, Some(Duration::from_secs(1)));
        assert!(certain_refusal(&limits, at(999_999_999)).is_some());
        assert!(certain_refusal(&limits, at(1_000_000_000)).is_none());
    }
}
