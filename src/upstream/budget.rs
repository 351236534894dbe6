//! The retry budget: which share of the requests to an upstream may be retries. When an upstream fails for everybody, many more
//! requests than usual would prolong the failure.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// This many concurrent retries are always allowed.
const ALWAYS: usize = 10;

/// One in this many requests in flight may be a retry.
const SHARE: usize = 5;

/// The retry budget of one upstream. It is shared by all workers and kept over reloads by the upstream's name.
#[derive(Debug, Default)]
pub struct Budget {
    live: AtomicUsize,
    retrying: AtomicUsize,
}

/// A request in flight; it counts until dropped.
#[derive(Debug)]
pub struct BudgetPermit {
    budget: Arc<Budget>,
    retry: bool,
}

impl Budget {
    /// Counts a first attempt.
    pub fn request_permit(self: &Arc<Self>) -> BudgetPermit {
        self.live.fetch_add(1, Ordering::Relaxed);
        BudgetPermit { budget: self.clone(), retry: false }
    }

    /// Counts a retry; `None` when too many retries are in flight.
    pub fn retry_permit(self: &Arc<Self>) -> Option<BudgetPermit> {
        let most = ALWAYS.max(self.live.load(Ordering::Relaxed) / SHARE);
        let before = self.retrying.fetch_add(1, Ordering::Relaxed);
        let live = BudgetPermit { budget: self.clone(), retry: true };
        self.live.fetch_add(1, Ordering::Relaxed);
        (before < most).then_some(live)
    }
}

impl Drop for BudgetPermit {
    fn drop(&mut self) {
        self.budget.live.fetch_sub(1, Ordering::Relaxed);
        if self.retry {
            self.budget.retrying.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_share_of_what_is_live() {
        let budget = Arc::new(Budget::default());
        let few: Vec<BudgetPermit> = (0..20).map_while(|_| budget.retry_permit()).collect();
        assert_eq!(few.len(), ALWAYS);
        drop(few);
        let live: Vec<BudgetPermit> = (0..100).map(|_| budget.request_permit()).collect();
        let many: Vec<BudgetPermit> = (0..100).map_while(|_| budget.retry_permit()).collect();
        assert!((100 / SHARE..=120 / SHARE + 5).contains(&many.len()), "{}", many.len());
        drop((live, many));
        assert_eq!(budget.live.load(Ordering::Relaxed) + budget.retrying.load(Ordering::Relaxed), 0);
    }
}
