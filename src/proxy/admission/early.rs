//! Refuses a request before its body is read, where a limit has nothing left for any request.

use super::{
    NotAdmitted,
    limits::{note, of_request},
};
use crate::{
    exchange::Exchange,
    fault::Fault,
    limit::{Admitted, Moment},
    proxy::{arrival::Arrived, context::RequestContext},
};

/// Refuses a request that limits would refuse whatever its body says, with the response that they give after it. Limits that depend on the model are
/// not asked: nobody knows it yet.
///
/// # Errors
/// The first limit that refuses every request of the client, and does not let it wait.
pub(in crate::proxy) fn refuse_early(
    context: &RequestContext,
    exchange: &mut Exchange,
    arrived: &Arrived,
) -> Result<(), Fault> {
    let limits = &context.snapshot.limits;
    if limits.is_empty() {
        return Ok(());
    }
    let applying = of_request(limits, &exchange.record, arrived);
    // The request has come just now.
    let moment = Moment::at(exchange.record.start, exchange.record.time);
    let Some(refused) = limits.certain_refusal(&applying, moment) else { return Ok(()) };
    exchange.record.endpoint = arrived.routed.operation.endpoint;
    let result = Err::<Admitted, _>(NotAdmitted::Refused(refused));
    note(exchange, &applying, &applying, moment, &result);
    result.map(drop).map_err(|refused| refused.fault())
}
