//! `get_or_load`: one loader per key at a time, whoever leaves, fails, panics or invalidates.

#![cfg(all(feature = "memory", feature = "json"))]
#![allow(
    clippy::unwrap_used,
    reason = "helpers outside of test functions unwrap too"
)]

mod support_cache;

use std::{collections::BTreeMap, convert::Infallible, error::Error as _, sync::Arc};

use futures_util::future::{join_all, poll_immediate};
use larder::{Cache, CodecId, ErrorKind, LoadError, Memory, PutOptions, Ttl};
use support_cache::{At, Puppet, Source, Tally, advance, put_raw, secs, settle, within};
use tokio::{join, task::JoinHandle};

/// A task that loads `value` from `source` under `key`.
fn load(cache: &Cache, key: &'static str, source: &Arc<Source>, value: i32) -> JoinHandle<i32> {
    let (cache, source) = (cache.clone(), source.clone());
    tokio::spawn(async move {
        let loaded = cache.get_or_load(key, || source.load(value)).await;
        *loaded.unwrap()
    })
}

async fn of(task: JoinHandle<i32>) -> i32 {
    within(task).await.unwrap()
}

fn both() -> [Puppet; 2] {
    [Puppet::local(), Puppet::remote()]
}

mod reading_through {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_missing_value_is_loaded_kept_and_not_loaded_again() {
        for puppet in both() {
            let (cache, loads) = (puppet.cache(), Tally::default());
            for _ in 0..3 {
                let loaded = cache.get_or_load("key", || async { Ok::<_, ()>(loads.add()) });
                assert_eq!(*loaded.await.unwrap(), 1);
            }
            assert_eq!(cache.get::<usize>("key").await.unwrap(), Some(1));
            let stats = cache.stats();
            assert_eq!((stats.loads, stats.puts, stats.flights), (1, 1, 0));
            assert_eq!((stats.misses, stats.hits), (1, 3));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_loader_runs_again_when_the_value_has_ended() {
        for puppet in both() {
            let (cache, loads) = (puppet.cache(), Tally::default());
            let load = || async { Ok::<_, ()>(loads.add()) };
            cache.get_or_load_with("key", secs(1), load).await.unwrap();
            advance(secs(1)).await;
            let again = cache.get_or_load_with("key", secs(1), load).await;
            assert_eq!(*again.unwrap(), 2);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_loaded_value_lives_as_long_as_was_said() {
        for puppet in both() {
            let cache = puppet.cache();
            let load = || async { Ok::<_, ()>(1) };
            cache.get_or_load("default", load).await.unwrap();
            cache
                .get_or_load_with("never", Ttl::Never, load)
                .await
                .unwrap();
            let default = cache.get_entry::<i32>("default").await.unwrap().unwrap();
            let never = cache.get_entry::<i32>("never").await.unwrap().unwrap();
            assert_eq!((default.ttl, never.ttl), (Some(secs(300)), None));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_load_does_not_shorten_the_life_of_its_value() {
        let cache = Cache::memory();
        let slow = || async {
            tokio::time::sleep(secs(200)).await;
            Ok::<_, ()>(1)
        };
        cache.get_or_load("key", slow).await.unwrap();
        let found = cache.get_entry::<i32>("key").await.unwrap().unwrap();
        assert_eq!((found.age, found.ttl), (secs(0), Some(secs(300))));
    }

    #[tokio::test(start_paused = true)]
    async fn in_memory_a_hit_is_the_loaded_value_itself() {
        let cache = Cache::memory();
        let load = || async { Ok::<_, ()>(String::from("Ada")) };
        let loaded = cache.get_or_load("key", load).await.unwrap();
        let hit = cache.get_or_load("key", load).await.unwrap();
        let got = cache.get_shared::<String>("key").await.unwrap().unwrap();
        assert!(Arc::ptr_eq(&loaded, &hit));
        assert!(Arc::ptr_eq(&loaded, &got));
    }

    #[tokio::test(start_paused = true)]
    async fn the_loader_may_borrow() {
        let cache = Cache::memory();
        let name = String::from("Ada");
        let names: Vec<&str> = vec![&name];
        let loaded = cache
            .get_or_load("key", async || Ok::<_, ()>(names.concat()))
            .await
            .unwrap();
        assert_eq!(*loaded, name);
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_that_cannot_be_kept_is_returned_all_the_same() {
        let cache = Cache::new(Memory::builder().max_bytes(100_000).build());
        let unwritable = || async { Ok::<_, ()>(BTreeMap::from([((1, 2), 3)])) };
        assert_eq!(cache.get_or_load("map", unwritable).await.unwrap().len(), 1);
        let large = || async { Ok::<_, ()>("x".repeat(200_000)) };
        let loaded = cache.get_or_load("large", large).await.unwrap();
        assert_eq!(loaded.len(), 200_000);
        let stats = cache.stats();
        assert_eq!((stats.loads, stats.puts, stats.errors), (2, 0, 1));
        assert_eq!(stats.flights, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_future_that_is_never_polled_loads_nothing() {
        let cache = Cache::memory();
        let loads = Tally::default();
        drop(cache.get_or_load("key", || async { Ok::<_, ()>(loads.add()) }));
        assert_eq!((loads.get(), cache.stats().flights), (0, 0));
    }
}

mod sharing {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_thousand_callers_at_once_load_once() {
        for puppet in both() {
            let (cache, source) = (puppet.cache(), Arc::new(Source::closed()));
            let tasks: Vec<_> = (0..1_000)
                .map(|n| load(&cache, "key", &source, n))
                .collect();
            settle().await;
            assert_eq!(cache.stats().flights, 1);
            source.open();
            for task in tasks {
                assert_eq!(of(task).await, 0);
            }
            assert_eq!(source.asked(), 1);
            let stats = cache.stats();
            assert_eq!((stats.loads, stats.loads_shared, stats.puts), (1, 999, 1));
            assert_eq!(stats.flights, 0);
            assert_eq!(puppet.calls("put"), 1);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_thousand_callers_on_several_threads_load_once() {
        for puppet in both() {
            let (cache, loads) = (puppet.cache(), Arc::new(Tally::default()));
            let tasks = (0..1_000).map(|_| {
                let (cache, loads) = (cache.clone(), loads.clone());
                tokio::spawn(async move {
                    let slow = || async {
                        tokio::task::yield_now().await;
                        Ok::<_, Infallible>(loads.add())
                    };
                    *cache.get_or_load("key", slow).await.unwrap()
                })
            });
            for value in join_all(tasks.collect::<Vec<_>>()).await {
                assert_eq!(value.unwrap(), 1);
            }
            assert_eq!((loads.get(), cache.stats().flights), (1, 0));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_get_the_very_same_value() {
        let (cache, source) = (Cache::memory(), Source::closed());
        let get = || cache.get_or_load("key", || source.load(String::from("Ada")));
        let open = async {
            settle().await;
            source.open();
        };
        let (one, two, ()) = within(async { join!(get(), get(), open) }).await;
        assert!(Arc::ptr_eq(&one.unwrap(), &two.unwrap()));
    }

    #[tokio::test(start_paused = true)]
    async fn different_keys_and_namespaces_do_not_wait_for_each_other() {
        let (cache, stuck) = (Cache::memory(), Arc::new(Source::closed()));
        let waiting = load(&cache, "key", &stuck, 1);
        stuck.until_asked(1).await;
        let quick = || async { Ok::<_, ()>(2) };
        let other_key = within(cache.get_or_load("other", quick)).await;
        let scoped = cache.scoped("other");
        let other_namespace = within(scoped.get_or_load("key", quick)).await;
        assert_eq!((*other_key.unwrap(), *other_namespace.unwrap()), (2, 2));
        stuck.open();
        assert_eq!(of(waiting).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_is_asked_once_for_all_who_wait() {
        let puppet = Puppet::remote();
        let (cache, source) = (puppet.cache(), Arc::new(Source::closed()));
        let tasks: Vec<_> = (0..100).map(|n| load(&cache, "key", &source, n)).collect();
        source.until_asked(1).await;
        source.open();
        for task in tasks {
            of(task).await;
        }
        assert_eq!(puppet.calls("get"), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn different_types_under_one_key_neither_share_nor_hang() {
        let (cache, source) = (Cache::memory(), Arc::new(Source::closed()));
        let number = load(&cache, "key", &source, 7);
        source.until_asked(1).await;
        let text = tokio::spawn({
            let cache = cache.clone();
            async move {
                let load = || async { Ok::<_, Infallible>(String::from("seven")) };
                cache.get_or_load("key", load).await.unwrap()
            }
        });
        settle().await;
        source.open();
        assert_eq!(of(number).await, 7);
        assert_eq!(*within(text).await.unwrap(), "seven");
        assert_eq!(cache.stats().flights, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_of_another_type_is_not_shared() {
        let (cache, source) = (Cache::memory(), Source::closed());
        let fails = cache.get_or_load("key", || async { Err::<i32, _>(source.give(1_u8).await) });
        let loads = cache.get_or_load("key", || async { Ok::<i32, String>(2) });
        let open = async {
            settle().await;
            source.open();
        };
        let (failed, loaded, ()) = within(async { join!(fails, loads, open) }).await;
        assert!(matches!(failed, Err(LoadError::Loader(error)) if *error == 1));
        assert_eq!(*loaded.unwrap(), 2);
    }
}

mod errors {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_error_reaches_everybody_who_waited_and_is_not_kept() {
        for puppet in both() {
            let (cache, source) = (puppet.cache(), Source::closed());
            let fail = || async { Err::<i32, _>(source.give(String::from("no")).await) };
            let callers = join_all((0..10).map(|_| cache.get_or_load("key", fail)));
            let open = async {
                settle().await;
                source.open();
            };
            let (failures, ()) = within(async { join!(callers, open) }).await;
            let errors = failures.into_iter().map(|failure| match failure {
                Err(LoadError::Loader(error)) => error,
                other => panic!("{other:?}"),
            });
            let errors: Vec<Arc<String>> = errors.collect();
            assert!(errors.iter().all(|error| Arc::ptr_eq(error, &errors[0])));
            assert_eq!(source.asked(), 1);
            let next = cache.get_or_load("key", || async { Ok::<_, String>(5) });
            assert_eq!(*next.await.unwrap(), 5);
            let stats = cache.stats();
            assert_eq!((stats.loads, stats.load_errors, stats.flights), (2, 1, 0));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_load_error_leads_to_its_cause() {
        let fail = || async { Err::<i32, _>(std::io::Error::other("the source is down")) };
        let error = Cache::memory().get_or_load("key", fail).await.unwrap_err();
        assert_eq!(error.to_string(), "the loader failed");
        assert_eq!(error.source().unwrap().to_string(), "the source is down");
        assert!(matches!(error.clone(), LoadError::Loader(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_loader_that_panics_panics_its_own_caller_only() {
        for puppet in both() {
            let (cache, source) = (puppet.cache(), Arc::new(Source::closed()));
            let panics = tokio::spawn({
                let (cache, source) = (cache.clone(), source.clone());
                async move {
                    let load = || async {
                        source.give(()).await;
                        panic!("the loader's own")
                    };
                    drop(cache.get_or_load::<i32, (), _, _>("key", load).await);
                }
            });
            source.until_asked(1).await;
            let others: Vec<_> = (0..10).map(|n| load(&cache, "key", &source, n)).collect();
            settle().await;
            source.open();
            assert!(within(panics).await.unwrap_err().is_panic());
            let mut values = Vec::new();
            for other in others {
                values.push(of(other).await);
            }
            assert!(values.iter().all(|value| *value == values[0]));
            assert_eq!((source.asked(), cache.stats().flights), (2, 0));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_before_the_first_await_leaves_nothing_behind() {
        let cache = Cache::memory();
        let panics = tokio::spawn({
            let cache = cache.clone();
            async move {
                let load = || -> std::future::Ready<Result<i32, ()>> { panic!("at once") };
                drop(cache.get_or_load("key", load).await);
            }
        });
        assert!(within(panics).await.unwrap_err().is_panic());
        assert_eq!(cache.stats().flights, 0);
        let next = within(cache.get_or_load("key", || async { Ok::<_, ()>(1) })).await;
        assert_eq!(*next.unwrap(), 1);
    }
}

mod leaving {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_leader_hands_over_and_nobody_is_stranded() {
        for puppet in both() {
            let (cache, source) = (puppet.cache(), Arc::new(Source::closed()));
            let leader = load(&cache, "key", &source, -1);
            source.until_asked(1).await;
            let others: Vec<_> = (0..100).map(|n| load(&cache, "key", &source, n)).collect();
            settle().await;
            leader.abort();
            source.until_asked(2).await;
            source.open();
            let mut values = Vec::new();
            for other in others {
                values.push(of(other).await);
            }
            assert!(values.iter().all(|value| *value == values[0]));
            assert_eq!((source.asked(), cache.stats().flights), (2, 0));
            assert_eq!(cache.get::<i32>("key").await.unwrap(), Some(values[0]));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_cancelled_while_it_asks_the_server_hands_over() {
        let puppet = Puppet::remote();
        let (cache, source) = (puppet.cache(), Arc::new(Source::closed()));
        source.open();
        puppet.hold(At::Request("get"));
        let leader = load(&cache, "key", &source, 1);
        puppet.until_held(At::Request("get"), 1).await;
        let other = load(&cache, "key", &source, 2);
        settle().await;
        leader.abort();
        puppet.until_held(At::Request("get"), 2).await;
        puppet.release(At::Request("get"));
        assert_eq!(of(other).await, 2);
        assert_eq!((source.asked(), cache.stats().flights), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_are_answered_before_the_value_is_stored() {
        for puppet in both() {
            let (cache, source) = (puppet.cache(), Arc::new(Source::closed()));
            puppet.hold(At::Request("put"));
            let leader = load(&cache, "key", &source, 1);
            source.until_asked(1).await;
            let other = load(&cache, "key", &source, 2);
            settle().await;
            source.open();
            assert_eq!(of(other).await, 1);
            assert_eq!(of(load(&cache, "key", &source, 3)).await, 1);
            puppet.release(At::Request("put"));
            assert_eq!(of(leader).await, 1);
            assert_eq!(source.asked(), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_cancelled_while_storing_costs_one_more_load_at_most() {
        for at in [At::Request("put"), At::Answer("put")] {
            for puppet in both() {
                let (cache, source) = (puppet.cache(), Arc::new(Source::closed()));
                source.open();
                puppet.hold(at);
                let leader = load(&cache, "key", &source, 1);
                puppet.until_held(at, 1).await;
                leader.abort();
                settle().await;
                puppet.release(at);
                of(load(&cache, "key", &source, 2)).await;
                of(load(&cache, "key", &source, 3)).await;
                assert!(source.asked() <= 2);
                assert_eq!(cache.stats().flights, 0);
                within(cache.delete("key")).await.unwrap();
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_follower_who_leaves_disturbs_nobody() {
        let (cache, source) = (Cache::memory(), Arc::new(Source::closed()));
        let leader = load(&cache, "key", &source, 1);
        source.until_asked(1).await;
        let leaving = load(&cache, "key", &source, 2);
        let staying = load(&cache, "key", &source, 3);
        settle().await;
        leaving.abort();
        source.open();
        assert_eq!((of(leader).await, of(staying).await), (1, 1));
        assert_eq!(source.asked(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn when_everybody_leaves_nothing_is_left() {
        for puppet in both() {
            let (cache, source) = (puppet.cache(), Arc::new(Source::closed()));
            let tasks: Vec<_> = (0..10).map(|n| load(&cache, "key", &source, n)).collect();
            source.until_asked(1).await;
            tasks.iter().for_each(JoinHandle::abort);
            settle().await;
            assert_eq!(cache.stats().flights, 0);
            source.open();
            assert_eq!(of(load(&cache, "key", &source, 7)).await, 7);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_may_leave_at_any_await_without_stranding_the_next() {
        for puppet in both() {
            for polls in 1..8 {
                let cache = puppet.cache();
                cache.delete("key").await.unwrap();
                let slow = || async {
                    tokio::task::yield_now().await;
                    tokio::task::yield_now().await;
                    Ok::<_, ()>(1)
                };
                let mut leader = Box::pin(cache.get_or_load("key", slow));
                for _ in 0..polls {
                    if poll_immediate(leader.as_mut()).await.is_some() {
                        break;
                    }
                }
                drop(leader);
                assert_eq!(cache.stats().flights, 0);
                assert_eq!(*within(cache.get_or_load("key", slow)).await.unwrap(), 1);
            }
        }
    }
}

mod invalidation {
    use super::*;

    /// Loads "old" and, while the loader runs, does `invalidate`; then lets the load end.
    async fn during_a_load(puppet: &Puppet, invalidate: impl AsyncFnOnce(&Cache)) -> Cache {
        let (cache, source) = (puppet.cache(), Arc::new(Source::closed()));
        let old = load(&cache, "key", &source, 1);
        source.until_asked(1).await;
        within(invalidate(&cache)).await;
        source.open();
        assert_eq!(of(old).await, 1, "the caller still gets what it loaded");
        let stats = cache.stats();
        assert_eq!((stats.loads_late, stats.flights), (1, 0));
        cache
    }

    #[tokio::test(start_paused = true)]
    async fn a_delete_wins_over_a_load_that_began_before() {
        for puppet in both() {
            let cache = during_a_load(&puppet, async |cache| {
                assert!(!cache.delete("key").await.unwrap());
            });
            assert!(!cache.await.contains("key").await.unwrap());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_delete_of_many_wins_over_a_load_that_began_before() {
        for puppet in both() {
            let cache = during_a_load(&puppet, async |cache| {
                cache.delete_many(["other", "key"]).await.unwrap();
            });
            assert!(!cache.await.contains("key").await.unwrap());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_clear_wins_over_a_load_that_began_before() {
        for puppet in both() {
            let cache = during_a_load(&puppet, async |cache| cache.clear().await.unwrap());
            assert!(!cache.await.contains("key").await.unwrap());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_put_wins_over_a_load_that_began_before() {
        for puppet in both() {
            let cache = during_a_load(&puppet, async |cache| {
                cache.put("key", 2).await.unwrap();
            });
            assert_eq!(cache.await.get::<i32>("key").await.unwrap(), Some(2));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_put_if_absent_wins_over_a_load_that_began_before() {
        for puppet in both() {
            let cache = during_a_load(&puppet, async |cache| {
                let once = PutOptions::new().if_absent();
                assert!(cache.put_with("key", 2, once).await.unwrap());
            });
            assert_eq!(cache.await.get::<i32>("key").await.unwrap(), Some(2));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_put_of_many_wins_over_a_load_that_began_before() {
        for puppet in both() {
            let cache = during_a_load(&puppet, async |cache| {
                cache.put_many([("other", 3), ("key", 2)]).await.unwrap();
            });
            assert_eq!(cache.await.get::<i32>("key").await.unwrap(), Some(2));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_count_is_not_lost_to_a_load_that_began_before() {
        for puppet in both() {
            let cache = during_a_load(&puppet, async |cache| {
                cache.increment("key", 5).await.unwrap();
            });
            assert_eq!(cache.await.counter("key").await.unwrap(), Some(5));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_invalidation_through_another_handle_counts_too() {
        for puppet in both() {
            let cache = during_a_load(&puppet, async |cache| {
                let other = cache.scoped("other").scoped("larder");
                other.delete("key").await.unwrap();
            });
            assert!(!cache.await.contains("key").await.unwrap());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_invalidation_by_the_loader_itself_counts_too() {
        let cache = Cache::memory();
        let load = || async {
            cache.delete("key").await.unwrap();
            cache.clear().await.unwrap();
            Ok::<_, ()>(1)
        };
        assert_eq!(*within(cache.get_or_load("key", load)).await.unwrap(), 1);
        assert!(!cache.contains("key").await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_loader_puts_itself_stays() {
        let cache = Cache::memory();
        let load = || async {
            cache.put("key", 2).await.unwrap();
            Ok::<_, ()>(1)
        };
        assert_eq!(*within(cache.get_or_load("key", load)).await.unwrap(), 1);
        assert_eq!(cache.get::<i32>("key").await.unwrap(), Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn clearing_another_namespace_or_deleting_another_key_does_not_count() {
        let (cache, source) = (Cache::memory(), Arc::new(Source::closed()));
        let loading = load(&cache, "key", &source, 1);
        source.until_asked(1).await;
        cache.scoped("other").clear().await.unwrap();
        cache.scoped("other").delete("key").await.unwrap();
        cache.delete("other").await.unwrap();
        source.open();
        of(loading).await;
        assert_eq!(cache.get::<i32>("key").await.unwrap(), Some(1));
        assert_eq!(cache.stats().loads_late, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_after_an_invalidation_begins_a_load_of_its_own() {
        for puppet in both() {
            let (cache, before, after) = (
                puppet.cache(),
                Arc::new(Source::closed()),
                Arc::new(Source::closed()),
            );
            let old = load(&cache, "key", &before, 1);
            before.until_asked(1).await;
            cache.delete("key").await.unwrap();
            let new = load(&cache, "key", &after, 2);
            after.until_asked(1).await;
            after.open();
            assert_eq!(of(new).await, 2);
            before.open();
            assert_eq!(of(old).await, 1);
            assert_eq!(cache.get::<i32>("key").await.unwrap(), Some(2));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_old_load_ending_first_does_not_end_the_new_flight() {
        let (cache, before, after) = (
            Cache::memory(),
            Arc::new(Source::closed()),
            Arc::new(Source::closed()),
        );
        let old = load(&cache, "key", &before, 1);
        before.until_asked(1).await;
        cache.delete("key").await.unwrap();
        let new = load(&cache, "key", &after, 2);
        after.until_asked(1).await;
        before.open();
        of(old).await;
        let third = load(&cache, "key", &after, 3);
        settle().await;
        after.open();
        assert_eq!((of(new).await, of(third).await), (2, 2));
        assert_eq!(after.asked(), 1);
        assert_eq!(cache.get::<i32>("key").await.unwrap(), Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_that_was_being_stored_is_deleted_after_it() {
        for at in [At::Request("put"), At::Answer("put")] {
            for puppet in both() {
                let (cache, source) = (puppet.cache(), Arc::new(Source::closed()));
                source.open();
                puppet.hold(at);
                let storing = load(&cache, "key", &source, 1);
                puppet.until_held(at, 1).await;
                let deleting = tokio::spawn({
                    let cache = cache.clone();
                    async move { cache.delete("key").await.unwrap() }
                });
                settle().await;
                puppet.release(at);
                of(storing).await;
                assert!(within(deleting).await.unwrap());
                assert!(!cache.contains("key").await.unwrap());
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_read_before_a_delete_is_not_shared_with_who_comes_after_it() {
        let puppet = Puppet::remote();
        let (cache, source) = (puppet.cache(), Arc::new(Source::closed()));
        source.open();
        cache.put("key", 1).await.unwrap();
        // The delete is on its way when the read begins; the read's answer is on its way when the delete ends.
        puppet.hold(At::Request("delete"));
        let deleting = tokio::spawn({
            let cache = cache.clone();
            async move { cache.delete("key").await.unwrap() }
        });
        puppet.until_held(At::Request("delete"), 1).await;
        puppet.hold(At::Answer("get"));
        let reader = load(&cache, "key", &source, 2);
        puppet.until_held(At::Answer("get"), 1).await;
        puppet.release(At::Request("delete"));
        assert!(within(deleting).await.unwrap());
        let after = load(&cache, "key", &source, 3);
        settle().await;
        puppet.release(At::Answer("get"));
        assert_eq!(of(reader).await, 1);
        assert_eq!(of(after).await, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_read_before_a_clear_is_not_shared_with_who_comes_after_it() {
        let puppet = Puppet::remote();
        let (cache, source) = (puppet.cache(), Arc::new(Source::closed()));
        source.open();
        cache.put("key", 1).await.unwrap();
        puppet.hold(At::Request("clear"));
        let clearing = tokio::spawn({
            let cache = cache.clone();
            async move { cache.clear().await.unwrap() }
        });
        puppet.until_held(At::Request("clear"), 1).await;
        puppet.hold(At::Answer("get"));
        let reader = load(&cache, "key", &source, 2);
        puppet.until_held(At::Answer("get"), 1).await;
        puppet.release(At::Request("clear"));
        within(clearing).await.unwrap();
        let after = load(&cache, "key", &source, 3);
        settle().await;
        puppet.release(At::Answer("get"));
        assert_eq!(of(reader).await, 1);
        assert_eq!(of(after).await, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_load_that_began_while_a_put_was_under_way_does_not_replace_it() {
        let puppet = Puppet::remote();
        let (cache, source) = (puppet.cache(), Arc::new(Source::closed()));
        puppet.hold(At::Request("put"));
        let putting = tokio::spawn({
            let cache = cache.clone();
            async move { cache.put("key", 1).await.unwrap() }
        });
        puppet.until_held(At::Request("put"), 1).await;
        let loading = load(&cache, "key", &source, 2);
        source.until_asked(1).await;
        puppet.release(At::Request("put"));
        assert!(within(putting).await.unwrap());
        source.open();
        of(loading).await;
        assert_eq!(cache.get::<i32>("key").await.unwrap(), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_delete_that_fails_still_keeps_the_load_from_being_stored() {
        let puppet = Puppet::remote();
        let (cache, source) = (puppet.cache(), Arc::new(Source::closed()));
        let loading = load(&cache, "key", &source, 1);
        source.until_asked(1).await;
        puppet.fail("delete", ErrorKind::Unavailable);
        cache.delete("key").await.unwrap_err();
        source.open();
        of(loading).await;
        assert!(!cache.contains("key").await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_delete_given_up_half_way_leaves_the_key_usable() {
        let puppet = Puppet::remote();
        let (cache, source) = (puppet.cache(), Arc::new(Source::closed()));
        puppet.hold(At::Request("delete"));
        let deleting = tokio::spawn({
            let cache = cache.clone();
            async move { cache.delete("key").await }
        });
        puppet.until_held(At::Request("delete"), 1).await;
        deleting.abort();
        source.open();
        assert_eq!(of(load(&cache, "key", &source, 1)).await, 1);
        assert_eq!(cache.get::<i32>("key").await.unwrap(), Some(1));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn nobody_reads_what_was_deleted_before_they_asked() {
        let cache = Cache::memory();
        let truth = Arc::new(Tally::default());
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let (cache, truth) = (cache.clone(), truth.clone());
                tokio::spawn(async move {
                    while truth.get() < 2_000 {
                        let least = truth.get();
                        let load = || async {
                            let seen = truth.get();
                            tokio::task::yield_now().await;
                            Ok::<_, Infallible>(seen)
                        };
                        let found = *cache.get_or_load("key", load).await.unwrap();
                        // The writer changes the truth and deletes; it may be between the two.
                        assert!(found + 1 >= least, "{found} after {least}");
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        while truth.get() < 2_000 {
            truth.add();
            cache.delete("key").await.unwrap();
            tokio::task::yield_now().await;
        }
        for reader in readers {
            reader.await.unwrap();
        }
        assert_eq!(cache.stats().flights, 0);
    }
}

mod reentrancy {
    use super::*;

    type Loaded = Result<i32, Arc<LoadError<Infallible>>>;

    /// Loads `first` by way of `second`.
    async fn by_way_of(cache: &Cache, first: &str, second: &str) -> Loaded {
        let inner = || async { cache.get_or_load(second, || async { Ok(1) }).await };
        match cache
            .get_or_load(first, async || inner().await.map(|v| *v))
            .await
        {
            Ok(value) => Ok(*value),
            Err(LoadError::Loader(error)) => Err(error),
            Err(_) => panic!("the outer key is nobody's"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_loader_that_asks_for_its_own_key_gets_an_error() {
        let cache = Cache::memory();
        let error = within(by_way_of(&cache, "a", "a")).await.unwrap_err();
        assert!(matches!(*error, LoadError::Reentrant));
        assert_eq!(
            error.to_string(),
            "a loader asked for the key that it was loading"
        );
        assert_eq!(cache.stats().flights, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_loader_that_asks_for_its_own_key_as_another_type_gets_an_error() {
        let cache = Cache::memory();
        let load = async || {
            let text = cache.get_or_load("key", || async { Ok::<_, ()>(String::new()) });
            match text.await {
                Err(LoadError::Reentrant) => Ok::<_, ()>(true),
                _ => Ok(false),
            }
        };
        let reentrant = within(cache.get_or_load("key", load)).await;
        assert!(*reentrant.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn loaders_of_different_keys_may_be_nested() {
        let cache = Cache::memory();
        assert_eq!(within(by_way_of(&cache, "a", "b")).await.unwrap(), 1);
        assert_eq!(cache.get::<i32>("a").await.unwrap(), Some(1));
        assert_eq!(cache.get::<i32>("b").await.unwrap(), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_key_in_another_namespace_is_another_key() {
        let cache = Cache::memory();
        let other = cache.scoped("other");
        let load = async || {
            let inner = other.get_or_load("key", || async { Ok::<_, ()>(1) }).await;
            Ok::<_, ()>(*inner.unwrap())
        };
        assert_eq!(*within(cache.get_or_load("key", load)).await.unwrap(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_circle_through_two_keys_is_found() {
        let cache = Cache::memory();
        let load_a = async || {
            let load_b = async || {
                let again = cache.get_or_load("a", || async { Ok::<i32, ()>(0) }).await;
                match again {
                    Err(LoadError::Reentrant) => Ok::<_, ()>(true),
                    _ => Ok(false),
                }
            };
            let found = cache.get_or_load("b", load_b).await.unwrap();
            Ok::<_, ()>(*found)
        };
        assert!(*within(cache.get_or_load("a", load_a)).await.unwrap());
        assert_eq!(cache.stats().flights, 0);
    }

    /// A task whose loader of `first` asks for `second` once `both` have begun.
    fn crossing(
        cache: &Cache,
        first: &'static str,
        second: &'static str,
        both: &Arc<tokio::sync::Barrier>,
    ) -> JoinHandle<bool> {
        let (cache, both) = (cache.clone(), both.clone());
        tokio::spawn(async move {
            let load = async || {
                both.wait().await;
                let other = cache.get_or_load(second, || async { Ok::<_, Infallible>(false) });
                match other.await {
                    Err(LoadError::Reentrant) => Ok::<_, Infallible>(true),
                    _ => Ok(false),
                }
            };
            *cache.get_or_load(first, load).await.unwrap()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_circle_across_two_tasks_is_found_by_one_of_them() {
        for puppet in both() {
            let (cache, barrier) = (puppet.cache(), Arc::new(tokio::sync::Barrier::new(2)));
            let one = crossing(&cache, "a", "b", &barrier);
            let two = crossing(&cache, "b", "a", &barrier);
            let (one, two) = within(async { join!(one, two) }).await;
            assert!(one.unwrap() != two.unwrap(), "exactly one has to give in");
            assert_eq!(cache.stats().flights, 0);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn circles_across_threads_never_hang() {
        for _ in 0..200 {
            let (cache, barrier) = (Cache::memory(), Arc::new(tokio::sync::Barrier::new(3)));
            let tasks = [
                crossing(&cache, "a", "b", &barrier),
                crossing(&cache, "b", "c", &barrier),
                crossing(&cache, "c", "a", &barrier),
            ];
            let found = tokio::time::timeout(secs(30), join_all(tasks)).await;
            let found = found.expect("nobody waits for ever");
            assert!(found.into_iter().any(|task| task.unwrap()));
            assert_eq!(cache.stats().flights, 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_somebody_elses_flight_inside_a_loader_is_no_circle() {
        let (cache, source) = (Cache::memory(), Arc::new(Source::closed()));
        let other = load(&cache, "b", &source, 5);
        source.until_asked(1).await;
        let open = async {
            settle().await;
            source.open();
        };
        let (value, ()) = within(async { join!(by_way_of(&cache, "a", "b"), open) }).await;
        assert_eq!((value.unwrap(), of(other).await), (5, 5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_loader_may_load_several_others_at_once() {
        let (cache, source) = (Cache::memory(), Source::closed());
        source.open();
        let sum = async || {
            let part =
                |key, value| cache.get_or_load(key, move || async move { Ok::<_, ()>(value) });
            let slow = cache.get_or_load("c", || async { Ok::<_, ()>(source.give(3).await) });
            // "a" twice: the second waits for the first.
            let (a, b, c, again) = join!(part("a", 1), part("b", 2), slow, part("a", 9));
            Ok::<_, ()>(*a.unwrap() + *b.unwrap() + *c.unwrap() + *again.unwrap())
        };
        assert_eq!(*within(cache.get_or_load("sum", sum)).await.unwrap(), 7);
        assert_eq!(cache.stats().flights, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_one_who_closes_the_circle_gets_the_error() {
        let cache = Cache::memory();
        let load = async || {
            let own = cache.get_or_load("key", || async { Ok::<i32, ()>(0) });
            let other = cache.get_or_load("other", || async { Ok::<i32, ()>(1) });
            let (own, other) = join!(own, other);
            assert!(matches!(own, Err(LoadError::Reentrant)));
            Ok::<_, ()>(*other.unwrap())
        };
        assert_eq!(*within(cache.get_or_load("key", load)).await.unwrap(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_was_given_up_is_no_part_of_a_circle() {
        let cache = Cache::memory();
        let impatient = async || {
            let other = cache.get_or_load("b", || async { Ok::<_, ()>(0) });
            tokio::time::timeout(secs(1), other).await.unwrap_err();
            tokio::time::sleep(secs(3)).await;
            Ok::<_, ()>(1)
        };
        let late = async || {
            tokio::time::sleep(secs(2)).await;
            let first = cache.get_or_load("a", || async { Ok::<_, ()>(0) });
            Ok::<_, ()>(*first.await.unwrap() + 1)
        };
        let b = cache.get_or_load("b", late);
        let a = cache.get_or_load("a", impatient);
        let (b, a) = within(async { join!(b, a) }).await;
        assert_eq!((*a.unwrap(), *b.unwrap()), (1, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn after_an_error_the_keys_can_be_loaded_in_any_order() {
        let cache = Cache::memory();
        within(by_way_of(&cache, "a", "a")).await.unwrap_err();
        assert_eq!(within(by_way_of(&cache, "a", "b")).await.unwrap(), 1);
        cache.clear().await.unwrap();
        assert_eq!(within(by_way_of(&cache, "b", "a")).await.unwrap(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_loader_may_load_its_key_anew_after_deleting_it() {
        let cache = Cache::memory();
        let load = async || {
            cache.delete("key").await.unwrap();
            let inner = cache.get_or_load("key", || async { Ok::<_, ()>(2) }).await;
            Ok::<_, ()>(*inner.unwrap() + 1)
        };
        assert_eq!(*within(cache.get_or_load("key", load)).await.unwrap(), 3);
        assert_eq!(cache.get::<i32>("key").await.unwrap(), Some(2));
    }
}

mod failing_backends {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_load_is_answered_whatever_fails() {
        for verb in ["get", "put"] {
            for kind in [
                ErrorKind::Unavailable,
                ErrorKind::Timeout,
                ErrorKind::Closed,
            ] {
                let puppet = Puppet::remote();
                let cache = puppet.cache();
                puppet.fail(verb, kind);
                let load = || async { Ok::<_, ()>(1) };
                assert_eq!(*cache.get_or_load("key", load).await.unwrap(), 1);
                let stats = cache.stats();
                assert_eq!((stats.errors, stats.loads, stats.flights), (1, 1, 0));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn callers_share_a_load_while_the_backend_is_down() {
        let puppet = Puppet::remote();
        let (cache, source) = (puppet.cache(), Arc::new(Source::closed()));
        puppet.die();
        let tasks: Vec<_> = (0..100).map(|n| load(&cache, "key", &source, n)).collect();
        settle().await;
        source.open();
        for task in tasks {
            assert_eq!(of(task).await, 0);
        }
        assert_eq!(source.asked(), 1);
        puppet.heal();
        assert_eq!(of(load(&cache, "key", &source, 7)).await, 7);
        assert_eq!(cache.get::<i32>("key").await.unwrap(), Some(7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_who_bounds_its_wait_for_a_hanging_backend_leaves_nothing_behind() {
        for verb in ["get", "put"] {
            let puppet = Puppet::remote();
            let (cache, source) = (puppet.cache(), Arc::new(Source::closed()));
            source.open();
            puppet.hold(At::Request(verb));
            let stuck = cache.get_or_load("key", || source.load(1));
            tokio::time::timeout(secs(1), stuck).await.unwrap_err();
            assert_eq!(cache.stats().flights, 0);
            puppet.release(At::Request(verb));
            assert_eq!(of(load(&cache, "key", &source, 2)).await, 2);
            within(cache.delete("key")).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn damage_on_the_server_is_loaded_over() {
        let puppet = Puppet::remote();
        let cache = puppet.cache();
        put_raw(&puppet, "key", CodecId::from_u8(77), b"?").await;
        puppet.fail("get", ErrorKind::Decode);
        let load = || async { Ok::<_, ()>(1) };
        assert_eq!(*cache.get_or_load("key", load).await.unwrap(), 1);
        puppet.heal();
        assert_eq!(cache.get::<i32>("key").await.unwrap(), Some(1));
        let stats = cache.stats();
        assert_eq!((stats.damaged, stats.errors), (1, 0));
    }
}
