//! What is one visitor's never reaches another.

#![cfg(all(feature = "axum", feature = "memory"))]

mod support;

use std::time::Duration;

use larder::{Cache, CacheLayer, SetCookie};
use support::{App, Asking, Origin, after, answer, date, settle};

const ADA: (&str, &str) = ("cookie", "sid=ada-secret");
const BOB: (&str, &str) = ("cookie", "sid=bob-secret");
const ADA_AUTHORISED: (&str, &str) = ("authorization", "Bearer ada-secret");
const BOB_AUTHORISED: (&str, &str) = ("authorization", "Bearer bob-secret");

/// Greets whoever asks, by cookie or authorisation, with these fields.
fn greeting(fields: &[(&str, &str)]) -> Origin {
    let owned: Vec<(String, String)> = fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Origin::new(move |call| {
        let owned = owned.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let known = call.header("authorization").or(call.header("cookie"));
            let fields: Vec<_> = owned.iter().map(|(a, b)| (&**a, &**b)).collect();
            let text = format!("hello {}", known.unwrap_or("stranger"));
            Ok(answer(200, &fields, text))
        }
    })
}

type Change = fn(CacheLayer) -> CacheLayer;

const LAYERS: [Change; 3] = [
    |layer| layer,
    |layer| layer.default_ttl(Duration::from_secs(60)),
    |layer| {
        layer
            .default_ttl(Duration::from_secs(60))
            .set_cookie(SetCookie::Always)
            .ignore_client_directives(true)
    },
];

/// Every visitor asks, one after the other and then all at once, and must be greeted by name.
async fn everyone_is_greeted(app: &App) {
    let visitors = [
        (&[ADA][..], "hello sid=ada-secret"),
        (&[BOB], "hello sid=bob-secret"),
        (&[], "hello stranger"),
        (&[ADA_AUTHORISED], "hello Bearer ada-secret"),
        (&[BOB_AUTHORISED], "hello Bearer bob-secret"),
    ];
    for order in 0..visitors.len() {
        for at in 0..visitors.len() {
            let (fields, expected) = visitors[(order + at) % visitors.len()];
            assert_eq!(app.get_with("/", fields).await.text(), expected);
        }
        let spawned: Vec<_> = (0..20)
            .map(|at| {
                let app = app.clone();
                let (fields, expected) = visitors[at % visitors.len()];
                tokio::spawn(async move { (app.get_with("/", fields).await, expected) })
            })
            .collect();
        for visitor in spawned {
            let (answer, expected) = visitor.await.unwrap();
            assert_eq!(answer.text(), expected);
        }
        after(61.5).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_says_nothing_greets_everyone_by_name() {
    for layer in LAYERS {
        everyone_is_greeted(&App::changed(greeting(&[]), layer)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_only_gives_a_last_change_greets_everyone_by_name() {
    for layer in LAYERS {
        let modified = date(-1_000_000);
        let origin = greeting(&[("last-modified", &modified)]);
        everyone_is_greeted(&App::changed(origin, layer)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn private_and_no_store_answers_are_one_s_own() {
    for layer in LAYERS {
        for control in [
            "private",
            "private, max-age=60",
            "no-store",
            "max-age=60, no-store",
        ] {
            let origin = greeting(&[("cache-control", control)]);
            everyone_is_greeted(&App::changed(origin, layer)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_vary_by_who_asks_are_told_apart() {
    for layer in LAYERS {
        let origin = greeting(&[
            ("cache-control", "public, max-age=60"),
            ("vary", "cookie, authorization"),
        ]);
        let app = App::changed(origin, layer);
        everyone_is_greeted(&app).await;
        assert!(app.get_with("/", &[ADA]).await.text().contains("ada"));
        assert!(app.get_with("/", &[ADA]).await.is_hit());
    }
}

#[tokio::test(start_paused = true)]
async fn authorised_answers_are_one_s_own_unless_they_say_otherwise() {
    for layer in LAYERS {
        let app = App::changed(greeting(&[("cache-control", "max-age=60")]), layer);
        for (fields, expected) in [
            (ADA_AUTHORISED, "hello Bearer ada-secret"),
            (BOB_AUTHORISED, "hello Bearer bob-secret"),
        ] {
            assert_eq!(app.get_with("/", &[fields]).await.text(), expected);
        }
        assert_eq!(app.get("/").await.text(), "hello stranger");
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_session_s_cookie_is_one_s_own() {
    let sessions = || {
        Origin::now(|call| {
            let cookie = format!("sid={}", call.number);
            let fields = [("cache-control", "max-age=60"), ("set-cookie", &*cookie)];
            answer(200, &fields, "")
        })
    };
    for layer in &LAYERS[..2] {
        let app = App::changed(sessions(), layer);
        for number in 1..5 {
            let cookie = format!("sid={number}");
            assert_eq!(app.get("/").await.header("set-cookie"), Some(&*cookie));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_session_s_cookie_is_one_s_own_when_nothing_else_is_said() {
    for layer in LAYERS {
        let origin = Origin::now(|call| {
            answer(200, &[("set-cookie", &*format!("sid={}", call.number))], "")
        });
        let app = App::changed(origin, layer);
        for number in 1..5 {
            let cookie = format!("sid={number}");
            assert_eq!(app.get("/").await.header("set-cookie"), Some(&*cookie));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn followers_of_a_new_session_have_sessions_of_their_own() {
    let app = App::new(Origin::new(|call| async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let cookie = format!("sid={}", call.number);
        let fields = [("cache-control", "max-age=60"), ("set-cookie", &*cookie)];
        Ok(answer(200, &fields, ""))
    }));
    let spawned: Vec<_> = (0..50)
        .map(|_| {
            let app = app.clone();
            tokio::spawn(async move { app.get("/").await.header("set-cookie").unwrap().to_owned() })
        })
        .collect();
    let mut cookies = Vec::new();
    for cookie in spawned {
        cookies.push(cookie.await.unwrap());
    }
    cookies.sort();
    cookies.dedup();
    assert_eq!(cookies.len(), 50);
}

#[tokio::test(start_paused = true)]
async fn a_304_s_cookie_is_for_who_asked_only() {
    let app = App::new(Origin::now(|call| match call.header("if-none-match") {
        Some(_) => answer(304, &[("set-cookie", "sid=secret")], ""),
        None => answer(
            200,
            &[("cache-control", "max-age=60"), ("etag", "\"a\"")],
            "",
        ),
    }));
    app.get("/").await;
    after(60.5).await;
    app.get_with("/", &[ADA]).await;
    let hit = app.get("/").await;
    assert!(hit.is_hit());
    assert_eq!(hit.header("set-cookie"), None);
}

#[tokio::test(start_paused = true)]
async fn a_background_revalidation_with_one_s_cookie_stores_nothing_of_one_s_own() {
    let app = App::new(Origin::now(|call| match call.header("cookie") {
        None => answer(
            200,
            &[("cache-control", "max-age=60, stale-while-revalidate=60")],
            "hello stranger",
        ),
        Some(name) => answer(
            200,
            &[("cache-control", "private, max-age=60")],
            format!("hello {name}"),
        ),
    }));
    app.get("/").await;
    after(61.0).await;
    assert_eq!(app.get_with("/", &[ADA]).await.text(), "hello stranger");
    settle().await;
    assert_eq!(app.get("/").await.text(), "hello stranger");
}

#[tokio::test(start_paused = true)]
async fn a_stale_answer_stands_in_for_those_it_was_for() {
    let app = App::changed(
        Origin::now(|call| match call.number {
            1 => answer(200, &[], "hello stranger"),
            _ => answer(503, &[], "down"),
        }),
        |layer| layer.default_ttl(Duration::from_secs(60)),
    );
    app.get("/").await;
    after(60.5).await;
    assert_eq!(app.get_with("/", &[ADA]).await.status, 503);
    assert_eq!(app.get("/").await.text(), "hello stranger");
}

#[tokio::test(start_paused = true)]
async fn what_requests_have_in_them_never_enters_the_store() {
    let backend = Asking::new();
    let cache = Cache::builder(backend.clone()).hash_key(b"key").build();
    let app = App::on(
        cache,
        Origin::with(&[
            ("cache-control", "public, max-age=60"),
            ("vary", "cookie, authorization"),
        ]),
        |layer| layer,
    );
    let fields = [
        ("cookie", "sid=ada-secret"),
        ("authorization", "Bearer ada-secret"),
        ("x-token", "ada-secret"),
        ("user-agent", "ada-secret"),
    ];
    app.get_with("/", &fields).await;
    app.cache.flush().await;
    assert!(app.get_with("/", &fields).await.is_hit());
    assert!(backend.was_given(b"max-age=60"));
    assert!(!backend.was_given(b"secret"));
}

#[tokio::test(start_paused = true)]
async fn hashes_of_credentials_are_not_written_where_others_read_without_a_key() {
    for (fields, expected) in [("cookie", false), ("authorization", false), ("x-a", true)] {
        let cache = Cache::new(Asking::new());
        let control = [("cache-control", "public, max-age=60"), ("vary", fields)];
        let app = App::on(cache, Origin::with(&control), |layer| layer);
        let first = app.get("/").await;
        app.cache.flush().await;
        assert_eq!(first.is_stored(), expected, "{fields}");
        assert_eq!(app.get("/").await.is_hit(), expected, "{fields}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_status_field_tells_neither_key_nor_values() {
    let app = App::new(Origin::with(&[
        ("cache-control", "max-age=60"),
        ("vary", "x-a"),
    ]));
    for _ in 0..2 {
        let answer = app.get_with("/secret?secret=1", &[("x-a", "secret")]).await;
        assert!(!answer.told().contains("secret"));
        assert!(!answer.told().contains("key"));
    }
}
