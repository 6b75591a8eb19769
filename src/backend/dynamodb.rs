//! The backend on DynamoDB.

mod builder;
mod client;
mod connection;
mod error;
mod item;
mod lease;
mod many;
mod markers;
mod stored;
mod table;
mod verbs;

use std::{fmt, sync::Arc};

pub use builder::DynamoDbBuilder;

use connection::Connection;

/// Entries in a table of Amazon DynamoDB, under the feature `dynamodb` (`CACHE_TYPE=dynamodb`).
///
/// Made by [`builder`](Self::builder), or from `CACHE_DYNAMODB_*` by [`Cache::from_env`](crate::Cache::from_env).
/// Cloning shares the connections.
///
/// # What it can do
///
/// Everything but [`delete_prefix`](crate::Backend::delete_prefix) and
/// [`remove_expired`](crate::Backend::remove_expired): counters, `IfAbsent`, versions, leases, `touch` and `clear`, for
/// all processes that use the table. A payload has at most 407,368 bytes, because an item has at most 400 KB.
///
/// # The table
///
/// Its partition key is `k`, binary, and it has no sort key. Its time to live is switched on for the attribute `x`.
/// [`create`](DynamoDbBuilder::create) makes such a table, billed by request; otherwise:
///
/// ```text
/// aws dynamodb create-table --table-name larder --billing-mode PAY_PER_REQUEST \
///     --attribute-definitions AttributeName=k,AttributeType=B --key-schema AttributeName=k,KeyType=HASH
/// aws dynamodb update-time-to-live --table-name larder \
///     --time-to-live-specification Enabled=true,AttributeName=x
/// ```
///
/// | Attribute | Type | Holds |
/// |---|---|---|
/// | `k` | binary | `prefix:generation:name`; where that is over 2048 bytes, a BLAKE3 hash of it |
/// | `p` | binary | an entry: 16 bytes of codec and times, then the payload |
/// | `n` | number | in place of `p`, the value of a counter, which other programs may read and add to |
/// | `v` | number | the version |
/// | `e` | number | when it ends, in milliseconds since the epoch |
/// | `x` | number | when the service may remove it, in seconds since the epoch, rounded up |
/// | `g` | string | in a marker, the generation |
///
/// The *generation* is a word of eight letters. Each [`CACHE_KEY_PREFIX`](crate::Settings::key_prefix) has eight
/// markers, `prefix:generation0` to `prefix:generation7`, each for an eighth of its keys, and
/// [`clear`](crate::Cache::clear) replaces all of them in one transaction. There are eight because the service reads
/// one item at most three thousand times a second, and every verb reads a marker: a prefix has room for about 24,000
/// verbs a second, as far as the table has.
///
/// # What a verb costs
///
/// Every read is strongly consistent: an entry that another process has just put, deleted or cleared is never seen as it
/// was. Read units (RCU) are for each 4 KB, write units (WCU) for each KB, of the whole item.
///
/// | Verb | Requests | Units |
/// |---|---|---|
/// | `get`, `get_leased`, `contains` | one `BatchGetItem` | 1 RCU for the marker, 1 for each 4 KB of the entry |
/// | `put`, `delete`, `delete_if`, `touch`, `increment` | two, at the same time | 1 RCU for the marker, 1 WCU for each KB of the larger of the item before and after |
/// | `get_many` | `BatchGetItem`, 100 items each | as one by one, but at most 8 RCU for markers |
/// | `put_many` | `BatchWriteItem`, 25 items each; conditional ones one by one | the same |
/// | `delete_many` | `BatchGetItem`, then `BatchWriteItem` | as reading and writing |
/// | `clear` | one `TransactWriteItems` | 16 WCU |
///
/// A second request takes the first `increment` of a counter that has ended or was deleted, and two more the first verb
/// of a process on a prefix. `delete` is answered with what was there, so it takes as long as reading it. What
/// `delete_many` says of an entry was so a moment before it was deleted.
///
/// # Times
///
/// Each request has its time-out ([`timeout`](DynamoDbBuilder::timeout)), and the cache has one for all of a verb. A read
/// that fails or is throttled is tried once more, within it; a write is not, because whether it was done is not known.
/// The SDK's own retries, which would wait for seconds, are off. Throttling is
/// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable), so a table that is asked for too much opens the circuit
/// breaker. What the service leaves undone of many keys is asked for again, with growing pauses, for as long as one
/// time-out.
///
/// A far region, whose connections take longer to make than the time-out, needs a longer one; `CACHE_BACKEND_TIMEOUT`
/// with it.
///
/// # What stays and what comes back
///
/// * The service removes what has ended hours or days after its end, at no cost. Until then larder takes it for absent,
///   to the millisecond and in every condition.
/// * An item stays for an hour at least, and a deletion leaves one of about 100 bytes for as long: so who began to load
///   before it finds out. A load on an absent key that takes longer than 5 to 10 minutes is not kept.
/// * Entries that a `clear` ended stay until their TTL. Those that never end stay for ever: give entries a TTL.
/// * A table that was deleted and made anew has lost its generations, and a lost generation is never assumed but made
///   anew: nothing old is taken for valid.
/// * **One region.** A global table copies what was written to other regions later, and keeps the last of two writes
///   whatever their conditions said. Processes in several regions need a table in each.
///
/// # What the role must be allowed
///
/// `dynamodb:GetItem`, `BatchGetItem`, `PutItem`, `UpdateItem`, `BatchWriteItem`, `DescribeTable` and
/// `DescribeTimeToLive` on the table; `CreateTable` and `UpdateTimeToLive` where it is to be made.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> larder::Result<()> {
/// use larder::{Cache, DynamoDb};
///
/// let cache = Cache::new(DynamoDb::builder("larder").region("eu-central-1").connect().await?);
/// cache.put("answer", 42).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct DynamoDb(Arc<Connection>);

impl DynamoDb {
    /// Begins with the name of the table: 3 to 255 letters of ASCII, digits, `_`, `-` and `.`
    /// (`CACHE_DYNAMODB_TABLE`).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example() -> larder::Result<()> {
    /// use larder::DynamoDb;
    ///
    /// let dynamodb = DynamoDb::builder("larder")
    ///     .endpoint("http://127.0.0.1:8000")
    ///     .credentials("local", "local")
    ///     .create(true)
    ///     .connect()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(table: impl Into<String>) -> DynamoDbBuilder {
        DynamoDbBuilder::new(table.into())
    }
}

impl fmt::Debug for DynamoDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamoDb")
            .field("table", &self.0.table)
            .field("closed", &self.0.clients().is_err())
            .finish()
    }
}
