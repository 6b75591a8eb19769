//! Counters of the handle: atomic, typed, and apart from values.

#![cfg(all(feature = "memory", feature = "json"))]
#![allow(
    clippy::unwrap_used,
    reason = "helpers outside of test functions unwrap too"
)]

mod support_cache;

use std::convert::Infallible;

use futures_util::future::join_all;
use larder::{Cache, CodecId, ErrorKind, LoadError, Memory, PutOptions, Ttl};
use support_cache::{Puppet, advance, millis, put_raw, secs};

fn both() -> [Cache; 2] {
    [Puppet::local().cache(), Puppet::remote().cache()]
}

#[tokio::test(start_paused = true)]
async fn an_absent_counter_starts_at_zero() {
    for cache in both() {
        assert_eq!(cache.counter("up").await.unwrap(), None);
        assert_eq!(cache.increment("up", 5).await.unwrap(), 5);
        assert_eq!(cache.increment("down", -5).await.unwrap(), -5);
        assert_eq!(cache.increment("zero", 0).await.unwrap(), 0);
        assert_eq!(cache.counter("zero").await.unwrap(), Some(0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_negative_delta_counts_down() {
    for cache in both() {
        cache.increment("key", 5).await.unwrap();
        assert_eq!(cache.increment("key", -7).await.unwrap(), -2);
        assert_eq!(cache.counter("key").await.unwrap(), Some(-2));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_tasks_lose_no_count_and_see_no_sum_twice() {
    for cache in both() {
        let tasks = (0..64).map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move {
                let mut sums = Vec::new();
                for _ in 0..50 {
                    sums.push(cache.increment("key", 1).await.unwrap());
                }
                sums
            })
        });
        let tasks: Vec<_> = tasks.collect();
        let sums = join_all(tasks).await.into_iter().map(Result::unwrap);
        let mut sums: Vec<i64> = sums.flatten().collect();
        sums.sort_unstable();
        assert_eq!(sums, (1..=3_200).collect::<Vec<i64>>());
        assert_eq!(cache.counter("key").await.unwrap(), Some(3_200));
    }
}

#[tokio::test(start_paused = true)]
async fn a_counter_ends_after_the_default_ttl_of_its_first_count() {
    for cache in both() {
        cache.increment("key", 1).await.unwrap();
        advance(secs(200)).await;
        cache.increment("key", 1).await.unwrap();
        advance(secs(100) - millis(1)).await;
        assert_eq!(cache.counter("key").await.unwrap(), Some(2));
        advance(millis(1)).await;
        assert_eq!(cache.counter("key").await.unwrap(), None);
        assert_eq!(cache.increment("key", 1).await.unwrap(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_counter_of_a_cache_without_a_default_never_ends() {
    let cache = Cache::builder(Memory::new()).default_ttl(None).build();
    cache.increment("key", 1).await.unwrap();
    advance(secs(1 << 30)).await;
    assert_eq!(cache.increment("key", 1).await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_touch_gives_a_counter_another_end_and_keeps_its_count() {
    for cache in both() {
        cache.increment("key", 7).await.unwrap();
        assert!(cache.touch("key", Ttl::Never).await.unwrap());
        advance(secs(1 << 20)).await;
        assert_eq!(cache.increment("key", 1).await.unwrap(), 8);
    }
}

#[tokio::test(start_paused = true)]
async fn a_sum_beyond_the_range_is_an_error_and_changes_nothing() {
    for cache in both() {
        cache.increment("top", i64::MAX).await.unwrap();
        cache.increment("bottom", i64::MIN).await.unwrap();
        for (key, delta, value) in [("top", 1, i64::MAX), ("bottom", -1, i64::MIN)] {
            let error = cache.increment(key, delta).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Overflow);
            assert_eq!(cache.counter(key).await.unwrap(), Some(value));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_counter_is_no_value() {
    for cache in both() {
        cache.increment("key", 1).await.unwrap();
        let read = [
            cache.get::<i64>("key").await.unwrap_err(),
            cache.get_shared::<i64>("key").await.unwrap_err(),
            cache.get_entry::<i64>("key").await.unwrap_err(),
            cache.get_many::<i64>(["other", "key"]).await.unwrap_err(),
        ];
        for error in read {
            assert_eq!(error.kind(), ErrorKind::WrongType);
        }
        assert_eq!(cache.counter("key").await.unwrap(), Some(1));
        assert_eq!(cache.stats().damaged, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_counter_is_not_loaded_over() {
    for cache in both() {
        cache.increment("key", 5).await.unwrap();
        let never = || async { panic!("a counter is not to be loaded") };
        let one = cache
            .get_or_load::<i64, Infallible, _, _>("key", never)
            .await;
        assert!(matches!(one, Err(LoadError::WrongType)));
        let never = |_: Vec<&str>| async { panic!("a counter is not to be loaded") };
        let many = cache
            .get_or_load_many::<_, i64, Infallible, _, _>(["key"], never)
            .await;
        assert!(matches!(many, Err(LoadError::WrongType)));
        assert_eq!(cache.counter("key").await.unwrap(), Some(5));
        let stats = cache.stats();
        assert_eq!((stats.errors, stats.flights), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_is_no_counter_not_even_a_number() {
    for cache in both() {
        cache.put("key", 7).await.unwrap();
        let error = cache.counter("key").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongType);
        let error = cache.increment("key", 1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongType);
        assert_eq!(cache.get::<i32>("key").await.unwrap(), Some(7));
    }
}

#[tokio::test(start_paused = true)]
async fn a_put_takes_the_place_of_a_counter_and_the_reverse_needs_a_delete() {
    for cache in both() {
        cache.increment("key", 1).await.unwrap();
        cache.put("key", "value").await.unwrap();
        let found = cache.get::<String>("key").await.unwrap();
        assert_eq!(found.as_deref(), Some("value"));
        assert!(cache.delete("key").await.unwrap());
        assert_eq!(cache.increment("key", 1).await.unwrap(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_counter_is_there_for_contains_delete_and_if_absent() {
    for cache in both() {
        cache.increment("key", 1).await.unwrap();
        assert!(cache.contains("key").await.unwrap());
        let once = PutOptions::new().if_absent();
        assert!(!cache.put_with("key", 1, once).await.unwrap());
        assert!(cache.delete("key").await.unwrap());
        assert_eq!(cache.counter("key").await.unwrap(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_counter_is_a_counted_miss() {
    let puppet = Puppet::local();
    let cache = puppet.cache();
    put_raw(&puppet, "key", CodecId::COUNTER, b"many").await;
    assert_eq!(cache.counter("key").await.unwrap(), None);
    let stats = cache.stats();
    assert_eq!((stats.damaged, stats.misses), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn counters_of_two_namespaces_are_two() {
    let cache = Cache::memory();
    cache.increment("key", 1).await.unwrap();
    assert_eq!(cache.scoped("other").increment("key", 1).await.unwrap(), 1);
}
