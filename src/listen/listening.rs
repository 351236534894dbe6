//! The threads behind the listening sockets, and the handle that watches and drains them.

use std::{
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{
    net::TcpListener,
    runtime::{Builder, LocalOptions, LocalRuntime},
    sync::{mpsc, watch},
    task::JoinSet,
    time,
};

use super::{
    accept::{Acceptor, HANDOVER_QUEUE, ListenerTask, WorkerHandle},
    bind::{self, Socket},
    clock::CUT_GRACE,
    counters::Counters,
    proxy_handler::ProxyHandler,
    registry::Phase,
    serve::Handler,
    worker::{LAST_GRACE, WorkerParts, work},
    workers::{QUERY_QUEUE, Workers},
};
use crate::proxy::{Gateway, Load};

/// The running listeners: one accepting thread and the workers; a single worker accepts by itself. Dropping it closes everything
/// at once.
#[derive(Debug)]
pub struct Listening {
    addresses: Vec<SocketAddr>,
    counters: Arc<Counters>,
    workers: Workers,
    phase: watch::Sender<Phase>,
    threads: watch::Receiver<Threads>,
    cut: Arc<AtomicUsize>,
}

/// The gateway's threads could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The system gave no thread.
    #[error("thread {name} could not be started")]
    Thread {
        /// Its name.
        name: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The system gave no event queue, or refused a listening socket.
    #[error("event loop of thread {name} could not be started")]
    Runtime {
        /// The thread's name.
        name: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// A thread has ended that should live as long as the process.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("thread {name} {}", if *.panicked { "panicked" } else { "ended unexpectedly" })]
pub struct Lost {
    /// Its name.
    pub name: String,
    /// Whether it was a panic.
    pub panicked: bool,
}

/// The state of the threads.
#[derive(Debug, Default)]
struct Threads {
    running: usize,
    lost: Option<Lost>,
}

/// Reports the end of its thread, however it ends.
#[derive(Debug)]
struct ThreadGuard {
    name: String,
    threads: watch::Sender<Threads>,
    /// Ending is expected once the drain has begun.
    phase: watch::Receiver<Phase>,
}

/// Starts the workers and accepts from `sockets`, answering with the proxy.
pub fn start(gateway: &Arc<Gateway>, sockets: Vec<Socket>) -> Result<Listening, StartError> {
    let for_proxy = gateway.clone();
    start_with(gateway, sockets, move |load| ProxyHandler::new(for_proxy.clone(), load))
}

/// As [`start`], answering with what `handler` makes, on each worker's own thread.
pub(crate) fn start_with<H: Handler>(
    gateway: &Arc<Gateway>,
    sockets: Vec<Socket>,
    handler: impl Fn(Arc<Load>) -> H + Clone + Send + 'static,
) -> Result<Listening, StartError> {
    bind::raise_open_files();
    let snapshot = gateway.live.load_full();
    let phase = watch::Sender::new(Phase::Serving);
    let threads = watch::Sender::new(Threads::default());
    let (counters, cut) = (Arc::new(Counters::default()), Arc::new(AtomicUsize::new(0)));
    let addresses = sockets.iter().map(Socket::local).collect();
    let guard = |name: String| ThreadGuard { name, threads: threads.clone(), phase: phase.subscribe() };
    let (mut handles, mut query_senders, mut parts) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..snapshot.server.threads {
        let (sender, accepted) = mpsc::channel(HANDOVER_QUEUE);
        let (query_sender, queries) = mpsc::channel(QUERY_QUEUE);
        let load = Arc::new(Load::default());
        query_senders.push((query_sender, load.clone()));
        handles.push(WorkerHandle::new(load.clone(), sender));
        parts.push(WorkerParts {
            gateway: gateway.clone(),
            counters: counters.clone(),
            load,
            accepted,
            queries,
            phase: phase.subscribe(),
            cut: cut.clone(),
        });
    }
    let acceptor = Arc::new(Acceptor::new(handles, snapshot.server.max_connections, counters.clone()));
    let stop = phase.subscribe();
    let working = move |one: WorkerParts| {
        let handler = handler(one.load.clone());
        work(one, handler)
    };
    match <[WorkerParts; 1]>::try_from(parts) {
        // There is no choice between workers, and a handover between threads would cost as much as half a request.
        Ok([only]) => {
            let run = move |runtime: &LocalRuntime| {
                runtime.block_on(accept_and_work(sockets, acceptor, stop, working(only)));
            };
            spawn(guard("worker-0".into()), run)?;
        }
        Err(parts) => {
            for (number, one) in parts.into_iter().enumerate() {
                let working = working.clone();
                spawn(guard(format!("worker-{number}")), move |runtime| runtime.block_on(working(one)))?;
            }
            spawn(guard("acceptor".into()), move |runtime| {
                runtime.block_on(accept(sockets, acceptor, stop));
            })?;
        }
    }
    let (workers, threads) = (Workers::new(query_senders), threads.subscribe());
    Ok(Listening { addresses, counters, workers, phase, threads, cut })
}

impl Listening {
    /// Where it listens, in the order of the sockets.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The counters of connection-level events.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Sends queries to the workers.
    pub fn workers(&self) -> &Workers {
        &self.workers
    }

    /// Waits for the end: returns an error at once when a thread is lost, after which the process should end too; otherwise
    /// returns when a drain is complete.
    pub async fn wait(&self) -> Result<(), Lost> {
        let mut threads = self.threads.clone();
        let ended = threads.wait_for(|threads| threads.lost.is_some() || threads.running == 0).await;
        // The sender goes with the last thread.
        match ended.ok().and_then(|threads| threads.lost.clone()) {
            Some(lost) => Err(lost),
            None => Ok(()),
        }
    }

    /// Drains: goes on accepting for `announce`, then accepts the backlog and closes the sockets, lets each exchange finish until
    /// `deadline` (counted from then), and aborts the rest. Returns the number of aborted exchanges when everything is closed.
    ///
    /// # Errors
    /// A thread was lost, before or during the drain. The exchanges of the other threads were aborted.
    pub async fn drain(&self, announce: Duration, deadline: Duration) -> Result<usize, Lost> {
        let mut phase = self.phase.subscribe();
        tokio::select! {
            biased;
            _ = self.wait() => self.cut(),
            _ = phase.wait_for(|phase| *phase == Phase::Cut) => {}
            () = time::sleep(announce) => {}
        }
        self.enter(Phase::Draining);
        tokio::select! {
            biased;
            ended = self.wait() => if ended.is_err() { self.cut() },
            _ = phase.wait_for(|phase| *phase == Phase::Cut) => {}
            () = time::sleep(deadline) => self.cut(),
        }
        // A worker that does not end in this time is stuck in some code; only the end of the process can stop it.
        let mut threads = self.threads.clone();
        let ended = threads.wait_for(|threads| threads.running == 0);
        let _ = time::timeout(CUT_GRACE + LAST_GRACE * 2, ended).await;
        let (lost, cut) = (self.threads.borrow().lost.clone(), self.cut.load(Ordering::Relaxed));
        match lost {
            Some(lost) => {
                tracing::error!(%lost, cut, "thread ended unexpectedly: aborted the requests of the other threads");
                Err(lost)
            }
            None => Ok(cut),
        }
    }

    /// Aborts what a drain is waiting for, and stops accepting: open exchanges are told to end, and dropped 2 s later.
    pub fn cut(&self) {
        self.enter(Phase::Cut);
    }

    fn enter(&self, next: Phase) {
        self.phase.send_if_modified(|phase| std::mem::replace(phase, next.max(*phase)) < next);
    }
}

impl Drop for ThreadGuard {
    fn drop(&mut self) {
        let panicked = thread::panicking();
        let in_order = *self.phase.borrow() >= Phase::Draining && !panicked;
        self.threads.send_modify(|threads| {
            threads.running -= 1;
            if !in_order && threads.lost.is_none() {
                threads.lost = Some(Lost { name: std::mem::take(&mut self.name), panicked });
            }
        });
    }
}

/// Runs `run` on its own thread with its own runtime, which must be created on that thread.
fn spawn(guard: ThreadGuard, run: impl FnOnce(&LocalRuntime) + Send + 'static) -> Result<(), StartError> {
    let name = guard.name.clone();
    let (report, ready) = std::sync::mpsc::sync_channel(1);
    guard.threads.send_modify(|threads| threads.running += 1);
    let life = move || {
        let _guard = guard;
        match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => {
                let _ = report.send(Ok(()));
                run(&runtime);
            }
            Err(error) => {
                let _ = report.send(Err(error));
            }
        }
    };
    let spawned = thread::Builder::new().name(name.clone()).spawn(life);
    spawned.map_err(|source| StartError::Thread { name: name.clone(), source })?;
    let ready = ready.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()));
    ready.map_err(|source| StartError::Runtime { name, source })
}

/// Accepts and serves on one thread.
async fn accept_and_work(
    sockets: Vec<Socket>,
    acceptor: Arc<Acceptor>,
    phase: watch::Receiver<Phase>,
    working: impl Future<Output = ()>,
) {
    let mut accepting = pin!(accept(sockets, acceptor, phase.clone()));
    let mut working = pin!(working);
    tokio::select! {
        () = &mut accepting => {
            // Before a drain, the end of accepting ends the thread, and so the process.
            if *phase.borrow() >= Phase::Draining {
                working.await;
            }
        }
        () = &mut working => accepting.await,
    }
}

/// One task per socket; the thread ends when all of them have closed theirs.
async fn accept(sockets: Vec<Socket>, acceptor: Arc<Acceptor>, phase: watch::Receiver<Phase>) {
    let mut tasks = JoinSet::new();
    for Socket { address, listener, origin, .. } in sockets {
        match TcpListener::from_std(listener) {
            Ok(listener) => {
                let task = ListenerTask { address, listener, origin, acceptor: acceptor.clone() };
                tasks.spawn_local(task.accept(phase.clone()));
            }
            // The thread ends unexpectedly then, which ends the process.
            Err(error) => {
                return tracing::error!(%error, %address, "listening socket could not be registered with the event loop");
            }
        }
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(panicked) = ended.map_err(tokio::task::JoinError::try_into_panic)
            && let Ok(panic) = panicked
        {
            std::panic::resume_unwind(panic);
        }
    }
}
