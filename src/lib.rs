// The first definition of a link counts, so in the documentation these stand in for the paths at the end of README.md.
//! [`CacheLayer`]: crate::CacheLayer
//! [`CacheLayer::default_ttl`]: crate::CacheLayer::default_ttl
//! [`CachePolicy`]: crate::CachePolicy
//! [`Cache`]: crate::Cache
//! [`CacheTags`]: crate::CacheTags
//! [`Settings`]: crate::Settings
//! [`Memory`]: crate::Memory
//! [`Null`]: crate::Null
//! [`Redis`]: https://docs.rs/larder/latest/larder/struct.Redis.html
//! [`Aerospike`]: https://docs.rs/larder/latest/larder/struct.Aerospike.html
//! [`Memcached`]: https://docs.rs/larder/latest/larder/struct.Memcached.html
//! [`Sqlite`]: https://docs.rs/larder/latest/larder/struct.Sqlite.html
//! [`Postgres`]: https://docs.rs/larder/latest/larder/struct.Postgres.html
//! [`MySql`]: https://docs.rs/larder/latest/larder/struct.MySql.html
//! [`DynamoDb`]: https://docs.rs/larder/latest/larder/struct.DynamoDb.html
//! [`MongoDb`]: https://docs.rs/larder/latest/larder/struct.MongoDb.html
//! [`Backend`]: crate::Backend
//! [config/cache.toml]: crate::Settings
//! [quickstart]: https://docs.rs/crate/larder/latest/source/examples/quickstart.rs
//! [extractor]: https://docs.rs/crate/larder/latest/source/examples/extractor.rs
//! [redis]: https://docs.rs/crate/larder/latest/source/examples/redis.rs
//! [policies]: https://docs.rs/crate/larder/latest/source/examples/policies.rs
//! [from_config]: https://docs.rs/crate/larder/latest/source/examples/from_config.rs
//! [tower_only]: https://docs.rs/crate/larder/latest/source/examples/tower_only.rs
//! [stack]: https://docs.rs/crate/larder/latest/source/examples/stack.rs
//! [reverse_proxy]: https://docs.rs/crate/larder/latest/source/examples/reverse_proxy.rs
//! [aerospike]: https://docs.rs/crate/larder/latest/source/examples/aerospike.rs
//! [custom_backend]: https://docs.rs/crate/larder/latest/source/examples/custom_backend.rs
//! [CONTRIBUTING.md]: https://docs.rs/crate/larder/latest/source/CONTRIBUTING.md
//! [ARCHITECTURE.md]: https://docs.rs/crate/larder/latest/source/ARCHITECTURE.md
//! [CHANGELOG.md]: https://docs.rs/crate/larder/latest/source/CHANGELOG.md
//! [Apache-2.0]: https://docs.rs/crate/larder/latest/source/LICENSE-APACHE
//! [MIT]: https://docs.rs/crate/larder/latest/source/LICENSE-MIT
//!
#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

#[cfg(feature = "axum")]
mod axum;
mod backend;
mod cache;
mod clock;
pub mod codec;
mod entry;
mod error;
mod http;
mod key;
mod settings;
#[cfg(feature = "testing")]
pub mod testing;

/// What fuzz targets reach that the public API does not. Only there when a fuzzer builds the crate.
#[cfg(fuzzing)]
#[doc(hidden)]
pub use self::http::fuzzing;

#[cfg(feature = "compression")]
pub use self::http::Coding;
#[cfg(feature = "axum")]
pub use self::{
    axum::CacheRejection,
    http::{Around, AroundFuture},
};
pub use self::{
    backend::{
        Backend, BreakerState, Capabilities, Lease, Leased, MemoryPolicy, Migrate, Null, Peek,
        PutMode, Usage,
    },
    cache::{Cache, CacheBuilder, Cached, LoadError, PutOptions, Reason, Reasons, Stats, Ttl},
    clock::Timestamp,
    codec::{CodecId, CodecKind},
    entry::{Entry, TagStamp},
    error::{Error, ErrorKind, Result},
    http::{
        BodyError, CacheBody, CacheControl, CacheLayer, CachePolicy, CacheService, CacheTags,
        Difference, Policies, PoliciesBuilder, PurgeOptions, QueryKey, ResponseFuture, SetCookie,
        Shadow, ShadowReport, ShadowRoute, StatusDetail, TagField,
    },
    key::{Key, KeyRef, KeySpace},
    settings::{
        AerospikeSettings, BackendKind, ConnectMode, DatabaseSettings, DynamoDbSettings,
        MemcachedSettings, MongoDbSettings, RedisSettings, Secret, Settings, SqliteSettings,
    },
};
#[cfg(all(fuzzing, feature = "memcached"))]
#[doc(hidden)]
pub use backend::memcached_answers;
#[cfg(feature = "aerospike")]
pub use backend::{Aerospike, AerospikeBuilder};
#[cfg(feature = "dynamodb")]
pub use backend::{DynamoDb, DynamoDbBuilder};
#[cfg(feature = "memcached")]
pub use backend::{Memcached, MemcachedBuilder};
#[cfg(feature = "memory")]
pub use backend::{Memory, MemoryBuilder};
#[cfg(feature = "mongodb")]
pub use backend::{MongoDb, MongoDbBuilder};
#[cfg(feature = "mysql")]
pub use backend::{MySql, MySqlBuilder};
#[cfg(feature = "postgres")]
pub use backend::{Postgres, PostgresBuilder};
#[cfg(feature = "redis")]
pub use backend::{Redis, RedisBuilder};
#[cfg(feature = "sqlite")]
pub use backend::{Sqlite, SqliteBuilder};

/// What the backends in SQL databases have in common: their tables, for who makes tables by hand.
#[cfg(feature = "_sql")]
pub mod sql {
    pub use crate::backend::sql::{Dialect, schema};
}

#[cfg(doc)]
#[doc = include_str!("../docs/backends.md")]
pub mod backends {}
#[cfg(doc)]
#[doc = include_str!("../docs/faults.md")]
pub mod faults {}
#[cfg(doc)]
#[doc = include_str!("../docs/semantics.md")]
pub mod semantics {}
