//! Who sent a connection's last request: nearly always who sends the next one.

use std::{
    borrow::Cow,
    cell::RefCell,
    rc::Rc,
    sync::{Arc, Weak},
};

use crate::{
    access::{Caller, Credential},
    policy::SecretScanner,
    snapshot::Snapshot,
};

/// The one known caller that a connection remembers, so that its key is not made ready to be looked for, and not hashed, for each request anew.
/// It is nobody's once there is another snapshot, which may not know the key any more.
#[derive(Debug, Default)]
pub struct CallerMemo(RefCell<Option<Known>>);

#[derive(Debug)]
struct Known {
    key: Rc<SecretScanner<'static>>,
    caller: Arc<Caller>,
    /// Who knows the caller. Held weakly, since connections outlive snapshots: as long as it is held, no other is at its place.
    by: Weak<Snapshot>,
}

impl CallerMemo {
    /// What keeps the `presented` keys from crossing.
    pub(super) fn secrets(&self, presented: &[Cow<'_, [u8]>]) -> Rc<SecretScanner<'static>> {
        if let ([only], Some(known)) = (presented, &*self.0.borrow())
            && known.key.is_for(only)
        {
            return known.key.clone();
        }
        Rc::new(SecretScanner::new(presented.iter().map(|key| &**key)).into_owned())
    }

    /// The caller who presented this `credential`; `key` watches for it and for nothing else.
    pub(super) fn caller(
        &self,
        credential: &Credential,
        key: &Rc<SecretScanner<'static>>,
        snapshot: &Arc<Snapshot>,
    ) -> Option<Arc<Caller>> {
        if let Some(known) = &*self.0.borrow()
            && !credential.in_query()
            && Rc::ptr_eq(&known.key, key)
            && std::ptr::eq(known.by.as_ptr(), Arc::as_ptr(snapshot))
        {
            return Some(known.caller.clone());
        }
        let caller = snapshot.callers.find(credential)?.clone();
        let known = Known { key: key.clone(), caller: caller.clone(), by: Arc::downgrade(snapshot) };
        self.0.replace(Some(known));
        Some(caller)
    }
}
