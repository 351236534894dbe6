//! The upstream side: how connections to targets are made, kept, and used.
//!
//! A [`Dialer`] makes connections for one connect identity (scheme, host, port, TLS, proxy). It is part of a Snapshot and carried
//! to the next one. [`Pools`] keep the idle connections of one worker and never leave its thread.
//!
//! The state of targets and keys (a [`TargetState`] and a [`WaitQueue`](crate::wait_queue::WaitQueue) of connections for each target, the cooldowns and the queue of a [`KeyRing`],
//! the retry [`Budget`]) belongs to the process, not to a worker, and outlives reloads.
//!
//! HTTP/1.1 is spoken by [`http1`], without a task of its own: the task that waits for a response writes the request and reads the response. No frame crosses a task, all
//! frames of one read go out in one write, and dropping the response closes the connection at once. An HTTP/2 connection is
//! shared by its streams and therefore has a task.

mod account;
mod affinity;
mod answer;
mod budget;
mod connection;
mod dialer;
mod evidence;
mod health;
mod http1;
mod http2;
mod io;
mod key_queue;
mod key_ring;
mod key_state;
mod pool;
mod quota;
mod resolver;
mod rotation;
mod tls;
mod usage_support;

pub use account::Account;
pub use affinity::Affinity;
pub use answer::{Answer, AnswerBody, BodyError, UpgradeError, upgrade};
pub use budget::{Budget, BudgetPermit};
pub use connection::{Connection, Delivery, SendError};
pub use dialer::{DialError, Dialer, DialerOptions, Egress, PoolLimits};
pub use evidence::{CallerHash, Failure, RequestHash};
pub use health::{BreakerPolicy, Circuit, TargetPermit, TargetState};
pub use http1::Http1Error;
pub use io::Io;
pub use key_ring::{Key, KeyPermit, KeyRing, Pick, Turn};
pub use key_state::{Cooldown, CooldownReason, KeyFailure, Noted};
pub use pool::Pools;
pub use quota::{Quota, QuotaLeft};
pub use rotation::Rotation;
pub use tls::bind_sessions;
pub use usage_support::UsageSupport;
