//! Ending what is stored for a URI, or making it stale, because somebody says so.

#![cfg(all(feature = "axum", feature = "memory"))]

mod support;

use std::{sync::Arc, time::Duration};

use axum::{Router, routing::get};
use larder::{
    Cache, CacheLayer, CachePolicy, ErrorKind, Memory, MemoryPolicy, PurgeOptions, QueryKey,
};
use support::{App, Asking, Failing, Mode, Origin, answer, request, send};
use tokio::sync::Notify;

const A: &str = "http://test.example/a";

fn fresh() -> App {
    App::new(Origin::with(&[("cache-control", "max-age=60")]))
}

fn told(answer: &support::Answer) -> (u16, String) {
    (answer.status, answer.told())
}

#[tokio::test(start_paused = true)]
async fn a_purge_ends_what_is_stored_for_the_uri_and_nothing_else() {
    let app = fresh();
    for uri in ["/a", "/a?b", "/a/b", "/b"] {
        app.get(uri).await;
    }
    assert!(app.cache.purge(A).await.unwrap());
    assert!(!app.cache.purge(A).await.unwrap());
    assert_eq!(app.cache.stats().http_invalidated, 1);
    for (uri, is_hit) in [("/a", false), ("/a?b", true), ("/a/b", true), ("/b", true)] {
        assert_eq!(app.get(uri).await.is_hit(), is_hit, "{uri}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_variant_is_purged() {
    let fields = &[("cache-control", "max-age=60"), ("vary", "x-a")];
    let app = App::new(Origin::with(fields));
    for value in ["1", "2", "3"] {
        app.get_with("/a", &[("x-a", value)]).await;
    }
    assert!(app.cache.purge(A).await.unwrap());
    for value in ["1", "2", "3"] {
        assert!(!app.get_with("/a", &[("x-a", value)]).await.is_hit());
    }
}

#[tokio::test(start_paused = true)]
async fn the_scheme_and_the_spelling_of_the_host_do_not_count() {
    for uri in [
        "https://test.example/a",
        "https://TEST.example:443/a",
        "http://test.example:80/a#part",
        "http://user@test.example/a",
    ] {
        let app = fresh();
        app.get("/a").await;
        app.get("https://test.example/a").await;
        assert_eq!(
            app.cache
                .purge_with(uri, PurgeOptions::new())
                .await
                .unwrap(),
            2,
            "{uri}"
        );
        assert!(!app.get("/a").await.is_hit(), "{uri}");
        assert!(!app.get("https://test.example/a").await.is_hit(), "{uri}");
    }
    let app = fresh();
    app.get("/a").await;
    for uri in ["http://test.example:8080/a", "http://other.example/a"] {
        assert!(!app.cache.purge(uri).await.unwrap(), "{uri}");
    }
    assert!(app.get("/a").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_uri_without_a_host_needs_one() {
    let app = fresh();
    app.get("/a").await;
    let error = app.cache.purge("/a").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Settings);
    assert!(error.to_string().contains("PurgeOptions::host"), "{error}");
    let at = |host: &str| PurgeOptions::new().host(host);
    assert_eq!(app.cache.purge_with("/a", at("")).await.unwrap(), 0);
    assert_eq!(
        app.cache
            .purge_with("/a", at("test.example"))
            .await
            .unwrap(),
        1
    );

    let mut nameless = request("GET", "/a", &[]);
    nameless.headers_mut().remove("host");
    send(&app.service, nameless).await;
    assert_eq!(
        app.cache
            .purge_with("/a", at("test.example"))
            .await
            .unwrap(),
        0
    );
    assert_eq!(app.cache.purge_with("/a", at("")).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_uri_of_http_is_refused_and_not_shown() {
    let cache = Cache::memory();
    for uri in ["", "a b", "https://", "ftp://test.example/s3cret"] {
        let error = cache.purge(uri).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Settings, "{uri}");
        assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
    }
    let twice = PurgeOptions::new().host("other.example");
    assert!(cache.purge_with(A, twice).await.is_err());
    let path = PurgeOptions::new().host("test.example/b");
    assert!(cache.purge_with("/a", path).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn another_namespace_is_left_alone() {
    let app = fresh();
    app.get("/a").await;
    assert!(!app.cache.scoped("other").purge(A).await.unwrap());
    assert!(app.get("/a").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_response_made_before_a_purge_is_not_stored() {
    for is_soft in [false, true] {
        let gate = Arc::new(Notify::new());
        let waiting = gate.clone();
        let app = App::new(Origin::new(move |call| {
            let waiting = waiting.clone();
            async move {
                if call.number == 1 {
                    waiting.notified().await;
                }
                Ok(answer(
                    200,
                    &[("cache-control", "max-age=60")],
                    call.number.to_string(),
                ))
            }
        }));
        let early = tokio::spawn({
            let app = app.clone();
            async move { app.get("/a").await }
        });
        tokio::task::yield_now().await;
        assert_eq!(app.calls(), 1);
        match is_soft {
            true => app.cache.purge_soft(A).await.unwrap(),
            false => app.cache.purge(A).await.unwrap(),
        };
        // Nobody waits for it from now on either.
        assert_eq!(app.get("/a").await.text(), "2");
        gate.notify_one();
        assert_eq!(early.await.unwrap().text(), "1");
        assert_eq!(app.get("/a").await.text(), "2", "soft: {is_soft}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_soft_purge_makes_a_response_stale() {
    let app = fresh();
    app.get("/a").await;
    assert!(app.cache.purge_soft(A).await.unwrap());
    let after = app.get("/a").await;
    assert_eq!(told(&after), (200, "larder; fwd=stale; stored".into()));
    assert_eq!(after.text(), "2");
    assert!(app.get("/a").await.is_hit());
    assert!(!app.cache.purge_soft("http://test.example/b").await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_softly_purged_response_stands_in_for_a_failure() {
    let app = App::new(Origin::now(|call| match call.number {
        1 => answer(200, &[("cache-control", "max-age=60")], "kept"),
        _ => answer(503, &[], "broken"),
    }));
    app.get("/a").await;
    app.cache.purge_soft(A).await.unwrap();
    tokio::time::advance(Duration::from_secs(59)).await;
    let instead = app.get("/a").await;
    assert_eq!((instead.status, instead.text()), (200, "kept"));
    // Sixty seconds from the purge on, and not from the end of its freshness.
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(app.get("/a").await.status, 503);
}

#[tokio::test(start_paused = true)]
async fn a_softly_purged_response_answers_while_it_is_revalidated() {
    let fields = &[("cache-control", "max-age=60, stale-while-revalidate=30")];
    let app = App::new(Origin::with(fields));
    app.get("/a").await;
    app.cache.purge_soft(A).await.unwrap();
    tokio::time::advance(Duration::from_secs(10)).await;
    let stale = app.get("/a").await;
    assert_eq!(
        told(&stale),
        (
            200,
            "larder; hit; ttl=-10; detail=stale-while-revalidate".into()
        )
    );
    app.cache.flush().await;
    let next = app.get("/a").await;
    assert!(next.is_hit());
    assert_eq!(next.text(), "2");
}

#[tokio::test(start_paused = true)]
async fn a_softly_purged_response_comes_back_by_a_304() {
    let fields = &[("cache-control", "max-age=60"), ("etag", "\"1\"")];
    let app = App::new(Origin::now(|call| match call.header("if-none-match") {
        Some("\"1\"") => answer(304, fields, ""),
        _ => answer(200, fields, call.number.to_string()),
    }));
    app.get("/a").await;
    app.cache.purge_soft(A).await.unwrap();
    let validated = app.get("/a").await;
    assert_eq!(
        validated.told(),
        "larder; fwd=stale; fwd-status=304; stored"
    );
    assert_eq!(validated.text(), "1");
    assert!(app.get("/a").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_soft_purge_makes_every_variant_stale_and_later_ones_fresh() {
    let fields = &[("cache-control", "max-age=60"), ("vary", "x-a")];
    for cache in [Cache::memory(), Cache::new(Asking::new())] {
        let app = App::on(cache, Origin::with(fields), |layer| layer);
        let ask = async |value| {
            let answer = app.get_with("/a", &[("x-a", value)]).await;
            app.cache.flush().await;
            answer.told()
        };
        ask("1").await;
        ask("2").await;
        for _ in 0..2 {
            // Two in one millisecond.
            assert!(app.cache.purge_soft(A).await.unwrap());
            for value in ["1", "2"] {
                assert_eq!(ask(value).await, "larder; fwd=stale; stored");
                assert!(ask(value).await.contains("; hit"));
            }
        }
        ask("3").await;
        assert!(ask("3").await.contains("; hit"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_soft_purge_does_not_extend_what_the_first_left() {
    let fields = &[("cache-control", "max-age=60, stale-while-revalidate=30")];
    let app = App::new(Origin::with(fields));
    app.get("/a").await;
    app.cache.purge_soft(A).await.unwrap();
    tokio::time::advance(Duration::from_secs(31)).await;
    app.cache.purge_soft(A).await.unwrap();
    assert_eq!(app.get("/a").await.text(), "2");
}

#[tokio::test(start_paused = true)]
async fn purging_works_where_the_backend_has_to_be_asked() {
    let cache = Cache::new(Asking::new());
    let app = App::on(
        cache,
        Origin::with(&[("cache-control", "max-age=60")]),
        |layer| layer,
    );
    let ask = async || {
        let answer = app.get("/a").await;
        app.cache.flush().await;
        answer
    };
    ask().await;
    assert!(app.cache.purge_soft(A).await.unwrap());
    assert_eq!(ask().await.told(), "larder; fwd=stale; stored");
    assert!(app.cache.purge(A).await.unwrap());
    assert_eq!(ask().await.told(), "larder; fwd=uri-miss; stored");
    assert!(ask().await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_purge_that_fails_says_so() {
    for is_soft in [false, true] {
        let backend = Failing::new(Mode::Well);
        let origin = || Origin::with(&[("cache-control", "max-age=60")]);
        let layer = |layer: CacheLayer| layer.purge_method(|_| true);
        let app = App::on(Cache::new(backend.clone()), origin(), layer);
        app.get("/a").await;
        app.cache.flush().await;
        backend.set(Mode::ReadOnly);
        let purged = match is_soft {
            true => app.cache.purge_soft(A).await,
            false => app.cache.purge(A).await,
        };
        assert_eq!(purged.unwrap_err().kind(), ErrorKind::Backend);
        let answer = app.send("PURGE", "/a", &[]).await;
        assert_eq!(told(&answer), (503, "larder; detail=backend".into()));
    }
    let backend = Failing::new(Mode::Down);
    let cache = Cache::builder(backend).ignore_errors(true).build();
    assert!(!cache.purge(A).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_prefix_is_purged_in_memory() {
    for policy in [
        MemoryPolicy::S3Fifo,
        MemoryPolicy::TinyLfu,
        MemoryPolicy::Lru,
    ] {
        let cache = Cache::new(Memory::builder().policy(policy).build());
        let fields = &[("cache-control", "max-age=60"), ("vary", "x-a")];
        let app = App::on(cache, Origin::with(fields), |layer| layer);
        let uris = [
            "/items/1",
            "/items/2?x",
            "https://test.example/items/3",
            "/items",
            "/b",
        ];
        for uri in uris {
            app.get(uri).await;
        }
        app.get("http://other.example/items/1").await;
        let purged = app.cache.purge_prefix("https://test.example/items/").await;
        assert_eq!(purged.unwrap(), 3, "{policy:?}");
        for (uri, is_hit) in uris.into_iter().zip([false, false, false, true, true]) {
            assert_eq!(app.get(uri).await.is_hit(), is_hit, "{policy:?} {uri}");
        }
        assert!(app.get("http://other.example/items/1").await.is_hit());
        let host = app.cache.purge_prefix("http://test.example").await;
        assert_eq!(host.unwrap(), 5, "{policy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn values_are_not_among_what_a_prefix_purges() {
    let app = fresh();
    app.cache.put("http://test.example/a", 1).await.unwrap();
    app.get("/a").await;
    let purged = app.cache.purge_prefix("http://test.example/").await;
    assert_eq!(purged.unwrap(), 1);
    assert!(app.cache.contains("http://test.example/a").await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_prefix_is_not_purged_softly() {
    let options = PurgeOptions::new().prefix().soft();
    let error = Cache::memory().purge_with(A, options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[tokio::test(start_paused = true)]
async fn the_method_is_passed_on_unless_it_is_switched_on() {
    let app = fresh();
    let answer = app.send("PURGE", "/a", &[("purge-mode", "soft")]).await;
    assert_eq!(told(&answer), (200, "larder; fwd=method".into()));
    assert_eq!(app.origin.last().method, "PURGE");
}

fn guarded_by_a_field() -> App {
    let origin = Origin::with(&[("cache-control", "max-age=60")]);
    App::changed(origin, |layer| {
        layer.purge_method(|request| {
            let field = request.headers.get("x-may-purge");
            field.is_some_and(|value| value == "yes")
        })
    })
}

const MAY: (&str, &str) = ("x-may-purge", "yes");

#[tokio::test(start_paused = true)]
async fn who_may_not_purge_learns_nothing() {
    let app = guarded_by_a_field();
    app.get("/a").await;
    let stored = app.send("PURGE", "/a", &[]).await;
    let absent = app.send("PURGE", "/b", &[("purge-mode", "wrong")]).await;
    assert_eq!(told(&stored), (403, String::new()));
    assert_eq!(stored, absent);
    assert!(app.get("/a").await.is_hit());
    assert_eq!(app.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_may_purges_what_a_get_would_bring() {
    let app = guarded_by_a_field();
    app.get("/a").await;
    app.get("/b").await;
    let purged = app.send("PURGE", "/a", &[MAY]).await;
    assert_eq!(told(&purged), (200, "larder; detail=purged".into()));
    let again = app.send("PURGE", "/a", &[MAY]).await;
    assert_eq!(told(&again), (404, "larder; detail=nothing-stored".into()));
    assert_eq!(app.calls(), 2);
    assert!(!app.get("/a").await.is_hit());
    assert!(app.get("/b").await.is_hit());
    let elsewhere = app
        .send("PURGE", "/b", &[MAY, ("host", "other.example")])
        .await;
    assert_eq!(elsewhere.status, 404);
}

#[tokio::test(start_paused = true)]
async fn the_mode_of_a_purge_may_be_soft() {
    let app = guarded_by_a_field();
    app.get("/a").await;
    let purged = app
        .send("PURGE", "/a", &[MAY, ("purge-mode", "Soft")])
        .await;
    assert_eq!(told(&purged), (200, "larder; detail=purged-softly".into()));
    assert_eq!(app.get("/a").await.told(), "larder; fwd=stale; stored");
    let purged = app
        .send("PURGE", "/a", &[MAY, ("purge-mode", "hard")])
        .await;
    assert_eq!(told(&purged), (200, "larder; detail=purged".into()));
}

#[tokio::test(start_paused = true)]
async fn a_purge_that_cannot_be_understood_is_refused() {
    let app = guarded_by_a_field();
    app.get("/a").await;
    for fields in [
        &[MAY, ("purge-mode", "gentle")][..],
        &[MAY, ("purge-mode", "soft"), ("purge-mode", "hard")],
        &[MAY, ("host", "test.example"), ("host", "other.example")],
        &[MAY, ("host", "test.example/b")],
    ] {
        let answer = app.send("PURGE", "/a", fields).await;
        assert_eq!(answer.status, 400, "{fields:?}");
    }
    assert!(app.get("/a").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_purge_inside_nested_routers_goes_by_the_path_that_clients_know() {
    let cache = Cache::memory();
    let layer = CacheLayer::new(cache).default_ttl(Duration::from_secs(60));
    let layer = layer.purge_method(|_| true);
    let items = Router::new()
        .route("/items", get(|| async { "" }))
        .layer(layer);
    let app = Router::new().nest("/v1", items);
    let ask = async |method, uri| send(&app, request(method, uri, &[])).await;
    ask("GET", "/v1/items").await;
    assert!(ask("GET", "/v1/items").await.is_hit());
    assert_eq!(ask("PURGE", "/v1/items").await.status, 200);
    assert!(!ask("GET", "/v1/items").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn the_method_goes_by_the_policy_that_the_key_was_made_by() {
    let policy = CachePolicy::new()
        .ttl(Duration::from_secs(60))
        .query(QueryKey::ignore(["utm_source"]))
        .vary_by_header("x-a");
    let app = App::changed(Origin::with(&[]), |layer| {
        layer.policy(policy).unwrap().purge_method(|_| true)
    });
    let ask = async |value| app.get_with("/a?b=1&utm_source=x", &[("x-a", value)]).await;
    for fields in [&[][..], &[("purge-mode", "soft")]] {
        for value in ["1", "2"] {
            ask(value).await;
            assert!(ask(value).await.is_hit());
        }
        let purged = app.send("PURGE", "/a?b=1&utm_source=y", fields).await;
        assert_eq!(purged.status, 200);
        for value in ["1", "2"] {
            assert!(!ask(value).await.is_hit(), "{fields:?}");
        }
    }
    assert!(app.cache.purge("http://test.example/a?b=1").await.unwrap());
}
