//! The backend on a Redis or Valkey server.

mod ability;
mod asking;
mod builder;
mod cluster;
mod deleting;
mod dial;
mod errors;
mod following;
mod link;
mod location;
mod marks;
mod progress;
mod reach;
mod reading;
mod reclaim;
mod replicas;
mod reply;
mod scripts;
mod shards;
mod slots;
mod space;
mod stored;
mod tls;
mod writing;

use std::{collections::BTreeMap, fmt, iter, sync::Arc, time::Duration};

use async_trait::async_trait;
use redis::Value;
use tokio::{sync::Mutex, task::JoinSet};

use super::{
    Backend, Capabilities, Leased, Peek, PutMode, Usage,
    frame::{OVERHEAD, Versions},
};
use crate::{Entry, Key, KeyRef, Result, Timestamp};

use reach::Reach;
use reclaim::Sweep;
use replicas::Replicas;
use scripts::Scripts;
use shards::Layout;
use space::{Space, Spaces};

pub use builder::RedisBuilder;

const NAME: &str = "redis";

/// The longest payload: a string of the server has at most 512 MiB.
const MAX_VALUE_LEN: usize = (512 << 20) - OVERHEAD;

/// Keeps entries on a Redis or Valkey server, for every process that uses it.
///
/// There may be one server ([`builder`](Self::builder)), one of several whose primary is known to sentinels
/// ([`sentinels`](Self::sentinels)), or a cluster ([`cluster`](Self::cluster)). One connection to each server serves
/// everybody in the process. It speaks RESP3, or RESP2 with a server or proxy that does not know `HELLO`, where a connection
/// that broke is found out by the next request; it is made when it is first needed and made anew when it broke; in between verbs fail at once, with at most half a second from one attempt to connect to the next. A
/// [`Cache`](crate::Cache) bounds how long it waits for an answer; the backend by itself gives up after ten seconds of
/// silence, and with sentinels after one.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> larder::Result<()> {
/// use larder::{Cache, Redis};
///
/// let cache = Cache::new(Redis::builder("redis://127.0.0.1").connect().await?);
/// cache.put("answer", 42).await?;
/// # Ok(())
/// # }
/// ```
///
/// # What is on the server
///
/// | Key | Holds |
/// |---|---|
/// | `namespace:GGGGGGGG:name` | An entry: 24 bytes of version, codec and times, then the payload. Its TTL is the server's too. |
/// | the same, for a counter | The bare number, as `INCRBY` leaves it. Other programs may read it. |
/// | `namespace:generation` | The eight letters `GGGGGGGG` that stand in the keys of all live entries; clearing replaces them. |
/// | `namespace:i0` … `namespace:i1023` | How often keys were deleted or put for a short time, by a hash of the key. A load ends in vain when it rose meanwhile. |
///
/// Everything under `namespace:` belongs to larder. The key costs 10 bytes beside the namespace and the name.
///
/// A [bucket](crate::Cache::bucket) is one hash, `namespace:_GGGGGGG/bucket:`, where the server has a TTL for each field of
/// one: Valkey 9 and Redis 8 have, by `HSETEX`. Its fields hold what keys hold elsewhere, and where the server has not, there
/// are keys, `namespace:GGGGGGGG/bucket:name`. Which of the two it is, is found out at each connecting and said by
/// [`field_expiry`](crate::Capabilities::field_expiry). The `_` tells everybody that buckets are hashes in this
/// generation: whoever comes to a server that keeps them in the other way has the namespace begin anew there, as after an
/// upgrade or a fail-over, so nothing that was put in one way is there for those who look in the other. The processes
/// that share a namespace need the same rights for that, or none of them finds what another one put. What somebody else
/// puts in the place of a hash is a miss, counted as damaged, until something is put or deleted there.
///
/// In a cluster a namespace is spread over 256 shards, and a bucket is in one of them as a whole, so in one slot. The keys of a shard have its tag after the colon, one to three
/// digits in braces, by which the cluster has them in one slot: `namespace:{460}GGGGGGGG:name`. Each shard has its own
/// marker and those of the counters that its keys raise: four of them, and sixteen that its buckets share. A `{` in the namespace is written `%7B`.
///
/// # What a verb costs
///
/// Every verb is one round trip: the marker is asked for together with the key, and where somebody cleared the namespace
/// since it was asked last, the verb is done again. Two round trips are the reading of a counter, because only the
/// server knows its end, and the first look-up with a lease for each of the 1024 counters, which are made by it.
/// Clearing is one `SET`, however much there is, and one for each shard of a cluster: nothing is read after it, and while it
/// is under way some shards are cleared and others not yet. `get_many` and the like ask all namespaces and shards at the
/// same time. [`remove_expired`](crate::Backend::remove_expired) reclaims what clearing left that has no TTL, by `SCAN` in
/// steps, for the namespaces that this process has used. Of those generations whose end it has not seen itself it leaves
/// counters, which could be somebody else's. Ending a bucket that is a hash is one round trip and the sixteen counters
/// of its fields, whatever its size; reading several fields of one is one `HMGET`. To touch or compare a field the server
/// reads the whole of it.
///
/// # What the user must be allowed
///
/// The keys `namespace:*` and `get mget set getrange setrange unlink incrby pttl pexpire persist eval evalsha scan ping`;
/// `select` for a database other than 0, `asking` and `cluster|slots` in a cluster, `role` with sentinels, `role info` and in
/// a cluster `readonly` for reading from replicas:
///
/// ```text
/// user app on >password ~larder:* resetchannels -@all +get +mget +set +getrange +setrange +unlink +incrby
///     +pttl +pexpire +persist +eval +evalsha +scan +ping
/// ```
///
/// For buckets in hashes, `hget hmget hsetex hdel hpttl hincrby hrandfield` beside these; a user who may not use them has
/// buckets in keys. What the server can is asked of a key `larder:probe`, which need not be allowed and is never written.
///
/// # Reader and writer apart
///
/// A replica can take over most of the reading: that of a single server by
/// [`read_url`](RedisBuilder::read_url) (`CACHE_REDIS_READ_URL`), those of a cluster or behind sentinels by
/// [`read_from_replicas`](RedisBuilder::read_from_replicas) (`CACHE_REDIS_READ_FROM_REPLICAS`). It has a connection of its own.
///
/// * **What is read there** is what is only shown: the look-ups of a [`CacheLayer`](crate::CacheLayer), and
///   [`get`](crate::Cache::get), [`get_shared`](crate::Cache::get_shared) and [`get_many`](crate::Cache::get_many). What a
///   replica does not have, or has of a namespace that was cleared, is asked of the primary.
/// * **What never is**: leases and with them every load, the look before a response is stored, versions for conditions,
///   counters, markers of tags and the log of their invalidations, locks. Nor does a loader read there, nor a handler behind
///   the layer: what it makes may be stored for longer than a replica lags behind. (Tasks that such a handler
///   spawns are not known to be part of it, unless they use the handle that the extractor gave.)
/// * **What this process did is seen**, however late the replica is: a key that was put, deleted or touched by this `Redis` is
///   asked of the primary until the replica says that it has come as far. So who is told that something
///   was invalidated is shown nothing older by the same process.
/// * **What others did** may be missing for as long as the replica lags behind, usually some milliseconds, and for a second
///   at most: one that is further behind, or has lost its primary, is not read. Invalidations of tags are seen at once.
/// * **A replica that fails** costs the requests that wait for it a tenth of a second, and those after them nothing: the
///   primary is asked, and the replica again when it is back. Without the primary nothing is read from replicas for long: how
///   late they are would not be known.
///
/// `ROLE` and `INFO` tell how far the servers have come, so the user has to be allowed both, and in a cluster
/// `READONLY`. A read costs the primary one question every half second; one that a replica cannot answer is two round
/// trips.
///
/// # When the server forgets
///
/// * **Eviction.** Any policy is safe: a marker or counter that is evicted costs misses, and nothing stale is read,
///   unless the server evicts what was put while a load of the same key was under way, before that load ends. A
///   server for caching alone is best with `allkeys-lru` or `allkeys-lfu`. With `noeviction` a full server refuses to
///   put ([`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge)), and what a put would have replaced is removed; reading,
///   deleting and clearing still work. A hash is evicted as a whole, and has no TTL itself, so the `volatile-…`
///   policies leave it alone.
/// * **A restart without data** is an empty cache.
/// * **A restart from an older copy of the data**, or a fail-over to a replica that lags behind, loses what was
///   written since. Whoever comes by a connection that is new asks for the last deletion of the namespace, or of the shard,
///   before anything else; where the server has lost it, or a clearing, all of that begins anew. Puts that were lost are not
///   noticed: what they replaced is read again until it ends. Nor does a process notice that another one's deletion was lost
///   before that one asks for something there.
///
/// # When a server is replaced
///
/// * **Sentinels** are asked before each attempt to connect, several at once; the first counts that names a primary which says
///   that it is one. They are asked again when the connection broke, when the server says that it is a replica, and when it
///   has been silent for a second. Until the sentinels have told an old primary that it is one no more, it takes writes
///   that will be lost: `min-replicas-to-write` on the servers bounds that.
/// * **A cluster** is asked for its slots when one of its nodes cannot be reached, has been silent for half a second, or says
///   that it has moved a slot; whichever node answers first counts. Verbs on the shards of a node that is away fail as
///   [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) until a replica has taken over, and the others work, as long
///   as the cluster itself says that it is up. A clearing that one shard did not get is an error; the others are cleared.
/// * **A slot on the move** is followed. While its keys are at two nodes, steps on an entry and a counter wait for them to
///   come together, and fail as unavailable where that takes longer than a second.
/// * To a [`Cache`](crate::Cache) a cluster is one backend: an invalidation that fails on one node opens the breaker for all.
///
/// [`persistent`](crate::Capabilities::persistent) is said in this sense: entries outlive the process, and the server as
/// far as it keeps its data.
#[derive(Clone)]
pub struct Redis(Arc<Shared>);

struct Shared {
    reach: Reach,
    replicas: Option<Replicas>,
    spaces: Spaces,
    versions: Versions,
    scripts: Scripts,
    sweep: Mutex<Sweep>,
}

impl Redis {
    /// Sets up a backend on the server at `url`: `redis://user:password@host:6379/0`, `rediss://…` for TLS,
    /// `unix:///path?db=0&user=name&pass=word` for a Unix socket; `valkey://` and `valkeys://` mean the same. What is
    /// left out has its default, and the builder's methods win over the URL.
    ///
    /// # Examples
    ///
    /// ```
    /// use larder::{Backend, Redis};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// let redis = Redis::builder("redis://cache.example").database(3).connect_lazily()?;
    /// assert_eq!(redis.name(), "redis");
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(url: impl Into<String>) -> RedisBuilder {
        RedisBuilder::new(url.into())
    }

    /// Sets up a backend on the cluster that these nodes are of, each `host:port`: some of them, to begin with. The
    /// others are found by themselves, and so are those that take over. User, password and TLS are the same for all, and
    /// set by the builder's methods; the database is 0.
    ///
    /// # Examples
    ///
    /// ```
    /// use larder::{Backend, Redis};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// let nodes = ["cache1.example:6379", "cache2.example:6379"];
    /// let redis = Redis::cluster(nodes).password("secret").connect_lazily()?;
    /// assert_eq!(redis.name(), "redis");
    /// # Ok(())
    /// # }
    /// ```
    pub fn cluster(nodes: impl IntoIterator<Item = impl Into<String>>) -> RedisBuilder {
        RedisBuilder::of_cluster(nodes.into_iter().map(Into::into).collect())
    }

    /// Sets up a backend on the server that sentinels, each `host:port`, know as the primary of `name`; after a fail-over
    /// they are asked again. User, password, database and TLS are those of the primary. Sentinels have TLS if it does, and
    /// a password of their own ([`RedisBuilder::sentinel_password`]).
    ///
    /// # Examples
    ///
    /// ```
    /// use larder::{Backend, Redis};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// let sentinels = ["cache1.example:26379", "cache2.example:26379", "cache3.example:26379"];
    /// let redis = Redis::sentinels(sentinels, "mymaster").connect_lazily()?;
    /// assert_eq!(redis.name(), "redis");
    /// # Ok(())
    /// # }
    /// ```
    pub fn sentinels(
        sentinels: impl IntoIterator<Item = impl Into<String>>,
        name: impl Into<String>,
    ) -> RedisBuilder {
        let sentinels = sentinels.into_iter().map(Into::into);
        RedisBuilder::of_sentinels(sentinels.collect(), name.into())
    }

    fn new(reach: Reach, replicas: Option<Replicas>) -> Self {
        let layout = match reach {
            Reach::Server(_) => Layout::Whole,
            Reach::Cluster(_) => Layout::Sharded,
        };
        Self(Arc::new(Shared {
            reach,
            replicas,
            spaces: Spaces::new(layout),
            versions: Versions::default(),
            scripts: Scripts::default(),
            sweep: Mutex::default(),
        }))
    }
}

/// A space, and where among all keys those are that are in it.
type Places = (Arc<Space>, Vec<usize>);

impl Shared {
    /// The places of keys among all, namespace by namespace and shard by shard.
    fn by_space<'a>(&self, keys: impl Iterator<Item = &'a Key>) -> Vec<Places> {
        let mut spaces: BTreeMap<(&[u8], usize), Places> = BTreeMap::new();
        for (place, key) in keys.enumerate() {
            let encoded = key.as_key_ref().encoded_namespace();
            let (_, places) = spaces
                .entry((encoded, self.spaces.shard_of(key)))
                .or_insert_with(|| (self.spaces.of(key), Vec::new()));
            places.push(place);
        }
        spaces.into_values().collect()
    }

    /// Whether a server answers: of a cluster any, because it may serve all slots without the others.
    async fn ping(&self) -> Result<()> {
        let mut asking = JoinSet::new();
        for link in self.reach.links().await? {
            asking.spawn(async move {
                match link.live().await?.ask(&redis::cmd("PING")).await? {
                    Value::SimpleString(_) | Value::BulkString(_) | Value::Okay => Ok(()),
                    Value::ServerError(error) => Err(errors::refused(&error)),
                    _ => Err(errors::unexpected()),
                }
            });
        }
        let mut failed = None;
        while let Some(answer) = asking.join_next().await {
            match answer {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => failed = Some(error),
                // The runtime ends.
                Err(_) => {}
            }
        }
        Err(failed.unwrap_or_else(errors::nobody_has_the_slot))
    }
}

/// An error with the name of the verb.
fn named<T>(answer: Result<T>, operation: &'static str) -> Result<T> {
    answer.map_err(|error| error.on(NAME, operation))
}

#[async_trait]
impl Backend for Redis {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            stores: true,
            counters: true,
            if_absent: true,
            versions: true,
            leases: true,
            touch: true,
            clear: true,
            delete_prefix: false,
            field_expiry: self.0.reach.has_hashes(),
            remove_expired: true,
            shared: true,
            persistent: true,
            ttl_resolution: Duration::from_millis(1),
            max_value_len: Some(MAX_VALUE_LEN),
        }
    }

    fn peek(&self, _: KeyRef<'_>, _: Timestamp) -> Peek {
        Peek::Ask
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        named(self.0.get(key).await, "get")
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>> {
        named(self.0.get_many(keys).await, "get_many")
    }

    async fn get_relaxed(&self, key: &Key) -> Result<Option<Entry>> {
        named(self.0.get_relaxed(key).await, "get")
    }

    async fn get_many_relaxed(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>> {
        named(self.0.get_many_relaxed(keys).await, "get_many")
    }

    async fn get_leased(&self, key: &Key) -> Result<Leased> {
        let leased = self.0.get_leased_many(std::slice::from_ref(key)).await;
        let leased = leased.and_then(|mut leased| leased.pop().ok_or_else(errors::unexpected));
        named(leased, "get_leased")
    }

    async fn get_leased_many(&self, keys: &[Key]) -> Result<Vec<Leased>> {
        named(self.0.get_leased_many(keys).await, "get_leased_many")
    }

    async fn put(&self, key: &Key, entry: Entry, mode: PutMode) -> Result<bool> {
        let _changing = self.0.changing(iter::once(key));
        named(self.0.put(key, &entry, mode).await, "put")
    }

    async fn put_many(&self, entries: Vec<(Key, Entry, PutMode)>) -> Result<Vec<bool>> {
        let _changing = self.0.changing(entries.iter().map(|(key, ..)| key));
        named(self.0.put_many(&entries).await, "put_many")
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        named(self.0.contains(key).await, "contains")
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        let _changing = self.0.changing(iter::once(key));
        let removed = self.0.delete_many(std::slice::from_ref(key)).await;
        let removed = removed.and_then(|mut it| it.pop().ok_or_else(errors::unexpected));
        named(removed, "delete")
    }

    async fn delete_many(&self, keys: &[Key]) -> Result<Vec<bool>> {
        let _changing = self.0.changing(keys.iter());
        named(self.0.delete_many(keys).await, "delete_many")
    }

    async fn delete_if(&self, key: &Key, version: u64) -> Result<bool> {
        let _changing = self.0.changing(iter::once(key));
        named(self.0.delete_if(key, version).await, "delete_if")
    }

    async fn touch(&self, key: &Key, ttl: Option<Duration>) -> Result<bool> {
        let _changing = self.0.changing(iter::once(key));
        named(self.0.touch(key, ttl).await, "touch")
    }

    async fn increment(&self, key: &Key, delta: i64, ttl: Option<Duration>) -> Result<i64> {
        let _changing = self.0.changing(iter::once(key));
        named(self.0.increment(key, delta, ttl).await, "increment")
    }

    async fn clear(&self, namespace: &str) -> Result<()> {
        let whole = self.0.spaces.named(namespace);
        named(self.0.clear(&whole.spaces).await, "clear")
    }

    async fn clear_bucket(&self, bucket: &Key) -> Result<bool> {
        let _changing = self.0.changing_bucket(bucket);
        named(self.0.clear_bucket(bucket).await, "clear_bucket")
    }

    async fn remove_expired(&self, limit: usize) -> Result<usize> {
        named(self.0.remove_expired(limit).await, "remove_expired")
    }

    async fn ping(&self) -> Result<()> {
        named(self.0.ping().await, "ping")
    }

    async fn close(&self) -> Result<()> {
        self.0.reach.close();
        if let Some(link) = self.0.replicas.as_ref().and_then(Replicas::link) {
            link.close();
        }
        Ok(())
    }

    fn usage(&self) -> Option<Usage> {
        None
    }
}

/// Shows the state of the connection, and nothing of how to get to the server.
impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_tuple("Redis");
        match &self.0.reach {
            Reach::Server(link) => shown.field(link),
            Reach::Cluster(cluster) => shown.field(cluster),
        };
        if let Some(link) = self.0.replicas.as_ref().and_then(Replicas::link) {
            shown.field(link);
        }
        shown.finish()
    }
}
