//! What a document holds.
//!
//! | Field | |
//! |---|---|
//! | `v` | the version, another one after every write but a `touch` |
//! | `end` | when it ends, to a millisecond; what never ends has a date far away |
//! | `gone` | when the server removes it; absent where it never does |
//! | `e` | the entry as it is, in a document of one |
//! | `c` | the count, in a document of a counter |
//! | `key` | the whole key, where the `_id` has a hash of it |
//!
//! What was deleted leaves for a minute a document with neither `e` nor `c` that has ended.

use std::time::Duration;

use bytes::Bytes;
use mongodb::bson::{
    DateTime, RawBinaryRef, RawBsonRef, RawDocument, RawDocumentBuf, spec::BinarySubtype,
};

use super::{super::absence::TRACE, ids::Id};
use crate::{Entry, Error, ErrorKind, Result, Timestamp};

/// When what never ends ends: later than any time that an [`Entry`] has.
const NEVER: i64 = (1 << 48) - 1;

/// What was found under a key.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) version: u64,
    end: i64,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Entry(Bytes),
    Counter(i64),
    Nothing,
}

impl Stored {
    /// Reads a document; `None` where it is none of larder's.
    pub(super) fn read(document: RawDocumentBuf) -> Option<Self> {
        let bytes = Bytes::from(document.into_bytes());
        let document = RawDocument::from_bytes(&bytes).ok()?;
        let get = |field| document.get(field).ok().flatten();
        let what = match (get("e"), get("c")) {
            (Some(RawBsonRef::Binary(entry)), None) => What::Entry(bytes.slice_ref(entry.bytes)),
            (None, Some(RawBsonRef::Int64(count))) => What::Counter(count),
            // As other programs may write it.
            (None, Some(RawBsonRef::Int32(count))) => What::Counter(count.into()),
            (None, None) => What::Nothing,
            _ => return None,
        };
        Some(Self {
            version: get("v")?.as_i64()?.cast_unsigned(),
            end: get("end")?.as_datetime()?.timestamp_millis(),
            what,
        })
    }

    /// The live entry.
    pub(super) fn entry(self, now: Timestamp) -> Result<Option<Entry>> {
        if !self.is_live(now) {
            return Ok(None);
        }
        let entry = match self.what {
            What::Entry(bytes) => Entry::from_bytes(bytes)?,
            What::Counter(count) => Entry::counter(count, now),
            What::Nothing => return Err(damaged()),
        };
        let end = u64::try_from(self.end).ok().filter(|_| self.end < NEVER);
        let entry = entry.with_expires_at(end.map(Timestamp::from_millis));
        Ok(Some(entry.with_version(self.version)))
    }

    /// Whether what is there counts as something; what is damaged does. What was deleted has ended.
    pub(super) fn is_live(&self, now: Timestamp) -> bool {
        self.end > millis(now)
    }

    /// The count of a counter, live or not.
    pub(super) fn count(&self) -> Option<i64> {
        match self.what {
            What::Counter(count) => Some(count),
            _ => None,
        }
    }
}

pub(super) fn damaged() -> Error {
    Error::new(
        ErrorKind::Decode,
        "the document is not one of larder's, or is damaged",
    )
}

/// The document of an entry.
pub(super) fn entry(id: &Id, entry: &Entry, version: u64, now: Timestamp) -> RawDocumentBuf {
    let mut document = beginning(id, version, entry.expires_at(), now);
    document.append_ref("e", binary(&entry.to_bytes()));
    document
}

/// The document of a counter.
pub(super) fn counter(
    id: &Id,
    count: i64,
    version: u64,
    end: Option<Timestamp>,
    now: Timestamp,
) -> RawDocumentBuf {
    let mut document = beginning(id, version, end, now);
    document.append_ref("c", RawBsonRef::Int64(count));
    document
}

/// The document of what was deleted.
pub(super) fn deleted(id: &Id, version: u64, now: Timestamp) -> RawDocumentBuf {
    // Past by every clock.
    beginning(id, version, Some(Timestamp::from_millis(0)), now)
}

/// Writes when something ends, and when it is removed.
pub(super) fn append_end(
    document: &mut RawDocumentBuf,
    expires_at: Option<Timestamp>,
    now: Timestamp,
) {
    document.append_ref("end", RawBsonRef::DateTime(end(expires_at)));
    if let Some(end) = expires_at {
        let gone = end.max(now + TRACE);
        document.append_ref("gone", date(gone));
    }
}

pub(super) fn date(time: Timestamp) -> RawBsonRef<'static> {
    RawBsonRef::DateTime(DateTime::from_millis(millis(time)))
}

/// When what is touched now ends.
pub(super) fn end_after(ttl: Option<Duration>, now: Timestamp) -> Option<Timestamp> {
    // An entry knows how late a time it can have.
    Entry::counter(0, now).with_ttl(ttl, now).expires_at()
}

fn end(expires_at: Option<Timestamp>) -> DateTime {
    DateTime::from_millis(expires_at.map_or(NEVER, millis))
}

fn millis(time: Timestamp) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(NEVER).min(NEVER)
}

fn beginning(id: &Id, version: u64, end: Option<Timestamp>, now: Timestamp) -> RawDocumentBuf {
    let mut document = RawDocumentBuf::new();
    document.append_ref("_id", RawBsonRef::Document(&id.document));
    document.append_ref("v", RawBsonRef::Int64(version.cast_signed()));
    append_end(&mut document, end, now);
    if let Some(key) = &id.whole {
        document.append_ref("key", binary(key));
    }
    document
}

fn binary(bytes: &[u8]) -> RawBsonRef<'_> {
    RawBsonRef::Binary(RawBinaryRef {
        subtype: BinarySubtype::Generic,
        bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CodecId, backend::generation::Generation};

    fn id() -> Id {
        Id::entry(b"shop", Generation::random(), b":name")
    }

    #[test]
    fn an_entry_comes_back_with_its_version_and_its_end() {
        let now = Timestamp::from_secs(1_000);
        for end in [None, Some(Timestamp::from_millis(2_000_123))] {
            let put = Entry::new(CodecId::JSON, "[1]", now).with_expires_at(end);
            let stored = Stored::read(entry(&id(), &put, u64::MAX - 3, now)).unwrap();
            let read = stored.entry(now).unwrap().unwrap();
            assert_eq!((read.payload(), read.expires_at()), (&"[1]".into(), end));
            assert_eq!(read.version(), u64::MAX - 3);
        }
    }

    #[test]
    fn what_was_deleted_is_no_entry_and_has_a_version() {
        let now = Timestamp::from_secs(1_000);
        let stored = Stored::read(deleted(&id(), 7, now)).unwrap();
        assert_eq!(stored.version, 7);
        assert!(!stored.is_live(now) && !stored.is_live(Timestamp::from_millis(0)));
        assert!(stored.entry(Timestamp::from_millis(0)).unwrap().is_none());
    }

    #[test]
    fn what_ends_soon_stays_for_a_minute() {
        let now = Timestamp::from_secs(1_000);
        let put = Entry::counter(0, now).with_ttl(Some(Duration::from_secs(1)), now);
        let document = entry(&id(), &put, 1, now);
        let gone = document.get_datetime("gone").unwrap().timestamp_millis();
        assert_eq!(gone, 1_060_000);
        let endless = entry(&id(), &Entry::counter(0, now), 1, now);
        assert!(endless.get("gone").unwrap().is_none());
    }

    #[test]
    fn a_document_of_somebody_else_is_none_of_larders() {
        for other in [
            mongodb::bson::rawdoc! { "_id": 1 },
            mongodb::bson::rawdoc! { "v": 1_i64, "end": 1_i64 },
            mongodb::bson::rawdoc! { "v": 1_i64, "end": DateTime::MAX, "e": "text" },
        ] {
            assert!(Stored::read(other).is_none());
        }
    }
}
