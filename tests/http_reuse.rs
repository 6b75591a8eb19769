//! Which requests a stored response answers (RFC 9111 §4, §5.2.1).

#![cfg(all(feature = "axum", feature = "memory"))]

mod support;

use larder::CacheLayer;
use support::{App, Origin, after, answer, body_of, request, send};

fn minute() -> App {
    App::new(Origin::with(&[("cache-control", "max-age=60")]))
}

/// A stale response that a minute of `max-stale` may still use.
async fn stale(directives: &str) -> App {
    let fields = [("cache-control", directives), ("etag", "\"a\"")];
    let app = App::new(Origin::with(&fields));
    app.get("/").await;
    after(70.5).await;
    app
}

fn ignoring(layer: CacheLayer) -> CacheLayer {
    layer.ignore_client_directives(true)
}

// The key

#[tokio::test(start_paused = true)]
async fn two_hosts_never_meet() {
    let app = minute();
    let of = async |host| app.get_with("/a", &[("host", host)]).await;
    assert_eq!(of("one.example").await.text(), "1");
    assert_eq!(of("two.example").await.text(), "2");
    assert_eq!(of("one.example:8080").await.text(), "3");
    assert_eq!(of("one.example").await.text(), "1");
    assert_eq!(of("two.example").await.text(), "2");
}

#[tokio::test(start_paused = true)]
async fn a_host_is_the_same_in_any_letter_case_and_with_its_default_port() {
    let app = minute();
    app.get_with("/a", &[("host", "shop.example")]).await;
    for host in ["SHOP.example", "Shop.Example:80", "shop.example:"] {
        assert!(
            app.get_with("/a", &[("host", host)]).await.is_hit(),
            "{host}"
        );
    }
    for uri in ["http://shop.example/a", "http://SHOP.example:80/a"] {
        assert!(app.get(uri).await.is_hit(), "{uri}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_without_a_host_are_not_for_any_host() {
    let app = minute();
    let without = || {
        let mut request = request("GET", "/", &[]);
        request.headers_mut().remove("host");
        request
    };
    assert_eq!(app.get("/").await.text(), "1");
    assert_eq!(send(&app.service, without()).await.text(), "2");
    assert!(send(&app.service, without()).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn the_scheme_is_part_of_the_key() {
    let app = minute();
    assert_eq!(app.get("http://shop.example/").await.text(), "1");
    assert_eq!(app.get("https://shop.example/").await.text(), "2");
    assert!(app.get("https://shop.example:443/").await.is_hit());
    assert!(!app.get("https://shop.example:80/").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn path_and_query_are_compared_as_they_are() {
    let app = minute();
    let uris = [
        "/a",
        "/A",
        "/a/",
        "/a?",
        "/a?b=1&c=2",
        "/a?c=2&b=1",
        "/a?b=1%262",
        "/%61",
    ];
    for uri in uris {
        assert!(!app.get(uri).await.is_hit(), "{uri}");
    }
    for uri in uris {
        assert!(app.get(uri).await.is_hit(), "{uri}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_none_is_passed_on_and_shared_with_nobody() {
    let app = minute();
    for host in ["a.example/b", "user@a.example", "a example", "a?b"] {
        for _ in 0..2 {
            let answer = app.get_with("/", &[("host", host)]).await;
            assert_eq!(answer.told(), "larder; fwd=bypass; detail=host", "{host}");
        }
    }
    let two = [("host", "a.example"), ("host", "b.example")];
    assert!(!app.get_with("/", &two).await.is_hit());
    assert!(!app.get_with("/", &two).await.is_hit());
}

// HEAD

#[tokio::test(start_paused = true)]
async fn a_stored_get_answers_head_without_its_body_and_with_its_length() {
    let app = App::new(Origin::now(|_| {
        let fields = [("cache-control", "max-age=60"), ("etag", "\"a\"")];
        answer(200, &fields, body_of("hello"))
    }));
    app.get("/").await;
    let head = app.send("HEAD", "/", &[]).await;
    assert!(head.is_hit());
    assert_eq!(head.text(), "");
    assert_eq!(head.header("content-length"), Some("5"));
    assert_eq!(head.header("etag"), Some("\"a\""));
    assert_eq!(app.get("/").await.text(), "hello");
    assert_eq!(app.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_length_that_the_handler_gave_is_head_s_too() {
    let app = App::new(Origin::now(|_| {
        let fields = [("cache-control", "max-age=60"), ("content-length", "5")];
        answer(200, &fields, "hello")
    }));
    app.get("/").await;
    let head = app.send("HEAD", "/", &[]).await;
    let lengths: Vec<_> = head.headers.get_all("content-length").iter().collect();
    assert_eq!(lengths, ["5"]);
}

#[tokio::test(start_paused = true)]
async fn a_stored_answer_without_content_gives_head_no_length() {
    let app = App::new(Origin::now(|_| {
        answer(204, &[("cache-control", "max-age=60")], "")
    }));
    app.get("/").await;
    let head = app.send("HEAD", "/", &[]).await;
    assert!(head.is_hit());
    assert_eq!(head.header("content-length"), None);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_comes_first_does_not_become_the_get() {
    let app = App::new(Origin::now(|call| match call.request.method.as_str() {
        "HEAD" => answer(
            200,
            &[("cache-control", "max-age=60"), ("content-length", "3")],
            "",
        ),
        _ => answer(200, &[("cache-control", "max-age=60")], "get"),
    }));
    let head = app.send("HEAD", "/", &[]).await;
    assert_eq!(head.told(), "larder; fwd=uri-miss");
    assert_eq!(head.header("content-length"), Some("3"));
    let get = app.get("/").await;
    assert_eq!((get.is_hit(), get.text()), (false, "get"));
    assert!(app.send("HEAD", "/", &[]).await.is_hit());
    assert_eq!(app.get("/").await.text(), "get");
    assert_eq!(app.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn head_is_passed_on_as_head() {
    let app = minute();
    app.send("HEAD", "/", &[]).await;
    assert_eq!(app.origin.last().method, "HEAD");
}

// What requests ask for

#[tokio::test(start_paused = true)]
async fn no_cache_asks_the_handler_and_replaces_what_is_stored() {
    for field in [("cache-control", "no-cache"), ("pragma", "no-cache")] {
        let app = minute();
        app.get("/").await;
        let asked = app.get_with("/", &[field]).await;
        assert_eq!(asked.text(), "2");
        assert_eq!(asked.told(), "larder; fwd=request; stored");
        let hit = app.get("/").await;
        assert!(hit.is_hit() && hit.text() == "2");
    }
}

#[tokio::test(start_paused = true)]
async fn pragma_counts_only_without_cache_control() {
    let app = minute();
    app.get("/").await;
    let both = [("pragma", "no-cache"), ("cache-control", "max-stale=1")];
    assert!(app.get_with("/", &both).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn max_age_of_a_request_bounds_the_age() {
    let app = minute();
    app.get("/").await;
    after(20.5).await;
    let max_age = async |seconds: &str| {
        let control = format!("max-age={seconds}");
        app.get_with("/", &[("cache-control", &control)]).await
    };
    assert!(max_age("30").await.is_hit());
    assert!(!max_age("10").await.is_hit());
    assert!(max_age("10").await.is_hit());
    assert!(!max_age("0").await.is_hit());
    assert!(!max_age("0").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn min_fresh_asks_for_freshness_to_come() {
    let app = minute();
    app.get("/").await;
    after(20.5).await;
    let hit = app
        .get_with("/", &[("cache-control", "min-fresh=30")])
        .await;
    assert!(hit.is_hit());
    let miss = app
        .get_with("/", &[("cache-control", "min-fresh=50")])
        .await;
    assert_eq!(miss.told(), "larder; fwd=request; stored");
}

#[tokio::test(start_paused = true)]
async fn max_stale_takes_stale_responses() {
    let app = stale("max-age=60").await;
    let within = app
        .get_with("/", &[("cache-control", "max-stale=20")])
        .await;
    assert_eq!(within.told(), "larder; hit; ttl=-11");
    assert_eq!((within.text(), within.age()), ("1", Some(70)));
    assert!(
        app.get_with("/", &[("cache-control", "max-stale")])
            .await
            .is_hit()
    );
    let beyond = app.get_with("/", &[("cache-control", "max-stale=5")]).await;
    assert!(!beyond.is_hit());
    assert_eq!(beyond.text(), "2");
}

#[tokio::test(start_paused = true)]
async fn max_stale_does_not_take_what_the_response_forbids() {
    for forbidden in [
        "must-revalidate",
        "proxy-revalidate",
        "s-maxage=60",
        "no-cache",
    ] {
        let app = stale(&format!("max-age=60, {forbidden}")).await;
        let answer = app.get_with("/", &[("cache-control", "max-stale")]).await;
        assert!(!answer.is_hit(), "{forbidden}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_if_cached_is_answered_from_the_store_or_not_at_all() {
    let app = minute();
    let only = [("cache-control", "only-if-cached")];
    let nothing = app.get_with("/", &only).await;
    assert_eq!((nothing.status, nothing.text()), (504, ""));
    assert_eq!(nothing.told(), "larder; fwd=request; detail=only-if-cached");
    assert_eq!(app.calls(), 0);
    app.get("/").await;
    assert!(app.get_with("/", &only).await.is_hit());
    after(60.5).await;
    assert_eq!(app.get_with("/", &only).await.status, 504);
    assert_eq!(app.send("HEAD", "/", &only).await.status, 504);
    assert_eq!(app.calls(), 1);
    let stale = [("cache-control", "only-if-cached, max-stale")];
    assert!(app.get_with("/", &stale).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn unknown_directives_and_broken_ones_do_not_bypass() {
    let app = minute();
    app.get("/").await;
    for control in ["unknown", "a=b, c=\"d, no-cache\"", ",,,", "", "=", "\""] {
        let answer = app.get_with("/", &[("cache-control", control)]).await;
        assert!(answer.is_hit(), "{control:?} {}", answer.told());
    }
}

#[tokio::test(start_paused = true)]
async fn client_directives_can_be_ignored() {
    let app = App::changed(Origin::with(&[("cache-control", "max-age=60")]), ignoring);
    app.get("/").await;
    after(20.5).await;
    for control in ["no-cache", "max-age=0", "max-age=10", "min-fresh=50"] {
        assert!(
            app.get_with("/", &[("cache-control", control)])
                .await
                .is_hit(),
            "{control}"
        );
    }
    assert!(app.get_with("/", &[("pragma", "no-cache")]).await.is_hit());
    after(60.0).await;
    assert!(
        !app.get_with("/", &[("cache-control", "max-stale")])
            .await
            .is_hit()
    );
}

#[tokio::test(start_paused = true)]
async fn no_store_and_only_if_cached_are_honoured_when_client_directives_are_ignored() {
    let app = App::changed(Origin::with(&[("cache-control", "max-age=60")]), ignoring);
    let only = app
        .get_with("/", &[("cache-control", "only-if-cached")])
        .await;
    assert_eq!(only.status, 504);
    app.get_with("/", &[("cache-control", "no-store")]).await;
    assert_eq!(app.get("/").await.text(), "2");
    let no_store = app.get_with("/", &[("cache-control", "no-store")]).await;
    assert_eq!(no_store.text(), "3");
}

#[tokio::test(start_paused = true)]
async fn preconditions_are_left_to_the_handler() {
    let app = minute();
    app.get("/").await;
    for field in [
        ("if-match", "\"a\""),
        ("if-unmodified-since", "Sun, 06 Nov 1994 08:49:37 GMT"),
    ] {
        let answer = app.get_with("/", &[field]).await;
        assert_eq!(answer.told(), "larder; fwd=bypass; detail=precondition");
        assert_eq!(app.origin.last_header(field.0).as_deref(), Some(field.1));
    }
    assert_eq!(app.get("/").await.text(), "1");
}

#[tokio::test(start_paused = true)]
async fn a_response_with_no_cache_is_never_reused_unasked() {
    let app = App::new(Origin::with(&[
        ("cache-control", "max-age=60, no-cache"),
        ("etag", "\"a\""),
    ]));
    for number in ["1", "2", "3"] {
        let answer = app.get("/").await;
        assert_eq!((answer.is_hit(), answer.text()), (false, number));
    }
}
