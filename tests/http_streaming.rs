//! Bodies pass through as they come, and only those that ended well are stored.

#![cfg(all(feature = "axum", feature = "memory"))]

mod support;

use std::time::Duration;

use axum::body::Body;
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt;
use larder::{Cache, CacheBody, CacheLayer, Reason, Shadow, TagField};
use support::{App, Asking, Feed, Origin, Step, answer, body_of, feed, frames, settle};
use tower::ServiceExt;

const FRESH: &[(&str, &str)] = &[("cache-control", "max-age=60")];

/// An app whose first answer has a body that is steered from here; later ones are their number.
fn steered(fields: &'static [(&str, &str)]) -> (Feed, App) {
    let (feed, body) = feed();
    let body = std::sync::Mutex::new(Some(body));
    let origin = Origin::now(move |call| match body.lock().unwrap().take() {
        Some(body) => answer(200, fields, body),
        None => answer(200, fields, call.number.to_string()),
    });
    (feed, App::new(origin))
}

fn once(fields: &'static [(&str, &str)], body: fn() -> Body) -> App {
    App::new(Origin::now(move |_| answer(200, fields, body())))
}

async fn data(body: &mut CacheBody<Body>) -> String {
    let frame = body.frame().await.unwrap().unwrap();
    String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
}

async fn is_stored(app: &App) -> bool {
    let only = [("cache-control", "only-if-cached")];
    app.get_with("/", &only).await.is_hit()
}

#[tokio::test(start_paused = true)]
async fn the_first_byte_of_a_slow_body_is_not_delayed() {
    let (feed, app) = steered(FRESH);
    let response = app.open("/", &[]).await;
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    feed.send(Step::Data("first"));
    assert_eq!(data(&mut body).await, "first");
    feed.send(Step::Data("second"));
    assert_eq!(data(&mut body).await, "second");
    assert!(!is_stored(&app).await);
    drop(feed);
    assert!(body.frame().await.is_none());
    assert_eq!(app.get("/").await.text(), "firstsecond");
}

#[tokio::test(start_paused = true)]
async fn a_body_is_stored_before_its_end_is_passed_on() {
    for body in [|| Body::from("hello"), || body_of("hello"), Body::empty] {
        let app = once(FRESH, body);
        let text = app.get("/").await;
        let hit = app.get("/").await;
        assert!(hit.is_hit());
        assert_eq!(hit.text(), text.text());
        assert_eq!(app.calls(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_of_several_frames_is_stored_whole() {
    let app = once(FRESH, || {
        frames(&[
            Step::Data("one "),
            Step::Data(""),
            Step::Data("two "),
            Step::Data("three"),
        ])
    });
    app.get("/").await;
    let hit = app.get("/").await;
    assert_eq!((hit.is_hit(), hit.text()), (true, "one two three"));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_half_way_is_not_stored() {
    let app = once(FRESH, || frames(&[Step::Data("half"), Step::Break]));
    let broken = app.get("/").await;
    assert!(!broken.is_whole);
    assert!(!is_stored(&app).await);
    assert_eq!(app.cache.stats().http_broken, 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_nobody_reads_to_its_end_is_not_stored() {
    let (feed, app) = steered(FRESH);
    let mut body = app.open("/", &[]).await.into_body();
    feed.send(Step::Data("half"));
    data(&mut body).await;
    drop(body);
    assert!(feed.is_abandoned());
    assert!(!is_stored(&app).await);
}

#[tokio::test(start_paused = true)]
async fn a_body_shorter_than_its_length_is_not_stored() {
    let fields = &[("cache-control", "max-age=60"), ("content-length", "10")];
    for body in [|| Body::from("short"), || body_of("short"), Body::empty] {
        let app = once(fields, body);
        app.get("/").await;
        assert!(!is_stored(&app).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_longer_than_its_length_is_not_stored() {
    let fields = &[("cache-control", "max-age=60"), ("content-length", "3")];
    let bodies = [
        || Body::from("longer"),
        || body_of("longer"),
        || frames(&[Step::Data("lo"), Step::Data("nger")]),
    ];
    for body in bodies {
        let app = once(fields, body);
        assert_eq!(app.get("/").await.text(), "longer");
        assert!(!is_stored(&app).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_of_its_length_is_stored_without_its_end_being_asked_for() {
    let (feed, app) = steered(&[("cache-control", "max-age=60"), ("content-length", "5")]);
    let mut body = app.open("/", &[]).await.into_body();
    feed.send(Step::Data("hello"));
    assert_eq!(data(&mut body).await, "hello");
    drop(body);
    assert!(is_stored(&app).await);
}

/// The body and its trailers.
async fn whole(body: CacheBody<Body>) -> (String, Option<HeaderMap>) {
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned();
    let bytes = collected.to_bytes().to_vec();
    (String::from_utf8(bytes).unwrap(), trailers)
}

#[tokio::test(start_paused = true)]
async fn trailers_are_stored_and_come_with_every_hit() {
    let app = once(FRESH, || {
        frames(&[
            Step::Data("text"),
            Step::Trailer("server-timing", "db;dur=3"),
        ])
    });
    for is_hit in [false, true, true] {
        let response = app.open("/", &[]).await;
        let told = response.headers()["cache-status"].to_str().unwrap();
        assert_eq!(told.contains("; hit"), is_hit);
        if is_hit {
            assert_eq!(response.headers()["trailer"], "server-timing");
            assert!(!response.headers().contains_key("content-length"));
            assert_eq!(http_body::Body::size_hint(response.body()).exact(), None);
        }
        let (text, trailers) = whole(response.into_body()).await;
        assert_eq!(text, "text");
        assert_eq!(trailers.unwrap()["server-timing"], "db;dur=3");
    }
    assert_eq!(app.send("HEAD", "/", &[]).await.text(), "");
    assert_eq!(app.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn trailers_survive_the_way_to_a_server_and_a_soft_purge_and_a_validation() {
    let origin = Origin::now(|call| match call.header("if-none-match") {
        Some(_) => answer(
            304,
            &[("cache-control", "max-age=60"), ("etag", "\"a\"")],
            "",
        ),
        None => {
            let body = frames(&[Step::Data("text"), Step::Trailer("x-sum", "1")]);
            answer(
                200,
                &[("cache-control", "max-age=60"), ("etag", "\"a\"")],
                body,
            )
        }
    });
    let app = App::on(Cache::new(Asking::new()), origin, |layer| layer);
    app.get("/").await;
    app.cache.flush().await;
    for expected in ["hit", "fwd=stale; fwd-status=304", "hit"] {
        let response = app.open("/", &[]).await;
        let told = response.headers()["cache-status"].to_str().unwrap();
        assert!(told.contains(expected), "{told}");
        let (text, trailers) = whole(response.into_body()).await;
        assert_eq!(
            (text.as_str(), &trailers.unwrap()["x-sum"]),
            ("text", &HeaderValue::from_static("1"))
        );
        app.cache.flush().await;
        if expected == "hit" {
            app.cache.purge_soft("http://test.example/").await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn trailers_that_none_may_be_are_for_nobody_else() {
    let fields = &[("cache-control", "max-age=60, private=\"x-own\"")];
    let (feed, app) = steered(fields);
    let leader = app.open("/", &[]).await.into_body();
    let follower = app.open("/", &[]).await.into_body();
    feed.send(Step::Data("text"));
    feed.send(Step::Trailers(&[
        ("set-cookie", "id=1"),
        ("x-own", "ada"),
        ("x-all", "1"),
    ]));
    drop(feed);
    let (_, own) = whole(leader).await;
    assert_eq!(own.unwrap().len(), 3);
    let hit = app.open("/", &[]).await.into_body();
    for body in [follower, hit] {
        let (text, shared) = whole(body).await;
        assert_eq!(text, "text");
        let shared = shared.unwrap();
        assert_eq!(
            (shared.len(), &shared["x-all"]),
            (1, &HeaderValue::from_static("1"))
        );
    }
}

/// Every answer has what is for caches behind its body.
fn speaking_to_caches() -> Origin {
    Origin::now(|_| {
        let trailers = Step::Trailers(&[
            ("cache-tag", "a"),
            ("surrogate-key", "b"),
            ("larder-cache-control", "max-age=1"),
            ("server-timing", "db;dur=3"),
        ]);
        answer(200, FRESH, frames(&[Step::Data("text"), trailers]))
    })
}

#[tokio::test(start_paused = true)]
async fn what_is_for_this_cache_alone_is_kept_from_clients_behind_a_body_too() {
    type Change = fn(CacheLayer) -> CacheLayer;
    type Fields = &'static [(&'static str, &'static str)];
    let cases: [(&str, Fields, Change); 7] = [
        ("GET", &[], |layer| layer),
        ("GET", &[("cache-control", "no-store")], |layer| layer),
        ("GET", &[], |layer| layer.max_body_bytes(1)),
        ("GET", &[], |layer| layer.pass_tags(TagField::CacheTag)),
        ("GET", &[], |layer| layer.shadow(Shadow::new(1.0))),
        ("POST", &[], |layer| layer),
        ("OPTIONS", &[], |layer| layer),
    ];
    for (method, fields, change) in cases {
        let app = App::changed(speaking_to_caches(), change);
        for _ in 0..2 {
            let request = support::request(method, "/", fields);
            let response = app.service.clone().oneshot(request).await.unwrap();
            let (text, trailers) = whole(response.into_body()).await;
            let trailers = trailers.unwrap();
            assert_eq!(
                (text.as_str(), trailers.len()),
                ("text", 1),
                "{method} {fields:?}"
            );
            assert_eq!(trailers["server-timing"], "db;dur=3");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_share_a_body_are_not_given_it_either() {
    let (feed, app) = steered(FRESH);
    let (first, second) = (app.open("/", &[]).await, app.open("/", &[]).await);
    feed.send(Step::Data("text"));
    feed.send(Step::Trailer("cache-tag", "a"));
    drop(feed);
    for response in [second, first] {
        let (text, trailers) = whole(response.into_body()).await;
        assert_eq!((text.as_str(), trailers), ("text", None));
    }
}

#[tokio::test(start_paused = true)]
async fn around_a_router_nothing_comes_behind_a_body_that_is_for_this_cache_alone() {
    let router = axum::Router::new().fallback_service(speaking_to_caches().infallible());
    let service = CacheLayer::new(Cache::memory()).around_service(router);
    let request = support::request("GET", "/", &[("cache-control", "no-store")]);
    let response = service.oneshot(request).await.unwrap();
    let collected = response.into_body().collect().await;
    assert_eq!(collected.unwrap().trailers().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_with_too_many_trailers_passes_whole_and_is_not_stored() {
    const MANY: &[(&str, &str)] = &[("x", "1"); 65];
    let (feed, app) = steered(FRESH);
    let leader = app.open("/", &[]).await.into_body();
    let follower = app.open("/", &[]).await.into_body();
    feed.send(Step::Data("text"));
    feed.send(Step::Trailers(MANY));
    drop(feed);
    for body in [leader, follower] {
        assert_eq!(whole(body).await.1.unwrap().len(), 65);
    }
    assert!(!is_stored(&app).await);
    assert_eq!(app.cache.stats().reasons[Reason::Trailers], 1);
}

#[tokio::test(start_paused = true)]
async fn trailers_that_are_announced_are_waited_for_behind_a_declared_length() {
    let fields = &[
        ("cache-control", "max-age=60"),
        ("content-length", "4"),
        ("trailer", "x-sum"),
    ];
    let app = once(fields, || {
        frames(&[Step::Data("text"), Step::Trailer("x-sum", "1")])
    });
    for _ in 0..2 {
        let body = app.open("/", &[]).await.into_body();
        assert_eq!(whole(body).await.1.unwrap()["x-sum"], "1");
    }
    assert_eq!(app.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn empty_trailers_leave_nothing_in_the_store() {
    let app = once(FRESH, || frames(&[Step::Data("text"), Step::Trailers(&[])]));
    app.get("/").await;
    let hit = app.open("/", &[]).await;
    assert_eq!(hit.headers()["content-length"], "4");
    assert_eq!(whole(hit.into_body()).await, ("text".to_owned(), None));
}

#[tokio::test(start_paused = true)]
async fn a_body_over_the_limit_streams_whole_and_is_not_stored() {
    for body in [
        || Body::from("x".repeat(101)),
        || frames(&[Step::Data("0123456789"); 11]),
    ] {
        let origin = Origin::now(move |_| answer(200, FRESH, body()));
        let app = App::changed(origin, |layer| layer.max_body_bytes(100));
        let large = app.get("/").await;
        assert!(large.is_whole && large.body.len() > 100);
        assert!(!is_stored(&app).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_of_just_the_limit_is_stored() {
    let origin = Origin::now(|_| answer(200, FRESH, "x".repeat(100)));
    let app = App::changed(origin, |layer| layer.max_body_bytes(100));
    app.get("/").await;
    assert!(is_stored(&app).await);
}

#[tokio::test(start_paused = true)]
async fn a_declared_length_over_the_limit_is_told_at_once() {
    let origin = Origin::now(|_| answer(200, FRESH, "x".repeat(101)));
    let app = App::changed(origin, |layer| layer.max_body_bytes(100));
    assert_eq!(
        app.get("/").await.told(),
        "larder; fwd=uri-miss; detail=too-large"
    );
}

#[tokio::test(start_paused = true)]
async fn an_endless_event_stream_flows_and_is_not_stored() {
    let (feed, app) = steered(&[
        ("cache-control", "public, max-age=60"),
        ("content-type", "Text/Event-Stream; charset=utf-8"),
    ]);
    let response = app.open("/", &[]).await;
    let told = response.headers()["cache-status"].to_str().unwrap();
    assert_eq!(told, "larder; fwd=uri-miss; detail=event-stream");
    let mut body = response.into_body();
    for _ in 0..1_000 {
        feed.send(Step::Data("data: tick\n\n"));
        assert_eq!(data(&mut body).await, "data: tick\n\n");
    }
    assert!(!is_stored(&app).await);
    assert_eq!(app.cache.stats().usage.unwrap().entries, 0);
}

#[tokio::test(start_paused = true)]
async fn concurrent_readers_of_an_event_stream_each_have_their_own_at_once() {
    let app = App::new(Origin::now(|_| {
        let (feed, body) = feed();
        feed.send(Step::Data("data: hello\n\n"));
        tokio::spawn(async move {
            // Held open for as long as anybody reads.
            while !feed.is_abandoned() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        answer(200, &[("content-type", "text/event-stream")], body)
    }));
    let before = tokio::time::Instant::now();
    let readers = (0..50).map(|_| {
        let app = app.clone();
        tokio::spawn(async move {
            let mut body = app.open("/", &[]).await.into_body();
            (data(&mut body).await, body)
        })
    });
    let mut open = Vec::new();
    for reader in readers.collect::<Vec<_>>() {
        let (text, body) = reader.await.unwrap();
        assert_eq!(text, "data: hello\n\n");
        open.push(body);
    }
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert_eq!(app.calls(), 50);
}

#[tokio::test(start_paused = true)]
async fn an_endless_stream_that_says_it_is_fresh_is_given_up_at_the_limit() {
    let (feed, app) = steered(FRESH);
    let mut body = app.open("/", &[]).await.into_body();
    let kilobyte: &'static str = "x".repeat(1_024).leak();
    for _ in 0..1_025 {
        feed.send(Step::Data(kilobyte));
        data(&mut body).await;
    }
    assert_eq!(app.cache.stats().http_refused, 1);
    assert_eq!(app.get("/").await.text(), "2");
    feed.send(Step::Data("still there"));
    assert_eq!(data(&mut body).await, "still there");
}

#[tokio::test(start_paused = true)]
async fn a_304_to_a_client_does_not_keep_an_endless_body_alive() {
    let (feed, app) = steered(&[("content-type", "text/event-stream"), ("etag", "\"a\"")]);
    let answer = app.get_with("/", &[("if-none-match", "\"a\"")]).await;
    assert_eq!(answer.status, 304);
    settle().await;
    assert!(feed.is_abandoned());
}

#[tokio::test(start_paused = true)]
async fn a_hit_is_one_frame_of_known_length_that_has_no_copy() {
    let app = once(FRESH, || frames(&[Step::Data("one "), Step::Data("two")]));
    app.get("/").await;
    let of = async || {
        let body = app.open("/", &[]).await.into_body();
        let hint = http_body::Body::size_hint(&body).exact();
        assert_eq!(hint, Some(7));
        body.collect().await.unwrap().to_bytes()
    };
    assert_eq!(of().await.as_ptr(), of().await.as_ptr());
}

#[tokio::test(start_paused = true)]
async fn answers_without_content_have_no_body() {
    let app = once(
        &[("cache-control", "max-age=60"), ("etag", "\"a\"")],
        || Body::from("hello"),
    );
    app.get("/").await;
    let not_modified = app.open("/", &[("if-none-match", "\"a\"")]).await;
    assert!(http_body::Body::is_end_stream(not_modified.body()));
    let head = app.send("HEAD", "/", &[]).await;
    assert_eq!(head.text(), "");
}
