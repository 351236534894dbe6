//! With what a request joins queues.

use std::rc::Rc;

use super::context::RequestContext;
use crate::{
    access::identity_of,
    exchange::{Exchange, Queueing, Record, RequestKind},
    limit::{Likeness, RequestSize, Teaches},
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

/// Its flow is the client, or the network of a caller that is not known; its weight are the tokens that such requests usually use.
fn ticket(record: &Record, kind: &RequestKind) -> Ticket {
    let caller = record.caller.as_deref();
    let flow = match caller {
        Some(caller) => FlowKey::of(caller.name.as_bytes()),
        None => FlowKey::of(&identity_of(record.client)),
    };
    Ticket {
        flow,
        priority: caller.map(|caller| caller.priority).unwrap_or_default(),
        arrival: ArrivalNumber::next(),
        weight: kind.usual(),
        bytes: record.upload.bytes(),
    }
}

fn kind(context: &RequestContext, record: &Record, model: Option<&str>) -> RequestKind {
    let bytes = record.upload.bytes();
    let estimates = context.snapshot.limits.estimates.clone();
    let like = Likeness {
        client: record.caller.as_ref().map_or("", |caller| &caller.name),
        dialect: record.endpoint.as_str(),
        model: model.unwrap_or_default(),
    };
    RequestKind {
        like: estimates.average_index(like),
        estimates,
        // Nobody looks for attachments here: a weight decides about an order, and no more.
        size: RequestSize { teaches: Teaches::IfPlausible, ..RequestSize::of_text(bytes) },
        runs_model: true,
        uses_tokens: model.is_some() || bytes > 0,
    }
}
