//! The limits of the configuration on a request: reserved before the attempts, corrected after the response.

use std::time::Duration;

use super::rate_headers;
use crate::{
    exchange::{Accounting, Exchange, Record, RequestKind, now},
    fault::{Fault, LimitReached},
    limit::{Admitted, Applied, Demand, Refused, Unit},
    proxy::{context::RequestContext, intake::PreparedRequest},
    snapshot::{LimitIndex, LimitScope, LimitedRequest},
};

/// Admits a request under all limits that apply to it whoever answers it. The exchange's account gives back what it did not use. The headers of
/// the response say what is left.
///
/// # Errors
/// The first limit that refuses it.
pub(super) async fn admit(
    context: &RequestContext,
    exchange: &mut Exchange,
    prepared: &PreparedRequest,
) -> Result<(), Fault> {
    let limits = &context.snapshot.limits;
    if limits.is_empty() {
        return Ok(());
    }
    let request = limited(&exchange.record, prepared, prepared.model.as_deref());
    let applying = limits.applying(&request, LimitScope::Request);
    if applying.is_empty() && !limits.any_by_model() {
        return Ok(());
    }
    let mut accounting = Accounting::new(kind(limits, &exchange.record, prepared));
    let granted = take(limits, exchange, &applying, accounting.demand())
        .await
        .map_err(|refused| limit_fault(&refused))?;
    accounting.add(granted);
    exchange.open_account(accounting);
    Ok(())
}

/// A limit by model that is reached.
#[derive(Debug)]
pub(in crate::proxy) struct ModelRefused {
    /// The response, if nothing else is to be tried.
    pub(in crate::proxy) fault: Fault,
    /// The time until the model may be asked again; `None` if nobody knows.
    pub(in crate::proxy) wait: Option<Duration>,
    /// Whether the next candidate is tried instead.
    pub(in crate::proxy) goes_on: bool,
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
    let limits = &context.snapshot.limits;
    if !limits.any_by_model() {
        return Ok(None);
    }
    let applying = limits.applying(&limited(&exchange.record, prepared, model), LimitScope::Model);
    if applying.is_empty() {
        return Ok(None);
    }
    let demand = exchange.accounting().map(|accounting| accounting.demand()).unwrap_or_default();
    let refused = match take(limits, exchange, &applying, demand).await {
        Ok(granted) => return Ok(Some(granted)),
        Err(refused) => refused,
    };
    Err(ModelRefused { fault: limit_fault(&refused), wait: refused.wait, goes_on: refused.limit.goes_on })
}

/// Takes what the request is expected to use from all of `limits`, or from none.
async fn take(
    index: &LimitIndex,
    exchange: &mut Exchange,
    limits: &[Applied],
    demand: Demand,
) -> Result<Admitted, Refused> {
    let moment = now();
    let result = match index.sharing() {
        None => Admitted::take(limits, demand, moment),
        // Boxed: without a shared store, the future of a request is no larger.
        Some(sharing) => Box::pin(sharing.take(limits, demand, moment)).await,
    };
    let granted: Vec<Applied> =
        exchange.accounting().map(|accounting| accounting.limits().cloned().collect()).unwrap_or_default();
    rate_headers::write(&mut exchange.response_headers, &granted.iter().chain(limits), moment);
    match &result {
        Ok(admitted) => {
            if let Some((limit, _)) = admitted.would_refuse() {
                exchange.record.limit.get_or_insert_with(|| limit.name.clone());
            }
        }
        Err(refused) => exchange.record.limit = Some(refused.limit.name.clone()),
    }
    result
}

/// The request as limits see it, if `model` answers it.
fn limited<'a>(
    record: &'a Record,
    prepared: &'a PreparedRequest,
    model: Option<&'a str>,
) -> LimitedRequest<'a> {
    LimitedRequest {
        caller: record.caller.as_deref(),
        route: record.route.as_deref().unwrap_or_default(),
        model_table: prepared.model_table(),
        model,
    }
}

fn kind(limits: &LimitIndex, record: &Record, prepared: &PreparedRequest) -> RequestKind {
    RequestKind {
        estimates: limits.estimates.clone(),
        client: record.caller.as_ref().map(|caller| caller.name.clone()),
        dialect: record.endpoint.as_str(),
        model: prepared.model.as_deref().map(Into::into),
        bytes: record.upload.bytes(),
        uses_tokens: prepared.handshake.is_none(),
    }
}

/// What the client is answered when a limit has refused its request.
pub(in crate::proxy) fn limit_fault(refused: &Refused) -> Fault {
    let reached = LimitReached { limit: refused.limit.name.clone(), wait: refused.wait };
    match refused.unit {
        Unit::Requests | Unit::Tokens => Fault::RateLimit(reached),
        Unit::Concurrent => Fault::ConcurrencyLimit(reached),
        Unit::Cost => Fault::CostLimit(reached),
    }
}
