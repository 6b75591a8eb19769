//! The tags of responses: what handlers name, what clients see of it, and what ends with them.

#![cfg(all(feature = "axum", feature = "memory"))]

mod support;

use axum::{Json, Router, routing::get};
use larder::{Cache, CacheControl, CacheLayer, CacheTags, Reason, TagField};
use support::{Answer, App, Origin, answer, request, send};

const TAGGED: &[(&str, &str)] = &[
    ("cache-control", "max-age=60"),
    ("cache-tag", "user:7, users"),
    ("surrogate-key", "page users"),
];

fn sees_tags(answer: &Answer) -> bool {
    ["cache-tag", "surrogate-key"]
        .iter()
        .any(|name| answer.header(name).is_some())
}

#[tokio::test(start_paused = true)]
async fn clients_see_no_tags() {
    let app = App::new(Origin::with(TAGGED));
    for (method, fields) in [
        ("GET", &[][..]),
        ("GET", &[]),
        ("HEAD", &[]),
        ("GET", &[("cache-control", "no-cache")]),
        ("GET", &[("cache-control", "no-store")]),
        ("GET", &[("range", "bytes=0-1")]),
        ("OPTIONS", &[]),
        ("POST", &[]),
    ] {
        let answer = app.send(method, "/", fields).await;
        assert_eq!(answer.status, 200);
        assert!(!sees_tags(&answer), "{method} {fields:?} {}", answer.told());
    }
}

#[tokio::test(start_paused = true)]
async fn what_becomes_another_protocol_is_left_as_it_is() {
    let app = App::new(Origin::with(TAGGED));
    let answer = app.get_with("/", &[("upgrade", "h2c")]).await;
    assert_eq!(answer.header("cache-tag"), Some("user:7, users"));
}

#[tokio::test(start_paused = true)]
async fn a_layer_inside_another_leaves_the_tags_to_it() {
    let cache = Cache::memory();
    let app = Router::new()
        .route(
            "/",
            get(|| async { (CacheTags::new(["a"]), [("cache-tag", "b")]) }),
        )
        .layer(CacheLayer::new(cache.clone()))
        .layer(CacheLayer::new(cache).pass_tags(TagField::CacheTag));
    for method in ["GET", "POST", "OPTIONS"] {
        let answer = send(&app, request(method, "/", &[("cache-control", "no-store")])).await;
        let expected = Some("b,a").filter(|_| method == "GET");
        assert_eq!(answer.header("cache-tag"), expected, "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn tags_are_passed_on_in_one_field_when_asked() {
    for (field, name, line) in [
        (TagField::CacheTag, "cache-tag", "user:7,users,page"),
        (TagField::SurrogateKey, "surrogate-key", "user:7 users page"),
    ] {
        let app = App::changed(Origin::with(TAGGED), |layer| layer.pass_tags(field));
        for _ in 0..2 {
            let answer = app.get("/").await;
            assert_eq!(answer.header(name), Some(line), "{}", answer.told());
            let values = answer
                .headers
                .keys()
                .filter(|name| ["cache-tag", "surrogate-key"].contains(&name.as_str()));
            assert_eq!(values.count(), 1);
        }
        let bypass = app.get_with("/", &[("cache-control", "no-store")]).await;
        assert_eq!(bypass.header(name), Some(line));
        assert_eq!(app.calls(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_tags_its_response_by_a_response_part() {
    async fn user() -> (CacheControl, CacheTags, CacheTags, Json<u8>) {
        let minute = std::time::Duration::from_secs(60);
        let control = CacheControl::new().max_age(minute);
        (
            control,
            CacheTags::new(["user:7"]),
            CacheTags::new(["users", "user:7"]),
            Json(7),
        )
    }
    let layer = CacheLayer::new(Cache::memory()).pass_tags(TagField::SurrogateKey);
    let app = Router::new().route("/", get(user)).layer(layer);
    for _ in 0..2 {
        let answer = send(&app, request("GET", "/", &[])).await;
        assert_eq!(answer.header("surrogate-key"), Some("user:7 users"));
        assert_eq!(answer.text(), "7");
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_with_too_many_or_too_long_tags_is_not_stored() {
    let many = |count: usize| {
        (0..count)
            .map(|tag| tag.to_string())
            .collect::<Vec<_>>()
            .join(",")
    };
    for (tags, is_stored) in [
        (many(64), true),
        (many(65), false),
        ("x".repeat(256), true),
        ("x".repeat(257), false),
        (["x"; 100].join(","), true),
    ] {
        let line = tags.clone();
        let app = App::new(Origin::now(move |_| {
            let fields = [("cache-control", "max-age=60"), ("cache-tag", &line)];
            answer(200, &fields, "")
        }));
        let answer = app.get("/").await;
        assert_eq!(answer.is_stored(), is_stored, "{}", answer.told());
        assert_eq!(app.get("/").await.is_hit(), is_stored);
        let refused = app.cache.stats().reasons[Reason::Tags];
        assert_eq!(refused, if is_stored { 0 } else { 2 });
    }
}
