//! Whether a service with a cache in it gives one visitor what is another's.

mod answer;
mod ask;
mod input;
mod judge;
mod leak;
mod random;
mod report;
mod round;
mod served;
mod shrink;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri, request::Parts};
use http_body::Body;
use tower_service::Service;

use ask::Visitor;
use input::{Input, Place, Shape};
use judge::Make;
use random::Random;
use round::{Focus, Round};

pub use leak::{Leak, LeakKind};
pub use report::LeakReport;

type Allowed = dyn Fn(&Leak) -> bool + Send + Sync;

/// Looks for what crosses from one visitor to another in a router, or any tower service, with a cache in it.
///
/// It is made from a function that makes the service with an empty cache; [`run`](Self::run) sends requests of several
/// visitors to such services, by turns and at the same time, and fails with the two requests that crossed. Run it in the
/// tests of every application that caches: it takes milliseconds for a few paths, and needs no server.
///
/// # How it knows
///
/// * **Markers.** Every input of every visitor (query parameters, cookies, `Authorization`, the host and some thirty
///   request headers) has a random text of its own in it. No answer to one visitor may contain a marker of another.
/// * **A service that nobody has asked before.** Every request is also sent to a new service, where nothing can have
///   crossed. An answer that is not what this visitor gets there, but what another one gets there, has crossed: the
///   page in another's language, the answer to another method, one without the host in the key. What differs by itself,
///   such as time, counters and request ids, is found by asking several times, and is not compared.
/// * **What is made for one alone.** A `Set-Cookie` line, or a token in such a field as `X-CSRF-Token`, that is new in
///   each answer and reaches two visitors.
///
/// Each round has a new service, one input that is tried on one path, and other requests around it; by default there are
/// as many rounds as it takes to try every input on every path. Rounds are the same for the same
/// [`seed`](Self::seed). What was found is made smaller until nothing can be left out, and shown as a page.
///
/// # What it cannot see
///
/// Inputs that it does not know: name the application's own by [`headers`](Self::headers), [`cookies`](Self::cookies)
/// and [`query`](Self::query). Visitors that it cannot tell apart: give those who have logged in by
/// [`identity`](Self::identity). What is different in each answer by itself and has no marker in it, such as a token
/// in a form: keep it out of what is cached. Paths that are not cached were not tested, and the [`LeakReport`] says so.
///
/// # State
///
/// What the application shows to everyone because somebody has put it there is not a leak. The test sends `POST`
/// requests too, and takes what comes back from one by the handler, and not by the cache, for such state. State outside of
/// the service (a database that all services share) should be a test's own.
///
/// # Examples
///
/// ```
/// # #[cfg(all(feature = "axum", feature = "memory"))]
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// use axum::{Router, http::HeaderMap, routing::get};
/// use larder::{Cache, CacheControl, CacheLayer, testing::LeakTest};
///
/// async fn hello(headers: HeaderMap) -> (CacheControl, String) {
///     let name = headers.get("x-user-name").and_then(|name| name.to_str().ok());
///     let minute = CacheControl::new().public().max_age(Duration::from_secs(60));
///     (minute, format!("hello {}", name.unwrap_or("stranger")))
/// }
///
/// async fn news() -> (CacheControl, &'static str) {
///     (CacheControl::new().public().max_age(Duration::from_secs(60)), "news for all")
/// }
///
/// fn app(cache: Cache) -> Router {
///     Router::new()
///         .route("/hello", get(hello))
///         .route("/news", get(news))
///         .layer(CacheLayer::new(cache))
/// }
///
/// let report = LeakTest::new(|| app(Cache::memory())).paths(["/news"]).run().await?;
/// assert_eq!(report.paths_without_hits().count(), 0);
///
/// // This handler goes by a header that is not in the key.
/// let test = LeakTest::new(|| app(Cache::memory())).paths(["/hello"]);
/// let leak = test.headers(["x-user-name"]).run().await.unwrap_err();
/// assert_eq!(leak.inputs().collect::<Vec<_>>(), ["header x-user-name"]);
/// println!("{leak}");
/// # Ok(())
/// # }
/// # #[cfg(not(all(feature = "axum", feature = "memory")))]
/// # fn main() {}
/// ```
#[must_use = "nothing is tested before `run`"]
pub struct LeakTest {
    make: Box<Make>,
    seed: u64,
    rounds: Option<usize>,
    only: Option<usize>,
    paths: Vec<String>,
    inputs: Vec<Input>,
    visitors: Vec<Visitor>,
    allowed: Vec<Box<Allowed>>,
    pauses: Duration,
    allow_no_hits: bool,
}

impl LeakTest {
    /// A test of the services that `make` makes, each with an empty cache of its own: a router of axum, or what
    /// [`CacheLayer::around_service`](crate::CacheLayer::around_service) returns.
    ///
    /// It is called for every request a few times, so it should be cheap: make what is costly before, and clone it.
    #[cfg(feature = "axum")]
    pub fn new<S, R>(make: impl Fn() -> S + Send + Sync + 'static) -> Self
    where
        S: Service<Request<axum::body::Body>, Response = Response<R>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: fmt::Debug,
        R: Body<Data = Bytes> + Send + 'static,
        R::Error: fmt::Debug,
    {
        Self::with_body::<axum::body::Body, S, R>(make)
    }

    /// A test of services whose requests have another body, without axum.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(feature = "memory")]
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), larder::testing::Leak> {
    /// use std::convert::Infallible;
    ///
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::Full;
    /// use larder::{Cache, CacheLayer, testing::LeakTest};
    /// use tower::{ServiceBuilder, service_fn};
    ///
    /// let answer = |_: Request<Full<Bytes>>| async {
    ///     let response = Response::builder().header("cache-control", "max-age=60");
    ///     Ok::<_, Infallible>(response.body(Full::from("the same for all")).unwrap())
    /// };
    /// let make = move || {
    ///     let layer = CacheLayer::new(Cache::memory());
    ///     ServiceBuilder::new().layer(layer).service(service_fn(answer))
    /// };
    /// let report = LeakTest::with_body::<Full<Bytes>, _, _>(make).run().await?;
    /// assert!(report.hits() > 0);
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "memory"))]
    /// # fn main() {}
    /// ```
    pub fn with_body<B, S, R>(make: impl Fn() -> S + Send + Sync + 'static) -> Self
    where
        B: From<Bytes> + Send + 'static,
        S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: fmt::Debug,
        R: Body<Data = Bytes> + Send + 'static,
        R::Error: fmt::Debug,
    {
        let visitor = |name: &str| Visitor {
            name: name.to_owned(),
            identity: None,
        };
        let test = Self {
            make: Box::new(move || served::serve(make())),
            seed: 0x1a4d_e500,
            rounds: None,
            only: None,
            paths: vec!["/".to_owned()],
            inputs: input::usual(),
            visitors: vec![visitor("Ada"), visitor("Bob")],
            allowed: Vec::new(),
            pauses: Duration::ZERO,
            allow_no_hits: false,
        };
        test.methods(["HEAD", "OPTIONS", "POST"])
    }

    /// The paths to ask for, with a query where one is needed; `/` by default.
    ///
    /// # Panics
    ///
    /// When one does not begin with `/`, or is no path, or there is none.
    pub fn paths<P: Into<String>>(mut self, paths: impl IntoIterator<Item = P>) -> Self {
        self.paths = paths.into_iter().map(Into::into).collect();
        assert!(!self.paths.is_empty(), "a test needs a path at least");
        for path in &self.paths {
            let is_path = path.starts_with('/') && path.parse::<Uri>().is_ok();
            assert!(is_path, "{path:?} is no path");
        }
        self
    }

    /// Methods to try beside `GET`: `HEAD`, `OPTIONS` and `POST` by default. None is sent to a service more often than a
    /// few times a round.
    ///
    /// # Panics
    ///
    /// When one is no method.
    pub fn methods<'a>(mut self, methods: impl IntoIterator<Item = &'a str>) -> Self {
        self.inputs.retain(|input| input.place != Place::Method);
        for method in methods {
            assert!(method.parse::<Method>().is_ok(), "{method:?} is no method");
            let shape = Shape::OneOf(vec![method.to_owned()]);
            self.inputs.push(Input::new(Place::Method, method, shape));
        }
        self
    }

    /// More query parameters to try, beside `q`, `page`, `lang`, `callback` and `utm_source`.
    ///
    /// # Panics
    ///
    /// When one cannot stand in a query as it is.
    pub fn query<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        for name in names {
            let is_plain = format!("/?{name}=1").parse::<Uri>().is_ok();
            assert!(is_plain, "{name:?} is no name of a query parameter");
            self = self.add(Input::new(Place::Query, name, Shape::Parameter));
        }
        self
    }

    /// More cookies to try, beside `sid`, `session` and `theme`.
    ///
    /// # Panics
    ///
    /// When one is no name of a cookie.
    pub fn cookies<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        for name in names {
            // RFC 6265 §4.1.1: a token, as the names of header fields are.
            let is_token = HeaderName::from_bytes(name.as_bytes()).is_ok();
            assert!(is_token, "{name:?} is no name of a cookie");
            self = self.add(Input::new(Place::Cookie, name, Shape::Text));
        }
        self
    }

    /// More request headers to try, with values that nobody else has.
    ///
    /// # Panics
    ///
    /// When one is no name of a header field.
    pub fn headers<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        for name in names {
            self = self.add(Input::new(Place::Header, &header_name(name), Shape::Text));
        }
        self
    }

    /// One more request header to try, with one of these values: for a header whose values a handler knows.
    ///
    /// # Panics
    ///
    /// When it is no name of a header field, one is no value, or there is none.
    pub fn header_values<'a>(self, name: &str, values: impl IntoIterator<Item = &'a str>) -> Self {
        let values: Vec<_> = values.into_iter().map(str::to_owned).collect();
        assert!(!values.is_empty(), "header {name:?} needs a value at least");
        for value in &values {
            let is_value = HeaderValue::from_str(value).is_ok();
            assert!(is_value, "{value:?} is no value of a header field");
        }
        let input = Input::new(Place::Header, &header_name(name), Shape::OneOf(values));
        self.add(input)
    }

    fn add(mut self, input: Input) -> Self {
        let is_same = |other: &Input| other.place == input.place && other.name == input.name;
        self.inputs.retain(|other| !is_same(other));
        self.inputs.push(input);
        self
    }

    /// A visitor who has logged in: `decorate` makes a request one of theirs, after everything else was put into it.
    ///
    /// The session has to be there in each service that is made. With identities the visitors are these, and a stranger
    /// without one.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(all(feature = "axum", feature = "memory"))]
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// use axum::{Router, http::{HeaderMap, HeaderValue, header::COOKIE}, routing::get};
    /// use larder::{Cache, CacheLayer, testing::LeakTest};
    ///
    /// async fn account(headers: HeaderMap) -> ([(&'static str, &'static str); 1], &'static str) {
    ///     let cookie = headers.get(COOKIE).and_then(|cookie| cookie.to_str().ok());
    ///     let name = match cookie {
    ///         Some("sid=1") => "account of Ada",
    ///         Some("sid=2") => "account of Bob",
    ///         _ => "please log in",
    ///     };
    ///     ([("cache-control", "max-age=60")], name)
    /// }
    ///
    /// let make = || Router::new()
    ///     .route("/account", get(account))
    ///     .layer(CacheLayer::new(Cache::memory()));
    /// let session = |cookie| move |request: &mut http::request::Parts| {
    ///     request.headers.insert(COOKIE, HeaderValue::from_static(cookie));
    /// };
    /// let test = LeakTest::new(make).paths(["/account"]);
    /// let test = test.identity("Ada", session("sid=1")).identity("Bob", session("sid=2"));
    /// let leak = test.run().await.unwrap_err();
    /// assert_eq!(leak.inputs().collect::<Vec<_>>(), ["identity"]);
    /// # }
    /// # #[cfg(not(all(feature = "axum", feature = "memory")))]
    /// # fn main() {}
    /// ```
    ///
    /// # Panics
    ///
    /// When two have one name.
    pub fn identity(
        mut self,
        name: &str,
        decorate: impl Fn(&mut Parts) + Send + Sync + 'static,
    ) -> Self {
        if self
            .visitors
            .iter()
            .all(|visitor| visitor.identity.is_none())
        {
            self.visitors = vec![Visitor {
                name: "a stranger".to_owned(),
                identity: None,
            }];
        }
        let is_new = self.visitors.iter().all(|visitor| visitor.name != name);
        assert!(is_new, "there are two visitors called {name:?}");
        self.visitors.push(Visitor {
            name: name.to_owned(),
            identity: Some(Arc::new(decorate)),
        });
        self
    }

    /// Leaves out what is meant to be shared: whatever `is_fine` says so of, by its path, field and inputs.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(feature = "axum")] {
    /// # fn app() -> axum::Router { axum::Router::new() }
    /// use larder::testing::LeakTest;
    ///
    /// let test = LeakTest::new(app).allow(|leak| leak.path() == "/wall" && leak.field() == "body");
    /// # }
    /// ```
    pub fn allow(mut self, is_fine: impl Fn(&Leak) -> bool + Send + Sync + 'static) -> Self {
        self.allowed.push(Box::new(is_fine));
        self
    }

    /// Takes a service that caches nothing for a good one: [`run`](Self::run) does not fail without a hit.
    pub fn allow_no_hits(mut self) -> Self {
        self.allow_no_hits = true;
        self
    }

    /// Waits up to so long between some requests, so that stored answers become stale. Under tokio's paused clock
    /// (`start_paused = true`) that takes no time; without it, no test waits unless told to here.
    pub fn pauses(mut self, longest: Duration) -> Self {
        self.pauses = longest;
        self
    }

    /// How many rounds there are; by default as many as it takes to try each input on each path once.
    pub fn rounds(mut self, rounds: usize) -> Self {
        self.rounds = Some(rounds);
        self
    }

    /// Other random choices. The default seed is always the same, so that a test passes or fails for good.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Runs only the round of this number: the one that a [`Leak`] names, with the seed that it names.
    pub fn only_round(mut self, round: usize) -> Self {
        self.only = Some(round);
        self
    }

    /// Runs the test.
    ///
    /// Needs a runtime of tokio with its timers. What a handler panics with goes through to the caller.
    ///
    /// # Errors
    ///
    /// A [`Leak`]: with what crossed first, or because nothing was ever a hit and so nothing was tested.
    pub async fn run(self) -> Result<LeakReport, Leak> {
        let mut focuses = Vec::new();
        for path in &self.paths {
            focuses.extend(self.inputs.iter().map(|input| Focus { path, input }));
        }
        Random::new(self.seed).shuffle(&mut focuses);
        let mut report = LeakReport {
            planned: focuses.len(),
            ..LeakReport::default()
        };
        for round in 0..self.rounds.unwrap_or(focuses.len()) {
            if self.only.is_none_or(|only| only == round) {
                let focus = focuses[round % focuses.len()];
                Round::new(&self, round, &mut report).run(focus).await?;
                report.rounds += 1;
            }
        }
        match report.hits() {
            0 if !self.allow_no_hits => Err(Leak::nothing_cached(&report)),
            _ => Ok(report),
        }
    }

    fn is_allowed(&self, leak: &Leak) -> bool {
        self.allowed.iter().any(|is_fine| is_fine(leak))
    }
}

fn header_name(name: &str) -> String {
    let name = HeaderName::from_bytes(name.as_bytes());
    let name = name.unwrap_or_else(|_| panic!("a header field cannot have such a name"));
    name.as_str().to_owned()
}

impl fmt::Debug for LeakTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeakTest")
            .field("seed", &self.seed)
            .field("rounds", &self.rounds)
            .field("paths", &self.paths)
            .finish_non_exhaustive()
    }
}
