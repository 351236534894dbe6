//! Which account knows an id: a bounded, expiring memory of the ids whose account is not the one that the rule gives.
//!
//! The rule (one account for each client and route) needs no memory. What departs from it is noted here: what was made in another account because
//! the rule's one failed, and what was found elsewhere. Only a digest of the client and the id is kept, and the name of the account.
//!
//! [`AccountMap`] has two implementations: [`MemoryMap`], and [`FileMap`], which also appends to a file, so that a restart forgets nothing.

mod file;
mod memory;
mod text;

use std::{fmt, pin::Pin, sync::Arc};

use aws_lc_rs::digest::{Context, SHA256};

pub use file::{FileMap, OpenError};
pub use memory::MemoryMap;

/// The most ids that are remembered. At the bound the half that was learnt first is forgotten.
pub const MOST_IDS: usize = 131_072;

/// How long an id is remembered after it was last learnt or used, in hours: 90 days.
pub const LIFETIME: u32 = 90 * 24;

/// The digest of a client and an id: the first 16 bytes of SHA-256. The id cannot be read from it, and the same id has another digest for each client.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdDigest([u8; 16]);

/// Makes the digests of one client's ids.
#[derive(Clone)]
pub struct ClientDigests(Context);

/// An id, and the account that knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The id.
    pub id: IdDigest,
    /// The account's name.
    pub account: Arc<str>,
}

/// How many ids are remembered, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapSize {
    /// Ids.
    pub entries: usize,
    /// The most ids.
    pub bound: usize,
    /// Whether they outlive a restart.
    pub is_kept: bool,
}

/// The owners of some ids, in their order; `None` for one that is not known.
pub type Owners<'a> = Pin<Box<dyn Future<Output = Vec<Option<Arc<str>>>> + 'a>>;

/// Ends when entries are where they outlive a restart, as far as this implementation has such a place; false if they could not be written.
pub type Written = Pin<Box<dyn Future<Output = bool> + Send>>;

/// Remembers the accounts of ids.
pub trait AccountMap: fmt::Debug + Send + Sync {
    /// Whether nothing is remembered.
    fn is_empty(&self) -> bool;

    /// The accounts that know `ids`.
    fn find<'a>(&'a self, ids: &'a [IdDigest]) -> Owners<'a>;

    /// Remembers `entries` at once, and writes them down; the result need not be waited for.
    fn learn(&self, entries: Vec<Entry>) -> Written;

    /// Whether what is learnt now can be written down.
    fn can_write(&self) -> bool;

    /// How much is remembered.
    fn size(&self) -> MapSize;
}

impl ClientDigests {
    /// The digests of the client of this name; `None` for all clients that are not known.
    pub fn of(client: Option<&str>) -> Self {
        let mut context = Context::new(&SHA256);
        match client {
            // No name has a NUL in it, so no name and id look like another name and id.
            Some(name) => {
                context.update(name.as_bytes());
                context.update(b"\0");
            }
            None => context.update(b"\0\0"),
        }
        Self(context)
    }

    /// The digest of an id.
    pub fn digest(&self, id: &[u8]) -> IdDigest {
        let mut context = self.0.clone();
        context.update(id);
        let mut digest = [0; 16];
        digest.copy_from_slice(&context.finish().as_ref()[..16]);
        IdDigest(digest)
    }
}

impl fmt::Debug for ClientDigests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientDigests")
    }
}

impl fmt::Display for IdDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for IdDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The time, in hours since 1970. A step of the clock makes ids live longer or shorter, and nothing else.
fn hour() -> u32 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs() / 3600).unwrap_or(u32::MAX)
}
