//! The verbs for values.

use std::{slice, sync::Arc, time::Duration};

use serde::de::DeserializeOwned;

use super::{Cache, Event, Ttl};
use crate::{ErrorKind, Key, Result, Timestamp};

/// A value with what the cache knows about it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cached<T> {
    /// The value.
    pub value: T,
    /// The time since it was put.
    pub age: Duration,
    /// The time it has left; `None` for ever.
    pub ttl: Option<Duration>,
    /// The version for [`PutOptions::if_version`](crate::PutOptions::if_version).
    pub version: u64,
}

impl Cache {
    /// Returns the value under `key`, decoded anew; `None` when there is none.
    ///
    /// An entry that cannot be decoded as a `T` is a miss, counted in [`Stats::damaged`](crate::Stats::damaged). Where the
    /// backend has replicas to read from, the value may be of a moment ago, unless this cache changed it since;
    /// [`get_entry`](Self::get_entry) reads what is there now.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WrongType`](crate::ErrorKind::WrongType) for a counter, which [`counter`](Self::counter)
    /// reads; the backend's.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// let cache = larder::Cache::memory();
    /// cache.put("null", None::<i32>).await?;
    /// assert_eq!(cache.get::<Option<i32>>("null").await?, Some(None));
    /// assert_eq!(cache.get::<Option<i32>>("nothing").await?, None);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get<T: DeserializeOwned>(&self, key: impl AsRef<[u8]>) -> Result<Option<T>> {
        let entry = match self.look(key.as_ref()) {
            Ok(found) => Ok(found),
            Err(key) => self.fetch_value_relaxed(&key).await,
        };
        let value = self
            .tolerate(entry, None)?
            .map(|entry| self.decode(&entry))
            .transpose()?;
        Ok(self.counted(value.flatten()))
    }

    /// Returns the value under `key` without copying it: in memory, every caller gets the same `Arc`, decoded once.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// use std::sync::Arc;
    ///
    /// let cache = larder::Cache::memory();
    /// cache.put("list", vec![1, 2, 3]).await?;
    /// let one = cache.get_shared::<Vec<i32>>("list").await?.expect("just put");
    /// let two = cache.get_shared::<Vec<i32>>("list").await?.expect("just put");
    /// assert!(Arc::ptr_eq(&one, &two));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get_shared<T>(&self, key: impl AsRef<[u8]>) -> Result<Option<Arc<T>>>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        let entry = match self.look(key.as_ref()) {
            Ok(found) => Ok(found),
            Err(key) => self.fetch_value_relaxed(&key).await,
        };
        let value = self
            .tolerate(entry, None)?
            .map(|entry| self.decode_shared(&entry))
            .transpose()?;
        Ok(self.counted(value.flatten()))
    }

    /// Returns the value under `key` with its age, remaining TTL and version.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// use std::time::Duration;
    ///
    /// let cache = larder::Cache::memory();
    /// cache.put("greeting", "hello").await?;
    /// let found = cache.get_entry::<String>("greeting").await?.expect("just put");
    /// assert_eq!(found.value, "hello");
    /// assert!(found.ttl > Some(Duration::from_secs(290)));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get_entry<T: DeserializeOwned>(
        &self,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<Cached<T>>> {
        let entry = match self.look(key.as_ref()) {
            Ok(found) => Ok(found),
            Err(key) => self.fetch_value(&key).await,
        };
        let Some(entry) = self.tolerate(entry, None)? else {
            return Ok(self.counted(None));
        };
        let now = Timestamp::now();
        let cached = self.decode(&entry)?.map(|value| Cached {
            value,
            age: now.since(entry.created_at()),
            ttl: entry.remaining(now),
            version: entry.version(),
        });
        Ok(self.counted(cached))
    }

    /// Returns the values under `keys`, in their order; `None` for each that is absent.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), for the whole call.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// let cache = larder::Cache::memory();
    /// cache.put_many([("a", 1), ("b", 2)]).await?;
    /// assert_eq!(cache.get_many::<i32>(["b", "x", "a"]).await?, [Some(2), None, Some(1)]);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get_many<T: DeserializeOwned>(
        &self,
        keys: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<Vec<Option<T>>> {
        let keys = self.keys(keys);
        let found = self.fetch_values(&keys).await;
        let found = self.tolerate(found, vec![None; keys.len()])?;
        found
            .into_iter()
            .map(|entry| {
                let value = entry.map(|entry| self.decode(&entry)).transpose()?;
                Ok(self.counted(value.flatten()))
            })
            .collect()
    }

    /// Whether a value or counter is under `key`, without decoding it.
    ///
    /// # Errors
    ///
    /// The backend's.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// assert!(!larder::Cache::memory().contains("nothing").await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        let found = match self.look(key.as_ref()) {
            Ok(found) => Ok(found),
            // Whether it has ended by its tags, only the entry tells.
            Err(key) => self.fetch_value(&key).await,
        };
        Ok(self.tolerate(found, None)?.is_some())
    }

    /// Removes the value under `key`, and says whether there was one. A load of it under way will not be kept.
    ///
    /// # Errors
    ///
    /// The backend's.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// let cache = larder::Cache::memory();
    /// cache.put("a", 1).await?;
    /// assert!(cache.delete("a").await?);
    /// assert!(!cache.delete("a").await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        let key = self.values().key(key.as_ref()).to_key();
        let delete = self.backend().delete(&key);
        let deleted = self.write(slice::from_ref(&key), delete).await;
        let deleted = self.tolerate(deleted, false)?;
        self.add(Event::Delete, usize::from(deleted));
        Ok(deleted)
    }

    /// Removes the values under `keys`, and says of each whether there was one.
    ///
    /// # Errors
    ///
    /// The backend's.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// let cache = larder::Cache::memory();
    /// cache.put("a", 1).await?;
    /// assert_eq!(cache.delete_many(["a", "b"]).await?, [true, false]);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn delete_many(
        &self,
        keys: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<Vec<bool>> {
        let keys = self.keys(keys);
        let deleted = self.write(&keys, self.backend().delete_many(&keys)).await;
        let deleted = self.tolerate(deleted, vec![false; keys.len()])?;
        self.add(
            Event::Delete,
            deleted.iter().filter(|deleted| **deleted).count(),
        );
        Ok(deleted)
    }

    /// Lets the value or counter under `key` live for `ttl` from now, and says whether there was one.
    ///
    /// # Errors
    ///
    /// The backend's.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// use std::time::Duration;
    ///
    /// let cache = larder::Cache::memory();
    /// cache.put("session", 7).await?;
    /// assert!(cache.touch("session", Duration::from_secs(3600)).await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn touch(&self, key: impl AsRef<[u8]>, ttl: impl Into<Ttl>) -> Result<bool> {
        let key = self.values().key(key.as_ref()).to_key();
        let ttl = self.shared().ttl.resolve(ttl.into());
        self.tolerate(self.touch_live(&key, ttl).await, false)
    }

    /// Adds `delta`, which may be negative, to the counter under `key` and returns the sum: one atomic step, across
    /// processes too. A counter that is not there starts at zero and lives for the default TTL.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WrongType`](crate::ErrorKind::WrongType) where a value is under the key,
    /// [`ErrorKind::Overflow`](crate::ErrorKind::Overflow) where the sum is no `i64`; the backend's, whatever
    /// `CACHE_IGNORE_ERRORS` says, because there is no sum to return.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// let cache = larder::Cache::memory();
    /// assert_eq!(cache.increment("visits", 1).await?, 1);
    /// assert_eq!(cache.increment("visits", 2).await?, 3);
    /// assert_eq!(cache.counter("visits").await?, Some(3));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn increment(&self, key: impl AsRef<[u8]>, delta: i64) -> Result<i64> {
        let key = self.values().key(key.as_ref()).to_key();
        let ttl = self.shared().ttl.resolve(Ttl::Default);
        let increment = async || {
            let increment = self.backend().increment(&key, delta, ttl);
            self.write(slice::from_ref(&key), increment).await
        };
        match increment().await {
            Err(error) if error.kind() == ErrorKind::WrongType && self.remove_ended(&key).await => {
                increment().await
            }
            sum => sum,
        }
    }

    /// Returns the counter under `key`; `None` when there is none.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WrongType`](crate::ErrorKind::WrongType) where a value is under the key; the backend's.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// let cache = larder::Cache::memory();
    /// assert_eq!(cache.counter("visits").await?, None);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn counter(&self, key: impl AsRef<[u8]>) -> Result<Option<i64>> {
        let entry = match self.look(key.as_ref()) {
            Ok(found) => Ok(found),
            Err(key) => self.fetch_value(&key).await,
        };
        let counter = self
            .tolerate(entry, None)?
            .map(|entry| self.unless_damaged(entry.as_counter()))
            .transpose()?;
        Ok(self.counted(counter.flatten()))
    }

    fn keys(&self, names: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Vec<Key> {
        names
            .into_iter()
            .map(|name| self.values().key(name.as_ref()).to_key())
            .collect()
    }

    fn counted<T>(&self, found: Option<T>) -> Option<T> {
        self.count(if found.is_some() {
            Event::Hit
        } else {
            Event::Miss
        });
        found
    }

    pub(crate) fn add(&self, event: Event, count: usize) {
        self.shared().counters.add(event, count as u64);
    }
}
