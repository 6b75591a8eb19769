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
    cleared: RwLock<Cleared>,
}

#[derive(Default)]
struct Cleared {
    /// By namespace, the number of its latest clearing.
    at: HashMap<Box<[u8]>, u64>,
    /// The latest clearing that was carried out. What survived it carries its number or a later one, so an entry of an
    /// earlier one was taken out of the engine before, and is judged too late to be found in the map.
    done: u64,
}

impl Clears {
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    pub(super) fn clear(&self, namespace: &str) {
        let mut cleared = self.cleared.write().unwrap_or_else(PoisonError::into_inner);
        let count = self.count.load(Ordering::Relaxed) + 1;
        cleared.at.insert(encode_namespace(namespace).into(), count);
        self.count.store(count, Ordering::Release);
    }

    pub(super) fn survives(&self, key: KeyRef<'_>, entry: &Entry) -> bool {
        entry.epoch().load(Ordering::Relaxed) == self.count() || self.look_up(key, entry)
    }

    #[cold]
    fn look_up(&self, key: KeyRef<'_>, entry: &Entry) -> bool {
        let cleared = self.cleared.read().unwrap_or_else(PoisonError::into_inner);
        let epoch = entry.epoch().load(Ordering::Relaxed);
        let at = cleared.at.get(key.encoded_namespace());
        let survives = epoch >= cleared.done && at.is_none_or(|&at| at <= epoch);
        if survives {
            entry.epoch().fetch_max(self.count(), Ordering::Relaxed);
        }
        survives
    }

    /// The clearings that a sweep started now will have carried out when it ends; `None` when none is due.
    pub(super) fn start_sweep(&self) -> Option<u64> {
        let cleared = self.cleared.read().unwrap_or_else(PoisonError::into_inner);
        (!cleared.at.is_empty()).then(|| self.count())
    }

    /// Forgets the clearings that a complete sweep has carried out: no entry from before them is left.
    pub(super) fn finish_sweep(&self, count: u64) {
        let mut cleared = self.cleared.write().unwrap_or_else(PoisonError::into_inner);
        cleared.at.retain(|_, &mut at| at > count);
        cleared.done = cleared.done.max(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CodecId, Key, Timestamp};

    fn entry(clears: &Clears) -> Entry {
        let entry = Entry::new(CodecId::RAW, "", Timestamp::from_millis(0));
        entry.with_epoch(clears.count())
    }

    fn survives(clears: &Clears, namespace: &str, entry: &Entry) -> bool {
        clears.survives(Key::new(namespace, None, "name").as_key_ref(), entry)
    }

    #[test]
    fn a_clearing_is_forgotten_when_it_was_carried_out() {
        let clears = Clears::default();
        clears.clear("first");
        let sweep = clears.start_sweep().unwrap();
        clears.clear("second");
        clears.finish_sweep(sweep);
        let cleared = clears.cleared.read().unwrap();
        let left: Vec<_> = cleared.at.keys().map(|namespace| &**namespace).collect();
        assert_eq!(left, [b"second"]);
    }

    #[test]
    fn an_entry_that_is_judged_after_its_clearing_was_forgotten_does_not_survive() {
        let clears = Clears::default();
        let (ended, kept) = (entry(&clears), entry(&clears));
        clears.clear("ended");
        let sweep = clears.start_sweep().unwrap();
        assert!(survives(&clears, "kept", &kept));
        clears.finish_sweep(sweep);
        assert!(!survives(&clears, "ended", &ended));
        assert!(survives(&clears, "kept", &kept));
        assert!(survives(&clears, "ended", &entry(&clears)));
    }
}
