//! What holds for every queue, whatever its waiters do.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use super::{
    reference::{Reference, Waiting},
    *,
};
use crate::wait_queue::schedule::Schedule;

/// What can happen to a queue.
#[derive(Debug, Clone)]
enum Event {
    Join {
        flow: u64,
        priority: Priority,
        weight: u64,
    },
    Serve,
    Leave(prop::sample::Index),
    /// A request that was served has used this many tokens.
    Correct(prop::sample::Index, u64),
}

fn priority() -> impl Strategy<Value = Priority> {
    prop::sample::select(&Priority::ALL[..])
}

fn event() -> impl Strategy<Value = Event> {
    let weight = prop_oneof![1_u64..20, 1_u64..400];
    prop_oneof![
        5 => (0_u64..5, priority(), weight.clone())
            .prop_map(|(flow, priority, weight)| Event::Join { flow, priority, weight }),
        3 => Just(Event::Serve),
        1 => any::<prop::sample::Index>().prop_map(Event::Leave),
        1 => (any::<prop::sample::Index>(), weight).prop_map(|(index, used)| Event::Correct(index, used)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// The same waiters are served in the same order by the schedule and by the reference. No waiter is lost, and none overtakes within its flow.
    #[test]
    fn the_schedule_serves_as_the_reference_does(events in vec(event(), 1..200)) {
        let (mut schedule, mut reference) = (Schedule::default(), Reference::default());
        let (mut waiting, mut served) = (Vec::<Waiting>::new(), Vec::<Ticket>::new());
        for (number, event) in (0_u64..).zip(events) {
            match event {
                Event::Join { flow, priority, weight } => {
                    let ticket = Ticket { priority, weight, ..ticket(FlowKey(flow)) };
                    schedule.insert(ticket, number);
                    reference.insert(ticket, number);
                    waiting.push(Waiting { ticket, number });
                }
                Event::Serve => {
                    let expected = reference.take_next();
                    let next = schedule.take_next(|_| true, |_| true);
                    prop_assert_eq!(next, expected.map(|waiting| waiting.number));
                    let Some(next) = next else { prop_assert!(waiting.is_empty()); continue };
                    let index = waiting.iter().position(|waiting| waiting.number == next).unwrap();
                    let next = waiting.remove(index).ticket;
                    let is_of_flow = |other: &&Waiting| (other.ticket.flow, other.ticket.priority) == (next.flow, next.priority);
                    prop_assert!(waiting.iter().filter(is_of_flow).all(|other| other.ticket.arrival > next.arrival));
                    served.push(next);
                }
                Event::Leave(index) if !waiting.is_empty() => {
                    let gone = waiting.remove(index.index(waiting.len()));
                    prop_assert_eq!(schedule.remove(&gone.ticket), Some(gone.number));
                    reference.remove(gone.number);
                }
                Event::Correct(index, used) if !served.is_empty() => {
                    let ticket = served[index.index(served.len())];
                    schedule.charge(ticket.priority, ticket.flow, ticket.excess(used));
                    reference.charge(&ticket, ticket.excess(used));
                }
                Event::Leave(_) | Event::Correct(..) => {}
            }
            prop_assert_eq!(schedule.waiting(), waiting.len());
        }
    }

    /// Flows that always have waiters have been served the same number of tokens, within one quantum and the largest two requests.
    #[test]
    fn flows_that_always_wait_get_the_same_share(
        weights in vec(vec(1_u64..500, 1..6), 2..6),
        services in 1_usize..400,
    ) {
        let mut schedule = Schedule::default();
        let join = |schedule: &mut Schedule<(usize, u64)>, flow: usize, number: usize| {
            let weight = weights[flow][number % weights[flow].len()];
            schedule.insert(Ticket { weight, ..ticket(FlowKey(flow as u64)) }, (flow, weight));
        };
        // Three of each wait at any time.
        let mut joined = vec![3; weights.len()];
        for flow in 0..weights.len() {
            (0..3).for_each(|number| join(&mut schedule, flow, number));
        }
        let mut served = vec![0; weights.len()];
        for _ in 0..services {
            let (flow, weight) = schedule.take_next(|_| true, |_| true).unwrap();
            served[flow] += weight;
            join(&mut schedule, flow, joined[flow]);
            joined[flow] += 1;
        }
        let largest = *weights.iter().flatten().max().unwrap();
        let (most, least) = (served.iter().max().unwrap(), served.iter().min().unwrap());
        prop_assert!(most - least <= 3 * largest, "{served:?}, largest {largest}");
    }

    /// A priority that always has waiters gets its least share, within two requests. What nobody of a higher one wants is not wasted.
    #[test]
    fn no_priority_starves(weights in vec((1_u64..300, 1_u64..300, 1_u64..300), 1..5), services in 50_usize..600) {
        let mut schedule = Schedule::default();
        let weight_of = |priority, number: usize| {
            let (high, normal, low) = weights[number % weights.len()];
            match priority { Priority::High => high, Priority::Normal => normal, Priority::Low => low }
        };
        let mut served: BTreeMap<Priority, u64> = BTreeMap::new();
        let join = |schedule: &mut Schedule<(Priority, u64)>, priority, number| {
            let weight = weight_of(priority, number);
            schedule.insert(Ticket { priority, weight, ..ticket(ONE) }, (priority, weight));
        };
        Priority::ALL.into_iter().for_each(|priority| (0..2).for_each(|number| join(&mut schedule, priority, number)));
        for number in 2..services {
            let (priority, weight) = schedule.take_next(|_| true, |_| true).unwrap();
            *served.entry(priority).or_default() += weight;
            join(&mut schedule, priority, number);
        }
        let all: u64 = served.values().sum();
        let of = |priority| served.get(&priority).copied().unwrap_or_default();
        prop_assert!(of(Priority::Low) + 600 >= all / 10, "{served:?}");
        prop_assert!(of(Priority::Normal) + 600 >= all / 5, "{served:?}");
        prop_assert!(of(Priority::High) + 600 >= all * 7 / 10, "{served:?}");
    }

    /// Whatever waiters and permits do, no permit is lost and none is counted twice: when all are gone, none is out, and the next request gets one.
    #[test]
    fn no_permit_is_lost(actions in vec((0_u8..4, any::<prop::sample::Index>(), 0_u64..3, priority()), 1..120), limit in 1_usize..4) {
        let queue = queue();
        let (mut waiters, mut permits) = (Vec::<Waiter>::new(), Vec::<QueuePermit>::new());
        for (action, index, flow, priority) in actions {
            match action {
                0 => {
                    let ticket = Ticket { priority, ..ticket(FlowKey(flow)) };
                    waiters.extend(queue.enqueue(limit, Room::LARGEST, ticket));
                }
                1 if !waiters.is_empty() => drop(waiters.remove(index.index(waiters.len()))),
                2 if !permits.is_empty() => drop(permits.remove(index.index(permits.len()))),
                _ => {
                    permits.extend(waiters.iter_mut().filter_map(granted));
                    permits.extend(queue.try_take(Some(limit)));
                }
            }
            prop_assert!(queue.taken() <= limit);
            prop_assert!(queue.waiting() == 0 || queue.taken() == limit, "a permit is free, and one waits");
        }
        drop(permits);
        drop(waiters);
        prop_assert_eq!((queue.taken(), queue.waiting(), queue.waiters()), (0, 0, 0));
        prop_assert!(queue.try_take(Some(1)).is_some());
    }
}

/// Estimates that are wrong by a factor of four in both directions do not change what clients get.
#[test]
fn corrected_estimates_leave_the_shares_equal() {
    let mut schedule = Schedule::default();
    let of = |flow: u64| Ticket { weight: 100, ..ticket(FlowKey(flow)) };
    let real = |flow: FlowKey| [25_u64, 100, 400][usize::try_from(flow.0).unwrap()];
    for flow in 0..3 {
        (0..8).for_each(|_| {
            let ticket = of(flow);
            schedule.insert(ticket, ticket);
        });
    }
    let mut used = [0_u64; 3];
    for _ in 0..3_000 {
        let next = schedule.take_next(|_| true, |_| true).unwrap();
        used[usize::try_from(next.flow.0).unwrap()] += real(next.flow);
        schedule.charge(next.priority, next.flow, next.excess(real(next.flow)));
        let again = of(next.flow.0);
        schedule.insert(again, again);
    }
    let fair = used.iter().sum::<u64>() / 3;
    assert!(used.iter().all(|used| used.abs_diff(fair) <= 1_000), "{used:?}");
}

/// The least share of a priority is one of what was really used, whatever was expected.
#[test]
fn a_priority_gets_its_share_of_what_was_really_used() {
    for (of_normal, of_low) in [(400, 25), (25, 400), (100, 50), (100, 100)] {
        let mut schedule = Schedule::default();
        let join = |schedule: &mut Schedule<Ticket>, priority| {
            let ticket = Ticket { priority, weight: 100, ..ticket(ONE) };
            schedule.insert(ticket, ticket);
        };
        for priority in [Priority::Normal, Priority::Low] {
            (0..4).for_each(|_| join(&mut schedule, priority));
        }
        let (mut all, mut low) = (0, 0);
        for _ in 0..5_000 {
            let next = schedule.take_next(|_| true, |_| true).unwrap();
            let used = if next.priority == Priority::Low { of_low } else { of_normal };
            schedule.charge(next.priority, next.flow, next.excess(used));
            all += used;
            low += if next.priority == Priority::Low { used } else { 0 };
            join(&mut schedule, next.priority);
        }
        let share = low as f64 / all as f64;
        assert!((0.095..0.105).contains(&share), "{share} with {of_normal} and {of_low}");
    }
}
