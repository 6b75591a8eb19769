use std::{
    hash::BuildHasher,
    sync::atomic::{AtomicUsize, Ordering},
};

// The fast variant spreads a thousand numbered keys over the shards so unevenly that an eighth of the room is lost at
// times; this one costs four instructions more.
use foldhash::quality::RandomState;
use moka::{ops::compute::Op, policy::EvictionPolicy};
use quick_cache::{OptionsBuilder, Weighter, sync::DefaultLifecycle};

use super::MemoryPolicy;
use crate::{Entry, Key, KeyRef, Usage};

/// What an entry takes beside its own weight: the key's handle and header, and the engine's slot, rounded up from the
/// engines' own figures.
const SLOT: usize = 96;

/// A shard must hold a good number of the largest stored bodies, or they are refused although there is room.
const MIN_SHARD_BYTES: u64 = 8 << 20;
/// ... and of entries, or an uneven spread evicts long before the bound is reached.
const MIN_SHARD_ENTRIES: u64 = 256;

/// The part of a shard that quick_cache keeps for what is read again. It admits nothing larger than that.
const HOT: f64 = 0.97;

/// Keys up to this length leave room for the largest payload.
const KEY: usize = 1024;

type QuickCache =
    quick_cache::sync::Cache<Key, Entry, Weigh, RandomState, DefaultLifecycle<Key, Entry>>;
type MokaCache = moka::sync::Cache<Key, Entry, RandomState>;

/// One of the two caches that do the keeping and evicting.
pub(super) struct Engine {
    cache: Cache,
    weigh: Weigh,
    /// The weight of the heaviest entry that can be held.
    max_weight: u64,
    hasher: RandomState,
}

enum Cache {
    Quick(QuickCache),
    Moka(MokaCache),
}

/// One weight for both bounds: bytes, or the entry's share of the bytes when the number of entries is bounded.
#[derive(Clone, Copy)]
struct Weigh {
    least: u64,
}

impl Weigh {
    fn of(self, key: &Key, entry: &Entry) -> u64 {
        ((SLOT + key.encoded().len() + entry.weight()) as u64).max(self.least)
    }
}

impl Weighter<Key, Entry> for Weigh {
    fn weight(&self, key: &Key, entry: &Entry) -> u64 {
        self.of(key, entry)
    }
}

impl Engine {
    pub(super) fn new(max_bytes: u64, max_entries: Option<u64>, policy: MemoryPolicy) -> Self {
        let (max_bytes, least) = match max_entries {
            None => (max_bytes, 0),
            Some(0) => (0, 0),
            Some(entries) => {
                // Rounded down together, so that as many entries as were asked for fit, and not one more.
                let share = (max_bytes / entries).max(1);
                let max_bytes = max_bytes.min(share.saturating_mul(entries));
                // A single entry has to be admitted too.
                (max_bytes, share.min(hot(max_bytes)))
            }
        };
        let weigh = Weigh { least };
        let hasher = RandomState::default();
        let cache = match policy {
            MemoryPolicy::S3Fifo => {
                Cache::Quick(quick(max_bytes, max_entries, weigh, hasher.clone()))
            }
            MemoryPolicy::TinyLfu => Cache::Moka(moka(max_bytes, weigh, hasher.clone(), false)),
            MemoryPolicy::Lru => Cache::Moka(moka(max_bytes, weigh, hasher.clone(), true)),
        };
        Self {
            max_weight: max_weight(&cache),
            cache,
            weigh,
            hasher,
        }
    }

    pub(super) fn hash(&self, key: KeyRef<'_>) -> u64 {
        self.hasher.hash_one(key)
    }

    pub(super) fn get(&self, key: KeyRef<'_>) -> Option<Entry> {
        match &self.cache {
            Cache::Quick(cache) => cache.get(&key),
            Cache::Moka(cache) => cache.get(&key),
        }
    }

    /// Whether an entry of this size can be held at all.
    pub(super) fn fits(&self, key: &Key, entry: &Entry) -> bool {
        self.weigh.of(key, entry) <= self.max_weight
    }

    /// The largest payload that is sure to fit, with a decoded form of the same size beside it.
    pub(super) fn max_payload_len(&self) -> usize {
        let weight = usize::try_from(self.max_weight).unwrap_or(usize::MAX);
        weight.saturating_sub(SLOT + KEY + Entry::BOOKKEEPING) / 2
    }

    pub(super) fn insert(&self, key: Key, entry: Entry) {
        match &self.cache {
            Cache::Quick(cache) => cache.insert(key, entry),
            Cache::Moka(cache) => cache.insert(key, entry),
        }
    }

    pub(super) fn remove(&self, key: KeyRef<'_>) {
        match &self.cache {
            Cache::Quick(cache) => drop(cache.remove(&key)),
            Cache::Moka(cache) => cache.invalidate(&key),
        }
    }

    pub(super) fn clear(&self) {
        match &self.cache {
            Cache::Quick(cache) => cache.clear(),
            Cache::Moka(cache) => cache.invalidate_all(),
        }
    }

    /// Removes up to `limit` of the entries that `keep` refuses, and says how many.
    pub(super) fn retain(
        &self,
        limit: usize,
        mut keep: impl FnMut(KeyRef<'_>, &Entry) -> bool,
    ) -> usize {
        match &self.cache {
            Cache::Quick(cache) => {
                let removed = AtomicUsize::new(0);
                let keep = std::cell::RefCell::new(keep);
                cache.retain(|key, entry| {
                    if removed.load(Ordering::Relaxed) >= limit
                        || keep.borrow_mut()(key.as_key_ref(), entry)
                    {
                        return true;
                    }
                    removed.fetch_add(1, Ordering::Relaxed);
                    false
                });
                removed.into_inner()
            }
            Cache::Moka(cache) => {
                let refused: Vec<_> = cache
                    .iter()
                    .filter(|(key, entry)| !keep(key.as_key_ref(), entry))
                    .take(limit)
                    .collect();
                for (key, entry) in &refused {
                    cache
                        .entry_by_ref(&**key)
                        .and_compute_with(|now| match now {
                            Some(now) if now.value().version() == entry.version() => Op::Remove,
                            // Replaced since it was looked at: the new one stays.
                            _ => Op::Nop,
                        });
                }
                refused.len()
            }
        }
    }

    /// The keys that begin with `prefix`.
    pub(super) fn keys(&self, prefix: &[u8]) -> Vec<Key> {
        match &self.cache {
            Cache::Quick(cache) => {
                let keys = std::cell::RefCell::new(Vec::new());
                cache.retain(|key, _| {
                    if key.encoded().starts_with(prefix) {
                        keys.borrow_mut().push(key.clone());
                    }
                    true
                });
                keys.into_inner()
            }
            Cache::Moka(cache) => cache
                .iter()
                .map(|(key, _)| (*key).clone())
                .filter(|key| key.encoded().starts_with(prefix))
                .collect(),
        }
    }

    pub(super) fn usage(&self) -> Usage {
        match &self.cache {
            Cache::Quick(cache) => Usage::new(cache.len() as u64, cache.weight()),
            Cache::Moka(cache) => {
                // moka counts in batches; without this its figures lag behind.
                cache.run_pending_tasks();
                Usage::new(cache.entry_count(), cache.weighted_size())
            }
        }
    }
}

fn max_weight(cache: &Cache) -> u64 {
    match cache {
        Cache::Quick(cache) => hot(cache.shard_capacity()),
        Cache::Moka(cache) => {
            let capacity = cache.policy().max_capacity().unwrap_or(u64::MAX);
            capacity.min(u64::from(u32::MAX))
        }
    }
}

/// What quick_cache makes of [`HOT`].
fn hot(capacity: u64) -> u64 {
    ((capacity as f64 * HOT) as u64).clamp(capacity.min(1), capacity)
}

fn quick(
    max_bytes: u64,
    max_entries: Option<u64>,
    weigh: Weigh,
    hasher: RandomState,
) -> QuickCache {
    // An estimate within an order of magnitude is enough: it sizes the list of those lately evicted.
    let expected = max_entries.unwrap_or(max_bytes / 2048).clamp(64, 1 << 24);
    let entries_per_shard = max_entries.map_or(u64::MAX, |entries| entries / MIN_SHARD_ENTRIES);
    let cores = std::thread::available_parallelism().map_or(4, |cores| cores.get() as u64);
    let shards = (cores * 4)
        .min(max_bytes / MIN_SHARD_BYTES)
        .min(entries_per_shard)
        .max(1);
    // quick_cache rounds the number of shards up to a power of two; the minimum is to hold after that.
    let shards = if shards.is_power_of_two() {
        shards
    } else {
        shards.next_power_of_two() / 2
    };
    let options = OptionsBuilder::new()
        .shards(shards as usize)
        .estimated_items_capacity(expected as usize)
        .weight_capacity(max_bytes)
        .hot_allocation(HOT)
        .build()
        .expect("both capacities are given and the allocations are the defaults");
    QuickCache::with_options(options, weigh, hasher, DefaultLifecycle::default())
}

fn moka(max_bytes: u64, weigh: Weigh, hasher: RandomState, lru: bool) -> MokaCache {
    moka::sync::Cache::builder()
        .max_capacity(max_bytes)
        .weigher(move |key, entry| u32::try_from(weigh.of(key, entry)).unwrap_or(u32::MAX))
        .eviction_policy(if lru {
            EvictionPolicy::lru()
        } else {
            EvictionPolicy::tiny_lfu()
        })
        .build_with_hasher(hasher)
}
