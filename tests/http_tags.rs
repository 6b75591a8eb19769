//! The tags of responses: what handlers name, what clients see of it, and what ends with them.

#![cfg(all(feature = "axum", feature = "memory"))]

mod support;

use std::{future::ready, sync::Arc, time::Duration};

use axum::{Json, Router, body::Body, routing::get};
use bytes::Bytes;
use futures_util::stream;
use http::Response;
use larder::{
    Cache, CacheControl, CacheLayer, CachePolicy, CacheTags, PutOptions, Reason, TagField,
};
use support::{Answer, App, Asking, Origin, answer, request, send};
use tokio::sync::Notify;

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
        assert!(answer.status < 300);
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

async fn is_there(app: &App, uri: &str) -> bool {
    let there = app
        .get_with(uri, &[("cache-control", "only-if-cached")])
        .await;
    there.is_hit()
}

/// In memory, and where the backend has to be asked.
fn caches() -> [Cache; 2] {
    [Cache::memory(), Cache::new(Asking::new())]
}

/// An app on `cache` that asks for tags from the first response on.
async fn warm(cache: Cache, origin: Origin, change: fn(CacheLayer) -> CacheLayer) -> App {
    let app = App::on(cache, origin, change);
    app.get("/warm").await;
    app.cache.flush().await;
    app
}

#[tokio::test(start_paused = true)]
async fn a_response_ends_with_each_of_its_tags_and_no_other_response_does() {
    for cache in caches() {
        let origin = Origin::now(|call| {
            let (field, line) = match call.request.uri.path() {
                "/a" => ("cache-tag", "one, two"),
                "/b" => ("surrogate-key", "two three"),
                _ => ("cache-tag", "other"),
            };
            let fields = [("cache-control", "max-age=60"), (field, line)];
            let mut answer = answer(200, &fields, "");
            answer.extensions_mut().insert(CacheTags::new(["all"]));
            answer
        });
        let app = warm(cache, origin, |layer| layer).await;
        for (tag, ended) in [
            ("one", &["/a"][..]),
            ("two", &["/a", "/b"]),
            ("three", &["/b"]),
            ("all", &["/a", "/b", "/c"]),
            ("ONE", &[]),
        ] {
            for uri in ["/a", "/b", "/c"] {
                app.get(uri).await;
                app.cache.flush().await;
            }
            app.cache.invalidate_tag(tag).await.unwrap();
            for uri in ["/a", "/b", "/c"] {
                assert_eq!(
                    is_there(&app, uri).await,
                    !ended.contains(&uri),
                    "{tag} {uri}"
                );
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_variant_ends_with_its_tags_and_the_others_stay() {
    for cache in caches() {
        let origin = Origin::now(|call| {
            let tag = call.header("x-a").unwrap_or("none").to_owned();
            let fields = [
                ("cache-control", "max-age=60"),
                ("vary", "x-a"),
                ("cache-tag", &tag),
            ];
            answer(200, &fields, call.number.to_string())
        });
        let app = warm(cache, origin, |layer| layer).await;
        let ask = async |value| {
            let answer = app.get_with("/", &[("x-a", value)]).await;
            app.cache.flush().await;
            answer.is_hit()
        };
        for value in ["1", "2"] {
            ask(value).await;
        }
        app.cache.invalidate_tag("1").await.unwrap();
        assert!(!ask("1").await);
        assert!(ask("2").await);
        assert!(
            ask("1").await,
            "it is stored again in the place of the one that ended"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_tagged_response_is_stored_in_memory_and_makes_a_layer_on_a_server_ask() {
    for (cache, is_stored) in caches().into_iter().zip([true, false]) {
        let app = App::on(cache, Origin::with(TAGGED), |layer| layer);
        app.get("/").await;
        app.cache.flush().await;
        assert_eq!(is_there(&app, "/").await, is_stored);
        app.get("/").await;
        app.cache.flush().await;
        assert!(is_there(&app, "/").await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_expects_tags_stores_the_first_tagged_response_on_a_server_too() {
    type Change = fn(CacheLayer) -> CacheLayer;
    let told: Change = |layer| layer.expect_tags();
    let by_policy: Change = |layer| layer.policy(CachePolicy::new().tag("pages")).unwrap();
    for change in [told, by_policy] {
        let app = App::on(Cache::new(Asking::new()), Origin::with(TAGGED), change);
        app.get("/").await;
        app.cache.flush().await;
        assert!(is_there(&app, "/").await);
        app.cache.invalidate_tag("user:7").await.unwrap();
        assert!(!is_there(&app, "/").await);
    }
}

#[tokio::test(start_paused = true)]
async fn an_expired_tag_makes_a_response_stale() {
    for cache in caches() {
        let fields = &[
            ("cache-control", "max-age=60"),
            ("etag", "\"1\""),
            ("cache-tag", "a"),
        ];
        let origin = Origin::now(|call| match call.header("if-none-match") {
            Some(_) => answer(304, &[("etag", "\"1\"")], ""),
            None => answer(200, fields, call.number.to_string()),
        });
        let app = warm(cache, origin, |layer| layer).await;
        app.get("/").await;
        app.cache.flush().await;
        for _ in 0..2 {
            app.cache.expire_tag("a").await.unwrap();
            let validated = app.get("/").await;
            assert_eq!(
                validated.told(),
                "larder; fwd=stale; fwd-status=304; stored"
            );
            assert_eq!(validated.text(), "2");
            app.cache.flush().await;
            assert!(app.get("/").await.is_hit());
        }
        app.cache.invalidate_tag("a").await.unwrap();
        assert!(!is_there(&app, "/").await, "a 304 keeps the tags");
    }
}

#[tokio::test(start_paused = true)]
async fn a_304_brings_tags_with_it() {
    let origin = Origin::now(|call| match call.header("if-none-match") {
        Some(_) => answer(304, &[("etag", "\"1\""), ("cache-tag", "new")], ""),
        None => {
            let fields = [
                ("cache-control", "max-age=60"),
                ("etag", "\"1\""),
                ("cache-tag", "old"),
            ];
            answer(200, &fields, "")
        }
    });
    for tag in ["old", "new"] {
        let app = App::changed(origin.clone(), |layer| layer.pass_tags(TagField::CacheTag));
        app.get("/").await;
        assert_eq!(app.get("/").await.header("cache-tag"), Some("old"));
        app.cache.expire_tag("old").await.unwrap();
        app.get("/").await;
        assert_eq!(app.get("/").await.header("cache-tag"), Some("new,old"));
        app.cache.invalidate_tag(tag).await.unwrap();
        assert!(!is_there(&app, "/").await, "{tag}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_with_an_expired_tag_stands_in_for_a_failure_for_a_minute() {
    let app = App::new(Origin::now(|call| match call.number {
        1 => answer(
            200,
            &[("cache-control", "max-age=600"), ("cache-tag", "a")],
            "kept",
        ),
        _ => answer(503, &[], "broken"),
    }));
    app.get("/").await;
    app.cache.expire_tag("a").await.unwrap();
    tokio::time::advance(Duration::from_secs(59)).await;
    assert_eq!(app.get("/").await.text(), "kept");
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(app.get("/").await.text(), "broken");
}

#[tokio::test(start_paused = true)]
async fn a_response_with_an_expired_tag_answers_while_it_is_revalidated() {
    let fields = &[
        ("cache-control", "max-age=60, stale-while-revalidate=30"),
        ("cache-tag", "a"),
    ];
    let app = App::new(Origin::with(fields));
    app.get("/").await;
    app.cache.expire_tag("a").await.unwrap();
    assert_eq!(app.get("/").await.text(), "1");
    app.cache.flush().await;
    let next = app.get("/").await;
    assert_eq!((next.text(), next.is_hit()), ("2", true));
}

#[tokio::test(start_paused = true)]
async fn a_soft_purge_keeps_the_tags() {
    let app = App::new(Origin::with(&[
        ("cache-control", "max-age=60, stale-while-revalidate=30"),
        ("cache-tag", "a"),
    ]));
    app.get("/").await;
    app.cache.purge_soft("http://test.example/").await.unwrap();
    app.cache.invalidate_tag("a").await.unwrap();
    assert!(!app.get("/").await.is_hit());
}

/// The first call waits at the gate; every answer has the tag.
fn gated(gate: &Arc<Notify>) -> Origin {
    let gate = gate.clone();
    Origin::new(move |call| {
        let gate = gate.clone();
        async move {
            if call.request.uri.path() == "/" && call.number <= 2 {
                gate.notified().await;
            }
            let fields = [("cache-control", "max-age=60"), ("cache-tag", "a")];
            Ok(answer(200, &fields, call.number.to_string()))
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_response_whose_tag_was_invalidated_meanwhile_is_neither_kept_nor_shared() {
    for is_soft in [false, true] {
        for cache in caches() {
            let gate = Arc::new(Notify::new());
            let app = warm(cache, gated(&gate), |layer| layer).await;
            let ask = || {
                let app = app.clone();
                tokio::spawn(async move { app.get("/").await.text().to_owned() })
            };
            let early = ask();
            while app.calls() < 2 {
                tokio::task::yield_now().await;
            }
            match is_soft {
                true => app.cache.expire_tag("a").await.unwrap(),
                false => app.cache.invalidate_tag("a").await.unwrap(),
            }
            let later = ask();
            tokio::task::yield_now().await;
            gate.notify_one();
            assert_eq!(early.await.unwrap(), "2");
            assert_eq!(later.await.unwrap(), "3", "soft: {is_soft}");
            app.cache.flush().await;
            assert_eq!(app.get("/").await.text(), "3");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_of_another_tag_meanwhile_does_not_matter() {
    for cache in caches() {
        let gate = Arc::new(Notify::new());
        let app = warm(cache, gated(&gate), |layer| layer).await;
        let early = tokio::spawn({
            let app = app.clone();
            async move { app.get("/").await.text().to_owned() }
        });
        while app.calls() < 2 {
            tokio::task::yield_now().await;
        }
        app.cache.invalidate_tag("b").await.unwrap();
        gate.notify_one();
        assert_eq!(early.await.unwrap(), "2");
        app.cache.flush().await;
        assert!(is_there(&app, "/").await);
    }
}

/// A page made of a value, read as `read` does.
fn page<F>(read: impl Fn(Cache) -> F + Clone + Send + Sync + 'static) -> Origin
where
    F: Future<Output = Option<String>> + Send + 'static,
{
    Origin::new(move |call| {
        let cache = call.request.extensions.get::<Cache>().unwrap().clone();
        let read = read.clone();
        async move {
            let value = read(cache).await.unwrap_or_default();
            Ok(answer(200, &[("cache-control", "max-age=60")], value))
        }
    })
}

async fn put_user(cache: &Cache, name: &'static str) {
    let options = PutOptions::new().tags(["user:7"]);
    cache.put_with("name", name, options).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_response_ends_with_the_values_that_it_was_made_of() {
    for cache in caches() {
        put_user(&cache, "Ada").await;
        let origin = page(|cache| async move { cache.get("name").await.unwrap() });
        let app = App::on(cache, origin, |layer| layer);
        assert_eq!(app.get("/").await.text(), "Ada");
        app.cache.flush().await;
        assert!(app.get("/").await.is_hit());
        app.cache.invalidate_tag("user:7").await.unwrap();
        put_user(&app.cache, "Grace").await;
        assert_eq!(app.get("/").await.text(), "Grace");
    }
}

#[tokio::test(start_paused = true)]
async fn values_that_were_loaded_count_too_and_those_of_scoped_handles() {
    let origin = page(|cache| async move {
        let tagged = PutOptions::new().tags(["user:7"]);
        let load = || ready(Ok::<_, std::convert::Infallible>("Ada".to_owned()));
        let shop = cache.scoped("shop");
        let name = shop.get_or_load_with("name", tagged, load).await.unwrap();
        Some((*name).clone())
    });
    let app = App::new(origin);
    app.get("/").await;
    app.cache.invalidate_tag("user:7").await.unwrap();
    assert!(
        is_there(&app, "/").await,
        "that is the tag of another namespace"
    );
    app.cache
        .scoped("shop")
        .invalidate_tag("user:7")
        .await
        .unwrap();
    assert!(!is_there(&app, "/").await);
}

#[tokio::test(start_paused = true)]
async fn what_is_read_untracked_does_not_count() {
    let untracked = page(|cache| async move { cache.untracked().get("name").await.unwrap() });
    let tracked = page(|cache| async move { cache.get("name").await.unwrap() });
    for app in [
        App::new(untracked),
        App::changed(tracked, |layer| layer.carry_tags(false)),
    ] {
        put_user(&app.cache, "Ada").await;
        app.get("/").await;
        app.cache.invalidate_tag("user:7").await.unwrap();
        assert!(is_there(&app, "/").await);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_read_while_the_body_is_made_counts() {
    let origin = Origin::now(|call| {
        let cache = call.request.extensions.get::<Cache>().unwrap().clone();
        let body = stream::once(async move {
            let name: Option<String> = cache.get("name").await.unwrap();
            Ok::<_, std::io::Error>(Bytes::from(name.unwrap_or_default()))
        });
        let mut answer = Response::new(Body::from_stream(body));
        let minute = CacheControl::new().max_age(Duration::from_secs(60));
        answer.headers_mut().insert("cache-control", minute.into());
        answer
    });
    let app = App::new(origin);
    put_user(&app.cache, "Ada").await;
    assert_eq!(app.get("/").await.text(), "Ada");
    assert!(is_there(&app, "/").await);
    app.cache.invalidate_tag("user:7").await.unwrap();
    assert!(!is_there(&app, "/").await);
}

#[tokio::test(start_paused = true)]
async fn a_response_made_of_a_value_that_ended_meanwhile_is_not_kept() {
    let origin = page(|cache| async move {
        let name: Option<String> = cache.get("name").await.unwrap();
        cache.invalidate_tag("user:7").await.unwrap();
        name
    });
    let app = App::new(origin);
    put_user(&app.cache, "Ada").await;
    assert_eq!(app.get("/").await.text(), "Ada");
    assert!(!is_there(&app, "/").await);
    assert_eq!(app.cache.stats().reasons[Reason::Late], 1);
}

#[tokio::test(start_paused = true)]
async fn a_response_made_of_more_than_can_be_kept_is_not_stored() {
    let origin = page(|cache| async move {
        for number in 0..65 {
            let options = PutOptions::new().tags([number.to_string()]);
            cache.put_with("name", "Ada", options).await.unwrap();
        }
        None
    });
    let app = App::new(origin);
    let answer = app.get("/").await;
    assert!(!answer.is_stored());
    assert_eq!(app.cache.stats().reasons[Reason::Tags], 1);
}

#[tokio::test(start_paused = true)]
async fn carried_tags_are_passed_on_with_the_others() {
    let origin = Origin::new(|call| {
        let cache = call.request.extensions.get::<Cache>().unwrap().clone();
        async move {
            let name: Option<String> = cache.get("name").await.unwrap();
            let fields = [("cache-control", "max-age=60"), ("cache-tag", "page")];
            Ok(answer(200, &fields, name.unwrap_or_default()))
        }
    });
    let app = App::changed(origin, |layer| layer.pass_tags(TagField::SurrogateKey));
    put_user(&app.cache, "Ada").await;
    for _ in 0..2 {
        let answer = app.get("/").await;
        assert_eq!(answer.header("surrogate-key"), Some("page user:7"));
    }
}

#[tokio::test(start_paused = true)]
async fn tags_are_purged_by_the_method() {
    let app = App::changed(Origin::with(TAGGED), |layer| layer.purge_method(|_| true));
    for fields in [
        &[("cache-tag", "x, user:7")][..],
        &[("surrogate-key", "x page")],
    ] {
        app.get("/").await;
        put_user(&app.cache, "Ada").await;
        let purged = app.send("PURGE", "/elsewhere", fields).await;
        assert_eq!(
            (purged.status, &*purged.told()),
            (200, "larder; detail=purged")
        );
        assert!(!is_there(&app, "/").await);
    }
    app.get("/").await;
    let soft = [("cache-tag", "users"), ("purge-mode", "soft")];
    let purged = app.send("PURGE", "/", &soft).await;
    assert_eq!(purged.told(), "larder; detail=purged-softly");
    assert_eq!(app.get("/").await.told(), "larder; fwd=stale; stored");
    let long = "x".repeat(257);
    for line in ["", " , ", &long] {
        let refused = app.send("PURGE", "/", &[("cache-tag", line)]).await;
        assert_eq!(refused.status, 400, "{line:?}");
    }
    assert!(is_there(&app, "/").await);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_brings_a_response_up_to_date_keeps_its_tags() {
    let app = App::new(Origin::now(|call| {
        let line = if call.request.method == "HEAD" {
            "head"
        } else {
            "get"
        };
        let fields = [
            ("cache-control", "max-age=60"),
            ("etag", "\"1\""),
            ("content-length", "1"),
            ("cache-tag", line),
        ];
        answer(200, &fields, if line == "get" { "1" } else { "" })
    }));
    for tag in ["get", "head"] {
        app.get("/").await;
        app.cache.expire_tag("get").await.unwrap();
        app.send("HEAD", "/", &[]).await;
        assert!(is_there(&app, "/").await);
        app.cache.invalidate_tag(tag).await.unwrap();
        assert!(!is_there(&app, "/").await, "{tag}");
    }
}

// Several layers of one cache

#[tokio::test(start_paused = true)]
async fn two_layers_of_one_cache_tell_tags_each_in_its_own_way() {
    type Change = fn(CacheLayer) -> CacheLayer;
    const ALL: [(Change, Option<&str>, Option<&str>); 3] = [
        (|layer| layer, None, None),
        (
            |layer| layer.pass_tags(TagField::CacheTag),
            Some("user:7,users,page"),
            None,
        ),
        (
            |layer| layer.pass_tags(TagField::SurrogateKey),
            None,
            Some("user:7 users page"),
        ),
    ];
    for first in ALL {
        for cache in caches() {
            let app = warm(cache.clone(), Origin::with(TAGGED), first.0).await;
            app.get("/").await;
            app.cache.flush().await;
            for (change, cache_tag, surrogate_key) in ALL {
                let other = App::on(cache.clone(), app.origin.clone(), change);
                let hit = other.get("/").await;
                assert!(hit.is_hit());
                let sorted = |line: Option<&str>| {
                    let mut tags: Vec<_> = line?.split([',', ' ']).map(str::to_owned).collect();
                    tags.sort();
                    Some(tags)
                };
                assert_eq!(sorted(hit.header("cache-tag")), sorted(cache_tag));
                assert_eq!(sorted(hit.header("surrogate-key")), sorted(surrogate_key));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_under_way_in_a_layer_that_passes_tags_on_is_not_shared_with_one_that_does_not()
{
    let (gate, cache) = (Arc::new(Notify::new()), Cache::memory());
    let passing = App::on(cache.clone(), gated(&gate), |layer| {
        layer.pass_tags(TagField::CacheTag)
    });
    let silent = App::on(cache, passing.origin.clone(), |layer| layer);
    let ask = |app: &App| {
        let app = app.clone();
        tokio::spawn(async move { app.get("/").await })
    };
    let first = ask(&passing);
    while passing.calls() < 1 {
        tokio::task::yield_now().await;
    }
    let second = ask(&silent);
    tokio::task::yield_now().await;
    gate.notify_one();
    assert_eq!(first.await.unwrap().header("cache-tag"), Some("a"));
    gate.notify_one();
    assert_eq!(second.await.unwrap().header("cache-tag"), None);
}
