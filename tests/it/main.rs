//! Tests of the program as it is run: its processes, its sockets, and clients that know nothing of its insides.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what fails here fails a test; only test functions themselves are exempt in clippy.toml"
)]

mod sdk;
