//! The invariants are stated, and held, in `invariants/splice.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| invariants::splice::check(data));
