//! The request on its way in: its body is read where its facts are needed, and its headers are made fit to go upstream.

mod address;
mod affinity;
mod prepared;
mod read;

use http::request;
use http_body::Body;

use super::{arrival::Arrived, context::RequestContext, sdk};
use crate::{
    body::RequestBody,
    exchange::Exchange,
    fault::{Fault, Phase},
    openai::{self, EditPoints, Operation},
};
use read::{Bounds, JsonBody};

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
    let record = &mut exchange.record;
    // The path that is sent upstream decides which operation it is.
    let operation = Operation::of(&head.method, &arrived.routed.upstream_path);
    record.endpoint = operation.endpoint;
    let mut repeat = operation.repeat(None);
    let mut edit_points = EditPoints::default();
    let content = if read::is_readable(&head.method, &head.headers) && !body.is_end_stream() {
        exchange.handle.status.enter(Phase::Intake);
        let server = &context.snapshot.server;
        let bounds = Bounds {
            limit: arrived.routed.route.body_limit,
            idle: server.body_idle,
            buffered: server.max_buffered,
        };
        let JsonBody { bytes, facts } =
            read::read(body, bounds, &context.worker.gateway, &record.upload).await?;
        repeat = operation.repeat(Some(&facts));
        record.model = facts.model;
        record.stream = Some(facts.stream);
        edit_points = facts.edit_points;
        RequestContent::Read(bytes)
    } else {
        RequestContent::Streamed(body)
    };
    let deployment = openai::deployment(&arrived.routed.upstream_path).map(str::to_owned);
    record.model = record.model.take().or_else(|| deployment.clone());
    // The model may be any text. One that holds the client's key decides nothing, and one that holds any key is not logged.
    record.model.take_if(|model| arrived.key.found_in(model.as_bytes()));
    let model = record.model.as_deref().map(Into::into);
    record.model.take_if(|model| context.snapshot.upstream_keys.found_in(model.as_bytes()));
    let affinities = affinity::of(&arrived.routed.route, record, &head.headers, &content).await;
    // Boxed, because it is moved often from here on.
    Ok(Box::new(PreparedRequest {
        retries_so_far: sdk::retries_so_far(&head.headers),
        stream: record.stream == Some(true),
        arrived,
        head,
        content,
        model,
        deployment,
        repeat,
        edit_points,
        operation,
        affinities,
    }))
}
