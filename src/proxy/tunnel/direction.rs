//! One direction of a WebSocket connection: bytes are read, observed, and passed on, with at most one read's bytes in between.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::websocket::{Interest, MessageReader, Observed};

/// Bytes of one read. A worker has one buffer of this size for all its connections: what the receiver does not take at once is copied.
pub(super) const READ: usize = 64 << 10;

/// One direction of a connection.
#[derive(Debug)]
pub(super) struct Direction {
    reader: MessageReader,
    /// What the receiver has not taken: at most the bytes of one read, and the frames that the gateway adds.
    pending: Vec<u8>,
    sent: usize,
    needs_flush: bool,
    /// Frames that the gateway adds at the next boundary between two frames. Nothing is passed on after them.
    last_words: Option<Vec<u8>>,
    state: State,
    is_shut: bool,
    /// Since when the receiver has taken nothing.
    pub(super) blocked: Option<Instant>,
    /// Bytes that were passed on.
    pub(super) bytes: u64,
}

/// How far a direction has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Bytes pass.
    Open,
    /// What is read is observed and discarded.
    Muted,
    /// The sender has ended.
    Ended,
}

/// What one poll of a direction gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    /// This many bytes were read and passed on, or discarded.
    Bytes(usize),
    /// The sender has ended its side, or its connection failed.
    Ended,
    /// The receiver's connection failed.
    ReceiverGone,
}

impl Direction {
    /// A direction in which nothing has passed.
    pub(super) fn new(interest: Interest) -> Self {
        Self {
            reader: MessageReader::new(interest),
            pending: Vec::new(),
            sent: 0,
            needs_flush: false,
            last_words: None,
            state: State::Open,
            is_shut: false,
            blocked: None,
            bytes: 0,
        }
    }

    /// Number of frames that have ended.
    pub(super) fn frames(&self) -> u64 {
        self.reader.frames()
    }

    /// Whether the sender has ended its side.
    pub(super) fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Whether the receiver's side was ended.
    pub(super) fn is_shut(&self) -> bool {
        self.is_shut
    }

    /// Ends a direction in which nothing passes any more, whatever the sender still sends.
    pub(super) fn finish(&mut self) {
        self.state = State::Ended;
    }

    /// Whether the receiver has everything that it gets.
    pub(super) fn is_finished(&self) -> bool {
        self.is_quiet() && self.state != State::Open
    }

    /// Ends the direction with these frames of the gateway's own, after the frame that is passing. False if there cannot be any: the sender
    /// has ended within a frame, or nothing passes any more.
    pub(super) fn end_with(&mut self, frames: Vec<u8>) -> bool {
        let is_between = self.reader.is_between_frames();
        match self.state {
            State::Ended | State::Open if is_between && !self.is_shut => {
                self.pending.extend_from_slice(&frames);
                self.needs_flush = true;
                if self.state == State::Open {
                    self.state = State::Muted;
                }
                true
            }
            State::Open => {
                self.last_words = Some(frames);
                true
            }
            State::Ended | State::Muted => false,
        }
    }

    /// Passes nothing on any more, also not the rest of a frame.
    pub(super) fn mute(&mut self) {
        if self.state == State::Open {
            self.state = State::Muted;
        }
        (self.pending, self.sent, self.needs_flush) = (Vec::new(), 0, false);
        self.last_words = None;
    }

    /// Reads once from `from`, observes, and passes on to `to`. Pending: the receiver has to take what there is, or nothing has come. If
    /// `observe` gives false, nothing of the read is passed on, and nothing after it.
    pub(super) fn poll_move<F, T>(
        &mut self,
        from: &mut F,
        to: &mut T,
        cx: &mut Context<'_>,
        observe: &mut impl FnMut(Observed<'_>) -> bool,
    ) -> Poll<Moved>
    where
        F: AsyncRead + Unpin,
        T: AsyncWrite + Unpin,
    {
        match self.poll_send(to, cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Poll::Ready(Moved::ReceiverGone),
            Poll::Pending => return Poll::Pending,
        }
        if self.state == State::Ended {
            return self.poll_shut(to, cx);
        }
        with_buffer(|buffer| {
            let mut read = ReadBuf::new(buffer);
            let received = ready!(Pin::new(&mut *from).poll_read(cx, &mut read));
            let bytes = read.filled();
            if received.is_err() || bytes.is_empty() {
                self.state = State::Ended;
                return Poll::Ready(Moved::Ended);
            }
            self.forward(bytes, to, cx, observe);
            Poll::Ready(Moved::Bytes(bytes.len()))
        })
    }

    /// Observes `bytes`, and passes on as much of them as is to be passed on. An error of the receiver is found at the next poll.
    fn forward<T: AsyncWrite + Unpin>(
        &mut self,
        bytes: &[u8],
        to: &mut T,
        cx: &mut Context<'_>,
        observe: &mut impl FnMut(Observed<'_>) -> bool,
    ) {
        let mut may_pass = true;
        let mut on = |seen: Observed<'_>| may_pass &= observe(seen);
        let mut read = 0;
        while let Some(rest) = bytes.get(read..).filter(|rest| !rest.is_empty()) {
            if self.last_words.is_some() && self.reader.is_between_frames() {
                break;
            }
            read += self.reader.read_frame(rest, &mut on);
        }
        if !may_pass {
            self.mute();
        }
        if self.state != State::Open {
            return;
        }
        let passed = bytes.get(..read).unwrap_or_default();
        self.bytes += passed.len() as u64;
        let taken = write_now(passed, to, cx);
        self.needs_flush = true;
        self.pending.extend_from_slice(passed.get(taken..).unwrap_or_default());
        if self.reader.is_between_frames()
            && let Some(frames) = self.last_words.take()
        {
            self.pending.extend_from_slice(&frames);
            self.state = State::Muted;
        }
    }

    /// Whether everything was written and flushed.
    fn is_quiet(&self) -> bool {
        self.sent == self.pending.len() && !self.needs_flush
    }

    /// Writes and flushes what is pending.
    fn poll_send<T: AsyncWrite + Unpin>(&mut self, to: &mut T, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_quiet() {
            return Poll::Ready(Ok(()));
        }
        while let Some(rest) = self.pending.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match Pin::new(&mut *to).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    self.sent += written;
                    self.blocked = None;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.blocked.get_or_insert_with(Instant::now);
                    return Poll::Pending;
                }
            }
        }
        // An idle connection keeps no buffer.
        (self.pending, self.sent) = (Vec::new(), 0);
        match Pin::new(&mut *to).poll_flush(cx) {
            Poll::Ready(flushed) => {
                flushed?;
                self.needs_flush = false;
                self.blocked = None;
                Poll::Ready(Ok(()))
            }
            Poll::Pending => {
                self.blocked.get_or_insert_with(Instant::now);
                Poll::Pending
            }
        }
    }

    /// Ends the receiver's side too.
    fn poll_shut<T: AsyncWrite + Unpin>(&mut self, to: &mut T, cx: &mut Context<'_>) -> Poll<Moved> {
        if !self.is_shut {
            let shut = ready!(Pin::new(&mut *to).poll_shutdown(cx));
            self.is_shut = true;
            if shut.is_err() {
                return Poll::Ready(Moved::ReceiverGone);
            }
        }
        Poll::Pending
    }
}

/// How many of the bytes the receiver takes at once.
fn write_now<T: AsyncWrite + Unpin>(bytes: &[u8], to: &mut T, cx: &mut Context<'_>) -> usize {
    let mut taken = 0;
    while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
        match Pin::new(&mut *to).poll_write(cx, rest) {
            Poll::Ready(Ok(written)) if written > 0 => taken += written,
            _ => break,
        }
    }
    taken
}

/// Runs `read` with the worker's buffer.
fn with_buffer<T>(read: impl FnOnce(&mut [u8]) -> T) -> T {
    use std::cell::RefCell;
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    BUFFER.with_borrow_mut(|buffer| {
        buffer.resize(READ, 0);
        read(buffer)
    })
}
