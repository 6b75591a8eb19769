//! Targets and hosts of requests, and what responses name beside them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder::fuzzing::uris(bytes));
