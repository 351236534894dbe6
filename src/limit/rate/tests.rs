use std::sync::{Arc, Barrier};

use proptest::prelude::*;

use super::*;

const SECOND: i64 = 1_000_000_000;

fn per_minute(quantity: u64, burst: u64) -> Rate {
    Rate::new(quantity, Duration::from_secs(60), burst)
}

#[test]
fn a_burst_is_admitted_at_once_and_then_one_request_per_interval() {
    for (quantity, burst) in [(60, 6), (7, 3), (1, 1), (600, 60), (59_999, 101)] {
        let (rate, clock) = (per_minute(quantity, burst), Clock::new());
        let now = Now::from_nanos(5 * SECOND);
        for taken in 0..burst {
            assert_eq!(clock.take(&rate, 1, now), Ok(1), "{quantity} a minute, request {taken} of {burst}");
        }
        let wait = clock.take(&rate, 1, now).expect_err("the burst is used");
        // Exactly at the end of the wait the next request is admitted, and not a nanosecond before.
        let wait = i64::try_from(wait.as_nanos()).unwrap();
        assert!(clock.take(&rate, 1, Now::from_nanos(5 * SECOND + wait - 1)).is_err());
        assert_eq!(clock.take(&rate, 1, Now::from_nanos(5 * SECOND + wait)), Ok(1));
    }
}

#[test]
fn what_is_used_and_what_remains_add_up_to_the_burst_at_any_time() {
    let (rate, clock) = (per_minute(10, 10), Clock::new());
    let level = |millis: i64| {
        let level = clock.level(&rate, Now::from_nanos(millis * SECOND / 1000));
        (level.used, level.remaining)
    };
    assert_eq!(level(0), (0, 10));
    (0..3).for_each(|_| assert_eq!(clock.take(&rate, 1, Now::from_nanos(0)), Ok(1)));
    assert_eq!(level(0), (3, 7));
    assert_eq!(level(1), (3, 7), "a part of a unit cannot be used");
    assert_eq!(level(5_999), (3, 7));
    assert_eq!(level(6_000), (2, 8));
    assert_eq!(level(17_999), (1, 9));
    assert_eq!(level(18_000), (0, 10));
    clock.charge(&rate, 14, Now::from_nanos(0));
    assert_eq!(level(0), (17, 0), "what is owed counts as used");
}

#[test]
fn the_unit_that_was_written_is_kept() {
    // 5 a second is not 300 a minute: after the burst of 1 there is one each 200 ms.
    let (rate, clock) = (Rate::new(5, Duration::from_secs(1), 1), Clock::new());
    assert_eq!(clock.take(&rate, 1, Now::from_nanos(0)), Ok(1));
    assert_eq!(clock.take(&rate, 1, Now::from_nanos(0)), Err(Duration::from_millis(200)));
}

#[test]
fn what_is_larger_than_the_burst_waits_for_a_full_one_and_leaves_debt() {
    let (rate, clock) = (per_minute(60_000, 6_000), Clock::new());
    let at = |seconds| Now::from_nanos(seconds * SECOND);
    assert_eq!(clock.take(&rate, 50_000, at(0)), Ok(6_000));
    assert!(clock.take(&rate, 50_000, at(5)).is_err());
    assert_eq!(clock.take(&rate, 50_000, at(6)), Ok(6_000));
    // It really used 54,000 more: nothing is admitted for 54 s after the 6 s of its reservation.
    clock.charge(&rate, 54_000, at(6));
    assert!(clock.level(&rate, at(6)).in_debt);
    assert_eq!(clock.take(&rate, 1_000, at(6)), Err(Duration::from_secs(55)));
    assert_eq!(clock.take(&rate, 1_000, at(61)), Ok(1_000));
}

#[test]
fn a_refund_restores_what_was_taken_and_no_more() {
    let (rate, clock) = (per_minute(60, 6), Clock::new());
    let now = Now::from_nanos(0);
    assert_eq!(clock.take(&rate, 6, now), Ok(6));
    clock.refund(&rate, 2);
    assert_eq!(clock.level(&rate, now).remaining, 2);
    // Long after the reservation was paid for by time, a refund does not make the burst larger.
    clock.refund(&rate, 4);
    clock.refund(&rate, 600);
    assert_eq!(clock.level(&rate, now).remaining, 6);
    assert_eq!(clock.take(&rate, 6, now), Ok(6));
    assert!(clock.take(&rate, 1, now).is_err());
}

#[test]
fn numbers_at_the_ends_of_their_ranges_neither_panic_nor_wrap() {
    for rate in [
        Rate::new(u64::MAX, Duration::from_nanos(1), u64::MAX),
        Rate::new(1, Duration::MAX, u64::MAX),
        Rate::new(0, Duration::ZERO, 0),
    ] {
        let clock = Clock::new();
        for now in [i64::MIN, -1, 0, i64::MAX].map(Now::from_nanos) {
            let _ = clock.take(&rate, u64::MAX, now);
            clock.charge(&rate, u64::MAX, now);
            clock.refund(&rate, u64::MAX);
            assert!(clock.level(&rate, now).remaining <= rate.burst());
        }
    }
}

#[test]
fn threads_together_take_exactly_the_burst() {
    let (rate, clock) = (Arc::new(per_minute(600, 60)), Arc::new(Clock::new()));
    let start = Arc::new(Barrier::new(8));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (rate, clock, start) = (rate.clone(), clock.clone(), start.clone());
            std::thread::spawn(move || {
                start.wait();
                (0..1_000).filter(|_| clock.take(&rate, 1, Now::from_nanos(7)).is_ok()).count()
            })
        })
        .collect();
    let admitted: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(admitted, 60);
}

/// The slow reference: a bucket that is filled exactly, in units of `1 ÷ period` of a unit.
struct Bucket {
    filled: i128,
    at: i64,
}

impl Bucket {
    fn fill(&mut self, rate: &Rate, now: i64) {
        let full = i128::from(rate.burst) * i128::from(rate.period);
        let grown = i128::from(now - self.at) * i128::from(rate.quantity);
        self.filled = (self.filled + grown).min(full);
        self.at = now;
    }
}

#[derive(Debug, Clone)]
enum Action {
    Wait(i64),
    Take(u64),
    Charge(u64),
    Refund(u64),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        (0..3 * SECOND).prop_map(Action::Wait),
        (1..300_u64).prop_map(Action::Take),
        (1..300_u64).prop_map(Action::Charge),
        (1..300_u64).prop_map(Action::Refund),
    ];
    prop::collection::vec(action, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// The clock agrees with a bucket that is filled continuously: what one admits the other admits, as long as they are not apart by less
    /// than the rounding (a nanosecond for each action).
    #[test]
    fn the_clock_agrees_with_a_bucket(quantity in 1..5_000_u64, burst in 1..400_u64, actions in actions()) {
        let rate = Rate::new(quantity, Duration::from_secs(10), burst);
        let clock = Clock::new();
        let period = i128::from(rate.period);
        let mut bucket = Bucket { filled: i128::from(burst) * period, at: 0 };
        // Each action may round by a nanosecond, which is `quantity` in the bucket's units.
        let mut rounding = i128::from(burst) * i128::from(quantity);
        let mut now = 0;
        for action in actions {
            rounding += 2 * i128::from(quantity);
            bucket.fill(&rate, now);
            match action {
                Action::Wait(nanos) => now += nanos,
                Action::Take(units) => {
                    let asked = i128::from(units.min(burst)) * period;
                    match clock.take(&rate, units, Now::from_nanos(now)) {
                        Ok(taken) => {
                            prop_assert_eq!(taken, units.min(burst));
                            prop_assert!(bucket.filled + rounding >= asked, "admitted although not there");
                            bucket.filled -= asked;
                        }
                        Err(_) => prop_assert!(bucket.filled - rounding < asked, "refused although there"),
                    }
                }
                Action::Charge(units) => {
                    clock.charge(&rate, units, Now::from_nanos(now));
                    bucket.filled -= i128::from(units) * period;
                }
                Action::Refund(units) => {
                    clock.refund(&rate, units);
                    let full = i128::from(burst) * period;
                    bucket.filled = (bucket.filled + i128::from(units) * period).min(full);
                }
            }
        }
    }

    /// In no span is more admitted than the burst and what the rate allows in it.
    #[test]
    fn no_span_admits_more_than_burst_and_rate(
        quantity in 1..500_u64,
        burst in 1..50_u64,
        gaps in prop::collection::vec(0..2 * SECOND, 1..120),
    ) {
        let rate = Rate::new(quantity, Duration::from_secs(10), burst);
        let clock = Clock::new();
        let mut now = 0;
        let mut admitted = Vec::new();
        for gap in gaps {
            now += gap;
            if clock.take(&rate, 1, Now::from_nanos(now)).is_ok() {
                admitted.push(now);
            }
        }
        for (first, start) in admitted.iter().enumerate() {
            for (last, end) in admitted.iter().enumerate().skip(first) {
                let count = (last - first + 1) as u64;
                prop_assert!(count <= burst + rate.units_in(end - start), "{count} in {} ns", end - start);
            }
        }
    }
}
