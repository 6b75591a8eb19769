//! What the answer to a HEAD says of a stored GET (RFC 9111 §4.3.5).

mod support;

use std::sync::{Arc, Mutex};

use support::{App, Asking, Origin, after, answer};

const TAG: (&str, &str) = ("etag", "\"a\"");
const MINUTE: (&str, &str) = ("cache-control", "max-age=60");
const NO_CACHE: [(&str, &str); 1] = [("cache-control", "no-cache")];

type Fields = Vec<(&'static str, &'static str)>;

/// A handler whose GET says "hello", and whose HEAD says what is put here.
#[derive(Clone, Default)]
struct Heads(Arc<Mutex<(u16, Fields)>>);

impl Heads {
    fn say(&self, status: u16, fields: &[(&'static str, &'static str)]) {
        *self.0.lock().unwrap() = (status, fields.to_vec());
    }
}

fn app(get: &'static [(&'static str, &'static str)]) -> (Heads, App) {
    let heads = Heads::default();
    heads.say(200, get);
    let said = heads.clone();
    let origin = Origin::now(move |call| match call.request.method.as_str() {
        "HEAD" => {
            let (status, fields) = said.0.lock().unwrap().clone();
            answer(status, &fields, "")
        }
        _ => answer(200, get, "hello"),
    });
    (heads, App::new(origin))
}

#[tokio::test(start_paused = true)]
async fn a_head_that_agrees_makes_the_stored_response_fresh_again() {
    for agreeing in [
        &[TAG, MINUTE][..],
        &[TAG, MINUTE, ("content-length", "5")],
        &[("last-modified", "Sunday, 06-Nov-94 08:49:37 GMT"), MINUTE],
    ] {
        let (heads, app) = app(&[
            TAG,
            MINUTE,
            ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ]);
        app.get("/").await;
        after(60.5).await;
        heads.say(200, agreeing);
        let head = app.send("HEAD", "/", &[]).await;
        assert_eq!(head.told(), "larder; fwd=stale; stored", "{agreeing:?}");
        after(59.0).await;
        let hit = app.get("/").await;
        assert_eq!(
            (hit.is_hit(), hit.text(), hit.age()),
            (true, "hello", Some(59))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn its_fields_replace_the_stored_ones_but_for_those_of_the_body() {
    let (heads, app) = app(&[
        TAG,
        MINUTE,
        ("x-a", "1"),
        ("x-b", "1"),
        ("content-type", "text/plain"),
    ]);
    app.get("/").await;
    heads.say(
        200,
        &[
            TAG,
            ("x-a", "2"),
            ("content-type", "text/html"),
            ("set-cookie", "id=1"),
        ],
    );
    app.send("HEAD", "/", &NO_CACHE).await;
    let hit = app.get("/").await;
    assert!(hit.is_hit());
    assert_eq!(
        (hit.header("x-a"), hit.header("x-b")),
        (Some("2"), Some("1"))
    );
    assert_eq!(hit.header("content-type"), Some("text/plain"));
    assert_eq!(hit.header("set-cookie"), None);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_agree_ends_the_stored_response() {
    for contradicting in [
        &[("etag", "\"b\""), MINUTE][..],
        &[("etag", "W/\"a\""), MINUTE],
        &[TAG, ("content-length", "6"), MINUTE],
        &[("content-length", "6"), MINUTE],
        &[
            TAG,
            ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
            MINUTE,
        ],
    ] {
        let (heads, app) = app(&[TAG, MINUTE]);
        app.get("/").await;
        heads.say(200, contradicting);
        assert!(!app.send("HEAD", "/", &NO_CACHE).await.is_stored());
        assert!(!app.get("/").await.is_hit(), "{contradicting:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_without_a_validator_proves_nothing() {
    let (heads, app) = app(&[TAG, MINUTE]);
    app.get("/").await;
    heads.say(
        200,
        &[("content-length", "5"), ("cache-control", "max-age=600")],
    );
    assert!(!app.send("HEAD", "/", &NO_CACHE).await.is_stored());
    assert!(app.get("/").await.is_hit());
    after(60.5).await;
    assert!(!app.get("/").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_head_that_fails_or_is_elsewhere_changes_nothing() {
    for status in [301, 304, 404, 500] {
        let (heads, app) = app(&[TAG, MINUTE]);
        app.get("/").await;
        heads.say(status, &[("etag", "\"b\""), ("cache-control", "no-store")]);
        app.send("HEAD", "/", &NO_CACHE).await;
        assert!(app.get("/").await.is_hit(), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_forbids_storing_ends_the_stored_response() {
    let (heads, app) = app(&[TAG, MINUTE]);
    app.get("/").await;
    heads.say(200, &[TAG, ("cache-control", "no-store")]);
    app.send("HEAD", "/", &NO_CACHE).await;
    assert!(!app.get("/").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_head_speaks_of_the_variant_that_it_selects() {
    let (heads, app) = app(&[TAG, MINUTE, ("vary", "accept-language")]);
    let en = [("accept-language", "en")];
    let de = [("accept-language", "de")];
    app.get_with("/", &en).await;
    app.get_with("/", &de).await;
    heads.say(
        200,
        &[("etag", "\"b\""), MINUTE, ("vary", "accept-language")],
    );
    app.send("HEAD", "/", &[en[0], NO_CACHE[0]]).await;
    assert!(app.get_with("/", &de).await.is_hit());
    assert!(!app.get_with("/", &en).await.is_hit());
    after(60.5).await;
    heads.say(200, &[TAG, MINUTE, ("vary", "accept-language")]);
    assert!(app.send("HEAD", "/", &de).await.is_stored());
    assert!(app.get_with("/", &de).await.is_hit());
    assert!(!app.get_with("/", &en).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn an_authorised_head_updates_no_one_else_s_response() {
    let (heads, app) = app(&[TAG, MINUTE]);
    app.get("/").await;
    heads.say(
        200,
        &[TAG, ("cache-control", "max-age=600"), ("x-user", "one")],
    );
    let fields = [("authorization", "Bearer one"), NO_CACHE[0]];
    assert!(!app.send("HEAD", "/", &fields).await.is_stored());
    assert_eq!(app.get("/").await.header("x-user"), None);
}

#[tokio::test(start_paused = true)]
async fn on_a_backend_that_has_to_be_asked_it_is_the_same() {
    let (heads, memory) = app(&[TAG, MINUTE]);
    let app = App::on(larder::Cache::new(Asking::new()), memory.origin, |layer| {
        layer
    });
    app.get("/").await;
    app.cache.flush().await;
    after(60.5).await;
    assert!(app.send("HEAD", "/", &[]).await.is_stored());
    app.cache.flush().await;
    assert!(app.get("/").await.is_hit());
    heads.say(200, &[("etag", "\"b\"")]);
    app.send("HEAD", "/", &NO_CACHE).await;
    app.cache.flush().await;
    assert!(!app.get("/").await.is_hit());
}
