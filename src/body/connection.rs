//! What the parts of one downstream connection tell one another: its I/O, its driver, and the exchanges on it.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use tokio::task::{self, AbortHandle};

use super::ExchangeHandle;

/// One downstream connection, seen from within its worker's thread.
///
/// Three parties hold it. The **I/O** under hyper reports reads, writes and flushes. The **driver**, the task that polls
/// hyper's connection, reads from it which clock runs and tells when everything written has left. The **exchanges** (one
/// at a time on HTTP/1.1, up to the stream limit on HTTP/2) register their [`ExchangeHandle`]s and wait for their last bytes to leave.
#[derive(Debug, Default)]
pub struct ConnectionState {
    driver: RefCell<Option<Waker>>,
    handles: RefCell<Vec<Rc<ExchangeHandle>>>,
    /// Exchanges that are over, while h2 still holds their last bytes; no more than there are streams.
    departing: RefCell<Vec<Rc<ExchangeHandle>>>,
    /// Bytes were given to the I/O and not yet followed by a successful flush.
    dirty: Cell<bool>,
    /// Since when a write or flush has been waiting for the caller.
    blocked: Cell<Option<Instant>>,
    /// Since when no exchange has been open.
    idle: Cell<Option<Instant>>,
    /// Since when a request head has been arriving.
    head: Cell<Option<Instant>>,
    /// When hyper last asked for bytes it was given some: it may hold what it has not parsed.
    unparsed: Cell<bool>,
    exchanges: Cell<u64>,
    /// How often the I/O took bytes.
    writes: Cell<u64>,
    /// The tasks of HTTP/2 streams; no more than the stream limit and those that are just ending.
    tasks: RefCell<HashMap<task::Id, AbortHandle>>,
    flush: RefCell<FlushWaiters>,
    reset_on_close: Cell<bool>,
    unread_body: Cell<bool>,
}

/// The exchanges that wait until the connection has written all it had; no more than there are streams.
#[derive(Debug, Default)]
struct FlushWaiters {
    /// How often the driver found everything written.
    generation: u64,
    wakers: Vec<Waker>,
}

impl ConnectionState {
    /// A connection that has just been accepted, at `now`.
    pub fn new(now: Instant) -> Rc<Self> {
        let link = Self::default();
        link.idle.set(Some(now));
        Rc::new(link)
    }

    /// The handshake is over: from `now` on the clocks are those of HTTP.
    pub fn ready(&self, now: Instant) {
        self.idle.set(Some(now));
        self.head.set(None);
    }

    // What the I/O reports.

    /// Bytes came from the caller.
    pub fn read(&self) {
        if self.idle.get().is_some() && self.head.get().is_none() {
            self.head.set(Some(Instant::now()));
        }
    }

    /// hyper asked for bytes, and was `given` some or has to wait.
    pub fn asked(&self, given: bool) {
        self.unparsed.set(given);
    }

    /// The I/O took bytes; they are not flushed yet.
    pub fn wrote(&self) {
        self.dirty.set(true);
        self.blocked.set(None);
        self.writes.set(self.writes.get().wrapping_add(1));
    }

    /// A write or flush has to wait for the caller.
    pub fn write_blocked(&self) {
        if self.blocked.get().is_none() {
            self.blocked.set(Some(Instant::now()));
        }
    }

    /// All that the I/O took has left it.
    pub fn flushed(&self) {
        self.dirty.set(false);
        self.blocked.set(None);
    }

    /// Whether closing must be a TCP reset, because the answer's end is the connection's end and the answer is not whole.
    pub fn reset_on_close(&self) -> bool {
        self.reset_on_close.get()
    }

    // What the driver asks.

    /// Remembers how to wake the driver; called at each of its polls.
    pub fn driven_by(&self, waker: &Waker) {
        let mut slot = self.driver.borrow_mut();
        match &mut *slot {
            Some(known) => known.clone_from(waker),
            None => *slot = Some(waker.clone()),
        }
    }

    /// Has the driver look at its connection; whoever changes what it goes by calls this.
    pub fn wake_driver(&self) {
        if let Some(driver) = &*self.driver.borrow() {
            driver.wake_by_ref();
        }
    }

    /// The driver has polled hyper's connection until it was pending: if everything written has left the I/O, those who wait for
    /// that are told. hyper's HTTP/1.1 writes what it has before it becomes pending, so nothing is left inside it then. On
    /// HTTP/2 this holds only for what the peer's flow-control windows let through: see [`Flush`].
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

    /// Since when the caller has not taken what waits for it.
    pub fn blocked_since(&self) -> Option<Instant> {
        self.blocked.get()
    }

    /// Since when no exchange has been open and no part of a new request has come.
    pub fn idle_since(&self) -> Option<Instant> {
        self.idle.get()
    }

    /// Since when a request head has been arriving, while no exchange is open.
    pub fn head_since(&self) -> Option<Instant> {
        self.idle.get().and(self.head.get())
    }

    /// Exchanges begun on this connection.
    pub fn exchanges(&self) -> u64 {
        self.exchanges.get()
    }

    /// Changes whenever the caller's side has taken bytes.
    pub fn writes(&self) -> u64 {
        self.writes.get()
    }

    /// A task of this connection's own (an HTTP/2 stream) was started; see [`ConnectionState::own_task`].
    pub fn task_started(&self, handle: AbortHandle) {
        self.tasks.borrow_mut().insert(handle.id(), handle);
    }

    /// How many such tasks there are.
    pub fn tasks(&self) -> usize {
        self.tasks.borrow().len()
    }

    /// The task that calls this is over.
    pub fn own_task_ended(&self) {
        if let Some(id) = task::try_id() {
            self.tasks.borrow_mut().remove(&id);
        }
    }

    /// Whether an answer went out before its request's body was read to the end, so that bytes of it may still come.
    pub fn unread_body(&self) -> bool {
        self.unread_body.get()
    }

    /// The exchanges that are open now.
    pub fn handles(&self) -> Vec<Rc<ExchangeHandle>> {
        self.handles.borrow().clone()
    }

    /// Whether the last bytes of exchanges that are over still wait to be taken.
    pub fn departs(&self) -> bool {
        let mut departing = self.departing.borrow_mut();
        departing.retain(|handle| handle.progress.is_held());
        !departing.is_empty()
    }

    /// Whether one of those has waited for `stall`.
    pub fn departs_in_vain(&self, now: Instant, stall: Duration) -> bool {
        self.departs() && self.departing.borrow().iter().any(|handle| handle.progress.is_stalled(now, stall))
    }

    /// Whether any exchange is open.
    pub fn busy(&self) -> bool {
        !self.handles.borrow().is_empty()
    }

    // What the exchanges ask and tell.

    /// The handle of the task that calls this, if it is one of the connection's own and not the driver: for [`super::Abort::runs_in`].
    pub fn own_task(&self) -> Option<AbortHandle> {
        self.tasks.borrow().get(&task::try_id()?).cloned()
    }

    /// An exchange begins: from here to [`ConnectionState::close`] its clocks run instead of the connection's.
    pub fn open(&self, handle: Rc<ExchangeHandle>) {
        self.idle.set(None);
        self.head.set(None);
        self.exchanges.set(self.exchanges.get() + 1);
        self.handles.borrow_mut().push(handle);
    }

    /// The exchange is over, however it ended.
    pub fn close(&self, handle: &Rc<ExchangeHandle>) {
        let mut handles = self.handles.borrow_mut();
        if let Some(at) = handles.iter().position(|open| Rc::ptr_eq(open, handle)) {
            let over = handles.swap_remove(at);
            if over.progress.is_held() {
                let mut departing = self.departing.borrow_mut();
                // Here too, because on HTTP/1.1 nobody asks whether any departs, and the connection may go on for days.
                departing.retain(|handle| handle.progress.is_held());
                departing.push(over);
            }
        }
        if handles.is_empty() {
            let now = Instant::now();
            self.idle.set(Some(now));
            // While an exchange is open hyper's HTTP/1.1 asks as soon as it holds nothing, and not before: for more of the body, or to see
            // whether the caller has left. If it did not ask in vain, it holds the beginning of the next request, or a whole one, which it
            // opens in a moment.
            self.head.set(self.unparsed.get().then_some(now));
        }
    }

    /// Whether closing the connection must not look like an ordinary end.
    pub fn reset_when_closing(&self, reset: bool) {
        self.reset_on_close.set(reset);
    }

    /// The request's body was not read to its end.
    pub fn leave_body_unread(&self) {
        self.unread_body.set(true);
    }

    /// Begins to wait until everything written so far has left; see [`Flush::poll`].
    pub fn flush(&self) -> Flush {
        Flush { after: self.flush.borrow().generation, asked: false }
    }
}

/// A wait for the connection to have written all that it had when the wait began.
///
/// On HTTP/2 a frame's rest may wait inside h2 for the stream's window, which this wait does not see: that has to be waited for first,
/// see [`super::Progress::poll_emptied`].
#[derive(Debug)]
pub struct Flush {
    after: u64,
    asked: bool,
}

impl Flush {
    /// Ready when it has. The driver is woken once, since nothing else may happen on the connection.
    pub fn poll(&mut self, link: &ConnectionState, cx: &Context<'_>) -> Poll<()> {
        let mut flush = link.flush.borrow_mut();
        if flush.generation > self.after {
            return Poll::Ready(());
        }
        if !flush.wakers.iter().any(|known| known.will_wake(cx.waker())) {
            flush.wakers.push(cx.waker().clone());
        }
        drop(flush);
        if !self.asked {
            self.asked = true;
            link.wake_driver();
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
        let link = ConnectionState::new(Instant::now());
        let exchange = |_| {
            let handle = Rc::new(ExchangeHandle::default());
            link.open(handle.clone());
            let chunk = Chunk::new(Bytes::from_static(b"the end"), handle.clone());
            // hyper writes an answer's last bytes after it has dropped the body.
            link.close(&handle);
            drop(chunk);
            Rc::downgrade(&handle)
        };
        let over: Vec<Weak<ExchangeHandle>> = (0..100).map(exchange).collect();
        let kept = over.iter().filter(|handle| handle.strong_count() > 0).count();
        assert!(kept <= 1, "{kept} of 100 are kept");
    }
}
