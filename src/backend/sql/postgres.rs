//! The backend on PostgreSQL.

use std::{fmt, str::FromStr, sync::Arc};

use sqlx::{
    ConnectOptions,
    postgres::{PgConnectOptions, PgSslMode},
};

use super::{
    Dialect, backend, common_methods,
    pool::{Pool, SILENCE},
    server::{Proof, Server, server_methods},
    shared::{Common, Sql},
};
use crate::Result;

use Postgres as Backend;
use sqlx::Postgres as Database;

const DIALECT: Dialect = Dialect::Postgres;

/// The longest payload. The server takes a gibibyte for a row, and as much for a message.
const MAX_VALUE_LEN: usize = 512 << 20;

/// Keeps entries in tables of a PostgreSQL database, for every process that uses it.
///
/// It is the backend to choose where the database is there already and another server is not worth its while. It is
/// tested on PostgreSQL 15 and uses nothing that 13 does not have.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> larder::Result<()> {
/// use larder::{Cache, Postgres};
///
/// let postgres = Postgres::builder("postgres://shop@db.example/shop").password("correct horse battery staple");
/// let cache = Cache::new(postgres.tls(true).connect().await?);
/// cache.put("answer", 42).await?;
/// # Ok(())
/// # }
/// ```
///
/// # What it can do
///
/// Everything that a backend can: counters, conditions, versions, leases, `touch`, `clear`, `delete_prefix` and
/// `remove_expired`, each atomic for every process on the database. TTLs are exact to a millisecond, values may have
/// 512 MiB.
///
/// # What is in the database
///
/// The tables `larder`, `larder_namespaces` and `larder_meta` in the first schema of the user's `search_path`, or others
/// by the name of [`table`](PostgresBuilder::table). They are made when a cache begins; a user who may not make tables has
/// [`Migrate::Check`](crate::Migrate::Check), and somebody else makes them from what
/// [`sql::schema`](crate::sql::schema) gives. After that the user needs `SELECT`, `INSERT`, `UPDATE` and `DELETE` on the
/// three, and nothing else.
///
/// An entry is a row with a key of at most 1024 bytes, of which longer ones are a beginning and a hash, 16 bytes before
/// the payload, and five numbers. A counter is a row with its number, which other programs may read. Making the tables
/// `UNLOGGED` saves the server half of its writing; after a crash it then begins with an empty cache, which is safe.
///
/// # What a verb costs
///
/// One statement and one round trip: it looks up the namespace's marker itself. Two round trips take the first write of a
/// process in a namespace, and an `increment` that is refused. `get_many` takes 256 keys a statement, `put_many` and
/// `delete_many` 128 and about a mebibyte; conditions of several entries are one statement each in one transaction.
/// `clear` writes one row, however much there is. A deletion leaves a row without a value until the next sweep, by which
/// loads elsewhere find out about it. What is overwritten is dead until the server vacuums it, so leave autovacuum on.
///
/// # When the server fails
///
/// Connections that broke are replaced, and reads, puts and deletions that found one broken are done again once; an
/// `increment` or a condition is not, because it could have been done. Statements that met others in a deadlock are done
/// again for half a second. A server that was emptied gets its tables anew. A fail-over to a replica that lags behind
/// loses what was written since, deletions too: a clearing that was lost is noticed and done again, a deletion is not.
#[derive(Clone)]
pub struct Postgres(Arc<Sql>);

backend!(Postgres);

impl Postgres {
    /// Begins with the URL of the database, `postgres://user:password@host:5432/database` (`CACHE_POSTGRES_URL`). A
    /// directory in place of the host, with `%2F` for its slashes, is that of a Unix socket.
    ///
    /// What the URL leaves out is taken from the `PG…` variables that PostgreSQL's own programs know.
    ///
    /// # Examples
    ///
    /// ```
    /// use larder::{Backend, Postgres};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// let postgres = Postgres::builder("postgres://db.example/shop").table("shop_cache").connect_lazily()?;
    /// assert_eq!(postgres.name(), "postgres");
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(url: impl Into<String>) -> PostgresBuilder {
        PostgresBuilder {
            server: Server::new(url.into()),
            common: Common::default(),
        }
    }
}

/// Sets up a [`Postgres`] backend. Begun with [`Postgres::builder`].
#[derive(Clone)]
#[must_use = "a builder does nothing until it connects"]
pub struct PostgresBuilder {
    server: Server,
    common: Common,
}

impl PostgresBuilder {
    common_methods!(
        "CACHE_POSTGRES",
        pool: "The most connections, 10 by default; calls wait for one that is free"
    );
    server_methods!("CACHE_POSTGRES");

    fn options(&self) -> Result<PgConnectOptions> {
        let server = &self.server;
        let is_url = ["postgres://", "postgresql://"]
            .iter()
            .any(|scheme| server.url.starts_with(scheme));
        let options = PgConnectOptions::from_str(&server.bare_url()).ok();
        let Some(mut options) = options.filter(|_| is_url) else {
            let example = "postgres://user:password@host:5432/database";
            return Err(Server::not_a_url(DIALECT, example));
        };
        if let Some(password) = &server.password {
            options = options.password(password);
        }
        options = options.ssl_mode(match server.proof(DIALECT)? {
            Proof::Nothing => PgSslMode::Disable,
            Proof::Authority => PgSslMode::VerifyCa,
            Proof::Host => PgSslMode::VerifyFull,
        });
        let pems = server.pems(DIALECT)?;
        if let Some(ca) = pems.ca {
            options = options.ssl_root_cert_from_pem(ca);
        }
        if let Some((certificate, key)) = pems.client {
            options = options
                .ssl_client_cert_from_pem(certificate)
                .ssl_client_key_from_pem(key);
        }
        if options.get_application_name().is_none() {
            options = options.application_name("larder");
        }
        Ok(options.disable_statement_logging())
    }
}

/// Shows what was set, and neither the URL nor the password nor the key.
impl fmt::Debug for PostgresBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresBuilder")
            .field("common", &self.common)
            .finish_non_exhaustive()
    }
}
