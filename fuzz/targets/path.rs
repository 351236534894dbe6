//! The invariants are stated, and held, in `invariants/path.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| invariants::path::check(data));
