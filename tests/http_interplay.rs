//! Fields that meet each other, and those that are left alone.

mod support;

use support::{App, Asking, Origin, after, answer, date};

const MINUTE: (&str, &str) = ("cache-control", "max-age=60");

// Fields that say nothing to a cache, or no more

#[tokio::test(start_paused = true)]
async fn a_stale_answer_carries_no_warning() {
    let app = App::new(Origin::now(|call| match call.number {
        1 => answer(200, &[MINUTE], "stale"),
        _ => answer(503, &[], ""),
    }));
    app.get("/").await;
    after(60.5).await;
    let stale = app.get("/").await;
    assert_eq!(stale.text(), "stale");
    // RFC 9111 §5.5: the field is obsolete.
    assert_eq!(stale.header("warning"), None);
}

#[tokio::test(start_paused = true)]
async fn fields_for_clients_are_replayed_as_they_were() {
    let fields = [
        MINUTE,
        ("clear-site-data", "\"cache\""),
        ("warning", "199 - \"as it came\""),
        ("no-vary-search", "params"),
        ("content-security-policy", "default-src 'self'"),
    ];
    let app = App::new(Origin::with(&fields));
    app.get("/?a=1").await;
    let hit = app.get("/?a=1").await;
    assert!(hit.is_hit());
    for (name, value) in fields {
        assert_eq!(hit.header(name), Some(value));
    }
    assert!(!app.get("/?a=2").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_response_s_pragma_forbids_a_guess_and_nothing_else() {
    let pragma = ("pragma", "no-cache");
    let is_reused = async |fields: &[(&str, &str)]| {
        let app = App::new(Origin::with(fields));
        app.get("/").await;
        app.get("/").await.is_hit()
    };
    assert!(is_reused(&[MINUTE, pragma]).await);
    let modified = date(-1_000_000);
    assert!(is_reused(&[("last-modified", &modified)]).await);
    assert!(!is_reused(&[("last-modified", &modified), pragma]).await);
}

// Freshness

#[tokio::test(start_paused = true)]
async fn expires_without_a_date_counts_from_when_the_response_came() {
    let app = App::new(Origin::with(&[("expires", &date(10))]));
    app.get("/").await;
    after(9.0).await;
    assert!(app.get("/").await.is_hit());
    after(2.0).await;
    assert!(!app.get("/").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn what_expires_when_it_is_made_is_never_fresh() {
    let now = date(0);
    let app = App::new(Origin::with(&[("expires", &now), ("date", &now)]));
    app.get("/").await;
    assert!(!app.get("/").await.is_hit());
}

// What requests ask for, together

#[tokio::test(start_paused = true)]
async fn only_if_cached_takes_what_the_other_directives_take() {
    let app = App::new(Origin::with(&[MINUTE]));
    app.get("/").await;
    after(70.0).await;
    let ask = async |control| {
        app.get_with("/", &[("cache-control", control)])
            .await
            .status
    };
    assert_eq!(ask("only-if-cached").await, 504);
    assert_eq!(ask("only-if-cached, max-stale=5").await, 504);
    assert_eq!(ask("only-if-cached, max-stale=20").await, 200);
    assert_eq!(app.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn max_stale_does_not_stretch_max_age() {
    let app = App::new(Origin::with(&[MINUTE]));
    app.get("/").await;
    after(30.0).await;
    let asked = [("cache-control", "max-age=10, max-stale=1000")];
    assert!(!app.get_with("/", &asked).await.is_hit());
}

// POST for GET

fn posts(fields: &[(&str, &str)]) -> Origin {
    Origin::with(fields)
}

#[tokio::test(start_paused = true)]
async fn a_post_s_answer_is_stored_only_as_what_it_says_it_is() {
    for (fields, stored) in [
        (&[MINUTE, ("content-location", "/a")][..], true),
        (
            &[MINUTE, ("content-location", "http://test.example/a")],
            true,
        ),
        (&[MINUTE, ("content-location", "/b")], false),
        (
            &[MINUTE, ("content-location", "http://other.example/a")],
            false,
        ),
        (&[MINUTE], false),
        (&[("content-location", "/a"), ("etag", "\"a\"")], false),
        (
            &[
                ("cache-control", "private, max-age=60"),
                ("content-location", "/a"),
            ],
            false,
        ),
    ] {
        let app = App::new(posts(fields));
        app.send("POST", "/a", &[]).await;
        assert_eq!(app.get("/a").await.is_hit(), stored, "{fields:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_post_s_answer_is_stored_where_a_backend_has_to_be_asked() {
    let origin = posts(&[MINUTE, ("content-location", "/a")]);
    let app = App::on(larder::Cache::new(Asking::new()), origin, |layer| layer);
    app.send("POST", "/a", &[]).await;
    app.cache.flush().await;
    assert!(app.get("/a").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn an_authorised_post_s_answer_is_for_nobody_else() {
    let app = App::new(posts(&[MINUTE, ("content-location", "/a")]));
    app.send("POST", "/a", &[("authorization", "Bearer one")])
        .await;
    assert!(!app.get("/a").await.is_hit());
}

// Languages

fn languages() -> App {
    let origin = Origin::now(|call| {
        let language = call.header("accept-language").unwrap_or("none").to_owned();
        answer(200, &[MINUTE, ("vary", "accept-language")], language)
    });
    App::changed(origin, |layer| layer.languages(["en", "de"]).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_language_has_one_variant_whoever_asks_for_it() {
    let app = languages();
    for wishes in [
        "de",
        "de-AT, en;q=0.5",
        "fr;q=0.5, de;q=1.0",
        "DE;q=0.9,en;q=0.8",
    ] {
        let answer = app.get_with("/", &[("accept-language", wishes)]).await;
        assert_eq!(answer.text(), "de", "{wishes}");
    }
    for wishes in ["en", "*", "en-US,en;q=0.9,de;q=0.8"] {
        let answer = app.get_with("/", &[("accept-language", wishes)]).await;
        assert_eq!(answer.text(), "en", "{wishes}");
    }
    assert_eq!(app.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn wishes_that_cannot_be_met_are_not_told_to_the_handler() {
    let app = languages();
    for fields in [
        &[("accept-language", "fr")][..],
        &[("accept-language", "it")],
        &[],
    ] {
        assert_eq!(app.get_with("/", fields).await.text(), "none", "{fields:?}");
    }
    assert_eq!(app.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_languages_the_wishes_are_compared_as_lists() {
    let app = App::new(Origin::with(&[MINUTE, ("vary", "accept-language")]));
    app.get_with("/", &[("accept-language", "de")]).await;
    let other = app.get_with("/", &[("accept-language", "de-AT, de")]).await;
    assert!(!other.is_hit());
}
