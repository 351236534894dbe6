//! Questions to the workers, each answered on the worker's own thread between its other work.

use std::{fmt, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};

use super::registry::ConnectionRegistry;
use crate::{body::OpenExchange, proxy::Load};

/// Questions that may wait for one worker. More wait only for one that has stopped answering.
pub(super) const QUERY_QUEUE: usize = 16;

/// A way to ask all workers. Clones ask the same ones.
#[derive(Clone)]
pub struct Workers {
    senders: Arc<[mpsc::Sender<WorkerQuery>]>,
    loads: Arc<[Arc<Load>]>,
}

/// What a worker is asked.
pub(super) struct WorkerQuery(pub(super) Box<dyn FnOnce(&WorkerView) + Send>);

/// A worker, seen from within.
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

    /// How many there are.
    pub fn count(&self) -> usize {
        self.senders.len()
    }

    /// Open exchanges and open connections of each, without asking.
    pub fn loads(&self) -> Vec<(usize, usize)> {
        self.loads.iter().map(|load| load.weight()).collect()
    }

    /// What each has to say to `question`, in their order; `None` from one that does not say it `within` this time.
    ///
    /// The question runs on the worker's thread: its streams wait for it.
    pub async fn ask<T: Send + 'static>(
        &self,
        within: Duration,
        query: impl Fn(&WorkerView) -> T + Clone + Send + 'static,
    ) -> Vec<Option<T>> {
        let deadline = Instant::now() + within;
        let put = |sender: &mpsc::Sender<WorkerQuery>| {
            let (reply, replied) = oneshot::channel();
            let query = query.clone();
            let asked = WorkerQuery(Box::new(move |view| _ = reply.send(query(view))));
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

    /// The numbers of those that are there and do nothing when they are asked to, `within` this time. One that has ended is none:
    /// in a drain it has done its work, and otherwise its end is the process' end.
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
    /// Open exchanges, then open connections.
    pub fn load(&self) -> (usize, usize) {
        self.load.weight()
    }

    /// Exchanges that are open on none of its connections: their callers have left, and they are read on.
    pub(super) fn detached_exchanges(&self) -> usize {
        self.load.weight().0.saturating_sub(self.registry.exchanges())
    }

    /// Waits until no connection and no exchange is left.
    pub(super) async fn idle(&self) {
        self.registry.empty().await;
        self.load.no_exchange().await;
    }

    /// The exchanges that are open on its connections, `most` of them at most, in no order.
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
