use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{
    HeaderName,
    header::{AGE, CONTENT_LENGTH, DATE, EXPIRES},
};

use crate::http::status::CACHE_STATUS;

/// Further routes are counted together.
const MAX_ROUTES: usize = 1_000;

/// Further differences of a route are not told apart.
const MAX_DIFFERENCES: usize = 64;

/// Fields that two right answers may differ in.
const IGNORED: [HeaderName; 5] = [AGE, CACHE_STATUS, CONTENT_LENGTH, DATE, EXPIRES];

/// Tries a [`CacheLayer`](crate::CacheLayer) out where nothing depends on it: every request is answered by the inner
/// service, and what the store would have answered is compared with that.
///
/// The layer looks up and stores as ever, but collapses nothing and never answers by itself. Handlers see requests as
/// clients send them, with their conditions and all the languages that they name, so
/// [`languages`](crate::CacheLayer::languages) and the codings of `precompress` make no fewer variants here. A share of the requests
/// that would have been hits is compared: status, fields but for `Age`, `Cache-Status`, `Content-Length`, `Date` and
/// `Expires`, and the body, as it streams by. Conditional requests are answered and not compared. Clones share one report.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "memory")] {
/// use larder::{Cache, CacheLayer, Shadow};
///
/// let shadow = Shadow::new(0.1);
/// let layer = CacheLayer::new(Cache::memory()).shadow(shadow.clone());
/// // Some traffic later:
/// println!("{}", shadow.report());
/// # }
/// ```
#[derive(Clone)]
pub struct Shadow(Arc<Inner>);

struct Inner {
    /// Of a million would-be hits, so many are compared.
    share: u64,
    /// Would-be hits so far, for choosing among them evenly.
    offered: AtomicU64,
    ignored: Vec<HeaderName>,
    routes: Mutex<BTreeMap<Arc<str>, Counts>>,
}

const MILLION: u64 = 1_000_000;

#[derive(Clone, Default)]
struct Counts {
    requests: u64,
    hits: u64,
    compared: u64,
    wrong: u64,
    differences: BTreeMap<Difference, u64>,
}

/// How an answer out of the store would have been wrong. Of several differences the first is told: the status, then the
/// fields by name, then the body.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Difference {
    /// Another status.
    Status,
    /// Another value of this field, or one of the two answers lacks it.
    Field(HeaderName),
    /// Another body.
    Body,
}

impl Shadow {
    /// Compares this share of the requests that would have been hits, between 0 and 1, spread evenly.
    pub fn new(share: f64) -> Self {
        Self::made(share, Vec::new())
    }

    fn made(share: f64, ignored: Vec<HeaderName>) -> Self {
        Self(Arc::new(Inner {
            share: (share.clamp(0.0, 1.0) * MILLION as f64) as u64,
            offered: AtomicU64::new(0),
            ignored,
            routes: Mutex::default(),
        }))
    }

    /// Leaves a field out of the comparison, such as one with an id of the request. The report begins anew.
    #[must_use]
    pub fn ignore_header(self, name: HeaderName) -> Self {
        let mut ignored = self.0.ignored.clone();
        ignored.push(name);
        Self::made(self.0.share as f64 / MILLION as f64, ignored)
    }

    /// What was found so far.
    pub fn report(&self) -> ShadowReport {
        let routes = self.0.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let route = |(name, counts): (&Arc<str>, &Counts)| ShadowRoute {
            route: name.to_string(),
            requests: counts.requests,
            hits: counts.hits,
            compared: counts.compared,
            wrong: counts.wrong,
            differences: counts.differences.clone().into_iter().collect(),
        };
        ShadowReport {
            routes: routes.iter().map(route).collect(),
        }
    }

    pub(super) fn ignores(&self, name: &HeaderName) -> bool {
        IGNORED.contains(name) || self.0.ignored.contains(name)
    }

    /// Whether this would-be hit is among those that are compared.
    pub(super) fn takes_sample(&self) -> bool {
        let before = self.0.offered.fetch_add(1, Ordering::Relaxed) % MILLION;
        before * self.0.share / MILLION != (before + 1) * self.0.share / MILLION
    }

    /// Notes a request, and whether the store would have answered it.
    pub(super) fn asked(&self, route: &Arc<str>, is_hit: bool) {
        self.change(route, |counts| {
            counts.requests += 1;
            counts.hits += u64::from(is_hit);
        });
    }

    /// Notes what a comparison has found.
    pub(super) fn compared(&self, route: &Arc<str>, difference: Option<Difference>) {
        if let Some(difference) = &difference {
            tracing::warn!(
                route = &**route,
                %difference,
                "a stored response would have been a wrong answer"
            );
        }
        self.change(route, |counts| {
            counts.compared += 1;
            let Some(difference) = difference else {
                return;
            };
            counts.wrong += 1;
            let differences = &mut counts.differences;
            if differences.len() < MAX_DIFFERENCES || differences.contains_key(&difference) {
                *differences.entry(difference).or_default() += 1;
            }
        });
    }

    fn change(&self, route: &Arc<str>, change: impl FnOnce(&mut Counts)) {
        let mut routes = self.0.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let route = match routes.len() < MAX_ROUTES || routes.contains_key(route) {
            true => route.clone(),
            false => "(others)".into(),
        };
        change(routes.entry(route).or_default());
    }
}

impl fmt::Debug for Shadow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shadow")
            .field("share", &(self.0.share as f64 / MILLION as f64))
            .field("ignored", &self.0.ignored)
            .finish_non_exhaustive()
    }
}

/// What a [`Shadow`] has found, by route. Shown, it is a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShadowReport {
    /// The routes that were asked for, by name: the matched path in axum routers, or what
    /// [`CacheLayer::route_label`](crate::CacheLayer::route_label) says. Beyond the first thousand they are one.
    pub routes: Vec<ShadowRoute>,
}

/// What a [`Shadow`] has found of one route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShadowRoute {
    /// The name of the route; empty where it has none.
    pub route: String,
    /// Requests that the layer would have looked up.
    pub requests: u64,
    /// Requests that the store would have answered.
    pub hits: u64,
    /// Answers that were compared.
    pub compared: u64,
    /// Answers that would have been wrong.
    pub wrong: u64,
    /// How they would have been wrong, and how often.
    pub differences: Vec<(Difference, u64)>,
}

impl ShadowReport {
    /// How many answers would have been wrong.
    pub fn wrong(&self) -> u64 {
        self.routes.iter().map(|route| route.wrong).sum()
    }
}

impl fmt::Display for ShadowReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<32} {:>9} {:>9} {:>9} {:>7}  differences",
            "route", "requests", "hits", "compared", "wrong"
        )?;
        for route in &self.routes {
            let name = match route.route.as_str() {
                "" => "-",
                name => name,
            };
            let differences: Vec<_> = route
                .differences
                .iter()
                .map(|(difference, count)| format!("{difference}: {count}"))
                .collect();
            writeln!(
                f,
                "{name:<32} {:>9} {:>9} {:>9} {:>7}  {}",
                route.requests,
                route.hits,
                route.compared,
                route.wrong,
                differences.join(", ")
            )?;
        }
        Ok(())
    }
}

impl Difference {
    fn order(&self) -> (u8, &str) {
        match self {
            Self::Status => (0, ""),
            Self::Field(name) => (1, name.as_str()),
            Self::Body => (2, ""),
        }
    }
}

impl Ord for Difference {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

impl PartialOrd for Difference {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status => f.write_str("status"),
            Self::Field(name) => write!(f, "field {name}"),
            Self::Body => f.write_str("body"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_that_is_compared_is_spread_evenly() {
        let taken = |share: f64| {
            let shadow = Shadow::new(share);
            (0..1_000).filter(|_| shadow.takes_sample()).count()
        };
        assert_eq!(taken(0.0), 0);
        assert_eq!(taken(0.1), 100);
        assert_eq!(taken(1.0), 1_000);
        assert_eq!(taken(7.0), 1_000);
        assert_eq!(taken(f64::NAN), 0);
    }

    #[test]
    fn routes_without_end_are_counted_together() {
        let shadow = Shadow::new(1.0);
        for number in 0..2 * MAX_ROUTES {
            shadow.asked(&Arc::from(number.to_string()), false);
        }
        let report = shadow.report();
        assert_eq!(report.routes.len(), MAX_ROUTES + 1);
        let others = report.routes.iter().find(|route| route.route == "(others)");
        assert_eq!(others.unwrap().requests, MAX_ROUTES as u64);
    }
}
