//! Tags on real servers, seen by two clients that share one: what two processes are to each other.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "it is for tests only")]

mod support_servers;

use std::{convert::Infallible, sync::Arc, time::Duration};

use larder::{Cache, ErrorKind, PutOptions, TagStamp, Ttl};
use support_servers::{Memcached, Pair, Server};
use tokio::{sync::Notify, time::sleep};

support_servers::on_every_server! { all_behaviours_are_there, super::shows }

async fn shows(server: Server) {
    server.shows(BEHAVIOURS).await;
}

support_servers::behaviours! { BEHAVIOURS:
    an_invalidation_at_one_ends_everything_with_the_tag_for_the_other
    a_soft_end_at_one_is_an_end_for_the_other
    a_marker_that_is_gone_ends_what_has_the_tag
    a_load_that_the_other_overtook_is_not_served
    a_touched_value_and_its_marker_live_on
    many_clients_that_put_at_once_agree_on_the_marker
}

fn tagged(tag: &str) -> PutOptions {
    PutOptions::new().tags([tag])
}

async fn put(cache: &Cache, key: &str, tag: &str) {
    assert!(cache.put_with(key, 1, tagged(tag)).await.unwrap());
}

async fn get(cache: &Cache, key: &str) -> Option<i32> {
    cache.get(key).await.unwrap()
}

async fn an_invalidation_at_one_ends_everything_with_the_tag_for_the_other(pair: Pair) {
    let neighbour = pair.one.scoped(&format!("{}-neighbour", pair.namespace));
    for (key, tag) in [("a", "red"), ("b", "red"), ("c", "blue")] {
        put(&pair.one, key, tag).await;
    }
    put(&neighbour, "a", "red").await;
    pair.one.put("d", 1).await.unwrap();
    let keys = ["a", "b", "c", "d"];
    let found = pair.other.get_many::<i32>(keys).await.unwrap();
    assert_eq!(found, [Some(1); 4]);
    pair.one.invalidate_tag("red").await.unwrap();
    let found = pair.other.get_many::<i32>(keys).await.unwrap();
    assert_eq!(found, [None, None, Some(1), Some(1)]);
    assert!(!pair.other.contains("a").await.unwrap());
    assert!(pair.other.contains("c").await.unwrap());
    assert_eq!(get(&neighbour, "a").await, Some(1));
    put(&pair.other, "a", "red").await;
    assert_eq!(get(&pair.one, "a").await, Some(1));
    pair.other.invalidate_tags(["red", "blue"]).await.unwrap();
    let found = pair.one.get_many::<i32>(keys).await.unwrap();
    assert_eq!(found, [None, None, None, Some(1)]);
}

async fn a_soft_end_at_one_is_an_end_for_the_other(pair: Pair) {
    put(&pair.one, "a", "red").await;
    pair.one.expire_tag("red").await.unwrap();
    assert_eq!(get(&pair.other, "a").await, None);
    let once = PutOptions::new().if_absent();
    assert!(pair.other.put_with("a", 2, once).await.unwrap());
    assert_eq!(get(&pair.one, "a").await, Some(2));
}

async fn a_marker_that_is_gone_ends_what_has_the_tag(pair: Pair) {
    put(&pair.one, "a", "red").await;
    let stamp = TagStamp::new(&pair.namespace, "red", [0; 16]).unwrap();
    assert!(pair.direct.delete(stamp.marker()).await.unwrap());
    assert_eq!(get(&pair.one, "a").await, None);
    put(&pair.other, "b", "red").await;
    assert_eq!(get(&pair.one, "a").await, None);
    assert_eq!(get(&pair.one, "b").await, Some(1));
}

async fn a_load_that_the_other_overtook_is_not_served(pair: Pair) {
    let (asked, open) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let loading = tokio::spawn({
        let (cache, asked, open) = (pair.one.clone(), asked.clone(), open.clone());
        async move {
            let load = async || {
                asked.notify_one();
                open.notified().await;
                Ok::<_, Infallible>(1)
            };
            *cache
                .get_or_load_with("a", tagged("red"), load)
                .await
                .unwrap()
        }
    });
    asked.notified().await;
    pair.other.invalidate_tag("red").await.unwrap();
    put(&pair.other, "other", "red").await;
    open.notify_one();
    assert_eq!(loading.await.unwrap(), 1);
    assert_eq!(get(&pair.one, "a").await, None);
    assert_eq!(get(&pair.other, "a").await, None);
}

async fn a_touched_value_and_its_marker_live_on(pair: Pair) {
    put(&pair.one, "a", "red").await;
    assert!(pair.other.touch("a", Ttl::Never).await.unwrap());
    let stamp = TagStamp::new(&pair.namespace, "red", [0; 16]).unwrap();
    let marker = pair.direct.get(stamp.marker()).await.unwrap().unwrap();
    assert_eq!(marker.expires_at(), None);
    assert_eq!(get(&pair.one, "a").await, Some(1));
    pair.one.invalidate_tag("red").await.unwrap();
    assert!(!pair.other.touch("a", Ttl::Never).await.unwrap());
}

async fn many_clients_that_put_at_once_agree_on_the_marker(pair: Pair) {
    for round in 0..10 {
        let tag = format!("tag {round}");
        let keys: Vec<_> = (0..8).map(|number| format!("{round}/{number}")).collect();
        let mut putting = tokio::task::JoinSet::new();
        for (number, key) in keys.iter().cloned().enumerate() {
            let (cache, tag) = ([&pair.one, &pair.other][number % 2].clone(), tag.clone());
            putting.spawn(async move { put(&cache, &key, &tag).await });
        }
        putting.join_all().await;
        let found = pair.one.get_many::<i32>(&keys).await.unwrap();
        assert_eq!(found, [Some(1); 8]);
        pair.one.invalidate_tag(&tag).await.unwrap();
        let found = pair.other.get_many::<i32>(&keys).await.unwrap();
        assert_eq!(found, [None; 8]);
    }
}

/// What no room is left for is refused, and what is to end ends, for this client and for another one.
async fn ends_without_room(server: Server, fill: impl AsyncFnOnce(&Cache)) {
    let namespace = support_servers::namespace();
    let cache = async || {
        Cache::builder(server.connect().await)
            .namespace(&namespace)
            .build()
    };
    let (one, other) = (cache().await, cache().await);
    for (key, tag) in [("a", "red"), ("b", "blue"), ("c", "green")] {
        put(&one, key, tag).await;
    }
    fill(&one).await;
    assert_eq!(get(&other, "a").await, Some(1));
    one.invalidate_tag("red").await.unwrap();
    assert_eq!(get(&other, "a").await, None);
    one.expire_tag("blue").await.unwrap();
    assert_eq!(get(&other, "b").await, None);
    assert_eq!(get(&other, "c").await, Some(1));
    one.clear().await.unwrap();
    for cache in [&one, &other] {
        let found = cache.get::<i32>("c").await;
        assert!(!matches!(found, Ok(Some(_))), "{found:?}");
        assert_eq!(cache.stats().outages, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tags_and_namespaces_end_on_a_redis_without_room() {
    let Some(redis) = support_servers::Redis::start() else {
        return;
    };
    let address = redis.port().to_string();
    let limit = async |cache: &Cache| {
        let limit = ["-p", &address, "CONFIG", "SET", "maxmemory", "1"];
        assert!(support_servers::redis_cli(&limit).status.success());
        let refused = cache.put("new", 1).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::TooLarge);
    };
    ends_without_room(Server::Redis(redis), limit).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tags_and_namespaces_end_on_a_memcached_without_room() {
    let options = Memcached::with().arguments(&["-M", "-m", "2"]);
    let Some(memcached) = options.start() else {
        return;
    };
    let fill = async |cache: &Cache| {
        for len in [20_000, 5_000, 1_000, 400, 200, 100] {
            let mut refused = None;
            for number in 0..30_000 {
                let (key, value) = (format!("{len}/{number}"), "x".repeat(len));
                refused = cache.put(key, value).await.err();
                if refused.is_some() {
                    break;
                }
            }
            let refused = refused.expect("two megabytes are full by now");
            assert_eq!(refused.kind(), ErrorKind::TooLarge, "{refused}");
        }
    };
    ends_without_room(Server::Memcached(memcached), fill).await;
}

support_servers::on_every_server! { an_invalidation_during_an_outage_is_replayed, super::replays }

/// A tag that was invalidated while the server could not be reached has ended when it is back, for everybody.
async fn replays(server: Server) {
    let (cuttable, cut) = server.cuttable().await;
    let namespace = support_servers::namespace();
    let cache = |backend| {
        let cache = Cache::builder(backend).namespace(&namespace);
        cache.breaker_delay(Duration::from_millis(50)).build()
    };
    let (cache, other) = (cache(cuttable), cache(server.connect().await));
    for (key, tag) in [("a", "red"), ("b", "blue"), ("c", "green")] {
        put(&cache, key, tag).await;
    }
    cut.off().await;
    cache.invalidate_tag("red").await.unwrap_err();
    cache.expire_tag("blue").await.unwrap_err();
    assert!(cache.stats().pending_invalidations >= 2);
    if !matches!(server, Server::Cluster(_)) {
        assert_eq!(get(&other, "a").await, Some(1));
    }
    cut.mend().await;
    for _ in 0..200 {
        if cache.stats().pending_invalidations == 0 {
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    for cache in [&cache, &other] {
        let found = cache.get_many::<i32>(["a", "b", "c"]).await.unwrap();
        assert_eq!(found, [None, None, Some(1)]);
    }
}
