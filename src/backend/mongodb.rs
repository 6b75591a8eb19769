//! The backend on MongoDB.

mod builder;
mod commands;
mod errors;
mod gate;
mod ids;
mod lease;
mod link;
mod many;
mod markers;
mod reclaim;
mod stored;
mod tls;
mod verbs;

use std::{fmt, sync::Arc};

pub use builder::MongoDbBuilder;

use link::Link;

/// The name in settings and errors.
const NAME: &str = "mongodb";

/// Entries in a MongoDB collection, under the feature `mongodb` (`CACHE_TYPE=mongodb`).
///
/// Made by [`builder`](Self::builder), or from `CACHE_MONGODB_*` by [`Cache::from_env`](crate::Cache::from_env). It is
/// tested on MongoDB 6.0: alone, and as replica sets of one and of three, whose primary is killed and stopped under load,
/// and whose other nodes are. Cloning shares the connections.
///
/// # What it can do
///
/// Everything that [`Capabilities`](crate::Capabilities) names, each in one atomic step: counters, `IfAbsent`, versions,
/// leases, `touch`, `clear`, `delete_prefix` and `remove_expired`. TTLs are exact to a millisecond. A value has at most
/// 16 MiB less 64 KiB.
///
/// # What is stored
///
/// One document for each key, in one collection. Its `_id` is `{n, g, k}`: the prefix of the keys, its generation, and the
/// rest of the key; where that is longer than 1,024 bytes, half of it and a hash. The entry itself is in the field `e`,
/// with 16 bytes before the payload, or, for a counter, the server's own integer in `c`, which other programs may read.
/// `end` says when it ends, `gone` when the server removes it, and `v` is its version. All that takes about 120 bytes beside key
/// and payload, and two entries in indexes.
///
/// The *generation* is a word of eight letters, which the document `{n, g: 0}` holds for each
/// [`CACHE_KEY_PREFIX`](crate::Settings::key_prefix). [`clear`](crate::Cache::clear) writes another word there and
/// removes nothing: it is done when it returns, and touches no other prefix. What it ended takes room until its TTL ends
/// or [`remove_expired`](crate::Backend::remove_expired) is called, which looks at what was cleared and not at what is
/// live.
///
/// # Round trips
///
/// Reads ask for the generation in the same command. Writes are sent together with a read of it, on two connections, and
/// take one round trip; two take a deletion of what is gone already, the first verb of a process on a prefix, and the first
/// one after somebody else's `clear`. The verbs for many keys send a thousand keys in one command.
///
/// # TTLs
///
/// The end of an entry is in its document, and readers go by that. The server removes documents by an index on `gone`,
/// which [`connect`](MongoDbBuilder::connect) makes (and, when it turns out that the collection was dropped, the next
/// verb): at the end, and not before a minute has passed since the write, so that who began to load before a short-lived put
/// finds out about it. The server looks once a minute. A deletion leaves a document without a value for a minute, for the
/// same reason: a load on an absent key that takes longer than 25 to 50 seconds is not kept.
///
/// # When a server fails
///
/// * Reads go to the primary alone, for a secondary shows for a while what was deleted; a URL with another
///   `readPreference` is refused.
/// * Writes are acknowledged by a majority of the replica set, on disk, before they count as done (`w=majority`): a fail-over
///   brings nothing back that was invalidated. What was not acknowledged in time is an error, and the cache invalidates it
///   once more when there is a primary again, before anything is read. That costs a round trip between the servers and a
///   write to their disks: about 3 ms for each write where `w=1` takes 0.4 to 1.7, with three nodes on one machine. A URL may say otherwise
///   (`w=1`), for speed; then a fail-over brings back what was deleted in the moment before it.
/// * Reads take what the primary has, acknowledged by the others or not (`readConcernLevel=local`). What a primary had alone
///   is gone with it, and never returned after the fail-over.
/// * Until a replica set has a new primary, verbs fail at once or within a time-out; then they go to the new one by
///   themselves. The servers take some ten seconds for that by default (`electionTimeoutMillis`). Where the old primary
///   hangs and is not gone, it was twelve seconds under load, with two of them for the election; nothing stale was shown
///   meanwhile, and nobody waited for more than one time-out.
/// * No write is sent twice, whatever `retryWrites` in the URL says, so an `increment` never counts twice. One whose answer
///   does not come is an error, and may have been done. Reads are sent again once where the connection breaks
///   (`retryReads`).
/// * A primary that was cut off from its replica set, and not from this process, answers reads for up to ten seconds by what
///   it held. `readConcernLevel=linearizable` in the URL rules that out for single reads, at the price of a round trip
///   between the servers for each.
/// * A verb whose future is dropped while the server has it, as by a time-out, costs its connection, because an answer will
///   come on it that nobody waits for. The next one is made in the background, and verbs that find no connection free
///   meanwhile wait for it, or for [`connect_timeout`](MongoDbBuilder::connect_timeout).
/// * Where no server can be asked, a verb fails after a quarter of a second (`serverSelectionTimeoutMS` in the URL), and the
///   circuit breaker of the cache keeps the next ones from asking.
///
/// # The user
///
/// It needs the role `readWrite` on the database.
///
/// The client has tasks of its own that watch the servers. They run on the tokio runtime that
/// [`connect`](MongoDbBuilder::connect) is called on, and end with [`close`](crate::Cache::close) or when the last clone
/// is dropped.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> larder::Result<()> {
/// use larder::{Cache, MongoDb};
///
/// let cache = Cache::new(MongoDb::builder("mongodb://127.0.0.1:27017").connect().await?);
/// cache.put("answer", 42).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MongoDb(Arc<Link>);

impl MongoDb {
    /// Begins with the URL of the servers (`CACHE_MONGODB_URL`), with all the options of the client: `mongodb://`, with
    /// several hosts and `replicaSet` where there are, or `mongodb+srv://`; `tls=true`, `authSource`, and so on.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example() -> larder::Result<()> {
    /// use larder::MongoDb;
    ///
    /// let mongodb = MongoDb::builder("mongodb://db1,db2,db3/?replicaSet=rs0&tls=true")
    ///     .database("shop")
    ///     .collection("pages")
    ///     .username("larder")
    ///     .password("a secret")
    ///     .ca_file("/etc/larder/ca.pem")
    ///     .connect()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(url: impl Into<String>) -> MongoDbBuilder {
        MongoDbBuilder::new(url.into())
    }
}

impl fmt::Debug for MongoDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoDb")
            .field("collection", &self.0.options().collection)
            .finish_non_exhaustive()
    }
}
