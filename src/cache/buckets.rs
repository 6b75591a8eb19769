//! Buckets: many small values that belong together, and end together.
//!
//! Where the backend keeps a bucket together it ends it too, and a value costs no more than any other. Elsewhere each
//! value of a bucket has one tag more, the bucket's own, which is a marker like those of other tags.

use std::slice;

use super::Cache;
use crate::{ErrorKind, Key, KeySpace, Result, entry::marker, key::KeyHead};

/// The name of a bucket's own tag: its marker is in the bucket, where no other tag's is.
const OWN_TAG: &[u8] = b"bucket";

/// What a handle knows of the bucket that its keys are in.
pub(super) struct Bucket(KeyHead);

impl Bucket {
    pub(super) fn new(namespace: &str, name: &str) -> Self {
        Self(KeyHead::new(namespace, KeySpace::Tag, Some(name)))
    }

    fn marker(&self) -> Result<Key> {
        marker(&self.0, OWN_TAG)
    }
}

impl Cache {
    /// A handle to the same cache whose values and counters are in the bucket `name` of this namespace: many small ones
    /// that belong together, as all that is known of a user.
    ///
    /// Every verb is as it is elsewhere, and each value has a TTL of its own. [`clear`](Self::clear) of this handle ends the
    /// bucket and nothing else; `clear` of the namespace ends its buckets too. A key in a bucket is another one than the same
    /// key outside, or in another bucket. Buckets are not nested: a bucket of this handle is one beside it. Tags and stored
    /// responses are those of the namespace.
    ///
    /// Making a handle costs two allocations, and asks nobody.
    ///
    /// # What it gives
    ///
    /// On a Redis server that has a TTL for each field of a hash (Valkey 9, Redis 8), a bucket is one hash, which takes
    /// less memory than as many keys:
    ///
    /// | 100,000 values of 16 bytes with a TTL, in buckets of 100 | as keys | as fields |
    /// |---|---|---|
    /// | Valkey 9.1 | 132 bytes each | 96 bytes each |
    /// | Redis 8.0 | 200 bytes each | 73 bytes each |
    ///
    /// That is measured with the 24 bytes that larder adds to a value, the key and everything else. Redis keeps a hash so
    /// small up to 512 fields, of up to 40 bytes of payload each (`hash-max-listpack-entries`, `hash-max-listpack-value`).
    /// A hash is evicted as a whole, and only by the `allkeys-…` policies, and in a cluster a bucket is in one slot, so
    /// buckets should be many and none of them huge.
    ///
    /// Whether the server does so is found out at connecting, and said by
    /// [`Capabilities::field_expiry`](crate::Capabilities::field_expiry). In memory a bucket costs nothing beside the longer
    /// keys, and `clear` looks through all keys there are. Everywhere else, `clear` deletes a marker, whatever the
    /// size of the bucket; a value takes 20 bytes more than twice the names of namespace and bucket for that, and putting
    /// and reading it one more round trip, as with a [tag](crate::PutOptions::tags). It may have 63 others then, and so it
    /// may everywhere.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::{convert::Infallible, time::Duration};
    /// use larder::{Cache, PutOptions};
    ///
    /// let cache = Cache::memory();
    /// let ada = cache.bucket("user:7");
    /// ada.put("name", "Ada").await?;
    /// ada.put_with("token", 1815, PutOptions::new().ttl(Duration::from_secs(60))).await?;
    /// let orders = ada.get_or_load("orders", || async { Ok::<_, Infallible>(12) }).await?;
    /// assert_eq!(*orders, 12);
    /// assert_eq!(ada.get_many::<i32>(["orders", "token"]).await?, [Some(12), Some(1815)]);
    ///
    /// let grace = cache.bucket("user:8");
    /// grace.put("name", "Grace").await?;
    /// ada.clear().await?;
    /// assert!(!ada.contains("name").await?);
    /// assert!(grace.contains("name").await?);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn bucket(&self, name: &str) -> Self {
        let (shared, collected) = (self.0.shared.clone(), self.1.clone());
        Self::within(&self.0.namespace, Some(name), shared, collected)
    }

    /// Ends a bucket, and keeps loads of its values that are under way from being stored.
    pub(super) async fn clear_bucket(&self, bucket: &Bucket) -> Result<()> {
        self.supersede_bucket().await;
        let ended = self.end_bucket(bucket).await;
        // Whoever asked meanwhile may have found what was there before, and must neither keep it nor share it on.
        self.supersede_bucket().await;
        ended
    }

    async fn supersede_bucket(&self) {
        let ours = |key: &Key| key.encoded().starts_with(self.values().encoded());
        self.shared().generations.advance_all(ours).await;
        self.shared().value_flights.detach_all(ours);
    }

    async fn end_bucket(&self, bucket: &Bucket) -> Result<()> {
        let key = self.values().key(b"").to_key();
        let ended = match self.backend().clear_bucket(&key).await {
            Err(error) if error.kind() == ErrorKind::Unsupported => Ok(false),
            ended => self.observe(ended),
        };
        if let Ok(true) = ended {
            return Ok(());
        }
        let marker = bucket.marker()?;
        let by_tag = self.end_markers(slice::from_ref(&marker)).await;
        // What has no tag is counters.
        let counters = match self.capabilities().delete_prefix {
            true => self.observe(self.backend().delete_prefix(&key).await),
            false => Ok(0),
        };
        ended.and(by_tag).and(counters).map(drop)
    }

    /// The marker of the bucket's own tag, for a value that needs it to end with the bucket.
    pub(super) fn own_marker(&self) -> Result<Option<Key>> {
        let bucket = self.0.bucket.as_ref();
        let bucket = bucket.filter(|_| !self.capabilities().field_expiry);
        bucket.map(Bucket::marker).transpose()
    }

    /// How many tags a value may be given.
    pub(super) fn most_tags(&self) -> usize {
        crate::Entry::MAX_TAGS - usize::from(self.0.bucket.is_some())
    }
}
