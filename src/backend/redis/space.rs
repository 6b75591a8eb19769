//! Namespaces as this backend knows them: their generation, and the last deletion that the server acknowledged.

use std::{
    collections::BTreeMap,
    ops::Deref,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard};

use super::{
    location::Location,
    shards::{Layout, Shard, counter_of, counters_of_bucket},
};
use crate::{
    Key,
    backend::generation::{Generation, Namespace},
};

/// So many namespaces are remembered, and a quarter of that in shards; forgetting one costs a round trip, and the memory
/// of its last deletion.
const SPACES: usize = 1024;

/// What is together on one server and has one generation: a namespace, or in a cluster a shard of one. And what this
/// process knows of the deletions there.
#[derive(Debug)]
pub(super) struct Space {
    namespace: Namespace,
    shard: Shard,
    /// The key of the marker, which every verb asks for.
    marker: Vec<u8>,
    last: Mutex<Last>,
    /// How often the server was found to have forgotten deletions, and for how many of those the namespace has begun
    /// anew since.
    losses: AtomicU64,
    renewed: AtomicU64,
    /// One at a time gives the namespace another generation, so that the last one known here is the last one there.
    changing: AsyncMutex<()>,
}

/// What is known of the last deletion, and the connection by which that was seen to be known on the server too.
///
/// A server that was restarted from an older copy of its data has lost what was written since, and so has a replica that
/// took over. A lost entry is a miss; a lost deletion would bring back what was deleted. So whoever comes by another
/// connection asks for the last deletion first.
#[derive(Debug, Default)]
struct Last {
    deletion: Option<Deletion>,
    seen_by: u64,
}

/// What the server answered to a deletion: the counter it raised, and to what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Deletion {
    pub(super) counter: Vec<u8>,
    value: i64,
}

/// Whether a connection may be asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Yes.
    Full,
    /// Only when the server there has been asked for this deletion.
    After(Deletion),
}

impl Deref for Space {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.namespace
    }
}

impl Space {
    fn new(encoded: &[u8], shard: Shard) -> Self {
        let namespace = Namespace::headed(encoded, shard.head(encoded));
        Self {
            marker: namespace.marker_key(),
            namespace,
            shard,
            last: Mutex::default(),
            losses: AtomicU64::new(0),
            renewed: AtomicU64::new(0),
            changing: AsyncMutex::default(),
        }
    }

    pub(super) fn marker(&self) -> &[u8] {
        &self.marker
    }

    /// The slot of a cluster that everything here is in.
    pub(super) fn slot(&self) -> u16 {
        self.shard.slot()
    }

    /// The key of the counter that deletions of `key` raise. The same in every process.
    pub(super) fn counter_key(&self, key: &Key) -> Vec<u8> {
        self.side_key(&format!("i{}", counter_of(key)))
    }

    /// The keys of all counters that deletions of the fields of a key's bucket raise; none without a bucket.
    pub(super) fn counter_keys_of_bucket(&self, key: &Key) -> Vec<Vec<u8>> {
        let counters = key.as_key_ref().bucket_key().map(counters_of_bucket);
        let counters = counters.into_iter().flatten();
        counters
            .map(|number| self.side_key(&format!("i{number}")))
            .collect()
    }

    /// Where the entry of a key is under a generation.
    pub(super) fn locate(&self, generation: Generation, key: &Key) -> Location {
        let key = key.as_key_ref();
        match key.bucket_key().filter(|_| generation.has_hashes()) {
            Some(bucket) => Location::Field {
                hash: self.stored_key(generation, bucket),
                field: key.name().to_vec(),
            },
            None => Location::Key(self.stored_key(generation, key)),
        }
    }

    /// Takes note that the server raised `counter` to `value`, and said so by this connection.
    pub(super) fn deleted(&self, connection: u64, counter: Vec<u8>, value: i64) {
        let mut last = self.last();
        if last.seen_by == connection {
            last.deletion = Some(Deletion { counter, value });
        } else {
            // Another connection is in use, and was perhaps trusted before this deletion was known.
            drop(last);
            self.lose();
        }
    }

    /// Takes note that the counters are no longer a measure: the server had no room for one.
    pub(super) fn forget_deletions(&self) {
        self.last().deletion = None;
    }

    /// Whether the server at the end of this connection is known to know what this process knows.
    pub(super) fn trust(&self, connection: u64) -> Trust {
        let mut last = self.last();
        if last.seen_by == connection {
            return Trust::Full;
        }
        match &last.deletion {
            Some(deletion) => Trust::After(deletion.clone()),
            None => {
                last.seen_by = connection;
                Trust::Full
            }
        }
    }

    /// Takes note of what the counter of a deletion is at the end of a connection. Counters only ever rise.
    pub(super) fn judge(&self, connection: u64, deletion: &Deletion, value: Option<i64>) {
        let mut last = self.last();
        // Another deletion was noted meanwhile, and is yet to be asked for.
        if last.deletion.as_ref() != Some(deletion) {
            return;
        }
        last.seen_by = connection;
        if value.is_none_or(|value| value < deletion.value) {
            drop(last);
            tracing::warn!(
                "the Redis server lost deletions that it had acknowledged: the namespace begins anew"
            );
            self.lose();
        }
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to give the namespace another generation.
    pub(super) async fn changing(&self) -> AsyncMutexGuard<'_, ()> {
        self.changing.lock().await
    }

    /// The losses after which the namespace has yet to begin anew; 0 where there are none.
    pub(super) fn losses(&self) -> u64 {
        let losses = self.losses.load(Ordering::Acquire);
        if losses == self.renewed.load(Ordering::Acquire) {
            return 0;
        }
        losses
    }

    /// Takes note that the namespace has begun anew after `losses`.
    pub(super) fn renewed(&self, losses: u64) {
        self.renewed.fetch_max(losses, Ordering::AcqRel);
    }

    /// Has everything in the namespace end before it is asked again.
    pub(super) fn lose(&self) {
        self.forget_deletions();
        self.losses.fetch_add(1, Ordering::AcqRel);
    }
}

/// A namespace in all its shards.
#[derive(Debug)]
pub(super) struct Whole {
    encoded: Box<[u8]>,
    layout: Layout,
    pub(super) spaces: Box<[Arc<Space>]>,
}

impl Whole {
    fn new(encoded: &[u8], layout: Layout) -> Self {
        let spaces = layout.shards();
        let spaces = spaces.map(|shard| Arc::new(Space::new(encoded, shard)));
        Self {
            encoded: encoded.into(),
            layout,
            spaces: spaces.collect(),
        }
    }

    /// What every key of it on the server begins with, entries of all generations and markers alike.
    pub(super) fn beginning(&self) -> Vec<u8> {
        self.layout.beginning(&self.encoded)
    }

    /// The shard that a key of the server is in, if it is in one.
    pub(super) fn shard(&self, stored: &[u8]) -> Option<&Arc<Space>> {
        let number = self.layout.find(&self.encoded, stored)?;
        self.spaces.get(number)
    }
}

/// The namespaces that this process has to do with.
#[derive(Debug)]
pub(super) struct Spaces {
    layout: Layout,
    known: RwLock<BTreeMap<Box<[u8]>, Arc<Whole>>>,
}

impl Spaces {
    pub(super) fn new(layout: Layout) -> Self {
        Self {
            layout,
            known: RwLock::default(),
        }
    }

    pub(super) fn of(&self, key: &Key) -> Arc<Space> {
        let whole = self.encoded(key.as_key_ref().encoded_namespace());
        whole.spaces[self.shard_of(key)].clone()
    }

    /// The number of the shard of its namespace that a key is in.
    pub(super) fn shard_of(&self, key: &Key) -> usize {
        self.layout.shard_of(key)
    }

    pub(super) fn named(&self, name: &str) -> Arc<Whole> {
        self.encoded(&crate::key::encode_namespace(name))
    }

    fn encoded(&self, encoded: &[u8]) -> Arc<Whole> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(whole) = known.get(encoded) {
            return whole.clone();
        }
        drop(known);
        let most = match self.layout {
            Layout::Whole => SPACES,
            Layout::Sharded => SPACES / 4,
        };
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= most && !known.contains_key(encoded) {
            known.pop_first();
        }
        let whole = known
            .entry(encoded.into())
            .or_insert_with(|| Arc::new(Whole::new(encoded, self.layout)));
        whole.clone()
    }

    pub(super) fn all(&self) -> Vec<Arc<Whole>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shop() -> Arc<Space> {
        let key = Key::new("shop", None, "key");
        Spaces::new(Layout::Whole).of(&key)
    }

    fn counter() -> Vec<u8> {
        b"shop:i1".to_vec()
    }

    #[test]
    fn a_key_has_the_same_counter_in_every_process() {
        let key = Key::new("shop", None, "user:7");
        for (layout, expected) in [
            (Layout::Whole, "shop:i448"),
            (Layout::Sharded, "shop:{TAG}i448"),
        ] {
            let space = Spaces::new(layout).of(&key);
            let head = String::from_utf8(space.shard.head(b"shop")).unwrap();
            let counter = String::from_utf8(space.counter_key(&key)).unwrap();
            let expected = expected.replace("shop:{TAG}", &head);
            assert_eq!(counter, expected);
        }
    }

    #[test]
    fn everything_that_a_verb_needs_has_one_tag() {
        let spaces = Spaces::new(Layout::Sharded);
        let whole = spaces.named("shop");
        for number in 0..1000 {
            let key = Key::new("shop", None, number.to_string());
            let space = spaces.of(&key);
            let head = space.shard.head(b"shop");
            assert!(space.marker().starts_with(&head));
            assert!(space.counter_key(&key).starts_with(&head));
            assert!(Arc::ptr_eq(whole.shard(space.marker()).unwrap(), &space));
        }
    }

    #[test]
    fn a_counter_that_fell_or_went_tells_of_lost_deletions() {
        for (value, lost) in [
            (Some(7), false),
            (Some(9), false),
            (Some(6), true),
            (None, true),
        ] {
            let space = shop();
            assert_eq!(space.trust(1), Trust::Full);
            space.deleted(1, counter(), 7);
            let Trust::After(deletion) = space.trust(2) else {
                panic!("the second connection was trusted");
            };
            space.judge(2, &deletion, value);
            assert_eq!(space.losses() > 0, lost, "{value:?}");
            space.renewed(space.losses());
            assert_eq!(space.losses(), 0);
            assert_eq!(space.trust(2), Trust::Full);
        }
    }

    #[test]
    fn a_namespace_without_deletions_trusts_every_connection() {
        let space = shop();
        for connection in 1..3 {
            assert_eq!(space.trust(connection), Trust::Full);
        }
    }

    #[test]
    fn a_deletion_that_is_noted_while_another_is_asked_for_is_asked_for_too() {
        let space = shop();
        assert_eq!(space.trust(1), Trust::Full);
        space.deleted(1, counter(), 7);
        let Trust::After(first) = space.trust(2) else {
            panic!("the second connection was trusted");
        };
        space.deleted(1, counter(), 8);
        space.judge(2, &first, Some(7));
        assert!(matches!(space.trust(2), Trust::After(_)));
        assert_eq!(space.losses(), 0);
    }

    #[test]
    fn a_deletion_by_a_connection_that_was_replaced_ends_everything() {
        let space = shop();
        assert_eq!(space.trust(1), Trust::Full);
        assert_eq!(space.trust(2), Trust::Full);
        space.deleted(1, counter(), 7);
        assert!(space.losses() > 0);
    }

    #[test]
    fn namespaces_without_number_take_no_memory_without_bound() {
        for layout in [Layout::Whole, Layout::Sharded] {
            let spaces = Spaces::new(layout);
            for number in 0..2 * SPACES {
                spaces.named(&number.to_string());
            }
            assert!(spaces.all().len() <= SPACES);
        }
    }
}
