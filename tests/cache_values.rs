//! Values of the handle: what is put is what is got, for as long as was said.

#![cfg(all(feature = "memory", feature = "json"))]
#![allow(
    clippy::unwrap_used,
    reason = "helpers outside of test functions unwrap too"
)]

mod support_cache;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use larder::{
    Backend, Cache, CodecId, ErrorKind, Key, Memory, MemoryPolicy, Null, PutOptions, Ttl,
};
use serde::{Deserialize, Serialize};
use support_cache::{Puppet, advance, millis, put_raw, secs};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct User {
    name: String,
    roles: Vec<String>,
    score: Option<f64>,
}

fn ada() -> User {
    User {
        name: "Ada".into(),
        roles: vec!["admin".into()],
        score: None,
    }
}

fn both() -> [Cache; 2] {
    [Puppet::local().cache(), Puppet::remote().cache()]
}

mod absent_and_null {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stored_null_is_not_an_absent_value() {
        for cache in both() {
            cache.put("null", None::<u8>).await.unwrap();
            assert_eq!(cache.get::<Option<u8>>("null").await.unwrap(), Some(None));
            assert_eq!(cache.get::<Option<u8>>("nothing").await.unwrap(), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn false_zero_and_empty_values_are_values() {
        for cache in both() {
            cache.put("false", false).await.unwrap();
            cache.put("zero", 0).await.unwrap();
            cache.put("empty", "").await.unwrap();
            cache.put("unit", ()).await.unwrap();
            cache.put("none", Vec::<u8>::new()).await.unwrap();
            assert_eq!(cache.get::<bool>("false").await.unwrap(), Some(false));
            assert_eq!(cache.get::<i32>("zero").await.unwrap(), Some(0));
            assert_eq!(cache.get("empty").await.unwrap(), Some(String::new()));
            assert_eq!(cache.get::<()>("unit").await.unwrap(), Some(()));
            assert_eq!(cache.get("none").await.unwrap(), Some(Vec::<u8>::new()));
            assert_eq!(cache.stats().misses, 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_falsy_value_is_not_loaded_again() {
        for cache in both() {
            cache.put("null", None::<u8>).await.unwrap();
            let loaded = cache
                .get_or_load("null", || async { Ok::<_, ()>(Some(1_u8)) })
                .await
                .unwrap();
            assert_eq!(*loaded, None);
        }
    }
}

mod round_trips {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_structure_comes_back_as_its_own_type() {
        for cache in both() {
            assert!(cache.put("user", ada()).await.unwrap());
            assert_eq!(cache.get::<User>("user").await.unwrap(), Some(ada()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn names_may_be_any_bytes_and_do_not_meet() {
        let cache = Cache::memory();
        let names: [&[u8]; 8] = [
            b"",
            b":",
            b"a",
            b"a:b",
            b"a/b",
            b"%3A",
            b"\xFF\x00",
            b"larder:a",
        ];
        for (index, name) in names.iter().enumerate() {
            cache.put(name, index).await.unwrap();
        }
        for (index, name) in names.iter().enumerate() {
            assert_eq!(cache.get::<usize>(name).await.unwrap(), Some(index));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_put_replaces_whatever_type_was_there() {
        for cache in both() {
            cache.put("key", ada()).await.unwrap();
            cache.put("key", 7).await.unwrap();
            assert_eq!(cache.get::<i32>("key").await.unwrap(), Some(7));
            assert_eq!(cache.stats().damaged, 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_that_cannot_be_written_is_an_encode_error_and_leaves_the_old_one() {
        for cache in both() {
            let unwritable = BTreeMap::from([((1, 2), 3)]);
            cache.put("key", 1).await.unwrap();
            let error = cache.put("key", unwritable).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Encode);
            assert_eq!(cache.get::<i32>("key").await.unwrap(), Some(1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_of_a_batch_is_kept_when_one_value_cannot_be_written() {
        let cache = Cache::memory();
        let batch = [("a", BTreeMap::new()), ("b", BTreeMap::from([((1, 2), 3)]))];
        let error = cache.put_many(batch).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Encode);
        assert!(!cache.contains("a").await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_too_large_for_the_backend_is_not_kept_and_leaves_no_old_one() {
        let cache = Cache::new(Memory::builder().max_bytes(100_000).build());
        assert!(cache.put("key", "small").await.unwrap());
        assert!(!cache.put("key", "x".repeat(200_000)).await.unwrap());
        assert_eq!(cache.get::<String>("key").await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_null_cache_keeps_nothing_and_fails_nothing() {
        let cache = Cache::new(Null);
        assert!(!cache.put("key", 1).await.unwrap());
        assert_eq!(cache.put_many([("a", 1)]).await.unwrap(), [false]);
        assert_eq!(cache.get::<i32>("key").await.unwrap(), None);
        assert!(!cache.delete("key").await.unwrap());
        assert!(!cache.touch("key", Ttl::Never).await.unwrap());
        cache.clear().await.unwrap();
        let error = cache.increment("key", 1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(!cache.capabilities().counters);
    }

    #[tokio::test(start_paused = true)]
    async fn contains_and_delete_say_whether_there_was_one() {
        for cache in both() {
            assert!(!cache.contains("key").await.unwrap());
            assert!(!cache.delete("key").await.unwrap());
            cache.put("key", 1).await.unwrap();
            assert!(cache.contains("key").await.unwrap());
            assert!(cache.delete("key").await.unwrap());
            assert!(!cache.delete("key").await.unwrap());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_several_deletes_at_once_one_says_that_it_removed() {
        let cache = Cache::memory();
        cache.put("key", 1).await.unwrap();
        let deletes = (0..32).map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.delete("key").await.unwrap() })
        });
        let removed = futures_util::future::join_all(deletes).await;
        let removed = removed.into_iter().filter(|done| *done.as_ref().unwrap());
        assert_eq!(removed.count(), 1);
    }
}

mod many {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn get_many_keeps_order_length_and_duplicates() {
        for cache in both() {
            cache.put_many([("a", 1), ("b", 2)]).await.unwrap();
            let found = cache.get_many::<i32>(["b", "x", "a", "b", "x"]).await;
            assert_eq!(found.unwrap(), [Some(2), None, Some(1), Some(2), None]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn put_many_answers_for_each_and_of_duplicates_the_last_stays() {
        for cache in both() {
            let kept = cache.put_many([("a", 1), ("b", 2), ("a", 3)]).await;
            assert_eq!(kept.unwrap(), [true, true, true]);
            assert_eq!(cache.get::<i32>("a").await.unwrap(), Some(3));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn put_many_says_which_one_was_too_large() {
        let cache = Cache::new(Memory::builder().max_bytes(100_000).build());
        let values = [
            ("a", "x".repeat(10)),
            ("b", "x".repeat(200_000)),
            ("c", "x".into()),
        ];
        assert_eq!(cache.put_many(values).await.unwrap(), [true, false, true]);
        assert_eq!(cache.stats().puts, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn delete_many_answers_for_each_in_order() {
        for cache in both() {
            cache.put_many([("a", 1), ("b", 2)]).await.unwrap();
            let deleted = cache.delete_many(["x", "b", "a", "b"]).await.unwrap();
            assert_eq!(deleted, [false, true, true, false]);
            assert_eq!(cache.stats().deletes, 2);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_keys_are_no_answers() {
        for cache in both() {
            let none: [&str; 0] = [];
            assert_eq!(cache.get_many::<i32>(none).await.unwrap(), []);
            assert!(cache.delete_many(none).await.unwrap().is_empty());
            assert!(cache.put_many::<&str, i32>([]).await.unwrap().is_empty());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn put_many_uses_the_default_ttl() {
        for cache in both() {
            cache.put_many([("a", 1)]).await.unwrap();
            let found = cache.get_entry::<i32>("a").await.unwrap().unwrap();
            assert_eq!(found.ttl, Some(secs(300)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn expired_and_damaged_ones_are_absent_among_many() {
        let puppet = Puppet::remote();
        let cache = puppet.cache();
        let short = PutOptions::new().ttl(secs(1));
        cache.put_with("short", 1, short).await.unwrap();
        cache.put("long", 2).await.unwrap();
        put_raw(&puppet, "damaged", CodecId::JSON, b"{").await;
        advance(secs(1)).await;
        let found = cache.get_many::<i32>(["short", "damaged", "long"]).await;
        assert_eq!(found.unwrap(), [None, None, Some(2)]);
        assert_eq!(cache.stats().damaged, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn one_entry_that_a_server_cannot_read_does_not_cost_the_others() {
        let puppet = Puppet::remote();
        let cache = puppet.cache();
        cache.put_many([("a", 1), ("b", 2)]).await.unwrap();
        // What a backend says when one of several byte strings is no entry at all.
        puppet.fail("get_many", ErrorKind::Decode);
        let found = cache.get_many::<i32>(["b", "x", "a"]).await.unwrap();
        assert_eq!(found, [Some(2), None, Some(1)]);
    }
}

mod ttl {
    use super::*;

    async fn lives_for(cache: &Cache, ttl: impl Into<Ttl>) -> Option<Duration> {
        let options = PutOptions::new().ttl(ttl);
        assert!(cache.put_with("key", 1, options).await.unwrap());
        cache.get_entry::<i32>("key").await.unwrap().unwrap().ttl
    }

    #[tokio::test(start_paused = true)]
    async fn the_default_is_five_minutes() {
        assert_eq!(
            lives_for(&Cache::memory(), Ttl::Default).await,
            Some(secs(300))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_builder_changes_the_default() {
        let cache = Cache::builder(Memory::new()).default_ttl(secs(60)).build();
        assert_eq!(lives_for(&cache, Ttl::Default).await, Some(secs(60)));
        let cache = Cache::builder(Memory::new()).default_ttl(None).build();
        assert_eq!(lives_for(&cache, Ttl::Default).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn never_outlives_everything() {
        for cache in both() {
            assert_eq!(lives_for(&cache, Ttl::Never).await, None);
            advance(Duration::from_secs(10 * 365 * 86_400)).await;
            assert_eq!(cache.get::<i32>("key").await.unwrap(), Some(1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_time_at_all_is_a_millisecond_and_not_for_ever() {
        for cache in both() {
            assert_eq!(lives_for(&cache, Duration::ZERO).await, Some(millis(1)));
            advance(millis(1)).await;
            assert_eq!(cache.get::<i32>("key").await.unwrap(), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_default_of_no_time_at_all_is_a_millisecond_too() {
        let cache = Cache::builder(Memory::new())
            .default_ttl(Duration::ZERO)
            .build();
        assert_eq!(lives_for(&cache, Ttl::Default).await, Some(millis(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn more_time_than_there_is_is_kept_long() {
        for cache in both() {
            assert!(lives_for(&cache, Duration::MAX).await > Some(secs(1 << 32)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_ttl_is_raised_to_the_least_and_cut_to_the_greatest() {
        let cache = Cache::builder(Memory::new())
            .ttl_min(secs(10))
            .ttl_max(secs(3600))
            .build();
        assert_eq!(lives_for(&cache, secs(1)).await, Some(secs(10)));
        assert_eq!(lives_for(&cache, secs(60)).await, Some(secs(60)));
        assert_eq!(lives_for(&cache, secs(7200)).await, Some(secs(3600)));
        assert_eq!(lives_for(&cache, Ttl::Never).await, Some(secs(3600)));
        assert_eq!(lives_for(&cache, Ttl::Default).await, Some(secs(300)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_limits_hold_for_counters_touches_and_loads_too() {
        let cache = Cache::builder(Memory::new())
            .default_ttl(None)
            .ttl_max(secs(60))
            .build();
        cache.increment("counter", 1).await.unwrap();
        cache.put("touched", 1).await.unwrap();
        cache.touch("touched", Ttl::Never).await.unwrap();
        cache
            .get_or_load_with("loaded", Ttl::Never, || async { Ok::<_, ()>(1) })
            .await
            .unwrap();
        advance(secs(60)).await;
        for key in ["counter", "touched", "loaded"] {
            assert!(!cache.contains(key).await.unwrap(), "{key}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_ends_at_its_millisecond_and_not_before() {
        for cache in both() {
            for round in 0..200 {
                let ttl = millis(1_500 + round);
                cache
                    .put_with("key", round, PutOptions::new().ttl(ttl))
                    .await
                    .unwrap();
                advance(ttl - millis(1)).await;
                assert_eq!(cache.get::<u64>("key").await.unwrap(), Some(round));
                advance(millis(1)).await;
                assert_eq!(cache.get::<u64>("key").await.unwrap(), None);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_reading_verb_sees_the_same_end() {
        for cache in both() {
            let second = PutOptions::new().ttl(secs(1));
            cache.put_with("key", 1, second).await.unwrap();
            advance(secs(1)).await;
            assert_eq!(cache.get::<i32>("key").await.unwrap(), None);
            assert_eq!(cache.get_shared::<i32>("key").await.unwrap(), None);
            assert_eq!(cache.get_entry::<i32>("key").await.unwrap(), None);
            assert_eq!(cache.get_many::<i32>(["key"]).await.unwrap(), [None]);
            assert_eq!(cache.counter("key").await.unwrap(), None);
            assert!(!cache.contains("key").await.unwrap());
            assert!(!cache.touch("key", Ttl::Never).await.unwrap());
            assert!(!cache.delete("key").await.unwrap());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_put_begins_a_new_life() {
        for cache in both() {
            let second = PutOptions::new().ttl(secs(1));
            cache.put_with("key", 1, second.clone()).await.unwrap();
            advance(millis(900)).await;
            cache.put_with("key", 2, second).await.unwrap();
            advance(millis(900)).await;
            assert_eq!(cache.get::<i32>("key").await.unwrap(), Some(2));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_touch_moves_the_end_and_keeps_the_age() {
        for cache in both() {
            cache.put("key", 1).await.unwrap();
            advance(secs(100)).await;
            assert!(cache.touch("key", secs(1000)).await.unwrap());
            let found = cache.get_entry::<i32>("key").await.unwrap().unwrap();
            assert_eq!((found.age, found.ttl), (secs(100), Some(secs(1000))));
            assert!(cache.touch("key", Ttl::Never).await.unwrap());
            let found = cache.get_entry::<i32>("key").await.unwrap().unwrap();
            assert_eq!(found.ttl, None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_touch_of_nothing_makes_nothing() {
        for cache in both() {
            assert!(!cache.touch("key", secs(5)).await.unwrap());
            assert!(!cache.contains("key").await.unwrap());
        }
    }
}

mod entries {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_entry_tells_its_age_its_time_left_and_its_version() {
        for cache in both() {
            let minute = PutOptions::new().ttl(secs(60));
            cache.put_with("key", "value", minute).await.unwrap();
            advance(millis(1_250)).await;
            let found = cache.get_entry::<String>("key").await.unwrap().unwrap();
            assert_eq!(found.value, "value");
            assert_eq!(found.age, millis(1_250));
            assert_eq!(found.ttl, Some(millis(58_750)));
            let again = cache.get_entry::<String>("key").await.unwrap().unwrap();
            assert_eq!(found.version, again.version);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_put_makes_a_new_version_even_of_the_same_value() {
        for cache in both() {
            cache.put("key", 1).await.unwrap();
            let one = cache.get_entry::<i32>("key").await.unwrap().unwrap();
            cache.put("key", 1).await.unwrap();
            let two = cache.get_entry::<i32>("key").await.unwrap().unwrap();
            assert_ne!(one.version, two.version);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_version_is_not_used_again_after_a_delete() {
        for cache in both() {
            cache.put("key", 1).await.unwrap();
            let old = cache.get_entry::<i32>("key").await.unwrap().unwrap();
            cache.delete("key").await.unwrap();
            cache.put("key", 2).await.unwrap();
            let unchanged = PutOptions::new().if_version(old.version);
            assert!(!cache.put_with("key", 3, unchanged).await.unwrap());
            assert_eq!(cache.get::<i32>("key").await.unwrap(), Some(2));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn if_absent_keeps_the_first_until_it_ends() {
        for cache in both() {
            let once = PutOptions::new().ttl(secs(1)).if_absent();
            assert!(cache.put_with("key", 1, once.clone()).await.unwrap());
            assert!(!cache.put_with("key", 2, once.clone()).await.unwrap());
            assert_eq!(cache.get::<i32>("key").await.unwrap(), Some(1));
            advance(secs(1)).await;
            assert!(cache.put_with("key", 3, once).await.unwrap());
            assert_eq!(cache.stats().puts, 2);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn of_many_who_put_if_absent_one_wins() {
        let cache = Cache::memory();
        let puts = (0..64).map(|number| {
            let cache = cache.clone();
            tokio::spawn(async move {
                let once = PutOptions::new().if_absent();
                cache.put_with("key", number, once).await.unwrap()
            })
        });
        let kept = futures_util::future::join_all(puts).await;
        let winners: Vec<_> = (0..64).filter(|n| *kept[*n].as_ref().unwrap()).collect();
        assert_eq!(winners.len(), 1);
        assert_eq!(cache.get::<usize>("key").await.unwrap(), Some(winners[0]));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn compare_and_set_loses_no_update() {
        let cache = Cache::memory();
        cache.put("sum", 0).await.unwrap();
        let adders = (0..16).map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move {
                for _ in 0..20 {
                    loop {
                        let now = cache.get_entry::<i32>("sum").await.unwrap().unwrap();
                        let unchanged = PutOptions::new().if_version(now.version);
                        if cache
                            .put_with("sum", now.value + 1, unchanged)
                            .await
                            .unwrap()
                        {
                            break;
                        }
                    }
                }
            })
        });
        for adder in futures_util::future::join_all(adders).await {
            adder.unwrap();
        }
        assert_eq!(cache.get::<i32>("sum").await.unwrap(), Some(320));
    }

    #[tokio::test(start_paused = true)]
    async fn if_version_does_not_bring_an_expired_value_back() {
        for cache in both() {
            let second = PutOptions::new().ttl(secs(1));
            cache.put_with("key", 1, second).await.unwrap();
            let found = cache.get_entry::<i32>("key").await.unwrap().unwrap();
            advance(secs(1)).await;
            let unchanged = PutOptions::new().if_version(found.version);
            assert!(!cache.put_with("key", 2, unchanged).await.unwrap());
            assert!(!cache.contains("key").await.unwrap());
        }
    }
}

mod shared_values {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn everybody_gets_the_value_that_was_put() {
        let cache = Cache::memory();
        cache.put("user", ada()).await.unwrap();
        let one = cache.get_shared::<User>("user").await.unwrap().unwrap();
        let two = cache.get_shared::<User>("user").await.unwrap().unwrap();
        assert!(Arc::ptr_eq(&one, &two));
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_as_bytes_is_decoded_once() {
        let memory = Memory::new();
        let cache = Cache::new(memory.clone());
        put_raw(&memory, "list", CodecId::JSON, b"[1,2]").await;
        let one = cache.get_shared::<Vec<u8>>("list").await.unwrap().unwrap();
        let two = cache.get_shared::<Vec<u8>>("list").await.unwrap().unwrap();
        assert!(Arc::ptr_eq(&one, &two));
    }

    #[tokio::test(start_paused = true)]
    async fn another_type_is_decoded_without_taking_the_first_ones_place() {
        let cache = Cache::memory();
        cache.put("list", vec![1_i64, 2]).await.unwrap();
        let one = cache.get_shared::<Vec<i64>>("list").await.unwrap().unwrap();
        let other = cache.get_shared::<Vec<u8>>("list").await.unwrap().unwrap();
        assert_eq!(*other, [1, 2]);
        let two = cache.get_shared::<Vec<i64>>("list").await.unwrap().unwrap();
        assert!(Arc::ptr_eq(&one, &two));
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_that_was_got_outlives_its_entry() {
        let cache = Cache::memory();
        cache.put("user", ada()).await.unwrap();
        let kept = cache.get_shared::<User>("user").await.unwrap().unwrap();
        cache.delete("user").await.unwrap();
        assert_eq!(*kept, ada());
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_put_is_a_new_value() {
        let cache = Cache::memory();
        cache.put("key", String::from("old")).await.unwrap();
        cache.get_shared::<String>("key").await.unwrap();
        cache.put("key", String::from("new")).await.unwrap();
        let found = cache.get_shared::<String>("key").await.unwrap();
        assert_eq!(found.as_deref().map(String::as_str), Some("new"));
    }
}

mod damage {
    use super::*;

    const DAMAGED: [(CodecId, &[u8]); 6] = [
        (CodecId::JSON, b""),
        (CodecId::JSON, b"{\"name\":"),
        (CodecId::JSON, b"\"a text\""),
        (CodecId::JSON, b"\xFF\xFE"),
        (CodecId::RESPONSE, b"7"),
        (CodecId::VARIANTS, b"7"),
    ];

    #[tokio::test(start_paused = true)]
    async fn bytes_of_another_kind_are_a_counted_miss_for_every_reader() {
        for puppet in [Puppet::local(), Puppet::remote()] {
            for (codec, bytes) in DAMAGED {
                let cache = puppet.cache();
                put_raw(&puppet, "key", codec, bytes).await;
                assert_eq!(cache.get::<i32>("key").await.unwrap(), None);
                assert_eq!(cache.get_shared::<i32>("key").await.unwrap(), None);
                assert_eq!(cache.get_entry::<i32>("key").await.unwrap(), None);
                assert_eq!(cache.get_many::<i32>(["key"]).await.unwrap(), [None]);
                let stats = cache.stats();
                assert_eq!((stats.damaged, stats.misses, stats.hits), (4, 4, 0));
                assert_eq!(stats.errors, 0);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_of_another_type_is_a_counted_miss() {
        for cache in both() {
            cache.put("user", ada()).await.unwrap();
            assert_eq!(cache.get::<Vec<i32>>("user").await.unwrap(), None);
            assert_eq!(cache.stats().damaged, 1);
            assert_eq!(cache.get::<User>("user").await.unwrap(), Some(ada()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_load_takes_the_place_of_a_damaged_entry_which_counts_once() {
        for puppet in [Puppet::local(), Puppet::remote()] {
            for (codec, bytes) in DAMAGED {
                let cache = puppet.cache();
                put_raw(&puppet, "key", codec, bytes).await;
                let load = || async { Ok::<_, ()>(7) };
                assert_eq!(*cache.get_or_load("key", load).await.unwrap(), 7);
                assert_eq!(cache.get::<i32>("key").await.unwrap(), Some(7));
                let stats = cache.stats();
                assert_eq!((stats.damaged, stats.misses, stats.loads), (1, 1, 1));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_that_the_backend_cannot_read_is_a_counted_miss_and_no_failure() {
        let puppet = Puppet::remote();
        let cache = puppet.cache();
        puppet.fail("get", ErrorKind::Decode);
        assert_eq!(cache.get::<i32>("key").await.unwrap(), None);
        assert_eq!(cache.counter("key").await.unwrap(), None);
        let stats = cache.stats();
        assert_eq!((stats.damaged, stats.errors, stats.misses), (2, 0, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn no_message_about_damage_or_types_shows_what_is_stored() {
        let puppet = Puppet::local();
        let cache = puppet.cache();
        cache.put("key", "s3cret").await.unwrap();
        let error = cache.increment("key", 1).await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cret"));
        let shown = format!("{cache:?} {:?}", cache.get_entry::<i32>("key").await);
        assert!(!shown.contains("s3cret"));
    }
}

mod namespaces {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_same_name_in_two_namespaces_is_two_keys() {
        for cache in both() {
            let one = cache.scoped("one");
            let two = cache.scoped("two");
            one.put("key", 1).await.unwrap();
            two.put("key", 2).await.unwrap();
            assert_eq!(one.get::<i32>("key").await.unwrap(), Some(1));
            assert_eq!(two.get::<i32>("key").await.unwrap(), Some(2));
            assert_eq!(cache.get::<i32>("key").await.unwrap(), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn namespaces_and_names_do_not_run_into_each_other() {
        let cache = Cache::memory();
        cache.scoped("a").put("b:c", 1).await.unwrap();
        assert!(!cache.scoped("a:b").contains("c").await.unwrap());
        assert!(!cache.scoped("a/b").contains("c").await.unwrap());
        assert!(!cache.scoped("a:").contains("b:c").await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn handles_of_one_namespace_are_one_cache() {
        let cache = Cache::memory();
        cache.scoped("one").put("key", 1).await.unwrap();
        let again = cache.scoped("other").scoped("one");
        assert_eq!(again.get::<i32>("key").await.unwrap(), Some(1));
        assert_eq!(cache.stats(), again.stats());
    }

    #[tokio::test(start_paused = true)]
    async fn clear_ends_its_own_namespace_and_no_other() {
        for cache in both() {
            let names = ["", "shop", "shop:a", "shop/a", "sho", "shop%", "SHOP"];
            for name in names {
                let scoped = cache.scoped(name);
                scoped.put("value", 1).await.unwrap();
                scoped.increment("counter", 1).await.unwrap();
            }
            cache.scoped("shop").clear().await.unwrap();
            for name in names {
                let scoped = cache.scoped(name);
                let there = name != "shop";
                assert_eq!(scoped.contains("value").await.unwrap(), there, "{name}");
                assert_eq!(scoped.contains("counter").await.unwrap(), there, "{name}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_put_after_a_clear_stays() {
        for cache in both() {
            cache.put("old", 1).await.unwrap();
            cache.clear().await.unwrap();
            cache.put("new", 2).await.unwrap();
            cache.scoped("other").clear().await.unwrap();
            assert_eq!(cache.get::<i32>("old").await.unwrap(), None);
            assert_eq!(cache.get::<i32>("new").await.unwrap(), Some(2));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_backend_sees_the_namespace_in_the_key() {
        let memory = Memory::new();
        let cache = Cache::builder(memory.clone()).namespace("shop").build();
        cache.put("key", 1).await.unwrap();
        let key = Key::new("shop", None, "key");
        assert!(memory.contains(&key).await.unwrap());
        assert_eq!(cache.namespace(), "shop");
    }
}

mod bounds {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn memory_stays_within_its_bytes_under_every_policy() {
        for policy in [
            MemoryPolicy::S3Fifo,
            MemoryPolicy::TinyLfu,
            MemoryPolicy::Lru,
        ] {
            let memory = Memory::builder().max_bytes(200_000).policy(policy).build();
            let cache = Cache::new(memory);
            for number in 0..2_000 {
                cache
                    .put(format!("key {number}"), "x".repeat(500))
                    .await
                    .unwrap();
            }
            let usage = cache.stats().usage.unwrap();
            assert!(usage.bytes <= 200_000, "{policy:?}: {usage:?}");
            assert!(usage.entries > 50, "{policy:?}: {usage:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_expired_unread_is_freed() {
        let cache = Cache::memory();
        let second = PutOptions::new().ttl(secs(1));
        for number in 0..100 {
            cache
                .put_with(format!("key {number}"), number, second.clone())
                .await
                .unwrap();
        }
        assert_eq!(cache.stats().usage.unwrap().entries, 100);
        tokio::time::sleep(secs(30)).await;
        assert_eq!(cache.stats().usage.unwrap().entries, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_cleared_is_freed() {
        let cache = Cache::memory();
        let never = PutOptions::new().ttl(Ttl::Never);
        for number in 0..100 {
            cache
                .put_with(format!("key {number}"), number, never.clone())
                .await
                .unwrap();
        }
        cache.clear().await.unwrap();
        tokio::time::sleep(secs(30)).await;
        assert_eq!(cache.stats().usage.unwrap().entries, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn two_caches_in_one_process_are_apart() {
        let (one, two) = (Cache::memory(), Cache::memory());
        one.put("key", 1).await.unwrap();
        assert_eq!(two.get::<i32>("key").await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_map_comes_back_whole() {
        let cache = Cache::memory();
        let map: HashMap<String, u32> = (0..500).map(|n| (n.to_string(), n)).collect();
        cache.put("map", map.clone()).await.unwrap();
        assert_eq!(cache.get("map").await.unwrap(), Some(map));
    }
}
