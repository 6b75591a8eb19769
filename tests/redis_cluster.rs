//! The Redis backend on a cluster: the suite, and what becomes of it when slots are moved and nodes end.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

mod support_servers;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use larder::{
    Backend, Cache, CodecId, Entry, Error, ErrorKind, Key, PutMode, Redis, Settings, Timestamp,
    testing,
};
use support_servers::{Cluster, Options, Redis as Server, matrix, redis_name};

/// What a user of a cluster needs: the commands that the documentation names.
const RULES: &str = "~suite* ~SUITE* ~:* resetchannels -@all +get +set +getrange +setrange +unlink +incrby +pttl \
                     +pexpire +persist +eval +evalsha +scan +ping +asking +cluster|slots";

async fn connect(cluster: &Cluster) -> Redis {
    Redis::cluster(cluster.addresses()).connect().await.unwrap()
}

fn key(name: impl ToString) -> Key {
    Key::new("shop", None, name.to_string())
}

fn entry(payload: impl Into<bytes::Bytes>) -> Entry {
    let now = Timestamp::now();
    Entry::new(CodecId::RAW, payload, now).with_ttl(Some(Duration::from_secs(600)), now)
}

async fn keep(redis: &Redis, name: impl ToString, payload: &'static str) {
    let key = key(name);
    let kept = redis.put(&key, entry(payload), PutMode::Always).await;
    assert!(kept.unwrap());
}

async fn read(redis: &Redis, name: impl ToString) -> larder::Result<Option<String>> {
    let entry = redis.get(&key(name)).await?;
    Ok(entry.map(|entry| String::from_utf8(entry.payload().to_vec()).unwrap()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cluster_passes() {
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let report = testing::examine(|| connect(&cluster)).await;
    matrix::judge(&redis_name(), "cluster", &report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replicas_of_a_cluster_that_answer_in_place_of_the_primaries_pass() {
    let options = Options::default()
        .password("root")
        .user(
            "app",
            "secret",
            &format!("{RULES} +role +info +readonly +mget"),
        )
        .config("masterauth root");
    let Some(cluster) = Cluster::with(true, false, options) else {
        return;
    };
    let report = testing::examine(|| async {
        let redis = Redis::cluster(cluster.addresses()).read_from_replicas(true);
        let redis = redis.username("app").password("secret");
        redis.connect().await.unwrap()
    });
    matrix::judge(&redis_name(), "cluster, reader apart, ACL", &report.await);
    let asked: u64 = cluster.nodes()[3..]
        .iter()
        .map(|node| node.calls("mget"))
        .sum();
    assert!(asked > 0, "no replica was asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cluster_with_tls_passes() {
    let Some(cluster) = Cluster::with_tls() else {
        return;
    };
    let ca = cluster.certificates().ca().display().to_string();
    // One node is enough to begin with.
    let first = cluster.addresses().swap_remove(0);
    let report = testing::examine(|| async {
        let redis = Redis::cluster([&first]).tls(true).ca(&ca);
        redis.connect().await.unwrap()
    });
    matrix::judge(&redis_name(), "cluster, TLS", &report.await);
}

#[tokio::test]
async fn a_cluster_that_wants_a_certificate_of_the_client_is_served_one() {
    let Some(cluster) = Cluster::with(false, true, Options::default().mtls()) else {
        return;
    };
    let path = |path: std::path::PathBuf| path.display().to_string();
    let certificates = cluster.certificates();
    let first = cluster.addresses().swap_remove(0);
    let without = || {
        let redis = Redis::cluster([&first]).tls(true);
        redis.ca(path(certificates.ca()))
    };
    let error = without().connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(
        error.to_string().contains("CACHE_REDIS_CLIENT_CERT_FILE"),
        "{error}"
    );
    let redis = without().client_certificate(
        path(certificates.client_certificate()),
        path(certificates.client_key()),
    );
    let redis = redis.connect().await.unwrap();
    let keys: Vec<_> = (0..100).map(key).collect();
    let entries = keys
        .iter()
        .map(|key| (key.clone(), entry("value"), PutMode::Always));
    assert_eq!(
        redis.put_many(entries.collect()).await.unwrap(),
        [true; 100]
    );
    assert!(
        redis
            .get_many(&keys)
            .await
            .unwrap()
            .iter()
            .all(Option::is_some)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_user_confined_to_a_prefix_passes_on_a_cluster() {
    let options = Options::default()
        .password("root")
        .user("app", "secret", RULES);
    let options = options.config("masterauth root");
    let Some(cluster) = Cluster::with(false, false, options) else {
        return;
    };
    let report = testing::examine(|| async {
        let redis = Redis::cluster(cluster.addresses());
        let redis = redis.username("app").password("secret");
        redis.connect().await.unwrap()
    });
    matrix::judge(&redis_name(), "cluster, ACL", &report.await);
}

#[tokio::test]
async fn keys_are_spread_over_the_nodes_and_many_are_asked_for_at_once() {
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let redis = connect(&cluster).await;
    let keys: Vec<_> = (0..3_000).map(key).collect();
    let entries = keys
        .iter()
        .map(|key| (key.clone(), entry("value"), PutMode::Always));
    assert_eq!(
        redis.put_many(entries.collect()).await.unwrap(),
        [true; 3_000]
    );
    for node in cluster.nodes() {
        let clients = node.cli(&["CLIENT", "LIST"]);
        let ours = clients.lines().find(|it| it.contains("name=larder"));
        assert!(ours.unwrap().contains("resp=3"), "{clients}");
        let size: usize = node.cli(&["DBSIZE"]).parse().unwrap();
        // Its share of the entries, and the markers.
        assert!((900..1_350).contains(&size), "{size}");
    }
    let read = redis.get_many(&keys).await.unwrap();
    assert!(read.iter().all(Option::is_some));
    redis.clear("shop").await.unwrap();
    let read = redis.get_many(&keys).await.unwrap();
    assert!(read.iter().all(Option::is_none));
    // What was cleared has an end, and is the servers' to remove; what has none is found on every node.
    let endless = || Entry::new(CodecId::RAW, "value", Timestamp::now());
    let entries = keys
        .iter()
        .map(|key| (key.clone(), endless(), PutMode::Always));
    redis.put_many(entries.collect()).await.unwrap();
    redis.clear("shop").await.unwrap();
    keep(&redis, "new", "value").await;
    let mut removed = 0;
    loop {
        match redis.remove_expired(700).await.unwrap() {
            0 => break,
            count => removed += count,
        }
    }
    assert!(removed >= 3_000, "{removed}");
    assert!(redis.contains(&key("new")).await.unwrap());
    for node in cluster.nodes() {
        let left = node.cli(&["KEYS", "shop:*"]);
        let entries = left.lines().filter(|key| !key.ends_with("generation"));
        assert!(entries.count() <= 1, "{left}");
    }
}

/// What clearing does is known to a client that has not asked for anything yet, and to one that has.
#[tokio::test]
async fn a_clear_ends_every_shard_for_every_client() {
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let (redis, other) = (connect(&cluster).await, connect(&cluster).await);
    let keys: Vec<_> = (0..500).map(key).collect();
    for round in 0..3 {
        let entries = keys
            .iter()
            .map(|key| (key.clone(), entry("value"), PutMode::Always));
        redis.put_many(entries.collect()).await.unwrap();
        assert!(
            other
                .get_many(&keys)
                .await
                .unwrap()
                .iter()
                .all(Option::is_some)
        );
        let start = Instant::now();
        redis.clear("shop").await.unwrap();
        println!("clear of a cluster, round {round}: {:?}", start.elapsed());
        let found = other.get_many(&keys).await.unwrap();
        assert!(found.iter().all(Option::is_none), "in round {round}");
        let third = connect(&cluster).await;
        assert!(
            third
                .get_many(&keys)
                .await
                .unwrap()
                .iter()
                .all(Option::is_none)
        );
    }
}

/// Namespaces with braces have their tags all the same.
#[tokio::test]
async fn a_namespace_may_have_braces() {
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let redis = connect(&cluster).await;
    for namespace in ["{}", "a{b}c", "a{", "}", "%7B"] {
        for name in ["one", "{two}", "three"] {
            let key = Key::new(namespace, None, name);
            let lease = redis.get_leased(&key).await.unwrap().lease;
            let mode = PutMode::IfUnchanged(lease);
            assert!(redis.put(&key, entry(name), mode).await.unwrap());
            let read = redis.get(&key).await.unwrap().unwrap();
            assert_eq!(read.payload(), name);
        }
    }
    redis.clear("{}").await.unwrap();
    let key = |namespace| Key::new(namespace, None, "one");
    assert!(!redis.contains(&key("{}")).await.unwrap());
    assert!(redis.contains(&key("%7B")).await.unwrap());
}

/// Everything goes on while every slot of a node is moved: each value is what was put, and each counter counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn resharding_under_load_loses_nothing_and_mixes_nothing_up() {
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let cluster = Arc::new(cluster);
    let redis = connect(&cluster).await;
    let names = 0..400_u32;
    for name in names.clone() {
        keep(&redis, name, "before").await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8_u32 {
        let (redis, stop) = (redis.clone(), stop.clone());
        tasks.spawn(async move {
            let (mut done, mut refused, mut counted) = (0_u64, 0_u64, 0);
            let counter = key(format!("counter {task}"));
            let mut longest = Duration::ZERO;
            for round in 0_u32.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let name = (round * 8 + task) % 400;
                let begun = Instant::now();
                let step = async {
                    // Each task has its own keys.
                    let value = format!("{name} {round}");
                    let key = key(name);
                    let leased = redis.get_leased(&key).await?;
                    redis
                        .put(&key, entry(value.clone()), PutMode::Always)
                        .await?;
                    let read = redis.get(&key).await?.unwrap();
                    assert_eq!(read.payload(), value.as_str());
                    let late = PutMode::IfUnchanged(leased.lease);
                    assert!(!redis.put(&key, entry("late"), late).await?);
                    assert!(redis.delete(&key).await?, "it was just put");
                    assert!(redis.get(&key).await?.is_none());
                    assert!(redis.put(&key, entry("again"), PutMode::IfAbsent).await?);
                    assert!(!redis.put(&key, entry("again"), PutMode::IfAbsent).await?);
                    let sum = redis.increment(&counter, 1, Some(Duration::from_secs(600)));
                    counted += 1;
                    assert_eq!(sum.await?, counted);
                    Ok::<_, Error>(())
                };
                match step.await {
                    Ok(()) => done += 1,
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                        refused += 1;
                        let sum = loop {
                            match redis.increment(&counter, 0, None).await {
                                Ok(sum) => break sum,
                                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                            }
                        };
                        assert!(sum == counted || sum + 1 == counted, "{sum} of {counted}");
                        counted = sum;
                    }
                }
                longest = longest.max(begun.elapsed());
            }
            (done, refused, longest)
        });
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let start = Instant::now();
    let moving = cluster.clone();
    let moved = tokio::task::spawn_blocking(move || {
        let [from, to, _] = moving.nodes() else {
            unreachable!("there are three");
        };
        moving.reshard(from, to, 1_000)
    });
    let output = moved.await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let time = start.elapsed();
    tokio::time::sleep(Duration::from_millis(300)).await;
    stop.store(true, Ordering::Relaxed);
    let results = tasks.join_all().await;
    let done: u64 = results.iter().map(|(done, ..)| done).sum();
    let refused: u64 = results.iter().map(|(_, refused, _)| refused).sum();
    let longest = results.iter().map(|(.., longest)| *longest).max().unwrap();
    println!(
        "1000 slots moved in {time:?} under load: {done} steps done, {refused} refused, the longest took {longest:?}"
    );
    assert!(done > 100, "{done}");
}

/// A slot that somebody began to move and left there: what is at the new node is found there.
#[tokio::test]
async fn a_slot_in_the_middle_of_being_moved_is_served_by_both_nodes() {
    if let Some(cluster) = Cluster::start() {
        is_served_while_it_is_moved(cluster).await;
    }
}

/// Nodes behind a port forwarding say where to go by the port alone.
#[tokio::test]
async fn nodes_that_do_not_know_their_own_names_are_found_all_the_same() {
    let options = Options::default().config("cluster-preferred-endpoint-type unknown-endpoint");
    if let Some(cluster) = Cluster::with(false, false, options) {
        is_served_while_it_is_moved(cluster).await;
    }
}

async fn is_served_while_it_is_moved(cluster: Cluster) {
    let redis = connect(&cluster).await;
    for name in 0..2_000 {
        keep(&redis, name, "value").await;
    }
    redis.delete(&key("other")).await.unwrap();
    // The first of the slots that a shard is in, of those that are on the first node.
    let [from, to, _] = cluster.nodes() else {
        unreachable!("there are three");
    };
    let keys = from.cli(&["KEYS", "shop:*"]);
    let stored = keys
        .lines()
        .find(|key| !key.ends_with("generation"))
        .unwrap();
    let slot = from.cli(&["CLUSTER", "KEYSLOT", stored]);
    let in_slot = from.cli(&["CLUSTER", "GETKEYSINSLOT", &slot, "1000"]);
    let in_slot: Vec<_> = in_slot.lines().map(ToOwned::to_owned).collect();
    assert!(in_slot.len() > 3, "{in_slot:?}");
    let (from_id, to_id) = (from.cli(&["CLUSTER", "MYID"]), to.cli(&["CLUSTER", "MYID"]));
    to.cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]);
    from.cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]);
    let names: Vec<_> = in_slot
        .iter()
        .filter(|key| !key.ends_with("generation"))
        .collect();
    let names = names
        .iter()
        .map(|key| key.rsplit_once(':').unwrap().1.to_owned());
    let names: Vec<_> = names.collect();
    let port = to.port().to_string();
    // One key after the other, the marker among them.
    for moved in &in_slot {
        from.cli(&["MIGRATE", "127.0.0.1", &port, moved, "0", "5000"]);
        for name in &names {
            let value = read(&redis, name).await.unwrap();
            assert_eq!(
                value.as_deref(),
                Some("value"),
                "{name} when {moved} was moved"
            );
            assert!(redis.contains(&key(name)).await.unwrap());
        }
        let many: Vec<_> = names.iter().map(key).collect();
        assert!(
            redis
                .get_many(&many)
                .await
                .unwrap()
                .iter()
                .all(Option::is_some)
        );
        let absent = format!("{} absent", names[0]);
        assert_eq!(read(&redis, &absent).await.unwrap(), None);
    }
    let gone = &names[0];
    assert!(redis.delete(&key(gone)).await.unwrap());
    assert_eq!(read(&redis, gone).await.unwrap(), None);
    keep(&redis, gone, "again").await;
    for node in [to, from] {
        node.cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]);
    }
    assert_eq!(read(&redis, gone).await.unwrap().as_deref(), Some("again"));
    let value = read(&redis, &names[1]).await.unwrap();
    assert_eq!(value.as_deref(), Some("value"));
}

/// Whether every name can be written and read.
async fn is_whole(redis: &Redis) -> bool {
    for name in 0..64 {
        let key = key(format!("sign {name}"));
        let put = redis.put(&key, entry("of life"), PutMode::Always);
        if put.await.is_err() || redis.get(&key).await.is_err() {
            return false;
        }
    }
    true
}

async fn recovered(redis: &Redis) -> Duration {
    let start = Instant::now();
    while !is_whole(redis).await {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "it does not come back"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    start.elapsed()
}

#[tokio::test]
async fn a_replica_that_takes_over_is_found() {
    let Some(cluster) = Cluster::with_replicas() else {
        return;
    };
    let redis = connect(&cluster).await;
    for name in 0..200 {
        keep(&redis, name, "value").await;
    }
    cluster.nodes()[0].replicated();
    cluster.nodes()[0].kill();
    // What the others have is there all the time, and what is gone fails at once.
    let start = Instant::now();
    let (mut found, mut refused) = (0, 0);
    for name in 0..200 {
        match read(&redis, name).await {
            Ok(value) => {
                assert_eq!(value.as_deref(), Some("value"));
                found += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                refused += 1;
            }
        }
    }
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    assert!(
        found > 100 && refused > 30,
        "{found} found, {refused} refused"
    );
    let time = recovered(&redis).await;
    println!("one primary of three killed, its replica takes over: back after {time:?}");
    for name in 0..200 {
        assert_eq!(read(&redis, name).await.unwrap().as_deref(), Some("value"));
    }
}

/// The replica was cut off when the deletions came, and took over without them.
#[tokio::test]
async fn deletions_that_a_new_primary_never_had_still_hold() {
    let options = Options::default()
        .password("root")
        .config("masterauth root");
    let Some(cluster) = Cluster::with(true, false, options) else {
        return;
    };
    let redis = Redis::cluster(cluster.addresses()).password("root");
    let redis = redis.connect().await.unwrap();
    let names: Vec<_> = (0..200).collect();
    for name in &names {
        keep(&redis, name, "old").await;
    }
    let (primary, replica) = (&cluster.nodes()[0], &cluster.nodes()[3]);
    replica.cut_off_from(primary);
    for name in names.iter().filter(|name| *name % 2 == 0) {
        assert!(redis.delete(&key(name)).await.unwrap());
    }
    primary.kill();
    let time = recovered(&redis).await;
    println!("one primary killed, its replica behind: back after {time:?}");
    assert_eq!(cluster.owner(0).port(), replica.port());
    let stored = replica.cli(&["KEYS", "shop:*"]);
    for name in &names {
        let value = read(&redis, name).await.unwrap();
        if name % 2 == 0 {
            let was_lost = stored.lines().any(|key| key.ends_with(&format!(":{name}")));
            assert_eq!(
                value, None,
                "{name}, of which the deletion was lost: {was_lost}"
            );
        }
    }
    let came_back = names
        .iter()
        .filter(|name| *name % 2 == 0)
        .any(|name| stored.lines().any(|key| key.ends_with(&format!(":{name}"))));
    assert!(came_back, "no deletion was lost, so that nothing was tried");
}

#[tokio::test]
async fn a_clear_that_one_node_never_had_holds_elsewhere_and_is_an_error() {
    let Some(cluster) = Cluster::with_replicas() else {
        return;
    };
    let redis = connect(&cluster).await;
    for name in 0..200 {
        keep(&redis, name, "old").await;
    }
    cluster.nodes()[1].replicated();
    cluster.nodes()[1].kill();
    let error = redis.clear("shop").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    for name in 0..200 {
        if let Ok(value) = read(&redis, name).await {
            assert_eq!(value, None, "{name}");
        }
    }
    recovered(&redis).await;
    redis.clear("shop").await.unwrap();
    for name in 0..200 {
        assert_eq!(read(&redis, name).await.unwrap(), None);
    }
}

/// Two primaries of three are away: the rest says so, and when they are back everything is as it was.
#[tokio::test]
async fn most_of_a_cluster_may_go_and_come_back() {
    let Some(cluster) = Cluster::with(false, false, Options::default().persistent()) else {
        return;
    };
    let redis = connect(&cluster).await;
    for name in 0..200 {
        keep(&redis, name, "value").await;
    }
    for node in &cluster.nodes()[..2] {
        node.kill();
    }
    let start = Instant::now();
    let mut kinds = BTreeSet::new();
    let mut longest = Duration::ZERO;
    while start.elapsed() < Duration::from_secs(4) {
        for name in 0..200 {
            let begun = Instant::now();
            match read(&redis, name).await {
                Ok(value) => assert_eq!(value.as_deref(), Some("value")),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                    kinds.insert(error.to_string());
                }
            }
            longest = longest.max(begun.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("two primaries of three killed: a read failed within {longest:?}: {kinds:#?}");
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    assert!(
        kinds
            .iter()
            .any(|text| text.contains("the cluster is down")),
        "{kinds:?}"
    );
    for node in &cluster.nodes()[..2] {
        node.restart();
    }
    let time = recovered(&redis).await;
    println!("two primaries of three started again: back after {time:?}");
    for name in 0..200 {
        assert_eq!(read(&redis, name).await.unwrap().as_deref(), Some("value"));
    }
}

#[tokio::test]
async fn the_first_nodes_may_be_away_and_others_are_no_cluster() {
    let (Some(cluster), Some(single)) = (Cluster::start(), Server::start()) else {
        return;
    };
    let addresses = ["127.0.0.1:1".to_owned(), cluster.addresses().swap_remove(2)];
    let redis = Redis::cluster(addresses).connect().await.unwrap();
    keep(&redis, "key", "value").await;
    let error = Redis::cluster([single.address().to_string()])
        .connect()
        .await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Settings);
    assert!(
        error.to_string().contains("CACHE_REDIS_CLUSTER_NODES"),
        "{error}"
    );
    let error = Redis::builder(cluster.nodes()[0].url())
        .connect()
        .await
        .unwrap();
    let error = error.get(&key("key")).await;
    let text = error
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default();
    assert!(
        text.is_empty() || text.contains("CACHE_REDIS_CLUSTER_NODES"),
        "{text}"
    );
}

#[tokio::test]
async fn a_cache_connects_as_its_settings_say() {
    let Some(cluster) = Cluster::with_tls() else {
        return;
    };
    let ca = cluster.certificates().ca().display().to_string();
    let nodes = cluster.addresses().join(", ");
    let settings = Settings::from_pairs([
        ("CACHE_TYPE", "RedisClusterCache"),
        ("CACHE_REDIS_CLUSTER_NODES", nodes.as_str()),
        ("CACHE_REDIS_TLS", "true"),
        ("CACHE_REDIS_CA_FILE", &ca),
    ]);
    let cache = Cache::from_settings(&settings.unwrap()).await.unwrap();
    cache.put("answer", 42).await.unwrap();
    assert_eq!(cache.get::<i32>("answer").await.unwrap(), Some(42));
    cache.clear().await.unwrap();
    assert_eq!(cache.get::<i32>("answer").await.unwrap(), None);
}
