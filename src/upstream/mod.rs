//! The upstream leg: how connections to targets are made, kept, and used.
//!
//! A [`Dialer`] knows how to reach one connect identity (scheme, host, port, TLS, proxy); it is part of a Snapshot and
//! carried to the next one. [`Pools`] keep the idle connections of one worker, and never leave its thread.
//!
//! What is known of how things are going there (a [`TargetState`] and [`ConnectionLimit`] for each target, a [`KeyRing`]'s rests, a [`Budget`] of
//! retries) is the process', not a worker's, and outlives reloads.
//!
//! An HTTP/1.1 connection has no task of its own: whoever waits for its answer polls it. No frame crosses a task, all
//! frames that one read brought go out in one write, and dropping the answer closes the connection at once. An HTTP/2
//! connection is shared by its streams and therefore has a task.

mod affinity;
mod answer;
mod budget;
mod connection_limit;
mod deferred_waker;
mod dialer;
mod health;
mod http1;
mod http2;
mod io;
mod key_ring;
mod pool;

pub use affinity::Affinity;
pub use answer::{Answer, AnswerBody, BodyError, UpgradeError, upgrade};
pub use budget::{Budget, BudgetPermit};
pub use connection_limit::ConnectionLimit;
pub use dialer::{DialError, Dialer, DialerOptions, Egress, PoolLimits};
pub use health::{BreakerPolicy, Circuit, TargetPermit, TargetState};
pub use key_ring::{Cooldown, CooldownReason, Key, KeyRing, Pick, Rotation};
pub use pool::{Connection, Delivery, Pools, SendError};
