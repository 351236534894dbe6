//! The client side: binds sockets, accepts connections in one place, and hands each to the least loaded worker. The worker does
//! the handshake (PROXY protocol, TLS), detects the protocol and lets hyper serve HTTP/1.1 or HTTP/2. At the end all connections
//! are drained.
//!
//! ```text
//! bind ─→ accept ─→ worker ─→ serve ─→ open   socket options, PROXY header, TLS, which protocol
//! (sockets) (1 thread) (N threads)  │
//!                                   ├──→ drive   polls hyper; reports to ConnectionState; clock: one timer; registry: the drain
//!                                   │      io    the socket under hyper (and under TLS); reports to ConnectionState
//!                                   └──→ linger  after an early response to an upload
//! ```
//!
//! Requests that hyper rejects by itself, and connections that never send one, are counted by class in [`Counters`]. Everything
//! after a request's head is the proxy's.

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
mod plain_http;
mod proxy_handler;
mod proxy_header;
mod registry;
mod serve;
mod survey;
mod syn_filter;
#[cfg(test)]
mod tests;
mod worker;
mod workers;

pub use bind::{BindError, Socket, bind};
pub use counters::Counters;
pub use inherit::Inherited;
pub use listening::{Listening, Lost, StartError, start};
pub use survey::{RouteSurvey, SILENCES, Survey};
pub use workers::{WorkerView, Workers};
