//! The same comparison for every server: its client doing the least that stores the same bytes, the backend, and the cache
//! on it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use larder::{Backend, Cache, CodecId, Entry, Key, PutMode, PutOptions, Timestamp};

use super::measure::{compare_at, contender};

pub(crate) const MANY: usize = 100;

const KEYS: usize = 1_000;
const LEN: usize = 1_024;
const HOUR: Duration = Duration::from_secs(3600);
const IN_FLIGHT: [usize; 2] = [1, 64];

/// As patient as the clients themselves: many calls for 100 values at one time are seconds of work.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What a client does by itself.
pub(crate) trait Simplest: Clone + 'static {
    const NAME: &'static str;

    /// The length of what is there.
    async fn get(&self, name: String) -> usize;

    async fn put(&self, name: String, value: Bytes);

    /// How many are there.
    async fn get_many(&self, names: Vec<String>) -> usize;
}

pub(crate) async fn side_by_side<S: Simplest>(server: &str, raw: S, backend: Arc<dyn Backend>) {
    let cache = Cache::builder(backend.clone()).backend_timeout(PATIENCE);
    let cache = cache.build();
    let value = Bytes::from(vec![b'x'; LEN]);
    let text = String::from_utf8(value.to_vec()).expect("it is a text");
    let hour = PutOptions::new().ttl(HOUR);
    for number in 0..KEYS {
        raw.put(name(number), value.clone()).await;
        let key = key(number);
        let put = backend.put(&key, entry(value.clone()), PutMode::Always);
        assert!(put.await.expect("it runs"));
        let put = cache.put_with(name(number), text.clone(), hour.clone());
        assert!(put.await.expect("it runs"));
    }

    let contenders = {
        let (one, two, three, four) = (raw.clone(), backend.clone(), cache.clone(), cache.clone());
        vec![
            contender(S::NAME, move |number| {
                let raw = one.clone();
                async move { assert_eq!(raw.get(name(number)).await, LEN) }
            }),
            contender("Backend::get", move |number| {
                let backend = two.clone();
                async move {
                    let found = backend.get(&key(number)).await.expect("it runs");
                    assert_eq!(found.expect("it is there").payload().len(), LEN);
                }
            }),
            contender("Cache::get", move |number| {
                let cache = three.clone();
                async move {
                    let found: Option<String> = cache.get(name(number)).await.expect("it runs");
                    assert_eq!(found.expect("it is there").len(), LEN);
                }
            }),
            contender("Cache::get_or_load", move |number| {
                let cache = four.clone();
                async move {
                    let load = || async { Err::<String, _>("it is there") };
                    let found = cache.get_or_load(name(number), load).await;
                    assert_eq!(found.expect("it is there").len(), LEN);
                }
            }),
        ]
    };
    compare_at(&IN_FLIGHT, &format!("{server}, get of 1 KiB"), contenders).await;

    let contenders = {
        let (one, two, three) = (raw.clone(), backend.clone(), cache.clone());
        let (first, second) = (value.clone(), value);
        vec![
            contender(S::NAME, move |number| {
                let (raw, value) = (one.clone(), first.clone());
                async move { raw.put(name(number), value).await }
            }),
            contender("Backend::put", move |number| {
                let (backend, value) = (two.clone(), second.clone());
                async move {
                    let key = key(number);
                    let put = backend.put(&key, entry(value), PutMode::Always);
                    assert!(put.await.expect("it runs"));
                }
            }),
            contender("Cache::put", move |number| {
                let (cache, value, hour) = (three.clone(), text.clone(), hour.clone());
                async move {
                    let put = cache.put_with(name(number), value, hour);
                    assert!(put.await.expect("it runs"));
                }
            }),
        ]
    };
    compare_at(&IN_FLIGHT, &format!("{server}, put of 1 KiB"), contenders).await;

    let contenders = vec![
        contender(S::NAME, move |number| {
            let raw = raw.clone();
            async move { assert_eq!(raw.get_many(names(number)).await, MANY) }
        }),
        contender("Backend::get_many", move |number| {
            let backend = backend.clone();
            async move {
                let keys: Vec<_> = (0..MANY).map(|at| key(number + at)).collect();
                let found = backend.get_many(&keys).await.expect("it runs");
                assert!(found.iter().all(Option::is_some));
            }
        }),
        contender("Cache::get_many", move |number| {
            let cache = cache.clone();
            async move {
                let found = cache.get_many::<String>(names(number)).await;
                assert!(found.expect("it runs").iter().all(Option::is_some));
            }
        }),
    ];
    let title = format!("{server}, get of 100 times 1 KiB");
    compare_at(&IN_FLIGHT, &title, contenders).await;
}

fn name(number: usize) -> String {
    format!("key:{:020}", number % KEYS)
}

fn names(number: usize) -> Vec<String> {
    (0..MANY).map(|at| name(number + at)).collect()
}

fn key(number: usize) -> Key {
    Key::new("bench", None, name(number))
}

fn entry(value: Bytes) -> Entry {
    let now = Timestamp::now();
    Entry::new(CodecId::RAW, value, now).with_ttl(Some(HOUR), now)
}
