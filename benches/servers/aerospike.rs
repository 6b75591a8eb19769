//! Aerospike: the client by itself, the backend, and the cache on it.

use std::{sync::Arc, time::Duration};

use aerospike::{
    BatchOperation, BatchPolicy, BatchReadPolicy, Bins, Client, ClientPolicy, Expiration,
    ReadPolicy, RecordExistsAction, Value, WritePolicy, as_bin, as_key,
};
use bytes::Bytes;
use larder::{
    Aerospike as Larder, Backend, Cache, CodecId, Entry, Key, PutMode, PutOptions, Timestamp,
};

use super::{
    measure::{compare, contender},
    support_servers::Aerospike,
};

const KEYS: usize = 10_000;
const MANY: usize = 100;
const HOUR: Duration = Duration::from_secs(3600);

pub(crate) async fn run() {
    let Some(server) = Aerospike::find() else {
        return;
    };
    let hosts = server.hosts();
    let policy = ClientPolicy::default();
    let raw = Client::new(&policy, &hosts).await.expect("it runs");
    // As patient as the client: 512 calls for 100 values each are more than a quarter of a second of work.
    let patience = Duration::from_secs(1);
    let connected = Larder::builder(hosts).timeout(patience).connect().await;
    let backend: Arc<dyn Backend> = Arc::new(connected.expect("it runs"));
    let cache = Cache::builder(backend.clone()).backend_timeout(patience);
    let cache = cache.build();
    let value = "x".repeat(1024);
    fill(&raw, &*backend, &cache, &value).await;

    compare("Aerospike, get of 1 KiB", {
        let (one, two, three, four) = (raw.clone(), backend.clone(), cache.clone(), cache.clone());
        vec![
            contender("aerospike", move |number| {
                let raw = one.clone();
                async move {
                    let policy = ReadPolicy::default();
                    let found = raw.get(&policy, &raw_key(number), Bins::All).await;
                    assert_eq!(found.expect("it is there").bins.len(), 1);
                }
            }),
            contender("Backend::get", move |number| {
                let backend = two.clone();
                async move {
                    let found = backend.get(&key(number)).await.expect("it runs");
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

    compare("Aerospike, put of 1 KiB", {
        let (one, two, three) = (raw.clone(), backend.clone(), cache.clone());
        let (first, second, third) = (value.clone(), Bytes::from(value.clone()), value.clone());
        vec![
            contender("aerospike", move |number| {
                let (raw, value) = (one.clone(), first.clone());
                async move { put(&raw, number, value).await }
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

    compare("Aerospike, get of 100 times 1 KiB", {
        let (one, two, three) = (raw.clone(), backend, cache);
        vec![
            contender("aerospike batch", move |number| {
                let raw = one.clone();
                async move {
                    let (policy, each) = (BatchPolicy::default(), BatchReadPolicy::default());
                    let keys = (0..MANY).map(|at| raw_key(number + at));
                    let mut rows: Vec<_> = keys
                        .map(|key| BatchOperation::read(&each, key, Bins::All))
                        .collect();
                    raw.batch(&policy, &mut rows).await.expect("it runs");
                }
            }),
            contender("Backend::get_many", move |number| {
                let backend = two.clone();
                async move {
                    let keys: Vec<_> = (0..MANY).map(|at| key(number + at)).collect();
                    let found = backend.get_many(&keys).await.expect("it runs");
                    assert!(found.iter().all(Option::is_some));
                }
            }),
            contender("Cache::get_many", move |number| {
                let cache = three.clone();
                async move {
                    let names = (0..MANY).map(|at| name(number + at));
                    let found: Vec<Option<String>> = cache.get_many(names).await.expect("it runs");
                    assert!(found.iter().all(Option::is_some));
                }
            }),
        ]
    })
    .await;
    raw.close().await.expect("it was open");
}

fn name(number: usize) -> String {
    format!("key:{:020}", number % KEYS)
}

fn key(number: usize) -> Key {
    Key::new("bench", None, name(number))
}

fn raw_key(number: usize) -> aerospike::Key {
    as_key!("cache", "bench-raw", name(number))
}

fn entry(value: Bytes) -> Entry {
    let now = Timestamp::now();
    Entry::new(CodecId::RAW, value, now).with_ttl(Some(HOUR), now)
}

async fn put(raw: &Client, number: usize, value: String) {
    let mut policy = WritePolicy::new(0, Expiration::Seconds(3600));
    policy.record_exists_action = RecordExistsAction::Replace;
    let bins = [as_bin!("v", Value::Blob(value.into_bytes()))];
    let key = raw_key(number);
    let put = raw.put(&policy, &key, &bins);
    put.await.expect("it runs");
}

/// The same values, as each of them keeps them.
async fn fill(raw: &Client, backend: &dyn Backend, cache: &Cache, value: &str) {
    for number in 0..KEYS {
        put(raw, number, value.to_owned()).await;
        let bytes = entry(Bytes::from(value.to_owned()));
        let key = key(number);
        let put = backend.put(&key, bytes, PutMode::Always);
        put.await.expect("it runs");
        let hour = PutOptions::new().ttl(HOUR);
        let put = cache.put_with(name(number), value.to_owned(), hour);
        put.await.expect("it runs");
    }
}
