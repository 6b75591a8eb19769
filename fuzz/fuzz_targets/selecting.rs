//! `Vary`, and what requests have in the fields that it names.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder::fuzzing::selecting(bytes));
