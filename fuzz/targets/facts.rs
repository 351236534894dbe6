//! The invariants are stated, and held, in `invariants/facts.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| invariants::facts::check(data));
