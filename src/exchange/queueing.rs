//! How one request waits in queues.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use crate::wait_queue::Ticket;

/// The one place of a request in queues. It has the same ticket in each, before and after failed attempts, so it keeps its turn; and what it has
/// waited adds up.
#[derive(Debug)]
pub struct Queueing {
    /// With what the request joins a queue.
    pub ticket: Ticket,
    /// Its position when it first joined one, from 1; 0: it never did.
    position: Cell<usize>,
    /// How long it has waited in queues that it has left.
    waited: Cell<Duration>,
    /// Since when it waits without interruption, and in how many queues at once.
    since: Cell<Option<Instant>>,
    queues: Cell<usize>,
}

/// A wait in one queue, which ends when this is dropped.
#[derive(Debug)]
pub struct QueueWait(Rc<Queueing>);

impl Queueing {
    /// A request that has not waited yet.
    pub fn new(ticket: Ticket) -> Rc<Self> {
        Rc::new(Self {
            ticket,
            position: Cell::default(),
            waited: Cell::default(),
            since: Cell::default(),
            queues: Cell::default(),
        })
    }

    /// Notes that the request has joined a queue at this `position`.
    pub fn join(self: &Rc<Self>, position: usize) -> QueueWait {
        if self.position.get() == 0 {
            self.position.set(position);
        }
        if self.queues.replace(self.queues.get() + 1) == 0 {
            self.since.set(Some(Instant::now()));
        }
        QueueWait(self.clone())
    }

    /// Its position when it first joined a queue, from 1; `None`: it never did.
    pub fn position(&self) -> Option<usize> {
        Some(self.position.get()).filter(|position| *position > 0)
    }

    /// How long it has waited in queues so far. While it is in several at once, the time counts once.
    pub fn waited(&self) -> Duration {
        let current = self.since.get().map(|since| since.elapsed()).unwrap_or_default();
        self.waited.get() + current
    }
}

impl Drop for QueueWait {
    fn drop(&mut self) {
        let Queueing { queues, since, waited, .. } = &*self.0;
        queues.set(queues.get().saturating_sub(1));
        if queues.get() == 0
            && let Some(since) = since.take()
        {
            waited.set(waited.get() + since.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_in_several_queues_count_once() {
        let queueing = Queueing::new(Ticket::anonymous());
        assert_eq!((queueing.position(), queueing.waited()), (None, Duration::ZERO));
        let (first, second) = (queueing.join(3), queueing.join(1));
        assert_eq!(queueing.position(), Some(3), "where it was first");
        drop(first);
        assert!(queueing.since.get().is_some(), "it still waits in the other");
        drop(second);
        let waited = queueing.waited();
        assert!(queueing.since.get().is_none());
        assert_eq!(queueing.waited(), waited, "it waits no longer");
        drop(queueing.join(2));
        assert!(queueing.position() == Some(3) && queueing.waited() >= waited);
    }
}
