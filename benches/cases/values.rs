//! Values looked up and kept by `Cache`, and by the engines that it stands on.

use std::{convert::Infallible, future::Future, hint::black_box, sync::Arc, time::Duration};

use foldhash::fast::RandomState;
use futures_util::FutureExt;
use larder::{Cache, Memory, MemoryPolicy};
use quick_cache::{UnitWeighter, sync::DefaultLifecycle};
use serde::{Deserialize, Serialize};

/// Does something with so many keys, one after the other; several threads may do so at once.
pub(crate) type Run = Box<dyn Fn(u64) + Send + Sync>;

/// A small value, as handlers have them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Item {
    id: u64,
    name: String,
    tags: Vec<u32>,
}

/// What is done with each key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    GetShared,
    Get,
    GetOrLoad,
    Put,
}

/// Keys of 24 bytes, and the order in which they are asked for: far apart in memory, each as often as any other.
pub(crate) struct Keys(Vec<String>);

impl Keys {
    pub(crate) fn new(count: usize) -> Self {
        Self((0..count).map(|at| format!("user:{at:019}")).collect())
    }

    pub(crate) fn each(&self, count: u64, mut act: impl FnMut(&str)) {
        /// A prime that divides none of the numbers of keys.
        const STEP: usize = 617;
        let mut at = 0;
        for _ in 0..count {
            act(&self.0[at]);
            at += STEP;
            while at >= self.0.len() {
                at -= self.0.len();
            }
        }
    }
}

fn item(key: &str) -> Item {
    Item {
        id: key.len() as u64,
        name: key.to_owned(),
        tags: vec![1, 2, 3],
    }
}

/// In memory everything is done when it is asked for the first time.
fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("memory does not wait")
}

pub(crate) fn larder(policy: MemoryPolicy, verb: Verb, keys: usize) -> Run {
    let memory = Memory::builder().policy(policy).max_bytes(512 << 20);
    let cache = Cache::builder(memory.build())
        .default_ttl(Duration::from_secs(80_000))
        .build();
    let keys = Keys::new(keys);
    for key in &keys.0 {
        assert!(now(cache.put(key, item(key))).expect("memory does not fail"));
    }
    match verb {
        Verb::GetShared => Box::new(move |count| {
            keys.each(count, |key| {
                let found = now(cache.get_shared::<Item>(key));
                drop(black_box(found.expect("memory does not fail")));
            });
        }),
        Verb::Get => Box::new(move |count| {
            keys.each(count, |key| {
                let found = now(cache.get::<Item>(key));
                drop(black_box(found.expect("memory does not fail")));
            });
        }),
        Verb::GetOrLoad => Box::new(move |count| {
            keys.each(count, |key| {
                let load = || async { Ok::<_, Infallible>(item(key)) };
                drop(black_box(now(cache.get_or_load(key, load))));
            });
        }),
        Verb::Put => {
            let value = item("value");
            Box::new(move |count| {
                keys.each(count, |key| {
                    let kept = now(cache.put(key, value.clone()));
                    assert!(kept.expect("memory does not fail"));
                });
            })
        }
    }
}

/// The engine of [`MemoryPolicy::S3Fifo`] by itself: no expiry, no encoded form, no statistics.
pub(crate) fn quick_cache(verb: Verb, keys: usize) -> Run {
    let cache = quick_cache::sync::Cache::<String, Arc<Item>, _, _, _>::with(
        2 * keys,
        2 * keys as u64,
        UnitWeighter,
        RandomState::default(),
        DefaultLifecycle::default(),
    );
    let keys = Keys::new(keys);
    for key in &keys.0 {
        cache.insert(key.clone(), Arc::new(item(key)));
    }
    if verb == Verb::Put {
        let value = item("value");
        return Box::new(move |count| {
            keys.each(count, |key| {
                cache.insert(key.to_owned(), Arc::new(value.clone()));
            });
        });
    }
    Box::new(move |count| keys.each(count, |key| drop(black_box(cache.get(key)))))
}

/// The engine of the other policies by itself.
pub(crate) fn moka(verb: Verb, keys: usize) -> Run {
    let cache = moka::sync::Cache::builder()
        .max_capacity(2 * keys as u64)
        .build_with_hasher(RandomState::default());
    let keys = Keys::new(keys);
    for key in &keys.0 {
        cache.insert(key.clone(), Arc::new(item(key)));
    }
    if verb == Verb::Put {
        let value = item("value");
        return Box::new(move |count| {
            keys.each(count, |key| {
                cache.insert(key.to_owned(), Arc::new(value.clone()));
            });
        });
    }
    Box::new(move |count| keys.each(count, |key| drop(black_box(cache.get(key)))))
}
