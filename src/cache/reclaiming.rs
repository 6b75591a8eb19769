//! Giving back the space of what has ended.

use super::Cache;
use crate::Result;

impl Cache {
    /// Gives back the space of up to `limit` entries that have ended or were cleared, and says of how many.
    ///
    /// Nothing depends on it but space: what has ended is never returned. In memory, on MongoDB and in SQL databases it
    /// happens by itself from time to time; call this where it is to happen sooner, or where the sweeper was switched off.
    /// On Redis it takes what clearing left without a TTL, and nothing else does. Where the server needs no help
    /// ([`Capabilities::remove_expired`](crate::Capabilities::remove_expired) is `false`) the answer is 0, without asking.
    /// It concerns all namespaces that the backend knows, not this handle's alone.
    ///
    /// A call may find nothing in what it had time to search while there is more elsewhere, so go by the clock rather
    /// than by the number.
    ///
    /// # Errors
    ///
    /// The backend's; what was removed until then stays removed.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped may have removed something, and nothing that lives.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> larder::Result<()> {
    /// use std::time::Duration;
    ///
    /// use larder::{Cache, PutOptions};
    ///
    /// let cache = Cache::memory();
    /// cache.put_with("short", 1, PutOptions::new().ttl(Duration::from_secs(1))).await?;
    /// cache.put("long", 2).await?;
    /// tokio::time::advance(Duration::from_secs(2)).await;
    /// assert_eq!(cache.remove_expired(1_000).await?, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn remove_expired(&self, limit: usize) -> Result<usize> {
        if !self.capabilities().remove_expired {
            return Ok(0);
        }
        self.observe(self.backend().remove_expired(limit).await)
    }
}
