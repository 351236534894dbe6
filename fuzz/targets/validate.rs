//! The invariants are stated, and held, in `invariants/validate.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| invariants::validate::check(data));
