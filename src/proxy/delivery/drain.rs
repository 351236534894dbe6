//! Reads on after the client has left: the rest of a complete response, to keep the connection, or an incomplete one, for the usage at its
//! end.
//!
//! SDKs close a stream at its terminal event (openai-python `_streaming.py`, the sync client), while the last bytes of the
//! upstream's body are still to come. Reading those keeps the connection for the next request.

use std::{future::poll_fn, pin::Pin, rc::Rc, time::Duration};

use http_body::Body;

use crate::{proxy::Worker, upstream::AnswerBody};

/// No upstream sends more after its last event, in bytes.
const MOST_BYTES: usize = 64 << 10;

/// How long the rest may take.
const LONGEST: Duration = Duration::from_secs(2);

/// For its usage, a response is read on for so many bytes at most, and for so long.
pub(super) const MOST_FOR_USAGE: usize = 16 << 20;
const LONGEST_FOR_USAGE: Duration = Duration::from_secs(300);

/// The most responses that a worker reads on at once; the next one is dropped.
const MOST_AT_ONCE: usize = 1024;

/// Runs `reading` in a task of its own, within bounds. Dropping it gives it up.
pub(super) fn read_for_usage(worker: &Rc<Worker>, reading: impl Future<Output = ()> + 'static) {
    let one = worker.detached.clone();
    if Rc::strong_count(&one) > MOST_AT_ONCE + 1 {
        return;
    }
    tokio::task::spawn_local(async move {
        // Out of time, it is dropped, and with it the upstream's connection.
        let _ = tokio::time::timeout(LONGEST_FOR_USAGE, reading).await;
        drop(one);
    });
}

/// Reads `body` to its end in a task of its own, within bounds. Dropping it then decides what becomes of its connection.
pub(super) fn read_on(mut body: AnswerBody) {
    tokio::task::spawn_local(async move {
        // Out of time: the body is dropped unread, which closes its connection.
        let _ = tokio::time::timeout(LONGEST, read(&mut body)).await;
    });
}

async fn read(body: &mut AnswerBody) {
    let mut bytes = 0;
    while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
        bytes += frame.data_ref().map_or(0, bytes::Bytes::len);
        if bytes > MOST_BYTES {
            return;
        }
    }
}
