//! What all connections of a simulator share.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{
    Options,
    connection::Protocols,
    record::Records,
    script::{Gate, Script},
};

/// The most scripts that wait for their request; past it the oldest go.
const MAX_QUEUE: usize = 10_000;

pub(super) struct Shared {
    pub(super) require_key: Option<String>,
    pub(super) pace: Duration,
    pub(super) protocols: Protocols,
    pub(super) max_streams: u32,
    pub(super) started: Instant,
    pub(super) records: Arc<Records>,
    pub(super) connections: Arc<Count>,
    pub(super) gate: Gate,
    queue: Mutex<VecDeque<(Option<String>, Script)>>,
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

    /// Puts a script in the queue: for the request with this `x-simulate-id`, or else for the next without a script.
    pub(super) fn queue(&self, id: Option<String>, script: Script) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() == MAX_QUEUE {
            queue.pop_front();
        }
        queue.push_back((id, script));
    }

    /// Takes the script of a request: one queued for its id, or else the oldest for anybody.
    pub(super) fn take(&self, id: Option<&str>) -> Option<Script> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let own = queue.iter().position(|(for_id, _)| for_id.is_some() && for_id.as_deref() == id);
        let place = own.or_else(|| queue.iter().position(|(for_id, _)| for_id.is_none()))?;
        queue.remove(place).map(|(_, script)| script)
    }

    /// Forgets scripts and records.
    pub(super) fn reset(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.records.clear();
    }
}

/// How many connections there were, and are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// Accepted since the start.
    pub opened: u64,
    /// Open now.
    pub open: u64,
    /// Closed before their first request could be read: a failed TLS handshake, or silence.
    pub failed: u64,
}

/// Counts connections, and tells who waits for a change.
#[derive(Default)]
pub(super) struct Count(watch::Sender<Connections>);

/// The number of a connection, which is open as long as this lives.
pub(super) struct Number(pub(super) u64, Arc<Count>);

impl Count {
    pub(super) fn open(self: &Arc<Self>) -> Number {
        let mut number = 0;
        self.0.send_modify(|count| {
            count.opened += 1;
            count.open += 1;
            number = count.opened;
        });
        Number(number, Arc::clone(self))
    }

    pub(super) fn failed(&self) {
        self.0.send_modify(|count| count.failed += 1);
    }

    pub(super) fn now(&self) -> Connections {
        *self.0.borrow()
    }

    /// Waits until they are as wanted.
    pub(super) async fn wait_for(&self, wanted: impl FnMut(&Connections) -> bool) -> Connections {
        let mut changes = self.0.subscribe();
        // Fails only without a sender, which is `self`.
        changes.wait_for(wanted).await.map_or_else(|_| self.now(), |now| *now)
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        self.1.0.send_modify(|count| count.open = count.open.saturating_sub(1));
    }
}
