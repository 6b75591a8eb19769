//! Ranges of responses that are stored whole (RFC 9110 §14, §15.3.7, §15.5.17).

#![cfg(all(feature = "axum", feature = "memory"))]

mod support;

use std::time::Duration;

use larder::{CacheLayer, Reason};
use proptest::prelude::*;
use support::{Answer, App, Origin, Step, after, answer, body_of, date, feed, frames, settle};

const TEXT: &str = "0123456789A";

/// Answers every request with the same whole, whatever it asks for.
fn whole(fields: &'static [(&str, &str)]) -> App {
    App::new(Origin::now(move |_| answer(200, fields, TEXT)))
}

const FIELDS: &[(&str, &str)] = &[
    ("cache-control", "max-age=60"),
    ("content-type", "text/plain"),
    ("content-language", "en"),
    ("etag", "\"a\""),
    ("x-own", "1"),
];

/// An app whose whole response is stored.
async fn stored() -> App {
    let app = whole(FIELDS);
    app.get("/").await;
    after(0.5).await;
    app
}

async fn range(app: &App, range: &str) -> Answer {
    app.get_with("/", &[("range", range)]).await
}

/// The parts of a multipart answer: the range that each has, its content type and its bytes.
fn parts(answer: &Answer) -> Vec<(String, String, String)> {
    let content_type = answer.header("content-type").unwrap();
    let boundary = content_type
        .strip_prefix("multipart/byteranges; boundary=")
        .unwrap();
    let between = format!("--{boundary}\r\n");
    let text = format!("\r\n{}", answer.text());
    let text = text
        .strip_suffix(&format!("\r\n--{boundary}--\r\n"))
        .unwrap();
    let (before, parts) = text.split_at(2);
    assert_eq!(before, "\r\n");
    let parts = parts.strip_prefix(&between).unwrap();
    let field = |head: &str, name: &str| {
        let line = head.split("\r\n").find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().to_owned()
    };
    parts
        .split(&format!("\r\n{between}"))
        .map(|part| part.split_once("\r\n\r\n").unwrap())
        .map(|(head, body)| {
            let range = field(head, "Content-Range: ");
            (range, field(head, "Content-Type: "), body.to_owned())
        })
        .collect()
}

// Single ranges

#[tokio::test(start_paused = true)]
async fn a_stored_response_answers_a_range_of_it() {
    let app = stored().await;
    for (asked, told, text) in [
        ("bytes=0-1", "bytes 0-1/11", "01"),
        ("bytes=1-", "bytes 1-10/11", "123456789A"),
        ("bytes=-1", "bytes 10-10/11", "A"),
        ("bytes=0-", "bytes 0-10/11", TEXT),
        ("bytes=9-99", "bytes 9-10/11", "9A"),
        ("bytes=-99", "bytes 0-10/11", TEXT),
        ("Bytes=3-3", "bytes 3-3/11", "3"),
    ] {
        let answer = range(&app, asked).await;
        assert_eq!((answer.status, answer.text()), (206, text), "{asked}");
        assert_eq!(answer.header("content-range"), Some(told));
        let len = text.len().to_string();
        assert_eq!(answer.header("content-length"), Some(&*len));
        assert!(answer.is_hit(), "{}", answer.told());
    }
    assert_eq!(app.calls(), 1);
    assert_eq!(app.cache.stats().http_hits, 7);
}

#[tokio::test(start_paused = true)]
async fn a_range_has_the_fields_of_the_whole_and_an_age() {
    let app = stored().await;
    after(7.0).await;
    let part = range(&app, "bytes=0-1").await;
    let hit = app.get("/").await;
    for name in [
        "cache-control",
        "content-type",
        "content-language",
        "etag",
        "x-own",
        "date",
        "age",
    ] {
        assert_eq!(part.header(name), hit.header(name), "{name}");
        assert!(part.header(name).is_some(), "{name}");
    }
    assert_eq!(part.age(), Some(7));
    assert_eq!(part.header("accept-ranges"), Some("bytes"));
}

#[tokio::test(start_paused = true)]
async fn what_describes_the_content_of_one_message_is_not_on_a_part_of_it() {
    let app = whole(&[
        ("cache-control", "max-age=60"),
        ("content-digest", "sha-256=:AAAA:"),
        ("repr-digest", "sha-256=:AAAA:"),
        ("content-md5", "AAAA"),
    ]);
    app.get("/").await;
    let part = range(&app, "bytes=0-1").await;
    assert_eq!(part.header("content-digest"), None);
    assert_eq!(part.header("content-md5"), None);
    assert_eq!(part.header("repr-digest"), Some("sha-256=:AAAA:"));
}

#[tokio::test(start_paused = true)]
async fn a_range_that_does_not_exist_is_a_416_with_the_length() {
    let app = stored().await;
    for asked in [
        "bytes=11-",
        "bytes=11-12",
        "bytes=-0",
        "bytes=99999999999999999999-",
    ] {
        let answer = range(&app, asked).await;
        assert_eq!((answer.status, answer.text()), (416, ""), "{asked}");
        assert_eq!(answer.header("content-range"), Some("bytes */11"));
        assert_eq!(answer.header("content-length"), Some("0"));
        assert!(answer.is_hit());
        for name in [
            "etag",
            "cache-control",
            "content-type",
            "expires",
            "last-modified",
        ] {
            assert_eq!(answer.header(name), None, "{name}");
        }
    }
    assert_eq!(app.get("/").await.text(), TEXT);
}

#[tokio::test(start_paused = true)]
async fn a_browser_may_see_a_416_of_another_origin() {
    let app = whole(&[
        ("cache-control", "max-age=60"),
        ("access-control-allow-origin", "*"),
        ("vary", "origin"),
    ]);
    app.get("/").await;
    let answer = range(&app, "bytes=11-").await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(answer.header("vary"), Some("origin"));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_answered_whole() {
    let app = stored().await;
    for asked in [
        "bytes=5-4",
        "bytes=x",
        "bytes",
        "items=0-1",
        "bytes=0-1,5-4",
    ] {
        let answer = range(&app, asked).await;
        assert_eq!((answer.status, answer.text()), (200, TEXT), "{asked}");
        assert!(answer.is_hit());
        assert_eq!(answer.header("content-range"), None);
    }
    let twice = [("range", "bytes=0-1"), ("range", "bytes=0-1")];
    assert_eq!(app.get_with("/", &twice).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn ranges_are_for_get_and_for_a_200() {
    let app = stored().await;
    let head = app.send("HEAD", "/", &[("range", "bytes=0-1")]).await;
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("11"))
    );
    assert!(head.is_hit());
    for status in [203, 404] {
        let app = App::new(Origin::of(status, &[("cache-control", "max-age=60")]));
        app.get("/").await;
        let answer = range(&app, "bytes=0-0").await;
        assert_eq!((answer.status, answer.is_hit()), (status, true));
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_serves_no_ranges_is_believed() {
    let app = whole(&[("cache-control", "max-age=60"), ("accept-ranges", "none")]);
    app.get("/").await;
    let answer = range(&app, "bytes=0-1").await;
    assert_eq!((answer.status, answer.text()), (200, TEXT));
    assert_eq!(answer.header("accept-ranges"), Some("none"));
}

#[tokio::test(start_paused = true)]
async fn an_empty_response_has_no_ranges() {
    let app = App::new(Origin::now(|_| {
        answer(200, &[("cache-control", "max-age=60")], "")
    }));
    app.get("/").await;
    assert_eq!(range(&app, "bytes=0-").await.status, 416);
    assert_eq!(range(&app, "bytes=-5").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_variant_is_ranged_as_it_is_stored() {
    let app = App::new(Origin::now(|call| {
        let is_plain = call.header("accept-encoding").is_none();
        let (coding, body) = if is_plain {
            ("identity", TEXT)
        } else {
            ("gzip", "not really gzip")
        };
        let fields = [
            ("cache-control", "max-age=60"),
            ("vary", "accept-encoding"),
            ("content-encoding", coding),
        ];
        answer(200, &fields, body)
    }));
    let gzip = ("accept-encoding", "gzip");
    app.get("/").await;
    app.get_with("/", &[gzip]).await;
    assert_eq!(range(&app, "bytes=0-2").await.text(), "012");
    let part = app.get_with("/", &[gzip, ("range", "bytes=0-2")]).await;
    assert_eq!(
        (part.text(), part.header("content-encoding")),
        ("not", Some("gzip"))
    );
    assert_eq!(part.header("content-range"), Some("bytes 0-2/15"));
    let several = app
        .get_with("/", &[gzip, ("range", "bytes=0-2,11-14")])
        .await;
    assert_eq!((several.status, several.text()), (200, "not really gzip"));
    assert_eq!(app.calls(), 2);
}

// Several ranges

#[tokio::test(start_paused = true)]
async fn several_ranges_are_parts_of_one_body() {
    let app = stored().await;
    let answer = range(&app, "bytes=0-1, 4-5, -1").await;
    assert_eq!((answer.status, answer.header("content-range")), (206, None));
    let len = answer.body.len().to_string();
    assert_eq!(answer.header("content-length"), Some(&*len));
    let part = |range: &str, text: &str| (range.into(), "text/plain".into(), text.into());
    assert_eq!(
        parts(&answer),
        [
            part("bytes 0-1/11", "01"),
            part("bytes 4-5/11", "45"),
            part("bytes 10-10/11", "A")
        ]
    );
    assert!(answer.is_hit());
}

#[tokio::test(start_paused = true)]
async fn parts_come_in_the_order_asked_for_and_without_what_does_not_exist() {
    let app = stored().await;
    let answer = range(&app, "bytes=6-7,99-,0-1").await;
    let ranges: Vec<_> = parts(&answer)
        .into_iter()
        .map(|(range, ..)| range)
        .collect();
    assert_eq!(ranges, ["bytes 6-7/11", "bytes 0-1/11"]);
}

#[tokio::test(start_paused = true)]
async fn ranges_that_touch_are_sent_once() {
    let app = stored().await;
    for asked in [
        "bytes=0-3,2-5",
        "bytes=0-1,2-5",
        "bytes=0-5,0-5,0-5,1-2",
        "bytes=0-5,99-",
    ] {
        let answer = range(&app, asked).await;
        assert_eq!(
            answer.header("content-range"),
            Some("bytes 0-5/11"),
            "{asked}"
        );
        assert_eq!(answer.text(), "012345");
    }
}

#[tokio::test(start_paused = true)]
async fn an_attack_by_many_ranges_gets_the_whole_once() {
    let app = stored().await;
    let many = format!("bytes={}", vec!["0-"; 1000].join(","));
    let answer = range(&app, &many).await;
    assert_eq!((answer.status, answer.text()), (200, TEXT));
}

#[tokio::test(start_paused = true)]
async fn no_two_answers_have_the_same_boundary() {
    let app = stored().await;
    let boundary = async || {
        let answer = range(&app, "bytes=0-0,2-2").await;
        answer.header("content-type").unwrap().to_owned()
    };
    assert_ne!(boundary().await, boundary().await);
}

// Conditions

#[tokio::test(start_paused = true)]
async fn a_condition_comes_before_the_range() {
    let app = stored().await;
    let with = async |fields: &[(&str, &str)]| app.get_with("/", fields).await;
    let not_modified = with(&[("range", "bytes=0-1"), ("if-none-match", "\"a\"")]).await;
    assert_eq!((not_modified.status, not_modified.text()), (304, ""));
    assert_eq!(not_modified.header("content-range"), None);
    let unsatisfiable = with(&[("range", "bytes=99-"), ("if-none-match", "\"a\"")]).await;
    assert_eq!(unsatisfiable.status, 304);
    let changed = with(&[("range", "bytes=0-1"), ("if-none-match", "\"b\"")]).await;
    assert_eq!((changed.status, changed.text()), (206, "01"));
}

#[tokio::test(start_paused = true)]
async fn if_range_takes_the_same_strong_tag_and_gets_fewer_fields() {
    let app = stored().await;
    let with = async |condition: &str, asked: &str| {
        app.get_with("/", &[("range", asked), ("if-range", condition)])
            .await
    };
    let part = with("\"a\"", "bytes=0-1").await;
    assert_eq!((part.status, part.text()), (206, "01"));
    for name in ["etag", "cache-control", "date", "content-range", "x-own"] {
        assert!(part.header(name).is_some(), "{name}");
    }
    for name in ["content-type", "content-language"] {
        assert_eq!(part.header(name), None, "{name}");
    }
    let several = with("\"a\"", "bytes=0-1,4-5").await;
    assert_eq!(parts(&several).len(), 2);
    assert_eq!(several.header("content-language"), None);
    for condition in ["\"b\"", "W/\"a\"", "a", "Thu, 20 Nov 2025 12:00:00 GMT"] {
        let answer = with(condition, "bytes=0-1").await;
        assert_eq!((answer.status, answer.text()), (200, TEXT), "{condition}");
    }
    assert_eq!(with("\"b\"", "bytes=99-").await.status, 200);
    assert_eq!(app.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn if_range_takes_a_date_that_is_strong() {
    let dated = |age: i64| {
        let modified = date(-age);
        let copy = modified.clone();
        let app = App::new(Origin::now(move |_| {
            let fields = [("cache-control", "max-age=60"), ("last-modified", &*copy)];
            answer(200, &fields, TEXT)
        }));
        (app, modified)
    };
    let (app, modified) = dated(10);
    app.get("/").await;
    let with = async |app: &App, condition: &str| {
        let fields = [("range", "bytes=0-1"), ("if-range", condition)];
        app.get_with("/", &fields).await.status
    };
    assert_eq!(with(&app, &modified).await, 206);
    assert_eq!(with(&app, &date(-9)).await, 200);
    let (app, modified) = dated(0);
    app.get("/").await;
    assert_eq!(
        with(&app, &modified).await,
        200,
        "it may have changed again"
    );
}

#[tokio::test(start_paused = true)]
async fn if_range_takes_no_date_that_a_response_may_have_in_several_codings() {
    let modified = date(-10);
    let own = modified.clone();
    let app = App::new(Origin::now(move |_| {
        let fields = [
            ("cache-control", "max-age=60"),
            ("last-modified", &*own),
            ("vary", "Accept-Encoding"),
        ];
        answer(200, &fields, TEXT)
    }));
    app.get("/").await;
    let fields = [("range", "bytes=0-1"), ("if-range", &*modified)];
    let whole = app.get_with("/", &fields).await;
    assert!(whole.is_hit());
    assert_eq!((whole.status, whole.text()), (200, TEXT));
}

// What is stored and does not answer as it is

#[tokio::test(start_paused = true)]
async fn a_stale_response_is_validated_as_a_whole_and_then_ranged() {
    let app = App::new(Origin::now(|call| {
        let is_known = call.header("if-none-match") == Some("\"a\"");
        answer(
            if is_known { 304 } else { 200 },
            FIELDS,
            if is_known { "" } else { TEXT },
        )
    }));
    app.get("/").await;
    after(60.5).await;
    let part = range(&app, "bytes=3-4").await;
    assert_eq!((part.status, part.text()), (206, "34"));
    assert_eq!(part.told(), "larder; fwd=stale; fwd-status=304; stored");
    assert_eq!(app.origin.last_header("range"), None);
    assert!(app.get("/").await.is_hit());
    assert_eq!(app.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_range_of_what_has_changed_is_taken_from_the_new_whole() {
    let app = App::new(Origin::now(|call| {
        let etag = format!("\"{}\"", call.number);
        let fields = [("cache-control", "max-age=60"), ("etag", &*etag)];
        answer(200, &fields, format!("whole {}", call.number))
    }));
    app.get("/").await;
    after(60.5).await;
    let part = range(&app, "bytes=0-4").await;
    assert_eq!((part.status, part.text()), (206, "whole"));
    assert_eq!(part.header("content-range"), Some("bytes 0-4/7"));
    assert_eq!(part.told(), "larder; fwd=stale; fwd-status=200; stored");
    let hit = app.get("/").await;
    assert_eq!((hit.is_hit(), hit.text()), (true, "whole 2"));
    after(60.5).await;
    let old = [("range", "bytes=0-4"), ("if-range", "\"2\"")];
    let changed = app.get_with("/", &old).await;
    assert_eq!((changed.status, changed.text()), (200, "whole 3"));
}

#[tokio::test(start_paused = true)]
async fn directives_weigh_for_ranges_as_for_the_whole() {
    let app = stored().await;
    let with = async |directive: &str| {
        let fields = [("range", "bytes=0-1"), ("cache-control", directive)];
        app.get_with("/", &fields).await
    };
    let forced = with("no-cache").await;
    assert_eq!(forced.told(), "larder; fwd=request; fwd-status=200; stored");
    assert_eq!((forced.status, forced.text()), (206, "01"));
    assert!(with("max-age=30").await.is_hit());
    assert!(with("only-if-cached").await.is_hit());
    let no_store = with("no-store").await;
    assert_eq!((no_store.status, no_store.is_hit()), (200, false));
    after(61.0).await;
    assert_eq!(with("only-if-cached").await.status, 504);
    let stale = with("max-stale=10").await;
    assert_eq!((stale.status, stale.is_hit()), (206, true));
}

#[tokio::test(start_paused = true)]
async fn a_response_with_no_cache_is_ranged_after_validation_only() {
    let app = App::new(Origin::now(|call| {
        let fields = [("cache-control", "no-cache"), ("etag", "\"a\"")];
        match call.header("if-none-match") {
            Some(_) => answer(304, &fields, ""),
            None => answer(200, &fields, TEXT),
        }
    }));
    app.get("/").await;
    for calls in [2, 3] {
        assert_eq!(range(&app, "bytes=0-1").await.text(), "01");
        assert_eq!(app.calls(), calls);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_response_is_ranged_when_the_handler_fails() {
    let app = App::new(Origin::now(|call| match call.number {
        1 => answer(200, FIELDS, TEXT),
        _ => answer(503, &[], "down"),
    }));
    app.get("/").await;
    after(61.0).await;
    let part = range(&app, "bytes=0-1").await;
    assert_eq!((part.status, part.text()), (206, "01"));
    assert!(part.told().ends_with("detail=stale-if-error"));
}

#[tokio::test(start_paused = true)]
async fn a_stale_response_is_ranged_while_the_whole_is_revalidated() {
    let fields = &[("cache-control", "max-age=60, stale-while-revalidate=60")];
    let app = whole(fields);
    app.get("/").await;
    after(61.0).await;
    let part = range(&app, "bytes=0-1").await;
    assert_eq!((part.status, part.text()), (206, "01"));
    settle().await;
    assert_eq!(app.origin.last_header("range"), None);
    let hit = app.get("/").await;
    assert!(hit.is_hit() && hit.age() == Some(0), "{}", hit.told());
    assert_eq!(app.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_needs_no_credentials_is_not_ranged_for_those_who_have_some() {
    let origin = Origin::now(|_| answer(200, &[], TEXT));
    let minute = Duration::from_secs(60);
    let app = App::changed(origin, |layer: CacheLayer| layer.default_ttl(minute));
    app.get("/").await;
    let fields = [("range", "bytes=0-1"), ("cookie", "id=1")];
    let own = app.get_with("/", &fields).await;
    assert_eq!((own.status, own.is_hit()), (200, false));
    assert_eq!(
        app.origin.last_header("range").as_deref(),
        Some("bytes=0-1")
    );
    assert!(range(&app, "bytes=0-1").await.is_hit());
}

// Nothing stored

/// Lets the layer see that the handler has no parts to give.
async fn learn(app: &App) {
    let whole = range(app, "bytes=0-0").await;
    assert_eq!((whole.status, whole.is_stored()), (200, false));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_gives_no_parts_is_asked_for_the_whole_next_time() {
    let app = whole(FIELDS);
    let first = range(&app, "bytes=3-4").await;
    assert_eq!((first.status, first.text()), (200, TEXT));
    assert_eq!(first.told(), "larder; fwd=uri-miss; detail=range");
    assert_eq!(
        app.origin.last_header("range").as_deref(),
        Some("bytes=3-4")
    );
    let part = range(&app, "bytes=3-4").await;
    assert_eq!((part.status, part.text()), (206, "34"));
    assert_eq!(part.header("content-range"), Some("bytes 3-4/11"));
    assert_eq!(part.told(), "larder; fwd=uri-miss; fwd-status=200; stored");
    assert_eq!(app.origin.last_header("range"), None);
    let hit = app.get("/").await;
    assert_eq!((hit.is_hit(), hit.text()), (true, TEXT));
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_made_of_a_range_is_nobody_else_s() {
    let app = App::new(Origin::now(|call| match call.header("range") {
        Some(own) => answer(200, FIELDS, format!("made for {own}")),
        None => answer(200, FIELDS, TEXT),
    }));
    for asked in ["bytes=0-1", "bytes=0-1", "bytes=5-", "items=0-1"] {
        range(&app, asked).await;
    }
    let hit = app.get("/").await;
    assert_eq!((hit.is_hit(), hit.text()), (true, TEXT));
}

#[tokio::test(start_paused = true)]
async fn a_range_of_a_body_in_pieces_is_cut_from_them() {
    let pieces = [Step::Data("0123"), Step::Data("456"), Step::Data("789A")];
    for (asked, text) in [
        ("bytes=0-1", "01"),
        ("bytes=2-8", "2345678"),
        ("bytes=4-6", "456"),
        ("bytes=5-", "56789A"),
        ("bytes=-1", "A"),
        ("bytes=0-", TEXT),
    ] {
        let app = App::new(Origin::now(move |_| {
            let fields = [("cache-control", "max-age=60"), ("content-length", "11")];
            answer(200, &fields, frames(&pieces))
        }));
        learn(&app).await;
        let part = range(&app, asked).await;
        assert_eq!((part.status, part.text()), (206, text), "{asked}");
        let hit = app.get("/").await;
        assert_eq!((hit.is_hit(), hit.text()), (true, TEXT), "{asked}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_range_waits_until_the_whole_is_stored() {
    let (feed, body) = feed();
    let body = std::sync::Mutex::new(Some(body));
    let app = App::new(Origin::now(move |call| {
        let fields = [("cache-control", "max-age=60"), ("content-length", "11")];
        match call.number {
            1 => answer(200, &fields, TEXT),
            _ => answer(200, &fields, body.lock().unwrap().take().unwrap()),
        }
    }));
    learn(&app).await;
    let reading = tokio::spawn({
        let app = app.clone();
        async move { range(&app, "bytes=0-1").await }
    });
    feed.send(Step::Data("01234"));
    settle().await;
    assert!(!reading.is_finished());
    feed.send(Step::Data("56789A"));
    assert_eq!(reading.await.unwrap().text(), "01");
    assert!(app.get("/").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_range_that_is_there_is_not_lost_when_the_rest_breaks_off() {
    let app = App::new(Origin::now(|call| {
        let fields = [("cache-control", "max-age=60"), ("content-length", "11")];
        match call.number {
            1 => answer(200, &fields, TEXT),
            _ => answer(200, &fields, frames(&[Step::Data("01234"), Step::Break])),
        }
    }));
    learn(&app).await;
    let part = range(&app, "bytes=0-1").await;
    assert_eq!((part.status, part.text(), part.is_whole), (206, "01", true));
    assert!(!range(&app, "bytes=3-7").await.is_whole);
    assert!(!app.get("/").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_stays_whole_where_it_is_not_stored_or_cannot_be_cut() {
    let app = whole(&[("cache-control", "no-store")]);
    for _ in 0..2 {
        let answer = range(&app, "bytes=0-1").await;
        assert_eq!((answer.status, answer.text()), (200, TEXT));
    }
    let app = App::new(Origin::now(|_| {
        answer(200, &[("cache-control", "max-age=60")], body_of(TEXT))
    }));
    learn(&app).await;
    assert_eq!(range(&app, "bytes=0-1").await.text(), TEXT);
    assert_eq!(range(&app, "bytes=0-1").await.text(), "01");
    let app = whole(FIELDS);
    learn(&app).await;
    let several = range(&app, "bytes=0-1,4-5").await;
    assert_eq!((several.status, several.text()), (200, TEXT));
    assert_eq!(range(&app, "bytes=0-1,4-5").await.status, 206);
}

#[tokio::test(start_paused = true)]
async fn a_range_that_does_not_exist_stores_the_whole_all_the_same() {
    let app = whole(FIELDS);
    learn(&app).await;
    let answer = range(&app, "bytes=11-").await;
    assert_eq!(
        (answer.status, answer.header("content-range")),
        (416, Some("bytes */11"))
    );
    settle().await;
    assert!(app.get("/").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn the_handler_s_own_416_is_passed_on_and_harms_nobody() {
    let app = App::new(Origin::now(|call| match call.header("range") {
        Some(_) => answer(416, &[("content-range", "bytes */11")], ""),
        None => answer(200, FIELDS, TEXT),
    }));
    let answer = range(&app, "bytes=99-").await;
    assert_eq!((answer.status, answer.is_stored()), (416, false));
    assert!(app.get("/").await.is_stored());
    assert!(range(&app, "bytes=0-1").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn ranges_in_another_unit_are_the_handler_s_and_not_stored() {
    let app = App::new(Origin::now(|call| match call.header("range") {
        Some("items=0-1") => answer(206, &[("content-range", "items 0-1/9")], "items"),
        Some(_) => answer(200, FIELDS, "what the handler makes of it"),
        None => answer(200, FIELDS, TEXT),
    }));
    let items = range(&app, "items=0-1").await;
    assert_eq!((items.status, items.text()), (206, "items"));
    assert_eq!(items.told(), "larder; fwd=uri-miss; detail=range");
    let odd = range(&app, "bytes=1-0").await;
    assert!(!odd.is_stored());
    assert_eq!(app.cache.stats().reasons[Reason::Range], 2);
    let whole = app.get("/").await;
    assert_eq!((whole.is_stored(), whole.text()), (true, TEXT));
}

#[tokio::test(start_paused = true)]
async fn requests_for_the_whole_do_not_wait_for_one_that_asks_for_a_part() {
    let app = App::new(Origin::new(|call| async move {
        if call.header("range").is_some() {
            tokio::time::sleep(Duration::from_secs(3)).await;
            return Ok(answer(206, &[("content-range", "bytes 0-1/11")], "01"));
        }
        Ok(answer(200, FIELDS, TEXT))
    }));
    let part = tokio::spawn({
        let app = app.clone();
        async move { range(&app, "bytes=0-1").await }
    });
    settle().await;
    let begun = tokio::time::Instant::now();
    assert_eq!(app.get("/").await.text(), TEXT);
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(part.await.unwrap().status, 206);
    assert!(app.get("/").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn ranges_of_a_stale_response_wait_for_one_validation() {
    let app = App::new(Origin::new(|call| async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let is_known = call.header("if-none-match").is_some();
        Ok(answer(
            if is_known { 304 } else { 200 },
            FIELDS,
            if is_known { "" } else { TEXT },
        ))
    }));
    app.get("/").await;
    after(61.0).await;
    let asking: Vec<_> = (0..10)
        .map(|at| {
            let app = app.clone();
            tokio::spawn(async move { range(&app, &format!("bytes={at}-{at}")).await })
        })
        .collect();
    for (at, asking) in asking.into_iter().enumerate() {
        let part = asking.await.unwrap();
        assert_eq!((part.status, part.text()), (206, &*at.to_string()));
    }
    assert_eq!(app.calls(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_range_answered_is_that_slice_of_the_whole(
        body in prop::collection::vec(any::<u8>(), 1..300),
        specs in prop::collection::vec((0_usize..320, 0_usize..320), 1..5),
        is_stored: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let whole = body.clone();
            let origin = Origin::now(move |_| answer(200, &[("cache-control", "max-age=60")], whole.clone()));
            let app = App::new(origin);
            match is_stored {
                true => drop(app.get("/").await),
                false => learn(&app).await,
            }
            let specs: Vec<_> = specs.iter().map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))).collect();
            let answer = range(&app, &format!("bytes={}", specs.join(","))).await;
            let slice = |told: &str, bytes: &[u8]| {
                let (span, len) = told.strip_prefix("bytes ").unwrap().split_once('/').unwrap();
                let (first, last) = span.split_once('-').unwrap();
                let span = first.parse().unwrap()..=last.parse().unwrap();
                assert_eq!((&body[span], len.parse()), (bytes, Ok(body.len())));
            };
            match (answer.status, answer.header("content-range")) {
                (200, None) => assert_eq!(answer.body, body),
                (206, Some(told)) => slice(told, &answer.body),
                (416, told) => assert_eq!(told, Some(&*format!("bytes */{}", body.len()))),
                (206, None) => assert!(is_stored && answer.header("content-type").is_some()),
                other => panic!("{other:?}"),
            }
            assert_eq!(app.get("/").await.body, body);
        });
    }
}
