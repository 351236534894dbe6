//! The composition root: configuration → gateway → listeners → signals → drain.

mod clients;
mod drain_display;
mod exporter;
mod reload;
mod service;
mod state;
mod state_line;
mod unbound;

use std::{
    convert::Infallible,
    env, future,
    io::{self, IsTerminal as _},
    net::SocketAddr,
    path::PathBuf,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use thiserror::Error;
use tokio::{
    runtime::{Builder, LocalOptions, LocalRuntime},
    signal::unix::{Signal, SignalKind, signal},
};

use crate::{
    admin::Admin,
    config::{Config, Source},
    exchange::AccessLog,
    listen::{Inherited, Listening, Lost, StartError, Workers, start},
    proxy::Gateway,
    snapshot::{CompileError, Snapshot},
    telemetry::{self, queue::Queue},
};
use clients::FileClients;
pub use clients::compile_with_client_files;
use drain_display::DrainDisplay;
use exporter::Exporters;
use reload::{Followed, Reloading};
pub use service::Service;
pub use unbound::{Unbound, Unlistened};

/// How long the log lines that are queued at the end may take to be written.
const LAST_LINES: Duration = Duration::from_secs(5);

/// Why the gateway does not run.
#[derive(Debug, Error)]
pub enum AppError {
    /// The configuration is valid, but something it needs is not available.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// Addresses cannot be listened on.
    #[error(transparent)]
    Bind(#[from] Unbound),
    /// Threads.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A thread died while it ran.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The configuration's files cannot be followed.
    #[error("configuration reload could not be started")]
    Reload(#[source] io::Error),
    /// The log's writer.
    #[error("log output could not be started")]
    Log(#[source] io::Error),
    /// The main thread's event queue, or its signal handlers.
    #[error("signal handlers could not be installed")]
    Runtime(#[source] io::Error),
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Every exchange finished by itself.
    Drained,
    /// This many exchanges were aborted at the drain deadline or by a second signal.
    Cut(usize),
}

/// What the parent process passed to the gateway, and where it expects notifications. Empty by default.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// Listening sockets.
    pub inherited: Inherited,
    /// The service manager.
    pub service: Service,
    /// Whether a person at a terminal reads stderr, and is shown how a drain goes on.
    pub terminal: bool,
    /// The directory for what is to outlive a restart, unless the configuration names one: `$STATE_DIRECTORY` (systemd.exec(5)).
    pub state: Option<PathBuf>,
}

/// A running gateway: its sockets are bound and its workers serve.
#[derive(Debug)]
pub struct App {
    gateway: Arc<Gateway>,
    listening: Listening,
    admin: Option<Admin>,
    runtime: LocalRuntime,
    queue: Queue,
    service: Service,
    terminal: bool,
    reloading: Option<Reloading>,
    clients: FileClients,
}

/// What a run consists of.
#[derive(Clone, Copy)]
struct Run<'a> {
    gateway: &'a Gateway,
    listening: &'a Listening,
    admin: Option<&'a Admin>,
    service: &'a Service,
    /// Whether a person reads stderr.
    terminal: bool,
}

/// The signals that control a run.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    /// When the last signal to stop came.
    last: Option<Instant>,
}

/// Signals to stop within this time count as one: `timeout` of coreutils, for example, signals the process and then its group.
const SIGNAL_DEBOUNCE: Duration = Duration::from_millis(500);

impl Surroundings {
    /// Reads the environment. Must be called once, before there are threads.
    pub fn from_env() -> Self {
        Self {
            inherited: Inherited::from_env(),
            service: Service::from_env(),
            terminal: is_terminal(),
            state: state::directory(),
        }
    }

    /// Those of a gateway that a person has started: no sockets, no service manager, perhaps a terminal.
    pub fn interactive() -> Self {
        Self { terminal: is_terminal(), ..Self::default() }
    }
}

impl App {
    /// Starts a gateway for `config`, logging to stdout.
    ///
    /// # Errors
    /// [`AppError`]; nothing runs then.
    pub fn start(config: Config, surroundings: Surroundings) -> Result<Self, AppError> {
        let queue = Queue::stdout(config.log.format).map_err(AppError::Log)?;
        // A second gateway in one process (a test's) shares the first one's.
        let _ = telemetry::start(&config.log, &queue);
        Self::start_with(config, queue, surroundings)
    }

    /// Starts a gateway whose log lines go to `queue`.
    ///
    /// # Errors
    /// [`AppError`]; nothing runs then, and what was logged is written.
    pub fn start_with(config: Config, queue: Queue, surroundings: Surroundings) -> Result<Self, AppError> {
        let log = queue.clone();
        flush_on_error(&log, Self::assemble(config, queue, surroundings))
    }

    fn assemble(config: Config, queue: Queue, surroundings: Surroundings) -> Result<Self, AppError> {
        let Surroundings { mut inherited, service, terminal, state } = surroundings;
        reload::warn(&config.warnings);
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        let runtime = runtime.map_err(AppError::Runtime)?;
        let admin = config.admin.clone();
        let log = AccessLog { queue: queue.clone(), format: config.log.format };
        let (mut clients, changes) = FileClients::read(&config);
        let snapshot = clients.begin(Snapshot::compile(config, None)?, changes);
        let backlog = snapshot.server.backlog;
        let mut failed = Vec::new();
        let mut open = |key: String, address| {
            let opened = inherited.or_bind(address, backlog);
            opened.map_err(|error| failed.push(Unlistened { key, error })).ok()
        };
        let listeners = snapshot.listeners.iter().enumerate();
        let sockets: Vec<_> = listeners
            .filter_map(|(index, listener)| open(format!("listener[{index}].address"), listener.address))
            .collect();
        let admin = admin.and_then(|admin| open("admin.address".to_owned(), admin.address));
        Unbound::unless(failed)?;
        let accounts = state::accounts(&snapshot, state);
        let gateway = Gateway::with_accounts(snapshot, log, accounts);
        clients.report(&gateway);
        inherited.report_left();
        let listening = start(&gateway, sockets)?;
        let admin = match admin {
            Some(socket) => {
                let starting = async { Admin::start(socket, &gateway, &listening) };
                Some(runtime.block_on(starting).map_err(AppError::Runtime)?)
            }
            None => None,
        };
        Ok(Self { gateway, listening, admin, runtime, queue, service, terminal, reloading: None, clients })
    }

    /// Reloads from `source` from now on: when one of its files changes, and at SIGHUP. `digest` is that of the read with which
    /// the gateway was started.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn following(mut self, source: Source, digest: Vec<u8>) -> Result<Self, AppError> {
        let (gateway, service) = (self.gateway.clone(), self.service.clone());
        let followed = Followed { source, digest, clients: std::mem::take(&mut self.clients) };
        let reloading = Reloading::start(followed, gateway, service).map_err(AppError::Reload);
        Ok(Self { reloading: Some(flush_on_error(&self.queue, reloading)?), ..self })
    }

    /// The addresses of the listeners, in the order of the configuration.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.listening.addresses()
    }

    /// The address of the admin listener.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(Admin::address)
    }

    /// The state that lives as long as the process.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// Sends queries to the workers.
    pub fn workers(&self) -> &Workers {
        self.listening.workers()
    }

    /// Serves until SIGTERM or SIGINT, then drains; a second signal aborts the remaining requests. SIGHUP reloads.
    ///
    /// # Errors
    /// A worker died, or signals cannot be waited for.
    pub fn run(mut self) -> Result<Ended, AppError> {
        let signals = self.runtime.block_on(async { Signals::new() }).map_err(AppError::Runtime);
        let mut signals = flush_on_error(&self.queue, signals)?;
        let reloading = self.reloading.take();
        self.run_until(async || signals.stop(reloading.as_ref()).await)
    }

    /// Serves until `stop` resolves, then drains; when it resolves again, the remaining requests are aborted.
    ///
    /// # Errors
    /// A worker died, while serving or draining.
    pub fn run_until(self, stop: impl AsyncFnMut()) -> Result<Ended, AppError> {
        let Self {
            gateway,
            listening,
            admin,
            runtime,
            queue,
            service,
            terminal,
            reloading: _reloading,
            clients: _,
        } = self;
        let run = Run {
            gateway: &gateway,
            listening: &listening,
            admin: admin.as_ref(),
            service: &service,
            terminal,
        };
        let ended = runtime.block_on(async {
            let exporters = Exporters::start(&gateway, &listening);
            let ended = tokio::select! {
                ended = run.serve(stop) => ended,
                never = service.keep_watch(listening.workers()) => match never {},
                never = state_line::keep_writing(&gateway, listening.workers()) => match never {},
            };
            exporters.finish().await;
            ended
        });
        if let Some(sharing) = gateway.live.load().limits.sharing() {
            sharing.finish();
        }
        match &ended {
            Ok(ended) => tracing::info!(cut = ended.cut(), "drain complete"),
            Err(error) => tracing::error!(%error, "gateway stops because of an error"),
        }
        queue.flush(LAST_LINES);
        ended
    }
}

impl Ended {
    /// The number of aborted exchanges.
    pub fn cut(self) -> usize {
        match self {
            Self::Drained => 0,
            Self::Cut(exchanges) => exchanges,
        }
    }
}

/// Whether stderr is a terminal that can write a line again.
fn is_terminal() -> bool {
    io::stderr().is_terminal() && env::var_os("TERM").is_none_or(|name| name != "dumb")
}

/// Flushes the log if `result` is an error: the process ends then, sooner than the log's writer would have written what led to
/// it.
fn flush_on_error<T>(queue: &Queue, result: Result<T, AppError>) -> Result<T, AppError> {
    if result.is_err() {
        queue.flush(LAST_LINES);
    }
    result
}

impl Run<'_> {
    /// Serves until `stop` resolves, then drains.
    async fn serve(&self, mut stop: impl AsyncFnMut()) -> Result<Ended, AppError> {
        let Self { gateway, listening, admin, service, .. } = *self;
        let operator = admin.map(|admin| tracing::field::display(admin.address()));
        tracing::info!(addresses = ?listening.addresses(), admin = operator, "serving");
        service.ready(gateway.live.load().generation);
        tokio::select! {
            // The exchanges of the other workers are aborted, and their clients told.
            _ = listening.wait() => {
                if let Some(admin) = admin {
                    admin.not_ready();
                }
                listening.drain(Duration::ZERO, Duration::ZERO).await?;
            }
            () = stop() => {}
            () = drain_requested(admin) => {}
        }
        let drain = gateway.live.load().server.drain;
        tracing::info!(announce = ?drain.announce, deadline = ?drain.deadline, "drain started");
        let bound = drain.announce.saturating_add(drain.deadline);
        service.stopping(self.in_flight(), bound);
        if let Some(admin) = admin {
            admin.not_ready();
        }
        let mut draining = pin!(listening.drain(drain.announce, drain.deadline));
        let cut = tokio::select! {
            cut = draining.as_mut() => cut?,
            never = service.keep_extending(bound) => match never {},
            never = self.show_drain(bound) => match never {},
            () = stop() => {
                tracing::warn!("second signal: aborting remaining requests");
                listening.cut();
                draining.await?
            }
        };
        Ok(if cut == 0 { Ended::Drained } else { Ended::Cut(cut) })
    }

    /// Shows how the drain goes on, if somebody looks. Never returns.
    async fn show_drain(&self, bound: Duration) -> Infallible {
        if !self.terminal {
            return future::pending().await;
        }
        DrainDisplay::on_stderr().follow(bound, || self.in_flight()).await
    }

    /// The number of requests that are not finished.
    fn in_flight(&self) -> usize {
        self.listening.workers().loads().iter().map(|(exchanges, _)| exchanges).sum()
    }
}

/// Waits until an operator asks for a drain on the live page.
async fn drain_requested(admin: Option<&Admin>) {
    match admin {
        Some(admin) => admin.drain_requested().await,
        None => future::pending().await,
    }
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            last: None,
        })
    }

    /// Waits for a signal to stop, and passes on signals to reload. A signal that comes right after another one counts as the
    /// same.
    async fn stop(&mut self, reloading: Option<&Reloading>) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
                _ = self.hangup.recv() => {
                    match reloading {
                        Some(reloading) => reloading.request(),
                        None => tracing::warn!("SIGHUP ignored: this gateway has no configuration file"),
                    }
                    continue;
                }
            }
            if self.last.is_none_or(|last| last.elapsed() >= SIGNAL_DEBOUNCE) {
                self.last = Some(Instant::now());
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, sync::mpsc, thread};

    use super::*;
    use crate::config::{Env, LogFormat, parse};

    /// An output that is much slower than a start that fails.
    struct Slow(mpsc::Sender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            thread::sleep(Duration::from_millis(500));
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_was_logged_is_written_when_the_start_fails() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let text = format!(
            r#"
            listener = [{{ address = "{}" }}]
            [upstream.none]
            url = "http://127.0.0.1:9"
            auth = "none"
            [route.main]
            path = "/v1"
            upstreams = ["none"]
            access = "open"
            "#,
            taken.local_addr().unwrap()
        );
        let config = parse(&text, &Env::new(".", &|_| None)).unwrap();
        let (write, written) = mpsc::channel();
        let queue = Queue::start(Box::new(Slow(write)), 1 << 20, LogFormat::Json);
        queue.push(b"a warning");
        let error = App::start_with(config, queue, Surroundings::default()).unwrap_err();
        assert!(matches!(error, AppError::Bind(_)), "{error}");
        assert_eq!(written.try_recv().unwrap(), b"a warning\n");
    }
}
