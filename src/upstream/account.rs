//! Accounts: which keys and targets know the same ids.

use std::sync::Arc;

use super::Affinity;

/// An account of a provider (a project, a workspace, a resource, a server): files, responses, batches and the like that were made in it are
/// known in it alone. Accounts of the same name are the same account.
///
/// The name is made of the configuration and never of a secret, so that it outlives restarts, reloads and a change of the key: `main` for
/// `account = "main"`, else `UPSTREAM/env:NAME` (`file:`, `credential:`) for the key that is read from there, or `UPSTREAM` without a key.
#[derive(Debug, Clone)]
pub struct Account {
    name: Arc<str>,
    /// The hashed name, compared with affinity values of requests.
    affinity: Affinity,
}

impl Account {
    /// The account of this name.
    pub fn new(name: Arc<str>) -> Self {
        let affinity = Affinity::of(name.as_bytes());
        Self { name, affinity }
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its score for a request; the lowest one wins (rendezvous hashing, see [`Affinity`]).
    pub fn distance(&self, value: Affinity) -> f64 {
        value.distance(self.affinity, 1)
    }
}

impl PartialEq for Account {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.name, &other.name) || self.name == other.name
    }
}

impl Eq for Account {}
