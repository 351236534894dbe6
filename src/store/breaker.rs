//! One published connection, until it is given up.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use super::{Published, Trouble, connection::Connection};

/// So many calls in a row without a reply in time are a server that is too slow.
const FAILURES: u32 = 3;

/// A connection that calls are sent over. The first trouble ends it.
#[derive(Debug)]
pub(super) struct Session {
    /// Each is higher than the one before.
    pub(super) number: u32,
    pub(super) connection: Connection,
    /// How long a call may take.
    pub(super) timeout: Duration,
    link: Weak<Published>,
    failures: AtomicU32,
    trouble: Mutex<Option<Trouble>>,
    over: Notify,
}

impl Session {
    pub(super) fn new(number: u32, connection: Connection, link: &Arc<Published>) -> Arc<Self> {
        Arc::new(Self {
            number,
            connection,
            timeout: link.timeout,
            link: Arc::downgrade(link),
            failures: AtomicU32::new(0),
            trouble: Mutex::default(),
            over: Notify::new(),
        })
    }

    /// A call has been executed, so long after it was sent. A reply that comes too late is no success: with few requests, each of them would
    /// wait for a slow server.
    pub(super) fn executed(&self, after: Duration) {
        if after > self.timeout {
            return;
        }
        // A store that is seldom written is cheaper for all who read it.
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// A call has failed, in a way that says little about the next: three in a row end the session.
    pub(super) fn failed(&self, trouble: Trouble) {
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES {
            self.end(trouble);
        }
    }

    /// Ends the session: no further call is sent over it.
    pub(super) fn end(&self, trouble: Trouble) {
        if let Some(link) = self.link.upgrade() {
            link.retire(self.number);
        }
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(trouble);
        self.over.notify_one();
    }

    /// Waits for the end.
    pub(super) async fn ended(&self) -> Trouble {
        loop {
            if let Some(trouble) = &*self.trouble.lock().unwrap_or_else(PoisonError::into_inner) {
                return trouble.clone();
            }
            self.over.notified().await;
        }
    }
}
