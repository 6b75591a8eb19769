//! The verbs that put values, and what all writes have in common.

use std::{future::Future, slice, sync::Arc, time::Duration};

use serde::Serialize;

use super::{
    Cache, Event, PutOptions,
    tags::{Stamped, Tags},
};
use crate::{Entry, Key, PutMode, Result};

impl Cache {
    /// Keeps `value` under `key` for the default TTL, and says whether it was kept: a value too large for the backend is
    /// not.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Encode`](crate::ErrorKind::Encode) for a value that cannot be written; the backend's.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// let cache = larder::Cache::memory();
    /// assert!(cache.put("user:7", "Ada").await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn put<T>(&self, key: impl AsRef<[u8]>, value: T) -> Result<bool>
    where
        T: Serialize + Send + Sync + 'static,
    {
        self.put_with(key, value, PutOptions::new()).await
    }

    /// [`put`](Self::put) with a TTL and a condition of its own; `false` also when the condition did not hold.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// use larder::{Cache, PutOptions, Ttl};
    ///
    /// let cache = Cache::memory();
    /// cache.put_with("config", "v1", PutOptions::new().ttl(Ttl::Never)).await?;
    /// let found = cache.get_entry::<String>("config").await?.expect("just put");
    /// let unchanged = PutOptions::new().if_version(found.version);
    /// assert!(cache.put_with("config", "v2", unchanged.clone()).await?);
    /// assert!(!cache.put_with("config", "v3", unchanged).await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn put_with<T>(
        &self,
        key: impl AsRef<[u8]>,
        value: T,
        options: PutOptions,
    ) -> Result<bool>
    where
        T: Serialize + Send + Sync + 'static,
    {
        let key = self.values().key(key.as_ref()).to_key();
        let ttl = self.shared().ttl.resolve(options.ttl);
        let entry = self.encode(&Arc::new(value), ttl)?;
        let tags = self.tags(&options.tags)?;
        let kept = match tags.is_empty() {
            true => self.put_entry(&key, entry, options.mode).await,
            false => Box::pin(self.put_tagged(&key, entry, &options, &tags, ttl)).await,
        };
        let kept = self.tolerate(kept, false)?;
        if kept {
            self.count(Event::Put);
        }
        Ok(kept)
    }

    async fn put_tagged(
        &self,
        key: &Key,
        entry: Entry,
        options: &PutOptions,
        tags: &Tags,
        ttl: Option<Duration>,
    ) -> Result<bool> {
        let stamped = self.stamp(tags, ttl).await;
        if let Ok(Some(stamped)) = &stamped
            && let Some(entry) = stamped.put_on(entry)
        {
            let kept = self.put_entry(key, entry, options.mode).await?;
            if kept {
                self.collect_stamps(stamped);
            }
            return Ok(kept);
        }
        if options.mode == PutMode::Always {
            // What is there is not the truth any more, and nothing can come in its place.
            let deleted = self.write(slice::from_ref(key), self.backend().delete(key));
            deleted.await?;
        }
        stamped.map(|_| false)
    }

    async fn put_entry(&self, key: &Key, entry: Entry, mode: PutMode) -> Result<bool> {
        let put = self.put_beside_ended(key, entry, mode);
        self.write(slice::from_ref(key), put).await
    }

    /// [`Backend::put`](crate::Backend::put), to which what has ended by its tags is absent.
    pub(crate) async fn put_beside_ended(
        &self,
        key: &Key,
        entry: Entry,
        mode: PutMode,
    ) -> Result<bool> {
        match mode {
            PutMode::IfAbsent => Box::pin(self.put_if_absent(key, entry)).await,
            mode => self.backend().put(key, entry, mode).await,
        }
    }

    async fn put_if_absent(&self, key: &Key, entry: Entry) -> Result<bool> {
        let mode = PutMode::IfAbsent;
        let is_kept = self.backend().put(key, entry.clone(), mode).await?;
        match is_kept || !self.remove_ended(key).await {
            true => Ok(is_kept),
            false => self.backend().put(key, entry, mode).await,
        }
    }

    /// Keeps several values for the default TTL, and says of each whether it was kept.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put). With an [`ErrorKind::Encode`](crate::ErrorKind::Encode) error none was kept.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// let cache = larder::Cache::memory();
    /// assert_eq!(cache.put_many([("a", 1), ("b", 2)]).await?, [true, true]);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn put_many<K, T>(
        &self,
        values: impl IntoIterator<Item = (K, T)>,
    ) -> Result<Vec<bool>>
    where
        K: AsRef<[u8]>,
        T: Serialize + Send + Sync + 'static,
    {
        self.put_many_with(values, PutOptions::new()).await
    }

    /// [`put_many`](Self::put_many) with one TTL, one condition and the same tags for all.
    ///
    /// # Errors
    ///
    /// As [`put_many`](Self::put_many), and [`ErrorKind::InvalidTag`](crate::ErrorKind::InvalidTag).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// use larder::{Cache, PutOptions};
    ///
    /// let cache = Cache::memory();
    /// cache.put_many_with([("a", 1), ("b", 2)], PutOptions::new().tags(["letters"])).await?;
    /// cache.invalidate_tag("letters").await?;
    /// assert_eq!(cache.get_many::<i32>(["a", "b"]).await?, [None, None]);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn put_many_with<K, T>(
        &self,
        values: impl IntoIterator<Item = (K, T)>,
        options: PutOptions,
    ) -> Result<Vec<bool>>
    where
        K: AsRef<[u8]>,
        T: Serialize + Send + Sync + 'static,
    {
        let ttl = self.shared().ttl.resolve(options.ttl);
        let entries = values
            .into_iter()
            .map(|(key, value)| {
                let key = self.values().key(key.as_ref()).to_key();
                Ok((key, self.encode(&Arc::new(value), ttl)?, options.mode))
            })
            .collect::<Result<Vec<_>>>()?;
        let tags = self.tags(&options.tags)?;
        let keys: Vec<Key> = entries.iter().map(|(key, ..)| key.clone()).collect();
        let kept = self.put_entries(&keys, entries, &options, &tags, ttl).await;
        let kept = self.tolerate(kept, vec![false; keys.len()])?;
        self.add(Event::Put, kept.iter().filter(|kept| **kept).count());
        Ok(kept)
    }

    async fn put_entries(
        &self,
        keys: &[Key],
        mut entries: Vec<(Key, Entry, PutMode)>,
        options: &PutOptions,
        tags: &Tags,
        ttl: Option<Duration>,
    ) -> Result<Vec<bool>> {
        let stamped = self.stamp(tags, ttl).await;
        let known = match &stamped {
            Ok(Some(stamped)) => stamped,
            Ok(None) | Err(_) => &Stamped::Unknown,
        };
        let stamp = |(key, entry, mode)| Some((key, known.put_on(entry)?, mode));
        let Some(stamped_entries) = entries.drain(..).map(stamp).collect::<Option<Vec<_>>>() else {
            if options.mode == PutMode::Always {
                // What is there is not the truth any more, and nothing can come in its place.
                self.write(keys, self.backend().delete_many(keys)).await?;
            }
            return stamped.map(|_| vec![false; keys.len()]);
        };
        let again = (options.mode == PutMode::IfAbsent).then(|| stamped_entries.clone());
        let put = self.backend().put_many(stamped_entries);
        let mut kept = self.write(keys, put).await?;
        for (place, (key, entry, mode)) in again.into_iter().flatten().enumerate() {
            if !kept[place] && self.remove_ended(&key).await {
                kept[place] = self.put_entry(&key, entry, mode).await?;
            }
        }
        if kept.contains(&true) {
            self.collect_stamps(known);
        }
        Ok(kept)
    }

    /// Does a write of `keys`, which is newer than every load that began before it ended.
    pub(super) async fn write<T>(
        &self,
        keys: &[Key],
        write: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.supersede(keys).await;
        let written = self.observe(write.await);
        // Whoever asked meanwhile may have found what was there before, and must neither keep it nor share it on.
        self.supersede(keys).await;
        written
    }

    async fn supersede(&self, keys: &[Key]) {
        for key in keys {
            self.shared().generations.advance(key).await;
            self.shared().value_flights.detach(key);
        }
    }
}
