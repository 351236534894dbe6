//! Requests for models without a price, under a limit on cost.

use crate::{
    fault::Fault,
    limit::{Applied, ModelNames, PriceBook},
    proxy::intake::PreparedRequest,
};

/// Checks that the model of a request has a price, if one of `limits` is on cost and the configuration asks for that: the model that the client
/// asks for, or else each of the models that upstreams are asked for.
///
/// # Errors
/// It has none, or the gateway cannot read which model it is.
pub(super) fn of_request(
    book: &PriceBook,
    limits: &[Applied],
    prepared: &PreparedRequest,
) -> Result<(), Fault> {
    let steps = &prepared.arrived.routed.route.steps;
    let are_set = !steps.is_empty() && steps.iter().all(|step| step.model.is_some());
    let mut sent = steps.iter().map(|step| step.model.as_deref()).filter(|_| are_set).peekable();
    if sent.peek().is_none() {
        return lacks(book, limits, prepared, None).map_or(Ok(()), Err);
    }
    sent.find_map(|model| lacks(book, limits, prepared, model)).map_or(Ok(()), Err)
}

/// Why a request is refused if an upstream is asked for the model `sent`; `None`: it is not.
pub(super) fn lacks(
    book: &PriceBook,
    limits: &[Applied],
    prepared: &PreparedRequest,
    sent: Option<&str>,
) -> Option<Fault> {
    let is_on_cost = |applied: &Applied| applied.limit.enforce && applied.limit.cost.is_some();
    if !book.refuses_unknown || !limits.iter().any(is_on_cost) {
        return None;
    }
    let asked = prepared.model.as_deref();
    let names = ModelNames { answered: None, sent: sent.or(asked), table: prepared.model_table(), asked };
    if book.of(&names).is_some() {
        return None;
    }
    match sent.or(asked) {
        Some(model) => Some(Fault::ModelWithoutPrice(model.to_owned())),
        // The session of an ephemeral key was checked when the key was issued.
        None if prepared.operation.model.is_required() && prepared.arrived.ephemeral.is_none() => {
            Some(Fault::CostUnknown)
        }
        None => None,
    }
}
