//! Fuzzes `statuslist::fuzzing::list`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| statuslist::fuzzing::list(bytes));
