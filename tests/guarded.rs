//! What a cache does when its server is slow, away, and back.

#![cfg(all(feature = "memory", feature = "json"))]
#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

#[path = "support_cache/mod.rs"]
mod support;

use std::{
    convert::Infallible,
    fmt::Debug,
    io::{self, Write},
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use larder::{Backend, BreakerState, Cache, CodecId, ErrorKind, PutOptions, Result};
use support::{At, Puppet, advance, millis, put_raw, secs, settle, within};
use tokio::{runtime::Handle, time::Instant};

use ErrorKind::{Timeout, Unavailable};

/// The kind and text of the error that this must be.
fn error<T: Debug>(result: Result<T>) -> (ErrorKind, String) {
    let error = result.unwrap_err();
    (error.kind(), error.to_string())
}

async fn get(cache: &Cache, key: &str) -> Result<Option<String>> {
    cache.get(key).await
}

type Invalidate = fn(Cache) -> Pin<Box<dyn Future<Output = Result<()>> + Send>>;

fn is_open(cache: &Cache) -> bool {
    cache.stats().breaker == BreakerState::Open
}

/// A server that has failed five times.
async fn away() -> (Puppet, Cache) {
    let puppet = Puppet::server();
    let cache = puppet.cache();
    for key in ["a", "b"] {
        cache.put(key, "old").await.unwrap();
    }
    puppet.die();
    for _ in 0..5 {
        assert_eq!(error(get(&cache, "a").await).0, Unavailable);
    }
    assert!(is_open(&cache));
    (puppet, cache)
}

fn alive_tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

mod time_outs {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_takes_no_longer_than_its_time_out() {
        let puppet = Puppet::server();
        let cache = puppet.cache();
        puppet.hold(At::Request("get"));
        let start = Instant::now();
        let (kind, text) = error(get(&cache, "a").await);
        assert_eq!(kind, Timeout);
        assert_eq!(text, "puppet get: no answer within 250 ms");
        assert_eq!(start.elapsed(), millis(250));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_out_can_be_set() {
        let puppet = Puppet::server();
        let cache = Cache::builder(puppet.clone())
            .backend_timeout(secs(2))
            .build();
        puppet.hold(At::Answer("get"));
        let start = Instant::now();
        assert_eq!(error(cache.contains("a").await).0, Timeout);
        assert_eq!(start.elapsed(), secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn many_keys_have_one_time_out_for_each_thousand_begun() {
        let puppet = Puppet::server();
        let cache = puppet.cache();
        puppet.hold(At::Request("get_many"));
        for (keys, limit) in [(0, 250), (1_000, 250), (1_001, 500), (2_500, 750)] {
            let start = Instant::now();
            let keys = (0..keys).map(|key: usize| key.to_string());
            assert_eq!(error(cache.get_many::<String>(keys).await).0, Timeout);
            assert_eq!(start.elapsed(), millis(limit));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_server_is_a_miss_for_a_load_within_one_time_out() {
        let puppet = Puppet::server();
        let cache = puppet.cache();
        puppet.hold(At::Request("get"));
        let start = Instant::now();
        let load = || async { Ok::<_, Infallible>(String::from("loaded")) };
        let value = cache.get_or_load("a", load).await.unwrap();
        assert_eq!(*value, "loaded");
        assert_eq!(start.elapsed(), millis(250));
    }

    #[tokio::test(start_paused = true)]
    async fn a_backend_in_this_process_is_not_bounded() {
        let puppet = Puppet::remote();
        let cache = puppet.cache();
        puppet.hold(At::Request("get"));
        let asking = tokio::spawn({
            let cache = cache.clone();
            async move { get(&cache, "a").await }
        });
        puppet.until_held(At::Request("get"), 1).await;
        advance(secs(60)).await;
        puppet.release(At::Request("get"));
        assert_eq!(within(asking).await.unwrap().unwrap(), None);
        puppet.die();
        for _ in 0..10 {
            assert_eq!(error(get(&cache, "a").await).0, Unavailable);
        }
        assert_eq!(puppet.calls("get"), 11);
        assert!(!is_open(&cache));
    }
}

mod opening {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn five_failures_in_a_row_open_the_breaker() {
        let puppet = Puppet::server();
        let cache = puppet.cache();
        puppet.die();
        for _ in 0..5 {
            assert!(!is_open(&cache));
            let (kind, text) = error(get(&cache, "a").await);
            assert_eq!(kind, Unavailable);
            assert_eq!(text, "puppet get: told to fail");
        }
        assert!(is_open(&cache));
        assert_eq!(cache.stats().outages, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn time_outs_count_as_failures() {
        let puppet = Puppet::server();
        let cache = Cache::builder(puppet.clone()).breaker_failures(2).build();
        puppet.hold(At::Request("get"));
        for _ in 0..2 {
            assert_eq!(error(get(&cache, "a").await).0, Timeout);
        }
        assert!(is_open(&cache));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_between_failures_begins_the_count_anew() {
        let puppet = Puppet::server();
        let cache = puppet.cache();
        for _ in 0..3 {
            puppet.die();
            for _ in 0..4 {
                assert!(get(&cache, "a").await.is_err());
            }
            puppet.heal();
            get(&cache, "a").await.unwrap();
        }
        assert!(!is_open(&cache));
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_that_is_an_answer_is_no_failure() {
        let puppet = Puppet::server();
        let cache = puppet.cache();
        puppet.fail("get", ErrorKind::WrongType);
        for _ in 0..10 {
            assert_eq!(error(get(&cache, "a").await).0, ErrorKind::WrongType);
        }
        assert!(!is_open(&cache));
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_breaker_asks_the_server_nothing() {
        let (puppet, cache) = away().await;
        let before = puppet.total();
        let start = Instant::now();
        let (kind, text) = error(get(&cache, "a").await);
        assert_eq!(kind, Unavailable);
        assert_eq!(
            text,
            "puppet get: the backend is out of reach (circuit breaker open); the last error was: \
             puppet get: told to fail"
        );
        for kind in [
            error(cache.get_many::<String>(["a"]).await).0,
            error(cache.contains("a").await).0,
            error(cache.put("a", 1).await).0,
            error(cache.put_many([("a", 1)]).await).0,
            error(cache.delete("a").await).0,
            error(cache.delete_many(["a"]).await).0,
            error(cache.touch("a", secs(1)).await).0,
            error(cache.increment("n", 1).await).0,
            error(cache.clear().await).0,
        ] {
            assert_eq!(kind, Unavailable);
        }
        assert_eq!(puppet.total(), before);
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_verb_says_which_one_it_is() {
        let (_puppet, cache) = away().await;
        let (_, text) = error(cache.touch("a", secs(1)).await);
        assert!(text.starts_with("puppet touch: the backend is"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn loads_go_on_without_the_server() {
        let (puppet, cache) = away().await;
        let before = puppet.total();
        let load = || async { Ok::<_, Infallible>(1) };
        assert_eq!(*cache.get_or_load("new", load).await.unwrap(), 1);
        assert_eq!(puppet.total(), before);
    }
}

mod recovering {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_breaker_closes_after_the_delay_when_the_server_is_back() {
        let (puppet, cache) = away().await;
        puppet.heal();
        settle().await;
        advance(millis(990)).await;
        settle().await;
        assert!(is_open(&cache));
        assert_eq!(puppet.calls("ping"), 0);
        advance(millis(10)).await;
        settle().await;
        assert!(!is_open(&cache));
        assert_eq!(get(&cache, "a").await.unwrap().as_deref(), Some("old"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_server_is_probed_once_in_a_delay_and_not_by_requests() {
        let (puppet, cache) = away().await;
        for second in 1..=10 {
            tokio::time::sleep(secs(1)).await;
            settle().await;
            for _ in 0..100 {
                assert!(get(&cache, "a").await.is_err());
            }
            assert_eq!(puppet.calls("ping"), second);
        }
        assert_eq!(puppet.calls("get"), 5);
        assert_eq!(cache.stats().outages, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_hangs_is_given_up() {
        let (puppet, cache) = away().await;
        puppet.heal();
        puppet.hold(At::Request("ping"));
        tokio::time::sleep(millis(1_300)).await;
        assert!(is_open(&cache));
        let (_, text) = error(get(&cache, "a").await);
        assert!(text.ends_with("ping: no answer within 250 ms"), "{text}");
        puppet.release(At::Request("ping"));
        tokio::time::sleep(secs(1)).await;
        assert!(!is_open(&cache));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_fails_again_is_cut_off_again() {
        let (puppet, cache) = away().await;
        puppet.heal();
        tokio::time::sleep(millis(1_001)).await;
        assert!(!is_open(&cache));
        puppet.die();
        for _ in 0..5 {
            assert!(!is_open(&cache));
            assert!(get(&cache, "a").await.is_err());
        }
        assert!(is_open(&cache));
        assert_eq!(cache.stats().outages, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_delay_can_be_set() {
        let puppet = Puppet::server();
        let cache = Cache::builder(puppet.clone())
            .breaker_failures(1)
            .breaker_delay(millis(50))
            .build();
        puppet.die();
        assert!(get(&cache, "a").await.is_err());
        puppet.heal();
        tokio::time::sleep(millis(51)).await;
        assert!(!is_open(&cache));
    }

    #[tokio::test(start_paused = true)]
    async fn a_ping_reaches_the_server_while_the_breaker_is_open_and_says_for_how_long() {
        let (puppet, cache) = away().await;
        advance(millis(500)).await;
        let error = cache.ping().await.unwrap_err();
        assert_eq!(
            format!("{error:?}"),
            "Unavailable: puppet ping: no sign of life; the circuit breaker has been open for 0.5 s: \
             puppet ping: told to fail"
        );
        assert_eq!(puppet.calls("ping"), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_ping_that_is_answered_ends_the_outage() {
        let (puppet, cache) = away().await;
        puppet.heal();
        cache.ping().await.unwrap();
        settle().await;
        assert!(!is_open(&cache));
    }

    #[tokio::test(start_paused = true)]
    async fn a_breaker_that_just_closed_waits_before_it_tries_again() {
        let puppet = Puppet::server();
        let cache = puppet.cache();
        puppet.fail("put", ErrorKind::Backend);
        assert!(cache.put("a", 1).await.is_err());
        settle().await;
        assert!(!is_open(&cache));
        assert!(cache.put("a", 1).await.is_err());
        settle().await;
        assert!(is_open(&cache));
        tokio::time::sleep(secs(1)).await;
        assert!(!is_open(&cache));
    }

    #[test]
    fn a_breaker_whose_runtime_ended_recovers_in_another() {
        let runtime = || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_time().start_paused(true).build().unwrap()
        };
        let (puppet, cache) = runtime().block_on(away());
        puppet.heal();
        runtime().block_on(async {
            assert!(get(&cache, "a").await.is_err());
            tokio::time::sleep(millis(1_001)).await;
            assert!(get(&cache, "a").await.is_ok());
        });
    }
}

mod invalidations {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nothing_is_read_between_a_failed_delete_and_its_replay() {
        let puppet = Puppet::server();
        let cache = puppet.cache();
        cache.put("a", "old").await.unwrap();
        puppet.fail("delete", ErrorKind::Backend);
        puppet.hold(At::Request("delete_many"));
        assert_eq!(error(cache.delete("a").await).0, ErrorKind::Backend);
        assert!(is_open(&cache));
        assert_eq!(cache.stats().pending_invalidations, 1);
        // The server answers pings, so the replay has begun.
        puppet.until_held(At::Request("delete_many"), 1).await;
        assert_eq!(error(get(&cache, "a").await).0, Unavailable);
        assert_eq!(puppet.calls("get"), 0);
        puppet.release(At::Request("delete_many"));
        settle().await;
        assert_eq!(get(&cache, "a").await.unwrap(), None);
        assert_eq!(cache.stats().pending_invalidations, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_delete_that_ran_out_of_time_is_replayed() {
        let puppet = Puppet::server();
        let cache = puppet.cache();
        cache.put("a", "old").await.unwrap();
        puppet.hold(At::Request("delete"));
        assert_eq!(error(cache.delete("a").await).0, Timeout);
        assert!(is_open(&cache));
        settle().await;
        assert_eq!(get(&cache, "a").await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn deletes_of_an_outage_are_replayed_before_the_first_read() {
        let (puppet, cache) = away().await;
        assert!(cache.delete("a").await.is_err());
        assert!(cache.delete_many(["a", "b"]).await.is_err());
        assert_eq!(cache.stats().pending_invalidations, 2);
        puppet.heal();
        puppet.hold(At::Answer("delete_many"));
        tokio::time::sleep(millis(1_100)).await;
        assert_eq!(error(get(&cache, "a").await).0, Unavailable);
        puppet.release(At::Answer("delete_many"));
        settle().await;
        assert_eq!(
            cache.get_many::<String>(["a", "b"]).await.unwrap(),
            [None, None]
        );
        assert_eq!(puppet.calls("delete_many"), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_deleted_while_others_are_replayed_is_replayed_too() {
        let (puppet, cache) = away().await;
        assert!(cache.delete("a").await.is_err());
        puppet.heal();
        puppet.hold(At::Answer("delete_many"));
        tokio::time::sleep(millis(1_100)).await;
        put_raw(&puppet.memory, "a", CodecId::JSON, b"\"from elsewhere\"").await;
        assert!(cache.delete("a").await.is_err());
        puppet.release(At::Answer("delete_many"));
        settle().await;
        assert_eq!(puppet.calls("delete_many"), 2);
        assert_eq!(get(&cache, "a").await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_replay_that_fails_is_tried_again_until_it_succeeds() {
        let (puppet, cache) = away().await;
        assert!(cache.delete("a").await.is_err());
        puppet.heal();
        puppet.fail("delete_many", ErrorKind::Backend);
        tokio::time::sleep(millis(3_100)).await;
        assert_eq!(puppet.calls("delete_many"), 3);
        assert!(is_open(&cache));
        assert_eq!(cache.stats().pending_invalidations, 1);
        puppet.heal();
        tokio::time::sleep(secs(1)).await;
        assert_eq!(get(&cache, "a").await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_the_server_refuses_does_not_keep_the_others() {
        let (puppet, cache) = away().await;
        assert!(cache.delete_many(["a", "b"]).await.is_err());
        puppet.heal();
        puppet.fail("delete_many", ErrorKind::WrongType);
        tokio::time::sleep(millis(1_100)).await;
        assert!(!is_open(&cache));
        assert_eq!(
            cache.get_many::<String>(["a", "b"]).await.unwrap(),
            [None, None]
        );
    }

    /// A full disk: what was to be removed is still there, and must not be read.
    #[tokio::test(start_paused = true)]
    async fn what_the_server_had_no_room_to_invalidate_is_invalidated_when_it_has() {
        let invalidations: [(&str, Invalidate); 3] = [
            ("delete", |cache| {
                Box::pin(async move { cache.delete("a").await.map(drop) })
            }),
            ("delete_many", |cache| {
                Box::pin(async move { cache.delete_many(["a", "b"]).await.map(drop) })
            }),
            ("clear", |cache| {
                Box::pin(async move { cache.clear().await })
            }),
        ];
        for (verb, invalidate) in invalidations {
            let puppet = Puppet::server();
            let cache = puppet.cache();
            cache.put("a", "old").await.unwrap();
            for verb in ["delete", "delete_many", "clear"] {
                puppet.fail(verb, ErrorKind::TooLarge);
            }
            let refused = invalidate(cache.clone()).await;
            assert_eq!(error(refused).0, ErrorKind::TooLarge, "{verb}");
            tokio::time::sleep(secs(5)).await;
            assert!(is_open(&cache), "{verb}");
            assert!(get(&cache, "a").await.is_err(), "{verb}");
            puppet.heal();
            tokio::time::sleep(millis(1_100)).await;
            assert!(!is_open(&cache), "{verb}");
            assert_eq!(get(&cache, "a").await.unwrap(), None, "{verb}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_put_that_the_server_has_no_room_for_is_no_outage() {
        let puppet = Puppet::server();
        let cache = puppet.cache();
        puppet.fail("put", ErrorKind::TooLarge);
        for _ in 0..10 {
            let refused = cache.put("a", "new").await;
            assert_eq!(error(refused).0, ErrorKind::TooLarge);
        }
        assert!(!is_open(&cache));
        assert_eq!(cache.stats().pending_invalidations, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clear_of_an_outage_is_replayed() {
        let (puppet, cache) = away().await;
        assert!(cache.clear().await.is_err());
        puppet.heal();
        tokio::time::sleep(millis(1_100)).await;
        assert_eq!(
            cache.get_many::<String>(["a", "b"]).await.unwrap(),
            [None, None]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_deletes_clear_the_namespace() {
        let (puppet, cache) = away().await;
        let other = cache.scoped("other");
        put_raw(&puppet.memory, "c", CodecId::JSON, b"1").await;
        let keys = (0..10_001).map(|key| key.to_string());
        assert!(cache.delete_many(keys).await.is_err());
        assert_eq!(cache.stats().pending_invalidations, 1);
        assert!(other.delete("x").await.is_err());
        assert_eq!(cache.stats().pending_invalidations, 2);
        puppet.heal();
        tokio::time::sleep(millis(1_100)).await;
        assert!(!is_open(&cache));
        assert_eq!((puppet.calls("clear"), puppet.calls("delete_many")), (1, 1));
        assert_eq!(cache.get::<i32>("c").await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_put_that_fails_takes_the_old_value_with_it() {
        for verb in ["put", "put_many"] {
            let puppet = Puppet::server();
            let cache = puppet.cache();
            cache.put("a", "old").await.unwrap();
            puppet.fail(verb, Unavailable);
            let failed = match verb {
                "put" => cache.put("a", "new").await.is_err(),
                _ => cache.put_many([("a", "new")]).await.is_err(),
            };
            assert!(failed && is_open(&cache));
            settle().await;
            assert_eq!(get(&cache, "a").await.unwrap(), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn conditional_puts_touches_and_increments_are_not_remembered() {
        let puppet = Puppet::server();
        let cache = Cache::builder(puppet.clone()).breaker_failures(100).build();
        cache.put("a", "old").await.unwrap();
        puppet.die();
        for options in [
            PutOptions::new().if_absent(),
            PutOptions::new().if_version(1),
        ] {
            assert!(cache.put_with("a", "new", options).await.is_err());
        }
        assert!(cache.touch("a", secs(1)).await.is_err());
        assert!(cache.increment("n", 1).await.is_err());
        assert_eq!(cache.stats().pending_invalidations, 0);
        assert!(!is_open(&cache));
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_delete_is_done_without_cutting_off_others() {
        let puppet = Puppet::server();
        let cache = puppet.cache();
        cache.put("a", "old").await.unwrap();
        puppet.hold(At::Request("delete"));
        let dropped = tokio::time::timeout(millis(10), cache.delete("a")).await;
        assert!(dropped.is_err());
        assert!(!is_open(&cache));
        assert_eq!(cache.stats().pending_invalidations, 1);
        settle().await;
        assert_eq!(cache.stats().pending_invalidations, 0);
        assert_eq!(get(&cache, "a").await.unwrap(), None);
        assert_eq!(cache.stats().outages, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_delete_that_cannot_be_made_up_for_opens_the_breaker() {
        let puppet = Puppet::server();
        let cache = puppet.cache();
        cache.put("a", "old").await.unwrap();
        puppet.hold(At::Request("delete"));
        puppet.fail("delete_many", Unavailable);
        let dropped = tokio::time::timeout(millis(10), cache.delete("a")).await;
        assert!(dropped.is_err());
        settle().await;
        assert!(is_open(&cache));
        puppet.heal();
        tokio::time::sleep(millis(1_100)).await;
        assert_eq!(get(&cache, "a").await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_delete_that_was_answered_is_not_remembered() {
        let puppet = Puppet::server();
        let cache = puppet.cache();
        cache.put("a", "old").await.unwrap();
        assert!(cache.delete("a").await.unwrap());
        settle().await;
        assert_eq!(cache.stats().pending_invalidations, 0);
        assert_eq!(puppet.calls("delete_many"), 0);
    }

    #[test]
    fn a_delete_dropped_outside_of_a_runtime_is_done_in_the_next() {
        let puppet = Puppet::server();
        let cache = puppet.cache();
        let runtime = || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_time().start_paused(true).build().unwrap()
        };
        puppet.hold(At::Request("delete"));
        let mut deleting = Box::pin(cache.delete("a"));
        runtime().block_on(async {
            put_raw(&puppet.memory, "a", CodecId::JSON, b"\"old\"").await;
            assert!(
                tokio::time::timeout(millis(1), &mut deleting)
                    .await
                    .is_err()
            );
        });
        drop(deleting);
        runtime().block_on(async {
            assert!(get(&cache, "a").await.is_err());
            tokio::time::sleep(millis(1_001)).await;
            assert_eq!(get(&cache, "a").await.unwrap(), None);
        });
    }

    fn runtime() -> tokio::runtime::Runtime {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().start_paused(true).build().unwrap()
    }

    /// Whoever asks in another runtime reads no more than once what was to be gone.
    fn is_gone_in_the_next(puppet: &Puppet, cache: &Cache) {
        puppet.release(At::Request("delete"));
        puppet.release(At::Request("delete_many"));
        runtime().block_on(async {
            drop(get(cache, "a").await);
            tokio::time::sleep(millis(1_001)).await;
            assert_eq!(get(cache, "a").await.unwrap(), None);
            assert_eq!(cache.stats().pending_invalidations, 0);
        });
    }

    #[test]
    fn a_delete_that_ends_with_its_runtime_is_done_in_the_next() {
        let puppet = Puppet::server();
        let cache = puppet.cache();
        puppet.hold(At::Request("delete"));
        let ending = runtime();
        ending.block_on(async {
            put_raw(&puppet.memory, "a", CodecId::JSON, b"\"old\"").await;
            let cache = cache.clone();
            tokio::spawn(async move { cache.delete("a").await });
            puppet.until_held(At::Request("delete"), 1).await;
        });
        drop(ending);
        is_gone_in_the_next(&puppet, &cache);
    }

    #[test]
    fn a_replay_that_ends_with_its_runtime_is_done_in_the_next() {
        let puppet = Puppet::server();
        let cache = puppet.cache();
        puppet.hold(At::Request("delete"));
        puppet.hold(At::Request("delete_many"));
        runtime().block_on(async {
            put_raw(&puppet.memory, "a", CodecId::JSON, b"\"old\"").await;
            let dropped = tokio::time::timeout(millis(10), cache.delete("a")).await;
            assert!(dropped.is_err());
            puppet.until_held(At::Request("delete_many"), 1).await;
        });
        is_gone_in_the_next(&puppet, &cache);
    }
}

mod at_random {
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    use proptest::prelude::*;
    use tokio::{task::JoinSet, time::sleep};

    use super::*;

    /// What a key's value is made from: a number that only grows, and the last one whose invalidation was answered.
    #[derive(Default)]
    struct Row {
        number: AtomicU64,
        told: AtomicU64,
    }

    /// What happens to the server, and for how many milliseconds.
    #[derive(Clone, Debug)]
    enum Weather {
        Fine(u64),
        Dead(u64),
        Failing(&'static str, u64),
        Slow(&'static str, u64),
    }

    fn weather() -> impl Strategy<Value = Weather> {
        let verb = || prop::sample::select(&["get", "put", "delete", "delete_many", "ping"][..]);
        prop_oneof![
            (1..60u64).prop_map(Weather::Fine),
            (1..60u64).prop_map(Weather::Dead),
            (verb(), 1..60u64).prop_map(|(verb, millis)| Weather::Failing(verb, millis)),
            (verb(), 1..60u64).prop_map(|(verb, millis)| Weather::Slow(verb, millis)),
        ]
    }

    async fn change(cache: &Cache, rows: &[Row], pauses: &[u64]) {
        for (turn, pause) in pauses.iter().enumerate() {
            sleep(millis(*pause)).await;
            let row = &rows[turn % rows.len()];
            let number = row.number.fetch_add(1, SeqCst) + 1;
            let _ = cache.delete((turn % rows.len()).to_string()).await;
            row.told.fetch_max(number, SeqCst);
        }
    }

    async fn look(cache: &Cache, rows: &[Row], pauses: &[u64]) {
        for (turn, pause) in pauses.iter().enumerate() {
            sleep(millis(*pause)).await;
            let row = &rows[turn % rows.len()];
            let told = row.told.load(SeqCst);
            let load = || async {
                let number = row.number.load(SeqCst);
                sleep(millis(pause % 3)).await;
                Ok::<_, Infallible>(number)
            };
            let key = (turn % rows.len()).to_string();
            let number = match pause % 2 {
                0 => Some(*cache.get_or_load(&key, load).await.unwrap()),
                _ => cache.get(&key).await.ok().flatten(),
            };
            assert!(
                number.is_none_or(|number| number >= told),
                "{number:?} < {told}"
            );
        }
    }

    async fn run(weather: Vec<Weather>, pauses: Vec<Vec<u64>>) {
        let puppet = Puppet::server();
        let cache = Cache::builder(puppet.clone())
            .backend_timeout(millis(5))
            .breaker_failures(2)
            .breaker_delay(millis(10))
            .build();
        let rows: Arc<[Row]> = (0..3).map(|_| Row::default()).collect();
        let mut tasks = JoinSet::new();
        for (number, pauses) in pauses.into_iter().enumerate() {
            let (cache, rows) = (cache.clone(), rows.clone());
            tasks.spawn(async move {
                match number % 2 {
                    0 => look(&cache, &rows, &pauses).await,
                    _ => change(&cache, &rows, &pauses).await,
                }
            });
        }
        for weather in weather {
            match weather {
                Weather::Fine(long) => sleep(millis(long)).await,
                Weather::Dead(long) => {
                    puppet.die();
                    sleep(millis(long)).await;
                }
                Weather::Failing(verb, long) => {
                    puppet.fail(verb, ErrorKind::Backend);
                    sleep(millis(long)).await;
                }
                Weather::Slow(verb, long) => {
                    puppet.hold(At::Answer(verb));
                    sleep(millis(long)).await;
                    puppet.release(At::Answer(verb));
                }
            }
            puppet.heal();
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        sleep(millis(100)).await;
        assert!(!is_open(&cache));
        assert_eq!(cache.stats().pending_invalidations, 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn nobody_reads_what_was_invalidated_before_whatever_the_server_does(
            weather in prop::collection::vec(weather(), 1..20),
            pauses in prop::collection::vec(prop::collection::vec(0..10u64, 1..60), 2..8),
        ) {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_time().start_paused(true).build().unwrap();
            runtime.block_on(run(weather, pauses));
        }
    }
}

mod ending {
    use super::*;

    /// An outage of a server that nothing was put on, so that the only task there may be is that of the breaker.
    async fn away_from_the_beginning() -> Cache {
        let puppet = Puppet::server();
        let cache = puppet.cache();
        puppet.die();
        for _ in 0..5 {
            assert!(get(&cache, "a").await.is_err());
        }
        settle().await;
        assert_eq!(alive_tasks(), 1);
        cache
    }

    #[tokio::test(start_paused = true)]
    async fn closing_ends_the_task() {
        let cache = away_from_the_beginning().await;
        let _ = cache.close().await;
        assert_eq!(alive_tasks(), 0);
        assert!(!is_open(&cache));
    }

    #[tokio::test(start_paused = true)]
    async fn the_task_ends_with_the_last_handle() {
        let cache = away_from_the_beginning().await;
        drop(cache);
        settle().await;
        assert_eq!(alive_tasks(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_cache_says_so_even_after_an_outage() {
        let (puppet, cache) = away().await;
        puppet.heal();
        cache.close().await.unwrap();
        for _ in 0..10 {
            assert_eq!(error(get(&cache, "a").await).0, ErrorKind::Closed);
        }
        assert_eq!(error(cache.delete("a").await).0, ErrorKind::Closed);
        assert_eq!(cache.stats().pending_invalidations, 0);
        assert!(!is_open(&cache));
    }

    #[tokio::test(start_paused = true)]
    async fn a_backend_that_hangs_while_it_is_closed_is_left_after_five_seconds() {
        let puppet = Puppet::server();
        let cache = puppet.cache();
        puppet.hold(At::Request("close"));
        let start = Instant::now();
        assert_eq!(error(cache.close().await).0, Timeout);
        assert_eq!(start.elapsed(), secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_missed_is_replayed_before_the_end_if_that_is_possible() {
        let (puppet, cache) = away().await;
        assert!(cache.delete("a").await.is_err());
        puppet.heal();
        let log = Log::listen();
        cache.close().await.unwrap();
        assert_eq!(puppet.calls("delete_many"), 1);
        assert_eq!(log.text(), "");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_never_replayed_is_told_in_one_line() {
        for close in [true, false] {
            let (_puppet, cache) = away().await;
            assert!(cache.delete_many(["a", "b"]).await.is_err());
            let log = Log::listen();
            if close {
                assert!(cache.close().await.is_err());
            }
            drop(cache);
            let text = log.text();
            assert_eq!(text.lines().count(), 1, "{text}");
            assert!(
                text.contains("WARN") && text.contains("invalidations=2"),
                "{text}"
            );
        }
    }
}

mod telling {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_one_line_at_its_beginning_and_one_at_its_end() {
        let log = Log::listen();
        let (puppet, cache) = away().await;
        for _ in 0..20 {
            assert!(get(&cache, "a").await.is_err());
        }
        let _ = cache.delete("the-secret-key").await;
        tokio::time::sleep(secs(5)).await;
        let text = log.text();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("ERROR"), "{text}");
        assert!(text.contains("puppet get: told to fail"), "{text}");
        puppet.heal();
        tokio::time::sleep(secs(1)).await;
        get(&cache, "a").await.unwrap();
        let text = log.text();
        assert_eq!(text.lines().count(), 2, "{text}");
        let end = text.lines().last().unwrap();
        assert!(end.contains("INFO"), "{end}");
        assert!(end.contains("refused=21 replayed=1"), "{end}");
        assert!(
            end.contains("open_for=6s") || end.contains("open_for=5"),
            "{end}"
        );
        assert!(!text.contains("the-secret-key"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn single_failures_are_not_told() {
        let log = Log::listen();
        let puppet = Puppet::server();
        let cache = puppet.cache();
        puppet.fail("get", Unavailable);
        for _ in 0..4 {
            assert!(get(&cache, "a").await.is_err());
        }
        puppet.heal();
        get(&cache, "a").await.unwrap();
        assert_eq!(log.text(), "");
        assert_eq!(cache.stats().errors, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn refused_calls_are_counted_as_errors() {
        let (_puppet, cache) = away().await;
        let before = cache.stats().errors;
        for _ in 0..3 {
            assert!(get(&cache, "a").await.is_err());
        }
        assert_eq!(cache.stats().errors, before + 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_backend_is_shared_by_the_handle_that_one_keeps() {
        let backend: Arc<dyn Backend> = Arc::new(Puppet::server());
        let cache = Cache::new(backend.clone());
        cache.put("a", 1).await.unwrap();
        assert_eq!(backend.usage().unwrap().entries, 1);
    }
}

/// What is logged at the level of information and above.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

struct Listening {
    log: Log,
    _until_dropped: tracing::subscriber::DefaultGuard,
}

impl Log {
    fn listen() -> Listening {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        Listening {
            log,
            _until_dropped: tracing::subscriber::set_default(subscriber),
        }
    }
}

impl Listening {
    fn text(&self) -> String {
        String::from_utf8(self.log.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
