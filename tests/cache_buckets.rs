//! Buckets of the handle: what is in one and what is not, and what ends with it, whether the backend keeps it together
//! or not.

#![cfg(all(feature = "memory", feature = "json"))]
#![allow(
    clippy::unwrap_used,
    reason = "helpers outside of test functions unwrap too"
)]

mod support_cache;

use std::{convert::Infallible, sync::Arc};

use larder::{Backend, Cache, ErrorKind, Key, LoadError, Null, PutOptions};
use support_cache::{At, Puppet, Source, advance, secs, settle, within};

/// Backends that keep a bucket together, and backends that do not.
fn every() -> [(Puppet, Cache); 5] {
    let together = [Puppet::local(), Puppet::remote(), Puppet::server()];
    let [one, two, three] = together;
    [
        one,
        two,
        three,
        Puppet::remote().apart(),
        Puppet::server().apart(),
    ]
    .map(|puppet| {
        let cache = puppet.cache();
        (puppet, cache)
    })
}

async fn get(cache: &Cache, key: &str) -> Option<i32> {
    cache.get(key).await.unwrap()
}

fn tagged(count: usize) -> PutOptions {
    PutOptions::new().tags((0..count).map(|tag| tag.to_string()))
}

#[tokio::test(start_paused = true)]
async fn a_key_in_a_bucket_is_another_one_than_outside() {
    for (_, cache) in every() {
        let (seven, eight) = (cache.bucket("7"), cache.bucket("8"));
        cache.put("a", 0).await.unwrap();
        seven.put("a", 7).await.unwrap();
        assert_eq!(get(&eight, "a").await, None);
        eight.put("a", 8).await.unwrap();
        let scoped = cache.scoped("other").bucket("7");
        scoped.put("a", 70).await.unwrap();
        for (handle, value) in [(&cache, 0), (&seven, 7), (&eight, 8), (&scoped, 70)] {
            assert_eq!(get(handle, "a").await, Some(value));
        }
        assert!(seven.delete("a").await.unwrap());
        assert_eq!(get(&seven, "a").await, None);
        assert_eq!(get(&cache, "a").await, Some(0));
        assert_eq!(seven.namespace(), "larder");
        // Another handle leads to the same bucket, and a bucket of a bucket's handle is one beside it.
        assert_eq!(get(&seven.bucket("8"), "a").await, Some(8));
        assert_eq!(get(&seven.scoped("larder"), "a").await, Some(0));
    }
}

#[tokio::test(start_paused = true)]
async fn every_verb_is_as_it_is_elsewhere() {
    for (_, cache) in every() {
        let bucket = cache.bucket("user:7");
        let options = PutOptions::new().ttl(secs(60)).if_absent();
        assert!(bucket.put_with("a", 1, options.clone()).await.unwrap());
        assert!(!bucket.put_with("a", 2, options).await.unwrap());
        let found = bucket.get_entry::<i32>("a").await.unwrap().unwrap();
        assert_eq!((found.value, found.ttl), (1, Some(secs(60))));
        let unchanged = PutOptions::new().if_version(found.version);
        assert!(bucket.put_with("a", 3, unchanged.clone()).await.unwrap());
        assert!(!bucket.put_with("a", 4, unchanged).await.unwrap());
        assert!(bucket.touch("a", secs(10)).await.unwrap());
        assert_eq!(
            bucket.put_many([("b", 5), ("c", 6)]).await.unwrap(),
            [true; 2]
        );
        advance(secs(11)).await;
        let found = bucket.get_many::<i32>(["c", "a", "b", "c"]).await.unwrap();
        assert_eq!(found, [Some(6), None, Some(5), Some(6)]);
        assert_eq!(*bucket.get_shared::<i32>("b").await.unwrap().unwrap(), 5);
        assert_eq!(bucket.increment("n", 2).await.unwrap(), 2);
        assert_eq!(bucket.increment("n", 3).await.unwrap(), 5);
        assert_eq!(bucket.counter("n").await.unwrap(), Some(5));
        let load = async || Ok::<_, Infallible>(7);
        assert_eq!(*bucket.get_or_load("d", load).await.unwrap(), 7);
        let loaded = bucket.get_or_load_many(["b", "e"], async |missing: Vec<&str>| {
            assert_eq!(missing, ["e"]);
            Ok::<_, Infallible>(vec![Some(8)])
        });
        let loaded: Vec<i32> = loaded
            .await
            .unwrap()
            .iter()
            .flatten()
            .map(|it| **it)
            .collect();
        assert_eq!(loaded, [5, 8]);
        for name in ["d", "e"] {
            assert!(bucket.contains(name).await.unwrap());
        }
        assert_eq!(bucket.delete_many(["b", "x"]).await.unwrap(), [true, false]);
    }
}

#[tokio::test(start_paused = true)]
async fn clear_ends_a_bucket_and_nothing_else() {
    for (_, cache) in every() {
        let (seven, eight) = (cache.bucket("7"), cache.bucket("8"));
        for handle in [&cache, &seven, &eight, &cache.scoped("other").bucket("7")] {
            handle.put("a", 1).await.unwrap();
            handle.put_many([("b", 2), ("c", 3)]).await.unwrap();
            handle.increment("n", 4).await.unwrap();
        }
        let load = async || Ok::<_, Infallible>(5);
        seven.get_or_load("d", load).await.unwrap();
        seven.clear().await.unwrap();
        for key in ["a", "b", "c", "d"] {
            assert_eq!(get(&seven, key).await, None, "{key}");
        }
        assert_eq!(seven.counter("n").await.unwrap(), None);
        for handle in [&cache, &eight, &cache.scoped("other").bucket("7")] {
            let found = handle.get_many::<i32>(["a", "b", "c"]).await.unwrap();
            assert_eq!(found, [Some(1), Some(2), Some(3)]);
            assert_eq!(handle.counter("n").await.unwrap(), Some(4));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_bucket_fills_again_after_it_was_cleared() {
    for (_, cache) in every() {
        let bucket = cache.bucket("7");
        for round in 0..3 {
            let absent = PutOptions::new().if_absent();
            assert!(
                bucket.put_with("a", round, absent).await.unwrap(),
                "{round}"
            );
            assert_eq!(get(&bucket, "a").await, Some(round));
            bucket.clear().await.unwrap();
            assert!(!bucket.contains("a").await.unwrap());
            assert!(!bucket.touch("a", secs(60)).await.unwrap());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn clear_of_the_namespace_ends_its_buckets() {
    for (_, cache) in every() {
        let bucket = cache.bucket("7");
        bucket.put("a", 1).await.unwrap();
        bucket.increment("n", 1).await.unwrap();
        cache.clear().await.unwrap();
        assert_eq!(get(&bucket, "a").await, None);
        assert_eq!(bucket.counter("n").await.unwrap(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_that_began_before_its_bucket_was_cleared_is_not_kept() {
    for (_, cache) in every() {
        let (bucket, source) = (cache.bucket("7"), Arc::new(Source::closed()));
        let loading = tokio::spawn({
            let (bucket, source) = (bucket.clone(), source.clone());
            async move { bucket.get_or_load("a", || source.load(1)).await }
        });
        source.until_asked(1).await;
        bucket.clear().await.unwrap();
        source.open();
        assert_eq!(*within(loading).await.unwrap().unwrap(), 1);
        assert_eq!(get(&bucket, "a").await, None);
        // One that begins afterwards is.
        let again = bucket.get_or_load("a", || source.load(2)).await.unwrap();
        assert_eq!(*again, 2);
        assert_eq!(get(&bucket, "a").await, Some(2));
    }
}

/// Whoever asks after the clearing does not get what another caller began to load before it.
#[tokio::test(start_paused = true)]
async fn a_load_from_before_the_clearing_is_not_shared_after_it() {
    for (_, cache) in every() {
        let (bucket, source) = (cache.bucket("7"), Arc::new(Source::closed()));
        let load = |value| {
            let (bucket, source) = (bucket.clone(), source.clone());
            tokio::spawn(async move { bucket.get_or_load("a", || source.load(value)).await })
        };
        let before = load(1);
        source.until_asked(1).await;
        bucket.clear().await.unwrap();
        let after = load(2);
        source.until_asked(2).await;
        source.open();
        assert_eq!(*within(before).await.unwrap().unwrap(), 1);
        assert_eq!(*within(after).await.unwrap().unwrap(), 2);
        assert_eq!(get(&bucket, "a").await, Some(2));
    }
}

/// The same for a load whose value is on its way into the store at that moment.
#[tokio::test(start_paused = true)]
async fn a_load_that_is_being_stored_when_its_bucket_is_cleared_does_not_stay() {
    for puppet in [Puppet::server(), Puppet::server().apart()] {
        let cache = puppet.cache();
        let bucket = cache.bucket("7");
        bucket.put("other", 0).await.unwrap();
        let put_at = At::Request("put");
        puppet.hold(put_at);
        let loading = tokio::spawn({
            let bucket = bucket.clone();
            async move {
                bucket
                    .get_or_load("a", async || Ok::<_, Infallible>(1))
                    .await
            }
        });
        puppet.until_held(put_at, 1).await;
        let clearing = tokio::spawn({
            let bucket = bucket.clone();
            async move { bucket.clear().await }
        });
        settle().await;
        puppet.release(put_at);
        within(clearing).await.unwrap().unwrap();
        within(loading).await.unwrap().unwrap();
        assert_eq!(get(&bucket, "a").await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn tags_end_values_of_buckets_too() {
    for (_, cache) in every() {
        let bucket = cache.bucket("7");
        bucket
            .put_with("a", 1, PutOptions::new().tags(["red"]))
            .await
            .unwrap();
        bucket.put("b", 2).await.unwrap();
        cache.invalidate_tag("red").await.unwrap();
        assert_eq!(get(&bucket, "a").await, None);
        assert_eq!(get(&bucket, "b").await, Some(2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_of_a_bucket_has_at_most_63_tags_whatever_the_backend() {
    for (_, cache) in every() {
        let bucket = cache.bucket("7");
        assert!(bucket.put_with("a", 1, tagged(63)).await.unwrap());
        bucket.clear().await.unwrap();
        assert_eq!(get(&bucket, "a").await, None);
        let error = bucket.put_with("a", 1, tagged(64)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidTag);
        let load = async || Ok::<_, Infallible>(1);
        let error = bucket.get_or_load_with("a", tagged(64), load).await;
        assert!(matches!(error, Err(LoadError::InvalidTag)));
        assert!(cache.put_with("a", 1, tagged(64)).await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn what_keeps_buckets_together_needs_no_tag_and_no_further_call() {
    let counts = async |puppet: Puppet| {
        let bucket = puppet.cache().bucket("7");
        bucket.put("a", 1).await.unwrap();
        let put = puppet.total();
        assert_eq!(get(&bucket, "a").await, Some(1));
        let entry = puppet.memory.get(&Key::new("larder", Some("7"), "a")).await;
        (
            put,
            puppet.total() - put,
            entry.unwrap().unwrap().tags().len(),
        )
    };
    assert_eq!(counts(Puppet::server()).await, (1, 1, 0));
    let (put, read, tags) = counts(Puppet::server().apart()).await;
    assert!(put > 1);
    assert_eq!((read, tags), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_clearing_that_fails_is_told_and_made_up_for() {
    for puppet in [Puppet::server(), Puppet::server().apart()] {
        let bucket = puppet.cache().bucket("7");
        let other = puppet.cache().bucket("8");
        bucket.put("a", 1).await.unwrap();
        other.put("a", 2).await.unwrap();
        puppet.die();
        let error = bucket.clear().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(bucket.stats().pending_invalidations > 0);
        puppet.heal();
        advance(secs(2)).await;
        settle().await;
        assert_eq!(bucket.stats().pending_invalidations, 0);
        assert_eq!(get(&bucket, "a").await, None);
        assert_eq!(get(&other, "a").await, Some(2));
    }
}

#[tokio::test]
async fn a_bucket_of_nothing_is_cleared_without_an_error() {
    let bucket = Cache::new(Null).bucket("7");
    assert!(!bucket.put("a", 1).await.unwrap());
    bucket.clear().await.unwrap();
    let bucket = Cache::memory().bucket("");
    bucket.clear().await.unwrap();
    bucket.close().await.unwrap();
    assert_eq!(bucket.clear().await.unwrap_err().kind(), ErrorKind::Closed);
}
