//! What lives as long as a worker, on its thread alone.

use std::{rc::Rc, sync::Arc};

use super::Gateway;
use crate::{exchange::Load, telemetry::metrics::worker::WorkerMetrics, upstream::Pools};

/// One worker's own things. Never leaves its thread.
#[derive(Debug)]
pub struct Worker {
    /// The process' things.
    pub gateway: Arc<Gateway>,
    /// How much it has to do.
    pub load: Arc<Load>,
    /// Its upstream connections.
    pub pools: Rc<Pools>,
    /// Its share of the metrics.
    pub metrics: Arc<WorkerMetrics>,
    /// Cloned by each response that is read on without its client, to count them.
    pub(super) detached: Rc<()>,
}

impl Worker {
    /// The worker whose work `load` counts; made on its own thread.
    pub fn new(gateway: Arc<Gateway>, load: Arc<Load>) -> Self {
        let metrics = gateway.worker_metrics();
        Self { pools: Rc::new(Pools::new(metrics.clone())), gateway, load, metrics, detached: Rc::default() }
    }
}
