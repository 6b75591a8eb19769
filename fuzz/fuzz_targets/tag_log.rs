//! The log of invalidated tags, whatever the server holds, and what is added to it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder::fuzzing::tag_log(bytes));
