//! The connections of one worker, and how far the drain is.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
};

use tokio::sync::Notify;

use crate::body::{ConnectionState, Cut, OpenExchange};

/// How far the way to the end is; only ever goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Connections come and stay.
    #[default]
    Serving,
    /// Each connection closes when its exchanges are over.
    Draining,
    /// Open exchanges are asked to end at once.
    Cut,
}

/// One worker's open connections; no more than `max_connections`.
#[derive(Debug, Default)]
pub(super) struct Roster {
    phase: Cell<Phase>,
    links: RefCell<HashMap<u64, Rc<ConnectionState>>>,
    enrolled: Cell<u64>,
    left: Notify,
}

/// A connection's place on the roster, given back when dropped.
#[derive(Debug)]
pub(super) struct Enrolled {
    roster: Rc<Roster>,
    number: u64,
}

impl Roster {
    pub(super) fn phase(&self) -> Phase {
        self.phase.get()
    }

    pub(super) fn enrol(self: &Rc<Self>, link: Rc<ConnectionState>) -> Enrolled {
        let number = self.enrolled.get();
        self.enrolled.set(number + 1);
        self.links.borrow_mut().insert(number, link);
        Enrolled { roster: self.clone(), number }
    }

    /// Tells every connection of the `phase`; how many exchanges that cuts.
    pub(super) fn enter(&self, phase: Phase) -> usize {
        self.phase.set(phase);
        // Waking runs nobody's code but the runtime's; still, no borrow is held over calls into others.
        let links: Vec<_> = self.links.borrow().values().cloned().collect();
        let cut = if phase == Phase::Cut { links.iter().map(|link| cut(link)).sum() } else { 0 };
        for link in links {
            link.wake_driver();
        }
        cut
    }

    /// What is open on these connections, `most` of it at most.
    pub(super) fn open_exchanges(&self, most: usize) -> Vec<OpenExchange> {
        let links = self.links.borrow();
        let handles = links.values().flat_map(|link| link.handles());
        handles.filter_map(|handle| handle.open_exchange()).take(most).collect()
    }

    /// How many exchanges are open on these connections.
    pub(super) fn exchanges(&self) -> usize {
        self.links.borrow().values().map(|link| link.handles().len()).sum()
    }

    /// Waits until no connection is left.
    pub(super) async fn empty(&self) {
        while !self.links.borrow().is_empty() {
            self.left.notified().await;
        }
    }
}

impl Enrolled {
    pub(super) fn phase(&self) -> Phase {
        self.roster.phase()
    }
}

impl Drop for Enrolled {
    fn drop(&mut self) {
        self.roster.links.borrow_mut().remove(&self.number);
        self.roster.left.notify_one();
    }
}

fn cut(link: &ConnectionState) -> usize {
    let open = link.handles().into_iter().filter(|handle| handle.abort.cause().is_none());
    open.inspect(|handle| handle.abort.cut(Cut::Drain)).count()
}
