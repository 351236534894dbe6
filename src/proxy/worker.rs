//! The state of one worker, which stays on the worker's thread.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use super::{Gateway, names_memo::NamesMemo};
use crate::{
    exchange::Load,
    telemetry::metrics::{sdk::SdkMemo, worker::WorkerMetrics},
    upstream::Pools,
};

/// The state of one worker. It never leaves the worker's thread.
#[derive(Debug)]
pub struct Worker {
    /// The state that all workers share.
    pub gateway: Arc<Gateway>,
    /// The worker's open exchanges and connections.
    pub load: Arc<Load>,
    /// The worker's upstream connections.
    pub pools: Rc<Pools>,
    /// The worker's share of the metrics.
    pub metrics: Arc<WorkerMetrics>,
    /// Reads the SDKs of clients.
    pub(super) sdks: RefCell<SdkMemo>,
    /// The names of the headers of its upstreams.
    pub(super) names_memo: NamesMemo,
    /// Counts the responses that are read without a client: each of them holds a clone.
    pub(super) detached: Rc<()>,
}

impl Worker {
    /// The worker whose work `load` counts; made on its own thread.
    pub fn new(gateway: Arc<Gateway>, load: Arc<Load>) -> Self {
        let metrics = gateway.worker_metrics();
        let pools = Rc::new(Pools::new(metrics.clone()));
        Self {
            pools,
            gateway,
            load,
            metrics,
            sdks: RefCell::default(),
            names_memo: NamesMemo::default(),
            detached: Rc::default(),
        }
    }
}
