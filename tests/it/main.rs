//! The gateway as callers and upstreams see it: real sockets on both sides, the whole program between.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap is a failed test")]
#![expect(unreachable_pub, reason = "a test binary exports nothing")]

mod endings;
mod exactness;
mod harness;
mod routing;
mod silence;
mod smoke;
mod streaming;
mod truncation;
