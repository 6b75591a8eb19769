//! Tags: ending many entries at once, wherever they are.
//!
//! The marker of a tag is an entry of its own, with two random ids, and an entry with tags carries the ids that their
//! markers had when it was made. Whoever reads the entry reads the markers too. Invalidating a tag is deleting its
//! marker; the next one has other ids. A marker that is absent is made anew and never assumed, so one that was evicted
//! ends entries and revives none.

mod collected;
mod log;
mod markers;
mod shared_log;
mod stamping;
#[cfg(all(test, feature = "memory", feature = "json"))]
mod tests;

use std::{slice, sync::Arc};

use super::{Cache, Event};
use crate::{Entry, Key, PutMode, Result, Timestamp, entry::marker};

pub(crate) use collected::Collected;
pub(crate) use log::TagLog;
pub(crate) use shared_log::Seen;
#[cfg(fuzzing)]
pub(crate) use shared_log::fuzzing;
pub(crate) use stamping::{Stamped, Tags};

use markers::{Ids, read_ids};

/// How often a change of what others change too is tried.
const ATTEMPTS: usize = 4;

impl Cache {
    /// Ends every value and stored response with the tag `tag` at once, and nothing else.
    ///
    /// The cost does not grow with their number: one small entry, the tag's marker, is deleted, and their space is
    /// reclaimed as that of other entries is. Loads under way that have the tag are returned to their callers and not
    /// kept. The tag is that of this handle's namespace; the same name in another one is another tag.
    ///
    /// A backend outside this process that cannot be reached gets the invalidation when it is back, before anything is
    /// read from it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidTag`](crate::ErrorKind::InvalidTag) for a tag that is empty or longer than 256 bytes; the
    /// backend's.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open whether the tag was invalidated.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// use larder::{Cache, PutOptions};
    ///
    /// let cache = Cache::memory();
    /// let tagged = PutOptions::new().tags(["user:7"]);
    /// cache.put_with("name", "Ada", tagged.clone()).await?;
    /// cache.put_with("orders", 12, tagged).await?;
    /// cache.put("visits", 3).await?;
    ///
    /// cache.invalidate_tag("user:7").await?;
    /// assert!(!cache.contains("name").await?);
    /// assert!(!cache.contains("orders").await?);
    /// assert!(cache.contains("visits").await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn invalidate_tag(&self, tag: impl AsRef<[u8]>) -> Result<()> {
        let marker = self.marker(tag.as_ref())?;
        self.end_tags(slice::from_ref(&marker)).await
    }

    /// [`invalidate_tag`](Self::invalidate_tag) for several tags, with as many round trips as for one.
    ///
    /// # Errors
    ///
    /// As [`invalidate_tag`](Self::invalidate_tag). With an
    /// [`ErrorKind::InvalidTag`](crate::ErrorKind::InvalidTag) error none was invalidated.
    ///
    /// # Cancel safety
    ///
    /// As [`invalidate_tag`](Self::invalidate_tag).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// use larder::{Cache, PutOptions};
    ///
    /// let cache = Cache::memory();
    /// cache.put_with("order", 12, PutOptions::new().tags(["user:7", "order:12"])).await?;
    /// cache.invalidate_tags(["order:12", "order:13"]).await?;
    /// assert!(!cache.contains("order").await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn invalidate_tags(
        &self,
        tags: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<()> {
        let markers = tags.into_iter().map(|tag| self.marker(tag.as_ref()));
        self.end_tags(&markers.collect::<Result<Vec<_>>>()?).await
    }

    /// Makes everything with the tag `tag` stale: values are absent from now on, and stored responses are what
    /// stale responses are, good for revalidation and where `stale-while-revalidate` or `stale-if-error` permit.
    ///
    /// Where that cannot be done in one atomic step, or fails, the tag is [invalidated](Self::invalidate_tag).
    ///
    /// # Errors
    ///
    /// As [`invalidate_tag`](Self::invalidate_tag).
    ///
    /// # Cancel safety
    ///
    /// As [`invalidate_tag`](Self::invalidate_tag).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// use larder::{Cache, PutOptions};
    ///
    /// let cache = Cache::memory();
    /// cache.put_with("name", "Ada", PutOptions::new().tags(["user:7"])).await?;
    /// cache.expire_tag("user:7").await?;
    /// assert_eq!(cache.get::<String>("name").await?, None);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn expire_tag(&self, tag: impl AsRef<[u8]>) -> Result<()> {
        let marker = self.marker(tag.as_ref())?;
        let markers = slice::from_ref(&marker);
        if !self.capabilities().versions {
            return self.end_tags(markers).await;
        }
        self.tags_change(markers);
        self.log_to_others(markers).await;
        let is_done = self.change_soft_id(&marker).await;
        self.tags_change(markers);
        if !is_done {
            return self.end_tags(markers).await;
        }
        self.count(Event::TagInvalidated);
        Ok(())
    }

    /// Gives the marker another soft id, and says whether that is done, as it is where no marker is.
    async fn change_soft_id(&self, marker: &Key) -> bool {
        for _ in 0..ATTEMPTS {
            let entry = match self.fetch_raw(marker).await {
                Ok(Some(entry)) => entry,
                Ok(None) => return true,
                Err(_) => return false,
            };
            let Some(ids) = read_ids(&entry) else {
                return false;
            };
            let changed = Ids::random().with_hard_of(ids).entry(Timestamp::now());
            let changed = changed.with_expires_at(entry.expires_at());
            let mode = PutMode::IfVersion(entry.version());
            match self.observe(self.backend().put(marker, changed, mode).await) {
                Ok(true) => return true,
                Ok(false) => {}
                Err(_) => return false,
            }
        }
        false
    }

    /// A handle to the same namespace whose reads give the response under way no tags.
    ///
    /// Behind [`CacheLayer`](crate::CacheLayer), a response carries the tags of the entries that its handler read or put
    /// by the handle that it was given, and ends with them. What is read by the untracked handle is left out of it.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// let cache = larder::Cache::memory();
    /// assert_eq!(cache.untracked().get::<String>("banner").await?, None);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn untracked(&self) -> Self {
        Self(self.0.clone(), None)
    }

    /// A handle to the same namespace, and what it and those made from it will have read or put that has tags.
    pub(crate) fn collecting(&self) -> (Self, Arc<Collected>) {
        let collected = Arc::<Collected>::default();
        let tracking = Self(self.0.clone(), Some(collected.clone()));
        (tracking, collected)
    }

    /// The key of the marker of a tag of this namespace.
    pub(crate) fn marker(&self, tag: &[u8]) -> Result<Key> {
        marker(&self.0.tags, tag)
    }

    async fn end_tags(&self, markers: &[Key]) -> Result<()> {
        if markers.is_empty() {
            return Ok(());
        }
        let ended = self.end_markers(markers).await;
        self.tolerate(ended, ())?;
        self.add(Event::TagInvalidated, markers.len());
        Ok(())
    }

    pub(super) async fn end_markers(&self, markers: &[Key]) -> Result<()> {
        self.tags_change(markers);
        self.log_to_others(markers).await;
        let ended = match markers {
            [marker] => self.backend().delete(marker).await.map(drop),
            markers => self.backend().delete_many(markers).await.map(drop),
        };
        let ended = self.observe(ended);
        // Whoever asked meanwhile may have found what was there before, and must neither keep it nor share it on.
        self.tags_change(markers);
        ended
    }

    /// Lets the loads of this process know that what has these tags is not what it was.
    fn tags_change(&self, markers: &[Key]) {
        self.shared().generations.tags().note(markers);
        self.shared().value_flights.detach_tagged(markers);
    }

    /// Notes for the response under way that it is made of an entry with these tags.
    pub(super) fn collect(&self, entry: &Entry) {
        if let Some(collected) = &self.1 {
            collected.note(entry.tags());
        }
    }
}
