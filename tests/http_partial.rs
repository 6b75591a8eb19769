//! Parts of responses: stored, answered from, combined and ended (RFC 9111 §3.3, §3.4).

#![cfg(all(feature = "axum", feature = "memory"))]

mod support;

use std::{ops::Range, time::Duration};

use axum::body::Body;
use http::Response;
use larder::{Cache, Reason};
use proptest::prelude::*;
use support::{Answer, App, Asking, Call, Origin, Step, after, answer, date, frames, settle};

const TEXT: &str = "0123456789A";
const HOUR: (&str, &str) = ("cache-control", "max-age=3600");

/// The one range that a request asks for of so many bytes.
fn asked(call: &Call, len: usize) -> Option<Range<usize>> {
    let range = call.header("range")?.strip_prefix("bytes=")?;
    let (first, last) = range.split_once('-')?;
    let span = match (first.parse(), last.parse::<usize>()) {
        (Ok(first), Ok(last)) => first..len.min(last + 1),
        (Ok(first), Err(_)) => first..len,
        (Err(_), last) => len.saturating_sub(last.ok()?)..len,
    };
    (span.start < span.end).then_some(span)
}

/// Answers as a server of files does.
fn file(call: &Call, fields: &[(&str, &str)], text: &str) -> Response<Body> {
    let etag = fields.iter().find(|(name, _)| *name == "etag");
    let etag = etag.map(|(_, value)| *value);
    if etag.is_some() && call.header("if-none-match") == etag {
        return answer(304, fields, "");
    }
    let is_same = call
        .header("if-range")
        .is_none_or(|known| Some(known) == etag);
    match asked(call, text.len()).filter(|_| is_same) {
        Some(span) => {
            let told = format!("bytes {}-{}/{}", span.start, span.end - 1, text.len());
            let own = [("content-range", &*told)];
            answer(206, &[fields, &own].concat(), text[span].to_owned())
        }
        None => answer(200, fields, text.to_owned()),
    }
}

const FIELDS: &[(&str, &str)] = &[HOUR, ("etag", "\"a\""), ("content-type", "text/plain")];

fn files(fields: &'static [(&str, &str)]) -> App {
    App::new(Origin::now(move |call| file(&call, fields, TEXT)))
}

/// An origin whose file is another one from the second call on.
fn changing() -> App {
    App::new(Origin::now(|call| match call.number {
        1 => file(
            &call,
            &[("cache-control", "max-age=60"), ("etag", "\"1\"")],
            "one one one",
        ),
        _ => file(
            &call,
            &[("cache-control", "max-age=60"), ("etag", "\"2\"")],
            "two two two",
        ),
    }))
}

async fn range(app: &App, range: &str) -> Answer {
    app.get_with("/", &[("range", range)]).await
}

/// Asks for a range that the handler has to give.
async fn fetched(app: &App, asked: &str) -> Answer {
    let calls = app.calls();
    let part = range(app, asked).await;
    assert_eq!((part.status, app.calls()), (206, calls + 1), "{asked}");
    part
}

/// Asks for a range that must come from the store.
async fn hit(app: &App, asked: &str) -> String {
    let part = range(app, asked).await;
    assert!(part.is_hit(), "{asked}: {}", part.told());
    assert_eq!(part.status, 206, "{asked}");
    part.text().to_owned()
}

// Storing and answering

#[tokio::test(start_paused = true)]
async fn a_stored_part_answers_the_ranges_that_it_has() {
    let app = files(FIELDS);
    let first = fetched(&app, "bytes=2-7").await;
    assert_eq!(first.text(), "234567");
    assert_eq!(first.told(), "larder; fwd=uri-miss; stored");
    assert_eq!(
        app.origin.last_header("range").as_deref(),
        Some("bytes=2-7")
    );
    after(3.0).await;
    let part = range(&app, "bytes=3-5").await;
    assert_eq!((part.status, part.text()), (206, "345"));
    assert_eq!(part.header("content-range"), Some("bytes 3-5/11"));
    assert_eq!(part.header("content-length"), Some("3"));
    assert_eq!(
        (part.header("content-type"), part.age()),
        (Some("text/plain"), Some(3))
    );
    assert!(part.is_hit());
    assert_eq!(hit(&app, "bytes=2-7").await, "234567");
    assert_eq!(app.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn open_ends_and_suffixes_are_counted_from_the_whole() {
    let app = files(FIELDS);
    fetched(&app, "bytes=-5").await;
    assert_eq!(hit(&app, "bytes=-5").await, "6789A");
    assert_eq!(hit(&app, "bytes=8-").await, "89A");
    assert_eq!(hit(&app, "bytes=-1").await, "A");
    assert_eq!(hit(&app, "bytes=9-99").await, "9A");
    let none = range(&app, "bytes=11-").await;
    assert_eq!(
        (none.status, none.header("content-range")),
        (416, Some("bytes */11"))
    );
    assert!(none.is_hit());
}

#[tokio::test(start_paused = true)]
async fn several_ranges_are_answered_where_all_are_there() {
    let app = files(FIELDS);
    fetched(&app, "bytes=0-3").await;
    fetched(&app, "bytes=7-10").await;
    let parts = range(&app, "bytes=1-2,8-9").await;
    assert_eq!(parts.status, 206);
    assert!(parts.is_hit() && parts.text().contains("12\r\n") && parts.text().contains("89\r\n"));
    let calls = app.calls();
    range(&app, "bytes=1-2,4-5").await;
    assert_eq!(app.calls(), calls + 1);
}

#[tokio::test(start_paused = true)]
async fn a_part_never_answers_for_the_whole() {
    let app = files(FIELDS);
    fetched(&app, "bytes=0-9").await;
    for (method, fields) in [
        ("GET", &[][..]),
        ("HEAD", &[]),
        ("GET", &[("range", "items=0-1")]),
        ("GET", &[("range", "bytes=0-")]),
        ("GET", &[("range", "bytes=0-1"), ("if-range", "\"b\"")]),
    ] {
        let app = files(FIELDS);
        fetched(&app, "bytes=0-9").await;
        let whole = app.send(method, "/", fields).await;
        assert!(!whole.is_hit(), "{method} {fields:?}: {}", whole.told());
        assert_eq!(app.calls(), 2);
    }
    let whole = app.get("/").await;
    assert_eq!((whole.status, whole.text()), (200, TEXT));
    assert_eq!(whole.told(), "larder; fwd=uri-miss; stored");
    assert_eq!(app.origin.last_header("range"), None);
    assert!(app.get("/").await.is_hit());
    assert_eq!(hit(&app, "bytes=0-10").await, TEXT);
}

#[tokio::test(start_paused = true)]
async fn a_range_that_is_not_there_is_asked_for_as_it_is() {
    let app = files(FIELDS);
    fetched(&app, "bytes=0-3").await;
    let more = fetched(&app, "bytes=2-5").await;
    assert_eq!(more.told(), "larder; fwd=partial; stored");
    assert_eq!(
        app.origin.last_header("range").as_deref(),
        Some("bytes=2-5")
    );
    assert_eq!(app.origin.last_header("if-none-match"), None);
    assert_eq!(app.cache.stats().reasons[Reason::OtherPart], 1);
}

// What is not stored

#[tokio::test(start_paused = true)]
async fn a_part_that_is_not_what_it_says_is_not_stored() {
    for (content_range, body) in [
        ("bytes 0-4/*", "01234"),
        ("bytes 4-9/10", "01234"),
        ("bytes 0-4/10", "012345"),
        ("bytes 0-4/10", "0123"),
        ("bytes 0-4/4", "01234"),
        ("bytes 4-0/10", "01234"),
        ("bytes */10", "01234"),
        ("items 0-4/10", "01234"),
        ("none", "01234"),
    ] {
        let app = App::new(Origin::now(move |_| {
            answer(
                206,
                &[HOUR, ("etag", "\"a\""), ("content-range", content_range)],
                body,
            )
        }));
        for _ in 0..2 {
            let part = range(&app, "bytes=0-4").await;
            assert_eq!((part.status, part.text()), (206, body));
            assert_eq!(
                part.told(),
                "larder; fwd=uri-miss; detail=partial",
                "{content_range}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_with_two_content_ranges_or_in_several_parts_is_not_stored() {
    const ONE: (&str, &str) = ("content-range", "bytes 0-4/10");
    const ETAG: (&str, &str) = ("etag", "\"a\"");
    for fields in [
        &[HOUR, ETAG, ONE, ONE][..],
        &[HOUR, ETAG],
        &[
            HOUR,
            ("etag", "\"a\""),
            ONE,
            ("content-type", "Multipart/Byteranges; boundary=x"),
        ],
        &[HOUR, ETAG, ONE, ("content-length", "6")],
    ] {
        let app = App::new(Origin::now(move |_| answer(206, fields, "01234")));
        assert!(!range(&app, "bytes=0-4").await.is_stored(), "{fields:?}");
        assert!(!range(&app, "bytes=0-4").await.is_hit(), "{fields:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_without_a_length_or_with_another_one_is_not_stored() {
    let part = ("content-range", "bytes 0-4/10");
    let app = App::new(Origin::now(move |_| {
        answer(
            206,
            &[HOUR, ("etag", "\"a\""), part],
            frames(&[Step::Data("01234")]),
        )
    }));
    assert!(!range(&app, "bytes=0-4").await.is_stored());
    for steps in [
        &[Step::Data("0123")][..],
        &[Step::Data("0123"), Step::Break],
        &[Step::Data("012345")],
    ] {
        let app = App::new(Origin::now(move |_| {
            let fields = [HOUR, ("etag", "\"a\""), part, ("content-length", "5")];
            answer(206, &fields, frames(steps))
        }));
        range(&app, "bytes=0-4").await;
        assert!(!range(&app, "bytes=0-3").await.is_hit(), "{steps:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_without_a_strong_validator_is_not_stored() {
    for fields in [
        &[HOUR][..],
        &[HOUR, ("etag", "W/\"a\"")],
        &[HOUR, ("etag", "a")],
        &[HOUR, ("last-modified", "yesterday")],
    ] {
        let app = App::new(Origin::now(move |call| file(&call, fields, TEXT)));
        assert!(!fetched(&app, "bytes=0-4").await.is_stored(), "{fields:?}");
        assert!(!fetched(&app, "bytes=0-4").await.is_hit());
    }
}

#[tokio::test(start_paused = true)]
async fn a_date_is_a_strong_validator_where_it_is_older_than_the_response() {
    for (age, is_strong) in [(0, false), (1, true), (1000, true)] {
        let modified = date(-age);
        let app = App::new(Origin::now(move |call| {
            file(&call, &[HOUR, ("last-modified", &modified)], TEXT)
        }));
        assert_eq!(
            fetched(&app, "bytes=0-4").await.is_stored(),
            is_strong,
            "{age}"
        );
        after(5.0).await;
        assert_eq!(range(&app, "bytes=1-2").await.is_hit(), is_strong, "{age}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_forbids_storing_the_whole_forbids_storing_a_part() {
    for (directive, request) in [
        ("no-store", &[][..]),
        ("private, max-age=60", &[]),
        ("max-age=60", &[("authorization", "Basic YTpi")]),
    ] {
        let app = App::new(Origin::now(move |call| {
            file(
                &call,
                &[("cache-control", directive), ("etag", "\"a\"")],
                TEXT,
            )
        }));
        for _ in 0..2 {
            let fields = [&[("range", "bytes=0-4")], request].concat();
            let part = app.get_with("/", &fields).await;
            assert!(
                !part.is_stored() && !part.is_hit(),
                "{directive}: {}",
                part.told()
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_for_a_request_that_did_not_ask_for_one_is_not_stored() {
    let app = App::new(Origin::now(|_| {
        answer(
            206,
            &[HOUR, ("etag", "\"a\""), ("content-range", "bytes 0-4/11")],
            "01234",
        )
    }));
    assert!(!app.get("/").await.is_stored());
    assert!(!app.get("/").await.is_hit());
    fetched(&app, "bytes=0-4").await;
    assert_eq!(hit(&app, "bytes=0-4").await, "01234");
}

#[tokio::test(start_paused = true)]
async fn a_part_that_lacks_what_its_client_knows_is_not_the_first() {
    let app = files(FIELDS);
    let known = [("range", "bytes=0-4"), ("if-range", "\"a\"")];
    let part = app.get_with("/", &known).await;
    assert_eq!(
        (part.status, &*part.told()),
        (206, "larder; fwd=uri-miss; detail=partial")
    );
    fetched(&app, "bytes=5-6").await;
    assert!(app.get_with("/", &known).await.is_stored());
    assert_eq!(hit(&app, "bytes=0-6").await, "0123456");
}

// Combining

#[tokio::test(start_paused = true)]
async fn parts_of_one_version_are_combined() {
    let app = files(FIELDS);
    for asked in ["bytes=0-2", "bytes=3-5", "bytes=5-7"] {
        assert!(fetched(&app, asked).await.is_stored());
    }
    assert_eq!(hit(&app, "bytes=0-7").await, "01234567");
    fetched(&app, "bytes=10-10").await;
    assert_eq!(hit(&app, "bytes=-1").await, "A");
    assert_eq!(hit(&app, "bytes=2-6").await, "23456");
    assert!(!fetched(&app, "bytes=7-10").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn parts_with_nothing_missing_are_the_whole() {
    let app = files(FIELDS);
    fetched(&app, "bytes=6-").await;
    fetched(&app, "bytes=0-3").await;
    assert!(fetched(&app, "bytes=2-8").await.is_stored());
    let whole = app.get("/").await;
    assert_eq!((whole.status, whole.text()), (200, TEXT));
    assert!(whole.is_hit());
    assert_eq!(whole.header("content-range"), None);
    assert_eq!(whole.header("content-length"), Some("11"));
    assert_eq!(whole.header("content-type"), Some("text/plain"));
    assert!(app.send("HEAD", "/", &[]).await.is_hit());
    assert_eq!(app.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_part_that_is_everything_is_the_whole() {
    let app = files(FIELDS);
    assert!(fetched(&app, "bytes=0-").await.is_stored());
    let whole = app.get("/").await;
    assert_eq!(
        (whole.status, whole.text(), whole.is_hit()),
        (200, TEXT, true)
    );
}

#[tokio::test(start_paused = true)]
async fn parts_of_two_versions_are_never_combined() {
    let app = changing();
    fetched(&app, "bytes=0-4").await;
    fetched(&app, "bytes=5-10").await;
    assert_eq!(hit(&app, "bytes=5-10").await, "wo two"[..].to_owned());
    assert!(!app.get("/").await.is_hit());
    let app = changing();
    fetched(&app, "bytes=0-4").await;
    fetched(&app, "bytes=8-10").await;
    assert_eq!(fetched(&app, "bytes=0-4").await.text(), "two t");
}

#[tokio::test(start_paused = true)]
async fn parts_of_one_version_that_disagree_about_its_length_are_not_combined() {
    let app = App::new(Origin::now(|call| {
        let (told, body) = match call.number {
            1 => ("bytes 0-4/10", "01234"),
            _ => ("bytes 5-6/7", "56"),
        };
        answer(
            206,
            &[HOUR, ("etag", "\"a\""), ("content-range", told)],
            body,
        )
    }));
    fetched(&app, "bytes=0-4").await;
    fetched(&app, "bytes=5-6").await;
    assert!(!range(&app, "bytes=0-6").await.is_hit());
    assert!(!app.get("/").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn the_newest_part_brings_the_fields_up_to_date() {
    let app = App::new(Origin::now(|call| {
        let number = call.number.to_string();
        let (first, second) = ([("x-first", "1")], [("x-second", "2")]);
        let own = if call.number == 1 { first } else { second };
        let shared = [HOUR, ("etag", "\"a\""), ("x-number", &*number)];
        file(&call, &[&shared[..], &own].concat(), TEXT)
    }));
    fetched(&app, "bytes=0-4").await;
    fetched(&app, "bytes=5-6").await;
    let part = range(&app, "bytes=0-6").await;
    assert!(part.is_hit());
    assert_eq!(part.header("x-number"), Some("2"));
    assert_eq!(
        (part.header("x-first"), part.header("x-second")),
        (Some("1"), Some("2"))
    );
}

#[tokio::test(start_paused = true)]
async fn parts_take_no_more_room_than_a_body() {
    let origin = Origin::now(|call| file(&call, FIELDS, TEXT));
    let app = App::changed(origin, |layer| layer.max_body_bytes(6));
    assert_eq!(
        fetched(&app, "bytes=0-6").await.told(),
        "larder; fwd=uri-miss; detail=too-large"
    );
    fetched(&app, "bytes=0-2").await;
    fetched(&app, "bytes=8-10").await;
    assert_eq!(hit(&app, "bytes=0-2").await, "012");
    fetched(&app, "bytes=6-7").await;
    assert_eq!(hit(&app, "bytes=6-10").await, "6789A");
    fetched(&app, "bytes=0-2").await;
}

#[tokio::test(start_paused = true)]
async fn only_so_many_parts_are_kept() {
    let text: &'static str = "0123456789".repeat(20).leak();
    let app = App::new(Origin::now(move |call| file(&call, FIELDS, text)));
    for at in 0..40 {
        fetched(&app, &format!("bytes={}-{}", at * 3, at * 3)).await;
    }
    assert_eq!(hit(&app, "bytes=117-117").await, text[117..118]);
    fetched(&app, "bytes=0-0").await;
}

// Conditions and validation

#[tokio::test(start_paused = true)]
async fn a_condition_is_answered_from_a_part() {
    let app = files(FIELDS);
    fetched(&app, "bytes=0-4").await;
    let with = async |name, value| {
        app.get_with("/", &[("range", "bytes=0-1"), (name, value)])
            .await
    };
    assert_eq!(with("if-none-match", "\"a\"").await.status, 304);
    assert_eq!(with("if-none-match", "\"b\"").await.text(), "01");
    let known = with("if-range", "\"a\"").await;
    assert_eq!(
        (known.status, known.text(), known.header("content-type")),
        (206, "01", None)
    );
    assert_eq!(app.calls(), 1);
    let other = with("if-range", "\"b\"").await;
    assert_eq!((other.status, other.text()), (200, TEXT));
    assert_eq!(app.origin.last_header("if-range").as_deref(), Some("\"b\""));
}

#[tokio::test(start_paused = true)]
async fn a_stale_part_is_validated_and_a_304_brings_it_back() {
    let app = files(&[("cache-control", "max-age=60"), ("etag", "\"a\"")]);
    fetched(&app, "bytes=0-4").await;
    after(60.5).await;
    let part = range(&app, "bytes=1-2").await;
    assert_eq!((part.status, part.text()), (206, "12"));
    assert_eq!(part.told(), "larder; fwd=stale; fwd-status=304; stored");
    assert_eq!(
        app.origin.last_header("range").as_deref(),
        Some("bytes=1-2")
    );
    assert_eq!(
        app.origin.last_header("if-none-match").as_deref(),
        Some("\"a\"")
    );
    assert_eq!(hit(&app, "bytes=0-4").await, "01234");
    assert_eq!(app.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stale_part_of_what_has_changed_is_replaced() {
    let app = changing();
    fetched(&app, "bytes=0-4").await;
    after(60.5).await;
    let part = range(&app, "bytes=0-2").await;
    assert_eq!((part.status, part.text()), (206, "two"));
    assert_eq!(hit(&app, "bytes=0-2").await, "two");
    assert_eq!(fetched(&app, "bytes=3-4").await.text(), " t");
}

#[tokio::test(start_paused = true)]
async fn if_range_speaks_of_what_the_client_has_when_a_stale_part_is_validated() {
    let app = changing();
    fetched(&app, "bytes=0-4").await;
    after(60.5).await;
    let known = [("range", "bytes=0-2"), ("if-range", "\"1\"")];
    let whole = app.get_with("/", &known).await;
    assert_eq!((whole.status, whole.text()), (200, "two two two"));
    assert_eq!(app.origin.last_header("if-range").as_deref(), Some("\"1\""));
}

#[tokio::test(start_paused = true)]
async fn a_stale_part_without_the_range_is_not_validated_but_joined() {
    let app = files(&[("cache-control", "max-age=60"), ("etag", "\"a\"")]);
    fetched(&app, "bytes=0-4").await;
    after(60.5).await;
    fetched(&app, "bytes=5-6").await;
    assert_eq!(app.origin.last_header("if-none-match"), None);
    assert_eq!(hit(&app, "bytes=0-6").await, "0123456");
}

#[tokio::test(start_paused = true)]
async fn directives_weigh_for_parts_as_for_the_whole() {
    let app = files(FIELDS);
    fetched(&app, "bytes=0-4").await;
    let with = async |directive: &str, asked: &str| {
        let fields = [("range", asked), ("cache-control", directive)];
        app.get_with("/", &fields).await
    };
    assert!(with("only-if-cached", "bytes=0-4").await.is_hit());
    assert_eq!(with("only-if-cached", "bytes=5-6").await.status, 504);
    after(10.0).await;
    let forced = with("no-cache", "bytes=0-4").await;
    assert_eq!(forced.told(), "larder; fwd=request; fwd-status=304; stored");
    after(10.0).await;
    let too_old = with("max-age=5", "bytes=0-4").await;
    assert_eq!(
        too_old.told(),
        "larder; fwd=request; fwd-status=304; stored"
    );
    assert_eq!(app.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_part_with_no_cache_is_validated_each_time() {
    let app = files(&[("cache-control", "no-cache"), ("etag", "\"a\"")]);
    fetched(&app, "bytes=0-4").await;
    for calls in [2, 3] {
        assert_eq!(range(&app, "bytes=0-1").await.text(), "01");
        assert_eq!(app.calls(), calls);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_part_answers_when_the_handler_fails_where_it_has_the_range() {
    let app = App::new(Origin::now(|call| match call.number {
        1 => file(
            &call,
            &[("cache-control", "max-age=60"), ("etag", "\"a\"")],
            TEXT,
        ),
        _ => answer(503, &[], "down"),
    }));
    fetched(&app, "bytes=0-4").await;
    after(60.5).await;
    let part = range(&app, "bytes=1-2").await;
    assert_eq!((part.status, part.text()), (206, "12"));
    for asked in ["bytes=4-5", "bytes=0-"] {
        assert_eq!(range(&app, asked).await.status, 503);
    }
    assert_eq!(app.get("/").await.status, 503);
}

#[tokio::test(start_paused = true)]
async fn a_stale_part_answers_while_it_is_revalidated() {
    let app = files(&[
        ("cache-control", "max-age=60, stale-while-revalidate=60"),
        ("etag", "\"a\""),
    ]);
    fetched(&app, "bytes=0-4").await;
    after(60.5).await;
    let part = range(&app, "bytes=1-2").await;
    assert_eq!((part.status, part.text()), (206, "12"));
    settle().await;
    assert_eq!(app.calls(), 2);
    let part = range(&app, "bytes=0-4").await;
    assert_eq!((part.is_hit(), part.age()), (true, Some(0)));
}

// Variants, ends and others

#[tokio::test(start_paused = true)]
async fn parts_vary_as_the_whole_does() {
    let app = App::new(Origin::now(|call| {
        let is_english = call.header("accept-language") == Some("en");
        let (etag, text) = if is_english {
            ("\"en\"", "hello there")
        } else {
            ("\"de\"", "guten Abend")
        };
        file(
            &call,
            &[HOUR, ("vary", "accept-language"), ("etag", etag)],
            text,
        )
    }));
    let with = async |language, asked| {
        app.get_with("/", &[("accept-language", language), ("range", asked)])
            .await
    };
    for (language, text) in [("en", "hello"), ("de", "guten")] {
        assert!(with(language, "bytes=0-4").await.is_stored());
        let part = with(language, "bytes=0-4").await;
        assert_eq!((part.text(), part.is_hit()), (text, true));
    }
    with("en", "bytes=5-").await;
    let whole = app.get_with("/", &[("accept-language", "en")]).await;
    assert_eq!((whole.text(), whole.is_hit()), ("hello there", true));
    assert!(
        !app.get_with("/", &[("accept-language", "de")])
            .await
            .is_hit()
    );
}

#[tokio::test(start_paused = true)]
async fn an_unsafe_request_ends_parts_too() {
    let app = files(FIELDS);
    fetched(&app, "bytes=0-4").await;
    app.send("POST", "/", &[]).await;
    fetched(&app, "bytes=0-4").await;
    assert_eq!(app.cache.stats().http_invalidated, 1);
}

#[tokio::test(start_paused = true)]
async fn a_part_that_was_on_its_way_when_the_uri_was_invalidated_is_not_stored() {
    let app = App::new(Origin::new(|call| async move {
        if call.number == 1 {
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        Ok(file(&call, FIELDS, TEXT))
    }));
    let slow = tokio::spawn({
        let app = app.clone();
        async move { range(&app, "bytes=0-4").await }
    });
    settle().await;
    app.send("POST", "/", &[]).await;
    assert_eq!(slow.await.unwrap().text(), "01234");
    fetched(&app, "bytes=0-4").await;
}

#[tokio::test(start_paused = true)]
async fn purging_ends_parts_hard_and_soft_and_by_prefix() {
    for how in ["hard", "soft", "prefix"] {
        let app = files(FIELDS);
        fetched(&app, "bytes=0-4").await;
        let uri = "http://test.example/";
        match how {
            "hard" => assert!(app.cache.purge(uri).await.unwrap()),
            "soft" => assert!(app.cache.purge_soft(uri).await.unwrap()),
            _ => assert_eq!(app.cache.purge_prefix(uri).await.unwrap(), 1),
        }
        assert_eq!(
            range(&app, "bytes=0-4").await.told(),
            "larder; fwd=uri-miss; stored"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_whole_response_ends_the_parts_of_an_older_one() {
    let app = App::new(Origin::now(|call| match call.number {
        1 => file(&call, FIELDS, TEXT),
        _ => file(
            &call,
            &[("cache-control", "max-age=1, must-revalidate")],
            "new and other",
        ),
    }));
    fetched(&app, "bytes=0-4").await;
    assert_eq!(app.get("/").await.text(), "new and other");
    after(700.0).await;
    assert_eq!(range(&app, "bytes=0-4").await.text(), "new a");
}

#[tokio::test(start_paused = true)]
async fn parts_that_were_combined_end_with_the_tags_of_each() {
    for tag in ["one", "two"] {
        let app = App::new(Origin::now(|call| {
            let tag = if call.number == 1 { "one" } else { "two" };
            file(&call, &[HOUR, ("etag", "\"a\""), ("cache-tag", tag)], TEXT)
        }));
        fetched(&app, "bytes=0-4").await;
        fetched(&app, "bytes=5-6").await;
        assert_eq!(hit(&app, "bytes=0-6").await, "0123456");
        app.cache.invalidate_tag(tag).await.unwrap();
        fetched(&app, "bytes=0-6").await;
    }
}

#[tokio::test(start_paused = true)]
async fn strict_mode_stores_no_parts_because_ranges_are_not_in_the_key() {
    let origin = Origin::now(|call| file(&call, FIELDS, TEXT));
    let app = App::changed(origin, |layer| layer.strict());
    for _ in 0..2 {
        assert!(!fetched(&app, "bytes=0-4").await.is_stored());
    }
    app.get("/").await;
    assert_eq!(hit(&app, "bytes=0-4").await, "01234");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_part() {
    let app = App::new(Origin::new(|call| async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(file(&call, FIELDS, TEXT))
    }));
    let begun = tokio::time::Instant::now();
    let asking = ["bytes=0-4", "bytes=0-4", "bytes=5-6", ""].map(|asked| {
        let app = app.clone();
        tokio::spawn(async move {
            match asked {
                "" => app.get("/").await,
                asked => range(&app, asked).await,
            }
        })
    });
    for (asking, text) in asking.into_iter().zip(["01234", "01234", "56", TEXT]) {
        assert_eq!(asking.await.unwrap().text(), text);
    }
    assert!(begun.elapsed() < Duration::from_millis(1100));
    assert_eq!(app.calls(), 4);
    assert!(app.get("/").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn parts_that_come_at_the_same_time_are_combined() {
    let app = App::new(Origin::new(|call| async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(file(&call, FIELDS, TEXT))
    }));
    let asking = ["bytes=0-4", "bytes=5-6", "bytes=9-10"].map(|asked| {
        let app = app.clone();
        tokio::spawn(async move { range(&app, asked).await })
    });
    for asking in asking {
        assert!(asking.await.unwrap().is_stored());
    }
    assert_eq!(hit(&app, "bytes=0-6").await, "0123456");
    assert_eq!(hit(&app, "bytes=-2").await, "9A");
}

#[tokio::test(start_paused = true)]
async fn parts_are_stored_and_combined_where_the_backend_has_to_be_asked() {
    let origin = Origin::now(|call| file(&call, FIELDS, TEXT));
    let app = App::on(Cache::new(Asking::new()), origin, |layer| layer);
    let fetched = async |asked: &str| {
        let part = fetched(&app, asked).await;
        app.cache.flush().await;
        part
    };
    fetched("bytes=0-2").await;
    fetched("bytes=3-5").await;
    assert_eq!(hit(&app, "bytes=0-5").await, "012345");
    app.send("POST", "/", &[]).await;
    fetched("bytes=0-5").await;
    fetched("bytes=6-").await;
    let whole = app.get("/").await;
    assert_eq!((whole.text(), whole.is_hit()), (TEXT, true));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_parts_are_slices_of_the_whole_and_together_the_whole_or_nothing(
        len in 1_usize..120,
        spans in prop::collection::vec((0_usize..120, 0_usize..120), 1..24),
        limit in 1_u64..160,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let text: String = (0..len).map(|at| char::from(b'!' + (at % 90) as u8)).collect();
            let whole = text.clone();
            let origin = Origin::now(move |call| file(&call, FIELDS, &whole));
            let app = App::changed(origin, |layer| layer.max_body_bytes(limit));
            let mut had = vec![false; len];
            for (one, two) in spans {
                let (first, last) = (one.min(two), one.max(two));
                if first >= len {
                    continue;
                }
                let end = len.min(last + 1);
                let part = range(&app, &format!("bytes={first}-{last}")).await;
                assert_eq!((part.status, part.text()), (206, &text[first..end]));
                had[first..end].fill(true);
                let only = [("cache-control", "only-if-cached")];
                let stored = app.get_with("/", &only).await;
                match stored.status {
                    200 => assert!(stored.text() == text && had.iter().all(|had| *had)),
                    other => assert_eq!(other, 504),
                }
            }
        });
    }
}

#[tokio::test(start_paused = true)]
async fn parts_in_two_codings_are_never_combined_by_a_date() {
    let modified = date(-100);
    let app = App::new(Origin::now(move |call| {
        let fields = [
            HOUR,
            ("last-modified", &*modified),
            ("content-encoding", "gzip"),
        ];
        match call.number {
            1 => file(&call, &fields, TEXT),
            _ => file(&call, &fields[..2], TEXT),
        }
    }));
    fetched(&app, "bytes=0-4").await;
    fetched(&app, "bytes=5-10").await;
    fetched(&app, "bytes=0-10").await;
}
