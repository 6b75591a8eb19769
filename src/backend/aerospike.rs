//! The backend on Aerospike.

mod builder;
mod connection;
mod error;
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
/// Cloning shares the connection.
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
