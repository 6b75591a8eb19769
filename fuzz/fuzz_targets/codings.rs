//! `Accept-Encoding`, and the entity tags of compressed forms.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder::fuzzing::codings(bytes));
