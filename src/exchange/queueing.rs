//! How one request waits in queues.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Finished, RequestKind, accounting::counted};
use crate::{
    limit::Counter,
    telemetry::metrics::{request_counts::QueueName, worker::WorkerMetrics},
    upstream::TargetState,
    wait_queue::Ticket,
};

/// The one place of a request in queues. It has the same ticket in each, before and after failed attempts, so it keeps its turn; and what it has
/// waited adds up.
#[derive(Debug)]
pub struct Queueing {
    /// With what the request joins a queue.
    pub ticket: Ticket,
    kind: RequestKind,
    metrics: Arc<WorkerMetrics>,
    /// What it has waited for; at most one for each limit and target that it has had to do with.
    served_by: RefCell<Vec<Server>>,
    /// Its position when it first joined one, from 1; 0: it never did.
    position: Cell<usize>,
    /// How long it has waited in queues that it has left.
    waited: Cell<Duration>,
    /// Since when it waits without interruption, and in how many queues at once.
    since: Cell<Option<Instant>>,
    queues: Cell<usize>,
    /// The longest wait that all queues in which it was allow.
    longest: Cell<Duration>,
}

/// What a request has waited for, and was served by.
#[derive(Debug)]
pub enum Server {
    /// A subject of a limit.
    Limit(Arc<Counter>),
    /// A target with `max_pending`.
    Target(Arc<TargetState>),
}

/// A wait in one queue, which ends when this is dropped.
#[derive(Debug)]
pub struct QueueWait {
    queueing: Rc<Queueing>,
    queue: QueueName,
    since: Instant,
    result: Cell<QueueResult>,
}

/// What becomes of a request that comes to a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueResult {
    /// Its turn came.
    Served,
    /// It waited for as long as it may.
    Timeout,
    /// There was no room.
    Full,
    /// Its turn could not come in time, so it did not wait.
    TooLate,
    /// It left the queue because something else served or refused it.
    Moved,
    /// The process drains.
    Draining,
    /// Its exchange ended: mostly the client left.
    Left,
}

impl QueueResult {
    /// The value of the metrics' label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Timeout => "timeout",
            Self::Full => "full",
            Self::TooLate => "too_late",
            Self::Moved => "moved",
            Self::Draining => "draining",
            Self::Left => "left",
        }
    }
}

impl Queueing {
    /// A request of this `kind` that has not waited yet. Its waits are counted in `metrics`.
    pub fn new(ticket: Ticket, kind: RequestKind, metrics: Arc<WorkerMetrics>) -> Rc<Self> {
        Rc::new(Self {
            ticket,
            kind,
            metrics,
            served_by: RefCell::default(),
            position: Cell::default(),
            waited: Cell::default(),
            since: Cell::default(),
            queues: Cell::default(),
            longest: Cell::new(Duration::MAX),
        })
    }

    /// Notes that the request has joined `queue` at this `position`.
    pub fn join(self: &Rc<Self>, queue: QueueName, position: usize) -> QueueWait {
        if self.position.get() == 0 {
            self.position.set(position);
        }
        let since = Instant::now();
        if self.queues.replace(self.queues.get() + 1) == 0 {
            self.since.set(Some(since));
        }
        QueueWait { queueing: self.clone(), queue, since, result: Cell::new(QueueResult::Left) }
    }

    /// Notes that the request did not join `queue`.
    pub fn turned_away(&self, queue: QueueName, result: QueueResult) {
        self.metrics.queued(queue, result.as_str(), None);
    }

    /// Notes what has served it, after a wait.
    pub fn served_by(&self, server: Server) {
        self.served_by.borrow_mut().push(server);
    }

    /// Corrects what the request counts in the queues that have served it, by the tokens that it has used. Where no limit learns from it
    /// (`has_account`), estimates are made better as well.
    pub(super) fn settle(&self, finished: &Finished<'_>, has_account: bool) {
        let used = match finished.usage() {
            Some(usage) => {
                let used = counted(&usage);
                if !has_account {
                    self.kind.learn(finished, used);
                }
                used.input.saturating_add(used.cached_input).saturating_add(used.output)
            }
            // Nothing came of it.
            None if finished.record.first_byte.is_none() => 0,
            None => return,
        };
        for server in self.served_by.borrow().iter() {
            match server {
                Server::Limit(counter) => counter.queue().correct(&self.ticket, used),
                Server::Target(state) => state.correct(&self.ticket, used),
            }
        }
    }

    /// Until when it may wait, if a queue allows `longest`. What it has waited elsewhere counts, and the smallest of all such bounds.
    pub fn latest(&self, longest: Duration, now: Instant) -> Instant {
        self.longest.set(self.longest.get().min(longest));
        now + self.longest.get().saturating_sub(self.waited())
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

impl QueueWait {
    /// Notes what the wait has led to. Without that, the exchange has ended.
    pub fn ends(&self, result: QueueResult) {
        self.result.set(result);
    }
}

impl Drop for QueueWait {
    fn drop(&mut self) {
        let Queueing { queues, since, waited, metrics, .. } = &*self.queueing;
        metrics.queued(self.queue.clone(), self.result.get().as_str(), Some(self.since.elapsed()));
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
    use crate::{
        limit::{Estimates, Likeness, RequestSize},
        telemetry::metrics::{histogram::Total, request_counts::Counts},
    };

    #[test]
    fn waits_in_several_queues_count_once() {
        let estimates = Arc::<Estimates>::default();
        let kind = RequestKind {
            like: estimates.average_index(Likeness { client: "", dialect: "chat_completions", model: "" }),
            estimates,
            size: RequestSize::of_text(0),
            runs_model: true,
            uses_tokens: true,
        };
        let metrics = Arc::<WorkerMetrics>::default();
        let queueing = Queueing::new(Ticket::anonymous(), kind, metrics.clone());
        let limit = || QueueName::Limit(Some("shared".into()));
        assert_eq!((queueing.position(), queueing.waited()), (None, Duration::ZERO));
        let (first, second) = (queueing.join(limit(), 3), queueing.join(limit(), 1));
        assert_eq!(queueing.position(), Some(3), "where it was first");
        drop(first);
        assert!(queueing.since.get().is_some(), "it still waits in the other");
        drop(second);
        let waited = queueing.waited();
        assert!(queueing.since.get().is_none());
        assert_eq!(queueing.waited(), waited, "it waits no longer");
        let third = queueing.join(limit(), 2);
        third.ends(QueueResult::Served);
        drop(third);
        queueing.turned_away(limit(), QueueResult::Full);
        assert!(queueing.position() == Some(3) && queueing.waited() >= waited);
        let mut counts = Counts::default();
        metrics.add_to(&mut counts);
        let results: Vec<_> =
            counts.queue_results.iter().map(|((_, result), count)| (*result, *count)).collect();
        assert_eq!(results, [("left", 2), ("served", 1), ("full", 1)]);
        assert_eq!(counts.queue_waits.get(&limit()).map(Total::count), Some(3));
    }
}
