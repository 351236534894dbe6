//! One try at one target: a connection, the request, the head of an answer.

use std::{
    future::poll_fn,
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

use http::Request;

use super::call::Call;
use crate::{
    body::{Outbound, UploadFailure, UploadTally},
    config::Timeouts,
    fault::{Fault, Phase},
    snapshot::Target,
    upstream::{Answer, Connection, DialError, SendError},
};

impl Call<'_> {
    /// Sends `request` to `target` and waits for the head of its answer. A kept connection that turns out to have been closed by the
    /// upstream, before any byte of an answer, is no failure: the request is sent once more, on a new connection, if it
    /// is held whole (RFC 9112 §9.3.1).
    ///
    /// # Errors
    /// No answer came.
    pub(super) async fn attempt(
        &mut self,
        request: Request<Outbound>,
        target: &Target,
        timeouts: &Timeouts,
    ) -> Result<Answer, Fault> {
        let pools = &self.worker.pools;
        self.exchange.record.phase = Phase::Connect;
        if let Some(kept) = poll_fn(|cx| Poll::Ready(pools.take(&target.dialer, cx))).await {
            let again = again(&request);
            match self.send(kept, request, timeouts).await {
                Err(Unanswered::Stale(cause)) => match again {
                    Some(request) => return Box::pin(self.attempt_anew(request, target, timeouts)).await,
                    None => return Err(Fault::NoAnswer(cause)),
                },
                answered => return answered.map_err(Unanswered::into_fault),
            }
        }
        Box::pin(self.attempt_anew(request, target, timeouts)).await
    }

    /// Boxed by its callers: it is seldom needed, and connecting takes more room than all the rest.
    async fn attempt_anew(
        &mut self,
        request: Request<Outbound>,
        target: &Target,
        timeouts: &Timeouts,
    ) -> Result<Answer, Fault> {
        let pools = &self.worker.pools;
        self.exchange.record.phase = Phase::Connect;
        let began = Instant::now();
        let connection = pools.dial(&target.dialer, timeouts.connect).await.map_err(unreachable)?;
        self.exchange.record.connect = Some(began.elapsed());
        self.send(connection, request, timeouts).await.map_err(Unanswered::into_fault)
    }

    async fn send(
        &mut self,
        connection: Connection,
        request: Request<Outbound>,
        timeouts: &Timeouts,
    ) -> Result<Answer, Unanswered> {
        let record = &mut self.exchange.record;
        record.reused = Some(connection.is_reused());
        record.phase = Phase::FirstByte;
        let sent = Instant::now();
        let upload = record.upload.clone();
        let last_sent = || upload.moved().map_or(sent, |moved| moved.max(sent));
        let sending = async { connection.send(request).await.map_err(|error| unanswered(error, &upload)) };
        let answer = match timeouts.first_byte {
            None => sending.await?,
            Some(limit) => within(limit, last_sent, sending).await?,
        };
        record.first_byte = Some(record.start.elapsed());
        record.phase = Phase::Stream;
        Ok(answer)
    }
}

/// Why a connection gave no answer.
enum Unanswered {
    /// It was a kept one that the upstream has closed: the request may be sent again.
    Stale(crate::fault::Cause),
    /// Anything else.
    Failed(Fault),
}

impl Unanswered {
    fn into_fault(self) -> Fault {
        match self {
            Self::Stale(cause) => Fault::NoAnswer(cause),
            Self::Failed(fault) => fault,
        }
    }
}

/// What the error of an upstream connection means: it may be the caller's own failure, whose request body broke off on the way.
fn unanswered(error: SendError, upload: &UploadTally) -> Unanswered {
    match upload.failure() {
        Some(UploadFailure::Stalled(idle)) => Unanswered::Failed(Fault::BodyStalled(idle)),
        Some(UploadFailure::Broken) => Unanswered::Failed(Fault::BodyBroken(error.cause)),
        None if error.stale => Unanswered::Stale(error.cause),
        None => Unanswered::Failed(Fault::NoAnswer(error.cause)),
    }
}

/// Waits for `answer` until nothing of the request has moved for `limit`: a long upload does not count against the upstream.
async fn within(
    limit: Duration,
    last_sent: impl Fn() -> Instant,
    answer: impl Future<Output = Result<Answer, Unanswered>>,
) -> Result<Answer, Unanswered> {
    let mut answer = pin!(answer);
    loop {
        let deadline = last_sent() + limit;
        if let Ok(answered) = tokio::time::timeout_at(deadline.into(), answer.as_mut()).await {
            return answered;
        }
        if last_sent() + limit <= Instant::now() {
            return Err(Unanswered::Failed(Fault::FirstByteTimeout(limit)));
        }
    }
}

/// The same request once more, if its body is held whole.
fn again(request: &Request<Outbound>) -> Option<Request<Outbound>> {
    let body = request.body().again()?;
    let mut again = Request::new(body);
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.version_mut() = request.version();
    *again.headers_mut() = request.headers().clone();
    Some(again)
}

fn unreachable(error: DialError) -> Fault {
    match error {
        DialError::Timeout(limit) => Fault::ConnectTimeout(limit),
        error => Fault::Connect(error.into()),
    }
}
