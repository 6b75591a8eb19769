//! Generations: a load that began before an invalidation is never kept.

use std::{
    collections::HashMap,
    hash::BuildHasher,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use foldhash::fast::RandomState;
use tokio::sync::{RwLock, RwLockReadGuard};

use super::tags::{Seen, TagLog};
use crate::{Entry, Key, Lease, Leased, PutMode, Timestamp};

const SHARDS: usize = 16;

/// The loads under way, by key, each with the number of times its key was invalidated since the first of them began.
#[derive(Default)]
pub(crate) struct Generations {
    shards: [Mutex<HashMap<Key, Arc<Generation>, RandomState>>; SHARDS],
    hasher: RandomState,
    tags: TagLog,
}

#[derive(Default)]
struct Generation {
    /// Changed under the lock of the table only.
    loads: AtomicUsize,
    /// Storing holds it shared, invalidating holds it alone: a store either ends before the invalidation deletes, or
    /// sees that it comes too late.
    invalidations: RwLock<u64>,
}

impl Generation {
    /// How often the key was invalidated. Few have to wait for that, and only they take the room for it.
    async fn invalidations(&self) -> RwLockReadGuard<'_, u64> {
        match self.invalidations.try_read() {
            Ok(invalidations) => invalidations,
            Err(_) => Box::pin(self.invalidations.read()).await,
        }
    }
}

impl Generations {
    /// Notes that a load of `key` begins.
    pub(crate) async fn begin(self: &Arc<Self>, key: &Key) -> Load {
        let generation = {
            let mut shard = self.shard(key);
            let generation = shard.entry(key.clone()).or_default();
            generation.loads.fetch_add(1, Ordering::Relaxed);
            generation.clone()
        };
        // Made first, so that a caller cancelled while it waits leaves nothing in the table.
        let mut load = Load {
            key: key.clone(),
            generation,
            seen: 0,
            invalidated_tags: self.tags.sequence(),
            tags_seen: None,
            keeping: Keeping::Local,
            table: self.clone(),
        };
        load.seen = *load.generation.invalidations().await;
        load
    }

    /// Makes every load of `key` that is under way come too late.
    pub(crate) async fn advance(&self, key: &Key) {
        let generation = self.shard(key).get(key).cloned();
        if let Some(generation) = generation {
            *Box::pin(generation.invalidations.write()).await += 1;
        }
    }

    /// Makes every load under way whose key is chosen come too late.
    pub(crate) async fn advance_all(&self, chosen: impl Fn(&Key) -> bool) {
        for shard in &self.shards {
            let generations: Vec<_> = lock(shard)
                .iter()
                .filter(|(key, _)| chosen(key))
                .map(|(_, generation)| generation.clone())
                .collect();
            for generation in generations {
                *generation.invalidations.write().await += 1;
            }
        }
    }

    /// The tags that this process invalidated last.
    pub(crate) fn tags(&self) -> &TagLog {
        &self.tags
    }

    /// How many keys have a load under way.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, HashMap<Key, Arc<Generation>, RandomState>> {
        lock(&self.shards[self.hasher.hash_one(key) as usize % SHARDS])
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A load under way.
pub(crate) struct Load {
    key: Key,
    generation: Arc<Generation>,
    seen: u64,
    /// How many tags this process had invalidated when the load began.
    invalidated_tags: u64,
    /// What the log of all processes said then.
    tags_seen: Option<Seen>,
    keeping: Keeping,
    table: Arc<Generations>,
}

/// Tells of a load, after the load itself has gone to those who store, whether it was overtaken.
#[derive(Clone)]
pub(crate) struct Watch {
    generation: Arc<Generation>,
    seen: u64,
    invalidated_tags: u64,
    table: Arc<Generations>,
}

impl Watch {
    /// Whether the key was invalidated by this process since the load began.
    pub(crate) async fn is_late(&self) -> bool {
        *self.generation.invalidations().await != self.seen
    }

    /// Whether one of these tags was invalidated by this process since the load began, or may have been.
    pub(crate) fn have_tags_changed(&self, markers: &[Key]) -> bool {
        let log = self.table.tags();
        log.has_changed(self.invalidated_tags, markers)
    }
}

/// Who decides whether what was loaded comes too late.
enum Keeping {
    /// This process alone.
    Local,
    /// The backend too, which knows of the other processes.
    Leased(Box<Held>),
    /// The backend is out of reach: whatever it would be asked next takes its time, and fails.
    Never,
}

/// A lease, and what was under the key when it was given.
pub(crate) struct Held {
    pub(crate) lease: Lease,
    pub(crate) entry: Option<Entry>,
}

/// Permission to store, to be kept until it was used.
pub(crate) struct Permit<'a> {
    /// The condition to store under.
    pub(crate) mode: PutMode,
    _alone: Option<RwLockReadGuard<'a, u64>>,
}

impl Load {
    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// Lets the backend decide by this lease, and gives the live entry that came with it.
    pub(super) fn hold(&mut self, leased: Leased, now: Timestamp) -> Option<Entry> {
        let entry = leased.entry.filter(|entry| !entry.is_expired(now));
        self.keeping = Keeping::Leased(Box::new(Held {
            lease: leased.lease,
            entry: entry.clone(),
        }));
        entry
    }

    /// What is loaded will not be stored.
    pub(crate) fn give_up(&mut self) {
        self.keeping = Keeping::Never;
    }

    pub(crate) fn is_given_up(&self) -> bool {
        matches!(self.keeping, Keeping::Never)
    }

    /// The lease that the load has, where the backend gives leases.
    pub(crate) fn held(&self) -> Option<&Held> {
        match &self.keeping {
            Keeping::Leased(held) => Some(held),
            Keeping::Local | Keeping::Never => None,
        }
    }

    /// Permission to store what was loaded; `None` when the key was invalidated meanwhile.
    pub(crate) async fn may_store(&self) -> Option<Permit<'_>> {
        let generation = self.generation.invalidations().await;
        if *generation != self.seen {
            return None;
        }
        match &self.keeping {
            Keeping::Local => Some(Permit {
                mode: PutMode::Always,
                _alone: Some(generation),
            }),
            // An invalidation need not wait for the store: the server refuses it afterwards.
            Keeping::Leased(held) => Some(Permit {
                mode: PutMode::IfUnchanged(held.lease),
                _alone: None,
            }),
            Keeping::Never => None,
        }
    }

    /// Notes what the log of all processes says before anything is loaded, for tags that are known only when the load
    /// ends.
    pub(crate) fn see_tags(&mut self, seen: Option<Seen>) {
        self.tags_seen = seen;
    }

    pub(crate) fn tags_seen(&self) -> Option<Seen> {
        self.tags_seen
    }

    /// Whether one of these tags was invalidated by this process since the load began, or may have been.
    pub(crate) fn have_tags_changed(&self, markers: &[Key]) -> bool {
        self.watch().have_tags_changed(markers)
    }

    /// Whether the key was invalidated by this process since the load began.
    pub(crate) async fn is_late(&self) -> bool {
        self.watch().is_late().await
    }

    /// The means to ask that later, for as long as the load lives.
    pub(crate) fn watch(&self) -> Watch {
        Watch {
            generation: self.generation.clone(),
            seen: self.seen,
            invalidated_tags: self.invalidated_tags,
            table: self.table.clone(),
        }
    }

    /// Lets the one invalidation pass that the caller itself has made, after what it loaded was there.
    pub(crate) fn pass_own_invalidation(&mut self) {
        self.seen += 1;
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let mut shard = self.table.shard(&self.key);
        if self.generation.loads.fetch_sub(1, Ordering::Relaxed) == 1 {
            shard.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_load_that_began_before_an_invalidation_may_not_store() {
        let generations = Arc::new(Generations::default());
        let key = Key::new("test", None, "key");
        let before = generations.begin(&key).await;
        generations.advance(&key).await;
        let after = generations.begin(&key).await;
        assert!(before.may_store().await.is_none());
        assert!(after.may_store().await.is_some());
        assert!(before.is_late().await && !after.is_late().await);
    }

    #[tokio::test]
    async fn nothing_is_left_when_the_loads_have_ended() {
        let generations = Arc::new(Generations::default());
        let key = Key::new("test", None, "key");
        let (one, two) = (generations.begin(&key).await, generations.begin(&key).await);
        drop(one);
        assert_eq!(generations.len(), 1);
        drop(two);
        assert_eq!(generations.len(), 0);
    }
}
