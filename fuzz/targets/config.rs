//! The invariants are stated, and held, in `invariants/config.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| invariants::config::check(data));
