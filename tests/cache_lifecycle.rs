//! The handle from its making to its closing: settings, failures, statistics, runtimes.

#![cfg(all(feature = "memory", feature = "json"))]
#![allow(
    clippy::unwrap_used,
    clippy::result_large_err,
    reason = "helpers outside of test functions unwrap too, and `Jail` asks for figment's large error"
)]

mod support_cache;

use std::{convert::Infallible, sync::Arc};

use figment::Jail;
use larder::{Backend, Cache, Error, ErrorKind, Memory, PutOptions, Settings, Stats, Ttl};
use support_cache::{Puppet, Source, Tally, advance, millis, secs, settle, within};
use tokio::runtime::{Builder, Runtime};

mod types {
    use super::*;

    const fn handle<T: Clone + Send + Sync + 'static>() {}
    const fn sendable<T: Send>(_: &T) {}

    #[test]
    fn the_handle_can_be_cloned_and_sent_anywhere() {
        handle::<Cache>();
        handle::<Error>();
        handle::<Stats>();
    }

    #[test]
    fn every_future_can_be_sent() {
        let cache = Cache::memory();
        let one = async || Ok::<_, Infallible>(1);
        let many =
            |keys: Vec<&'static str>| async move { Ok::<_, Infallible>(vec![Some(1); keys.len()]) };
        sendable(&cache.get::<String>("key"));
        sendable(&cache.get_shared::<String>("key"));
        sendable(&cache.get_entry::<String>("key"));
        sendable(&cache.get_many::<String>(["key"]));
        sendable(&cache.put("key", 1));
        sendable(&cache.put_with("key", 1, PutOptions::new()));
        sendable(&cache.put_many([("key", 1)]));
        sendable(&cache.contains("key"));
        sendable(&cache.delete("key"));
        sendable(&cache.delete_many(["key"]));
        sendable(&cache.touch("key", Ttl::Never));
        sendable(&cache.increment("key", 1));
        sendable(&cache.counter("key"));
        sendable(&cache.get_or_load("key", one));
        sendable(&cache.get_or_load_with("key", Ttl::Never, one));
        sendable(&cache.get_or_load_many(["key"], many));
        sendable(&cache.clear());
        sendable(&cache.remove_expired(1));
        sendable(&cache.flush());
        sendable(&cache.close());
        sendable(&cache.ping());
    }
}

mod settings {
    use super::*;

    async fn cache<const N: usize>(pairs: [(&str, &str); N]) -> Cache {
        let settings = Settings::from_pairs(pairs).unwrap();
        Cache::from_settings(&settings).await.unwrap()
    }

    async fn ttl(cache: &Cache, ttl: impl Into<Ttl>) -> Option<std::time::Duration> {
        let options = PutOptions::new().ttl(ttl);
        cache.put_with("key", 1, options).await.unwrap();
        cache.get_entry::<i32>("key").await.unwrap().unwrap().ttl
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_set_is_memory_for_five_minutes() {
        let cache = cache([]).await;
        assert_eq!(cache.namespace(), "larder");
        assert_eq!(ttl(&cache, Ttl::Default).await, Some(secs(300)));
        assert!(cache.capabilities().stores);
    }

    #[tokio::test(start_paused = true)]
    async fn the_namespace_and_the_ttls_are_those_of_the_settings() {
        let cache = cache([
            ("CACHE_KEY_PREFIX", "shop"),
            ("CACHE_DEFAULT_TIMEOUT", "60"),
            ("CACHE_TTL_MIN", "5"),
            ("CACHE_TTL_MAX", "3600"),
        ])
        .await;
        assert_eq!(cache.namespace(), "shop");
        assert_eq!(ttl(&cache, Ttl::Default).await, Some(secs(60)));
        assert_eq!(ttl(&cache, secs(1)).await, Some(secs(5)));
        assert_eq!(ttl(&cache, Ttl::Never).await, Some(secs(3600)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_default_timeout_of_zero_never_ends() {
        let cache = cache([("CACHE_DEFAULT_TIMEOUT", "0")]).await;
        assert_eq!(ttl(&cache, Ttl::Default).await, None);
        advance(secs(1 << 30)).await;
        assert_eq!(cache.get::<i32>("key").await.unwrap(), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_null_backend_keeps_nothing() {
        let cache = cache([("CACHE_TYPE", "null"), ("CACHE_NO_NULL_WARNING", "true")]).await;
        assert!(!cache.put("key", 1).await.unwrap());
        let load = async || Ok::<_, Infallible>(2);
        assert_eq!(*cache.get_or_load("key", load).await.unwrap(), 2);
        assert!(!cache.contains("key").await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_threshold_bounds_the_entries() {
        let cache = cache([("CACHE_THRESHOLD", "100")]).await;
        for number in 0..1_000 {
            cache.put(format!("key {number}"), number).await.unwrap();
        }
        let entries = cache.stats().usage.unwrap().entries;
        assert!((50..=100).contains(&entries), "{entries}");
    }

    #[test]
    fn the_environment_is_read() {
        Jail::expect_with(|jail| {
            jail.clear_env();
            jail.set_env("CACHE_KEY_PREFIX", "from the environment");
            let runtime = Builder::new_current_thread().build().unwrap();
            let cache = runtime.block_on(Cache::from_env()).unwrap();
            assert_eq!(cache.namespace(), "from the environment");
            Ok(())
        });
    }

    #[test]
    fn a_wrong_environment_is_an_error_that_names_the_variable() {
        Jail::expect_with(|jail| {
            jail.clear_env();
            jail.set_env("CACHE_DEFAULT_TIMEOUT", "soon");
            let runtime = Builder::new_current_thread().build().unwrap();
            let error = runtime.block_on(Cache::from_env()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Settings);
            assert!(error.to_string().contains("CACHE_DEFAULT_TIMEOUT"));
            Ok(())
        });
    }
}

mod failures {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failing_backend_is_an_error_of_every_verb() {
        let puppet = Puppet::remote();
        let cache = puppet.cache();
        puppet.die();
        let errors = [
            cache.get::<i32>("key").await.unwrap_err(),
            cache.get_shared::<i32>("key").await.unwrap_err(),
            cache.get_entry::<i32>("key").await.unwrap_err(),
            cache.get_many::<i32>(["key"]).await.unwrap_err(),
            cache.put("key", 1).await.unwrap_err(),
            cache.put_many([("key", 1)]).await.unwrap_err(),
            cache.contains("key").await.unwrap_err(),
            cache.delete("key").await.unwrap_err(),
            cache.delete_many(["key"]).await.unwrap_err(),
            cache.touch("key", Ttl::Never).await.unwrap_err(),
            cache.increment("key", 1).await.unwrap_err(),
            cache.counter("key").await.unwrap_err(),
            cache.clear().await.unwrap_err(),
            cache.remove_expired(1).await.unwrap_err(),
        ];
        for error in &errors {
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert_eq!(error.backend(), Some("puppet"));
        }
        assert_eq!(cache.stats().errors, errors.len() as u64);
        assert_eq!(cache.stats().misses, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn errors_that_are_ignored_are_counted_misses() {
        let puppet = Puppet::remote();
        let cache = Cache::builder(puppet.clone()).ignore_errors(true).build();
        puppet.die();
        assert_eq!(cache.get::<i32>("key").await.unwrap(), None);
        assert_eq!(cache.get_shared::<i32>("key").await.unwrap(), None);
        assert_eq!(cache.get_entry::<i32>("key").await.unwrap(), None);
        let found = cache.get_many::<i32>(["key", "key"]).await.unwrap();
        assert_eq!(found, [None, None]);
        assert!(!cache.put("key", 1).await.unwrap());
        assert_eq!(
            cache.put_many([("a", 1), ("b", 2)]).await.unwrap(),
            [false, false]
        );
        assert!(!cache.contains("key").await.unwrap());
        assert!(!cache.delete("key").await.unwrap());
        assert_eq!(cache.delete_many(["a", "b"]).await.unwrap(), [false, false]);
        assert!(!cache.touch("key", Ttl::Never).await.unwrap());
        assert_eq!(cache.counter("key").await.unwrap(), None);
        let stats = cache.stats();
        assert_eq!((stats.errors, stats.misses, stats.puts), (11, 6, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_sum_and_a_clear_that_did_not_happen_are_errors_even_so() {
        let puppet = Puppet::remote();
        let cache = Cache::builder(puppet.clone()).ignore_errors(true).build();
        puppet.die();
        let error = cache.increment("key", 1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let error = cache.clear().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let error = cache.ping().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }

    #[tokio::test(start_paused = true)]
    async fn ignoring_failures_does_not_hide_wrong_types() {
        let cache = Cache::builder(Memory::new()).ignore_errors(true).build();
        cache.increment("key", 1).await.unwrap();
        let error = cache.get::<i32>("key").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongType);
    }

    #[tokio::test(start_paused = true)]
    async fn a_backend_that_comes_back_is_used_again() {
        let puppet = Puppet::remote();
        let cache = puppet.cache();
        cache.put("key", 1).await.unwrap();
        puppet.die();
        cache.get::<i32>("key").await.unwrap_err();
        puppet.heal();
        assert_eq!(cache.get::<i32>("key").await.unwrap(), Some(1));
        cache.ping().await.unwrap();
    }
}

mod reclaiming {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_has_ended_is_removed_up_to_a_limit_and_counted() {
        let puppet = Puppet::local();
        let cache = puppet.cache();
        for number in 0..5 {
            let short = PutOptions::new().ttl(secs(1));
            cache.put_with(number.to_string(), 1, short).await.unwrap();
        }
        cache.put("long", 2).await.unwrap();
        assert_eq!(cache.remove_expired(10).await.unwrap(), 0);
        advance(secs(2)).await;
        assert_eq!(cache.remove_expired(3).await.unwrap(), 3);
        assert_eq!(cache.remove_expired(3).await.unwrap(), 2);
        assert_eq!(cache.get::<i32>("long").await.unwrap(), Some(2));
    }

    #[cfg(feature = "memcached")]
    #[tokio::test]
    async fn a_server_that_needs_no_help_is_not_asked() {
        let nobody = larder::Memcached::builder("127.0.0.1:1");
        let cache = Cache::new(nobody.connect_lazily().unwrap());
        assert!(!cache.capabilities().remove_expired);
        assert_eq!(cache.remove_expired(10).await.unwrap(), 0);
        cache.clear().await.unwrap_err();
    }
}

mod statistics {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_new_cache_has_done_nothing() {
        let stats = Cache::memory().stats();
        assert_eq!(stats.usage.map(|usage| usage.entries), Some(0));
        let nothing = Stats::default();
        assert_eq!((stats.hits, stats.misses, stats.puts), (0, 0, 0));
        assert_eq!(stats.loads, nothing.loads);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_done_is_counted_once() {
        let puppets = [Puppet::local(), Puppet::remote()];
        for cache in puppets.map(|puppet| puppet.cache()) {
            cache.put("key", 1).await.unwrap();
            cache.get::<i32>("key").await.unwrap();
            cache.get::<i32>("nothing").await.unwrap();
            cache
                .get_many::<i32>(["key", "nothing", "key"])
                .await
                .unwrap();
            cache.put_many([("a", 1), ("b", 2)]).await.unwrap();
            cache.delete("a").await.unwrap();
            cache.delete("a").await.unwrap();
            cache.increment("counter", 1).await.unwrap();
            cache.counter("counter").await.unwrap();
            let stats = cache.stats();
            assert_eq!((stats.hits, stats.misses), (4, 2));
            assert_eq!((stats.puts, stats.deletes), (3, 1));
            assert_eq!((stats.errors, stats.damaged, stats.loads), (0, 0, 0));
            assert_eq!(stats.usage.unwrap().entries, 3);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reading_does_not_move_on() {
        let cache = Cache::memory();
        let before = cache.stats();
        cache.get::<i32>("key").await.unwrap();
        assert_eq!((before.misses, cache.stats().misses), (0, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn flights_under_way_are_told() {
        let (cache, source) = (Cache::memory(), Arc::new(Source::closed()));
        let tasks: Vec<_> = ["a", "b", "b"]
            .map(|key| {
                let (cache, source) = (cache.clone(), source.clone());
                tokio::spawn(async move { cache.get_or_load(key, || source.load(1)).await })
            })
            .into();
        settle().await;
        assert_eq!(cache.stats().flights, 2);
        source.open();
        for task in tasks {
            assert_eq!(*within(task).await.unwrap().unwrap(), 1);
        }
        assert_eq!(cache.stats().flights, 0);
    }

    #[test]
    fn counts_of_all_threads_add_up() {
        let cache = Cache::memory();
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    let runtime = Builder::new_current_thread().build().unwrap();
                    runtime.block_on(async {
                        for _ in 0..100 {
                            cache.get::<i32>("key").await.unwrap();
                        }
                    });
                });
            }
        });
        assert_eq!(cache.stats().misses, 1_600);
    }
}

mod closing {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn flushing_twice_or_with_nothing_to_wait_for_ends_at_once() {
        let cache = Cache::memory();
        let ends_at_once = async {
            cache.flush().await;
            tokio::join!(cache.flush(), cache.flush());
        };
        tokio::time::timeout(millis(1), ends_at_once).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn closing_twice_does_nothing_the_second_time() {
        let cache = Cache::memory();
        let other = cache.scoped("other");
        cache.close().await.unwrap();
        cache.close().await.unwrap();
        other.close().await.unwrap();
        cache.flush().await;
    }

    #[tokio::test(start_paused = true)]
    async fn every_verb_of_a_closed_cache_says_that_it_is_closed() {
        let cache = Cache::memory();
        cache.put("key", 1).await.unwrap();
        cache.scoped("other").close().await.unwrap();
        let errors = [
            cache.get::<i32>("key").await.unwrap_err(),
            cache.get_shared::<i32>("key").await.unwrap_err(),
            cache.get_entry::<i32>("key").await.unwrap_err(),
            cache.get_many::<i32>(["key"]).await.unwrap_err(),
            cache.put("key", 1).await.unwrap_err(),
            cache.put_many([("key", 1)]).await.unwrap_err(),
            cache.contains("key").await.unwrap_err(),
            cache.delete("key").await.unwrap_err(),
            cache.delete_many(["key"]).await.unwrap_err(),
            cache.touch("key", Ttl::Never).await.unwrap_err(),
            cache.increment("key", 1).await.unwrap_err(),
            cache.counter("key").await.unwrap_err(),
            cache.clear().await.unwrap_err(),
            cache.ping().await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Closed);
        }
        assert_eq!(cache.stats().usage.unwrap().entries, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_cache_still_loads() {
        let (cache, loads) = (Cache::memory(), Tally::default());
        cache.close().await.unwrap();
        for _ in 0..2 {
            let load = async || Ok::<_, Infallible>(loads.add());
            cache.get_or_load("key", load).await.unwrap();
            let many = async |keys: Vec<&str>| Ok::<_, Infallible>(vec![Some(1); keys.len()]);
            let found = cache.get_or_load_many(["a"], many).await.unwrap();
            assert_eq!(found[0].as_deref(), Some(&1));
        }
        assert_eq!((loads.get(), cache.stats().flights), (2, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_load_under_way_survives_the_closing() {
        let (cache, source) = (Cache::memory(), Source::closed());
        let load = cache.get_or_load("key", || source.load(1));
        let close = async {
            settle().await;
            cache.close().await.unwrap();
            source.open();
        };
        let (loaded, ()) = within(async { tokio::join!(load, close) }).await;
        assert_eq!(*loaded.unwrap(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_backend_that_does_not_part_in_order_is_told() {
        let puppet = Puppet::remote();
        puppet.fail("close", ErrorKind::Unavailable);
        let error = puppet.cache().close().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }

    #[tokio::test(start_paused = true)]
    async fn dropping_every_handle_ends_the_backend_too() {
        let memory = Memory::new();
        let cache = Cache::new(memory.clone());
        cache.put("key", 1).await.unwrap();
        drop(cache);
        // The backend is this test's as well, and goes on.
        memory.ping().await.unwrap();
    }
}

mod runtimes {
    use super::*;

    fn runtime() -> Runtime {
        Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    }

    #[test]
    fn a_cache_outlives_the_runtime_it_was_made_on() {
        let cache = runtime().block_on(async {
            let cache = Cache::memory();
            cache.put("key", 1).await.unwrap();
            cache
        });
        let found = runtime().block_on(cache.get::<i32>("key")).unwrap();
        assert_eq!(found, Some(1));
        runtime().block_on(cache.close()).unwrap();
    }

    #[test]
    fn a_cache_works_without_tokio() {
        let cache = Cache::memory();
        futures_executor(async {
            cache.put("key", 1).await.unwrap();
            assert_eq!(cache.get::<i32>("key").await.unwrap(), Some(1));
            let load = async || Ok::<_, Infallible>(2);
            assert_eq!(*cache.get_or_load("other", load).await.unwrap(), 2);
        });
    }

    /// Polls a future that never has to wait.
    fn futures_executor<F: Future>(future: F) -> F::Output {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::pin!(future).poll(&mut context) {
            std::task::Poll::Ready(output) => output,
            std::task::Poll::Pending => panic!("memory never waits"),
        }
    }

    #[test]
    fn a_flight_is_shared_across_runtimes() {
        let (one, two) = (runtime(), runtime());
        let (cache, source) = (Cache::memory(), Arc::new(Source::closed()));
        let load = || {
            let (cache, source) = (cache.clone(), source.clone());
            async move { *cache.get_or_load("key", || source.load(1)).await.unwrap() }
        };
        let leader = one.spawn(load());
        one.block_on(source.until_asked(1));
        let follower = two.spawn(load());
        source.open();
        assert_eq!(one.block_on(leader).unwrap(), 1);
        assert_eq!(two.block_on(follower).unwrap(), 1);
        assert_eq!(source.asked(), 1);
    }

    #[test]
    fn a_runtime_that_ends_hands_its_flights_over_to_another() {
        let (one, two) = (runtime(), runtime());
        let (cache, stuck) = (Cache::memory(), Arc::new(Source::closed()));
        one.spawn({
            let (cache, stuck) = (cache.clone(), stuck.clone());
            async move { cache.get_or_load("key", || stuck.load(1)).await }
        });
        one.block_on(stuck.until_asked(1));
        let follower = two.spawn({
            let cache = cache.clone();
            async move {
                let load = async || Ok::<_, Infallible>(2);
                *cache.get_or_load("key", load).await.unwrap()
            }
        });
        drop(one);
        assert_eq!(two.block_on(within(follower)).unwrap(), 2);
        assert_eq!(cache.stats().flights, 0);
    }
}
