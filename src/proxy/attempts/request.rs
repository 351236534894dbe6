//! The request as it goes to one candidate: rewritten path, the upstream's key, and the body, held whole or streamed.

use std::{rc::Rc, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Uri, Version, header, uri::PathAndQuery};
use http_body::Body;

use super::candidate::{AskedUsage, Candidate};
use crate::{
    body::{FilePiece, FileUpload, Outbound, RequestBody, SpoolFile, Upload},
    exchange::{Exchange, Record},
    fault::{Fault, Reason},
    openai::{EditError, EditedPiece, NoDeployment, Splices},
    policy::{self, SecretScanner, path},
    proxy::{
        arrival::{NOT_THE_ROUTES, with_model as in_query},
        body_memory::BodyMemory,
        buffered::Buffered,
        context::RequestContext,
        intake::{PreparedRequest, RequestContent, TRACEPARENT},
    },
    snapshot::{AskedModel, Route},
};

/// A request to an Azure deployment that names none.
const NO_DEPLOYMENT: Fault = Fault::BadRequest(Reason::NoDeployment);

/// The request as it is sent to `candidate`. A streamed body moves into it.
///
/// # Errors
/// The path or query cannot stand in a request, or there is no room for an edited body.
pub(super) fn build(
    context: &RequestContext,
    exchange: &Exchange,
    prepared: &mut PreparedRequest,
    candidate: &Candidate,
) -> Result<Request<Outbound>, Fault> {
    let target = candidate.target();
    let http2 = prepared.dialer(target).http2();
    let uri = uri(prepared, candidate)?;
    let body = body(context, exchange, prepared, candidate)?;
    let mut request = Request::new(body);
    *request.method_mut() = prepared.head.method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = if http2 { Version::HTTP_2 } else { Version::HTTP_11 };
    let mut headers = prepared.head.headers.clone();
    // A compressed body is edited, and sent, without its coding.
    if prepared.decoded.is_some() && is_edited(prepared, candidate) {
        headers.remove(header::CONTENT_ENCODING);
    }
    for (name, value) in &candidate.upstream.headers {
        policy::put_upstream(&mut headers, name, value);
    }
    if let (Some(name), Some(key)) = (&candidate.upstream.auth, &candidate.key) {
        policy::put_upstream(&mut headers, name, key.key().value());
    }
    if let Some(ephemeral) = &candidate.ephemeral {
        policy::put_upstream(&mut headers, &header::AUTHORIZATION, &ephemeral.authorization);
    }
    if http2 {
        headers.remove(header::HOST);
    } else {
        headers.insert(header::HOST, target.host.clone());
    }
    // With traces on, each attempt is a span, of which the upstream's is a child.
    if exchange.is_traced() {
        let record = &exchange.record;
        headers.insert(TRACEPARENT, record.trace.traceparent_of(record.attempts.count()));
    }
    if let Some(length) = request.body().size_hint().exact()
        && (candidate.edits_body() || headers.contains_key(header::CONTENT_LENGTH))
    {
        // The gateway writes the length itself: not every reader takes `007` for 7.
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    *request.headers_mut() = headers;
    Ok(request)
}

/// The target of the request as it goes upstream: rewritten path, query without credentials. Origin form on HTTP/1.1 (RFC 9112 §3.2.1);
/// HTTP/2 takes scheme and authority from it as well.
fn uri(prepared: &PreparedRequest, candidate: &Candidate) -> Result<Uri, Fault> {
    let target = candidate.target();
    let routed = &prepared.arrived.routed;
    let model = AskedModel { own: candidate.model.as_deref(), named: prepared.model.as_deref() };
    let path = routed.route.path_at(&routed.path, &candidate.upstream, target, model);
    let path = path.map_err(|NoDeployment| NO_DEPLOYMENT)?.ok_or(NOT_THE_ROUTES)?;
    let key = &prepared.arrived.key;
    let query = prepared.head.uri.query();
    let mut query = query.map(|query| path::strip_credentials(query, |text| key.found_in(text)));
    if let Some(model) = candidate.model.as_deref().filter(|_| prepared.handshake.is_some()) {
        query = query.map(|query| in_query(&query, model).into());
    }
    let written = match candidate.upstream.query(query.as_deref()) {
        None => path.into_owned(),
        Some(query) => [&*path, "?", &query].concat(),
    };
    let built = PathAndQuery::from_maybe_shared(Bytes::from(written)).map_err(http::Error::from).and_then(
        |path_and_query| {
            if !prepared.dialer(target).http2() {
                return Ok(Uri::from(path_and_query));
            }
            let scheme = target.dialer.origin().scheme_str().unwrap_or("https");
            let authority = target.authority.clone();
            Uri::builder().scheme(scheme).authority(authority).path_and_query(path_and_query).build()
        },
    );
    built.map_err(|_| Fault::BadRequest(Reason::TargetCharacters))
}

fn body(
    context: &RequestContext,
    exchange: &Exchange,
    prepared: &mut PreparedRequest,
    candidate: &Candidate,
) -> Result<Outbound, Fault> {
    if prepared.content.is_empty() {
        return Ok(Outbound::EMPTY);
    }
    let upload = &exchange.record.upload;
    match std::mem::replace(&mut prepared.content, RequestContent::Gone) {
        RequestContent::Read(bytes) => {
            prepared.content = RequestContent::Read(bytes.clone());
            if !is_edited(prepared, candidate) {
                return Ok(Outbound::held(bytes, upload));
            }
            let text = prepared.decoded.as_ref().unwrap_or(&bytes);
            let edited = edited(context, text, &splices(prepared, candidate)?)?;
            Ok(Outbound::held(edited, upload))
        }
        RequestContent::Spooled(file) => {
            prepared.content = RequestContent::Spooled(file.clone());
            let pieces = file_pieces(&file, &splices(prepared, candidate)?)?;
            Ok(Outbound::File(Box::new(FileUpload::new(file, pieces, upload.clone()))))
        }
        RequestContent::Streamed(body) => {
            let route = prepared.arrived.routed.route.clone();
            let key = prepared.arrived.key.clone();
            Ok(streamed(context, &exchange.record, body, route, key))
        }
        RequestContent::Gone => Ok(Outbound::EMPTY),
    }
}

/// What is sent of a body in a file: all of it, but for these edits.
fn file_pieces(file: &SpoolFile, splices: &Splices) -> Result<Vec<FilePiece>, EditError> {
    let mut pieces = Vec::new();
    splices.pieces(file.length() as usize, |piece| {
        pieces.push(match piece {
            EditedPiece::Kept(range) => FilePiece::File(range.start as u64..range.end as u64),
            EditedPiece::New(bytes) => FilePiece::Bytes(Bytes::copy_from_slice(bytes)),
        });
    })?;
    Ok(pieces)
}

/// Whether a body that was read is changed for `candidate`.
fn is_edited(prepared: &PreparedRequest, candidate: &Candidate) -> bool {
    (candidate.model.is_some() && prepared.takes_model()) || candidate.usage == AskedUsage::Yes
}

/// The edits of a body that was read, for `candidate`.
fn splices(prepared: &PreparedRequest, candidate: &Candidate) -> Result<Splices, EditError> {
    let mut splices = Splices::new();
    if let Some(model) = candidate.model.as_deref().filter(|_| prepared.takes_model()) {
        splices.set_model(&prepared.edit_points, model)?;
    }
    if candidate.usage == AskedUsage::Yes {
        splices.ask_for_usage(&prepared.edit_points)?;
    }
    Ok(splices)
}

/// A copy of a body that was read, with these edits; counted beside the original.
fn edited(context: &RequestContext, bytes: &[u8], splices: &Splices) -> Result<Bytes, Fault> {
    let mut counted = Buffered::new(&context.worker.gateway);
    let length = splices.edited_length(bytes.len());
    counted.grow_to(length as u64, context.snapshot.server.max_buffered)?;
    let mut edited = BodyMemory::with_capacity(length);
    splices.write(bytes, |piece| _ = edited.put(piece))?;
    Ok(edited.freeze(counted))
}

/// A body that is forwarded as it arrives.
fn streamed(
    context: &RequestContext,
    record: &Record,
    body: RequestBody,
    route: Arc<Route>,
    key: Rc<SecretScanner<'static>>,
) -> Outbound {
    let trailers = move |trailers: &mut HeaderMap| {
        policy::trailers_to_upstream(trailers, &route.request_headers, &key);
    };
    let idle = context.snapshot.server.body_idle;
    let upload = Upload::new(body, record.upload.clone(), idle, Box::new(trailers));
    Outbound::Stream(Box::new(upload))
}
