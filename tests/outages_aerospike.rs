//! A service under load from 64 connections while its Aerospike fails: through a proxy that breaks what is between them,
//! and by whatever `LARDER_TEST_AEROSPIKE_BREAK` and `LARDER_TEST_AEROSPIKE_MEND` do to the servers themselves, two
//! commands for `sh`.
//!
//! Each test prints its row of the table in the documentation.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "it is for tests only")]

mod support_outages;
mod support_servers;

use std::{
    env,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use aerospike::{
    Bin, Client, Expiration, Value, WritePolicy,
    policy::{AdminPolicy, ClientPolicy},
};
use larder::{Aerospike as Backend, BreakerState, Cache, Error, ErrorKind, PutOptions, Ttl};
use support_outages::{Load, Report, on_the_way, outage, survived, was_open};
use support_servers::{Aerospike, Link, Proxy};

/// No other test run meets this one's entries.
fn namespace(name: &str) -> String {
    format!("outages-{name}-{}", std::process::id())
}

/// Through a proxy that does `link` to what goes through it, for a while.
async fn through(fault: &str, link: Link) -> Option<Report> {
    let server = Aerospike::find()?;
    let seed = server.seeds().next().unwrap().to_owned();
    let address = tokio::net::lookup_host(seed).await.unwrap().next().unwrap();
    let proxy = Proxy::to(address).await;
    let backend = Backend::builder(proxy.address().to_string());
    let backend = backend.seed_only(true).connect().await.unwrap();
    let cache = Cache::builder(backend).namespace(namespace(&fault.replace(' ', "-")));
    let fault = format!("Aerospike {fault}");
    let report = outage(
        &fault,
        cache.build(),
        async || proxy.set(link).await,
        async || proxy.set(Link::Pass).await,
    );
    Some(report.await)
}

on_the_way!(through, slow: 60, slower_than_the_time_out: 400);

/// Breaks and mends the servers themselves: kills a node and starts it again, stops one and lets it go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_breaks_the_servers_themselves() {
    let (Ok(breaks), Ok(mends)) = (
        env::var("LARDER_TEST_AEROSPIKE_BREAK"),
        env::var("LARDER_TEST_AEROSPIKE_MEND"),
    ) else {
        return;
    };
    let Some(server) = Aerospike::find() else {
        return;
    };
    let shell = |command: &str| {
        let done = Command::new("sh").args(["-c", command]).status().unwrap();
        assert!(done.success(), "{command}");
    };
    let backend = Backend::builder(server.hosts()).connect().await.unwrap();
    let cache = Cache::builder(backend).namespace(namespace("servers"));
    let load = Load::warm(cache.build()).await;
    shell(&breaks);
    load.run(Duration::from_secs(6)).await;
    let before_mending = load.hits();
    shell(&mends);
    let recovered = load.recovery(Duration::from_secs(20)).await;
    load.run(Duration::from_secs(8)).await;
    println!("{} hits before it was mended", before_mending);
    let fault = env::var("LARDER_TEST_AEROSPIKE_FAULT").unwrap_or(breaks);
    survived(&load.end(&fault, recovered).await);
}

/// The namespace `cache` of the server, which can be made to stop writes whatever room it has. It does so within ten
/// seconds, and takes as long to begin again.
struct Full {
    hosts: String,
}

impl Full {
    const STOPS: &str = "stop-writes-avail-pct=100";
    const WRITES: &str = "stop-writes-avail-pct=5";

    async fn begin(server: &Aerospike) -> Self {
        let full = Self {
            hosts: server.hosts().to_owned(),
        };
        set(&full.hosts, Self::STOPS).await;
        full.wait(true).await;
        full
    }

    async fn end(self) {
        set(&self.hosts, Self::WRITES).await;
        self.wait(false).await;
    }

    /// Waits until nothing, or something, can be written.
    async fn wait(&self, is_full: bool) {
        let raw = Client::new(&ClientPolicy::default(), &self.hosts).await;
        let raw = raw.unwrap();
        let key = aerospike::Key::new("cache", "outages", Value::String("probe".to_owned()));
        let (key, bin) = (key.unwrap(), Bin::new("v", Value::Int(1)));
        let policy = WritePolicy::new(0, Expiration::Seconds(60));
        let deadline = Instant::now() + Duration::from_secs(30);
        while raw
            .put(&policy, &key, std::slice::from_ref(&bin))
            .await
            .is_err()
            != is_full
        {
            assert!(Instant::now() < deadline, "it never came to be {is_full}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        raw.close().await.unwrap();
    }
}

/// Nobody else's tests are to find a full server.
impl Drop for Full {
    fn drop(&mut self) {
        let hosts = self.hosts.clone();
        let reset = move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(set(&hosts, Self::WRITES));
        };
        thread::spawn(reset).join().unwrap();
    }
}

async fn set(hosts: &str, parameter: &str) {
    let raw = Client::new(&ClientPolicy::default(), &hosts).await.unwrap();
    let command = format!("set-config:context=namespace;namespace=cache;{parameter}");
    for node in raw.nodes() {
        let answer = node.info(&AdminPolicy::default(), &[&command]).await;
        assert_eq!(answer.unwrap()[&command], "ok", "{command}");
    }
    raw.close().await.unwrap();
}

async fn get(cache: &Cache, key: &str) -> Option<i32> {
    cache.get(key).await.unwrap()
}

async fn connected(server: &Aerospike, namespace: &str) -> Cache {
    // The machine is busy with the load beside it.
    let patience = Duration::from_secs(1);
    let backend = Backend::builder(server.hosts()).timeout(patience);
    let cache = Cache::builder(backend.connect().await.unwrap()).namespace(namespace);
    cache.backend_timeout(patience).build()
}

const TAGGED: [(&str, &str); 3] = [("tagged", "red"), ("soft", "blue"), ("both", "green")];

/// Keeps what [`is_read_and_invalidated`] asks for.
async fn fill(cache: &Cache, cleared: &Cache) {
    for key in [
        "kept", "replaced", "deleted", "one", "two", "many", "touched",
    ] {
        cache.put(key, 1).await.unwrap();
    }
    for (key, tag) in TAGGED {
        let tagged = PutOptions::new().tags([tag]);
        cache.put_with(key, 1, tagged).await.unwrap();
    }
    cleared.put("kept", 1).await.unwrap();
}

/// What is refused is refused at once and as what it is; everything else works, for this client and for another one.
async fn is_read_and_invalidated(one: &Cache, other: &Cache, cleared: [&Cache; 2]) {
    let refused = |answer: Result<bool, Error>, begun: Instant| {
        let (error, took) = (answer.unwrap_err(), begun.elapsed());
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
        assert!(error.to_string().contains("is full"), "{error}");
        assert!(took < Duration::from_secs(1), "{took:?}");
    };
    let begun = Instant::now();
    refused(one.put("new", 2).await, begun);
    let begun = Instant::now();
    refused(one.put("replaced", 2).await, begun);
    let begun = Instant::now();
    refused(one.touch("touched", Ttl::Never).await, begun);
    assert_eq!(get(other, "replaced").await, None);
    assert_eq!(get(other, "touched").await, Some(1));
    assert!(one.increment("counter", 1).await.is_err());
    assert!(one.put_many([("many", 2), ("more", 2)]).await.is_err());
    assert_eq!(get(other, "many").await, None);

    assert!(one.delete("deleted").await.unwrap());
    assert!(!one.delete("deleted").await.unwrap());
    assert_eq!(get(other, "deleted").await, None);
    let deleted = one.delete_many(["one", "absent", "two"]).await.unwrap();
    assert_eq!(deleted, [true, false, true]);
    assert_eq!(get(other, "one").await, None);
    one.invalidate_tag("red").await.unwrap();
    one.expire_tag("blue").await.unwrap();
    one.invalidate_tags(["green", "white"]).await.unwrap();
    for (key, _) in TAGGED {
        assert_eq!(get(other, key).await, None, "{key}");
    }
    // A value is made, and not kept.
    let load = async || Ok::<_, std::convert::Infallible>(3);
    assert_eq!(*one.get_or_load("loaded", load).await.unwrap(), 3);
    assert_eq!(get(other, "kept").await, Some(1));

    cleared[0].clear().await.unwrap();
    for cache in cleared {
        let found = cache.get::<i32>("kept").await;
        assert!(!matches!(found, Ok(Some(_))), "{found:?}");
    }
    for cache in [one, other] {
        assert_eq!(cache.stats().breaker, BreakerState::Closed);
        assert_eq!(cache.stats().outages, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full() {
    let Some(server) = Aerospike::find() else {
        return;
    };
    let names = [namespace("full"), namespace("full-cleared")];
    let (one, other) = (
        connected(&server, &names[0]).await,
        connected(&server, &names[0]).await,
    );
    let cleared = [
        connected(&server, &names[1]).await,
        connected(&server, &names[1]).await,
    ];
    fill(&one, &cleared[0]).await;
    assert_eq!(get(&other, "kept").await, Some(1));
    assert_eq!(get(&cleared[1], "kept").await, Some(1));
    let full = tokio::sync::Mutex::new(None);
    let report = outage(
        "Aerospike full (stop-writes), then room again",
        Cache::builder(Backend::builder(server.hosts()).connect().await.unwrap())
            .namespace(namespace("full-load"))
            .build(),
        async || {
            *full.lock().await = Some(Full::begin(&server).await);
            is_read_and_invalidated(&one, &other, [&cleared[0], &cleared[1]]).await;
        },
        async || {
            let full = full.lock().await.take();
            full.expect("it is full").end().await;
        },
    );
    survived(&report.await);
    for cache in &cleared {
        assert_eq!(get(cache, "kept").await, None);
    }
    cleared[0].put("kept", 2).await.unwrap();
    assert_eq!(get(&cleared[1], "kept").await, Some(2));
    one.put("replaced", 2).await.unwrap();
    assert_eq!(get(&other, "replaced").await, Some(2));
}
