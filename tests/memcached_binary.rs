//! The memcached backend by the binary protocol, beside processes with meta commands on the same server.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

mod support_servers;

use std::time::Duration;

use larder::{Backend, CodecId, Entry, Key, Memcached, PutMode, Timestamp};
use support_servers::{Link, Memcached as Server, Proxy};

/// Two processes on one server, and the way in which each speaks to it.
struct Pair {
    server: Server,
    sides: [(&'static str, Memcached); 2],
}

impl Pair {
    async fn start() -> Option<Self> {
        let server = Server::start()?;
        let connect = async |binary| {
            let builder = Memcached::builder(server.server()).binary_protocol(binary);
            builder.connect().await.unwrap()
        };
        let sides = [
            ("meta", connect(false).await),
            ("binary", connect(true).await),
        ];
        Some(Self { server, sides })
    }

    /// Each side as the first and the other as the second.
    fn both_ways(&self) -> [(&str, &Memcached, &Memcached); 2] {
        let [(meta, one), (binary, two)] = &self.sides;
        [(meta, one, two), (binary, two, one)]
    }
}

fn key(name: impl AsRef<[u8]>) -> Key {
    Key::new("shop", None, name)
}

fn entry(payload: impl Into<bytes::Bytes>) -> Entry {
    let now = Timestamp::now();
    Entry::new(CodecId::RAW, payload, now).with_ttl(Some(Duration::from_secs(600)), now)
}

async fn put(memcached: &Memcached, name: &str, payload: &'static str, mode: PutMode) -> bool {
    let name = key(name);
    memcached.put(&name, entry(payload), mode).await.unwrap()
}

async fn read(memcached: &Memcached, key: &Key) -> Option<bytes::Bytes> {
    let entry = memcached.get(key).await.unwrap()?;
    Some(entry.payload().clone())
}

#[tokio::test]
async fn what_one_puts_the_other_reads() {
    let Some(pair) = Pair::start().await else {
        return;
    };
    let long = "n".repeat(300);
    let beyond_ascii = [0xff; 181];
    for (side, one, two) in pair.both_ways() {
        for name in [
            "a name".as_bytes(),
            "ü".as_bytes(),
            b"\0\r\n",
            long.as_bytes(),
            &beyond_ascii,
        ] {
            for len in [0, 10, 100_000, 1_500_000] {
                let key = Key::new("shop", Some("basket"), name);
                let value = bytes::Bytes::from(vec![b'v'; len]);
                let put = one.put(&key, entry(value.clone()), PutMode::Always);
                assert!(put.await.unwrap(), "{side}");
                assert!(read(two, &key).await == Some(value), "{side}: {len}");
                assert!(two.contains(&key).await.unwrap());
                assert!(
                    two.touch(&key, Some(Duration::from_secs(60)))
                        .await
                        .unwrap()
                );
                assert!(one.contains(&key).await.unwrap());
                assert!(two.delete(&key).await.unwrap());
                assert!(read(one, &key).await.is_none());
            }
        }
    }
}

#[tokio::test]
async fn what_one_counts_the_other_goes_on_with() {
    let Some(pair) = Pair::start().await else {
        return;
    };
    let ttl = Some(Duration::from_secs(600));
    for (side, one, two) in pair.both_ways() {
        let counter = key(format!("{side} counts"));
        assert_eq!(one.increment(&counter, -3, ttl).await.unwrap(), -3);
        assert_eq!(two.increment(&counter, 5, ttl).await.unwrap(), 2);
        assert_eq!(one.increment(&counter, 1, ttl).await.unwrap(), 3);
        let taken = two.put(&counter, entry("value"), PutMode::IfAbsent);
        assert!(!taken.await.unwrap());
        assert!(two.touch(&counter, ttl).await.unwrap());
        let ends = one.get(&counter).await.unwrap().unwrap().expires_at();
        assert!(ends.is_some(), "{side}");
        assert!(two.delete(&counter).await.unwrap());
    }
}

/// What only the server knows of a counter that others made.
#[tokio::test]
async fn the_end_of_a_counter_made_by_meta_commands_is_unknown_and_comes_all_the_same() {
    let Some(pair) = Pair::start().await else {
        return;
    };
    let [(_, meta), (_, binary)] = &pair.sides;
    let ttl = Some(Duration::from_secs(1));
    meta.increment(&key("short"), 1, ttl).await.unwrap();
    let counter = binary.get(&key("short")).await.unwrap().unwrap();
    assert_eq!(counter.expires_at(), None);
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert!(binary.get(&key("short")).await.unwrap().is_none());
}

#[tokio::test]
async fn whatever_the_other_does_ends_the_lease_of_one() {
    let Some(pair) = Pair::start().await else {
        return;
    };
    for (side, one, two) in pair.both_ways() {
        for there in [true, false] {
            for verb in ["put", "delete", "clear", "load", "count"] {
                if there {
                    put(one, "name", "before", PutMode::Always).await;
                } else {
                    two.delete(&key("name")).await.unwrap();
                }
                let lease = one.get_leased(&key("name")).await.unwrap().lease;
                match verb {
                    "put" => assert!(put(two, "name", "new", PutMode::Always).await),
                    "delete" => assert_eq!(two.delete(&key("name")).await.unwrap(), there),
                    "clear" => two.clear("shop").await.unwrap(),
                    "load" => {
                        let lease = two.get_leased(&key("name")).await.unwrap().lease;
                        assert!(put(two, "name", "new", PutMode::IfUnchanged(lease)).await);
                    }
                    _ if there => continue,
                    _ => {
                        two.increment(&key("name"), 1, None).await.unwrap();
                    }
                }
                let late = put(one, "name", "late", PutMode::IfUnchanged(lease)).await;
                assert!(!late, "{side}: {verb}, there: {there}");
            }
        }
    }
}

#[tokio::test]
async fn a_version_of_one_holds_for_the_other() {
    let Some(pair) = Pair::start().await else {
        return;
    };
    for (side, one, two) in pair.both_ways() {
        put(one, "name", "first", PutMode::Always).await;
        let version = two.get(&key("name")).await.unwrap().unwrap().version();
        assert!(
            put(one, "name", "second", PutMode::IfVersion(version)).await,
            "{side}"
        );
        assert!(!put(two, "name", "third", PutMode::IfVersion(version)).await);
        assert!(!two.delete_if(&key("name"), version).await.unwrap());
        let version = one.get(&key("name")).await.unwrap().unwrap().version();
        assert!(
            two.delete_if(&key("name"), version).await.unwrap(),
            "{side}"
        );
    }
}

/// A load that takes longer than the minute of its empty item is not kept, so one of which little is left is made anew.
#[tokio::test]
async fn an_empty_item_lasts_a_minute_whoever_made_it() {
    let Some(pair) = Pair::start().await else {
        return;
    };
    for (side, one, _) in pair.both_ways() {
        let name = key(side);
        one.get_leased(&name).await.unwrap();
        let marker = pair.server.say("mg shop:generation v\r\n");
        let generation = marker.lines().nth(1).unwrap();
        let item = format!("mg shop:{generation}:{side} s t\r\n");
        let told = pair.server.say(&item);
        let left = told.strip_prefix("HD s0 t").unwrap();
        let left = left.split_whitespace().next().unwrap();
        assert!(
            (58..=60).contains(&left.parse::<u32>().unwrap()),
            "{side}: {told}"
        );
    }
}

/// Many of both kinds load, put, delete and count, and nothing is kept that was begun before it was deleted.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_load_that_somebody_overtakes_is_never_kept() {
    let Some(pair) = Pair::start().await else {
        return;
    };
    let name = key("name");
    for (side, one, two) in pair.both_ways() {
        for round in 0..300 {
            let lease = one.get_leased(&name).await.unwrap().lease;
            // Others begin to load meanwhile, and one of them deletes what was to be loaded.
            let (_, deleted, _) = tokio::join!(
                two.get_leased(&name),
                two.delete(&name),
                one.get_leased(&name),
            );
            deleted.unwrap();
            let late = one.put(&name, entry("late"), PutMode::IfUnchanged(lease));
            assert!(!late.await.unwrap(), "{side}, round {round}");
            assert!(read(two, &name).await.is_none());
        }
    }
}

#[tokio::test]
async fn a_lease_is_one_round_trip_also_where_nothing_is() {
    let Some(server) = Server::start() else {
        return;
    };
    let proxy = Proxy::to(server.address()).await;
    let builder = Memcached::builder(proxy.address().to_string());
    let far = builder.binary_protocol(true).connect().await.unwrap();
    far.get(&key("first")).await.unwrap();
    proxy.set(Link::Delay(Duration::from_millis(100))).await;
    let begun = std::time::Instant::now();
    let keys: Vec<_> = (0..100).map(|name| key(name.to_string())).collect();
    let leased = far.get_leased_many(&keys).await.unwrap();
    let taken = begun.elapsed();
    assert!((200..350).contains(&taken.as_millis()), "{taken:?}");
    proxy.set(Link::Pass).await;
    for (key, leased) in keys.iter().zip(leased) {
        let mode = PutMode::IfUnchanged(leased.lease);
        assert!(far.put(key, entry("loaded"), mode).await.unwrap());
    }
}
