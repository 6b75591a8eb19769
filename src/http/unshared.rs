use std::{
    hash::BuildHasher,
    sync::atomic::{AtomicU64, Ordering},
};

use foldhash::fast::RandomState;

use crate::{Key, Timestamp};

const SLOTS: usize = 1024;
/// The half of a slot that holds a hash; in the other is a time in seconds.
const HASH: u64 = !(u32::MAX as u64);
/// For so long requests for a URI run side by side after its response turned out not to be for sharing.
const SECONDS: u64 = 30;

/// Remembers, in little space and not exactly, whose responses were not to be shared lately, or, in another table, who
/// serves no ranges.
///
/// Requests for a URI whose responses are not shared would wait for each other in vain. A wrong memory costs one request that is not collapsed, or
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
    fn slot(&self, key: &Key, cookies: bool) -> (&AtomicU64, u64) {
        let hash = self.hasher.hash_one((key, cookies));
        (&self.slots[hash as usize % SLOTS], hash & HASH)
    }

    /// Whether requests for the key had better not wait for each other: all, or those with cookies when this is one.
    pub(super) fn contains(&self, key: &Key, cookies: bool, now: Timestamp) -> bool {
        let holds = |cookies| {
            let (slot, hash) = self.slot(key, cookies);
            let noted = slot.load(Ordering::Relaxed);
            noted & HASH == hash && now.as_secs() & !HASH < noted & !HASH
        };
        holds(false) || cookies && holds(true)
    }

    pub(super) fn insert(&self, key: &Key, cookies: bool, now: Timestamp) {
        let (slot, hash) = self.slot(key, cookies);
        slot.store(
            hash | ((now.as_secs() + SECONDS) & !HASH),
            Ordering::Relaxed,
        );
    }

    pub(super) fn remove(&self, key: &Key) {
        let (slot, hash) = self.slot(key, false);
        if slot.load(Ordering::Relaxed) & HASH == hash {
            slot.store(0, Ordering::Relaxed);
        }
    }
}
