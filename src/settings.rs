//! Settings: what the environment, a file or code says about a cache, read once at start-up.

mod aerospike;
mod backend_kind;
mod connect_mode;
mod database;
mod dynamodb;
mod layers;
mod memcached;
mod mongodb;
mod nearest;
mod parse;
mod read;
mod redis;
mod secret;
mod sqlite;
mod table;

use std::{ffi::OsStr, time::Duration};

use figment::Figment;

pub use aerospike::AerospikeSettings;
pub use backend_kind::BackendKind;
pub use connect_mode::ConnectMode;
pub use database::DatabaseSettings;
pub use dynamodb::DynamoDbSettings;
pub use memcached::MemcachedSettings;
pub use mongodb::MongoDbSettings;
pub use redis::RedisSettings;
pub use secret::Secret;
pub use sqlite::SqliteSettings;

use crate::{CodecKind, MemoryPolicy, Result};

/// Everything that can be said about a cache from outside the code.
///
/// Later sources win: the defaults, then the TOML file that `CACHE_CONFIG` names, then the environment. In the file a
/// setting has its variable's name in lower case without `CACHE_`; `config/cache.toml` shows each one.
///
/// | Variable | Default | Meaning |
/// |---|---|---|
/// | `CACHE_CONFIG` | unset | The TOML file to read before the environment; not a key of that file. |
/// | `CACHE_TYPE` | `memory` | The backend: `memory`, `redis`, `aerospike`, `memcached`, `mongodb`, `dynamodb`, `sqlite`, `postgres`, `mysql` or `null`, or an alias of theirs, see [`BackendKind`]. |
/// | `CACHE_DEFAULT_TIMEOUT` | `300` | Seconds that an entry lives when nothing else says so; `0` for never ending. |
/// | `CACHE_KEY_PREFIX` | `larder` | The namespace of every key. |
/// | `CACHE_THRESHOLD` | unset | The most entries that `memory` holds; unset, only their bytes count. |
/// | `CACHE_MAX_BYTES` | `64MiB` | The most bytes that `memory` holds: digits, or digits with a unit (`64MiB`, `64MB`). |
/// | `CACHE_MEMORY_POLICY` | `s3-fifo` | What `memory` evicts first: `s3-fifo`, `tiny-lfu` or `lru`, see [`MemoryPolicy`]. |
/// | `CACHE_CODEC` | `json` | The format of values: `json`, `msgpack` or `postcard`, see [`codec`](crate::codec). |
/// | `CACHE_IGNORE_ERRORS` | `false` | Whether a failing backend is a miss for `get` and `put` too, not an error. |
/// | `CACHE_TTL_MIN` | unset | The shortest TTL in seconds that a value may have. |
/// | `CACHE_TTL_MAX` | unset | The longest TTL in seconds that a value may have. |
/// | `CACHE_NO_NULL_WARNING` | `false` | Whether `null` is used without a warning in the log. |
/// | `CACHE_HASH_KEY` | unset | A secret of at least 16 bytes that keys the hashes of `Cookie` and `Authorization`. |
/// | `CACHE_BACKEND_TIMEOUT` | `250ms` | How long a server may take to answer: a whole number with `ms` or `s`. |
/// | `CACHE_BREAKER_FAILURES` | `5` | After how many failures in a row the server is left alone for a while. |
/// | `CACHE_BREAKER_DELAY` | `1s` | How often it is asked for a sign of life then: a whole number with `ms` or `s`. |
/// | `CACHE_CONNECT` | `eager` | Whether a server that cannot be reached at start-up is an error (`eager`) or an outage (`lazy`). |
/// | `CACHE_REDIS_URL` | unset | Where `redis` is: `redis://user:password@host:6379/0`, `rediss://…`, `unix:///path?db=0`; secret. |
/// | `CACHE_REDIS_HOST` | `127.0.0.1` | The server's name or address; this and the next, or the URL. |
/// | `CACHE_REDIS_PORT` | `6379` | The server's port. |
/// | `CACHE_REDIS_DATABASE` | `0` | The number of the database. |
/// | `CACHE_REDIS_CLUSTER_NODES` | unset | Nodes of a cluster to begin with: `host:port`, several with commas between. |
/// | `CACHE_REDIS_SENTINELS` | unset | The sentinels that know the primary: `host:port`, several with commas between. |
/// | `CACHE_REDIS_SENTINEL_MASTER` | unset | The name that they know it by. |
/// | `CACHE_REDIS_SENTINEL_USERNAME` | unset | The user that the sentinels know. |
/// | `CACHE_REDIS_SENTINEL_PASSWORD` | unset | Their password; secret. |
/// | `CACHE_REDIS_USERNAME` | unset | The user that the server's ACL knows, also beside a URL. |
/// | `CACHE_REDIS_PASSWORD` | unset | The user's password, also beside a URL; secret. |
/// | `CACHE_REDIS_SOCKET` | unset | The path of a Unix socket, in place of host and port. |
/// | `CACHE_REDIS_TLS` | `false` | Whether the connection is by TLS. |
/// | `CACHE_REDIS_CA_FILE` | unset | The certificates of the authorities that the server's may be of, in place of this machine's. |
/// | `CACHE_REDIS_CLIENT_CERT_FILE` | unset | The certificate that the client shows. |
/// | `CACHE_REDIS_CLIENT_KEY_FILE` | unset | That certificate's private key. |
/// | `CACHE_REDIS_READ_URL` | unset | A replica of the server, which answers in its place where that does no harm; secret. |
/// | `CACHE_REDIS_READ_FROM_REPLICAS` | `false` | Whether replicas of a cluster, or behind sentinels, do so. |
/// | `CACHE_REDIS_CONNECT_TIMEOUT` | `5s` | How long connecting may take: a whole number with `ms` or `s`. |
/// | `CACHE_AEROSPIKE_HOSTS` | unset | The nodes to begin with: `host:port` or `host:tls-name:port`, several with commas between. |
/// | `CACHE_AEROSPIKE_NAMESPACE` | `cache` | The namespace of the cluster. |
/// | `CACHE_AEROSPIKE_SET` | unset | The set within the namespace; unset, the one without a name. |
/// | `CACHE_AEROSPIKE_USER` | unset | The user to log in as. |
/// | `CACHE_AEROSPIKE_PASSWORD` | unset | The user's password, a secret. |
/// | `CACHE_AEROSPIKE_TLS` | `false` | Whether connections are encrypted. |
/// | `CACHE_AEROSPIKE_CA_FILE` | unset | The certificates of the authorities to trust, in PEM form. |
/// | `CACHE_AEROSPIKE_CLIENT_CERT_FILE` | unset | The certificate to show to the cluster, in PEM form. |
/// | `CACHE_AEROSPIKE_CLIENT_KEY_FILE` | unset | The key of that certificate, in PEM form. |
/// | `CACHE_AEROSPIKE_TIMEOUT` | `250ms` | The time for one call: a whole number with `ms` or `s`. |
/// | `CACHE_AEROSPIKE_CONNECT_TIMEOUT` | `1s` | The time to make a connection and log in: a whole number with `ms` or `s`. |
/// | `CACHE_AEROSPIKE_MAX_CONNS` | `256` | The most connections to one node. |
/// | `CACHE_AEROSPIKE_SEED_ONLY` | `false` | Whether only these hosts are talked to, and not the nodes that they tell of. |
/// | `CACHE_MEMCACHED_SERVERS` | `127.0.0.1:11211` | The servers: `host:port` or the path of a Unix socket, several with commas between. |
/// | `CACHE_MEMCACHED_USERNAME` | unset | The user, as the servers' authentication file (`-Y`) or their SASL (`-S`) has it. |
/// | `CACHE_MEMCACHED_PASSWORD` | unset | The user's password, a secret. |
/// | `CACHE_MEMCACHED_PROTOCOL` | unset | How the servers are spoken to: by `meta` commands, or by the `binary` protocol, which those with SASL (`-S`) need. Unset, by meta commands, unless `CACHE_TYPE` is one of SASL such as `SASLMemcachedCache`. |
/// | `CACHE_MEMCACHED_TLS` | `false` | Whether the connections are by TLS. |
/// | `CACHE_MEMCACHED_CA_FILE` | unset | The certificates of the authorities that the servers' may be of; TLS needs it. |
/// | `CACHE_MEMCACHED_CLIENT_CERT_FILE` | unset | The certificate that the client shows. |
/// | `CACHE_MEMCACHED_CLIENT_KEY_FILE` | unset | That certificate's private key. |
/// | `CACHE_MEMCACHED_CONNECT_TIMEOUT` | `5s` | How long connecting may take: a whole number with `ms` or `s`. |
/// | `CACHE_MEMCACHED_SERVER_TIMEOUT` | `100ms` | How long one of several servers may take before its keys are misses. |
/// | `CACHE_MEMCACHED_LARGE_VALUES` | `split` | Whether a value over a server's limit is put into several items (`split`) or not kept (`refuse`). |
/// | `CACHE_SQLITE_PATH` | unset | The file of `sqlite`. |
/// | `CACHE_SQLITE_TABLE` | `larder` | The name of the table of entries; two others begin with it. |
/// | `CACHE_SQLITE_MIGRATE` | `apply` | Whether tables that are missing are made (`apply`) or an error (`check`). |
/// | `CACHE_SQLITE_POOL_SIZE` | `4` | How many calls read at the same time. |
/// | `CACHE_SQLITE_BUSY_TIMEOUT` | `2s` | How long a write waits for those of other processes: a whole number with `ms` or `s`. |
/// | `CACHE_SQLITE_SWEEP_INTERVAL` | `60s` | How often what has ended is removed: a whole number with `ms` or `s`, or `off`. |
/// | `CACHE_POSTGRES_URL` | unset | Where `postgres` is: `postgres://user:password@host:5432/database`; secret. |
/// | `CACHE_POSTGRES_PASSWORD` | unset | The user's password, beside the URL; secret. |
/// | `CACHE_POSTGRES_TLS` | `false` | Whether the connection is by TLS; the URL's `sslmode` may say so too. |
/// | `CACHE_POSTGRES_CA_FILE` | unset | The certificates of the authorities that the server's may be of, beside this machine's. |
/// | `CACHE_POSTGRES_CLIENT_CERT_FILE` | unset | The certificate that the client shows. |
/// | `CACHE_POSTGRES_CLIENT_KEY_FILE` | unset | That certificate's private key. |
/// | `CACHE_POSTGRES_TABLE` | `larder` | The name of the table of entries; two others begin with it. |
/// | `CACHE_POSTGRES_MIGRATE` | `apply` | Whether tables that are missing are made (`apply`) or an error (`check`). |
/// | `CACHE_POSTGRES_POOL_SIZE` | `10` | The most connections. |
/// | `CACHE_POSTGRES_CONNECT_TIMEOUT` | `5s` | How long connecting may take, and waiting for a free connection: a whole number with `ms` or `s`. |
/// | `CACHE_POSTGRES_SWEEP_INTERVAL` | `60s` | How often what has ended is removed: a whole number with `ms` or `s`, or `off`. |
/// | `CACHE_MYSQL_URL` | unset | Where `mysql` is: `mysql://user:password@host:3306/database`; secret. |
/// | `CACHE_MYSQL_PASSWORD` | unset | The user's password, beside the URL; secret. |
/// | `CACHE_MYSQL_TLS` | `false` | Whether the connection is by TLS; the URL's `sslmode` may say so too. |
/// | `CACHE_MYSQL_CA_FILE` | unset | The certificates of the authorities that the server's may be of, beside this machine's. |
/// | `CACHE_MYSQL_CLIENT_CERT_FILE` | unset | The certificate that the client shows. |
/// | `CACHE_MYSQL_CLIENT_KEY_FILE` | unset | That certificate's private key. |
/// | `CACHE_MYSQL_TABLE` | `larder` | The name of the table of entries; two others begin with it. |
/// | `CACHE_MYSQL_MIGRATE` | `apply` | Whether tables that are missing are made (`apply`) or an error (`check`). |
/// | `CACHE_MYSQL_POOL_SIZE` | `10` | The most connections. |
/// | `CACHE_MYSQL_CONNECT_TIMEOUT` | `5s` | How long connecting may take, and waiting for a free connection: a whole number with `ms` or `s`. |
/// | `CACHE_MYSQL_SWEEP_INTERVAL` | `60s` | How often what has ended is removed: a whole number with `ms` or `s`, or `off`. |
/// | `CACHE_DYNAMODB_TABLE` | `larder` | The name of the table. |
/// | `CACHE_DYNAMODB_REGION` | unset | The region of the table; unset, the SDK looks for one (`AWS_REGION`, the profile, the machine). |
/// | `CACHE_DYNAMODB_ENDPOINT` | unset | The URL of the service, in place of the region's. |
/// | `CACHE_DYNAMODB_ACCESS_KEY_ID` | unset | The access key to sign requests with; unset, the SDK looks for one. |
/// | `CACHE_DYNAMODB_SECRET_ACCESS_KEY` | unset | The secret of that key, a secret. |
/// | `CACHE_DYNAMODB_SESSION_TOKEN` | unset | The token of the session that the key is of, a secret. |
/// | `CACHE_DYNAMODB_CA_FILE` | unset | The certificates of the authorities that the service's may be of, in place of this machine's. |
/// | `CACHE_DYNAMODB_CREATE` | `false` | Whether a table that is not there is made. |
/// | `CACHE_DYNAMODB_TIMEOUT` | `250ms` | The time for one request: a whole number with `ms` or `s`. |
/// | `CACHE_DYNAMODB_CONNECT_TIMEOUT` | `5s` | The time to make a connection, and for each question about the table: a whole number with `ms` or `s`. |
/// | `CACHE_DYNAMODB_MAX_CONNS` | `256` | The most connections. |
/// | `CACHE_MONGODB_URL` | unset | Where `mongodb` is: `mongodb://user:password@host:27017`, `mongodb+srv://host`; secret. |
/// | `CACHE_MONGODB_DATABASE` | unset | The database; unset, the one in the URL, else `larder`. |
/// | `CACHE_MONGODB_COLLECTION` | `cache` | The collection. |
/// | `CACHE_MONGODB_USERNAME` | unset | The user to log in as, in place of the one in the URL. |
/// | `CACHE_MONGODB_PASSWORD` | unset | The user's password, a secret. |
/// | `CACHE_MONGODB_CA_FILE` | unset | The certificates of the authorities to trust; unset, those that Mozilla trusts. |
/// | `CACHE_MONGODB_CLIENT_CERT_KEY_FILE` | unset | The certificate that the client shows, with its private key. |
/// | `CACHE_MONGODB_POOL_SIZE` | unset | The most connections to one server; unset, as the URL says, else 32. |
/// | `CACHE_MONGODB_CONNECT_TIMEOUT` | `2s` | The time to make a connection: a whole number with `ms` or `s`. |
///
/// An empty value is an unset one. Every wrong setting is reported at once, each in a sentence that names the variable
/// and where its value came from. An unknown `CACHE_*` variable belongs to somebody else and is left alone, with a
/// warning in the log when it is nearly one of these; in the file, and among the `CACHE_MEMORY_*`, `CACHE_REDIS_*`,
/// `CACHE_AEROSPIKE_*`, `CACHE_MEMCACHED_*`, `CACHE_MONGODB_*`, `CACHE_DYNAMODB_*`, `CACHE_SQLITE_*`, `CACHE_POSTGRES_*` and
/// `CACHE_MYSQL_*` variables, an unknown name is an error.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use larder::Settings;
///
/// let settings = Settings::from_pairs([
///     ("CACHE_TYPE", "SimpleCache"),
///     ("CACHE_DEFAULT_TIMEOUT", "60"),
///     ("CACHE_MAX_BYTES", "256MiB"),
/// ])?;
/// assert_eq!(settings.backend.name(), "memory");
/// assert_eq!(settings.default_ttl, Some(Duration::from_secs(60)));
/// assert_eq!(settings.max_bytes, 256 * 1024 * 1024);
/// # Ok::<(), larder::Error>(())
/// ```
///
/// All the mistakes come in one error:
///
/// ```
/// use larder::{ErrorKind, Settings};
///
/// let error = Settings::from_pairs([("CACHE_DEFAULT_TIMEOUT", "5m"), ("CACHE_IGNORE_ERRORS", "maybe")]).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Settings);
/// assert_eq!(
///     error.to_string(),
///     "CACHE_DEFAULT_TIMEOUT must be whole seconds, 0 for never; it is \"5m\" (set in the pairs given)\n\
///      CACHE_IGNORE_ERRORS must be true or false; it is \"maybe\" (set in the pairs given)",
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// Which backend keeps the entries (`CACHE_TYPE`).
    pub backend: BackendKind,
    /// How long an entry lives when nothing else says so; `None` for never ending (`CACHE_DEFAULT_TIMEOUT`).
    pub default_ttl: Option<Duration>,
    /// The namespace of every key (`CACHE_KEY_PREFIX`).
    pub key_prefix: String,
    /// The most entries that the memory backend holds; `None` where only their bytes count (`CACHE_THRESHOLD`).
    pub threshold: Option<u64>,
    /// The most bytes that the memory backend holds (`CACHE_MAX_BYTES`).
    pub max_bytes: u64,
    /// What the memory backend evicts first (`CACHE_MEMORY_POLICY`).
    pub memory_policy: MemoryPolicy,
    /// The format of values (`CACHE_CODEC`).
    pub codec: CodecKind,
    /// Whether a failing backend is a miss for `get` and `put` too, not an error (`CACHE_IGNORE_ERRORS`).
    pub ignore_errors: bool,
    /// The shortest TTL that a value may have (`CACHE_TTL_MIN`).
    pub ttl_min: Option<Duration>,
    /// The longest TTL that a value may have (`CACHE_TTL_MAX`).
    pub ttl_max: Option<Duration>,
    /// Whether the null backend is used without a warning in the log (`CACHE_NO_NULL_WARNING`).
    pub no_null_warning: bool,
    /// The key of the hashes that stand for `Cookie` and `Authorization` values (`CACHE_HASH_KEY`).
    pub hash_key: Option<Secret>,
    /// How long a backend outside this process may take to answer (`CACHE_BACKEND_TIMEOUT`).
    pub backend_timeout: Duration,
    /// After how many failures in a row such a backend is left alone for a while (`CACHE_BREAKER_FAILURES`).
    pub breaker_failures: u32,
    /// How often it is asked for a sign of life then (`CACHE_BREAKER_DELAY`).
    pub breaker_delay: Duration,
    /// What happens at start-up when it cannot be reached (`CACHE_CONNECT`).
    pub connect: ConnectMode,
    /// How to get to a Redis or Valkey server (`CACHE_REDIS_*`).
    pub redis: RedisSettings,
    /// Where the Aerospike cluster is, and how to talk to it (`CACHE_AEROSPIKE_*`).
    pub aerospike: AerospikeSettings,
    /// How to get to memcached servers (`CACHE_MEMCACHED_*`).
    pub memcached: MemcachedSettings,
    /// Where the SQLite file is (`CACHE_SQLITE_*`).
    pub sqlite: SqliteSettings,
    /// How to get to a PostgreSQL server (`CACHE_POSTGRES_*`).
    pub postgres: DatabaseSettings,
    /// How to get to a MySQL or MariaDB server (`CACHE_MYSQL_*`).
    pub mysql: DatabaseSettings,
    /// Which table of DynamoDB is used, and how to talk to the service (`CACHE_DYNAMODB_*`).
    pub dynamodb: DynamoDbSettings,
    /// Where the MongoDB servers are, and how to talk to them (`CACHE_MONGODB_*`).
    pub mongodb: MongoDbSettings,
}

impl Settings {
    /// Reads the defaults, the file that `CACHE_CONFIG` names, and the environment of this process.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`](crate::ErrorKind::Settings) with one line for each thing that is wrong.
    ///
    /// # Examples
    ///
    /// ```
    /// use larder::Settings;
    ///
    /// let settings = Settings::load()?;
    /// println!("entries are kept in {}", settings.backend.name());
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn load() -> Result<Self> {
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            Some((name, value))
        });
        layers::stack(variables, "the environment").settings()
    }

    /// Reads `pairs` as [`load`](Self::load) reads the environment, for code and tests that leave the environment
    /// alone: the names are those of the variables, and `CACHE_CONFIG` names a file here too. Of two pairs with one
    /// name the later counts.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`](crate::ErrorKind::Settings) with one line for each thing that is wrong.
    ///
    /// # Examples
    ///
    /// ```
    /// use larder::{BackendKind, Settings};
    ///
    /// let settings = Settings::from_pairs([("CACHE_TYPE", "null"), ("CACHE_NO_NULL_WARNING", "yes")])?;
    /// assert_eq!(settings.backend, BackendKind::Null);
    /// assert!(settings.no_null_warning);
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn from_pairs<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Result<Self>
    where
        N: AsRef<str>,
        V: AsRef<OsStr>,
    {
        layers::stack(pairs, "the pairs given").settings()
    }

    /// Reads the keys of a [`Figment`] of your own, named as in the file: `type`, `default_timeout`, … Neither the
    /// environment nor `CACHE_CONFIG` is looked at, and an unknown key is an error; where the settings of the
    /// cache are a section of yours, hand over [`figment.focus("cache")`](Figment::focus).
    ///
    /// figment's own `Env` provider guesses types, so that the prefix `007` arrives as the number 7. Such a value is
    /// refused, not kept changed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`](crate::ErrorKind::Settings) with one line for each thing that is wrong.
    ///
    /// # Examples
    ///
    /// ```
    /// use figment::{Figment, providers::{Format, Toml}};
    /// use larder::Settings;
    ///
    /// let app = Figment::from(Toml::string(r#"
    ///     listen = "127.0.0.1:3000"
    ///     [cache]
    ///     key_prefix = "shop"
    /// "#));
    /// let settings = Settings::from_figment(&app.focus("cache"))?;
    /// assert_eq!(settings.key_prefix, "shop");
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn from_figment(figment: &Figment) -> Result<Self> {
        read::settings(figment, Vec::new())
    }
}

impl Default for Settings {
    /// What [`load`](Self::load) gives where nothing is set.
    fn default() -> Self {
        Self {
            backend: BackendKind::Memory,
            default_ttl: Some(Duration::from_secs(300)),
            key_prefix: "larder".to_owned(),
            threshold: None,
            max_bytes: 64 * 1024 * 1024,
            memory_policy: MemoryPolicy::S3Fifo,
            codec: CodecKind::default(),
            ignore_errors: false,
            ttl_min: None,
            ttl_max: None,
            no_null_warning: false,
            hash_key: None,
            backend_timeout: Duration::from_millis(250),
            breaker_failures: 5,
            breaker_delay: Duration::from_secs(1),
            connect: ConnectMode::Eager,
            redis: RedisSettings::default(),
            aerospike: AerospikeSettings::default(),
            memcached: MemcachedSettings::default(),
            sqlite: SqliteSettings::default(),
            postgres: DatabaseSettings::default(),
            mysql: DatabaseSettings::default(),
            dynamodb: DynamoDbSettings::default(),
            mongodb: MongoDbSettings::default(),
        }
    }
}
