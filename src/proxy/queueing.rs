//! With what a request joins queues.

use std::{net::IpAddr, rc::Rc};

use super::context::RequestContext;
use crate::{
    exchange::{Exchange, Queueing, Record, RequestKind},
    wait_queue::{ArrivalNumber, FlowKey, Ticket},
};

/// The place of the request in queues. It gets one when it first has to wait, and keeps it.
pub(super) fn queueing(
    context: &RequestContext,
    exchange: &mut Exchange,
    model: Option<&str>,
) -> Rc<Queueing> {
    if let Some(queueing) = &exchange.record.queueing {
        return queueing.clone();
    }
    let record = &exchange.record;
    let kind = kind(context, record, model);
    let queueing = Queueing::new(ticket(record, &kind), kind, exchange.metrics().clone());
    exchange.record.queueing = Some(queueing.clone());
    queueing
}

/// Its flow is the client, or the address of a caller that is not known; its weight are the tokens that such requests usually use.
fn ticket(record: &Record, kind: &RequestKind) -> Ticket {
    let caller = record.caller.as_deref();
    let flow = match (caller, record.client) {
        (Some(caller), _) => FlowKey::of(caller.name.as_bytes()),
        (None, IpAddr::V4(address)) => FlowKey::of(&address.octets()),
        (None, IpAddr::V6(address)) => FlowKey::of(&address.octets()),
    };
    Ticket {
        flow,
        priority: caller.map(|caller| caller.priority).unwrap_or_default(),
        arrival: ArrivalNumber::next(),
        weight: kind.usual(),
        bytes: kind.bytes,
    }
}

fn kind(context: &RequestContext, record: &Record, model: Option<&str>) -> RequestKind {
    RequestKind {
        estimates: context.snapshot.limits.estimates.clone(),
        client: record.caller.as_ref().map(|caller| caller.name.clone()),
        dialect: record.endpoint.as_str(),
        model: model.map(Into::into),
        bytes: record.upload.bytes(),
        runs_model: true,
        uses_tokens: true,
    }
}
