//! One `tracing` event for each decision, by route and never by URI.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use http::Extensions;

use super::layer::Config;
use crate::Reason;

/// What was decided of a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Decision {
    Hit,
    Stale,
    Collapsed,
    Miss,
    Bypass,
    Invalidated,
}

impl Decision {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Collapsed => "collapsed",
            Self::Miss => "miss",
            Self::Bypass => "bypass",
            Self::Invalidated => "invalidated",
        }
    }
}

/// Tells whoever listens at level `DEBUG`; costs a comparison when nobody does.
#[inline]
pub(super) fn decided(config: &Config, extensions: &Extensions, decision: Decision) {
    if tracing::enabled!(tracing::Level::DEBUG) {
        tell(config, extensions, decision);
    }
}

#[cold]
fn tell(config: &Config, extensions: &Extensions, decision: Decision) {
    let route = route(config, extensions).unwrap_or_default();
    tracing::debug!(decision = decision.as_str(), route, "HTTP cache");
}

/// The route of a request that is not there any more when something is decided of it; known where somebody listens.
pub(super) struct Deciding(Option<Box<str>>);

impl Deciding {
    pub(super) fn of(config: &Config, extensions: &Extensions) -> Self {
        let is_heard = tracing::enabled!(tracing::Level::DEBUG);
        let route = is_heard.then(|| route(config, extensions)).flatten();
        Self(route.map(Into::into))
    }

    pub(super) fn decided(self, decision: Decision) {
        let route = self.0.as_deref().unwrap_or_default();
        tracing::debug!(decision = decision.as_str(), route, "HTTP cache");
    }
}

/// Counts a reason, and tells whoever listens at level `DEBUG`.
pub(super) fn explained(config: &Config, route: Option<&str>, reason: Reason) {
    config.cache.count_reason(reason);
    let route = route.unwrap_or_default();
    tracing::debug!(reason = reason.as_str(), route, "HTTP cache");
}

/// The name of the route, of which there are few.
pub(super) fn route<'a>(config: &Config, extensions: &'a Extensions) -> Option<&'a str> {
    if let Some(label) = config.route_label {
        return label(extensions);
    }
    #[cfg(feature = "axum")]
    return crate::axum::matched_path(extensions);
    #[cfg(not(feature = "axum"))]
    None
}

/// The routes that something was said of. A name beyond the first thousand is not noted, and not said either.
#[derive(Debug, Default)]
pub(super) struct OncePerRoute(Mutex<HashSet<Box<str>>>);

const MAX_ROUTES: usize = 1000;

impl OncePerRoute {
    /// Whether this is the first time for the route.
    pub(super) fn is_first(&self, route: &str) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.len() < MAX_ROUTES && !said.contains(route) && said.insert(route.into())
    }
}
