//! Holds an answer back until its ids are written down, so that the client never has an id whose account a restart would forget.

use bytes::Bytes;
use http_body::Frame;

use super::{HoldBounds, PendingStream, commit, next_within};
use crate::{
    config::Timeouts,
    fault::Fault,
    proxy::{account_learning::IdWatch, buffered::Buffered},
};

/// The most bytes that are held for their ids. What follows is looked at as it passes.
const MOST_BYTES: usize = 64 << 10;

/// Holds a document until its end, and an event stream until its first id; at most 64 KiB. What was found is written down before this returns, and
/// what follows is learnt as it passes.
///
/// # Errors
/// The response ended early, or was silent for too long.
pub(super) async fn hold_until_learnt(
    pending: &mut PendingStream,
    mut watch: Box<IdWatch>,
    timeouts: Timeouts,
    bounds: &HoldBounds<'_>,
) -> Result<(), Fault> {
    // Files and the like name no ids, and compressed answers cannot be read.
    if !pending.observer.is_events() && !pending.observer.is_document() {
        watch.learn().await;
        return Ok(());
    }
    let is_stream = pending.observer.is_events();
    let mut is_found = false;
    let mut bytes = 0;
    for data in pending.held.iter().filter_map(Frame::data_ref) {
        is_found |= watch.look_ahead(data);
        bytes += data.len();
    }
    let counted = pending.counted.get_or_insert_with(|| Buffered::new(bounds.gateway));
    while let Some(body) = &mut pending.body
        && bytes < MOST_BYTES
        && !(is_stream && is_found)
    {
        let Some(frame) = next_within(body, timeouts.idle, None).await? else { break };
        bytes += frame.data_ref().map_or(0, Bytes::len) + commit::FRAME;
        is_found |= frame.data_ref().is_some_and(|data| watch.look_ahead(data));
        pending.held.push_back(frame);
        if counted.grow_to(bytes as u64, bounds.buffered).is_err() {
            break;
        }
    }
    // A failure is logged where it happens; the client gets its answer nevertheless.
    watch.learn().await;
    pending.ids = Some(watch);
    Ok(())
}
