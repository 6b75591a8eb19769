//! Whatever a server gives back, reading it as an entry is a value or an error.
#![no_main]

use larder::{Entry, TagStamp, Timestamp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(entry) = Entry::from_bytes(bytes.to_vec()) {
        assert_eq!(entry.to_bytes(), bytes);
        for tag in entry.tags() {
            let again = TagStamp::new(&tag.namespace(), tag.tag(), *tag.ids());
            assert_eq!(again.as_ref().ok(), Some(tag));
        }
        let _ = entry.as_counter();
        let _ = entry.remaining(Timestamp::from_millis(0));
    }
});
