//! One try at one target: a connection, the request, the head of an answer.

use std::{
    pin::{Pin, pin},
    time::{Duration, Instant},
};

use http::Request;

use super::{call::Call, outbound::PreparedRequest, places::Candidate};
use crate::{
    body::{Outbound, UploadFailure, UploadTally},
    config::Timeouts,
    fault::{Cause, Fault, Phase},
    upstream::{Answer, Connection, Delivery, DialError, SendError},
};

impl Call {
    /// Sends what was ordered to `place` and waits for the head of its answer. A kept connection that turns out to have been closed by
    /// the upstream is no failure: the request is sent once more, on another connection, if it is there whole and the upstream has
    /// not seen it, or seeing it twice does no harm.
    ///
    /// # Errors
    /// No answer came. A body that passes on is still there if there was no connection to send it on.
    pub(super) async fn ask(
        &mut self,
        order: &mut PreparedRequest,
        place: &Candidate,
    ) -> Result<Answer, Fault> {
        let dialer = &place.target().dialer;
        let pools = &self.worker.pools;
        self.exchange.handle.status.enter(Phase::Connect);
        let kept = pools.take(dialer);
        let reused = kept.is_some();
        let connection = match kept {
            Some(kept) => kept,
            None => Box::pin(self.dial(place)).await?,
        };
        let request = self.request(order, place)?;
        // On a new HTTP/1.1 connection, a request that was not seen comes back by itself.
        let repeatable = (reused || dialer.http2()) && request.body().is_held();
        let harmless = order.is_inference() || request.method().is_idempotent();
        self.arm(order, place);
        let sent = match self.send(connection, request, &place.timeouts, harmless).await {
            Ok(answer) => return Ok(answer),
            Err(SendOutcome::Unseen(_, Some(unsent))) => {
                order.take_back(unsent.into_body());
                None
            }
            Err(SendOutcome::Unseen(..)) if repeatable => None,
            Err(SendOutcome::Harmless(cause)) if repeatable => Some(cause),
            Err(unanswered) => return Err(unanswered.into_fault()),
        };
        let connection = match (Box::pin(self.dial(place)).await, sent) {
            (Ok(connection), _) => connection,
            // That it cannot be reached now does not say that it has not acted on what it was sent before.
            (Err(Fault::Connect(_) | Fault::ConnectTimeout(_) | Fault::Full(_)), Some(cause)) => {
                return Err(Fault::NoAnswer(cause));
            }
            (Err(fault), _) => return Err(fault),
        };
        let request = self.request(order, place)?;
        self.send(connection, request, &place.timeouts, harmless).await.map_err(SendOutcome::into_fault)
    }

    /// From here on the target has all that it needs: it is to answer before the whole exchange is over.
    fn arm(&self, order: &PreparedRequest, place: &Candidate) {
        if let Some(total) = self.exchange.handle.abort.deadline().filter(|_| order.is_inference()) {
            place.pass.is_due(total, self.exchange.record.start.elapsed());
        }
    }

    /// Boxed by its callers: it is seldom needed, and connecting takes more room than all the rest.
    async fn dial(&mut self, place: &Candidate) -> Result<Connection, Fault> {
        let pools = &self.worker.pools;
        self.exchange.handle.status.enter(Phase::Connect);
        let began = Instant::now();
        let dialled = pools.dial(&place.target().dialer, place.timeouts.connect).await;
        self.exchange.record.connect = Some(began.elapsed());
        dialled.map_err(unreachable)
    }

    async fn send(
        &mut self,
        connection: Connection,
        request: Request<Outbound>,
        timeouts: &Timeouts,
        harmless: bool,
    ) -> Result<Answer, SendOutcome> {
        let record = &mut self.exchange.record;
        record.reused = Some(connection.is_reused());
        self.exchange.handle.status.enter(Phase::FirstByte);
        let sent = Instant::now();
        let upload = record.upload.clone();
        let last_sent = || upload.moved().map_or(sent, |moved| moved.max(sent));
        let idempotent = request.method().is_idempotent();
        let sending = pin!(async {
            let sent = connection.send(request).await;
            sent.map_err(|error| unanswered(error, &upload, idempotent, harmless))
        });
        let answer = match timeouts.first_byte {
            None => sending.await?,
            Some(limit) => within(limit, last_sent, sending).await?,
        };
        let record = &mut self.exchange.record;
        record.first_byte = Some(record.start.elapsed());
        self.exchange.handle.status.enter(Phase::Stream);
        Ok(answer)
    }
}

/// After so long a target with as many connections as it may have is worth another try.
const FULL: Duration = Duration::from_secs(1);

/// Why a connection gave no answer.
enum SendOutcome {
    /// The upstream has not seen the request; which is here, if it came back.
    Unseen(Cause, Option<Box<Request<Outbound>>>),
    /// It may have, but it does no harm to send it again.
    Harmless(Cause),
    /// Anything else.
    AttemptError(Fault),
}

impl SendOutcome {
    fn into_fault(self) -> Fault {
        match self {
            Self::Unseen(cause, _) | Self::Harmless(cause) => Fault::NoAnswer(cause),
            Self::AttemptError(fault) => fault,
        }
    }
}

/// What the error of an upstream connection means: it may be the caller's own failure, whose request body broke off on the way.
fn unanswered(error: SendError, upload: &UploadTally, idempotent: bool, harmless: bool) -> SendOutcome {
    match (upload.failure(), error.seen) {
        (Some(UploadFailure::Stalled(idle)), _) => SendOutcome::AttemptError(Fault::BodyStalled(idle)),
        (Some(UploadFailure::Broken), _) => SendOutcome::AttemptError(Fault::BodyBroken(error.cause)),
        (None, Delivery::Nothing(request)) => SendOutcome::Unseen(error.cause, request),
        // Most likely is not certain: a batch that was created after all would be created twice.
        (None, Delivery::Crossed) if harmless => SendOutcome::Harmless(error.cause),
        // RFC 9110 §9.2.2: what is idempotent may be sent again after a connection was lost.
        (None, Delivery::Perhaps { stale: true }) if idempotent => SendOutcome::Harmless(error.cause),
        (None, Delivery::Crossed | Delivery::Perhaps { .. }) => {
            SendOutcome::AttemptError(Fault::NoAnswer(error.cause))
        }
    }
}

/// Waits for `answer` until nothing of the request has moved for `limit`: a long upload does not count against the upstream. (One that is held
/// whole does: it is hyper's at once, and nobody sees it move.)
async fn within(
    limit: Duration,
    last_sent: impl Fn() -> Instant,
    mut answer: Pin<&mut impl Future<Output = Result<Answer, SendOutcome>>>,
) -> Result<Answer, SendOutcome> {
    loop {
        let deadline = last_sent() + limit;
        if let Ok(answered) = tokio::time::timeout_at(deadline.into(), answer.as_mut()).await {
            return answered;
        }
        if last_sent() + limit <= Instant::now() {
            return Err(SendOutcome::AttemptError(Fault::FirstByteTimeout(limit)));
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
