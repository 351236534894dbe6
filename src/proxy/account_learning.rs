//! Learns from an answer which ids an account knows.

use std::sync::Arc;

use super::account_choice::Learning;
use crate::{
    accounts::{AccountMap, Entry, IdDigest, Written},
    openai::{FoundId, IdScanner},
    upstream::Account,
};

/// The most ids that are learnt from one answer.
const MOST_IDS: usize = 4096;

/// The ids that were found last; deltas of a stream name their item again and again.
const RECENT: usize = 8;

/// Learns the ids that an answer of one account names.
#[derive(Debug)]
pub(super) struct IdWatch {
    scanner: IdScanner,
    learning: Learning,
    account: Arc<str>,
    map: Arc<dyn AccountMap>,
    /// Not learnt yet.
    found: Vec<Entry>,
    recent: [Option<IdDigest>; RECENT],
    count: usize,
    /// Bytes that come once more.
    skip: usize,
}

impl IdWatch {
    /// Learns for `account`, into `map`.
    pub(super) fn new(learning: Learning, account: &Account, map: Arc<dyn AccountMap>) -> Self {
        let (scanner, account) = (IdScanner::default(), account.name().clone());
        Self { scanner, learning, account, map, found: Vec::new(), recent: [None; RECENT], count: 0, skip: 0 }
    }

    /// The account knows this id.
    pub(super) fn add(&mut self, id: &[u8]) {
        let digest = self.learning.digests.digest(id);
        self.add_digest(digest);
    }

    /// The account knows the ids in the path of the request.
    pub(super) fn add_path_ids(&mut self) {
        for digest in std::mem::take(&mut self.learning.path_ids) {
            self.add_digest(digest);
        }
    }

    /// Looks at the next bytes of the answer, and learns what is in them.
    pub(super) fn look(&mut self, bytes: &[u8]) {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        if self.scan(&bytes[skipped..]) {
            drop(self.learn());
        }
    }

    /// Looks at bytes that come once more, by [`look`](Self::look). Returns whether an id was found in them; it is not learnt yet.
    pub(super) fn look_ahead(&mut self, bytes: &[u8]) -> bool {
        self.skip += bytes.len();
        self.scan(bytes)
    }

    /// Learns what was found. Ends when it is written down.
    pub(super) fn learn(&mut self) -> Written {
        self.map.learn(std::mem::take(&mut self.found))
    }

    fn scan(&mut self, bytes: &[u8]) -> bool {
        if self.count >= MOST_IDS || bytes.is_empty() {
            return false;
        }
        let mut scanner = std::mem::take(&mut self.scanner);
        scanner.scan(bytes, &mut |found| match found {
            FoundId::Reference(id) | FoundId::Id(id) | FoundId::Sealed(id) => self.add(id),
        });
        self.scanner = scanner;
        !self.found.is_empty()
    }

    fn add_digest(&mut self, digest: IdDigest) {
        if self.count >= MOST_IDS || self.recent.contains(&Some(digest)) {
            return;
        }
        self.recent[self.count % RECENT] = Some(digest);
        self.count += 1;
        self.found.push(Entry { id: digest, account: self.account.clone() });
    }
}
