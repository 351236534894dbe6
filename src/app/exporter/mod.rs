//! Exports what waits for a collector, on the main thread: workers only put encoded spans into a bounded queue.
//!
//! There is one exporter for each compiled `[otlp]` table. When a reload replaces it, or at the end of the process, it sends what waits and ends.

mod health;
mod metrics;
mod send;
mod traces;

use std::{rc::Rc, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_local},
    time::timeout,
};

use crate::{
    listen::Listening,
    proxy::Gateway,
    snapshot::Collector,
    telemetry::trace::{DropReason, SpanQueue},
    upstream::Pools,
};
use metrics::{MetricsExport, MetricsSource};
use send::Sender;
use traces::TraceExport;

/// How long the last spans may take to be sent.
const LAST_SPANS: Duration = Duration::from_secs(5);

/// The task that starts and stops exporters. It runs as long as its runtime.
#[derive(Debug)]
pub(super) struct Exporters {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// An exporter that runs.
struct Running {
    collector: Arc<Collector>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Exporters {
    /// Follows the configuration of `gateway`. Must be called on a local runtime.
    pub(super) fn start(gateway: &Arc<Gateway>, listening: &Listening) -> Self {
        let (stop, stopped) = watch::channel(false);
        let source = MetricsSource::new(gateway, listening);
        let task = spawn_local(follow(source, stopped));
        Self { stop, task }
    }

    /// Sends what waits, and ends. Takes a few seconds at most.
    pub(super) async fn finish(self) {
        self.stop.send_replace(true);
        // It bounds itself; a panic in it has been logged.
        let _ = self.task.await;
    }
}

/// Runs the exporter of the current configuration, until `stopped`.
async fn follow(source: MetricsSource, mut stopped: watch::Receiver<bool>) {
    let gateway = source.gateway.clone();
    let pools = Rc::new(Pools::new(Arc::default()));
    let mut replaced = gateway.replaced.subscribe();
    let mut running: Option<Running> = None;
    loop {
        let (collector, spans) = {
            let snapshot = gateway.live.load();
            (snapshot.collector.clone(), snapshot.spans.clone())
        };
        if running.as_ref().map(|running| Arc::as_ptr(&running.collector))
            != collector.as_ref().map(Arc::as_ptr)
        {
            if let Some(old) = running.take() {
                spawn_local(old.finish());
            }
            running = collector.map(|collector| Running::start(collector, &spans, &pools, &source));
        }
        tokio::select! {
            changed = replaced.changed() => if changed.is_err() { break },
            _ = stopped.wait_for(|stopped| *stopped) => break,
        }
    }
    if let Some(running) = running {
        running.finish().await;
    }
}

impl Running {
    fn start(
        collector: Arc<Collector>,
        spans: &Arc<SpanQueue>,
        pools: &Rc<Pools>,
        source: &MetricsSource,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let sender = Sender::new(collector.clone(), pools.clone());
        let traces = TraceExport::new(sender.clone(), spans.clone());
        let metrics = MetricsExport::new(sender, source.clone());
        let task = spawn_local(async {
            tokio::join!(traces.run(stopped.clone()), metrics.run(stopped));
        });
        Self { collector, stop, task }
    }

    /// Sends what waits now. What could not be sent in time is counted as dropped.
    async fn finish(self) {
        let Self { stop, mut task, .. } = self;
        stop.send_replace(true);
        if timeout(LAST_SPANS, &mut task).await.is_err() {
            task.abort();
            // Its guard counts what it was sending.
            let _ = task.await;
        }
    }
}

/// Counts spans as dropped unless they were taken.
#[derive(Debug)]
struct Unsent {
    queue: Arc<SpanQueue>,
    spans: u64,
}

impl Unsent {
    fn new(queue: &Arc<SpanQueue>, spans: u64) -> Self {
        Self { queue: queue.clone(), spans }
    }

    /// The collector has taken them, except `rejected`.
    fn taken(mut self, rejected: u64) {
        let rejected = rejected.min(self.spans);
        let counts = self.queue.counts();
        counts.exported.add_many(self.spans - rejected);
        counts.dropped(DropReason::Rejected, rejected);
        self.spans = 0;
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        self.queue.counts().dropped(DropReason::Failed, self.spans);
    }
}

/// Waits until an exporter is stopped.
async fn stop(stopped: &mut watch::Receiver<bool>) {
    // A sender that is gone stops it too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
