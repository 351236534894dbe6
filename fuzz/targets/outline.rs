//! The invariants are stated, and held, in `invariants/outline.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| invariants::outline::check(data));
