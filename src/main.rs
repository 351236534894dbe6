//! The `sluicegate` binary: argv → cli → exit code.
fn main() {}
