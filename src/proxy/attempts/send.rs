//! Sends a request on a connection to one target, and waits for the head of its response.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, Instant},
};

use http::Request;

use super::{candidate::Candidate, head::SendOutcome, request};
use crate::{
    body::{Outbound, UploadFailure, UploadTally},
    exchange::Exchange,
    fault::{Fault, Phase},
    openai::EditError,
    pause,
    proxy::{context::RequestContext, intake::PreparedRequest},
    upstream::{Answer, Connection, Delivery, DialError, Dialer, SendError},
};

/// The `retry-after` of a response to a client when a target is at its connection limit.
const FULL: Duration = Duration::from_secs(1);

/// Sends the request to `candidate` and waits for the head of the response. If the upstream has closed a
/// kept connection, that is not a failure: the request is sent once more on another connection, provided that its body is held whole and that
/// the upstream has not seen the request or may see it twice.
///
/// # Errors
/// No response came. A streamed body is still there if there was no connection to send it on.
pub(super) async fn ask(
    context: &RequestContext,
    exchange: &mut Exchange,
    request: &mut PreparedRequest,
    candidate: &mut Candidate,
) -> Result<Answer, Fault> {
    // Before a connection is taken for it.
    if candidate.model.is_some() && request.lacks_place_for_model() {
        return Err(EditError::NotAnObject { member: "model" }.into());
    }
    let dialer = request.dialer(candidate.target());
    exchange.handle.status.enter(Phase::Connect);
    let kept = context.worker.pools.take(dialer);
    let connection = match kept {
        Some(kept) => kept,
        None => Box::pin(dial(context, exchange, candidate, dialer)).await?,
    };
    // One that was waited for may have been used before, too.
    let reused = connection.is_reused();
    let outgoing = request::build(context, exchange, request, candidate)?;
    // A new HTTP/1.1 connection gives an unseen request back, so it needs no copy.
    let repeatable = (reused || dialer.http2()) && outgoing.body().is_held();
    let harmless = request.repeat.is_harmless();
    expect_answer(exchange, request, candidate);
    let may_have_been_seen = match send(exchange, connection, outgoing, candidate, harmless).await {
        Ok(answer) => return Ok(answer),
        Err(SendOutcome::Unseen(_, Some(unsent))) => {
            request.take_back(unsent.into_body());
            None
        }
        Err(SendOutcome::Unseen(..)) if repeatable => None,
        Err(SendOutcome::Harmless(cause)) if repeatable => Some(cause),
        Err(outcome) => return Err(outcome.into_fault()),
    };
    let dialer = request.dialer(candidate.target());
    let dialled = Box::pin(dial(context, exchange, candidate, dialer)).await;
    let connection = match (dialled, may_have_been_seen) {
        (Ok(connection), _) => connection,
        // That the target cannot be reached now does not mean that it has not acted on what it was sent before.
        (Err(Fault::Connect(_) | Fault::ConnectTimeout(_) | Fault::Full(_)), Some(cause)) => {
            return Err(Fault::NoAnswer(cause));
        }
        (Err(fault), _) => return Err(fault),
    };
    let outgoing = request::build(context, exchange, request, candidate)?;
    let sent = send(exchange, connection, outgoing, candidate, harmless).await;
    sent.map_err(SendOutcome::into_fault)
}

/// Notes that the target now has the whole request and must respond before the total timeout.
fn expect_answer(exchange: &Exchange, request: &PreparedRequest, candidate: &Candidate) {
    if !request.is_inference() {
        return;
    }
    if let Some(deadline) = exchange.handle.abort.deadline() {
        candidate.permit.is_due(deadline, exchange.record.start.elapsed());
    }
}

/// Opens a connection. Box this future: it is seldom needed, and larger than all others of an attempt.
async fn dial(
    context: &RequestContext,
    exchange: &mut Exchange,
    candidate: &Candidate,
    dialer: &Arc<Dialer>,
) -> Result<Connection, Fault> {
    exchange.handle.status.enter(Phase::Connect);
    let start = Instant::now();
    let dialling = context.worker.pools.dial(dialer, candidate.timeouts.connect);
    let dialled = match candidate.head_limit {
        None => dialling.await,
        Some(limit) => limit.within(dialling).await?,
    };
    let took = start.elapsed();
    exchange.record.attempts.update(|attempt| attempt.connect = Some(took));
    if dialled.is_ok() {
        exchange.metrics().connected(&candidate.upstream.name, took);
    }
    dialled.map_err(unreachable)
}

async fn send(
    exchange: &mut Exchange,
    connection: Connection,
    request: Request<Outbound>,
    candidate: &mut Candidate,
    harmless: bool,
) -> Result<Answer, SendOutcome> {
    let record = &mut exchange.record;
    let reused = connection.is_reused();
    record.attempts.update(|attempt| attempt.reused = Some(reused));
    exchange.handle.status.enter(Phase::FirstByte);
    let sent = Instant::now();
    let upload = record.upload.clone();
    let idempotent = request.method().is_idempotent();
    let first_byte = candidate.timeouts.first_byte;
    // It owns all that it needs, so that it can outlive the attempt.
    let answer = async move {
        let last_sent = || upload.moved().map_or(sent, |moved| moved.max(sent));
        let sending = pin!(async {
            let sent = connection.send(request).await;
            sent.map_err(|error| unanswered(error, &upload, idempotent, harmless))
        });
        match first_byte {
            None => sending.await,
            Some(limit) => within(limit, last_sent, sending).await,
        }
    };
    let answer = match candidate.head_limit {
        None => answer.await?,
        Some(limit) => match limit.answer_within(answer, record.attempts.count()).await {
            Ok(outcome) => outcome?,
            Err(pending) => {
                candidate.pending_head = Some(pending);
                return Err(SendOutcome::Failed(Fault::FirstTokenTimeout(limit.limit)));
            }
        },
    };
    exchange.head_received(answer.status());
    Ok(answer)
}

/// What the error of an upstream connection means. The client may be at fault, if its request body broke off on the way.
fn unanswered(error: SendError, upload: &UploadTally, idempotent: bool, harmless: bool) -> SendOutcome {
    match (upload.failure(), error.seen) {
        (Some(UploadFailure::Stalled(idle)), _) => SendOutcome::Failed(Fault::BodyStalled(idle)),
        (Some(UploadFailure::File), _) => SendOutcome::Failed(Fault::SpoolFailed(error.cause)),
        (Some(UploadFailure::Broken), _) => SendOutcome::Failed(Fault::BodyBroken(error.cause)),
        (None, Delivery::Nothing(request)) => SendOutcome::Unseen(error.cause, request),
        (None, Delivery::Unreadable) => SendOutcome::Failed(Fault::Unreadable(error.cause)),
        // Most likely unseen is not certain: a batch that was created after all would be created twice.
        (None, Delivery::Crossed) if harmless => SendOutcome::Harmless(error.cause),
        // RFC 9110 §9.2.2: an idempotent request may be sent again after a connection was lost.
        (None, Delivery::Perhaps { stale: true }) if idempotent => SendOutcome::Harmless(error.cause),
        (None, Delivery::Crossed | Delivery::Perhaps { .. }) => {
            SendOutcome::Failed(Fault::NoAnswer(error.cause))
        }
    }
}

/// Waits for `answer` until nothing of the request has moved for `limit`: a long upload does not count against the upstream. What has moved is
/// what the connection has taken: of a body that is held whole, a part is still on its way then. Over HTTP/1.1 that is at most 64 KiB and what the kernel
/// takes for the socket, over HTTP/2 about 256 KiB and what the upstream's window admits.
async fn within(
    limit: Duration,
    last_sent: impl Fn() -> Instant,
    mut answer: Pin<&mut impl Future<Output = Result<Answer, SendOutcome>>>,
) -> Result<Answer, SendOutcome> {
    loop {
        if let Ok(outcome) = pause::timeout_from(last_sent(), limit, answer.as_mut()).await {
            return outcome;
        }
        if pause::deadline(last_sent(), limit) <= Instant::now() {
            return Err(SendOutcome::Failed(Fault::FirstByteTimeout(limit)));
        }
    }
}

fn unreachable(error: DialError) -> Fault {
    match error {
        DialError::Timeout(limit) => Fault::ConnectTimeout(limit),
        DialError::Full => Fault::Full(FULL),
        DialError::Exhausted(_) => Fault::NoDescriptors(error.into()),
        error => Fault::Connect(error.into()),
    }
}
