//! Whether a request whose facts are known may go on, and to which upstreams it may be sent again.

mod early;
mod limits;
mod not_admitted;
mod prices;
mod rate_headers;
mod size;
mod taking;
mod waiting;

use std::sync::Arc;

pub(super) use early::refuse_early;
pub(super) use limits::ModelRefused;
pub(super) use not_admitted::limit_fault;
pub(super) use rate_headers::write as write_limits_left;

use not_admitted::NotAdmitted;

use super::{context::RequestContext, intake::PreparedRequest};
use crate::{
    exchange::Exchange,
    fault::Fault,
    limit::Admitted,
    openai::EditError,
    snapshot::{LimitScope, Upstream},
    upstream::BudgetPermit,
};

/// Admits a request, as far as that does not depend on the candidate. What limits have granted is in the exchange's account.
///
/// # Errors
/// The client may not use the model, or is limited to some models and the operation runs one that the gateway cannot read; or every
/// candidate needs another model in the body, which has no place for it; or a limit is reached.
pub(super) async fn admit(
    context: &RequestContext,
    exchange: &mut Exchange,
    prepared: &PreparedRequest,
) -> Result<(), Fault> {
    allow_model(exchange, prepared)?;
    let steps = &prepared.arrived.routed.route.steps;
    if prepared.lacks_place_for_model() && steps.iter().all(|step| step.model.is_some()) {
        return Err(EditError::NotAnObject { member: "model" }.into());
    }
    limits::admit(context, exchange, prepared).await
}

/// Admits a request to a candidate under all limits that depend on `model`, the one that the candidate is asked for. `None`: there are none.
///
/// # Errors
/// The first limit that refuses it.
pub(super) async fn admit_model(
    context: &RequestContext,
    exchange: &mut Exchange,
    prepared: &PreparedRequest,
    model: Option<&str>,
) -> Result<Option<Admitted>, ModelRefused> {
    limits::admit_model(context, exchange, prepared, model).await
}

/// As [`admit_model`], for a request that may wait for a limit and holds no candidate meanwhile; with [`LimitScope::Any`], it holds no grant of a
/// limit either.
///
/// # Errors
/// The limit that refuses it.
pub(super) async fn wait_for_model(
    context: &RequestContext,
    exchange: &mut Exchange,
    prepared: &PreparedRequest,
    model: Option<&str>,
    scope: LimitScope,
) -> Result<Admitted, Fault> {
    limits::wait_for_model(context, exchange, prepared, model, scope).await
}

/// Admits one more request to `upstream`, which is a retry if `asked_before`. `None`: the upstream has as many retries as its budget allows, and
/// another candidate's turn has come.
pub(super) fn admit_to_upstream(upstream: &Arc<Upstream>, asked_before: bool) -> Option<BudgetPermit> {
    if asked_before { upstream.budget.retry_permit() } else { Some(upstream.budget.request_permit()) }
}

fn allow_model(exchange: &Exchange, prepared: &PreparedRequest) -> Result<(), Fault> {
    let Some(caller) = exchange.record.caller.as_ref().filter(|caller| caller.is_limited_to_models()) else {
        return Ok(());
    };
    let more = prepared.more_models.iter().map(String::as_str);
    let mut named = prepared.model.as_deref().into_iter().chain(prepared.path_model.as_deref()).chain(more);
    if let Some(forbidden) = named.find(|model| !caller.may_use_model(prepared.counted_name(model))) {
        return Err(Fault::ModelForbidden(forbidden.to_owned()));
    }
    if let Some(model) = prepared.model.as_deref().or(prepared.path_model.as_deref()) {
        exchange.handle.status.uses_model(prepared.counted_name(model));
    }
    let use_of_model = prepared.operation.model;
    let is_named =
        prepared.path_model.is_some() || (use_of_model.may_be_in_body() && prepared.model.is_some());
    // The session of an ephemeral key was checked when the key was issued.
    if use_of_model.is_required() && !is_named && prepared.arrived.ephemeral.is_none() {
        return Err(Fault::ModelUnknown);
    }
    Ok(())
}
