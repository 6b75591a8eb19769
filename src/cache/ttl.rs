use std::time::Duration;

/// How long a value is kept.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use larder::Ttl;
///
/// assert_eq!(Ttl::from(Duration::from_secs(5)), Ttl::For(Duration::from_secs(5)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Ttl {
    /// As long as the cache's default says: 300 seconds unless `CACHE_DEFAULT_TIMEOUT` or
    /// [`CacheBuilder::default_ttl`](crate::CacheBuilder::default_ttl) says otherwise.
    #[default]
    Default,
    /// Until it is deleted or evicted.
    Never,
    /// For this long. Less than a millisecond counts as one.
    For(Duration),
}

impl From<Duration> for Ttl {
    fn from(duration: Duration) -> Self {
        Self::For(duration)
    }
}

/// What [`Cache`](crate::Cache) is told about a default TTL and the range that every TTL is kept within.
#[derive(Clone, Copy, Debug)]
pub(super) struct TtlRules {
    pub(super) default: Option<Duration>,
    pub(super) min: Option<Duration>,
    pub(super) max: Option<Duration>,
}

impl TtlRules {
    /// The TTL to keep an entry for; `None` is for ever.
    pub(super) fn resolve(self, ttl: Ttl) -> Option<Duration> {
        let asked = match ttl {
            Ttl::Default => self.default,
            Ttl::Never => None,
            Ttl::For(ttl) => Some(ttl),
        };
        let within = asked.map(|ttl| ttl.max(self.min.unwrap_or_default()));
        let within = match (within, self.max) {
            (Some(ttl), Some(max)) => Some(ttl.min(max)),
            (None, max) => max,
            (ttl, None) => ttl,
        };
        within.map(|ttl| ttl.max(Duration::from_millis(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_ttl_is_kept_within_its_limits() {
        let rules = TtlRules {
            default: None,
            min: Some(secs(2)),
            max: Some(secs(10)),
        };
        assert_eq!(rules.resolve(Ttl::For(secs(1))), Some(secs(2)));
        assert_eq!(rules.resolve(Ttl::For(secs(60))), Some(secs(10)));
        assert_eq!(rules.resolve(Ttl::Never), Some(secs(10)));
    }

    #[test]
    fn no_time_at_all_is_a_millisecond_and_not_for_ever() {
        let rules = TtlRules {
            default: None,
            min: None,
            max: None,
        };
        assert_eq!(
            rules.resolve(Ttl::For(Duration::ZERO)),
            Some(Duration::from_millis(1))
        );
        assert_eq!(rules.resolve(Ttl::Default), None);
    }
}
