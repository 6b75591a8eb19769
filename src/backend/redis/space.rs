//! Namespaces as this backend knows them: their generation, and the last deletion that the server acknowledged.

use std::{
    collections::BTreeMap,
    ops::Deref,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{Mutex as AsyncMutex, MutexGuard};

use crate::{
    Key,
    backend::generation::{Namespace, Namespaces},
};

/// So many namespaces are remembered; forgetting one costs a round trip, and the memory of its last deletion.
const SPACES: usize = 1024;

/// Deletions are counted in so many counters a namespace: few enough to be cheap on the server, and enough that
/// a deletion seldom ends the lease of a load of another key.
const SHARDS: u16 = 1024;

/// A namespace, and what this process knows of the deletions there.
#[derive(Debug)]
pub(super) struct Space {
    namespace: Arc<Namespace>,
    /// The key of the marker, which every verb asks for.
    marker: Vec<u8>,
    last: Mutex<Option<Deletion>>,
    /// How often the server was found to have forgotten deletions, and for how many of those the namespace has begun
    /// anew since.
    losses: AtomicU64,
    renewed: AtomicU64,
    /// One at a time gives the namespace another generation, so that the last one known here is the last one there.
    changing: AsyncMutex<()>,
}

/// What the server answered to a deletion: the counter it raised, and to what.
#[derive(Clone, Debug)]
struct Deletion {
    counter: Vec<u8>,
    value: i64,
}

impl Deref for Space {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.namespace
    }
}

impl Space {
    pub(super) fn marker(&self) -> &[u8] {
        &self.marker
    }

    /// The key of the counter that deletions of `key` raise. The same in every process.
    pub(super) fn counter_key(&self, key: &Key) -> Vec<u8> {
        let hash = blake3::hash(key.encoded());
        let [low, high, ..] = *hash.as_bytes();
        let shard = u16::from_le_bytes([low, high]) % SHARDS;
        self.side_key(&format!("i{shard}"))
    }

    /// Takes note that the server raised `counter` to `value`.
    pub(super) fn deleted(&self, counter: Vec<u8>, value: i64) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Deletion { counter, value });
    }

    /// Takes note that the counters are no longer a measure: the server had no room for one.
    pub(super) fn forget_deletions(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn last_deletion(&self) -> Option<Deletion> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.clone()
    }

    /// The right to give the namespace another generation.
    pub(super) async fn changing(&self) -> MutexGuard<'_, ()> {
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

/// The namespaces that this process has to do with.
#[derive(Debug, Default)]
pub(super) struct Spaces {
    shared: Namespaces,
    known: RwLock<BTreeMap<Box<[u8]>, Arc<Space>>>,
}

impl Spaces {
    pub(super) fn of(&self, key: &Key) -> Arc<Space> {
        let encoded = key.as_key_ref().encoded_namespace();
        self.known(encoded)
            .unwrap_or_else(|| self.add(encoded, self.shared.of(key.as_key_ref())))
    }

    pub(super) fn named(&self, name: &str) -> Arc<Space> {
        let encoded = crate::key::encode_namespace(name);
        self.known(&encoded)
            .unwrap_or_else(|| self.add(&encoded, self.shared.named(name)))
    }

    fn known(&self, encoded: &[u8]) -> Option<Arc<Space>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(encoded).cloned()
    }

    fn add(&self, encoded: &[u8], namespace: Arc<Namespace>) -> Arc<Space> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= SPACES && !known.contains_key(encoded) {
            known.pop_first();
        }
        let space = known.entry(encoded.into()).or_insert_with(|| {
            Arc::new(Space {
                marker: namespace.marker_key(),
                namespace,
                last: Mutex::default(),
                losses: AtomicU64::new(0),
                renewed: AtomicU64::new(0),
                changing: AsyncMutex::default(),
            })
        });
        space.clone()
    }

    pub(super) fn all(&self) -> Vec<Arc<Space>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.values().cloned().collect()
    }

    /// What to ask a server whose connection is new: whether it still knows of the last deletions.
    pub(super) fn audit(&self) -> Audit {
        let spaces = self.all().into_iter();
        let remembered = spaces.filter_map(|space| {
            let last = space.last_deletion()?;
            Some((space, last))
        });
        Audit(remembered.collect())
    }
}

/// Deletions that a server acknowledged, to be found again after the connection to it was lost.
///
/// A server that was restarted from an older copy of its data has lost what was written since. A lost entry is a miss;
/// a lost deletion would bring back what was deleted.
pub(super) struct Audit(Vec<(Arc<Space>, Deletion)>);

impl Audit {
    /// The counters to read, in the order that [`judge`](Self::judge) expects.
    pub(super) fn counters(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.0.iter().map(|(_, last)| last.counter.as_slice())
    }

    /// Marks the namespaces of which the server has forgotten deletions. Counters only ever rise.
    pub(super) fn judge(&self, values: impl IntoIterator<Item = Option<i64>>) {
        for ((space, last), value) in self.0.iter().zip(values) {
            if value.is_none_or(|value| value < last.value) {
                tracing::warn!(
                    "the Redis server lost deletions that it had acknowledged: the namespace begins anew"
                );
                space.lose();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_same_counter_in_every_process() {
        let spaces = Spaces::default();
        let key = Key::new("shop", None, "user:7");
        let counter = spaces.of(&key).counter_key(&key);
        assert_eq!(counter.escape_ascii().to_string(), "shop:i448");
        assert_eq!(spaces.named("shop").counter_key(&key), counter);
    }

    #[test]
    fn a_counter_that_fell_or_went_tells_of_lost_deletions() {
        for (value, lost) in [
            (Some(7), false),
            (Some(9), false),
            (Some(6), true),
            (None, true),
        ] {
            let spaces = Spaces::default();
            let space = spaces.named("shop");
            space.deleted(b"shop:i1".to_vec(), 7);
            spaces.audit().judge([value]);
            assert_eq!(space.losses() > 0, lost, "{value:?}");
            space.renewed(space.losses());
            assert_eq!(space.losses(), 0);
        }
    }

    #[test]
    fn only_namespaces_with_deletions_are_audited() {
        let spaces = Spaces::default();
        spaces.named("quiet");
        spaces.named("shop").deleted(b"shop:i1".to_vec(), 7);
        assert!(spaces.audit().counters().eq([b"shop:i1"]));
    }

    #[test]
    fn namespaces_without_number_take_no_memory_without_bound() {
        let spaces = Spaces::default();
        for number in 0..2 * SPACES {
            spaces.named(&number.to_string());
        }
        assert!(spaces.all().len() <= SPACES);
    }
}
