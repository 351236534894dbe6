//! The wait in the queues of limits.

use std::{
    future::poll_fn,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use tokio::time::sleep_until;

use super::{NotAdmitted, taking::take_turn};
use crate::{
    body::ConnectionState,
    exchange::{Exchange, QueueResult, QueueWait, Queueing, Server},
    fault::Phase,
    limit::{Admitted, Applied, Counter, Demand, Refused},
    proxy::{context::RequestContext, queueing::queueing},
    snapshot::LimitIndex,
    store::StoreWait,
    telemetry::metrics::request_counts::QueueName,
    wait_queue::QueueBounds,
};

/// A request that waits for limits.
struct LimitWait<'a> {
    connection: &'a ConnectionState,
    index: &'a LimitIndex,
    limits: &'a [Applied],
    demand: Demand,
    queueing: Rc<Queueing>,
    /// The subjects in whose queues it has had its turn; at most one for each limit.
    turns: Vec<Arc<Counter>>,
    /// Whether the store was late in the last try, so that this process has decided it alone.
    was_late: bool,
}

/// What ends a part of a wait.
enum Woken<T> {
    By(T),
    /// The request may wait no longer.
    Late,
    /// The process drains.
    Draining,
}

/// Waits in the queue of the limit that has refused the request, and in those of others that refuse it later, until all `limits` admit it in one
/// step. Nothing is taken from them meanwhile.
///
/// # Errors
/// The refusal, if there is no queue, or no room in it, or if the request would have to wait for longer than it may.
pub(super) async fn wait(
    context: &RequestContext,
    exchange: &mut Exchange,
    limits: &[Applied],
    demand: Demand,
    refused: Refused,
) -> Result<Admitted, NotAdmitted> {
    let model = exchange.record.model.clone();
    let mut waiting = LimitWait {
        queueing: queueing(context, exchange, model.as_deref()),
        connection: &context.downstream.connection,
        index: &context.snapshot.limits,
        limits,
        demand,
        turns: Vec::new(),
        was_late: false,
    };
    let status = &exchange.handle.status;
    let before = status.phase();
    status.enter(Phase::Queue);
    let since = Instant::now();
    let result = waiting.until_admitted(refused).await;
    status.add_wait(since.elapsed());
    if !matches!(result, Err(NotAdmitted::TimedOut { .. } | NotAdmitted::Draining)) {
        status.enter(before);
    }
    result
}

impl LimitWait<'_> {
    async fn until_admitted(&mut self, mut refused: Refused) -> Result<Admitted, NotAdmitted> {
        loop {
            let Some(bounds) = refused.limit.queue else { return Err(NotAdmitted::Refused(refused)) };
            refused = match self.in_queue(&bounds, refused).await? {
                Ok(admitted) => return Ok(admitted),
                Err(other) => other,
            };
        }
    }

    /// Waits in the queue of the limit that has `refused` the request. The inner error is another limit, which refuses it when its turn has come.
    async fn in_queue(
        &mut self,
        bounds: &QueueBounds,
        mut refused: Refused,
    ) -> Result<Result<Admitted, Refused>, NotAdmitted> {
        let counter = refused.counter.clone();
        let latest = self.queueing.latest(bounds.wait, Instant::now());
        let queue = QueueName::Limit(Some(refused.limit.name.clone()));
        if is_too_late(&refused, latest) {
            self.queueing.turned_away(queue, QueueResult::TooLate);
            return Err(NotAdmitted::Refused(refused));
        }
        let Some(waiter) = counter.queue().join(bounds.room, self.queueing.ticket) else {
            self.queueing.turned_away(queue, QueueResult::Full);
            return Err(NotAdmitted::Refused(refused));
        };
        let wait = self.queueing.join(queue, waiter.position());
        loop {
            match self.within(latest, waiter.turn()).await {
                Woken::By(()) => {}
                Woken::Late => return Err(self.timed_out(&wait, refused)),
                Woken::Draining => return Err(draining(&wait)),
            }
            // The last is the one whose turn it is.
            self.turns.retain(|had| !Arc::ptr_eq(had, &counter));
            self.turns.push(counter.clone());
            refused = match self.take_turn().await {
                Ok(admitted) => {
                    self.queueing.served_by(Server::Limit(counter.clone()));
                    waiter.admitted();
                    wait.ends(QueueResult::Served);
                    return Ok(Ok(admitted));
                }
                Err(other) if !Arc::ptr_eq(&other.counter, &counter) => {
                    wait.ends(QueueResult::Moved);
                    return Ok(Err(other));
                }
                // The store may admit it, whatever this process decides alone. It is asked again soon.
                Err(again) if self.was_late => Refused { wait: None, ..again },
                Err(again) => again,
            };
            if is_too_late(&refused, latest) {
                return Err(self.timed_out(&wait, refused));
            }
            let until = match refused.wait {
                Some(wait) => Instant::now() + wait,
                // Nobody says when a request at another gateway has ended.
                None if self.index.sharing().is_some() => latest.min(Instant::now() + ask_again()),
                None => latest,
            };
            match self.within(until, waiter.woken()).await {
                Woken::Late if until >= latest => return Err(self.timed_out(&wait, refused)),
                Woken::Late => waiter.time_has_come(),
                Woken::Draining => return Err(draining(&wait)),
                Woken::By(()) => {}
            }
        }
    }

    /// Tries to take what the request wants. The request waits for its limits anyway, and pauses between two tries, so each try may wait for the store as
    /// long as a request may. A store that is late often is asked no more: its circuit breaker opens.
    async fn take_turn(&mut self) -> Result<Admitted, Refused> {
        let mut wait = StoreWait::default();
        let result = take_turn(self.index, self.limits, self.demand, &self.turns, &mut wait).await;
        self.was_late = wait.is_over();
        result
    }

    fn timed_out(&self, wait: &QueueWait, refused: Refused) -> NotAdmitted {
        wait.ends(QueueResult::Timeout);
        NotAdmitted::TimedOut { refused, waited: self.queueing.waited() }
    }

    /// The drain wakes the task.
    async fn within<T>(&self, latest: Instant, what: impl Future<Output = T>) -> Woken<T> {
        let draining =
            poll_fn(|_| if self.connection.is_draining() { Poll::Ready(()) } else { Poll::Pending });
        tokio::select! {
            biased;
            done = what => Woken::By(done),
            () = draining => Woken::Draining,
            () = sleep_until(latest.into()) => Woken::Late,
        }
    }
}

fn draining(wait: &QueueWait) -> NotAdmitted {
    wait.ends(QueueResult::Draining);
    NotAdmitted::Draining
}

/// When the shared store is asked again whether another gateway has given something back: in 50 to 100 ms.
fn ask_again() -> Duration {
    Duration::from_millis(fastrand::u64(50..=100))
}

/// Whether the limit will not admit the request before it may wait no longer.
fn is_too_late(refused: &Refused, latest: Instant) -> bool {
    refused.wait.is_some_and(|wait| Instant::now() + wait > latest)
}
