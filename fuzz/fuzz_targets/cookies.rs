//! Cookies that policies key by: no two requests meet in which a handler could see different ones.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder::fuzzing::cookies(bytes));
