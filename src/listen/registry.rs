//! The open connections of one worker, and the phase of the drain.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::Poll,
};

use tokio::sync::Notify;

use crate::{
    access::Callers,
    body::{ConnectionState, Cut, OpenExchange},
    snapshot::is_cut,
};

/// The phase of the process's life. It only advances.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Connections are accepted and kept.
    #[default]
    Serving,
    /// Each connection closes when its exchanges are over.
    Draining,
    /// Open exchanges are told to end at once.
    Cut,
}

/// One worker's open connections; no more than `max_connections`.
#[derive(Debug, Default)]
pub(super) struct ConnectionRegistry {
    phase: Cell<Phase>,
    connections: RefCell<HashMap<u64, Rc<ConnectionState>>>,
    entry: Cell<u64>,
    left: Notify,
}

/// A connection's entry in the registry, removed when dropped.
#[derive(Debug)]
pub(super) struct RegistryEntry {
    registry: Rc<ConnectionRegistry>,
    number: u64,
}

impl ConnectionRegistry {
    pub(super) fn phase(&self) -> Phase {
        self.phase.get()
    }

    pub(super) fn register(self: &Rc<Self>, state: Rc<ConnectionState>) -> RegistryEntry {
        if self.phase() != Phase::Serving {
            state.drain();
        }
        let number = self.entry.get();
        self.entry.set(number + 1);
        self.connections.borrow_mut().insert(number, state);
        RegistryEntry { registry: self.clone(), number }
    }

    /// Tells every connection about the new `phase`. Returns how many exchanges that aborts.
    pub(super) fn enter(&self, phase: Phase) -> usize {
        self.phase.set(phase);
        // Waking runs only the runtime's code. Still, no borrow is held while other code is called.
        let connections: Vec<_> = self.connections.borrow().values().cloned().collect();
        let cut = if phase == Phase::Cut { connections.iter().map(|state| cut(state)).sum() } else { 0 };
        for state in connections {
            if phase != Phase::Serving {
                state.drain();
            }
            state.wake_driver();
        }
        cut
    }

    /// Cuts the exchanges that these callers, of a new configuration, do not allow any more, as far as their clients want that.
    pub(super) fn cut_withdrawn(&self, callers: &Callers) {
        let may_cut = callers.may_cut();
        let connections: Vec<_> = self.connections.borrow().values().cloned().collect();
        let mut cut = 0;
        for state in connections {
            let handles = state.handles();
            let grants = handles.iter().filter_map(|handle| Some((handle, handle.status.grant()?)));
            let withdrawn = grants.filter(|(_, grant)| (may_cut || grant.cut) && is_cut(callers, grant));
            let before = cut;
            for (handle, _) in withdrawn {
                handle.abort.cut(Cut::Revoked);
                cut += 1;
            }
            if cut > before {
                state.wake_driver();
            }
        }
        if cut > 0 {
            tracing::info!(
                requests = cut,
                "open requests cut: what their clients were granted was withdrawn"
            );
        }
    }

    /// Cuts the exchange with this id for `cause`, if it is open on these connections.
    pub(super) fn cut(&self, request_id: &str, cause: Cut) -> bool {
        let connections: Vec<_> = self.connections.borrow().values().cloned().collect();
        connections.iter().any(|state| {
            let handles = state.handles();
            let Some(handle) = handles.iter().find(|handle| handle.status.is(request_id)) else {
                return false;
            };
            handle.abort.cut(cause);
            state.wake_driver();
            true
        })
    }

    /// The exchanges that are open on these connections, at most `most` of them.
    pub(super) fn open_exchanges(&self, most: usize) -> Vec<OpenExchange> {
        let connections = self.connections.borrow();
        let handles = connections.values().flat_map(|state| state.handles());
        handles.filter_map(|handle| handle.open_exchange()).take(most).collect()
    }

    /// The open connections.
    pub(super) fn connections(&self) -> Vec<Rc<ConnectionState>> {
        self.connections.borrow().values().cloned().collect()
    }

    /// The exchanges that are open on these connections: the `most` that began first.
    pub(super) fn oldest_exchanges(&self, most: usize) -> Vec<OpenExchange> {
        let connections = self.connections.borrow();
        let handles = connections.values().flat_map(|state| state.handles());
        let mut begun: Vec<_> = handles.filter_map(|handle| Some((handle.status.start()?, handle))).collect();
        if begun.len() > most {
            begun.select_nth_unstable_by_key(most, |(start, _)| *start);
            begun.truncate(most);
        }
        begun.iter().filter_map(|(_, handle)| handle.open_exchange()).collect()
    }

    /// The number of exchanges that are open on these connections.
    pub(super) fn exchanges(&self) -> usize {
        self.connections.borrow().values().map(|state| state.handles().len()).sum()
    }

    /// Waits until no connection is left.
    pub(super) async fn empty(&self) {
        while !self.connections.borrow().is_empty() {
            self.left.notified().await;
        }
    }
}

impl RegistryEntry {
    pub(super) fn phase(&self) -> Phase {
        self.registry.phase()
    }

    /// Runs `future`, which must not be the connection's driver, until a drain is cut; `None` then.
    pub(super) async fn before_cut<F: Future>(
        &self,
        state: &ConnectionState,
        mut future: Pin<Box<F>>,
    ) -> Option<F::Output> {
        poll_fn(|cx| {
            state.driven_by(cx.waker());
            if self.phase() == Phase::Cut {
                return Poll::Ready(None);
            }
            future.as_mut().poll(cx).map(Some)
        })
        .await
    }
}

impl Drop for RegistryEntry {
    fn drop(&mut self) {
        self.registry.connections.borrow_mut().remove(&self.number);
        self.registry.left.notify_one();
    }
}

fn cut(state: &ConnectionState) -> usize {
    let open = state.handles().into_iter().filter(|handle| handle.abort.cause().is_none());
    open.inspect(|handle| handle.abort.cut(Cut::Drain)).count()
}
