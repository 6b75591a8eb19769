//! The Redis backend on a server that a sentinel watches: the suite, and what becomes of it when another one takes over.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

mod support_servers;

use std::time::{Duration, Instant};

use larder::{
    Backend, Cache, CodecId, Entry, ErrorKind, Key, PutMode, Redis, Settings, Timestamp, testing,
};
use support_servers::{SENTINEL_NAME as NAME, Sentinel, matrix, redis_name};

fn key(name: &str) -> Key {
    Key::new("shop", None, name)
}

fn entry(payload: &'static str) -> Entry {
    let now = Timestamp::now();
    Entry::new(CodecId::RAW, payload, now).with_ttl(Some(Duration::from_secs(600)), now)
}

async fn read(redis: &Redis, name: &str) -> larder::Result<Option<String>> {
    let entry = redis.get(&key(name)).await?;
    Ok(entry.map(|entry| String::from_utf8(entry.payload().to_vec()).unwrap()))
}

async fn start() -> Option<(Sentinel, Redis)> {
    let sentinel = Sentinel::start()?;
    let redis = Redis::sentinels([sentinel.address()], NAME);
    let redis = redis.connect().await.unwrap();
    Some((sentinel, redis))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_primary_of_a_sentinel_passes() {
    let Some(sentinel) = Sentinel::start() else {
        return;
    };
    let report = testing::examine(|| async {
        let redis = Redis::sentinels([sentinel.address()], NAME);
        redis.connect().await.unwrap()
    });
    matrix::judge(&redis_name(), "sentinel", &report.await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replica_of_a_sentinel_that_answers_in_place_of_the_primary_passes() {
    let Some(sentinel) = Sentinel::start() else {
        return;
    };
    let report = testing::examine(|| async {
        let redis = Redis::sentinels([sentinel.address()], NAME).read_from_replicas(true);
        redis.connect().await.unwrap()
    });
    matrix::judge(&redis_name(), "sentinel, reader apart", &report.await);
    let [_, replica] = sentinel.servers();
    assert!(replica.calls("mget") > 0, "the replica was never asked");
}

/// The behaviours that are about connections and steps of several commands, with everything that can be secret or encrypted.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn passwords_and_tls_of_both_pass() {
    let Some(sentinel) = Sentinel::with(Some("of-servers"), Some("of-sentinel"), true) else {
        return;
    };
    let certificates = sentinel.certificates();
    let path = |path: std::path::PathBuf| path.display().to_string();
    let ca = path(certificates.ca());
    let certificate = path(certificates.client_certificate());
    let key = path(certificates.client_key());
    let report = testing::examine(|| async {
        let redis = Redis::sentinels([sentinel.address()], NAME)
            .tls(true)
            .ca(&ca)
            .client_certificate(&certificate, &key)
            .password("of-servers")
            .sentinel_password("of-sentinel");
        redis.connect().await.unwrap()
    });
    matrix::judge(&redis_name(), "sentinel, mTLS, passwords", &report.await);
}

#[tokio::test]
async fn a_wrong_password_says_whose_it_is() {
    let Some(sentinel) = Sentinel::with(Some("of-servers"), Some("of-sentinel"), false) else {
        return;
    };
    for (of_servers, of_sentinel) in [("wrong", "of-sentinel"), ("of-servers", "wrong")] {
        let redis = Redis::sentinels([sentinel.address()], NAME)
            .password(of_servers)
            .sentinel_password(of_sentinel);
        let start = Instant::now();
        let error = redis.connect().await.unwrap_err();
        println!("wrong password: {error} after {:?}", start.elapsed());
        assert_eq!(error.kind(), ErrorKind::Backend, "{error}");
        let text = format!("{error} {error:?}");
        assert!(text.contains("CACHE_REDIS_SENTINEL_PASSWORD"), "{text}");
        assert!(
            !text.contains("of-servers") && !text.contains("of-sentinel"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_name_that_no_sentinel_knows_is_said() {
    let Some(sentinel) = Sentinel::start() else {
        return;
    };
    let redis = Redis::sentinels([sentinel.address()], "another");
    let error = redis.connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(
        error.to_string().contains("CACHE_REDIS_SENTINEL_MASTER"),
        "{error}"
    );
    // Nor does anybody where there is none.
    let redis = Redis::sentinels(["127.0.0.1:1"], NAME);
    let error = redis.connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(
        error.to_string().contains("CACHE_REDIS_SENTINELS"),
        "{error}"
    );
}

#[tokio::test]
async fn one_sentinel_that_answers_is_enough() {
    let Some(sentinel) = Sentinel::start() else {
        return;
    };
    let sentinels = ["127.0.0.1:1".to_owned(), sentinel.address()];
    let redis = Redis::sentinels(sentinels, NAME).connect().await.unwrap();
    redis.ping().await.unwrap();
    let clients = sentinel.servers()[0].cli(&["CLIENT", "LIST"]);
    let ours = clients.lines().find(|it| it.contains("name=larder"));
    assert!(ours.unwrap().contains("resp=3"), "{clients}");
}

/// Asks until there is an answer.
async fn recovered(redis: &Redis) -> Duration {
    let start = Instant::now();
    while redis
        .put(&key("sign"), entry("of life"), PutMode::Always)
        .await
        .is_err()
    {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "it does not come back"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    start.elapsed()
}

#[tokio::test]
async fn the_server_that_takes_over_is_found() {
    let Some((sentinel, redis)) = start().await else {
        return;
    };
    redis
        .put(&key("key"), entry("value"), PutMode::Always)
        .await
        .unwrap();
    sentinel.servers()[0].replicated();
    sentinel.servers()[0].kill();
    let time = recovered(&redis).await;
    println!("the primary killed, with a sentinel: back after {time:?}");
    assert_eq!(sentinel.primary(), sentinel.servers()[1].port());
    assert_eq!(read(&redis, "key").await.unwrap().as_deref(), Some("value"));
}

/// A primary that hangs keeps its connections, and says nothing by them.
#[tokio::test]
async fn a_primary_that_hangs_is_left_for_the_one_that_takes_over() {
    let Some((sentinel, redis)) = start().await else {
        return;
    };
    redis
        .put(&key("key"), entry("value"), PutMode::Always)
        .await
        .unwrap();
    sentinel.servers()[0].replicated();
    sentinel.servers()[0].stop();
    let start = Instant::now();
    // As a cache does: no longer than its time-out, again and again.
    let patience = Duration::from_millis(250);
    loop {
        let answer = tokio::time::timeout(patience, read(&redis, "key")).await;
        if let Ok(Ok(value)) = answer {
            assert_eq!(value.as_deref(), Some("value"));
            break;
        }
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "it does not come back"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!(
        "the primary stopped, with a sentinel: back after {:?}",
        start.elapsed()
    );
    sentinel.servers()[0].cont();
}

/// The replica was cut off when the deletion came, and took over without it.
#[tokio::test]
async fn a_deletion_that_the_new_primary_never_had_still_holds() {
    let Some(sentinel) = Sentinel::with(Some("of-servers"), None, false) else {
        return;
    };
    let redis = Redis::sentinels([sentinel.address()], NAME).password("of-servers");
    let redis = redis.connect().await.unwrap();
    let [primary, replica] = sentinel.servers();
    for name in ["deleted", "kept"] {
        redis
            .put(&key(name), entry("old"), PutMode::Always)
            .await
            .unwrap();
    }
    redis.delete(&key("another")).await.unwrap();
    replica.cut_off_from(primary);
    assert!(redis.delete(&key("deleted")).await.unwrap());
    primary.kill();
    recovered(&redis).await;
    assert_eq!(read(&redis, "deleted").await.unwrap(), None);
    // Which deletions were lost besides is not known.
    assert_eq!(read(&redis, "kept").await.unwrap(), None);
}

#[tokio::test]
async fn a_fail_over_on_demand_loses_nothing() {
    let Some((sentinel, redis)) = start().await else {
        return;
    };
    redis
        .put(&key("key"), entry("value"), PutMode::Always)
        .await
        .unwrap();
    redis.delete(&key("another")).await.unwrap();
    sentinel.servers()[0].replicated();
    let start = Instant::now();
    // It has to have heard of the replica a second time.
    while sentinel.cli(&["SENTINEL", "FAILOVER", NAME]).trim() != "OK" {
        assert!(start.elapsed() < Duration::from_secs(20), "no fail-over");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    while sentinel.primary() != sentinel.servers()[1].port() {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "nobody took over"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // The sentinel tells the old primary last; until then it takes writes, which are lost.
    let [old, _] = sentinel.servers();
    while !old.cli(&["INFO", "replication"]).contains("role:slave") {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "the old primary goes on"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    recovered(&redis).await;
    let value = read(&redis, "key").await.unwrap();
    assert_eq!(value.as_deref(), Some("value"));
    let replica = sentinel.servers()[0].cli(&["CLIENT", "LIST"]);
    assert!(!replica.contains("name=larder"), "{replica}");
}

/// Nobody tells the connections of a primary that it is one no more; they find it out by what it refuses.
#[tokio::test]
async fn a_server_that_became_a_replica_is_left() {
    let Some((sentinel, redis)) = start().await else {
        return;
    };
    let [primary, _] = sentinel.servers();
    let connection = || {
        let clients = primary.cli(&["CLIENT", "LIST"]);
        let ours = clients.lines().find(|it| it.contains("name=larder"));
        ours.map(|it| it.split(' ').next().unwrap().to_owned())
    };
    redis.get(&key("key")).await.unwrap();
    let before = connection();
    assert!(before.is_some());
    // One that is a replica from the beginning is not left again and again.
    tokio::time::sleep(Duration::from_millis(600)).await;
    primary.cli(&["REPLICAOF", "127.0.0.1", "1"]);
    let put = redis
        .put(&key("key"), entry("value"), PutMode::Always)
        .await;
    assert_eq!(put.unwrap_err().kind(), ErrorKind::Unavailable);
    let start = Instant::now();
    while connection() == before {
        let _ = redis.get(&key("key")).await;
        assert!(start.elapsed() < Duration::from_secs(2), "it stays there");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_cache_connects_as_its_settings_say() {
    let Some(sentinel) = Sentinel::with(Some("of-servers"), Some("of-sentinel"), false) else {
        return;
    };
    let address = sentinel.address();
    let settings = Settings::from_pairs([
        ("CACHE_TYPE", "RedisSentinelCache"),
        ("CACHE_REDIS_SENTINELS", &format!("127.0.0.1:1,{address}")),
        ("CACHE_REDIS_SENTINEL_MASTER", NAME),
        ("CACHE_REDIS_SENTINEL_PASSWORD", "of-sentinel"),
        ("CACHE_REDIS_PASSWORD", "of-servers"),
        ("CACHE_REDIS_DATABASE", "3"),
    ]);
    let settings = settings.unwrap();
    assert!(!format!("{settings:?}").contains("of-sentinel"));
    let cache = Cache::from_settings(&settings).await.unwrap();
    cache.put("answer", 42).await.unwrap();
    assert_eq!(cache.get::<i32>("answer").await.unwrap(), Some(42));
    let size = sentinel.servers()[0].cli(&["-n", "3", "DBSIZE"]);
    assert_eq!(size, "2");
}
