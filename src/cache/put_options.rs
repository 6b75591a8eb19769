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
/// assert!(cache.put_with("lock", "me", lock).await?);
/// assert!(!cache.put_with("lock", "you", lock).await?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct PutOptions {
    pub(super) ttl: Ttl,
    pub(super) mode: PutMode,
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
}
