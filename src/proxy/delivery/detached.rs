//! A dispatch that is not bound to the client that waits for it: the response may begin before there is one, and the dispatch may go on
//! when the client has left.

use std::{
    fmt,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use http::Version;

use super::{ClientResponse, Relay, client_response::NotAStream, drain, observer::ERROR_EVENT};
use crate::{
    body::ExchangeHandle,
    exchange::Exchange,
    fault::Fault,
    proxy::{Worker, context::RequestContext},
};

/// How a dispatch is detached from its client.
#[derive(Debug, Clone, Copy)]
pub(in crate::proxy) struct DetachPolicy {
    /// The response begins after so long, whatever there is.
    pub(in crate::proxy) commit_after: Option<Duration>,
    /// The dispatch goes on when the client leaves.
    pub(in crate::proxy) drains: bool,
}

/// The dispatch of one exchange, which owns the exchange until it is done. Dropped before that, it is given up, unless it is to go on
/// without a client.
pub(in crate::proxy) struct DetachedDispatch {
    dispatch: Option<Pin<Box<dyn Future<Output = DispatchResult>>>>,
    handle: Rc<ExchangeHandle>,
    drains_on: Option<Rc<Worker>>,
}

/// What a dispatch gave, with the exchange that it owned.
pub(in crate::proxy) struct DispatchResult {
    pub(in crate::proxy) context: RequestContext,
    pub(in crate::proxy) exchange: Box<Exchange>,
    pub(in crate::proxy) response: Result<ClientResponse, Fault>,
}

impl DetachedDispatch {
    /// Runs `dispatch` for the exchange of `handle`; when its client leaves it goes on, on `drains_on`.
    pub(in crate::proxy) fn new(
        dispatch: impl Future<Output = DispatchResult> + 'static,
        handle: Rc<ExchangeHandle>,
        drains_on: Option<Rc<Worker>>,
    ) -> Self {
        Self { dispatch: Some(Box::pin(dispatch)), handle, drains_on }
    }

    pub(super) fn handle(&self) -> &Rc<ExchangeHandle> {
        &self.handle
    }
}

impl Future for DetachedDispatch {
    type Output = DispatchResult;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<DispatchResult> {
        // Nobody polls again after it was ready.
        let Some(dispatch) = self.dispatch.as_mut() else { return Poll::Pending };
        let polled = dispatch.as_mut().poll(cx);
        if polled.is_ready() {
            self.dispatch = None;
        }
        polled
    }
}

impl Drop for DetachedDispatch {
    fn drop(&mut self) {
        if let Some(dispatch) = self.dispatch.take()
            && let Some(worker) = self.drains_on.take()
            && self.handle.abort.cause().is_none()
        {
            self.handle.status.leave();
            drain::read_for_usage(&worker, async move { dispatch.await.drain().await });
        }
    }
}

impl fmt::Debug for DetachedDispatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DetachedDispatch").field("handle", &self.handle).finish_non_exhaustive()
    }
}

impl DispatchResult {
    /// Goes on as the rest of an event stream that has begun; a failure is told in an event.
    pub(super) fn into_late_relay(self) -> Relay {
        let Self { context, mut exchange, response } = self;
        let dialect = exchange.record.endpoint.dialect();
        exchange.answered_early();
        let close_delimited = exchange.record.version == Version::HTTP_10;
        let stream = match response {
            Ok(response) => response.into_stream(dialect, close_delimited),
            Err(fault) => Err(NotAStream::Fault(fault)),
        };
        let fault = match stream {
            Ok(pending) => return Relay::upstream(pending, exchange),
            Err(NotAStream::Error(event)) if context.snapshot.upstream_keys.found_in(&event) => {
                Fault::Withheld(502)
            }
            Err(NotAStream::Error(event)) => {
                exchange.conclude(ERROR_EVENT);
                return Relay::last_event(event, dialect, exchange);
            }
            Err(NotAStream::Fault(fault)) => fault,
        };
        exchange.fail(&fault, |text| context.snapshot.upstream_keys.found_in(text));
        Relay::last_event(fault.event(dialect, 0), dialect, exchange)
    }

    /// Reads the response on for its usage, without a client.
    async fn drain(self) {
        let Self { context, mut exchange, response } = self;
        match response {
            Ok(response) => response.into_relay(exchange).1.drain().await,
            Err(fault) => exchange.fail(&fault, |text| context.snapshot.upstream_keys.found_in(text)),
        }
    }
}
