//! The upstream connections of one worker.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    hash::BuildHasherDefault,
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use fnv::FnvHasher;
use tokio::sync::{Mutex, Notify, oneshot};

use super::{
    DialError, Dialer,
    connection::{Connection, Transport},
    http1::Http1,
    http2::Http2,
};
use crate::{pause, telemetry::metrics::worker::WorkerMetrics, wait_queue::QueuePermit};

/// Interval for closing connections that were idle for too long.
const SWEEP: Duration = Duration::from_secs(1);

/// Values by [`Dialer::id`]. The ids are the program's own numbers, so the hash need not resist attacks.
type ById<V> = HashMap<u64, V, BuildHasherDefault<FnvHasher>>;

/// Connections by [`Dialer::id`]. Idle HTTP/1.1 connections are bounded by their [`super::PoolLimits`], HTTP/2 connections by the
/// streams in use, until they have been idle for too long. Stays on its worker's thread.
#[derive(Debug, Default)]
pub struct Pools {
    http1: RefCell<ById<OriginPool<Box<Http1>>>>,
    http2: RefCell<ById<OriginPool<Http2>>>,
    sweeping: Cell<bool>,
    /// Locked while an HTTP/2 connection is being made; at most one per dialer.
    dialling: RefCell<ById<Rc<Mutex<()>>>>,
    /// Notified when a stream of any HTTP/2 connection ends.
    room: Rc<Notify>,
    /// Requests that wait for an HTTP/1.1 connection, by dialer and by their number in the target's queue.
    waiting: RefCell<ById<LocalQueue>>,
    /// Notified when a request somewhere in the process waits for a permit that an idle connection of this worker may hold.
    wanted: Arc<Notify>,
    metrics: Arc<WorkerMetrics>,
}

/// Requests that wait for an HTTP/1.1 connection to one origin, by their number in the target's queue.
type LocalQueue = BTreeMap<u64, oneshot::Sender<Box<Http1>>>;

/// The connections to one origin.
#[derive(Debug)]
struct OriginPool<C> {
    dialer: Arc<Dialer>,
    connections: Vec<C>,
}

/// What a request for an HTTP/1.1 connection gets when its turn comes.
enum Free {
    Connection(Box<Http1>),
    Permit(QueuePermit),
}

/// What a request for an HTTP/2 stream gets when its turn comes.
enum FreeStream {
    Stream(Transport),
    Permit(QueuePermit),
}

/// A request that waits for an HTTP/1.1 connection of this worker. Dropping it passes on a connection that has come meanwhile.
struct LocalWaiter<'a> {
    pools: &'a Rc<Pools>,
    dialer: &'a Arc<Dialer>,
    number: u64,
    handed: oneshot::Receiver<Box<Http1>>,
}

impl Pools {
    /// An empty pool; `metrics` counts what happens to its connections.
    pub fn new(metrics: Arc<WorkerMetrics>) -> Self {
        Self { metrics, ..Self::default() }
    }

    /// An idle connection to `dialer`'s origin that is alive, as far as can be known without writing to it.
    pub fn take(self: &Rc<Self>, dialer: &Arc<Dialer>) -> Option<Connection> {
        let transport = if dialer.http2() {
            // A stream that has just ended made room for those who wait, and they are asked in order.
            if dialer.has_waiters() {
                return None;
            }
            self.take_http2(dialer)?
        } else {
            self.take_http1(dialer)?
        };
        self.metrics.pool.reused.add();
        Some(self.connection(dialer, transport, true))
    }

    /// A new connection, made within `timeout`.
    ///
    /// # Errors
    /// [`DialError`]: nothing has been sent then.
    pub async fn dial(
        self: &Rc<Self>,
        dialer: &Arc<Dialer>,
        timeout: Duration,
    ) -> Result<Connection, DialError> {
        if dialer.http2() {
            // Boxed, so that a connection attempt over HTTP/1.1 has no room for it: 5 KB instead of 45.
            let dialling = Box::pin(self.dial_http2(dialer, timeout));
            return match pause::timeout(timeout, dialling).await {
                Ok(dialled) => dialled,
                // The time was spent waiting for others, because no further connection is allowed.
                Err(_) if dialer.is_full() => Err(DialError::Full),
                Err(_) => Err(DialError::Timeout(timeout)),
            };
        }
        let permit = match dialer.permit() {
            Some(permit) => permit,
            None => match pause::timeout(timeout, self.wait_http1(dialer)).await {
                Ok(Ok(Free::Connection(connection))) => {
                    self.metrics.pool.reused.add();
                    return Ok(self.connection(dialer, Transport::Http1(connection), true));
                }
                Ok(Ok(Free::Permit(permit))) => permit,
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(DialError::Full),
            },
        };
        let dialled = dialer.dial(permit, timeout).await?;
        Ok(self.opened(dialer, Transport::Http1(Http1::new(dialled))))
    }

    /// Waits in the queue of `dialer`'s target for a connection that becomes free on this worker, or for a permit to make one.
    async fn wait_http1(self: &Rc<Self>, dialer: &Arc<Dialer>) -> Result<Free, DialError> {
        let waiter = dialer.enqueue()?;
        let mut local = LocalWaiter::new(self, dialer, waiter.number());
        tokio::select! {
            biased;
            Ok(connection) = &mut local.handed => Ok(Free::Connection(connection)),
            permit = waiter => Ok(Free::Permit(permit)),
        }
    }

    /// One connection attempt at a time per origin. A request that waited meanwhile may find a connection with room when its turn
    /// comes.
    async fn dial_http2(
        self: &Rc<Self>,
        dialer: &Arc<Dialer>,
        timeout: Duration,
    ) -> Result<Connection, DialError> {
        let gate = self.dialling.borrow_mut().entry(dialer.id()).or_default().clone();
        let _turn = gate.lock().await;
        if let Some(transport) = self.take_http2(dialer) {
            self.metrics.pool.reused.add();
            return Ok(self.connection(dialer, transport, true));
        }
        let permit = match dialer.permit() {
            Some(permit) => permit,
            None => match self.wait_http2(dialer).await? {
                FreeStream::Stream(transport) => {
                    self.metrics.pool.reused.add();
                    return Ok(self.connection(dialer, transport, true));
                }
                FreeStream::Permit(permit) => permit,
            },
        };
        let dialled = dialer.dial(permit, timeout).await?;
        // Boxed, so that a request that waits at the gate has no room for it.
        let opened = Box::pin(Http2::open(dialled, self.room.clone(), self.wanted.clone())).await;
        let connection = opened.map_err(|error| DialError::Failed(error.into()))?;
        let (sender, lease) = connection.lease();
        self.origin_pool(&mut self.http2.borrow_mut(), dialer).connections.push(connection);
        self.sweep_later();
        Ok(self.opened(dialer, Transport::Http2(sender, lease)))
    }

    /// Waits in the queue of `dialer`'s target for a permit, or until a stream that ends makes room on a connection of this worker.
    async fn wait_http2(&self, dialer: &Arc<Dialer>) -> Result<FreeStream, DialError> {
        let mut permit = pin!(dialer.enqueue()?);
        loop {
            tokio::select! {
                biased;
                permit = &mut permit => return Ok(FreeStream::Permit(permit)),
                () = self.room.notified() => {}
            }
            if let Some(transport) = self.take_http2(dialer) {
                return Ok(FreeStream::Stream(transport));
            }
        }
    }

    fn opened(self: &Rc<Self>, dialer: &Arc<Dialer>, transport: Transport) -> Connection {
        self.metrics.pool.opened.add();
        self.connection(dialer, transport, false)
    }

    fn connection(self: &Rc<Self>, dialer: &Arc<Dialer>, transport: Transport, reused: bool) -> Connection {
        Connection { transport, reused, pools: self.clone(), dialer: dialer.clone() }
    }

    /// The number of idle connections.
    pub fn idle(&self) -> usize {
        self.http1.borrow().values().map(|origin_pool| origin_pool.connections.len()).sum()
    }

    /// Gives a connection to the first waiter, or keeps it for the next request. If the first waiter is on another worker, which cannot
    /// use it, the connection is closed, and the waiter gets its permit.
    pub(super) fn put(self: &Rc<Self>, dialer: &Arc<Dialer>, mut connection: Box<Http1>) {
        while dialer.has_waiters() {
            let Some(waiter) = self.first_waiter(dialer) else { return };
            match waiter.send(connection) {
                Ok(()) => return,
                Err(unsent) => connection = unsent,
            }
        }
        connection.idle_since = Instant::now();
        let mut http1 = self.http1.borrow_mut();
        let origin_pool = self.origin_pool(&mut http1, dialer);
        if origin_pool.connections.len() < dialer.limits().max_idle {
            origin_pool.connections.push(connection);
        }
        drop(http1);
        self.sweep_later();
    }

    /// Takes the first waiter for a connection of `dialer`'s target out of the queue, if that one waits on this worker for this dialer.
    fn first_waiter(&self, dialer: &Dialer) -> Option<oneshot::Sender<Box<Http1>>> {
        let mut waiting = self.waiting.borrow_mut();
        let local = waiting.get_mut(&dialer.id())?;
        let number = dialer.connection_limit().withdraw_next(|number| local.contains_key(&number))?;
        local.remove(&number)
    }

    fn take_http1(&self, dialer: &Dialer) -> Option<Transport> {
        loop {
            // The borrow ends before the connection is polled: dropping a connection may call into this pool.
            let mut connection = self.http1.borrow_mut().get_mut(&dialer.id())?.connections.pop()?;
            if connection.idle_since.elapsed() < dialer.limits().idle && connection.is_usable() {
                return Some(Transport::Http1(connection));
            }
            self.metrics.pool.dead.add();
        }
    }

    fn take_http2(&self, dialer: &Dialer) -> Option<Transport> {
        let mut http2 = self.http2.borrow_mut();
        let connections = &mut http2.get_mut(&dialer.id())?.connections;
        connections.retain(|connection| !connection.is_closed());
        let (sender, lease) = connections.iter().find(|connection| connection.has_room())?.lease();
        Some(Transport::Http2(sender, lease))
    }

    fn origin_pool<'a, C>(
        &self,
        pools: &'a mut ById<OriginPool<C>>,
        dialer: &Arc<Dialer>,
    ) -> &'a mut OriginPool<C> {
        pools.entry(dialer.id()).or_insert_with(|| {
            dialer.connection_limit().notify(&self.wanted);
            OriginPool { dialer: dialer.clone(), connections: Vec::new() }
        })
    }

    /// Starts the task that closes idle connections, unless it is running.
    fn sweep_later(self: &Rc<Self>) {
        if self.sweeping.replace(true) {
            return;
        }
        let pools = Rc::downgrade(self);
        let wanted = self.wanted.clone();
        tokio::task::spawn_local(async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(SWEEP) => {}
                    () = wanted.notified() => {}
                }
                let Some(pools) = pools.upgrade() else { return };
                if pools.sweep() {
                    pools.sweeping.set(false);
                    return;
                }
            }
        });
    }

    /// Drops connections that were idle for too long or closed by the upstream; true when none is left to check.
    fn sweep(&self) -> bool {
        let mut http1 = self.http1.borrow_mut();
        http1.retain(|_, origin_pool| {
            let OriginPool { dialer, connections } = origin_pool;
            connections.retain_mut(|kept| kept.idle_since.elapsed() < idle_limit(dialer) && kept.is_usable());
            !connections.is_empty()
        });
        let mut http2 = self.http2.borrow_mut();
        http2.retain(|_, origin_pool| {
            let OriginPool { dialer, connections } = origin_pool;
            connections.retain(|kept| {
                let is_kept = |since: Instant| since.elapsed() < idle_limit(dialer);
                !kept.is_closed() && kept.idle_since().is_none_or(is_kept)
            });
            !connections.is_empty()
        });
        // Drops locks that no task waits for.
        self.dialling.borrow_mut().retain(|_, gate| Rc::strong_count(gate) > 1);
        http1.is_empty() && http2.is_empty()
    }
}

impl<'a> LocalWaiter<'a> {
    fn new(pools: &'a Rc<Pools>, dialer: &'a Arc<Dialer>, number: u64) -> Self {
        let (hand, handed) = oneshot::channel();
        pools.waiting.borrow_mut().entry(dialer.id()).or_default().insert(number, hand);
        Self { pools, dialer, number, handed }
    }
}

impl Drop for LocalWaiter<'_> {
    fn drop(&mut self) {
        let mut waiting = self.pools.waiting.borrow_mut();
        if let Some(local) = waiting.get_mut(&self.dialer.id()) {
            local.remove(&self.number);
            if local.is_empty() {
                waiting.remove(&self.dialer.id());
            }
        }
        drop(waiting);
        if let Ok(connection) = self.handed.try_recv() {
            self.pools.put(self.dialer, connection);
        }
    }
}

/// How long an idle connection is kept. While a request waits for a permit, one connection after the other is closed, until there are
/// as many permits as waiters.
fn idle_limit(dialer: &Dialer) -> Duration {
    if dialer.has_waiters() { Duration::ZERO } else { dialer.limits().idle }
}
