//! Fuzzes `statuslist::fuzzing::body`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| statuslist::fuzzing::body(bytes));
