//! `LeakTest` finds what crosses in services that leak on purpose, and nothing in those that do not.

#![cfg(all(feature = "axum", feature = "memory"))]
#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

use std::{
    collections::HashMap,
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Query, Request, State},
    http::{HeaderMap, Method, Response, Uri},
    response::IntoResponse,
    routing::{MethodRouter, any, get},
};
use larder::{
    Cache, CacheLayer, SetCookie,
    testing::{Leak, LeakKind, LeakReport, LeakTest},
};
use tower::{Layer, Service, ServiceExt, util::MapRequestLayer};

const PUBLIC: [(&str, &str); 1] = [("cache-control", "public, max-age=60")];

fn cached(router: Router) -> Router {
    router.layer(CacheLayer::new(Cache::memory()))
}

async fn run(make: impl Fn() -> Router + Send + Sync + 'static) -> Result<LeakReport, Leak> {
    LeakTest::new(make).run().await
}

async fn found(make: impl Fn() -> Router + Send + Sync + 'static) -> Leak {
    let leak = run(make).await.unwrap_err();
    assert_eq!(leak.kind(), LeakKind::Crossed, "{leak}");
    assert_eq!(leak.path(), "/");
    leak
}

fn inputs(leak: &Leak) -> Vec<&str> {
    leak.inputs().collect()
}

fn text(headers: &HeaderMap, name: &str) -> String {
    let value = headers.get(name).map(|value| value.to_str().unwrap());
    value.unwrap_or("nothing").to_owned()
}

/// The first answer for a path is the answer to everything that is ever asked of it.
#[derive(Clone, Default)]
struct Naive(Arc<Mutex<HashMap<String, Bytes>>>);

#[derive(Clone)]
struct NaiveService<S>(Naive, S);

impl<S> Layer<S> for Naive {
    type Service = NaiveService<S>;

    fn layer(&self, inner: S) -> NaiveService<S> {
        NaiveService(self.clone(), inner)
    }
}

impl<S> Service<Request> for NaiveService<S>
where
    S: Service<Request, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Self(Naive(stored), inner) = self.clone();
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            let hit = stored.lock().unwrap().get(&path).cloned();
            if let Some(body) = hit {
                return Ok(Response::new(Body::from(body)));
            }
            let response = inner.oneshot(request).await?;
            let body = axum::body::to_bytes(response.into_body(), usize::MAX);
            let body = body.await.unwrap();
            stored.lock().unwrap().insert(path, body.clone());
            Ok(Response::new(Body::from(body)))
        })
    }
}

async fn greet(headers: HeaderMap) -> impl IntoResponse {
    (PUBLIC, format!("hello {}", text(&headers, "cookie")))
}

#[tokio::test(start_paused = true)]
async fn a_cache_by_path_alone_is_found() {
    let search = |uri: Uri| async move { format!("found: {}", uri.query().unwrap_or("nothing")) };
    let leak = found(move || {
        Router::new()
            .route("/", get(search))
            .layer(Naive::default())
    })
    .await;
    assert_eq!(leak.field(), "body");
    assert!(inputs(&leak)[0].starts_with("query parameter"), "{leak}");
}

#[tokio::test(start_paused = true)]
async fn what_is_a_users_own_and_public_is_found() {
    let leak = found(|| cached(Router::new().route("/", get(greet)))).await;
    assert!(inputs(&leak)[0].starts_with("cookie"), "{leak}");
    assert_eq!(inputs(&leak).len(), 1, "{leak}");
}

#[tokio::test(start_paused = true)]
async fn a_reflected_forwarded_host_is_found_with_nothing_else_in_the_requests() {
    let page = |headers: HeaderMap| async move {
        let host = text(&headers, "x-forwarded-host");
        (
            PUBLIC,
            [("link", format!("<https://{host}/app.js>"))],
            "a page",
        )
    };
    let leak = found(move || cached(Router::new().route("/", get(page)))).await;
    assert_eq!(
        (leak.field(), inputs(&leak)),
        ("link", vec!["header x-forwarded-host"])
    );
    let page = leak.to_string();
    for unneeded in ["user-agent:", "cookie:", "accept"] {
        assert!(!page.contains(unneeded), "{page}");
    }
    assert!(page.contains("x-forwarded-host: zq"), "{page}");
}

#[tokio::test(start_paused = true)]
async fn what_one_visitor_sent_is_shown_with_the_other() {
    let leak = found(|| cached(Router::new().route("/", get(greet)))).await;
    let page = leak.to_string();
    let (_, sent) = page.split_once("sent as cookie ").unwrap();
    let (_, marker) = sent.lines().next().unwrap().split_once(": ").unwrap();
    // As sent, in the answer to the one who did so, and in that to the other.
    assert!(page.matches(marker).count() >= 4, "{page}");
}

#[tokio::test(start_paused = true)]
async fn a_leak_is_found_whatever_the_seed() {
    for seed in 0..10 {
        let page =
            |headers: HeaderMap| async move { (PUBLIC, text(&headers, "x-forwarded-prefix")) };
        let make = move || cached(Router::new().route("/", get(page)));
        let leak = LeakTest::new(make).seed(seed).run().await.unwrap_err();
        assert_eq!(inputs(&leak), ["header x-forwarded-prefix"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_query_parameter_that_is_not_in_the_key_is_found() {
    // The cache sees the path without the query, and the handler all of it.
    let hide = |mut request: Request| {
        let uri = request.uri().clone();
        *request.uri_mut() = uri.path().parse().unwrap();
        request.extensions_mut().insert(uri);
        request
    };
    let show = |mut request: Request| {
        *request.uri_mut() = request.extensions().get::<Uri>().unwrap().clone();
        request
    };
    let search = |Query(query): Query<HashMap<String, String>>| async move {
        (PUBLIC, format!("{:?}", query.get("q")))
    };
    let make = move || {
        let inside: MethodRouter = any(search).layer(MapRequestLayer::new(show));
        // Within a router the layer would see what the client asked for.
        tower::ServiceBuilder::new()
            .layer(MapRequestLayer::new(hide))
            .layer(CacheLayer::new(Cache::memory()))
            .service(inside)
    };
    let leak = LeakTest::new(make).run().await.unwrap_err();
    assert_eq!(inputs(&leak), ["query parameter q"], "{leak}");
}

fn visits(cookie: impl Fn() -> String + Clone + Send + Sync + 'static) -> Router {
    let visit = || async move { ([("set-cookie", cookie())], PUBLIC, "welcome") };
    let layer = CacheLayer::new(Cache::memory()).set_cookie(SetCookie::Always);
    Router::new().route("/", get(visit)).layer(layer)
}

#[tokio::test(start_paused = true)]
async fn a_session_cookie_that_two_visitors_get_is_found() {
    static SESSIONS: AtomicU64 = AtomicU64::new(0);
    let next = || format!("sid={}", SESSIONS.fetch_add(1, Ordering::Relaxed));
    let leak = found(move || visits(next)).await;
    assert_eq!(leak.field(), "set-cookie");
    assert_eq!(inputs(&leak), [""; 0], "{leak}");
}

#[tokio::test(start_paused = true)]
async fn a_session_cookie_is_found_where_every_service_begins_to_count_anew() {
    let make = || {
        let sessions = Arc::new(AtomicU64::new(0));
        visits(move || format!("sid={}", sessions.fetch_add(1, Ordering::Relaxed)))
    };
    assert_eq!(found(make).await.field(), "set-cookie");
}

#[tokio::test(start_paused = true)]
async fn a_cookie_that_is_the_same_for_all_is_none_of_anybody() {
    let report = run(|| visits(|| "theme=dark".to_owned())).await.unwrap();
    assert!(report.hits() > 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_another_method_is_found() {
    let answer = |method: Method| async move { format!("you said {method}") };
    let leak = found(move || {
        Router::new()
            .route("/", any(answer))
            .layer(Naive::default())
    })
    .await;
    assert!(inputs(&leak)[0].starts_with("method"), "{leak}");
}

async fn in_a_language(headers: HeaderMap) -> &'static str {
    match text(&headers, "accept-language").as_str() {
        language if language.starts_with("de") => "guten Tag",
        language if language.starts_with("fr") => "bonjour",
        _ => "good day",
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_vary_is_found() {
    let say = |headers: HeaderMap| async move { (PUBLIC, in_a_language(headers).await) };
    let leak = found(move || cached(Router::new().route("/", get(say)))).await;
    assert_eq!(inputs(&leak), ["header accept-language"]);
}

#[tokio::test(start_paused = true)]
async fn a_vary_that_is_there_passes() {
    let say = |headers: HeaderMap| async move {
        let vary = [("vary", "accept-language")];
        (PUBLIC, vary, in_a_language(headers).await)
    };
    let report = run(move || cached(Router::new().route("/", get(say)))).await;
    assert_eq!(report.unwrap().paths_without_hits().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_handler_of_the_applications_own_header_is_found_once_it_is_named() {
    let make = || {
        let page = |headers: HeaderMap| async move { (PUBLIC, text(&headers, "x-plan")) };
        cached(Router::new().route("/", get(page)))
    };
    assert!(run(make).await.is_ok());
    let leak = LeakTest::new(make).headers(["x-plan"]).run().await;
    assert_eq!(inputs(&leak.unwrap_err()), ["header x-plan"]);
    let test = LeakTest::new(make).header_values("X-Plan", ["free", "paid"]);
    assert_eq!(inputs(&test.run().await.unwrap_err()), ["header x-plan"]);
}

/// A router of many styles that does everything right.
fn proper() -> Router {
    let greet_privately = |headers: HeaderMap| async move {
        let private = [("cache-control", "private, max-age=60")];
        (private, format!("hello {}", text(&headers, "cookie")))
    };
    let greet_by_cookie = |headers: HeaderMap| async move {
        let vary = [("vary", "cookie")];
        (PUBLIC, vary, format!("hello {}", text(&headers, "cookie")))
    };
    let search = |uri: Uri, headers: HeaderMap| async move {
        let host = text(&headers, "host");
        (
            PUBLIC,
            format!("{} at {host}", uri.query().unwrap_or_default()),
        )
    };
    let silent = |headers: HeaderMap| async move { format!("hello {}", text(&headers, "cookie")) };
    let redirect = || async { (PUBLIC, axum::response::Redirect::to("/search")) };
    let router = Router::new()
        .route("/private", get(greet_privately))
        .route("/by-cookie", get(greet_by_cookie))
        .route("/search", get(search))
        .route("/silent", get(silent))
        .route("/old", get(redirect));
    let layer = CacheLayer::new(Cache::memory()).default_ttl(Duration::from_secs(60));
    router.layer(layer)
}

#[tokio::test(start_paused = true)]
async fn a_proper_router_passes() {
    let paths = [
        "/private",
        "/by-cookie",
        "/search?a=b",
        "/silent",
        "/old",
        "/nothing",
    ];
    let test = LeakTest::new(proper).paths(paths);
    let report = test.pauses(Duration::from_secs(90)).run().await.unwrap();
    assert!(report.is_complete());
    assert_eq!(
        report.paths_without_hits().collect::<Vec<_>>(),
        ["/private"],
        "{report}"
    );
    assert_eq!(report.paths_with_shared_state().count(), 0, "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_proper_router_passes_with_the_cache_around_it() {
    let make = || {
        let layer = CacheLayer::new(Cache::memory());
        layer.around_service(Router::new().route("/", get(|| async { (PUBLIC, "all") })))
    };
    assert!(LeakTest::new(make).run().await.unwrap().hits() > 0);
}

#[tokio::test(start_paused = true)]
async fn what_differs_by_itself_does_not_fail() {
    static REQUESTS: AtomicU64 = AtomicU64::new(0);
    let page = |State(made): State<Arc<AtomicU64>>| async move {
        let id = REQUESTS.fetch_add(1, Ordering::Relaxed);
        let made = made.fetch_add(1, Ordering::Relaxed);
        let now = larder::Timestamp::now().as_millis() / 10;
        (
            PUBLIC,
            [("x-request-id", id.to_string())],
            format!("{made} pages by {now}, parity {}", id % 2),
        )
    };
    let make = move || {
        cached(
            Router::new()
                .route("/", get(page))
                .with_state(Arc::default()),
        )
    };
    let test = LeakTest::new(make).pauses(Duration::from_secs(1));
    let report = test.rounds(80).run().await.unwrap();
    assert_eq!(report.paths_that_differ().collect::<Vec<_>>(), ["/"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_post_puts_there_for_all_does_not_fail() {
    type Wall = Arc<Mutex<String>>;
    let read = |State(wall): State<Wall>| async move { (PUBLIC, wall.lock().unwrap().clone()) };
    let write = |State(wall): State<Wall>, text: String| async move {
        *wall.lock().unwrap() = text;
        "written"
    };
    let make = move || {
        cached(
            Router::new()
                .route("/", get(read).post(write))
                .with_state(Arc::default()),
        )
    };
    let report = run(make).await.unwrap();
    assert_eq!(report.paths_with_shared_state().collect::<Vec<_>>(), ["/"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_allowed_does_not_fail() {
    let make = || cached(Router::new().route("/", get(greet)));
    let allow =
        |leak: &Leak| leak.path() == "/" && leak.inputs().any(|it| it.starts_with("cookie"));
    assert!(LeakTest::new(make).allow(allow).run().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn sessions_that_cross_are_found_by_whose_they_are() {
    // Nothing of the request is in the answer.
    let account = |headers: HeaderMap| async move {
        let name = match text(&headers, "authorization").as_str() {
            "Bearer 1" => "Ada's account",
            "Bearer 2" => "Bob's account",
            _ => "please log in",
        };
        (PUBLIC, name)
    };
    let bearer = |token: &'static str| {
        move |request: &mut axum::http::request::Parts| {
            request
                .headers
                .insert("authorization", token.parse().unwrap());
        }
    };
    let make = move || cached(Router::new().route("/", get(account)));
    let test = LeakTest::new(make).identity("Ada", bearer("Bearer 1"));
    let leak = test
        .identity("Bob", bearer("Bearer 2"))
        .run()
        .await
        .unwrap_err();
    assert_eq!(inputs(&leak), ["identity"]);
}

#[tokio::test(start_paused = true)]
async fn a_test_of_nothing_fails() {
    let make = || {
        cached(Router::new().route("/", get(|| async { ([("cache-control", "no-store")], "") })))
    };
    let leak = run(make).await.unwrap_err();
    assert_eq!(leak.kind(), LeakKind::NothingCached);
    assert!(leak.to_string().starts_with("nothing was tested"), "{leak}");
    assert!(LeakTest::new(make).allow_no_hits().run().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_was_found_is_found_again_by_its_seed_and_round() {
    let make = || cached(Router::new().route("/", get(greet)));
    let page = LeakTest::new(make)
        .seed(7)
        .run()
        .await
        .unwrap_err()
        .to_string();
    let again = LeakTest::new(make)
        .seed(7)
        .run()
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(page, again);
    let (_, round) = page.rsplit_once("only_round(").unwrap();
    let round = round.split_once(')').unwrap().0.parse().unwrap();
    let alone = LeakTest::new(make).seed(7).only_round(round).run().await;
    assert_eq!(alone.unwrap_err().to_string(), page);
}
