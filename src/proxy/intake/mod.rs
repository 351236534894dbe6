//! The request on its way in: its body is read where its facts are needed, and its headers are made fit to go upstream.

mod address;
mod affinity;
mod models;
mod prepared;
mod read;

use std::sync::Arc;

use http::request;
use http_body::Body;
use percent_encoding::percent_decode_str;

use super::{arrival::Arrived, context::RequestContext, sdk};
use crate::{
    body::RequestBody,
    exchange::Exchange,
    fault::{Fault, Phase},
    openai::{self, EditPoints, Operation},
    snapshot::Route,
};
use read::{BodyForm, Bounds, HeldBody};

pub(super) use address::address;
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
    // The path that is sent upstream decides which operation it is.
    let operation = Operation::of(&head.method, &arrived.routed.upstream_path);
    exchange.record.endpoint = operation.endpoint;
    let form = BodyForm::of(&head.method, &head.headers, operation);
    let form = form.filter(|form| !body.is_end_stream() && !is_streamed(form, &body, &arrived, exchange));
    let (mut repeat, mut edit_points, mut decoded) = (operation.repeat(None), EditPoints::default(), None);
    let content = match form {
        None => RequestContent::Streamed(body),
        Some(form) => {
            let held = read_body(context, exchange, &arrived, body, form).await?;
            repeat = operation.repeat(Some(&held.facts));
            exchange.record.model = held.facts.model;
            exchange.record.stream = Some(held.facts.stream);
            (edit_points, decoded) = (held.facts.edit_points, held.decoded);
            RequestContent::Read(held.bytes)
        }
    };
    let record = &mut exchange.record;
    let path_model = openai::path_model(&arrived.routed.upstream_path).map(decoded_segment);
    record.model = record.model.take().or_else(|| path_model.clone());
    // The model may be any text. One that holds the client's key decides nothing, and one that holds any key is not logged.
    record.model.take_if(|model| arrived.key.found_in(model.as_bytes()));
    let model: Option<Arc<str>> = record.model.as_deref().map(Into::into);
    record.model.take_if(|model| context.snapshot.upstream_keys.found_in(model.as_bytes()));
    // Boxed, because it is moved often from here on.
    let mut request = Box::new(PreparedRequest {
        retries_so_far: sdk::retries_so_far(&head.headers),
        stream: record.stream == Some(true),
        arrived,
        head,
        content,
        decoded,
        model,
        path_model,
        repeat,
        edit_points,
        operation,
        affinities: Vec::new(),
        accounts: None,
        configured_route: None,
        handshake: None,
    });
    request.choose_upstreams(record.caller.as_deref())?;
    let route = &request.arrived.routed.route;
    let text = request.decoded.as_ref().or(request.content.held());
    request.affinities = affinity::of(route, record, &request.head.headers, text).await;
    // Only an edit needs it from here on.
    if !sets_model(route) {
        request.decoded = None;
    }
    Ok(request)
}

/// Whether the body is forwarded as it arrives although it could be read.
fn is_streamed(form: &BodyForm, body: &RequestBody, arrived: &Arrived, exchange: &Exchange) -> bool {
    let route = &arrived.routed.route;
    let is_limited = exchange.record.caller.as_ref().is_some_and(|caller| caller.is_limited_to_models());
    let is_in_path = || route.steps.iter().any(|step| step.upstream.needs_model());
    let is_needed = is_limited || route.models.is_some() || sets_model(route) || is_in_path();
    form.may_be_streamed(body, route.body_limit, is_needed)
}

/// Whether some candidate of the route has a model of its own.
fn sets_model(route: &Route) -> bool {
    route.steps.iter().any(|step| step.model.is_some())
}

async fn read_body(
    context: &RequestContext,
    exchange: &Exchange,
    arrived: &Arrived,
    body: RequestBody,
    form: BodyForm,
) -> Result<HeldBody, Fault> {
    exchange.handle.status.enter(Phase::Intake);
    let server = &context.snapshot.server;
    let bounds = Bounds {
        limit: arrived.routed.route.body_limit,
        idle: server.body_idle,
        buffered: server.max_buffered,
    };
    read::read(body, form, bounds, &context.worker.gateway, &exchange.record.upload).await
}

/// A segment of a path as the upstream reads it.
fn decoded_segment(segment: &str) -> String {
    percent_decode_str(segment).decode_utf8_lossy().into_owned()
}
