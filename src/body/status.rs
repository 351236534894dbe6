//! What an open exchange shows of itself: to operators, and to the parts that decide how it ended.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
    time::Instant,
};

use crate::{fault::Phase, telemetry::ids::RequestId};

/// What an exchange is.
#[derive(Debug, Clone)]
pub struct About {
    /// Its id, as in the access line and in the response.
    pub request_id: RequestId,
    /// When its request came.
    pub start: Instant,
    /// `[client.NAME]`, once known.
    pub caller: Option<Arc<str>>,
    /// `[route.NAME]`, once known.
    pub route: Option<Arc<str>>,
}

/// An exchange that is open now.
#[derive(Debug, Clone)]
pub struct OpenExchange {
    /// What it is.
    pub about: About,
    /// Data frames of the response that hyper was given so far.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What an exchange is and how far it has come.
#[derive(Debug)]
pub struct Status {
    about: RefCell<Option<About>>,
    phase: Cell<Phase>,
    /// The phase in which the client left, though the exchange goes on.
    left: Cell<Option<Phase>>,
    /// Whether the response's head went out before there was a response.
    early: Cell<bool>,
    /// Frames and bytes of the response that hyper was given for a client that was still there.
    frames: Cell<u64>,
    bytes: Cell<u64>,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            about: RefCell::default(),
            phase: Cell::new(Phase::Request),
            left: Cell::default(),
            early: Cell::default(),
            frames: Cell::default(),
            bytes: Cell::default(),
        }
    }
}

impl Status {
    /// Says what the exchange is; called again when more is known.
    pub fn introduce(&self, about: About) {
        *self.about.borrow_mut() = Some(about);
    }

    /// How far the exchange has come.
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Notes that the exchange has come to `phase`.
    pub fn enter(&self, phase: Phase) {
        self.phase.set(phase);
    }

    /// Notes that the client has left while the upstream's response is read on. The first call counts.
    pub fn leave(&self) {
        if self.left.get().is_none() {
            self.left.set(Some(self.phase.get()));
        }
    }

    /// The phase in which the client left an exchange that goes on.
    pub fn left(&self) -> Option<Phase> {
        self.left.get()
    }

    /// Notes that the head of a response goes out before its content is known.
    pub fn commit_early(&self) {
        self.early.set(true);
    }

    /// Whether a head went out early.
    pub fn is_early(&self) -> bool {
        self.early.get()
    }

    /// Frames and bytes of the response that hyper was given.
    pub fn given(&self) -> (u64, u64) {
        (self.frames.get(), self.bytes.get())
    }

    pub(super) fn open_exchange(&self) -> Option<OpenExchange> {
        let about = self.about.borrow().clone()?;
        Some(OpenExchange { about, frames: self.frames.get(), bytes: self.bytes.get() })
    }

    pub(super) fn count_frame(&self, bytes: usize) {
        if self.left.get().is_none() {
            self.frames.set(self.frames.get() + 1);
            self.bytes.set(self.bytes.get() + bytes as u64);
        }
    }
}
