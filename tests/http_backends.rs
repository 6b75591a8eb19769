//! The layer on backends that have to be asked, that fail, and that were closed.

#![cfg(all(feature = "axum", feature = "memory"))]

mod support;

use http::header::DATE;
use larder::{Cache, ErrorKind, Null};
use support::{Answer, App, Asking, Call, Failing, Mode, Origin, after, answer};

/// Fresh for a minute, and stale for another; by `/vary` per `x-a`; with a tag that never changes.
fn origin() -> Origin {
    Origin::now(|call: Call| {
        let mut fields = vec![
            ("cache-control", "max-age=60, stale-while-revalidate=5"),
            ("etag", "\"a\""),
        ];
        match call.request.uri.path() {
            "/vary" => fields.push(("vary", "x-a")),
            "/tag" if call.header("if-none-match") == Some("\"a\"") => {
                return answer(304, &fields, "");
            }
            "/private" => fields = vec![("cache-control", "private")],
            "/down" if call.number > 1 => return answer(503, &[], "down"),
            _ => {}
        }
        let text = format!("{} {}", call.request.method, call.request.uri);
        answer(200, &fields, text)
    })
}

/// One request after the other, with everything written before the next.
async fn course(cache: Cache) -> Vec<Answer> {
    let app = App::on(cache, origin(), |layer| layer);
    let mut answers = Vec::new();
    let x_a = |value| ("x-a", value);
    let none_match = ("if-none-match", "\"a\"");
    let no_cache = ("cache-control", "no-cache");
    let only = ("cache-control", "only-if-cached");
    for (method, uri, fields, seconds) in [
        ("GET", "/down", &[][..], 0.5),
        ("GET", "/plain", &[], 0.0),
        ("GET", "/plain", &[], 0.0),
        ("HEAD", "/plain", &[], 0.0),
        ("GET", "/plain", &[none_match], 0.0),
        ("GET", "/plain", &[only], 0.0),
        ("GET", "/other", &[only], 0.0),
        ("GET", "/other", &[none_match], 0.0),
        ("GET", "/other", &[], 0.0),
        ("GET", "/private", &[], 0.0),
        ("GET", "/private", &[], 0.0),
        ("GET", "/vary", &[x_a("1")], 0.0),
        ("GET", "/vary", &[x_a("2")], 0.0),
        ("GET", "/vary", &[x_a("1")], 0.0),
        ("GET", "/vary", &[], 0.0),
        ("HEAD", "/vary", &[x_a("2")], 0.0),
        ("GET", "/tag", &[], 0.0),
        ("GET", "/tag", &[no_cache], 62.0),
        ("GET", "/tag", &[], 0.0),
        ("GET", "/tag", &[], 10.0),
        ("GET", "/plain", &[], 0.0),
        ("GET", "/down", &[], 0.0),
        ("GET", "/down", &[no_cache], 0.0),
        ("GET", "/vary", &[x_a("1")], 0.0),
        ("POST", "/vary", &[], 0.0),
        ("GET", "/vary", &[x_a("1"), only], 0.0),
        ("GET", "/vary", &[x_a("2"), only], 0.0),
        ("GET", "/vary", &[x_a("1")], 0.0),
        ("POST", "/plain", &[], 0.0),
        ("GET", "/plain", &[], 0.0),
    ] {
        let mut answer = app.send(method, uri, fields).await;
        answer.headers.remove(DATE);
        answers.push(answer);
        support::settle().await;
        app.cache.flush().await;
        after(seconds).await;
    }
    answers
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_has_to_be_asked_gives_the_same_answers() {
    let at_once = course(Cache::memory()).await;
    let asked = course(Cache::new(Asking::new())).await;
    for (number, (one, other)) in at_once.iter().zip(&asked).enumerate() {
        assert_eq!(one, other, "request {number}");
    }
    let hits = asked.iter().filter(|answer| answer.is_hit()).count();
    assert!(hits > 8, "{hits}");
}

#[tokio::test(start_paused = true)]
async fn after_a_flush_the_next_request_is_a_hit() {
    let app = App::on(Cache::new(Asking::new()), origin(), |layer| layer);
    for (uri, fields) in [("/plain", &[][..]), ("/vary", &[("x-a", "1")])] {
        app.get_with(uri, fields).await;
        app.cache.flush().await;
        assert!(app.get_with(uri, fields).await.is_hit(), "{uri}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_processes_that_share_a_backend_answer_for_each_other() {
    let backend = Asking::new();
    let here = App::on(Cache::new(backend.clone()), origin(), |layer| layer);
    let there = App::on(Cache::new(backend), origin(), |layer| layer);
    for (uri, fields) in [("/plain", &[][..]), ("/vary", &[("x-a", "1")])] {
        here.get_with(uri, fields).await;
        here.cache.flush().await;
        assert!(there.get_with(uri, fields).await.is_hit(), "{uri}");
        there.send("POST", uri, &[]).await;
        assert!(!here.get_with(uri, fields).await.is_hit(), "{uri}");
    }
}

/// What a client sees who asks as everybody does.
async fn is_served(app: &App) {
    for (method, uri, fields, status) in [
        ("GET", "/plain", &[][..], 200),
        ("GET", "/plain", &[], 200),
        ("HEAD", "/plain", &[], 200),
        ("GET", "/plain", &[("if-none-match", "\"a\"")], 304),
        ("GET", "/vary", &[("x-a", "1")], 200),
        ("GET", "/vary", &[("x-a", "2")], 200),
        ("GET", "/plain", &[("cache-control", "no-cache")], 200),
        ("GET", "/private", &[], 200),
        ("POST", "/plain", &[], 200),
        ("DELETE", "/vary", &[], 200),
        ("OPTIONS", "/plain", &[], 200),
    ] {
        let answer = app.send(method, uri, fields).await;
        assert_eq!(answer.status, status, "{method} {uri}");
        assert!(answer.is_whole);
        if status == 200 && method != "HEAD" {
            assert_eq!(answer.text(), format!("{method} {uri}"));
        }
        support::settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_fails_fails_no_request() {
    for mode in [Mode::Down, Mode::ReadOnly] {
        let app = App::on(Cache::new(Failing::new(mode)), origin(), |layer| layer);
        is_served(&app).await;
        assert!(app.cache.stats().errors > 0);
        assert_eq!(app.cache.stats().http_hits, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_comes_back_is_used_again() {
    let backend = Failing::new(Mode::Down);
    let app = App::on(Cache::new(backend.clone()), origin(), |layer| layer);
    is_served(&app).await;
    backend.set(Mode::Well);
    for (uri, fields) in [("/plain", &[][..]), ("/vary", &[("x-a", "1")])] {
        app.get_with(uri, fields).await;
        app.cache.flush().await;
        assert!(app.get_with(uri, fields).await.is_hit(), "{uri}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_fails_in_between_fails_no_request() {
    let backend = Failing::new(Mode::Well);
    let app = App::on(Cache::new(backend.clone()), origin(), |layer| layer);
    is_served(&app).await;
    for mode in [Mode::Down, Mode::ReadOnly, Mode::Well] {
        after(61.0).await;
        backend.set(mode);
        is_served(&app).await;
    }
}

#[tokio::test(start_paused = true)]
async fn concurrent_misses_on_a_failing_backend_are_all_answered() {
    let app = App::on(
        Cache::new(Failing::new(Mode::ReadOnly)),
        origin(),
        |layer| layer,
    );
    let spawned: Vec<_> = (0..100)
        .map(|_| {
            let app = app.clone();
            tokio::spawn(async move { app.get("/plain").await.status })
        })
        .collect();
    for status in spawned {
        assert_eq!(status.await.unwrap(), 200);
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_never_ends_keeps_no_client_waiting() {
    let app = App::on(
        Cache::new(Failing::new(Mode::WritesHang)),
        origin(),
        |layer| layer,
    );
    let before = tokio::time::Instant::now();
    assert_eq!(app.get("/plain").await.text(), "GET /plain");
    assert_eq!(before.elapsed(), std::time::Duration::ZERO);
    // Others wait for what is being stored, and no longer than they ever do.
    assert_eq!(app.get("/plain").await.text(), "GET /plain");
    assert!(before.elapsed() < std::time::Duration::from_secs(6));
}

#[tokio::test(start_paused = true)]
async fn a_closed_cache_goes_on_serving() {
    let app = App::on(Cache::memory(), origin(), |layer| layer);
    app.get("/plain").await;
    assert!(app.get("/plain").await.is_hit());
    app.cache.close().await.unwrap();
    is_served(&app).await;
    assert!(!app.get("/plain").await.is_hit());
    let error = app.cache.ping().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn the_null_backend_stores_nothing_and_serves() {
    let app = App::on(Cache::new(Null), origin(), |layer| layer);
    is_served(&app).await;
    assert_eq!(app.cache.stats().http_hits, 0);
}

#[tokio::test(start_paused = true)]
async fn clearing_the_cache_ends_its_responses() {
    for cache in [Cache::memory(), Cache::new(Asking::new())] {
        let app = App::on(cache, origin(), |layer| layer);
        app.get("/plain").await;
        app.get_with("/vary", &[("x-a", "1")]).await;
        app.cache.flush().await;
        app.cache.clear().await.unwrap();
        assert!(!app.get("/plain").await.is_hit());
        assert!(!app.get_with("/vary", &[("x-a", "1")]).await.is_hit());
    }
}

#[tokio::test(start_paused = true)]
async fn namespaces_keep_their_responses_apart() {
    let cache = Cache::memory();
    let shop = App::on(cache.scoped("shop"), origin(), |layer| layer);
    let blog = App::on(cache.scoped("blog"), origin(), |layer| layer);
    shop.get("/plain").await;
    assert!(!blog.get("/plain").await.is_hit());
    blog.cache.clear().await.unwrap();
    assert!(shop.get("/plain").await.is_hit());
}
