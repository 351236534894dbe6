//! Reading on after the caller has left with a whole answer.
//!
//! SDKs close a stream at its terminal event (openai-python `_streaming.py`, the sync client), while the last bytes of the
//! upstream's body are still to come. Reading those keeps the connection for the next request.

use std::{future::poll_fn, pin::Pin, time::Duration};

use http_body::Body;

use crate::upstream::AnswerBody;

/// No upstream has that much to say after its last event.
const MOST_BYTES: usize = 64 << 10;

/// Nor takes it that long.
const LONGEST: Duration = Duration::from_secs(2);

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
