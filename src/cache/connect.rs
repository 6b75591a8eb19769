use super::{Cache, CacheBuilder};
use crate::{Backend, BackendKind, ConnectMode, Null, Result, Settings};
#[cfg(feature = "redis")]
use crate::{Redis, RedisBuilder, RedisSettings};

impl Cache {
    /// A cache as the environment says: [`Settings::load`], then [`from_settings`](Self::from_settings). In memory when
    /// nothing is set.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`](crate::ErrorKind::Settings) with a sentence for each wrong setting; the backend's when it
    /// cannot be reached.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// let cache = larder::Cache::from_env().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn from_env() -> Result<Self> {
        Self::from_settings(&Settings::load()?).await
    }

    /// A cache as these settings say.
    ///
    /// # Errors
    ///
    /// The backend's when it cannot be reached. The backends in process always can be, and with `CACHE_CONNECT=lazy` a
    /// server need not be there yet: everything is a miss until it is.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// use larder::{Cache, Settings};
    ///
    /// let settings = Settings::from_pairs([("CACHE_KEY_PREFIX", "shop")])?;
    /// assert_eq!(Cache::from_settings(&settings).await?.namespace(), "shop");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn from_settings(settings: &Settings) -> Result<Self> {
        let cache = backend(settings).await?.with_settings(settings).build();
        if let (ConnectMode::Lazy, Some(guard)) = (settings.connect, &cache.shared().guard) {
            // Nobody has to wait for a server that is not there yet.
            if let Err(error) = guard.ping().await {
                guard.open_at_start(error);
            }
        }
        Ok(cache)
    }
}

impl CacheBuilder {
    /// Everything that settings say but for the backend.
    fn with_settings(mut self, settings: &Settings) -> Self {
        self = self
            .namespace(&settings.key_prefix)
            .default_ttl(settings.default_ttl)
            .codec(settings.codec)
            .ignore_errors(settings.ignore_errors)
            .backend_timeout(settings.backend_timeout)
            .breaker_failures(settings.breaker_failures)
            .breaker_delay(settings.breaker_delay);
        if let Some(ttl) = settings.ttl_min {
            self = self.ttl_min(ttl);
        }
        if let Some(ttl) = settings.ttl_max {
            self = self.ttl_max(ttl);
        }
        if let Some(secret) = &settings.hash_key {
            self = self.hash_key(secret.expose().as_bytes());
        }
        self
    }
}

async fn backend(settings: &Settings) -> Result<CacheBuilder> {
    match settings.backend {
        BackendKind::Null => {
            if !settings.no_null_warning {
                tracing::warn!(
                    "CACHE_TYPE=null: nothing is cached; set CACHE_NO_NULL_WARNING=true to say that this is meant"
                );
            }
            Ok(Cache::builder(Null))
        }
        BackendKind::Memory => memory(settings),
        BackendKind::Redis => redis(settings).await,
        BackendKind::Aerospike => aerospike(settings).await,
    }
}

#[cfg(feature = "memory")]
fn memory(settings: &Settings) -> Result<CacheBuilder> {
    let mut memory = crate::Memory::builder()
        .max_bytes(settings.max_bytes)
        .policy(settings.memory_policy);
    if let Some(entries) = settings.threshold {
        memory = memory.max_entries(entries);
    }
    Ok(Cache::builder(memory.build()))
}

#[cfg(not(feature = "memory"))]
fn memory(_: &Settings) -> Result<CacheBuilder> {
    let message =
        "CACHE_TYPE=memory needs the feature \"memory\" of larder, which is off in this build";
    Err(crate::Error::new(crate::ErrorKind::Settings, message))
}

#[cfg(feature = "redis")]
async fn redis(settings: &Settings) -> Result<CacheBuilder> {
    let redis = redis_builder(&settings.redis);
    let redis = match settings.connect {
        ConnectMode::Eager => redis.connect().await,
        ConnectMode::Lazy => redis.connect_lazily(),
    };
    redis.map(Cache::builder)
}

#[cfg(feature = "redis")]
fn redis_builder(settings: &RedisSettings) -> RedisBuilder {
    let mut builder = match &settings.url {
        Some(url) => Redis::builder(url.expose()),
        None => Redis::builder("redis://127.0.0.1")
            .host(&settings.host)
            .port(settings.port)
            .database(settings.database)
            .tls(settings.tls),
    };
    if let Some(path) = &settings.socket {
        builder = builder.socket(path);
    }
    if let Some(name) = &settings.username {
        builder = builder.username(name);
    }
    if let Some(password) = &settings.password {
        builder = builder.password(password.expose());
    }
    if let Some(path) = &settings.ca_file {
        builder = builder.ca(path);
    }
    if let (Some(certificate), Some(key)) = (&settings.client_cert_file, &settings.client_key_file)
    {
        builder = builder.client_certificate(certificate, key);
    }
    builder.connect_timeout(settings.connect_timeout)
}

#[cfg(not(feature = "redis"))]
async fn redis(_: &Settings) -> Result<CacheBuilder> {
    let message =
        "CACHE_TYPE=redis needs the feature \"redis\" of larder, which is off in this build";
    Err(crate::Error::new(crate::ErrorKind::Settings, message))
}

#[cfg(feature = "aerospike")]
async fn aerospike(settings: &Settings) -> Result<CacheBuilder> {
    let its = &settings.aerospike;
    let mut aerospike = crate::Aerospike::builder(its.hosts.as_deref().unwrap_or_default())
        .namespace(&its.namespace)
        .tls(its.tls)
        .timeout(its.timeout)
        .connect_timeout(its.connect_timeout)
        .max_conns_per_node(its.max_conns)
        .seed_only(its.seed_only);
    if let Some(set) = &its.set {
        aerospike = aerospike.set(set);
    }
    if let Some(user) = &its.user {
        aerospike = aerospike.username(user);
    }
    if let Some(password) = &its.password {
        aerospike = aerospike.password(password.expose());
    }
    if let Some(path) = &its.ca_file {
        aerospike = aerospike.ca_file(path);
    }
    if let Some(path) = &its.client_cert_file {
        aerospike = aerospike.client_certificate(path);
    }
    if let Some(path) = &its.client_key_file {
        aerospike = aerospike.client_key(path);
    }
    let aerospike = match settings.connect {
        ConnectMode::Eager => aerospike.connect().await,
        ConnectMode::Lazy => aerospike.connect_lazily().await,
    };
    aerospike.map(Cache::builder)
}

#[cfg(not(feature = "aerospike"))]
async fn aerospike(_: &Settings) -> Result<CacheBuilder> {
    let message = "CACHE_TYPE=aerospike needs the feature \"aerospike\" of larder, which is off in this build";
    Err(crate::Error::new(crate::ErrorKind::Settings, message))
}
