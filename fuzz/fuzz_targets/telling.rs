//! The writer of `Cache-Status`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder::fuzzing::telling(bytes));
