//! Bodies on their way up, and the upstream connections beneath.

mod connections;
mod early;
mod native;
mod ranges;
mod spooled;
mod uploads;

use aws_lc_rs::digest;

/// SHA-256 as a record has it.
fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest::digest(&digest::SHA256, bytes).as_ref().try_into().unwrap()
}
