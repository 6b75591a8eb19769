//! Generations of namespaces, for backends on servers: clearing a namespace is changing one small marker there.
//!
//! The marker's content is part of every key under which an entry of the namespace is stored, so changing it puts all
//! of them out of reach at once. Whoever asks the server asks for the marker in the same round trip, and asks again
//! where it turns out to have changed. A marker that is absent is made anew and never assumed: a server that forgot it
//! may have forgotten any clearing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use crate::{
    KeyRef,
    key::{NAMESPACE_ENDS, encode_namespace},
};

/// So many namespaces are remembered; forgetting one costs a round trip, and no more.
const NAMESPACES: usize = 1024;

/// So many past generations of a namespace are remembered, to know them when a server has gone back in time.
const PAST: usize = 64;

/// What stands for the entries of a namespace between two clearings: 48 random bits, written as eight letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Generation([u8; Generation::LEN]);

impl Generation {
    pub(super) const LEN: usize = 8;

    /// The first letter of a generation whose buckets are hashes.
    #[cfg(feature = "redis")]
    const HASHES: u8 = b'_';

    /// One that no namespace has had before.
    pub(super) fn random() -> Self {
        const LETTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut bytes = [0; Self::LEN];
        getrandom::fill(&mut bytes).expect("the operating system has a source of random numbers");
        Self(bytes.map(|byte| LETTERS[usize::from(byte % 64)]))
    }

    /// The same, telling every process how the buckets of the namespace are kept: in one hash each, or in keys.
    #[cfg(feature = "redis")]
    pub(super) fn random_with(has_hashes: bool) -> Self {
        let mut new = Self::random();
        new.0[0] = match new.0[0] {
            _ if has_hashes => Self::HASHES,
            Self::HASHES => b'A',
            letter => letter,
        };
        new
    }

    /// Whether the buckets of the namespace are in one hash each.
    #[cfg(feature = "redis")]
    pub(super) fn has_hashes(self) -> bool {
        self.0[0] == Self::HASHES
    }

    /// The generation that a marker names; `None` for bytes that no marker has.
    pub(super) fn read(marker: &[u8]) -> Option<Self> {
        let letters: [u8; Self::LEN] = marker.try_into().ok()?;
        let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        letters.iter().all(is_letter).then_some(Self(letters))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The generation as a number, for leases.
    pub(super) fn as_u64(self) -> u64 {
        u64::from_be_bytes(self.0)
    }
}

/// The namespaces that this process has to do with.
#[derive(Debug, Default)]
pub(super) struct Namespaces(RwLock<HashMap<Box<[u8]>, Arc<Namespace>>>);

impl Namespaces {
    /// The namespace of a key.
    pub(super) fn of(&self, key: KeyRef<'_>) -> Arc<Namespace> {
        self.encoded(key.encoded_namespace())
    }

    /// The namespace of this name.
    pub(super) fn named(&self, name: &str) -> Arc<Namespace> {
        self.encoded(&encode_namespace(name))
    }

    fn encoded(&self, encoded: &[u8]) -> Arc<Namespace> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(namespace) = known.get(encoded) {
            return namespace.clone();
        }
        drop(known);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= NAMESPACES && !known.contains_key(encoded) {
            let any = known.keys().next().cloned();
            any.and_then(|any| known.remove(&any));
        }
        let namespace = known
            .entry(encoded.into())
            .or_insert_with(|| Arc::new(Namespace::new(encoded)));
        namespace.clone()
    }
}

/// A namespace, and what this process knows of its generations.
#[derive(Debug)]
pub(super) struct Namespace {
    /// What all of its keys on the server begin with.
    head: Box<[u8]>,
    /// How much of a key is its namespace.
    encoded_len: usize,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    current: Option<Generation>,
    past: Vec<Generation>,
}

/// What a marker says, compared with what was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marker {
    /// What was known.
    Same,
    /// The namespace was cleared by somebody else; the new generation is known now.
    Changed,
    /// There is no marker, or it is one of a generation that is over: the server lost what it had been told.
    Lost,
}

impl Namespace {
    fn new(encoded: &[u8]) -> Self {
        Self::headed(encoded, [encoded, b":"].concat())
    }

    /// The one of this encoded name, whose keys on the server begin with `head` in place of the name and a colon.
    pub(super) fn headed(encoded: &[u8], head: Vec<u8>) -> Self {
        Self {
            head: head.into(),
            encoded_len: encoded.len(),
            known: Mutex::default(),
        }
    }

    /// The generation as this process knows it; `None` before the server was asked.
    pub(super) fn generation(&self) -> Option<Generation> {
        self.known().current
    }

    /// Takes note of what the server says, to a caller that asked by the generation `used`.
    pub(super) fn compare(&self, used: Generation, marker: Option<&[u8]>) -> Marker {
        let Some(found) = marker.and_then(Generation::read) else {
            return Marker::Lost;
        };
        if found == used {
            return Marker::Same;
        }
        let mut known = self.known();
        if known.current != Some(used) {
            // Another answer was quicker, and which of the two is the later one cannot be told. Taking this one for it
            // would make the other's generation one that is over, and the namespace would begin anew for nothing.
            return Marker::Changed;
        }
        known.learn(found)
    }

    /// Takes note of a marker that was found or made on the server.
    pub(super) fn learn(&self, found: Generation) -> Marker {
        self.known().learn(found)
    }

    /// Whether this process knows that `generation` was the namespace's and is no longer.
    #[cfg(feature = "redis")]
    pub(super) fn is_over(&self, generation: Generation) -> bool {
        self.known().past.contains(&generation)
    }

    /// Takes note that `generation` was made by this process just now.
    pub(super) fn begin(&self, generation: Generation) {
        self.known().become_current(generation);
    }

    /// The name as it is within keys, of a namespace that has no other [head](Self::headed).
    #[cfg(any(feature = "mongodb", feature = "_sql"))]
    pub(super) fn encoded(&self) -> &[u8] {
        &self.head[..self.encoded_len]
    }

    /// What every key of the namespace on the server begins with, entries of all generations and markers alike.
    #[cfg(any(feature = "redis", feature = "memcached"))]
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// The key of the marker on the server: `namespace:generation`, which no entry can have.
    pub(super) fn marker_key(&self) -> Vec<u8> {
        [&self.head, &b"generation"[..]].concat()
    }

    /// The key of something else that belongs to the namespace, whatever its generation. `name` is of letters and
    /// digits, so that no entry can have that key.
    #[cfg(feature = "redis")]
    pub(super) fn side_key(&self, name: &str) -> Vec<u8> {
        [&self.head, name.as_bytes()].concat()
    }

    /// The key that an entry is stored under: the namespace first, so that servers can confine a user to it, then the
    /// generation, then the rest of the key as it is.
    pub(super) fn stored_key(&self, generation: Generation, key: KeyRef<'_>) -> Vec<u8> {
        let rest = &key.encoded()[self.encoded_len..];
        debug_assert!(NAMESPACE_ENDS.contains(&rest[0]));
        [&self.head, generation.as_bytes(), rest].concat()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn learn(&mut self, found: Generation) -> Marker {
        if self.past.contains(&found) {
            return Marker::Lost;
        }
        self.become_current(found);
        Marker::Changed
    }

    fn become_current(&mut self, generation: Generation) {
        let before = self.current.replace(generation);
        if let Some(before) = before.filter(|before| *before != generation) {
            if self.past.len() >= PAST {
                self.past.remove(0);
            }
            self.past.push(before);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Key;

    fn namespace() -> Arc<Namespace> {
        Namespaces::default().named("shop")
    }

    #[test]
    fn a_stored_key_has_namespace_generation_and_name() {
        let generation = Generation::read(b"abcdEF-_").unwrap();
        let key = Key::new("shop", Some("bucket"), "user:7");
        let stored = namespace().stored_key(generation, key.as_key_ref());
        assert_eq!(stored, b"shop:abcdEF-_/bucket:user:7");
        assert_eq!(namespace().marker_key(), b"shop:generation");
    }

    #[test]
    fn what_is_no_marker_names_no_generation() {
        for marker in [&b""[..], b"abcdEF-", b"abcdEF-_9", b"abcdEF-:"] {
            assert_eq!(Generation::read(marker), None);
        }
        let random = Generation::random();
        assert_eq!(Generation::read(random.as_bytes()), Some(random));
    }

    #[cfg(feature = "redis")]
    #[test]
    fn a_generation_says_how_its_buckets_are_kept() {
        for _ in 0..1_000 {
            for has_hashes in [false, true] {
                let letters = Generation::random_with(has_hashes);
                let read = Generation::read(letters.as_bytes()).unwrap();
                assert_eq!(read.has_hashes(), has_hashes);
            }
        }
    }

    #[test]
    fn a_clearing_by_somebody_else_is_learnt() {
        let (namespace, old, new) = (namespace(), Generation::random(), Generation::random());
        namespace.begin(old);
        assert_eq!(namespace.compare(old, Some(old.as_bytes())), Marker::Same);
        assert_eq!(
            namespace.compare(old, Some(new.as_bytes())),
            Marker::Changed
        );
        assert_eq!(namespace.generation(), Some(new));
    }

    /// Two clearings by others, and answers from before each of them that are looked at in another order.
    #[test]
    fn answers_that_overtake_each_other_are_no_loss() {
        let (namespace, old) = (namespace(), Generation::random());
        let (first, second) = (Generation::random(), Generation::random());
        namespace.begin(old);
        for marker in [second, first] {
            let told = namespace.compare(old, Some(marker.as_bytes()));
            assert_eq!(told, Marker::Changed);
        }
        let used = namespace.generation().unwrap();
        let told = namespace.compare(used, Some(second.as_bytes()));
        assert_ne!(told, Marker::Lost);
    }

    #[test]
    fn a_server_that_went_back_in_time_is_found_out() {
        let (namespace, old, new) = (namespace(), Generation::random(), Generation::random());
        namespace.begin(old);
        namespace.begin(new);
        assert_eq!(namespace.compare(new, Some(old.as_bytes())), Marker::Lost);
        assert_eq!(namespace.compare(new, None), Marker::Lost);
        assert_eq!(namespace.generation(), Some(new));
    }

    #[test]
    fn namespaces_without_number_take_no_memory_without_bound() {
        let namespaces = Namespaces::default();
        for number in 0..3 * NAMESPACES {
            namespaces.named(&number.to_string());
        }
        assert!(namespaces.0.read().unwrap().len() <= NAMESPACES);
    }

    proptest! {
        #[test]
        fn no_two_keys_meet_on_one_stored_key(
            one in (".{0,4}", proptest::option::of(".{0,4}"), proptest::collection::vec(any::<u8>(), 0..12)),
            two in (".{0,4}", proptest::option::of(".{0,4}"), proptest::collection::vec(any::<u8>(), 0..12)),
            generations in (0..2_usize, 0..2_usize),
        ) {
            let known = [b"AAAAAAAA", b"generati"].map(|letters| Generation::read(letters).unwrap());
            let namespaces = Namespaces::default();
            let stored = |(namespace, bucket, name): &(String, Option<String>, Vec<u8>), generation: usize| {
                let key = Key::new(namespace, bucket.as_deref(), name);
                let namespace = namespaces.of(key.as_key_ref());
                (namespace.stored_key(known[generation], key.as_key_ref()), namespace.marker_key())
            };
            let (first, marker) = stored(&one, generations.0);
            let (second, _) = stored(&two, generations.1);
            prop_assert_eq!(first == second, one == two && generations.0 == generations.1);
            prop_assert_ne!(second, marker);
        }
    }
}
