//! How an exchange ended: who ended it, in which phase.
//!
//! The idea is HAProxy's termination state (its configuration manual, "Session state at disconnection"): the pair tells an
//! operator where to look, for every request, also for those where nothing failed.

/// Who ended an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Who {
    /// The caller: by disconnecting, or by what it sent.
    Downstream,
    /// The upstream: by finishing its answer, or by failing to.
    Upstream,
    /// The gateway: by a limit, a refusal of its own, a drain.
    Gateway,
}

/// How far an exchange had come when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Route, caller, request head.
    Request,
    /// Reading the request's body.
    Intake,
    /// Waiting in the queue of a limit.
    Queue,
    /// Connecting to the upstream.
    Connect,
    /// Waiting before the next attempt.
    Backoff,
    /// Waiting for the upstream's response: for its head, and for as much of its body as decides whether the client gets it.
    FirstByte,
    /// The client is being given the upstream's answer.
    Stream,
    /// The answer was whole.
    Done,
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Outcome {
    /// Who ended it.
    pub who: Who,
    /// In which phase.
    pub phase: Phase,
    /// The fault's code or the special way it ended; `None` when nothing failed.
    pub fault: Option<&'static str>,
}

impl Outcome {
    /// The upstream's answer reached the caller whole.
    pub const COMPLETE: Self = Self { who: Who::Upstream, phase: Phase::Done, fault: None };

    /// The caller left in `phase`, before the answer was whole.
    pub fn left(phase: Phase) -> Self {
        Self { who: Who::Downstream, phase, fault: Some("caller_left") }
    }
}

impl Who {
    /// For logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Downstream => "downstream",
            Self::Upstream => "upstream",
            Self::Gateway => "gateway",
        }
    }
}

impl Phase {
    /// For logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Intake => "intake",
            Self::Connect => "connect",
            Self::Queue => "queue",
            Self::Backoff => "backoff",
            Self::FirstByte => "first_byte",
            Self::Stream => "stream",
            Self::Done => "done",
        }
    }
}
