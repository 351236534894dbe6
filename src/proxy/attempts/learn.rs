//! Learns from the answer of an account that is not the rule's which ids it knows.

use std::sync::Arc;

use http::{HeaderMap, header};

use super::candidate::Candidate;
use crate::{
    exchange::Exchange,
    fault::Fault,
    proxy::{
        account_choice::{AccountChoice, Search},
        account_learning::IdWatch,
        context::RequestContext,
        delivery::{ClientResponse, HoldBounds},
    },
};

/// Learns the ids in `response`, which came from `candidate`, and has those written down that its first bytes name before any of it goes out.
///
/// # Errors
/// The response ended early, or was silent for too long.
pub(super) async fn learn(
    context: &RequestContext,
    exchange: &Exchange,
    choice: &AccountChoice,
    candidate: &Candidate,
    response: &mut ClientResponse,
) -> Result<(), Fault> {
    let Some(account) = candidate.account() else { return Ok(()) };
    let Some(learning) = choice.learning_at(account) else { return Ok(()) };
    if response.status().is_client_error() || response.status().is_server_error() {
        return Ok(());
    }
    let map = Arc::clone(&context.worker.gateway.accounts);
    let mut watch = Box::new(IdWatch::new(learning.clone(), account, map));
    if choice.search() == Search::Look {
        watch.add_path_ids();
    }
    if let Some(id) = created(response.headers_mut()) {
        watch.add(id.as_bytes());
    }
    let bounds = HoldBounds {
        limit: u64::MAX,
        buffered: context.snapshot.server.max_buffered,
        gateway: &context.worker.gateway,
        status: &exchange.handle.status,
    };
    response.hold_until_learnt(watch, candidate.timeouts, &bounds).await
}

/// The id of what was made, by its URL: a call over WebRTC has it nowhere else.
fn created(headers: &HeaderMap) -> Option<String> {
    let location = headers.get(header::LOCATION)?.to_str().ok()?;
    let path = location.split(['?', '#']).next()?;
    path.rsplit('/').next().filter(|id| !id.is_empty()).map(str::to_owned)
}
