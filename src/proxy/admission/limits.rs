//! The limits of the configuration on a request: reserved before the attempts, corrected after the response.

use std::{rc::Rc, sync::Arc, time::Duration};

use super::{NotAdmitted, prices, size, taking::take_turn, waiting};
use crate::{
    exchange::{Accounting, Exchange, Record, RequestKind, RequestPrices, now},
    fault::Fault,
    limit::{Admitted, Applied, Demand, Likeness, Moment, RequestSize, Teaches, Tightest},
    openai::ModelUse,
    proxy::{arrival::Arrived, context::RequestContext, intake::PreparedRequest},
    snapshot::{LimitIndex, LimitScope, LimitedRequest},
};

/// Admits a request under all limits that apply to it with any model. The exchange's account gives back what it did not use. The headers of
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
    let applying = if limits.any_in_model_tables() {
        let request = limited(&exchange.record, prepared, prepared.model.as_deref());
        limits.applying(&request, LimitScope::Request).into()
    } else {
        of_request(limits, &exchange.record, &prepared.arrived)
    };
    if applying.is_empty() && !limits.any_by_model() && prices.is_none() {
        return Ok(());
    }
    let needs_size = limits.any_on_use_by_model() || applying.iter().any(|applied| applied.limit.is_on_use());
    let bytes = exchange.record.upload.bytes();
    let size = if needs_size { size::of(prepared, bytes).await } else { size::not_needed(bytes) };
    let mut accounting = Accounting::new(kind(limits, &exchange.record, prepared, size));
    if let Some(book) = prices {
        prices::of_request(book, &applying, prepared)?;
        let table = prepared.model_table().map(Into::into);
        accounting = accounting.priced(RequestPrices::new(book, prepared.model.as_deref(), table));
    }
    if !applying.is_empty() {
        let demand = accounting.demand(None);
        let granted = take(context, exchange, &applying, demand).await;
        note(exchange, &applying, &applying, now(), &granted);
        accounting.add(granted.map_err(|refused| refused.fault())?);
    }
    exchange.open_account(accounting);
    Ok(())
}

/// The limits that apply to a request with any model.
pub(super) fn of_request(limits: &LimitIndex, record: &Record, arrived: &Arrived) -> Rc<[Applied]> {
    let request = LimitedRequest {
        caller: record.caller.as_deref(),
        route: record.route.as_deref().unwrap_or_default(),
        model_table: None,
        model: None,
    };
    arrived.limits(|| limits.applying(&request, LimitScope::Request))
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
    /// Whether the request may wait for it, which it does when it holds no candidate: [`wait_for_model`].
    pub(in crate::proxy) may_wait: bool,
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
        return Err(ModelRefused { fault, wait: None, goes_on, may_wait: false });
    }
    let demand = exchange.accounting().map(|accounting| accounting.demand(model)).unwrap_or_default();
    let result =
        take_turn(limits, &applying, demand, &[], exchange.store_wait()).await.map_err(NotAdmitted::Refused);
    note(exchange, &applying, &applying, now(), &result);
    match result {
        Ok(granted) => Ok(Some(granted)),
        Err(NotAdmitted::Refused(refused)) => Err(ModelRefused {
            wait: refused.wait,
            goes_on: refused.limit.goes_on,
            may_wait: refused.limit.queue.is_some(),
            fault: NotAdmitted::Refused(refused).fault(),
        }),
        Err(other) => Err(ModelRefused { fault: other.fault(), wait: None, goes_on: false, may_wait: false }),
    }
}

/// As [`admit_model`], and waits where a limit has a queue. `scope`: the limits that have to admit the request. With [`LimitScope::Any`], nothing is
/// held meanwhile: the exchange's account gives back what it has, and gets it again when all limits admit the request in one step.
///
/// # Errors
/// The limit that refuses the request, or that it has waited for for too long.
pub(super) async fn wait_for_model(
    context: &RequestContext,
    exchange: &mut Exchange,
    prepared: &PreparedRequest,
    model: Option<&str>,
    scope: LimitScope,
) -> Result<Admitted, Fault> {
    let limits = &context.snapshot.limits;
    let request = limited(&exchange.record, prepared, model);
    let (applying, of_model) =
        (limits.applying(&request, scope), limits.applying(&request, LimitScope::Model));
    let demand = exchange.accounting().map(|accounting| accounting.demand(model)).unwrap_or_default();
    if scope == LimitScope::Any
        && let Some(accounting) = exchange.accounting()
    {
        accounting.give_back();
    }
    let result = take(context, exchange, &applying, demand).await;
    // The other limits were counted when the request was first admitted.
    note(exchange, &applying, &of_model, now(), &result);
    let admitted = result.map_err(|refused| refused.fault())?;
    let is_of_model =
        |applied: &Applied| of_model.iter().any(|known| Arc::ptr_eq(&known.counter, &applied.counter));
    let (of_model, of_request) = admitted.split(is_of_model);
    if let Some(accounting) = exchange.accounting().filter(|_| scope == LimitScope::Any) {
        accounting.add(of_request);
    }
    Ok(of_model)
}

/// Takes what the request is expected to use from all of `limits`, or from none. Where the limit that refuses has a queue, the request waits in it.
async fn take(
    context: &RequestContext,
    exchange: &mut Exchange,
    limits: &[Applied],
    demand: Demand,
) -> Result<Admitted, NotAdmitted> {
    match take_turn(&context.snapshot.limits, limits, demand, &[], exchange.store_wait()).await {
        Ok(admitted) => Ok(admitted),
        Err(refused) if refused.limit.queue.is_none() => Err(NotAdmitted::Refused(refused)),
        Err(refused) => Box::pin(waiting::wait(context, exchange, limits, demand, refused)).await,
    }
}

/// Notes what `limits` have said at this `moment`, for the response and the log. Decisions of those that are `counted` are counted.
pub(super) fn note(
    exchange: &mut Exchange,
    limits: &[Applied],
    counted: &[Applied],
    moment: Moment,
    result: &Result<Admitted, NotAdmitted>,
) {
    note_left(exchange, limits, moment);
    count(exchange, counted, result);
    match result {
        Ok(admitted) => {
            if let Some((limit, _)) = admitted.would_refuse() {
                exchange.record.limit.get_or_insert_with(|| limit.name.clone());
            }
        }
        Err(NotAdmitted::Refused(refused) | NotAdmitted::TimedOut { refused, .. }) => {
            exchange.record.limit = Some(refused.limit.name.clone());
        }
        Err(NotAdmitted::Draining) => {}
    }
}

/// Notes what is left of these limits and of those that have admitted the request before, for the headers of the response.
fn note_left(exchange: &mut Exchange, limits: &[Applied], moment: Moment) {
    let granted = exchange.account().into_iter().flat_map(Accounting::limits);
    let left = Tightest::of(granted.chain(limits), moment);
    if !left.is_empty() {
        exchange.limits_left = Some(Box::new(left));
    }
}

/// Counts what each of `limits` has decided.
fn count(exchange: &Exchange, limits: &[Applied], result: &Result<Admitted, NotAdmitted>) {
    let metrics = exchange.metrics();
    let admitted = match result {
        Ok(admitted) => admitted,
        Err(NotAdmitted::Refused(refused) | NotAdmitted::TimedOut { refused, .. }) => {
            return metrics.limit_decided(&refused.limit.name, "refused");
        }
        Err(NotAdmitted::Draining) => return,
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

fn kind(limits: &LimitIndex, record: &Record, prepared: &PreparedRequest, size: RequestSize) -> RequestKind {
    let model = prepared.model.as_deref().or(prepared.path_model.as_deref());
    let like = Likeness {
        client: record.caller.as_ref().map_or("", |caller| &caller.name),
        dialect: record.endpoint.as_str(),
        model: model.unwrap_or_default(),
    };
    RequestKind {
        estimates: limits.estimates.clone(),
        like: limits.estimates.average_index(like),
        size,
        runs_model: prepared.handshake.is_some() || prepared.operation.model != ModelUse::None,
        uses_tokens: prepared.handshake.is_none() && (model.is_some() || has_unknown_model(prepared, size)),
    }
}

/// Whether a request runs a model that the gateway cannot read: of an operation that has one, or, where the operation is not known, in a body that was
/// not read.
fn has_unknown_model(prepared: &PreparedRequest, size: RequestSize) -> bool {
    let has_body = size.text > 0 || size.attachments > 0;
    let runs_one = match prepared.operation.model {
        ModelUse::None => false,
        ModelUse::Named | ModelUse::InSession | ModelUse::Elsewhere => true,
        ModelUse::Optional => prepared.operation.endpoint.is_inference(),
        ModelUse::Unseen => size.teaches == Teaches::No,
    };
    has_body && runs_one
}
