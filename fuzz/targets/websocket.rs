//! The invariants are stated, and held, in `invariants/websocket.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| invariants::websocket::check(data));
