/// How a URI is purged, for [`Cache::purge_with`](crate::Cache::purge_with).
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> larder::Result<()> {
/// use larder::{Cache, PurgeOptions};
///
/// let cache = Cache::memory();
/// cache.purge_with("/items/7", PurgeOptions::new().host("shop.example")).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct PurgeOptions {
    pub(super) is_soft: bool,
    pub(super) is_prefix: bool,
    pub(super) host: Option<String>,
}

impl PurgeOptions {
    /// Ends what is stored for the one URI.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes it stale instead of ending it, as [`Cache::purge_soft`](crate::Cache::purge_soft) does.
    pub fn soft(mut self) -> Self {
        self.is_soft = true;
        self
    }

    /// Purges every URI that begins with the given one, as [`Cache::purge_prefix`](crate::Cache::purge_prefix) does.
    pub fn prefix(mut self) -> Self {
        self.is_prefix = true;
        self
    }

    /// The host, with its port where that is not the default one, for a URI that is a path alone.
    ///
    /// It is the `Host` of the requests; the empty one stands for requests that name none, as in a service that is not
    /// behind a web server.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }
}
