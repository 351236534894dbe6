//! The invariants are stated, and held, in `invariants/headers.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| invariants::headers::check(data));
