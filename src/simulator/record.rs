//! Records of the requests that reached the simulator, and of how each ended.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, Method};
use tokio::sync::watch;

use super::{ending::Ended, tls::Handshake, upload::Upload};

/// The most bytes of request bodies kept in all records together; beyond it the oldest records are dropped.
const MAX_KEPT: usize = 64 * 1024 * 1024;

/// One request: what arrived, and how it ended.
#[derive(Clone, Debug)]
pub struct Record {
    /// Number of the request, from 1.
    pub number: u64,
    /// Number of its connection, from 1.
    pub connection: u64,
    /// Number of the request on its connection, from 1.
    pub on_connection: u64,
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2.0`.
    pub protocol: http::Version,
    /// What the TLS handshake showed about the client; `None` on a plain connection.
    pub tls: Option<Arc<Handshake>>,
    /// HTTP/1.1: every byte of the head as received, including the blank line. HTTP/2: empty.
    pub head: Bytes,
    /// The method.
    pub method: Method,
    /// Path and query as received.
    pub target: String,
    /// The headers, without HTTP/2's `:authority`, which is in `authority`.
    pub headers: HeaderMap,
    /// `:authority` of HTTP/2, `host` of HTTP/1.1.
    pub authority: Option<String>,
    /// Bytes of the request body that were read.
    pub body_length: u64,
    /// Whether the whole request body was read.
    pub body_complete: bool,
    /// SHA-256 of the body bytes that were read.
    pub body_sha256: [u8; 32],
    /// The first 64 KiB of the request body.
    pub body: Bytes,
    /// The trailers of the request.
    pub trailers: HeaderMap,
    /// When the whole head had been received.
    pub started: Instant,
    /// When and how the request ended; `None` while its script is running.
    pub ended: Option<(Instant, Ended)>,
    /// Bytes of the response body written to the kernel (HTTP/2: within the client's flow-control window).
    pub sent: u64,
}

/// The latest records, up to a bound. Tasks can wait for a change.
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

    /// Adds a record. Dropping the returned value records the end of the request, if [`OpenRecord::end`] has not.
    pub(super) fn open(self: &Arc<Self>, record: impl FnOnce(u64) -> Record) -> OpenRecord {
        let mut ring = self.ring();
        ring.last += 1;
        let number = ring.last;
        if self.bound > 0 {
            ring.records.push_back(record(number));
            ring.shrink(self.bound);
            drop(ring);
            self.changed.send_replace(());
        }
        OpenRecord { records: Arc::clone(self), number, open: true, has_body: false }
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

    /// All records, oldest first.
    pub(super) fn list(&self) -> Vec<Record> {
        self.ring().records.iter().cloned().collect()
    }

    /// Drops all records. Numbers continue.
    pub(super) fn clear(&self) {
        let mut ring = self.ring();
        ring.records.clear();
        ring.kept = 0;
    }

    fn update(&self, number: u64, change: impl FnOnce(&mut Record)) {
        let mut ring = self.ring();
        let Some(first) = ring.records.front().map(|record| record.number) else { return };
        let Some(index) = number.checked_sub(first).and_then(|index| usize::try_from(index).ok()) else {
            return;
        };
        let Some(record) = ring.records.get_mut(index) else { return };
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

/// The record of a request in progress.
pub(super) struct OpenRecord {
    records: Arc<Records>,
    pub(super) number: u64,
    open: bool,
    /// Whether the whole request body has been recorded.
    has_body: bool,
}

impl OpenRecord {
    /// Records the part of the request body that has been read, unless the whole body is recorded already.
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

    /// Records the end of the request.
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

impl Drop for OpenRecord {
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
    fn the_ring_keeps_its_bounds_and_dropped_records_end() {
        let records = Arc::new(Records::new(3));
        let mut open: Vec<OpenRecord> = (0..5).map(|_| records.open(record)).collect();
        let mut upload = Upload::new();
        upload.take(b"hello");
        upload.finish(HeaderMap::new());
        for record in &mut open {
            record.body(&upload);
        }
        drop(open);
        let kept = records.list();
        assert_eq!(kept.iter().map(|record| record.number).collect::<Vec<_>>(), [3, 4, 5]);
        assert!(kept.iter().all(|record| record.ended.is_some_and(|(_, ended)| ended == Ended::Stopped)));
        assert_eq!(records.ring().kept, 15);
        assert_eq!(upload.sha256_hex(), "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    }
}
