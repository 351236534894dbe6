//! Attempts that are not bound to those who wait for them: the caller's answer may begin before they have come to something, and
//! they may go on when the caller has left.

use std::{
    fmt,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Response, Version, header};

use super::{
    Counted, Relay, ResponseBody, Worker,
    answered::CallerResponse,
    call::{Call, Within, until_cut},
    failed, identify,
    outbound::PreparedRequest,
    respond, tail,
};
use crate::{body::ExchangeHandle, config::OnDisconnect, fault::Fault, policy, snapshot::Route};

/// Comments in an answer that began early, on a route without heartbeats.
const BEAT: Duration = Duration::from_secs(15);

/// How the attempts for a request are to be run.
#[derive(Debug, Clone, Copy)]
pub(super) struct DetachPolicy {
    /// After so long the answer begins, whatever there is.
    commit_after: Option<Duration>,
    /// They go on when the caller leaves.
    drains: bool,
}

impl DetachPolicy {
    /// Whether an inference on `route` is an errand; `stream`: it is to be answered by an event stream of a known dialect.
    pub(super) fn of(route: &Route, stream: bool) -> Option<Self> {
        // What is held until it is complete is silent for as long, which is what heartbeats are for.
        let beat = route.heartbeat.filter(|_| route.is_whole());
        let commit_after = route.commit_after.or(beat).filter(|_| stream);
        let drains = route.on_disconnect == OnDisconnect::Drain;
        (drains || commit_after.is_some()).then_some(Self { commit_after, drains })
    }

    /// Runs the attempts, and answers their caller.
    pub(super) async fn run(
        self,
        mut call: Call,
        order: Box<PreparedRequest>,
        within: Within,
        in_flight: Counted,
    ) -> Response<ResponseBody> {
        let drains_on = self.drains.then(|| call.worker.clone());
        let watch = call.exchange.handle.clone();
        let early = early_head(&call, order.route());
        let (link, version) = (call.exchange.link().clone(), call.exchange.record.version);
        let beat = order.route().heartbeat.unwrap_or(BEAT);
        let asking = async move {
            let watch = call.exchange.handle.clone();
            let answered = {
                let dispatching = pin!(call.dispatch(order));
                let bounded = pin!(within.run(dispatching));
                until_cut(&watch, bounded).await
            };
            Done { call, answered, in_flight }
        };
        let mut errand = DetachedDispatch {
            asking: Some(Box::pin(asking)),
            watch: watch.clone(),
            drains_on: drains_on.clone(),
        };
        let done = match self.commit_after {
            None => Some((&mut errand).await),
            Some(span) => tokio::time::timeout(span, &mut errand).await.ok(),
        };
        if let Some(Done { mut call, answered, in_flight }) = done {
            let answered = answered.unwrap_or_else(|fault| failed(&mut call, &fault));
            return respond(answered, call.exchange, in_flight, drains_on);
        }
        watch.status.commit_early();
        // Until the answer is known to be whole, as in the Relay.
        link.reset_when_closing(version == Version::HTTP_10);
        let mut response = Response::new(ResponseBody::early(errand, beat, drains_on));
        *response.headers_mut() = early;
        *response.version_mut() = version;
        response
    }
}

/// All that can be said before there is an answer.
fn early_head(call: &Call, route: &Route) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Some(first) = route.steps.first() {
        policy::to_caller(&mut headers, &route.response_headers, &first.upstream.secrets);
    }
    identify(&mut headers, &call.exchange.record);
    if call.exchange.is_last() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    headers
}

/// The attempts of one exchange, which have it until they are done. Dropped before that, they are given up, unless they are to go on
/// without a caller.
pub(super) struct DetachedDispatch {
    asking: Option<Pin<Box<dyn Future<Output = Done>>>>,
    watch: Rc<ExchangeHandle>,
    drains_on: Option<Rc<Worker>>,
}

/// What came of the attempts.
pub(super) struct Done {
    call: Call,
    answered: Result<CallerResponse, Fault>,
    in_flight: Counted,
}

impl DetachedDispatch {
    pub(super) fn watch(&self) -> &Rc<ExchangeHandle> {
        &self.watch
    }
}

impl Future for DetachedDispatch {
    type Output = Done;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Done> {
        // Nobody asks again after it was ready.
        let Some(asking) = self.asking.as_mut() else { return Poll::Pending };
        let polled = asking.as_mut().poll(cx);
        if polled.is_ready() {
            self.asking = None;
        }
        polled
    }
}

impl Drop for DetachedDispatch {
    fn drop(&mut self) {
        if let Some(asking) = self.asking.take()
            && let Some(worker) = self.drains_on.take()
            && self.watch.abort.cause().is_none()
        {
            self.watch.status.leave();
            tail::read_for_usage(&worker, async move {
                let Done { mut call, answered, in_flight } = asking.await;
                match answered {
                    Ok(answered) => {
                        answered.into_parts().1.into_relay(call.exchange, in_flight).drain().await;
                    }
                    Err(fault) => drop(failed(&mut call, &fault)),
                }
            });
        }
    }
}

impl fmt::Debug for DetachedDispatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Errand").field("watch", &self.watch).finish_non_exhaustive()
    }
}

impl Done {
    /// As the rest of an event stream that has begun: what has failed is told in an event.
    pub(super) fn into_late_relay(self) -> Relay {
        let Self { mut call, answered, in_flight } = self;
        let dialect = call.exchange.record.endpoint.dialect();
        call.exchange.answered_early();
        let close_delimited = call.exchange.record.version == Version::HTTP_10;
        let fault = match answered.map(|answered| answered.into_stream(dialect, close_delimited)) {
            Ok(Ok(passage)) => return Relay::passing(passage, call.exchange, in_flight),
            Ok(Err(Ok(event))) if call.holds_key(&event) => Fault::Withheld(502),
            Ok(Err(Ok(event))) => {
                call.exchange.conclude(super::relay::ERROR_EVENT);
                return Relay::last_words(event, dialect, call.exchange, in_flight);
            }
            Ok(Err(Err(fault))) | Err(fault) => fault,
        };
        drop(failed(&mut call, &fault));
        Relay::last_words(fault.event(dialect, 0), dialect, call.exchange, in_flight)
    }
}
