//! Namespaces as one server has them: their generation, and whether it has to be another one before anything is read.

use std::{
    collections::BTreeMap,
    ops::Deref,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{Mutex, MutexGuard};

use super::item_key::ItemKey;
use crate::{
    Key, KeyRef,
    backend::generation::{Generation, Namespace, Namespaces},
    key::encode_namespace,
};

/// So many namespaces are remembered; forgetting one costs a round trip.
const SPACES: usize = 1024;

/// A namespace on one server.
#[derive(Debug)]
pub(super) struct Space {
    namespace: Arc<Namespace>,
    /// The key of the marker, which every verb asks for.
    marker: ItemKey,
    /// How often it became unknown what the server holds, and for how many of those the namespace has begun anew since.
    losses: AtomicU64,
    renewed: AtomicU64,
    /// One at a time gives the namespace another generation, so that the last one known here is the last one there.
    changing: Mutex<()>,
}

impl Deref for Space {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.namespace
    }
}

impl Space {
    pub(super) fn marker(&self) -> &ItemKey {
        &self.marker
    }

    /// The key of the item of `key` in this generation.
    pub(super) fn item(&self, generation: Generation, key: KeyRef<'_>) -> ItemKey {
        ItemKey::new(self.namespace.stored_key(generation, key))
    }

    /// The key of a part of a value in this generation. What follows the generation in any other key is another byte.
    pub(super) fn part(&self, generation: Generation, name: &str) -> ItemKey {
        let mut key = self.namespace.head().to_vec();
        key.extend_from_slice(generation.as_bytes());
        key.push(b'#');
        key.extend_from_slice(name.as_bytes());
        ItemKey::new(key)
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
        self.losses.fetch_add(1, Ordering::AcqRel);
    }
}

/// The namespaces that this process has to do with, as one server has them.
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
        let encoded = encode_namespace(name);
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
            // One that has yet to begin anew, or to whom that may happen because it is in use, is not forgotten: what it
            // lost would be taken for valid.
            let fine = known
                .iter()
                .find(|(_, space)| space.losses() == 0 && Arc::strong_count(space) == 1);
            let fine = fine.map(|(encoded, _)| encoded.clone());
            fine.and_then(|fine| known.remove(&fine));
        }
        let space = known.entry(encoded.into()).or_insert_with(|| {
            Arc::new(Space {
                marker: ItemKey::new(namespace.marker_key()),
                namespace,
                losses: AtomicU64::new(0),
                renewed: AtomicU64::new(0),
                changing: Mutex::default(),
            })
        });
        space.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_lasts_until_the_namespace_has_begun_anew() {
        let spaces = Spaces::default();
        let space = spaces.named("shop");
        assert_eq!(space.losses(), 0);
        space.lose();
        let losses = space.losses();
        space.lose();
        space.renewed(losses);
        assert!(space.losses() > 0, "one came after it began anew");
        space.renewed(space.losses());
        assert_eq!(space.losses(), 0);
    }

    #[test]
    fn namespaces_without_number_take_no_memory_without_bound() {
        let spaces = Spaces::default();
        spaces.named("lost").lose();
        for number in 0..2 * SPACES {
            spaces.named(&number.to_string());
        }
        assert!(spaces.known.read().unwrap().len() <= SPACES);
        assert!(spaces.named("lost").losses() > 0);
    }
}
