//! The Redis backend when the server is away, hangs, comes back, or has forgotten.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

mod support_servers;

use std::time::{Duration, Instant};

use larder::{Backend, CodecId, Entry, Error, ErrorKind, Key, PutMode, Redis, Timestamp};
use support_servers::{Link, Proxy, Redis as Server};

fn key(name: &str) -> Key {
    Key::new("shop", None, name)
}

fn entry(payload: &'static str) -> Entry {
    let now = Timestamp::now();
    Entry::new(CodecId::RAW, payload, now).with_ttl(Some(Duration::from_secs(600)), now)
}

async fn keep(redis: &Redis, name: &str, payload: &'static str) {
    let key = key(name);
    let kept = redis.put(&key, entry(payload), PutMode::Always);
    assert!(kept.await.unwrap());
}

async fn read(redis: &Redis, name: &str) -> Option<String> {
    let entry = redis.get(&key(name)).await.unwrap()?;
    Some(String::from_utf8(entry.payload().to_vec()).unwrap())
}

/// Asks until there is an answer: between a restart and the next attempt to connect verbs fail at once.
async fn reconnected(redis: &Redis) {
    let start = Instant::now();
    while redis.ping().await.is_err() {
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "it does not come back"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A server that saves when it is told, and begins with what it saved.
fn saving() -> Option<Server> {
    Server::with().config("dbfilename dump.rdb").start()
}

#[tokio::test]
async fn a_deletion_that_a_restarted_server_forgot_still_holds() {
    let Some(server) = saving() else {
        return;
    };
    let redis = Redis::builder(server.url()).connect().await.unwrap();
    redis.delete(&key("early")).await.unwrap();
    keep(&redis, "deleted", "old").await;
    keep(&redis, "kept", "old").await;
    server.cli(&["SAVE"]);
    assert!(redis.delete(&key("deleted")).await.unwrap());
    server.restart();
    reconnected(&redis).await;
    assert_eq!(read(&redis, "deleted").await, None);
    // Which deletions were lost besides is not known.
    assert_eq!(read(&redis, "kept").await, None);
    keep(&redis, "kept", "new").await;
    assert_eq!(read(&redis, "kept").await.as_deref(), Some("new"));
}

#[tokio::test]
async fn conditional_and_plural_deletions_are_remembered_too() {
    let Some(server) = saving() else {
        return;
    };
    let redis = Redis::builder(server.url()).connect().await.unwrap();
    for plural in [false, true] {
        keep(&redis, "deleted", "old").await;
        server.cli(&["SAVE"]);
        let version = redis.get(&key("deleted")).await.unwrap().unwrap().version();
        if plural {
            let keys = ["deleted", "b", "c"].map(key);
            assert_eq!(
                redis.delete_many(&keys).await.unwrap(),
                [true, false, false]
            );
        } else {
            assert!(redis.delete_if(&key("deleted"), version).await.unwrap());
        }
        server.restart();
        reconnected(&redis).await;
        assert_eq!(read(&redis, "deleted").await, None);
    }
}

#[tokio::test]
async fn a_server_that_forgot_no_deletion_keeps_its_entries() {
    let Some(server) = saving() else {
        return;
    };
    let redis = Redis::builder(server.url()).connect().await.unwrap();
    keep(&redis, "kept", "value").await;
    redis.delete(&key("deleted")).await.unwrap();
    server.cli(&["SAVE"]);
    server.restart();
    reconnected(&redis).await;
    assert_eq!(read(&redis, "kept").await.as_deref(), Some("value"));
}

#[tokio::test]
async fn a_lost_deletion_in_one_namespace_leaves_the_others() {
    let Some(server) = saving() else {
        return;
    };
    let redis = Redis::builder(server.url()).connect().await.unwrap();
    let other = Key::new("other", None, "kept");
    redis
        .put(&other, entry("value"), PutMode::Always)
        .await
        .unwrap();
    redis
        .delete(&Key::new("other", None, "deleted"))
        .await
        .unwrap();
    keep(&redis, "deleted", "old").await;
    server.cli(&["SAVE"]);
    redis.delete(&key("deleted")).await.unwrap();
    server.restart();
    reconnected(&redis).await;
    assert!(redis.contains(&other).await.unwrap());
    assert_eq!(read(&redis, "deleted").await, None);
}

#[tokio::test]
async fn a_clearing_that_a_restarted_server_forgot_still_holds() {
    let Some(server) = saving() else {
        return;
    };
    let redis = Redis::builder(server.url()).connect().await.unwrap();
    let witness = Redis::builder(server.url()).connect().await.unwrap();
    keep(&redis, "cleared", "old").await;
    assert!(read(&witness, "cleared").await.is_some());
    server.cli(&["SAVE"]);
    redis.clear("shop").await.unwrap();
    assert!(read(&witness, "cleared").await.is_none());
    server.restart();
    for redis in [&witness, &redis] {
        reconnected(redis).await;
        assert_eq!(read(redis, "cleared").await, None);
    }
    keep(&redis, "new", "value").await;
    assert_eq!(read(&witness, "new").await.as_deref(), Some("value"));
}

#[tokio::test]
async fn a_server_that_forgot_everything_begins_anew() {
    let Some(server) = Server::start() else {
        return;
    };
    let redis = Redis::builder(server.url()).connect().await.unwrap();
    keep(&redis, "key", "value").await;
    let lease = PutMode::IfUnchanged(redis.get_leased(&key("key")).await.unwrap().lease);
    redis.delete(&key("other")).await.unwrap();
    server.restart();
    reconnected(&redis).await;
    assert!(
        !redis
            .put(&key("key"), entry("loaded"), lease)
            .await
            .unwrap()
    );
    assert_eq!(read(&redis, "key").await, None);
    keep(&redis, "key", "value").await;
    assert_eq!(read(&redis, "key").await.as_deref(), Some("value"));
}

async fn error_of(redis: &Redis) -> Error {
    redis.get(&key("key")).await.unwrap_err()
}

#[tokio::test]
async fn a_server_that_is_away_fails_at_once_and_is_found_again() {
    let Some(server) = Server::start() else {
        return;
    };
    let redis = Redis::builder(server.url()).connect().await.unwrap();
    server.kill();
    let start = Instant::now();
    for _ in 0..10_000 {
        assert_eq!(error_of(&redis).await.kind(), ErrorKind::Unavailable);
    }
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    server.restart();
    let start = Instant::now();
    reconnected(&redis).await;
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    keep(&redis, "key", "value").await;
}

#[tokio::test]
async fn a_cut_connection_fails_what_was_on_it_and_nothing_after() {
    let Some(server) = Server::start() else {
        return;
    };
    let proxy = Proxy::to(server.address()).await;
    let url = format!("redis://{}", proxy.address());
    let redis = Redis::builder(url).connect().await.unwrap();
    keep(&redis, "key", "a value of some length").await;
    for bytes in [0, 1, 10, 30] {
        proxy.set(Link::CutAfter(bytes)).await;
        assert_eq!(
            error_of(&redis).await.kind(),
            ErrorKind::Unavailable,
            "{bytes}"
        );
        proxy.set(Link::Pass).await;
        reconnected(&redis).await;
        let value = read(&redis, "key").await;
        assert_eq!(value.as_deref(), Some("a value of some length"));
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_not_asked_by_a_connection_each() {
    let Some(server) = Server::start() else {
        return;
    };
    let redis = Redis::builder(server.url()).connect().await.unwrap();
    keep(&redis, "key", "value").await;
    server.stop();
    for _ in 0..50 {
        let patience = Duration::from_millis(2);
        let answer = tokio::time::timeout(patience, redis.get(&key("key"))).await;
        assert!(answer.is_err());
    }
    server.cont();
    assert_eq!(read(&redis, "key").await.as_deref(), Some("value"));
    let clients = server.cli(&["CLIENT", "LIST"]);
    let ours = clients.lines().filter(|line| line.contains("name=larder"));
    assert_eq!(ours.count(), 1, "{clients}");
}

#[tokio::test]
async fn connecting_goes_on_when_nobody_waits_any_more() {
    let Some(server) = Server::start() else {
        return;
    };
    let proxy = Proxy::to(server.address()).await;
    let url = format!("redis://{}", proxy.address());
    let redis = Redis::builder(url).connect_lazily().unwrap();
    proxy.set(Link::Delay(Duration::from_millis(50))).await;
    // Shorter than it takes to connect.
    let patience = Duration::from_millis(20);
    assert!(tokio::time::timeout(patience, redis.ping()).await.is_err());
    tokio::time::sleep(Duration::from_millis(500)).await;
    proxy.set(Link::Pass).await;
    redis.ping().await.unwrap();
    let clients = server.cli(&["CLIENT", "LIST"]);
    assert!(clients.contains("name=larder"), "{clients}");
    assert_eq!(clients.lines().count(), 2, "{clients}");
}

#[tokio::test]
async fn an_attempt_to_connect_that_nobody_answers_ends_in_time() {
    let Some(server) = Server::start() else {
        return;
    };
    let proxy = Proxy::to(server.address()).await;
    proxy.set(Link::Stall).await;
    let url = format!("redis://{}", proxy.address());
    let builder = Redis::builder(url).connect_timeout(Duration::from_millis(100));
    let start = Instant::now();
    let error = builder.connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_server_that_is_loading_or_a_replica_is_unavailable() {
    let (Some(server), Some(replica)) = (Server::start(), Server::start()) else {
        return;
    };
    let redis = Redis::builder(replica.url()).connect().await.unwrap();
    keep(&redis, "key", "value").await;
    replica.cli(&["REPLICAOF", "127.0.0.1", &server.port().to_string()]);
    let put = redis
        .put(&key("key"), entry("value"), PutMode::Always)
        .await;
    assert_eq!(put.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_password_that_changed_is_an_error_until_it_is_right_again() {
    let Some(server) = Server::start() else {
        return;
    };
    let redis = Redis::builder(server.url()).connect().await.unwrap();
    server.cli(&["CONFIG", "SET", "requirepass", "secret"]);
    let kill = [
        "-a",
        "secret",
        "--no-auth-warning",
        "CLIENT",
        "KILL",
        "TYPE",
        "normal",
    ];
    server.cli(&kill);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let error = error_of(&redis).await;
    assert_eq!(error.kind(), ErrorKind::Backend);
    assert!(
        error.to_string().contains("CACHE_REDIS_PASSWORD"),
        "{error}"
    );
    let right = [
        "-a",
        "secret",
        "--no-auth-warning",
        "CONFIG",
        "SET",
        "requirepass",
        "",
    ];
    server.cli(&right);
    reconnected(&redis).await;
}
