//! Attacks over raw sockets: what a hostile caller writes, what it gets for that, and that nobody else suffers.

mod fairness;
mod floods;
mod frames;
mod held;
mod http2;
mod pseudo;
mod tap;
mod tls;
