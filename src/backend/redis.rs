//! The backend on a Redis or Valkey server.

mod asking;
mod builder;
mod deleting;
mod errors;
mod link;
mod reading;
mod reclaim;
mod reply;
mod scripts;
mod space;
mod stored;
mod tls;
mod writing;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use redis::{Client, Value};
use tokio::sync::Mutex;

use super::{
    Backend, Capabilities, Leased, Peek, PutMode, Usage,
    frame::{OVERHEAD, Versions},
};
use crate::{Entry, Key, KeyRef, Result, Timestamp};

use link::Link;
use reclaim::Sweep;
use scripts::Scripts;
use space::{Space, Spaces};

pub use builder::RedisBuilder;

const NAME: &str = "redis";

/// The longest payload: a string of the server has at most 512 MiB.
const MAX_VALUE_LEN: usize = (512 << 20) - OVERHEAD;

/// Keeps entries on a Redis or Valkey server, for every process that uses it.
///
/// One connection serves everybody in the process. It speaks RESP3 (Redis 6 or later), is made when it is first needed
/// and made anew when it broke; in between verbs fail at once, with at most half a second from one attempt to connect
/// to the next. A [`Cache`](crate::Cache) bounds how long it waits for an answer; the backend by itself gives up after
/// ten seconds of silence.
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
/// # What a verb costs
///
/// Every verb is one round trip: the marker is asked for together with the key, and where somebody cleared the namespace
/// since it was asked last, the verb is done again. Two round trips are the reading of a counter, because only the
/// server knows its end, and the first look-up with a lease for each of the 1024 counters, which are made by it.
/// `get_many` and the like take a namespace at a time. Clearing is one `SET`, however much there is;
/// [`remove_expired`](crate::Backend::remove_expired) reclaims what it left that has no TTL, by `SCAN` in steps, for
/// the namespaces that this process has used. Of those generations whose end it has not seen itself it leaves counters,
/// which could be somebody else's.
///
/// # What the user must be allowed
///
/// The keys `namespace:*` and `get mget set getrange setrange unlink incrby pttl pexpire persist eval evalsha multi exec
/// scan ping`, and `select` for a database other than 0:
///
/// ```text
/// user app on >password ~larder:* resetchannels -@all +get +mget +set +getrange +setrange +unlink +incrby
///     +pttl +pexpire +persist +eval +evalsha +multi +exec +scan +ping
/// ```
///
/// # When the server forgets
///
/// * **Eviction.** Any policy is safe: a marker or counter that is evicted costs misses, and nothing stale is read,
///   unless the server evicts what was put while a load of the same key was under way, before that load ends. A
///   server for caching alone is best with `allkeys-lru` or `allkeys-lfu`. With `noeviction` a full server refuses to
///   put ([`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge)), and what a put would have replaced is removed; reading,
///   deleting and clearing still work.
/// * **A restart without data** is an empty cache.
/// * **A restart from an older copy of the data**, or a fail-over to a replica that lags behind, loses what was
///   written since. A connection that is new asks for the last deletion of each namespace before anything else; where
///   the server has lost it, or a clearing, the whole namespace begins anew. Puts that were lost are not noticed: what
///   they replaced is read again until it ends.
///
/// [`persistent`](crate::Capabilities::persistent) is said in this sense: entries outlive the process, and the server as
/// far as it keeps its data.
///
/// Redis Cluster and Sentinel are not supported in this version.
#[derive(Clone)]
pub struct Redis(Arc<Shared>);

struct Shared {
    link: Link,
    spaces: Arc<Spaces>,
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

    fn new(client: Client, connect_timeout: Duration) -> Self {
        let spaces = Arc::new(Spaces::default());
        Self(Arc::new(Shared {
            link: Link::new(client, connect_timeout, spaces.clone()),
            spaces,
            versions: Versions::default(),
            scripts: Scripts::default(),
            sweep: Mutex::default(),
        }))
    }
}

impl Shared {
    /// The places of keys among all, namespace by namespace.
    fn by_space<'a>(&self, keys: impl Iterator<Item = &'a Key>) -> Vec<(Arc<Space>, Vec<usize>)> {
        let mut spaces: Vec<(&[u8], Arc<Space>, Vec<usize>)> = Vec::new();
        for (place, key) in keys.enumerate() {
            let encoded = key.as_key_ref().encoded_namespace();
            // Nearly always there is one namespace.
            match spaces.iter_mut().find(|(known, ..)| *known == encoded) {
                Some((.., places)) => places.push(place),
                None => spaces.push((encoded, self.spaces.of(key), vec![place])),
            }
        }
        let spaces = spaces.into_iter();
        spaces.map(|(_, space, places)| (space, places)).collect()
    }

    async fn ping(&self) -> Result<()> {
        match self.link.live().await?.ask(&redis::cmd("PING")).await? {
            Value::SimpleString(_) | Value::BulkString(_) | Value::Okay => Ok(()),
            Value::ServerError(error) => Err(errors::refused(&error)),
            _ => Err(errors::unexpected()),
        }
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

    async fn get_leased(&self, key: &Key) -> Result<Leased> {
        let leased = self.0.get_leased_many(std::slice::from_ref(key)).await;
        let leased = leased.and_then(|mut leased| leased.pop().ok_or_else(errors::unexpected));
        named(leased, "get_leased")
    }

    async fn get_leased_many(&self, keys: &[Key]) -> Result<Vec<Leased>> {
        named(self.0.get_leased_many(keys).await, "get_leased_many")
    }

    async fn put(&self, key: &Key, entry: Entry, mode: PutMode) -> Result<bool> {
        named(self.0.put(key, &entry, mode).await, "put")
    }

    async fn put_many(&self, entries: Vec<(Key, Entry, PutMode)>) -> Result<Vec<bool>> {
        named(self.0.put_many(&entries).await, "put_many")
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        named(self.0.contains(key).await, "contains")
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        let removed = self.0.delete_many(std::slice::from_ref(key)).await;
        let removed = removed.and_then(|mut it| it.pop().ok_or_else(errors::unexpected));
        named(removed, "delete")
    }

    async fn delete_many(&self, keys: &[Key]) -> Result<Vec<bool>> {
        named(self.0.delete_many(keys).await, "delete_many")
    }

    async fn delete_if(&self, key: &Key, version: u64) -> Result<bool> {
        named(self.0.delete_if(key, version).await, "delete_if")
    }

    async fn touch(&self, key: &Key, ttl: Option<Duration>) -> Result<bool> {
        named(self.0.touch(key, ttl).await, "touch")
    }

    async fn increment(&self, key: &Key, delta: i64, ttl: Option<Duration>) -> Result<i64> {
        named(self.0.increment(key, delta, ttl).await, "increment")
    }

    async fn clear(&self, namespace: &str) -> Result<()> {
        let space = self.0.spaces.named(namespace);
        named(self.0.clear(&space).await, "clear")
    }

    async fn remove_expired(&self, limit: usize) -> Result<usize> {
        named(self.0.remove_expired(limit).await, "remove_expired")
    }

    async fn ping(&self) -> Result<()> {
        named(self.0.ping().await, "ping")
    }

    async fn close(&self) -> Result<()> {
        self.0.link.close();
        Ok(())
    }

    fn usage(&self) -> Option<Usage> {
        None
    }
}

/// Shows the state of the connection, and nothing of how to get to the server.
impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Redis").field(&self.0.link).finish()
    }
}
