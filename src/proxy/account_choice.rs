//! Which accounts a request may be sent to.

use crate::{
    accounts::{ClientDigests, IdDigest},
    upstream::Account,
};

/// Which accounts a request may be sent to, because it depends on what one account keeps, or because something is kept that it makes. A request
/// without a choice may go to any.
#[derive(Debug)]
pub(super) struct AccountChoice {
    /// The accounts that may be asked, the best first; bounded by the accounts of the route.
    order: Vec<Account>,
    search: Search,
    learning: Learning,
}

/// What is to be done when an account does not know the id, or cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Search {
    /// The account is known: no other can serve the request.
    Known,
    /// Any account may know the id, and reading changes nothing: one is asked after the other.
    Look,
    /// Any account may know the id, but only the rule's is asked, because the request changes something.
    Stay,
    /// The request makes something new, in any account.
    Create,
}

/// What is learnt from an answer.
#[derive(Debug, Clone)]
pub(super) struct Learning {
    /// The account that the rule gives. What it has made or knows needs no entry.
    pub(super) home: Account,
    /// Makes the digests of the client's ids.
    pub(super) digests: ClientDigests,
    /// The ids in the path, which the account knows that answers.
    pub(super) path_ids: Vec<IdDigest>,
}

impl AccountChoice {
    /// These accounts, the best first; what their answers say is learnt.
    pub(super) fn new(order: Vec<Account>, search: Search, learning: Learning) -> Self {
        Self { order, search, learning }
    }

    /// The accounts that may be asked, the best first.
    pub(super) fn order(&self) -> &[Account] {
        &self.order
    }

    /// What is to be done when an account does not know the id.
    pub(super) fn search(&self) -> Search {
        self.search
    }

    /// What is to be learnt from an answer of `account`.
    pub(super) fn learning_at(&self, account: &Account) -> Option<&Learning> {
        Some(&self.learning).filter(|learning| learning.home != *account)
    }
}
