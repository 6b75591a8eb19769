//! Redis: the connection of redis-rs by itself, the backend, and the cache on it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use larder::{
    Backend, Cache, CodecId, Entry, Key, PutMode, PutOptions, Redis as Larder, Timestamp,
};
use redis::{AsyncCommands, aio::MultiplexedConnection};

use super::{
    measure::{compare, contender},
    support_servers::Redis,
};

const KEYS: usize = 10_000;
const MANY: usize = 100;
const HOUR: Duration = Duration::from_secs(3600);

pub(crate) async fn run() {
    let Some(server) = Redis::start() else { return };
    let client = redis::Client::open(server.url()).expect("the URL is one");
    let raw = client
        .get_multiplexed_async_connection()
        .await
        .expect("it runs");
    let connected = Larder::builder(server.url()).connect().await;
    let backend: Arc<dyn Backend> = Arc::new(connected.expect("it runs"));
    let cache = Cache::builder(backend.clone()).build();
    let value = "x".repeat(1024);
    fill(raw.clone(), &*backend, &cache, &value).await;

    let name = |number: usize| format!("key:{:020}", number % KEYS);
    let of = move |number| Key::new("bench", None, name(number));
    compare("Redis, get of 1 KiB", {
        let (one, two, three, four) = (raw.clone(), backend.clone(), cache.clone(), cache.clone());
        vec![
            contender("redis-rs", move |number| {
                let mut raw = one.clone();
                async move {
                    let found: Vec<u8> = raw.get(name(number)).await.expect("it runs");
                    assert_eq!(found.len(), 1024);
                }
            }),
            contender("Backend::get", move |number| {
                let backend = two.clone();
                async move {
                    let found = backend.get(&of(number)).await.expect("it runs");
                    assert_eq!(found.expect("it is there").payload().len(), 1024);
                }
            }),
            contender("Cache::get", move |number| {
                let cache = three.clone();
                async move {
                    let found: Option<String> = cache.get(name(number)).await.expect("it runs");
                    assert_eq!(found.expect("it is there").len(), 1024);
                }
            }),
            contender("Cache::get_or_load", move |number| {
                let cache = four.clone();
                async move {
                    let load = || async { Err::<String, _>("it is there") };
                    let found = cache.get_or_load(name(number), load).await;
                    assert_eq!(found.expect("it is there").len(), 1024);
                }
            }),
        ]
    })
    .await;

    compare("Redis, put of 1 KiB", {
        let (one, two, three) = (raw.clone(), backend.clone(), cache.clone());
        let (first, second, third) = (value.clone(), Bytes::from(value.clone()), value.clone());
        vec![
            contender("redis-rs", move |number| {
                let (mut raw, value) = (one.clone(), first.clone());
                async move {
                    let put = raw.pset_ex::<_, _, ()>(name(number), value, 3_600_000);
                    put.await.expect("it runs");
                }
            }),
            contender("Backend::put", move |number| {
                let (backend, value) = (two.clone(), second.clone());
                async move {
                    let key = of(number);
                    let put = backend.put(&key, entry(value), PutMode::Always);
                    assert!(put.await.expect("it runs"));
                }
            }),
            contender("Cache::put", move |number| {
                let (cache, value) = (three.clone(), third.clone());
                async move {
                    let hour = PutOptions::new().ttl(HOUR);
                    let put = cache.put_with(name(number), value, hour);
                    assert!(put.await.expect("it runs"));
                }
            }),
        ]
    })
    .await;

    compare("Redis, get of 100 times 1 KiB", {
        let (one, two, three) = (raw, backend, cache);
        let names = move |number: usize| (0..MANY).map(move |at| name(number + at));
        vec![
            contender("redis-rs MGET", move |number| {
                let mut raw = one.clone();
                async move {
                    let keys: Vec<_> = names(number).collect();
                    let found: Vec<Vec<u8>> = raw.mget(keys).await.expect("it runs");
                    assert_eq!(found.len(), MANY);
                }
            }),
            contender("Backend::get_many", move |number| {
                let backend = two.clone();
                async move {
                    let keys: Vec<_> = (0..MANY).map(|at| of(number + at)).collect();
                    let found = backend.get_many(&keys).await.expect("it runs");
                    assert!(found.iter().all(Option::is_some));
                }
            }),
            contender("Cache::get_many", move |number| {
                let cache = three.clone();
                async move {
                    let found: Vec<Option<String>> =
                        cache.get_many(names(number)).await.expect("it runs");
                    assert!(found.iter().all(Option::is_some));
                }
            }),
        ]
    })
    .await;
}

fn entry(value: Bytes) -> Entry {
    let now = Timestamp::now();
    Entry::new(CodecId::RAW, value, now).with_ttl(Some(HOUR), now)
}

/// The same values, as each of them keeps them.
async fn fill(mut raw: MultiplexedConnection, backend: &dyn Backend, cache: &Cache, value: &str) {
    for number in 0..KEYS {
        let name = format!("key:{number:020}");
        let put = raw.set::<_, _, ()>(&name, value);
        put.await.expect("it runs");
        let key = Key::new("bench", None, &name);
        let bytes = entry(Bytes::from(value.to_owned()));
        let put = backend.put(&key, bytes, PutMode::Always);
        put.await.expect("it runs");
        let hour = PutOptions::new().ttl(HOUR);
        let put = cache.put_with(&name, value.to_owned(), hour);
        put.await.expect("it runs");
    }
}
