//! Overload: what is refused after the client is known and before the body is read.
//!
//! Lower priorities are refused first: low from 80 % of a bound, normal from 90 %, high at the bound.

use std::sync::atomic::Ordering;

use crate::{exchange::Exchange, fault::Fault, priority::Priority, proxy::context::RequestContext};

/// Admits a request that the process has room for: in its number of requests (`server.max_requests`), for which it counts until the exchange is over,
/// and in its memory for bodies (`server.max_buffered`).
///
/// # Errors
/// [`Fault::TooManyInFlight`] or [`Fault::Overloaded`].
pub(in crate::proxy) fn admit_load(context: &RequestContext, exchange: &mut Exchange) -> Result<(), Fault> {
    let (gateway, server) = (&context.worker.gateway, &context.snapshot.server);
    let priority = exchange.record.caller.as_ref().map(|caller| caller.priority).unwrap_or_default();
    if gateway.buffered.load(Ordering::Relaxed) >= share(server.max_buffered, priority) {
        return Err(Fault::Overloaded);
    }
    if let Some(most) = server.max_requests {
        let most = u32::try_from(share(most.into(), priority)).unwrap_or(u32::MAX);
        exchange.hold_slot(gateway.in_flight.enter(most).ok_or(Fault::TooManyInFlight)?);
    }
    Ok(())
}

/// How much of a bound requests of this priority may fill; at least 1.
fn share(bound: u64, priority: Priority) -> u64 {
    let percent = match priority {
        Priority::Low => 80,
        Priority::Normal => 90,
        Priority::High => 100,
    };
    u64::try_from((u128::from(bound) * percent).div_ceil(100)).unwrap_or(bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_priorities_are_refused_earlier() {
        let shares = |bound| Priority::ALL.map(|priority| share(bound, priority));
        assert_eq!(shares(100), [100, 90, 80]);
        assert_eq!(shares(10), [10, 9, 8]);
        assert_eq!(shares(1), [1, 1, 1]);
        assert_eq!(shares(u64::MAX)[0], u64::MAX);
    }
}
