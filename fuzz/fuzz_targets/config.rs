//! Fuzzes `statuslist::fuzzing::config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| statuslist::fuzzing::config(bytes));
