//! Fuzzes `statuslist::fuzzing::token`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| statuslist::fuzzing::token(bytes));
