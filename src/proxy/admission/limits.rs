//! The limits of the configuration on a request: reserved before the attempts, corrected after the response.

use std::{sync::Arc, time::Instant};

use jiff::Timestamp;

use super::rate_headers;
use crate::{
    exchange::{Exchange, Finished, Permit},
    fault::{Fault, LimitReached},
    limit::{Admitted, Demand, Estimates, Moment, Now, Refused, TokenCount, Unit},
    openai::Usage,
    proxy::{context::RequestContext, intake::PreparedRequest},
    snapshot::LimitedRequest,
};

/// Bytes of a response that is no stream for each token of output that nobody has reported.
const BYTES_A_TOKEN: u64 = 4;

/// Admits a request under all limits that apply to it. The permit gives back what the request did not use. The headers of the response say what
/// is left.
///
/// # Errors
/// The first limit that refuses it.
pub(super) fn admit(
    context: &RequestContext,
    exchange: &mut Exchange,
    prepared: &PreparedRequest,
) -> Result<Permit, Fault> {
    let limits = &context.snapshot.limits;
    if limits.is_empty() {
        return Ok(Permit::unlimited());
    }
    let record = &exchange.record;
    let applying = limits.applying(&LimitedRequest {
        caller: record.caller.as_deref(),
        route: record.route.as_deref().unwrap_or_default(),
        model_table: prepared.model_table(),
        model: prepared.model.as_deref(),
    });
    if applying.is_empty() {
        return Ok(Permit::unlimited());
    }
    let kind = Kind {
        estimates: limits.estimates.clone(),
        client: record.caller.as_ref().map(|caller| caller.name.clone()),
        model: prepared.model.clone(),
        bytes: record.upload.bytes(),
    };
    let demand = Demand { tokens: kind.expected(), ..Demand::default() };
    let moment = now();
    let result = Admitted::take(&applying, demand, moment);
    rate_headers::write(&mut exchange.response_headers, &applying, moment);
    let admitted = match result {
        Ok(admitted) => admitted,
        Err(refused) => {
            exchange.record.limit = Some(refused.limit.name.clone());
            return Err(fault(&refused));
        }
    };
    exchange.record.limit = admitted.would_refuse().map(|(limit, _)| limit.name.clone());
    Ok(Permit::settled_by(move |finished| settle(admitted, &kind, finished)))
}

/// The requests that a request is like, by what they use.
struct Kind {
    estimates: Arc<Estimates>,
    client: Option<Arc<str>>,
    model: Option<Arc<str>>,
    /// The size of this request.
    bytes: u64,
}

impl Kind {
    fn names(&self) -> (&str, &str) {
        (self.client.as_deref().unwrap_or_default(), self.model.as_deref().unwrap_or_default())
    }

    /// What this request will probably use.
    fn expected(&self) -> TokenCount {
        let (client, model) = self.names();
        // A request that names no model uses none.
        if self.model.is_none() {
            TokenCount::default()
        } else {
            self.estimates.expected(client, model, self.bytes)
        }
    }

    fn learn(&self, used: TokenCount) {
        let (client, model) = self.names();
        self.estimates.learn(client, model, self.bytes, used);
    }
}

/// A request for which no response head came has used nothing. Otherwise the reported usage counts, and where the upstream did not report any,
/// what was seen: the request, and a token for each event.
fn settle(admitted: Admitted, kind: &Kind, finished: &Finished<'_>) {
    let record = finished.record;
    if record.first_byte.is_none() {
        return;
    }
    let tokens = match finished.usage() {
        Some(usage) => {
            let used = counted(&usage);
            kind.learn(used);
            used
        }
        None if kind.model.is_none() => TokenCount::default(),
        None => {
            let output = record.tally.events.unwrap_or(record.tally.bytes / BYTES_A_TOKEN);
            TokenCount { output, ..kind.expected() }
        }
    };
    admitted.settle(Demand { tokens, ..Demand::default() }, now());
}

fn counted(usage: &Usage) -> TokenCount {
    let cached_input = usage.cached_input.unwrap_or(0);
    TokenCount {
        input: usage.input.unwrap_or(0).saturating_sub(cached_input),
        cached_input,
        output: usage.output.unwrap_or(0),
    }
}

fn fault(refused: &Refused) -> Fault {
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
