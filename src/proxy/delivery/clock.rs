//! The timer of a response that is being forwarded, for its timeouts (`idle`, `first_token`, `total`) and its heartbeats.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::time::{Sleep, sleep_until};

use crate::{body::Cut, fault::Fault, pause};

/// The one timer of a response: it runs while the upstream is being asked for the next frame.
#[derive(Debug, Default)]
pub(super) struct Clock {
    pub(super) idle: Option<Duration>,
    /// `None` once the first content was sent.
    pub(super) first_token: Option<(Instant, Duration)>,
    pub(super) total: Option<(Instant, Duration)>,
    /// How much silence makes a comment due.
    pub(super) heartbeat: Option<Duration>,
    /// When the last comment was sent, since the last frame.
    pub(super) beat: Option<Instant>,
    /// Since when the gateway has waited for the upstream's next frame.
    pub(super) asked: Option<Instant>,
    /// The timer is armed for this moment, which may lie before the deadline that counts; then it is armed again.
    pub(super) armed: Option<Instant>,
    pub(super) sleep: Option<Pin<Box<Sleep>>>,
}

/// What is due.
pub(super) enum Due {
    /// A comment, so that the connection does not look dead.
    Beat,
    /// A timeout.
    Fault(Fault),
}

impl Clock {
    /// Ready if a comment or a timeout is due at `now`. Costs a timer call only when the timer has to be armed or has fired. A comment does not end
    /// the upstream's silence.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        rewoken: bool,
        may_beat: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Due> {
        let asked = *self.asked.get_or_insert(now);
        let idle = self.idle.map(|idle| asked + idle);
        let beat = self.heartbeat.filter(|_| may_beat).map(|span| self.beat.unwrap_or(asked) + span);
        let first_token = self.first_token.map(|(at, _)| at);
        let total = self.total.map(|(total, _)| total);
        let mut over = [idle, first_token, total].into_iter().flatten().min();
        if over.is_some_and(|over| now >= over) {
            over = self.extended(asked);
            if over.is_none_or(|over| now >= over) {
                return Poll::Ready(Due::Fault(self.overdue(now)));
            }
        }
        let Some(deadline) = over.into_iter().chain(beat).min() else { return Poll::Pending };
        if now >= deadline {
            self.beat = Some(now);
            return Poll::Ready(Due::Beat);
        }
        if !rewoken && self.armed.is_some_and(|armed| now < armed && armed <= deadline) {
            return Poll::Pending;
        }
        self.arm(deadline, cx);
        Poll::Pending
    }

    /// When the first timeout is over, with the pauses of the process added: after a pause the upstream's bytes are read first.
    fn extended(&self, asked: Instant) -> Option<Instant> {
        let idle = self.idle.map(|idle| pause::deadline(asked, idle));
        let others = [self.first_token, self.total].into_iter().flatten();
        let others = others.map(|(at, limit)| at + pause::lost_since(at.checked_sub(limit).unwrap_or(at)));
        idle.into_iter().chain(others).min()
    }

    fn arm(&mut self, deadline: Instant, cx: &mut Context<'_>) {
        let at = deadline.into();
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(at)));
        sleep.as_mut().reset(at);
        // Without cooperative budget, tokio's timer does not register the waker. The task is then polled again, and so is this timer.
        self.armed = tokio::task::coop::has_budget_remaining().then_some(deadline);
        if sleep.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    fn overdue(&self, now: Instant) -> Fault {
        match (self.total, self.first_token) {
            (Some((deadline, total)), _) if now >= deadline => Fault::TotalTimeout(total),
            (_, Some((deadline, limit))) if now >= deadline => Fault::FirstTokenTimeout(limit),
            _ => Fault::Idle(self.idle.unwrap_or_default()),
        }
    }

    /// The fault for the cause of an abort.
    pub(super) fn fault(&self, cut: Cut) -> Fault {
        match cut {
            Cut::Drain => Fault::CutByDrain,
            Cut::Revoked => Fault::KeyRevoked,
            Cut::Operator => Fault::CutByOperator,
            Cut::Total => Fault::TotalTimeout(self.total.map(|(_, total)| total).unwrap_or_default()),
            Cut::WriteStall => Fault::CallerStalled,
        }
    }
}
