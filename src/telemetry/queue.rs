//! The bounded queue of log lines in front of an output that may stall.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use super::{
    clock,
    history::History,
    pairs::{Pairs, key},
};
use crate::config::LogFormat;

/// Default limit in bytes of queued lines.
pub const DEFAULT_BOUND: usize = 8 << 20;

/// The writer waits this long for more lines before it writes. Under load this makes one wake-up and one write for many lines.
const GATHER: Duration = Duration::from_millis(5);
/// Pause before the writer retries a full non-blocking output.
const AGAIN: Duration = Duration::from_millis(10);
/// Limit of the lines in [`Queue::tail`].
const TAIL: usize = 500;
/// Capacity in bytes above which a buffer is freed after a burst.
const KEPT: usize = 256 << 10;

/// Queues lines for one output. Clones share the queue; when the last clone is dropped, the writer writes the remaining lines and ends.
///
/// [`Queue::push`] copies the line into a buffer under a short lock and returns. The queue's thread swaps that buffer for an
/// empty one and writes it as a whole. Queued bytes and bytes being written count against the limit together. A line that does
/// not fit is dropped and counted, and a separate line reports the number as soon as the output accepts lines again. A failed
/// write loses its lines, which are counted too; later lines are written again.
#[derive(Debug, Clone)]
pub struct Queue {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Wakes the writer.
    work: Condvar,
    /// Wakes callers of `flush`.
    settled: Condvar,
    bound: usize,
    dropped: AtomicU64,
    tail: History,
}

#[derive(Debug, Default)]
struct State {
    /// Whole lines, each with its line feed.
    waiting: Vec<u8>,
    /// Number of bytes that the writer has taken and not finished.
    writing: usize,
    /// Number of dropped lines that were not reported yet.
    unreported: u64,
    /// Whether the last write failed: nothing is reported until another line is queued.
    failing: bool,
    /// Whether the writer sleeps until it is woken.
    asleep: bool,
    /// Whether a flush is waiting: the writer then writes at once.
    urgent: bool,
    closed: bool,
}

impl Queue {
    /// Starts a queue of at most `bound` bytes in front of `out`, and its thread. `format` applies to the line that reports
    /// dropped lines.
    ///
    /// If no thread can be started, the queue accepts lines until it is full, and drops (and counts) all others.
    pub fn start(out: Box<dyn Write + Send>, bound: usize, format: LogFormat) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            settled: Condvar::new(),
            bound,
            dropped: AtomicU64::new(0),
            tail: History::of(TAIL),
        });
        let writer = Writer { shared: shared.clone(), out, format, torn: false };
        let _detached = thread::Builder::new().name("log".into()).spawn(move || writer.run());
        Self { handle: Arc::new(Handle { shared }) }
    }

    /// Starts a queue of [`DEFAULT_BOUND`] bytes in front of the standard output.
    ///
    /// # Errors
    /// When the process has no standard output.
    pub fn stdout(format: LogFormat) -> io::Result<Self> {
        // std's handle would scan for line feeds again and share its lock with `print!`.
        let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self::start(Box::new(out), DEFAULT_BOUND, format))
    }

    /// Adds a line, given without its line feed. Never waits for the output; drops the line when there is no room.
    pub fn push(&self, line: &[u8]) {
        let shared = &self.handle.shared;
        let mut state = shared.lock();
        if state.waiting.len() + state.writing + line.len() >= shared.bound {
            state.unreported += 1;
            shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.waiting.extend_from_slice(line);
        state.waiting.push(b'\n');
        let wake = std::mem::take(&mut state.asleep);
        drop(state);
        if wake {
            shared.work.notify_one();
        }
    }

    /// The number of dropped lines since the start.
    pub fn dropped(&self) -> u64 {
        self.handle.shared.dropped.load(Ordering::Relaxed)
    }

    /// The last lines, for an operator who looks. None are kept unless [`History::keep_all`] asks for them.
    pub fn tail(&self) -> &History {
        &self.handle.shared.tail
    }

    /// Waits at most `timeout` until everything is written, and returns whether it was. Blocks: call it only at the end of the
    /// process.
    pub fn flush(&self, timeout: Duration) -> bool {
        let shared = &self.handle.shared;
        let mut state = shared.lock();
        state.urgent = true;
        shared.work.notify_one();
        let waited = shared.settled.wait_timeout_while(state, timeout, |state| !state.is_settled());
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.urgent = false;
        state.is_settled()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_one();
    }
}

impl Shared {
    /// Locks the state. No code panics while it holds the lock, and a poisoned lock is ignored so that lines are not lost.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for lines, swaps them into `chunk`, and returns the number of dropped lines to report; `None` when the queue is
    /// closed and empty.
    fn take(&self, chunk: &mut Vec<u8>) -> Option<u64> {
        let mut state = self.lock();
        while !state.has_work() {
            if state.closed {
                return None;
            }
            state.asleep = true;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.asleep = false;
        }
        let gather = |state: &mut State| !state.urgent && !state.closed;
        (state, _) =
            self.work.wait_timeout_while(state, GATHER, gather).unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut state.waiting, chunk);
        state.writing = chunk.len();
        Some(std::mem::take(&mut state.unreported))
    }

    /// Keeps the lines of `chunk` for operators, if one looks.
    fn show(&self, chunk: &[u8]) {
        if self.tail.keeps_all() {
            let lines = chunk.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            lines.for_each(|line| self.tail.push(line, false));
        }
    }

    /// Notes that the chunk has been handled. `lost` of its lines did not reach the output, and `unreported` dropped lines are
    /// still to be reported.
    fn finish(&self, failing: bool, lost: u64, unreported: u64) {
        self.dropped.fetch_add(lost, Ordering::Relaxed);
        let mut state = self.lock();
        state.writing = 0;
        state.failing = failing;
        state.unreported += lost + unreported;
        if state.is_settled() {
            self.settled.notify_all();
        }
    }
}

impl State {
    fn has_work(&self) -> bool {
        !self.waiting.is_empty() || (self.unreported > 0 && !self.failing)
    }

    fn is_settled(&self) -> bool {
        self.writing == 0 && !self.has_work()
    }
}

/// The state of the writer's thread.
struct Writer {
    shared: Arc<Shared>,
    out: Box<dyn Write + Send>,
    format: LogFormat,
    /// Whether a failed write left an unfinished line behind.
    torn: bool,
}

impl Writer {
    fn run(mut self) {
        let mut chunk = Vec::new();
        while let Some(unreported) = self.shared.take(&mut chunk) {
            self.shared.show(&chunk);
            self.write(&mut chunk, unreported);
            chunk.clear();
            chunk.shrink_to(KEPT);
        }
    }

    fn write(&mut self, chunk: &mut Vec<u8>, unreported: u64) {
        let lines = chunk.len();
        if unreported > 0 {
            tell(unreported, self.format, chunk);
        }
        let (written, result) = self.put(chunk);
        let (lost, unreported) = match &result {
            Ok(()) => (0, 0),
            Err(_) => (line_feeds(chunk.get(written..lines).unwrap_or_default()), unreported),
        };
        self.torn = match written.checked_sub(1) {
            Some(last) => chunk.get(last) != Some(&b'\n'),
            None => self.torn,
        };
        self.shared.finish(result.is_err(), lost, unreported);
    }

    /// Writes all of `chunk`, after ending a line that an earlier failure truncated. Returns the number of bytes written.
    fn put(&mut self, chunk: &[u8]) -> (usize, io::Result<()>) {
        if self.torn {
            if let (0, Err(error)) = put_all(&mut *self.out, b"\n") {
                return (0, Err(error));
            }
            self.torn = false;
        }
        let (written, result) = put_all(&mut *self.out, chunk);
        (written, result.and_then(|()| self.out.flush()))
    }
}

/// Like `write_all`, but returns the number of bytes written, and retries an output that is non-blocking.
fn put_all(out: &mut dyn Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match out.write(rest) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(AGAIN),
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

fn tell(dropped: u64, format: LogFormat, out: &mut Vec<u8>) {
    let mut pairs = Pairs::begin(out, format);
    pairs.plain(key!("time"), &clock::stamp(SystemTime::now()));
    pairs.plain(key!("kind"), b"message");
    pairs.plain(key!("level"), b"warn");
    pairs.text(key!("target"), module_path!());
    pairs.text(key!("message"), "log lines were dropped");
    pairs.number(key!("dropped"), dropped);
    pairs.end();
    out.push(b'\n');
}

fn line_feeds(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

#[cfg(test)]
pub(super) mod tests;
