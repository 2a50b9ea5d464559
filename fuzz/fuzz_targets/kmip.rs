//! Answers of a server of keys. What must hold is in `crates/fuzz-targets`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tresor_fuzz_targets::kmip(bytes));
