//! The gateway under attack, byte by byte: callers who smuggle, drip and hoard, upstreams that lie, a machine that runs out.

mod machine;
mod recorder;
mod slow;
mod smuggling;
mod strict;
mod upstream;
