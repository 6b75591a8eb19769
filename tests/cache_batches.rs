//! `get_or_load_many`: what is missing is loaded with one call, once for all who ask.

#![cfg(all(feature = "memory", feature = "json"))]
#![allow(
    clippy::unwrap_used,
    reason = "helpers outside of test functions unwrap too"
)]

mod support_cache;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use futures_util::future::join_all;
use larder::{Cache, CodecId, ErrorKind, LoadError};
use support_cache::{At, Puppet, Source, advance, put_raw, secs, settle, within};
use tokio::{join, task::JoinHandle};

/// Which keys were asked for, call by call.
#[derive(Default)]
struct Calls(Mutex<Vec<Vec<&'static str>>>);

impl Calls {
    /// Notes a call and answers each key with its length; nothing for keys that begin with "no".
    fn answer(&self, keys: Vec<&'static str>) -> Vec<Option<usize>> {
        let length = |key: &&str| (!key.starts_with("no")).then_some(key.len());
        let answers = keys.iter().map(length).collect();
        self.0.lock().unwrap().push(keys);
        answers
    }

    fn seen(&self) -> Vec<Vec<&'static str>> {
        self.0.lock().unwrap().clone()
    }
}

type Loaded = Result<Vec<Option<usize>>, LoadError<Infallible>>;

async fn load<const N: usize>(cache: &Cache, keys: [&'static str; N], calls: &Calls) -> Loaded {
    slow(cache, keys, calls, &open()).await
}

fn open() -> Source {
    let source = Source::closed();
    source.open();
    source
}

async fn slow<const N: usize>(
    cache: &Cache,
    keys: [&'static str; N],
    calls: &Calls,
    source: &Source,
) -> Loaded {
    let load = |keys| async { source.load(calls.answer(keys)).await };
    let found = cache.get_or_load_many(keys, load).await?;
    Ok(found.into_iter().map(|value| value.map(|v| *v)).collect())
}

fn spawn<const N: usize>(
    cache: &Cache,
    keys: [&'static str; N],
    calls: &Arc<Calls>,
    source: &Arc<Source>,
) -> JoinHandle<Vec<Option<usize>>> {
    let (cache, calls, source) = (cache.clone(), calls.clone(), source.clone());
    tokio::spawn(async move { slow(&cache, keys, &calls, &source).await.unwrap() })
}

fn both() -> [Puppet; 2] {
    [Puppet::local(), Puppet::remote()]
}

mod answers {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_what_is_missing_is_loaded_each_once_in_the_order_asked() {
        for puppet in both() {
            let (cache, calls) = (puppet.cache(), Calls::default());
            cache.put("bb", 20_usize).await.unwrap();
            let found = load(&cache, ["a", "bb", "ccc", "a", "bb"], &calls).await;
            let expected = [Some(1), Some(20), Some(3), Some(1), Some(20)];
            assert_eq!(found.unwrap(), expected);
            assert_eq!(calls.seen(), [["a", "ccc"]]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_loaded_is_kept_and_not_loaded_again() {
        for puppet in both() {
            let (cache, calls) = (puppet.cache(), Calls::default());
            load(&cache, ["a", "bb"], &calls).await.unwrap();
            let again = load(&cache, ["bb", "a"], &calls).await.unwrap();
            assert_eq!(again, [Some(2), Some(1)]);
            assert_eq!(calls.seen().len(), 1);
            let found = cache.get_entry::<usize>("a").await.unwrap().unwrap();
            assert_eq!(found.ttl, Some(secs(300)));
            assert_eq!(puppet.calls("put_many"), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_an_answer_and_is_not_kept() {
        for puppet in both() {
            let (cache, calls) = (puppet.cache(), Calls::default());
            for _ in 0..2 {
                let found = load(&cache, ["none", "a", "none"], &calls).await.unwrap();
                assert_eq!(found, [None, Some(1), None]);
            }
            assert_eq!(calls.seen(), [vec!["none", "a"], vec!["none"]]);
            assert!(!cache.contains("none").await.unwrap());
            assert_eq!(cache.stats().flights, 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_keys_need_no_loader() {
        let calls = Calls::default();
        assert_eq!(load(&Cache::memory(), [], &calls).await.unwrap(), []);
        assert!(calls.seen().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn when_everything_is_there_no_loader_runs() {
        for puppet in both() {
            let (cache, calls) = (puppet.cache(), Calls::default());
            cache.put_many([("a", 1_usize), ("b", 2)]).await.unwrap();
            let found = load(&cache, ["b", "a"], &calls).await.unwrap();
            assert_eq!(found, [Some(2), Some(1)]);
            assert!(calls.seen().is_empty());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn expired_and_damaged_ones_are_loaded_again() {
        for puppet in both() {
            let (cache, calls) = (puppet.cache(), Calls::default());
            load(&cache, ["old"], &calls).await.unwrap();
            advance(secs(300)).await;
            put_raw(&puppet, "damaged", CodecId::JSON, b"{").await;
            let found = load(&cache, ["old", "damaged"], &calls).await.unwrap();
            assert_eq!(found, [Some(3), Some(7)]);
            assert_eq!(cache.get::<usize>("damaged").await.unwrap(), Some(7));
            assert_eq!(cache.stats().damaged, 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn hits_misses_loads_and_puts_are_counted() {
        for puppet in both() {
            let (cache, calls) = (puppet.cache(), Calls::default());
            cache.put("a", 1_usize).await.unwrap();
            load(&cache, ["a", "bb", "none"], &calls).await.unwrap();
            let stats = cache.stats();
            assert_eq!((stats.hits, stats.misses, stats.loads), (1, 2, 1));
            assert_eq!((stats.puts, stats.load_errors), (2, 0));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_is_asked_for_all_keys_at_once() {
        let puppet = Puppet::remote();
        let (cache, calls) = (puppet.cache(), Calls::default());
        load(&cache, ["a", "bb", "ccc"], &calls).await.unwrap();
        assert_eq!((puppet.calls("get"), puppet.calls("get_many")), (0, 1));
        assert_eq!((puppet.calls("put"), puppet.calls("put_many")), (0, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn names_may_be_owned_or_borrowed() {
        let cache = Cache::memory();
        let names: Vec<String> = vec!["a".into(), "b".into()];
        let load =
            async |keys: Vec<&String>| Ok::<_, ()>(keys.into_iter().cloned().map(Some).collect());
        let found = cache.get_or_load_many(&names, load).await.unwrap();
        let found: Vec<_> = found.into_iter().map(|name| name.unwrap()).collect();
        assert_eq!(*found[0], names[0]);
        assert_eq!(*found[1], names[1]);
    }
}

mod failures {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_result_too_few_or_too_many_is_an_error_and_nothing_is_kept() {
        for got in [0, 1, 3] {
            let cache = Cache::memory();
            let load = async |_: Vec<&str>| Ok::<_, Infallible>(vec![Some(1); got]);
            let error = cache.get_or_load_many(["a", "b"], load).await.unwrap_err();
            let LoadError::Length {
                asked: 2,
                got: told,
            } = error
            else {
                panic!("{error:?}");
            };
            assert_eq!(told, got);
            assert!(!cache.contains("a").await.unwrap());
            let stats = cache.stats();
            assert_eq!((stats.load_errors, stats.flights), (1, 0));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_error_reaches_everybody_who_waited_and_is_not_kept() {
        for puppet in both() {
            let (cache, source) = (puppet.cache(), Source::closed());
            let fail = async |_: Vec<&str>| Err(source.give(String::from("no")).await);
            let batch = cache.get_or_load_many::<_, usize, _, _, _>(["a", "b"], fail);
            let single = cache.get_or_load("b", async || Ok::<usize, String>(5));
            let other = cache.get_or_load_many(["b", "a"], async |_| {
                Ok::<_, String>(Vec::<Option<usize>>::new())
            });
            let open = async {
                settle().await;
                source.open();
            };
            let (batch, single, other, ()) =
                within(async { join!(batch, single, other, open) }).await;
            let one = loader_error(batch.unwrap_err());
            assert!(Arc::ptr_eq(&one, &loader_error(single.unwrap_err())));
            assert!(Arc::ptr_eq(&one, &loader_error(other.unwrap_err())));
            let stats = cache.stats();
            assert_eq!((stats.loads, stats.load_errors, stats.flights), (1, 1, 0));
            let next = cache.get_or_load("a", async || Ok::<usize, String>(5));
            assert_eq!(*next.await.unwrap(), 5);
        }
    }

    fn loader_error(error: LoadError<String>) -> Arc<String> {
        match error {
            LoadError::Loader(error) => error,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_answered_whatever_fails() {
        for verb in ["get_many", "put_many"] {
            for kind in [
                ErrorKind::Unavailable,
                ErrorKind::Timeout,
                ErrorKind::Closed,
            ] {
                let puppet = Puppet::remote();
                let (cache, calls) = (puppet.cache(), Calls::default());
                puppet.fail(verb, kind);
                let found = load(&cache, ["a", "bb"], &calls).await.unwrap();
                assert_eq!(found, [Some(1), Some(2)]);
                let stats = cache.stats();
                assert_eq!((stats.errors, stats.flights), (1, 0));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_that_the_server_cannot_read_costs_only_itself() {
        let puppet = Puppet::remote();
        let (cache, calls) = (puppet.cache(), Calls::default());
        cache.put("a", 10_usize).await.unwrap();
        puppet.fail("get_many", ErrorKind::Decode);
        let found = load(&cache, ["a", "bb"], &calls).await.unwrap();
        assert_eq!(found, [Some(10), Some(2)]);
        assert_eq!(calls.seen(), [["bb"]]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_loader_that_panics_panics_its_own_caller_only() {
        let (cache, source) = (Cache::memory(), Arc::new(Source::closed()));
        let panics = tokio::spawn({
            let (cache, source) = (cache.clone(), source.clone());
            async move {
                let load = async |_: Vec<&str>| -> Result<Vec<Option<usize>>, Infallible> {
                    source.give(()).await;
                    panic!("the loader's own")
                };
                drop(cache.get_or_load_many(["a", "bb"], load).await);
            }
        });
        source.until_asked(1).await;
        let (calls, other) = (Arc::new(Calls::default()), Arc::new(open()));
        let waiting = spawn(&cache, ["bb", "a"], &calls, &other);
        settle().await;
        source.open();
        assert!(within(panics).await.unwrap_err().is_panic());
        assert_eq!(within(waiting).await.unwrap(), [Some(2), Some(1)]);
        assert_eq!(cache.stats().flights, 0);
    }
}

mod sharing {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn overlapping_batches_in_opposite_order_load_each_key_once() {
        for puppet in both() {
            let (cache, calls) = (puppet.cache(), Arc::new(Calls::default()));
            let source = Arc::new(Source::closed());
            let one = spawn(&cache, ["a", "bb", "ccc"], &calls, &source);
            let two = spawn(&cache, ["dddd", "ccc", "bb", "a"], &calls, &source);
            settle().await;
            source.open();
            let one = within(one).await.unwrap();
            let two = within(two).await.unwrap();
            assert_eq!(one, [Some(1), Some(2), Some(3)]);
            assert_eq!(two, [Some(4), Some(3), Some(2), Some(1)]);
            let mut loaded = calls.seen().concat();
            loaded.sort_unstable();
            assert_eq!(loaded, ["a", "bb", "ccc", "dddd"]);
            assert_eq!(cache.stats().flights, 0);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn many_overlapping_batches_on_several_threads_load_each_key_once() {
        for _ in 0..50 {
            let (cache, calls) = (Puppet::remote().cache(), Arc::new(Calls::default()));
            let source = Arc::new(open());
            let batches = [
                ["a", "bb", "ccc"],
                ["ccc", "bb", "a"],
                ["bb", "ccc", "a"],
                ["a", "ccc", "bb"],
            ];
            let tasks = batches.map(|keys| spawn(&cache, keys, &calls, &source));
            let found = tokio::time::timeout(secs(30), join_all(tasks)).await;
            for (found, keys) in found.expect("nobody waits for ever").iter().zip(batches) {
                let expected = keys.map(|key| Some(key.len()));
                assert_eq!(found.as_ref().unwrap(), &expected);
            }
            let mut loaded = calls.seen().concat();
            loaded.sort_unstable();
            assert_eq!(loaded, ["a", "bb", "ccc"]);
            assert_eq!(cache.stats().flights, 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_and_a_single_caller_share_a_load() {
        for puppet in both() {
            let (cache, calls) = (puppet.cache(), Arc::new(Calls::default()));
            let source = Arc::new(Source::closed());
            let batch = spawn(&cache, ["a", "bb"], &calls, &source);
            source.until_asked(1).await;
            let single = cache.get_or_load("bb", async || Ok::<_, Infallible>(9_usize));
            let open = async {
                settle().await;
                source.open();
            };
            let (single, ()) = within(async { join!(single, open) }).await;
            assert_eq!(*single.unwrap(), 2);
            assert_eq!(within(batch).await.unwrap(), [Some(1), Some(2)]);
            assert_eq!(cache.stats().loads_shared, 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_of_nothing_is_shared_too() {
        for puppet in both() {
            let (cache, calls) = (puppet.cache(), Arc::new(Calls::default()));
            let source = Arc::new(Source::closed());
            let ask = |_| spawn(&cache, ["none", "a"], &calls, &source);
            let tasks: Vec<_> = (0..100).map(ask).collect();
            settle().await;
            source.open();
            for task in tasks {
                assert_eq!(within(task).await.unwrap(), [None, Some(1)]);
            }
            assert_eq!(source.asked(), 1);
            assert_eq!(cache.stats().flights, 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_for_one_key_loads_it_where_a_batch_found_nothing() {
        let (cache, calls) = (Cache::memory(), Arc::new(Calls::default()));
        let source = Arc::new(Source::closed());
        let batch = spawn(&cache, ["none"], &calls, &source);
        source.until_asked(1).await;
        let single = cache.get_or_load("none", async || Ok::<_, Infallible>(9_usize));
        let open = async {
            settle().await;
            source.open();
        };
        let (single, ()) = within(async { join!(single, open) }).await;
        assert_eq!(*single.unwrap(), 9);
        assert_eq!(within(batch).await.unwrap(), [None]);
    }

    #[tokio::test(start_paused = true)]
    async fn everybody_who_waits_is_answered_before_anything_is_stored() {
        for puppet in both() {
            let (cache, calls) = (puppet.cache(), Arc::new(Calls::default()));
            let source = Arc::new(Source::closed());
            puppet.hold(At::Request("put_many"));
            puppet.hold(At::Request("put"));
            let batch = spawn(&cache, ["a", "bb", "ccc"], &calls, &source);
            source.until_asked(1).await;
            let other = spawn(&cache, ["ccc", "bb", "a"], &calls, &source);
            settle().await;
            source.open();
            let found = within(other).await.unwrap();
            assert_eq!(found, [Some(3), Some(2), Some(1)]);
            batch.abort();
            assert_eq!(source.asked(), 1);
            settle().await;
            assert_eq!(cache.stats().flights, 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_abandoned_batch_is_handed_over() {
        for puppet in both() {
            let (cache, calls) = (puppet.cache(), Arc::new(Calls::default()));
            let (stuck, ready) = (Arc::new(Source::closed()), Arc::new(open()));
            let leaving = spawn(&cache, ["a", "bb", "ccc"], &calls, &stuck);
            stuck.until_asked(1).await;
            let one = spawn(&cache, ["a", "bb"], &calls, &ready);
            let two = spawn(&cache, ["bb", "ccc"], &calls, &ready);
            settle().await;
            assert_eq!(ready.asked(), 0);
            leaving.abort();
            assert_eq!(within(one).await.unwrap(), [Some(1), Some(2)]);
            assert_eq!(within(two).await.unwrap(), [Some(2), Some(3)]);
            let mut loaded = calls.seen()[1..].concat();
            loaded.sort_unstable();
            assert_eq!(loaded, ["a", "bb", "ccc"], "each once more, not twice");
            assert_eq!(cache.stats().flights, 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn keys_of_another_type_are_loaded_alone_and_held_to_their_number() {
        let (cache, source) = (Cache::memory(), Source::closed());
        let text = cache.get_or_load("a", async || {
            Ok::<_, Infallible>(source.give(String::from("text")).await)
        });
        let number = cache.get_or_load_many(["a"], async |keys: Vec<&str>| {
            Ok::<_, Infallible>(vec![Some(keys.len())])
        });
        let wrong = cache.get_or_load_many(["a"], async |_: Vec<&str>| {
            Ok::<_, Infallible>(vec![Some(1_u8), Some(2)])
        });
        let open = async {
            settle().await;
            source.open();
        };
        let (text, number, wrong, ()) = within(async { join!(text, number, wrong, open) }).await;
        assert_eq!(*text.unwrap(), "text");
        assert_eq!(number.unwrap()[0].as_deref(), Some(&1));
        let error = wrong.unwrap_err();
        assert!(matches!(error, LoadError::Length { asked: 1, got: 2 }));
    }
}

mod invalidation {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn of_a_batch_only_what_was_not_invalidated_meanwhile_is_kept() {
        for puppet in both() {
            let (cache, calls) = (puppet.cache(), Arc::new(Calls::default()));
            let source = Arc::new(Source::closed());
            let batch = spawn(&cache, ["a", "bb", "ccc", "dddd"], &calls, &source);
            source.until_asked(1).await;
            cache.delete("bb").await.unwrap();
            cache.put("ccc", 30_usize).await.unwrap();
            cache.delete_many(["dddd"]).await.unwrap();
            source.open();
            let found = within(batch).await.unwrap();
            assert_eq!(found, [Some(1), Some(2), Some(3), Some(4)]);
            let kept = cache.get_many::<usize>(["a", "bb", "ccc", "dddd"]).await;
            assert_eq!(kept.unwrap(), [Some(1), None, Some(30), None]);
            assert_eq!(cache.stats().loads_late, 3);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_clear_ends_a_whole_batch() {
        for puppet in both() {
            let (cache, calls) = (puppet.cache(), Arc::new(Calls::default()));
            let source = Arc::new(Source::closed());
            let batch = spawn(&cache, ["a", "bb"], &calls, &source);
            source.until_asked(1).await;
            cache.clear().await.unwrap();
            source.open();
            assert_eq!(within(batch).await.unwrap(), [Some(1), Some(2)]);
            let kept = cache.get_many::<usize>(["a", "bb"]).await.unwrap();
            assert_eq!(kept, [None, None]);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn batches_and_invalidations_in_any_order_never_wait_in_a_circle() {
        let cache = Puppet::remote().cache();
        let (calls, source) = (Arc::new(Calls::default()), Arc::new(open()));
        let tasks: Vec<_> = (0..8)
            .map(|number| {
                let (cache, calls, source) = (cache.clone(), calls.clone(), source.clone());
                tokio::spawn(async move {
                    for _ in 0..200 {
                        match number % 4 {
                            0 => drop(slow(&cache, ["a", "bb"], &calls, &source).await),
                            1 => drop(slow(&cache, ["bb", "a"], &calls, &source).await),
                            2 => drop(cache.delete_many(["a", "bb"]).await),
                            _ => drop(cache.put_many([("bb", 2_usize), ("a", 1)]).await),
                        }
                    }
                })
            })
            .collect();
        let ended = tokio::time::timeout(secs(60), join_all(tasks)).await;
        for task in ended.expect("nobody waits for ever") {
            task.unwrap();
        }
        assert_eq!(cache.stats().flights, 0);
    }
}

mod reentrancy {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_batch_that_asks_for_one_of_its_own_keys_gets_an_error() {
        let cache = Cache::memory();
        let load = async |keys: Vec<&str>| {
            let own = cache.get_or_load("b", async || Ok::<u8, ()>(1)).await;
            assert!(matches!(own, Err(LoadError::Reentrant)));
            let own = cache.get_or_load_many(["c", "a"], async |_| Ok::<_, ()>(vec![Some(1_u8)]));
            assert!(matches!(own.await, Err(LoadError::Reentrant)));
            Ok::<_, ()>(vec![Some(2_u8); keys.len()])
        };
        let found = within(cache.get_or_load_many(["a", "b"], load)).await;
        assert_eq!(found.unwrap().len(), 2);
        assert_eq!(cache.stats().flights, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_inside_a_loader_may_load_other_keys() {
        let (cache, calls) = (Cache::memory(), Calls::default());
        let sum = async || {
            let parts = load(&cache, ["a", "bb", "a"], &calls).await?;
            Ok::<_, LoadError<Infallible>>(parts.into_iter().flatten().sum::<usize>())
        };
        let sum = within(cache.get_or_load("sum", sum)).await.unwrap();
        assert_eq!(*sum, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn batches_that_wait_for_each_other_crosswise_do_not_hang() {
        let cache = Cache::memory();
        let barrier = tokio::sync::Barrier::new(2);
        let crossing = |first: &'static str, second: &'static str| {
            let (cache, barrier) = (&cache, &barrier);
            let load = move |keys: Vec<&'static str>| async move {
                barrier.wait().await;
                let other = cache.get_or_load_many([second], async |keys: Vec<&str>| {
                    Ok::<_, ()>(vec![Some(false); keys.len()])
                });
                let circle = matches!(other.await, Err(LoadError::Reentrant));
                Ok::<_, ()>(vec![Some(circle); keys.len()])
            };
            async move {
                let found = cache.get_or_load_many([first], load).await.unwrap();
                *found[0].clone().unwrap()
            }
        };
        let (one, two) = within(async { join!(crossing("a", "b"), crossing("b", "a")) }).await;
        assert!(one != two, "exactly one has to give in");
    }
}
