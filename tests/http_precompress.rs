//! Stored responses in the coding that a client takes, made once by the layer.

mod support;

use std::io::Read;

use axum::body::Body;
use http::Response;
use larder::{Cache, CacheLayer, Coding, Shadow};
use support::{Answer, App, Asking, Origin, after, answer};

const FIELDS: [(&str, &str); 3] = [
    ("cache-control", "max-age=60"),
    ("content-type", "text/plain"),
    ("etag", "\"a\""),
];

fn text() -> String {
    "a shelf of many jars. ".repeat(200)
}

fn precompressing(layer: CacheLayer) -> CacheLayer {
    layer.precompress([Coding::Brotli, Coding::Gzip])
}

fn plain(fields: &'static [(&'static str, &'static str)]) -> Origin {
    Origin::now(move |_| answer(200, fields, Body::from(text())))
}

fn app() -> App {
    App::changed(plain(&FIELDS), precompressing)
}

/// What a client gets when everything that was to be compressed is.
async fn settled(app: &App, accept: &str) -> Answer {
    let fields = [("accept-encoding", accept)];
    for _ in 0..2 {
        app.get_with("/", &fields).await;
        app.cache.flush().await;
    }
    app.get_with("/", &fields).await
}

fn decoded(answer: &Answer) -> String {
    let mut text = String::new();
    let body = &answer.body[..];
    match answer.header("content-encoding") {
        Some("gzip") => flate2::read::GzDecoder::new(body).read_to_string(&mut text),
        Some("br") => brotli::Decompressor::new(body, 4096).read_to_string(&mut text),
        _ => return answer.text().to_owned(),
    }
    .unwrap();
    text
}

#[tokio::test(start_paused = true)]
async fn each_client_gets_the_coding_it_takes_and_the_handler_is_asked_once() {
    let app = app();
    for (accept, coding) in [
        ("gzip, deflate, br", Some("br")),
        ("gzip", Some("gzip")),
        ("zstd", None),
        ("br;q=0, identity", None),
    ] {
        let answer = settled(&app, accept).await;
        assert_eq!(answer.header("content-encoding"), coding, "{accept}");
        assert_eq!(decoded(&answer), text(), "{accept}");
        assert!(answer.is_hit(), "{accept}");
        let length = answer.body.len().to_string();
        assert_eq!(answer.header("content-length"), Some(&*length));
    }
    assert_eq!(app.calls(), 1);
    assert_eq!(app.origin.last_header("accept-encoding"), None);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_the_compression() {
    let app = app();
    let br = [("accept-encoding", "br")];
    let first = app.get_with("/", &br).await;
    assert_eq!(first.header("content-encoding"), None);
    let second = app.get_with("/", &br).await;
    assert!(second.is_hit());
    assert_eq!(second.header("content-encoding"), None);
    assert_eq!(second.text(), text());
    app.cache.flush().await;
    let third = app.get_with("/", &br).await;
    assert_eq!(third.header("content-encoding"), Some("br"));
}

#[tokio::test(start_paused = true)]
async fn every_form_says_that_it_depends_on_the_coding() {
    let app = app();
    for answer in [
        app.get("/").await,
        app.get("/").await,
        settled(&app, "br").await,
        app.send("HEAD", "/", &[("accept-encoding", "br")]).await,
    ] {
        assert_eq!(answer.header("vary"), Some("accept-encoding"));
    }
    let app = App::changed(
        plain(&[
            ("cache-control", "max-age=60"),
            ("content-type", "image/png"),
        ]),
        precompressing,
    );
    assert_eq!(settled(&app, "br").await.header("vary"), None);
}

#[tokio::test(start_paused = true)]
async fn a_strong_tag_is_another_in_each_coding_and_answers_conditions_in_it() {
    let app = app();
    let (br, gzip) = (settled(&app, "br").await, settled(&app, "gzip").await);
    assert_eq!(br.header("etag"), Some("\"a--br\""));
    assert_eq!(gzip.header("etag"), Some("\"a--gzip\""));
    assert_eq!(app.get("/").await.header("etag"), Some("\"a\""));
    let asked = async |accept: &str, tag: &str| {
        let fields = [("accept-encoding", accept), ("if-none-match", tag)];
        app.get_with("/", &fields).await.status
    };
    assert_eq!(asked("br", "\"a--br\"").await, 304);
    assert_eq!(asked("br", "\"a--gzip\"").await, 200);
    assert_eq!(asked("identity", "\"a\"").await, 304);
    assert_eq!(app.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_weak_tag_is_the_same_in_every_coding() {
    let fields = &[
        ("cache-control", "max-age=60"),
        ("content-type", "text/plain"),
        ("etag", "W/\"a\""),
    ];
    let app = App::changed(plain(fields), precompressing);
    let answer = settled(&app, "br").await;
    assert_eq!(answer.header("content-encoding"), Some("br"));
    assert_eq!(answer.header("etag"), Some("W/\"a\""));
}

#[tokio::test(start_paused = true)]
async fn a_change_is_asked_for_by_the_tag_that_the_handler_knows() {
    let app = app();
    let tags = [("if-match", "\"a--br\", \"b\"")];
    app.send("PUT", "/", &tags).await;
    assert_eq!(app.origin.last_header("if-match").unwrap(), "\"a\", \"b\"");
}

#[tokio::test(start_paused = true)]
async fn an_invalidated_response_is_gone_in_every_coding() {
    let calls = std::sync::atomic::AtomicUsize::new(0);
    let origin = Origin::now(move |_| {
        let call = calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        answer(200, &FIELDS[..2], Body::from(format!("{call} {}", text())))
    });
    let app = App::changed(origin, precompressing);
    assert!(decoded(&settled(&app, "br").await).starts_with("0 "));
    app.send("POST", "/", &[]).await;
    let anew = settled(&app, "br").await;
    assert_eq!(anew.header("content-encoding"), Some("br"));
    assert!(decoded(&anew).starts_with("2 "));
}

#[tokio::test(start_paused = true)]
async fn a_validated_response_is_compressed_anew_without_a_body_from_the_handler() {
    let origin = Origin::now(|call| match call.header("if-none-match") {
        Some("\"a\"") => answer(304, &FIELDS, Body::empty()),
        _ => answer(200, &FIELDS, Body::from(text())),
    });
    let app = App::changed(origin, precompressing);
    settled(&app, "br").await;
    after(60.5).await;
    let validated = app.get_with("/", &[("accept-encoding", "br")]).await;
    assert_eq!(validated.header("vary"), Some("accept-encoding"));
    let answer = settled(&app, "br").await;
    assert_eq!(answer.header("content-encoding"), Some("br"));
    assert_eq!(decoded(&answer), text());
    assert_eq!(app.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_changed_is_not() {
    for field in [
        ("cache-control", "max-age=60, no-transform"),
        ("content-encoding", "zstd"),
        ("content-digest", "sha-256=:AA==:"),
        ("repr-digest", "sha-256=:AA==:"),
        ("content-md5", "AAAAAAAAAAAAAAAAAAAAAA=="),
    ] {
        let origin = Origin::now(move |_| {
            Response::builder()
                .header("content-type", "text/plain")
                .header("expires", support::date(60))
                .header(field.0, field.1)
                .body(Body::from(text()))
                .unwrap()
        });
        let app = App::changed(origin, precompressing);
        let answer = settled(&app, "br").await;
        assert!(answer.is_hit(), "{}", field.0);
        assert_ne!(answer.header("content-encoding"), Some("br"), "{}", field.0);
        assert_eq!(answer.text(), text());
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_get_smaller_is_tried_once_and_left() {
    let mut noise = vec![0; 4_000];
    getrandom::fill(&mut noise).unwrap();
    let body = noise.clone();
    let origin = Origin::now(move |_| answer(200, &FIELDS, Body::from(body.clone())));
    let app = App::changed(origin, precompressing);
    let answer = settled(&app, "br").await;
    assert_eq!(answer.header("content-encoding"), None);
    assert_eq!(answer.body, noise);
}

#[tokio::test(start_paused = true)]
async fn other_fields_still_select_variants() {
    let origin = Origin::now(|call| {
        let language = call.header("accept-language").unwrap_or("none").to_owned();
        Response::builder()
            .header("cache-control", "max-age=60")
            .header("content-type", "text/plain")
            .header("vary", "Accept-Language")
            .body(Body::from(format!("{language} {}", text())))
            .unwrap()
    });
    let app = App::changed(origin, precompressing);
    for language in ["de", "fr"] {
        let fields = [("accept-encoding", "br"), ("accept-language", language)];
        for _ in 0..2 {
            app.get_with("/", &fields).await;
            app.cache.flush().await;
        }
        let answer = app.get_with("/", &fields).await;
        assert_eq!(answer.header("content-encoding"), Some("br"));
        assert!(decoded(&answer).starts_with(language));
    }
    assert_eq!(app.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_has_to_be_asked_serves_compressed_responses_too() {
    let app = App::on(Cache::new(Asking::new()), plain(&FIELDS), precompressing);
    let answer = settled(&app, "br").await;
    assert!(answer.is_hit());
    assert_eq!(answer.header("content-encoding"), Some("br"));
    assert_eq!(decoded(&answer), text());
    assert_eq!(app.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_was_not_told_compresses_nothing() {
    let app = App::new(plain(&FIELDS));
    let answer = settled(&app, "br").await;
    assert_eq!(answer.header("content-encoding"), None);
    assert_eq!(answer.header("vary"), None);
    assert_eq!(app.origin.last_header("accept-encoding").unwrap(), "br");
}

/// A handler that compresses by itself, as it is asked to.
fn compressing(call: &support::Call) -> Response<Body> {
    let fields = [
        ("cache-control", "max-age=60"),
        ("content-type", "text/plain"),
        ("content-location", "/"),
        ("vary", "accept-encoding"),
        ("content-encoding", "gzip"),
    ];
    match call.header("accept-encoding") {
        Some(_) => answer(200, &fields, "compressed"),
        None => answer(200, &fields[..4], "plain"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_post_brought_in_a_coding_does_not_answer_those_who_take_none() {
    let app = App::changed(Origin::now(|call| compressing(&call)), precompressing);
    let gzip = [("accept-encoding", "gzip")];
    assert_eq!(app.send("POST", "/", &gzip).await.text(), "compressed");
    assert_eq!(app.get("/").await.text(), "plain");
    app.send("POST", "/", &[]).await;
    assert!(app.get("/").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn what_shadow_mode_stored_in_a_coding_does_not_answer_those_who_take_none() {
    let cache = Cache::memory();
    let origin = || Origin::now(|call| compressing(&call));
    let shadow = App::on(cache.clone(), origin(), |layer| {
        precompressing(layer).shadow(Shadow::new(0.0))
    });
    let gzip = [("accept-encoding", "gzip")];
    assert_eq!(shadow.get_with("/", &gzip).await.text(), "compressed");
    let app = App::on(cache, origin(), precompressing);
    assert_eq!(app.get("/").await.text(), "plain");
}

#[tokio::test(start_paused = true)]
async fn in_shadow_mode_answers_do_not_say_that_they_vary_by_coding() {
    let shadow = App::changed(plain(&FIELDS), |layer| {
        precompressing(layer).shadow(Shadow::new(0.0))
    });
    assert_eq!(shadow.get("/").await.header("vary"), None);
}

#[tokio::test(start_paused = true)]
async fn a_compressed_form_of_what_was_stored_before_says_that_it_varies_by_coding() {
    let cache = Cache::memory();
    let before = App::on(cache.clone(), plain(&FIELDS), |layer| layer);
    before.get("/").await;
    let app = App::on(cache, plain(&FIELDS), precompressing);
    let answer = settled(&app, "br").await;
    assert_eq!(answer.header("content-encoding"), Some("br"));
    assert_eq!(answer.header("vary"), Some("accept-encoding"));
}

#[tokio::test(start_paused = true)]
async fn a_body_with_a_digest_behind_it_is_left_as_it_is() {
    let text: &'static str = String::leak(text());
    let origin = Origin::now(move |_| {
        let steps = [
            support::Step::Data(text),
            support::Step::Trailer("content-digest", "sha-256=:AA==:"),
        ];
        answer(200, &FIELDS, support::frames(&steps))
    });
    let answer = settled(&App::changed(origin, precompressing), "br").await;
    assert!(answer.is_hit());
    assert_eq!(answer.header("content-encoding"), None);
}

// Ranges by a date, which all codings of a response have in common

/// A server of files that have a date and no tag.
fn dated(kind: &'static str) -> (Origin, String) {
    let modified = support::date(-10);
    let own = modified.clone();
    let origin = Origin::now(move |call| {
        let fields = [
            ("cache-control", "max-age=60"),
            ("content-type", kind),
            ("last-modified", &*own),
            ("content-range", "bytes 100-4399/4400"),
        ];
        match call.header("range") {
            Some(_) => answer(206, &fields, Body::from(text()[100..].to_owned())),
            None => answer(200, &fields[..3], Body::from(text())),
        }
    });
    (origin, modified)
}

const REST: (&str, &str) = ("range", "bytes=100-");

fn is_whole(answer: &Answer) -> bool {
    answer.status == 200 && answer.text() == text()
}

#[tokio::test(start_paused = true)]
async fn by_a_date_nothing_is_continued_that_may_be_in_another_coding() {
    let (origin, modified) = dated("text/plain");
    let app = App::changed(origin, precompressing);
    let coded = settled(&app, "br").await;
    assert_eq!(coded.header("content-encoding"), Some("br"));
    for accept in ["br", "identity"] {
        let fields = [REST, ("if-range", &*modified), ("accept-encoding", accept)];
        let answer = app.get_with("/", &fields).await;
        assert!(
            answer.is_hit() && is_whole(&answer),
            "{accept}: {}",
            answer.status
        );
    }
    assert_eq!(app.get_with("/", &[REST]).await.status, 206);
}

#[tokio::test(start_paused = true)]
async fn what_was_stored_before_the_layer_made_codings_is_not_continued_by_a_date_either() {
    let cache = Cache::memory();
    let (origin, modified) = dated("text/plain");
    App::on(cache.clone(), origin.clone(), |layer| layer)
        .get("/")
        .await;
    let app = App::on(cache, origin, precompressing);
    settled(&app, "br").await;
    let answer = app.get_with("/", &[REST, ("if-range", &*modified)]).await;
    assert!(answer.is_hit() && is_whole(&answer), "{}", answer.status);
}

#[tokio::test(start_paused = true)]
async fn a_handler_is_asked_for_the_whole_where_a_date_decides() {
    let (origin, modified) = dated("text/plain");
    let app = App::changed(origin, precompressing);
    let day = ("if-range", &*modified);
    for fields in [
        &[REST, day][..],
        &[("range", "bytes=100-"), ("range", "bytes=100-"), day],
        &[REST, day, ("cache-control", "no-store")],
        &[REST, ("if-range", "W/\"a\"")],
        &[REST, ("if-unmodified-since", &*modified)],
        &[REST, ("if-match", "\"a--br\"")],
    ] {
        let answer = app.get_with("/", fields).await;
        assert!(is_whole(&answer), "{fields:?}: {}", answer.status);
        assert_eq!(app.origin.last_header("range"), None, "{fields:?}");
        app.cache.purge("http://test.example/").await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn in_strict_mode_a_handler_is_asked_for_the_whole_too() {
    let (origin, modified) = dated("text/plain");
    let app = App::changed(origin, |layer| precompressing(layer).strict());
    let answer = app.get_with("/", &[REST, ("if-range", &*modified)]).await;
    assert!(is_whole(&answer), "{}", answer.status);
    assert_eq!(app.origin.last_header("range"), None);
}

#[tokio::test(start_paused = true)]
async fn a_range_of_what_has_no_other_coding_is_cut_by_a_date() {
    let (origin, modified) = dated("image/png");
    let app = App::changed(origin, precompressing);
    for _ in 0..2 {
        let answer = app.get_with("/", &[REST, ("if-range", &*modified)]).await;
        assert_eq!((answer.status, answer.text()), (206, &text()[100..]));
    }
    assert_eq!(app.origin.last_header("range"), None);
}

#[tokio::test(start_paused = true)]
async fn two_layers_of_one_cache_tell_tags_of_compressed_forms_each_in_its_own_way() {
    const TAGGED: [(&str, &str); 3] = [
        ("cache-control", "max-age=60"),
        ("content-type", "text/plain"),
        ("cache-tag", "a"),
    ];
    for passing_is_first in [true, false] {
        let cache = Cache::memory();
        let on = |change: fn(CacheLayer) -> CacheLayer| {
            App::on(cache.clone(), plain(&TAGGED), |layer| {
                change(precompressing(layer))
            })
        };
        let passing = on(|layer| layer.pass_tags(larder::TagField::SurrogateKey));
        let silent = on(|layer| layer);
        let mut apps = [(passing, Some("a")), (silent, None)];
        if !passing_is_first {
            apps.reverse();
        }
        for (app, tags) in apps {
            let coded = settled(&app, "br").await;
            assert_eq!(coded.header("content-encoding"), Some("br"));
            assert_eq!(coded.header("surrogate-key"), tags, "{passing_is_first}");
            assert_eq!(coded.header("cache-tag"), None);
        }
    }
}
