//! The state that all workers share for the life of the process.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::watch;

use crate::{
    accounts::{AccountMap, MemoryMap},
    config::{ClientChange, ClientFilesReport, Config, Problems},
    exchange::AccessLog,
    limit::InFlight,
    snapshot::{ClientConflict, ClientsChanged, CompileError, Snapshot},
    telemetry::metrics::{count::Reloads, models::ModelNames, worker::WorkerMetrics},
};

/// The state that all workers share. Workers change only its atomics.
#[derive(Debug)]
pub struct Gateway {
    /// The current configuration, compiled.
    pub live: ArcSwap<Snapshot>,
    /// The state of the clients' files; `None` without `[client_files]`.
    pub client_files: ArcSwapOption<ClientFilesReport>,
    /// The result of the last reload; `None` before the first.
    pub last_reload: ArcSwapOption<Reload>,
    /// The configuration before the current one, as it may be shown.
    pub replaced_configuration: ArcSwapOption<serde_json::Value>,
    /// The destination of access lines, if they are written.
    pub access_log: AccessLog,
    /// Tells workers that `live` has changed.
    pub replaced: watch::Sender<()>,
    /// Counts of successful and failed reloads.
    pub reloads: Reloads,
    /// When the gateway started.
    pub started: SystemTime,
    /// Which account knows an id, where that is not the one that the rule gives.
    pub accounts: Arc<dyn AccountMap>,
    /// The models with metrics of their own.
    pub models: Arc<ModelNames>,
    /// The shares of the workers.
    metrics: Mutex<Vec<Arc<WorkerMetrics>>>,
    /// Bytes of bodies held in memory by all workers; see [`Buffered`](super::buffered::Buffered).
    pub(super) buffered: AtomicU64,
    /// The requests in flight, where `server.max_requests` bounds them.
    pub(super) in_flight: InFlight,
    /// Bytes of request bodies that all workers hold in files.
    pub(super) spooled: Arc<AtomicU64>,
    /// Open WebSocket connections: each of them holds a clone.
    pub(super) tunnels: Arc<()>,
}

/// What became of changes of clients; see [`ClientsChanged`].
#[derive(Debug)]
pub struct ClientsApplied {
    /// Number of clients that came or changed.
    pub changed: usize,
    /// Number of clients that are gone.
    pub gone: usize,
    /// Clients that stay as they were, because they are in conflict with others.
    pub conflicts: Vec<ClientConflict>,
}

/// The result of a reload.
#[derive(Debug)]
pub struct Reload {
    /// When the reload ended.
    pub at: SystemTime,
    /// Why the configuration was refused, one line for each problem; empty if the reload succeeded.
    pub problems: Vec<String>,
}

impl Gateway {
    /// A gateway with `snapshot` as its configuration, which forgets the accounts of ids when it ends.
    pub fn new(snapshot: Snapshot, access_log: AccessLog) -> Arc<Self> {
        Self::with_accounts(snapshot, access_log, Arc::new(MemoryMap::default()))
    }

    /// A gateway with `snapshot` as its configuration, and with this memory of the accounts of ids.
    pub fn with_accounts(
        snapshot: Snapshot,
        access_log: AccessLog,
        accounts: Arc<dyn AccountMap>,
    ) -> Arc<Self> {
        start_sharing(&snapshot);
        let models = Arc::new(ModelNames::default());
        models.configure(&snapshot.model_names);
        let live = ArcSwap::from_pointee(snapshot);
        let started = SystemTime::now();
        let reloads = Reloads::default();
        reloads.success(started);
        Arc::new(Self {
            live,
            client_files: ArcSwapOption::empty(),
            last_reload: ArcSwapOption::empty(),
            replaced_configuration: ArcSwapOption::empty(),
            replaced: watch::Sender::default(),
            access_log,
            reloads,
            started,
            accounts,
            models,
            metrics: Mutex::default(),
            buffered: AtomicU64::new(0),
            in_flight: InFlight::default(),
            spooled: Arc::default(),
            tunnels: Arc::default(),
        })
    }

    /// A new share of the metrics, for a new worker.
    pub fn worker_metrics(&self) -> Arc<WorkerMetrics> {
        let metrics = Arc::new(WorkerMetrics::new(self.models.clone()));
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).push(metrics.clone());
        metrics
    }

    /// The shares of all workers.
    pub fn all_metrics(&self) -> Vec<Arc<WorkerMetrics>> {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives new exchanges other clients, of those that have files. Only one thread may call this or [`Gateway::replace`] at a time.
    pub fn change_clients(&self, changes: Vec<ClientChange>) -> ClientsApplied {
        let ClientsChanged { snapshot, changed, gone, conflicts } =
            self.live.load_full().with_clients(changes);
        if changed + gone > 0 {
            self.live.store(Arc::new(snapshot));
            self.replaced.send_replace(());
        }
        ClientsApplied { changed, gone, conflicts }
    }

    /// Compiles `config` and makes it the configuration of new exchanges. Blocks. Only one thread may call this at a time.
    ///
    /// # Errors
    /// [`CompileError`]; the previous configuration then stays in effect.
    pub fn replace(&self, config: Config) -> Result<Arc<Snapshot>, CompileError> {
        self.replace_with(config, Vec::new()).map(|(snapshot, _)| snapshot)
    }

    /// The same with changes of clients that have files, and returns the conflicts among these. No request sees one without the other.
    ///
    /// # Errors
    /// [`CompileError`]; the previous configuration then stays in effect.
    pub fn replace_with(
        &self,
        config: Config,
        changes: Vec<ClientChange>,
    ) -> Result<(Arc<Snapshot>, Vec<ClientConflict>), CompileError> {
        let compiled = Snapshot::compile(config, Some(&self.live.load_full()));
        let problems = compiled.as_ref().err().map(|error| in_a_line(error)).into_iter().collect();
        let compiled = compiled.map(|snapshot| {
            if changes.is_empty() {
                return (Arc::new(snapshot), Vec::new());
            }
            let ClientsChanged { snapshot, conflicts, .. } = snapshot.with_clients(changes);
            (Arc::new(snapshot), conflicts)
        });
        // Before the new snapshot is stored, so that a reader of the new generation never sees the problems of an earlier reload.
        self.reloaded(problems);
        if let Ok((snapshot, _)) = &compiled {
            start_sharing(snapshot);
            self.models.configure(&snapshot.model_names);
            let before = self.live.swap(snapshot.clone());
            self.replaced_configuration.store(Some(Arc::new(before.redacted.clone())));
            self.replaced.send_replace(());
        }
        compiled
    }

    /// Notes that a configuration was refused because of `problems`.
    pub fn refuse(&self, problems: &Problems) {
        let line = |problem: &crate::config::Problem| {
            let (line, column) = (problem.line, problem.column);
            let place = if line > 0 { format!(":{line}:{column}") } else { String::new() };
            let file = problems.file.display();
            let colon = if problem.path.is_empty() { "" } else { ": " };
            format!("{file}{place}: {}{colon}{}", problem.path, problem.message)
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

    /// Number of open WebSocket connections.
    pub fn open_tunnels(&self) -> usize {
        Arc::strong_count(&self.tunnels) - 1
    }

    /// Bytes of request bodies that all workers hold in files now.
    pub fn spooled(&self) -> u64 {
        self.spooled.load(Ordering::Relaxed)
    }

    /// Bytes of bodies that all workers hold in memory now.
    pub fn buffered(&self) -> u64 {
        self.buffered.load(Ordering::Relaxed)
    }
}

/// Starts to share the counts of limits, where the configuration says so. Without the thread for it, this gateway counts by itself.
fn start_sharing(snapshot: &Snapshot) {
    if let Err(error) = snapshot.limits.start_sharing() {
        tracing::error!(%error, "Redis unavailable: the system gives no thread; this gateway counts by itself");
    }
}

/// An error and its causes, in one line.
fn in_a_line(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|source| format!(": {}", in_a_line(source)));
    format!("{error}{}", cause.unwrap_or_default())
}
