//! Target `http_request` for cargo-fuzz.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| bireme_fuzz::run_one("http_request", input));
