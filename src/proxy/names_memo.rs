//! A worker's memory of the names of headers that come from its upstreams.

use std::{
    cell::RefCell,
    sync::{Arc, Weak},
};

use crate::{
    policy::{PassedNames, SecretScanner},
    snapshot::Route,
};

/// How many combinations of a route and a scanner are remembered; the one that was used least recently is forgotten.
const MOST: usize = 8;

/// The names that the header policy has let through, for each of the last routes.
#[derive(Debug, Default)]
pub(super) struct NamesMemo(RefCell<Vec<Entry>>);

#[derive(Debug)]
struct Entry {
    /// Held weakly, since a reload replaces both; as long as they are held, no others have their addresses.
    route: Weak<Route>,
    keys: Weak<SecretScanner<'static>>,
    names: PassedNames,
}

impl NamesMemo {
    /// Gives `read` the names of the last response of this route whose headers were searched with this scanner.
    pub(super) fn with<R>(
        &self,
        route: &Arc<Route>,
        keys: &Arc<SecretScanner<'static>>,
        read: impl FnOnce(&mut PassedNames) -> R,
    ) -> R {
        let entries = &mut *self.0.borrow_mut();
        let found = entries.iter().position(|entry| {
            std::ptr::eq(entry.route.as_ptr(), Arc::as_ptr(route))
                && std::ptr::eq(entry.keys.as_ptr(), Arc::as_ptr(keys))
        });
        let at = found.unwrap_or_else(|| {
            entries.truncate(MOST - 1);
            let (route, keys) = (Arc::downgrade(route), Arc::downgrade(keys));
            entries.insert(0, Entry { route, keys, names: PassedNames::default() });
            0
        });
        // The last one that was used is found first.
        if let Some(recent) = entries.get_mut(..=at) {
            recent.rotate_right(1);
        }
        match entries.first_mut() {
            Some(entry) => read(&mut entry.names),
            None => read(&mut PassedNames::default()),
        }
    }
}
