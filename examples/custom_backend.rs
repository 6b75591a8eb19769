//! A backend of your own, and the suite that says when it is done.
//!
//! `cargo run --example custom_backend --features testing` prints a line for each behaviour.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use async_trait::async_trait;
use larder::{
    Backend, Capabilities, Entry, Error, ErrorKind, Key, KeyRef, Peek, PutMode, Result, Timestamp,
    Usage, testing,
};

/// Stands for a server that keeps bytes. Without rows, it was closed.
struct Shelf(Mutex<Option<Rows>>);

type Rows = HashMap<Key, bytes::Bytes>;

fn read(rows: &Rows, key: &Key) -> Result<Option<Entry>> {
    let entry = rows.get(key).cloned().map(Entry::from_bytes).transpose()?;
    Ok(entry.filter(|entry| !entry.is_expired(Timestamp::now())))
}

fn write(rows: &mut Rows, key: &Key, entry: &Entry, mode: PutMode) -> Result<bool> {
    let allowed = match mode {
        PutMode::Always => true,
        PutMode::IfAbsent => read(rows, key)?.is_none(),
        _ => return Err(Error::unsupported("shelf", "put")),
    };
    if allowed {
        rows.insert(key.clone(), entry.to_bytes());
    }
    Ok(allowed)
}

fn remove(rows: &mut Rows, key: &Key) -> Result<bool> {
    let live = read(rows, key)?.is_some();
    rows.remove(key);
    Ok(live)
}

impl Shelf {
    /// Does one step on the rows with nobody else in between.
    fn with<T>(&self, verb: &'static str, step: impl FnOnce(&mut Rows) -> Result<T>) -> Result<T> {
        let mut rows = self.0.lock().expect("no step panics");
        let closed = || Error::new(ErrorKind::Closed, "the shelf was closed");
        let result = rows.as_mut().ok_or_else(closed).and_then(step);
        result.map_err(|error| error.on("shelf", verb))
    }
}

#[async_trait]
impl Backend for Shelf {
    fn name(&self) -> &'static str {
        "shelf"
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            stores: true,
            if_absent: true,
            clear: true,
            ..Capabilities::NONE
        }
    }
    fn peek(&self, _: KeyRef<'_>, _: Timestamp) -> Peek {
        Peek::Ask
    }
    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        self.with("get", |rows| read(rows, key))
    }
    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>> {
        let each = |rows: &mut Rows| keys.iter().map(|key| read(rows, key)).collect();
        self.with("get_many", each)
    }
    async fn put(&self, key: &Key, entry: Entry, mode: PutMode) -> Result<bool> {
        self.with("put", |rows| write(rows, key, &entry, mode))
    }
    async fn put_many(&self, entries: Vec<(Key, Entry, PutMode)>) -> Result<Vec<bool>> {
        self.with("put_many", |rows| {
            let each = entries.iter();
            each.map(|(key, entry, mode)| write(rows, key, entry, *mode))
                .collect()
        })
    }
    async fn contains(&self, key: &Key) -> Result<bool> {
        self.with("contains", |rows| Ok(read(rows, key)?.is_some()))
    }
    async fn delete(&self, key: &Key) -> Result<bool> {
        self.with("delete", |rows| remove(rows, key))
    }
    async fn delete_many(&self, keys: &[Key]) -> Result<Vec<bool>> {
        let each = |rows: &mut Rows| keys.iter().map(|key| remove(rows, key)).collect();
        self.with("delete_many", each)
    }
    async fn delete_if(&self, _: &Key, _: u64) -> Result<bool> {
        Err(Error::unsupported("shelf", "delete_if"))
    }
    async fn touch(&self, _: &Key, _: Option<Duration>) -> Result<bool> {
        Err(Error::unsupported("shelf", "touch"))
    }
    async fn increment(&self, _: &Key, _: i64, _: Option<Duration>) -> Result<i64> {
        Err(Error::unsupported("shelf", "increment"))
    }
    async fn clear(&self, namespace: &str) -> Result<()> {
        self.with("clear", |rows| {
            rows.retain(|key, _| key.namespace() != namespace);
            Ok(())
        })
    }
    async fn remove_expired(&self, _: usize) -> Result<usize> {
        Err(Error::unsupported("shelf", "remove_expired"))
    }
    async fn ping(&self) -> Result<()> {
        self.with("ping", |_| Ok(()))
    }
    async fn close(&self) -> Result<()> {
        *self.0.lock().expect("no step panics") = None;
        Ok(())
    }
    fn usage(&self) -> Option<Usage> {
        None
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let start = || async { Shelf(Mutex::new(Some(Rows::new()))) };
    testing::suite(start).await;
}
