//! One request's way through the ladder: what every rung needs.

use std::{
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use http::request;

use super::{
    Downstream, Worker,
    lowered::CallerTimeouts,
    reception::{self, LogSafeHead},
};
use crate::{
    body::{Cut, ExchangeHandle},
    exchange::{Exchange, Opening},
    fault::Fault,
    policy::SecretScanner,
    snapshot::Snapshot,
};

/// What every rung of the ladder needs. Each rung is a method, in the file of its subject.
pub(super) struct Call {
    pub(super) worker: Rc<Worker>,
    pub(super) downstream: Rc<Downstream>,
    /// Loaded once; a reload meanwhile does not change it.
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) exchange: Box<Exchange>,
    /// The time limits that the caller has set itself.
    pub(super) lowered: CallerTimeouts,
    /// All that the request presents as a key, until it is known whose it is.
    pub(super) presented: Rc<SecretScanner<'static>>,
}

/// The bound on a whole exchange, from its start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Within {
    start: Instant,
    total: Option<Duration>,
}

impl Call {
    /// Begins an exchange for the request with this head.
    pub(super) fn open(worker: Rc<Worker>, downstream: Rc<Downstream>, head: &request::Parts) -> Self {
        let gateway = &worker.gateway;
        let snapshot = gateway.live.load_full();
        let LogSafeHead { path, method, trace, keys } = reception::shown(head, &snapshot, &downstream.recall);
        let opening = Opening {
            client: reception::client_address(&downstream, &head.headers),
            tls: downstream.tls,
            trace,
            version: head.version,
            method,
            path,
        };
        let log = snapshot.log.access.then(|| gateway.access_log.clone());
        let exchange = Box::new(Exchange::open(opening, &downstream.link, log, worker.stripe.clone()));
        let lowered = CallerTimeouts::default();
        Self { worker, downstream, snapshot, exchange, lowered, presented: keys }
    }

    /// Whether a key of any upstream is in `text`.
    pub(super) fn holds_key(&self, text: &[u8]) -> bool {
        self.snapshot.upstreams.values().any(|upstream| upstream.secrets.found_in(text))
    }

    /// Bounds the exchange by `total`, wherever it is then.
    pub(super) fn within(&self, total: Option<Duration>) -> Within {
        let start = self.exchange.record.start;
        self.exchange.handle.abort.set_deadline(total.map(|total| start + total));
        Within { start, total }
    }
}

impl Within {
    /// Runs `rungs` within the bound.
    pub(super) async fn run<T, F>(self, rungs: Pin<&mut F>) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let Some(total) = self.total else { return rungs.await };
        match tokio::time::timeout_at((self.start + total).into(), rungs).await {
            Ok(done) => done,
            Err(_) => Err(Fault::TotalTimeout(total)),
        }
    }
}

/// Runs `answer` until it is done, or until somebody asks the exchange to end.
pub(super) async fn until_cut<T, F>(watch: &ExchangeHandle, mut answer: Pin<&mut F>) -> Result<T, Fault>
where
    F: Future<Output = Result<T, Fault>>,
{
    poll_fn(|cx| {
        if let Poll::Ready(done) = answer.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        watch.abort.register(cx.waker());
        match watch.abort.cause() {
            None => Poll::Pending,
            Some(Cut::Drain) => Poll::Ready(Err(Fault::Draining)),
            Some(Cut::WriteStall) => Poll::Ready(Err(Fault::CallerStalled)),
            // The rungs run within the bound themselves, and are about to say so.
            Some(Cut::Total) => Poll::Pending,
        }
    })
    .await
}
