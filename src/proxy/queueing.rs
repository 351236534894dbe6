//! With what a request joins queues.

use std::{net::IpAddr, rc::Rc};

use super::context::RequestContext;
use crate::{
    exchange::{Exchange, Queueing, Record},
    limit::Likeness,
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
    let queueing = Queueing::new(ticket(context, &exchange.record, model));
    exchange.record.queueing = Some(queueing.clone());
    queueing
}

/// Its flow is the client, or the address of a caller that is not known; its weight are the tokens that the client's requests of this size usually use.
fn ticket(context: &RequestContext, record: &Record, model: Option<&str>) -> Ticket {
    let caller = record.caller.as_deref();
    let flow = match (caller, record.client) {
        (Some(caller), _) => FlowKey::of(caller.name.as_bytes()),
        (None, IpAddr::V4(address)) => FlowKey::of(&address.octets()),
        (None, IpAddr::V6(address)) => FlowKey::of(&address.octets()),
    };
    let bytes = record.upload.bytes();
    let usual = |model| {
        let client = caller.map(|caller| &*caller.name).unwrap_or_default();
        let like = Likeness { client, dialect: record.endpoint.as_str(), model };
        context.snapshot.limits.estimates.usual(like, bytes)
    };
    Ticket {
        flow,
        priority: caller.map(|caller| caller.priority).unwrap_or_default(),
        arrival: ArrivalNumber::next(),
        weight: model.map_or(1, usual),
        bytes,
    }
}
