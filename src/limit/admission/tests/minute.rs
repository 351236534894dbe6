//! A minute of traffic under a limit on tokens, by a simulated clock: what is used stays what burst and rate allow, however wrong the estimates are.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::*;

const MILLI: i64 = 1_000_000;

/// Tokens per minute, and at once.
const RATE: u64 = 1_000_000;
const BURST: u64 = 100_000;

/// Tokens between two charges of a stream.
const STEP: u64 = 256;

/// How requests end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Whole, with a report.
    Whole,
    /// The client leaves in the middle: what was seen is charged.
    Left,
    /// The upstream refuses it, and all is given back.
    Failed,
}

/// What a request uses, and what is expected of it.
#[derive(Debug, Clone, Copy)]
struct Plan {
    input: u64,
    output: u64,
    expected: TokenCount,
    end: End,
    /// Milliseconds that a token takes.
    pace: i64,
}

/// A request that runs.
struct Running {
    admitted: Admitted,
    plan: Plan,
    produced: u64,
}

/// What is expected of a request by its real tokens of output, and its number.
type Expects = fn(u64, u64) -> u64;

/// What the callers do.
#[derive(Debug, Clone, Copy)]
struct Mix {
    callers: usize,
    /// Largest request, in tokens.
    largest: u64,
    expects: Expects,
}

/// What came of a minute.
#[derive(Debug)]
struct Minute {
    used: u64,
    admitted: u64,
    most_in_flight: usize,
}

fn nanos(nanos: i64) -> Moment {
    Moment { monotonic: Now::from_nanos(nanos), wall: Timestamp::from_second(1_800_000_000).unwrap() }
}

/// Runs callers that each begin a request as soon as their last one has ended, and wait as long as a refusal says, and a little more.
fn run(mix: Mix, seed: u64) -> Minute {
    let limits = [applied(Limit { tokens: rate(RATE, BURST), ..limit("team") })];
    let mut random = fastrand::Rng::with_seed(seed);
    let mut events: BinaryHeap<Reverse<(i64, usize)>> =
        (0..mix.callers).map(|caller| Reverse((0, caller))).collect();
    let mut running: Vec<Option<Running>> = (0..mix.callers).map(|_| None).collect();
    let mut minute = Minute { used: 0, admitted: 0, most_in_flight: 0 };
    let mut number = 0;
    while let Some(Reverse((time, caller))) = events.pop() {
        if time > 60_000 * MILLI {
            break;
        }
        let now = nanos(time);
        let next = match running[caller].take() {
            None => {
                number += 1;
                let plan = plan(mix, number, &mut random);
                match Admitted::take(&limits, Demand { tokens: plan.expected, ..Demand::default() }, now) {
                    Err(refused) => {
                        i64::try_from(refused.wait.unwrap().as_nanos()).unwrap() + random.i64(0..200 * MILLI)
                    }
                    Ok(admitted) => {
                        minute.admitted += 1;
                        minute.used += if plan.end == End::Failed { 0 } else { plan.input };
                        running[caller] = Some(Running { admitted, plan, produced: 0 });
                        i64::try_from(STEP.min(plan.output)).unwrap() * plan.pace * MILLI
                    }
                }
            }
            Some(request) => step(request, now, &mut minute, &mut running[caller], &mut random),
        };
        minute.most_in_flight = minute.most_in_flight.max(running.iter().flatten().count());
        events.push(Reverse((time + next.max(1), caller)));
    }
    minute
}

fn plan(mix: Mix, number: u64, random: &mut fastrand::Rng) -> Plan {
    let input = random.u64(1..=mix.largest / 4);
    let output = random.u64(1..=mix.largest - input);
    let end = match random.u8(0..10) {
        0 => End::Left,
        1 => End::Failed,
        _ => End::Whole,
    };
    let expected = TokenCount { input, output: (mix.expects)(output, number), ..TokenCount::default() };
    Plan { input, output, expected, end, pace: random.i64(1..=4) }
}

/// One step of a request: it has produced a step's tokens more. Returns the nanoseconds to the next event of its caller.
fn step(
    mut request: Running,
    now: Moment,
    minute: &mut Minute,
    place: &mut Option<Running>,
    random: &mut fastrand::Rng,
) -> i64 {
    let plan = request.plan;
    if plan.end == End::Failed {
        drop(request);
        return MILLI;
    }
    let more = STEP.min(plan.output - request.produced);
    request.produced += more;
    minute.used += more;
    let has_left = plan.end == End::Left && random.bool();
    if request.produced == plan.output || has_left {
        request.admitted.settle(tokens(plan.input, request.produced), now);
        return MILLI;
    }
    request.admitted.charge_so_far(tokens(plan.input, request.produced), now);
    let rest = STEP.min(plan.output - request.produced);
    *place = Some(request);
    i64::try_from(rest).unwrap() * plan.pace * MILLI
}

/// How wrong estimates are.
const ESTIMATES: [(&str, Expects); 4] = [
    ("right", |real, _| real),
    ("a quarter of it", |real, _| real / 4),
    ("four times as much", |real, _| real * 4),
    ("either", |real, number| if number % 2 == 0 { real / 4 } else { real * 4 }),
];

/// What burst and rate allow within the minute.
const ALLOWED: u64 = BURST + RATE;

#[test]
fn small_requests_use_what_burst_and_rate_allow_within_two_per_cent() {
    for (name, expects) in ESTIMATES {
        for (callers, largest) in [(60, 2_000), (200, 2_000), (200, 500)] {
            for seed in 0..3 {
                let minute = run(Mix { callers, largest, expects }, seed);
                let what = format!("{name}: {callers} callers, {largest} tokens: {minute:?}");
                assert!(minute.used * 100 <= ALLOWED * 102, "{what}");
                // The limit is no excuse to admit much less: what is reserved and not used comes back.
                assert!(minute.used * 100 >= ALLOWED * 88, "{what}");
            }
        }
    }
}

#[test]
fn large_requests_exceed_it_by_a_step_of_each_in_flight_and_one_request() {
    for (name, expects) in ESTIMATES {
        for largest in [20_000, 150_000] {
            for seed in 0..3 {
                let minute = run(Mix { callers: 30, largest, expects }, seed);
                let excess = minute.most_in_flight as u64 * STEP + largest;
                assert!(minute.used <= ALLOWED + excess, "{name}: {largest} tokens: {minute:?}");
                assert!(minute.admitted > 10, "{minute:?}");
            }
        }
    }
}
