//! Refuses a request before its body is read, where a limit has nothing left for any request.

use http::request;

use super::{NotAdmitted, limits::note};
use crate::{
    exchange::{Exchange, now},
    fault::Fault,
    limit::Admitted,
    openai::Operation,
    proxy::{arrival::Arrived, context::RequestContext},
    snapshot::{LimitScope, LimitedRequest},
};

/// Refuses a request that limits would refuse whatever its body says, with the response that they give after it. Limits that depend on the model are
/// not asked: nobody knows it yet.
///
/// # Errors
/// The first limit that refuses every request of the client, and does not let it wait.
pub(in crate::proxy) fn refuse_early(
    context: &RequestContext,
    exchange: &mut Exchange,
    head: &request::Parts,
    arrived: &Arrived,
) -> Result<(), Fault> {
    let limits = &context.snapshot.limits;
    if limits.is_empty() {
        return Ok(());
    }
    let request = LimitedRequest {
        caller: exchange.record.caller.as_deref(),
        route: exchange.record.route.as_deref().unwrap_or_default(),
        model_table: None,
        model: None,
    };
    let applying = limits.applying(&request, LimitScope::Request);
    let Some(refused) = limits.certain_refusal(&applying, now()) else { return Ok(()) };
    exchange.record.endpoint = Operation::of(&head.method, &arrived.routed.upstream_path).endpoint;
    let result = Err::<Admitted, _>(NotAdmitted::Refused(refused));
    note(exchange, &applying, &applying, &result);
    result.map(drop).map_err(|refused| refused.fault())
}
