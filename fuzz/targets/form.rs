//! The invariants are stated, and held, in `invariants/form.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| invariants::form::check(data));
