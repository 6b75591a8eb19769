//! What the layer and the handle do with a backend that gives leases, as servers do.

#![cfg(all(feature = "axum", feature = "memory", feature = "json"))]

mod support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use larder::{
    Backend, Cache, Capabilities, Entry, Error, ErrorKind, Key, KeyRef, Lease, Leased, Memory,
    Peek, PutMode, Result, Timestamp, Usage,
};
use support::{App, Origin, answer, settle};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

/// What becomes of the question for a lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Leasing {
    #[default]
    Well,
    /// It is never answered.
    Silent,
    /// It is refused, without the server being in trouble.
    Refused,
}

/// A memory that gives leases, and that others invalidate too. Clones share everything.
#[derive(Clone, Default)]
struct Leases {
    memory: Memory,
    invalidations: Arc<AtomicU64>,
    leasing: Arc<Mutex<Leasing>>,
    /// Whether it can tell at once what it has.
    peeks: bool,
}

impl Leases {
    fn leasing(&self, leasing: Leasing) {
        *self.leasing.lock().unwrap() = leasing;
    }

    /// What another process does that changes what everything here was made from.
    fn invalidate_elsewhere(&self) {
        self.invalidations.fetch_add(1, Ordering::SeqCst);
    }

    fn app(&self, origin: Origin) -> App {
        App::on(Cache::new(self.clone()), origin, |layer| layer)
    }
}

#[async_trait]
impl Backend for Leases {
    fn name(&self) -> &'static str {
        "leases"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            leases: true,
            shared: true,
            ..self.memory.capabilities()
        }
    }

    fn peek(&self, key: KeyRef<'_>, now: Timestamp) -> Peek {
        match self.peeks {
            true => self.memory.peek(key, now),
            false => Peek::Ask,
        }
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        self.memory.get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>> {
        self.memory.get_many(keys).await
    }

    async fn get_leased(&self, key: &Key) -> Result<Leased> {
        let leasing = *self.leasing.lock().unwrap();
        match leasing {
            Leasing::Well => {}
            Leasing::Silent => std::future::pending().await,
            Leasing::Refused => return Err(Error::new(ErrorKind::TooLarge, "refused on demand")),
        }
        let entry = self.memory.get(key).await?;
        let lease = Lease {
            generation: 0,
            version: entry.as_ref().map_or(0, Entry::version),
            invalidation: self.invalidations.load(Ordering::SeqCst),
        };
        Ok(Leased { entry, lease })
    }

    async fn get_leased_many(&self, keys: &[Key]) -> Result<Vec<Leased>> {
        let mut leased = Vec::new();
        for key in keys {
            leased.push(self.get_leased(key).await?);
        }
        Ok(leased)
    }

    async fn put(&self, key: &Key, entry: Entry, mode: PutMode) -> Result<bool> {
        let mode = match mode {
            PutMode::IfUnchanged(lease)
                if lease.invalidation != self.invalidations.load(Ordering::SeqCst) =>
            {
                return Ok(false);
            }
            PutMode::IfUnchanged(Lease { version: 0, .. }) => PutMode::IfAbsent,
            PutMode::IfUnchanged(lease) => PutMode::IfVersion(lease.version),
            mode => mode,
        };
        self.memory.put(key, entry, mode).await
    }

    async fn put_many(&self, entries: Vec<(Key, Entry, PutMode)>) -> Result<Vec<bool>> {
        let mut kept = Vec::new();
        for (key, entry, mode) in entries {
            kept.push(self.put(&key, entry, mode).await?);
        }
        Ok(kept)
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        self.memory.contains(key).await
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        self.invalidate_elsewhere();
        self.memory.delete(key).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Result<Vec<bool>> {
        self.invalidate_elsewhere();
        self.memory.delete_many(keys).await
    }

    async fn delete_if(&self, key: &Key, version: u64) -> Result<bool> {
        self.invalidate_elsewhere();
        self.memory.delete_if(key, version).await
    }

    async fn touch(&self, key: &Key, ttl: Option<Duration>) -> Result<bool> {
        self.memory.touch(key, ttl).await
    }

    async fn increment(&self, key: &Key, delta: i64, ttl: Option<Duration>) -> Result<i64> {
        self.memory.increment(key, delta, ttl).await
    }

    async fn clear(&self, namespace: &str) -> Result<()> {
        self.invalidate_elsewhere();
        self.memory.clear(namespace).await
    }

    async fn clear_bucket(&self, bucket: &Key) -> Result<bool> {
        self.invalidate_elsewhere();
        self.memory.clear_bucket(bucket).await
    }

    async fn delete_prefix(&self, prefix: &Key) -> Result<usize> {
        self.invalidate_elsewhere();
        self.memory.delete_prefix(prefix).await
    }

    async fn remove_expired(&self, limit: usize) -> Result<usize> {
        self.memory.remove_expired(limit).await
    }

    async fn ping(&self) -> Result<()> {
        self.memory.ping().await
    }

    async fn close(&self) -> Result<()> {
        self.memory.close().await
    }

    fn usage(&self) -> Option<Usage> {
        None
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// Takes a second for an answer that is fresh for a minute.
fn slow() -> Origin {
    Origin::new(|call| async move {
        sleep(SECOND).await;
        let fields = [("cache-control", "max-age=60")];
        Ok(answer(200, &fields, call.number.to_string()))
    })
}

/// So many requests at one moment, and how long all of them took.
async fn all_at_once(app: &App, count: usize) -> Duration {
    let start = Instant::now();
    let mut requests = JoinSet::new();
    for _ in 0..count {
        let app = app.clone();
        requests.spawn(async move { assert_eq!(app.get("/").await.status, 200) });
    }
    requests.join_all().await;
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn those_who_waited_for_a_response_that_came_too_late_do_not_run_all_at_once() {
    let backend = Leases::default();
    let app = backend.app(slow());
    let requests = tokio::spawn({
        let app = app.clone();
        async move { all_at_once(&app, 20).await }
    });
    sleep(SECOND / 2).await;
    backend.invalidate_elsewhere();
    requests.await.unwrap();
    assert_eq!(app.calls(), 2);
    assert!(app.get("/").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_one_who_cannot_store() {
    let backend = Leases::default();
    backend.leasing(Leasing::Silent);
    let took = all_at_once(&backend.app(slow()), 20).await;
    let one_time_out = Duration::from_millis(250);
    assert!(took <= one_time_out + SECOND + SECOND / 10, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_response_needs_a_lease_also_where_the_backend_can_tell_at_once_what_it_has() {
    let backend = Leases {
        peeks: true,
        ..Leases::default()
    };
    let app = backend.app(slow());
    let request = tokio::spawn({
        let app = app.clone();
        async move { app.get("/").await }
    });
    sleep(SECOND / 2).await;
    backend.invalidate_elsewhere();
    assert_eq!(request.await.unwrap().text(), "1");
    settle().await;
    assert_eq!(app.get("/").await.text(), "2");
    assert!(app.get("/").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn what_was_loaded_without_a_lease_is_not_kept() {
    let backend = Leases::default();
    let cache = Cache::new(backend.clone());
    backend.leasing(Leasing::Refused);
    let load = || async { Ok::<_, Error>(1) };
    assert_eq!(*cache.get_or_load("one", load).await.unwrap(), 1);
    let load = |_: Vec<&str>| std::future::ready(Ok::<_, Error>(vec![Some(1)]));
    cache.get_or_load_many(["many"], load).await.unwrap();
    let kept = cache.get_many::<i32>(["one", "many"]).await.unwrap();
    assert_eq!(kept, [None, None]);

    let app = backend.app(Origin::with(&[("cache-control", "max-age=60")]));
    app.get("/").await;
    settle().await;
    assert!(!app.get("/").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_a_post_is_not_stored_where_leases_decide() {
    let fields = [("cache-control", "max-age=60"), ("content-location", "/")];
    let app = Leases::default().app(Origin::with(&fields));
    app.send("POST", "/", &[]).await;
    app.cache.flush().await;
    assert!(!app.get("/").await.is_hit());
}
