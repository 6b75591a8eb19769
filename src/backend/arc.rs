//! A backend behind an `Arc`, so that one can keep a handle to what a cache uses.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{Backend, Capabilities, Leased, Peek, PutMode, Usage};
use crate::{Entry, Key, KeyRef, Result, Timestamp};

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<B: Backend + ?Sized> Backend for Arc<B> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn capabilities(&self) -> Capabilities {
        (**self).capabilities()
    }

    fn peek(&self, key: KeyRef<'_>, now: Timestamp) -> Peek {
        (**self).peek(key, now)
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        (**self).get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>> {
        (**self).get_many(keys).await
    }

    async fn get_relaxed(&self, key: &Key) -> Result<Option<Entry>> {
        (**self).get_relaxed(key).await
    }

    async fn get_many_relaxed(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>> {
        (**self).get_many_relaxed(keys).await
    }

    async fn get_leased(&self, key: &Key) -> Result<Leased> {
        (**self).get_leased(key).await
    }

    async fn get_leased_many(&self, keys: &[Key]) -> Result<Vec<Leased>> {
        (**self).get_leased_many(keys).await
    }

    async fn put(&self, key: &Key, entry: Entry, mode: PutMode) -> Result<bool> {
        (**self).put(key, entry, mode).await
    }

    async fn put_many(&self, entries: Vec<(Key, Entry, PutMode)>) -> Result<Vec<bool>> {
        (**self).put_many(entries).await
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        (**self).contains(key).await
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        (**self).delete(key).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Result<Vec<bool>> {
        (**self).delete_many(keys).await
    }

    async fn delete_if(&self, key: &Key, version: u64) -> Result<bool> {
        (**self).delete_if(key, version).await
    }

    async fn touch(&self, key: &Key, ttl: Option<Duration>) -> Result<bool> {
        (**self).touch(key, ttl).await
    }

    async fn increment(&self, key: &Key, delta: i64, ttl: Option<Duration>) -> Result<i64> {
        (**self).increment(key, delta, ttl).await
    }

    async fn clear(&self, namespace: &str) -> Result<()> {
        (**self).clear(namespace).await
    }

    async fn delete_prefix(&self, prefix: &Key) -> Result<usize> {
        (**self).delete_prefix(prefix).await
    }

    async fn clear_bucket(&self, bucket: &Key) -> Result<bool> {
        (**self).clear_bucket(bucket).await
    }

    async fn remove_expired(&self, limit: usize) -> Result<usize> {
        (**self).remove_expired(limit).await
    }

    async fn ping(&self) -> Result<()> {
        (**self).ping().await
    }

    async fn close(&self) -> Result<()> {
        (**self).close().await
    }

    fn usage(&self) -> Option<Usage> {
        (**self).usage()
    }
}
