//! The limits of the configuration on a request.

use std::time::Instant;

use jiff::Timestamp;

use crate::{
    exchange::{Finished, Permit, Record},
    fault::{Fault, LimitReached},
    limit::{Admitted, Demand, Moment, Now, Refused, Unit},
    proxy::{context::RequestContext, intake::PreparedRequest},
    snapshot::LimitedRequest,
};

/// Admits a request under all limits that apply to it. The permit gives back what the request did not use.
///
/// # Errors
/// The first limit that refuses it.
pub(super) fn admit(
    context: &RequestContext,
    record: &Record,
    prepared: &PreparedRequest,
) -> Result<Permit, Fault> {
    let limits = &context.snapshot.limits;
    if limits.is_empty() {
        return Ok(Permit::unlimited());
    }
    let applying = limits.applying(&LimitedRequest {
        caller: record.caller.as_deref(),
        route: record.route.as_deref().unwrap_or_default(),
        model_table: prepared.model_table(),
        model: prepared.model.as_deref(),
    });
    if applying.is_empty() {
        return Ok(Permit::unlimited());
    }
    let admitted = Admitted::take(&applying, Demand::default(), now()).map_err(refused)?;
    Ok(Permit::settled_by(move |finished| settle(admitted, finished)))
}

/// A request for which no response head came has used nothing.
fn settle(admitted: Admitted, finished: &Finished<'_>) {
    if finished.record.first_byte.is_some() {
        admitted.settle(Demand::default(), now());
    }
}

fn refused(refused: Refused) -> Fault {
    let reached = LimitReached { limit: refused.limit.name.clone(), wait: refused.wait };
    match refused.unit {
        Unit::Requests | Unit::Tokens => Fault::RateLimit(reached),
        Unit::Concurrent => Fault::ConcurrencyLimit(reached),
        Unit::Cost => Fault::CostLimit(reached),
    }
}

fn now() -> Moment {
    Moment { monotonic: Now::of(Instant::now()), wall: Timestamp::now() }
}
