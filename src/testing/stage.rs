//! What every behaviour stands on: clients of the backend, a namespace of its own, and time.

use std::{
    future::{Future, poll_fn},
    hash::{BuildHasher, RandomState},
    ops::Deref,
    panic::resume_unwind,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::Barrier, task::JoinSet};

use crate::{Backend, Capabilities, CodecId, Entry, Key, PutMode, Result, Timestamp};

/// A capability that a behaviour is about, with its name for the report.
pub(super) struct Need {
    pub(super) name: &'static str,
    pub(super) met: fn(&Capabilities) -> bool,
}

macro_rules! needs {
    ($($need:ident = $name:literal: $met:expr;)*) => {
        $(pub(super) const $need: Need = Need { name: $name, met: $met };)*
    };
}

/// A value above this length takes too long to send for a behaviour of its own.
const LARGEST_LIMIT: usize = 16 << 20;

needs! {
    STORES = "stores": |can| can.stores;
    FORGETS = "stores: false": |can| !can.stores;
    COUNTERS = "counters": |can| can.counters;
    NO_COUNTERS = "counters: false": |can| !can.counters;
    IF_ABSENT = "if_absent": |can| can.if_absent;
    NO_IF_ABSENT = "stores, if_absent: false": |can| can.stores && !can.if_absent;
    VERSIONS = "versions": |can| can.versions;
    NO_VERSIONS = "stores, versions: false": |can| can.stores && !can.versions;
    LEASES = "leases": |can| can.leases;
    NO_LEASES = "stores, leases: false": |can| can.stores && !can.leases;
    TOUCH = "touch": |can| can.touch;
    NO_TOUCH = "stores, touch: false": |can| can.stores && !can.touch;
    CLEAR = "clear": |can| can.clear;
    NO_CLEAR = "clear: false": |can| !can.clear;
    DELETE_PREFIX = "delete_prefix": |can| can.delete_prefix;
    NO_DELETE_PREFIX = "delete_prefix: false": |can| !can.delete_prefix;
    FIELD_EXPIRY = "field_expiry": |can| can.field_expiry;
    NO_FIELD_EXPIRY = "stores, field_expiry: false": |can| can.stores && !can.field_expiry;
    REMOVE_EXPIRED = "remove_expired": |can| can.remove_expired;
    SHARED = "shared": |can| can.shared;
    LIMITED = "max_value_len of at most 16 MiB":
        |can| can.max_value_len.is_some_and(|limit| limit <= LARGEST_LIMIT);
}

/// How long entries live that are not to expire while a behaviour runs; servers get rid of them without being asked.
pub(super) const LIFE: Duration = Duration::from_secs(600);
/// Time enough to put an entry and read it back before it expires, over a network too.
const BRIEF: Duration = Duration::from_millis(200);
/// Clocks of two machines tick at different moments.
const SLACK: Duration = Duration::from_millis(20);

/// The backend under test, which it dereferences to, and a namespace that no other behaviour uses.
#[derive(Clone)]
pub(super) struct Stage {
    backend: Arc<dyn Backend>,
    other: Arc<dyn Backend>,
    namespace: Arc<str>,
    /// The bucket that keys are in, unless a behaviour says otherwise.
    bucket: Option<&'static str>,
}

impl Deref for Stage {
    type Target = dyn Backend;

    fn deref(&self) -> &Self::Target {
        &*self.backend
    }
}

impl Stage {
    /// A stage with a second client of the same server, or the same one again where entries are not shared.
    pub(super) fn new(
        backend: Arc<dyn Backend>,
        other: Arc<dyn Backend>,
        bucket: Option<&'static str>,
    ) -> Self {
        static STAGES: AtomicU64 = AtomicU64::new(0);
        let stage = STAGES.fetch_add(1, Ordering::Relaxed);
        // std seeds it from the system's randomness, so runs that share a server do not meet.
        let random = RandomState::new().hash_one(stage);
        Self {
            backend,
            other,
            namespace: format!("suite-{random:016x}").into(),
            bucket,
        }
    }

    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// One of the two clients.
    pub(super) fn client(&self, number: usize) -> &dyn Backend {
        if number.is_multiple_of(2) {
            &*self.backend
        } else {
            &*self.other
        }
    }

    pub(super) fn key(&self, name: impl AsRef<[u8]>) -> Key {
        Key::new(&self.namespace, self.bucket, name)
    }

    /// Keys called `0`, `1`, `2` and so on.
    pub(super) fn keys(&self, count: usize) -> Vec<Key> {
        (0..count).map(|name| self.key(name.to_string())).collect()
    }

    /// Puts a value that lives for [`LIFE`].
    pub(super) async fn keep(&self, key: &Key, payload: impl Into<Bytes>) -> Result<()> {
        let kept = self.put(key, entry(payload), PutMode::Always).await?;
        assert!(kept, "an ordinary put was refused");
        Ok(())
    }

    /// Puts a value that ends `ttl` from now.
    pub(super) async fn keep_for(&self, key: &Key, ttl: Duration) -> Result<Timestamp> {
        let now = Timestamp::now();
        let entry = entry("of short life").with_ttl(Some(ttl), now);
        assert!(
            self.put(key, entry, PutMode::Always).await?,
            "an ordinary put was refused"
        );
        Ok(now + ttl)
    }

    /// Puts several values under one condition.
    pub(super) async fn put_all(
        &self,
        entries: Vec<(Key, Entry)>,
        mode: PutMode,
    ) -> Result<Vec<bool>> {
        let entries = entries.into_iter();
        let entries = entries.map(|(key, entry)| (key, entry, mode));
        self.put_many(entries.collect()).await
    }

    /// The payload under `key`.
    pub(super) async fn read(&self, key: &Key) -> Result<Option<Bytes>> {
        Ok(self.get(key).await?.map(|entry| entry.payload().clone()))
    }

    /// The version under `key`, where an entry is known to be.
    pub(super) async fn version(&self, key: &Key) -> Result<u64> {
        let entry = self.get(key).await?;
        Ok(entry
            .expect("the entry was put and not removed since")
            .version())
    }

    /// The shortest TTL that is sure to be seen alive.
    pub(super) fn brief(&self) -> Duration {
        self.capabilities().ttl_resolution.max(BRIEF)
    }

    /// Waits until what ends `ttl` from now has ended, however coarsely the server counts.
    pub(super) async fn outlive(&self, ttl: Duration) {
        tokio::time::sleep(ttl + self.capabilities().ttl_resolution + SLACK).await;
    }

    /// Leaves the server as it was found, as far as that is possible; what stays there expires.
    pub(super) async fn end(&self) {
        if self.capabilities().clear {
            let _ = self.clear(&self.namespace).await;
        }
        let _ = self.other.close().await;
        let _ = self.backend.close().await;
    }
}

/// A value that lives for [`LIFE`].
pub(super) fn entry(payload: impl Into<Bytes>) -> Entry {
    let now = Timestamp::now();
    Entry::new(CodecId::RAW, payload, now).with_ttl(Some(LIFE), now)
}

/// Runs `count` tasks that start at one moment, and gives their results in the order of their numbers.
pub(super) async fn together<T, F>(count: usize, task: impl Fn(usize) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let barrier = Arc::new(Barrier::new(count));
    let mut tasks = JoinSet::new();
    for number in 0..count {
        let (barrier, task) = (barrier.clone(), task(number));
        tasks.spawn(async move {
            barrier.wait().await;
            (number, task.await)
        });
    }
    let mut results = Vec::with_capacity(count);
    while let Some(joined) = tasks.join_next().await {
        match joined {
            Ok(result) => results.push(result),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(cancelled) => panic!("the runtime ended: {cancelled}"),
            },
        }
    }
    results.sort_unstable_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Polls `future` up to `polls` times, each when it asked for it, and then drops it.
pub(super) async fn abandon<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
