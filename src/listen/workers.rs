//! Queries to the workers, each answered on the worker's own thread between its other work.

use std::{fmt, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_local,
    time::{Instant, timeout_at},
};

use super::{registry::ConnectionRegistry, survey::Survey};
use crate::{
    body::{Cut, OpenExchange},
    proxy::Load,
};

/// Queries that may wait for one worker. The queue fills only if the worker has stopped responding.
pub(super) const QUERY_QUEUE: usize = 16;

/// Sends queries to all workers. Clones reach the same workers.
#[derive(Clone)]
pub struct Workers {
    senders: Arc<[mpsc::Sender<WorkerQuery>]>,
    loads: Arc<[Arc<Load>]>,
}

/// A query: runs on the worker's thread with a view of the worker.
pub(super) struct WorkerQuery(pub(super) Box<dyn FnOnce(&WorkerView) + Send>);

/// A worker as a query sees it.
#[derive(Debug)]
pub struct WorkerView {
    pub(super) registry: std::rc::Rc<ConnectionRegistry>,
    pub(super) load: Arc<Load>,
}

impl Workers {
    pub(super) fn new(senders: Vec<(mpsc::Sender<WorkerQuery>, Arc<Load>)>) -> Self {
        let (senders, loads): (Vec<_>, Vec<_>) = senders.into_iter().unzip();
        Self { senders: senders.into(), loads: loads.into() }
    }

    /// The number of workers.
    pub fn count(&self) -> usize {
        self.senders.len()
    }

    /// Open exchanges and open connections of each worker, read without a query.
    pub fn loads(&self) -> Vec<(usize, usize)> {
        self.loads.iter().map(|load| load.weight()).collect()
    }

    /// Runs `query` on each worker and returns the results in the order of the workers; `None` for a worker that does not respond
    /// `within` this time.
    ///
    /// The query runs on the worker's thread and delays its streams.
    pub async fn ask<T: Send + 'static>(
        &self,
        within: Duration,
        query: impl Fn(&WorkerView) -> T + Clone + Send + 'static,
    ) -> Vec<Option<T>> {
        self.collect(within, move |view, reply| _ = reply.send(query(view))).await
    }

    /// Surveys the open exchanges of each worker, in the order of the workers; `None` for a worker that has not done so `within` this time.
    pub async fn survey(&self, within: Duration) -> Vec<Option<Survey>> {
        let survey = |view: &WorkerView, reply: oneshot::Sender<Survey>| {
            let connections = view.registry.connections();
            spawn_local(async move { reply.send(Survey::of(connections).await) });
        };
        self.collect(within, survey).await
    }

    async fn collect<T: Send + 'static>(
        &self,
        within: Duration,
        query: impl Fn(&WorkerView, oneshot::Sender<T>) + Clone + Send + 'static,
    ) -> Vec<Option<T>> {
        let deadline = Instant::now() + within;
        let put = |sender: &mpsc::Sender<WorkerQuery>| {
            let (reply, replied) = oneshot::channel();
            let query = query.clone();
            let asked = WorkerQuery(Box::new(move |view| query(view, reply)));
            sender.try_send(asked).ok().map(|()| replied)
        };
        let waiting: Vec<_> = self.senders.iter().map(put).collect();
        let mut answers = Vec::with_capacity(waiting.len());
        for replied in waiting {
            answers.push(match replied {
                Some(replied) => timeout_at(deadline, replied).await.ok().and_then(Result::ok),
                None => None,
            });
        }
        answers
    }

    /// The numbers of the workers that do not respond `within` this time. A worker that has ended is not among them: in a drain
    /// it has done its work, and otherwise the process ends with it.
    pub async fn unresponsive(&self, within: Duration) -> Vec<usize> {
        let answers = self.ask(within, |_| ()).await;
        let senders = self.senders.iter().zip(answers).enumerate();
        senders
            .filter(|(_, (sender, answer))| answer.is_none() && !sender.is_closed())
            .map(|(n, _)| n)
            .collect()
    }
}

impl WorkerView {
    /// The number of open exchanges, then of open connections.
    pub fn load(&self) -> (usize, usize) {
        self.load.weight()
    }

    /// Exchanges without a client connection: their clients have left, and the upstream's response is still read.
    pub(super) fn detached_exchanges(&self) -> usize {
        self.load.weight().0.saturating_sub(self.registry.exchanges())
    }

    /// Waits until no connection and no exchange is left.
    pub(super) async fn idle(&self) {
        self.registry.empty().await;
        self.load.no_exchange().await;
    }

    /// Cuts the exchange with this id for `cause`. False if it is not open on the worker's connections.
    pub fn cut(&self, request_id: &str, cause: Cut) -> bool {
        self.registry.cut(request_id, cause)
    }

    /// The exchanges that are open on the worker's connections: the `most` that began first, in no order.
    pub fn oldest_exchanges(&self, most: usize) -> Vec<OpenExchange> {
        self.registry.oldest_exchanges(most)
    }

    /// The exchanges that are open on the worker's connections, at most `most` of them, in no order.
    pub fn open_exchanges(&self, most: usize) -> Vec<OpenExchange> {
        self.registry.open_exchanges(most)
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").field("count", &self.count()).finish()
    }
}

impl fmt::Debug for WorkerQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WorkerQuery")
    }
}
