//! The schedule, written a second time and slowly: without indexes, without skipped rounds, and with one list of all waiters.

use std::collections::BTreeMap;

use super::*;

/// A waiter of the reference.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    pub(super) ticket: Ticket,
    pub(super) number: u64,
}

#[derive(Debug, Default)]
pub(super) struct Reference {
    waiting: Vec<Waiting>,
    classes: BTreeMap<Priority, Ring>,
}

/// The turns of one priority.
#[derive(Debug, Default)]
struct Ring {
    flows: Vec<FlowKey>,
    deficits: BTreeMap<FlowKey, i64>,
    /// Flows that had their quantum in this round.
    had: Vec<FlowKey>,
    quantum: i64,
    is_begun: bool,
    credit: i64,
    got: i64,
    paid: i64,
}

impl Reference {
    pub(super) fn insert(&mut self, ticket: Ticket, number: u64) {
        self.waiting.push(Waiting { ticket, number });
        let ring = self.classes.entry(ticket.priority).or_default();
        ring.join(ticket.flow);
    }

    pub(super) fn remove(&mut self, number: u64) {
        let index = self.waiting.iter().position(|waiting| waiting.number == number).unwrap();
        let gone = self.waiting.remove(index).ticket;
        self.tidy(gone.priority, gone.flow);
    }

    pub(super) fn charge(&mut self, ticket: &Ticket, excess: i64) {
        self.charge_priorities(ticket, excess);
        if self.of_class(ticket.priority).is_empty() {
            return;
        }
        let ring = self.classes.get_mut(&ticket.priority).unwrap();
        if !ring.flows.contains(&ticket.flow) {
            if excess <= 0 {
                return;
            }
            ring.join(ticket.flow);
        }
        *ring.deficits.get_mut(&ticket.flow).unwrap() -= excess;
    }

    fn charge_priorities(&mut self, ticket: &Ticket, excess: i64) {
        for priority in Priority::ALL {
            if self.of_class(priority).is_empty() {
                continue;
            }
            let is_before_others =
                Priority::ALL.iter().any(|other| *other > priority && !self.of_class(*other).is_empty());
            let ring = self.classes.get_mut(&priority).unwrap();
            if priority != ticket.priority {
                let more = (excess * share(priority)).max(-ring.got);
                ring.credit += more;
                ring.got += more;
            } else if is_before_others {
                let price = (excess * (100 - share(priority))).max(-ring.paid);
                ring.credit -= price;
                ring.paid += price;
            }
        }
    }

    pub(super) fn take_next(&mut self) -> Option<Waiting> {
        let nexts: Vec<Option<Waiting>> =
            Priority::ALL.into_iter().map(|priority| self.next_of(priority)).collect();
        let first = nexts.iter().position(Option::is_some)?;
        let mut chosen = first;
        for (index, next) in nexts.iter().enumerate().skip(first + 1) {
            let Some(next) = next else { continue };
            let share = share(next.ticket.priority);
            if self.classes[&next.ticket.priority].credit >= next.ticket.cost() * (100 - share) {
                chosen = index;
            }
        }
        let served = nexts[chosen].unwrap();
        let cost = served.ticket.cost();
        *self
            .classes
            .get_mut(&served.ticket.priority)
            .unwrap()
            .deficits
            .get_mut(&served.ticket.flow)
            .unwrap() -= cost;
        self.remove(served.number);
        for (index, priority) in Priority::ALL.into_iter().enumerate() {
            let is_idle = self.of_class(priority).is_empty();
            let Some(ring) = self.classes.get_mut(&priority) else { continue };
            if is_idle {
                (ring.credit, ring.got, ring.paid) = (0, 0, 0);
            } else if index != chosen {
                ring.credit += cost * share(priority);
                ring.got += cost * share(priority);
            } else if chosen != first {
                ring.credit -= cost * (100 - share(priority));
                ring.paid += cost * (100 - share(priority));
            }
        }
        Some(served)
    }

    fn next_of(&mut self, priority: Priority) -> Option<Waiting> {
        let waiting = self.of_class(priority);
        if waiting.is_empty() {
            return None;
        }
        let mean = waiting.iter().map(|waiting| waiting.ticket.cost()).sum::<i64>()
            / i64::try_from(waiting.len()).unwrap();
        let ring = self.classes.get_mut(&priority).unwrap();
        loop {
            let flow = ring.flows[0];
            let next = waiting
                .iter()
                .filter(|waiting| waiting.ticket.flow == flow)
                .min_by_key(|waiting| waiting.ticket.arrival);
            if !ring.is_begun {
                if ring.had.contains(&flow) || ring.quantum == 0 {
                    ring.had.clear();
                    ring.quantum = mean.max(1);
                }
                ring.had.push(flow);
                *ring.deficits.get_mut(&flow).unwrap() += ring.quantum;
                ring.is_begun = true;
            }
            let deficit = ring.deficits[&flow];
            match next {
                Some(next) if deficit > 0 => return Some(*next),
                None if deficit >= 0 => ring.leave(flow),
                _ => {
                    ring.flows.rotate_left(1);
                    ring.is_begun = false;
                }
            }
        }
    }

    fn of_class(&self, priority: Priority) -> Vec<Waiting> {
        self.waiting.iter().filter(|waiting| waiting.ticket.priority == priority).copied().collect()
    }

    fn tidy(&mut self, priority: Priority, flow: FlowKey) {
        let of_class = self.of_class(priority);
        let ring = self.classes.get_mut(&priority).unwrap();
        if of_class.is_empty() {
            ring.flows.clear();
            ring.deficits.clear();
            ring.is_begun = false;
            ring.quantum = 0;
            (ring.credit, ring.got, ring.paid) = (0, 0, 0);
        } else if of_class.iter().all(|waiting| waiting.ticket.flow != flow) && ring.deficits[&flow] >= 0 {
            ring.leave(flow);
        }
    }
}

impl Ring {
    fn join(&mut self, flow: FlowKey) {
        if !self.flows.contains(&flow) {
            self.flows.push(flow);
            self.deficits.insert(flow, 0);
            self.had.retain(|had| *had != flow);
        }
    }

    fn leave(&mut self, flow: FlowKey) {
        if self.flows.first() == Some(&flow) {
            self.is_begun = false;
        }
        self.flows.retain(|other| *other != flow);
        self.deficits.remove(&flow);
    }
}

fn share(priority: Priority) -> i64 {
    match priority {
        Priority::High => 0,
        Priority::Normal => 20,
        Priority::Low => 10,
    }
}
