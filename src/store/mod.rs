//! State that several gateways share, in Redis or Valkey. Nothing else speaks to these servers.
//!
//! - [`Store`]: one connection for the whole process, which a thread of its own makes and watches. It runs scripts.
//! - [`Script`] and [`ScriptCall`]: what is run, on which keys.
//! - [`Running`]: a call that has been sent. Nobody has to wait for it. [`StoreWait`]: how long one request has waited.
//!
//! **No request waits for a connection.** While there is none, [`Store::begin`] says so at once. A connection is given up when three calls in
//! a row took longer than `redis.timeout`, when the server says that it cannot serve (`READONLY`, `LOADING`, `OOM` …), when it is no longer the master, or when it
//! breaks. The thread then makes another one, every half to whole second, and publishes it only if the server is a master and has executed the
//! probes, which write, and one of them within the time that a call may take.

mod breaker;
mod connection;
mod keeper;
mod script_call;
mod sentinel;
mod statistics;
mod store_wait;
mod trouble;

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    thread::{Builder, JoinHandle},
    time::Duration,
};

use tokio::{
    runtime::{self, Handle},
    sync::{oneshot, watch},
};

use crate::config;
use breaker::Session;
pub use connection::check;
use keeper::Keeper;
pub use script_call::{Running, Script, ScriptCall};
pub use statistics::Statistics;
pub use store_wait::StoreWait;
pub use trouble::{CallError, Trouble};

/// How long the thread may take to end: what is queued is sent before.
const LAST_CALLS: Duration = Duration::from_secs(1);

/// A connection to the servers that share state. Dropping it ends its thread.
#[derive(Debug)]
pub struct Store {
    link: Arc<Published>,
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread of a [`Store`] and its users share.
#[derive(Debug)]
struct Published {
    /// The connection that calls are sent over, while there is one.
    current: Mutex<Option<Arc<Session>>>,
    state: watch::Sender<State>,
    statistics: Statistics,
    /// How long a call may take.
    timeout: Duration,
}

/// Whether calls are possible.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// The number of the connection: each is higher than the one before. `None`: there is none.
    pub session: Option<u32>,
    /// The server's own identity; `None`: unknown, so it may be another one than before.
    pub server: Option<Arc<str>>,
    /// The reply to the probe.
    pub probe: Arc<[u8]>,
    /// Why there is no connection.
    pub trouble: Option<Trouble>,
}

impl Store {
    /// Starts to connect to the servers of `settings`. On each connection, `probe` and then `more` are run before any other call. The
    /// reply to `probe` is a part of [`State`].
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(settings: &config::Redis, probe: ScriptCall, more: Vec<ScriptCall>) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let link = Arc::new(Published {
            current: Mutex::default(),
            state: watch::Sender::default(),
            statistics: Statistics::default(),
            timeout: settings.timeout,
        });
        let keeper = Keeper::new(settings.clone(), probe, more, link.clone());
        let (stop, stopped) = oneshot::channel();
        let thread = Builder::new().name("redis".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    never = keeper.run() => match never {},
                    _ = stopped => {}
                }
            });
            runtime.shutdown_timeout(LAST_CALLS);
        })?;
        Ok(Self { link, runtime: handle, stop: Some(stop), thread: Some(thread) })
    }

    /// Sends a call. It goes on if the returned value is dropped, but then nobody learns its result.
    ///
    /// # Errors
    /// There is no connection.
    pub fn begin(&self, call: ScriptCall) -> Result<Running, CallError> {
        let session = self.link.current().ok_or(CallError::Away)?;
        Ok(Running::new(session, call, self.runtime.clone()))
    }

    /// Runs `future` on the store's thread.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(future);
    }

    /// Where this store's thread runs.
    pub fn runtime(&self) -> Handle {
        self.runtime.clone()
    }

    /// Whether calls are possible, and each change of that.
    pub fn state(&self) -> watch::Receiver<State> {
        self.link.state.subscribe()
    }

    /// What has been counted.
    pub fn statistics(&self) -> &Statistics {
        &self.link.statistics
    }

    /// How long a call may take.
    pub fn timeout(&self) -> Duration {
        self.link.timeout
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.stop.take();
        // A store that is dropped on its own thread cannot wait for it.
        let Some(thread) = self.thread.take().filter(|_| Handle::try_current().is_err()) else { return };
        let _ = thread.join();
    }
}

impl Published {
    fn current(&self) -> Option<Arc<Session>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes `session` the one that calls are sent over, or none.
    fn publish(&self, session: Option<Arc<Session>>, state: State) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = session;
        self.state.send_replace(state);
    }

    /// Takes `session` out of use, unless another one already is in its place.
    fn retire(&self, number: u32) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|session| session.number == number) {
            *current = None;
        }
    }
}
