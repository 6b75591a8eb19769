//! Tags of values: what ends with them and what does not, whatever happens to their markers and whoever is on the way.

#![cfg(all(feature = "memory", feature = "json"))]
#![allow(
    clippy::unwrap_used,
    reason = "helpers outside of test functions unwrap too"
)]

mod support_cache;

use std::{convert::Infallible, sync::Arc};

use larder::{
    Backend, Cache, ErrorKind, Key, LoadError, Memory, Null, PutMode, PutOptions, TagStamp, Ttl,
};
use support_cache::{At, Puppet, Source, advance, millis, secs, settle, within};

fn every() -> [(Puppet, Cache); 3] {
    [Puppet::local(), Puppet::remote(), Puppet::server()].map(|puppet| {
        let cache = puppet.cache();
        (puppet, cache)
    })
}

fn tagged(tag: &str) -> PutOptions {
    PutOptions::new().tags([tag])
}

/// The key of a tag's marker in the default namespace.
fn marker(tag: &str) -> Key {
    let stamp = TagStamp::new("larder", tag, [0; 16]).unwrap();
    stamp.marker().clone()
}

async fn put(cache: &Cache, key: &str, tag: &str) {
    assert!(cache.put_with(key, 1, tagged(tag)).await.unwrap());
}

async fn get(cache: &Cache, key: &str) -> Option<i32> {
    cache.get(key).await.unwrap()
}

mod ending {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_invalidation_ends_everything_with_the_tag_and_nothing_else() {
        for (_, cache) in every() {
            put(&cache, "a", "red").await;
            let both = PutOptions::new().tags(["red", "blue"]);
            cache.put_with("b", 2, both).await.unwrap();
            put(&cache, "c", "blue").await;
            cache.put("d", 4).await.unwrap();
            let found = cache.get_many::<i32>(["a", "b", "c", "d"]).await;
            assert_eq!(found.unwrap(), [Some(1), Some(2), Some(1), Some(4)]);
            cache.invalidate_tag("red").await.unwrap();
            let found = cache.get_many::<i32>(["a", "b", "c", "d"]).await;
            assert_eq!(found.unwrap(), [None, None, Some(1), Some(4)]);
            assert_eq!(cache.stats().tag_invalidations, 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn to_every_verb_what_has_ended_is_absent() {
        for (_, cache) in every() {
            put(&cache, "a", "red").await;
            assert!(cache.contains("a").await.unwrap());
            assert!(cache.touch("a", secs(60)).await.unwrap());
            cache.invalidate_tag("red").await.unwrap();
            assert_eq!(get(&cache, "a").await, None);
            assert_eq!(cache.get_shared::<i32>("a").await.unwrap(), None);
            assert_eq!(cache.get_entry::<i32>("a").await.unwrap(), None);
            assert_eq!(cache.counter("a").await.unwrap(), None);
            assert!(!cache.contains("a").await.unwrap());
            assert!(!cache.touch("a", secs(60)).await.unwrap());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn several_tags_are_invalidated_by_one_call() {
        for (_, cache) in every() {
            for (key, tag) in [("a", "red"), ("b", "blue"), ("c", "green")] {
                put(&cache, key, tag).await;
            }
            cache.invalidate_tags(["red", "blue"]).await.unwrap();
            let found = cache.get_many::<i32>(["a", "b", "c"]).await.unwrap();
            assert_eq!(found, [None, None, Some(1)]);
            assert_eq!(cache.stats().tag_invalidations, 2);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_put_after_an_invalidation_lives() {
        for (_, cache) in every() {
            put(&cache, "a", "red").await;
            put(&cache, "b", "red").await;
            cache.invalidate_tag("red").await.unwrap();
            put(&cache, "a", "red").await;
            assert_eq!(get(&cache, "a").await, Some(1));
            assert_eq!(get(&cache, "b").await, None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_tag_belongs_to_its_namespace() {
        for (_, cache) in every() {
            let neighbour = cache.scoped("neighbour");
            put(&cache, "a", "red").await;
            put(&neighbour, "a", "red").await;
            neighbour.invalidate_tag("red").await.unwrap();
            assert_eq!(get(&cache, "a").await, Some(1));
            assert_eq!(get(&neighbour, "a").await, None);
            neighbour.clear().await.unwrap();
            assert_eq!(get(&cache, "a").await, Some(1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_tag_nobody_has_can_be_invalidated() {
        for (_, cache) in every() {
            cache.invalidate_tag("nobody's").await.unwrap();
            cache.expire_tag("nobody's").await.unwrap();
            cache.invalidate_tags([""; 0]).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn to_a_value_a_soft_end_is_an_end() {
        for (_, cache) in every() {
            put(&cache, "a", "red").await;
            put(&cache, "b", "blue").await;
            cache.expire_tag("red").await.unwrap();
            assert_eq!(get(&cache, "a").await, None);
            assert!(!cache.contains("a").await.unwrap());
            assert_eq!(get(&cache, "b").await, Some(1));
            put(&cache, "a", "red").await;
            assert_eq!(get(&cache, "a").await, Some(1));
            cache.expire_tag("red").await.unwrap();
            assert_eq!(cache.get_many::<i32>(["a"]).await.unwrap(), [None]);
            assert_eq!(cache.stats().tag_invalidations, 2);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn put_many_gives_all_the_same_tags() {
        for (_, cache) in every() {
            let values = [("a", 1), ("b", 2)];
            let kept = cache.put_many_with(values, tagged("red")).await;
            assert_eq!(kept.unwrap(), [true, true]);
            assert_eq!(get(&cache, "b").await, Some(2));
            cache.invalidate_tag("red").await.unwrap();
            assert_eq!(cache.get_many::<i32>(["a", "b"]).await.unwrap(), [None; 2]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_a_value_has_ended_a_put_if_absent_finds_none() {
        for (_, cache) in every() {
            put(&cache, "a", "red").await;
            put(&cache, "b", "red").await;
            let once = PutOptions::new().if_absent();
            assert!(!cache.put_with("a", 2, once.clone()).await.unwrap());
            cache.invalidate_tag("red").await.unwrap();
            assert!(cache.put_with("a", 2, once.clone()).await.unwrap());
            let kept = cache.put_many_with([("a", 3), ("b", 3)], once).await;
            assert_eq!(kept.unwrap(), [false, true]);
            assert_eq!(get(&cache, "a").await, Some(2));
            assert_eq!(get(&cache, "b").await, Some(3));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_a_value_has_ended_a_counter_begins() {
        for (_, cache) in every() {
            put(&cache, "a", "red").await;
            let refused = cache.increment("a", 1).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::WrongType);
            cache.invalidate_tag("red").await.unwrap();
            assert_eq!(cache.increment("a", 1).await.unwrap(), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_one_client_invalidates_has_ended_for_the_other() {
        let puppet = Puppet::server();
        let (one, two) = (puppet.cache(), puppet.cache());
        put(&one, "a", "red").await;
        assert_eq!(get(&two, "a").await, Some(1));
        two.invalidate_tag("red").await.unwrap();
        assert_eq!(get(&one, "a").await, None);
    }
}

mod markers {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_marker_that_was_evicted_ends_what_has_the_tag() {
        for (puppet, cache) in every() {
            put(&cache, "a", "red").await;
            assert!(puppet.memory.delete(&marker("red")).await.unwrap());
            assert_eq!(get(&cache, "a").await, None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_marker_that_is_made_anew_revives_nothing() {
        for (puppet, cache) in every() {
            put(&cache, "a", "red").await;
            puppet.memory.delete(&marker("red")).await.unwrap();
            put(&cache, "b", "red").await;
            assert_eq!(get(&cache, "a").await, None);
            assert_eq!(get(&cache, "b").await, Some(1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_marker_is_replaced_by_one() {
        for (puppet, cache) in every() {
            let entry = larder::Entry::counter(7, larder::Timestamp::now());
            let key = marker("red");
            puppet
                .memory
                .put(&key, entry, PutMode::Always)
                .await
                .unwrap();
            put(&cache, "a", "red").await;
            assert_eq!(get(&cache, "a").await, Some(1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_marker_outlives_whatever_is_put_with_it() {
        for (_, cache) in every() {
            let brief = tagged("red").ttl(secs(10));
            cache.put_with("brief", 1, brief).await.unwrap();
            cache
                .put_with("long", 1, tagged("red").ttl(secs(3600)))
                .await
                .unwrap();
            advance(secs(3599)).await;
            assert_eq!(get(&cache, "long").await, Some(1));
            let brief = tagged("red").ttl(secs(10));
            cache.put_with("brief", 1, brief).await.unwrap();
            cache
                .put_with("ever", 1, tagged("red").ttl(Ttl::Never))
                .await
                .unwrap();
            advance(secs(1_000_000)).await;
            assert_eq!(get(&cache, "ever").await, Some(1));
            cache.invalidate_tag("red").await.unwrap();
            assert_eq!(get(&cache, "ever").await, None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_marker_outlives_what_is_touched() {
        for (_, cache) in every() {
            let brief = tagged("red").ttl(secs(10));
            cache.put_with("a", 1, brief).await.unwrap();
            assert!(cache.touch("a", Ttl::Never).await.unwrap());
            advance(secs(1_000_000)).await;
            assert_eq!(get(&cache, "a").await, Some(1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_marker_that_nobody_needs_ends() {
        for (puppet, cache) in every() {
            let brief = tagged("red").ttl(secs(10));
            cache.put_with("a", 1, brief).await.unwrap();
            assert!(puppet.memory.contains(&marker("red")).await.unwrap());
            advance(secs(200)).await;
            assert!(!puppet.memory.contains(&marker("red")).await.unwrap());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_nothing_is_kept_tags_are_no_trouble() {
        let cache = Cache::new(Null);
        assert!(!cache.put_with("a", 1, tagged("red")).await.unwrap());
        cache.invalidate_tag("red").await.unwrap();
        cache.expire_tag("red").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn without_room_for_markers_nothing_is_kept_and_what_was_there_goes() {
        let cache = Cache::new(Memory::builder().max_bytes(0).build());
        assert!(!cache.put_with("a", 1, tagged("red")).await.unwrap());
        let load = || async { Ok::<_, Infallible>(1) };
        let value = cache.get_or_load_with("a", tagged("red"), load).await;
        assert_eq!(*value.unwrap(), 1);
    }
}

mod limits {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_tag_has_1_to_256_bytes() {
        let cache = Cache::memory();
        for tag in [String::new(), "x".repeat(257)] {
            let kind = |error: larder::Error| error.kind();
            let put = cache.put_with("a", 1, tagged(&tag)).await;
            assert_eq!(put.map_err(kind), Err(ErrorKind::InvalidTag));
            let ended = cache.invalidate_tag(&tag).await;
            assert_eq!(ended.map_err(kind), Err(ErrorKind::InvalidTag));
            let load = || async { Ok::<_, Infallible>(1) };
            let loaded = cache.get_or_load_with("a", tagged(&tag), load).await;
            assert!(matches!(loaded, Err(LoadError::InvalidTag)));
        }
        put(&cache, "a", &"x".repeat(256)).await;
        assert_eq!(get(&cache, "a").await, Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_has_at_most_64_tags() {
        for (_, cache) in every() {
            let tags = |count: usize| {
                // The same twice is one.
                let tags = (0..count).map(|number| number.to_string());
                PutOptions::new().tags(tags.chain(["0".to_string()]))
            };
            assert!(cache.put_with("a", 1, tags(64)).await.unwrap());
            let refused = cache.put_with("a", 2, tags(65)).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidTag);
            assert_eq!(get(&cache, "a").await, Some(1));
            cache.invalidate_tag("63").await.unwrap();
            assert_eq!(get(&cache, "a").await, None);
        }
    }

    #[test]
    fn options_do_not_show_the_names_of_tags() {
        let shown = format!("{:?}", tagged("s3cret"));
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(shown.contains("tags: 1"), "{shown}");
    }
}

mod loads {
    use super::*;

    async fn load(cache: &Cache, source: &Source, value: i32) -> Arc<i32> {
        let load = || source.load(value);
        let loaded = cache.get_or_load_with("a", tagged("red"), load).await;
        loaded.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_loaded_with_a_tag_ends_with_it() {
        for (_, cache) in every() {
            let source = Source::closed();
            source.open();
            assert_eq!(*load(&cache, &source, 1).await, 1);
            assert_eq!(*load(&cache, &source, 2).await, 1);
            cache.invalidate_tag("red").await.unwrap();
            assert_eq!(*load(&cache, &source, 3).await, 3);
            cache.expire_tag("red").await.unwrap();
            assert_eq!(*load(&cache, &source, 4).await, 4);
        }
    }

    async fn overtaken(cache: &Cache, invalidate: impl AsyncFnOnce()) -> Option<i32> {
        let source = Arc::new(Source::closed());
        let loading = tokio::spawn({
            let (cache, source) = (cache.clone(), source.clone());
            async move { *load(&cache, &source, 1).await }
        });
        source.until_asked(1).await;
        invalidate().await;
        source.open();
        assert_eq!(within(loading).await.unwrap(), 1);
        get(cache, "a").await
    }

    #[tokio::test(start_paused = true)]
    async fn a_load_that_began_before_an_invalidation_is_not_kept() {
        for (_, cache) in every() {
            let found = overtaken(&cache, async || {
                cache.invalidate_tag("red").await.unwrap();
            });
            assert_eq!(found.await, None);
            assert_eq!(cache.stats().loads_late, 1);
            let found = overtaken(&cache, async || cache.expire_tag("red").await.unwrap());
            assert_eq!(found.await, None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_load_is_kept_when_another_tag_is_invalidated() {
        for (_, cache) in every() {
            let found = overtaken(&cache, async || {
                cache.invalidate_tag("blue").await.unwrap();
            });
            assert_eq!(found.await, Some(1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_load_that_began_before_another_client_invalidated_is_not_served() {
        let puppet = Puppet::server();
        let (one, two) = (puppet.cache(), puppet.cache());
        let found = overtaken(&one, async || {
            two.invalidate_tag("red").await.unwrap();
            // Somebody makes the marker anew before the load ends.
            put(&two, "other", "red").await;
        });
        assert_eq!(found.await, None);
        assert_eq!(get(&two, "a").await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_after_an_invalidation_does_not_join_a_load_from_before() {
        for (_, cache) in every() {
            let source = Arc::new(Source::closed());
            let ask = |value: i32| {
                let (cache, source) = (cache.clone(), source.clone());
                tokio::spawn(async move { *load(&cache, &source, value).await })
            };
            let before = ask(1);
            source.until_asked(1).await;
            cache.invalidate_tag("red").await.unwrap();
            let after = ask(2);
            source.until_asked(2).await;
            source.open();
            assert_eq!(within(before).await.unwrap(), 1);
            assert_eq!(within(after).await.unwrap(), 2);
            assert_eq!(get(&cache, "a").await, Some(2));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_are_loaded_with_the_same_tags() {
        for (_, cache) in every() {
            let load = |missing: Vec<&'static str>| async move {
                Ok::<_, Infallible>(missing.iter().map(|_| Some(1)).collect())
            };
            let options = || tagged("red").ttl(secs(60));
            let loaded = cache.get_or_load_many_with(["a", "b"], options(), load);
            assert_eq!(loaded.await.unwrap().len(), 2);
            assert_eq!(get(&cache, "b").await, Some(1));
            cache.invalidate_tag("red").await.unwrap();
            assert_eq!(cache.get_many::<i32>(["a", "b"]).await.unwrap(), [None; 2]);
            let loaded = cache.get_or_load_many_with(["a", "b"], options(), load);
            assert_eq!(loaded.await.unwrap().len(), 2);
            advance(secs(60)).await;
            assert_eq!(get(&cache, "a").await, None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_that_were_overtaken_are_not_kept() {
        for (_, cache) in every() {
            let load = async |missing: Vec<&'static str>| {
                cache.invalidate_tag("red").await.unwrap();
                Ok::<_, Infallible>(missing.iter().map(|_| Some(1)).collect())
            };
            let loaded = cache.get_or_load_many_with(["a", "b"], tagged("red"), load);
            assert_eq!(loaded.await.unwrap().len(), 2);
            assert_eq!(cache.get_many::<i32>(["a", "b"]).await.unwrap(), [None; 2]);
            assert_eq!(cache.stats().loads_late, 2);
        }
    }
}

mod servers {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_has_no_tags_takes_one_question() {
        let puppet = Puppet::remote();
        let cache = puppet.cache();
        cache.put("a", 1).await.unwrap();
        get(&cache, "a").await;
        cache.get_many::<i32>(["a", "b"]).await.unwrap();
        cache.contains("a").await.unwrap();
        assert_eq!(puppet.total(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn the_markers_of_what_is_read_take_one_more_question_however_many_there_are() {
        let puppet = Puppet::remote();
        let cache = puppet.cache();
        let keys: Vec<_> = (0..10).map(|key| key.to_string()).collect();
        for key in &keys {
            let tags = PutOptions::new().tags([key.as_str(), "all"]);
            cache.put_with(key, 1, tags).await.unwrap();
        }
        let before = puppet.total();
        assert_eq!(cache.get_many::<i32>(&keys).await.unwrap(), [Some(1); 10]);
        assert_eq!(puppet.total() - before, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_invalidation_takes_as_many_questions_however_much_has_the_tag() {
        let mut questions = Vec::new();
        for count in [1, 100] {
            let puppet = Puppet::remote();
            let cache = puppet.cache();
            for key in 0..count {
                put(&cache, &key.to_string(), "red").await;
            }
            let before = puppet.total();
            cache.invalidate_tag("red").await.unwrap();
            questions.push(puppet.total() - before);
            assert_eq!(get(&cache, "0").await, None);
        }
        assert_eq!(questions[0], questions[1]);
    }

    #[tokio::test(start_paused = true)]
    async fn where_markers_cannot_be_read_entries_cannot() {
        let puppet = Puppet::remote();
        let cache = puppet.cache();
        put(&cache, "a", "red").await;
        puppet.fail("get_many", ErrorKind::Unavailable);
        let error = cache.get::<i32>("a").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let load = || async { Ok::<_, Infallible>(2) };
        let loaded = cache.get_or_load_with("a", tagged("red"), load).await;
        assert_eq!(*loaded.unwrap(), 2);
        puppet.heal();
        assert_eq!(get(&cache, "a").await, Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_tagged_does_not_leave_the_old_value_there() {
        for (puppet, cache) in [Puppet::remote(), Puppet::server()].map(|it| (it.clone(), it)) {
            let cache = cache.cache();
            cache.put("a", 1).await.unwrap();
            cache.put("b", 1).await.unwrap();
            puppet.fail("get_many", ErrorKind::Unavailable);
            cache.put_with("a", 2, tagged("red")).await.unwrap_err();
            let values = [("b", 2)];
            cache
                .put_many_with(values, tagged("red"))
                .await
                .unwrap_err();
            puppet.heal();
            advance(secs(2)).await;
            settle().await;
            assert_eq!(get(&cache, "a").await, None);
            assert_eq!(get(&cache, "b").await, None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_invalidation_during_an_outage_is_made_up_for_before_anything_is_read() {
        let puppet = Puppet::server();
        let cache = puppet.cache();
        put(&cache, "a", "red").await;
        put(&cache, "b", "blue").await;
        put(&cache, "c", "green").await;
        puppet.die();
        cache.invalidate_tag("red").await.unwrap_err();
        cache.expire_tag("blue").await.unwrap_err();
        assert!(cache.stats().pending_invalidations >= 2);
        puppet.heal();
        advance(secs(2)).await;
        settle().await;
        assert_eq!(cache.stats().pending_invalidations, 0);
        let found = cache.get_many::<i32>(["a", "b", "c"]).await.unwrap();
        assert_eq!(found, [None, None, Some(1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_overlaps_an_invalidation_sees_one_or_the_other() {
        let puppet = Puppet::remote();
        let cache = puppet.cache();
        put(&cache, "a", "red").await;
        let markers = At::Request("get_many");
        puppet.hold(markers);
        let reading = tokio::spawn({
            let cache = cache.clone();
            async move { get(&cache, "a").await }
        });
        puppet.until_held(markers, 1).await;
        cache.invalidate_tag("red").await.unwrap();
        puppet.release(markers);
        assert_eq!(within(reading).await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_put_that_an_invalidation_overtakes_is_not_served() {
        let puppet = Puppet::remote();
        let cache = puppet.cache();
        put(&cache, "other", "red").await;
        let put_at = At::Request("put");
        puppet.hold(put_at);
        let putting = tokio::spawn({
            let cache = cache.clone();
            async move { put(&cache, "a", "red").await }
        });
        puppet.until_held(put_at, 1).await;
        cache.invalidate_tag("red").await.unwrap();
        puppet.release(put_at);
        within(putting).await.unwrap();
        advance(millis(1)).await;
        assert_eq!(get(&cache, "a").await, None);
    }
}
