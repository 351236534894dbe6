//! Bounds on a request body that is read, in size and in time.

use std::{
    future::poll_fn,
    pin::Pin,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body::Body;

use crate::{
    body::{RequestBody, Spool, UploadTally},
    fault::Fault,
    openai::Check,
    pause,
};

/// Bounds on one body.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    /// In bytes.
    pub(super) limit: u64,
    /// The longest pause within it.
    pub(super) idle: Duration,
    /// Of all bodies that the process holds, in bytes.
    pub(super) buffered: u64,
    /// Where a form goes that is larger than what is held in memory; `None`: all is held in memory.
    pub(super) spool: Option<SpoolBounds>,
    /// What is checked of it.
    pub(super) check: Option<Check>,
}

/// When a form goes to a file, and where.
#[derive(Debug, Clone)]
pub(super) struct SpoolBounds {
    /// The largest form that is held in memory, in bytes.
    pub(super) above: u64,
    pub(super) spool: Spool,
}

/// The next frame of `body`, after a pause of `idle` at most. `tally` learns of the pause.
pub(super) async fn next(
    body: &mut RequestBody,
    idle: Duration,
    tally: &UploadTally,
) -> Result<Option<http_body::Frame<Bytes>>, Fault> {
    let mut waiting = None;
    let frame = poll_fn(|cx| {
        let frame = Pin::new(&mut *body).poll_frame(cx);
        if frame.is_pending() {
            waiting.get_or_insert_with(Instant::now);
        }
        frame
    });
    let frame = pause::timeout(idle, frame).await;
    if let Some(since) = waiting {
        tally.add_wait(since.elapsed());
    }
    match frame {
        Err(_) => Err(Fault::BodyStalled(idle)),
        Ok(None) => Ok(None),
        Ok(Some(Ok(frame))) => Ok(Some(frame)),
        Ok(Some(Err(error))) => Err(Fault::BodyBroken(error.into())),
    }
}
