//! Where the layer can be put: in routers and around them, on plain tower services, beside other layers.

#![cfg(all(feature = "axum", feature = "memory"))]

mod support;

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{OriginalUri, Path, State},
    routing::{MethodRouter, any_service, get},
};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use larder::{Cache, CacheControl, CacheLayer};
use support::{Origin, answer, request, send, settle};
use tokio::sync::Notify;
use tower::{Layer, ServiceBuilder, ServiceExt, limit::ConcurrencyLimit, service_fn};
use tower_http::{compression::CompressionLayer, cors::CorsLayer, trace::TraceLayer};

type Calls = Arc<AtomicUsize>;

/// Fresh for a minute, with the number of the call and what the handler knows of its URI.
async fn item(State(calls): State<Calls>, OriginalUri(uri): OriginalUri) -> (CacheControl, String) {
    let number = calls.fetch_add(1, Ordering::SeqCst) + 1;
    let control = CacheControl::new().max_age(Duration::from_secs(60));
    (control, format!("{number} {uri}"))
}

fn layer() -> CacheLayer {
    CacheLayer::new(Cache::memory())
}

fn items(calls: &Calls) -> Router {
    Router::new()
        .route("/items/{id}", get(item).post(async || "changed"))
        .with_state(calls.clone())
}

async fn text(app: &Router, uri: &str) -> String {
    send(app, request("GET", uri, &[])).await.text().to_owned()
}

async fn is_hit(app: &Router, uri: &str) -> bool {
    send(app, request("GET", uri, &[])).await.is_hit()
}

// axum

#[tokio::test(start_paused = true)]
async fn inside_a_router() {
    let calls = Calls::default();
    let app = items(&calls).layer(layer());
    assert_eq!(text(&app, "/items/1").await, "1 /items/1");
    assert_eq!(text(&app, "/items/2").await, "2 /items/2");
    assert!(is_hit(&app, "/items/1").await);
    assert_eq!(
        send(&app, request("POST", "/items/1", &[])).await.text(),
        "changed"
    );
    assert_eq!(text(&app, "/items/1").await, "3 /items/1");
    assert!(is_hit(&app, "/items/2").await);
}

#[tokio::test(start_paused = true)]
async fn around_a_router() {
    let calls = Calls::default();
    let app = layer().around_service(items(&calls));
    let get = async |uri| send(&app, request("GET", uri, &[])).await;
    assert_eq!(get("/items/1").await.text(), "1 /items/1");
    assert!(get("/items/1").await.is_hit());
    assert_eq!(get("/items/2").await.text(), "2 /items/2");
    send(&app, request("POST", "/items/1", &[])).await;
    assert_eq!(get("/items/1").await.text(), "3 /items/1");
}

#[tokio::test(start_paused = true)]
async fn head_in_and_around_a_router_has_the_length_of_get() {
    let calls = Calls::default();
    let inside = items(&calls).layer(layer());
    let around = layer().around_service(items(&calls));
    send(&inside, request("GET", "/items/1", &[])).await;
    send(&around, request("GET", "/items/1", &[])).await;
    let head = || request("HEAD", "/items/1", &[]);
    for answer in [send(&inside, head()).await, send(&around, head()).await] {
        assert!(answer.is_hit());
        assert_eq!(answer.text(), "");
        assert_eq!(answer.header("content-length"), Some("10"));
    }
}

#[tokio::test(start_paused = true)]
async fn on_one_method_router() {
    let calls = Calls::default();
    let app = Router::new()
        .route("/cached", get(item).post(async || "changed").layer(layer()))
        .route("/not", get(item))
        .with_state(calls);
    assert_eq!(text(&app, "/cached").await, "1 /cached");
    assert!(is_hit(&app, "/cached").await);
    let not = send(&app, request("GET", "/not", &[])).await;
    assert_eq!(not.header("cache-status"), None);
    send(&app, request("POST", "/cached", &[])).await;
    assert_eq!(text(&app, "/cached").await, "3 /cached");
}

#[tokio::test(start_paused = true)]
async fn on_a_fallback() {
    let calls = Calls::default();
    let app = Router::new()
        .route("/known", get(async || "known"))
        .fallback(item)
        .layer(layer())
        .with_state(calls);
    assert_eq!(text(&app, "/a").await, "1 /a");
    assert_eq!(text(&app, "/b").await, "2 /b");
    assert!(is_hit(&app, "/a").await);
    assert!(is_hit(&app, "/b").await);
    assert_eq!(text(&app, "/known").await, "known");
}

#[tokio::test(start_paused = true)]
async fn nested_routers_with_the_same_inner_path_are_kept_apart() {
    let (calls, cache) = (Calls::default(), Cache::memory());
    let inner = || items(&calls).layer(CacheLayer::new(cache.clone()));
    let app = Router::new().nest("/v1", inner()).nest("/v2", inner());
    assert_eq!(text(&app, "/v1/items/1").await, "1 /v1/items/1");
    assert_eq!(text(&app, "/v2/items/1").await, "2 /v2/items/1");
    assert_eq!(text(&app, "/v1/items/1").await, "1 /v1/items/1");
    assert_eq!(text(&app, "/v2/items/1").await, "2 /v2/items/1");
    send(&app, request("POST", "/v1/items/1", &[])).await;
    assert!(is_hit(&app, "/v2/items/1").await);
    assert_eq!(text(&app, "/v1/items/1").await, "3 /v1/items/1");
}

#[tokio::test(start_paused = true)]
async fn a_layer_in_a_nested_router_and_one_around_it_know_the_same_uri() {
    let (calls, cache) = (Calls::default(), Cache::memory());
    let inner = items(&calls).layer(CacheLayer::new(cache.clone()));
    let nested = Router::new().nest("/v1", inner);
    let around = CacheLayer::new(cache).around_service(nested.clone());
    assert_eq!(text(&nested, "/v1/items/1").await, "1 /v1/items/1");
    assert!(
        send(&around, request("GET", "/v1/items/1", &[]))
            .await
            .is_hit()
    );
    send(&around, request("POST", "/v1/items/1", &[])).await;
    assert!(!is_hit(&nested, "/v1/items/1").await);
}

#[tokio::test(start_paused = true)]
async fn a_location_in_a_nested_router_is_one_of_the_whole() {
    let cache = Cache::memory();
    let created = async || (StatusCode::CREATED, [("location", "/v1/items/1")]);
    let inner = items(&Calls::default())
        .route("/items", axum::routing::post(created))
        .layer(CacheLayer::new(cache));
    let app = Router::new().nest("/v1", inner);
    text(&app, "/v1/items/1").await;
    assert!(is_hit(&app, "/v1/items/1").await);
    send(&app, request("POST", "/v1/items", &[])).await;
    assert!(!is_hit(&app, "/v1/items/1").await);
}

#[tokio::test(start_paused = true)]
async fn paths_and_methods_that_are_nobody_s_are_answered_as_without_the_layer() {
    let with = items(&Calls::default()).layer(layer());
    let without = items(&Calls::default());
    for (method, uri) in [
        ("GET", "/nowhere"),
        ("PUT", "/items/1"),
        ("OPTIONS", "/items/1"),
    ] {
        let mut one = send(&with, request(method, uri, &[])).await;
        let other = send(&without, request(method, uri, &[])).await;
        one.headers.remove("cache-status");
        assert_eq!(one, other, "{method} {uri}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_as_a_route() {
    let origin = Origin::with(&[("cache-control", "max-age=60")]);
    let route: MethodRouter = any_service(origin.clone().infallible()).layer(layer());
    let app = Router::new().route("/{*path}", route);
    send(&app, request("GET", "/a", &[])).await;
    assert!(is_hit(&app, "/a").await);
    assert_eq!(origin.calls(), 1);
}

// tower

#[tokio::test(start_paused = true)]
async fn around_a_plain_service_with_types_of_its_own() {
    #[derive(Debug, PartialEq)]
    struct Broken;
    let calls = Calls::default();
    let service = service_fn({
        let calls = calls.clone();
        move |request: Request<Empty<Bytes>>| {
            let number = calls.fetch_add(1, Ordering::SeqCst) + 1;
            async move {
                if request.uri().path() == "/broken" {
                    return Err(Broken);
                }
                let body = Full::new(Bytes::from(number.to_string()));
                Ok(Response::builder()
                    .header("cache-control", "max-age=60")
                    .body(body)
                    .unwrap())
            }
        }
    });
    let cached = layer().layer(service);
    let get = async |path| {
        let request = Request::builder().uri(path).body(Empty::new()).unwrap();
        let response = cached.clone().oneshot(request).await?;
        Ok::<_, Broken>(response.into_body().collect().await.unwrap().to_bytes())
    };
    assert_eq!(get("/").await.unwrap(), "1");
    assert_eq!(get("/").await.unwrap(), "1");
    assert_eq!(get("/broken").await.unwrap_err(), Broken);
}

#[tokio::test(start_paused = true)]
async fn in_a_service_builder_among_other_layers() {
    let origin = Origin::with(&[("cache-control", "max-age=60")]);
    let app = ServiceBuilder::new()
        .layer(TraceLayer::new_for_http())
        .layer(layer())
        .layer(CorsLayer::permissive())
        .service(origin.clone());
    let from = [("origin", "https://shop.example")];
    let first = send(&app, request("GET", "/", &from)).await;
    assert_eq!(first.header("access-control-allow-origin"), Some("*"));
    let hit = send(&app, request("GET", "/", &from)).await;
    assert!(hit.is_hit());
    assert_eq!(hit.header("access-control-allow-origin"), Some("*"));
    assert_eq!(origin.calls(), 1);
}

// Two layers

#[tokio::test(start_paused = true)]
async fn of_two_layers_of_one_cache_the_outer_does_everything() {
    let cache = Cache::memory();
    let origin = Origin::with(&[("cache-control", "max-age=60")]);
    let app =
        CacheLayer::new(cache.clone()).layer(CacheLayer::new(cache.clone()).layer(origin.clone()));
    let told = async |method, fields| send(&app, request(method, "/", fields)).await.told();
    assert_eq!(told("GET", &[]).await, "larder; fwd=uri-miss; stored");
    support::after(0.5).await;
    assert_eq!(told("GET", &[]).await, "larder; hit; ttl=60");
    assert_eq!(told("POST", &[]).await, "larder; fwd=method");
    let stats = cache.stats();
    assert_eq!(
        (stats.http_misses, stats.http_stored, stats.http_hits),
        (1, 1, 1)
    );
    assert_eq!((stats.http_bypasses, stats.http_invalidated), (1, 1));
    for (fields, expected) in [
        (
            &[("if-match", "\"a\"")],
            "larder; fwd=bypass; detail=precondition",
        ),
        (
            &[("cache-control", "no-store")],
            "larder; fwd=request; detail=request-no-store",
        ),
    ] {
        assert_eq!(told("GET", fields).await, expected);
    }
    assert_eq!(told("OPTIONS", &[]).await, "larder; fwd=method");
    assert_eq!(origin.calls(), 5);
}

#[tokio::test(start_paused = true)]
async fn concurrent_misses_through_two_layers_of_one_cache_call_the_handler_once() {
    let cache = Cache::memory();
    let origin = Origin::new(|call| async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(answer(
            200,
            &[("cache-control", "max-age=60")],
            call.number.to_string(),
        ))
    });
    let app = CacheLayer::new(cache.clone()).layer(CacheLayer::new(cache).layer(origin.clone()));
    let spawned: Vec<_> = (0..50)
        .map(|_| {
            let app = app.clone();
            tokio::spawn(async move { send(&app, request("GET", "/", &[])).await.status })
        })
        .collect();
    for status in spawned {
        assert_eq!(status.await.unwrap(), 200);
    }
    assert_eq!(origin.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn two_layers_of_two_caches_are_two_caches() {
    let (outer, inner) = (Cache::memory(), Cache::memory());
    let origin = Origin::with(&[("cache-control", "max-age=60")]);
    let inside = CacheLayer::new(inner)
        .status_name("inner")
        .unwrap()
        .layer(origin.clone());
    let app = CacheLayer::new(outer.clone())
        .status_name("outer")
        .unwrap()
        .layer(inside);
    let get = async || send(&app, request("GET", "/", &[])).await;
    assert_eq!(
        get().await.told(),
        "inner; fwd=uri-miss; stored, outer; fwd=uri-miss; stored"
    );
    support::after(10.5).await;
    outer.clear().await.unwrap();
    let second = get().await;
    assert_eq!(
        second.told(),
        "inner; hit; ttl=50, outer; fwd=uri-miss; stored"
    );
    let third = get().await;
    // A Date has whole seconds, so to the outer cache the response may be a second older.
    assert!(
        third
            .told()
            .starts_with("inner; hit; ttl=50, outer; hit; ttl=")
    );
    assert!(matches!(third.age(), Some(10 | 11)));
    assert_eq!(origin.calls(), 1);
}

// A limit of concurrency

/// Fresh answers; `/slow` waits for the gate.
fn gated() -> (Arc<Notify>, Origin) {
    let gate = Arc::new(Notify::new());
    let origin = Origin::new({
        let gate = gate.clone();
        move |call| {
            let gate = gate.clone();
            async move {
                if call.request.uri.path() == "/slow" {
                    gate.notified().await;
                }
                Ok(answer(
                    200,
                    &[("cache-control", "max-age=60")],
                    call.number.to_string(),
                ))
            }
        }
    });
    (gate, origin)
}

#[tokio::test(start_paused = true)]
async fn hits_flow_while_a_limit_inside_is_exhausted() {
    let (gate, origin) = gated();
    let app = layer().layer(ConcurrencyLimit::new(origin, 1));
    send(&app, request("GET", "/a", &[])).await;
    let get = |uri: &'static str| {
        let app = app.clone();
        tokio::spawn(async move { send(&app, request("GET", uri, &[])).await })
    };
    let slow = get("/slow");
    settle().await;
    for _ in 0..100 {
        assert!(send(&app, request("GET", "/a", &[])).await.is_hit());
    }
    let waiting = get("/b");
    settle().await;
    assert!(!waiting.is_finished());
    gate.notify_one();
    assert_eq!(slow.await.unwrap().text(), "2");
    assert_eq!(waiting.await.unwrap().text(), "3");
}

#[tokio::test(start_paused = true)]
async fn a_hit_holds_no_permit_of_a_limit_inside() {
    let (_, origin) = gated();
    let app = layer().layer(ConcurrencyLimit::new(origin, 1));
    send(&app, request("GET", "/a", &[])).await;
    let mut unread = Vec::new();
    for _ in 0..10 {
        unread.push(
            app.clone()
                .oneshot(request("GET", "/a", &[]))
                .await
                .unwrap(),
        );
    }
    let services: Vec<_> = (0..10).map(|_| app.clone()).collect();
    let other = tokio::time::timeout(
        Duration::from_secs(1),
        send(&app, request("GET", "/b", &[])),
    );
    assert_eq!(other.await.unwrap().text(), "2");
    drop((unread, services));
}

#[tokio::test(start_paused = true)]
async fn misses_wait_their_turn_at_a_limit_inside() {
    let (running, most) = (Calls::default(), Calls::default());
    let origin = Origin::new({
        let (running, most) = (running.clone(), most.clone());
        move |_| {
            let (running, most) = (running.clone(), most.clone());
            async move {
                let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(10)).await;
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(answer(200, &[("cache-control", "max-age=60")], ""))
            }
        }
    });
    let app = layer().layer(ConcurrencyLimit::new(origin.clone(), 3));
    let spawned: Vec<_> = (0..60)
        .map(|number| {
            let app = app.clone();
            let method = ["GET", "HEAD", "POST", "OPTIONS"][number % 4];
            let uri = format!("/{number}");
            tokio::spawn(async move { send(&app, request(method, &uri, &[])).await.status })
        })
        .collect();
    for status in spawned {
        assert_eq!(status.await.unwrap(), 200);
    }
    assert_eq!(origin.calls(), 60);
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_background_revalidation_waits_its_turn_at_a_limit_inside() {
    let control = "max-age=60, stale-while-revalidate=60";
    let origin = Origin::with(&[("cache-control", control)]);
    let app = layer().layer(ConcurrencyLimit::new(origin.clone(), 1));
    let get = async || send(&app, request("GET", "/", &[])).await;
    get().await;
    support::after(61.0).await;
    assert_eq!(get().await.text(), "1");
    settle().await;
    assert_eq!(get().await.text(), "2");
}

#[tokio::test(start_paused = true)]
async fn a_limit_outside_counts_hits_too() {
    let (gate, origin) = gated();
    let app = ConcurrencyLimit::new(layer().layer(origin), 1);
    send(&app, request("GET", "/a", &[])).await;
    let get = |uri: &'static str| {
        let app = app.clone();
        tokio::spawn(async move { send(&app, request("GET", uri, &[])).await })
    };
    let slow = get("/slow");
    settle().await;
    let hit = get("/a");
    settle().await;
    assert!(!hit.is_finished());
    gate.notify_one();
    assert!(hit.await.unwrap().is_hit());
    assert_eq!(slow.await.unwrap().text(), "2");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_never_ready_is_not_called() {
    #[derive(Clone)]
    struct NotReady;
    impl tower::Service<Request<Body>> for NotReady {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Response<Body>, Infallible>>;
        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), Infallible>> {
            std::task::Poll::Pending
        }
        fn call(&mut self, _: Request<Body>) -> Self::Future {
            unreachable!("it was not ready")
        }
    }
    let app = layer().layer(NotReady);
    for method in ["GET", "HEAD", "POST", "OPTIONS"] {
        let answer = send(&app, request(method, "/", &[]));
        let waited = tokio::time::timeout(Duration::from_secs(60), answer).await;
        assert!(waited.is_err(), "{method}");
    }
}

// Compression

fn compressible() -> Origin {
    Origin::now(|call| {
        let fields = [
            ("cache-control", "max-age=60"),
            ("content-type", "text/plain"),
        ];
        answer(
            200,
            &fields,
            format!("{} {}", call.number, "x".repeat(1_000)),
        )
    })
}

const GZIP: &[(&str, &str)] = &[("accept-encoding", "gzip")];

#[tokio::test(start_paused = true)]
async fn compression_inside_makes_a_variant_of_each_encoding() {
    let origin = compressible();
    let app = layer().layer(CompressionLayer::new().layer(origin.clone()));
    let plain = send(&app, request("GET", "/", &[])).await;
    let zipped = send(&app, request("GET", "/", GZIP)).await;
    assert!(!zipped.is_hit());
    assert_eq!(plain.header("content-encoding"), None);
    assert_eq!(zipped.header("content-encoding"), Some("gzip"));
    for (fields, first) in [(&[][..], &plain), (GZIP, &zipped)] {
        let hit = send(&app, request("GET", "/", fields)).await;
        assert!(hit.is_hit());
        assert_eq!(hit.body, first.body);
        assert_eq!(
            hit.header("content-encoding"),
            first.header("content-encoding")
        );
        assert_eq!(hit.header("vary"), Some("accept-encoding"));
    }
    assert_eq!(origin.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn compression_outside_needs_one_stored_response() {
    let origin = compressible();
    let app = CompressionLayer::new().layer(layer().layer(origin.clone()));
    let zipped = send(&app, request("GET", "/", GZIP)).await;
    let plain = send(&app, request("GET", "/", &[])).await;
    let again = send(&app, request("GET", "/", GZIP)).await;
    assert!(plain.is_hit() && again.is_hit());
    assert_eq!(plain.header("content-encoding"), None);
    assert_eq!(plain.body.len(), 1_002);
    assert_eq!(again.header("content-encoding"), Some("gzip"));
    assert_eq!(again.body, zipped.body);
    assert_eq!(origin.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_route_parameter_is_each_its_own() {
    let app = Router::new()
        .route(
            "/{name}",
            get(async |Path(name): Path<String>| {
                (CacheControl::new().max_age(Duration::from_secs(60)), name)
            }),
        )
        .layer(layer());
    for _ in 0..2 {
        for name in ["ada", "bob"] {
            assert_eq!(text(&app, &format!("/{name}")).await, name);
        }
    }
}
