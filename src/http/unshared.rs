use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::RandomState;
use std::hash::BuildHasher;

use crate::{Key, Timestamp};

const SLOTS: usize = 1024;
/// For so long requests for a URI run side by side after its response turned out not to be for sharing.
const SECONDS: u64 = 30;

/// Remembers, in little space and not exactly, whose responses were not to be shared lately.
///
/// Requests for such a URI would wait for each other in vain. A wrong memory costs one request that is not collapsed, or
/// one that waits for a response's head; never a wrong answer.
pub(super) struct Unshared {
    /// The upper half of a key's hash, and in the lower half the second until which it holds.
    slots: Box<[AtomicU64; SLOTS]>,
    hasher: RandomState,
}

impl Default for Unshared {
    fn default() -> Self {
        let slots = Box::new(std::array::from_fn(|_| AtomicU64::new(0)));
        Self {
            slots,
            hasher: RandomState::default(),
        }
    }
}

impl Unshared {
    fn slot(&self, key: &Key) -> (&AtomicU64, u64) {
        let hash = self.hasher.hash_one(key);
        (
            &self.slots[hash as usize % SLOTS],
            hash & !u64::from(u32::MAX),
        )
    }

    pub(super) fn contains(&self, key: &Key, now: Timestamp) -> bool {
        let (slot, hash) = self.slot(key);
        let noted = slot.load(Ordering::Relaxed);
        let until = noted & u64::from(u32::MAX);
        noted & !u64::from(u32::MAX) == hash && now.as_secs() & u64::from(u32::MAX) < until
    }

    pub(super) fn insert(&self, key: &Key, now: Timestamp) {
        let (slot, hash) = self.slot(key);
        slot.store(
            hash | (now.as_secs() + SECONDS) & u64::from(u32::MAX),
            Ordering::Relaxed,
        );
    }

    pub(super) fn remove(&self, key: &Key) {
        let (slot, hash) = self.slot(key);
        let noted = slot.load(Ordering::Relaxed);
        if noted & !u64::from(u32::MAX) == hash {
            slot.store(0, Ordering::Relaxed);
        }
    }
}
