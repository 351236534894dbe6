//! Upstreams that fail, and what the caller gets all the same: each row says what the caller saw, what each upstream saw, and what the
//! log says.

mod account;
mod attempts;
mod balanced;
mod breaker;
mod classes;
mod connections;
mod cooldowns;
mod drained;
mod early;
mod error_forms;
mod heartbeat;
mod held;
mod kept;
mod key_streams;
mod late;
mod models;
mod operations;
mod queued;
pub mod rig;
mod schedules;
mod table;
mod told;
mod unreadable;
mod waiting;
mod whole;
