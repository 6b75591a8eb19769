//! `Cache-Control` and the fields that take its place: no reading overlooks a restriction.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder::fuzzing::directives(bytes));
