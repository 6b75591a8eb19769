//! Queries by the rules of policies: what is left out of a key is nothing that the handler looks at.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder::fuzzing::queries(bytes));
