//! What an item holds, and under which conditions the service changes it.
//!
//! Every item but a marker has an end of its own, in milliseconds, by which larder and the conditions go; the service
//! has one too, in seconds, and may take days to remove what has ended. What was deleted is an item that had ended
//! before it began: every condition takes it for absent without knowing of deletions, and its version is one that
//! nobody holds.

use std::{collections::HashMap, ops::RangeInclusive, time::Duration};

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use bytes::Bytes;

use crate::{Entry, Error, ErrorKind, Result, Timestamp, backend::generation::Generation};

/// Attributes by their names. They are short because each item pays for them, and none is a word of the service's own.
pub(super) type Item = HashMap<String, AttributeValue>;

/// The partition key.
pub(super) const KEY: &str = "k";
/// The version of an entry, a number.
const VERSION: &str = "v";
/// When the entry or the counter ends, in milliseconds since the epoch.
const END: &str = "e";
/// When the service may remove the item, in seconds since the epoch.
pub(super) const REMOVAL: &str = "x";
/// The entry, as its bytes.
const ENTRY: &str = "p";
/// The value of a counter.
const COUNT: &str = "n";
/// The letters of a generation, in a marker.
const GENERATION: &str = "g";

/// What is read to know whether something is there: no payload.
pub(super) const SIGNS: &str = "k, e, g";

/// How long what was deleted leaves a trace, and the least that an item stays: who began to load within that time finds
/// out that somebody has put or deleted the key meanwhile. It is far longer than any load, because it is the clock of
/// the machine and not of the service by which it is counted.
pub(super) const TRACE: Duration = Duration::from_secs(60 * 60);

/// The end of what never ends, in milliseconds: in the year 10889.
const NEVER: u64 = (1 << 48) - 1;

/// The most bytes of an item.
const LARGEST_ITEM: usize = 400 * 1024;

/// What an item has beside the bytes of its entry, at most: the longest key, three numbers, and the names.
const ITEM_OVERHEAD: usize = 2048 + 3 * 21 + 5;

/// The largest payload of an entry without tags, with a little room to spare.
pub(super) const MAX_VALUE_LEN: usize = LARGEST_ITEM - ITEM_OVERHEAD - Entry::HEADER_LEN - 100;

/// Whether an item has room for the entry.
pub(super) fn fits(entry: &Entry) -> bool {
    entry.payload().len() + entry.head_len() <= MAX_VALUE_LEN + Entry::HEADER_LEN
}

pub(super) fn number(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn parse<T: std::str::FromStr>(item: &Item, name: &str) -> Option<T> {
    item.get(name)?.as_n().ok()?.parse().ok()
}

/// An item with nothing but its key.
pub(super) fn keyed(key: Vec<u8>) -> Item {
    HashMap::from([(KEY.to_owned(), AttributeValue::B(Blob::new(key)))])
}

/// The key that an item came with.
pub(super) fn key_of(item: &mut Item) -> Option<Vec<u8>> {
    match item.remove(KEY)? {
        AttributeValue::B(key) => Some(key.into_inner()),
        _ => None,
    }
}

/// An item whose two ends are these.
fn ending(key: Vec<u8>, version: u64, end: u64, now: Timestamp) -> Item {
    let mut item = keyed(key);
    item.insert(VERSION.to_owned(), number(version));
    item.insert(END.to_owned(), number(end));
    item.insert(REMOVAL.to_owned(), number(removal(end, now)));
    item
}

/// The item of an entry.
pub(super) fn entry(key: Vec<u8>, entry: &Entry, version: u64, now: Timestamp) -> Item {
    let mut item = ending(key, version, end_of(entry.expires_at()), now);
    let bytes = AttributeValue::B(Blob::new(Vec::from(entry.to_bytes())));
    item.insert(ENTRY.to_owned(), bytes);
    item
}

/// The item of a counter that begins.
pub(super) fn counter(
    key: Vec<u8>,
    value: i64,
    version: u64,
    ttl: Option<Duration>,
    now: Timestamp,
) -> Item {
    let mut item = ending(key, version, end_of(ttl.map(|ttl| now + ttl)), now);
    item.insert(COUNT.to_owned(), number(value));
    item
}

/// What is left of an item that was deleted.
pub(super) fn deleted(key: Vec<u8>, version: u64, now: Timestamp) -> Item {
    ending(key, version, 0, now)
}

/// The item of a marker, which never ends.
pub(super) fn marker(key: Vec<u8>, generation: Generation) -> Item {
    let mut item = keyed(key);
    let letters = String::from_utf8_lossy(generation.as_bytes()).into_owned();
    item.insert(GENERATION.to_owned(), AttributeValue::S(letters));
    item
}

/// The letters of a marker.
pub(super) fn letters(marker: &Item) -> Option<&[u8]> {
    Some(marker.get(GENERATION)?.as_s().ok()?.as_bytes())
}

/// The end as items have it.
pub(super) fn end_of(expires_at: Option<Timestamp>) -> u64 {
    expires_at.map_or(NEVER, |at| at.as_millis().min(NEVER - 1))
}

/// From when on the service may remove what has this end, in whole seconds, rounded up.
pub(super) fn removal(end: u64, now: Timestamp) -> u64 {
    end.max((now + TRACE).as_millis()).div_ceil(1000)
}

/// What was read of an item.
pub(super) struct Found(Item);

impl Found {
    pub(super) fn new(item: Item) -> Self {
        Self(item)
    }

    fn end(&self) -> u64 {
        parse(&self.0, END).unwrap_or_default()
    }

    /// Whether it has not ended. What has no end that can be read counts as ended.
    pub(super) fn is_live(&self, now: Timestamp) -> bool {
        self.end() > now.as_millis()
    }

    pub(super) fn is_counter(&self) -> bool {
        self.0.contains_key(COUNT)
    }

    /// The version of an entry, ended or not.
    pub(super) fn version(&self) -> Option<u64> {
        parse(&self.0, VERSION)
    }

    /// The value of a counter.
    pub(super) fn count(&self) -> Option<i64> {
        parse(&self.0, COUNT)
    }

    /// The live entry.
    pub(super) fn entry(mut self, now: Timestamp) -> Result<Option<Entry>> {
        if !self.is_live(now) {
            return Ok(None);
        }
        let end = Some(self.end()).filter(|end| *end < NEVER);
        let end = end.map(Timestamp::from_millis);
        let damaged = || Error::new(ErrorKind::Decode, "the item is not one of larder's");
        if self.is_counter() {
            let value = self.count().ok_or_else(damaged)?;
            return Ok(Some(Entry::counter(value, now).with_expires_at(end)));
        }
        let Some(AttributeValue::B(bytes)) = self.0.remove(ENTRY) else {
            return Err(damaged());
        };
        let version = self.version().ok_or_else(damaged)?;
        let entry = Entry::from_bytes(Bytes::from(bytes.into_inner()))?;
        // `touch` moves the item's end and leaves the bytes alone.
        Ok(Some(entry.with_expires_at(end).with_version(version)))
    }
}

/// A condition, and the values that it names.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    pub(super) text: &'static str,
    pub(super) values: Vec<(&'static str, AttributeValue)>,
}

fn when(text: &'static str, values: Vec<(&'static str, AttributeValue)>) -> Condition {
    Condition { text, values }
}

fn at(now: Timestamp) -> (&'static str, AttributeValue) {
    (":now", number(now.as_millis()))
}

/// No item at all.
pub(super) fn is_missing() -> Condition {
    when("attribute_not_exists(k)", Vec::new())
}

/// Nothing, what has ended, or what was deleted.
pub(super) fn is_dead(now: Timestamp) -> Condition {
    when("attribute_not_exists(e) OR e <= :now", vec![at(now)])
}

/// A counter, or an entry that has not ended.
pub(super) fn is_live(now: Timestamp) -> Condition {
    when("e > :now", vec![at(now)])
}

/// An entry of this version, ended or not.
pub(super) fn is_version(version: u64) -> Condition {
    let values = vec![(":version", number(version))];
    when("v = :version AND attribute_not_exists(n)", values)
}

/// A live entry of this version.
pub(super) fn is_live_version(version: u64, now: Timestamp) -> Condition {
    let values = vec![(":version", number(version)), at(now)];
    when(
        "v = :version AND e > :now AND attribute_not_exists(n)",
        values,
    )
}

/// A counter of this value whose version is one of these.
pub(super) fn is_count(value: i64, versions: RangeInclusive<u64>) -> Condition {
    let values = vec![
        (":count", number(value)),
        (":first", number(versions.start())),
        (":last", number(versions.end())),
    ];
    when("n = :count AND v BETWEEN :first AND :last", values)
}

/// No marker, or one that is none.
pub(super) fn is_no_marker() -> Condition {
    when("attribute_not_exists(g)", Vec::new())
}

/// A marker with these letters.
pub(super) fn is_marker(letters: &[u8]) -> Condition {
    let letters = String::from_utf8_lossy(letters).into_owned();
    when(
        "g = :letters",
        vec![(":letters", AttributeValue::S(letters))],
    )
}

/// Nothing, or a live counter that `delta` does not take out of its range: the service's own numbers have 38 digits.
pub(super) fn counts(delta: i64, now: Timestamp) -> Condition {
    let (text, bound) = match i64::MAX.checked_sub(delta) {
        Some(most) if delta >= 0 => (
            "attribute_not_exists(k) OR (attribute_exists(n) AND e > :now AND n <= :bound)",
            most,
        ),
        _ => (
            "attribute_not_exists(k) OR (attribute_exists(n) AND e > :now AND n >= :bound)",
            i64::MIN - delta,
        ),
    };
    when(text, vec![at(now), (":bound", number(bound))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CodecId, Timestamp};

    const NOW: Timestamp = Timestamp::from_secs(1_000);

    fn removal_of(end: Option<Timestamp>) -> u64 {
        removal(end_of(end), NOW)
    }

    #[test]
    fn the_service_removes_nothing_before_its_end() {
        for (millis, expected) in [(9_000_000, 9_000), (9_000_001, 9_001), (9_000_999, 9_001)] {
            assert_eq!(removal_of(Some(Timestamp::from_millis(millis))), expected);
        }
    }

    #[test]
    fn an_item_stays_for_an_hour_however_short_its_life_is() {
        for end in [0, 1, 4_599_999] {
            assert_eq!(removal_of(Some(Timestamp::from_millis(end))), 4_600);
        }
    }

    #[test]
    fn what_never_ends_is_never_removed() {
        assert!(removal_of(None) > 200_000_000_000);
        let endless = entry(vec![1], &Entry::new(CodecId::RAW, "value", NOW), 7, NOW);
        let far = Timestamp::from_secs(100_000_000_000);
        let read = Found::new(endless).entry(far).unwrap().unwrap();
        assert_eq!((read.expires_at(), read.version()), (None, 7));
    }

    #[test]
    fn what_was_deleted_reads_as_nothing_and_has_a_version() {
        let found = Found::new(deleted(vec![1], 7, NOW));
        assert_eq!(found.version(), Some(7));
        assert!(!found.is_live(Timestamp::from_millis(0)));
        assert!(found.entry(NOW).unwrap().is_none());
    }

    #[test]
    fn what_is_no_item_of_larders_is_damaged_or_absent() {
        let mut item = keyed(vec![1]);
        assert!(Found::new(item.clone()).entry(NOW).unwrap().is_none());
        item.insert(END.to_owned(), number(NEVER));
        let mut halves = item.clone();
        halves.insert(COUNT.to_owned(), number(1.5));
        let mut bare = item.clone();
        bare.insert(ENTRY.to_owned(), AttributeValue::B(Blob::new(*b"[1]")));
        for item in [item, halves, bare] {
            let error = Found::new(item).entry(NOW).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Decode);
        }
    }

    #[test]
    fn the_largest_item_is_within_the_limit_of_the_service() {
        let payload = vec![0; MAX_VALUE_LEN];
        let largest = Entry::new(CodecId::RAW, payload, NOW);
        assert!(fits(&largest));
        let item = entry(vec![1; 2048], &largest, u64::MAX, NOW);
        let size = item.iter().map(|(name, value)| {
            name.len()
                + match value {
                    AttributeValue::B(bytes) => bytes.as_ref().len(),
                    AttributeValue::N(digits) => digits.len() / 2 + 2,
                    other => panic!("{other:?}"),
                }
        });
        assert!(size.sum::<usize>() <= LARGEST_ITEM);
        let larger = Entry::new(CodecId::RAW, vec![0; MAX_VALUE_LEN + 1], NOW);
        assert!(!fits(&larger));
    }
}
