//! Conditional requests of clients (RFC 9110 §13, RFC 9111 §4.3.2).

#![cfg(all(feature = "axum", feature = "memory"))]

mod support;

use support::{Answer, App, Origin, after, answer, body_of, date, settle};

fn tagged(etag: &str) -> App {
    App::new(Origin::with(&[
        ("cache-control", "max-age=60"),
        ("etag", etag),
    ]))
}

async fn if_none_match(app: &App, tags: &str) -> Answer {
    app.get_with("/", &[("if-none-match", tags)]).await
}

#[tokio::test(start_paused = true)]
async fn a_matching_tag_is_answered_304_from_the_store() {
    let app = tagged("\"a\"");
    app.get("/").await;
    after(10.5).await;
    let answer = if_none_match(&app, "\"a\"").await;
    assert_eq!((answer.status, answer.text()), (304, ""));
    assert_eq!(answer.told(), "larder; hit; ttl=50");
    assert_eq!(app.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_304_carries_what_the_200_would_and_nothing_of_the_body() {
    let modified = date(-100);
    let there = [
        ("cache-control", "max-age=60"),
        ("content-location", "/a"),
        ("date", &*date(0)),
        ("etag", "\"a\""),
        ("expires", &*date(60)),
        ("last-modified", &modified),
        ("vary", "x-a"),
        ("access-control-allow-origin", "*"),
    ];
    let gone = [
        ("content-type", "text/plain"),
        ("content-length", "1"),
        ("content-language", "en"),
        ("x-other", "1"),
    ];
    let app = App::new(Origin::with(&[&there[..], &gone[..]].concat()));
    app.get("/").await;
    let answer = if_none_match(&app, "\"a\"").await;
    assert_eq!(answer.status, 304);
    for (name, value) in there {
        assert_eq!(answer.header(name), Some(value));
    }
    for (name, _) in gone {
        assert_eq!(answer.header(name), None, "{name}");
    }
    assert_eq!(answer.age(), Some(0));
}

#[tokio::test(start_paused = true)]
async fn tags_are_compared_weakly_and_one_of_a_list_is_enough() {
    for (stored, asked, expected) in [
        ("\"a\"", "\"a\"", 304),
        ("\"a\"", "W/\"a\"", 304),
        ("W/\"a\"", "\"a\"", 304),
        ("W/\"a\"", "W/\"a\"", 304),
        ("\"a\"", "\"b\", \"a\"", 304),
        ("\"a\"", "\"b\" , W/\"a\" , \"c\"", 304),
        ("\"a,b\"", "\"a,b\"", 304),
        ("\"a,b\"", "\"a\", \"b\"", 200),
        ("\"a\"", "\"b\"", 200),
        ("\"a\"", "\"A\"", 200),
        ("\"a\"", "\"b\", \"c\"", 200),
        ("\"a\"", "*", 304),
        ("\"a\"", "\"*\"", 200),
        ("\"a\"", "", 200),
        ("\"\"", "\"\"", 304),
    ] {
        let app = tagged(stored);
        app.get("/").await;
        let answer = if_none_match(&app, asked).await;
        assert_eq!(answer.status, expected, "{stored} {asked}");
        assert_eq!(app.calls(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn several_lines_of_tags_are_one_list() {
    let app = tagged("\"a\"");
    app.get("/").await;
    let lines = [("if-none-match", "\"b\""), ("if-none-match", "\"a\"")];
    assert_eq!(app.get_with("/", &lines).await.status, 304);
}

#[tokio::test(start_paused = true)]
async fn a_star_matches_a_response_without_a_tag_and_a_tag_does_not() {
    let app = App::new(Origin::with(&[("cache-control", "max-age=60")]));
    app.get("/").await;
    assert_eq!(if_none_match(&app, "*").await.status, 304);
    assert_eq!(if_none_match(&app, "\"a\"").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn if_modified_since_is_read_in_all_three_formats() {
    let app = App::new(Origin::with(&[
        ("cache-control", "max-age=60"),
        ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
    ]));
    app.get("/").await;
    for (since, expected) in [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 304),
        ("sun, 06 nov 1994 08:49:37 gmt", 304),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 304),
        ("Sun Nov  6 08:49:37 1994", 304),
        ("Sun, 06 Nov 1994 08:49:38 GMT", 304),
        ("Sun, 06 Nov 1994 08:49:36 GMT", 200),
        ("Sun, 06 Nov 1994 08:49:37 UTC", 200),
        ("1994-11-06T08:49:37Z", 200),
        ("0", 200),
    ] {
        let answer = app.get_with("/", &[("if-modified-since", since)]).await;
        assert_eq!(answer.status, expected, "{since}");
    }
    let twice = ("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT");
    assert_eq!(app.get_with("/", &[twice, twice]).await.status, 200);
    assert_eq!(app.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_last_modified_the_date_is_compared() {
    let made = date(0);
    let app = App::new(Origin::with(&[
        ("cache-control", "max-age=60"),
        ("date", &made),
    ]));
    app.get("/").await;
    let since = async |since: String| app.get_with("/", &[("if-modified-since", &since)]).await;
    assert_eq!(since(made.clone()).await.status, 304);
    assert_eq!(since(date(-10)).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn if_none_match_comes_before_if_modified_since() {
    let modified = date(-100);
    let app = App::new(Origin::with(&[
        ("cache-control", "max-age=60"),
        ("etag", "\"a\""),
        ("last-modified", &modified),
    ]));
    app.get("/").await;
    let since = ("if-modified-since", &*modified);
    let other = app
        .get_with("/", &[("if-none-match", "\"b\""), since])
        .await;
    assert_eq!(other.status, 200);
    let old = date(-1_000);
    let since = ("if-modified-since", &*old);
    let same = app
        .get_with("/", &[("if-none-match", "\"a\""), since])
        .await;
    assert_eq!(same.status, 304);
}

#[tokio::test(start_paused = true)]
async fn conditions_are_evaluated_for_head_too() {
    let app = tagged("\"a\"");
    app.get("/").await;
    let head = app.send("HEAD", "/", &[("if-none-match", "\"a\"")]).await;
    assert_eq!((head.status, head.is_hit()), (304, true));
}

#[tokio::test(start_paused = true)]
async fn only_a_200_turns_into_a_304() {
    for status in [203, 301, 404, 410] {
        let fields = [("cache-control", "max-age=60"), ("etag", "\"a\"")];
        let app = App::new(Origin::of(status, &fields));
        app.get("/").await;
        assert_eq!(if_none_match(&app, "\"a\"").await.status, status);
        assert_eq!(if_none_match(&app, "*").await.status, status);
    }
}

#[tokio::test(start_paused = true)]
async fn a_miss_is_answered_304_while_the_whole_response_is_stored_for_the_next() {
    let app = App::new(Origin::now(|call| {
        let fields = [("cache-control", "max-age=60"), ("etag", "\"a\"")];
        match call.header("if-none-match") {
            Some(_) => answer(304, &fields, ""),
            None => answer(200, &fields, body_of("the body")),
        }
    }));
    let first = if_none_match(&app, "\"a\"").await;
    assert_eq!((first.status, first.text()), (304, ""));
    assert_eq!(first.told(), "larder; fwd=uri-miss; fwd-status=200; stored");
    settle().await;
    let second = app.get("/").await;
    assert_eq!((second.is_hit(), second.text()), (true, "the body"));
    assert_eq!(app.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_empty_response_is_stored_behind_a_304_too() {
    let app = App::new(Origin::now(|_| {
        answer(
            200,
            &[("cache-control", "max-age=60"), ("etag", "\"a\"")],
            "",
        )
    }));
    let first = if_none_match(&app, "\"a\"").await;
    assert_eq!(first.status, 304);
    assert_eq!(first.told(), "larder; fwd=uri-miss; fwd-status=200; stored");
    assert!(app.get("/").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_condition_that_fails_on_a_miss_gets_the_whole_response() {
    let app = tagged("\"a\"");
    let first = if_none_match(&app, "\"b\"").await;
    assert_eq!((first.status, first.text()), (200, "1"));
    assert!(app.get("/").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_handler_whose_responses_are_not_stored_sees_the_conditions_itself() {
    let app = App::new(Origin::now(|call| {
        let fields = [("cache-control", "private"), ("etag", "\"a\"")];
        match call.header("if-none-match") {
            Some("\"a\"") => answer(304, &fields, ""),
            _ => answer(200, &fields, "private"),
        }
    }));
    let first = if_none_match(&app, "\"a\"").await;
    assert_eq!((first.status, first.text()), (304, ""));
    let second = if_none_match(&app, "\"a\"").await;
    assert_eq!(second.status, 304);
    assert_eq!(app.origin.last_header("if-none-match").unwrap(), "\"a\"");
}

#[tokio::test(start_paused = true)]
async fn a_client_s_condition_does_not_reach_another_client() {
    let app = tagged("\"a\"");
    assert_eq!(if_none_match(&app, "\"a\"").await.status, 304);
    settle().await;
    assert_eq!(app.get("/").await.status, 200);
    assert_eq!(if_none_match(&app, "\"a\"").await.status, 304);
    assert_eq!(app.get("/").await.status, 200);
}
