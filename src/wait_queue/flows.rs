//! The waiters of one priority: deficit round robin over their flows.
//!
//! Flows take turns. When its turn comes, a flow is granted a quantum, and its waiters are served for as long as it has anything left (M. Shreedhar and
//! G. Varghese, "Efficient Fair Queueing using Deficit Round Robin", SIGCOMM 1995). The last one may cost more than that: the flow then owes the rest, and
//! is passed over until its quanta have paid for it (H. Adiseshu, G. Parulkar and G. Varghese, "A Reliable and Scalable Striping Protocol", SIGCOMM
//! 1996, call this form surplus round robin). So no client waits for several rounds because its first request is a large one. Flows that always have
//! waiters get the same share of what is served, whatever their requests cost: two of them differ by at most a quantum and the cost of two
//! requests. The quantum is the mean cost of the waiters at the beginning of a round.
//!
//! What a request will cost is an estimate. When its real cost is known, the difference is charged to its flow. A flow that owes anything keeps its
//! debt while it has no waiters, for as long as others of its priority wait.

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use super::ticket::{ArrivalNumber, FlowKey, Ticket};

/// A waiter, and what its queue keeps for it.
#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) ticket: Ticket,
    /// When it joined.
    pub(super) since: Instant,
    pub(super) item: T,
}

/// The waiters of one priority. The number of flows is bounded by that of the waiters, and of permits whose cost is corrected. Joining, leaving and a
/// turn take a number of steps that grows with the logarithm of the number of waiters, so that many that leave at once delay nobody.
#[derive(Debug)]
pub(super) struct Flows<T> {
    flows: HashMap<FlowKey, Flow<T>>,
    /// The flows in the order of their turns, by [`Flow::turn`]; each once.
    turns: BTreeMap<u64, FlowKey>,
    /// The next number of a turn, and of a place.
    next: u64,
    /// Whether the first flow has its quantum of this turn.
    turn_begun: bool,
    /// Number of the round. All flows get a quantum of the same size in it.
    round: u64,
    /// 0: no round has begun.
    quantum: i64,
    waiting: usize,
    /// The sum of the costs of all waiters.
    cost: i64,
}

/// The waiters of one client.
#[derive(Debug)]
struct Flow<T> {
    /// What it may still be served; negative: what it owes.
    deficit: i64,
    /// The round in which it got its last quantum.
    round: u64,
    /// In the order of arrival. Empty while the flow is in debt.
    entries: BTreeMap<EntryKey, Entry<T>>,
    /// Where it is in the order of turns.
    turn: u64,
}

/// The place of a waiter within its flow: the arrival of its request, and a number of its own, because a request may wait in one queue twice.
type EntryKey = (ArrivalNumber, u64);

impl<T> Default for Flows<T> {
    fn default() -> Self {
        Self {
            flows: HashMap::new(),
            turns: BTreeMap::new(),
            next: 0,
            turn_begun: false,
            round: 1,
            quantum: 0,
            waiting: 0,
            cost: 0,
        }
    }
}

impl<T> Flows<T> {
    /// The number of waiters.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// All waiters, in no order.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry<T>> {
        self.flows.values().flat_map(|flow| flow.entries.values())
    }

    /// Adds a waiter behind those of its flow that arrived before it. Returns how many waiters will be served before it if all cost the same and
    /// none comes or leaves; where flows have fewer waiters than it has before it in its own, it is more than that.
    pub(super) fn insert(&mut self, entry: Entry<T>) -> usize {
        let Ticket { flow: key, arrival, .. } = entry.ticket;
        self.waiting += 1;
        self.cost += entry.ticket.cost();
        if !self.flows.contains_key(&key) {
            self.add_flow(key, 0);
        }
        let place = (arrival, self.number());
        let Some(flow) = self.flows.get_mut(&key) else { return 0 };
        let is_last = flow.entries.last_key_value().is_none_or(|(last, _)| *last < place);
        let index = if is_last { flow.entries.len() } else { flow.entries.range(..place).count() };
        flow.entries.insert(place, entry);
        let of_others = self.waiting - flow.entries.len();
        let turns_of_others = (self.flows.len() - 1).saturating_mul(index + 1);
        index + of_others.min(turns_of_others)
    }

    /// The cost of the waiter that is served next, of those that `may` be: its flow's turn begins, if it has not begun.
    pub(super) fn next(&mut self, may: &impl Fn(&T) -> bool) -> Option<i64> {
        let mut visited = 0;
        while let Some((_, key)) = self.turns.first_key_value() {
            let flow = self.flows.get_mut(key)?;
            let cost = flow.first(may).map(|(_, cost)| cost);
            if (cost.is_some() || flow.entries.is_empty()) && !self.turn_begun {
                if flow.round == self.round || self.quantum == 0 {
                    // All have had their turn.
                    self.round += 1;
                    self.quantum = mean(self.cost, self.waiting);
                }
                flow.round = self.round;
                flow.deficit = flow.deficit.saturating_add(self.quantum);
                self.turn_begun = true;
            }
            match cost {
                Some(cost) if flow.deficit > 0 => return Some(cost),
                None if flow.entries.is_empty() && flow.deficit >= 0 => self.forget_first(),
                _ => {
                    self.end_turn();
                    visited += 1;
                }
            }
            // All have their quantum of this round.
            if visited > self.turns.len() {
                self.skip_rounds(may)?;
                visited = 0;
            }
        }
        None
    }

    /// The waiter that [`next`](Self::next) has found.
    pub(super) fn peek(&self, may: &impl Fn(&T) -> bool) -> Option<&T> {
        let flow = self.flows.get(self.turns.first_key_value()?.1)?;
        let (place, _) = flow.first(may)?;
        Some(&flow.entries.get(&place)?.item)
    }

    /// Takes the waiter out that [`next`](Self::next) has found, and charges its cost to its flow.
    pub(super) fn take(&mut self, may: &impl Fn(&T) -> bool) -> Option<Entry<T>> {
        let flow = self.flows.get_mut(self.turns.first_key_value()?.1)?;
        let (place, cost) = flow.first(may)?;
        let entry = flow.entries.remove(&place)?;
        flow.deficit -= cost;
        self.waiting -= 1;
        self.cost -= cost;
        if flow.entries.is_empty() && flow.deficit >= 0 {
            // A flow saves nothing for the time when it has waiters again.
            self.forget_first();
        }
        self.forget_debts_if_idle();
        Some(entry)
    }

    /// Takes the waiter with this ticket out, which is not served.
    pub(super) fn remove(&mut self, ticket: &Ticket) -> Option<Entry<T>> {
        let flow = self.flows.get_mut(&ticket.flow)?;
        let of_request = (ticket.arrival, 0)..=(ticket.arrival, u64::MAX);
        let place = *flow.entries.range(of_request).next()?.0;
        let entry = flow.entries.remove(&place)?;
        self.waiting -= 1;
        self.cost -= entry.ticket.cost();
        if flow.entries.is_empty() && flow.deficit >= 0 {
            self.forget(ticket.flow);
        }
        self.forget_debts_if_idle();
        Some(entry)
    }

    /// Takes the waiter with this ticket out as served, whether or not its turn has come: its cost is charged to its flow.
    pub(super) fn serve(&mut self, ticket: &Ticket) -> Option<Entry<T>> {
        let flow = self.flows.get_mut(&ticket.flow)?;
        flow.deficit = flow.deficit.saturating_sub(ticket.cost());
        self.remove(ticket)
    }

    /// Charges `excess` more to a flow; negative: what it was charged too much.
    pub(super) fn charge(&mut self, key: FlowKey, excess: i64) {
        if self.waiting == 0 {
            return;
        }
        if let Some(flow) = self.flows.get_mut(&key) {
            flow.deficit = flow.deficit.saturating_sub(excess);
        } else if excess > 0 {
            self.add_flow(key, -excess);
        }
    }

    /// Adds a flow without waiters, whose turn comes after those of all others.
    fn add_flow(&mut self, key: FlowKey, deficit: i64) {
        let (turn, round) = (self.number(), self.round.saturating_sub(1));
        self.turns.insert(turn, key);
        self.flows.insert(key, Flow { deficit, round, entries: BTreeMap::new(), turn });
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn end_turn(&mut self) {
        self.turn_begun = false;
        let turn = self.number();
        let Some((_, key)) = self.turns.pop_first() else { return };
        if let Some(flow) = self.flows.get_mut(&key) {
            flow.turn = turn;
            self.turns.insert(turn, key);
        }
    }

    fn forget_first(&mut self) {
        self.turn_begun = false;
        if let Some((_, key)) = self.turns.pop_first() {
            self.flows.remove(&key);
        }
    }

    fn forget(&mut self, key: FlowKey) {
        let Some(flow) = self.flows.remove(&key) else { return };
        if self.turns.first_key_value().is_some_and(|(turn, _)| *turn == flow.turn) {
            self.turn_begun = false;
        }
        self.turns.remove(&flow.turn);
    }

    /// Nobody is owed anything when nobody waits.
    fn forget_debts_if_idle(&mut self) {
        if self.waiting == 0 {
            self.flows.clear();
            self.turns.clear();
            self.turn_begun = false;
            self.quantum = 0;
        }
    }

    /// Grants the quanta of all rounds in which no waiter would be served. `None`: there is no waiter that `may` be served.
    fn skip_rounds(&mut self, may: &impl Fn(&T) -> bool) -> Option<()> {
        let quantum = mean(self.cost, self.waiting);
        let rounds = |flow: &Flow<T>| {
            flow.first(may)?;
            Some(flow.deficit.saturating_neg().max(0) / quantum)
        };
        let rounds = self.flows.values().filter_map(rounds).min()?;
        let grant = quantum.saturating_mul(rounds);
        if grant == 0 {
            return Some(());
        }
        self.turns.retain(|_, key| {
            let Some(flow) = self.flows.get_mut(key) else { return false };
            let owes = flow.entries.is_empty();
            if owes || flow.first(may).is_some() {
                flow.deficit = flow.deficit.saturating_add(grant);
            }
            let is_paid = owes && flow.deficit >= 0;
            if is_paid {
                self.flows.remove(key);
            }
            !is_paid
        });
        Some(())
    }
}

impl<T> Flow<T> {
    /// The first waiter that `may` be served: its key and its cost.
    fn first(&self, may: &impl Fn(&T) -> bool) -> Option<(EntryKey, i64)> {
        let (place, entry) = self.entries.iter().find(|(_, entry)| may(&entry.item))?;
        Some((*place, entry.ticket.cost()))
    }
}

fn mean(sum: i64, count: usize) -> i64 {
    let count = i64::try_from(count).unwrap_or(i64::MAX).max(1);
    (sum / count).max(1)
}
