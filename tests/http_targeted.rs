//! `CDN-Cache-Control` and the field for this cache alone (RFC 9213).

mod support;

use larder::{Cache, CacheLayer, ErrorKind};
use support::{Answer, App, Origin, after, answer, date};
use tower::Layer;

const CDN: &str = "cdn-cache-control";
const OWN: &str = "larder-cache-control";

/// Whether the second request is answered with what the first one stored.
async fn is_reused(fields: &[(&str, &str)]) -> bool {
    is_reused_by(App::new(Origin::with(fields))).await
}

async fn is_reused_by(app: App) -> bool {
    app.get("/").await;
    app.get("/").await.is_hit()
}

#[tokio::test(start_paused = true)]
async fn a_targeted_field_permits_what_cache_control_and_expires_forbid() {
    for name in [CDN, OWN] {
        for other in [
            ("cache-control", "no-store"),
            ("cache-control", "private"),
            ("cache-control", "no-cache"),
            ("cache-control", "max-age=0"),
            ("expires", "0"),
        ] {
            assert!(
                is_reused(&[(name, "max-age=60"), other]).await,
                "{name} {other:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_targeted_field_forbids_what_cache_control_and_expires_permit() {
    for name in [CDN, OWN] {
        for targeted in ["no-store", "private", "no-cache", "max-age=0", "foo"] {
            let fields = [
                (name, targeted),
                ("cache-control", "public, max-age=60, s-maxage=60"),
                ("expires", &date(60)),
            ];
            assert!(!is_reused(&fields).await, "{name}: {targeted}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn its_freshness_is_the_one_that_counts() {
    let app = App::new(Origin::with(&[
        (CDN, "max-age=10"),
        ("cache-control", "s-maxage=60"),
    ]));
    app.get("/").await;
    after(9.5).await;
    assert!(app.get("/").await.is_hit());
    after(1.0).await;
    assert!(!app.get("/").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn what_is_no_dictionary_is_as_if_it_were_not_there() {
    for text in ["", "&&&&&", "max-age=60, &", "MaX-aGe=60", "max-age =60"] {
        for name in [CDN, OWN] {
            assert!(
                is_reused(&[(name, text), ("cache-control", "max-age=60")]).await,
                "{text}"
            );
            assert!(
                !is_reused(&[(name, text), ("cache-control", "no-store")]).await,
                "{text}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_of_another_type_makes_nothing_fresh() {
    for text in ["max-age=\"60\"", "max-age=60.0", "max-age", "max-age=-60"] {
        let fields = [(CDN, text), ("cache-control", "max-age=60")];
        assert!(!is_reused(&fields).await, "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_field_for_this_cache_comes_before_the_one_for_all_of_a_kind() {
    assert!(!is_reused(&[(OWN, "no-store"), (CDN, "max-age=60")]).await);
    assert!(is_reused(&[(OWN, "max-age=60"), (CDN, "no-store")]).await);
    assert!(is_reused(&[(OWN, "&"), (CDN, "max-age=60")]).await);
}

#[tokio::test(start_paused = true)]
async fn a_targeted_field_says_no_more_of_one_s_own_answers_than_cache_control_would() {
    let app = App::new(Origin::with(&[(CDN, "max-age=60")]));
    let authorised = [("authorization", "Bearer one")];
    app.get_with("/", &authorised).await;
    assert!(
        !app.get_with("/", &[("authorization", "Bearer two")])
            .await
            .is_hit()
    );
    let public = App::new(Origin::with(&[(CDN, "public, max-age=60")]));
    public.get_with("/", &authorised).await;
    assert!(public.get("/").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_targeted_field_is_a_word_about_cookies() {
    let cookie = ("set-cookie", "theme=dark");
    assert!(is_reused(&[(CDN, "max-age=60"), cookie]).await);
    assert!(!is_reused(&[("cache-control", "max-age=60"), cookie]).await);
}

#[tokio::test(start_paused = true)]
async fn nothing_makes_a_response_fresh_whose_targeted_field_does_not() {
    let fields = [(CDN, "foo"), ("expires", &date(60))];
    let app = App::changed(Origin::with(&fields), |layer| {
        layer.default_ttl(std::time::Duration::from_secs(60))
    });
    assert!(!is_reused_by(app).await);
}

#[tokio::test(start_paused = true)]
async fn fields_that_it_names_are_left_out_of_the_stored_response() {
    let app = App::new(Origin::with(&[
        (OWN, "max-age=60, private=\"x-a, larder-cache-control\""),
        ("x-a", "1"),
    ]));
    // A list that names what reuse depends on is about the whole response.
    app.get("/").await;
    assert!(!app.get("/").await.is_hit());
    let app = App::new(Origin::with(&[
        (OWN, "max-age=60, private=\"x-a\""),
        ("x-a", "1"),
    ]));
    assert_eq!(app.get("/").await.header("x-a"), Some("1"));
    let hit = app.get("/").await;
    assert_eq!((hit.is_hit(), hit.header("x-a")), (true, None));
}

// What clients see

const BOTH: &[(&str, &str)] = &[
    (OWN, "max-age=60"),
    (CDN, "max-age=30"),
    ("cache-control", "no-cache"),
    ("etag", "\"a\""),
];

fn is_hidden(answer: &Answer) -> bool {
    assert_eq!(answer.header(CDN), Some("max-age=30"));
    assert_eq!(answer.header("cache-control"), Some("no-cache"));
    answer.header(OWN).is_none()
}

#[tokio::test(start_paused = true)]
async fn clients_see_the_field_for_all_of_a_kind_and_not_the_one_for_this_cache() {
    let app = App::new(Origin::with(BOTH));
    for method in ["POST", "OPTIONS", "HEAD", "GET", "GET", "HEAD"] {
        let answer = app.send(method, "/", &[]).await;
        assert!(is_hidden(&answer), "{method}");
    }
    for fields in [
        [("if-none-match", "\"a\"")],
        [("range", "bytes=0-0")],
        [("if-match", "\"a\"")],
        [("cache-control", "no-store")],
        [("cache-control", "no-cache")],
    ] {
        assert!(is_hidden(&app.get_with("/", &fields).await), "{fields:?}");
    }
    after(60.5).await;
    assert!(is_hidden(
        &app.get_with("/", &[("if-none-match", "\"a\"")]).await
    ));
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_not_stored_hides_it_too() {
    let app = App::new(Origin::with(&[
        (OWN, "no-store"),
        (CDN, "max-age=30"),
        ("cache-control", "no-cache"),
    ]));
    assert!(is_hidden(&app.get("/").await));
    let silent = App::changed(Origin::with(BOTH), CacheLayer::without_status);
    assert!(is_hidden(&silent.get("/").await) && is_hidden(&silent.get("/").await));
}

#[tokio::test(start_paused = true)]
async fn a_validated_response_is_reused_by_what_only_the_store_knows() {
    let app = App::new(Origin::now(|call| {
        let fields = [
            (OWN, "max-age=60"),
            ("cache-control", "no-store"),
            ("etag", "\"a\""),
        ];
        match call.header("if-none-match") {
            Some(_) => answer(304, &[("etag", "\"a\"")], ""),
            None => answer(200, &fields, call.number.to_string()),
        }
    }));
    app.get("/").await;
    for _ in 0..2 {
        after(60.5).await;
        let validated = app.get("/").await;
        assert_eq!(
            validated.told(),
            "larder; fwd=stale; fwd-status=304; stored"
        );
        let hit = app.get("/").await;
        assert_eq!((hit.is_hit(), hit.text()), (true, "1"));
        for answer in [validated, hit] {
            assert_eq!(answer.header(OWN), None);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_304_may_change_it() {
    let app = App::new(Origin::now(|call| match call.header("if-none-match") {
        Some(_) => answer(304, &[(OWN, "max-age=5"), ("etag", "\"a\"")], ""),
        None => answer(200, &[(OWN, "max-age=60"), ("etag", "\"a\"")], "body"),
    }));
    app.get("/").await;
    after(60.5).await;
    assert_eq!(app.get("/").await.header(OWN), None);
    after(4.0).await;
    assert!(app.get("/").await.is_hit());
    after(2.0).await;
    assert!(!app.get("/").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_layer_inside_another_of_the_same_cache_leaves_it_to_that_one() {
    let cache = Cache::memory();
    let origin = Origin::with(&[(OWN, "max-age=60"), ("cache-control", "no-store")]);
    let inner = CacheLayer::new(cache.clone()).layer(origin.clone());
    let service = CacheLayer::new(cache).layer(inner);
    for _ in 0..2 {
        let request = support::request("GET", "/", &[]);
        assert_eq!(support::send(&service, request).await.header(OWN), None);
    }
    assert_eq!(origin.calls(), 1);
}

// Switches

#[tokio::test(start_paused = true)]
async fn the_name_can_be_chosen() {
    let named = |fields: &[(&str, &str)]| {
        App::changed(Origin::with(fields), |layer| {
            layer.target_field("Shop-Cache-Control").unwrap()
        })
    };
    let app = named(&[("shop-cache-control", "max-age=60")]);
    assert_eq!(app.get("/").await.header("shop-cache-control"), None);
    assert!(app.get("/").await.is_hit());
    let app = named(&[(OWN, "max-age=60")]);
    assert_eq!(app.get("/").await.header(OWN), Some("max-age=60"));
    assert!(!app.get("/").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn each_can_be_switched_off() {
    let off = |fields: &[(&str, &str)]| {
        App::changed(Origin::with(fields), |layer| {
            layer.without_target_field().cdn_cache_control(false)
        })
    };
    assert!(!is_reused_by(off(&[(CDN, "max-age=60")])).await);
    let app = off(&[(OWN, "no-store"), ("cache-control", "max-age=60")]);
    app.get("/").await;
    let hit = app.get("/").await;
    assert_eq!((hit.is_hit(), hit.header(OWN)), (true, Some("no-store")));
}

#[test]
fn a_name_that_is_not_of_that_kind_is_refused() {
    for name in ["cache-control", "cdn-cache-control", "etag", ""] {
        let refused = CacheLayer::new(Cache::memory()).target_field(name);
        let error = refused.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Settings, "{name:?}");
        assert!(error.to_string().contains("-cache-control"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_layers_of_one_cache_each_go_by_their_own_field() {
    const SHOP: &str = "shop-cache-control";
    let fields = [(OWN, "max-age=10"), (SHOP, "max-age=60")];
    for shop_is_first in [true, false] {
        let cache = Cache::memory();
        let of_shop = |layer: CacheLayer| layer.target_field(SHOP).unwrap();
        let shop = App::on(cache.clone(), Origin::with(&fields), of_shop);
        let usual = App::on(cache, Origin::with(&fields), |layer| layer);
        let [first, other] = match shop_is_first {
            true => [&shop, &usual],
            false => [&usual, &shop],
        };
        first.get("/").await;
        other.get("/").await;
        let (by_shop, by_usual) = (shop.get("/").await, usual.get("/").await);
        assert!(by_shop.is_hit() && by_usual.is_hit());
        assert_eq!((by_shop.header(SHOP), by_usual.header(OWN)), (None, None));
        assert_eq!(by_shop.header(OWN), Some("max-age=10"));
        assert_eq!(by_usual.header(SHOP), Some("max-age=60"));
        after(10.5).await;
        assert!(shop.get("/").await.is_hit());
        assert!(!usual.get("/").await.is_hit());
    }
}
