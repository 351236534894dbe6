//! The gateway under attack, byte by byte: callers who smuggle, flood, drip and hoard, upstreams that lie, a machine that runs out; what a hostile
//! caller gets for it, what reaches an upstream, and that nobody else suffers.

mod conformance;
mod fairness;
mod floods;
mod frames;
mod held;
mod hopeless;

mod http2;
mod machine;
mod pseudo;
mod recorder;
mod slow;
mod smuggling;
mod strict;
mod tap;
mod tls;
mod upstream;
mod windows;
