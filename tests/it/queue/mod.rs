//! Requests that wait their turn: who is served next, what ends a wait, and what clients and operators see of it.

mod limits;
mod overload;
pub mod rig;
mod seen;
mod shares;
mod targets;
