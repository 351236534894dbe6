//! The queues of targets at their `max_pending` in which one request waits at the same time. Its ticket is the same in all of them.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use crate::{
    exchange::{QueueResult, QueueWait, Queueing, Server},
    snapshot::{Step, Target},
    telemetry::metrics::request_counts::QueueName,
    upstream::TargetState,
    wait_queue::{QueuePermit, Waiter},
};

/// The places of one request in the queues of targets, at most one for each target. Dropping them leaves the queues.
#[derive(Debug, Default)]
pub(super) struct TargetWaits {
    /// With what it joins queues; `None` as long as it need not.
    queueing: Option<Rc<Queueing>>,
    queued: Vec<Queued>,
    /// The permit that one of the queues has granted.
    granted: RefCell<Option<Granted>>,
}

/// A place in a target's queue.
#[derive(Debug)]
struct Queued {
    state: Arc<TargetState>,
    waiter: Waiter,
    wait: QueueWait,
}

/// What a place in a target's queue has led to.
#[derive(Debug)]
struct Granted {
    state: Arc<TargetState>,
    permit: QueuePermit,
}

impl TargetWaits {
    /// From now on the request joins queues with its ticket.
    pub(super) fn queue_as(&mut self, queueing: Rc<Queueing>) {
        self.queueing = Some(queueing);
    }

    /// Leaves the queues of all targets but `these`.
    pub(super) fn stay_at(&mut self, these: &[(&Step, &Target)]) {
        let stays =
            |state: &Arc<TargetState>| these.iter().any(|(_, target)| Arc::ptr_eq(state, &target.state));
        self.queued.retain(|queued| {
            let stays = stays(&queued.state);
            if !stays {
                queued.wait.ends(QueueResult::Moved);
            }
            stays
        });
    }

    /// Joins the queue of `target`, unless the request is in it, or the target has no limit or room.
    pub(super) fn join(&mut self, step: &Step, target: &Target) {
        let Some(max_pending) = step.upstream.max_pending else { return };
        if self.queued.iter().any(|queued| Arc::ptr_eq(&queued.state, &target.state)) {
            return;
        }
        let Some(queueing) = &self.queueing else { return };
        let queue = QueueName::Upstream(Some(step.upstream.name.clone()));
        match target.state.enqueue(max_pending, queueing.ticket) {
            Some(waiter) => {
                let wait = queueing.join(queue, waiter.position());
                self.queued.push(Queued { state: target.state.clone(), waiter, wait });
            }
            None => queueing.turned_away(queue, QueueResult::Full),
        }
    }

    /// Whether the request is in a queue.
    pub(super) fn is_any(&self) -> bool {
        !self.queued.is_empty()
    }

    /// Leaves all queues, because the request goes elsewhere.
    pub(super) fn leave(&mut self) {
        self.end(QueueResult::Moved);
        self.queued.clear();
    }

    /// Notes what the waits lead to, if none of the queues grants a permit.
    pub(super) fn end(&self, result: QueueResult) {
        self.queued.iter().for_each(|queued| queued.wait.ends(result));
    }

    /// Whether one of the queues has granted a permit, which [`take`](Self::take) then gives. The request leaves the others.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let granted =
            self.queued.iter_mut().find_map(|Queued { state, waiter, .. }| match Pin::new(waiter).poll(cx) {
                Poll::Ready(permit) => Some(Granted { state: state.clone(), permit }),
                Poll::Pending => None,
            });
        let Some(granted) = granted else { return false };
        for queued in &self.queued {
            let is_it = Arc::ptr_eq(&queued.state, &granted.state);
            queued.wait.ends(if is_it { QueueResult::Served } else { QueueResult::Moved });
        }
        if let Some(queueing) = &self.queueing {
            queueing.served_by(Server::Target(granted.state.clone()));
        }
        self.queued.clear();
        self.granted = RefCell::new(Some(granted));
        true
    }

    /// The permit for `target`, if its queue has granted one.
    pub(super) fn take(&self, target: &Target) -> Option<QueuePermit> {
        let is_for_target = |granted: &mut Granted| Arc::ptr_eq(&granted.state, &target.state);
        self.granted.borrow_mut().take_if(is_for_target).map(|granted| granted.permit)
    }

    /// Gives the permit that was granted, and not taken, to the next request that waits.
    pub(super) fn give_back(&mut self) {
        self.granted.take();
    }
}
