use std::{
    sync::{Barrier, atomic::AtomicBool},
    task::Waker,
    thread,
};

use super::*;
use crate::priority::Priority;

mod properties;
mod reference;

const ONE: FlowKey = FlowKey(1);
const TWO: FlowKey = FlowKey(2);

fn queue() -> Arc<WaitQueue> {
    Arc::default()
}

fn ticket(flow: FlowKey) -> Ticket {
    Ticket { flow, ..Ticket::anonymous() }
}

fn wait(queue: &Arc<WaitQueue>, limit: usize, flow: FlowKey) -> Waiter {
    queue.enqueue(limit, Room::LARGEST, ticket(flow)).expect("there is room in the queue")
}

fn granted(waiter: &mut Waiter) -> Option<QueuePermit> {
    match Pin::new(waiter).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(permit) => Some(permit),
        Poll::Pending => None,
    }
}

#[test]
fn the_first_to_come_is_the_first_to_be_served() {
    let queue = queue();
    let first = queue.try_take(Some(1)).unwrap();
    assert!(queue.try_take(Some(1)).is_none());
    let mut waiters: Vec<_> = (0..3).map(|_| wait(&queue, 1, ONE)).collect();
    assert!(waiters.iter_mut().all(|waiter| granted(waiter).is_none()));
    let mut permit = first;
    for turn in 0..3 {
        drop(permit);
        assert_eq!(queue.taken(), 1, "it is handed over, and never free");
        assert!(queue.try_take(Some(1)).is_none(), "no request overtakes");
        let mut served = waiters
            .iter_mut()
            .enumerate()
            .filter_map(|(index, waiter)| granted(waiter).map(|permit| (index, permit)));
        let (index, next) = served.next().unwrap();
        assert!(index == turn && served.next().is_none());
        permit = next;
    }
    drop(permit);
    assert!(queue.taken() == 0 && !queue.has_waiters());
    assert!(queue.try_take(Some(1)).is_some());
}

#[test]
fn a_later_request_does_not_overtake_those_that_wait() {
    let queue = queue();
    let permit = queue.try_take(Some(2)).unwrap();
    let second = queue.try_take(Some(2)).unwrap();
    let _waiting = wait(&queue, 1, ONE);
    drop(second);
    assert_eq!(queue.taken(), 1, "the waiter's own limit is reached");
    assert!(queue.try_take(Some(2)).is_none());
    assert!(granted(&mut wait(&queue, 2, ONE)).is_some(), "a waiter with a larger limit is not delayed");
    drop(permit);
}

#[test]
fn flows_take_turns() {
    let queue = queue();
    let mut permit = queue.try_take(Some(1)).unwrap();
    let mut waiters: Vec<_> =
        [ONE, ONE, ONE, TWO, TWO].into_iter().map(|flow| wait(&queue, 1, flow)).collect();
    let mut order = Vec::new();
    for _ in 0..waiters.len() {
        drop(permit);
        let mut served = waiters
            .iter_mut()
            .enumerate()
            .filter_map(|(index, waiter)| granted(waiter).map(|permit| (index, permit)));
        let (index, next) = served.next().unwrap();
        order.push(index);
        permit = next;
    }
    assert_eq!(order, [0, 3, 1, 4, 2]);
}

#[test]
fn a_waiter_that_leaves_gives_its_permit_to_the_next() {
    let queue = queue();
    let permit = queue.try_take(Some(1)).unwrap();
    let (left, given, mut last) = (wait(&queue, 1, ONE), wait(&queue, 1, ONE), wait(&queue, 1, TWO));
    drop(left);
    drop(permit);
    assert_eq!(queue.taken(), 1, "it is given to the second");
    drop(given);
    assert_eq!(queue.taken(), 1, "and passed on to the last");
    drop(granted(&mut last).unwrap());
    assert!(queue.taken() == 0 && !queue.has_waiters());
}

#[test]
fn a_waiter_with_a_smaller_limit_that_leaves_delays_no_other() {
    let queue = queue();
    let permits: Vec<_> = (0..2).map(|_| queue.try_take(None).unwrap()).collect();
    let fewer = wait(&queue, 1, ONE);
    let mut more = wait(&queue, 2, ONE);
    drop(fewer);
    drop(permits);
    assert!(granted(&mut more).is_some());
}

#[test]
fn the_next_one_can_be_served_with_a_permit_that_is_out() {
    let queue = queue();
    let _permit = queue.try_take(Some(1)).unwrap();
    let (first, second) = (wait(&queue, 1, ONE), wait(&queue, 1, ONE));
    assert_eq!(queue.withdraw_next(|number| number == second.number()), None);
    for waiter in [first, second] {
        assert_eq!(queue.withdraw_next(|_| true), Some(waiter.number()));
    }
    assert!(queue.taken() == 1 && !queue.has_waiters());
}

#[test]
fn the_queue_is_bounded() {
    let queue = queue();
    let _permit = queue.try_take(Some(1)).unwrap();
    let waiters: Vec<_> = (0..MOST_WAITERS).map(|_| wait(&queue, 1, ONE)).collect();
    assert!(queue.enqueue(1, Room::LARGEST, ticket(TWO)).is_none());
    drop(waiters);
    assert!(queue.enqueue(1, Room::LARGEST, ticket(TWO)).is_some());
}

#[test]
fn idle_holders_are_notified() {
    let (queue, holder) = (queue(), Arc::<Notify>::default());
    queue.notify(&holder);
    queue.notify(&holder);
    assert_eq!(queue.lock().holders.len(), 1);
    let mut notified = Box::pin(holder.notified());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(notified.as_mut().poll(&mut cx).is_pending());
    let _waiting = wait(&queue, 0, ONE);
    assert!(notified.as_mut().poll(&mut cx).is_ready());
}

/// Threads take, wait, leave and give back; no permit is lost or counted twice, and every waiter that stays is served.
#[tokio::test]
async fn nothing_is_lost_between_threads() {
    const THREADS: usize = 4;
    let queue = queue();
    let start = Arc::new(Barrier::new(THREADS));
    let over = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..THREADS as u64)
        .map(|thread| {
            let (queue, start, over) = (queue.clone(), start.clone(), over.clone());
            thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                start.wait();
                for round in 0..2_000_u64 {
                    if let Some(permit) = queue.try_take(Some(2)) {
                        drop(permit);
                        continue;
                    }
                    let mut waiter = wait(&queue, 2, FlowKey(thread % 2));
                    if round % 3 == 0 {
                        drop(granted(&mut waiter));
                        continue;
                    }
                    let permit = runtime.block_on(waiter);
                    over.fetch_or(queue.taken() > 2, Ordering::Relaxed);
                    drop(permit);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(!over.load(Ordering::Relaxed), "never more than the limit");
    assert!(queue.taken() == 0 && !queue.has_waiters());
    assert_eq!(queue.lock().schedule.waiting(), 0);
}

#[test]
fn the_bytes_of_those_who_wait_are_bounded() {
    let queue = queue();
    let _permit = queue.try_take(Some(1)).unwrap();
    let bounds = Room { waiters: 3, bytes: 100 };
    let join = |bytes| queue.enqueue(1, bounds, Ticket { bytes, ..ticket(ONE) });
    assert!(join(101).is_none());
    let large = join(60).unwrap();
    assert!(join(41).is_none());
    let _small = (join(40).unwrap(), join(0).unwrap());
    assert!(join(0).is_none(), "so many may wait");
    drop(large);
    assert!(join(60).is_some());
}

#[test]
fn who_has_a_permit_counts_until_the_waiter_is_dropped() {
    let queue = queue();
    let bounds = Room { waiters: 1, bytes: 10 };
    let mut first = queue.enqueue(1, bounds, Ticket { bytes: 10, ..ticket(ONE) }).unwrap();
    let turn = granted(&mut first).unwrap();
    assert_eq!((queue.waiting(), queue.waiters()), (0, 1));
    assert!(queue.enqueue(1, bounds, ticket(TWO)).is_none());
    drop((turn, first));
    assert!(queue.enqueue(1, bounds, ticket(TWO)).is_some());
}

#[test]
fn a_request_that_comes_back_gets_its_place_again() {
    let queue = queue();
    let permit = queue.try_take(Some(1)).unwrap();
    let (early, late) = (ticket(ONE), ticket(ONE));
    let mut second = queue.enqueue(1, Room::LARGEST, late).unwrap();
    let mut first = queue.enqueue(1, Room::LARGEST, early).unwrap();
    assert_eq!((second.position(), first.position()), (1, 1));
    drop(permit);
    let permit = granted(&mut first).unwrap();
    assert!(granted(&mut second).is_none());
    drop(permit);
    assert!(granted(&mut second).is_some());
}

#[test]
fn the_position_counts_what_is_served_before() {
    let queue = queue();
    let _permit = queue.try_take(Some(1)).unwrap();
    let join = |flow, priority| {
        let ticket = Ticket { priority, ..ticket(FlowKey(flow)) };
        queue.enqueue(1, Room::LARGEST, ticket).unwrap()
    };
    let waiters: Vec<Waiter> = (0..10).map(|_| join(1, Priority::Normal)).collect();
    assert_eq!(waiters.last().unwrap().position(), 10);
    let other = join(2, Priority::Normal);
    assert_eq!(other.position(), 2, "ten of one client are no ten before another's first");
    assert_eq!(join(1, Priority::High).position(), 1);
    assert_eq!(join(3, Priority::Low).position(), 12);
}
