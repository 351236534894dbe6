//! A dispatch that does not depend on its client: the client's response may begin before the upstream's, and the dispatch may continue
//! after the client has left.

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
    /// The client's response begins after this time, even without a response from an upstream.
    pub(in crate::proxy) commit_after: Option<Duration>,
    /// The dispatch continues when the client leaves.
    pub(in crate::proxy) drains: bool,
}

/// The dispatch of one exchange, which owns the exchange until it is done. If it is dropped before that, it ends, unless it
/// continues without a client.
pub(in crate::proxy) struct DetachedDispatch {
    dispatch: Option<Pin<Box<dyn Future<Output = DispatchResult>>>>,
    handle: Rc<ExchangeHandle>,
    drains_on: Option<Rc<Worker>>,
}

/// The result of a dispatch, with the exchange that it owned.
pub(in crate::proxy) struct DispatchResult {
    pub(in crate::proxy) context: RequestContext,
    pub(in crate::proxy) exchange: Box<Exchange>,
    pub(in crate::proxy) response: Result<ClientResponse, Fault>,
}

impl DetachedDispatch {
    /// Runs `dispatch` for the exchange of `handle`; it continues on `drains_on` when the client leaves.
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
        // A future is not polled again after it was ready.
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
    /// The relay of the rest of an event stream that has begun. A failure becomes an event.
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
        let event = fault.event(dialect, 0, exchange.record.languages.language());
        Relay::last_event(event, dialect, exchange)
    }

    /// Reads the response to its end without a client, for its usage.
    async fn drain(self) {
        let Self { context, mut exchange, response } = self;
        match response {
            Ok(response) => response.into_relay(exchange).1.drain().await,
            Err(fault) => exchange.fail(&fault, |text| context.snapshot.upstream_keys.found_in(text)),
        }
    }
}
