//! State shared by the parts of one downstream connection: its I/O, its driver, and the exchanges on it.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use tokio::task::{self, AbortHandle};

use super::{ExchangeHandle, SocketWatch};

/// The shared state of one downstream connection, used only on its worker's thread.
///
/// Three parties hold it. The **I/O** under hyper reports reads, writes and flushes. The **driver**, the task that polls
/// hyper's connection, reads from it which timeout applies and reports when everything written has been flushed. The **exchanges** (one
/// at a time on HTTP/1.1, up to the stream limit on HTTP/2) register their [`ExchangeHandle`]s and wait until their last bytes are flushed.
///
/// Its fields are in this order (`repr(C)`), so that what a frame touches lies together.
#[derive(Debug, Default)]
#[repr(C)]
pub struct ConnectionState {
    driver: RefCell<Option<Waker>>,
    /// The number of the driver's poll that runs, or ran last; 0 on HTTP/2, whose streams have tasks of their own.
    poll: Cell<u64>,
    /// The time, if it was read in the poll that runs.
    time: Cell<Option<Instant>>,
    handles: RefCell<Vec<Rc<ExchangeHandle>>>,
    exchanges: Cell<u64>,
    /// Number of writes that the I/O has taken.
    writes: Cell<u64>,
    /// Number of bytes that the I/O has taken.
    written: Cell<u64>,
    /// Start of the current wait of a write or flush for the client.
    blocked: Cell<Option<Instant>>,
    /// Whether the I/O has taken bytes since the last successful flush.
    dirty: Cell<bool>,
    /// Whether hyper's last read returned bytes: hyper may hold bytes that it has not parsed.
    unparsed: Cell<bool>,
    reset_on_close: Cell<bool>,
    unread_body: Cell<bool>,
    draining: Cell<bool>,
    /// Start of the current period without an open exchange.
    idle: Cell<Option<Instant>>,
    flush: RefCell<FlushWaiters>,
    /// Arrival of the first byte of an incomplete request head.
    head: Cell<Option<Instant>>,
    /// Finished exchanges whose last bytes h2 still holds; bounded by the number of streams.
    ending: RefCell<Vec<Rc<ExchangeHandle>>>,
    socket: RefCell<SocketWatch>,
    /// What the kernel said last, when the socket was closed during an exchange.
    at_close: Cell<Option<Sent>>,
    /// The tasks of HTTP/2 streams; bounded by the stream limit plus the tasks that are just ending.
    tasks: RefCell<HashMap<task::Id, AbortHandle>>,
}

/// What has become of the bytes that the I/O has written to the socket of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Number of bytes that the client's kernel has acknowledged.
    pub taken: u64,
    /// Number of bytes that are in the gateway's kernel, or on the way.
    pub untaken: u64,
}

/// The exchanges that wait until the connection has written everything; bounded by the number of streams.
#[derive(Debug, Default)]
struct FlushWaiters {
    /// Number of times that the driver found everything written.
    generation: u64,
    wakers: Vec<Waker>,
}

impl ConnectionState {
    /// Creates the state of a connection accepted at `now`.
    pub fn new(now: Instant) -> Rc<Self> {
        let connection = Self::default();
        connection.idle.set(Some(now));
        Rc::new(connection)
    }

    /// Notes the end of the handshake: from `now` on the HTTP timeouts apply.
    pub fn ready(&self, now: Instant) {
        self.idle.set(Some(now));
        self.head.set(None);
    }

    // Called by the I/O.

    /// Sets the socket that the I/O writes to.
    pub fn writes_to(&self, socket: SocketWatch) {
        *self.socket.borrow_mut() = socket;
    }

    /// Notes that the socket is about to be closed.
    pub fn closes(&self) {
        if self.busy() {
            self.at_close.set(self.sent());
        }
    }

    /// Notes that bytes arrived from the client.
    pub fn read(&self) {
        if self.idle.get().is_some() && self.head.get().is_none() {
            self.head.set(Some(Instant::now()));
        }
    }

    /// Notes that hyper polled for a read, and was `given` bytes or has to wait.
    pub fn polled_read(&self, given: bool) {
        self.unparsed.set(given);
    }

    /// Notes that the I/O took so many bytes, which are not flushed yet.
    pub fn wrote(&self, bytes: usize) {
        self.written.set(self.written.get().saturating_add(bytes as u64));
        self.dirty.set(true);
        self.blocked.set(None);
        self.writes.set(self.writes.get().wrapping_add(1));
    }

    /// Notes that a write or flush has to wait for the client.
    pub fn write_blocked(&self) {
        if self.blocked.get().is_none() {
            self.blocked.set(Some(Instant::now()));
        }
    }

    /// Notes that everything the I/O took has been flushed.
    pub fn flushed(&self) {
        self.dirty.set(false);
        self.blocked.set(None);
    }

    /// Whether the connection must be closed with a TCP reset, because the end of the connection would mark the end of a response that is
    /// incomplete.
    pub fn reset_on_close(&self) -> bool {
        self.reset_on_close.get()
    }

    // Called by the registry of connections, and read by what has no driver: a connection that has switched protocols.

    /// Notes that the process drains: the connection is to close when its exchanges are over. Those that wait in a queue are woken to leave it.
    pub fn drain(&self) {
        if !self.draining.replace(true) {
            self.handles.borrow().iter().for_each(|handle| handle.abort.wake());
        }
    }

    /// Whether the process drains.
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    // Called by the driver.

    /// Stores the driver's waker; called at each poll of the driver.
    pub fn driven_by(&self, waker: &Waker) {
        let mut slot = self.driver.borrow_mut();
        match &mut *slot {
            Some(known) => known.clone_from(waker),
            None => *slot = Some(waker.clone()),
        }
    }

    /// Notes that the driver is polled on a connection all of whose parts run within its polls (HTTP/1.1).
    pub fn poll_begins(&self) {
        self.poll.set(self.poll.get().wrapping_add(1));
    }

    /// Notes that this poll is over.
    pub fn poll_ends(&self) {
        self.time.set(None);
    }

    /// The number of the poll that runs, for those that run within it; 0 on HTTP/2.
    pub fn poll_number(&self) -> u64 {
        self.poll.get()
    }

    /// Notes what time it is in this poll, which is near enough for the rest of it.
    pub fn note_time(&self, now: Instant) {
        if self.poll.get() != 0 {
            self.time.set(Some(now));
        }
    }

    /// The time, if it was noted in the poll that runs.
    pub fn time(&self) -> Option<Instant> {
        self.time.get()
    }

    /// Wakes the driver. Every change of state that the driver depends on must be followed by this call.
    pub fn wake_driver(&self) {
        if let Some(driver) = &*self.driver.borrow() {
            driver.wake_by_ref();
        }
    }

    /// Notes that the driver has polled hyper's connection until it was pending, and wakes the tasks that wait for a flush if the I/O
    /// has flushed everything. hyper's HTTP/1.1 writes everything it has before it becomes pending, so it holds nothing then. On
    /// HTTP/2 this is true only for bytes that the peer's flow-control windows admit: see [`Flush`].
    pub fn settled(&self) {
        if self.dirty.get() || self.blocked.get().is_some() {
            return;
        }
        let mut flush = self.flush.borrow_mut();
        flush.generation += 1;
        for waker in flush.wakers.drain(..) {
            waker.wake();
        }
    }

    /// Start of the current wait for the client to read pending bytes.
    pub fn blocked_since(&self) -> Option<Instant> {
        self.blocked.get()
    }

    /// Start of the current period without an open exchange.
    pub fn idle_since(&self) -> Option<Instant> {
        self.idle.get()
    }

    /// Arrival of the first byte of an incomplete request head, while no exchange is open.
    pub fn head_since(&self) -> Option<Instant> {
        self.idle.get().and(self.head.get())
    }

    /// Number of exchanges begun on this connection.
    pub fn exchanges(&self) -> u64 {
        self.exchanges.get()
    }

    /// A number that changes whenever the I/O towards the client has taken bytes.
    pub fn writes(&self) -> u64 {
        self.writes.get()
    }

    /// Asks the kernel how many bytes the client has taken, and how many it has not; `None` if that is unknown.
    pub fn sent(&self) -> Option<Sent> {
        let Some(taken) = self.socket.borrow().acknowledged() else { return self.at_close.get() };
        Some(Sent { taken, untaken: self.written.get().saturating_sub(taken) })
    }

    /// Registers a task of this connection (an HTTP/2 stream); see [`ConnectionState::own_task`].
    pub fn task_started(&self, handle: AbortHandle) {
        self.tasks.borrow_mut().insert(handle.id(), handle);
    }

    /// Number of registered tasks.
    pub fn tasks(&self) -> usize {
        self.tasks.borrow().len()
    }

    /// Removes the calling task, which has ended.
    pub fn own_task_ended(&self) {
        if let Some(id) = task::try_id() {
            self.tasks.borrow_mut().remove(&id);
        }
    }

    /// Whether a response was sent before its request body was read to the end, so that bytes of the body may still arrive.
    pub fn unread_body(&self) -> bool {
        self.unread_body.get()
    }

    /// The handles of the open exchanges.
    pub fn handles(&self) -> Vec<Rc<ExchangeHandle>> {
        self.handles.borrow().clone()
    }

    /// Whether h2 still holds the last bytes of a finished exchange.
    pub fn has_unsent_endings(&self) -> bool {
        let mut ending = self.ending.borrow_mut();
        ending.retain(|handle| handle.progress.is_held());
        !ending.is_empty()
    }

    /// Whether the last bytes of a finished exchange have not moved for `stall`.
    pub fn ending_is_stalled(&self, now: Instant, stall: Duration) -> bool {
        self.has_unsent_endings()
            && self.ending.borrow().iter().any(|handle| handle.progress.is_stalled(now, stall))
    }

    /// Number of open exchanges.
    pub fn open_exchanges(&self) -> usize {
        self.handles.borrow().len()
    }

    /// Whether any exchange is open.
    pub fn busy(&self) -> bool {
        !self.handles.borrow().is_empty()
    }

    // Called by the exchanges.

    /// The handle of the calling task for [`super::Abort::runs_in`]; `None` when the caller is the driver or another unregistered task.
    pub fn own_task(&self) -> Option<AbortHandle> {
        self.tasks.borrow().get(&task::try_id()?).cloned()
    }

    /// Registers an exchange that begins. Until [`ConnectionState::close`] its timeouts apply instead of the connection's.
    pub fn open(&self, handle: Rc<ExchangeHandle>) {
        self.idle.set(None);
        self.head.set(None);
        self.exchanges.set(self.exchanges.get() + 1);
        self.handles.borrow_mut().push(handle);
    }

    /// Removes an exchange that is over, however it ended.
    pub fn close(&self, handle: &Rc<ExchangeHandle>) {
        let mut handles = self.handles.borrow_mut();
        if let Some(at) = handles.iter().position(|open| Rc::ptr_eq(open, handle)) {
            let over = handles.swap_remove(at);
            if over.progress.is_held() {
                let mut ending = self.ending.borrow_mut();
                // Repeated here because `has_unsent_endings` is never called on HTTP/1.1, where a connection may last for days.
                ending.retain(|handle| handle.progress.is_held());
                ending.push(over);
            }
        }
        if handles.is_empty() {
            let now = Instant::now();
            self.idle.set(Some(now));
            // While an exchange is open, hyper's HTTP/1.1 reads only when its buffer is empty: for more of the body, or to notice that the
            // client has left. If its last read returned bytes, it holds the beginning of the next request, or a whole request, which it is
            // about to open.
            self.head.set(self.unparsed.get().then_some(now));
        }
    }

    /// Sets whether the connection must be closed with a TCP reset instead of an ordinary end.
    pub fn reset_when_closing(&self, reset: bool) {
        self.reset_on_close.set(reset);
    }

    /// Notes that a request body was not read to its end.
    pub fn leave_body_unread(&self) {
        self.unread_body.set(true);
    }

    /// Begins to wait until everything written so far has been flushed; see [`Flush::poll`].
    pub fn flush(&self) -> Flush {
        Flush { after: self.flush.borrow().generation, driver_woken: false }
    }
}

/// Waits until the connection has written everything that it had when the wait began.
///
/// On HTTP/2 the remainder of a frame may wait inside h2 for the stream's window, which this wait does not see: wait for
/// [`super::Progress::poll_emptied`] first.
#[derive(Debug)]
pub struct Flush {
    after: u64,
    driver_woken: bool,
}

impl Flush {
    /// Returns ready when everything has been written. The first pending poll wakes the driver, since the connection may have no other event.
    pub fn poll(&mut self, connection: &ConnectionState, cx: &Context<'_>) -> Poll<()> {
        let mut flush = connection.flush.borrow_mut();
        if flush.generation > self.after {
            return Poll::Ready(());
        }
        if !flush.wakers.iter().any(|known| known.will_wake(cx.waker())) {
            flush.wakers.push(cx.waker().clone());
        }
        drop(flush);
        if !self.driver_woken {
            self.driver_woken = true;
            connection.wake_driver();
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Weak;

    use bytes::Bytes;

    use super::{super::Chunk, *};

    #[test]
    fn exchanges_that_are_over_are_forgotten_by_a_connection_that_goes_on() {
        let connection = ConnectionState::new(Instant::now());
        let exchange = |_| {
            let handle = Rc::new(ExchangeHandle::default());
            connection.open(handle.clone());
            let chunk = Chunk::new(Bytes::from_static(b"the end"), handle.clone());
            // hyper writes the last bytes of a response after it has dropped the body.
            connection.close(&handle);
            drop(chunk);
            Rc::downgrade(&handle)
        };
        let over: Vec<Weak<ExchangeHandle>> = (0..100).map(exchange).collect();
        let kept = over.iter().filter(|handle| handle.strong_count() > 0).count();
        assert!(kept <= 1, "{kept} of 100 are kept");
    }

    #[test]
    fn the_time_is_known_within_a_poll_only() {
        let now = Instant::now();
        let connection = ConnectionState::new(now);
        connection.note_time(now);
        assert_eq!(
            (connection.poll_number(), connection.time()),
            (0, None),
            "the streams of HTTP/2 have tasks of their own"
        );
        connection.poll_begins();
        assert_eq!(connection.time(), None);
        connection.note_time(now);
        assert_eq!(connection.time(), Some(now));
        let first = connection.poll_number();
        connection.poll_ends();
        assert_eq!(connection.time(), None, "what is polled by another task reads the clock");
        connection.poll_begins();
        assert_ne!(connection.poll_number(), first);
    }
}
