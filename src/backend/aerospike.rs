//! The backend on Aerospike.

mod builder;
mod connection;
mod error;
mod full;
mod hosts;
mod lease;
mod many;
mod markers;
mod policies;
mod record;
mod tls;
mod verbs;
mod waiting;

use std::{fmt, sync::Arc};

pub use builder::AerospikeBuilder;

use connection::Connection;

/// Entries on an Aerospike cluster, under the feature `aerospike` (`CACHE_TYPE=aerospike`).
///
/// Made by [`builder`](Self::builder), or from `CACHE_AEROSPIKE_*` by [`Cache::from_env`](crate::Cache::from_env). It
/// needs a server of version 6.0 or later, and is tested on the Community Edition 8.1. Cloning shares the connection.
///
/// # What is stored
///
/// One record for each key, in one namespace and one set of the cluster, with one bin, `v`. The key of the record is the
/// bytes `prefix:generation:name`, and the cluster keeps its digest alone. In the bin is a blob, the entry with 24 bytes
/// before the payload, or, for a counter, the server's own integer, which other programs may read and add to. The server
/// needs about 50 bytes of its own for a record, and 64 in its index.
///
/// The *generation* is a word of eight letters, which the record `prefix:generation` holds for each
/// [`CACHE_KEY_PREFIX`](crate::Settings::key_prefix). [`clear`](crate::Cache::clear) writes another word there and
/// truncates nothing: it is done when it returns, and touches no other prefix, no other set and nothing that is not
/// larder's.
///
/// # Round trips
///
/// Every verb is one atomic step on the server, by filter expressions and operations that read and write at once, and is
/// sent together with a read of the generation; so a verb is one round trip and two small commands. Two round trips take
/// the first `increment` of a counter, `touch` of a counter, the first verb of a process on a prefix, and the first one
/// after somebody else's `clear`. The verbs for many keys send a thousand keys in one call.
///
/// # TTLs
///
/// The end of an entry is in the entry, exact to a millisecond. The server gets it in whole seconds, rounded up, at
/// most ten years, and at least one minute, so that who began to load before a short-lived put finds out about it. A
/// deletion leaves a trace of 25 bytes for a minute too, for the same reason: a load on an absent key that takes longer
/// than 25 to 50 seconds is not kept. A counter has the server's TTL alone: one second lasts up to two. What never ends
/// never ends, whatever the namespace's `default-ttl` says.
///
/// **TTLs need `nsup-period`.** With the server's default of 0 nothing removes what has expired, and the server refuses
/// every TTL, and so every deletion, with error 22. Set it to more than 0 in the configuration of the namespace. The
/// error says so, and connecting logs a warning.
///
/// # What stays and what comes back
///
/// * The server removes what has expired by itself, so there is no `remove_expired`. Entries that a `clear` ended stay
///   until their TTL ends; those that never end stay until the set is truncated. Give entries a TTL.
/// * A namespace in memory loses everything with its last copy. The generation is lost with it, and a lost generation is
///   never assumed but made anew: nothing old is taken for valid.
/// * A namespace on a device may, after a cold restart, bring back entries that were deleted and whose own end has not
///   come; the Community Edition keeps no deletions. It does not bring back what was cleared.
/// * A full namespace, which stops writes, is read and deleted from as ever. What cannot be put is
///   [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge), and what it would have replaced is removed. A `clear` removes the
///   generation's record, so that nothing is found; verbs fail in that namespace until there is room for another one. A
///   deletion leaves no trace then: a load of an absent key that was under way elsewhere, and ends when there is room
///   again, may be kept.
/// * A namespace that evicts takes the traces of deletions first. A load that was under way then may be kept.
///
/// # When a node fails
///
/// Reads that hang move to a replica after half of the time-out. A node that is gone is noticed by its cluster and the
/// client after about two seconds; until then its keys fail, each after the time-out. The cache has a circuit breaker
/// for that. Writes are not retried, except that those which the server turns away because too many write to one key
/// wait for each other.
///
/// A node that was cut off without dying, by the network or by being stopped, and comes back with what it held, answers
/// by that until it has found out that its cluster went on without it: for a second or two reads may show what was put,
/// and miss what was deleted, before it was cut off. Aerospike's available mode, the only one of the Community Edition,
/// promises no more, and no client can see it. A node that died and was started again shows nothing old.
///
/// The client has a task of its own that looks after the cluster. It runs on the tokio runtime that
/// [`connect`](AerospikeBuilder::connect) is called on, and ends with [`close`](crate::Cache::close) or when the last
/// clone is dropped.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> larder::Result<()> {
/// use larder::{Aerospike, Cache};
///
/// let cache = Cache::new(Aerospike::builder("127.0.0.1:3000").connect().await?);
/// cache.put("answer", 42).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Aerospike(Arc<Connection>);

impl Aerospike {
    /// Begins with the nodes to connect to: `host:port` or `host:tls-name:port`, several with commas between, IPv6
    /// addresses in brackets (`CACHE_AEROSPIKE_HOSTS`). The port is 3000 where none is named.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example() -> larder::Result<()> {
    /// use std::time::Duration;
    /// use larder::Aerospike;
    ///
    /// let aerospike = Aerospike::builder("127.0.0.1:3000")
    ///     .namespace("cache")
    ///     .set("pages")
    ///     .timeout(Duration::from_millis(100))
    ///     .connect()
    ///     .await?;
    /// assert!(aerospike.is_connected());
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(hosts: impl Into<String>) -> AerospikeBuilder {
        AerospikeBuilder::new(hosts.into())
    }

    /// Whether any node of the cluster is known right now; asks nobody.
    pub fn is_connected(&self) -> bool {
        self.0.is_connected()
    }
}

impl fmt::Debug for Aerospike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aerospike")
            .field("namespace", &self.0.namespace())
            .field("set", &self.0.set())
            .field("connected", &self.is_connected())
            .finish()
    }
}
