//! The invariants are stated, and held, in `invariants/coding.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| invariants::coding::check(data));
