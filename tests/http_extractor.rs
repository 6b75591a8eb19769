//! What handlers in the layer are given, and what they say by `CacheControl`.

#![cfg(all(feature = "axum", feature = "memory", feature = "json"))]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Extension, Router,
    extract::State,
    http::Uri,
    routing::{get, post},
};
use larder::{Cache, CacheControl, CacheLayer};
use support::{request, send};

async fn count(cache: Cache, uri: Uri) -> String {
    let name = uri.path().to_owned();
    cache.increment(&name, 1).await.unwrap().to_string()
}

#[tokio::test(start_paused = true)]
async fn a_handler_gets_the_layer_s_cache_whenever_it_is_called() {
    let cache = Cache::memory();
    let app = Router::new()
        .route("/", get(count).post(count).options(count))
        .fallback(count)
        .layer(CacheLayer::new(cache.clone()));
    for (number, (method, fields)) in [
        ("GET", &[][..]),
        ("POST", &[]),
        ("OPTIONS", &[]),
        ("GET", &[("range", "bytes=0-0")]),
        ("GET", &[("cache-control", "no-store")]),
        ("GET", &[("upgrade", "websocket")]),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = send(&app, request(method, "/", fields)).await;
        assert_eq!(
            answer.text(),
            (number + 1).to_string(),
            "{method} {fields:?}"
        );
    }
    assert_eq!(
        send(&app, request("GET", "/nowhere", &[])).await.text(),
        "1"
    );
    assert_eq!(cache.increment("/", 0).await.unwrap(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_handler_around_whose_router_the_layer_is_gets_the_cache_too() {
    let app = CacheLayer::new(Cache::memory()).around_service(Router::new().route("/", get(count)));
    assert_eq!(send(&app, request("GET", "/", &[])).await.text(), "1");
}

#[tokio::test(start_paused = true)]
async fn without_the_layer_the_rejection_names_it() {
    let app = Router::new().route("/", get(count));
    let answer = send(&app, request("GET", "/", &[])).await;
    assert_eq!(answer.status, 500);
    assert_eq!(
        answer.text(),
        "no `Cache` in the request's extensions; perhaps you forgot to add `CacheLayer` to the router: \
         `.layer(CacheLayer::new(cache))`"
    );
}

#[tokio::test(start_paused = true)]
async fn an_optional_cache_is_there_with_the_layer_and_not_without() {
    let router = || {
        Router::new().route(
            "/",
            get(async |cache: Option<Cache>| cache.is_some().to_string()),
        )
    };
    let with = router().layer(CacheLayer::new(Cache::memory()));
    assert_eq!(send(&with, request("GET", "/", &[])).await.text(), "true");
    assert_eq!(
        send(&router(), request("GET", "/", &[])).await.text(),
        "false"
    );
}

#[tokio::test(start_paused = true)]
async fn a_cache_is_state_or_an_extension_as_any_value_is() {
    let cache = Cache::memory();
    cache.put("name", "Ada").await.unwrap();
    let state =
        async |State(cache): State<Cache>| cache.get::<String>("name").await.unwrap().unwrap();
    let extension = async |Extension(cache): Extension<Cache>| {
        cache.get::<String>("name").await.unwrap().unwrap()
    };
    let app = Router::new()
        .route("/state", get(state))
        .with_state(cache.clone())
        .route("/extension", get(extension))
        .layer(Extension(cache.clone()));
    for uri in ["/state", "/extension"] {
        assert_eq!(
            send(&app, request("GET", uri, &[])).await.text(),
            "Ada",
            "{uri}"
        );
    }
    let app = Router::new()
        .route("/", get(extension))
        .layer(CacheLayer::new(cache));
    assert_eq!(send(&app, request("GET", "/", &[])).await.text(), "Ada");
}

#[tokio::test(start_paused = true)]
async fn the_inner_layer_s_cache_is_the_handler_s() {
    let (inner, outer) = (Cache::memory(), Cache::memory());
    let app = Router::new()
        .route("/", post(count))
        .layer(CacheLayer::new(inner.clone()))
        .layer(CacheLayer::new(outer.clone()));
    send(&app, request("POST", "/", &[])).await;
    assert_eq!(inner.increment("/", 0).await.unwrap(), 1);
    assert_eq!(outer.increment("/", 0).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_handler_s_values_and_the_stored_responses_do_not_meet() {
    let cache = Cache::memory();
    let app = Router::new()
        .route(
            "/",
            get(async || (CacheControl::new().max_age(Duration::from_secs(60)), "text")),
        )
        .layer(CacheLayer::new(cache.clone()));
    send(&app, request("GET", "/", &[])).await;
    for name in ["http://test.example/", "/", "@http:http://test.example/"] {
        assert_eq!(cache.get::<String>(name).await.unwrap(), None);
        cache.put(name, "value").await.unwrap();
    }
    let hit = send(&app, request("GET", "/", &[])).await;
    assert_eq!((hit.is_hit(), hit.text()), (true, "text"));
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_says_by_cache_control_is_sent_and_followed() {
    let calls = Arc::new(AtomicUsize::new(0));
    let minute = Duration::from_secs(60);
    let counted = |control: CacheControl| {
        let calls = calls.clone();
        get(async move || (control, calls.fetch_add(1, Ordering::SeqCst).to_string()))
    };
    let app = Router::new()
        .route(
            "/fresh",
            counted(CacheControl::new().public().max_age(minute)),
        )
        .route("/never", counted(CacheControl::new().no_store()))
        .route(
            "/own",
            counted(CacheControl::new().private().max_age(minute)),
        )
        .layer(CacheLayer::new(Cache::memory()));
    for (uri, control, is_hit) in [
        ("/fresh", "public, max-age=60", true),
        ("/never", "no-store", false),
        ("/own", "private, max-age=60", false),
    ] {
        send(&app, request("GET", uri, &[])).await;
        let second = send(&app, request("GET", uri, &[])).await;
        assert_eq!(second.header("cache-control"), Some(control));
        assert_eq!(second.is_hit(), is_hit, "{uri}");
    }
}
