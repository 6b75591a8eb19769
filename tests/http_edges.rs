//! What could go wrong between two visitors, between two clocks, and at the edges of the libraries underneath.

#![cfg(all(feature = "axum", feature = "memory"))]

mod support;

use std::{
    convert::Infallible,
    future::Future,
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Waker},
    time::{Duration, Instant as Real},
};

use axum::body::Body;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body_util::BodyExt;
use support::{App, Feed, Origin, Step, after, answer, feed, request, send, settle};
use tokio::sync::Notify;

const FRESH: &[(&str, &str)] = &[("cache-control", "max-age=60")];

#[tokio::test(start_paused = true)]
async fn escaped_quotes_without_an_end_are_read_in_one_pass() {
    let app = App::new(Origin::with(FRESH));
    let line = format!("\"{}", "\\\"".repeat(200_000));
    let before = Real::now();
    app.get_with("/", &[("cache-control", &line)]).await;
    assert!(
        before.elapsed() < Duration::from_secs(2),
        "{:?}",
        before.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_cookie_that_a_handler_sets_reaches_a_client_that_is_answered_304() {
    let app = App::new(Origin::with(&[
        ("cache-control", "private"),
        ("etag", "\"a\""),
        ("set-cookie", "id=1"),
    ]));
    let first = app.get_with("/", &[("if-none-match", "\"a\"")]).await;
    assert_eq!(first.status, 304);
    assert_eq!(first.header("set-cookie"), Some("id=1"));
}

/// Answers with bodies that the test feeds.
fn fed() -> (Arc<Mutex<Vec<Feed>>>, App) {
    let feeds = Arc::new(Mutex::new(Vec::new()));
    let app = App::new(Origin::now({
        let feeds = feeds.clone();
        move |_| {
            let (feed, body) = feed();
            feeds.lock().unwrap().push(feed);
            answer(200, FRESH, body)
        }
    }));
    (feeds, app)
}

#[tokio::test(start_paused = true)]
async fn a_response_whose_body_ends_late_does_not_replace_a_newer_one() {
    let (feeds, app) = fed();
    let slow = app.open("/", &[]).await;
    after(1.0).await;
    let quick = app.open("/", &[("cache-control", "no-cache")]).await;
    let end = |number: usize, text| {
        let feed = feeds.lock().unwrap().remove(number);
        feed.send(Step::Data(text));
    };
    end(1, "newer");
    quick.into_body().collect().await.unwrap();
    assert_eq!(app.get("/").await.text(), "newer");
    end(0, "older");
    slow.into_body().collect().await.unwrap();
    assert_eq!(app.get("/").await.text(), "newer");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stops_reading_delays_others_once() {
    let (feeds, app) = fed();
    let _stuck = app.open("/", &[]).await;
    let before = tokio::time::Instant::now();
    for _ in 0..3 {
        let other = app.open("/", &[]).await;
        drop(other);
    }
    assert!(
        before.elapsed() < Duration::from_secs(6),
        "{:?}",
        before.elapsed()
    );
    drop(feeds);
}

#[tokio::test(start_paused = true)]
async fn a_response_with_as_many_fields_as_a_map_holds_is_survived() {
    let full = || -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("cache-control", HeaderValue::from_static("max-age=60"));
        for number in 0.. {
            let name = HeaderName::from_bytes(format!("x-{number}").as_bytes()).unwrap();
            if headers
                .try_insert(name, HeaderValue::from_static("1"))
                .is_err()
            {
                break;
            }
        }
        headers
    };
    let app = App::new(Origin::now(move |_| {
        let mut response = axum::response::Response::new(Body::from("a"));
        *response.headers_mut() = full();
        response
    }));
    for (method, fields) in [
        ("GET", &[][..]),
        ("GET", &[]),
        ("GET", &[("range", "bytes=0-1")]),
        ("HEAD", &[]),
        ("POST", &[]),
    ] {
        assert_eq!(app.send(method, "/", fields).await.status, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn a_304_with_as_many_fields_as_a_map_holds_is_survived() {
    let app = App::new(Origin::now(|call| {
        let fields = [("cache-control", "max-age=60"), ("etag", "\"a\"")];
        if call.number == 1 {
            return answer(200, &fields, "the body");
        }
        let mut response = answer(304, &fields, "");
        for number in 0.. {
            let name = HeaderName::from_bytes(format!("x-{number}").as_bytes()).unwrap();
            let value = HeaderValue::from_static("1");
            if response.headers_mut().try_insert(name, value).is_err() {
                break;
            }
        }
        response
    }));
    app.get("/").await;
    after(61.0).await;
    assert_eq!(app.get("/").await.text(), "the body");
    assert!(app.get("/").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn only_if_cached_asks_no_handler_for_one_s_own_answer_either() {
    let app = App::changed(Origin::with(&[]), |layer| {
        layer.default_ttl(Duration::from_secs(60))
    });
    app.get("/").await;
    let fields = [("cookie", "id=1"), ("cache-control", "only-if-cached")];
    assert_eq!(app.get_with("/", &fields).await.status, 504);
    assert_eq!(app.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_get_with_content_is_nobody_else_s() {
    let app = App::new(Origin::new(|call| async move {
        let content = call.body.collect().await.unwrap().to_bytes();
        Ok(answer(200, FRESH, content))
    }));
    let ask = |content: &'static str| {
        let fields = [("content-length", content.len().to_string())];
        let fields: Vec<_> = fields.iter().map(|(a, b)| (*a, &**b)).collect();
        let asked = request("GET", "/", &fields).map(|_| Body::from(content));
        let service = app.service.clone();
        async move { send(&service, asked).await }
    };
    assert_eq!(ask("one").await.text(), "one");
    assert_eq!(ask("two").await.text(), "two");
    assert_eq!(app.get("/").await.text(), "");
    assert_eq!(
        ask("three").await.told(),
        "larder; fwd=bypass; detail=content"
    );
}

#[tokio::test(start_paused = true)]
async fn a_host_field_beside_another_authority_spoils_nothing() {
    let app = App::new(Origin::now(|call| {
        let host = call.header("host").unwrap_or_default().to_owned();
        answer(200, FRESH, host)
    }));
    let uri = "http://example.org/";
    app.get_with(uri, &[("host", "evil.example")]).await;
    app.get_with(uri, &[("host", "evil.example"), ("host", "example.org")])
        .await;
    let own = app.get_with(uri, &[("host", "example.org")]).await;
    assert_eq!(own.text(), "example.org");
    let again = app.get_with("/", &[("host", "Example.org:80")]).await;
    assert!(again.is_hit());
}

#[test]
fn concurrent_requests_outside_of_any_runtime_are_answered() {
    let app = App::new(Origin::new(|call| async move {
        if call.number == 1 {
            std::future::pending::<()>().await;
        }
        Ok(answer(200, FRESH, call.number.to_string()))
    }));
    let mut first = pin!(app.get("/"));
    let mut context = Context::from_waker(Waker::noop());
    assert!(first.as_mut().poll(&mut context).is_pending());
    let mut second = pin!(app.get("/"));
    assert!(second.as_mut().poll(&mut context).is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_post_s_answer_from_before_another_change_is_not_stored_for_gets() {
    let gate = Arc::new(Notify::new());
    let app = App::new(Origin::new({
        let gate = gate.clone();
        move |call| {
            let gate = gate.clone();
            async move {
                if call.number == 1 {
                    gate.notified().await;
                }
                let fields = [("cache-control", "max-age=60"), ("content-location", "/")];
                Ok(answer(200, &fields, call.number.to_string()))
            }
        }
    }));
    let first = tokio::spawn({
        let app = app.clone();
        async move { app.send("POST", "/", &[]).await }
    });
    settle().await;
    app.send("PUT", "/", &[]).await;
    gate.notify_one();
    assert_eq!(first.await.unwrap().text(), "1");
    assert!(!app.get("/").await.is_hit());
}

#[test]
fn a_runtime_without_timers_is_survived() {
    static PANICS: Mutex<usize> = Mutex::new(0);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.to_string().contains("timers") {
            *PANICS.lock().unwrap() += 1;
        }
        before(info);
    }));
    runtime.block_on(async {
        let app = App::new(Origin::with(FRESH));
        for number in 0..10 {
            app.get(&format!("/{number}")).await;
            tokio::task::yield_now().await;
        }
    });
    assert!(*PANICS.lock().unwrap() <= 1, "{:?}", PANICS.lock());
}

#[tokio::test(start_paused = true)]
async fn a_change_whose_client_left_before_the_answer_ends_what_is_stored() {
    let app = App::new(Origin::new(|call| async move {
        if call.request.method == Method::POST {
            // The change is made; the answer takes longer than the client has patience.
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
        Ok(answer(200, &[("cache-control", "max-age=60")], "the body"))
    }));
    app.get("/").await;
    assert!(app.get("/").await.is_hit());
    let left = tokio::time::timeout(Duration::from_secs(1), app.send("POST", "/", &[])).await;
    assert!(left.is_err());
    app.cache.flush().await;
    assert!(!app.get("/").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn closing_does_not_wait_for_a_handler_that_hangs_behind_the_scenes() {
    let app = App::new(Origin::new(|call| async move {
        if call.number > 1 {
            std::future::pending::<()>().await;
        }
        let fresh = "max-age=1, stale-while-revalidate=60";
        Ok(answer(200, &[("cache-control", fresh)], "the body"))
    }));
    app.get("/").await;
    after(2.5).await;
    assert_eq!(app.get("/").await.text(), "the body");
    let closed = tokio::time::timeout(Duration::from_secs(10), app.cache.close()).await;
    assert!(closed.is_ok_and(|closed| closed.is_ok()));
}

#[tokio::test(start_paused = true)]
async fn what_was_invalidated_while_the_handler_failed_is_not_served_stale() {
    let app = App::new(Origin::new(|call| async move {
        let fields = [("cache-control", "max-age=1")];
        match (call.request.method == Method::POST, call.number) {
            (true, _) => Ok(answer(200, &[], "")),
            (false, 1) => Ok(answer(200, &fields, "the body")),
            (false, _) => {
                tokio::time::sleep(Duration::from_secs(2)).await;
                Ok(answer(500, &[], "failed"))
            }
        }
    }));
    app.get("/").await;
    after(2.5).await;
    let (failed, _) = tokio::join!(app.get("/"), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        app.send("POST", "/", &[]).await
    });
    assert_eq!(failed.status, 500);
}

#[tokio::test(start_paused = true)]
async fn a_body_of_many_small_and_some_large_frames_is_stored_in_order() {
    let parts = ["a", "bc", &"d".repeat(2_000), "e", &"f".repeat(1_024), "g"].map(String::from);
    let whole = parts.concat();
    let app = App::new(Origin::now(move |_| {
        let frames: Vec<_> = parts.iter().cloned().map(Ok::<_, Infallible>).collect();
        let body = Body::from_stream(futures_util::stream::iter(frames));
        let mut response = answer(200, &[("cache-control", "max-age=60")], "");
        *response.body_mut() = body;
        response
    }));
    assert_eq!(app.get("/").await.text(), whole);
    let hit = app.get("/").await;
    assert!(hit.is_hit());
    assert_eq!(hit.text(), whole);
}

#[tokio::test(start_paused = true)]
async fn the_longest_durations_there_are_are_survived() {
    let endless = Duration::MAX;
    let app = App::changed(Origin::with(&[]), |layer| {
        let layer = layer.follower_wait(endless).default_ttl(endless);
        layer.stale_if_error(endless)
    });
    app.get("/").await;
    assert!(app.get("/").await.is_hit());
}
