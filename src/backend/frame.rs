//! How an entry is stored on a server: a version of its own, and then the entry as it is.
//!
//! The version changes with every write and never returns, so a server that can compare eight bytes can replace or
//! delete on condition, whatever it counts itself.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{BufMut, Bytes, BytesMut};

use crate::{Entry, Error, ErrorKind, Result};

/// The bytes of the version, which come first.
pub(super) const VERSION_LEN: usize = 8;

/// Bytes that a stored entry takes beside its payload.
pub(super) const OVERHEAD: usize = VERSION_LEN + Entry::HEADER_LEN;

/// Versions that no other writer gives: a random start for each process, and steps that spread over all numbers.
#[derive(Debug)]
pub(super) struct Versions(AtomicU64);

impl Default for Versions {
    fn default() -> Self {
        let mut start = [0; 8];
        getrandom::fill(&mut start).expect("the operating system has a source of random numbers");
        Self(AtomicU64::new(u64::from_be_bytes(start)))
    }
}

impl Versions {
    /// The next version; never 0, which stands for an absent entry.
    pub(super) fn next(&self) -> u64 {
        // The odd constant nearest to 2^64 divided by the golden ratio visits every number before it repeats one.
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        self.0.fetch_add(STEP, Ordering::Relaxed).max(1)
    }
}

/// The bytes to store. Copies the payload once.
pub(super) fn frame(entry: &Entry, version: u64) -> Bytes {
    let mut bytes = BytesMut::with_capacity(VERSION_LEN + entry.head_len() + entry.payload().len());
    bytes.put_u64(version);
    entry.write_to(&mut bytes);
    bytes.freeze()
}

/// The entry that [`frame`] wrote, with its version; its payload is a slice of `bytes`.
pub(super) fn unframe(mut bytes: Bytes) -> Result<Entry> {
    let version = match bytes.split_at_checked(VERSION_LEN) {
        Some((version, _)) => version.try_into().map(u64::from_be_bytes).ok(),
        None => None,
    };
    let damaged = || Error::new(ErrorKind::Decode, "the stored bytes are not a larder entry");
    let version = version.ok_or_else(damaged)?;
    Ok(Entry::from_bytes(bytes.split_off(VERSION_LEN))?.with_version(version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CodecId, Timestamp};

    #[test]
    fn an_entry_comes_back_with_its_version() {
        let entry = Entry::new(CodecId::JSON, "[1]", Timestamp::from_secs(7));
        let framed = frame(&entry, 99);
        assert_eq!(framed.len(), OVERHEAD + 3);
        let back = unframe(framed).unwrap();
        assert_eq!((back.version(), back.payload()), (99, &"[1]".into()));
    }

    #[test]
    fn what_is_no_frame_is_damaged() {
        for bytes in [&b""[..], b"1234567", b"12345678", &[0; 64]] {
            let error = unframe(Bytes::from_static(bytes)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Decode);
        }
    }

    #[test]
    fn versions_differ() {
        let versions = Versions::default();
        let mut given: Vec<_> = (0..10_000).map(|_| versions.next()).collect();
        given.sort_unstable();
        given.dedup();
        assert_eq!(given.len(), 10_000);
    }
}
