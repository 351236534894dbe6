//! A connection's memory of the client that sent its last request, which nearly always sends the next one too.

use std::{
    borrow::Cow,
    cell::RefCell,
    rc::Rc,
    sync::{Arc, Weak},
};

use crate::{
    access::{Credential, KnownKey},
    policy::SecretScanner,
    snapshot::Snapshot,
};

/// The one known client that a connection remembers, so that its key is neither hashed nor compiled into a scanner for each request.
/// A new snapshot may not know the key any more, so nothing is remembered across snapshots.
#[derive(Debug, Default)]
pub struct CallerMemo(RefCell<Option<Known>>);

#[derive(Debug)]
struct Known {
    scanner: Rc<SecretScanner<'static>>,
    client: KnownKey,
    /// The snapshot that knows the caller. Held weakly, since connections outlive snapshots; as long as it is held, no other snapshot has
    /// its address.
    snapshot: Weak<Snapshot>,
}

impl CallerMemo {
    /// A scanner for the `presented` keys.
    pub(super) fn scanner(&self, presented: &[Cow<'_, [u8]>]) -> Rc<SecretScanner<'static>> {
        if let ([only], Some(known)) = (presented, &*self.0.borrow())
            && known.scanner.is_for(only)
        {
            return known.scanner.clone();
        }
        Rc::new(SecretScanner::new(presented.iter().map(|key| &**key)).into_owned())
    }

    /// The client that presented this `credential`; `scanner` searches for it and for nothing else.
    pub(super) fn caller(
        &self,
        credential: &Credential,
        scanner: &Rc<SecretScanner<'static>>,
        snapshot: &Arc<Snapshot>,
    ) -> Option<KnownKey> {
        if let Some(known) = &*self.0.borrow()
            && !credential.in_query()
            && Rc::ptr_eq(&known.scanner, scanner)
            && std::ptr::eq(known.snapshot.as_ptr(), Arc::as_ptr(snapshot))
        {
            return Some(known.client.clone());
        }
        let client = snapshot.callers.find(credential)?;
        let known =
            Known { scanner: scanner.clone(), client: client.clone(), snapshot: Arc::downgrade(snapshot) };
        self.0.replace(Some(known));
        Some(client)
    }
}
