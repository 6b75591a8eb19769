//! Settings from the environment, a file, pairs and a figment.

#![cfg(all(feature = "memory", feature = "json"))]
// `Jail` asks its closures for figment's large error, and helpers outside `#[test]` functions unwrap too.
#![allow(clippy::result_large_err, clippy::unwrap_used)]

use std::{fmt, io, path::Path, sync::Arc, sync::Mutex, time::Duration};

use figment::{
    Figment, Jail,
    providers::{Format, Serialized, Toml},
};
use larder::{BackendKind, CodecKind, ConnectMode, ErrorKind, MemoryPolicy, Secret, Settings};
use proptest::prelude::*;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/cache.toml");

const VARIABLES: [&str; 16] = [
    "CACHE_TYPE",
    "CACHE_DEFAULT_TIMEOUT",
    "CACHE_KEY_PREFIX",
    "CACHE_THRESHOLD",
    "CACHE_MAX_BYTES",
    "CACHE_MEMORY_POLICY",
    "CACHE_CODEC",
    "CACHE_IGNORE_ERRORS",
    "CACHE_TTL_MIN",
    "CACHE_TTL_MAX",
    "CACHE_NO_NULL_WARNING",
    "CACHE_HASH_KEY",
    "CACHE_BACKEND_TIMEOUT",
    "CACHE_BREAKER_FAILURES",
    "CACHE_BREAKER_DELAY",
    "CACHE_CONNECT",
];

fn one(variable: &str, value: &str) -> Settings {
    Settings::from_pairs([(variable, value)]).unwrap()
}

fn refusal<const N: usize>(pairs: [(&str, &str); N]) -> String {
    let error = Settings::from_pairs(pairs).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Settings);
    error.to_string()
}

/// What `Settings` say about a file with this text.
fn file(text: &str) -> Result<Settings, String> {
    let mut result = None;
    Jail::expect_with(|jail| {
        jail.create_file("cache.toml", text)?;
        result = Some(Settings::from_pairs([("CACHE_CONFIG", "cache.toml")]));
        Ok(())
    });
    result.unwrap().map_err(|error| error.to_string())
}

// Values

#[test]
fn nothing_set_is_the_default() {
    assert_eq!(
        Settings::from_pairs([("", ""); 0]).unwrap(),
        Settings::default()
    );
    let settings = Settings::default();
    assert_eq!(settings.backend, BackendKind::Memory);
    assert_eq!(settings.default_ttl, Some(Duration::from_secs(300)));
    assert_eq!(settings.key_prefix, "larder");
    assert_eq!(settings.threshold, None);
    assert_eq!(settings.max_bytes, 64 * 1024 * 1024);
    assert_eq!(settings.codec, CodecKind::Json);
    assert_eq!(settings.hash_key, None);
}

#[test]
fn every_setting_can_be_set() {
    let settings = Settings::from_pairs([
        ("CACHE_TYPE", "null"),
        ("CACHE_DEFAULT_TIMEOUT", "30"),
        ("CACHE_KEY_PREFIX", "shop"),
        ("CACHE_THRESHOLD", "500"),
        ("CACHE_MAX_BYTES", "1GiB"),
        ("CACHE_MEMORY_POLICY", "lru"),
        ("CACHE_CODEC", "json"),
        ("CACHE_IGNORE_ERRORS", "true"),
        ("CACHE_TTL_MIN", "1"),
        ("CACHE_TTL_MAX", "3600"),
        ("CACHE_NO_NULL_WARNING", "1"),
        ("CACHE_HASH_KEY", "0123456789abcdef"),
        ("CACHE_BACKEND_TIMEOUT", "100ms"),
        ("CACHE_BREAKER_FAILURES", "3"),
        ("CACHE_BREAKER_DELAY", "2s"),
        ("CACHE_CONNECT", "lazy"),
    ])
    .unwrap();
    assert_eq!(settings.backend, BackendKind::Null);
    assert_eq!(settings.default_ttl, Some(Duration::from_secs(30)));
    assert_eq!(settings.key_prefix, "shop");
    assert_eq!(settings.threshold, Some(500));
    assert_eq!(settings.max_bytes, 1 << 30);
    assert_eq!(settings.memory_policy, MemoryPolicy::Lru);
    assert_eq!(settings.codec, CodecKind::Json);
    assert!(settings.ignore_errors);
    assert_eq!(settings.ttl_min, Some(Duration::from_secs(1)));
    assert_eq!(settings.ttl_max, Some(Duration::from_secs(3600)));
    assert!(settings.no_null_warning);
    assert_eq!(settings.hash_key, Some(Secret::new("0123456789abcdef")));
    assert_eq!(settings.backend_timeout, Duration::from_millis(100));
    assert_eq!(settings.breaker_failures, 3);
    assert_eq!(settings.breaker_delay, Duration::from_secs(2));
    assert_eq!(settings.connect, ConnectMode::Lazy);
}

#[test]
fn a_short_time_needs_its_unit() {
    assert_eq!(
        refusal([("CACHE_BACKEND_TIMEOUT", "250"), ("CACHE_CONNECT", "lazi")]),
        "CACHE_BACKEND_TIMEOUT must be a whole number with ms or s, at least 1ms; it is \"250\" \
         (set in the pairs given)\n\
         CACHE_CONNECT must be eager or lazy; it is \"lazi\" (set in the pairs given); did you mean lazy?"
    );
}

#[test]
fn a_time_out_of_zero_is_never() {
    assert_eq!(one("CACHE_DEFAULT_TIMEOUT", "0").default_ttl, None);
}

#[test]
fn an_empty_value_is_an_unset_one() {
    let pairs = VARIABLES.map(|variable| (variable, ""));
    assert_eq!(Settings::from_pairs(pairs).unwrap(), Settings::default());
    assert_eq!(
        Settings::from_pairs([("CACHE_CONFIG", "")]).unwrap(),
        Settings::default()
    );
}

#[test]
fn the_later_of_two_pairs_counts() {
    let pairs = [("CACHE_THRESHOLD", "1"), ("CACHE_THRESHOLD", "2")];
    assert_eq!(Settings::from_pairs(pairs).unwrap().threshold, Some(2));
}

#[test]
fn texts_stay_as_they_are() {
    for text in [
        "007",
        "true",
        "1e3",
        "[a, b]",
        "{a = 1}",
        "\"quoted\"",
        "a,b",
        " a ",
        "'",
        "é",
    ] {
        assert_eq!(one("CACHE_KEY_PREFIX", text).key_prefix, text);
    }
}

#[test]
fn space_around_a_number_or_a_name_means_nothing() {
    assert_eq!(one("CACHE_THRESHOLD", " 7\n").threshold, Some(7));
    assert_eq!(one("CACHE_TYPE", " null ").backend, BackendKind::Null);
}

// Names of backends, policies and codecs

#[test]
fn memory_has_the_names_that_other_caches_give_it() {
    for name in [
        "memory",
        "MEMORY",
        "inmemory",
        "in-memory",
        "in_memory",
        "local",
        "simple",
        "SimpleCache",
        "simplecache",
        "flask_caching.backends.SimpleCache",
        "flask_caching.backends.simplecache.SimpleCache",
        "dogpile.cache.memory",
        "dogpile.cache.memory_pickle",
    ] {
        assert_eq!(
            one("CACHE_TYPE", name).backend,
            BackendKind::Memory,
            "{name}"
        );
    }
}

#[test]
fn null_has_the_names_that_other_caches_give_it() {
    for name in [
        "null",
        "NullCache",
        "none",
        "Off",
        "flask_caching.backends.NullCache",
        "flask_caching.backends.nullcache.NullCache",
        "dogpile.cache.null",
    ] {
        assert_eq!(one("CACHE_TYPE", name).backend, BackendKind::Null, "{name}");
    }
}

#[test]
fn a_cache_in_files_is_sent_to_sqlite() {
    for name in [
        "FileSystemCache",
        "filesystem",
        "pickle",
        "dogpile.cache.dbm",
    ] {
        let message = refusal([("CACHE_TYPE", name)]);
        let start = format!(
            "CACHE_TYPE={name} keeps entries in files, for which larder has CACHE_TYPE=sqlite"
        );
        assert!(message.starts_with(&start), "{message}");
    }
}

#[test]
fn servers_are_named_as_elsewhere() {
    let redis = "redis RedisCache valkey flask_caching.backends.RedisCache \
                 dogpile_backend_redis_advanced dogpile.cache.redis";
    let aerospike = "aerospike aerospike_flask.cache.aerospike.AerospikeCache";
    for (kind, feature, is_built, names) in [
        (BackendKind::Redis, "redis", cfg!(feature = "redis"), redis),
        (
            BackendKind::Aerospike,
            "aerospike",
            cfg!(feature = "aerospike"),
            aerospike,
        ),
        (
            BackendKind::Sqlite,
            "sqlite",
            cfg!(feature = "sqlite"),
            "sqlite SQLite sqlite3",
        ),
        (
            BackendKind::Postgres,
            "postgres",
            cfg!(feature = "postgres"),
            "postgres postgresql PostgreSQL",
        ),
        (
            BackendKind::MySql,
            "mysql",
            cfg!(feature = "mysql"),
            "mysql MySQL mariadb MariaDB",
        ),
        (
            BackendKind::DynamoDb,
            "dynamodb",
            cfg!(feature = "dynamodb"),
            "dynamodb DynamoDB DynamoDbCache cachelib.dynamodb.DynamoDbCache",
        ),
        (
            BackendKind::MongoDb,
            "mongodb",
            cfg!(feature = "mongodb"),
            "mongodb mongo MongoDBCache cachelib.mongodb.MongoDbCache",
        ),
    ] {
        for name in names.split(' ') {
            let pairs = [("CACHE_TYPE", name)];
            if is_built {
                assert_eq!(Settings::from_pairs(pairs).unwrap().backend, kind, "{name}");
            } else {
                assert_eq!(
                    refusal(pairs),
                    format!(
                        "CACHE_TYPE={name} needs the feature \"{feature}\" of larder, which is off in this \
                         build (set in the pairs given)"
                    ),
                );
            }
        }
    }
}

#[test]
#[cfg(feature = "redis")]
fn several_redis_servers_are_named_as_elsewhere() {
    let sentinels = [
        ("CACHE_REDIS_SENTINELS", "one:26379, two , [::1]:26379"),
        ("CACHE_REDIS_SENTINEL_MASTER", "mymaster"),
    ];
    for name in [
        "RedisSentinelCache",
        "dogpile.cache.redis_sentinel",
        "redis",
    ] {
        let pairs = [&[("CACHE_TYPE", name)], &sentinels[..]].concat();
        let settings = Settings::from_pairs(pairs).unwrap();
        assert_eq!(settings.backend, BackendKind::Redis);
        assert_eq!(
            settings.redis.sentinels,
            ["one:26379", "two", "[::1]:26379"]
        );
        assert_eq!(settings.redis.sentinel_master.as_deref(), Some("mymaster"));
    }
    let pairs = [
        ("CACHE_TYPE", "RedisClusterCache"),
        ("CACHE_REDIS_CLUSTER_NODES", "one:7000,two:7001"),
    ];
    let settings = Settings::from_pairs(pairs).unwrap();
    assert_eq!(settings.redis.cluster_nodes, ["one:7000", "two:7001"]);
    let replicas = [("CACHE_REDIS_READ_FROM_REPLICAS", "true")];
    let settings = Settings::from_pairs([&pairs[1..], &replicas].concat()).unwrap();
    assert!(settings.redis.read_from_replicas);
}

#[test]
#[cfg(feature = "redis")]
fn several_redis_servers_contradict_one_and_each_other() {
    let cluster = ("CACHE_REDIS_CLUSTER_NODES", "one:7000");
    let sentinels = ("CACHE_REDIS_SENTINELS", "one:26379");
    let master = ("CACHE_REDIS_SENTINEL_MASTER", "mymaster");
    for (pairs, expected) in [
        (
            vec![("CACHE_TYPE", "RedisClusterCache")],
            "CACHE_TYPE asks for CACHE_REDIS_CLUSTER_NODES, which is not set",
        ),
        (
            vec![("CACHE_TYPE", "redis_sentinel")],
            "CACHE_TYPE asks for CACHE_REDIS_SENTINELS, which is not set",
        ),
        (
            vec![cluster, ("CACHE_REDIS_HOST", "one")],
            "CACHE_REDIS_CLUSTER_NODES and CACHE_REDIS_HOST are both set",
        ),
        (
            vec![cluster, ("CACHE_REDIS_DATABASE", "3")],
            "CACHE_REDIS_CLUSTER_NODES and CACHE_REDIS_DATABASE are both set",
        ),
        (
            vec![cluster, sentinels, master],
            "CACHE_REDIS_CLUSTER_NODES and CACHE_REDIS_SENTINELS are both set",
        ),
        (
            vec![cluster, ("CACHE_REDIS_READ_URL", "redis://one")],
            "CACHE_REDIS_CLUSTER_NODES and CACHE_REDIS_READ_URL are both set; replicas there are asked by \
             CACHE_REDIS_READ_FROM_REPLICAS=true",
        ),
        (
            vec![sentinels, master, ("CACHE_REDIS_READ_URL", "redis://one")],
            "CACHE_REDIS_SENTINELS and CACHE_REDIS_READ_URL are both set",
        ),
        (
            vec![("CACHE_REDIS_READ_FROM_REPLICAS", "true")],
            "CACHE_REDIS_READ_FROM_REPLICAS is set and neither CACHE_REDIS_CLUSTER_NODES nor CACHE_REDIS_SENTINELS is; \
             the replica of a single server is named by CACHE_REDIS_READ_URL",
        ),
        (
            vec![sentinels, master, ("CACHE_REDIS_URL", "redis://one")],
            "CACHE_REDIS_SENTINELS and CACHE_REDIS_URL are both set",
        ),
        (
            vec![sentinels],
            "CACHE_REDIS_SENTINELS is set and CACHE_REDIS_SENTINEL_MASTER is not",
        ),
        (
            vec![master],
            "CACHE_REDIS_SENTINEL_MASTER is set and CACHE_REDIS_SENTINELS is not",
        ),
        (
            vec![sentinels, master, ("CACHE_REDIS_SENTINEL_USERNAME", "app")],
            "CACHE_REDIS_SENTINEL_USERNAME is set and CACHE_REDIS_SENTINEL_PASSWORD is not",
        ),
        (
            vec![("CACHE_REDIS_CLUSTER_NODES", "one:7000;two:7000")],
            "CACHE_REDIS_CLUSTER_NODES must be host:port, or several of them with commas between",
        ),
        (
            vec![("CACHE_REDIS_SENTINELS", "redis://one:26379"), master],
            "CACHE_REDIS_SENTINELS must be host:port",
        ),
        (
            vec![("CACHE_REDIS_CLUSTER_NODES", "one:70000")],
            "CACHE_REDIS_CLUSTER_NODES must be host:port",
        ),
        (
            vec![("CACHE_REDIS_CLUSTER_NODES", "one,,two")],
            "CACHE_REDIS_CLUSTER_NODES must be host:port",
        ),
    ] {
        let mut all = vec![("CACHE_TYPE", "redis")];
        if pairs[0].0 == "CACHE_TYPE" {
            all.clear();
        }
        all.extend(pairs);
        let refusal = Settings::from_pairs(all).unwrap_err().to_string();
        assert!(refusal.contains(expected), "{refusal}\n{expected}");
    }
}

#[test]
fn an_unknown_backend_lists_the_names_and_the_nearest() {
    assert_eq!(
        refusal([("CACHE_TYPE", "memroy")]),
        "CACHE_TYPE must be memory, redis, aerospike, memcached, mongodb, dynamodb, sqlite, postgres, mysql or null; it is \"memroy\" (set in the pairs given); did you mean memory?",
    );
    assert_eq!(
        refusal([("CACHE_TYPE", "myapp.RedisCache")]),
        "CACHE_TYPE must be memory, redis, aerospike, memcached, mongodb, dynamodb, sqlite, postgres, mysql or null; it is \"myapp.RedisCache\" (set in the pairs given)",
    );
}

#[test]
fn policies_are_named_with_or_without_hyphens() {
    for (policy, names) in [
        (
            MemoryPolicy::S3Fifo,
            "s3-fifo S3FIFO s3_fifo clock-pro ClockPro",
        ),
        (MemoryPolicy::TinyLfu, "tiny-lfu TinyLFU w-tinylfu"),
        (MemoryPolicy::Lru, "lru LRU"),
    ] {
        for name in names.split(' ') {
            assert_eq!(
                one("CACHE_MEMORY_POLICY", name).memory_policy,
                policy,
                "{name}"
            );
        }
    }
}

#[test]
fn codecs_are_named_with_or_without_hyphens_and_one_whose_feature_is_off_names_it() {
    for (codec, is_on, names) in [
        (CodecKind::Json, true, "json JSON orjson"),
        (
            CodecKind::MsgPack,
            cfg!(feature = "msgpack"),
            "msgpack MsgPack msg-pack MessagePack message_pack",
        ),
        (
            CodecKind::Postcard,
            cfg!(feature = "postcard"),
            "postcard Postcard",
        ),
    ] {
        for name in names.split(' ') {
            if is_on {
                assert_eq!(one("CACHE_CODEC", name).codec, codec, "{name}");
                continue;
            }
            let feature = codec.name();
            assert_eq!(
                refusal([("CACHE_CODEC", name)]),
                format!(
                    "CACHE_CODEC={name} needs the feature \"{feature}\" of larder, which is off in \
                     this build (set in the pairs given)"
                ),
            );
        }
    }
}

#[test]
fn an_unknown_codec_lists_the_names() {
    assert_eq!(
        refusal([("CACHE_CODEC", "pickle")]),
        "CACHE_CODEC must be json, msgpack or postcard; it is \"pickle\" (set in the pairs given)",
    );
}

// Mistakes

#[test]
fn every_wrong_setting_is_reported_at_once() {
    let message = refusal([
        ("CACHE_TYPE", "memroy"),
        ("CACHE_DEFAULT_TIMEOUT", "abc"),
        ("CACHE_THRESHOLD", "0"),
        ("CACHE_MAX_BYTES", "64M"),
        ("CACHE_MEMORY_POLICY", "random"),
        ("CACHE_CODEC", "xml"),
        ("CACHE_IGNORE_ERRORS", "maybe"),
        ("CACHE_TTL_MIN", "-1"),
        ("CACHE_TTL_MAX", "1h"),
        ("CACHE_NO_NULL_WARNING", "2"),
        ("CACHE_HASH_KEY", "short"),
        ("CACHE_BACKEND_TIMEOUT", "250"),
        ("CACHE_BREAKER_FAILURES", "0"),
        ("CACHE_BREAKER_DELAY", "1m"),
        ("CACHE_CONNECT", "later"),
        ("CACHE_MEMORY_SIZE", "1"),
        ("CACHE_CONFIG", "no/such/file.toml"),
    ]);
    assert_eq!(message.lines().count(), 17, "{message}");
    for name in VARIABLES.iter().filter(|&&name| name != "CACHE_KEY_PREFIX") {
        assert_eq!(
            message
                .lines()
                .filter(|line| line.starts_with(name))
                .count(),
            1,
            "{name}"
        );
    }
}

#[test]
fn a_wrong_value_is_one_sentence_with_variable_and_source() {
    assert_eq!(
        refusal([("CACHE_DEFAULT_TIMEOUT", "abc")]),
        "CACHE_DEFAULT_TIMEOUT must be whole seconds, 0 for never; it is \"abc\" (set in the pairs given)",
    );
}

#[test]
fn a_long_or_many_lined_value_stays_on_one_short_line() {
    let message = refusal([("CACHE_THRESHOLD", &format!("a\nb{}", "c".repeat(10_000)))]);
    assert_eq!(message.lines().count(), 1);
    assert!(message.len() < 250, "{message}");
}

#[test]
fn a_wrong_secret_is_not_shown() {
    assert_eq!(
        refusal([("CACHE_HASH_KEY", "hunter2")]),
        "CACHE_HASH_KEY must be a text of at least 16 bytes (set in the pairs given)",
    );
}

#[test]
fn limits_that_leave_no_room_are_refused() {
    assert_eq!(
        refusal([("CACHE_TTL_MIN", "60"), ("CACHE_TTL_MAX", "10")]),
        "CACHE_TTL_MIN is 60 s (set in the pairs given), longer than CACHE_TTL_MAX, 10 s (set in the pairs given)",
    );
}

#[test]
fn a_default_time_out_outside_the_limits_is_refused() {
    assert_eq!(
        refusal([("CACHE_TTL_MAX", "60")]),
        "CACHE_DEFAULT_TIMEOUT is 300 s (the default), longer than CACHE_TTL_MAX, 60 s (set in the pairs given)",
    );
    assert_eq!(
        refusal([("CACHE_DEFAULT_TIMEOUT", "0"), ("CACHE_TTL_MAX", "60")]),
        "CACHE_DEFAULT_TIMEOUT is 0, never (set in the pairs given), longer than CACHE_TTL_MAX, 60 s \
         (set in the pairs given)",
    );
    assert_eq!(
        refusal([("CACHE_DEFAULT_TIMEOUT", "5"), ("CACHE_TTL_MIN", "60")]),
        "CACHE_TTL_MIN is 60 s (set in the pairs given), longer than CACHE_DEFAULT_TIMEOUT, 5 s \
         (set in the pairs given)",
    );
    assert!(
        Settings::from_pairs([("CACHE_DEFAULT_TIMEOUT", "0"), ("CACHE_TTL_MIN", "60")]).is_ok()
    );
}

#[test]
fn a_malformed_limit_contradicts_nothing() {
    let message = refusal([("CACHE_TTL_MIN", "400"), ("CACHE_DEFAULT_TIMEOUT", "x")]);
    assert_eq!(message.lines().count(), 1, "{message}");
}

// Names that are no settings

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is logged while these pairs are read; they must be right.
fn logged<const N: usize>(pairs: [(&str, &str); N]) -> String {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || Settings::from_pairs(pairs).unwrap());
    String::from_utf8(log.0.lock().unwrap().clone()).unwrap()
}

#[test]
fn a_variable_that_is_nearly_a_setting_only_warns() {
    let log = logged([("CACHE_DEFAULT_TIMEOT", "abc-the-value")]);
    assert!(log.contains("WARN"), "{log}");
    assert!(log.contains(
        "CACHE_DEFAULT_TIMEOT is not a setting of larder; did you mean CACHE_DEFAULT_TIMEOUT?"
    ));
    assert!(!log.contains("abc-the-value"), "{log}");
}

#[test]
fn foreign_variables_are_left_alone() {
    assert_eq!(
        logged([
            ("CACHE_DIR", "/tmp"),
            ("CACHE_CONTROL_MAX_AGE", "x"),
            ("TYPE", "x"),
            ("LANG", "C")
        ]),
        ""
    );
}

#[test]
fn an_unknown_name_in_the_section_of_a_backend_is_an_error() {
    assert_eq!(
        refusal([("CACHE_MEMORY_POLICE", "lru")]),
        "CACHE_MEMORY_POLICE is not a setting of larder (set in the pairs given); did you mean CACHE_MEMORY_POLICY?",
    );
}

// The file

#[test]
fn the_file_of_the_project_gives_the_defaults() {
    assert_eq!(one("CACHE_CONFIG", FILE), Settings::default());
}

#[test]
fn the_examples_in_the_file_of_the_project_are_right() {
    let text = std::fs::read_to_string(FILE).unwrap();
    let uncommented: Vec<&str> = text
        .lines()
        .map(|line| {
            line.strip_prefix('#')
                .filter(|rest| !rest.starts_with(' '))
                .unwrap_or(line)
        })
        // Certificates are for TLS.
        .map(|line| match line {
            "memcached_tls = false" => "memcached_tls = true",
            line => line,
        })
        .collect();
    // Each of these stands in place of a URL.
    let mut others = uncommented;
    let mut take = |start: &str| {
        let (taken, rest): (Vec<_>, Vec<_>) =
            others.iter().partition(|line| line.starts_with(start));
        others = rest;
        file(&taken.join("\n")).unwrap().redis
    };
    assert!(take("redis_socket").socket.is_some());
    assert!(!take("redis_cluster").cluster_nodes.is_empty());
    let redis = take("redis_sentinel");
    assert!(!redis.sentinels.is_empty() && redis.sentinel_username.is_some());
    let settings = file(&others.join("\n")).unwrap();
    assert!(settings.redis.url.is_some() && settings.redis.client_key_file.is_some());
    assert!(settings.memcached.username.is_some() && settings.memcached.ca_file.is_some());
    assert!(settings.threshold.is_some() && settings.hash_key.is_some());
    assert!(settings.ttl_min.is_some() && settings.ttl_max.is_some());
}

#[test]
fn numbers_and_flags_in_a_file_may_stand_in_quotes_or_not() {
    let bare = file("default_timeout = 60\nmax_bytes = 1024\nignore_errors = true").unwrap();
    let quoted =
        file("default_timeout = \"60\"\nmax_bytes = \"1KiB\"\nignore_errors = \"yes\"").unwrap();
    assert_eq!(bare, quoted);
    assert_eq!(bare.max_bytes, 1024);
}

#[test]
fn a_wrong_value_in_a_file_names_the_file_and_the_variable() {
    assert_eq!(
        file("threshold = \"many\"").unwrap_err(),
        "CACHE_THRESHOLD must be a whole number of entries, at least 1; it is \"many\" (set in cache.toml)",
    );
}

#[test]
fn a_value_in_a_file_that_is_no_text_is_refused() {
    let message =
        file("key_prefix = 7\nthreshold = [1]\nttl_min = 1.5\nhash_key = 1234567890123456789")
            .unwrap_err();
    assert_eq!(
        message.lines().collect::<Vec<_>>(),
        [
            "CACHE_KEY_PREFIX must be a text; it is not in quotes (set in cache.toml)",
            "CACHE_THRESHOLD must be a whole number of entries, at least 1; it is a list (set in cache.toml)",
            "CACHE_TTL_MIN must be whole seconds, at least 1; it is a fraction (set in cache.toml)",
            "CACHE_HASH_KEY must be a text of at least 16 bytes; it is not in quotes (set in cache.toml)",
        ],
    );
}

#[test]
fn an_unknown_key_in_a_file_is_an_error_with_the_nearest_known_one() {
    assert_eq!(
        file("treshold = 5\nCACHE_TYPE = \"null\"").unwrap_err(),
        "\"CACHE_TYPE\" is not a setting of larder (set in cache.toml); did you mean type?\n\
         \"treshold\" is not a setting of larder (set in cache.toml); did you mean threshold?",
    );
}

#[test]
fn a_section_in_a_file_is_an_error() {
    assert_eq!(
        file("[cache]\ntype = \"null\"").unwrap_err(),
        "[cache] is not a section of larder, whose settings stand outside any (set in cache.toml)",
    );
}

#[test]
fn a_file_cannot_name_another_file() {
    assert!(
        file("config = \"other.toml\"")
            .unwrap_err()
            .contains("\"config\" is not a setting")
    );
}

#[test]
fn a_missing_file_is_an_error_that_names_it() {
    let message = refusal([("CACHE_CONFIG", "no/such/file.toml")]);
    assert!(
        message.starts_with("CACHE_CONFIG names no/such/file.toml, which cannot be read: "),
        "{message}"
    );
}

#[test]
fn a_file_that_is_no_toml_is_an_error_with_the_place_and_without_the_line() {
    assert_eq!(
        file("type = \"null\"\nhash_key = hunter2").unwrap_err(),
        "CACHE_CONFIG names cache.toml, which is not TOML at line 2, column 12; texts need quotes there",
    );
}

// The environment

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
    Jail::expect_with(|jail| {
        jail.create_file(
            "shop.toml",
            "key_prefix = \"shop\"\nthreshold = 5\nttl_max = \"\"",
        )?;
        jail.set_env("CACHE_CONFIG", "shop.toml");
        jail.set_env("CACHE_THRESHOLD", "7");
        jail.set_env("CACHE_KEY_PREFIX", "");
        let settings = Settings::load().unwrap();
        assert_eq!(settings.threshold, Some(7));
        assert_eq!(settings.key_prefix, "shop");
        assert_eq!(settings.max_bytes, 64 * 1024 * 1024);
        Ok(())
    });
}

#[test]
fn each_mistake_names_its_own_source() {
    Jail::expect_with(|jail| {
        jail.create_file("shop.toml", "ttl_min = 500")?;
        jail.set_env("CACHE_CONFIG", "shop.toml");
        jail.set_env("CACHE_TYPE", "nul");
        jail.set_env("CACHE_TTL_MAX", "400");
        assert_eq!(
            Settings::load().unwrap_err().to_string(),
            "CACHE_TYPE must be memory, redis, aerospike, memcached, mongodb, dynamodb, sqlite, postgres, mysql or null; it is \"nul\" (set in the environment); did you mean null?\n\
             CACHE_TTL_MIN is 500 s (set in shop.toml), longer than CACHE_TTL_MAX, 400 s (set in the environment)",
        );
        Ok(())
    });
}

#[cfg(unix)]
#[test]
fn a_value_that_is_no_utf_8_is_an_error_only_for_a_setting() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    let broken = OsStr::from_bytes(b"\xff");
    let error = Settings::from_pairs([("CACHE_KEY_PREFIX", broken)]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "CACHE_KEY_PREFIX must be UTF-8 (set in the pairs given)"
    );
    assert!(Settings::from_pairs([("LANG", broken)]).is_ok());
}

// A figment of the application's own

#[test]
fn a_figment_is_read_by_the_keys_of_the_file() {
    let figment = Figment::from(Serialized::default("type", "null")).merge(("threshold", 9));
    let settings = Settings::from_figment(&figment).unwrap();
    assert_eq!(
        (settings.backend, settings.threshold),
        (BackendKind::Null, Some(9))
    );
}

#[test]
fn a_section_of_a_figment_is_read_by_focusing_on_it() {
    let figment = Figment::from(Toml::string("port = 80\n[cache]\nkey_prefix = \"shop\""));
    assert_eq!(
        Settings::from_figment(&figment.focus("cache"))
            .unwrap()
            .key_prefix,
        "shop"
    );
    assert!(Settings::from_figment(&figment).is_err());
}

#[test]
fn a_text_that_figment_has_turned_into_a_number_is_refused() {
    let error = Settings::from_figment(&Figment::from(("key_prefix", 7))).unwrap_err();
    let start = "CACHE_KEY_PREFIX must be a text; it is not in quotes";
    assert!(error.to_string().starts_with(start), "{error}");
}

#[test]
fn a_figment_that_cannot_be_read_is_an_error_without_its_text() {
    let figment = Figment::from(Toml::string("hash_key = hunter2"));
    assert_eq!(
        Settings::from_figment(&figment).unwrap_err().to_string(),
        "a layer of the figment cannot be read (set in TOML source string)",
    );
}

// Whatever the value

/// Both forms of anything that could be logged.
fn shown<T: fmt::Debug, E: fmt::Debug + fmt::Display>(result: &Result<T, E>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("{error:?} {error}"),
    }
}

proptest! {
    #[test]
    fn no_value_of_any_variable_panics(variable in prop::sample::select(&VARIABLES[..]), value in ".*") {
        let _ = Settings::from_pairs([(variable, value.as_str())]);
        let _ = Settings::from_figment(&Figment::from((variable.to_lowercase(), &value)));
    }

    #[test]
    fn no_number_panics(variable in prop::sample::select(&VARIABLES[..]), number: i128, fraction: f64) {
        let key = variable.trim_start_matches("CACHE_").to_lowercase();
        let _ = Settings::from_pairs([(variable, number.to_string())]);
        let _ = Settings::from_figment(&Figment::from((&key, number)));
        let _ = Settings::from_figment(&Figment::from((&key, fraction)));
    }

    #[test]
    fn no_file_panics(text in "([a-z_]{0,12} ?= ?[\"0-9a-z\\[\\]{}.']{0,12}\n){0,4}\\PC{0,20}") {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("property.toml");
        std::fs::write(&path, text).unwrap();
        let _ = Settings::from_pairs([("CACHE_CONFIG", path)]);
    }

    #[test]
    fn no_secret_is_shown(secret in "S3CR[\\PC]{0,40}", wrong: bool) {
        let other = if wrong { "abc" } else { "300" };
        let settings = Settings::from_pairs([("CACHE_HASH_KEY", secret.as_str()), ("CACHE_DEFAULT_TIMEOUT", other)]);
        prop_assert!(!shown(&settings).contains("S3CR"));
        let figment = Figment::from(("hash_key", &secret)).merge(("default_timeout", other));
        prop_assert!(!shown(&Settings::from_figment(&figment)).contains("S3CR"));
    }
}

fn redis_error(pairs: &[(&str, &str)]) -> String {
    Settings::from_pairs(pairs.iter().copied())
        .unwrap_err()
        .to_string()
}

#[test]
fn the_settings_of_redis_are_read() {
    let settings = Settings::from_pairs([
        ("CACHE_REDIS_HOST", "cache.example"),
        ("CACHE_REDIS_PORT", "6380"),
        ("CACHE_REDIS_DATABASE", "3"),
        ("CACHE_REDIS_USERNAME", "app"),
        ("CACHE_REDIS_PASSWORD", "007"),
        ("CACHE_REDIS_TLS", "yes"),
        ("CACHE_REDIS_CA_FILE", "/ca.pem"),
        ("CACHE_REDIS_CLIENT_CERT_FILE", "/client.pem"),
        ("CACHE_REDIS_CLIENT_KEY_FILE", "/client.key"),
        ("CACHE_REDIS_CONNECT_TIMEOUT", "1500ms"),
        ("CACHE_REDIS_READ_URL", "rediss://:s3cret@replica"),
    ]);
    let redis = settings.unwrap().redis;
    let read_url = redis.read_url.as_ref().map(|it| it.expose());
    assert_eq!(read_url, Some("rediss://:s3cret@replica"));
    assert!(!redis.read_from_replicas);
    assert!(!format!("{redis:?}").contains("s3cret"));
    assert_eq!(
        (&*redis.host, redis.port, redis.database),
        ("cache.example", 6380, 3)
    );
    assert_eq!(redis.password.as_ref().map(|it| it.expose()), Some("007"));
    assert_eq!(redis.connect_timeout, Duration::from_millis(1500));
    assert!(!format!("{redis:?}").contains("007"));
}

#[test]
fn settings_of_redis_that_contradict_each_other_are_both_named() {
    let url = ("CACHE_REDIS_URL", "redis://:s3cret@cache");
    for (pairs, message) in [
        (
            &[url, ("CACHE_REDIS_PORT", "1")][..],
            "CACHE_REDIS_URL and CACHE_REDIS_PORT are both set; the URL says it already, leave one of them out",
        ),
        (
            &[("CACHE_REDIS_SOCKET", "/s"), ("CACHE_REDIS_HOST", "h")],
            "CACHE_REDIS_SOCKET and CACHE_REDIS_HOST are both set; leave out the one that is not meant",
        ),
        (
            &[("CACHE_REDIS_SOCKET", "/s"), ("CACHE_REDIS_TLS", "true")],
            "CACHE_REDIS_SOCKET and CACHE_REDIS_TLS are both set; a Unix socket has no TLS",
        ),
        (
            &[
                ("CACHE_REDIS_TLS", "true"),
                ("CACHE_REDIS_CLIENT_CERT_FILE", "/c"),
            ],
            "CACHE_REDIS_CLIENT_CERT_FILE is set and CACHE_REDIS_CLIENT_KEY_FILE is not; a certificate and its \
             private key go together",
        ),
        (
            &[("CACHE_REDIS_CA_FILE", "/c")],
            "CACHE_REDIS_CA_FILE is for TLS, and CACHE_REDIS_TLS is not true",
        ),
        (
            &[url, ("CACHE_REDIS_CA_FILE", "/c")],
            "CACHE_REDIS_CA_FILE is for TLS, and CACHE_REDIS_URL does not begin with rediss://",
        ),
        (
            &[("CACHE_REDIS_USERNAME", "app")],
            "CACHE_REDIS_USERNAME is set and CACHE_REDIS_PASSWORD is not; a user needs a password",
        ),
    ] {
        assert_eq!(redis_error(pairs), message);
    }
}

#[test]
fn a_default_beside_the_url_of_redis_contradicts_nothing() {
    let settings = Settings::from_pairs([
        ("CACHE_REDIS_URL", "rediss://cache"),
        ("CACHE_REDIS_PORT", "6379"),
        ("CACHE_REDIS_TLS", "false"),
        ("CACHE_REDIS_CA_FILE", "/ca.pem"),
        ("CACHE_REDIS_USERNAME", "app"),
    ]);
    assert!(settings.is_ok(), "{settings:?}");
}

#[test]
fn a_wrong_url_of_redis_is_not_shown() {
    assert_eq!(
        redis_error(&[("CACHE_REDIS_READ_URL", "http://:s3cret@cache")]),
        "CACHE_REDIS_READ_URL must be a URL such as redis://user:password@host:6379/0 (set in the pairs given)",
    );
    assert_eq!(
        redis_error(&[("CACHE_REDIS_URL", "http://:s3cret@cache")]),
        "CACHE_REDIS_URL must be a URL such as redis://user:password@host:6379/0 (set in the pairs given)",
    );
}

#[test]
fn what_others_call_the_settings_of_redis_leads_to_ours() {
    for (theirs, ours) in [
        ("CACHE_REDIS_DB", "CACHE_REDIS_DATABASE"),
        ("CACHE_REDIS_USER", "CACHE_REDIS_USERNAME"),
        ("CACHE_REDIS_SSL", "CACHE_REDIS_TLS"),
        ("CACHE_REDIS_PASWORD", "CACHE_REDIS_PASSWORD"),
        ("CACHE_REDIS_REPLICA_URL", "CACHE_REDIS_READ_URL"),
        ("CACHE_REDIS_READ_FROM", "CACHE_REDIS_READ_FROM_REPLICAS"),
    ] {
        let message = format!(
            "{theirs} is not a setting of larder (set in the pairs given); did you mean {ours}?"
        );
        assert_eq!(redis_error(&[(theirs, "1")]), message);
    }
}

#[test]
fn the_settings_of_memcached_are_read() {
    let settings = Settings::from_pairs([
        ("CACHE_TYPE", "SASLMemcachedCache"),
        (
            "CACHE_MEMCACHED_SERVERS",
            "one,two:11212,/run/memcached.sock",
        ),
        ("CACHE_MEMCACHED_USERNAME", "app"),
        ("CACHE_MEMCACHED_PASSWORD", "007"),
        ("CACHE_MEMCACHED_PROTOCOL", "binary"),
        ("CACHE_MEMCACHED_TLS", "yes"),
        ("CACHE_MEMCACHED_CA_FILE", "/ca.pem"),
        ("CACHE_MEMCACHED_CLIENT_CERT_FILE", "/client.pem"),
        ("CACHE_MEMCACHED_CLIENT_KEY_FILE", "/client.key"),
        ("CACHE_MEMCACHED_CONNECT_TIMEOUT", "2s"),
        ("CACHE_MEMCACHED_SERVER_TIMEOUT", "50ms"),
        ("CACHE_MEMCACHED_LARGE_VALUES", "refuse"),
    ]);
    let settings = settings.unwrap();
    assert_eq!(settings.backend, BackendKind::Memcached);
    let memcached = settings.memcached;
    assert_eq!(memcached.servers, "one,two:11212,/run/memcached.sock");
    assert_eq!(memcached.username.as_deref(), Some("app"));
    assert_eq!(memcached.password, Some(Secret::new("007")));
    assert!(memcached.binary_protocol);
    assert!(memcached.tls);
    assert_eq!(memcached.ca_file.as_deref(), Some("/ca.pem"));
    assert_eq!(memcached.client_cert_file.as_deref(), Some("/client.pem"));
    assert_eq!(memcached.client_key_file.as_deref(), Some("/client.key"));
    assert_eq!(memcached.connect_timeout, Duration::from_secs(2));
    assert_eq!(memcached.server_timeout, Duration::from_millis(50));
    assert!(!memcached.split_large_values);
}

/// Whoever comes from there has a server with SASL, which speaks no other protocol.
#[test]
fn clients_of_sasl_mean_the_binary_protocol_unless_another_one_is_named() {
    let binary = |kind: &'static str, protocol: &'static str| {
        let pairs = [("CACHE_TYPE", kind), ("CACHE_MEMCACHED_PROTOCOL", protocol)];
        Settings::from_pairs(pairs)
            .unwrap()
            .memcached
            .binary_protocol
    };
    for kind in [
        "SASLMemcachedCache",
        "saslmemcached",
        "flask_caching.backends.memcache.SpreadSASLMemcachedCache",
        "dogpile.cache.bmemcached",
    ] {
        assert!(binary(kind, ""), "{kind}");
        assert!(!binary(kind, "meta"), "{kind}");
    }
    for kind in [
        "memcached",
        "MemcachedCache",
        "dogpile.cache.pylibmc",
        "null",
    ] {
        assert!(!binary(kind, ""), "{kind}");
        assert!(binary(kind, "Binary"), "{kind}");
    }
    assert!(binary("memcached", "sasl") && !binary("SASLMemcachedCache", "text"));
    assert_eq!(
        refusal([("CACHE_MEMCACHED_PROTOCOL", "plain")]),
        "CACHE_MEMCACHED_PROTOCOL must be meta or binary; it is \"plain\" (set in the pairs given)",
    );
}

#[test]
fn the_names_that_others_have_for_memcached_are_its_own() {
    for name in [
        "memcached",
        "Memcache",
        "MemcachedCache",
        "SASLMemcachedCache",
        "SpreadSASLMemcachedCache",
        "flask_caching.backends.memcache.MemcachedCache",
        "cachelib.memcached.MemcachedCache",
        "dogpile.cache.pylibmc",
        "dogpile.cache.pymemcache",
        "dogpile.cache.bmemcached",
    ] {
        let found = one("CACHE_TYPE", name).backend;
        assert_eq!(found, BackendKind::Memcached, "{name}");
    }
}

#[test]
fn settings_of_memcached_that_contradict_each_other_are_named() {
    for (pair, message) in [
        (
            ("CACHE_MEMCACHED_USERNAME", "app"),
            "CACHE_MEMCACHED_USERNAME is set and CACHE_MEMCACHED_PASSWORD is not; a user and a password go together",
        ),
        (
            ("CACHE_MEMCACHED_PASSWORD", "s3cret"),
            "CACHE_MEMCACHED_PASSWORD is set and CACHE_MEMCACHED_USERNAME is not; a user and a password go together",
        ),
        (
            ("CACHE_MEMCACHED_TLS", "true"),
            "CACHE_MEMCACHED_TLS is set and CACHE_MEMCACHED_CA_FILE is not; TLS needs the authorities to trust",
        ),
        (
            ("CACHE_MEMCACHED_CA_FILE", "/ca.pem"),
            "CACHE_MEMCACHED_CA_FILE is for TLS, and CACHE_MEMCACHED_TLS is not true",
        ),
        (
            ("CACHE_MEMCACHED_SASL_USERNAME", "app"),
            "CACHE_MEMCACHED_SASL_USERNAME is not a setting of larder (set in the pairs given); did you mean \
             CACHE_MEMCACHED_USERNAME?",
        ),
    ] {
        assert_eq!(refusal([pair]), message);
    }
}

#[test]
fn the_settings_of_aerospike_are_read() {
    let settings = Settings::from_pairs([
        ("CACHE_AEROSPIKE_HOSTS", "one:3000,two:name:3100"),
        ("CACHE_AEROSPIKE_NAMESPACE", "pages"),
        ("CACHE_AEROSPIKE_SET", "shop"),
        ("CACHE_AEROSPIKE_USER", "me"),
        ("CACHE_AEROSPIKE_PASSWORD", "007"),
        ("CACHE_AEROSPIKE_TLS", "yes"),
        ("CACHE_AEROSPIKE_CA_FILE", "/ca.pem"),
        ("CACHE_AEROSPIKE_CLIENT_CERT_FILE", "/client.pem"),
        ("CACHE_AEROSPIKE_CLIENT_KEY_FILE", "/client.key"),
        ("CACHE_AEROSPIKE_TIMEOUT", "50ms"),
        ("CACHE_AEROSPIKE_CONNECT_TIMEOUT", "2s"),
        ("CACHE_AEROSPIKE_MAX_CONNS", "8"),
        ("CACHE_AEROSPIKE_SEED_ONLY", "on"),
    ]);
    let aerospike = settings.unwrap().aerospike;
    assert_eq!(aerospike.hosts.as_deref(), Some("one:3000,two:name:3100"));
    assert_eq!(aerospike.namespace, "pages");
    assert_eq!(aerospike.set.as_deref(), Some("shop"));
    assert_eq!(aerospike.user.as_deref(), Some("me"));
    assert_eq!(aerospike.password.as_ref().map(Secret::expose), Some("007"));
    let paths = [
        (&aerospike.ca_file, "/ca.pem"),
        (&aerospike.client_cert_file, "/client.pem"),
        (&aerospike.client_key_file, "/client.key"),
    ];
    for (path, expected) in paths {
        assert_eq!(path.as_deref(), Some(Path::new(expected)));
    }
    assert_eq!(aerospike.timeout, Duration::from_millis(50));
    assert_eq!(aerospike.connect_timeout, Duration::from_secs(2));
    assert_eq!(aerospike.max_conns, 8);
    assert!(aerospike.tls && aerospike.seed_only);
    assert!(!format!("{aerospike:?}").contains("007"));
}

#[test]
fn wrong_settings_of_aerospike_are_named() {
    let long = "n".repeat(64);
    let wrong = [
        ("CACHE_AEROSPIKE_NAMESPACE", &long[..32]),
        ("CACHE_AEROSPIKE_SET", &long[..]),
        ("CACHE_AEROSPIKE_TLS", "maybe"),
        ("CACHE_AEROSPIKE_TIMEOUT", "250"),
        ("CACHE_AEROSPIKE_CONNECT_TIMEOUT", "0s"),
        ("CACHE_AEROSPIKE_MAX_CONNS", "0"),
        ("CACHE_AEROSPIKE_SEED_ONLY", "2"),
        ("CACHE_AEROSPIKE_HOST", "one:3000"),
    ];
    let message = refusal(wrong);
    assert_eq!(message.lines().count(), wrong.len(), "{message}");
    for (name, _) in wrong {
        assert!(message.contains(name), "{name}: {message}");
    }
}

#[test]
fn the_settings_of_dynamodb_are_read() {
    let settings = Settings::from_pairs([
        ("CACHE_DYNAMODB_TABLE", "pages.v2"),
        ("CACHE_DYNAMODB_REGION", "eu-central-1"),
        ("CACHE_DYNAMODB_ENDPOINT", "https://dynamodb.example:8000"),
        ("CACHE_DYNAMODB_ACCESS_KEY_ID", "key"),
        ("CACHE_DYNAMODB_SECRET_ACCESS_KEY", "007"),
        ("CACHE_DYNAMODB_SESSION_TOKEN", "008"),
        ("CACHE_DYNAMODB_CA_FILE", "/ca.pem"),
        ("CACHE_DYNAMODB_CREATE", "on"),
        ("CACHE_DYNAMODB_TIMEOUT", "50ms"),
        ("CACHE_DYNAMODB_CONNECT_TIMEOUT", "2s"),
        ("CACHE_DYNAMODB_MAX_CONNS", "8"),
    ]);
    let dynamodb = settings.unwrap().dynamodb;
    assert_eq!(dynamodb.table, "pages.v2");
    assert_eq!(dynamodb.region.as_deref(), Some("eu-central-1"));
    let endpoint = dynamodb.endpoint.as_deref();
    assert_eq!(endpoint, Some("https://dynamodb.example:8000"));
    assert_eq!(dynamodb.access_key_id.as_deref(), Some("key"));
    let secret = dynamodb.secret_access_key.as_ref().map(Secret::expose);
    assert_eq!(secret, Some("007"));
    let token = dynamodb.session_token.as_ref().map(Secret::expose);
    assert_eq!(token, Some("008"));
    assert_eq!(dynamodb.ca_file.as_deref(), Some(Path::new("/ca.pem")));
    assert_eq!(dynamodb.timeout, Duration::from_millis(50));
    assert_eq!(dynamodb.connect_timeout, Duration::from_secs(2));
    assert_eq!(dynamodb.max_conns, 8);
    assert!(dynamodb.create);
    let shown = format!("{dynamodb:?}");
    assert!(!shown.contains("007") && !shown.contains("008"), "{shown}");
}

#[test]
fn wrong_settings_of_dynamodb_are_named() {
    let long = "x".repeat(256);
    let settings = [
        ("CACHE_DYNAMODB_TABLE", &long[..]),
        ("CACHE_DYNAMODB_REGION", "in Frankfurt"),
        ("CACHE_DYNAMODB_ENDPOINT", "127.0.0.1:8000"),
        ("CACHE_DYNAMODB_CREATE", "maybe"),
        ("CACHE_DYNAMODB_TIMEOUT", "50"),
        ("CACHE_DYNAMODB_MAX_CONNS", "0"),
        ("CACHE_DYNAMODB_REGOIN", "eu-central-1"),
    ];
    let message = refusal(settings);
    for (variable, _) in settings {
        assert!(message.contains(variable), "{variable} in {message}");
    }
}

#[test]
fn settings_of_dynamodb_that_contradict_each_other_are_both_named() {
    let key = "CACHE_DYNAMODB_ACCESS_KEY_ID";
    let secret = "CACHE_DYNAMODB_SECRET_ACCESS_KEY";
    let token = "CACHE_DYNAMODB_SESSION_TOKEN";
    for (set, missing) in [(key, secret), (secret, key), (token, key)] {
        let message = refusal([(set, "hidden")]);
        let start = format!("{set} is set and {missing} is not");
        assert!(message.starts_with(&start), "{message}");
        assert!(!message.contains("hidden"), "{message}");
    }
}

#[test]
fn the_settings_of_mongodb_are_read() {
    let settings = Settings::from_pairs([
        ("CACHE_MONGODB_URL", "mongodb://me:s3cret@one,two/?tls=true"),
        ("CACHE_MONGODB_DATABASE", "shop"),
        ("CACHE_MONGODB_COLLECTION", "pages"),
        ("CACHE_MONGODB_USERNAME", "me"),
        ("CACHE_MONGODB_PASSWORD", "007"),
        ("CACHE_MONGODB_CA_FILE", "/ca.pem"),
        ("CACHE_MONGODB_CLIENT_CERT_KEY_FILE", "/client.pem"),
        ("CACHE_MONGODB_POOL_SIZE", "8"),
        ("CACHE_MONGODB_CONNECT_TIMEOUT", "500ms"),
    ]);
    let mongodb = settings.unwrap().mongodb;
    let url = mongodb.url.as_ref().map(Secret::expose);
    assert_eq!(url, Some("mongodb://me:s3cret@one,two/?tls=true"));
    assert_eq!(mongodb.database.as_deref(), Some("shop"));
    assert_eq!(mongodb.collection, "pages");
    assert_eq!(mongodb.username.as_deref(), Some("me"));
    assert_eq!(mongodb.password.as_ref().map(Secret::expose), Some("007"));
    assert_eq!(mongodb.ca_file.as_deref(), Some("/ca.pem"));
    let pair = mongodb.client_cert_key_file.as_deref();
    assert_eq!(pair, Some("/client.pem"));
    assert_eq!(mongodb.pool_size, Some(8));
    assert_eq!(mongodb.connect_timeout, Duration::from_millis(500));
    let shown = format!("{mongodb:?}");
    assert!(!shown.contains("007") && !shown.contains("s3cret"));
}

#[test]
fn wrong_settings_of_mongodb_are_named() {
    let wrong = [
        ("CACHE_MONGODB_URL", "redis://s3cret"),
        ("CACHE_MONGODB_POOL_SIZE", "1"),
        ("CACHE_MONGODB_CONNECT_TIMEOUT", "2"),
        ("CACHE_MONGODB_HOST", "one"),
    ];
    let message = refusal(wrong);
    assert_eq!(message.lines().count(), wrong.len(), "{message}");
    for (name, _) in wrong {
        assert!(message.contains(name), "{name}: {message}");
    }
    assert!(!message.contains("s3cret"), "{message}");
}
