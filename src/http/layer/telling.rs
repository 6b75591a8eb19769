//! What the layer tells of its decisions.

use http::Extensions;

use super::CacheLayer;
use crate::{
    Result,
    http::status::{CacheStatus, StatusDetail},
};

impl CacheLayer {
    /// The name of this cache in `Cache-Status`, `larder` by default.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`](crate::ErrorKind::Settings) for a name that cannot stand in a header field.
    ///
    /// # Examples
    ///
    /// ```
    /// use larder::{Cache, CacheLayer};
    ///
    /// assert!(CacheLayer::new(Cache::memory()).status_name("shop").is_ok());
    /// assert!(CacheLayer::new(Cache::memory()).status_name("a\nb").is_err());
    /// ```
    pub fn status_name(self, name: &str) -> Result<Self> {
        let status = CacheStatus::new(name)?;
        Ok(self.change(|config| config.status = Some(status)))
    }

    /// Leaves `Cache-Status` out.
    pub fn without_status(self) -> Self {
        self.change(|config| config.status = None)
    }

    /// Whether `Cache-Status` tells the key too, up to 512 bytes of it; off by default. For development only: a key holds
    /// what other layers may have hidden from clients, such as the path before it was rewritten.
    pub fn status_key(self, on: bool) -> Self {
        self.change(|config| config.status_key = on)
    }

    /// How much `Cache-Status` tells in `detail`; by default why a response was not stored, or was reused although it is
    /// stale. All of it is in [`Stats::reasons`](crate::Stats::reasons) and in `tracing` whatever is chosen here.
    pub fn status_detail(self, detail: StatusDetail) -> Self {
        self.change(|config| config.status_detail = detail)
    }

    /// How log events name the route of a request. In axum routers it is the matched path, as it was written; elsewhere
    /// there is none unless a label is made here. It must be one of few: never the path itself.
    pub fn route_label(self, label: fn(&Extensions) -> Option<&str>) -> Self {
        self.change(|config| config.route_label = Some(label))
    }
}
