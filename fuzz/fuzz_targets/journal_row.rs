//! Target `journal_row` for cargo-fuzz.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| bireme_fuzz::run_one("journal_row", input));
