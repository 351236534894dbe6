//! Calls of one admission that are on their way.

use std::sync::Arc;

use super::{
    copy::Copying,
    plan::{Decision, Plan},
    sharing::{Sent, Sharing},
    wire::AdmissionReply,
};
use crate::store::Running;

/// An admission that the store has been asked for. If it is dropped before all replies are there, what they grant is given back later.
pub(super) struct Sending {
    sharing: Arc<Sharing>,
    plan: Arc<Plan>,
    running: Vec<Option<Running>>,
    replies: Vec<Option<AdmissionReply>>,
    sent: Sent,
    is_decided: bool,
}

impl Sending {
    /// `None`: the store went away.
    pub(super) fn start(sharing: &Arc<Sharing>, plan: Arc<Plan>, session: u32) -> Option<Self> {
        let sent = sharing.sent();
        let mut running = Vec::with_capacity(plan.parts());
        for call in plan.calls(sharing.asker(session)) {
            let call = sharing.store.begin(call).ok()?;
            if call.session() != session {
                return None;
            }
            running.push(Some(call));
        }
        let replies = running.iter().map(|_| None).collect();
        Some(Self { sharing: sharing.clone(), plan, running, replies, sent, is_decided: false })
    }

    /// Waits for all replies, or for the first failure.
    pub(super) async fn replies(&mut self) {
        std::future::poll_fn(|context| {
            let mut is_over = true;
            for part in 0..self.running.len() {
                let Some(Some(running)) = self.running.get_mut(part) else { continue };
                match std::pin::Pin::new(running).poll(context) {
                    std::task::Poll::Pending => is_over = false,
                    std::task::Poll::Ready(reply) => self.received(part, reply.ok()),
                }
            }
            if is_over { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }

    fn received(&mut self, part: usize, bytes: Option<Vec<u8>>) {
        let reply = bytes.and_then(|bytes| self.plan.read(part, &bytes));
        if let (Some(running), Some(place)) = (self.running.get_mut(part), self.replies.get_mut(part)) {
            *running = None;
            *place = reply;
        }
    }

    /// Whether the reply of the place `slot` is there.
    pub(super) fn is_answered(&self, slot: &str) -> bool {
        self.plan.part(slot).and_then(|part| self.replies.get(part)).is_some_and(Option::is_some)
    }

    pub(super) fn is_late(&self) {
        if let Some(running) = self.running.iter().flatten().next() {
            running.is_late();
        }
    }

    /// What follows from the replies, which this process' own counts become copies of. Unless all of them admit, what some have granted is given back.
    pub(super) fn decide(mut self) -> Decision {
        for (part, reply) in self.replies.iter().enumerate() {
            if let Some(reply) = reply {
                copy(&self.sharing, &self.plan, part, reply, self.sent);
            }
        }
        let replies: Option<Vec<AdmissionReply>> = self.replies.iter().cloned().collect();
        let decision = replies.map_or(Decision::Unusable, |replies| self.plan.decide(&replies));
        self.is_decided = matches!(decision, Decision::Admitted { .. });
        decision
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if self.is_decided {
            return;
        }
        for part in 0..self.replies.len() {
            self.give_back(part);
        }
    }
}

impl Sending {
    /// Gives back what a part has taken, as soon as it is known.
    fn give_back(&mut self, part: usize) {
        if let Some(reply) = self.replies.get_mut(part).and_then(Option::take) {
            self.sharing.give_back(self.plan.undo(part, &reply));
            return;
        }
        let Some(cancelled) = self.plan.cancel(part) else { return };
        cancelled.is_unknown();
        let entries = cancelled.0.iter().flat_map(|of| &of.entries);
        entries.for_each(|entry| self.sharing.look_after(&entry.counter));
        let Some(running) = self.running.get_mut(part).and_then(Option::take) else {
            self.sharing.ledger.cancel(cancelled);
            return;
        };
        let (sharing, plan, sent) = (self.sharing.clone(), self.plan.clone(), self.sent);
        running.finish_with(move |reply| match reply.ok().and_then(|bytes| plan.read(part, &bytes)) {
            Some(reply) => {
                // Nobody waits for it, but it says what the store has counted, which may have to be restored.
                copy(&sharing, &plan, part, &reply, sent);
                sharing.give_back(plan.undo(part, &reply));
                cancelled.is_known();
            }
            None => sharing.ledger.cancel(cancelled),
        });
    }
}

/// Makes this process' own counts copies of what a reply to a part says.
fn copy(sharing: &Sharing, plan: &Plan, part: usize, reply: &AdmissionReply, sent: Sent) {
    sharing.heard_unreadable(reply.unreadable);
    let copying = Copying { is_restored: true, ..sharing.heard(sent, reply.now) };
    plan.copy(part, reply, copying);
}
