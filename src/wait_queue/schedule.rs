//! Which waiter is served next: by priority, and within a priority by flow.
//!
//! A higher priority goes first. So that no lower one starves, each has a share of what is served that it gets while it has waiters: of 100 tokens
//! at least 20 for normal and 10 for low priority.

use std::time::Instant;

use super::{
    QueueView,
    flows::{Entry, Flows},
    ticket::{FlowKey, Ticket},
};
use crate::priority::Priority;

/// The percentage of what is served that a priority gets at least while it has waiters. The highest has what the others leave.
const fn least_share(priority: Priority) -> i64 {
    match priority {
        Priority::High => 0,
        Priority::Normal => 20,
        Priority::Low => 10,
    }
}

/// All waiters of a queue.
#[derive(Debug)]
pub(super) struct Schedule<T> {
    /// In the order of [`Priority::ALL`]: the highest first.
    classes: [Class<T>; Priority::ALL.len()],
}

/// The waiters of one priority.
#[derive(Debug)]
struct Class<T> {
    share: i64,
    /// Hundredths of tokens that it may be served before higher priorities.
    credit: i64,
    /// The credit that it has got for what others were served, and that it has paid for what it was. Corrections take back no more than that.
    got: i64,
    paid: i64,
    flows: Flows<T>,
}

/// The waiter that is served next.
#[derive(Debug, Clone, Copy)]
struct Choice {
    class: usize,
    /// Its priority's turn has come, although others of a higher one wait.
    by_credit: bool,
}

impl<T> Default for Schedule<T> {
    fn default() -> Self {
        let class = |priority| Class {
            share: least_share(priority),
            credit: 0,
            got: 0,
            paid: 0,
            flows: Flows::default(),
        };
        Self { classes: Priority::ALL.map(class) }
    }
}

impl<T> Schedule<T> {
    /// The number of waiters.
    pub(super) fn waiting(&self) -> usize {
        self.classes.iter().map(|class| class.flows.waiting()).sum()
    }

    /// Adds a waiter. Returns its position, from 1: the number of the service that it gets if all requests cost the same and nothing changes,
    /// without what lower priorities get.
    pub(super) fn insert(&mut self, ticket: Ticket, item: T) -> usize {
        let index = index(ticket.priority);
        let higher: usize = self.classes.iter().take(index).map(|class| class.flows.waiting()).sum();
        let Some(class) = self.classes.get_mut(index) else { return 0 };
        higher + class.flows.insert(Entry { ticket, since: Instant::now(), item }) + 1
    }

    /// All waiters.
    pub(super) fn view(&self) -> QueueView {
        let now = Instant::now();
        let mut view = QueueView::default();
        for (priority, class) in self.classes.iter().enumerate() {
            for entry in class.flows.entries() {
                view.add(priority, entry.since, now);
                view.bytes = view.bytes.saturating_add(entry.ticket.bytes);
            }
        }
        view
    }

    /// Takes the next waiter out, of those that `may` be served, if it `is_wanted`. It counts as served.
    pub(super) fn take_next(
        &mut self,
        may: impl Fn(&T) -> bool,
        is_wanted: impl FnOnce(&T) -> bool,
    ) -> Option<T> {
        let Choice { class: chosen, by_credit } = self.choose(&may)?;
        let class = self.classes.get_mut(chosen)?;
        if !class.flows.peek(&may).is_some_and(is_wanted) {
            return None;
        }
        let entry = class.flows.take(&may)?;
        self.count_service(Choice { class: chosen, by_credit }, entry.ticket.cost());
        Some(entry.item)
    }

    /// The waiter that is served next.
    pub(super) fn peek_next(&mut self) -> Option<&T> {
        let may = |_: &T| true;
        let Choice { class, .. } = self.choose(&may)?;
        self.classes.get(class)?.flows.peek(&may)
    }

    /// Takes the waiter with this ticket out as served, whether or not it was the next.
    pub(super) fn serve(&mut self, ticket: &Ticket) -> Option<T> {
        let chosen = index(ticket.priority);
        let is_before_others = self.classes.iter().take(chosen).any(|class| class.flows.waiting() > 0);
        let class = self.classes.get_mut(chosen)?;
        let entry = class.flows.serve(ticket)?;
        let by_credit = is_before_others && class.credit >= ticket.cost() * (100 - class.share);
        self.count_service(Choice { class: chosen, by_credit }, ticket.cost());
        Some(entry.item)
    }

    /// Takes the waiter with this ticket out, which is not served.
    pub(super) fn remove(&mut self, ticket: &Ticket) -> Option<T> {
        let class = self.classes.get_mut(index(ticket.priority))?;
        let entry = class.flows.remove(ticket)?;
        if class.flows.waiting() == 0 {
            class.forget_credit();
        }
        Some(entry.item)
    }

    /// Charges `excess` more to a flow than its requests were expected to cost; negative: what it was charged too much. Priorities share what was really
    /// served.
    pub(super) fn charge(&mut self, priority: Priority, flow: FlowKey, excess: i64) {
        let charged = index(priority);
        if let Some(class) = self.classes.get_mut(charged) {
            class.flows.charge(flow, excess);
        }
        let is_before_others = self.classes.iter().take(charged).any(|class| class.flows.waiting() > 0);
        for (index, class) in self.classes.iter_mut().enumerate() {
            if class.flows.waiting() == 0 {
                continue;
            }
            if index != charged {
                class.get(excess.saturating_mul(class.share).max(-class.got));
            } else if is_before_others {
                class.pay(excess.saturating_mul(100 - class.share).max(-class.paid));
            }
        }
    }

    /// Lets those who were not served have their share of `cost`.
    fn count_service(&mut self, served: Choice, cost: i64) {
        for (index, class) in self.classes.iter_mut().enumerate() {
            if class.flows.waiting() == 0 {
                // A priority saves nothing for the time when it has waiters again.
                class.forget_credit();
            } else if index != served.class {
                class.get(cost * class.share);
            } else if served.by_credit {
                class.pay(cost * (100 - class.share));
            }
        }
    }

    /// The lowest priority whose turn has come, else the highest that has waiters.
    fn choose(&mut self, may: &impl Fn(&T) -> bool) -> Option<Choice> {
        let costs = self.classes.each_mut().map(|class| class.flows.next(may));
        let first = costs.iter().position(Option::is_some)?;
        let has_credit = |(class, cost): (&Class<T>, &Option<i64>)| {
            cost.is_some_and(|cost| class.share > 0 && class.credit >= cost * (100 - class.share))
        };
        let by_credit = self.classes.iter().zip(&costs).rposition(has_credit).filter(|class| *class > first);
        Some(Choice { class: by_credit.unwrap_or(first), by_credit: by_credit.is_some() })
    }
}

impl<T> Class<T> {
    /// Gets its share of what another was served; negative: gives back what it has got too much.
    fn get(&mut self, share: i64) {
        self.credit = self.credit.saturating_add(share);
        self.got = self.got.saturating_add(share);
    }

    /// Pays for what was served; negative: gets back what it has paid too much.
    fn pay(&mut self, price: i64) {
        self.credit = self.credit.saturating_sub(price);
        self.paid = self.paid.saturating_add(price);
    }

    fn forget_credit(&mut self) {
        (self.credit, self.got, self.paid) = (0, 0, 0);
    }
}

/// The position of a priority in [`Priority::ALL`].
fn index(priority: Priority) -> usize {
    match priority {
        Priority::High => 0,
        Priority::Normal => 1,
        Priority::Low => 2,
    }
}
