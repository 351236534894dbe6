//! The state that all connections of a simulator share.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{
    options::{Options, Protocols},
    record::Records,
    script::{Gate, Script},
};

/// The most scripts that wait for their request; beyond it the oldest are dropped.
const MAX_QUEUE: usize = 10_000;

/// The state that all connections of a simulator share.
pub(super) struct Shared {
    pub(super) require_key: Option<String>,
    pub(super) pace: Duration,
    pub(super) protocols: Protocols,
    pub(super) max_streams: u32,
    pub(super) started: Instant,
    pub(super) records: Arc<Records>,
    pub(super) connections: Arc<ConnectionCounter>,
    pub(super) gate: Gate,
    queue: Mutex<VecDeque<QueuedScript>>,
}

/// A script that waits for its request.
struct QueuedScript {
    /// The `x-simulate-id` of the request; `None` = any request.
    id: Option<String>,
    script: Script,
}

impl Shared {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            require_key: options.require_key.clone(),
            pace: options.pace,
            protocols: options.protocols,
            max_streams: options.max_streams,
            started: Instant::now(),
            records: Arc::new(Records::new(options.records)),
            connections: Arc::default(),
            gate: Gate::new(),
            queue: Mutex::default(),
        }
    }

    /// Queues a script: for the request with this `x-simulate-id`, or for the next request without a script of its own.
    pub(super) fn queue(&self, id: Option<String>, script: Script) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() == MAX_QUEUE {
            queue.pop_front();
        }
        queue.push_back(QueuedScript { id, script });
    }

    /// Whether there is a script for a request with this `x-simulate-id`.
    pub(super) fn has_script(&self, id: Option<&str>) -> bool {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.iter().any(|queued| queued.id.is_none() || queued.id.as_deref() == id)
    }

    /// Takes the script of a request: the one queued for its id, or else the oldest one without an id.
    pub(super) fn take(&self, id: Option<&str>) -> Option<Script> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let own = queue.iter().position(|queued| queued.id.is_some() && queued.id.as_deref() == id);
        let index = own.or_else(|| queue.iter().position(|queued| queued.id.is_none()))?;
        queue.remove(index).map(|queued| queued.script)
    }

    /// Drops the queued scripts and the records.
    pub(super) fn reset(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.records.clear();
    }
}

/// The connection counts of a simulator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// Accepted since the start.
    pub opened: u64,
    /// Open now.
    pub open: u64,
    /// Closed before their first request could be read: a failed TLS handshake, or a timeout.
    pub failed: u64,
}

/// Counts connections, and wakes the tasks that wait for a change.
#[derive(Default)]
pub(super) struct ConnectionCounter(watch::Sender<Connections>);

/// Counts a connection as open until it is dropped.
pub(super) struct ConnectionGuard {
    number: u64,
    counter: Arc<ConnectionCounter>,
}

impl ConnectionCounter {
    /// Counts a new connection.
    pub(super) fn open(self: &Arc<Self>) -> ConnectionGuard {
        let mut number = 0;
        self.0.send_modify(|count| {
            count.opened += 1;
            count.open += 1;
            number = count.opened;
        });
        ConnectionGuard { number, counter: Arc::clone(self) }
    }

    pub(super) fn failed(&self) {
        self.0.send_modify(|count| count.failed += 1);
    }

    pub(super) fn now(&self) -> Connections {
        *self.0.borrow()
    }

    /// Waits until the counts satisfy `wanted`.
    pub(super) async fn wait_for(&self, wanted: impl FnMut(&Connections) -> bool) -> Connections {
        let mut changes = self.0.subscribe();
        // Fails only without a sender, and `self` is the sender.
        changes.wait_for(wanted).await.map_or_else(|_| self.now(), |now| *now)
    }
}

impl ConnectionGuard {
    /// The number of the connection, from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.counter.0.send_modify(|count| count.open = count.open.saturating_sub(1));
    }
}
