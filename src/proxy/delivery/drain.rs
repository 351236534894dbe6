//! Reads on after the client has left: the rest of a complete response, to keep the connection, or an incomplete one, for the usage at its
//! end.
//!
//! SDKs close a stream at its terminal event (openai-python `_streaming.py`, the sync client), while the last bytes of the
//! upstream's body are still to come. Reading those keeps the connection for the next request.

use std::{future::poll_fn, pin::Pin, rc::Rc, time::Duration};

use http_body::Body;

use crate::{proxy::Worker, upstream::AnswerBody};

/// The most bytes that are read after the terminal event. No upstream sends more.
const MOST_BYTES: usize = 64 << 10;

/// The time limit for the rest of a complete response.
const LONGEST: Duration = Duration::from_secs(2);

/// The limits for a response that is read for its usage: bytes, and time.
pub(super) const MOST_FOR_USAGE: usize = 16 << 20;
const LONGEST_FOR_USAGE: Duration = Duration::from_secs(300);

/// The most responses that a worker reads without a client at once; further ones are dropped.
const MOST_AT_ONCE: usize = 1024;

/// Runs `reading` in a task of its own, within the limits for usage. `reading` is dropped when its time is over.
pub(super) fn read_for_usage(worker: &Rc<Worker>, reading: impl Future<Output = ()> + 'static) {
    let one = worker.detached.clone();
    if Rc::strong_count(&one) > MOST_AT_ONCE + 1 {
        return;
    }
    tokio::task::spawn_local(async move {
        // At the time limit it is dropped, and with it the upstream's connection.
        let _ = tokio::time::timeout(LONGEST_FOR_USAGE, reading).await;
        drop(one);
    });
}

/// Reads `body` to its end in a task of its own, within bounds. When the body is dropped, its connection is kept if it was read to its end.
pub(super) fn read_on(mut body: AnswerBody) {
    tokio::task::spawn_local(async move {
        // At the time limit the body is dropped unread, which closes its connection.
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
