use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use larder::{
    Backend, Capabilities, Entry, Error, ErrorKind, Key, KeyRef, Memory, Peek, PutMode, Result,
    Timestamp, Usage,
};

/// A memory that behaves as a server does: it can tell nothing at once, answers after a while, and keeps bytes only.
#[derive(Clone, Default)]
pub(crate) struct Asking {
    memory: Memory,
    /// Every key and entry that was put, as bytes.
    given: Arc<Mutex<Vec<u8>>>,
}

impl Asking {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Whether a key or an entry that was put has these bytes in it.
    pub(crate) fn was_given(&self, text: &[u8]) -> bool {
        let given = self.given.lock().unwrap();
        given.windows(text.len()).any(|window| window == text)
    }

    fn note(&self, key: &Key, entry: &Entry) {
        let mut given = self.given.lock().unwrap();
        given.extend_from_slice(key.encoded());
        given.extend_from_slice(&entry.to_bytes());
    }

    async fn travel(&self) {
        tokio::task::yield_now().await;
    }
}

fn over_the_wire(entry: &Entry) -> Result<Entry> {
    Ok(Entry::from_bytes(entry.to_bytes())?.with_version(entry.version()))
}

#[async_trait]
impl Backend for Asking {
    fn name(&self) -> &'static str {
        "asking"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            shared: true,
            ..self.memory.capabilities()
        }
    }

    fn peek(&self, _: KeyRef<'_>, _: Timestamp) -> Peek {
        Peek::Ask
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        self.travel().await;
        let found = self.memory.get(key).await?;
        found.as_ref().map(over_the_wire).transpose()
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>> {
        self.travel().await;
        let found = self.memory.get_many(keys).await?;
        let read = |entry: &Option<Entry>| entry.as_ref().map(over_the_wire).transpose();
        found.iter().map(read).collect()
    }

    async fn put(&self, key: &Key, entry: Entry, mode: PutMode) -> Result<bool> {
        self.travel().await;
        self.note(key, &entry);
        self.memory.put(key, over_the_wire(&entry)?, mode).await
    }

    async fn put_many(&self, entries: Vec<(Key, Entry, PutMode)>) -> Result<Vec<bool>> {
        self.travel().await;
        self.memory.put_many(entries).await
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        self.travel().await;
        self.memory.contains(key).await
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        self.travel().await;
        self.memory.delete(key).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Result<Vec<bool>> {
        self.travel().await;
        self.memory.delete_many(keys).await
    }

    async fn delete_if(&self, key: &Key, version: u64) -> Result<bool> {
        self.travel().await;
        self.memory.delete_if(key, version).await
    }

    async fn touch(&self, key: &Key, ttl: Option<Duration>) -> Result<bool> {
        self.travel().await;
        self.memory.touch(key, ttl).await
    }

    async fn increment(&self, key: &Key, delta: i64, ttl: Option<Duration>) -> Result<i64> {
        self.travel().await;
        self.memory.increment(key, delta, ttl).await
    }

    async fn clear(&self, namespace: &str) -> Result<()> {
        self.travel().await;
        self.memory.clear(namespace).await
    }

    async fn clear_bucket(&self, bucket: &Key) -> Result<bool> {
        self.travel().await;
        self.memory.clear_bucket(bucket).await
    }

    async fn delete_prefix(&self, prefix: &Key) -> Result<usize> {
        self.travel().await;
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
        self.memory.usage()
    }
}

/// How a backend is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mode {
    Well,
    /// Every operation is an error.
    Down,
    /// Operations that write are errors.
    ReadOnly,
    /// Operations that write never end.
    WritesHang,
}

/// A memory that can be told to fail.
#[derive(Clone)]
pub(crate) struct Failing {
    asking: Asking,
    mode: Arc<AtomicU8>,
}

impl Failing {
    pub(crate) fn new(mode: Mode) -> Self {
        Self {
            asking: Asking::new(),
            mode: Arc::new(AtomicU8::new(mode as u8)),
        }
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::SeqCst);
    }

    fn is(&self, mode: Mode) -> bool {
        self.mode.load(Ordering::SeqCst) == mode as u8
    }

    fn reading(&self) -> Result<()> {
        match self.is(Mode::Down) {
            true => Err(Error::new(ErrorKind::Unavailable, "down on demand")),
            false => Ok(()),
        }
    }

    async fn writing(&self) -> Result<()> {
        if self.is(Mode::WritesHang) {
            std::future::pending::<()>().await;
        }
        match self.is(Mode::ReadOnly) {
            true => Err(Error::new(ErrorKind::Backend, "read-only on demand")),
            false => self.reading(),
        }
    }
}

#[async_trait]
impl Backend for Failing {
    fn name(&self) -> &'static str {
        "failing"
    }

    fn capabilities(&self) -> Capabilities {
        self.asking.memory.capabilities()
    }

    fn peek(&self, _: KeyRef<'_>, _: Timestamp) -> Peek {
        Peek::Ask
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        self.reading()?;
        self.asking.get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>> {
        self.reading()?;
        self.asking.get_many(keys).await
    }

    async fn put(&self, key: &Key, entry: Entry, mode: PutMode) -> Result<bool> {
        self.writing().await?;
        self.asking.put(key, entry, mode).await
    }

    async fn put_many(&self, entries: Vec<(Key, Entry, PutMode)>) -> Result<Vec<bool>> {
        self.writing().await?;
        self.asking.put_many(entries).await
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        self.reading()?;
        self.asking.contains(key).await
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        self.writing().await?;
        self.asking.delete(key).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Result<Vec<bool>> {
        self.writing().await?;
        self.asking.delete_many(keys).await
    }

    async fn delete_if(&self, key: &Key, version: u64) -> Result<bool> {
        self.writing().await?;
        self.asking.delete_if(key, version).await
    }

    async fn touch(&self, key: &Key, ttl: Option<Duration>) -> Result<bool> {
        self.writing().await?;
        self.asking.touch(key, ttl).await
    }

    async fn increment(&self, key: &Key, delta: i64, ttl: Option<Duration>) -> Result<i64> {
        self.writing().await?;
        self.asking.increment(key, delta, ttl).await
    }

    async fn clear(&self, namespace: &str) -> Result<()> {
        self.writing().await?;
        self.asking.clear(namespace).await
    }

    async fn clear_bucket(&self, bucket: &Key) -> Result<bool> {
        self.writing().await?;
        self.asking.clear_bucket(bucket).await
    }

    async fn delete_prefix(&self, prefix: &Key) -> Result<usize> {
        self.writing().await?;
        self.asking.delete_prefix(prefix).await
    }

    async fn remove_expired(&self, limit: usize) -> Result<usize> {
        self.writing().await?;
        self.asking.remove_expired(limit).await
    }

    async fn ping(&self) -> Result<()> {
        self.reading()
    }

    async fn close(&self) -> Result<()> {
        self.asking.close().await
    }

    fn usage(&self) -> Option<Usage> {
        None
    }
}
