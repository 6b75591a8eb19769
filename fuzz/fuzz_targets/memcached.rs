//! Whatever a memcached server sends.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder::memcached_answers(bytes));
