//! Fuzzes `statuslist::fuzzing::chain`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| statuslist::fuzzing::chain(bytes));
