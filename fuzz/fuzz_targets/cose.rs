//! Fuzzes `statuslist::fuzzing::cose`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| statuslist::fuzzing::cose(bytes));
