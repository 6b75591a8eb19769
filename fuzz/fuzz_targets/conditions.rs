//! Conditions of requests, and those that a cache makes from a stored response.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder::fuzzing::conditions(bytes));
