//! `Cache-Control`, for handlers to say.

use std::{
    fmt::{self, Write},
    time::Duration,
};

use http::HeaderValue;

use super::text::MAX_SECONDS;

/// The `Cache-Control` of a response, as a typed value.
///
/// Times are whole seconds, parts of a second cut off, and at most 2<sup>31</sup> of them (RFC 9111 §1.2.2). Nothing
/// is said that was not asked for: a new value is empty.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use larder::CacheControl;
///
/// let minute = Duration::from_secs(60);
/// let shared = CacheControl::new().public().max_age(minute).stale_while_revalidate(10 * minute);
/// assert_eq!(shared.to_string(), "public, max-age=60, stale-while-revalidate=600");
/// assert_eq!(CacheControl::new().no_store().to_string(), "no-store");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[must_use = "a `CacheControl` does nothing until it is put into a response"]
pub struct CacheControl {
    scope: Option<Scope>,
    no_store: bool,
    no_cache: bool,
    max_age: Option<u32>,
    s_maxage: Option<u32>,
    stale_while_revalidate: Option<u32>,
    stale_if_error: Option<u32>,
    must_revalidate: bool,
    proxy_revalidate: bool,
    must_understand: bool,
    immutable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Scope {
    Public,
    Private,
}

impl CacheControl {
    /// Says nothing yet.
    ///
    /// ```
    /// assert_eq!(larder::CacheControl::new().to_string(), "");
    /// ```
    pub const fn new() -> Self {
        Self {
            scope: None,
            no_store: false,
            no_cache: false,
            max_age: None,
            s_maxage: None,
            stale_while_revalidate: None,
            stale_if_error: None,
            must_revalidate: false,
            proxy_revalidate: false,
            must_understand: false,
            immutable: false,
        }
    }

    /// Lets shared caches store the response, even one to a request with `Authorization` or one with `Set-Cookie`.
    ///
    /// Ends an earlier [`private`](Self::private). Do not say it of anything that depends on who asks.
    ///
    /// ```
    /// assert_eq!(larder::CacheControl::new().public().to_string(), "public");
    /// ```
    pub const fn public(mut self) -> Self {
        self.scope = Some(Scope::Public);
        self
    }

    /// Keeps the response out of shared caches, `CacheLayer`'s among them; a browser may store it.
    ///
    /// Ends an earlier [`public`](Self::public).
    ///
    /// ```
    /// assert_eq!(larder::CacheControl::new().public().private().to_string(), "private");
    /// ```
    pub const fn private(mut self) -> Self {
        self.scope = Some(Scope::Private);
        self
    }

    /// Keeps the response out of every cache.
    ///
    /// ```
    /// assert_eq!(larder::CacheControl::new().no_store().to_string(), "no-store");
    /// ```
    pub const fn no_store(mut self) -> Self {
        self.no_store = true;
        self
    }

    /// Lets caches store the response and has them validate it before each reuse, which needs an `ETag` or a
    /// `Last-Modified`.
    ///
    /// ```
    /// assert_eq!(larder::CacheControl::new().no_cache().to_string(), "no-cache");
    /// ```
    pub const fn no_cache(mut self) -> Self {
        self.no_cache = true;
        self
    }

    /// Sets how long the response is fresh.
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder::CacheControl;
    ///
    /// let control = CacheControl::new().max_age(Duration::from_millis(1_999));
    /// assert_eq!(control.to_string(), "max-age=1");
    /// ```
    pub const fn max_age(mut self, lifetime: Duration) -> Self {
        self.max_age = Some(seconds(lifetime));
        self
    }

    /// Sets how long the response is fresh in shared caches, in place of [`max_age`](Self::max_age).
    ///
    /// It also lets them store responses to requests with `Authorization`, and keeps them from serving stale ones
    /// unless [`stale_while_revalidate`](Self::stale_while_revalidate) or [`stale_if_error`](Self::stale_if_error)
    /// is said too.
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder::CacheControl;
    ///
    /// let control = CacheControl::new().max_age(Duration::ZERO).s_maxage(Duration::from_secs(300));
    /// assert_eq!(control.to_string(), "max-age=0, s-maxage=300");
    /// ```
    pub const fn s_maxage(mut self, lifetime: Duration) -> Self {
        self.s_maxage = Some(seconds(lifetime));
        self
    }

    /// Lets caches answer with the stale response for so long while they fetch a new one (RFC 5861 §3).
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder::CacheControl;
    ///
    /// let control = CacheControl::new().stale_while_revalidate(Duration::from_secs(30));
    /// assert_eq!(control.to_string(), "stale-while-revalidate=30");
    /// ```
    pub const fn stale_while_revalidate(mut self, window: Duration) -> Self {
        self.stale_while_revalidate = Some(seconds(window));
        self
    }

    /// Lets caches answer with the stale response for so long when the handler fails (RFC 5861 §4).
    ///
    /// Zero forbids what the layer does by default, which is to do so for a minute.
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder::CacheControl;
    ///
    /// let control = CacheControl::new().stale_if_error(Duration::from_secs(3_600));
    /// assert_eq!(control.to_string(), "stale-if-error=3600");
    /// ```
    pub const fn stale_if_error(mut self, window: Duration) -> Self {
        self.stale_if_error = Some(seconds(window));
        self
    }

    /// Forbids every reuse of the response once it is stale.
    ///
    /// ```
    /// assert_eq!(larder::CacheControl::new().must_revalidate().to_string(), "must-revalidate");
    /// ```
    pub const fn must_revalidate(mut self) -> Self {
        self.must_revalidate = true;
        self
    }

    /// Forbids shared caches every reuse of the response once it is stale.
    ///
    /// ```
    /// assert_eq!(larder::CacheControl::new().proxy_revalidate().to_string(), "proxy-revalidate");
    /// ```
    pub const fn proxy_revalidate(mut self) -> Self {
        self.proxy_revalidate = true;
        self
    }

    /// Lets only caches that know the status code store the response; with [`no_store`](Self::no_store), it lets
    /// those store what older caches do not (RFC 9111 §5.2.2.3).
    ///
    /// ```
    /// use larder::CacheControl;
    ///
    /// assert_eq!(CacheControl::new().no_store().must_understand().to_string(), "no-store, must-understand");
    /// ```
    pub const fn must_understand(mut self) -> Self {
        self.must_understand = true;
        self
    }

    /// Tells clients that the response does not change while it is fresh, so that a reload need not ask (RFC 8246).
    ///
    /// ```
    /// assert_eq!(larder::CacheControl::new().immutable().to_string(), "immutable");
    /// ```
    pub const fn immutable(mut self) -> Self {
        self.immutable = true;
        self
    }

    /// The value of the field.
    ///
    /// ```
    /// use larder::CacheControl;
    ///
    /// assert_eq!(CacheControl::new().private().no_cache().to_header_value(), "private, no-cache");
    /// ```
    pub fn to_header_value(self) -> HeaderValue {
        HeaderValue::try_from(self.to_string()).expect("directives are visible ASCII")
    }
}

/// Whole seconds, at most what every recipient can represent.
const fn seconds(duration: Duration) -> u32 {
    if duration.as_secs() < MAX_SECONDS as u64 {
        duration.as_secs() as u32
    } else {
        MAX_SECONDS
    }
}

impl fmt::Display for CacheControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = [
            ("public", self.scope == Some(Scope::Public)),
            ("private", self.scope == Some(Scope::Private)),
            ("no-store", self.no_store),
            ("no-cache", self.no_cache),
            ("must-revalidate", self.must_revalidate),
            ("proxy-revalidate", self.proxy_revalidate),
            ("must-understand", self.must_understand),
            ("immutable", self.immutable),
        ];
        let times = [
            ("max-age", self.max_age),
            ("s-maxage", self.s_maxage),
            ("stale-while-revalidate", self.stale_while_revalidate),
            ("stale-if-error", self.stale_if_error),
        ];
        let flags = flags
            .into_iter()
            .filter(|(_, on)| *on)
            .map(|(name, _)| (name, None));
        let times = times.into_iter().filter(|(_, seconds)| seconds.is_some());
        for (at, (name, seconds)) in flags.chain(times).enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            f.write_str(name)?;
            if let Some(seconds) = seconds {
                f.write_char('=')?;
                seconds.fmt(f)?;
            }
        }
        Ok(())
    }
}

impl From<CacheControl> for HeaderValue {
    fn from(control: CacheControl) -> Self {
        control.to_header_value()
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, header::CACHE_CONTROL};

    use super::*;
    use crate::http::directives::{ResponseDirectives, Targets};

    #[test]
    fn the_cache_reads_what_a_handler_says() {
        let second = Duration::from_secs(1);
        let control = CacheControl::new()
            .public()
            .no_store()
            .no_cache()
            .max_age(second)
            .s_maxage(2 * second)
            .stale_while_revalidate(3 * second)
            .stale_if_error(Duration::MAX)
            .must_revalidate()
            .proxy_revalidate()
            .must_understand()
            .immutable();
        let headers = HeaderMap::from_iter([(CACHE_CONTROL, control.into())]);
        let expected = ResponseDirectives {
            public: true,
            no_store: true,
            no_cache: true,
            max_age: Some(1),
            s_maxage: Some(2),
            stale_while_revalidate: Some(3),
            stale_if_error: Some(MAX_SECONDS),
            must_revalidate: true,
            proxy_revalidate: true,
            must_understand: true,
            immutable: true,
            ..Default::default()
        };
        assert_eq!(
            ResponseDirectives::read(&headers, &Targets::default()),
            expected
        );
    }
}
