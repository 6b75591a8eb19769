use super::parse::{Choice, Refusal, fold};

/// Where entries are kept, as `CACHE_TYPE` names it.
///
/// Names are read in either case, with or without hyphens and underscores. Those of Flask-Caching, cachelib and
/// dogpile.cache are aliases, short (`SimpleCache`) or as paths (`flask_caching.backends.SimpleCache`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BackendKind {
    /// `memory`: in this process, under the feature `memory`. Aliases: `in-memory`, `local`, `simple`, `SimpleCache`.
    #[default]
    Memory,
    /// `redis`: on a Redis or Valkey server, under the feature `redis`. Aliases: `valkey`, `RedisCache`; and
    /// `RedisSentinelCache` and `RedisClusterCache`, which ask for `CACHE_REDIS_SENTINELS` and
    /// `CACHE_REDIS_CLUSTER_NODES`.
    Redis,
    /// `aerospike`: on an Aerospike cluster, under the feature `aerospike`. Alias: `AerospikeCache`.
    Aerospike,
    /// `memcached`: on memcached servers, under the feature `memcached`. Aliases: `memcache`, `MemcachedCache`, `pylibmc`,
    /// `pymemcache`; and `SASLMemcachedCache` and `bmemcached`, which mean `CACHE_MEMCACHED_PROTOCOL=binary` where that
    /// is unset.
    Memcached,
    /// `sqlite`: in a SQLite file, under the feature `sqlite`. Alias: `sqlite3`.
    Sqlite,
    /// `postgres`: in tables of PostgreSQL, under the feature `postgres`. Alias: `postgresql`.
    Postgres,
    /// `mysql`: in tables of MySQL or MariaDB, under the feature `mysql`. Alias: `mariadb`.
    MySql,
    /// `dynamodb`: in a table of Amazon DynamoDB, under the feature `dynamodb`. Alias: `DynamoDbCache`.
    DynamoDb,
    /// `mongodb`: in a MongoDB collection, under the feature `mongodb`. Aliases: `mongo`, `MongoDbCache`.
    MongoDb,
    /// `null`: nowhere, every read is a miss. Aliases: `none`, `off`, `disabled`, `NullCache`.
    Null,
}

/// Python packages whose module paths `CACHE_TYPE` may carry over; the last part of the path names the backend.
const PACKAGES: [&str; 4] = [
    "flask_caching.",
    "cachelib.",
    "dogpile.cache.",
    "aerospike_flask.",
];

const MEMCACHED: &[&str] = &["memcache", "memcachedcache", "pylibmc", "pymemcache"];

/// Those that speak the binary protocol alone. `Spread…` is Flask-Caching's for values over the item limit, which larder
/// splits by itself.
const BINARY_MEMCACHED: &[&str] = &[
    "saslmemcached",
    "saslmemcachedcache",
    "spreadsaslmemcached",
    "spreadsaslmemcachedcache",
    "bmemcached",
];

impl BackendKind {
    /// The name in settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Redis => "redis",
            Self::Aerospike => "aerospike",
            Self::Memcached => "memcached",
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
            Self::MySql => "mysql",
            Self::DynamoDb => "dynamodb",
            Self::MongoDb => "mongodb",
            Self::Null => "null",
        }
    }

    /// Whether this build has the backend's feature.
    const fn is_built(self) -> bool {
        match self {
            Self::Memory => cfg!(feature = "memory"),
            Self::Redis => cfg!(feature = "redis"),
            Self::Aerospike => cfg!(feature = "aerospike"),
            Self::Memcached => cfg!(feature = "memcached"),
            Self::Sqlite => cfg!(feature = "sqlite"),
            Self::Postgres => cfg!(feature = "postgres"),
            Self::MySql => cfg!(feature = "mysql"),
            Self::DynamoDb => cfg!(feature = "dynamodb"),
            Self::MongoDb => cfg!(feature = "mongodb"),
            Self::Null => true,
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        let name = without_package(text);
        let choices = [
            Choice(
                Self::Memory,
                Self::Memory.name(),
                &["inmemory", "local", "simple", "simplecache", "memorypickle"],
            ),
            Choice(
                Self::Redis,
                Self::Redis.name(),
                &[
                    "rediscache",
                    "redissentinel",
                    "redissentinelcache",
                    "rediscluster",
                    "redisclustercache",
                    "valkey",
                    "valkeycache",
                    "valkeysentinel",
                    "valkeycluster",
                    "dogpilebackendredisadvanced",
                    "dogpilebackendredisadvancedhstore",
                ],
            ),
            Choice(Self::Aerospike, Self::Aerospike.name(), &["aerospikecache"]),
            Choice(Self::Memcached, Self::Memcached.name(), MEMCACHED),
            Choice(Self::Memcached, Self::Memcached.name(), BINARY_MEMCACHED),
            Choice(Self::Sqlite, Self::Sqlite.name(), &["sqlite3"]),
            Choice(Self::Postgres, Self::Postgres.name(), &["postgresql"]),
            Choice(Self::MySql, Self::MySql.name(), &["mariadb"]),
            Choice(Self::DynamoDb, Self::DynamoDb.name(), &["dynamodbcache"]),
            Choice(
                Self::MongoDb,
                Self::MongoDb.name(),
                &["mongo", "mongodbcache"],
            ),
            Choice(
                Self::Null,
                Self::Null.name(),
                &["nullcache", "none", "off", "disabled"],
            ),
        ];
        match fold(name).as_str() {
            "filesystem" | "filesystemcache" | "file" | "pickle" | "dbm" => Err(Refusal::Because(
                "keeps entries in files, for which larder has CACHE_TYPE=sqlite: all of them are in one file, \
                 that of CACHE_SQLITE_PATH"
                    .to_owned(),
            )),
            _ => match Choice::find(&choices, name)? {
                kind if kind.is_built() => Ok(kind),
                kind => Err(Refusal::off_in_this_build(kind.name())),
            },
        }
    }
}

/// Whether `CACHE_TYPE` names clients of memcached that speak the binary protocol alone.
pub(super) fn is_binary_memcached(text: &str) -> bool {
    BINARY_MEMCACHED.contains(&fold(without_package(text)).as_str())
}

fn without_package(text: &str) -> &str {
    let is_path = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_'));
    let lower = text.to_ascii_lowercase();
    let from_python = PACKAGES.iter().any(|package| lower.starts_with(package));
    match text.rsplit_once('.') {
        Some((_, last)) if is_path && from_python => last,
        _ => text,
    }
}

#[cfg(all(test, not(feature = "memory")))]
mod tests {
    use crate::Settings;

    #[test]
    fn memory_without_its_feature_is_refused_even_as_the_default() {
        let message =
            "CACHE_TYPE=memory needs the feature \"memory\" of larder, which is off in this build";
        for (pairs, origin) in [
            (vec![], "the default"),
            (vec![("CACHE_TYPE", "memory")], "set in the pairs given"),
        ] {
            let error = Settings::from_pairs(pairs).unwrap_err();
            assert_eq!(error.to_string(), format!("{message} ({origin})"));
        }
    }
}
