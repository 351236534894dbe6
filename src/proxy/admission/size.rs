//! What the tokens of a request are estimated from: the bytes of its text, and what it has attached.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http_body::Body as _;

use crate::{
    limit::{RequestSize, Teaches},
    openai::Attached,
    proxy::intake::{PreparedRequest, RequestContent},
};

/// From this size on, in bytes, a body is searched on a thread for blocking work, so that the worker's streams are not delayed.
const LARGE: usize = 1 << 20;

/// The size of a request of so many `bytes`, if no limit is on tokens or cost. Its body is not read for that.
pub(super) fn not_needed(bytes: u64) -> RequestSize {
    RequestSize { teaches: Teaches::IfPlausible, ..RequestSize::of_text(bytes) }
}

/// The size of a request of which `bytes` have arrived.
pub(super) async fn of(prepared: &PreparedRequest, bytes: u64) -> RequestSize {
    if is_form(prepared) {
        // Its fields are few beside its file.
        return RequestSize { text: 0, attachments: 1, teaches: Teaches::No };
    }
    let unreadable = RequestSize { teaches: Teaches::No, ..RequestSize::of_text(bytes) };
    match (&prepared.decoded, &prepared.content) {
        (Some(decoded), _) => searched(decoded).await,
        (None, RequestContent::Read(_)) if prepared.head.headers.contains_key(CONTENT_ENCODING) => unreadable,
        (None, RequestContent::Read(body)) => searched(body).await,
        (None, RequestContent::Streamed(body)) => {
            RequestSize { text: bytes.saturating_add(body.size_hint().lower()), ..unreadable }
        }
        (None, RequestContent::Spooled(_) | RequestContent::Gone) => unreadable,
    }
}

fn is_form(prepared: &PreparedRequest) -> bool {
    let kind = prepared.head.headers.get(CONTENT_TYPE);
    kind.is_some_and(|kind| {
        kind.as_bytes().get(..10).is_some_and(|start| start.eq_ignore_ascii_case(b"multipart/"))
    })
}

async fn searched(body: &Bytes) -> RequestSize {
    let found = if body.len() < LARGE {
        Attached::find(body)
    } else {
        let body = body.clone();
        tokio::task::spawn_blocking(move || Attached::find(&body)).await.unwrap_or_default()
    };
    let text = (body.len() as u64).saturating_sub(found.bytes);
    RequestSize { text, attachments: found.count, teaches: Teaches::Yes }
}
