//! What a record holds, and under which conditions the server changes it.
//!
//! A record has one bin. An entry is a blob there: its version, then the entry as it is. A counter is the server's own
//! integer. What was deleted is, for a minute, an entry that had ended before it began: every condition below takes it
//! for absent without knowing of deletions, and its version is one that nobody holds.

use std::time::Duration;

use aerospike::{
    Bin, Expiration, Record, Value,
    expressions::{self as is, Expression, bitwise},
    operations::{self, Operation},
};
use bytes::Bytes;

use super::super::{
    absence::TRACE,
    frame::{self, VERSION_LEN},
};
use crate::{Entry, Error, ErrorKind, Result, Timestamp};

/// The name of the one bin.
pub(super) const BIN: &str = "v";

/// The name of the answer to [`was_live`].
const WAS_LIVE: &str = "live";

/// The longest TTL that the server takes: ten years.
const LONGEST: u64 = 315_360_000;

/// Where in the blob the expiry of the entry begins, and how long it is, in bytes.
const EXPIRY: (usize, usize) = (VERSION_LEN + 10, 6);

/// The types of a bin's value, by the numbers of the protocol.
const INTEGER: i64 = 1;
const BLOB: i64 = 4;

/// What a record was found to hold.
pub(super) enum Found {
    Counter(i64),
    Blob(Bytes),
}

impl Found {
    pub(super) fn read(mut record: Record) -> Result<Self> {
        match record.bins.swap_remove(BIN) {
            Some(Value::Int(value)) => Ok(Self::Counter(value)),
            Some(Value::Blob(bytes)) => Ok(Self::Blob(bytes.into())),
            _ => Err(Error::new(
                ErrorKind::Decode,
                "the record is not one of larder's",
            )),
        }
    }

    /// The live entry.
    pub(super) fn entry(self, now: Timestamp) -> Result<Option<Entry>> {
        match self {
            Self::Counter(value) => Ok(Some(Entry::counter(value, now))),
            Self::Blob(bytes) => {
                let entry = frame::unframe(bytes)?;
                Ok((!entry.is_expired(now)).then_some(entry))
            }
        }
    }

    /// Whether what is there counts as something; what is damaged does.
    pub(super) fn is_live(&self, now: Timestamp) -> bool {
        match self {
            Self::Counter(_) => true,
            Self::Blob(bytes) => {
                frame::unframe(bytes.clone()).map_or(true, |entry| !entry.is_expired(now))
            }
        }
    }

    /// The version of an entry, damaged or not; a counter has none.
    pub(super) fn version(&self) -> Option<u64> {
        match self {
            Self::Blob(bytes) => bytes.first_chunk().copied().map(u64::from_be_bytes),
            Self::Counter(_) => None,
        }
    }
}

/// The bin of an entry.
pub(super) fn entry(entry: &Entry, version: u64) -> Bin {
    Bin::new(BIN, Value::Blob(frame::frame(entry, version).into()))
}

/// The bin of what was deleted.
pub(super) fn deleted(version: u64) -> Bin {
    let past = Timestamp::from_millis(0);
    entry(
        &Entry::counter(0, past).with_expires_at(Some(past)),
        version,
    )
}

pub(super) fn counter(value: i64) -> Bin {
    Bin::new(BIN, Value::Int(value))
}

/// Asks, before anything else is done to the record, whether a live entry is there; [`said_live`] has the answer.
pub(super) fn was_live(now: Timestamp) -> Operation {
    use operations::exp::{ExpReadFlags, read_exp};
    // Of an absent record nothing can be said, which is no error.
    read_exp(WAS_LIVE, is_live(now), ExpReadFlags::EVAL_NO_FAIL)
}

pub(super) fn said_live(record: &Record) -> bool {
    record.bins.get(WAS_LIVE) == Some(&Value::Bool(true))
}

/// Gives the entry another end, and leaves everything else as it is.
pub(super) fn end_after(ttl: Option<Duration>, now: Timestamp) -> Operation {
    use operations::bitwise::{BitPolicy, set};
    let ending = Entry::counter(0, now).with_ttl(ttl, now);
    let (start, len) = (EXPIRY.0 - VERSION_LEN, EXPIRY.1);
    let end = ending.to_bytes()[start..start + len].to_vec();
    let policy = BitPolicy::default();
    set(BIN, bits(EXPIRY.0), bits(len), Value::Blob(end), &policy)
}

/// The server's TTL of an entry. The server rounds late, by up to a second, and never early.
pub(super) fn expiration(expires_at: Option<Timestamp>, now: Timestamp) -> Expiration {
    lasting(expires_at.map(|at| at.since(now).max(TRACE)))
}

/// The server's TTL of what has no end of its own. Zero would be the namespace's default.
pub(super) fn lasting(ttl: Option<Duration>) -> Expiration {
    let Some(ttl) = ttl else {
        return Expiration::Never;
    };
    let part = u64::from(ttl.subsec_nanos() > 0);
    let seconds = ttl.as_secs().saturating_add(part).clamp(1, LONGEST);
    Expiration::Seconds(u32::try_from(seconds).expect("ten years are not so many seconds"))
}

/// A counter, or an entry that has not ended.
pub(super) fn is_live(now: Timestamp) -> Expression {
    is::or(vec![is_of_type(INTEGER), is_live_entry(now)])
}

/// An entry that has ended, or was deleted.
pub(super) fn is_dead(now: Timestamp) -> Expression {
    is::and(vec![is_of_type(BLOB), is::le(expiry(), millis(now))])
}

pub(super) fn is_counter() -> Expression {
    is_of_type(INTEGER)
}

/// A counter of this value.
pub(super) fn is_count(value: i64) -> Expression {
    is::eq(is::int_bin(BIN), is::int_val(value))
}

/// A counter that `delta` does not take out of its range. The server would wrap it around.
pub(super) fn has_room_for(delta: i64) -> Expression {
    let count = is::int_bin(BIN);
    match i64::MAX.checked_sub(delta) {
        Some(most) if delta >= 0 => is::le(count, is::int_val(most)),
        _ => is::ge(count, is::int_val(i64::MIN - delta)),
    }
}

/// An entry of this version, ended or not.
pub(super) fn is_version(version: u64) -> Expression {
    is::eq(
        blob_integer(0, VERSION_LEN, true),
        is::int_val(version.cast_signed()),
    )
}

/// A live entry of this version.
pub(super) fn is_live_version(version: u64, now: Timestamp) -> Expression {
    is::and(vec![is_version(version), is_live_entry(now)])
}

fn is_live_entry(now: Timestamp) -> Expression {
    is::gt(expiry(), millis(now))
}

fn is_of_type(number: i64) -> Expression {
    is::eq(is::bin_type(BIN), is::int_val(number))
}

fn expiry() -> Expression {
    blob_integer(EXPIRY.0, EXPIRY.1, false)
}

/// Some bytes of the blob as a number.
fn blob_integer(start: usize, len: usize, signed: bool) -> Expression {
    let (start, len) = (is::int_val(bits(start)), is::int_val(bits(len)));
    bitwise::get_int(start, len, signed, is::blob_bin(BIN))
}

fn bits(bytes: usize) -> i64 {
    8 * i64::try_from(bytes).expect("the places in a header are small numbers")
}

fn millis(at: Timestamp) -> Expression {
    is::int_val(i64::try_from(at.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(ttl: Duration) -> u32 {
        match lasting(Some(ttl)) {
            Expiration::Seconds(seconds) => seconds,
            other => panic!("{other:?} is no number of seconds"),
        }
    }

    #[test]
    fn a_ttl_rounds_up_and_is_never_the_default_of_the_namespace() {
        for (millis, expected) in [(0, 1), (1, 1), (200, 1), (1_000, 1), (1_001, 2)] {
            assert_eq!(seconds(Duration::from_millis(millis)), expected);
        }
        assert_eq!(seconds(Duration::from_nanos(1)), 1);
        assert!(matches!(lasting(None), Expiration::Never));
    }

    #[test]
    fn a_ttl_of_more_than_ten_years_is_one_of_ten_years_to_the_server() {
        for ttl in [Duration::from_secs(LONGEST + 1), Duration::MAX] {
            assert_eq!(seconds(ttl), 315_360_000);
        }
    }

    #[test]
    fn an_entry_leaves_a_trace_of_a_minute_however_short_its_life_is() {
        let now = Timestamp::from_secs(1_000);
        for (end, expected) in [(0, 60), (1_001, 60), (1_061, 61)] {
            let end = Some(Timestamp::from_secs(end));
            assert!(matches!(expiration(end, now), Expiration::Seconds(n) if n == expected));
        }
    }

    #[test]
    fn what_was_deleted_reads_as_an_entry_that_has_ended() {
        let Value::Blob(bytes) = deleted(7).value else {
            panic!("it is a blob");
        };
        let found = Found::Blob(bytes.into());
        assert_eq!(found.version(), Some(7));
        assert!(found.entry(Timestamp::from_millis(0)).unwrap().is_none());
    }

    #[test]
    fn the_expiry_is_where_the_server_looks_for_it() {
        let end = Timestamp::from_millis(0x0102_0304_0506);
        let ending = Entry::counter(7, end).with_expires_at(Some(end));
        let bytes = frame::frame(&ending, u64::MAX);
        assert_eq!(bytes[EXPIRY.0..][..EXPIRY.1], [1, 2, 3, 4, 5, 6]);
    }
}
