//! How much memory bodies take on their way into the store, all together.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::Cache;

/// Bytes that bodies under way may take, for a layer and its clones.
pub(super) struct Budget {
    limit: u64,
    used: AtomicU64,
}

impl Budget {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            used: AtomicU64::new(0),
        }
    }

    /// The part of one body: nothing at first.
    pub(super) fn begin(self: &Arc<Self>, cache: &Cache) -> Reserved {
        Reserved {
            budget: self.clone(),
            cache: cache.clone(),
            bytes: AtomicU64::new(0),
        }
    }

    fn take(&self, bytes: u64) -> bool {
        let add = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        let taken = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        taken.is_ok()
    }
}

/// What is reserved for one body, given back when nobody has anything of the body any more.
pub(super) struct Reserved {
    budget: Arc<Budget>,
    cache: Cache,
    /// Changed by whoever holds the body's lock.
    bytes: AtomicU64,
}

impl Reserved {
    /// Reserves up to `bytes` in all; false where the budget does not have them.
    pub(super) fn raise(&self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.bytes.load(Ordering::Relaxed));
        if more == 0 {
            return true;
        }
        if !self.budget.take(more) {
            return false;
        }
        self.bytes.fetch_add(more, Ordering::Relaxed);
        self.cache
            .shared()
            .in_flight
            .fetch_add(more, Ordering::Relaxed);
        true
    }

    /// Gives back what is beyond `bytes`.
    pub(super) fn lower(&self, bytes: u64) {
        let less = self.bytes.load(Ordering::Relaxed).saturating_sub(bytes);
        if less > 0 {
            self.bytes.fetch_sub(less, Ordering::Relaxed);
            self.budget.used.fetch_sub(less, Ordering::Relaxed);
            self.cache
                .shared()
                .in_flight
                .fetch_sub(less, Ordering::Relaxed);
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.lower(0);
    }
}
