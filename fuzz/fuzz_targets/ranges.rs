//! Ranges, of representations of any length.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder::fuzzing::ranges(bytes));
