//! Buckets on real Redis and Valkey servers: one hash each where the server has a TTL for every field, and keys where it
//! has not.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

mod support_servers;

use std::{
    collections::BTreeSet,
    convert::Infallible,
    os::unix::fs::symlink,
    sync::Arc,
    time::{Duration, Instant},
};

use larder::{
    Backend, Cache, CodecId, Entry, ErrorKind, Key, PutMode, PutOptions, Redis, Timestamp, Ttl,
    testing,
};
use support_servers::{
    Cluster, Link, Options, Proxy, Redis as Server, matrix, options_of_valkey, redis_name, valkey,
    valkey_with,
};
use tokio::sync::Notify;

/// What a user needs on any server, and what for buckets on those that keep them in hashes: as the documentation says.
const RULES: &str = "resetchannels -@all +get +mget +set +getrange +setrange +unlink +incrby +pttl +pexpire +persist \
                     +eval +evalsha +scan +ping";
const RULES_OF_HASHES: &str = "+hget +hmget +hsetex +hdel +hpttl +hincrby +hrandfield";

async fn connect(server: &Server) -> Redis {
    Redis::builder(server.url()).connect().await.unwrap()
}

fn field(name: impl AsRef<[u8]>) -> Key {
    Key::new("shop", Some("user:7"), name)
}

fn entry(payload: impl Into<bytes::Bytes>) -> Entry {
    let now = Timestamp::now();
    Entry::new(CodecId::RAW, payload, now).with_ttl(Some(Duration::from_secs(600)), now)
}

async fn keep(redis: &Redis, name: &str, payload: &'static str) {
    let key = field(name);
    let kept = redis.put(&key, entry(payload), PutMode::Always);
    assert!(kept.await.unwrap());
}

async fn read(redis: &Redis, name: &str) -> Option<String> {
    let entry = redis.get(&field(name)).await.unwrap()?;
    Some(String::from_utf8(entry.payload().to_vec()).unwrap())
}

/// Whether the server has what buckets in hashes take.
fn has_hashes(server: &Server) -> bool {
    server
        .cli(&["COMMAND", "INFO", "HSETEX"])
        .contains("hsetex")
}

fn generation(server: &Server) -> String {
    server.cli(&["GET", "shop:generation"])
}

/// The hash that the bucket is.
fn hash(server: &Server) -> String {
    format!("shop:{}/user%3A7:", generation(server))
}

/// A cache that has a moment's more patience, for a busy machine.
async fn cache(server: &Server) -> Cache {
    let cache = Cache::builder(connect(server).await).namespace("shop");
    cache.backend_timeout(Duration::from_secs(2)).build()
}

mod suite {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn keys_in_a_bucket_pass_on_a_plain_server() {
        let Some(server) = Server::start() else {
            return;
        };
        let report = testing::examine_in_bucket(|| connect(&server)).await;
        matrix::judge(&redis_name(), "buckets", &report);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn keys_in_a_bucket_pass_on_a_valkey() {
        let Some(server) = valkey() else {
            return;
        };
        let report = testing::examine_in_bucket(|| connect(&server)).await;
        matrix::judge("redis", "Valkey, buckets", &report);
        for (name, missing) in report.skipped() {
            assert_ne!(missing, "field_expiry", "{name}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn keys_in_a_bucket_pass_by_a_user_who_may_use_hashes() {
        let rules = format!("~suite* ~SUITE* ~:* {RULES} {RULES_OF_HASHES}");
        let options = Options::default().password("root");
        let Some(server) = valkey_with(options.user("app", "secret", &rules)) else {
            return;
        };
        assert!(connect(&server).await.capabilities().field_expiry);
        let report = testing::examine_in_bucket(|| connect(&server)).await;
        matrix::judge("redis", "Valkey, ACL, buckets", &report);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn keys_in_a_bucket_pass_by_a_user_who_may_not_use_hashes() {
        let rules = format!("~suite* ~SUITE* ~:* {RULES}");
        let options = Options::default().password("root");
        let Some(server) = valkey_with(options.user("app", "secret", &rules)) else {
            return;
        };
        assert!(!connect(&server).await.capabilities().field_expiry);
        let report = testing::examine_in_bucket(|| connect(&server)).await;
        matrix::judge("redis", "Valkey, ACL without hashes, buckets", &report);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn keys_in_a_bucket_pass_on_a_cluster_of_valkeys() {
        let Some(options) = options_of_valkey(Options::default()) else {
            return;
        };
        let Some(cluster) = Cluster::with(false, false, options) else {
            return;
        };
        let connect = async || {
            let redis = Redis::cluster(cluster.addresses()).connect().await.unwrap();
            // The nodes are connected to one by one.
            let deadline = Instant::now() + Duration::from_secs(5);
            while !redis.capabilities().field_expiry {
                assert!(Instant::now() < deadline, "no node told what it can");
                redis.ping().await.unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            redis
        };
        let report = testing::examine_in_bucket(|| async { connect().await }).await;
        matrix::judge("redis", "Valkey cluster, buckets", &report);
    }
}

mod layout {
    use super::*;

    #[tokio::test]
    async fn what_the_server_can_is_found_out_at_connecting() {
        let Some(plain) = Server::start() else {
            return;
        };
        let can = connect(&plain).await.capabilities().field_expiry;
        assert_eq!(can, has_hashes(&plain));
        let Some(server) = valkey() else {
            return;
        };
        assert!(connect(&server).await.capabilities().field_expiry);
        let lazy = Redis::builder(server.url()).connect_lazily().unwrap();
        assert!(!lazy.capabilities().field_expiry);
        lazy.ping().await.unwrap();
        assert!(lazy.capabilities().field_expiry);
        assert_eq!(server.cli(&["DBSIZE"]), "0");
    }

    #[tokio::test]
    async fn a_bucket_is_one_hash_in_which_each_field_has_its_ttl() {
        let Some(server) = valkey() else {
            return;
        };
        let redis = connect(&server).await;
        keep(&redis, "a", "value").await;
        keep(&redis, "b", "value").await;
        let endless = entry("value").with_expires_at(None);
        assert!(
            redis
                .put(&field("c"), endless, PutMode::Always)
                .await
                .unwrap()
        );
        let minute = Some(Duration::from_secs(60));
        redis.increment(&field("n"), 7, minute).await.unwrap();
        let outside = Key::new("shop", None, "a");
        redis
            .put(&outside, entry("value"), PutMode::Always)
            .await
            .unwrap();

        let hash = hash(&server);
        assert!(hash.starts_with("shop:_"), "{hash}");
        let keys = server.cli(&["KEYS", "*"]);
        let keys: BTreeSet<_> = keys.lines().collect();
        let plain = format!("shop:{}:a", generation(&server));
        assert_eq!(keys, BTreeSet::from(["shop:generation", &hash, &plain]));
        assert_eq!(server.cli(&["HSTRLEN", &hash, "a"]), "29");
        assert_eq!(server.cli(&["HGET", &hash, "n"]), "7");
        assert_eq!(server.cli(&["PTTL", &hash]), "-1");
        let left = || {
            let ttls = server.cli(&["HPTTL", &hash, "FIELDS", "4", "a", "b", "c", "n"]);
            ttls.lines()
                .map(|ttl| ttl.parse().unwrap())
                .collect::<Vec<i64>>()
        };
        assert!(
            left()[..2]
                .iter()
                .all(|left| (590_000..=600_000).contains(left))
        );
        assert_eq!(left()[2], -1);
        assert!((59_000..=60_000).contains(&left()[3]));

        redis.touch(&field("a"), None).await.unwrap();
        redis.touch(&field("b"), minute).await.unwrap();
        redis.touch(&field("c"), minute).await.unwrap();
        redis.touch(&field("n"), None).await.unwrap();
        assert_eq!((left()[0], left()[3]), (-1, -1));
        assert!(
            left()[1..3]
                .iter()
                .all(|left| (59_000..=60_000).contains(left))
        );
        redis
            .touch(&field("a"), Some(Duration::ZERO))
            .await
            .unwrap();
        assert_eq!(server.cli(&["HEXISTS", &hash, "a"]), "0");
    }

    /// Redis 8 has no number for the end of a field that is some thousand years away.
    #[tokio::test]
    async fn a_ttl_of_thousands_of_years_is_one_to_every_verb() {
        let Some(server) = valkey() else {
            return;
        };
        let redis = connect(&server).await;
        let key = field("a");
        let long = Some(Duration::from_secs(100_000_000_000));
        let entry = || entry("value").with_ttl(long, Timestamp::now());
        assert!(redis.put(&key, entry(), PutMode::Always).await.unwrap());
        assert!(redis.touch(&key, long).await.unwrap());
        let found = redis.get(&key).await.unwrap().unwrap();
        assert!(found.remaining(Timestamp::now()) > Some(Duration::from_secs(99_999_999_990)));
        let mode = PutMode::IfVersion(found.version());
        assert!(redis.put(&key, entry(), mode).await.unwrap());
        assert_eq!(redis.increment(&field("n"), 1, long).await.unwrap(), 1);
        assert!(redis.touch(&field("n"), long).await.unwrap());
    }

    #[tokio::test]
    async fn the_values_of_a_bucket_are_read_by_one_command() {
        let Some(server) = valkey() else {
            return;
        };
        let bucket = cache(&server).await.bucket("user:7");
        let names: Vec<_> = (0..100).map(|name| name.to_string()).collect();
        bucket
            .put_many(names.iter().map(|name| (name, 7)))
            .await
            .unwrap();
        server.cli(&["CONFIG", "RESETSTAT"]);
        let found = bucket.get_many::<i32>(&names).await.unwrap();
        assert_eq!(found, [Some(7); 100]);
        let stats = server.cli(&["INFO", "commandstats"]);
        assert!(stats.contains("cmdstat_hmget:calls=1,"), "{stats}");
        assert!(!stats.contains("cmdstat_hget:"), "{stats}");
    }

    /// As after the server's program was replaced by a newer or an older one.
    #[tokio::test]
    async fn what_was_put_in_the_other_way_is_never_read() {
        let servers = [Server::start(), valkey()];
        for server in servers.into_iter().flatten() {
            let redis = connect(&server).await;
            let has_hashes = redis.capabilities().field_expiry;
            keep(&redis, "a", "now").await;
            let now = hash(&server);
            let other = if has_hashes { "AAAAAAAA" } else { "_AAAAAAA" };
            let stale = match has_hashes {
                true => server.cli(&["HGET", &now, "a"]),
                false => server.cli(&["GET", &format!("{now}a")]),
            };
            assert!(!stale.is_empty());
            server.cli(&["SET", "shop:generation", other]);
            let there = format!("shop:{other}/user%3A7:");
            let copy = if has_hashes {
                let script = "return redis.call('SET', KEYS[2], redis.call('HGET', KEYS[1], 'a'))";
                server.cli(&["EVAL", script, "2", &now, &format!("{there}a")])
            } else {
                let script = "return redis.call('HSET', KEYS[2], 'a', redis.call('GET', KEYS[1]))";
                server.cli(&["EVAL", script, "2", &format!("{now}a"), &there])
            };
            assert!(["OK", "1"].contains(&copy.as_str()), "{copy}");
            for redis in [redis, connect(&server).await] {
                assert_eq!(read(&redis, "a").await, None);
                assert_ne!(generation(&server), other);
                assert_eq!(generation(&server).starts_with('_'), has_hashes);
            }
        }
    }

    #[tokio::test]
    async fn processes_on_one_server_agree_and_stay_agreed() {
        let Some(server) = valkey() else {
            return;
        };
        server.cli(&["SET", "shop:generation", "AAAAAAAA"]);
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..16 {
            let url = server.url();
            tasks.spawn(async move {
                let redis = Redis::builder(url).connect().await.unwrap();
                keep(&redis, &number.to_string(), "value").await;
                redis
            });
        }
        for redis in tasks.join_all().await {
            for number in 0..16 {
                assert!(redis.contains(&field(number.to_string())).await.unwrap());
            }
        }
    }

    /// A server of the other kind with the same data, as after a fail-over or an upgrade.
    #[tokio::test]
    async fn another_server_that_takes_over_is_asked_what_it_can() {
        let socket = Options::default().unix_socket();
        let Some(options) = options_of_valkey(socket.clone()) else {
            return;
        };
        let (Some(old), Some(new)) = (socket.start(), options.start()) else {
            return;
        };
        if has_hashes(&old) {
            // The one that stands in for an older one is none.
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("primary.sock");
        let lead_to = |server: &Server, from: &Server| {
            let _ = std::fs::remove_file(&path);
            symlink(server.socket(), &path).unwrap();
            if generation(from).is_empty() {
                server.cli(&["DEL", "shop:generation"]);
            } else {
                server.cli(&["SET", "shop:generation", &generation(from)]);
            }
            from.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
        };
        lead_to(&old, &new);
        let url = format!("unix://{}", path.display());
        let redis = Redis::builder(&url).connect().await.unwrap();
        for (server, from, has_hashes) in [(&new, &old, true), (&old, &new, false)] {
            keep(&redis, "a", "before").await;
            assert_eq!(redis.capabilities().field_expiry, !has_hashes);
            lead_to(server, from);
            let deadline = Instant::now() + Duration::from_secs(5);
            while redis.get(&field("a")).await.is_err()
                || redis.capabilities().field_expiry != has_hashes
            {
                assert!(Instant::now() < deadline, "the new server was not found");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert_eq!(read(&redis, "a").await, None);
            keep(&redis, "a", "after").await;
            assert_eq!(read(&redis, "a").await.as_deref(), Some("after"));
            let kind = match has_hashes {
                true => server.cli(&["TYPE", &hash(server)]),
                false => server.cli(&["TYPE", &format!("{}a", hash(server))]),
            };
            assert_eq!(kind, if has_hashes { "hash" } else { "string" });
        }
    }

    #[tokio::test]
    async fn a_bucket_of_a_cluster_is_in_one_slot() {
        let Some(options) = options_of_valkey(Options::default()) else {
            return;
        };
        let Some(cluster) = Cluster::with(false, false, options) else {
            return;
        };
        let redis = Redis::cluster(cluster.addresses()).connect().await.unwrap();
        for bucket in 0..20 {
            let key = |name: u32| Key::new("shop", Some(&bucket.to_string()), name.to_string());
            let entries = (0..50).map(|name| (key(name), entry("value"), PutMode::Always));
            let kept = redis.put_many(entries.collect()).await.unwrap();
            assert_eq!(kept, [true; 50]);
            let keys: Vec<_> = (0..50).map(key).collect();
            let found = redis.get_many(&keys).await.unwrap();
            assert!(found.iter().all(Option::is_some));
            assert!(redis.clear_bucket(&keys[7]).await.unwrap());
            let found = redis.get_many(&keys).await.unwrap();
            assert!(found.iter().all(Option::is_none));
            redis
                .put(&keys[0], entry("value"), PutMode::Always)
                .await
                .unwrap();
        }
        let nodes = cluster.nodes().iter();
        let hashes = nodes.map(|node| {
            let keys = node.cli(&["KEYS", "shop:*/*"]);
            let keys = keys.lines().filter(|key| !key.is_empty());
            let hashes = keys.filter(|key| node.cli(&["TYPE", key]) == "hash");
            hashes.count()
        });
        let hashes: Vec<_> = hashes.collect();
        assert_eq!(hashes.iter().sum::<usize>(), 20, "{hashes:?}");
        assert!(hashes.iter().all(|count| *count > 0), "{hashes:?}");
    }
}

mod foreign {
    use super::*;

    /// Something else than a hash where the bucket's should be.
    async fn spoilt() -> Option<(Server, Cache)> {
        let server = valkey()?;
        let bucket = cache(&server).await.bucket("user:7");
        bucket.put_many([("a", 1), ("b", 2)]).await.unwrap();
        spoil(&server);
        Some((server, bucket))
    }

    fn spoil(server: &Server) {
        server.cli(&["SET", &hash(server), "text"]);
    }

    #[tokio::test]
    async fn a_string_in_the_place_of_a_bucket_is_a_miss_that_is_counted() {
        let Some((_server, bucket)) = spoilt().await else {
            return;
        };
        assert_eq!(bucket.get::<i32>("a").await.unwrap(), None);
        assert_eq!(bucket.get_many::<i32>(["a", "b"]).await.unwrap(), [None; 2]);
        assert!(!bucket.contains("a").await.unwrap());
        assert!(!bucket.touch("a", Ttl::Never).await.unwrap());
        let stats = bucket.stats();
        assert_eq!((stats.damaged, stats.outages, stats.errors), (5, 0, 0));
    }

    #[tokio::test]
    async fn putting_deleting_and_loading_remove_it() {
        let Some((server, bucket)) = spoilt().await else {
            return;
        };
        for round in 0..5 {
            match round {
                0 => assert!(bucket.put("a", 1).await.unwrap()),
                1 => {
                    let absent = PutOptions::new().if_absent();
                    assert!(bucket.put_with("a", 1, absent).await.unwrap());
                }
                2 => assert_eq!(
                    bucket.put_many([("a", 1), ("b", 2)]).await.unwrap(),
                    [true; 2]
                ),
                3 => assert!(!bucket.delete("a").await.unwrap()),
                _ => {
                    let load = async || Ok::<_, Infallible>(1);
                    assert_eq!(*bucket.get_or_load("a", load).await.unwrap(), 1);
                }
            }
            let kept = bucket.put_with("c", 3, PutOptions::new().if_absent());
            assert!(kept.await.unwrap(), "round {round}");
            let found = bucket.get::<i32>("a").await.unwrap();
            assert_eq!(found, Some(1).filter(|_| round < 3), "round {round}");
            spoil(&server);
        }
        bucket.clear().await.unwrap();
        assert!(bucket.put("a", 1).await.unwrap());
    }

    #[tokio::test]
    async fn a_hash_that_is_gone_is_misses() {
        let Some(server) = valkey() else {
            return;
        };
        let bucket = cache(&server).await.bucket("user:7");
        bucket.put_many([("a", 1), ("b", 2)]).await.unwrap();
        let hash = hash(&server);
        server.cli(&["DEL", &hash]);
        assert_eq!(bucket.get_many::<i32>(["a", "b"]).await.unwrap(), [None; 2]);
        let load = async || Ok::<_, Infallible>(3);
        assert_eq!(*bucket.get_or_load("a", load).await.unwrap(), 3);
        assert_eq!(bucket.get::<i32>("a").await.unwrap(), Some(3));
        server.cli(&["FLUSHALL"]);
        assert_eq!(bucket.get::<i32>("a").await.unwrap(), None);
        assert!(bucket.put("a", 4).await.unwrap());
        assert_eq!(bucket.get::<i32>("a").await.unwrap(), Some(4));
        assert_eq!(bucket.stats().damaged, 0);
    }
}

mod ending {
    use super::*;

    /// A value that is loaded by one cache, while the other one does something.
    async fn meanwhile(server: &Server, does: impl AsyncFn(&Cache)) -> Option<i32> {
        let (one, other) = (cache(server).await, cache(server).await);
        let (one, other) = (one.bucket("user:7"), other.bucket("user:7"));
        let (begun, done) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let loading = tokio::spawn({
            let (one, begun, done) = (one.clone(), begun.clone(), done.clone());
            async move {
                let load = async || {
                    begun.notify_one();
                    done.notified().await;
                    Ok::<_, Infallible>(1)
                };
                one.get_or_load("a", load).await
            }
        });
        begun.notified().await;
        does(&other).await;
        done.notify_one();
        assert_eq!(*loading.await.unwrap().unwrap(), 1);
        let found = one.get("a").await.unwrap();
        other.clear().await.unwrap();
        found
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_load_elsewhere_ends_with_its_bucket_and_with_its_own_key() {
        for server in [Server::start(), valkey()].into_iter().flatten() {
            let cleared = meanwhile(&server, async |other| other.clear().await.unwrap());
            assert_eq!(cleared.await, None);
            let deleted = meanwhile(&server, async |other| {
                other.delete("a").await.unwrap();
            });
            assert_eq!(deleted.await, None);
            let put = meanwhile(&server, async |other| {
                assert!(other.put("a", 2).await.unwrap());
            });
            assert_eq!(put.await, Some(2));
            let nothing = meanwhile(&server, async |other| {
                other.bucket("user:8").clear().await.unwrap();
                other.put("b", 2).await.unwrap();
            });
            assert_eq!(nothing.await, Some(1));
        }
    }

    #[tokio::test]
    async fn a_clearing_is_seen_by_everybody_at_once() {
        for server in [Server::start(), valkey()].into_iter().flatten() {
            let (one, other) = (cache(&server).await, cache(&server).await);
            for round in 0..5 {
                one.bucket("user:7").put("a", round).await.unwrap();
                one.bucket("user:8").put("a", round).await.unwrap();
                assert_eq!(other.bucket("user:7").get("a").await.unwrap(), Some(round));
                other.bucket("user:7").clear().await.unwrap();
                assert_eq!(one.bucket("user:7").get::<i32>("a").await.unwrap(), None);
                assert_eq!(one.bucket("user:8").get("a").await.unwrap(), Some(round));
            }
        }
    }

    #[tokio::test]
    async fn deleting_a_field_leaves_loads_of_most_others() {
        let Some(server) = valkey() else {
            return;
        };
        let redis = connect(&server).await;
        let keys: Vec<_> = (0..100).map(|name| field(name.to_string())).collect();
        let leased = redis.get_leased_many(&keys).await.unwrap();
        redis.delete(&keys[0]).await.unwrap();
        let mut kept = 0;
        for (key, leased) in keys.iter().zip(leased) {
            let mode = PutMode::IfUnchanged(leased.lease);
            kept += usize::from(redis.put(key, entry("loaded"), mode).await.unwrap());
        }
        assert!((80..100).contains(&kept), "{kept}");
    }

    /// A server that went back to an older copy of its data has the bucket again.
    #[tokio::test]
    async fn a_clearing_that_the_server_lost_is_found_out() {
        let Some(server) = valkey() else {
            return;
        };
        let redis = connect(&server).await;
        keep(&redis, "a", "value").await;
        let hash = hash(&server);
        server.cli(&["COPY", &hash, "copy"]);
        assert!(redis.clear_bucket(&field("")).await.unwrap());
        server.cli(&["RENAME", "copy", &hash]);
        assert_eq!(read(&redis, "a").await.as_deref(), Some("value"));
        let counters = server.cli(&["KEYS", "shop:i*"]);
        for counter in counters.lines() {
            server.cli(&["DEL", counter]);
        }
        server.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
        let deadline = Instant::now() + Duration::from_secs(5);
        let found = loop {
            match redis.get(&field("a")).await {
                Ok(found) => break found,
                Err(_) => assert!(Instant::now() < deadline),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        assert!(found.is_none());
    }

    #[tokio::test]
    async fn a_full_server_still_clears_buckets_and_deletes_fields() {
        let Some(server) = valkey() else {
            return;
        };
        let redis = connect(&server).await;
        for name in ["a", "b"] {
            keep(&redis, name, "value").await;
        }
        let lease = redis.get_leased(&field("c")).await.unwrap().lease;
        server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
        assert!(redis.delete(&field("a")).await.unwrap());
        assert_eq!(read(&redis, "a").await, None);
        assert!(redis.clear_bucket(&field("")).await.unwrap());
        assert_eq!(read(&redis, "b").await, None);
        let error = redis.put(&field("b"), entry("new"), PutMode::Always).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::TooLarge);
        server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
        let mode = PutMode::IfUnchanged(lease);
        assert!(!redis.put(&field("c"), entry("loaded"), mode).await.unwrap());
    }

    #[tokio::test]
    async fn a_clearing_during_an_outage_is_made_up_for_before_anything_is_read() {
        for server in [Server::start(), valkey()].into_iter().flatten() {
            let proxy = Proxy::to(server.address()).await;
            let url = format!("redis://{}", proxy.address());
            let redis = Redis::builder(url).connect().await.unwrap();
            let cache = Cache::builder(redis).breaker_delay(Duration::from_millis(20));
            let cache = cache.backend_timeout(Duration::from_secs(2)).build();
            let (bucket, other) = (cache.bucket("7"), cache.bucket("8"));
            bucket.put("a", 1).await.unwrap();
            other.put("a", 2).await.unwrap();
            proxy.set(Link::Refuse).await;
            assert!(bucket.clear().await.is_err());
            proxy.set(Link::Pass).await;
            let deadline = Instant::now() + Duration::from_secs(10);
            let found = loop {
                match bucket.get::<i32>("a").await {
                    Ok(found) => break found,
                    Err(_) => assert!(Instant::now() < deadline),
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            };
            assert_eq!(found, None);
            assert_eq!(other.get("a").await.unwrap(), Some(2));
        }
    }

    #[tokio::test]
    async fn buckets_of_namespaces_that_were_cleared_are_reclaimed_and_nothing_of_others() {
        let Some(server) = valkey() else {
            return;
        };
        let redis = connect(&server).await;
        for bucket in 0..50 {
            let key = |name: u32| Key::new("shop", Some(&bucket.to_string()), name.to_string());
            let endless = || Entry::new(CodecId::RAW, "value", Timestamp::now());
            let entries = (0..bucket).map(|name| (key(name), endless(), PutMode::Always));
            redis.put_many(entries.collect()).await.unwrap();
            let counters = Key::new("shop", Some(&format!("counters {bucket}")), "n");
            redis.increment(&counters, 1, None).await.unwrap();
        }
        server.cli(&["HSET", "shop:_foreign/of:", "a", "text"]);
        server.cli(&["HSET", "shop:sessions:42", "a", "text"]);
        redis.clear("shop").await.unwrap();
        keep(&redis, "new", "value").await;
        let mut removed = Vec::new();
        loop {
            match redis.remove_expired(30).await.unwrap() {
                0 => break,
                count => removed.push(count),
            }
        }
        assert!(removed.iter().all(|count| *count <= 30), "{removed:?}");
        assert_eq!(removed.iter().sum::<usize>(), 49 * 50 / 2 + 50);
        let left = server.cli(&["KEYS", "shop*"]);
        let left: BTreeSet<_> = left.lines().collect();
        let hash = hash(&server);
        let expected = [
            "shop:_foreign/of:",
            "shop:sessions:42",
            "shop:generation",
            &hash,
        ];
        assert_eq!(left, BTreeSet::from(expected));
        assert_eq!(read(&redis, "new").await.as_deref(), Some("value"));
    }
}

mod memory {
    use super::*;

    fn used(server: &Server) -> usize {
        let memory = server.cli(&["INFO", "memory"]);
        let line = memory
            .lines()
            .find_map(|line| line.strip_prefix("used_memory:"));
        line.unwrap().trim().parse().unwrap()
    }

    /// The figures in the documentation of `Cache::bucket`: values of 16 bytes, as JSON writes them.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "it is a measurement"]
    async fn what_a_small_value_takes_on_the_server() {
        let Some(server) = valkey() else {
            return;
        };
        let cache = cache(&server).await;
        for as_fields in [false, true] {
            server.cli(&["FLUSHALL", "SYNC"]);
            let before = used(&server);
            for user in 0..1_000 {
                let name = |field: u32| match as_fields {
                    true => format!("field:{field}"),
                    false => format!("user:{user}:field:{field}"),
                };
                let handle = match as_fields {
                    true => cache.bucket(&format!("user:{user}")),
                    false => cache.clone(),
                };
                let values = (0..100).map(|field| (name(field), format!("{field:014}")));
                let kept = handle.put_many(values).await.unwrap();
                assert_eq!(kept, [true; 100]);
            }
            let each = (used(&server) - before) as f64 / 100_000.0;
            let what = if as_fields { "fields" } else { "keys" };
            println!("100,000 values as {what}: {each:.1} bytes each");
        }
    }
}
