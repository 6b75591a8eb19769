//! The stored form of an entry: what is written is read, and whatever is read does no harm.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use larder::{CodecId, Entry, ErrorKind, Timestamp};
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
}

proptest! {
    #[test]
    fn an_entry_is_read_as_it_was_written(entry in entries()) {
        let bytes = entry.to_bytes();
        prop_assert_eq!(bytes.len(), Entry::HEADER_LEN + entry.payload().len());
        assert_same(&entry, &Entry::from_bytes(bytes).unwrap());
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
