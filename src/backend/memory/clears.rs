use std::{
    collections::HashMap,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{Entry, KeyRef, key::encode_namespace};

/// Which namespaces were cleared, and when, counted in clearings.
///
/// An entry carries the number of clearings there had been when it was put. While that is still the number, nothing was
/// cleared since and one comparison decides; only after a clearing has the namespace to be looked up, once per entry.
#[derive(Default)]
pub(super) struct Clears {
    count: AtomicU64,
    cleared: RwLock<HashMap<Box<[u8]>, u64>>,
}

impl Clears {
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    pub(super) fn clear(&self, namespace: &str) {
        let mut cleared = self.cleared.write().unwrap_or_else(PoisonError::into_inner);
        let count = self.count.load(Ordering::Relaxed) + 1;
        cleared.insert(encode_namespace(namespace).into(), count);
        self.count.store(count, Ordering::Release);
    }

    pub(super) fn survives(&self, key: KeyRef<'_>, entry: &Entry) -> bool {
        entry.epoch().load(Ordering::Relaxed) == self.count() || self.look_up(key, entry)
    }

    #[cold]
    fn look_up(&self, key: KeyRef<'_>, entry: &Entry) -> bool {
        let cleared = self.cleared.read().unwrap_or_else(PoisonError::into_inner);
        let epoch = entry.epoch().load(Ordering::Relaxed);
        let survives = cleared
            .get(key.encoded_namespace())
            .is_none_or(|&at| at <= epoch);
        if survives {
            entry.epoch().fetch_max(self.count(), Ordering::Relaxed);
        }
        survives
    }

    /// The clearings that a sweep started now will have carried out when it ends; `None` when none is due.
    pub(super) fn start_sweep(&self) -> Option<u64> {
        let cleared = self.cleared.read().unwrap_or_else(PoisonError::into_inner);
        (!cleared.is_empty()).then(|| self.count())
    }

    /// Forgets the clearings that a complete sweep has carried out: no entry from before them is left.
    pub(super) fn finish_sweep(&self, count: u64) {
        let mut cleared = self.cleared.write().unwrap_or_else(PoisonError::into_inner);
        cleared.retain(|_, &mut at| at > count);
    }
}
