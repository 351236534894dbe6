//! Reads a document whole, so that a part of it can be replaced.

use bytes::{Bytes, BytesMut};
use http_body::Frame;

use super::{
    HoldBounds, PendingStream,
    commit::{FRAME, next_within},
};
use crate::{fault::Fault, proxy::buffered::Buffered};

/// Reads the body of `pending` whole. `None`: it is larger than `bounds` allow, and goes on as it came.
///
/// # Errors
/// The body ended early, or stopped arriving.
pub(super) async fn read_document(
    pending: &mut PendingStream,
    bounds: &HoldBounds<'_>,
) -> Result<Option<Bytes>, Fault> {
    let PendingStream { body, held, counted, idle, .. } = pending;
    let counted = counted.get_or_insert_with(|| Buffered::new(bounds.gateway));
    let mut length = held.iter().filter_map(Frame::data_ref).map(Bytes::len).sum::<usize>();
    while let Some(open) = body.as_mut() {
        let Some(frame) = next_within(open, *idle, None).await? else { break };
        length += frame.data_ref().map_or(0, Bytes::len);
        held.push_back(frame);
        // The bytes are copied, and once more with the replacement.
        let taken = 3 * length + held.len() * FRAME;
        if length as u64 > bounds.limit || counted.grow_to(taken as u64, bounds.buffered).is_err() {
            return Ok(None);
        }
    }
    let mut whole = BytesMut::with_capacity(length);
    held.iter().filter_map(Frame::data_ref).for_each(|data| whole.extend_from_slice(data));
    Ok(Some(whole.freeze()))
}

/// Puts `document` in the place of the body of `pending`, which was read whole.
pub(super) fn replace_document(pending: &mut PendingStream, document: Bytes) {
    pending.held.clear();
    pending.held.push_back(Frame::data(document));
    pending.body = None;
}
