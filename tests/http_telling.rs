//! `Cache-Status` (RFC 9211), and the counters.

#![cfg(all(feature = "axum", feature = "memory"))]

mod support;

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use larder::{Cache, CacheLayer, ErrorKind};
use support::{App, Asking, Failing, Mode, Origin, after, answer};

fn minute() -> Origin {
    Origin::with(&[("cache-control", "max-age=60"), ("etag", "\"a\"")])
}

#[tokio::test(start_paused = true)]
async fn a_miss_tells_why_it_was_forwarded_and_whether_the_answer_was_stored() {
    let app = App::new(minute());
    assert_eq!(app.get("/").await.told(), "larder; fwd=uri-miss; stored");
    let other = App::new(Origin::with(&[("cache-control", "no-store")]));
    let told = other.get("/").await.told();
    assert_eq!(told, "larder; fwd=uri-miss; detail=no-store");
}

#[tokio::test(start_paused = true)]
async fn a_hit_tells_its_freshness_left() {
    let app = App::new(minute());
    app.get("/").await;
    after(0.5).await;
    assert_eq!(app.get("/").await.told(), "larder; hit; ttl=60");
    after(58.0).await;
    assert_eq!(app.get("/").await.told(), "larder; hit; ttl=2");
    assert_eq!(
        app.send("HEAD", "/", &[]).await.told(),
        "larder; hit; ttl=2"
    );
}

#[tokio::test(start_paused = true)]
async fn every_refusal_has_a_name() {
    for (status, fields, detail) in [
        (200, &[][..], "no-freshness"),
        (200, &[("cache-control", "private")], "private"),
        (200, &[("cache-control", "no-store")], "no-store"),
        (200, &[("vary", "*")], "vary"),
        (
            200,
            &[("content-type", "text/event-stream")],
            "event-stream",
        ),
        (
            200,
            &[("cache-control", "max-age=60"), ("set-cookie", "a=1")],
            "set-cookie",
        ),
        (
            299,
            &[("cache-control", "max-age=60, must-understand")],
            "must-understand",
        ),
        (302, &[], "status"),
        (412, &[("cache-control", "max-age=60")], "status"),
        (
            200,
            &[
                ("cache-control", "max-age=60"),
                ("content-length", "9999999"),
            ],
            "too-large",
        ),
    ] {
        let app = App::new(Origin::of(status, fields));
        let expected = format!("larder; fwd=uri-miss; detail={detail}");
        assert_eq!(app.get("/").await.told(), expected);
    }
    let app = App::new(minute());
    let told = app
        .get_with("/", &[("authorization", "Basic b3Blbg==")])
        .await
        .told();
    assert_eq!(told, "larder; fwd=uri-miss; detail=authorization");
    let modified = support::date(-1_000);
    let app = App::new(Origin::with(&[("last-modified", &modified)]));
    let told = app.get_with("/", &[("cookie", "id=1")]).await.told();
    assert_eq!(told, "larder; fwd=uri-miss; detail=credentials");
}

#[tokio::test(start_paused = true)]
async fn a_variant_that_could_not_be_noted_tells_whose_fault_it_was() {
    let varying = |field| Origin::with(&[("cache-control", "public, max-age=60"), ("vary", field)]);
    let down = Cache::new(Failing::new(Mode::ReadOnly));
    let app = App::on(down, varying("x-a"), |layer| layer);
    assert_eq!(
        app.get("/").await.told(),
        "larder; fwd=uri-miss; detail=backend"
    );
    let shared = Cache::new(Asking::new());
    let app = App::on(shared, varying("cookie"), |layer| layer);
    assert_eq!(
        app.get("/").await.told(),
        "larder; fwd=uri-miss; detail=vary-by-secret"
    );
}

#[tokio::test(start_paused = true)]
async fn other_methods_and_what_is_let_through_tell_so() {
    let app = App::new(minute());
    assert_eq!(
        app.send("POST", "/", &[]).await.told(),
        "larder; fwd=method"
    );
    assert_eq!(
        app.send("OPTIONS", "/", &[]).await.told(),
        "larder; fwd=method"
    );
    let checked = app.get_with("/", &[("if-match", "\"a\"")]).await;
    assert_eq!(checked.told(), "larder; fwd=bypass; detail=precondition");
    let no_store = app.get_with("/", &[("cache-control", "no-store")]).await;
    assert_eq!(
        no_store.told(),
        "larder; fwd=request; detail=request-no-store"
    );
    assert_eq!(
        app.send("HEAD", "/", &[]).await.told(),
        "larder; fwd=uri-miss"
    );
}

#[tokio::test(start_paused = true)]
async fn what_an_upstream_cache_told_stays_in_front() {
    let app = App::new(Origin::with(&[
        ("cache-control", "max-age=60"),
        ("cache-status", "Origin; hit; ttl=3"),
        ("cache-status", "edge; fwd=stale"),
    ]));
    let upstream = "Origin; hit; ttl=3, edge; fwd=stale";
    let miss = app.get("/").await;
    assert_eq!(
        miss.told(),
        format!("{upstream}, larder; fwd=uri-miss; stored")
    );
    after(10.5).await;
    let hit = app.get("/").await;
    assert_eq!(hit.told(), format!("{upstream}, larder; hit; ttl=50"));
    let post = app.send("POST", "/", &[]).await;
    assert_eq!(post.told(), format!("{upstream}, larder; fwd=method"));
}

#[tokio::test(start_paused = true)]
async fn the_name_is_the_application_s_own() {
    for (name, told) in [
        ("shop", "shop"),
        ("Ada's shop", "\"Ada's shop\""),
        ("a\"b\\", "\"a\\\"b\\\\\""),
    ] {
        let app = App::changed(minute(), |layer| layer.status_name(name).unwrap());
        assert_eq!(
            app.get("/").await.told(),
            format!("{told}; fwd=uri-miss; stored")
        );
        after(0.5).await;
        assert_eq!(app.get("/").await.told(), format!("{told}; hit; ttl=60"));
    }
    for name in ["", "a\nb", "ä"] {
        let refused = CacheLayer::new(Cache::memory())
            .status_name(name)
            .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Settings);
    }
}

#[tokio::test(start_paused = true)]
async fn two_layers_of_one_cache_each_tell_their_own_name_of_one_response() {
    let (cache, origin) = (Cache::memory(), minute());
    let named = |name: &'static str| {
        App::on(cache.clone(), origin.clone(), move |layer| {
            layer.status_name(name).unwrap()
        })
    };
    let (shop, blog) = (named("shop"), named("blog"));
    shop.get("/").await;
    after(0.5).await;
    for _ in 0..2 {
        assert_eq!(shop.get("/").await.told(), "shop; hit; ttl=60");
        assert_eq!(blog.get("/").await.told(), "blog; hit; ttl=60");
    }
}

#[tokio::test(start_paused = true)]
async fn the_key_is_told_only_when_asked_for() {
    let app = App::new(minute());
    assert!(!app.get("/a?b=1").await.told().contains("key="));
    let app = App::changed(minute(), |layer| layer.status_key(true));
    let key = "; key=\"http://test.example/a?b=1\"";
    let told = app.get("/a?b=1").await.told();
    assert_eq!(told, format!("larder; fwd=uri-miss; stored{key}"));
    let told = app.get("/a?b=1").await.told();
    assert_eq!(told, format!("larder; hit; ttl=60{key}"));
    let told = app.send("POST", "/a?b=1", &[]).await.told();
    assert_eq!(told, format!("larder; fwd=method{key}"));
}

#[tokio::test(start_paused = true)]
async fn a_set_cookie_that_keeps_a_response_from_being_stored_is_logged_once_for_a_route() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .finish();
    let _listening = tracing::subscriber::set_default(subscriber);
    let fields = [("cache-control", "max-age=60"), ("set-cookie", "id=1")];
    let app = App::new(Origin::with(&fields));
    for path in ["/", "/", "/other"] {
        app.get(path).await;
    }
    let log = log.0.lock().unwrap();
    let text = String::from_utf8_lossy(&log);
    assert_eq!(
        text.matches("Set-Cookie is not stored").count(),
        1,
        "{text}"
    );
    assert!(!text.contains("id=1"));
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn it_can_be_switched_off() {
    let app = App::changed(minute(), CacheLayer::without_status);
    for fields in [
        &[][..],
        &[],
        &[("if-none-match", "\"a\"")],
        &[("range", "bytes=0-0")],
    ] {
        assert_eq!(app.get_with("/", fields).await.header("cache-status"), None);
    }
    assert_eq!(app.get("/").await.age(), Some(0));
    assert_eq!(
        app.send("POST", "/", &[]).await.header("cache-status"),
        None
    );
    let upstream = [
        ("cache-control", "max-age=60"),
        ("cache-status", "edge; hit"),
    ];
    let app = App::changed(Origin::with(&upstream), CacheLayer::without_status);
    for _ in 0..2 {
        assert_eq!(app.get("/").await.told(), "edge; hit");
    }
}

#[tokio::test(start_paused = true)]
async fn a_304_tells_too() {
    let app = App::new(minute());
    app.get("/").await;
    after(0.5).await;
    let answer = app.get_with("/", &[("if-none-match", "\"a\"")]).await;
    assert_eq!(
        (answer.status, &*answer.told()),
        (304, "larder; hit; ttl=60")
    );
}

#[tokio::test(start_paused = true)]
async fn the_stored_status_field_is_never_replayed() {
    let app = App::new(minute());
    app.get("/").await;
    for _ in 0..3 {
        let hit = app.get("/").await;
        assert_eq!(hit.headers.get_all("cache-status").iter().count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn requests_are_counted_by_what_became_of_them() {
    let app = App::new(Origin::now(|call| match call.header("if-none-match") {
        Some(_) => answer(304, &[], ""),
        None => answer(
            200,
            &[("cache-control", "max-age=60"), ("etag", "\"a\"")],
            "",
        ),
    }));
    app.get("/").await;
    app.get("/").await;
    app.get_with("/", &[("if-none-match", "\"a\"")]).await;
    app.send("OPTIONS", "/", &[]).await;
    after(60.5).await;
    app.get_with("/", &[("cache-control", "max-stale")]).await;
    app.get("/").await;
    app.send("POST", "/", &[]).await;
    let stats = app.cache.stats();
    assert_eq!(stats.http_misses, 2);
    assert_eq!(stats.http_hits, 2);
    assert_eq!(stats.http_stale, 1);
    assert_eq!(stats.http_revalidated, 1);
    assert_eq!(stats.http_stored, 2);
    assert_eq!(stats.http_bypasses, 2);
    assert_eq!(stats.http_invalidated, 1);
}

/// Everything that is logged until this is dropped.
fn listen() -> (Log, tracing::subscriber::DefaultGuard) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(move || writer.clone())
        .finish();
    (log, tracing::subscriber::set_default(subscriber))
}

#[tokio::test(start_paused = true)]
async fn every_decision_is_logged_by_route_and_never_by_uri() {
    let (log, _listening) = listen();
    let item = axum::routing::any(|| async { ([("cache-control", "max-age=60")], "item") });
    let app = axum::Router::new()
        .route("/items/{id}", item)
        .layer(CacheLayer::new(Cache::memory()));
    let ask = async |method: &str, fields: &[(&str, &str)]| {
        let uri = "http://shop.example/items/secret-7?q=secret-8";
        support::send(&app, support::request(method, uri, fields)).await
    };
    let took_long = [("cache-control", "max-stale")];
    for fields in [&[][..], &[], &[("cache-control", "no-store")]] {
        ask("GET", fields).await;
    }
    after(60.5).await;
    ask("GET", &took_long).await;
    ask("POST", &[]).await;
    let log = log.0.lock().unwrap();
    let text = String::from_utf8_lossy(&log);
    for decision in ["miss", "hit", "bypass", "stale", "invalidated"] {
        let line = format!("decision=\"{decision}\" route=\"/items/{{id}}\"");
        assert!(text.contains(&line), "{decision} in {text}");
    }
    assert!(!text.contains("secret"), "{text}");
}
