//! Backends: where entries are kept. One trait, bytes in and bytes out.

#[cfg(any(feature = "aerospike", feature = "dynamodb", feature = "mongodb"))]
mod absence;
#[cfg(feature = "aerospike")]
mod aerospike;
mod arc;
#[cfg(any(feature = "aerospike", feature = "mongodb"))]
mod calls;
#[cfg(feature = "dynamodb")]
mod dynamodb;
#[cfg(feature = "_server")]
#[allow(dead_code, reason = "every backend uses a part of it")]
mod frame;
#[cfg(feature = "_server")]
#[allow(dead_code, reason = "every backend uses a part of it")]
mod generation;
mod guarded;
pub(crate) mod join;
#[cfg(feature = "memcached")]
mod memcached;
#[cfg(feature = "memory")]
mod memory;
mod memory_policy;
mod migrate;
#[cfg(feature = "mongodb")]
mod mongodb;
mod null;
#[cfg(any(feature = "aerospike", feature = "dynamodb", feature = "_sql"))]
mod pauses;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "memcached", feature = "redis"))]
mod single;
#[cfg(feature = "_sql")]
pub(crate) mod sql;

use std::{fmt, time::Duration};

use async_trait::async_trait;

use crate::{Entry, Error, Key, KeyRef, Result, Timestamp};

#[cfg(feature = "aerospike")]
pub use aerospike::{Aerospike, AerospikeBuilder};
#[cfg(feature = "dynamodb")]
pub use dynamodb::{DynamoDb, DynamoDbBuilder};
pub use guarded::BreakerState;
pub(crate) use guarded::{GuardRules, Guarded};
#[cfg(all(fuzzing, feature = "memcached"))]
pub use memcached::memcached_answers;
#[cfg(feature = "memcached")]
pub use memcached::{Memcached, MemcachedBuilder};
#[cfg(feature = "memory")]
pub use memory::{Memory, MemoryBuilder};
pub use memory_policy::MemoryPolicy;
pub use migrate::Migrate;
#[cfg(feature = "mongodb")]
pub use mongodb::{MongoDb, MongoDbBuilder};
pub use null::Null;
#[cfg(feature = "redis")]
pub use redis::{Redis, RedisBuilder};
#[cfg(feature = "mysql")]
pub use sql::{MySql, MySqlBuilder};
#[cfg(feature = "postgres")]
pub use sql::{Postgres, PostgresBuilder};
#[cfg(feature = "sqlite")]
pub use sql::{Sqlite, SqliteBuilder};

/// Where a [`Cache`](crate::Cache) keeps its entries.
///
/// A backend sees keys, entries and times, nothing else: not what a value means, not HTTP. The contract below is what
/// `larder::testing::suite` (feature `testing`) checks, by the capabilities that the backend declares.
///
/// * **Order and length.** The `*_many` verbs answer with one result per key, in the order of the keys, duplicates too.
/// * **Expiry.** An entry is never returned at or after its [`expires_at`](Entry::expires_at). A server that expires
///   more coarsely rounds the TTL up, never to "no expiry"; the cache checks the entry's own time on every read.
/// * **Atomicity.** [`PutMode::IfAbsent`], [`PutMode::IfVersion`], [`PutMode::IfUnchanged`],
///   [`delete_if`](Self::delete_if) and [`increment`](Self::increment) are one atomic step each, for every client of the
///   same server.
/// * **Time.** The cache bounds every call to a backend that is [`shared`](Capabilities::shared): a future that takes too
///   long is dropped and counted as a failure, and a backend that fails too often is not asked for a while. A backend in
///   this process is asked directly, and a request waits as long as it does.
/// * **Cancel safety.** Dropping any of the futures leaves the backend usable; the operation may have happened or not.
/// * **What cannot be done** is answered with [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported), and
///   [`capabilities`](Self::capabilities) says so beforehand.
/// * **After [`close`](Self::close)** every verb is an [`ErrorKind::Closed`](crate::ErrorKind::Closed) error, unless nothing is ever
///   kept.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// The name in settings, errors and statistics: short, lower-case.
    fn name(&self) -> &'static str;

    /// What this backend can do.
    fn capabilities(&self) -> Capabilities;

    /// Looks `key` up without waiting, where the backend can. [`Peek::Ask`] sends the caller to [`get`](Self::get).
    ///
    /// This is the path of every hit in memory: no allocation, no future.
    fn peek(&self, key: KeyRef<'_>, now: Timestamp) -> Peek;

    /// The live entry under `key`.
    async fn get(&self, key: &Key) -> Result<Option<Entry>>;

    /// The live entries under `keys`, in their order.
    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>>;

    /// The live entry under `key`, or one that was there a moment ago: where the server has replicas, one of them may
    /// answer. What this backend did itself to the key is seen; what others did may be missing, for as long as the
    /// backend's documentation says. It is for answers that are shown and never for what decides about storing.
    ///
    /// By itself it is [`get`](Self::get).
    async fn get_relaxed(&self, key: &Key) -> Result<Option<Entry>> {
        self.get(key).await
    }

    /// The entries under `keys`, in their order, each as [`get_relaxed`](Self::get_relaxed) finds it.
    async fn get_many_relaxed(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>> {
        self.get_many(keys).await
    }

    /// The live entry under `key`, and a lease: with [`PutMode::IfUnchanged`] a load that begins now is kept only if
    /// nobody, in this process or another, put, deleted or cleared the key meanwhile.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where [`Capabilities::leases`] is not declared; the
    /// cache keeps loads from racing within this process then.
    async fn get_leased(&self, key: &Key) -> Result<Leased> {
        let _ = key;
        Err(Error::unsupported(self.name(), "get_leased"))
    }

    /// The live entries under `keys` with a lease each, in their order.
    ///
    /// # Errors
    ///
    /// As [`get_leased`](Self::get_leased).
    async fn get_leased_many(&self, keys: &[Key]) -> Result<Vec<Leased>> {
        let _ = keys;
        Err(Error::unsupported(self.name(), "get_leased_many"))
    }

    /// Keeps `entry` under `key`, and says whether it did: `false` when `mode` forbade it, or when the backend has no
    /// room for an entry of that size.
    async fn put(&self, key: &Key, entry: Entry, mode: PutMode) -> Result<bool>;

    /// Keeps several entries, each as [`put`](Self::put) would.
    async fn put_many(&self, entries: Vec<(Key, Entry, PutMode)>) -> Result<Vec<bool>>;

    /// Whether a live entry is under `key`.
    async fn contains(&self, key: &Key) -> Result<bool>;

    /// Removes the entry under `key`, and says whether there was a live one.
    async fn delete(&self, key: &Key) -> Result<bool>;

    /// Removes several entries, each as [`delete`](Self::delete) would.
    async fn delete_many(&self, keys: &[Key]) -> Result<Vec<bool>>;

    /// Removes the entry under `key` if its version is still `version`.
    async fn delete_if(&self, key: &Key, version: u64) -> Result<bool>;

    /// Lets the entry under `key` end `ttl` from now (`None`: never), and says whether there was a live one.
    async fn touch(&self, key: &Key, ttl: Option<Duration>) -> Result<bool>;

    /// Adds `delta` to the counter under `key` and returns the sum. An absent counter starts at zero and ends after
    /// `ttl`; one that is there keeps its end.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WrongType`](crate::ErrorKind::WrongType) where a value is under the key,
    /// [`ErrorKind::Overflow`](crate::ErrorKind::Overflow) where the sum is no `i64`; nothing is changed then.
    async fn increment(&self, key: &Key, delta: i64, ttl: Option<Duration>) -> Result<i64>;

    /// Ends every entry of `namespace` at once, and none of any other. The cost does not grow with the number of
    /// entries; their space is reclaimed by [`remove_expired`](Self::remove_expired).
    async fn clear(&self, namespace: &str) -> Result<()>;

    /// Removes every entry whose [encoded](Key::encoded) key begins with all of `prefix`, and says how many live ones
    /// there were. The cost grows with the number of entries that the backend holds, of whatever key.
    ///
    /// What is put meanwhile may stay.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where [`Capabilities::delete_prefix`] is not declared.
    async fn delete_prefix(&self, prefix: &Key) -> Result<usize> {
        let _ = prefix;
        Err(Error::unsupported(self.name(), "delete_prefix"))
    }

    /// Ends every entry of the bucket that `bucket` is a key of, whatever its name, in one step, and loads of them that
    /// hold a [lease](Self::get_leased). Says whether that is done; `false` where the entries are kept each by itself, and
    /// nothing was ended.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) by backends that never keep a bucket together. One that
    /// declares [`Capabilities::field_expiry`] does.
    async fn clear_bucket(&self, bucket: &Key) -> Result<bool> {
        let _ = bucket;
        Err(Error::unsupported(self.name(), "clear_bucket"))
    }

    /// Reclaims the space of up to `limit` entries that have ended, and says of how many.
    async fn remove_expired(&self, limit: usize) -> Result<usize>;

    /// Asks the server for a sign of life.
    async fn ping(&self) -> Result<()>;

    /// Ends background work and gives connections back. A second call does nothing.
    async fn close(&self) -> Result<()>;

    /// Entries and bytes held, where the backend can tell without counting.
    fn usage(&self) -> Option<Usage>;
}

/// What [`Backend::peek`] found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Peek {
    /// A live entry.
    Hit(Entry),
    /// Surely nothing.
    Miss,
    /// Only [`Backend::get`] can tell.
    Ask,
}

/// Under which condition an entry is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PutMode {
    /// Always: what is there is replaced.
    #[default]
    Always,
    /// Only where no live entry is.
    IfAbsent,
    /// Only where the live entry has this [`version`](Entry::version).
    IfVersion(u64),
    /// Only where nobody put, deleted or cleared the key since [`Backend::get_leased`] gave this lease.
    IfUnchanged(Lease),
}

/// What a backend notes of a key when a load begins, to find out when the load ends whether it comes too late.
///
/// The numbers mean something to the backend that gave them only. Two leases of one key differ where it changed between
/// them; the reverse need not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// Stands for the generation of the key's namespace, which a clearing changes.
    pub generation: u64,
    /// Stands for what is under the key, or for its absence.
    pub version: u64,
    /// Stands for the invalidations so far.
    pub invalidation: u64,
}

/// What [`Backend::get_leased`] found.
#[derive(Clone, Debug)]
pub struct Leased {
    /// The live entry, if there is one.
    pub entry: Option<Entry>,
    /// The lease, also where nothing is under the key.
    pub lease: Lease,
}

/// Entries and bytes a backend holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Entries, some of which may have expired without having been reclaimed yet.
    pub entries: u64,
    /// Bytes of keys, headers, payloads and decoded forms.
    pub bytes: u64,
}

impl Usage {
    /// A reading of `entries` that take `bytes`.
    pub const fn new(entries: u64, bytes: u64) -> Self {
        Self { entries, bytes }
    }
}

/// What a backend can do. Everything is off in [`NONE`](Self::NONE); a backend switches on what it has.
///
/// # Examples
///
/// ```
/// use larder::Capabilities;
///
/// let capabilities = Capabilities { counters: true, ..Capabilities::NONE };
/// assert!(!capabilities.versions);
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Keeps what it is given; only the null backend does not.
    pub stores: bool,
    /// [`Backend::increment`].
    pub counters: bool,
    /// [`PutMode::IfAbsent`].
    pub if_absent: bool,
    /// [`PutMode::IfVersion`] and [`Backend::delete_if`].
    pub versions: bool,
    /// [`Backend::get_leased`] and [`PutMode::IfUnchanged`].
    pub leases: bool,
    /// [`Backend::touch`].
    pub touch: bool,
    /// [`Backend::clear`].
    pub clear: bool,
    /// [`Backend::delete_prefix`].
    pub delete_prefix: bool,
    /// Keeps the entries of a bucket together, each with an end of its own, so that [`Backend::clear_bucket`] ends them
    /// all. Where servers differ in that, it is found out from the server at connecting, and off until then; it changes
    /// when another server takes over that differs.
    pub field_expiry: bool,
    /// [`Backend::remove_expired`]; backends whose server reclaims by itself need none.
    pub remove_expired: bool,
    /// Other processes see the same entries.
    pub shared: bool,
    /// Entries outlive this process.
    pub persistent: bool,
    /// The finest TTL the server keeps; the entry's own expiry is exact to a millisecond whatever this is.
    pub ttl_resolution: Duration,
    /// The largest payload that can be kept, in bytes; `None` where only memory limits it.
    pub max_value_len: Option<usize>,
}

impl Capabilities {
    /// A backend that can do nothing.
    pub const NONE: Self = Self {
        stores: false,
        counters: false,
        if_absent: false,
        versions: false,
        leases: false,
        touch: false,
        clear: false,
        delete_prefix: false,
        field_expiry: false,
        remove_expired: false,
        shared: false,
        persistent: false,
        ttl_resolution: Duration::from_millis(1),
        max_value_len: None,
    };
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = [
            (self.stores, "stores"),
            (self.counters, "counters"),
            (self.if_absent, "if_absent"),
            (self.versions, "versions"),
            (self.leases, "leases"),
            (self.touch, "touch"),
            (self.clear, "clear"),
            (self.delete_prefix, "delete_prefix"),
            (self.field_expiry, "field_expiry"),
            (self.remove_expired, "remove_expired"),
            (self.shared, "shared"),
            (self.persistent, "persistent"),
        ];
        f.write_str("Capabilities(")?;
        for (_, name) in flags.iter().filter(|(on, _)| *on) {
            write!(f, "{name} ")?;
        }
        write!(
            f,
            "ttl_resolution: {:?}, max_value_len: ",
            self.ttl_resolution
        )?;
        write!(f, "{:?})", self.max_value_len)
    }
}
