//! Fields of a request and a response, through every rule of HTTP.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder::fuzzing::rules(bytes));
