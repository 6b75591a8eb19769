//! The backends in SQL databases.

mod changing;
mod dialect;
mod driver;
mod errors;
mod keys;
#[cfg(feature = "mysql")]
mod mysql;
mod namespaces;
mod pool;
#[cfg(feature = "postgres")]
mod postgres;
mod reading;
mod schema;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod server;
mod shared;
#[cfg(feature = "sqlite")]
mod sqlite;
mod statements;
mod sweeping;
mod table;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod tls;
mod upserting;
mod writing;

pub use dialect::Dialect;
#[cfg(feature = "mysql")]
pub use mysql::{MySql, MySqlBuilder};
#[cfg(feature = "postgres")]
pub use postgres::{Postgres, PostgresBuilder};
pub use schema::schema;
#[cfg(feature = "sqlite")]
pub use sqlite::{Sqlite, SqliteBuilder};

/// The verbs of a backend whose first field is an `Arc<Sql>`: the same for every database.
macro_rules! backend {
    ($backend:ident) => {
        #[async_trait::async_trait]
        impl crate::Backend for $backend {
            fn name(&self) -> &'static str {
                self.0.dialect.name()
            }

            fn capabilities(&self) -> crate::Capabilities {
                crate::Capabilities {
                    stores: true,
                    counters: true,
                    if_absent: true,
                    versions: true,
                    leases: true,
                    touch: true,
                    clear: true,
                    delete_prefix: true,
                    field_expiry: false,
                    remove_expired: true,
                    shared: true,
                    persistent: true,
                    ttl_resolution: std::time::Duration::from_millis(1),
                    max_value_len: Some(self.0.largest()),
                }
            }

            fn peek(&self, _: crate::KeyRef<'_>, _: crate::Timestamp) -> crate::Peek {
                crate::Peek::Ask
            }

            async fn get(&self, key: &crate::Key) -> crate::Result<Option<crate::Entry>> {
                self.0.named(self.0.get(key).await, "get")
            }

            async fn get_many(
                &self,
                keys: &[crate::Key],
            ) -> crate::Result<Vec<Option<crate::Entry>>> {
                self.0.named(self.0.get_many(keys).await, "get_many")
            }

            async fn get_leased(&self, key: &crate::Key) -> crate::Result<crate::Leased> {
                let leased = self.0.get_leased_many(std::slice::from_ref(key)).await;
                let leased = leased.and_then(|mut leased| {
                    let only = leased.pop();
                    only.ok_or_else(|| crate::backend::sql::errors::unexpected().into())
                });
                self.0.named(leased, "get_leased")
            }

            async fn get_leased_many(
                &self,
                keys: &[crate::Key],
            ) -> crate::Result<Vec<crate::Leased>> {
                let leased = self.0.get_leased_many(keys).await;
                self.0.named(leased, "get_leased_many")
            }

            async fn put(
                &self,
                key: &crate::Key,
                entry: crate::Entry,
                mode: crate::PutMode,
            ) -> crate::Result<bool> {
                self.0.named(self.0.put(key, entry, mode).await, "put")
            }

            async fn put_many(
                &self,
                entries: Vec<(crate::Key, crate::Entry, crate::PutMode)>,
            ) -> crate::Result<Vec<bool>> {
                self.0.named(self.0.put_many(&entries).await, "put_many")
            }

            async fn contains(&self, key: &crate::Key) -> crate::Result<bool> {
                self.0.named(self.0.contains(key).await, "contains")
            }

            async fn delete(&self, key: &crate::Key) -> crate::Result<bool> {
                let removed = self.0.delete_many(std::slice::from_ref(key)).await;
                let removed = removed.map(|removed| removed.first() == Some(&true));
                self.0.named(removed, "delete")
            }

            async fn delete_many(&self, keys: &[crate::Key]) -> crate::Result<Vec<bool>> {
                self.0.named(self.0.delete_many(keys).await, "delete_many")
            }

            async fn delete_if(&self, key: &crate::Key, version: u64) -> crate::Result<bool> {
                self.0
                    .named(self.0.delete_if(key, version).await, "delete_if")
            }

            async fn touch(
                &self,
                key: &crate::Key,
                ttl: Option<std::time::Duration>,
            ) -> crate::Result<bool> {
                self.0.named(self.0.touch(key, ttl).await, "touch")
            }

            async fn increment(
                &self,
                key: &crate::Key,
                delta: i64,
                ttl: Option<std::time::Duration>,
            ) -> crate::Result<i64> {
                let sum = self.0.increment(key, delta, ttl).await;
                self.0.named(sum, "increment")
            }

            async fn clear(&self, namespace: &str) -> crate::Result<()> {
                self.0.named(self.0.clear(namespace).await, "clear")
            }

            async fn delete_prefix(&self, prefix: &crate::Key) -> crate::Result<usize> {
                let deleted = self.0.delete_prefix(prefix).await;
                self.0.named(deleted, "delete_prefix")
            }

            async fn remove_expired(&self, limit: usize) -> crate::Result<usize> {
                let removed = self.0.remove_expired(limit).await;
                self.0.named(removed, "remove_expired")
            }

            async fn ping(&self) -> crate::Result<()> {
                self.0.named(self.0.ping().await, "ping")
            }

            async fn close(&self) -> crate::Result<()> {
                self.0.close().await
            }

            fn usage(&self) -> Option<crate::Usage> {
                None
            }
        }

        /// Shows the name of the table, and nothing of where the database is.
        impl std::fmt::Debug for $backend {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($backend))
                    .field("table", &self.0.tables().name)
                    .finish_non_exhaustive()
            }
        }
    };
}

/// What the builders of all backends have in common: they keep it in a field `common`.
macro_rules! common_methods {
    ($settings:literal, pool: $pool:literal) => {
        #[doc = concat!("The name of the table of entries, `larder` by default; two others, and their indexes, begin with it (`", $settings, "_TABLE`).")]
        /// Small letters, digits and underscores.
        pub fn table(mut self, name: impl Into<String>) -> Self {
            self.common.table = name.into();
            self
        }

        #[doc = concat!("Whether tables that are missing are made, which they are by default (`", $settings, "_MIGRATE`).")]
        pub fn migrate(mut self, migrate: crate::Migrate) -> Self {
            self.common.migrate = migrate;
            self
        }

        #[doc = concat!($pool, " (`", $settings, "_POOL_SIZE`).")]
        pub fn pool_size(mut self, connections: usize) -> Self {
            self.common.pool_size = connections;
            self
        }

        #[doc = concat!("How often what has ended is removed, every 60 seconds by default, give or take a half so that processes do not do so together; `None` for never, where somebody else calls [`remove_expired`](crate::Backend::remove_expired) (`", $settings, "_SWEEP_INTERVAL`).")]
        pub fn sweep_interval(mut self, interval: impl Into<Option<std::time::Duration>>) -> Self {
            self.common.sweep_interval = interval.into();
            self
        }
    };
}

use {backend, common_methods};
