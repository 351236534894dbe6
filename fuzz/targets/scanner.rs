//! The invariants are stated, and held, in `invariants/scanner.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| invariants::scanner::check(data));
