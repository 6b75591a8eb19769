//! The in-process backend: bounded by bytes, expiring by larder's clock, with two engines.

mod clears;
mod engine;
mod sweeper;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;

use super::{Backend, Capabilities, MemoryPolicy, Peek, PutMode, Usage};
use crate::{Entry, Error, ErrorKind, Key, KeyRef, Result, Timestamp};

use clears::Clears;
use engine::Engine;
use sweeper::Sweeper;

/// Keeps entries in this process.
///
/// The bound is on bytes, counted from keys, headers, payloads and decoded forms, and on the number of entries too when
/// [`max_entries`](MemoryBuilder::max_entries) is set. Expiry is decided by larder's clock when an entry is read; a
/// background task on the runtime of the first expiring `put` frees what expired unread, and ends with the backend.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> larder::Result<()> {
/// use larder::{Cache, Memory};
///
/// let cache = Cache::new(Memory::builder().max_bytes(16 << 20).max_entries(10_000).build());
/// cache.put("answer", 42).await?;
/// assert_eq!(cache.get::<i32>("answer").await?, Some(42));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Memory(Arc<Shared>);

struct Shared {
    engine: Engine,
    clears: Clears,
    /// Serialise writers of one key, so that every verb is atomic on either engine; readers take none.
    writers: [Mutex<()>; WRITERS],
    versions: AtomicU64,
    /// No entry expires before this time, in milliseconds.
    next_expiry: AtomicU64,
    closed: AtomicBool,
    sweeper: Sweeper,
}

const WRITERS: usize = 64;

/// The right to write one key, and the number of clearings before it was obtained: an entry that was read, changed and
/// written back is from before a clearing in between, and ends by it.
struct Writer<'a> {
    epoch: u64,
    _alone: MutexGuard<'a, ()>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory {
    /// A backend of 64 MiB with the default policy.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A backend with bounds and a policy of your own.
    pub fn builder() -> MemoryBuilder {
        MemoryBuilder::default()
    }
}

/// Sets up a [`Memory`] backend.
#[derive(Clone, Copy, Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct MemoryBuilder {
    max_bytes: u64,
    max_entries: Option<u64>,
    policy: MemoryPolicy,
}

impl Default for MemoryBuilder {
    fn default() -> Self {
        Self {
            max_bytes: 64 << 20,
            max_entries: None,
            policy: MemoryPolicy::default(),
        }
    }
}

impl MemoryBuilder {
    /// Bounds the memory for entries, in bytes; 64 MiB by default.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Bounds the number of entries too. An entry then counts for its bytes or for its share of the bound, whichever is
    /// more, so a cache of many small and a few large entries can hold fewer than either bound says.
    pub fn max_entries(mut self, entries: u64) -> Self {
        self.max_entries = Some(entries);
        self
    }

    /// Chooses which entry goes when memory is full.
    pub fn policy(mut self, policy: MemoryPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Makes the backend.
    pub fn build(self) -> Memory {
        Memory(Arc::new(Shared {
            engine: Engine::new(self.max_bytes.max(1), self.max_entries, self.policy),
            clears: Clears::default(),
            writers: std::array::from_fn(|_| Mutex::default()),
            versions: AtomicU64::new(1),
            next_expiry: AtomicU64::new(u64::MAX),
            closed: AtomicBool::new(false),
            sweeper: Sweeper::default(),
        }))
    }
}

impl Shared {
    fn live(&self, key: KeyRef<'_>, now: Timestamp) -> Option<Entry> {
        let entry = self.engine.get(key)?;
        (!entry.is_expired(now) && self.clears.survives(key, &entry)).then_some(entry)
    }

    /// Fails every verb of a closed backend, reads too.
    fn open(&self, operation: &'static str) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            let closed = Error::new(ErrorKind::Closed, "the cache was closed");
            return Err(closed.on("memory", operation));
        }
        Ok(())
    }

    /// The only writer of `key` until it is dropped.
    fn writer(&self, key: KeyRef<'_>) -> Writer<'_> {
        let writer = &self.writers[self.engine.hash(key) as usize % WRITERS];
        // Nothing is left half-done when a holder panics: the lock guards no data of its own.
        let alone = writer.lock().unwrap_or_else(PoisonError::into_inner);
        Writer {
            epoch: self.clears.count(),
            _alone: alone,
        }
    }

    fn insert(self: &Arc<Self>, key: &Key, entry: Entry, writer: &Writer<'_>) -> bool {
        let expires_at = entry.expires_at();
        let version = self.versions.fetch_add(1, Ordering::Relaxed);
        let entry = entry.with_version(version).with_epoch(writer.epoch);
        if !self.engine.fits(key, &entry) {
            self.engine.remove(key.as_key_ref());
            return false;
        }
        self.engine.insert(key.clone(), entry);
        if let Some(at) = expires_at {
            self.next_expiry.fetch_min(at.as_millis(), Ordering::AcqRel);
            self.sweeper.start(self);
        }
        // close() may have emptied the engine a moment ago.
        if self.closed.load(Ordering::Acquire) {
            self.engine.clear();
        }
        true
    }

    fn put(self: &Arc<Self>, key: &Key, entry: Entry, mode: PutMode) -> Result<bool> {
        let now = Timestamp::now();
        let writer = self.writer(key.as_key_ref());
        let allowed = match mode {
            PutMode::Always => true,
            PutMode::IfAbsent => self.live(key.as_key_ref(), now).is_none(),
            PutMode::IfVersion(version) => self
                .live(key.as_key_ref(), now)
                .is_some_and(|entry| entry.version() == version),
            PutMode::IfUnchanged(_) => return Err(Error::unsupported("memory", "put")),
        };
        Ok(allowed && self.insert(key, entry, &writer))
    }

    fn delete(&self, key: KeyRef<'_>, version: Option<u64>) -> bool {
        let now = Timestamp::now();
        let _writer = self.writer(key);
        let live = self.live(key, now);
        if version.is_some() && live.as_ref().map(Entry::version) != version {
            return false;
        }
        self.engine.remove(key);
        live.is_some()
    }

    /// Removes one by one, so that nobody who changes an entry at this moment puts it back.
    fn delete_prefix(&self, prefix: &[u8]) -> usize {
        let keys = self.engine.keys(prefix);
        let deleted = keys.iter().map(Key::as_key_ref);
        deleted.filter(|key| self.delete(*key, None)).count()
    }

    /// Frees up to `limit` entries that have expired or whose namespace was cleared.
    fn sweep(&self, now: Timestamp, limit: usize) -> usize {
        let clearing = self.clears.start_sweep();
        if clearing.is_none() && now.as_millis() < self.next_expiry.load(Ordering::Acquire) {
            return 0;
        }
        if clearing.is_some() {
            // Who began to write before the clearing is to have written before entries are looked at.
            for writer in &self.writers {
                drop(writer.lock().unwrap_or_else(PoisonError::into_inner));
            }
        }
        self.next_expiry.store(u64::MAX, Ordering::Release);
        let mut earliest = u64::MAX;
        let removed = self.engine.retain(limit, |key, entry| {
            let keep = !entry.is_expired(now) && self.clears.survives(key, entry);
            if let (true, Some(at)) = (keep, entry.expires_at()) {
                earliest = earliest.min(at.as_millis());
            }
            keep
        });
        if removed >= limit {
            earliest = 0;
        } else if let Some(clearing) = clearing {
            self.clears.finish_sweep(clearing);
        }
        self.next_expiry.fetch_min(earliest, Ordering::AcqRel);
        removed
    }
}

#[async_trait]
impl Backend for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            stores: true,
            counters: true,
            if_absent: true,
            versions: true,
            touch: true,
            clear: true,
            delete_prefix: true,
            field_expiry: true,
            remove_expired: true,
            max_value_len: Some(self.0.engine.max_payload_len()),
            ..Capabilities::NONE
        }
    }

    fn peek(&self, key: KeyRef<'_>, now: Timestamp) -> Peek {
        match self.0.live(key, now) {
            Some(entry) => Peek::Hit(entry),
            // close() empties the engine, so only a miss has to look; get() then says it.
            None if self.0.closed.load(Ordering::Relaxed) => Peek::Ask,
            None => Peek::Miss,
        }
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        self.0.open("get")?;
        Ok(self.0.live(key.as_key_ref(), Timestamp::now()))
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>> {
        self.0.open("get_many")?;
        let now = Timestamp::now();
        Ok(keys
            .iter()
            .map(|key| self.0.live(key.as_key_ref(), now))
            .collect())
    }

    async fn put(&self, key: &Key, entry: Entry, mode: PutMode) -> Result<bool> {
        self.0.open("put")?;
        self.0.put(key, entry, mode)
    }

    async fn put_many(&self, entries: Vec<(Key, Entry, PutMode)>) -> Result<Vec<bool>> {
        self.0.open("put_many")?;
        entries
            .into_iter()
            .map(|(key, entry, mode)| self.0.put(&key, entry, mode))
            .collect()
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        self.0.open("contains")?;
        Ok(self.0.live(key.as_key_ref(), Timestamp::now()).is_some())
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        self.0.open("delete")?;
        Ok(self.0.delete(key.as_key_ref(), None))
    }

    async fn delete_many(&self, keys: &[Key]) -> Result<Vec<bool>> {
        self.0.open("delete_many")?;
        Ok(keys
            .iter()
            .map(|key| self.0.delete(key.as_key_ref(), None))
            .collect())
    }

    async fn delete_if(&self, key: &Key, version: u64) -> Result<bool> {
        self.0.open("delete_if")?;
        Ok(self.0.delete(key.as_key_ref(), Some(version)))
    }

    async fn touch(&self, key: &Key, ttl: Option<Duration>) -> Result<bool> {
        self.0.open("touch")?;
        let now = Timestamp::now();
        let writer = self.0.writer(key.as_key_ref());
        let Some(entry) = self.0.live(key.as_key_ref(), now) else {
            return Ok(false);
        };
        Ok(self.0.insert(key, entry.with_ttl(ttl, now), &writer))
    }

    async fn increment(&self, key: &Key, delta: i64, ttl: Option<Duration>) -> Result<i64> {
        self.0.open("increment")?;
        let now = Timestamp::now();
        let writer = self.0.writer(key.as_key_ref());
        let (sum, entry) = match self.0.live(key.as_key_ref(), now) {
            None => (delta, Entry::counter(delta, now).with_ttl(ttl, now)),
            Some(entry) => {
                let on = |error: Error| error.on("memory", "increment");
                let overflow = || Error::new(ErrorKind::Overflow, "the counter would leave i64");
                let count = entry.as_counter().map_err(on)?;
                let sum = count.checked_add(delta).ok_or_else(overflow).map_err(on)?;
                (
                    sum,
                    Entry::counter(sum, entry.created_at()).with_expires_at(entry.expires_at()),
                )
            }
        };
        self.0.insert(key, entry, &writer);
        Ok(sum)
    }

    async fn clear(&self, namespace: &str) -> Result<()> {
        self.0.open("clear")?;
        self.0.clears.clear(namespace);
        self.0.sweeper.start(&self.0);
        Ok(())
    }

    async fn delete_prefix(&self, prefix: &Key) -> Result<usize> {
        self.0.open("delete_prefix")?;
        Ok(self.0.delete_prefix(prefix.encoded()))
    }

    async fn clear_bucket(&self, bucket: &Key) -> Result<bool> {
        self.0.open("clear_bucket")?;
        if let Some(bucket) = bucket.as_key_ref().bucket_key() {
            self.0.delete_prefix(bucket.encoded());
        }
        Ok(true)
    }

    async fn remove_expired(&self, limit: usize) -> Result<usize> {
        self.0.open("remove_expired")?;
        Ok(self.0.sweep(Timestamp::now(), limit))
    }

    async fn ping(&self) -> Result<()> {
        self.0.open("ping")
    }

    async fn close(&self) -> Result<()> {
        self.0.closed.store(true, Ordering::Release);
        self.0.engine.clear();
        self.0.sweeper.stop();
        Ok(())
    }

    fn usage(&self) -> Option<Usage> {
        Some(self.0.engine.usage())
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("usage", &self.0.engine.usage())
            .finish_non_exhaustive()
    }
}
