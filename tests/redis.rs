//! The Redis backend on real servers: the suite, and what the server sees of it.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

mod support_servers;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use larder::{
    Backend, CodecId, Entry, ErrorKind, Key, PutMode, Redis, Timestamp,
    testing::{self, Behaviour, Outcome, behaviours},
};
use support_servers::{Link, Proxy, Redis as Server, matrix, redis_name, valkey};

/// What a user needs who may use nothing but the keys of the suite: the commands that the documentation names.
const RULES: &str = "~suite* ~SUITE* ~:* resetchannels -@all +get +mget +set +getrange +setrange +unlink +incrby \
                     +pttl +pexpire +persist +eval +evalsha +scan +ping";

async fn passes(mode: &str, start: impl AsyncFn() -> Redis) {
    let report = testing::examine(|| async { start().await }).await;
    let name = match mode {
        "Valkey" => "redis".to_owned(),
        _ => redis_name(),
    };
    matrix::judge(&name, mode, &report);
    for (name, missing) in report.skipped() {
        let expected = missing.contains("false")
            || missing.contains("MiB")
            || ["delete_prefix", "field_expiry"].contains(&missing);
        assert!(expected, "{name} was left out for {missing}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_plain_server_passes() {
    let Some(server) = Server::start() else {
        return;
    };
    passes("plain", async || {
        Redis::builder(server.url()).connect().await.unwrap()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_knows_no_hello_passes() {
    let Some(server) = Server::with().config("rename-command HELLO \"\"").start() else {
        return;
    };
    passes("RESP2", async || {
        Redis::builder(server.url()).connect().await.unwrap()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_user_confined_to_a_prefix_passes() {
    let options = Server::with().password("root").user("app", "secret", RULES);
    let Some(server) = options.start() else {
        return;
    };
    passes("ACL", async || {
        Redis::builder(server.url()).connect().await.unwrap()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tls_passes() {
    let Some(server) = Server::with().tls().start() else {
        return;
    };
    let ca = server.certificates().ca().display().to_string();
    passes("TLS", async || {
        let builder = Redis::builder(server.url()).ca(&ca);
        builder.connect().await.unwrap()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tls_with_a_certificate_of_the_client_passes() {
    let Some(server) = Server::with().mtls().start() else {
        return;
    };
    let read = |path| std::fs::read_to_string(path).unwrap();
    let certificates = server.certificates();
    let ca = read(certificates.ca());
    let certificate = read(certificates.client_certificate());
    let key = read(certificates.client_key());
    passes("mTLS", async || {
        let builder = Redis::builder(server.url()).ca(&ca);
        let builder = builder.client_certificate(&certificate, &key);
        builder.connect().await.unwrap()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_unix_socket_passes() {
    let Some(server) = Server::with().unix_socket().start() else {
        return;
    };
    let url = format!("unix://{}?db=3", server.socket().display());
    passes("unix socket", async || {
        Redis::builder(&url).connect().await.unwrap()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_valkey_passes() {
    let Some(server) = valkey() else {
        return;
    };
    let url = server.url().replace("redis://", "valkey://");
    passes("Valkey", async || {
        Redis::builder(&url).connect().await.unwrap()
    })
    .await;
}

/// A backend on a server that is there for one test.
async fn start() -> Option<(Server, Redis)> {
    let server = Server::start()?;
    let redis = Redis::builder(server.url()).connect().await.unwrap();
    Some((server, redis))
}

fn key(name: impl AsRef<[u8]>) -> Key {
    Key::new("shop", None, name)
}

fn entry(payload: impl Into<bytes::Bytes>) -> Entry {
    let now = Timestamp::now();
    Entry::new(CodecId::RAW, payload, now).with_ttl(Some(Duration::from_secs(600)), now)
}

async fn keep(redis: &Redis, name: &str, payload: &'static str) {
    let kept = redis.put(&key(name), entry(payload), PutMode::Always).await;
    assert!(kept.unwrap());
}

async fn read(redis: &Redis, name: &str) -> Option<String> {
    let entry = redis.get(&key(name)).await.unwrap()?;
    Some(String::from_utf8(entry.payload().to_vec()).unwrap())
}

/// The keys of the server, sorted, with `GENERATION` in place of the current one.
fn keys(server: &Server) -> Vec<String> {
    let generation = server.cli(&["GET", "shop:generation"]);
    let keys = server.cli(&["KEYS", "*"]);
    let mut keys: Vec<_> = keys
        .lines()
        .map(|key| match generation.is_empty() {
            true => key.to_owned(),
            false => key.replace(&generation, "GENERATION"),
        })
        .collect();
    keys.sort_unstable();
    keys
}

fn stored(server: &Server, name: &str) -> String {
    format!("shop:{}:{name}", server.cli(&["GET", "shop:generation"]))
}

#[tokio::test]
async fn keys_are_stored_under_namespace_generation_and_name() {
    let Some((server, redis)) = start().await else {
        return;
    };
    keep(&redis, "user:7", "value").await;
    let bucket = Key::new("shop", Some("basket"), "7");
    redis
        .put(&bucket, entry("value"), PutMode::Always)
        .await
        .unwrap();
    let expected = [
        match redis.capabilities().field_expiry {
            true => "shop:GENERATION/basket:",
            false => "shop:GENERATION/basket:7",
        },
        "shop:GENERATION:user:7",
        "shop:generation",
    ];
    assert_eq!(keys(&server), expected);
}

#[tokio::test]
async fn a_value_has_twenty_four_bytes_before_it_and_its_ttl_on_the_server() {
    let Some((server, redis)) = start().await else {
        return;
    };
    keep(&redis, "key", "value").await;
    let stored = stored(&server, "key");
    assert_eq!(server.cli(&["STRLEN", &stored]), "29");
    let left: u64 = server.cli(&["PTTL", &stored]).parse().unwrap();
    assert!((590_000..=600_000).contains(&left), "{left}");

    redis.touch(&key("key"), None).await.unwrap();
    assert_eq!(server.cli(&["PTTL", &stored]), "-1");
    redis
        .touch(&key("key"), Some(Duration::from_secs(60)))
        .await
        .unwrap();
    let left: u64 = server.cli(&["PTTL", &stored]).parse().unwrap();
    assert!((59_000..=60_000).contains(&left), "{left}");
}

#[tokio::test]
async fn a_counter_is_the_servers_own_number() {
    let Some((server, redis)) = start().await else {
        return;
    };
    let ttl = Some(Duration::from_secs(60));
    redis.increment(&key("visits"), 41, ttl).await.unwrap();
    let stored = stored(&server, "visits");
    server.cli(&["INCR", &stored]);
    assert_eq!(server.cli(&["GET", &stored]), "42");
    let entry = redis.get(&key("visits")).await.unwrap().unwrap();
    assert_eq!(entry.as_counter().unwrap(), 42);
    let left = entry.remaining(Timestamp::now()).unwrap();
    assert!((55..=60).contains(&left.as_secs()), "{left:?}");

    redis.increment(&key("endless"), 1, None).await.unwrap();
    let entry = redis.get(&key("endless")).await.unwrap().unwrap();
    assert_eq!(entry.expires_at(), None);
}

#[tokio::test]
async fn a_counter_is_changed_and_removed_on_condition_of_being_one() {
    let Some((_server, redis)) = start().await else {
        return;
    };
    let key = key("counter");
    redis.increment(&key, 5, None).await.unwrap();
    let version = redis.get(&key).await.unwrap().unwrap().version();
    redis.increment(&key, 1, None).await.unwrap();
    let mode = PutMode::IfVersion(version);
    assert!(redis.put(&key, entry("value"), mode).await.unwrap());
    assert!(!redis.put(&key, entry("value"), mode).await.unwrap());
    assert!(!redis.delete_if(&key, version).await.unwrap());
    redis.delete(&key).await.unwrap();
    redis.increment(&key, 5, None).await.unwrap();
    assert!(redis.delete_if(&key, version).await.unwrap());
}

#[tokio::test]
async fn a_lease_on_a_counter_ends_with_a_put() {
    let Some((_server, redis)) = start().await else {
        return;
    };
    let key = key("counter");
    redis.increment(&key, 5, None).await.unwrap();
    let mode = PutMode::IfUnchanged(redis.get_leased(&key).await.unwrap().lease);
    redis
        .put(&key, entry("new"), PutMode::Always)
        .await
        .unwrap();
    assert!(!redis.put(&key, entry("loaded"), mode).await.unwrap());
}

#[tokio::test]
async fn what_somebody_else_put_under_a_key_is_no_entry() {
    let Some((server, redis)) = start().await else {
        return;
    };
    keep(&redis, "key", "value").await;
    let stored = stored(&server, "key");
    server.cli(&["SET", &stored, "not an entry"]);
    let error = redis.get(&key("key")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
    assert!(!redis.contains(&key("key")).await.unwrap());
    server.cli(&["DEL", &stored]);
    server.cli(&["RPUSH", &stored, "a", "list"]);
    let error = redis.increment(&key("key"), 1, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongType);
    keep(&redis, "key", "value").await;
    assert_eq!(read(&redis, "key").await.as_deref(), Some("value"));
}

#[tokio::test]
async fn clearing_is_one_command_however_much_there_is_and_leaves_neighbours() {
    let Some((server, redis)) = start().await else {
        return;
    };
    let entries = (0..5_000).map(|name| (key(name.to_string()), entry("value"), PutMode::Always));
    redis.put_many(entries.collect()).await.unwrap();
    let other = Key::new("shopping", None, "key");
    redis
        .put(&other, entry("value"), PutMode::Always)
        .await
        .unwrap();
    server.cli(&["SET", "shop", "foreign"]);
    server.cli(&["SET", "foreign", "foreign"]);

    let before = commands(&server);
    redis.clear("shop").await.unwrap();
    assert_eq!(since(&server, &before), [("set".to_owned(), 1)].into());
    assert_eq!(read(&redis, "7").await, None);
    assert!(redis.contains(&other).await.unwrap());
    assert_eq!(server.cli(&["GET", "shop"]), "foreign");
    assert_eq!(server.cli(&["GET", "foreign"]), "foreign");
}

/// How often each command was carried out.
fn commands(server: &Server) -> BTreeMap<String, u64> {
    let stats = server.cli(&["INFO", "commandstats"]);
    let counts = stats.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        let count = rest.split(',').next()?.parse().ok()?;
        (name != "info").then(|| (name.to_owned(), count))
    });
    counts.collect()
}

fn since(server: &Server, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let now = commands(server).into_iter();
    let changed = now.map(|(name, count)| {
        let before = before.get(&name).copied().unwrap_or_default();
        (name, count - before)
    });
    changed.filter(|(_, count)| *count > 0).collect()
}

/// With so much delay each way that round trips can be counted by the time that a verb takes.
const TRIP: Duration = Duration::from_millis(60);

async fn trips<T>(verb: impl Future<Output = larder::Result<T>>) -> u32 {
    let start = Instant::now();
    verb.await.unwrap();
    let trips = start.elapsed().as_secs_f64() / TRIP.as_secs_f64();
    trips.round() as u32
}

#[tokio::test]
async fn every_verb_is_one_round_trip() {
    let Some(server) = Server::start() else {
        return;
    };
    let proxy = Proxy::to(server.address()).await;
    let url = format!("redis://{}", proxy.address());
    let redis = Redis::builder(url).connect().await.unwrap();
    // What is only so the first time: the generation, the counter of the key's deletions, and the scripts' texts.
    let few: Vec<_> = (0..10).map(|name| key(name.to_string())).collect();
    let counter = key("counter");
    let one = &few[0];
    redis.delete_many(&few).await.unwrap();
    let version = async || {
        keep(&redis, "0", "value").await;
        redis.get(one).await.unwrap().unwrap().version()
    };
    assert!(redis.delete_if(one, version().await).await.unwrap());
    redis
        .put(one, entry("value"), PutMode::IfVersion(1))
        .await
        .unwrap();
    redis.touch(one, None).await.unwrap();
    let version = version().await;
    let lease = redis.get_leased(one).await.unwrap().lease;
    redis.increment(&counter, 1, None).await.unwrap();

    proxy.set(Link::Delay(TRIP / 2)).await;
    let put = |mode| redis.put(one, entry("value"), mode);
    assert_eq!(trips(redis.get(one)).await, 1, "get");
    assert_eq!(trips(redis.get(&key("absent"))).await, 1, "get of nothing");
    assert_eq!(trips(redis.get_many(&few)).await, 1, "get_many");
    assert_eq!(trips(redis.get_leased(one)).await, 1, "get_leased");
    assert_eq!(
        trips(redis.get_leased_many(&few)).await,
        1,
        "get_leased_many"
    );
    assert_eq!(trips(put(PutMode::IfAbsent)).await, 1, "put if absent");
    assert_eq!(
        trips(put(PutMode::IfUnchanged(lease))).await,
        1,
        "put if unchanged"
    );
    assert_eq!(
        trips(put(PutMode::IfVersion(version))).await,
        1,
        "put if version"
    );
    assert_eq!(trips(put(PutMode::Always)).await, 1, "put");
    let entries = few
        .iter()
        .map(|key| (key.clone(), entry("value"), PutMode::Always));
    assert_eq!(
        trips(redis.put_many(entries.collect())).await,
        1,
        "put_many"
    );
    assert_eq!(trips(redis.contains(one)).await, 1, "contains");
    assert_eq!(trips(redis.touch(one, None)).await, 1, "touch");
    assert_eq!(trips(redis.delete_if(one, version)).await, 1, "delete_if");
    assert_eq!(trips(redis.delete(one)).await, 1, "delete");
    assert_eq!(trips(redis.delete_many(&few)).await, 1, "delete_many");
    let minute = Some(Duration::from_secs(60));
    assert_eq!(
        trips(redis.increment(&counter, 1, minute)).await,
        1,
        "increment"
    );
    assert_eq!(trips(redis.clear("shop")).await, 1, "clear");
    assert_eq!(trips(redis.ping()).await, 1, "ping");
    // The end of a counter takes another one, and so does a generation that somebody else began.
    redis.increment(&counter, 1, None).await.unwrap();
    assert_eq!(trips(redis.get(&counter)).await, 2, "get of a counter");
    let other = match redis.capabilities().field_expiry {
        true => "_AAAAAAA",
        false => "AAAAAAAA",
    };
    server.cli(&["SET", "shop:generation", other]);
    assert_eq!(trips(redis.get(one)).await, 2, "get after a clear");
    assert_eq!(trips(redis.get(one)).await, 1, "get after that");
}

#[tokio::test]
async fn a_get_is_one_command_and_a_put_is_two() {
    let Some((server, redis)) = start().await else {
        return;
    };
    keep(&redis, "key", "value").await;
    let before = commands(&server);
    read(&redis, "key").await;
    assert_eq!(since(&server, &before), [("mget".to_owned(), 1)].into());
    let before = commands(&server);
    keep(&redis, "key", "value").await;
    let expected = [("get".to_owned(), 1), ("set".to_owned(), 1)].into();
    assert_eq!(since(&server, &before), expected);
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_sent_again() {
    let Some((server, redis)) = start().await else {
        return;
    };
    for _ in 0..2 {
        keep(&redis, "key", "old").await;
        let lease = redis.get_leased(&key("key")).await.unwrap().lease;
        server.cli(&["SCRIPT", "FLUSH"]);
        let entries = ["key", "other"].map(|name| (key(name), entry("new")));
        let modes = [PutMode::IfUnchanged(lease), PutMode::Always];
        let entries = entries.into_iter().zip(modes);
        let entries = entries.map(|((key, entry), mode)| (key, entry, mode));
        assert_eq!(
            redis.put_many(entries.collect()).await.unwrap(),
            [true, true]
        );
        server.cli(&["SCRIPT", "FLUSH"]);
        assert!(redis.touch(&key("key"), None).await.unwrap());
        let version = redis.get(&key("key")).await.unwrap().unwrap().version();
        server.cli(&["SCRIPT", "FLUSH"]);
        assert!(redis.delete_if(&key("key"), version).await.unwrap());
    }
}

#[tokio::test]
async fn what_was_cleared_is_removed_in_steps_and_nothing_else() {
    let Some((server, redis)) = start().await else {
        return;
    };
    // A namespace of which every character is one of patterns.
    for namespace in ["shop", "sh?p", "s[h]op", "*"] {
        let key = |name: u32| Key::new(namespace, None, name.to_string());
        let endless = || Entry::new(CodecId::RAW, "value", Timestamp::now());
        let entries = (0..100).map(|name| (key(name), endless(), PutMode::Always));
        redis.put_many(entries.collect()).await.unwrap();
        redis.increment(&key(100), 1, None).await.unwrap();
    }
    let shop = stored(&server, "");
    for (foreign, value) in [
        ("shop:sessions:42", "text"),
        ("shop:visitors:42", "17"),
        ("shopping:sessions:42", "text"),
        ("shop", "text"),
    ] {
        server.cli(&["SET", foreign, value]);
    }
    server.cli(&["RPUSH", "shop:basket-7:x", "a", "list"]);
    redis.clear("shop").await.unwrap();
    keep(&redis, "new", "value").await;

    let mut removed = Vec::new();
    loop {
        match redis.remove_expired(30).await.unwrap() {
            0 => break,
            count => removed.push(count),
        }
    }
    assert!(removed.iter().all(|&count| count <= 30), "{removed:?}");
    assert_eq!(removed.iter().sum::<usize>(), 101);
    assert_eq!(server.cli(&["KEYS", &format!("{shop}*")]), "");
    assert_eq!(read(&redis, "new").await.as_deref(), Some("value"));
    let left: Vec<_> = keys(&server)
        .into_iter()
        .filter(|key| key.starts_with("shop"))
        .collect();
    let expected = [
        "shop",
        "shop:GENERATION:new",
        "shop:basket-7:x",
        "shop:generation",
        "shop:sessions:42",
        "shop:visitors:42",
        "shopping:sessions:42",
    ];
    assert_eq!(left, expected);
    for namespace in ["sh?p", "s[h]op", "*"] {
        let key = Key::new(namespace, None, "7");
        assert!(redis.contains(&key).await.unwrap(), "{namespace}");
    }
}

#[tokio::test]
async fn what_another_process_put_since_it_cleared_is_not_removed() {
    let Some((server, redis)) = start().await else {
        return;
    };
    let other = Redis::builder(server.url()).connect().await.unwrap();
    keep(&redis, "old", "value").await;
    other.clear("shop").await.unwrap();
    keep(&other, "new", "value").await;
    // This client has not heard of the clearing.
    assert_eq!(redis.remove_expired(100).await.unwrap(), 1);
    assert_eq!(read(&other, "new").await.as_deref(), Some("value"));
}

#[tokio::test]
async fn a_full_server_can_still_delete_and_clear() {
    let Some((server, redis)) = start().await else {
        return;
    };
    keep(&redis, "key", "value").await;
    keep(&redis, "kept", "value").await;
    let absent = PutMode::IfUnchanged(redis.get_leased(&key("absent")).await.unwrap().lease);
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    let error = redis
        .put(&key("key"), entry("new"), PutMode::Always)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.to_string().contains("out of memory"), "{error}");
    // What is no longer true is gone.
    assert_eq!(read(&redis, "key").await, None);

    assert!(redis.delete(&key("kept")).await.unwrap());
    assert!(!redis.delete(&key("absent")).await.unwrap());
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    assert!(
        !redis
            .put(&key("absent"), entry("loaded"), absent)
            .await
            .unwrap()
    );
    keep(&redis, "key", "value").await;
    let version = redis.get(&key("key")).await.unwrap().unwrap().version();
    let absent = PutMode::IfUnchanged(redis.get_leased(&key("absent")).await.unwrap().lease);
    keep(&redis, "absent", "value").await;

    server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    assert!(redis.delete_if(&key("key"), version).await.unwrap());
    assert!(
        redis
            .get_leased(&key("absent"))
            .await
            .unwrap()
            .entry
            .is_some()
    );
    redis.clear("shop").await.unwrap();
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(read(&redis, "absent").await, None);
    assert!(
        !redis
            .put(&key("absent"), entry("loaded"), absent)
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn evicted_markers_and_counters_cost_misses_and_nothing_else() {
    let Some((server, redis)) = start().await else {
        return;
    };
    keep(&redis, "key", "value").await;
    let lease = PutMode::IfUnchanged(redis.get_leased(&key("key")).await.unwrap().lease);
    redis.delete(&key("other")).await.unwrap();
    for counter in server.cli(&["KEYS", "shop:i*"]).lines() {
        server.cli(&["DEL", counter]);
    }
    assert!(
        !redis
            .put(&key("key"), entry("loaded"), lease)
            .await
            .unwrap()
    );
    assert_eq!(read(&redis, "key").await.as_deref(), Some("value"));
    server.cli(&["DEL", "shop:generation"]);
    assert_eq!(read(&redis, "key").await, None);
    keep(&redis, "key", "value").await;
    assert_eq!(read(&redis, "key").await.as_deref(), Some("value"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn clients_that_begin_at_one_moment_agree_on_a_generation() {
    let Some((server, redis)) = start().await else {
        return;
    };
    for _ in 0..20 {
        server.cli(&["DEL", "shop:generation"]);
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..16 {
            let url = server.url();
            tasks.spawn(async move {
                let redis = Redis::builder(url).connect().await.unwrap();
                let name = number.to_string();
                keep(&redis, &name, "value").await;
            });
        }
        tasks.join_all().await;
        for number in 0..16 {
            assert!(redis.contains(&key(number.to_string())).await.unwrap());
        }
    }
}

/// Nothing is under the key again, as it was when the load began.
#[tokio::test]
async fn a_lease_ends_with_a_put_that_has_ended_before_the_load() {
    let Some((_server, redis)) = start().await else {
        return;
    };
    let brief = Duration::from_millis(50);
    for name in ["always", "if absent", "if version"] {
        let key = key(name);
        let lease = redis.get_leased(&key).await.unwrap().lease;
        let mode = match name {
            "always" => PutMode::Always,
            "if absent" => PutMode::IfAbsent,
            _ => {
                keep(&redis, name, "value").await;
                PutMode::IfVersion(redis.get(&key).await.unwrap().unwrap().version())
            }
        };
        let new = entry("new").with_ttl(Some(brief), Timestamp::now());
        assert!(redis.put(&key, new, mode).await.unwrap());
        tokio::time::sleep(2 * brief).await;
        let late = redis.put(&key, entry("loaded"), PutMode::IfUnchanged(lease));
        assert!(!late.await.unwrap(), "{name}");
        assert_eq!(read(&redis, name).await, None);
    }
}

/// A full server refuses one write and answers everything else.
#[tokio::test]
async fn a_full_server_is_still_read() {
    let Some((server, redis)) = start().await else {
        return;
    };
    let cache = larder::Cache::new(redis);
    cache.put("kept", vec![1]).await.unwrap();
    cache.put("replaced", vec![1]).await.unwrap();
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    for _ in 0..3 {
        let error = cache.put("replaced", vec![2]).await.unwrap_err();
        assert!(error.to_string().contains("out of memory"), "{error}");
        assert_eq!(cache.get("kept").await.unwrap(), Some(vec![1]));
        // What is no longer true is gone.
        assert_eq!(cache.get::<Vec<i32>>("replaced").await.unwrap(), None);
    }
    assert_eq!(cache.stats().outages, 0);
}

#[tokio::test]
async fn a_damaged_entry_among_many_costs_few_questions() {
    let Some((server, redis)) = start().await else {
        return;
    };
    let cache = larder::Cache::builder(redis).namespace("shop").build();
    let names: Vec<_> = (0..200).map(|name| name.to_string()).collect();
    let values = names.iter().map(|name| (name, name.clone()));
    cache.put_many(values).await.unwrap();
    server.cli(&["SET", &stored(&server, "77"), "foreign"]);
    let before = commands(&server);
    let found = cache.get_many::<String>(&names).await.unwrap();
    for (name, value) in names.iter().zip(found) {
        assert_eq!(value.as_ref(), Some(name).filter(|name| *name != "77"));
    }
    assert!(since(&server, &before)["mget"] < 20);
    assert_eq!(cache.stats().damaged, 1);
}

#[tokio::test]
async fn binary_keys_and_large_values_are_kept() {
    let Some((_server, redis)) = start().await else {
        return;
    };
    let name: Vec<u8> = (0..=255).collect();
    let value: Vec<u8> = (0..=250).cycle().take(8 << 20).collect();
    let key = key(&name);
    let put = redis.put(&key, entry(value.clone()), PutMode::Always);
    assert!(put.await.unwrap());
    let read = redis.get(&key).await.unwrap().unwrap();
    assert!(read.payload()[..] == value[..]);
}

#[tokio::test]
async fn a_value_that_has_ended_removes_what_was_there_and_ends_leases() {
    let Some((_server, redis)) = start().await else {
        return;
    };
    let lease = PutMode::IfUnchanged(redis.get_leased(&key("key")).await.unwrap().lease);
    let now = Timestamp::now();
    let ended = || entry("ended").with_expires_at(Some(now));
    assert!(
        redis
            .put(&key("key"), ended(), PutMode::Always)
            .await
            .unwrap()
    );
    assert!(
        !redis
            .put(&key("key"), entry("loaded"), lease)
            .await
            .unwrap()
    );
    keep(&redis, "key", "value").await;
    let version = redis.get(&key("key")).await.unwrap().unwrap().version();
    assert!(
        redis
            .put(&key("key"), ended(), PutMode::IfVersion(version))
            .await
            .unwrap()
    );
    assert_eq!(read(&redis, "key").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn dropped_futures_leave_the_connection_usable() {
    let Some((server, redis)) = start().await else {
        return;
    };
    for number in 0..300_u32 {
        let one = key(number.to_string());
        let patience = Duration::from_micros(number.into());
        let put = redis.put(&one, entry("dropped"), PutMode::Always);
        let _ = tokio::time::timeout(patience, put).await;
        let _ = tokio::time::timeout(patience, redis.get(&one)).await;
        keep(&redis, "key", "value").await;
        assert_eq!(read(&redis, "key").await.as_deref(), Some("value"));
    }
    let clients = server.cli(&["CLIENT", "LIST"]);
    let ours = clients.lines().filter(|line| line.contains("name=larder"));
    assert_eq!(ours.count(), 1, "{clients}");
}

#[tokio::test]
async fn a_mix_of_namespaces_is_taken_apart_and_put_together() {
    let Some((_server, redis)) = start().await else {
        return;
    };
    let keys: Vec<_> = (0..30)
        .map(|number| Key::new(["a", "b", "c"][number % 3], None, number.to_string()))
        .collect();
    let entries = keys.iter().map(|key| {
        let name = String::from_utf8(key.name().to_vec()).unwrap();
        (key.clone(), entry(name), PutMode::Always)
    });
    assert_eq!(redis.put_many(entries.collect()).await.unwrap(), [true; 30]);
    let read = redis.get_many(&keys).await.unwrap();
    for (key, read) in keys.iter().zip(read) {
        assert_eq!(read.unwrap().payload(), key.name());
    }
    redis.clear("b").await.unwrap();
    let removed = redis.delete_many(&keys).await.unwrap();
    let expected: Vec<_> = (0..30).map(|number| number % 3 != 1).collect();
    assert_eq!(removed, expected);
}

/// Behaviours that depend on the connection, on one that has just been cut.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_idle_connection_that_was_cut_costs_no_error() {
    let Some((server, redis)) = start().await else {
        return;
    };
    for _ in 0..20 {
        keep(&redis, "key", "value").await;
        server.cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(read(&redis, "key").await.as_deref(), Some("value"));
    }
}

#[tokio::test]
async fn one_runtime_may_end_and_another_go_on() {
    let Some(server) = Server::start() else {
        return;
    };
    let redis = Redis::builder(server.url()).connect_lazily().unwrap();
    let check = || {
        let redis = redis.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                // The first may find the connection of the runtime before, which is gone.
                let _ = redis.ping().await;
                redis.ping().await.unwrap();
            });
        })
        .join()
        .unwrap();
    };
    check();
    check();
}

#[tokio::test]
async fn single_behaviours_pass_by_another_name_of_the_server() {
    let Some(server) = Server::start() else {
        return;
    };
    let url = server.url().replace("redis://", "valkey://");
    let few = behaviours().filter(|it: &&Behaviour| it.name().starts_with("a_value"));
    for behaviour in few {
        let start = || async { Redis::builder(&url).connect().await.unwrap() };
        let outcome = behaviour.run(&start).await;
        assert!(
            !matches!(outcome, Outcome::Failed(_)),
            "{behaviour:?}: {outcome:?}"
        );
    }
}
