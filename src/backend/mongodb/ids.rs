//! Under which `_id` a key is stored.
//!
//! An `_id` is a document of three fields, `n` for the namespace, `g` for its generation, `k` for the rest of the key, and
//! the server compares them in this order. So what belongs to a namespace, to a generation, or to a prefix of keys, is one
//! range of the index that every collection has. Texts stand for bytes, a character from U+0000 to U+00FF for each: unlike
//! binary values, which the server compares by their length first, they keep the order and the prefixes of the bytes.

use mongodb::bson::{RawBinaryRef, RawBsonRef, RawDocument, RawDocumentBuf, rawdoc};

use super::super::generation::Generation;

/// Longer keys are cut, and told apart by a hash: the index holds every `_id` once more.
const LONGEST: usize = 1_024;

/// So much of a longer key remains before its hash.
const KEPT: usize = 512;

/// Stands before the hash. No byte is written as this character.
const CUT: char = '\u{100}';

/// The `g` of a marker, which no generation has.
pub(super) const MARKER: i64 = 0;

/// An `_id`, and the whole key where the `_id` does not hold it.
#[derive(Clone, Debug)]
pub(super) struct Id {
    pub(super) document: RawDocumentBuf,
    pub(super) whole: Option<Box<[u8]>>,
}

impl Id {
    /// Of the entry under a key, which is what follows its namespace there.
    pub(super) fn entry(namespace: &[u8], generation: Generation, key: &[u8]) -> Self {
        Self {
            document: rawdoc! { "n": text(namespace), "g": number(generation), "k": text(key) },
            whole: (key.len() > LONGEST).then(|| key.into()),
        }
    }

    /// Of the marker of a namespace.
    pub(super) fn marker(namespace: &[u8]) -> Self {
        Self {
            document: rawdoc! { "n": text(namespace), "g": MARKER },
            whole: None,
        }
    }
}

/// The generation as a number, greater than that of a marker because its letters are.
pub(super) fn number(generation: Generation) -> i64 {
    generation.as_u64().cast_signed()
}

/// What a foreign `_id` of this collection names: a namespace, and a generation's number.
pub(super) fn place(id: &RawDocument) -> Option<(&str, i64)> {
    let namespace = id.get("n").ok()??.as_str()?;
    let generation = id.get("g").ok()??.as_i64()?;
    Some((namespace, generation))
}

/// Where the `_id`s of a namespace begin that have this `g` or a greater one.
pub(super) fn from(namespace: &str, generation: i64) -> RawDocumentBuf {
    rawdoc! { "n": namespace, "g": generation }
}

/// What comes after all `_id`s of a namespace.
pub(super) fn after(namespace: &str) -> RawDocumentBuf {
    let mut id = rawdoc! { "n": namespace };
    id.append_ref("g", RawBsonRef::MaxKey);
    id
}

/// What comes after the `_id`s of all namespaces.
pub(super) fn end() -> RawDocumentBuf {
    let mut id = RawDocumentBuf::new();
    id.append_ref("n", RawBsonRef::MaxKey);
    id
}

/// The key of an `_id`, which is what follows the namespace there, by the document's own account where it was cut.
pub(super) fn key(id: &RawDocument, whole: Option<RawBinaryRef<'_>>) -> Option<Vec<u8>> {
    if let Some(whole) = whole {
        return Some(whole.bytes.to_vec());
    }
    let text = id.get_str("k").ok()?;
    text.chars().map(|char| u8::try_from(char).ok()).collect()
}

/// The ranges, from the first up to but without the second, that every key which begins with `prefix` is in. Among those
/// of the second range may be others.
pub(super) fn beginning_with(
    namespace: &[u8],
    generation: Generation,
    prefix: &[u8],
) -> Vec<(RawDocumentBuf, RawDocumentBuf)> {
    let range = |begins: &str| {
        let id = |key: String| rawdoc! { "n": text(namespace), "g": number(generation), "k": key };
        // Every character that may follow is smaller than this.
        (id(begins.into()), id(format!("{begins}\u{101}")))
    };
    let mut ranges = vec![range(&latin(prefix))];
    if prefix.len() > KEPT {
        ranges.push(range(&format!("{}{CUT}", latin(&prefix[..KEPT]))));
    }
    ranges
}

/// Bytes as a text. No two byte strings have the same.
fn text(bytes: &[u8]) -> String {
    if bytes.len() <= LONGEST {
        return latin(bytes);
    }
    let hash = blake3::hash(bytes).to_hex();
    format!("{}{CUT}{hash}", latin(&bytes[..KEPT]))
}

fn latin(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use mongodb::bson::spec::BinarySubtype;
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn generation() -> Generation {
        Generation::read(b"abcdEF-_").unwrap()
    }

    fn entry(namespace: &[u8], key: &[u8]) -> Vec<u8> {
        let id = Id::entry(namespace, generation(), key);
        id.document.as_bytes().to_vec()
    }

    /// Short ones, and some around the length from which they are cut.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            vec(any::<u8>(), 0..6),
            vec(prop_oneof![Just(b'a'), Just(0xFF)], KEPT..KEPT + 3),
            vec(
                prop_oneof![99 => Just(b'a'), 1 => any::<u8>()],
                LONGEST - 1..LONGEST + 3
            ),
        ]
    }

    proptest! {
        #[test]
        fn no_two_keys_meet_on_one_id(one in (bytes(), bytes()), two in (bytes(), bytes())) {
            let meet = entry(&one.0, &one.1) == entry(&two.0, &two.1);
            prop_assert_eq!(meet, one == two);
        }

        #[test]
        fn a_key_is_read_back_from_its_id(key in bytes()) {
            let id = Id::entry(b"shop", generation(), &key);
            let whole = id.whole.as_deref().map(|bytes| RawBinaryRef { subtype: BinarySubtype::Generic, bytes });
            prop_assert_eq!(super::key(&id.document, whole), Some(key));
        }

        #[test]
        fn no_key_meets_a_marker(namespace in bytes(), key in bytes(), other in bytes()) {
            let marker = Id::marker(&other).document;
            prop_assert_ne!(entry(&namespace, &key), marker.as_bytes());
        }

        #[test]
        fn a_text_has_the_order_of_its_bytes(one in vec(any::<u8>(), 0..6), two in vec(any::<u8>(), 0..6)) {
            prop_assert_eq!(text(&one).cmp(&text(&two)), one.cmp(&two));
        }

        #[test]
        fn a_key_is_in_the_ranges_of_its_prefixes_alone(key in bytes(), prefix in bytes(), len in 0..KEPT + 5) {
            let own = &key[..len.min(key.len())];
            for prefix in [own, &prefix] {
                let text = text(&key);
                let ranges = beginning_with(b"shop", generation(), prefix);
                let found = ranges.iter().filter(|(from, to)| {
                    let begins = from.get_str("k").unwrap();
                    begins <= text.as_str() && text.as_str() < to.get_str("k").unwrap()
                });
                let found = found.count();
                let begins = key.starts_with(prefix);
                prop_assert!(found == usize::from(begins) || key.len() > LONGEST && prefix.len() > KEPT && found <= 1);
                prop_assert!(found > 0 || !begins);
            }
        }
    }

    #[test]
    fn long_keys_have_ids_of_bounded_length() {
        let id = Id::entry(&[b'n'; 100_000], generation(), &[0xFF; 100_000]);
        assert!(id.document.as_bytes().len() < 2_500);
        assert_eq!(id.whole.as_deref(), Some(&[0xFF; 100_000][..]));
        assert!(
            Id::entry(b"shop", generation(), &[7; LONGEST])
                .whole
                .is_none()
        );
    }
}
