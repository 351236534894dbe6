//! Counts the open exchanges and connections of a worker.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

/// The load of a worker; read when connections are assigned to workers.
#[derive(Debug, Default)]
pub struct Load {
    exchanges: AtomicUsize,
    connections: AtomicUsize,
    /// Notified when the last exchange or the last connection is over.
    none_left: Notify,
}

/// One counted exchange or connection; dropping it decrements the count.
#[derive(Debug)]
pub struct Counted {
    load: Arc<Load>,
    which: fn(&Load) -> &AtomicUsize,
}

impl Load {
    /// Number of open exchanges, then of open connections: workers are compared in this order.
    pub fn weight(&self) -> (usize, usize) {
        (self.exchanges.load(Ordering::Relaxed), self.connections.load(Ordering::Relaxed))
    }

    /// Waits until no exchange is open. An exchange whose client has left may still be open, and no connection counts for it.
    pub async fn no_exchange(&self) {
        loop {
            let none_left = self.none_left.notified();
            if self.exchanges.load(Ordering::Relaxed) == 0 {
                return;
            }
            none_left.await;
        }
    }

    /// Counts one more open exchange.
    pub fn exchange(self: &Arc<Self>) -> Counted {
        self.count(|load| &load.exchanges)
    }

    /// Counts one more open connection.
    pub fn connection(self: &Arc<Self>) -> Counted {
        self.count(|load| &load.connections)
    }

    fn count(self: &Arc<Self>, which: fn(&Self) -> &AtomicUsize) -> Counted {
        which(self).fetch_add(1, Ordering::Relaxed);
        Counted { load: self.clone(), which }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if (self.which)(&self.load).fetch_sub(1, Ordering::Relaxed) == 1 {
            self.load.none_left.notify_waiters();
        }
    }
}
