//! The handle: everything that a handler does with a cache.

mod buckets;
mod builder;
mod connect;
mod entries;
mod flight;
mod generation;
mod keeping;
mod load;
mod load_many;
mod put_options;
mod puts;
mod reason;
mod reclaiming;
mod stats;
mod storing;
mod tags;
mod ttl;
mod values;
mod waiting;
mod writes;

use std::{
    any::Any,
    fmt,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{runtime::Handle, time::timeout};

use crate::{
    Backend, Capabilities, CodecKind, ErrorKind, Key, KeySpace, Result,
    backend::Guarded,
    key::{KeyHead, encode_namespace},
};

pub use builder::CacheBuilder;
pub use load::LoadError;
pub use put_options::PutOptions;
pub use reason::{Reason, Reasons};
pub use stats::Stats;
pub use ttl::Ttl;
pub use values::Cached;

pub(crate) use flight::{Flights, Follower, Joined, Landing, Leader, Phase};
pub(crate) use generation::{Generations, Load, Watch};
pub(crate) use stats::Event;
pub(crate) use storing::storing;
#[cfg(fuzzing)]
pub(crate) use tags::fuzzing;
pub(crate) use tags::{Collected, Seen, Tags};
pub(crate) use writes::Writes;

use buckets::Bucket;
use load::Loaded;
use stats::Counters;
use ttl::TtlRules;

/// A cheap-to-clone handle to a cache: an `Arc` or two, `Send + Sync`, never generic over what is behind it.
///
/// In axum handlers it is an extractor, provided by [`CacheLayer`](crate::CacheLayer); elsewhere it is passed around as
/// any value. Names may be any bytes. Values are anything that serde can write; a value that is absent (`None`) is not
/// the same as a stored `null` (`Some(None)` for an `Option`).
///
/// Dropping any of the futures is safe: the operation has happened or it has not, and the cache goes on.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> larder::Result<()> {
/// use std::time::Duration;
/// use larder::{Cache, PutOptions};
///
/// let cache = Cache::memory();
/// cache.put("greeting", "hello").await?;
/// assert_eq!(cache.get::<String>("greeting").await?.as_deref(), Some("hello"));
///
/// let minute = PutOptions::new().ttl(Duration::from_secs(60));
/// cache.put_with("session", 7, minute).await?;
/// assert!(cache.delete("session").await?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Cache(
    Arc<Inner>,
    /// Where what has tags is noted for the response under way.
    Option<Arc<Collected>>,
);

struct Inner {
    namespace: Arc<str>,
    values: KeyHead,
    responses: KeyHead,
    /// The markers of tags.
    tags: KeyHead,
    /// The bucket that the values are in.
    bucket: Option<Bucket>,
    shared: Arc<Shared>,
}

/// What handles of different namespaces have in common.
pub(crate) struct Shared {
    /// The guarded one, where the backend is outside this process.
    backend: Arc<dyn Backend>,
    guard: Option<Arc<Guarded>>,
    ttl: TtlRules,
    codec: CodecKind,
    ignore_errors: bool,
    hash_key: [u8; 32],
    /// The hash key is a secret that other processes can share, not one made for this process.
    hash_key_given: bool,
    pub(crate) value_flights: Arc<Flights<Loaded>>,
    pub(crate) response_flights: Arc<Flights<Landing>>,
    pub(crate) generations: Arc<Generations>,
    pub(crate) writes: Writes,
    /// Bytes of response bodies on their way into the store.
    pub(crate) in_flight: AtomicU64,
    /// What the HTTP layer leaves with the cache: the policies of the layers there are.
    pub(crate) policies: Mutex<Vec<Weak<dyn Any + Send + Sync>>>,
    counters: Counters,
    /// The backend failed last time; what is logged once per outage is logged when this changes.
    failing: AtomicBool,
}

/// How long closing waits for what goes on in the background.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

impl Cache {
    /// A cache in `backend`, with the default settings.
    ///
    /// # Examples
    ///
    /// ```
    /// use larder::{Cache, Memory};
    ///
    /// let cache = Cache::new(Memory::new());
    /// ```
    pub fn new(backend: impl Backend) -> Self {
        Self::builder(backend).build()
    }

    /// A cache in memory, of 64 MiB, with the default settings.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = larder::Cache::memory();
    /// ```
    #[cfg(feature = "memory")]
    pub fn memory() -> Self {
        Self::new(crate::Memory::new())
    }

    /// A cache in `backend`, with settings of your own.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder::{Cache, Memory};
    ///
    /// let cache = Cache::builder(Memory::new()).default_ttl(Duration::from_secs(60)).build();
    /// ```
    pub fn builder(backend: impl Backend) -> CacheBuilder {
        CacheBuilder::new(Arc::new(backend))
    }

    /// A handle to the same cache whose keys live in another namespace.
    ///
    /// A namespace is cleared as a whole by [`clear`](Self::clear), and no other with it: neither the one it was made
    /// from nor those made from it. The given name is taken as it is; nothing is put before it.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// let cache = larder::Cache::memory();
    /// let sessions = cache.scoped("sessions");
    /// sessions.put("7", "Ada").await?;
    /// cache.clear().await?;
    /// assert!(sessions.contains("7").await?);
    /// assert!(!cache.contains("7").await?);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn scoped(&self, namespace: &str) -> Self {
        Self::within(namespace, None, self.0.shared.clone(), self.1.clone())
    }

    fn within(
        namespace: &str,
        bucket: Option<&str>,
        shared: Arc<Shared>,
        collected: Option<Arc<Collected>>,
    ) -> Self {
        let inner = Inner {
            values: KeyHead::new(namespace, KeySpace::Value, bucket),
            responses: KeyHead::new(namespace, KeySpace::Response, None),
            tags: KeyHead::new(namespace, KeySpace::Tag, None),
            bucket: bucket.map(|bucket| Bucket::new(namespace, bucket)),
            namespace: namespace.into(),
            shared,
        };
        Self(Arc::new(inner), collected)
    }

    /// The namespace of this handle's keys.
    pub fn namespace(&self) -> &str {
        &self.0.namespace
    }

    /// What the backend can do.
    pub fn capabilities(&self) -> Capabilities {
        self.backend().capabilities()
    }

    /// Ends every value, counter and stored response of this namespace at once, and nothing else but what has a
    /// tag of this namespace.
    ///
    /// Loads and responses under way are not kept either. The cost does not grow with the number of entries.
    ///
    /// The handle of a [bucket](Self::bucket) ends the values and counters of its bucket. Counters have no tags, so where a
    /// bucket is ended by one, they stay: on memcached, Aerospike, DynamoDB and older Redis servers.
    ///
    /// # Errors
    ///
    /// The backend's.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// let cache = larder::Cache::memory();
    /// cache.put("a", 1).await?;
    /// cache.clear().await?;
    /// assert!(!cache.contains("a").await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn clear(&self) -> Result<()> {
        if let Some(bucket) = &self.0.bucket {
            return self.clear_bucket(bucket).await;
        }
        self.supersede_all().await;
        let cleared = self.observe(self.backend().clear(&self.0.namespace).await);
        // Whoever asked meanwhile may have found what was there before, and must neither keep it nor share it on.
        self.supersede_all().await;
        cleared
    }

    async fn supersede_all(&self) {
        let namespace = encode_namespace(&self.0.namespace);
        let ours = |key: &Key| key.as_key_ref().encoded_namespace() == namespace;
        self.shared().generations.advance_all(ours).await;
        self.shared().value_flights.detach_all(ours);
        self.shared().response_flights.detach_all(ours);
    }

    /// What this cache has done since it was made, and what it holds now. Handles of all namespaces count together.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// let cache = larder::Cache::memory();
    /// cache.get::<String>("nothing").await?;
    /// assert_eq!(cache.stats().misses, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn stats(&self) -> Stats {
        let shared = self.shared();
        let flights = shared.value_flights.len() + shared.response_flights.len();
        let stats = Stats {
            flights: flights as u64,
            http_in_flight_bytes: shared.in_flight.load(Ordering::Relaxed),
            usage: self.backend().usage(),
            ..shared.counters.read()
        };
        let Some(guard) = &shared.guard else {
            return stats;
        };
        let reading = guard.reading();
        Stats {
            breaker: reading.breaker,
            outages: reading.outages,
            pending_invalidations: reading.pending as u64,
            ..stats
        }
    }

    /// Asks the backend for a sign of life, even while the circuit breaker is open; an answer closes it soon.
    ///
    /// # Errors
    ///
    /// The backend's, whatever `CACHE_IGNORE_ERRORS` says.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// larder::Cache::memory().ping().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn ping(&self) -> Result<()> {
        self.backend().ping().await
    }

    /// Waits for the writes that go on in the background: responses on their way to a server.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the waiting, not the writes.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// larder::Cache::memory().flush().await;
    /// # }
    /// ```
    pub async fn flush(&self) {
        self.shared().writes.flush().await;
    }

    /// Waits for background writes, five seconds at most, ends background work and gives connections back; for all handles of this cache. Every
    /// later operation is an [`ErrorKind::Closed`](crate::ErrorKind::Closed) error, and a second call does nothing.
    ///
    /// # Errors
    ///
    /// The backend's, when it could not part in order; it is closed all the same.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// let cache = larder::Cache::memory();
    /// cache.close().await?;
    /// assert_eq!(cache.ping().await.unwrap_err().kind(), larder::ErrorKind::Closed);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn close(&self) -> Result<()> {
        // Among what a flush waits for are handlers that revalidate, and one of them may hang.
        if Handle::try_current().is_ok() {
            let _ = timeout(CLOSE_WAIT, self.flush()).await;
        }
        self.backend().close().await
    }

    /// Ends what is stored for URIs, all variants at once, and keeps what is on its way there from being stored.
    pub(crate) async fn invalidate_responses(&self, keys: &[Key]) {
        // Counted and logged already; a request does not fail by it.
        let _ = self.end_responses(keys).await;
    }

    /// [`invalidate_responses`](Self::invalidate_responses), and for how many of the URIs something was stored.
    pub(crate) async fn end_responses(&self, keys: &[Key]) -> Result<usize> {
        self.supersede_responses(keys).await;
        let with_parts = |key: &Key| [key.clone(), key.of_parts()];
        let keys: Vec<Key> = keys.iter().flat_map(with_parts).collect();
        let deleted = self.observe(self.backend().delete_many(&keys).await)?;
        let ended = deleted
            .chunks(2)
            .filter(|ended| ended.contains(&true))
            .count();
        self.add(Event::HttpInvalidated, ended);
        Ok(ended)
    }

    /// Ends what is stored for every URI whose key begins with `prefix`, and says for how many something was.
    pub(crate) async fn end_responses_under(&self, prefix: &Key) -> Result<usize> {
        self.supersede_under(prefix).await;
        let ended = self.observe(self.backend().delete_prefix(prefix).await);
        // As in `clear`: whoever asked meanwhile may have found what was there before.
        self.supersede_under(prefix).await;
        let ended = ended?;
        self.add(Event::HttpInvalidated, ended);
        Ok(ended)
    }

    /// Keeps responses that are on their way from being stored or waited for.
    pub(crate) async fn supersede_responses(&self, keys: &[Key]) {
        for key in keys {
            for key in [key, &key.of_parts()] {
                self.shared().generations.advance(key).await;
                self.shared().response_flights.detach(key);
            }
        }
    }

    async fn supersede_under(&self, prefix: &Key) {
        let under = |key: &Key| key.encoded().starts_with(prefix.encoded());
        self.shared().generations.advance_all(under).await;
        self.shared().response_flights.detach_all(under);
    }

    /// The same for all handles of one cache, and for no other.
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.0.shared).addr()
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        &*self.0.shared.backend
    }

    /// How long a call to the backend may take; `None` without a limit.
    pub(crate) fn backend_timeout(&self) -> Option<Duration> {
        let guard = self.shared().guard.as_ref()?;
        Some(guard.rules().timeout)
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0.shared
    }

    pub(crate) fn values(&self) -> &KeyHead {
        &self.0.values
    }

    pub(crate) fn responses(&self) -> &KeyHead {
        &self.0.responses
    }

    /// The key for hashes of what clients send, and whether other processes have the same.
    pub(crate) fn hash_key(&self) -> (&[u8; 32], bool) {
        (&self.0.shared.hash_key, self.0.shared.hash_key_given)
    }

    /// Turns a failure of the backend into what a miss looks like, when the settings say so.
    pub(crate) fn tolerate<T>(&self, result: Result<T>, missing: T) -> Result<T> {
        match result {
            Err(_) if self.shared().ignore_errors => Ok(missing),
            result => result,
        }
    }

    pub(crate) fn count(&self, event: Event) {
        self.0.shared.counters.count(event);
    }

    pub(crate) fn count_reason(&self, reason: Reason) {
        self.0.shared.counters.reason(reason);
    }

    /// Counts a failure of the backend, and logs the first of an outage where no circuit breaker does.
    pub(crate) fn observe<T>(&self, result: Result<T>) -> Result<T> {
        let failing = &self.0.shared.failing;
        let is_guarded = self.0.shared.guard.is_some();
        match &result {
            Ok(_) => {
                if failing.load(Ordering::Relaxed) && failing.swap(false, Ordering::Relaxed) {
                    tracing::info!(
                        backend = self.backend().name(),
                        "the cache's backend is back"
                    );
                }
            }
            Err(error) if error.is_outage() => {
                self.count(Event::Error);
                if !is_guarded && !failing.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, "the cache's backend fails; going on without it");
                }
            }
            Err(error) if error.kind() == ErrorKind::Closed => self.count(Event::Error),
            // The caller's own mistake.
            Err(_) => {}
        }
        result
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("namespace", &self.namespace())
            .field("backend", &self.backend().name())
            .finish_non_exhaustive()
    }
}
