//! The record of a URI's variants, whatever the server holds.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder::fuzzing::variants(bytes));
