//! How many exchanges and connections a worker has open.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

/// How much a worker has to do; read where connections are handed out.
#[derive(Debug, Default)]
pub struct Load {
    exchanges: AtomicUsize,
    connections: AtomicUsize,
    /// Notified when the last of either is over.
    none_left: Notify,
}

/// One counted exchange or connection; dropping it takes it off the count.
#[derive(Debug)]
pub struct Counted {
    load: Arc<Load>,
    which: fn(&Load) -> &AtomicUsize,
}

impl Load {
    /// Open exchanges, then open connections: the order in which workers are compared.
    pub fn weight(&self) -> (usize, usize) {
        (self.exchanges.load(Ordering::Relaxed), self.connections.load(Ordering::Relaxed))
    }

    /// Waits until no exchange is open: those that are read on without a client have no connection that would show them.
    pub async fn no_exchange(&self) {
        loop {
            let none_left = self.none_left.notified();
            if self.exchanges.load(Ordering::Relaxed) == 0 {
                return;
            }
            none_left.await;
        }
    }

    /// One more open exchange.
    pub fn exchange(self: &Arc<Self>) -> Counted {
        self.count(|load| &load.exchanges)
    }

    /// One more open connection.
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
