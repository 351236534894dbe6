//! Accepts connections in one place for all workers and hands each to the worker with the least load.

use std::{
    future::poll_fn,
    io,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Poll, ready},
    time::{Duration, Instant},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, mpsc::error::TrySendError, watch},
    time,
};
use tokio_util::sync::PollSemaphore;

use super::{bind::Origin, counters::Counters, registry::Phase, serve::Accepted, syn_filter};
use crate::proxy::Load;

/// Pause after accepting failed for lack of a resource. It doubles up to the longest pause while the failures go on.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Accepted connections that may wait in the queue of one worker. While all queues are full, connections wait in the backlogs of the
/// sockets, from which another process could accept them.
pub(super) const HANDOVER_QUEUE: usize = 128;

/// A worker that has taken none of its waiting connections for this long gets no further ones: it is blocked, or too busy.
const PATIENCE: Duration = Duration::from_millis(20);
/// Waiting connections that make a worker a worse choice than one with more load: so many, and each multiple of it.
const MANY_WAITING: usize = 8;

/// A worker as the acceptor sees it.
#[derive(Debug)]
pub(super) struct WorkerHandle {
    load: Arc<Load>,
    accepted: mpsc::Sender<Accepted>,
    progress: Progress,
}

/// Whether a worker takes its connections. Used only by the accepting thread.
#[derive(Debug, Default)]
struct Progress {
    /// Connections handed to the worker.
    handed: AtomicUsize,
    /// How many of them it had taken when this last changed.
    taken: AtomicUsize,
    /// When it last changed, or when the queue was last seen empty: in milliseconds since the acceptor was made.
    since: AtomicU64,
}

/// Room for a connection in a worker's queue.
#[derive(Debug)]
struct Room<'a> {
    worker: &'a WorkerHandle,
    permit: mpsc::Permit<'a, Accepted>,
}

/// State shared by all listening sockets: the workers, the connection limit and the counters.
#[derive(Debug)]
pub(super) struct Acceptor {
    pub(super) workers: Vec<WorkerHandle>,
    pub(super) permits: Arc<Semaphore>,
    pub(super) counters: Arc<Counters>,
    turn: AtomicUsize,
    begun: Instant,
}

/// The task of one listening socket.
#[derive(Debug)]
pub(super) struct ListenerTask {
    /// The configured address, which is the listener's key in the snapshot.
    pub(super) address: SocketAddr,
    pub(super) listener: tokio::net::TcpListener,
    pub(super) origin: Origin,
    pub(super) acceptor: Arc<Acceptor>,
}

impl Acceptor {
    pub(super) fn new(workers: Vec<WorkerHandle>, max_connections: usize, counters: Arc<Counters>) -> Self {
        let permits = Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS)));
        Self { workers, permits, counters, turn: AtomicUsize::new(0), begun: Instant::now() }
    }

    /// Waits for a permit of `max_connections`. Returns `None` once the drain has reached its cut, when no worker serves any
    /// more.
    async fn acquire_permit(&self, phase: &mut watch::Receiver<Phase>) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            biased;
            _ = phase.wait_for(is_cut) => None,
            permit = self.permits.clone().acquire_owned() => permit.ok(),
        }
    }

    /// Waits while the queues of all workers are full. If a worker has stopped, the connection is dropped: the process is ending then.
    async fn hand_over(
        &self,
        tcp: io::Result<TcpStream>,
        listener: SocketAddr,
        peer: SocketAddr,
        permit: OwnedSemaphorePermit,
    ) {
        self.counters.accepted.add();
        let Ok(tcp) = tcp else { return };
        let Some(room) = self.room().await else {
            tracing::debug!(%peer, "client connection dropped: its worker has stopped");
            return;
        };
        let counted = room.worker.load.connection();
        room.fill(Accepted { tcp, peer, listener, counted, permit });
    }

    /// Room in the queue of the worker that should get the next connection; `None` if it has stopped.
    async fn room(&self) -> Option<Room<'_>> {
        let worker = self.least_loaded()?;
        match worker.accepted.try_reserve() {
            Ok(permit) => Some(Room { worker, permit }),
            Err(TrySendError::Closed(())) => None,
            Err(TrySendError::Full(())) => self.first_room().await,
        }
    }

    /// Waits for the first room in any queue.
    async fn first_room(&self) -> Option<Room<'_>> {
        let mut waiting: Vec<_> =
            self.workers.iter().map(|worker| (worker, Box::pin(worker.accepted.reserve()))).collect();
        poll_fn(|cx| {
            for (worker, reserving) in &mut waiting {
                if let Poll::Ready(permit) = reserving.as_mut().poll(cx) {
                    return Poll::Ready(permit.ok().map(|permit| Room { worker, permit }));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// The worker with the least load of those that take their connections, or of all if none does. Workers with equal load take
    /// turns.
    fn least_loaded(&self) -> Option<&WorkerHandle> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed).checked_rem(self.workers.len())?;
        let (before, after) = self.workers.split_at_checked(turn)?;
        let now = self.begun.elapsed();
        after.iter().chain(before).min_by_key(|worker| (worker.backlog(now), worker.load.weight()))
    }
}

impl WorkerHandle {
    pub(super) fn new(load: Arc<Load>, accepted: mpsc::Sender<Accepted>) -> Self {
        Self { load, accepted, progress: Progress::default() }
    }

    /// Whether the worker does not take its connections, then roughly how many of them wait. To be called before each handover; `now`
    /// since the acceptor was made.
    fn backlog(&self, now: Duration) -> (bool, usize) {
        let waiting = self.accepted.max_capacity() - self.accepted.capacity();
        let Progress { handed, taken, since } = &self.progress;
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let taken_now = handed.load(Ordering::Relaxed).wrapping_sub(waiting);
        if taken.swap(taken_now, Ordering::Relaxed) != taken_now || waiting == 0 {
            since.store(now, Ordering::Relaxed);
        }
        let silence = now.saturating_sub(since.load(Ordering::Relaxed));
        (waiting > 0 && Duration::from_millis(silence) >= PATIENCE, waiting / MANY_WAITING)
    }
}

impl Room<'_> {
    fn fill(self, connection: Accepted) {
        self.worker.progress.handed.fetch_add(1, Ordering::Relaxed);
        self.permit.send(connection);
    }
}

impl ListenerTask {
    /// Accepts until a drain begins; the socket is closed on return. Connections in the backlog of a socket that only this
    /// process uses are served before.
    pub(super) async fn accept(self, mut phase: watch::Receiver<Phase>) {
        let mut failures = Failures::default();
        loop {
            let accepted = tokio::select! {
                biased;
                _ = phase.wait_for(is_closing) => break,
                accepted = self.next() => accepted,
            };
            match accepted {
                Ok((tcp, peer, permit)) => {
                    failures.over();
                    self.acceptor.hand_over(tcp.into_std(), self.address, peer, permit).await;
                }
                Err(error) => {
                    if let Some(pause) = failures.pause(&error, &self.acceptor.counters) {
                        let _ = time::timeout(pause, phase.wait_for(is_closing)).await;
                    }
                }
            }
        }
        // The next process accepts from the backlog of a socket that others keep open.
        if self.origin == Origin::Inherited {
            return;
        }
        if syn_filter::block_new_handshakes(&self.listener) {
            let _ =
                time::timeout(syn_filter::handshake_grace(self.address.ip()), phase.wait_for(is_cut)).await;
        }
        self.empty_backlog(phase).await;
    }

    /// Accepts the next connection together with a permit of `max_connections`. The permit comes first, so a cancelled wait loses
    /// no connection; and no permit is held while no connection arrives, or one socket would keep it from the others.
    async fn next(&self) -> io::Result<(tokio::net::TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let mut permits = PollSemaphore::new(self.acceptor.permits.clone());
        poll_fn(|cx| match ready!(permits.poll_acquire(cx)) {
            Some(permit) => self.listener.poll_accept(cx).map_ok(|(tcp, peer)| (tcp, peer, permit)),
            None => Poll::Ready(Err(io::Error::other("connection limit closed"))),
        })
        .await
    }

    /// Clients in the backlog have completed their handshake, so closing the socket would reset them. Each waits for a permit
    /// until the cut.
    async fn empty_backlog(self, mut phase: watch::Receiver<Phase>) {
        let Self { address, listener, acceptor, .. } = self;
        let Ok(listener) = listener.into_std() else { return };
        let (mut failures, mut unserved) = (Failures::default(), 0_usize);
        loop {
            // Accepts before a permit is available: an empty backlog needs none, and a waiting client would be reset otherwise.
            match listener.accept() {
                Ok((tcp, peer)) => match acceptor.acquire_permit(&mut phase).await {
                    Some(permit) => {
                        let nonblocking = tcp.set_nonblocking(true).map(|()| tcp);
                        acceptor.hand_over(nonblocking, address, peer, permit).await;
                    }
                    None => {
                        acceptor.counters.unserved.add();
                        unserved += 1;
                    }
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    let pause = failures.pause(&error, &acceptor.counters).unwrap_or_default();
                    if time::timeout(pause, phase.wait_for(is_cut)).await.is_ok() {
                        break;
                    }
                }
            }
        }
        if unserved > 0 {
            tracing::warn!(
                %address,
                connections = unserved,
                "connections closed unserved: they were still in the listen backlog when the drain ended"
            );
        }
    }
}

fn is_closing(phase: &Phase) -> bool {
    *phase >= Phase::Draining
}

fn is_cut(phase: &Phase) -> bool {
    *phase == Phase::Cut
}

/// Consecutive failures to accept.
#[derive(Debug, Default)]
struct Failures {
    pause: Option<Duration>,
}

impl Failures {
    fn over(&mut self) {
        self.pause = None;
    }

    /// How long to wait before accepting again. `None` when only the one connection was lost before it was accepted (accept(2)).
    /// Any other error counts as a lack of resources, where an immediate retry would spin.
    fn pause(&mut self, error: &io::Error, counters: &Counters) -> Option<Duration> {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
        if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | WouldBlock) {
            return None;
        }
        if self.pause.is_none() {
            counters.accept_failed.add();
            tracing::error!(%error, "accepting connections failed; retrying");
        }
        let pause = self.pause.map_or(PAUSE, |last| LONGEST_PAUSE.min(last * 2));
        self.pause = Some(pause);
        self.pause
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Clients in the backlog of one listening socket.
    struct Backlog {
        task: ListenerTask,
        callers: Vec<TcpStream>,
        accepted: mpsc::Receiver<Accepted>,
        phase: watch::Sender<Phase>,
    }

    impl Backlog {
        async fn new(origin: Origin, max_connections: usize) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let callers = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
            let (sender, accepted) = mpsc::channel(HANDOVER_QUEUE);
            let worker = WorkerHandle::new(Arc::default(), sender);
            let acceptor = Arc::new(Acceptor::new(vec![worker], max_connections, Arc::default()));
            let task = ListenerTask { address, listener, origin, acceptor };
            Self { task, callers, accepted, phase: watch::Sender::new(Phase::Serving) }
        }
    }

    /// Two workers of which the first takes nothing, and how many connections each got of those that arrived.
    async fn between_two(arriving: usize) -> [usize; 2] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (blocked, in_queue) = mpsc::channel(HANDOVER_QUEUE);
        let (sender, mut taken) = mpsc::channel(HANDOVER_QUEUE);
        let busy = Arc::<Load>::default();
        // It has more work than the first one.
        let _exchanges: Vec<_> = (0..10).map(|_| busy.exchange()).collect();
        let workers = vec![WorkerHandle::new(Arc::default(), blocked), WorkerHandle::new(busy, sender)];
        let acceptor = Acceptor::new(workers, arriving, Arc::default());
        let mut served = Vec::new();
        for _ in 0..arriving {
            let _client = TcpStream::connect(address).unwrap();
            let (tcp, peer) = listener.accept().await.unwrap();
            let permit = acceptor.permits.clone().acquire_owned().await.unwrap();
            acceptor.hand_over(tcp.into_std(), address, peer, permit).await;
            served.extend(taken.try_recv().ok());
        }
        [in_queue.len(), served.len()]
    }

    #[tokio::test]
    async fn a_worker_that_takes_no_connections_gets_no_further_ones() {
        let [stuck, served] = between_two(500).await;
        assert!(stuck <= MANY_WAITING, "{stuck}");
        assert_eq!(stuck + served, 500);
    }

    #[tokio::test]
    async fn while_all_workers_are_stuck_the_first_room_is_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ((one, _kept), (two, mut second)) = (mpsc::channel(1), mpsc::channel(1));
        let workers = [one, two].map(|sender| WorkerHandle::new(Arc::default(), sender)).into();
        let acceptor = Acceptor::new(workers, 3, Arc::default());
        let mut peers = Vec::new();
        let mut arrive = async || {
            let client = TcpStream::connect(address).unwrap();
            peers.push(client.local_addr().unwrap());
            let (tcp, peer) = listener.accept().await.unwrap();
            let permit = acceptor.permits.clone().acquire_owned().await.unwrap();
            acceptor.hand_over(tcp.into_std(), address, peer, permit).await;
        };
        arrive().await;
        arrive().await;
        let (_, first) = tokio::join!(arrive(), second.recv());
        assert!(first.is_some());
        assert_eq!(second.recv().await.unwrap().peer, peers[2]);
    }

    /// Each gets the permit of the one before, or a free one.
    async fn all_arrive(callers: Vec<TcpStream>, accepted: &mut mpsc::Receiver<Accepted>) {
        for caller in callers {
            let connection = accepted.recv().await.unwrap();
            assert_eq!(connection.peer, caller.local_addr().unwrap());
        }
    }

    #[tokio::test]
    async fn what_waits_in_the_backlog_is_accepted_before_the_socket_is_closed() {
        for places in [3, 1] {
            let Backlog { task, callers, mut accepted, phase } = Backlog::new(Origin::Bound, places).await;
            let address = task.address;
            phase.send_replace(Phase::Draining);
            tokio::join!(task.accept(phase.subscribe()), all_arrive(callers, &mut accepted));
            assert!(TcpStream::connect(address).is_err());
        }
    }

    #[tokio::test]
    async fn who_finds_no_place_until_the_cut_is_counted() {
        let Backlog { task, callers: _callers, mut accepted, phase } = Backlog::new(Origin::Bound, 1).await;
        let (address, acceptor) = (task.address, task.acceptor.clone());
        phase.send_replace(Phase::Draining);
        let cut = async {
            let first = accepted.recv().await.unwrap();
            phase.send_replace(Phase::Cut);
            first
        };
        tokio::join!(task.accept(phase.subscribe()), cut);
        assert_eq!((acceptor.counters.accepted.value(), acceptor.counters.unserved.value()), (1, 2));
        assert!(TcpStream::connect(address).is_err());
    }

    #[tokio::test]
    async fn who_waits_for_a_place_in_a_socket_of_others_is_left_to_the_next_process() {
        let Backlog { task, callers, mut accepted, phase } = Backlog::new(Origin::Inherited, 1).await;
        let next = socket2::SockRef::from(&task.listener).try_clone().unwrap();
        let drain = async {
            let first = accepted.recv().await.unwrap();
            // The second connection is seen in the backlog and waits for a permit.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            phase.send_replace(Phase::Draining);
            first
        };
        tokio::join!(task.accept(phase.subscribe()), drain);
        for caller in &callers[1..] {
            assert_eq!(next.accept().unwrap().1.as_socket(), caller.local_addr().ok());
        }
    }

    #[tokio::test]
    async fn a_socket_where_nobody_waits_takes_no_place() {
        let Backlog { task, callers, mut accepted, phase } = Backlog::new(Origin::Bound, 1).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, acceptor) = (listener.local_addr().unwrap(), task.acceptor.clone());
        let quiet = ListenerTask { address, listener, origin: Origin::Bound, acceptor };
        let serve = async {
            all_arrive(callers, &mut accepted).await;
            phase.send_replace(Phase::Draining);
        };
        tokio::join!(quiet.accept(phase.subscribe()), task.accept(phase.subscribe()), serve);
    }
}
