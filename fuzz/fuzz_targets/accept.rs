//! Fuzzes `statuslist::fuzzing::accept`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| statuslist::fuzzing::accept(bytes));
