use std::{fmt, sync::Arc, time::Duration};

use http::{StatusCode, request, response};

use super::{lifetimes::Lifetimes, parts::Extension, query::QueryKey};

/// How responses of a route are cached: for how long, under which key, and which not at all.
///
/// A policy is given to a whole layer by [`CacheLayer::policy`](crate::CacheLayer::policy), or to the routes of a router
/// by [`Policies`](crate::Policies), which check it. A handler can put one into the extensions of its response, for what
/// can still be decided then: lifetimes, and not to store it.
///
/// Nothing is said that was not asked for: a new policy leaves a route to its handlers' `Cache-Control`. What they say
/// wins over a policy too, unless it says [`override_ttl`](Self::override_ttl). `CACHE_DEFAULT_TIMEOUT` does not apply.
///
/// # What a key part is
///
/// Two requests for one URI get the same stored response when they have the same in every part that the policy names.
/// Everything that a handler goes by beside the path has to be in the key: by the query, which is in it unless the policy
/// takes something out; by a field that the handler names in `Vary`; or by a part here. Parts here are for this cache
/// alone: caches further down, such as the browser's, know of `Vary` only.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use larder::{CachePolicy, QueryKey};
///
/// let list = CachePolicy::new()
///     .ttl(Duration::from_secs(60))
///     .negative_ttl(Duration::from_secs(5))
///     .query(QueryKey::only(["page"]))
///     .vary_by_header("accept-language");
/// ```
#[derive(Clone, Default)]
#[must_use = "a policy does nothing until it is given to a layer or put into a response"]
pub struct CachePolicy {
    pub(super) lifetimes: Lifetimes,
    pub(super) no_store: bool,
    pub(super) strict: bool,
    pub(super) query: Vec<QueryKey>,
    pub(super) sort_query: bool,
    pub(super) headers: Vec<String>,
    pub(super) cookies: Vec<String>,
    pub(super) ignore_cookies: bool,
    pub(super) extensions: Vec<Extension>,
    pub(super) identities: Vec<Extension>,
    pub(super) version: u32,
    pub(super) max_variants: Option<usize>,
    pub(super) unless: Option<OnRequest>,
    pub(super) force_update: Option<OnRequest>,
    pub(super) store_if: Option<OnResponse>,
    pub(super) hit_header: Option<String>,
    pub(in crate::http) tags: Vec<String>,
}

pub(super) type OnRequest = Arc<dyn Fn(&request::Parts) -> bool + Send + Sync>;
pub(super) type OnResponse = Arc<dyn Fn(&response::Parts) -> bool + Send + Sync>;

impl CachePolicy {
    /// Says nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps responses fresh for this long that do not say so themselves: those with status 200, 203, 204, 300, 301
    /// and 308.
    ///
    /// As with [`CacheLayer::default_ttl`](crate::CacheLayer::default_ttl) this is not the handler's word, so it is not
    /// taken where it could leak: not for requests with `Authorization`, unless the policy is
    /// [`per_user`](Self::per_user); not for those with cookies that are not in the key, unless it says
    /// [`ignore_cookies`](Self::ignore_cookies); and not for responses with `Set-Cookie`.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.lifetimes.ttl = Some(ttl);
        self
    }

    /// Keeps responses with this status fresh for this long, where they do not say so themselves.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use http::StatusCode;
    /// use larder::CachePolicy;
    ///
    /// let policy = CachePolicy::new()
    ///     .ttl(Duration::from_secs(600))
    ///     .ttl_for(StatusCode::FOUND, Duration::from_secs(10));
    /// ```
    pub fn ttl_for(mut self, status: StatusCode, ttl: Duration) -> Self {
        self.lifetimes.by_status.push((status, ttl));
        self
    }

    /// Keeps the news that something is not there fresh for this long, where it does not say so itself: responses with
    /// status 404, 405, 410, 414 and 501.
    pub fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.lifetimes.negative = Some(ttl);
        self
    }

    /// Lets the lifetimes here win over those that handlers give. `no-store`, `private` and `no-cache` stay theirs.
    ///
    /// A lifetime of zero is no word of theirs that a response is for everyone: without `public`, requests with cookies or
    /// `Authorization` are left to the handler then, unless the policy says what their credentials are for.
    pub fn override_ttl(mut self) -> Self {
        self.lifetimes.override_own = true;
        self
    }

    /// Stores nothing and looks nothing up. In the extensions of a response: does not store that one.
    pub fn no_store(mut self) -> Self {
        self.no_store = true;
        self
    }

    /// Strict mode for these routes: their handlers see of a request only what is in the key, as
    /// [`CacheLayer::strict`](crate::CacheLayer::strict) has it for all.
    ///
    /// # Examples
    ///
    /// ```
    /// use larder::CachePolicy;
    ///
    /// let greeting = CachePolicy::new().strict().vary_by_header("accept-language");
    /// ```
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// Says which parameters of the query are part of the key; all of them otherwise.
    pub fn query(mut self, key: QueryKey) -> Self {
        self.query.push(key);
        self
    }

    /// Sorts the parameters of the query in the key by their names, so that `?a=1&b=2` and `?b=2&a=1` share a response.
    /// Parameters of one name stay in the order in which they were sent.
    pub fn sort_query(mut self, sort: bool) -> Self {
        self.sort_query = sort;
        self
    }

    /// Takes a request field into the key, as `Vary` does, but without a first response to say so.
    pub fn vary_by_header(mut self, name: impl Into<String>) -> Self {
        self.headers.push(name.into());
        self
    }

    /// Takes the value of one cookie into the key, and none of the others. In the store it is a keyed hash only, so a
    /// shared backend needs `CACHE_HASH_KEY`.
    pub fn vary_by_cookie(mut self, name: impl Into<String>) -> Self {
        self.cookies.push(name.into());
        self
    }

    /// Says that no response depends on cookies other than those in the key, so that a lifetime given here holds for
    /// requests with any cookies. Most browsers send some.
    pub fn ignore_cookies(mut self) -> Self {
        self.ignore_cookies = true;
        self
    }

    /// Takes something of a request extension into the key: the tenant, say, that a layer further out has found.
    ///
    /// A request without the extension is not answered from the store, and its response not stored. In the store the
    /// part is a keyed hash only, so a shared backend needs `CACHE_HASH_KEY`.
    ///
    /// # Examples
    ///
    /// ```
    /// use larder::CachePolicy;
    ///
    /// #[derive(Clone)]
    /// struct Tenant { number: u32 }
    ///
    /// let policy = CachePolicy::new().vary_by(|tenant: &Tenant| tenant.number.to_be_bytes());
    /// ```
    pub fn vary_by<T, R>(mut self, part: impl Fn(&T) -> R + Send + Sync + 'static) -> Self
    where
        T: Send + Sync + 'static,
        R: AsRef<[u8]>,
    {
        self.extensions.push(Extension::new(part));
        self
    }

    /// Keeps responses for each user alone, by a request extension that says who that is.
    ///
    /// Under such a policy also that is stored which is otherwise never shared: responses that say `private`, and those
    /// to requests with `Authorization`. So `identity` has to be unlike for any two users, and the layer that finds out
    /// who asks, and sets the extension, has to be outside [`CacheLayer`](crate::CacheLayer), with nothing of the
    /// client's making in it. A request without the extension, or with an empty identity, is neither answered from the
    /// store nor stored.
    ///
    /// In the store the identity is a keyed hash only, so a shared backend needs `CACHE_HASH_KEY`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder::CachePolicy;
    ///
    /// #[derive(Clone)]
    /// struct Principal { id: u64 }
    ///
    /// let policy = CachePolicy::new()
    ///     .ttl(Duration::from_secs(30))
    ///     .per_user(|principal: &Principal| principal.id.to_be_bytes());
    /// ```
    pub fn per_user<T, R>(mut self, identity: impl Fn(&T) -> R + Send + Sync + 'static) -> Self
    where
        T: Send + Sync + 'static,
        R: AsRef<[u8]>,
    {
        self.identities.push(Extension::new(identity));
        self
    }

    /// A number in the key, to be raised when a function here reads something else than before: what was stored under
    /// another number is not read any more. Changes of names and kinds of key parts are noticed without it.
    pub fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// How many variants of one URI are kept. By default 256 for a policy with [`vary_by`](Self::vary_by) or
    /// [`per_user`](Self::per_user), and as many as the layer keeps otherwise. The oldest goes first.
    pub fn max_variants(mut self, variants: usize) -> Self {
        self.max_variants = Some(variants);
        self
    }

    /// Passes requests on that the function picks: nothing is looked up and nothing stored. Requests that change
    /// something end what is stored all the same.
    ///
    /// # Examples
    ///
    /// ```
    /// use larder::CachePolicy;
    ///
    /// let policy = CachePolicy::new().unless(|request| request.headers.contains_key("x-preview"));
    /// ```
    pub fn unless(
        mut self,
        picks: impl Fn(&request::Parts) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.unless = Some(Arc::new(picks));
        self
    }

    /// Asks the handler anew for requests that the function picks, and replaces what is stored by the answer.
    pub fn force_update(
        mut self,
        picks: impl Fn(&request::Parts) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.force_update = Some(Arc::new(picks));
        self
    }

    /// Stores those responses only that the function picks, of those that may be stored. What is stored before stays.
    ///
    /// # Examples
    ///
    /// ```
    /// use larder::CachePolicy;
    ///
    /// let policy = CachePolicy::new().store_if(|response| !response.headers.contains_key("x-partial"));
    /// ```
    pub fn store_if(
        mut self,
        picks: impl Fn(&response::Parts) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.store_if = Some(Arc::new(picks));
        self
    }

    /// Tags the responses, beside the tags that their handlers name: each ends with any of its tags.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(feature = "memory")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// use larder::{Cache, CacheLayer, CachePolicy};
    ///
    /// let cache = Cache::memory();
    /// let layer = CacheLayer::new(cache.clone()).policy(CachePolicy::new().tag("items"))?;
    /// // When all of them have changed:
    /// cache.invalidate_tag("items").await?;
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "memory"))]
    /// # fn main() {}
    /// ```
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Marks answers from the store with this header, as in `X-Cache: HIT`, for tools that do not read `Cache-Status`.
    pub fn hit_header(mut self, name: impl Into<String>) -> Self {
        self.hit_header = Some(name.into());
        self
    }

    /// Whether the policy says what only can be said before a request is looked up.
    pub(super) fn is_about_requests(&self) -> bool {
        let Self {
            lifetimes: _,
            no_store: _,
            store_if: _,
            tags: _,
            strict,
            query,
            sort_query,
            headers,
            cookies,
            ignore_cookies,
            extensions,
            identities,
            version,
            max_variants,
            unless,
            force_update,
            hit_header,
        } = self;
        *strict
            || !query.is_empty()
            || *sort_query
            || !headers.is_empty()
            || !cookies.is_empty()
            || *ignore_cookies
            || !extensions.is_empty()
            || !identities.is_empty()
            || *version != 0
            || max_variants.is_some()
            || unless.is_some()
            || force_update.is_some()
            || hit_header.is_some()
    }
}

impl fmt::Debug for CachePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CachePolicy { ")?;
        super::table::describe(self, f)?;
        f.write_str(" }")
    }
}
