//! What a guarded backend does as a backend, and what only the cache and the layer ask of it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;

use super::*;
use crate::{CodecId, Memory, testing};

/// A client of a server in this process: entries outlive it, and it can be told to hang.
#[derive(Default)]
struct Client {
    server: Memory,
    hangs: AtomicBool,
    closed: AtomicBool,
    calls: AtomicUsize,
    /// How many milliseconds every call takes.
    takes: AtomicU64,
}

impl Client {
    fn of(server: &Memory) -> Self {
        Self {
            server: server.clone(),
            ..Self::default()
        }
    }

    fn hang(&self, hangs: bool) {
        self.hangs.store(hangs, Ordering::Relaxed);
    }

    async fn call(&self) -> Result<()> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if self.closed.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Closed, "closed"));
        }
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        let takes = self.takes.load(Ordering::Relaxed);
        if takes > 0 {
            tokio::time::sleep(Duration::from_millis(takes)).await;
        }
        Ok(())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Backend for Client {
    fn name(&self) -> &'static str {
        "client"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            shared: true,
            ..self.server.capabilities()
        }
    }

    fn peek(&self, key: KeyRef<'_>, now: Timestamp) -> Peek {
        if self.closed.load(Ordering::Relaxed) {
            return Peek::Ask;
        }
        self.server.peek(key, now)
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        self.call().await?;
        self.server.get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>> {
        self.call().await?;
        self.server.get_many(keys).await
    }

    async fn get_relaxed(&self, key: &Key) -> Result<Option<Entry>> {
        self.call().await?;
        self.server.get_relaxed(key).await
    }

    async fn get_many_relaxed(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>> {
        self.call().await?;
        self.server.get_many_relaxed(keys).await
    }

    async fn get_leased(&self, key: &Key) -> Result<Leased> {
        self.call().await?;
        self.server.get_leased(key).await
    }

    async fn get_leased_many(&self, keys: &[Key]) -> Result<Vec<Leased>> {
        self.call().await?;
        self.server.get_leased_many(keys).await
    }

    async fn put(&self, key: &Key, entry: Entry, mode: PutMode) -> Result<bool> {
        self.call().await?;
        self.server.put(key, entry, mode).await
    }

    async fn put_many(&self, entries: Vec<(Key, Entry, PutMode)>) -> Result<Vec<bool>> {
        self.call().await?;
        self.server.put_many(entries).await
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        self.call().await?;
        self.server.contains(key).await
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        self.call().await?;
        self.server.delete(key).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Result<Vec<bool>> {
        self.call().await?;
        self.server.delete_many(keys).await
    }

    async fn delete_if(&self, key: &Key, version: u64) -> Result<bool> {
        self.call().await?;
        self.server.delete_if(key, version).await
    }

    async fn touch(&self, key: &Key, ttl: Option<Duration>) -> Result<bool> {
        self.call().await?;
        self.server.touch(key, ttl).await
    }

    async fn increment(&self, key: &Key, delta: i64, ttl: Option<Duration>) -> Result<i64> {
        self.call().await?;
        self.server.increment(key, delta, ttl).await
    }

    async fn clear(&self, namespace: &str) -> Result<()> {
        self.call().await?;
        self.server.clear(namespace).await
    }

    async fn delete_prefix(&self, prefix: &Key) -> Result<usize> {
        self.call().await?;
        self.server.delete_prefix(prefix).await
    }

    async fn clear_bucket(&self, bucket: &Key) -> Result<bool> {
        self.call().await?;
        self.server.clear_bucket(bucket).await
    }

    async fn remove_expired(&self, limit: usize) -> Result<usize> {
        self.call().await?;
        self.server.remove_expired(limit).await
    }

    async fn ping(&self) -> Result<()> {
        self.call().await
    }

    async fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn usage(&self) -> Option<Usage> {
        self.server.usage()
    }
}

fn guarded() -> (Arc<Client>, Arc<Guarded>) {
    let client = Arc::new(Client::default());
    let guarded = Guarded::new(client.clone(), GuardRules::default());
    (client, guarded)
}

fn key(name: &str) -> Key {
    Key::new("test", None, name)
}

fn entry(payload: &'static str) -> Entry {
    Entry::new(CodecId::RAW, Bytes::from(payload), Timestamp::now())
}

async fn put(guarded: &Guarded, name: &str) -> u64 {
    let key = key(name);
    let put = guarded.put(&key, entry("value"), PutMode::Always);
    assert!(put.await.unwrap());
    let found = guarded.get(&key).await.unwrap();
    found.unwrap().version()
}

async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_guarded_backend_passes_the_suite() {
    // What one behaviour leaves must not push out what another one reads.
    let server = Memory::builder().max_bytes(1 << 30).build();
    let start = || async { Guarded::new(Arc::new(Client::of(&server)), GuardRules::default()) };
    let report = testing::suite(start).await;
    assert!(report.passed().count() >= 80, "{report}");
}

#[tokio::test(start_paused = true)]
async fn reclaiming_has_ten_time_outs() {
    let (client, guarded) = guarded();
    client.hang(true);
    let start = tokio::time::Instant::now();
    assert!(guarded.remove_expired(1_000_000).await.is_err());
    assert_eq!(start.elapsed(), Duration::from_millis(2_500));
}

#[tokio::test(start_paused = true)]
async fn a_look_finds_nothing_at_hand_while_the_breaker_is_open() {
    let (_client, guarded) = guarded();
    put(&guarded, "a").await;
    let key = key("a");
    let look = || guarded.peek(key.as_key_ref(), Timestamp::now());
    assert!(matches!(look(), Peek::Hit(_)));
    guarded.open_at_start(Error::new(ErrorKind::Unavailable, "connection refused"));
    assert!(matches!(look(), Peek::Ask));
    settle().await;
    assert!(matches!(look(), Peek::Hit(_)));
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_begins_open_probes_at_once() {
    let (client, guarded) = guarded();
    client.hang(true);
    guarded.open_at_start(Error::new(ErrorKind::Unavailable, "connection refused"));
    let error = guarded.get(&key("a")).await.unwrap_err();
    assert!(error.to_string().ends_with("connection refused"), "{error}");
    assert_eq!(client.calls.load(Ordering::Relaxed), 0);
    settle().await;
    assert_eq!(client.calls.load(Ordering::Relaxed), 1);
    client.hang(false);
    tokio::time::sleep(Duration::from_millis(1_250)).await;
    assert!(guarded.get(&key("a")).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_replayed_delete_if_spares_what_was_put_since() {
    let (client, guarded) = guarded();
    let (a, b) = (put(&guarded, "a").await, put(&guarded, "b").await);
    client.hang(true);
    assert!(guarded.delete_if(&key("a"), a).await.is_err());
    assert!(guarded.delete_if(&key("b"), b).await.is_err());
    let newer = key("b");
    let elsewhere = client.server.put(&newer, entry("newer"), PutMode::Always);
    assert!(elsewhere.await.unwrap());
    client.hang(false);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(guarded.get(&key("a")).await.unwrap().is_none());
    let b = guarded.get(&key("b")).await.unwrap().unwrap();
    assert_eq!(b.payload(), "newer");
}

#[tokio::test(start_paused = true)]
async fn only_unconditional_puts_of_several_are_remembered() {
    let (client, guarded) = guarded();
    client.hang(true);
    let entries = vec![
        (key("a"), entry("1"), PutMode::IfAbsent),
        (key("b"), entry("2"), PutMode::Always),
    ];
    assert!(guarded.put_many(entries).await.is_err());
    assert_eq!(guarded.reading().pending, 1);
}

#[tokio::test(start_paused = true)]
async fn a_prefix_that_was_not_deleted_is_replayed() {
    let (client, guarded) = guarded();
    put(&guarded, "a/1").await;
    put(&guarded, "b/1").await;
    client.hang(true);
    assert!(guarded.delete_prefix(&key("a/")).await.is_err());
    assert_eq!(guarded.reading().pending, 1);
    client.hang(false);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(guarded.get(&key("a/1")).await.unwrap().is_none());
    assert!(guarded.get(&key("b/1")).await.unwrap().is_some());
    assert_eq!(guarded.reading().pending, 0);
}

/// Each replay takes longer than it is from one invalidation to the next, of all kinds.
#[tokio::test(start_paused = true)]
async fn a_backend_that_is_invalidated_all_the_time_comes_back() {
    let (client, guarded) = guarded();
    for name in ["deleted", "put", "gone"] {
        put(&guarded, name).await;
    }
    client.takes.store(20, Ordering::Relaxed);
    client.hang(true);
    assert!(guarded.delete(&key("gone")).await.is_err());
    let invalidate = |number: usize| {
        let guarded = guarded.clone();
        async move {
            let name = ["deleted", "put"][number % 2];
            for _ in 0..1_000 {
                let _ = match name {
                    "deleted" => guarded.delete(&key(name)).await.map(drop),
                    _ => {
                        let name = key(name);
                        let put = guarded.put(&name, entry("new"), PutMode::Always);
                        put.await.map(drop)
                    }
                };
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    let busy: Vec<_> = (0..8)
        .map(|number| tokio::spawn(invalidate(number)))
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(guarded.reading().breaker, BreakerState::Open);
    client.hang(false);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(guarded.reading().breaker, BreakerState::Closed);
    assert!(busy.iter().all(|task| !task.is_finished()));
    assert!(guarded.get(&key("gone")).await.unwrap().is_none());
    let new = guarded.get(&key("put")).await.unwrap();
    assert!(new.is_none_or(|entry| entry.payload() == "new"));
    assert_eq!(guarded.reading().outages, 1);
}

/// It fails once more when new invalidations are done at once already.
#[tokio::test(start_paused = true)]
async fn what_fails_while_a_backend_catches_up_is_remembered() {
    let (client, guarded) = guarded();
    for name in ["a", "b"] {
        put(&guarded, name).await;
    }
    client.hang(true);
    assert!(guarded.delete(&key("gone")).await.is_err());
    client.takes.store(100, Ordering::Relaxed);
    client.hang(false);
    // The ping, and two batches.
    for name in ["one", "two"] {
        tokio::time::sleep(Duration::from_millis(110)).await;
        assert!(guarded.delete(&key(name)).await.is_err());
    }
    tokio::time::sleep(Duration::from_millis(110)).await;
    client.hang(true);
    let (a, b) = (key("a"), key("b"));
    let (deleted, put) = tokio::join!(
        guarded.delete(&a),
        guarded.put(&b, entry("new"), PutMode::Always)
    );
    assert_eq!(deleted.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(put.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(guarded.reading().pending, 2);
    client.takes.store(0, Ordering::Relaxed);
    client.hang(false);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(guarded.reading().pending, 0);
    for key in [a, b] {
        assert!(guarded.get(&key).await.unwrap().is_none());
    }
}

#[test]
fn nothing_of_a_key_is_shown() {
    let (_, guarded) = guarded();
    let shown = format!("{guarded:?}");
    assert!(
        shown.starts_with("Guarded { backend: \"client\""),
        "{shown}"
    );
}
