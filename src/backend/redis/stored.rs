//! What is under a key on the server: an entry with its version before it, or the bare digits of a counter.

use bytes::Bytes;
use redis::Value;

use super::{reply, scripts::NO_ENTRY};
use crate::{
    Entry, Result, Timestamp,
    backend::frame::{VERSION_LEN, unframe},
};

/// The first byte of an entry, which comes after its version.
const MAGIC: u8 = 0xC5;

/// How much of a stored entry tells whether it has ended.
pub(super) const HEAD_LEN: usize = crate::backend::frame::OVERHEAD;

#[derive(Debug)]
pub(super) enum Stored {
    Entry(Entry),
    /// A counter, whose end only the server knows.
    Counter(i64),
}

impl Stored {
    pub(super) fn read(bytes: Bytes) -> Result<Self> {
        if bytes.get(VERSION_LEN) != Some(&MAGIC)
            && let Some(number) = reply::digits_of(&bytes)
        {
            return Ok(Self::Counter(number));
        }
        unframe(bytes).map(Self::Entry)
    }

    /// Whether what begins like this is a live entry or a counter. What is nothing of larder's is neither.
    pub(super) fn is_live(head: &[u8], now: Timestamp) -> bool {
        match head.get(VERSION_LEN) {
            Some(&MAGIC) => {
                let entry = Entry::from_header(&head[VERSION_LEN..]);
                entry.is_some_and(|entry| !entry.is_expired(now))
            }
            _ => reply::digits_of(head).is_some(),
        }
    }
}

/// The counter as an entry. It has no version of its own: what is done on condition of it is done to any counter.
pub(super) fn counter(number: i64, now: Timestamp) -> Entry {
    Entry::counter(number, now).with_version(NO_ENTRY)
}

/// The version of what is under a key, for a lease; 0 where nothing is.
pub(super) fn version(value: &Value) -> u64 {
    let Value::BulkString(bytes) = value else {
        return 0;
    };
    match (bytes.first_chunk(), bytes.get(VERSION_LEN)) {
        (Some(version), Some(&MAGIC)) => u64::from_be_bytes(*version),
        _ => NO_ENTRY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CodecId, backend::frame::frame};

    #[test]
    fn entries_and_counters_are_told_apart() {
        let entry = Entry::new(CodecId::RAW, "42", Timestamp::from_secs(7));
        let framed = frame(&entry, u64::from_be_bytes(*b"12345678"));
        let version_of = |bytes: &[u8]| version(&Value::BulkString(bytes.to_vec()));
        assert_eq!(version_of(&framed), u64::from_be_bytes(*b"12345678"));
        assert!(
            matches!(Stored::read(framed), Ok(Stored::Entry(entry)) if entry.payload() == "42")
        );

        let digits = Bytes::from_static(b"-123456789012");
        assert_eq!(version_of(&digits), NO_ENTRY);
        assert!(matches!(
            Stored::read(digits),
            Ok(Stored::Counter(-123_456_789_012))
        ));
        assert_eq!(version(&Value::Nil), 0);
    }

    #[test]
    fn what_somebody_else_put_there_is_damaged() {
        for foreign in ["", "text", "1.5", " 1", "12345678text"] {
            assert!(Stored::read(Bytes::from_static(foreign.as_bytes())).is_err());
        }
    }
}
