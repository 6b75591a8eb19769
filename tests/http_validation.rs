//! Validating what is stored and stale (RFC 9111 §4.3).

#![cfg(all(feature = "axum", feature = "memory"))]

mod support;

use support::{App, Call, Origin, after, answer, date};

/// Answers with a tag, and a 304 with `in_304` to whoever has it.
fn validating(in_304: &[(&str, &str)]) -> App {
    let owned: Vec<(String, String)> = in_304
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    App::new(Origin::now(move |call| {
        let in_304: Vec<_> = owned.iter().map(|(a, b)| (&**a, &**b)).collect();
        match call.header("if-none-match") {
            Some("\"a\"") => answer(304, &in_304, ""),
            _ => answer(
                200,
                &[
                    ("cache-control", "max-age=60"),
                    ("content-type", "text/plain"),
                    ("etag", "\"a\""),
                    ("x-old", "1"),
                    ("x-both", "1"),
                ],
                format!("body {}", call.number),
            ),
        }
    }))
}

#[tokio::test(start_paused = true)]
async fn a_stale_response_is_asked_about_with_all_its_validators() {
    let modified = date(-1_000);
    let app = App::new(Origin::with(&[
        ("cache-control", "max-age=60"),
        ("etag", "W/\"a\""),
        ("last-modified", &modified),
    ]));
    app.get("/").await;
    after(60.5).await;
    app.get_with("/", &[("accept", "a/b"), ("cookie", "id=1")])
        .await;
    assert_eq!(app.origin.last_header("if-none-match").unwrap(), "W/\"a\"");
    assert_eq!(
        app.origin.last_header("if-modified-since").unwrap(),
        modified
    );
    assert_eq!(app.origin.last_header("accept").unwrap(), "a/b");
    assert_eq!(app.origin.last_header("cookie").unwrap(), "id=1");
}

#[tokio::test(start_paused = true)]
async fn without_a_validator_the_response_is_fetched_anew() {
    let app = App::new(Origin::with(&[("cache-control", "max-age=60")]));
    app.get("/").await;
    after(60.5).await;
    let anew = app.get("/").await;
    assert_eq!((anew.status, anew.text()), (200, "2"));
    assert_eq!(app.origin.last_header("if-none-match"), None);
    assert_eq!(app.origin.last_header("if-modified-since"), None);
}

#[tokio::test(start_paused = true)]
async fn a_304_makes_the_stored_response_fresh_again() {
    let app = validating(&[("cache-control", "max-age=100")]);
    app.get("/").await;
    after(60.5).await;
    let validated = app.get("/").await;
    assert_eq!((validated.status, validated.text()), (200, "body 1"));
    assert_eq!(
        validated.told(),
        "larder; fwd=stale; fwd-status=304; stored"
    );
    assert_eq!(validated.age(), Some(0));
    after(99.0).await;
    let hit = app.get("/").await;
    assert_eq!((hit.is_hit(), hit.text()), (true, "body 1"));
    assert_eq!(app.calls(), 2);
    assert_eq!(app.cache.stats().http_revalidated, 1);
}

#[tokio::test(start_paused = true)]
async fn a_304_updates_fields_and_keeps_what_describes_the_body() {
    let app = validating(&[
        ("cache-control", "max-age=60"),
        ("connection", "x-hop"),
        ("content-encoding", "gzip"),
        ("content-length", "0"),
        ("content-range", "bytes 0-1/2"),
        ("content-type", "text/html"),
        ("etag", "\"a\""),
        ("keep-alive", "timeout=5"),
        ("set-cookie", "id=1"),
        ("x-both", "2"),
        ("x-hop", "1"),
        ("x-new", "1"),
    ]);
    app.get("/").await;
    after(60.5).await;
    let validated = app.get("/").await;
    let hit = app.get("/").await;
    assert!(hit.is_hit());
    for answer in [validated, hit] {
        assert_eq!(answer.text(), "body 1");
        for (name, value) in [
            ("content-type", Some("text/plain")),
            ("x-old", Some("1")),
            ("x-both", Some("2")),
            ("x-new", Some("1")),
            ("content-encoding", None),
            ("content-length", Some("6")),
            ("content-range", None),
            ("keep-alive", None),
            ("connection", None),
            ("x-hop", None),
            ("set-cookie", None),
        ] {
            assert_eq!(answer.header(name), value, "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_304_without_fields_keeps_the_stored_freshness() {
    let app = validating(&[]);
    app.get("/").await;
    after(60.5).await;
    app.get("/").await;
    after(59.0).await;
    assert!(app.get("/").await.is_hit());
    after(1.0).await;
    assert!(!app.get("/").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_304_that_forbids_storing_answers_and_ends_what_is_stored() {
    let app = validating(&[("cache-control", "no-store")]);
    app.get("/").await;
    after(60.5).await;
    let validated = app.get("/").await;
    assert_eq!((validated.status, validated.text()), (200, "body 1"));
    let told = "larder; fwd=stale; fwd-status=304; detail=no-store";
    assert_eq!(validated.told(), told);
    let anew = app.get("/").await;
    assert_eq!(anew.text(), "body 3");
}

#[tokio::test(start_paused = true)]
async fn a_new_response_replaces_the_stale_one() {
    let app = App::new(Origin::now(|call: Call| {
        let tag = format!("\"{}\"", call.number);
        let fields = [("cache-control", "max-age=60"), ("etag", &*tag)];
        answer(200, &fields, call.number.to_string())
    }));
    app.get("/").await;
    after(60.5).await;
    let replaced = app.get("/").await;
    assert_eq!(replaced.told(), "larder; fwd=stale; stored");
    assert_eq!(replaced.header("etag"), Some("\"2\""));
    let hit = app.get("/").await;
    assert_eq!((hit.is_hit(), hit.text(), hit.age()), (true, "2", Some(0)));
}

#[tokio::test(start_paused = true)]
async fn a_new_response_that_is_not_stored_ends_the_stale_one() {
    let app = App::new(Origin::now(|call: Call| match call.number {
        1 => answer(
            200,
            &[("cache-control", "max-age=60"), ("etag", "\"a\"")],
            "1",
        ),
        _ => answer(404, &[("cache-control", "no-store")], "gone"),
    }));
    app.get("/").await;
    after(60.5).await;
    assert_eq!(app.get("/").await.status, 404);
    assert_eq!(
        app.get("/").await.told(),
        "larder; fwd=uri-miss; detail=no-store"
    );
    assert_eq!(app.origin.last_header("if-none-match"), None);
}

#[tokio::test(start_paused = true)]
async fn a_304_about_another_tag_is_not_believed_and_ends_what_is_stored() {
    let app = validating(&[("cache-control", "max-age=60"), ("etag", "\"other\"")]);
    app.get("/").await;
    after(60.5).await;
    let stale = app.get("/").await;
    assert_eq!((stale.status, stale.text()), (200, "body 1"));
    assert_eq!(stale.told(), "larder; fwd=stale; detail=contradicting-304");
    let anew = app.get("/").await;
    assert_eq!((anew.status, anew.text()), (200, "body 3"));
    assert_eq!(anew.told(), "larder; fwd=uri-miss; stored");
}

#[tokio::test(start_paused = true)]
async fn a_304_about_another_tag_is_a_502_where_nothing_stale_may_be_served() {
    let app = App::new(Origin::now(|call| match call.header("if-none-match") {
        Some(_) => answer(304, &[("etag", "\"other\"")], ""),
        None => answer(
            200,
            &[
                ("cache-control", "max-age=60, must-revalidate"),
                ("etag", "\"a\""),
            ],
            call.number.to_string(),
        ),
    }));
    app.get("/").await;
    after(60.5).await;
    assert_eq!(app.get("/").await.status, 502);
    assert_eq!(app.get("/").await.text(), "3");
}

#[tokio::test(start_paused = true)]
async fn a_client_s_own_condition_is_evaluated_against_the_result() {
    let app = validating(&[("cache-control", "max-age=60")]);
    app.get("/").await;
    after(60.5).await;
    let same = app.get_with("/", &[("if-none-match", "\"a\"")]).await;
    assert_eq!((same.status, same.text()), (304, ""));
    assert_eq!(same.told(), "larder; fwd=stale; fwd-status=304; stored");
    after(60.5).await;
    let other = app.get_with("/", &[("if-none-match", "\"b\"")]).await;
    assert_eq!(app.origin.last_header("if-none-match").unwrap(), "\"a\"");
    assert_eq!((other.status, other.text()), (200, "body 1"));
    after(60.5).await;
    let since = date(0);
    let neither = app.get_with("/", &[("if-modified-since", &since)]).await;
    assert_eq!(app.origin.last_header("if-modified-since"), None);
    assert_eq!(neither.status, 304);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_the_new_response_already_gets_a_304_of_it() {
    let app = App::new(Origin::now(|call: Call| {
        let tag = format!("\"{}\"", call.number);
        let fields = [("cache-control", "max-age=60"), ("etag", &*tag)];
        answer(200, &fields, call.number.to_string())
    }));
    app.get("/").await;
    after(60.5).await;
    let answer = app.get_with("/", &[("if-none-match", "\"2\"")]).await;
    assert_eq!(answer.status, 304);
    assert_eq!(answer.told(), "larder; fwd=stale; fwd-status=200; stored");
    support::settle().await;
    let hit = app.get("/").await;
    assert_eq!((hit.is_hit(), hit.text()), (true, "2"));
}

#[tokio::test(start_paused = true)]
async fn no_cache_is_validated_before_every_reuse() {
    let app = App::new(Origin::now(|call| {
        let fields = [("cache-control", "no-cache"), ("etag", "\"a\"")];
        match call.header("if-none-match") {
            Some("\"a\"") => answer(304, &fields, ""),
            _ => answer(200, &fields, "body"),
        }
    }));
    assert_eq!(app.get("/").await.told(), "larder; fwd=uri-miss; stored");
    for _ in 0..3 {
        let answer = app.get("/").await;
        assert_eq!((answer.status, answer.text()), (200, "body"));
        assert_eq!(answer.told(), "larder; fwd=stale; fwd-status=304; stored");
    }
    assert_eq!(app.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_request_s_no_cache_validates_a_fresh_response() {
    let app = validating(&[("cache-control", "max-age=60")]);
    app.get("/").await;
    after(10.5).await;
    let answer = app.get_with("/", &[("cache-control", "no-cache")]).await;
    assert_eq!(answer.told(), "larder; fwd=request; fwd-status=304; stored");
    assert_eq!(answer.text(), "body 1");
    assert_eq!(app.get("/").await.age(), Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_head_for_a_stale_response_is_a_head_inside() {
    let app = validating(&[]);
    app.get("/").await;
    after(60.5).await;
    let head = app.send("HEAD", "/", &[]).await;
    assert_eq!((head.status, head.is_hit()), (200, false));
    assert_eq!(app.origin.last().method, "HEAD");
}

#[tokio::test(start_paused = true)]
async fn validators_that_are_none_are_not_asked_with() {
    for field in [("etag", ""), ("last-modified", "yesterday")] {
        let app = App::new(Origin::with(&[("cache-control", "max-age=60"), field]));
        app.get("/").await;
        after(60.5).await;
        assert_eq!(app.get("/").await.text(), "2");
        assert_eq!(app.origin.last_header("if-none-match"), None);
        assert_eq!(app.origin.last_header("if-modified-since"), None);
    }
}
