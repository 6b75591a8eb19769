//! The bytes that a key is stored under.

use bytes::Bytes;

use crate::{Error, ErrorKind, Key, Result};

/// The length of what a long key is stored under. Indexes of MySQL hold 3072 bytes, those of PostgreSQL 2700.
pub(super) const LIMIT: usize = 1024;

/// What a long key keeps of itself; the rest is its hash.
const HEAD: usize = LIMIT - blake3::OUT_LEN;

/// A key as it is when it is shorter than the limit, and otherwise its beginning and a hash of the whole, which have the
/// length of the limit. So a short key never meets a long one, and two long ones meet where BLAKE3 has a collision.
pub(super) fn stored(encoded: &[u8]) -> Bytes {
    if encoded.len() < LIMIT {
        return Bytes::copy_from_slice(encoded);
    }
    let hash = blake3::hash(encoded);
    [&encoded[..HEAD], hash.as_bytes()].concat().into()
}

/// Where what is stored under keys with this prefix begins, and what comes after all of it.
pub(super) fn range(prefix: &Key) -> Result<(Bytes, Bytes)> {
    let first = prefix.encoded();
    if first.len() > HEAD {
        let message =
            format!("a prefix of more than {HEAD} bytes, with its namespace, is too long");
        return Err(Error::new(ErrorKind::TooLarge, message));
    }
    let mut after = first.to_vec();
    while after.last() == Some(&u8::MAX) {
        after.pop();
    }
    let last = after.last_mut();
    *last.expect("a key has a colon, which is not the largest byte") += 1;
    Ok((Bytes::copy_from_slice(first), after.into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Keys around the limit that differ in few places, so that what could meet is tried.
    fn keys() -> impl Strategy<Value = Vec<u8>> {
        let len = prop_oneof![
            0..4_usize,
            LIMIT - 40..LIMIT + 40,
            Just(HEAD),
            Just(3 * LIMIT)
        ];
        (len, 0..3_u8, any::<prop::sample::Index>()).prop_map(|(len, byte, place)| {
            let mut key = vec![b'k'; len];
            if len > 0 {
                key[place.index(len)] = byte;
            }
            key
        })
    }

    proptest! {
        #[test]
        fn no_two_keys_are_stored_under_one(one in keys(), two in keys()) {
            prop_assert_eq!(stored(&one) == stored(&two), one == two);
            prop_assert!(stored(&one).len() <= LIMIT);
        }

        #[test]
        fn what_a_long_key_is_stored_under_is_no_other_key(key in proptest::collection::vec(any::<u8>(), LIMIT..LIMIT + 9)) {
            let stored_once = stored(&key);
            prop_assert_ne!(stored(&stored_once), stored_once);
        }

        #[test]
        fn a_range_holds_what_begins_with_the_prefix(
            prefix in proptest::collection::vec(prop_oneof![Just(255_u8), any::<u8>()], 0..4),
            name in proptest::collection::vec(prop_oneof![Just(255_u8), any::<u8>()], 0..6),
            long: bool,
        ) {
            let key = |name: &[u8]| Key::new("shop", None, name);
            let mut name = name;
            if long {
                name.extend_from_slice(&[7; 2 * LIMIT]);
            }
            let (first, after) = range(&key(&prefix)).unwrap();
            let stored = stored(key(&name).encoded());
            prop_assert_eq!((first..after).contains(&stored), name.starts_with(&prefix));
        }
    }

    #[test]
    fn a_prefix_that_does_not_fit_is_refused() {
        let error = range(&Key::new("shop", None, [b'p'; LIMIT])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
    }
}
