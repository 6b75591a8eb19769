//! The stored form of an entry: what is written is read, and whatever is read does no harm.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use larder::{CodecId, Entry, ErrorKind, TagStamp, Timestamp};
use proptest::prelude::*;

/// A point in time that the header's 48 bits hold.
const TIMES: std::ops::Range<u64> = 0..(1 << 48) - 1;

fn entries() -> impl Strategy<Value = Entry> {
    let payload = prop::collection::vec(any::<u8>(), 0..200);
    (any::<u8>(), payload, TIMES, prop::option::of(TIMES)).prop_map(
        |(codec, payload, created_at, expires_at)| {
            let created_at = Timestamp::from_millis(created_at);
            Entry::new(CodecId::from_u8(codec), payload, created_at)
                .with_expires_at(expires_at.map(Timestamp::from_millis))
        },
    )
}

fn tags() -> impl Strategy<Value = Vec<TagStamp>> {
    let tag = prop::collection::vec(any::<u8>(), 1..=256);
    let stamp = (".{0,8}", tag, any::<[u8; 16]>());
    let stamp = stamp.prop_map(|(namespace, tag, ids)| TagStamp::new(&namespace, tag, ids));
    prop::collection::vec(stamp.prop_map(Result::unwrap), 1..=Entry::MAX_TAGS)
}

/// Uses an entry in every way that looks at its contents.
fn use_up(entry: &Entry) {
    let _ = entry.as_counter();
    for now in [0, 1, u64::MAX / 2, u64::MAX].map(Timestamp::from_millis) {
        let _ = entry.is_expired(now);
        let _ = entry.remaining(now);
    }
    let _ = format!("{entry:?} {}", entry.weight());
    assert_same(entry, &Entry::from_bytes(entry.to_bytes()).unwrap());
}

#[track_caller]
fn assert_same(entry: &Entry, other: &Entry) {
    assert_eq!(entry.codec(), other.codec());
    assert_eq!(entry.payload(), other.payload());
    assert_eq!(entry.created_at(), other.created_at());
    assert_eq!(entry.expires_at(), other.expires_at());
    assert_eq!(entry.tags(), other.tags());
}

proptest! {
    #[test]
    fn an_entry_is_read_as_it_was_written(entry in entries()) {
        let bytes = entry.to_bytes();
        prop_assert_eq!(bytes.len(), Entry::HEADER_LEN + entry.payload().len());
        assert_same(&entry, &Entry::from_bytes(bytes).unwrap());
    }

    #[test]
    fn an_entry_with_tags_is_read_as_it_was_written(entry in entries(), tags in tags()) {
        let entry = entry.with_tags(tags.clone()).unwrap();
        let keys: usize = tags.iter().map(|tag| tag.marker().encoded().len()).sum();
        let bytes = entry.to_bytes();
        let len = Entry::HEADER_LEN + 18 * tags.len() + keys + entry.payload().len();
        prop_assert_eq!(bytes.len(), len);
        let read = Entry::from_bytes(bytes.clone()).unwrap();
        prop_assert_eq!(read.tags(), &tags[..]);
        prop_assert!(bytes.ends_with(read.payload()));
        assert_same(&entry, &read);
    }

    #[test]
    fn damage_to_tags_makes_another_entry_or_an_error(
        entry in entries(), tags in tags(), at: prop::sample::Index, bit in 0..8, cut: prop::sample::Index,
    ) {
        let entry = entry.with_tags(tags).unwrap();
        let mut bytes = entry.to_bytes().to_vec();
        let head = bytes.len() - entry.payload().len();
        let error = Entry::from_bytes(bytes[..cut.index(head)].to_vec()).unwrap_err();
        prop_assert_eq!(error.kind(), ErrorKind::Decode);
        bytes[at.index(head)] ^= 1_u8 << bit;
        match Entry::from_bytes(bytes.clone()) {
            Ok(read) => {
                use_up(&read);
                prop_assert_eq!(read.to_bytes(), Bytes::from(bytes));
            }
            Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Decode),
        }
    }

    #[test]
    fn bytes_that_promise_tags_are_an_entry_or_an_error(count: u8, rest: Vec<u8>) {
        let mut bytes = vec![0xC5, 2, 1, count];
        bytes.extend([0; 12]);
        bytes.extend(rest);
        match Entry::from_bytes(bytes.clone()) {
            Ok(entry) => prop_assert_eq!(entry.to_bytes(), Bytes::from(bytes)),
            Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Decode),
        }
    }

    #[test]
    fn any_bytes_are_an_entry_or_an_error(bytes: Vec<u8>) {
        match Entry::from_bytes(bytes) {
            Ok(entry) => use_up(&entry),
            Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Decode),
        }
    }

    #[test]
    fn a_header_with_a_flipped_bit_is_another_entry_or_an_error(
        entry in entries(), bit in 0..Entry::HEADER_LEN * 8,
    ) {
        let mut bytes = entry.to_bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        match Entry::from_bytes(bytes.clone()) {
            Ok(read) => {
                use_up(&read);
                prop_assert_eq!(read.payload(), entry.payload());
                prop_assert_eq!(read.to_bytes(), Bytes::from(bytes));
            }
            Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Decode),
        }
    }

    #[test]
    fn a_header_cut_short_is_an_error(entry in entries(), len in 0..Entry::HEADER_LEN) {
        let error = Entry::from_bytes(entry.to_bytes().slice(..len)).unwrap_err();
        prop_assert_eq!(error.kind(), ErrorKind::Decode);
    }

    #[test]
    fn a_counter_is_read_as_the_number_it_was(value: i64) {
        let counter = Entry::counter(value, Timestamp::from_millis(0));
        let read = Entry::from_bytes(counter.to_bytes()).unwrap();
        prop_assert_eq!(read.as_counter().unwrap(), value);
    }
}

#[test]
fn a_time_beyond_the_header_is_its_last_and_not_never() {
    let end = Timestamp::from_millis(u64::MAX);
    let entry = Entry::new(CodecId::RAW, "", end).with_expires_at(Some(end));
    let read = Entry::from_bytes(entry.to_bytes()).unwrap();
    assert_eq!(
        read.expires_at(),
        Some(Timestamp::from_millis((1 << 48) - 2))
    );
}

#[test]
fn the_payload_is_read_without_a_copy() {
    let bytes = Entry::new(CodecId::RAW, "payload", Timestamp::from_millis(0)).to_bytes();
    let read = Entry::from_bytes(bytes.clone()).unwrap();
    assert_eq!(
        read.payload().as_ptr(),
        bytes.slice(Entry::HEADER_LEN..).as_ptr()
    );
}

#[test]
fn a_tag_has_1_to_256_bytes_and_an_entry_at_most_64_of_them() {
    let kind = |error: larder::Error| error.kind();
    for tag in ["", &"x".repeat(257)] {
        let stamp = TagStamp::new("shop", tag, [0; 16]).map_err(kind);
        assert_eq!(stamp, Err(ErrorKind::InvalidTag));
    }
    let stamp = TagStamp::new("shop", "x".repeat(256), [0; 16]).unwrap();
    let entry = Entry::new(CodecId::RAW, "payload", Timestamp::from_millis(0));
    let refused = entry.clone().with_tags(vec![stamp.clone(); 65]);
    assert_eq!(refused.map(drop).map_err(kind), Err(ErrorKind::InvalidTag));
    let tagged = entry.clone().with_tags(vec![stamp; 64]).unwrap();
    assert_eq!(tagged.tags().len(), 64);
    assert!(tagged.weight() > entry.weight() + 64 * 256);
    assert_eq!(tagged.with_tags([]).unwrap().to_bytes(), entry.to_bytes());
}

#[test]
fn a_tag_does_not_show_its_name() {
    let stamp = TagStamp::new("shop", "s3cret", [0; 16]).unwrap();
    assert_eq!(format!("{stamp:?}"), "TagStamp(Key(shop, 6 bytes))");
}

/// Two ways to write one marker would be two markers.
#[test]
fn a_marker_is_written_in_one_way_only() {
    let stamp = TagStamp::new("s:p", "red", [0; 16]).unwrap();
    let entry = Entry::new(CodecId::RAW, "", Timestamp::from_millis(0));
    let bytes = entry.with_tags([stamp]).unwrap().to_bytes();
    let text = |from: &str, to: &str| {
        let at = bytes
            .windows(from.len())
            .position(|it| it == from.as_bytes());
        let mut bytes = bytes.to_vec();
        let at = at.unwrap();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        Entry::from_bytes(bytes).map(drop).map_err(|it| it.kind())
    };
    assert_eq!(text("s%3Ap", "s%3Ap"), Ok(()));
    assert_eq!(text("s%3Ap", "s%3ap"), Err(ErrorKind::Decode));
    assert_eq!(text("s%3Ap", "s%41p"), Err(ErrorKind::Decode));
    assert_eq!(text("@tag:", "@tog:"), Err(ErrorKind::Decode));
    assert_eq!(text("@tag:", "@tag/"), Err(ErrorKind::Decode));
}
