//! Which fields the layer listens to beside the usual ones, and which it makes or settles.

use super::CacheLayer;
use crate::{
    Result,
    http::{directives::Targets, languages::Languages},
};

impl CacheLayer {
    /// The response field that speaks to this cache alone, before `CDN-Cache-Control` and in place of `Cache-Control` and
    /// `Expires` (RFC 9213); `larder-cache-control` by default. It is a structured-field dictionary of the directives that
    /// `Cache-Control` has, counts only where it is a valid one and not empty, and is not sent on to clients.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`](crate::ErrorKind::Settings) for a name that does not end in `-cache-control`, is no field
    /// name, or is `cdn-cache-control`.
    ///
    /// # Examples
    ///
    /// A handler whose responses stay an hour here, which it can end by an invalidation, and a minute in browsers:
    ///
    /// ```
    /// # fn main() -> larder::Result<()> {
    /// use larder::{Cache, CacheLayer};
    ///
    /// let layer = CacheLayer::new(Cache::memory()).target_field("shop-cache-control")?;
    /// # #[cfg(feature = "axum")]
    /// let handler = || async {
    ///     [("cache-control", "max-age=60"), ("shop-cache-control", "max-age=3600")]
    /// };
    /// # Ok(())
    /// # }
    /// ```
    pub fn target_field(self, name: &str) -> Result<Self> {
        let own = Targets::own_name(name)?;
        Ok(self.change(|config| config.rules.targets.own = Some(own)))
    }

    /// Listens to no field of its own. `larder-cache-control` is then a field like any other, and sent on.
    pub fn without_target_field(self) -> Self {
        self.change(|config| config.rules.targets.own = None)
    }

    /// Whether `CDN-Cache-Control` counts in place of `Cache-Control` and `Expires` (RFC 9213 §3); on by default. It is
    /// sent on, for the caches between this one and the client.
    pub fn cdn_cache_control(self, on: bool) -> Self {
        self.change(|config| config.rules.targets.cdn = on)
    }

    /// The languages that the handlers have, the one they like best first, so that responses with `Vary: Accept-Language`
    /// have one variant for each of them, and not one for each list of wishes that a browser may send.
    ///
    /// Of `Accept-Language` in a `GET` or `HEAD` the inner service then sees the one language that answers it best, or
    /// nothing where none does: an answer cannot depend on more than it is stored by. A wish is met by that very language,
    /// else by a wider one (`de` for `de-AT`), else by one within it (`pt-BR` for `pt`); heavier wishes come first, and
    /// then earlier ones (RFC 4647 §3).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`](crate::ErrorKind::Settings) for what is no language tag, and for more than 64 of them.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> larder::Result<()> {
    /// use larder::{Cache, CacheLayer};
    ///
    /// let layer = CacheLayer::new(Cache::memory()).languages(["en", "de", "pt-BR"])?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn languages(self, tags: impl IntoIterator<Item: AsRef<str>>) -> Result<Self> {
        let languages = Languages::new(tags)?;
        Ok(self.change(|config| config.languages = languages))
    }

    /// Whether stored bodies of a 200 that have no `ETag` are given one, so that a client that has the body already is
    /// answered 304 (RFC 9110 §8.8.3); off by default.
    ///
    /// The tag is a strong one, a hash of the stored bytes, of `Content-Type` and of `Content-Encoding`: it costs reading
    /// a body once when it is stored, and hits nothing. The answer that is stored while it streams to its client goes out
    /// before its last byte is known, and so has no tag. The inner service is never asked about a tag that it did not make.
    /// Whatever changes bodies, such as compression, has to be inside the layer: one that is outside of it would send two
    /// bodies under one strong tag.
    pub fn generate_etags(self, on: bool) -> Self {
        self.change(|config| config.rules.generate_etags = on)
    }
}
