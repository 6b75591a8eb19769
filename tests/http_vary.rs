//! Variants of a URI (RFC 9111 §4.1).

#![cfg(all(feature = "axum", feature = "memory"))]

mod support;

use http::HeaderValue;
use support::{Answer, App, Origin, after, answer, request, send};

fn varying(fields: &'static str) -> App {
    App::new(Origin::with(&[
        ("cache-control", "max-age=60"),
        ("vary", fields),
    ]))
}

async fn with(app: &App, name: &str, value: &str) -> Answer {
    app.get_with("/", &[(name, value)]).await
}

#[tokio::test(start_paused = true)]
async fn a_variant_answers_requests_with_the_same_value() {
    let app = varying("Accept-Language");
    assert_eq!(with(&app, "accept-language", "de").await.text(), "1");
    let other = with(&app, "accept-language", "en").await;
    assert_eq!(other.told(), "larder; fwd=vary-miss; stored");
    let hit = with(&app, "accept-language", "de").await;
    assert!(hit.is_hit() && hit.text() == "1");
    let hit = with(&app, "accept-language", "en").await;
    assert!(hit.is_hit() && hit.text() == "2");
}

#[tokio::test(start_paused = true)]
async fn an_absent_field_matches_an_absent_one_only() {
    let app = varying("x-a");
    assert_eq!(app.get("/").await.text(), "1");
    assert_eq!(with(&app, "x-a", "").await.text(), "2");
    assert_eq!(with(&app, "x-a", "1").await.text(), "3");
    assert_eq!(app.get("/").await.text(), "1");
    assert_eq!(with(&app, "x-a", "").await.text(), "2");
}

#[tokio::test(start_paused = true)]
async fn all_fields_of_all_lines_count_and_others_do_not() {
    let app = App::new(Origin::with(&[
        ("cache-control", "max-age=60"),
        ("vary", "X-A,, x-b ,"),
        ("vary", "x-c"),
    ]));
    let all = [("x-a", "1"), ("x-b", "1"), ("x-c", "1")];
    app.get_with("/", &all).await;
    assert!(app.get_with("/", &all).await.is_hit());
    let unnamed = [&all[..], &[("x-d", "1")]].concat();
    assert!(app.get_with("/", &unnamed).await.is_hit());
    for at in 0..3 {
        let mut other = all;
        other[at].1 = "2";
        assert!(!app.get_with("/", &other).await.is_hit(), "{other:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_star_anywhere_is_never_stored() {
    for lines in [&["*"][..], &["x-a, *"], &["x-a", "*"], &["*, x-a"]] {
        let vary = lines.iter().map(|line| ("vary", *line));
        let control = std::iter::once(("cache-control", "max-age=60"));
        let app = App::new(Origin::with(&control.chain(vary).collect::<Vec<_>>()));
        let first = app.get("/").await;
        assert_eq!(first.told(), "larder; fwd=uri-miss; detail=vary");
        assert!(!app.get("/").await.is_hit(), "{lines:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn preferences_are_the_same_in_any_order_case_and_spacing() {
    for (name, first, same, other) in [
        (
            "accept-language",
            "de, en;q=0.5",
            "EN;q=0.50 ,DE",
            "en, de;q=0.5",
        ),
        ("accept-encoding", "gzip, br", "br,GZIP", "gzip"),
        (
            "accept",
            "text/html, a/b;q=0.2",
            "A/B; q=0.2,text/html",
            "text/html",
        ),
    ] {
        let app = varying(name);
        with(&app, name, first).await;
        assert!(with(&app, name, same).await.is_hit(), "{same}");
        assert!(!with(&app, name, other).await.is_hit(), "{other}");
    }
}

#[tokio::test(start_paused = true)]
async fn other_values_are_compared_but_for_the_spacing_of_lists() {
    let app = varying("x-a");
    with(&app, "x-a", "one, Two").await;
    assert!(with(&app, "x-a", " one ,Two ").await.is_hit());
    let lines = [("x-a", "one"), ("x-a", "Two")];
    assert!(app.get_with("/", &lines).await.is_hit());
    assert!(!with(&app, "x-a", "one, two").await.is_hit());
    assert!(!with(&app, "x-a", "Two, one").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn values_with_separators_in_them_do_not_meet() {
    let app = varying("x-a, x-b");
    let pairs = [("1", "23"), ("12", "3"), ("1\t2", "3"), ("", "123")];
    for (a, b) in pairs {
        let answer = app.get_with("/", &[("x-a", a), ("x-b", b)]).await;
        assert!(!answer.is_hit(), "{a} {b}");
    }
    assert!(
        !app.get_with("/", &[("x-b", "1"), ("x-a", "23")])
            .await
            .is_hit()
    );
}

#[tokio::test(start_paused = true)]
async fn values_that_are_not_text_are_compared_too() {
    let app = varying("x-a");
    let of = async |bytes: &[u8]| {
        let mut request = request("GET", "/", &[]);
        let value = HeaderValue::from_bytes(bytes).unwrap();
        request.headers_mut().insert("x-a", value);
        send(&app.service, request).await
    };
    assert!(!of(b"\xff").await.is_hit());
    assert!(!of(b"\xfe").await.is_hit());
    assert!(of(b"\xff").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_newer_response_that_varies_by_more_is_followed() {
    let app = App::new(Origin::now(|call| {
        let vary = if call.number == 1 { "x-a" } else { "x-a, x-b" };
        let fields = [("cache-control", "max-age=60"), ("vary", vary)];
        answer(200, &fields, call.number.to_string())
    }));
    app.get_with("/", &[("x-a", "1"), ("x-b", "1")]).await;
    assert_eq!(
        app.get_with("/", &[("x-a", "2"), ("x-b", "1")])
            .await
            .text(),
        "2"
    );
    let hit = app.get_with("/", &[("x-a", "2"), ("x-b", "1")]).await;
    assert!(hit.is_hit());
    let other = app.get_with("/", &[("x-a", "2"), ("x-b", "2")]).await;
    assert_eq!(other.told(), "larder; fwd=vary-miss; stored");
}

#[tokio::test(start_paused = true)]
async fn a_response_that_begins_to_vary_is_followed() {
    let app = App::new(Origin::now(|call| {
        let vary = if call.number == 1 { "" } else { "x-a" };
        let fields = [("cache-control", "max-age=60"), ("vary", vary)];
        answer(200, &fields, call.number.to_string())
    }));
    app.get_with("/", &[("x-a", "1")]).await;
    after(60.5).await;
    assert_eq!(with(&app, "x-a", "1").await.text(), "2");
    assert_eq!(with(&app, "x-a", "2").await.text(), "3");
    assert_eq!(with(&app, "x-a", "1").await.text(), "2");
    assert_eq!(app.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_oldest_variant_goes_when_there_are_too_many() {
    let fields = [("cache-control", "max-age=60"), ("vary", "x-a")];
    let app = App::changed(Origin::with(&fields), |layer| layer.max_variants(3));
    for value in ["1", "2", "3", "4"] {
        with(&app, "x-a", value).await;
    }
    for value in ["2", "3", "4"] {
        assert!(with(&app, "x-a", value).await.is_hit(), "{value}");
    }
    assert!(!with(&app, "x-a", "1").await.is_hit());
    assert!(!with(&app, "x-a", "2").await.is_hit());
    assert!(with(&app, "x-a", "4").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn what_is_held_is_bounded_by_the_number_of_variants() {
    let fields = [("cache-control", "max-age=60"), ("vary", "x-a")];
    let app = App::changed(Origin::with(&fields), |layer| layer.max_variants(4));
    for value in 0..200 {
        with(&app, "x-a", &value.to_string()).await;
    }
    let entries = app.cache.stats().usage.unwrap().entries;
    assert_eq!(entries, 5, "four variants and the record of them");
}

#[tokio::test(start_paused = true)]
async fn one_variant_is_bound_to_one_uri() {
    let app = varying("x-a");
    app.get_with("/a", &[("x-a", "1")]).await;
    assert!(!app.get_with("/b", &[("x-a", "1")]).await.is_hit());
    assert!(app.get_with("/a", &[("x-a", "1")]).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_variant_is_validated_by_itself() {
    let app = App::new(Origin::now(|call| {
        let tag = format!("\"{}\"", call.header("x-a").unwrap());
        let fields = [
            ("cache-control", "max-age=60"),
            ("vary", "x-a"),
            ("etag", &*tag),
        ];
        match call.header("if-none-match") == Some(&*tag) {
            true => answer(304, &fields, ""),
            false => answer(200, &fields, call.number.to_string()),
        }
    }));
    with(&app, "x-a", "1").await;
    with(&app, "x-a", "2").await;
    after(60.5).await;
    let fresh = with(&app, "x-a", "1").await;
    assert_eq!(fresh.text(), "1");
    assert_eq!(fresh.told(), "larder; fwd=stale; fwd-status=304; stored");
    assert_eq!(app.origin.last_header("if-none-match").unwrap(), "\"1\"");
    assert_eq!(app.origin.last_header("x-a").unwrap(), "1");
    assert!(with(&app, "x-a", "1").await.is_hit());
    assert!(!with(&app, "x-a", "2").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn head_selects_among_the_variants() {
    let app = varying("x-a");
    with(&app, "x-a", "1").await;
    assert!(app.send("HEAD", "/", &[("x-a", "1")]).await.is_hit());
    assert!(!app.send("HEAD", "/", &[("x-a", "2")]).await.is_hit());
}
