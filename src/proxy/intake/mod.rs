//! The request on its way in: its body is read where its facts are needed, and its headers are made fit to go upstream.

mod accounts;
mod address;
mod affinity;
mod bounds;
mod models;
mod prepared;
mod read;
mod spooled;

use std::sync::Arc;

use bytes::Bytes;
use http::request;
use http_body::Body;
use percent_encoding::percent_decode_str;

use super::{
    arrival::{Arrived, RoutedRequest},
    context::RequestContext,
    known_head::IntakeFacts,
    rewrite::{Paths, Rewrite},
    sdk,
};
use crate::{
    body::{RequestBody, Spool},
    config::AskForUsage,
    exchange::{Exchange, Record},
    fault::{Fault, Phase},
    openai::{self, Check, EditPoints, Endpoint, FactsError, ModelUse, Operation, Repeat},
    snapshot::Route,
};
use bounds::{Bounds, SpoolBounds};
use read::{BodyForm, HeldBody, HeldContent};

pub(super) use accounts::choose as choose_accounts;
pub(super) use address::{TRACEPARENT, address};
pub(super) use prepared::{PreparedRequest, RequestContent};
pub(super) use read::is_json;

/// Reads the request's body, if it is one whose facts are needed, and collects what the attempts need.
///
/// # Errors
/// The body is too large, broken or unusable.
pub(super) async fn prepare(
    context: &RequestContext,
    exchange: &mut Exchange,
    head: request::Parts,
    body: RequestBody,
    arrived: Arrived,
) -> Result<Box<PreparedRequest>, Fault> {
    let operation = arrived.routed.operation;
    exchange.record.endpoint = operation.endpoint;
    let facts = intake_facts(&head, &arrived);
    let form = match facts.is_plain_json {
        true => Some(BodyForm::Json),
        false => BodyForm::of(&head.method, &head.headers, operation),
    };
    let body = take_in(context, exchange, &arrived, operation, Arriving { form, body }).await?;
    let TakenIn { content, decoded, repeat, edit_points, stored, more_models } = body;
    let record = &mut exchange.record;
    let path_model = match facts.names_model {
        true => openai::path_model(&arrived.routed.upstream_path).map(decoded_segment),
        false => None,
    };
    let model = name_model(context, record, &arrived, path_model.as_ref());
    if let Some(model) = model.as_ref().filter(|_| record.model.is_some()) {
        exchange.handle.status.asks_for(model.clone());
    }
    let RoutedRequest { path, upstream_path, .. } = &arrived.routed;
    let rewrite = Rewrite::of(context, &head, operation.endpoint, Paths { path, upstream_path });
    let stream = record.stream == Some(true);
    let adds_usage = stream && adds_usage(&arrived.routed.route, operation, &edit_points);
    // Boxed, because it is moved often from here on.
    let mut request = Box::new(PreparedRequest {
        retries_so_far: facts.retries_so_far,
        stream,
        adds_usage,
        arrived,
        head,
        content,
        decoded,
        model,
        more_models,
        path_model,
        repeat,
        edit_points,
        operation,
        stored,
        affinities: Vec::new(),
        accounts: None,
        configured_route: None,
        handshake: None,
        rewrite,
    });
    choose_candidates(context, record, &mut request).await?;
    Ok(request)
}

/// What the head says about the body. Of a head that the connection knows, it has been found out before.
fn intake_facts(head: &request::Parts, arrived: &Arrived) -> IntakeFacts {
    let read = || {
        let routed = &arrived.routed;
        let form = BodyForm::of(&head.method, &head.headers, routed.operation);
        IntakeFacts {
            is_plain_json: matches!(form, Some(BodyForm::Json)),
            names_model: openai::path_model(&routed.upstream_path).is_some(),
            retries_so_far: sdk::retries_so_far(&head.headers),
        }
    };
    arrived.known_head.as_ref().map_or_else(read, |known| *known.intake.get_or_init(read))
}

fn content_of(held: HeldContent) -> RequestContent {
    match held {
        HeldContent::Memory(bytes) => RequestContent::Read(bytes),
        HeldContent::File(file) => RequestContent::Spooled(file),
    }
}

/// The model that the request asks for: that of the record, which is its body's, or else that of the path.
fn name_model(
    context: &RequestContext,
    record: &mut Record,
    arrived: &Arrived,
    path_model: Option<&String>,
) -> Option<Arc<str>> {
    record.model = record.model.take().or_else(|| path_model.cloned());
    // The model may be any text. One that holds the client's key decides nothing, and one that holds any key is not logged.
    record.model.take_if(|model| arrived.key.found_in(model.as_bytes()));
    let model = record.model.as_deref().map(Into::into);
    record.model.take_if(|model| context.snapshot.upstream_keys.found_in(model.as_bytes()));
    model
}

/// Chooses the upstreams for the request, and what depends on them.
async fn choose_candidates(
    context: &RequestContext,
    record: &Record,
    request: &mut PreparedRequest,
) -> Result<(), Fault> {
    request.choose_upstreams(record.caller.as_deref())?;
    let route = &request.arrived.routed.route;
    let text = request.decoded.as_ref().or(request.content.held());
    request.affinities = affinity::of(route, record, &request.head.headers, text).await;
    if request.has_several_accounts() {
        let text = text.cloned();
        let map = &*context.worker.gateway.accounts;
        Box::pin(accounts::choose(request, record, map, text)).await?;
    }
    let route = &request.arrived.routed.route;
    // Only an edit needs it from here on.
    if !sets_model(route) && !request.adds_usage {
        request.decoded = None;
    }
    Ok(())
}

/// A body that has not been read, and its form, if it is one that can be read.
struct Arriving {
    form: Option<BodyForm>,
    body: RequestBody,
}

/// A body, and what it says about the request.
struct TakenIn {
    content: RequestContent,
    decoded: Option<Bytes>,
    repeat: Repeat,
    edit_points: EditPoints,
    /// Whether the upstream is asked to keep the response.
    stored: bool,
    more_models: Vec<String>,
}

/// Reads the body, if its facts are needed. The record learns its model, and whether it asks for a stream.
async fn take_in(
    context: &RequestContext,
    exchange: &mut Exchange,
    arrived: &Arrived,
    operation: Operation,
    arriving: Arriving,
) -> Result<TakenIn, Fault> {
    let Arriving { form, body } = arriving;
    let is_form = matches!(form, Some(BodyForm::Multipart { .. }));
    let is_needed = is_form && is_model_needed(arrived, exchange);
    let limit = arrived.routed.route.body_limit;
    let is_read = |form: &BodyForm| !body.is_end_stream() && !form.may_be_streamed(&body, limit, is_needed);
    let Some(form) = form.filter(is_read) else {
        return Ok(TakenIn {
            content: unread(body, arrived, operation.endpoint)?,
            decoded: None,
            repeat: operation.repeat(None),
            edit_points: EditPoints::default(),
            stored: false,
            more_models: Vec::new(),
        });
    };
    exchange.handle.status.enter(Phase::Intake);
    let bounds = bounds_on(context, arrived, operation.endpoint, is_needed);
    let (gateway, tally) = (&context.worker.gateway, &exchange.record.upload);
    let mut held = read::read(body, form, bounds, gateway, tally).await?;
    if operation.model == ModelUse::InSession {
        held.take_session()?;
    }
    let repeat = operation.repeat(Some(&held.facts));
    let HeldBody { content, decoded, facts } = held;
    exchange.record.model = facts.model;
    exchange.record.stream = Some(facts.stream);
    Ok(TakenIn {
        content: content_of(content),
        decoded,
        repeat,
        edit_points: facts.edit_points,
        stored: facts.store,
        more_models: facts.more_models,
    })
}

/// Whether anything depends on the model of the request.
fn is_model_needed(arrived: &Arrived, exchange: &Exchange) -> bool {
    let route = &arrived.routed.route;
    let is_limited = exchange.record.caller.as_ref().is_some_and(|caller| caller.is_limited_to_models());
    let is_in_path = || route.steps.iter().any(|step| step.upstream.needs_model());
    is_limited || route.models.is_some() || sets_model(route) || is_in_path()
}

/// Whether the gateway asks for the usage of a stream, where the client does not.
fn adds_usage(route: &Route, operation: Operation, points: &EditPoints) -> bool {
    route.usage == AskForUsage::Always && operation.endpoint.reports_usage_if_asked() && points.takes_usage()
}

/// Whether some candidate of the route has a model of its own.
fn sets_model(route: &Route) -> bool {
    route.steps.iter().any(|step| step.model.is_some())
}

/// The content of a request whose body is not read. Where bodies are checked, there must be one.
fn unread(body: RequestBody, arrived: &Arrived, endpoint: Endpoint) -> Result<RequestContent, Fault> {
    if body.is_end_stream() && check(arrived, endpoint).is_some() {
        return Err(Fault::BodyInvalid(FactsError::Empty));
    }
    Ok(RequestContent::Streamed(body))
}

/// What is checked of the request's body.
fn check(arrived: &Arrived, endpoint: Endpoint) -> Option<Check> {
    let check = Check::of(endpoint, arrived.routed.route.validate?)?;
    let names_model = openai::path_model(&arrived.routed.upstream_path).is_some();
    Some(if names_model || sets_model(&arrived.routed.route) { check.without_model() } else { check })
}

/// Bounds on a body that is read. A form whose model has to be known may be larger than what is held in memory.
fn bounds_on(
    context: &RequestContext,
    arrived: &Arrived,
    endpoint: Endpoint,
    may_be_spooled: bool,
) -> Bounds {
    let server = &context.snapshot.server;
    let spool = may_be_spooled.then(|| SpoolBounds {
        above: server.spool_above,
        spool: Spool {
            directory: server.spool_directory.clone(),
            most: server.max_spooled,
            total: context.worker.gateway.spooled.clone(),
        },
    });
    Bounds {
        limit: arrived.routed.route.body_limit,
        idle: server.body_idle,
        buffered: server.max_buffered,
        check: check(arrived, endpoint),
        spool,
    }
}

/// A segment of a path as the upstream reads it.
fn decoded_segment(segment: &str) -> String {
    percent_decode_str(segment).decode_utf8_lossy().into_owned()
}
