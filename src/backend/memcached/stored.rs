//! What an item holds: an entry, the digits of a counter, or nothing, where somebody began to load.

use std::time::Duration;

use bytes::Bytes;

use super::{
    errors, mark, parts,
    protocol::{Condition, Reply, Status, text::number},
};
use crate::{Entry, Error, ErrorKind, Result, Timestamp, backend::generation::Generation};

/// An item stays on the server for so long after its entry has ended, so that whoever began to load before finds that
/// nobody else has changed it.
pub(super) const GRACE: Duration = Duration::from_secs(30);

/// For so many seconds an empty item stands for a load that has begun.
pub(super) const LOADING: i32 = 60;

/// Up to so many seconds a server takes a TTL for one; above it is a point in time.
const LONGEST_RELATIVE: u64 = 30 * 24 * 60 * 60;

/// The server's TTL of what has ended already.
const ENDED: i32 = -1;

/// A state of an item, in which it was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) generation: Generation,
    pub(super) cas: u64,
}

impl Seen {
    /// Holds while the item is in that state. `None` in another generation: a server that was started again counts its
    /// changes from the beginning, so an item that has this cas need not be the one that had it.
    pub(super) fn condition(self, generation: Generation) -> Option<Condition> {
        (self.generation == generation).then_some(Condition::Cas(self.cas))
    }
}

/// An item with its value.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) cas: u64,
    /// The seconds that the server keeps it, where it says so.
    left: Option<u32>,
    mark: u32,
    bytes: Bytes,
}

impl Stored {
    /// The item of an answer; `None` where there is none.
    pub(super) fn of(reply: Reply) -> Result<Option<Self>> {
        match (reply.status, reply.value) {
            (Status::Done, Some(bytes)) => Ok(Some(Self {
                cas: reply.cas,
                left: reply.ttl,
                mark: reply.mark,
                bytes,
            })),
            (Status::Absent, _) => Ok(None),
            (status, _) => Err(errors::refused(status)),
        }
    }

    /// The live entry or the counter.
    pub(super) fn entry(&self, generation: Generation, now: Timestamp) -> Result<Option<Entry>> {
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let entry = match self.count() {
            Some(count) => {
                let ttl = self.left(now);
                Entry::counter(count, now).with_ttl(ttl, now)
            }
            None => Entry::from_bytes(self.bytes.clone())?,
        };
        let entry = entry.with_version(version(generation, self.cas));
        Ok(Some(entry).filter(|entry| !entry.is_expired(now)))
    }

    /// The number, where it is a counter.
    pub(super) fn count(&self) -> Option<i64> {
        counted(&self.bytes)
    }

    /// How long the server keeps it; `None` for ever, as far as is known.
    fn left(&self, now: Timestamp) -> Option<Duration> {
        let left = self.left.or_else(|| mark::left(self.mark, now));
        left.map(|seconds| Duration::from_secs(seconds.into()))
    }

    /// Whether whoever notes its cas now can rely on it for a while.
    pub(super) fn is_steady(&self, now: Timestamp) -> bool {
        self.left(now).is_none_or(|left| left >= GRACE)
    }

    /// The state in which it is, in this generation.
    pub(super) fn seen(&self, generation: Generation) -> Seen {
        Seen {
            generation,
            cas: self.cas,
        }
    }

    pub(super) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The same item with these bytes as its value.
    pub(super) fn with_bytes(self, bytes: Bytes) -> Self {
        Self { bytes, ..self }
    }
}

/// The number that these digits are. A server counts without a sign and up to 2^64, so what is negative is written as
/// what it is modulo that; and it fills up with spaces what has become shorter.
pub(super) fn counted(bytes: &[u8]) -> Option<i64> {
    number(bytes.trim_ascii_end()).map(u64::cast_signed)
}

/// The number as the server has it.
pub(super) fn digits(count: i64) -> Bytes {
    count.cast_unsigned().to_string().into()
}

/// What tells a state of an item from every other, also from those before a clearing or a restart, when the server
/// counts from the beginning again.
pub(super) fn version(generation: Generation, cas: u64) -> u64 {
    generation.as_u64() ^ cas
}

/// The cas of the state that has this version, if it is of this generation. No item has 0.
pub(super) fn cas(generation: Generation, version: u64) -> Option<u64> {
    Some(generation.as_u64() ^ version).filter(|cas| *cas != 0)
}

/// Whether an item that was looked at is a live entry or a counter.
pub(super) fn is_live(look: &Reply, now: Timestamp) -> bool {
    match &look.value {
        _ if look.status != Status::Done => false,
        None => look.size > 0 && mark::is_live(look.mark, look.ttl, now),
        Some(bytes) if bytes.is_empty() => false,
        Some(bytes) if counted(bytes).is_some() => true,
        Some(bytes) => match parts::end(bytes) {
            Some(end) => end.is_none_or(|end| end > now),
            // What is damaged is there, and is no entry that could have ended.
            None => Entry::from_bytes(bytes.clone()).map_or(true, |entry| !entry.is_expired(now)),
        },
    }
}

/// The server's TTL of an entry.
pub(super) fn entry_ttl(entry: &Entry, now: Timestamp) -> i32 {
    match entry.remaining(now) {
        None => 0,
        Some(Duration::ZERO) => ENDED,
        Some(left) => seconds(left.saturating_add(GRACE), now),
    }
}

/// The mark of a counter or a load that the server is given this TTL for.
pub(super) fn mark_of_item(ttl: i32, now: Timestamp) -> u32 {
    mark::of_item(mark::end_of(ttl, LONGEST_RELATIVE, now))
}

/// The server's TTL of a counter, which has no other end.
pub(super) fn counter_ttl(ttl: Option<Duration>, now: Timestamp) -> i32 {
    ttl.map_or(0, |ttl| seconds(ttl, now))
}

/// So many seconds as a server takes them. It counts from the second that has begun, and so takes off up to one.
fn seconds(ttl: Duration, now: Timestamp) -> i32 {
    let part = u64::from(ttl.subsec_nanos() > 0);
    let seconds = ttl.as_secs().saturating_add(part).max(1);
    let seconds = match seconds.saturating_add(1) {
        seconds @ 0..=LONGEST_RELATIVE => seconds,
        seconds => seconds.saturating_add(now.as_secs()),
    };
    // A server counts time until 2038.
    i32::try_from(seconds).unwrap_or(i32::MAX)
}

/// Reads an answer as everything that it could be.
#[cfg(fuzzing)]
pub(super) fn examine(reply: Reply, generation: Generation, now: Timestamp) {
    let is_live = is_live(&reply, now);
    let Ok(Some(stored)) = Stored::of(reply) else {
        return;
    };
    stored.is_steady(now);
    if let Ok(Some(entry)) = stored.entry(generation, now) {
        assert!(is_live);
        assert_eq!(cas(generation, entry.version()).unwrap_or(0), stored.cas);
        assert!(!entry.is_expired(now));
    }
    Generation::read(stored.bytes());
}

pub(super) fn not_a_counter() -> Error {
    Error::new(ErrorKind::WrongType, "the key holds a value, not a counter")
}

pub(super) fn overflow() -> Error {
    Error::new(
        ErrorKind::Overflow,
        "the counter would leave the range of i64",
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::CodecId;

    fn entry(end: Option<Timestamp>) -> Entry {
        Entry::new(CodecId::RAW, "value", Timestamp::from_secs(1)).with_expires_at(end)
    }

    fn look(entry: &Entry, left: Option<u32>) -> Reply {
        let mut look = Reply::new(Status::Done);
        (look.mark, look.size, look.ttl) = (mark::of_entry(entry), 21, left);
        look
    }

    #[test]
    fn a_ttl_rounds_up_and_is_neither_never_nor_a_date() {
        let now = Timestamp::from_secs(1_800_000_000);
        let month = 30 * 24 * 60 * 60;
        for (millis, expected) in [
            (0, 2),
            (1, 2),
            (1_000, 2),
            (1_001, 3),
            ((month - 1) * 1_000, month as i32),
            (month * 1_000, 1_800_000_001 + month as i32),
        ] {
            assert_eq!(seconds(Duration::from_millis(millis), now), expected);
        }
        assert_eq!(seconds(Duration::MAX, now), i32::MAX);
        assert_eq!(counter_ttl(None, now), 0);
        assert_eq!(entry_ttl(&entry(None), now), 0);
        assert_eq!(entry_ttl(&entry(Some(now)), now), ENDED);
    }

    #[test]
    fn entries_counters_and_loads_are_told_apart() {
        let generation = Generation::random();
        let now = Timestamp::from_secs(7);
        let read = |bytes: Bytes, left| {
            let stored = Stored {
                cas: 5,
                left,
                mark: 0,
                bytes,
            };
            stored.entry(generation, now)
        };
        let value = read(entry(None).to_bytes(), None).unwrap().unwrap();
        assert_eq!(value.payload(), "value");
        assert_eq!(cas(generation, value.version()), Some(5));
        let counter = read("18446744073709551614  ".into(), Some(3)).unwrap();
        let counter = counter.unwrap();
        assert_eq!(counter.as_counter().unwrap(), -2);
        assert_eq!(counter.expires_at(), Some(Timestamp::from_secs(10)));
        assert!(read(Bytes::new(), Some(3)).unwrap().is_none());
        for foreign in ["text", "-2", "1.5", " 1", "18446744073709551616"] {
            assert!(read(foreign.into(), None).is_err(), "{foreign}");
        }
    }

    #[test]
    fn a_version_of_another_generation_is_none_of_this_one() {
        let (one, two) = (Generation::random(), Generation::random());
        let seen = Seen {
            generation: one,
            cas: 9,
        };
        assert_eq!(seen.condition(one), Some(Condition::Cas(9)));
        assert_eq!(seen.condition(two), None);
        assert_eq!(cas(one, version(one, 9)), Some(9));
        assert_ne!(cas(two, version(one, 9)), Some(9));
        assert_eq!(cas(one, version(one, 0)), None);
    }

    proptest! {
        #[test]
        fn a_counter_reads_as_it_was_written(count: i64) {
            prop_assert_eq!(counted(&digits(count)), Some(count));
        }
    }

    #[test]
    fn what_never_ends_and_what_is_a_counter_is_live_and_a_load_is_not() {
        let now = Timestamp::from_secs(1_800_000_000);
        assert!(is_live(&look(&entry(None), None), now));
        let mut other = Reply::new(Status::Done);
        (other.size, other.ttl) = (1, Some(1));
        assert!(is_live(&other, now));
        other.size = 0;
        assert!(!is_live(&other, now));
        assert!(!is_live(&Reply::new(Status::Absent), now));
    }

    /// As the binary protocol has it: the value and no TTL.
    #[test]
    fn a_value_says_itself_whether_it_is_live() {
        let now = Timestamp::from_secs(1_800_000_000);
        let near = |millis| Timestamp::from_millis(now.as_millis().strict_add_signed(millis));
        // As far away as the circle of a mark is long, and so like an end that has just been.
        let far = near((1 << 30) - 5_000);
        for (end, expected) in [
            (None, true),
            (Some(near(1)), true),
            (Some(far), true),
            (Some(near(0)), false),
            (Some(near(-29_000)), false),
        ] {
            let entry = entry(end);
            let head = parts::Split::new(entry.to_bytes(), 10, end).unwrap().head();
            for bytes in [entry.to_bytes(), head] {
                let mut look = look(&entry, None);
                look.value = Some(bytes);
                assert_eq!(is_live(&look, now), expected, "{end:?}");
            }
        }
        for (bytes, expected) in [("", false), ("7", true), ("damaged", true)] {
            let mut look = Reply::new(Status::Done);
            look.value = Some(bytes.into());
            assert_eq!(is_live(&look, now), expected, "{bytes:?}");
        }
    }

    #[test]
    fn where_the_server_does_not_tell_a_ttl_the_mark_does() {
        let now = Timestamp::from_secs(1_800_000_000);
        let stored = |bytes: &'static str, ttl: i32, left| {
            let mut reply = Reply::new(Status::Done);
            (reply.ttl, reply.mark) = (left, mark_of_item(ttl, now));
            reply.value = Some(bytes.into());
            Stored::of(reply).unwrap().unwrap()
        };
        let read = |stored: &Stored| stored.entry(Generation::random(), now).unwrap().unwrap();
        let end = |seconds| Some(now + Duration::from_secs(seconds));
        assert_eq!(read(&stored("7", 60, None)).expires_at(), end(60));
        assert_eq!(read(&stored("7", 60, Some(9))).expires_at(), end(9));
        assert_eq!(read(&stored("7", 0, None)).expires_at(), None);
        let date = 1_900_000_000;
        assert_eq!(
            read(&stored("7", date, None)).expires_at(),
            end(100_000_000)
        );
        let load = stored("", LOADING, None);
        assert!(load.is_steady(now));
        assert!(!load.is_steady(now + Duration::from_secs(31)));
    }
}
