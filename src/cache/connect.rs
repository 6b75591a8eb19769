//! A backend from settings, one file for each.

#[cfg(feature = "aerospike")]
mod aerospike;
#[cfg(feature = "dynamodb")]
mod dynamodb;
#[cfg(feature = "memcached")]
mod memcached;
#[cfg(feature = "memory")]
mod memory;
#[cfg(feature = "mongodb")]
mod mongodb;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "sqlite")]
mod sqlite;

use super::{Cache, CacheBuilder};
use crate::{Backend, BackendKind, ConnectMode, Error, ErrorKind, Null, Result, Settings};

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
        #[cfg(feature = "memory")]
        BackendKind::Memory => memory::builder(settings),
        #[cfg(feature = "redis")]
        BackendKind::Redis => redis::builder(settings).await,
        #[cfg(feature = "aerospike")]
        BackendKind::Aerospike => aerospike::builder(settings).await,
        #[cfg(feature = "memcached")]
        BackendKind::Memcached => memcached::builder(settings).await,
        #[cfg(feature = "sqlite")]
        BackendKind::Sqlite => sqlite::builder(settings).await,
        #[cfg(feature = "postgres")]
        BackendKind::Postgres => postgres::builder(settings).await,
        #[cfg(feature = "mysql")]
        BackendKind::MySql => mysql::builder(settings).await,
        #[cfg(feature = "dynamodb")]
        BackendKind::DynamoDb => dynamodb::builder(settings).await,
        #[cfg(feature = "mongodb")]
        BackendKind::MongoDb => mongodb::builder(settings).await,
        #[allow(unreachable_patterns, reason = "with every feature there is none left")]
        other => Err(off_in_this_build(other)),
    }
}

#[allow(dead_code, reason = "with every feature no backend is off")]
fn off_in_this_build(kind: BackendKind) -> Error {
    let name = kind.name();
    let message = format!(
        "CACHE_TYPE={name} needs the feature \"{name}\" of larder, which is off in this build"
    );
    Error::new(ErrorKind::Settings, message)
}
