//! What a gateway does beside requests: it sends corrections, renews leases, and makes good what was lost.

use std::{
    future::poll_fn,
    sync::{Arc, Weak, atomic::Ordering},
    task::Poll,
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{
    copy::copy,
    ledger::Batch,
    sharing::{Sent, Sharing, nodes_call},
    wire::{ChangesReply, NodesReply},
};
use crate::store::{CallError, Running, ScriptCall, State, Trouble};

/// How long corrections may wait for others.
pub(super) const FLUSH: Duration = Duration::from_millis(100);

/// Flushes between two signs of life: it is also how soon a loss of all data is noticed.
const BEAT: u32 = 10;

/// Flushes between two renewals of leases, which last for fifteen seconds.
const RENEW: u32 = 50;

/// How long what is sent may take.
const SENT: Duration = Duration::from_secs(1);

/// Flushes between two looks for subjects that have no counter any more.
const TIDY: u32 = 600;

/// How long the end of the process waits for what the store does not know yet.
pub(super) const LAST: Duration = Duration::from_secs(1);

/// Runs on the store's thread for as long as `sharing` is there.
pub(super) async fn run(sharing: Weak<Sharing>) {
    let Some(mut state) = sharing.upgrade().map(|sharing| sharing.store.state()) else { return };
    // The store may have been connected before it was watched.
    state.mark_changed();
    let Some(mut stop) = sharing.upgrade().map(|sharing| sharing.stop.subscribe()) else { return };
    let mut ticks = interval(FLUSH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut server = None;
    let mut count: u32 = 0;
    loop {
        let Some(strong) = sharing.upgrade() else { return };
        let wakes = {
            let is_full = strong.is_full.notified();
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => Wake::Stop,
                _ = state.changed() => Wake::State,
                () = is_full => Wake::Flush,
                _ = ticks.tick() => Wake::Tick,
            }
        };
        // Nobody else has it any more: `[redis]` has changed, and the last request that it admitted is over.
        let is_last = Arc::strong_count(&strong) == 1;
        match wakes {
            _ if is_last => {
                strong.leave().await;
                return;
            }
            Wake::Stop => {
                strong.leave().await;
                strong.left();
                return;
            }
            Wake::State => {
                let now = state.borrow_and_update().clone();
                strong.changed(&now, &mut server).await;
            }
            Wake::Flush => strong.flush().await,
            Wake::Tick => {
                count = count.wrapping_add(1);
                strong.tick(count).await;
            }
        }
    }
}

enum Wake {
    Stop,
    State,
    Flush,
    Tick,
}

impl Sharing {
    /// The store has come or gone.
    async fn changed(&self, state: &State, server: &mut Option<Arc<str>>) {
        let Some(session) = state.session else {
            self.online.store(0, Ordering::Release);
            return;
        };
        let is_another = state.server.is_none() || state.server != *server;
        if is_another {
            self.servers.fetch_add(1, Ordering::Relaxed);
            server.clone_from(&state.server);
        }
        let nodes = NodesReply::read(&state.probe);
        if let Some(nodes) = nodes {
            self.met(nodes, self.sent());
        }
        let has_lost = is_another || nodes.is_none_or(|nodes| !nodes.known);
        self.make_good(session, has_lost).await;
    }

    async fn tick(&self, count: u32) {
        let session = self.online.load(Ordering::Acquire);
        if session == 0 {
            return;
        }
        self.flush().await;
        if count.is_multiple_of(BEAT) && self.is_forgotten().await {
            self.make_good(session, true).await;
        } else if count.is_multiple_of(RENEW) {
            self.note_used_alone();
            self.renew(session).await;
        }
        if count.is_multiple_of(TIDY) {
            self.subjects.tidy();
        }
    }

    /// Says that this gateway is there. Returns whether the store had forgotten it, and so everything else.
    async fn is_forgotten(&self) -> bool {
        let sent = self.sent();
        let replies = self.send(vec![nodes_call(&self.settings.prefix, self.node, true)]).await;
        let nodes = replies.into_iter().flatten().next().and_then(|reply| NodesReply::read(&reply));
        nodes.is_some_and(|nodes| {
            self.met(nodes, sent);
            !nodes.known
        })
    }

    fn met(&self, nodes: NodesReply, sent: Sent) {
        self.gateways.seen(nodes.count, sent.at);
        self.heard(sent, nodes.now);
    }

    /// Sends the corrections that there are.
    async fn flush(&self) {
        let session = self.online.load(Ordering::Acquire);
        if session > 0 {
            self.send_corrections(session).await;
        }
    }

    /// Sends one batch to each place that has any, to some places after the other. Returns whether the store has the last of them.
    pub(super) async fn send_corrections(&self, session: u32) -> bool {
        let asker = self.asker(session);
        let mut last = None;
        loop {
            let batches = self.ledger.batches(last.as_ref());
            let Some(batch) = batches.last() else { return true };
            last = Some(batch.slot.clone());
            let sent = self.sent();
            let calls = batches.iter().map(|batch| batch.call(asker, &self.settings.prefix)).collect();
            let mut is_any_confirmed = false;
            for (batch, reply) in batches.iter().zip(self.send_all_of(calls).await) {
                if reply.as_ref().is_err_and(is_of_script) {
                    // It would be refused again, and everything of its place would wait behind it.
                    tracing::error!(
                        corrections = batch.entries.len(),
                        "Redis refused corrections of counts: they are dropped"
                    );
                    is_any_confirmed = true;
                    self.ledger.confirmed(batch);
                    continue;
                }
                let Some(reply) = reply.ok().and_then(|reply| ChangesReply::read(&reply)) else { continue };
                is_any_confirmed = true;
                self.ledger.confirmed(batch);
                self.copy_batch(batch, &reply, sent);
            }
            if !is_any_confirmed {
                return false;
            }
        }
    }

    fn copy_batch(&self, batch: &Batch, reply: &ChangesReply, sent: Sent) {
        self.heard_unreadable(reply.unreadable);
        let copying = self.heard(sent, reply.now);
        for (entry, state) in batch.entries.iter().zip(&reply.states) {
            let period = (entry.end.map(|(_, period)| period), entry.end.map(|(end, _)| end));
            copy(&entry.counter, entry.unit, *state, period, copying);
            // The store knows what was given back: the request that waits here may be admitted.
            entry.counter.wake();
        }
    }

    /// Sends calls at once and waits for their replies; `None`: there is none.
    pub(super) async fn send(&self, calls: Vec<ScriptCall>) -> Vec<Option<Vec<u8>>> {
        self.send_all_of(calls).await.into_iter().map(Result::ok).collect()
    }

    async fn send_all_of(&self, calls: Vec<ScriptCall>) -> Vec<Result<Vec<u8>, CallError>> {
        let mut running: Vec<Option<Running>> =
            calls.into_iter().map(|call| self.store.begin(call).ok()).collect();
        let mut replies: Vec<Result<Vec<u8>, CallError>> =
            running.iter().map(|_| Err(CallError::Late)).collect();
        let all = poll_fn(|context| {
            let mut is_over = true;
            for (running, reply) in running.iter_mut().zip(&mut replies) {
                let Some(call) = running else { continue };
                match std::pin::Pin::new(call).poll(context) {
                    Poll::Pending => is_over = false,
                    Poll::Ready(result) => {
                        *reply = result;
                        *running = None;
                    }
                }
            }
            if is_over { Poll::Ready(()) } else { Poll::Pending }
        });
        if timeout(SENT, all).await.is_err()
            && let Some(late) = running.iter().flatten().next()
        {
            late.is_late();
        }
        replies
    }
}

/// Whether a script has failed, so that it will fail again: the server has no other code for that.
fn is_of_script(error: &CallError) -> bool {
    matches!(error, CallError::Failed(Trouble::Refuses(text)) if text.split(' ').next() == Some("ERR"))
}
