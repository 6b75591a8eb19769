//! The backend on MySQL and MariaDB.

use std::{fmt, str::FromStr, sync::Arc};

use sqlx::{
    ConnectOptions,
    mysql::{MySqlConnectOptions, MySqlSslMode},
};

use super::{
    Dialect, backend, common_methods,
    driver::Way,
    pool::{Pool, SILENCE},
    server::{Proof, Server, server_methods},
    shared::{Common, Sql},
};
use crate::Result;

use MySql as Backend;
use sqlx::MySql as Database;

const DIALECT: Dialect = Dialect::MySql;

/// The longest payload where the server was not asked yet: that of the smallest `max_allowed_packet` which is a default.
const MAX_VALUE_LEN: usize = (16 << 20) - super::shared::PACKET_ROOM;

/// Keeps entries in tables of a MySQL or MariaDB database, for every process that uses it.
///
/// It is the backend to choose where the database is there already and another server is not worth its while. It is
/// tested on MariaDB 10.11 and MySQL 9.7, and says nothing to the server that MySQL 8.0 and MariaDB 10.6 do not know too.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> larder::Result<()> {
/// use larder::{Cache, MySql};
///
/// let mysql = MySql::builder("mysql://shop@db.example/shop").password("correct horse battery staple");
/// let cache = Cache::new(mysql.tls(true).connect().await?);
/// cache.put("answer", 42).await?;
/// # Ok(())
/// # }
/// ```
///
/// # What it can do
///
/// Everything that a backend can: counters, conditions, versions, leases, `touch`, `clear`, `delete_prefix` and
/// `remove_expired`, each atomic for every process on the database. TTLs are exact to a millisecond. A value may be as
/// long as the server's `max_allowed_packet`, less 64 KiB; it is asked for that when the first connection is made.
///
/// # What is in the database
///
/// The tables `larder`, `larder_namespaces` and `larder_meta` in the database of the URL, or others by the name of
/// [`table`](MySqlBuilder::table), with the engine InnoDB. They are made when a cache begins; a user who may not make
/// tables has [`Migrate::Check`](crate::Migrate::Check), and somebody else makes them from what
/// [`sql::schema`](crate::sql::schema) gives. After that the user needs `SELECT`, `INSERT`, `UPDATE` and `DELETE` on the
/// three, and nothing else.
///
/// An entry is a row with a key of at most 1024 bytes, of which longer ones are a beginning and a hash, 16 bytes before
/// the payload, and five numbers. A counter is a row with its number, which other programs may read.
///
/// # What a verb costs
///
/// Reads, plain puts, `touch`, `clear` and what goes by a version or a lease are one statement and one round trip.
/// `delete`, `increment` and `PutMode::IfAbsent` are a transaction of two statements, four round trips, because
/// neither server tells in one what it found. `get_many` takes 256 keys a statement, `put_many` and `delete_many` 128 and
/// about a mebibyte; conditions of several entries are one statement each in one transaction. `clear` writes one row,
/// however much there is. A deletion leaves a row without a value until the next sweep, by which loads elsewhere find out
/// about it.
///
/// # Passwords
///
/// By `caching_sha2_password`, which is all that MySQL 9 has, a password goes by TLS only, on a Unix socket too: without, the
/// server's public key would have to be taken on trust, and the client library does not do that here. A MySQL that nobody
/// gave certificates makes its own, for no host, with an authority in `ca.pem` of its data: that is `?ssl-mode=verify-ca` in
/// the URL and [`ca`](MySqlBuilder::ca). What seems to work without TLS works as long as the server remembers that the
/// user came by TLS before, and not after its next start.
///
/// # When the server fails
///
/// Connections that broke are replaced, and reads, puts and deletions that found one broken are done again once; an
/// `increment` or a condition is not, because it could have been done. Statements that met others in a deadlock are done
/// again for half a second. A server that was emptied gets its tables anew. A fail-over to a replica that lags behind
/// loses what was written since, deletions too: a clearing that was lost is noticed and done again, a deletion is not.
#[derive(Clone)]
pub struct MySql(Arc<Sql>);

backend!(MySql);

impl MySql {
    /// Begins with the URL of the database, `mysql://user:password@host:3306/database`; `mariadb://` means the same
    /// (`CACHE_MYSQL_URL`). `?socket=/path` is a Unix socket in place of the host.
    ///
    /// # Examples
    ///
    /// ```
    /// use larder::{Backend, MySql};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// let mysql = MySql::builder("mysql://db.example/shop").table("shop_cache").connect_lazily()?;
    /// assert_eq!(mysql.name(), "mysql");
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(url: impl Into<String>) -> MySqlBuilder {
        MySqlBuilder {
            server: Server::new(url.into()),
            common: Common::default(),
        }
    }
}

/// Sets up a [`MySql`] backend. Begun with [`MySql::builder`].
#[derive(Clone)]
#[must_use = "a builder does nothing until it connects"]
pub struct MySqlBuilder {
    server: Server,
    common: Common,
}

impl MySqlBuilder {
    common_methods!(
        "CACHE_MYSQL",
        pool: "The most connections, 10 by default; calls wait for one that is free"
    );
    server_methods!("CACHE_MYSQL");

    fn options(&self) -> Result<MySqlConnectOptions> {
        let server = &self.server;
        let is_url = ["mysql://", "mariadb://"]
            .iter()
            .any(|scheme| server.url.starts_with(scheme));
        let options = MySqlConnectOptions::from_str(&server.bare_url()).ok();
        let Some(mut options) = options.filter(|_| is_url) else {
            let example = "mysql://user:password@host:3306/database";
            return Err(Server::not_a_url(DIALECT, example));
        };
        if let Some(password) = &server.password {
            options = options.password(password);
        }
        options = options.ssl_mode(match server.proof(DIALECT)? {
            Proof::Nothing => MySqlSslMode::Disabled,
            Proof::Authority => MySqlSslMode::VerifyCa,
            Proof::Host => MySqlSslMode::VerifyIdentity,
        });
        let pems = server.pems(DIALECT)?;
        if let Some(ca) = pems.ca {
            options = options.ssl_ca_from_pem(ca);
        }
        if let Some((certificate, key)) = pems.client {
            options = options
                .ssl_client_cert_from_pem(certificate)
                .ssl_client_key_from_pem(key);
        }
        // What a connection needs, it is told once.
        let options = options
            .pipes_as_concat(false)
            .no_engine_substitution(false)
            .timezone(None)
            .set_names(false);
        Ok(options.disable_statement_logging())
    }
}

/// The client library sends a password by a Unix socket no more than by a network.
pub(super) fn way(options: &MySqlConnectOptions) -> Way {
    match (options.get_ssl_mode(), options.get_socket()) {
        (MySqlSslMode::Disabled, None) => Way::Open,
        (MySqlSslMode::Disabled, Some(_)) => Way::Socket,
        _ => Way::Any,
    }
}

/// Shows what was set, and neither the URL nor the password nor the key.
impl fmt::Debug for MySqlBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MySqlBuilder")
            .field("common", &self.common)
            .finish_non_exhaustive()
    }
}
