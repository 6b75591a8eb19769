//! The backend that keeps nothing.

use std::time::Duration;

use async_trait::async_trait;

use super::{Backend, Capabilities, Peek, PutMode, Usage};
use crate::{Entry, Error, Key, KeyRef, Result, Timestamp};

/// Keeps nothing: every read is a miss, every write is accepted and forgotten.
///
/// For switching a cache off without touching the code that uses it (`CACHE_TYPE=null`).
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> larder::Result<()> {
/// use larder::{Cache, Null};
///
/// let cache = Cache::new(Null);
/// assert!(!cache.put("answer", 42).await?);
/// assert_eq!(cache.get::<i32>("answer").await?, None);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Null;

#[async_trait]
impl Backend for Null {
    fn name(&self) -> &'static str {
        "null"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            clear: true,
            delete_prefix: true,
            field_expiry: true,
            ..Capabilities::NONE
        }
    }

    fn peek(&self, _: KeyRef<'_>, _: Timestamp) -> Peek {
        Peek::Miss
    }

    async fn get(&self, _: &Key) -> Result<Option<Entry>> {
        Ok(None)
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>> {
        Ok(vec![None; keys.len()])
    }

    async fn put(&self, _: &Key, _: Entry, _: PutMode) -> Result<bool> {
        Ok(false)
    }

    async fn put_many(&self, entries: Vec<(Key, Entry, PutMode)>) -> Result<Vec<bool>> {
        Ok(vec![false; entries.len()])
    }

    async fn contains(&self, _: &Key) -> Result<bool> {
        Ok(false)
    }

    async fn delete(&self, _: &Key) -> Result<bool> {
        Ok(false)
    }

    async fn delete_many(&self, keys: &[Key]) -> Result<Vec<bool>> {
        Ok(vec![false; keys.len()])
    }

    async fn delete_if(&self, _: &Key, _: u64) -> Result<bool> {
        Ok(false)
    }

    async fn touch(&self, _: &Key, _: Option<Duration>) -> Result<bool> {
        Ok(false)
    }

    async fn increment(&self, _: &Key, _: i64, _: Option<Duration>) -> Result<i64> {
        Err(Error::unsupported(self.name(), "increment"))
    }

    async fn clear(&self, _: &str) -> Result<()> {
        Ok(())
    }

    async fn clear_bucket(&self, _: &Key) -> Result<bool> {
        Ok(true)
    }

    async fn delete_prefix(&self, _: &Key) -> Result<usize> {
        Ok(0)
    }

    async fn remove_expired(&self, _: usize) -> Result<usize> {
        Ok(0)
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }

    fn usage(&self) -> Option<Usage> {
        Some(Usage::default())
    }
}
