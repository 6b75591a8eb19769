//! What is special to the memory backend: bounds, eviction, sweeping and runtimes.

#![allow(clippy::unwrap_used)]

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use larder::{
    Backend, CodecId, Entry, ErrorKind, Key, Memory, MemoryPolicy, Peek, PutMode, Timestamp,
};

const POLICIES: [MemoryPolicy; 3] = [
    MemoryPolicy::S3Fifo,
    MemoryPolicy::TinyLfu,
    MemoryPolicy::Lru,
];

fn key(name: impl ToString) -> Key {
    Key::new("test", None, name.to_string())
}

fn entry(len: usize) -> Entry {
    Entry::new(CodecId::RAW, vec![b'x'; len], Timestamp::now())
}

fn ending(ttl: Duration) -> Entry {
    entry(10).with_ttl(Some(ttl), Timestamp::now())
}

async fn put(memory: &Memory, name: impl ToString, entry: Entry) -> bool {
    let put = memory.put(&key(name), entry, PutMode::Always).await;
    put.unwrap()
}

async fn has(memory: &Memory, name: impl ToString) -> bool {
    memory.contains(&key(name)).await.unwrap()
}

async fn live(memory: &Memory, names: std::ops::Range<usize>) -> usize {
    let keys: Vec<_> = names.map(key).collect();
    let read = memory.get_many(&keys).await.unwrap();
    read.iter().flatten().count()
}

#[tokio::test]
async fn bytes_stay_within_their_bound() {
    for policy in POLICIES {
        for bound in [100_000, 1 << 20, 40 << 20] {
            let memory = Memory::builder().max_bytes(bound).policy(policy).build();
            let len = bound as usize / 1_000;
            for name in 0..10_000 {
                put(&memory, name, entry(len)).await;
            }
            let bytes = memory.usage().unwrap().bytes;
            assert!(bytes <= bound, "{bytes} of {bound} by {policy:?}");
            assert!(bytes > bound / 2, "only {bytes} of {bound} by {policy:?}");
        }
    }
}

#[tokio::test]
async fn entries_stay_within_their_bound_and_come_near_it() {
    for policy in POLICIES {
        for bound in [1_usize, 2, 3, 7, 100, 1_000, 10_000] {
            let memory = Memory::builder()
                .max_entries(bound as u64)
                .policy(policy)
                .build();
            for name in 0..bound {
                put(&memory, name, entry(10)).await;
            }
            memory.usage();
            let filled = live(&memory, 0..bound).await;
            assert!(
                filled * 10 >= bound * 9,
                "only {filled} of {bound} fit by {policy:?}"
            );
            for name in 0..10 * bound {
                put(&memory, name, entry(10)).await;
            }
            let held = memory.usage().unwrap().entries;
            assert!(held <= bound as u64, "{held} of {bound} by {policy:?}");
            let live = live(&memory, 0..10 * bound).await;
            assert!(live <= bound, "{live} of {bound} by {policy:?}");
        }
    }
}

#[tokio::test]
async fn no_entries_and_no_bytes_are_bounds_too() {
    for policy in POLICIES {
        for builder in [
            Memory::builder().max_entries(0),
            Memory::builder().max_bytes(0),
        ] {
            let memory = builder.policy(policy).build();
            assert!(!put(&memory, "any", entry(0)).await);
            assert!(!has(&memory, "any").await);
            assert_eq!(memory.capabilities().max_value_len, Some(0));
        }
    }
}

#[tokio::test]
async fn a_large_body_is_kept_by_a_default_cache_full_of_small_ones() {
    let memory = Memory::new();
    for name in 0..200_000 {
        put(&memory, name, entry(400)).await;
    }
    for round in 0..20 {
        let name = format!("large {round}");
        assert!(put(&memory, &name, entry(1 << 20)).await);
        assert!(has(&memory, &name).await, "{name}");
    }
}

#[tokio::test]
async fn the_largest_payload_that_is_declared_is_kept() {
    for policy in POLICIES {
        for bound in [20_000, 1 << 20, 64 << 20] {
            for name in ["a", &"n".repeat(1000)] {
                let memory = Memory::builder().max_bytes(bound).policy(policy).build();
                let limit = memory.capabilities().max_value_len.unwrap();
                assert!(limit as u64 > bound / 40, "{limit} of {bound}");
                assert!(put(&memory, name, entry(limit)).await);
                memory.usage();
                assert!(has(&memory, name).await, "{limit} of {bound} by {policy:?}");
            }
        }
    }
}

/// What a put says is kept is there, whatever its size, when nothing else is.
#[tokio::test]
async fn what_is_said_to_be_kept_is_kept() {
    for policy in POLICIES {
        for percent in 30..60 {
            let memory = Memory::builder().max_bytes(1 << 20).policy(policy).build();
            let kept = put(&memory, "any", entry((1 << 20) * percent / 100)).await;
            memory.usage();
            assert_eq!(kept, has(&memory, "any").await, "{percent} % by {policy:?}");
        }
    }
}

#[tokio::test]
async fn an_entry_too_large_is_refused_and_takes_the_old_one_with_it() {
    for policy in POLICIES {
        let memory = Memory::builder().max_bytes(1 << 20).policy(policy).build();
        assert!(put(&memory, "any", entry(10)).await);
        assert!(!put(&memory, "any", entry(1 << 20)).await);
        assert!(!has(&memory, "any").await);
    }
}

#[tokio::test(start_paused = true)]
async fn what_expires_is_freed_without_being_read() {
    for policy in POLICIES {
        let memory = Memory::builder().policy(policy).build();
        for name in 0..10_000 {
            let ttl = Duration::from_secs(if name < 9_000 { 30 } else { 300 });
            put(&memory, name, ending(ttl)).await;
        }
        put(&memory, "endless", entry(10)).await;
        tokio::time::sleep(Duration::from_secs(29)).await;
        assert_eq!(memory.usage().unwrap().entries, 10_001, "{policy:?}");
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(memory.usage().unwrap().entries, 1_001, "{policy:?}");
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(memory.usage().unwrap().entries, 1, "{policy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_touched_to_end_sooner_is_freed_sooner() {
    let memory = Memory::new();
    put(&memory, "any", ending(Duration::from_secs(3_600))).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    memory
        .touch(&key("any"), Some(Duration::from_secs(1)))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(memory.usage().unwrap().entries, 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_cleared_is_freed_without_being_read() {
    for policy in POLICIES {
        let memory = Memory::builder().policy(policy).build();
        for name in 0..10_000 {
            put(&memory, name, entry(10)).await;
        }
        let other = Key::new("other", None, "any");
        memory
            .put(&other, entry(10), PutMode::Always)
            .await
            .unwrap();
        memory.clear("test").await.unwrap();
        assert_eq!(live(&memory, 0..10_000).await, 0, "{policy:?}");
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(memory.usage().unwrap().entries, 1, "{policy:?}");
        assert!(memory.contains(&other).await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn remove_expired_counts_what_it_frees_up_to_its_limit() {
    for policy in POLICIES {
        let memory = Memory::builder().policy(policy).build();
        for name in 0..100 {
            put(&memory, name, ending(Duration::from_secs(1))).await;
        }
        put(&memory, "live", entry(10)).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let mut freed = Vec::new();
        for _ in 0..5 {
            freed.push(memory.remove_expired(40).await.unwrap());
        }
        assert_eq!(freed, [40, 40, 20, 0, 0], "{policy:?}");
        assert_eq!(memory.usage().unwrap().entries, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_sweeper_ends_with_the_backend() {
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    let memory = Memory::new();
    let clone = memory.clone();
    assert_eq!(tasks(), before, "nothing is to be swept yet");
    put(&memory, "any", ending(Duration::from_secs(1))).await;
    put(&memory, "other", ending(Duration::from_secs(1))).await;
    assert_eq!(tasks(), before + 1);
    drop(memory);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(tasks(), before + 1, "a clone is left");
    drop(clone);
    tokio::task::yield_now().await;
    assert_eq!(tasks(), before);
}

#[tokio::test(start_paused = true)]
async fn the_sweeper_ends_with_close() {
    let memory = Memory::new();
    put(&memory, "any", ending(Duration::from_secs(1))).await;
    memory.close().await.unwrap();
    tokio::task::yield_now().await;
    let metrics = tokio::runtime::Handle::current().metrics();
    assert_eq!(metrics.num_alive_tasks(), 0);
}

#[test]
fn it_serves_one_runtime_after_the_other() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
    };
    let memory = Memory::new();
    runtime().block_on(async {
        put(&memory, "first", ending(Duration::from_secs(20))).await;
        put(&memory, "endless", entry(10)).await;
    });
    // The second runtime's clock starts at the present again.
    runtime().block_on(async {
        assert!(has(&memory, "first").await);
        put(&memory, "second", ending(Duration::from_secs(20))).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(memory.usage().unwrap().entries, 1);
    });
}

#[test]
fn it_needs_no_runtime() {
    let memory = Memory::new();
    let any = key("any");
    let mut put = std::pin::pin!(memory.put(&any, entry(10), PutMode::Always));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let poll = Future::poll(put.as_mut(), &mut context);
    assert!(matches!(poll, std::task::Poll::Ready(Ok(true))));
    let peek = memory.peek(any.as_key_ref(), Timestamp::now());
    assert!(matches!(peek, Peek::Hit(_)));
}

#[tokio::test]
async fn clear_takes_no_longer_for_many_entries() {
    let memory = Memory::builder().max_bytes(1 << 30).build();
    for name in 0..100_000 {
        put(&memory, name, entry(10)).await;
    }
    // 10 000 clearings that each looked at every entry would take minutes.
    for _ in 0..10_000 {
        memory.clear("test").await.unwrap();
    }
    assert_eq!(live(&memory, 0..1_000).await, 0);
    assert!(put(&memory, 1, entry(10)).await);
    assert!(has(&memory, 1).await);
}

/// A verb that read an entry before the clear must not write what it read after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_outlives_a_clear_by_being_written_back() {
    static OVER: AtomicBool = AtomicBool::new(false);
    for policy in POLICIES {
        OVER.store(false, Ordering::Relaxed);
        let memory = Memory::builder().policy(policy).build();
        let writers = [0, 1].map(|_| {
            let memory = memory.clone();
            tokio::spawn(async move {
                while !OVER.load(Ordering::Relaxed) {
                    memory.touch(&key("any"), None).await.unwrap();
                    // Lets the runtime end when the test has failed.
                    tokio::task::yield_now().await;
                }
            })
        });
        for round in 0..5_000 {
            put(&memory, "any", entry(10)).await;
            memory.clear("test").await.unwrap();
            // A touch that was under way has a moment to do its harm.
            memory.touch(&key("any"), None).await.unwrap();
            assert!(!has(&memory, "any").await, "round {round} by {policy:?}");
            if round % 16 == 0 {
                memory.remove_expired(usize::MAX).await.unwrap();
                assert!(!has(&memory, "any").await, "round {round} by {policy:?}");
            }
        }
        OVER.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_closed_backend_holds_nothing() {
    for policy in POLICIES {
        let memory = Memory::builder().policy(policy).build();
        put(&memory, "any", entry(10)).await;
        memory.close().await.unwrap();
        assert_eq!(memory.usage().unwrap().entries, 0, "{policy:?}");
        let peek = memory.peek(key("any").as_key_ref(), Timestamp::now());
        assert!(matches!(peek, Peek::Ask));
        let error = memory.get(&key("any")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert_eq!(error.to_string(), "memory get: the cache was closed");
    }
}
