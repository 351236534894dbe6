//! The limits of the configuration on a request: reserved before the attempts, corrected after the response.

use std::{sync::Arc, time::Duration};

use super::{prices, rate_headers};
use crate::{
    exchange::{Accounting, Exchange, Record, RequestKind, RequestPrices, now},
    fault::{Fault, LimitReached},
    limit::{Admitted, Applied, Demand, Refused, Unit},
    openai::ModelUse,
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
    let (limits, prices) = (&context.snapshot.limits, &context.snapshot.pricing);
    if limits.is_empty() && prices.is_none() {
        return Ok(());
    }
    let request = limited(&exchange.record, prepared, prepared.model.as_deref());
    let applying = limits.applying(&request, LimitScope::Request);
    if applying.is_empty() && !limits.any_by_model() && prices.is_none() {
        return Ok(());
    }
    let mut accounting = Accounting::new(kind(limits, &exchange.record, prepared));
    if let Some(book) = prices {
        prices::of_request(book, &applying, prepared)?;
        let table = prepared.model_table().map(Into::into);
        accounting = accounting.priced(RequestPrices::new(book, prepared.model.as_deref(), table));
    }
    if !applying.is_empty() {
        let demand = accounting.demand(None);
        accounting.add(take(exchange, &applying, demand).await.map_err(|refused| limit_fault(&refused))?);
    }
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
    if let Some(fault) =
        context.snapshot.pricing.as_ref().and_then(|book| prices::lacks(book, &applying, prepared, model))
    {
        let goes_on = applying.iter().any(|applied| applied.limit.cost.is_some() && applied.limit.goes_on);
        return Err(ModelRefused { fault, wait: None, goes_on });
    }
    let demand = exchange.accounting().map(|accounting| accounting.demand(model)).unwrap_or_default();
    let refused = match take(exchange, &applying, demand).await {
        Ok(granted) => return Ok(Some(granted)),
        Err(refused) => refused,
    };
    Err(ModelRefused { fault: limit_fault(&refused), wait: refused.wait, goes_on: refused.limit.goes_on })
}

/// Takes what the request is expected to use from all of `limits`, or from none.
async fn take(exchange: &mut Exchange, limits: &[Applied], demand: Demand) -> Result<Admitted, Refused> {
    let moment = now();
    let result = Admitted::take(limits, demand, moment);
    let granted: Vec<Applied> =
        exchange.accounting().map(|accounting| accounting.limits().cloned().collect()).unwrap_or_default();
    rate_headers::write(&mut exchange.response_headers, &granted.iter().chain(limits), moment);
    count(exchange, limits, &result);
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

/// Counts what each of `limits` has decided.
fn count(exchange: &Exchange, limits: &[Applied], result: &Result<Admitted, Refused>) {
    let metrics = exchange.metrics();
    let admitted = match result {
        Ok(admitted) => admitted,
        Err(refused) => return metrics.limit_decided(&refused.limit.name, "refused"),
    };
    for applied in limits {
        let is_counted = admitted.limits().any(|counted| Arc::ptr_eq(&counted.counter, &applied.counter));
        metrics.limit_decided(&applied.limit.name, if is_counted { "admitted" } else { "would_refuse" });
    }
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
        runs_model: prepared.handshake.is_some() || prepared.operation.model != ModelUse::None,
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
