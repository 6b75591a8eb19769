//! A stored response or a record of variants, whatever the server holds.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder::fuzzing::stored(bytes));
