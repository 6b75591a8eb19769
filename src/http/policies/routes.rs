use std::{
    any::Any,
    fmt,
    sync::{Arc, MutexGuard, PoisonError, Weak},
};

use super::{cache_policy::CachePolicy, policy::Policy, table};
use crate::{Cache, Error, ErrorKind, Result, SetCookie};

/// The policies of a router's routes, checked; cheap to clone.
///
/// Shown by `{}` they are a table to be reviewed.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use larder::{Cache, CacheLayer, CachePolicy, Policies, QueryKey};
///
/// # fn main() -> larder::Result<()> {
/// let minute = Duration::from_secs(60);
/// let policies = Policies::builder()
///     .route("/items", CachePolicy::new().ttl(minute).query(QueryKey::only(["page"])))
///     .route("/items/{id}", CachePolicy::new().ttl(10 * minute).negative_ttl(minute))
///     .build()?;
/// assert_eq!(
///     policies.to_string(),
///     "route        lifetimes           key                 conditions\n\
///      /items       60s                 query of only page  -\n\
///      /items/{id}  600s; negative 60s  -                   -\n",
/// );
/// let layer = CacheLayer::new(Cache::memory()).policies(policies)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Policies(Arc<Routes>);

struct Routes {
    paths: matchit::Router<usize>,
    /// In the order in which they were said.
    policies: Vec<Arc<Policy>>,
    others: Option<Arc<Policy>>,
}

/// How the table and the log call what has no route of its own.
const OTHERS: &str = "(others)";

impl Policies {
    /// Policies for no route yet.
    pub fn builder() -> PoliciesBuilder {
        PoliciesBuilder::default()
    }

    /// The policy for a path, as the client sent it.
    pub(crate) fn find(&self, path: &str) -> Option<&Arc<Policy>> {
        let routes = &*self.0;
        match routes.paths.at(path) {
            Ok(found) => routes.policies.get(*found.value),
            Err(_) => routes.others.as_ref(),
        }
    }

    /// Tells the cache of these policies, for as long as a layer has them, so that purging means the same keys.
    pub(super) fn register(&self, cache: &Cache) {
        let mut known = lock(cache);
        known.retain(|policies| policies.strong_count() > 0);
        let own: Arc<dyn Any + Send + Sync> = self.0.clone();
        known.push(Arc::downgrade(&own));
    }

    /// The policies of all layers of a cache.
    pub(crate) fn of(cache: &Cache) -> Vec<Self> {
        let known = lock(cache);
        let alive = known.iter().filter_map(Weak::upgrade);
        alive
            .filter_map(|policies| Some(Self(policies.downcast().ok()?)))
            .collect()
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.0.policies.iter().chain(&self.0.others)
    }

    /// Whether one of them tags responses.
    pub(super) fn name_tags(&self) -> bool {
        self.all().any(|policy| !policy.said.tags.is_empty())
    }

    /// Says what cannot go together with the cache and the layer that the policies are given to.
    pub(crate) fn check(&self, cache: &Cache, set_cookie: SetCookie) -> Result<()> {
        let (_, is_key_given) = cache.hash_key();
        let needs_key = cache.capabilities().shared && !is_key_given;
        let mut problems = Vec::new();
        for policy in self.all() {
            let route = &policy.route;
            let parts = &policy.parts;
            if needs_key && parts.is_secret() {
                problems.push(format!(
                    "policy of {route}: cookies, `Authorization` and extensions in the key need CACHE_HASH_KEY on the \
                     backend {}, which others can read",
                    cache.backend().name()
                ));
            }
            let by_visitor = !parts.cookies.is_empty() || parts.identity.is_some();
            if by_visitor && set_cookie == SetCookie::Always {
                problems.push(format!(
                    "policy of {route}: with `SetCookie::Always` a cookie set for one visitor would reach all who have \
                     the same key"
                ));
            }
        }
        refuse(problems)
    }
}

fn lock(cache: &Cache) -> MutexGuard<'_, Vec<Weak<dyn Any + Send + Sync>>> {
    let known = &cache.shared().policies;
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Collects policies; made by [`Policies::builder`].
#[derive(Clone, Default)]
#[must_use = "policies do nothing until they are built and given to a layer"]
pub struct PoliciesBuilder {
    routes: Vec<(String, CachePolicy)>,
    others: Vec<CachePolicy>,
}

impl PoliciesBuilder {
    /// The policy of a route, written as in axum: `/items/{id}`, `/files/{*path}`.
    ///
    /// The whole path counts that the client asked for, with the prefixes of nested routers. As in axum, a route without
    /// parameters comes before one with, and letter case and percent-encoding matter.
    pub fn route(mut self, path: impl Into<String>, policy: CachePolicy) -> Self {
        self.routes.push((path.into(), policy));
        self
    }

    /// The policy of everything that has no route here. Without one, that goes by its handlers' `Cache-Control`.
    pub fn others(mut self, policy: CachePolicy) -> Self {
        self.others.push(policy);
        self
    }

    /// Checks the policies.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`], with a line for each thing that contradicts itself in any of them.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder::{CachePolicy, Policies, QueryKey};
    ///
    /// let error = Policies::builder()
    ///     .route("/items", CachePolicy::new().ttl(Duration::ZERO))
    ///     .route("/items", CachePolicy::new().query(QueryKey::Only(Vec::new())))
    ///     .build()
    ///     .unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "policy of /items: a TTL of zero stores nothing; leave it out, or say `no_store`\n\
    ///      policy of /items: `QueryKey::Only` names no parameter; `QueryKey::None` means none\n\
    ///      policy of /items: there are two policies for this route",
    /// );
    /// ```
    pub fn build(self) -> Result<Policies> {
        let mut problems = Vec::new();
        let mut paths = matchit::Router::new();
        let mut policies = Vec::new();
        for (path, said) in self.routes {
            let mut own = Vec::new();
            policies.push(Arc::new(Policy::new(&path, said, &mut own)));
            own.extend(insert(&mut paths, &path, policies.len() - 1));
            problems.extend(
                own.iter()
                    .map(|problem| format!("policy of {path}: {problem}")),
            );
        }
        let mut own = Vec::new();
        if self.others.len() > 1 {
            own.push("there are two of them".to_owned());
        }
        let others = self.others.into_iter().next();
        let others = others.map(|said| Arc::new(Policy::new(OTHERS, said, &mut own)));
        problems.extend(
            own.iter()
                .map(|problem| format!("policy of {OTHERS}: {problem}")),
        );
        refuse(problems)?;
        Ok(Policies(Arc::new(Routes {
            paths,
            policies,
            others,
        })))
    }
}

/// Adds a route, and says what is wrong with it.
fn insert(paths: &mut matchit::Router<usize>, path: &str, at: usize) -> Option<String> {
    if !path.starts_with('/') {
        return Some("a route starts with `/`".to_owned());
    }
    if path
        .split('/')
        .any(|segment| segment.starts_with([':', '*']))
    {
        return Some("parameters are written `{name}` and `{*name}`".to_owned());
    }
    match paths.insert(path, at) {
        Ok(()) => None,
        Err(matchit::InsertError::Conflict { with }) if with == path => {
            Some("there are two policies for this route".to_owned())
        }
        Err(matchit::InsertError::Conflict { with }) => {
            Some(format!("it matches the same paths as {with}"))
        }
        Err(error) => Some(format!(
            "the route is malformed: {}",
            error.to_string().to_lowercase()
        )),
    }
}

fn refuse(problems: Vec<String>) -> Result<()> {
    match problems.is_empty() {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Settings, problems.join("\n"))),
    }
}

/// As a table: a line for each policy, in the order in which they were said.
impl fmt::Display for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        table::write(self.all().map(|policy| (&*policy.route, &policy.said)), f)
    }
}

impl fmt::Debug for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.all().map(|policy| (&policy.route, policy));
        f.debug_map().entries(all).finish()
    }
}

impl fmt::Debug for PoliciesBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let routes = self
            .routes
            .iter()
            .map(|(path, policy)| (path.as_str(), policy));
        let others = self.others.iter().map(|policy| (OTHERS, policy));
        f.debug_map().entries(routes.chain(others)).finish()
    }
}
