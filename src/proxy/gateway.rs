//! What lives as long as the process.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::{
    config::{Config, Problems},
    exchange::AccessLog,
    snapshot::{CompileError, Snapshot},
    telemetry::metrics::{count::Reloads, worker::WorkerMetrics},
};

/// Shared by all workers; read-only but for atomics.
#[derive(Debug)]
pub struct Gateway {
    /// The current configuration, compiled.
    pub live: ArcSwap<Snapshot>,
    /// How the last reload went; none was tried before the first.
    pub last_reload: ArcSwapOption<Reload>,
    /// Where access lines go, when they are written.
    pub access_log: AccessLog,
    /// What became of reloads.
    pub reloads: Reloads,
    /// When the gateway began.
    pub started: SystemTime,
    /// One for each worker.
    metrics: Mutex<Vec<Arc<WorkerMetrics>>>,
    /// Bytes of bodies held in memory by all workers; see [`Buffered`](super::buffered::Buffered).
    pub(super) buffered: AtomicU64,
}

/// How a reload went.
#[derive(Debug)]
pub struct Reload {
    /// When it was over.
    pub at: SystemTime,
    /// What kept the configuration from being taken, each problem in a line; nothing: it was taken.
    pub problems: Vec<String>,
}

impl Gateway {
    /// Begins with `snapshot`.
    pub fn new(snapshot: Snapshot, access_log: AccessLog) -> Arc<Self> {
        let live = ArcSwap::from_pointee(snapshot);
        let started = SystemTime::now();
        let reloads = Reloads::default();
        reloads.success(started);
        Arc::new(Self {
            live,
            last_reload: ArcSwapOption::empty(),
            access_log,
            reloads,
            started,
            metrics: Mutex::default(),
            buffered: AtomicU64::new(0),
        })
    }

    /// A new share of the metrics, for a worker that begins.
    pub fn worker_metrics(&self) -> Arc<WorkerMetrics> {
        let metrics = Arc::new(WorkerMetrics::default());
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).push(metrics.clone());
        metrics
    }

    /// The shares of all workers.
    pub fn all_metrics(&self) -> Vec<Arc<WorkerMetrics>> {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Compiles `config` and makes it the one that new exchanges go by. Blocks; for one thread at a time.
    ///
    /// # Errors
    /// [`CompileError`]; all stays as it was then.
    pub fn replace(&self, config: Config) -> Result<Arc<Snapshot>, CompileError> {
        let compiled = Snapshot::compile(config, Some(&self.live.load_full()));
        let problems = compiled.as_ref().err().map(|error| in_a_line(error)).into_iter().collect();
        let compiled = compiled.map(Arc::new);
        // First, so that whoever sees the new generation sees this reload with it, and not the last one's problems.
        self.reloaded(problems);
        if let Ok(snapshot) = &compiled {
            self.live.store(snapshot.clone());
        }
        compiled
    }

    /// A configuration with `problems` was not taken.
    pub fn refuse(&self, problems: &Problems) {
        let line = |problem: &crate::config::Problem| {
            let (file, line, column) = (problems.file.display(), problem.line, problem.column);
            let colon = if problem.path.is_empty() { "" } else { ": " };
            format!("{file}:{line}:{column}: {}{colon}{}", problem.path, problem.message)
        };
        self.reloaded(problems.problems.iter().map(line).collect());
    }

    fn reloaded(&self, problems: Vec<String>) {
        let at = SystemTime::now();
        if problems.is_empty() {
            self.reloads.succeeded.add();
            self.reloads.success(at);
        } else {
            self.reloads.failed.add();
        }
        self.last_reload.store(Some(Arc::new(Reload { at, problems })));
    }

    /// Bytes of bodies held now, by all workers.
    pub fn buffered(&self) -> u64 {
        self.buffered.load(Ordering::Relaxed)
    }
}

/// An error and what lies beneath it.
fn in_a_line(error: &dyn std::error::Error) -> String {
    let beneath = error.source().map(|source| format!(": {}", in_a_line(source)));
    format!("{error}{}", beneath.unwrap_or_default())
}
