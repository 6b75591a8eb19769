mod fields;
mod strict;
mod telling;

use std::{
    fmt,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use http::{Extensions, request::Parts};
use tower_layer::Layer;

#[cfg(feature = "compression")]
use super::precompress::{Coding, Precompress};
use super::{
    budget::Budget,
    languages::Languages,
    policies::Policies,
    policy::{Rules, SetCookie},
    purging::Authoriser,
    service::CacheService,
    shadow::Shadow,
    status::{CacheStatus, StatusDetail},
    tags::TagField,
    telling::OncePerRoute,
    unshared::Unshared,
};
use crate::Cache;

/// Makes a router, or any tower service, a correct shared HTTP cache (RFC 9111), and provides [`Cache`] to its handlers.
///
/// Responses are stored when they say so by `Cache-Control`, `Expires` or `Last-Modified`, or by
/// [`default_ttl`](Self::default_ttl) when they say nothing. Every response that was touched tells in `Cache-Status` what
/// was done. The front page says [what the layer does](crate#the-layer) and
/// [what is never shared](crate#what-is-never-shared).
///
/// The layer fits in three places:
///
/// * inside a router, by `Router::layer`, or on one `MethodRouter`;
/// * around a whole router, by [`around`](Self::around): a hit then costs less, because routing is left out;
/// * around any tower service whose request is an `http::Request`, without axum.
///
/// It is always ready. A hit neither waits for the inner service nor calls it, so cached answers flow while a
/// concurrency limit inside is exhausted. A failure of the cache never fails a request.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::{Router, routing::get};
/// use larder::{Cache, CacheControl, CacheLayer};
/// use std::time::Duration;
///
/// async fn item() -> (CacheControl, &'static str) {
///     (CacheControl::new().public().max_age(Duration::from_secs(60)), "an item")
/// }
///
/// let app: Router = Router::new()
///     .route("/item", get(item))
///     .layer(CacheLayer::new(Cache::memory()));
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a layer does nothing until a service is put into it"]
pub struct CacheLayer(Arc<Config>);

/// Deadlines further away overflow clocks.
const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// What the layer was told.
#[derive(Clone)]
pub(super) struct Config {
    pub(super) cache: Cache,
    pub(super) rules: Rules,
    /// Tells [what the rules make](Rules::view) of stored responses from what those of other layers do.
    pub(super) view: u64,
    pub(super) policies: Option<Policies>,
    pub(super) shadow: Option<Shadow>,
    /// Handlers see what is in the key only.
    pub(super) strict: bool,
    #[cfg(feature = "compression")]
    pub(super) precompress: Precompress,
    pub(super) languages: Languages,
    pub(super) max_body: u64,
    /// What bodies under way may take, for this layer and its clones.
    pub(super) in_flight: Arc<Budget>,
    pub(super) max_variants: usize,
    pub(super) follower_wait: Duration,
    pub(super) status: Option<CacheStatus>,
    pub(super) status_key: bool,
    pub(super) status_detail: StatusDetail,
    pub(super) route_label: Option<fn(&Extensions) -> Option<&str>>,
    /// Who may purge by the method PURGE; `None` leaves the method to the inner service.
    pub(super) purge: Option<Authoriser>,
    /// Whether responses have the tags of what their handlers read.
    pub(super) carry_tags: bool,
    /// Whether a response had tags by name. Where several processes share a backend, only then is it asked before a
    /// handler runs which tags are invalidated lately.
    pub(super) has_tags: Arc<AtomicBool>,
    /// Routes whose `Set-Cookie` kept a response from being stored, for the log to say it once.
    pub(super) cookie_routes: Arc<OncePerRoute>,
    /// Routes that are told in the log to have a policy which cannot be followed.
    pub(super) policy_routes: Arc<OncePerRoute>,
    /// Routes whose undeclared `Vary` kept a response from being stored.
    pub(super) vary_routes: Arc<OncePerRoute>,
    /// URIs whose responses were not to be shared lately, so that requests for them do not wait for each other.
    pub(super) unshared: Arc<Unshared>,
    /// URIs whose handlers lately gave something else than a part to a request for ranges.
    pub(super) unranged: Arc<Unshared>,
}

impl CacheLayer {
    /// A layer that stores responses in `cache`, and gives it to the handlers.
    pub fn new(cache: Cache) -> Self {
        Self(Arc::new(Config {
            cache,
            rules: Rules::default(),
            view: Rules::default().view(),
            policies: None,
            shadow: None,
            strict: false,
            #[cfg(feature = "compression")]
            precompress: Precompress::default(),
            languages: Languages::default(),
            max_body: 1 << 20,
            in_flight: Arc::new(Budget::new(64 << 20)),
            max_variants: 32,
            follower_wait: Duration::from_secs(5),
            status: CacheStatus::new("larder").ok(),
            status_key: false,
            status_detail: StatusDetail::default(),
            route_label: None,
            purge: None,
            carry_tags: true,
            has_tags: Arc::default(),
            cookie_routes: Arc::default(),
            policy_routes: Arc::default(),
            vary_routes: Arc::default(),
            unshared: Arc::default(),
            unranged: Arc::default(),
        }))
    }

    pub(super) fn change(mut self, change: impl FnOnce(&mut Config)) -> Self {
        let config = Arc::make_mut(&mut self.0);
        change(config);
        config.view = config.rules.view();
        self
    }

    /// Stores responses that say nothing about caching for this long.
    ///
    /// That is a statement about every handler in the layer, so it is refused where it could leak: for requests with
    /// `Authorization` or `Cookie`, and for responses with `Set-Cookie`. A handler takes part in none of it by sending
    /// any `Cache-Control`, such as `no-store`. `CACHE_DEFAULT_TIMEOUT` does not apply here.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder::{Cache, CacheLayer};
    ///
    /// let layer = CacheLayer::new(Cache::memory()).default_ttl(Duration::from_secs(30));
    /// ```
    pub fn default_ttl(self, ttl: Duration) -> Self {
        self.change(|config| config.rules.default_ttl = Some(ttl))
    }

    /// Whether `Last-Modified` makes a response fresh for a tenth of its age, at most a day, when nothing else does
    /// (RFC 9111 §4.2.2). On by default; never for requests with `Authorization` or `Cookie`.
    pub fn heuristics(self, on: bool) -> Self {
        self.change(|config| config.rules.heuristics = on)
    }

    /// Whether responses with `Set-Cookie` are stored: by default only those that say `public` or `s-maxage`.
    pub fn set_cookie(self, rule: SetCookie) -> Self {
        self.change(|config| config.rules.set_cookie = rule)
    }

    /// Whether errors are stored that say themselves how long they are fresh; on by default, as RFC 9111 §3 has it.
    ///
    /// Off, only 404, 405, 410, 414 and 501 are. That is for applications that put `max-age` on whatever their handlers
    /// answer: there, one visitor who makes a handler fail, say by a field that it cannot read, makes it fail for everyone.
    /// Statuses that answer one request alone, such as 401, 413, 429 and 431, are never stored.
    ///
    /// # Examples
    ///
    /// ```
    /// use larder::{Cache, CacheLayer};
    ///
    /// let layer = CacheLayer::new(Cache::memory()).store_errors(false);
    /// ```
    pub fn store_errors(self, on: bool) -> Self {
        self.change(|config| config.rules.store_errors = on)
    }

    /// For how long a stale response answers when the inner service fails, by an error or a 500, 502, 503 or 504; 60
    /// seconds by default, zero for never. A response's own `stale-if-error` comes first, and `must-revalidate`,
    /// `proxy-revalidate`, `no-cache` and `s-maxage` forbid it.
    pub fn stale_if_error(self, window: Duration) -> Self {
        self.change(|config| config.rules.stale_if_error = window)
    }

    /// Ignores `no-cache`, `max-age` and their like in requests, for clients that would empty the cache otherwise. Off
    /// by default; `no-store` and `only-if-cached` are honoured all the same.
    pub fn ignore_client_directives(self, ignore: bool) -> Self {
        self.change(|config| config.rules.ignore_client_directives = ignore)
    }

    /// The largest body that is stored, in bytes; 1 MiB by default. A larger one streams to its client all the same, and
    /// to those who had begun to share it when it turned out to be too large: they go on together, the faster ones no more
    /// than 256 KiB ahead. Waiting for the slowest ends with [`follower_wait`](Self::follower_wait), and then its body
    /// breaks off.
    pub fn max_body_bytes(self, bytes: u64) -> Self {
        self.change(|config| config.max_body = bytes)
    }

    /// How many bytes all bodies may take while they are on their way into the store, in this layer and its clones; 64 MiB
    /// by default. Where there is no room, a response streams to its own client and is not stored, and those who waited
    /// for it run by themselves. A body that declares its length takes all of it from the beginning, and is counted until
    /// it is stored and everybody who shares it has read it; [`Stats::http_in_flight_bytes`](crate::Stats) shows the sum.
    ///
    /// # Examples
    ///
    /// ```
    /// use larder::{Cache, CacheLayer};
    ///
    /// let layer = CacheLayer::new(Cache::memory()).max_in_flight_bytes(16 << 20);
    /// ```
    pub fn max_in_flight_bytes(self, bytes: u64) -> Self {
        self.change(|config| config.in_flight = Arc::new(Budget::new(bytes)))
    }

    /// Keeps stored responses compressed too, by these codings, and answers with the one that a client prefers; of equal
    /// ones with that named first. Feature `compression`.
    ///
    /// The handler is asked once, without `Accept-Encoding`, and its answer stored as it is. The first hit of a client
    /// that takes a coding sets off the compression, on a thread for blocking work, and is answered without; later ones
    /// get the stored compressed form. Compressed are bodies of 1 KiB or more, of types that are text at heart, in
    /// responses of status 200 that allow it (no `no-transform`, no `Content-Encoding` or digest of their own). They say
    /// `Vary: Accept-Encoding`, and a strong `ETag` is another for each coding (RFC 9110 §8.8.3.3).
    ///
    /// On a server a compressed hit takes a second round trip. What is not stored is not compressed: put tower-http's
    /// `CompressionLayer` around this layer for that. Ranges are those of the body as it is.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(feature = "memory")] {
    /// use larder::{Cache, CacheLayer, Coding};
    ///
    /// let layer = CacheLayer::new(Cache::memory()).precompress([Coding::Brotli, Coding::Gzip]);
    /// # }
    /// ```
    #[cfg(feature = "compression")]
    pub fn precompress(self, codings: impl IntoIterator<Item = Coding>) -> Self {
        self.change(|config| config.precompress = codings.into_iter().collect())
    }

    /// How many variants of one URI are kept, by `Vary`; 32 by default. The oldest goes first.
    pub fn max_variants(self, variants: usize) -> Self {
        self.change(|config| config.max_variants = variants)
    }

    /// How long a request waits for the response to another one for the same URI; 5 seconds by default. After that it
    /// runs by itself. Zero switches collapsing off.
    ///
    /// It waits for the head only: the body comes as the inner service gives it, to everybody at a speed of their own.
    pub fn follower_wait(self, wait: Duration) -> Self {
        self.change(|config| config.follower_wait = wait.min(LONGEST_WAIT))
    }

    /// Answers nothing from the store, and compares what it would have answered with what the inner service does: see
    /// [`Shadow`].
    pub fn shadow(self, shadow: Shadow) -> Self {
        self.change(|config| config.shadow = Some(shadow))
    }

    /// Answers the method `PURGE` for those whom `authoriser` lets: what is stored for the request's URI is ended, all
    /// variants of it, or made stale where the request says `Purge-Mode: soft`. A request with `Cache-Tag` or
    /// `Surrogate-Key` purges everything that has one of these tags, values too, and not its URI. Off by default; `PURGE`
    /// is then passed on like any other method that is not known.
    ///
    /// The answer is a 200 where something was stored and a 404 where nothing was; `Cache-Status` says what was done. It
    /// is a 403 that tells nothing for everybody else, and a 503 where the backend is out of reach. Neither of these
    /// requests gets to the inner service, so what it does to authenticate its clients does not protect the method:
    /// `authoriser` alone does. Have it compare secrets in constant time.
    ///
    /// # Examples
    ///
    /// ```
    /// use larder::{Cache, CacheLayer};
    ///
    /// // A proxy in front of it all sets this field, and removes it from what clients send.
    /// let layer = CacheLayer::new(Cache::memory())
    ///     .purge_method(|request| request.headers.get("x-internal").is_some_and(|value| value == "yes"));
    /// ```
    pub fn purge_method(self, authoriser: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        self.change(|config| config.purge = Some(Arc::new(authoriser)))
    }

    /// Passes the tags of responses on to a cache downstream, all of them in this one field: those that a handler names
    /// in `Cache-Tag` or `Surrogate-Key`, those of [`CacheTags`](crate::CacheTags), and those that it has of what its
    /// handler read before it answered. By default clients see none.
    ///
    /// A tag that the field has no way to say is left out of it, so a response cannot be purged by it downstream: one
    /// with other bytes than visible ASCII, with a comma in `Cache-Tag`, or with a space in `Surrogate-Key`. Tags tell
    /// clients what a page is made of, so have the cache downstream remove the field.
    ///
    /// # Examples
    ///
    /// ```
    /// use larder::{Cache, CacheLayer, TagField};
    ///
    /// let layer = CacheLayer::new(Cache::memory()).pass_tags(TagField::CacheTag);
    /// ```
    pub fn pass_tags(self, field: TagField) -> Self {
        self.change(|config| config.rules.pass_tags = Some(field))
    }

    /// Whether a response has the tags of what its handler read, on by default.
    ///
    /// What counts is the handle that the layer gives to the handler, and those made from it: whatever they find or put
    /// that has tags gives these to the response, also while its body is made. The response then ends when one of them
    /// is invalidated. A handler leaves something out by reading it by [`Cache::untracked`].
    ///
    /// # Examples
    ///
    /// ```
    /// use larder::{Cache, CacheLayer};
    ///
    /// let layer = CacheLayer::new(Cache::memory()).carry_tags(false);
    /// ```
    pub fn carry_tags(self, carry: bool) -> Self {
        self.change(|config| config.carry_tags = carry)
    }

    /// Says that handlers name tags, so that on a server the first response with tags is stored too.
    ///
    /// Where several processes share a backend, a response with tags is stored only if it was asked before the handler ran
    /// which tags were invalidated lately, and that takes a place in a round trip. So a layer does it from the first
    /// response on that had tags, which is not stored then; told so here, or by a policy that [tags](crate::CachePolicy::tag),
    /// it does it from the beginning. In memory nothing changes.
    ///
    /// # Examples
    ///
    /// ```
    /// use larder::{Cache, CacheLayer};
    ///
    /// let layer = CacheLayer::new(Cache::memory()).expect_tags();
    /// ```
    pub fn expect_tags(self) -> Self {
        self.change(|config| config.has_tags = Arc::new(AtomicBool::new(true)))
    }

    /// Puts the layer around a whole router, as what `axum::serve` takes.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # #[tokio::main]
    /// # async fn main() -> std::io::Result<()> {
    /// use axum::{Router, routing::get};
    /// use larder::{Cache, CacheLayer};
    ///
    /// let app = Router::new().route("/", get(|| async { "hello" }));
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    /// axum::serve(listener, CacheLayer::new(Cache::memory()).around(app)).await
    /// # }
    /// ```
    #[cfg(feature = "axum")]
    pub fn around<S>(&self, service: S) -> axum::routing::IntoMakeService<super::Around<S>>
    where
        super::Around<S>: tower_service::Service<http::Request<axum::body::Body>>,
    {
        self.around_service(service).into_make_service()
    }

    /// [`around`](Self::around) as a plain service: for tests, and for axum's
    /// `into_make_service_with_connect_info`.
    #[cfg(feature = "axum")]
    pub fn around_service<S>(&self, service: S) -> super::Around<S> {
        super::Around::new(self, service)
    }

    pub(super) fn config(&self) -> Arc<Config> {
        self.0.clone()
    }
}

impl<S> Layer<S> for CacheLayer {
    type Service = CacheService<S>;

    fn layer(&self, inner: S) -> CacheService<S> {
        CacheService::new(inner, self.config())
    }
}

impl fmt::Debug for CacheLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheLayer")
            .field("cache", &self.0.cache)
            .field("rules", &self.0.rules)
            .field("strict", &self.0.strict)
            .field("policies", &self.0.policies)
            .field("max_body_bytes", &self.0.max_body)
            .field("max_variants", &self.0.max_variants)
            .field("follower_wait", &self.0.follower_wait)
            .finish_non_exhaustive()
    }
}
