//! Dates in the three forms, and what looks like them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder::fuzzing::dates(bytes));
