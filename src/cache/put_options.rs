use std::{fmt, time::Duration};

use super::Ttl;
use crate::PutMode;

/// How a value is put.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> larder::Result<()> {
/// use std::time::Duration;
/// use larder::{Cache, PutOptions};
///
/// let cache = Cache::memory();
/// let lock = PutOptions::new().ttl(Duration::from_secs(10)).if_absent();
/// assert!(cache.put_with("lock", "me", lock.clone()).await?);
/// assert!(!cache.put_with("lock", "you", lock).await?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct PutOptions {
    pub(super) ttl: Ttl,
    pub(super) mode: PutMode,
    pub(super) tags: Vec<Box<[u8]>>,
}

impl PutOptions {
    /// The default TTL, replacing what is there.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long to keep the value.
    pub fn ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.ttl = ttl.into();
        self
    }

    /// Keeps the value only where none is: one atomic step, across processes too.
    pub fn if_absent(mut self) -> Self {
        self.mode = PutMode::IfAbsent;
        self
    }

    /// Keeps the value only where the one there has this [`version`](crate::Cached::version): one atomic step, across processes
    /// too.
    pub fn if_version(mut self, version: u64) -> Self {
        self.mode = PutMode::IfVersion(version);
        self
    }

    /// Adds tags, by which [`Cache::invalidate_tag`](crate::Cache::invalidate_tag) ends the value together with others.
    ///
    /// A value has at most 64 tags, of 1 to 256 bytes each; what it is put by checks that. On a server, tags cost a
    /// round trip when the value is put and one when it is read.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// use larder::{Cache, PutOptions};
    ///
    /// let cache = Cache::memory();
    /// cache.put_with("order:12", "books", PutOptions::new().tags(["user:7", "shop"])).await?;
    /// cache.invalidate_tag("shop").await?;
    /// assert!(!cache.contains("order:12").await?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn tags(mut self, tags: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        let tags = tags.into_iter().map(|tag| tag.as_ref().into());
        self.tags.extend(tags);
        self
    }
}

impl From<Ttl> for PutOptions {
    fn from(ttl: Ttl) -> Self {
        Self::new().ttl(ttl)
    }
}

impl From<Duration> for PutOptions {
    fn from(ttl: Duration) -> Self {
        Self::new().ttl(ttl)
    }
}

/// Shows how many tags there are, never their names.
impl fmt::Debug for PutOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PutOptions")
            .field("ttl", &self.ttl)
            .field("mode", &self.mode)
            .field("tags", &self.tags.len())
            .finish()
    }
}
