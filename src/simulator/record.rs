//! What reached the simulator, and how each request ended.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, Method};
use tokio::sync::watch;

use super::{script::Cut, tls::Handshake, upload::Upload};

/// The most bytes of request bodies kept in all records together; past it the oldest records go.
const MAX_KEPT: usize = 64 * 1024 * 1024;

/// One request, as it arrived and as it ended.
#[derive(Clone, Debug)]
pub struct Record {
    /// Number of the request, from 1.
    pub number: u64,
    /// Number of its connection, from 1.
    pub connection: u64,
    /// Which request of its connection it is, from 1.
    pub on_connection: u64,
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2.0`.
    pub protocol: http::Version,
    /// What the TLS handshake told; `None` on a plain connection.
    pub tls: Option<Arc<Handshake>>,
    /// HTTP/1.1: every byte of the head as it came, blank line included. HTTP/2: empty.
    pub head: Bytes,
    /// The method.
    pub method: Method,
    /// Path and query as they came.
    pub target: String,
    /// The headers; HTTP/2's `:authority` is in `authority`.
    pub headers: HeaderMap,
    /// `:authority` of HTTP/2, `host` of HTTP/1.1.
    pub authority: Option<String>,
    /// Bytes of its body that were read.
    pub body_length: u64,
    /// Whether these are all of the body.
    pub body_complete: bool,
    /// SHA-256 of the bytes read.
    pub body_sha256: [u8; 32],
    /// The first 64 KiB of the body.
    pub body: Bytes,
    /// The trailers.
    pub trailers: HeaderMap,
    /// When the head was in.
    pub started: Instant,
    /// When it ended, and how; `None` while its script runs.
    pub ended: Option<(Instant, Ended)>,
    /// Bytes of the answer's body given to the kernel (HTTP/2: to the peer's flow-control window).
    pub sent: u64,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The script ran to its end.
    Answered,
    /// The other side closed its connection while the script was running.
    PeerClosed,
    /// The other side reset the connection (HTTP/2: or this stream) while the script was running.
    PeerReset,
    /// The script cut the answer off.
    CutByScript(Cut),
    /// The request's body broke the rules of its framing.
    BadBody,
    /// The script asked for what the protocol does not have, or for a second head.
    BadScript,
    /// The simulator was stopped, or the connection cut by another stream's script.
    Stopped,
}

impl Ended {
    /// Whether it was the other side that left.
    pub fn peer_left(self) -> bool {
        matches!(self, Self::PeerClosed | Self::PeerReset)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::PeerClosed => "peer-closed",
            Self::PeerReset => "peer-reset",
            Self::CutByScript(_) => "cut-by-script",
            Self::BadBody => "bad-body",
            Self::BadScript => "bad-script",
            Self::Stopped => "stopped",
        }
    }
}

/// The last records, up to a bound, and who waits for the next.
pub(super) struct Records {
    ring: Mutex<Ring>,
    bound: usize,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Ring {
    records: VecDeque<Record>,
    last: u64,
    kept: usize,
}

impl Records {
    pub(super) fn new(bound: usize) -> Self {
        Self { ring: Mutex::default(), bound, changed: watch::Sender::new(()) }
    }

    /// Enters a request; the entry given back ends it, at the latest when it is dropped.
    pub(super) fn open(self: &Arc<Self>, record: impl FnOnce(u64) -> Record) -> Entry {
        let mut ring = self.ring();
        ring.last += 1;
        let number = ring.last;
        if self.bound > 0 {
            ring.records.push_back(record(number));
            ring.shrink(self.bound);
            drop(ring);
            self.changed.send_replace(());
        }
        Entry { records: Arc::clone(self), number, open: true, has_body: false }
    }

    /// Waits until `look` finds something in the records.
    pub(super) async fn wait_for<T>(&self, mut look: impl FnMut(&VecDeque<Record>) -> Option<T>) -> T {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            if let Some(found) = look(&self.ring().records) {
                return found;
            }
            // The sender lives as long as `self`.
            let _ = changed.changed().await;
        }
    }

    /// The records as they are now.
    pub(super) fn list(&self) -> Vec<Record> {
        self.ring().records.iter().cloned().collect()
    }

    /// Forgets all records; the numbers go on.
    pub(super) fn clear(&self) {
        let mut ring = self.ring();
        ring.records.clear();
        ring.kept = 0;
    }

    fn update(&self, number: u64, change: impl FnOnce(&mut Record)) {
        let mut ring = self.ring();
        let Some(first) = ring.records.front().map(|record| record.number) else { return };
        let Some(place) = number.checked_sub(first).and_then(|place| usize::try_from(place).ok()) else {
            return;
        };
        let Some(record) = ring.records.get_mut(place) else { return };
        let before = record.body.len();
        change(record);
        let after = record.body.len();
        ring.kept = (ring.kept + after).saturating_sub(before);
        ring.shrink(self.bound);
        drop(ring);
        self.changed.send_replace(());
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn shrink(&mut self, bound: usize) {
        while self.records.len() > bound || (self.kept > MAX_KEPT && self.records.len() > 1) {
            let Some(oldest) = self.records.pop_front() else { return };
            self.kept = self.kept.saturating_sub(oldest.body.len());
        }
    }
}

/// The record of a request under way.
pub(super) struct Entry {
    records: Arc<Records>,
    pub(super) number: u64,
    open: bool,
    /// The whole body is in the record.
    has_body: bool,
}

impl Entry {
    /// Writes down what of the body was read, unless it was written down whole before.
    pub(super) fn body(&mut self, upload: &Upload) {
        if self.has_body {
            return;
        }
        self.has_body = upload.complete();
        self.records.update(self.number, |record| {
            record.body_length = upload.length();
            record.body_complete = upload.complete();
            record.body_sha256 = upload.sha256();
            record.body = Bytes::copy_from_slice(upload.kept());
            record.trailers = upload.trailers().clone();
        });
    }

    /// Writes down the end.
    pub(super) fn end(mut self, ended: Ended, sent: u64) {
        self.close(ended, sent);
    }

    fn close(&mut self, ended: Ended, sent: u64) {
        self.open = false;
        self.records.update(self.number, |record| {
            record.ended = Some((Instant::now(), ended));
            record.sent = sent;
        });
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.open {
            self.close(Ended::Stopped, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u64) -> Record {
        Record {
            number,
            connection: 1,
            on_connection: number,
            protocol: http::Version::HTTP_11,
            tls: None,
            head: Bytes::new(),
            method: Method::GET,
            target: "/".to_owned(),
            headers: HeaderMap::new(),
            authority: None,
            body_length: 0,
            body_complete: false,
            body_sha256: [0; 32],
            body: Bytes::new(),
            trailers: HeaderMap::new(),
            started: Instant::now(),
            ended: None,
            sent: 0,
        }
    }

    #[test]
    fn the_ring_keeps_its_bounds_and_dropped_entries_end() {
        let records = Arc::new(Records::new(3));
        let mut entries: Vec<Entry> = (0..5).map(|_| records.open(record)).collect();
        let mut upload = Upload::new();
        upload.take(b"hello");
        upload.finish(HeaderMap::new());
        for entry in &mut entries {
            entry.body(&upload);
        }
        drop(entries);
        let kept = records.list();
        assert_eq!(kept.iter().map(|record| record.number).collect::<Vec<_>>(), [3, 4, 5]);
        assert!(kept.iter().all(|record| record.ended.is_some_and(|(_, ended)| ended == Ended::Stopped)));
        assert_eq!(records.ring().kept, 15);
        assert_eq!(upload.sha256_hex(), "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    }
}
