//! What is stored (RFC 9111 §3).

#![cfg(all(feature = "axum", feature = "memory"))]

mod support;

use std::time::Duration;

use larder::SetCookie;
use support::{App, Origin, after, answer, date};

/// Whether the second of two requests is answered from the store.
async fn is_stored(origin: Origin) -> bool {
    is_stored_for(&App::new(origin), &[]).await
}

async fn is_stored_for(app: &App, fields: &[(&str, &str)]) -> bool {
    let first = app.get_with("/", fields).await;
    let second = app.get_with("/", fields).await;
    assert!(!first.is_hit());
    assert_eq!(first.is_stored(), second.is_hit(), "{}", first.told());
    assert_eq!(second.is_hit(), app.calls() == 1);
    second.is_hit()
}

#[tokio::test(start_paused = true)]
async fn a_fresh_response_is_replayed_as_it_was() {
    let app = App::new(Origin::now(|call| {
        let fields = [
            ("cache-control", "max-age=60"),
            ("content-type", "text/plain"),
            ("x-twice", "one"),
            ("x-twice", "two"),
        ];
        answer(203, &fields, format!("call {}", call.number))
    }));
    let first = app.get("/").await;
    let mut second = app.get("/").await;
    assert!(second.is_hit());
    assert_eq!(second.header("content-length"), Some("6"));
    for added in ["age", "cache-status", "content-length", "date"] {
        assert!(second.headers.remove(added).is_some(), "{added}");
    }
    let mut expected = first.clone();
    expected.headers.remove("cache-status");
    assert_eq!(second, expected);
}

#[tokio::test(start_paused = true)]
async fn explicit_freshness_stores_any_final_status_known_or_not() {
    for status in [
        200, 201, 203, 204, 299, 300, 301, 302, 303, 307, 308, 400, 403, 404, 405, 410, 414, 418,
        451, 500, 501, 502, 503, 504, 599, 777,
    ] {
        let origin = Origin::of(status, &[("cache-control", "max-age=60")]);
        assert!(is_stored(origin).await, "{status}");
        let origin = Origin::of(status, &[("expires", &date(60))]);
        assert!(is_stored(origin).await, "{status} by Expires");
    }
}

#[tokio::test(start_paused = true)]
async fn without_explicit_freshness_only_heuristically_cacheable_statuses_are_stored() {
    let modified = date(-1_000_000);
    for (statuses, expected) in [
        (
            &[200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501][..],
            true,
        ),
        (
            &[
                201, 202, 205, 302, 303, 307, 400, 401, 403, 418, 500, 502, 503, 504, 599,
            ],
            false,
        ),
    ] {
        for &status in statuses {
            let origin = Origin::of(status, &[("last-modified", &modified)]);
            assert_eq!(is_stored(origin).await, expected, "{status}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn public_makes_any_status_heuristically_cacheable() {
    let modified = date(-1_000_000);
    let fields = [("cache-control", "public"), ("last-modified", &*modified)];
    assert!(is_stored(Origin::of(302, &fields)).await);
    assert!(is_stored(Origin::of(599, &fields)).await);
}

#[tokio::test(start_paused = true)]
async fn a_response_without_any_freshness_is_not_stored() {
    let app = App::new(Origin::with(&[]));
    let first = app.get("/").await;
    assert_eq!(first.told(), "larder; fwd=uri-miss; detail=no-freshness");
    assert!(!app.get("/").await.is_hit());
    assert_eq!(app.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn no_store_and_private_are_not_stored() {
    for directives in [
        "no-store",
        "no-store, max-age=60",
        "max-age=60, NO-STORE",
        "private",
        "Private, max-age=60",
        "public, private, max-age=60",
        "s-maxage=60, private",
    ] {
        let origin = Origin::with(&[("cache-control", directives)]);
        assert!(!is_stored(origin).await, "{directives}");
    }
}

#[tokio::test(start_paused = true)]
async fn several_fields_are_one_list() {
    let fields = [
        ("cache-control", "max-age=60"),
        ("cache-control", "no-store"),
    ];
    assert!(!is_stored(Origin::with(&fields)).await);
}

#[tokio::test(start_paused = true)]
async fn unknown_directives_and_those_inside_quoted_strings_are_none() {
    for (directives, expected) in [
        ("max-age=60, community=\"UCI\"", true),
        ("max-age=60, ext=\"no-store, private\"", true),
        ("ext=\"max-age=60\"", false),
        ("x-max-age=60", false),
    ] {
        let origin = Origin::with(&[("cache-control", directives)]);
        assert_eq!(is_stored(origin).await, expected, "{directives}");
    }
}

#[tokio::test(start_paused = true)]
async fn must_understand_overrides_no_store_for_statuses_that_are_understood() {
    let fields = [("cache-control", "max-age=60, must-understand, no-store")];
    assert!(is_stored(Origin::of(200, &fields)).await);
    assert!(!is_stored(Origin::of(299, &fields)).await);
    let fields = [("cache-control", "max-age=60, must-understand")];
    assert!(!is_stored(Origin::of(299, &fields)).await);
}

#[tokio::test(start_paused = true)]
async fn a_request_s_no_store_neither_reads_nor_writes_the_store() {
    let app = App::new(Origin::with(&[("cache-control", "max-age=60")]));
    let no_store = [("cache-control", "no-store")];
    assert_eq!(app.get_with("/", &no_store).await.text(), "1");
    assert_eq!(app.get("/").await.text(), "2");
    assert_eq!(app.get_with("/", &no_store).await.text(), "3");
    let hit = app.get("/").await;
    assert!(hit.is_hit() && hit.text() == "2", "{hit:?}");
}

#[tokio::test(start_paused = true)]
async fn an_authorised_response_is_stored_only_when_it_says_so() {
    for (directives, expected) in [
        ("max-age=60", false),
        ("max-age=60, proxy-revalidate", false),
        ("public, max-age=60", true),
        ("must-revalidate, max-age=60", true),
        ("s-maxage=60", true),
        ("private, s-maxage=60", false),
    ] {
        let app = App::new(Origin::with(&[("cache-control", directives)]));
        let stored = is_stored_for(&app, &[("authorization", "Basic b3Blbg==")]).await;
        assert_eq!(stored, expected, "{directives}");
    }
}

#[tokio::test(start_paused = true)]
async fn fields_named_by_private_and_no_cache_are_not_stored() {
    for directive in [
        "private=\"x-user, X-Other\"",
        "no-cache=\"x-user, x-other\"",
    ] {
        let control = format!("max-age=60, {directive}");
        let app = App::new(Origin::with(&[
            ("cache-control", &control),
            ("x-user", "Ada"),
            ("x-other", "1"),
            ("x-kept", "1"),
        ]));
        let first = app.get("/").await;
        assert_eq!(first.header("x-user"), Some("Ada"));
        let second = app.get("/").await;
        assert!(second.is_hit(), "{directive}");
        assert_eq!(second.header("x-user"), None);
        assert_eq!(second.header("x-other"), None);
        assert_eq!(second.header("x-kept"), Some("1"));
    }
}

#[tokio::test(start_paused = true)]
async fn set_cookie_is_stored_by_default_only_when_the_response_is_for_all() {
    for (rule, directives, expected) in [
        (SetCookie::PublicOnly, "max-age=60", false),
        (SetCookie::PublicOnly, "public, max-age=60", true),
        (SetCookie::PublicOnly, "s-maxage=60", true),
        (SetCookie::Always, "max-age=60", true),
        (SetCookie::Never, "public, max-age=60", false),
    ] {
        let fields = [("cache-control", directives), ("set-cookie", "id=1")];
        let app = App::changed(Origin::with(&fields), |layer| layer.set_cookie(rule));
        let stored = is_stored_for(&app, &[]).await;
        assert_eq!(stored, expected, "{rule:?} {directives}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cookie_that_private_names_is_left_out_of_the_stored_response() {
    let app = App::new(Origin::with(&[
        ("cache-control", "max-age=60, private=\"set-cookie\""),
        ("set-cookie", "id=1"),
    ]));
    assert_eq!(app.get("/").await.header("set-cookie"), Some("id=1"));
    let second = app.get("/").await;
    assert!(second.is_hit());
    assert_eq!(second.header("set-cookie"), None);
}

#[tokio::test(start_paused = true)]
async fn hop_by_hop_fields_and_those_that_connection_names_are_not_replayed() {
    let gone = [
        ("connection", "x-hop, keep-alive, x-other"),
        ("x-hop", "1"),
        ("x-other", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-authenticate", "Basic"),
        ("proxy-connection", "keep-alive"),
        ("te", "trailers"),
        ("upgrade", "h2c"),
    ];
    let kept = [("cache-control", "max-age=60"), ("x-kept", "1")];
    let app = App::new(Origin::with(&[&gone[..], &kept[..]].concat()));
    app.get("/").await;
    let second = app.get("/").await;
    assert!(second.is_hit());
    for (name, _) in gone {
        assert_eq!(second.header(name), None, "{name}");
    }
    assert_eq!(second.header("x-kept"), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn answers_to_what_one_request_alone_asked_are_not_stored() {
    for status in [
        206, 304, 401, 406, 407, 408, 411, 412, 413, 415, 416, 417, 421, 425, 426, 428, 429, 431,
        511,
    ] {
        let origin = Origin::of(status, &[("cache-control", "max-age=60")]);
        assert!(!is_stored(origin).await, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_post_s_response_does_not_answer_another_request() {
    let app = App::new(Origin::with(&[("cache-control", "max-age=60")]));
    assert_eq!(app.send("POST", "/", &[]).await.text(), "1");
    assert_eq!(app.send("POST", "/", &[]).await.text(), "2");
    assert_eq!(app.get("/").await.text(), "3");
    assert!(app.get("/").await.is_hit());
    assert_eq!(app.send("POST", "/", &[]).await.text(), "4");
}

#[tokio::test(start_paused = true)]
async fn answers_to_other_safe_methods_are_not_stored() {
    let app = App::new(Origin::with(&[("cache-control", "max-age=60")]));
    for (method, number) in [("OPTIONS", "1"), ("OPTIONS", "2"), ("TRACE", "3")] {
        assert_eq!(app.send(method, "/", &[]).await.text(), number);
    }
    assert_eq!(app.get("/").await.text(), "4");
}

#[tokio::test(start_paused = true)]
async fn the_default_ttl_stores_what_says_nothing() {
    let minute = Duration::from_secs(60);
    let app = App::changed(Origin::with(&[]), |layer| layer.default_ttl(minute));
    app.get("/").await;
    after(59.5).await;
    assert!(app.get("/").await.is_hit());
    after(1.0).await;
    assert!(!app.get("/").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn the_default_ttl_is_not_for_responses_that_say_anything() {
    let minute = Duration::from_secs(60);
    for field in [
        ("cache-control", "no-store"),
        ("cache-control", "max-age=0"),
        ("cache-control", "no-transform"),
        ("expires", "0"),
        ("set-cookie", "id=1"),
    ] {
        let app = App::changed(Origin::with(&[field]), |layer| layer.default_ttl(minute));
        assert!(!is_stored_for(&app, &[]).await, "{field:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_default_ttl_is_for_statuses_that_are_cacheable_by_themselves() {
    let minute = Duration::from_secs(60);
    for (status, expected) in [(200, true), (404, true), (302, false), (500, false)] {
        let app = App::changed(Origin::of(status, &[]), |layer| layer.default_ttl(minute));
        assert_eq!(is_stored_for(&app, &[]).await, expected, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_default_ttl_of_values_says_nothing_about_responses() {
    let cache = larder::Cache::builder(larder::Memory::new())
        .default_ttl(Duration::from_secs(300))
        .build();
    let app = App::on(cache, Origin::with(&[]), |layer| layer);
    assert!(!is_stored_for(&app, &[]).await);
}
