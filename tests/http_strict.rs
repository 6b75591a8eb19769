//! In strict mode a handler sees what is in the key, and nothing else.

#![cfg(all(feature = "axum", feature = "memory", feature = "testing"))]

mod support;

use std::time::Duration;

use axum::{
    Router,
    extract::{OriginalUri, Request},
    routing::any,
};
use larder::{
    Cache, CacheLayer, CachePolicy, Policies, QueryKey, Reason,
    testing::{LeakKind, LeakTest},
};
use support::{App, Origin, after, answer, request, send};

const PUBLIC: (&str, &str) = ("cache-control", "public, max-age=60");

/// Shows everything that it can see of a request.
async fn nosy(
    OriginalUri(original): OriginalUri,
    request: Request,
) -> impl axum::response::IntoResponse {
    let (head, _) = request.into_parts();
    let text = format!(
        "{} {} {original}\n{:?}",
        head.method, head.uri, head.headers
    );
    ([PUBLIC], text)
}

fn app(change: impl Fn(CacheLayer) -> CacheLayer) -> Router {
    let layer = change(CacheLayer::new(Cache::memory()));
    let inside = Router::new().route("/page", any(nosy));
    Router::new()
        .route("/", any(nosy))
        .nest("/nested", inside)
        .layer(layer)
}

fn leaks(change: fn(CacheLayer) -> CacheLayer) -> LeakTest {
    let test = LeakTest::new(move || app(change)).paths(["/", "/nested/page"]);
    // The answer to HEAD is the one to GET, which says that it was one.
    test.methods(["OPTIONS", "POST"]).headers([
        "x-own",
        "cache-control",
        "connection",
        "if-none-match",
        "if-range",
        "pragma",
        "te",
    ])
}

fn declared() -> CachePolicy {
    CachePolicy::new()
        .query(QueryKey::only(["page"]))
        .sort_query(true)
        .vary_by_header("accept-language")
        .vary_by_header("x-own")
        .vary_by_cookie("theme")
}

#[tokio::test(start_paused = true)]
async fn a_nosy_handler_leaks_without_it() {
    for change in [
        |layer| layer,
        |layer: CacheLayer| layer.policy(declared()).unwrap(),
    ] {
        let leak = leaks(change).run().await.unwrap_err();
        assert_eq!(leak.kind(), LeakKind::Crossed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_nosy_handler_leaks_nothing() {
    let report = leaks(CacheLayer::strict).run().await.unwrap();
    assert!(
        report.is_complete() && report.paths_without_hits().count() == 0,
        "{report}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_nosy_handler_leaks_nothing_of_what_its_policy_declares() {
    let strict = |layer: CacheLayer| layer.strict().policy(declared()).unwrap();
    for seed in 0..3 {
        let test = leaks(strict).pauses(Duration::from_secs(40)).seed(seed);
        let report = test.run().await.unwrap();
        assert_eq!(report.paths_without_hits().count(), 0, "{report}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_is_strict_for_its_own_routes() {
    let policies = Policies::builder()
        .route("/", CachePolicy::new().strict())
        .build()
        .unwrap();
    assert!(policies.to_string().contains("strict"), "{policies}");
    let make = move || app(|layer| layer.policies(policies.clone()).unwrap());
    let test = |path| LeakTest::new(make.clone()).methods([]).paths([path]);
    assert!(test("/").run().await.unwrap().hits() > 0);
    let leak = test("/nested/page").run().await.unwrap_err();
    assert_eq!(leak.kind(), LeakKind::Crossed);
}

/// Answers with what it sees of the fields that are given, and `response`.
fn showing(
    fields: &'static [&'static str],
    response: &'static [(&'static str, &'static str)],
) -> Origin {
    Origin::new(move |call| async move {
        let seen = fields.iter().map(|name| call.header(name).unwrap_or("-"));
        let seen: Vec<_> = seen.collect();
        Ok(answer(200, response, seen.join(" ")))
    })
}

fn strict(origin: Origin) -> App {
    App::changed(origin, CacheLayer::strict)
}

#[tokio::test]
async fn what_is_not_for_the_cache_is_left_as_it_is() {
    let app = strict(showing(&["authorization", "cookie"], &[PUBLIC]));
    let own = [("authorization", "Bearer 1"), ("cookie", "sid=1")];
    assert_eq!(app.get_with("/", &own).await.text(), "- -");
    for beside in [
        ("cache-control", "no-store"),
        ("if-match", "*"),
        ("content-length", "3"),
    ] {
        let seen = app.get_with("/other", &[own[0], own[1], beside]).await;
        assert_eq!(seen.text(), "Bearer 1 sid=1", "{beside:?}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let seen = app.send(method, "/", &own).await;
        assert_eq!(seen.text(), "Bearer 1 sid=1", "{method}");
    }
}

#[tokio::test]
async fn an_undeclared_vary_is_not_stored() {
    let app = strict(showing(&["accept"], &[PUBLIC, ("vary", "accept, host")]));
    let first = app.get("/").await;
    assert_eq!(first.told(), "larder; fwd=uri-miss; detail=undeclared-vary");
    assert!(!app.get("/").await.is_hit());
    assert_eq!(app.cache.stats().reasons[Reason::UndeclaredVary], 2);
}

#[tokio::test]
async fn a_declared_vary_is_stored() {
    let policy = || {
        CachePolicy::new()
            .vary_by_header("accept")
            .vary_by_cookie("theme")
    };
    let origin = showing(&["accept", "cookie"], &[PUBLIC, ("vary", "accept, cookie")]);
    let app = App::changed(origin, |layer| layer.strict().policy(policy()).unwrap());
    let fields = [("accept", "text/html"), ("cookie", "sid=1; theme=dark")];
    assert_eq!(
        app.get_with("/", &fields).await.text(),
        "text/html theme=dark"
    );
    assert!(app.get_with("/", &fields).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn the_conditions_of_the_cache_itself_are_seen() {
    let origin = Origin::new(|call| async move {
        let fields = [PUBLIC, ("etag", "\"a\"")];
        match call.header("if-none-match") {
            Some("\"a\"") => Ok(answer(304, &fields, "")),
            Some(other) => Ok(answer(200, &[PUBLIC], format!("asked for {other}"))),
            None => Ok(answer(200, &fields, "whole")),
        }
    });
    let app = strict(origin);
    let known = [("if-none-match", "\"b\"")];
    // The conditions of the client are answered by the layer, whatever the handler would make of them.
    assert_eq!(app.get_with("/", &known).await.text(), "whole");
    after(61.5).await;
    let validated = app.get_with("/", &known).await;
    assert_eq!((validated.status, validated.text()), (200, "whole"));
    assert!(
        validated.told().contains("fwd-status=304"),
        "{}",
        validated.told()
    );
    assert_eq!(
        app.get_with("/", &[("if-none-match", "\"a\"")])
            .await
            .status,
        304
    );
}

#[tokio::test(start_paused = true)]
async fn the_conditions_of_a_client_are_not_seen_where_nothing_was_shared_lately() {
    let app = strict(showing(
        &["if-none-match"],
        &[("cache-control", "private"), ("etag", "\"a\"")],
    ));
    let known = [("if-none-match", "\"a\"")];
    for _ in 0..3 {
        assert_eq!(app.get_with("/", &known).await.status, 304);
    }
    assert_eq!(app.get("/").await.text(), "-");
}

#[tokio::test]
async fn nothing_is_stored_that_would_not_be_without_it() {
    let change = |layer: CacheLayer| layer.strict().default_ttl(Duration::from_secs(60));
    let app = App::changed(showing(&["cookie"], &[]), change);
    let own = [("cookie", "sid=1")];
    assert_eq!(app.get_with("/", &own).await.text(), "-");
    assert!(!app.get_with("/", &own).await.is_hit());
}

#[tokio::test]
async fn the_answer_to_a_post_is_not_stored_for_gets() {
    let fields = &[PUBLIC, ("content-location", "/")];
    let app = strict(showing(&["cookie"], fields));
    assert_eq!(
        app.send("POST", "/", &[("cookie", "sid=1")]).await.text(),
        "sid=1"
    );
    assert_eq!(app.get("/").await.text(), "-");
}

#[tokio::test]
async fn a_handler_in_a_nested_router_sees_no_undeclared_parameter_of_the_original_uri() {
    let strict = |layer: CacheLayer| layer.strict().policy(declared()).unwrap();
    let app = app(strict);
    let seen = send(&app, request("GET", "/nested/page?secret=1&page=2", &[])).await;
    assert!(
        seen.text()
            .starts_with("GET /page?page=2 /nested/page?page=2"),
        "{}",
        seen.text()
    );
}

#[tokio::test]
async fn what_is_answered_to_a_range_is_seen_and_not_stored() {
    let app = strict(showing(&["range", "if-range"], &[PUBLIC]));
    for range in ["bytes=0-1", "zq=1", "zq"] {
        let fields = [("range", range), ("if-range", "\"zq\"")];
        let whole = app.get_with("/", &fields).await;
        assert_eq!(whole.text(), format!("{range} \"zq\""));
        assert!(!whole.is_stored(), "{}", whole.told());
    }
    assert_eq!(
        app.get_with("/", &[("if-range", "\"zq\"")]).await.text(),
        "- -"
    );
}

#[tokio::test]
async fn the_conditions_of_a_head_request_are_answered_by_the_layer() {
    let app = strict(showing(&["if-none-match"], &[PUBLIC, ("etag", "\"a\"")]));
    let head = async |tag| {
        app.send("HEAD", "/", &[("if-none-match", tag)])
            .await
            .status
    };
    assert_eq!((head("\"a\"").await, head("\"b\"").await), (304, 200));
}

#[tokio::test]
async fn a_head_request_is_narrowed_too() {
    let origin = Origin::new(|call| async move {
        let seen = call.header("authorization").unwrap_or("-").to_owned();
        Ok(answer(200, &[PUBLIC, ("x-seen", &seen)], ""))
    });
    let app = strict(origin);
    let seen = app
        .send("HEAD", "/", &[("authorization", "Bearer 1")])
        .await;
    assert_eq!(seen.header("x-seen"), Some("-"));
}
