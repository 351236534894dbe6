//! The gateway's front door: sockets are bound, connections accepted in one place and handed to the least loaded worker,
//! which shakes hands (PROXY protocol, TLS), finds out the protocol and lets hyper serve HTTP/1.1 or HTTP/2; in the end all are
//! drained.
//!
//! ```text
//! bind ─→ accept ─→ worker ─→ serve ─→ open   socket options, PROXY header, TLS, which protocol
//! (sockets) (1 thread) (N threads)  │
//!                                   ├──→ drive   polls hyper; tells the Link; clock: one timer; roster: the drain
//!                                   │      io    the socket under hyper (and under TLS); tells the Link
//!                                   └──→ linger  after an early answer to an upload
//! ```
//!
//! What hyper refuses by itself, and what never becomes a request, is counted by class in [`Counters`]; everything after a
//! request's head is the proxy's.

mod accept;
mod bind;
mod clock;
mod counters;
mod drive;
mod executor;
mod inherit;
mod io;
mod linger;
mod listening;
mod open;
mod proxy_handler;
mod proxy_header;
mod registry;
mod serve;
mod syn_filter;
#[cfg(test)]
mod tests;
mod upgrade;
mod worker;
mod workers;

pub use bind::{BindError, Socket, bind};
pub use counters::Counters;
pub use inherit::Inherited;
pub use listening::{Listening, Lost, StartError, start};
pub use workers::{WorkerView, Workers};
