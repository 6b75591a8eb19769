//! The bytes that items are stored under.

use crate::{
    KeyRef,
    backend::generation::{Generation, Namespace},
};

/// So many markers has a namespace, each for its share of the keys: one item answers three thousand reads a second and
/// no more, and every verb reads a marker. Older versions of the local service take ten items in a transaction at most.
pub(super) const SHARES: usize = 8;

/// The longest key that the service takes, in bytes.
const LONGEST: usize = 2048;

/// What a key that was shortened begins with. No other does: a namespace has none in its encoded form, and the first
/// byte after it is a colon.
const SHORTENED: u8 = b'/';

/// The share of its namespace that a key is in, the same for every process.
pub(super) fn share(key: KeyRef<'_>) -> usize {
    usize::from(blake3::hash(key.encoded()).as_bytes()[0]) % SHARES
}

/// Under what an entry or a counter is stored.
pub(super) fn key(namespace: &Namespace, generation: Generation, key: KeyRef<'_>) -> Vec<u8> {
    fitting(namespace.stored_key(generation, key))
}

/// Under what the marker of a share is stored: that of a namespace with one more letter, which no entry can have.
pub(super) fn marker(namespace: &Namespace, share: usize) -> Vec<u8> {
    const DIGITS: &[u8; SHARES] = b"01234567";
    let mut key = namespace.marker_key();
    key.push(DIGITS[share]);
    fitting(key)
}

/// The key itself, or a strong hash in place of one that is too long.
fn fitting(key: Vec<u8>) -> Vec<u8> {
    if key.len() <= LONGEST {
        return key;
    }
    let hash = blake3::hash(&key);
    [&[SHORTENED][..], hash.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::{Key, backend::generation::Namespaces};

    fn of(namespaces: &Namespaces, key: &Key) -> Arc<Namespace> {
        namespaces.of(key.as_key_ref())
    }

    fn generation(letters: &[u8]) -> Generation {
        Generation::read(letters).unwrap()
    }

    /// A name that is short, about as long as is allowed, or far too long; the ends of two such names differ or not.
    fn name() -> impl Strategy<Value = Vec<u8>> {
        let len = prop_oneof![Just(0), Just(1), 2_000..2_060_usize, Just(5_000)];
        (len, "[ab/#:]{0,2}", any::<bool>()).prop_map(|(len, end, high)| {
            let filler = if high { 0xFF } else { b'/' };
            [&vec![filler; len][..], end.as_bytes()].concat()
        })
    }

    fn namespace() -> impl Strategy<Value = String> {
        prop_oneof![".{0,3}", Just("/".to_owned()), Just("n".repeat(3_000))]
    }

    proptest! {
        #[test]
        fn no_two_keys_meet_however_long_they_are(
            one in (namespace(), name()),
            two in (namespace(), name()),
            generations in (0..2_usize, 0..2_usize),
        ) {
            let known = [generation(b"AAAAAAAA"), generation(b"generati")];
            let namespaces = Namespaces::default();
            let stored = |(space, name): &(String, Vec<u8>), number: usize| {
                let key = Key::new(space, None, name);
                let namespace = of(&namespaces, &key);
                (super::key(&namespace, known[number], key.as_key_ref()), namespace)
            };
            let (first, _) = stored(&one, generations.0);
            let (second, namespace) = stored(&two, generations.1);
            prop_assert_eq!(first == second, one == two && generations.0 == generations.1);
            prop_assert!(first.len() <= LONGEST);
            for share in 0..SHARES {
                prop_assert_ne!(&marker(&namespace, share), &first);
            }
        }
    }

    #[test]
    fn a_key_of_the_longest_length_is_stored_as_it_is() {
        let namespaces = Namespaces::default();
        let stored = |len: usize| {
            let key = Key::new("n", None, vec![b'x'; len]);
            super::key(
                &of(&namespaces, &key),
                generation(b"AAAAAAAA"),
                key.as_key_ref(),
            )
        };
        let head = b"n:AAAAAAAA:".len();
        assert!(stored(LONGEST - head).starts_with(b"n:AAAAAAAA:x"));
        assert_eq!(stored(LONGEST - head).len(), LONGEST);
        assert_eq!(stored(LONGEST - head + 1).len(), 33);
    }

    #[test]
    fn every_share_has_a_marker_of_its_own_and_keys_of_its_own() {
        let namespaces = Namespaces::default();
        let namespace = namespaces.named("shop");
        assert_eq!(marker(&namespace, 5), b"shop:generation5");
        let mut counts = [0; SHARES];
        for name in 0..16_000 {
            counts[share(Key::new("shop", None, name.to_string()).as_key_ref())] += 1;
        }
        assert!(
            counts.iter().all(|count| (1_750..2_250).contains(count)),
            "{counts:?}"
        );
    }
}
