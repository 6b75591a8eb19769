//! Whatever stands in a header, the layer neither panics nor changes the status.

#![cfg(all(feature = "axum", feature = "memory"))]

mod support;

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use larder::{Cache, CacheLayer, SetCookie};
use proptest::prelude::*;
use support::{App, Asking, Origin, after, answer, request, try_send};

type Fields = Vec<(&'static str, Vec<u8>)>;

const REQUEST: [&str; 20] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "authorization",
    "cache-control",
    "connection",
    "cookie",
    "expect",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "pragma",
    "range",
    "te",
    "upgrade",
    "x-a",
    "transfer-encoding",
];

const RESPONSE: [&str; 22] = [
    "age",
    "cache-control",
    "cache-status",
    "cdn-cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expires",
    "keep-alive",
    "last-modified",
    "location",
    "pragma",
    "set-cookie",
    "surrogate-control",
    "trailer",
    "vary",
    "warning",
];

/// Fragments that get further into a parser than random bytes do.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop::sample::select(vec![
        "max-age",
        "s-maxage",
        "stale-while-revalidate",
        "stale-if-error",
        "no-cache",
        "private",
        "public",
        "no-store",
        "must-understand",
        "only-if-cached",
        "max-stale",
        "min-fresh",
        "=",
        "=60",
        "=0",
        "=-1",
        "=99999999999999999999",
        "\"",
        "\"\"",
        "\\",
        ",",
        ", ",
        ";",
        ";q=0.5",
        " ",
        "\t",
        "*",
        "W/",
        "\"a\"",
        "gzip",
        "identity",
        "de",
        "x-a",
        "cookie",
        "vary",
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "GMT",
        "99999",
        "bytes 0-1/2",
        "bytes=",
        "0-",
        "close",
        "http://",
        "//",
        "/",
        "..",
        "?",
        "#",
        "test.example",
        ":80",
        "@",
        "text/event-stream",
        "18446744073709551615",
        "2147483648",
        "'",
        "%00",
        "é",
    ]);
    let words = prop::collection::vec(fragment, 0..8).prop_map(|words| words.concat().into_bytes());
    let bytes = prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![4 => words, 1 => bytes]
}

fn fields(names: &'static [&'static str]) -> impl Strategy<Value = Fields> {
    prop::collection::vec((prop::sample::select(names), value()), 0..8)
}

fn add(headers: &mut HeaderMap, fields: &Fields) {
    for (name, value) in fields {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(HeaderName::from_static(name), value);
        }
    }
}

#[derive(Clone, Debug)]
struct Step {
    method: &'static str,
    request: Fields,
    status: u16,
    response: Fields,
    passes: f64,
}

fn step() -> impl Strategy<Value = Step> {
    let method = prop::sample::select(vec!["GET", "GET", "GET", "HEAD", "POST", "M-SEARCH"]);
    let status = prop::sample::select(vec![200, 200, 200, 204, 206, 301, 404, 412, 503, 599]);
    let passes = prop::sample::select(vec![0.0, 0.5, 61.0, 100_000.0]);
    (method, fields(&REQUEST), status, fields(&RESPONSE), passes).prop_map(
        |(method, request, status, response, passes)| Step {
            method,
            request,
            status,
            response,
            passes,
        },
    )
}

/// The statuses that a client may see where the handler has these.
fn is_explained(step: &Step, seen: u16, earlier: &[u16]) -> bool {
    let is_conditional = step.request.iter().any(|(name, _)| name.starts_with("if-"));
    seen == step.status
        || earlier.contains(&seen)
        || seen == 304 && is_conditional
        || seen == 504
            && step
                .request
                .iter()
                .any(|(name, _)| *name == "cache-control")
}

fn run(steps: Vec<Step>, layer: impl FnOnce(CacheLayer) -> CacheLayer, cache: Cache) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let next: &'static Mutex<Option<Step>> = Box::leak(Box::default());
        let origin = Origin::now(move |_| {
            let step = next.lock().unwrap().clone().unwrap();
            let mut response = answer(step.status, &[], "body");
            add(response.headers_mut(), &step.response);
            response
        });
        let app = App::on(cache, origin, layer);
        let mut statuses = Vec::new();
        for step in steps {
            *next.lock().unwrap() = Some(step.clone());
            let mut request = request(step.method, "/", &[]);
            if step.request.iter().any(|(name, _)| *name == "host") {
                request.headers_mut().remove("host");
            }
            add(request.headers_mut(), &step.request);
            let seen = try_send(&app.service, request).await.unwrap();
            app.cache.flush().await;
            assert!(
                is_explained(&step, seen.status, &statuses),
                "{step:?} {seen:?}"
            );
            statuses.push(step.status);
            after(step.passes).await;
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_fields_make_it_panic_or_change_the_status(steps in prop::collection::vec(step(), 1..8)) {
        run(steps, |layer| layer, Cache::memory());
    }

    #[test]
    fn nor_with_a_layer_that_stores_whatever_it_may(steps in prop::collection::vec(step(), 1..8)) {
        let store = |layer: CacheLayer| {
            layer
                .default_ttl(Duration::from_secs(60))
                .set_cookie(SetCookie::Always)
                .stale_if_error(Duration::MAX)
                .max_variants(1)
        };
        run(steps, store, Cache::new(Asking::new()));
    }
}

// What is large

async fn survives(fields: &[(&'static str, String)], asked: &[(&'static str, String)]) {
    let pairs: Vec<_> = fields
        .iter()
        .map(|(name, value)| (*name, &**value))
        .collect();
    let app = App::new(Origin::with(&pairs));
    let asked: Vec<_> = asked
        .iter()
        .map(|(name, value)| (*name, &**value))
        .collect();
    let before = Instant::now();
    for _ in 0..3 {
        assert_eq!(app.get_with("/", &asked).await.status, 200);
    }
    app.send("POST", "/", &asked).await;
    after(100.0).await;
    assert_eq!(app.get_with("/", &asked).await.status, 200);
    // Quadratic work on a hundred kilobytes takes far longer, even where the machine is busy.
    assert!(
        before.elapsed() < Duration::from_secs(5),
        "{:?}",
        before.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_hundred_kilobytes_in_one_field_are_survived() {
    let control = || ("cache-control", String::from("max-age=60"));
    for (name, part) in [
        ("vary", "x-a, "),
        ("vary", ","),
        ("cache-control", "max-age=1,"),
        ("cache-control", "private=\"a\","),
        ("cache-control", "\""),
        ("cache-control", "a=\"\\\","),
        ("cache-control", "no-cache=\"x,"),
        ("connection", "x-a,"),
        ("etag", "\""),
        ("age", "9"),
        ("expires", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("location", "../"),
        ("content-location", "/./"),
    ] {
        survives(&[control(), (name, part.repeat(100_000 / part.len()))], &[]).await;
    }
    for (name, part) in [
        ("cache-control", "max-stale,"),
        ("cache-control", "\""),
        ("if-none-match", "\"x\","),
        ("if-none-match", "W/"),
        ("if-none-match", "\""),
        ("accept-language", "de;q=0.1,"),
        ("accept-encoding", "gzip,"),
        ("cookie", "a=1; "),
        ("host", "a"),
    ] {
        let vary = (
            "vary",
            String::from("accept-language, accept-encoding, cookie"),
        );
        let asked = [(name, part.repeat(100_000 / part.len()))];
        survives(&[control(), vary, ("etag", "\"a\"".into())], &asked).await;
    }
}

#[tokio::test(start_paused = true)]
async fn thousands_of_lines_are_survived_and_replayed() {
    for name in [
        "x-a",
        "vary",
        "cache-control",
        "age",
        "set-cookie",
        "connection",
    ] {
        let control = std::iter::once(("cache-control", String::from("public, max-age=60")));
        let lines = (0..5_000).map(|_| (name, String::from("1")));
        survives(&control.chain(lines).collect::<Vec<_>>(), &[]).await;
    }
    let many = Origin::now(|_| {
        let mut response = answer(200, &[("cache-control", "max-age=60")], "");
        for number in 0..5_000 {
            let name = HeaderName::try_from(format!("x-{number}")).unwrap();
            response
                .headers_mut()
                .insert(name, HeaderValue::from(number));
        }
        response
    });
    for cache in [Cache::memory(), Cache::new(Asking::new())] {
        let app = App::on(cache, many.clone(), |layer| layer);
        app.get("/").await;
        app.cache.flush().await;
        let hit = app.get("/").await;
        assert!(hit.is_hit());
        assert_eq!(hit.header("x-4999"), Some("4999"));
    }
}

#[tokio::test(start_paused = true)]
async fn as_many_fields_as_a_map_takes_pass_through_and_are_not_stored() {
    let full = Origin::now(|_| {
        let mut response = answer(200, &[("cache-control", "max-age=60")], "");
        let headers = response.headers_mut();
        for number in 0.. {
            let name = HeaderName::try_from(format!("x-{number}")).unwrap();
            if headers.try_insert(name, HeaderValue::from(number)).is_err() {
                break;
            }
        }
        response
    });
    let app = App::new(full);
    for _ in 0..2 {
        let passed = app.get("/").await;
        assert_eq!(passed.status, 200);
        assert_eq!(passed.header("x-9999"), Some("9999"));
        assert!(!passed.is_hit());
    }
}

#[tokio::test(start_paused = true)]
async fn thousands_of_lines_in_a_request_are_survived() {
    let app = App::new(Origin::with(&[
        ("cache-control", "max-age=60"),
        ("vary", "x-a, accept-language"),
        ("etag", "\"a\""),
    ]));
    for name in [
        "x-a",
        "accept-language",
        "cache-control",
        "if-none-match",
        "cookie",
    ] {
        let lines: Vec<_> = (0..5_000).map(|_| (name, "1")).collect();
        for _ in 0..2 {
            assert_eq!(app.get_with("/", &lines).await.status, 200, "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn more_names_in_vary_than_a_key_takes_are_a_star() {
    let names: Vec<_> = (0..17).map(|number| format!("x-{number}")).collect();
    let app = App::new(Origin::with(&[
        ("cache-control", "max-age=60"),
        ("vary", &names.join(",")),
    ]));
    assert_eq!(
        app.get("/").await.told(),
        "larder; fwd=uri-miss; detail=vary"
    );
    assert!(!app.get("/").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn times_at_the_end_of_time_are_survived() {
    for (name, value) in [
        ("age", "18446744073709551615"),
        ("expires", "Fri, 31 Dec 9999 23:59:59 GMT"),
        ("date", "Fri, 31 Dec 9999 23:59:59 GMT"),
        ("date", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("last-modified", "Fri, 31 Dec 9999 23:59:59 GMT"),
        ("last-modified", "Thu, 01 Jan 1970 00:00:00 GMT"),
        (
            "cache-control",
            "max-age=18446744073709551615, stale-while-revalidate=18446744073709551615",
        ),
        (
            "cache-control",
            "max-age=0, stale-if-error=18446744073709551615",
        ),
    ] {
        survives(&[(name, value.into())], &[]).await;
        for asked in ["max-age", "min-fresh", "max-stale"] {
            let asked = [("cache-control", format!("{asked}=18446744073709551615"))];
            survives(&[(name, value.into())], &asked).await;
        }
    }
}

#[test]
fn a_request_outside_of_any_runtime_is_answered() {
    use futures_util::FutureExt;
    let app = App::new(Origin::with(&[(
        "cache-control",
        "max-age=60, stale-while-revalidate=60",
    )]));
    let first = app.get("/").now_or_never().unwrap();
    assert_eq!(StatusCode::from_u16(first.status).unwrap(), StatusCode::OK);
    assert!(app.get("/").now_or_never().unwrap().is_hit());
}
