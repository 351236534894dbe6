//! Which accounts a request may be sent to.

use crate::upstream::Account;

/// Which accounts a request may be sent to, because it depends on what one account keeps, or because something is kept that it makes. A request
/// without a choice may go to any.
#[derive(Debug)]
pub(super) struct AccountChoice {
    /// The accounts that may be asked, the best first; bounded by the accounts of the route.
    order: Vec<Account>,
}

impl AccountChoice {
    /// This account and no other.
    #[expect(dead_code, reason = "until requests with ids are bound to accounts")]
    pub(super) fn only(account: Account) -> Self {
        Self { order: vec![account] }
    }

    /// The accounts that may be asked, the best first.
    pub(super) fn order(&self) -> &[Account] {
        &self.order
    }
}
