use std::{fmt, sync::Arc, time::Duration};

use super::{Cache, Shared, ttl::TtlRules};
use crate::{
    Backend, CodecKind,
    backend::{GuardRules, Guarded},
};

/// Sets up a [`Cache`] on a backend.
#[must_use = "a builder does nothing until it is built"]
pub struct CacheBuilder {
    backend: Arc<dyn Backend>,
    namespace: String,
    ttl: TtlRules,
    codec: CodecKind,
    ignore_errors: bool,
    hash_key: Option<[u8; 32]>,
    guard: GuardRules,
}

impl CacheBuilder {
    pub(super) fn new(backend: Arc<dyn Backend>) -> Self {
        let ttl = TtlRules {
            default: Some(Duration::from_secs(300)),
            min: None,
            max: None,
        };
        Self {
            backend,
            namespace: String::from("larder"),
            ttl,
            codec: CodecKind::default(),
            ignore_errors: false,
            hash_key: None,
            guard: GuardRules::default(),
        }
    }

    /// The namespace of the keys, `larder` by default (`CACHE_KEY_PREFIX`).
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// How long values are kept when a `put` does not say, 300 seconds by default (`CACHE_DEFAULT_TIMEOUT`); `None` for
    /// ever.
    pub fn default_ttl(mut self, ttl: impl Into<Option<Duration>>) -> Self {
        self.ttl.default = ttl.into();
        self
    }

    /// The least TTL of a value; a shorter one is raised to it (`CACHE_TTL_MIN`).
    pub fn ttl_min(mut self, ttl: Duration) -> Self {
        self.ttl.min = Some(ttl);
        self
    }

    /// The greatest TTL of a value; a longer one, and "for ever", is cut to it (`CACHE_TTL_MAX`).
    pub fn ttl_max(mut self, ttl: Duration) -> Self {
        self.ttl.max = Some(ttl);
        self
    }

    /// The format of values (`CACHE_CODEC`), by default the first of JSON, MessagePack and postcard whose feature is on.
    /// A codec whose feature is off refuses every value with [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported).
    ///
    /// Entries of another codec are misses: the next `put` or load replaces them. Until then `contains` and
    /// [`if_absent`](crate::PutOptions::if_absent) see that they are there.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// use larder::{Cache, CodecKind, Memory};
    ///
    /// # #[cfg(feature = "msgpack")] {
    /// let memory = Memory::new();
    /// let json = Cache::builder(memory.clone()).codec(CodecKind::Json).build();
    /// json.put("answer", 42).await?;
    ///
    /// let msgpack = Cache::builder(memory).codec(CodecKind::MsgPack).build();
    /// assert_eq!(msgpack.get::<i32>("answer").await?, None);
    /// msgpack.put("answer", 42).await?;
    /// assert_eq!(msgpack.get("answer").await?, Some(42));
    /// # }
    /// # Ok(())
    /// # }
    /// ```
    pub fn codec(mut self, codec: CodecKind) -> Self {
        self.codec = codec;
        self
    }

    /// Takes failures of the backend for misses in every verb (`CACHE_IGNORE_ERRORS`), rather than returning them. They
    /// are counted and logged. `get_or_load` and the layer do so anyway.
    pub fn ignore_errors(mut self, ignore: bool) -> Self {
        self.ignore_errors = ignore;
        self
    }

    /// The secret for hashes of cookies and credentials in keys (`CACHE_HASH_KEY`), the same in all processes that share
    /// a backend. Without it one is made for this process.
    pub fn hash_key(mut self, secret: &[u8]) -> Self {
        self.hash_key = Some(blake3::derive_key("larder 2026-11 hash key", secret));
        self
    }

    /// How long the backend may take to answer, 250 milliseconds by default (`CACHE_BACKEND_TIMEOUT`); verbs for many
    /// keys may take as long for each thousand of them.
    ///
    /// Like the circuit breaker, this is for backends outside this process ([`Capabilities::shared`]); it needs a tokio
    /// runtime with timers.
    ///
    /// [`Capabilities::shared`]: crate::Capabilities::shared
    pub fn backend_timeout(mut self, limit: Duration) -> Self {
        self.guard.timeout = limit;
        self
    }

    /// After how many failures in a row the circuit breaker opens, 5 by default (`CACHE_BREAKER_FAILURES`): calls fail
    /// at once then, without asking the server. It opens at the first failure of an invalidation, because nothing may
    /// be read before that has been made up for.
    pub fn breaker_failures(mut self, failures: u32) -> Self {
        self.guard.failures = failures;
        self
    }

    /// How long after the circuit breaker opened, and how often from then on, the server is asked for a sign of life;
    /// one second by default (`CACHE_BREAKER_DELAY`). Requests do not wait for it.
    pub fn breaker_delay(mut self, delay: Duration) -> Self {
        self.guard.delay = delay;
        self
    }

    /// Makes the cache. Contacts nobody.
    pub fn build(self) -> Cache {
        let hash_key_given = self.hash_key.is_some();
        let is_outside = self.backend.capabilities().shared;
        let guard = is_outside.then(|| Guarded::new(self.backend.clone(), self.guard));
        let shared = Shared {
            backend: match &guard {
                Some(guard) => guard.clone(),
                None => self.backend,
            },
            guard,
            ttl: self.ttl,
            codec: self.codec,
            ignore_errors: self.ignore_errors,
            hash_key: self.hash_key.unwrap_or_else(random),
            hash_key_given,
            value_flights: Arc::default(),
            response_flights: Arc::default(),
            generations: Arc::default(),
            policies: Default::default(),
            writes: Default::default(),
            in_flight: Default::default(),
            counters: Default::default(),
            failing: Default::default(),
        };
        Cache::within(&self.namespace, None, Arc::new(shared), None)
    }
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the operating system has a source of random numbers");
    bytes
}

impl fmt::Debug for CacheBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheBuilder")
            .field("backend", &self.backend.name())
            .field("namespace", &self.namespace)
            .field("ttl", &self.ttl)
            .field("codec", &self.codec)
            .field("ignore_errors", &self.ignore_errors)
            .field("guard", &self.guard)
            .finish_non_exhaustive()
    }
}
