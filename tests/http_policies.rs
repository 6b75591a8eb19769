//! Policies: for how long responses are stored, which are not, and what is refused when policies are built.

#![cfg(all(feature = "axum", feature = "memory"))]

mod support;

use std::time::Duration;

use axum::{Router, routing::get};
use http::StatusCode;
use larder::{Cache, CacheLayer, CachePolicy, ErrorKind, Policies, QueryKey, Reason, SetCookie};
use support::{Answer, App, Asking, Origin, after, answer, request, send};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn new() -> CachePolicy {
    CachePolicy::new()
}

fn minute() -> CachePolicy {
    new().ttl(secs(60))
}

fn app(origin: Origin, policy: CachePolicy) -> App {
    App::changed(origin, |layer| layer.policy(policy).unwrap())
}

/// The freshness that is left to a response, when it is asked for a second time.
async fn ttl(origin: Origin, policy: CachePolicy) -> Option<u64> {
    let app = app(origin, policy);
    app.get("/").await;
    let told = app.get("/").await.told();
    told.strip_prefix("larder; hit; ttl=")?.parse().ok()
}

mod lifetimes {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_ttl_is_for_responses_that_do_not_give_their_own() {
        assert_eq!(ttl(Origin::with(&[]), minute()).await, Some(60));
        for (own, expected) in [
            ("max-age=10", 10),
            ("s-maxage=10", 10),
            ("public", 60),
            ("must-revalidate", 60),
        ] {
            let origin = Origin::with(&[("cache-control", own)]);
            assert_eq!(ttl(origin, minute()).await, Some(expected), "{own}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends() {
        let app = app(Origin::with(&[]), minute());
        app.get("/").await;
        after(59.5).await;
        assert!(app.get("/").await.is_hit());
        after(1.0).await;
        assert!(!app.get("/").await.is_hit());
    }

    #[tokio::test(start_paused = true)]
    async fn an_overriding_ttl_wins_over_the_handlers_own() {
        for own in ["max-age=10", "max-age=0", "s-maxage=900, max-age=5"] {
            let origin = Origin::with(&[("cache-control", own)]);
            assert_eq!(
                ttl(origin, minute().override_ttl()).await,
                Some(60),
                "{own}"
            );
        }
        let expired = Origin::with(&[("expires", "0")]);
        assert_eq!(ttl(expired, minute().override_ttl()).await, Some(60));
    }

    #[tokio::test(start_paused = true)]
    async fn no_policy_overrides_a_handler_that_forbids() {
        for own in ["no-store", "private", "private, max-age=60", "no-cache"] {
            for policy in [minute(), minute().override_ttl()] {
                let origin = Origin::with(&[("cache-control", own)]);
                assert_eq!(ttl(origin, policy).await, None, "{own}");
            }
        }
        let pragma = Origin::with(&[("pragma", "no-cache")]);
        assert_eq!(ttl(pragma, minute().override_ttl()).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_to_be_reused_and_may_be_one_visitor_s_is_overridden_for_nobody() {
        for own in [("cache-control", "max-age=0"), ("expires", "0")] {
            let origin = Origin::with(&[own]);
            let app = app(origin, minute().override_ttl());
            let ask = async |sid: &str| {
                app.get_with("/", &[("cookie", sid)])
                    .await
                    .text()
                    .to_owned()
            };
            assert_eq!(ask("sid=1").await, "1", "{own:?}");
            assert_eq!(ask("sid=2").await, "2", "{own:?}");
            assert_eq!(app.get("/").await.text(), "3");
            assert_eq!(app.get("/").await.text(), "3");
            assert_eq!(ask("sid=1").await, "4", "{own:?}");
        }
        let public = Origin::with(&[("cache-control", "public, max-age=0")]);
        let app = app(public, minute().override_ttl());
        for sid in ["sid=1", "sid=2"] {
            let answer = app.get_with("/", &[("cookie", sid)]).await;
            assert_eq!(answer.text(), "1");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_ttl_is_for_what_succeeds_or_leads_elsewhere() {
        for status in [200, 203, 204, 300, 301, 308] {
            assert_eq!(
                ttl(Origin::of(status, &[]), minute()).await,
                Some(60),
                "{status}"
            );
        }
        for status in [201, 302, 400, 403, 404, 410, 500, 501] {
            assert_eq!(
                ttl(Origin::of(status, &[]), minute()).await,
                None,
                "{status}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_negative_ttl_is_for_what_is_not_there() {
        let policy = || minute().negative_ttl(secs(5));
        for status in [404, 405, 410, 414, 501] {
            assert_eq!(
                ttl(Origin::of(status, &[]), policy()).await,
                Some(5),
                "{status}"
            );
        }
        assert_eq!(ttl(Origin::of(400, &[]), policy()).await, None);
        assert_eq!(ttl(Origin::of(200, &[]), policy()).await, Some(60));
        let own = Origin::of(404, &[("cache-control", "max-age=9")]);
        assert_eq!(ttl(own, policy()).await, Some(9));
    }

    #[tokio::test(start_paused = true)]
    async fn a_ttl_for_a_status_comes_before_the_others() {
        let policy = || {
            minute()
                .negative_ttl(secs(5))
                .ttl_for(StatusCode::NOT_FOUND, secs(7))
                .ttl_for(StatusCode::FOUND, secs(8))
                .ttl_for(StatusCode::SERVICE_UNAVAILABLE, secs(9))
        };
        for (status, expected) in [(200, 60), (404, 7), (410, 5), (302, 8), (503, 9)] {
            let left = ttl(Origin::of(status, &[]), policy()).await;
            assert_eq!(left, Some(expected), "{status}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_given_ttl_is_not_for_credentials() {
        for name in ["authorization", "cookie"] {
            let app = app(Origin::with(&[]), minute());
            let credentials = [(name, "a=1")];
            assert!(!app.get_with("/", &credentials).await.is_stored(), "{name}");
            assert!(app.get("/").await.is_stored());
            assert!(!app.get_with("/", &credentials).await.is_hit(), "{name}");
        }
        let sets = Origin::with(&[("set-cookie", "a=1")]);
        assert_eq!(ttl(sets, minute()).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn cookies_that_do_not_matter_keep_nothing_from_being_stored() {
        let app = app(Origin::with(&[]), minute().ignore_cookies());
        assert!(app.get_with("/", &[("cookie", "a=1")]).await.is_stored());
        assert!(app.get_with("/", &[("cookie", "b=2")]).await.is_hit());
        let authorized = app.get_with("/", &[("authorization", "a")]).await;
        assert!(!authorized.is_hit());
    }

    #[tokio::test(start_paused = true)]
    async fn a_validated_response_gets_its_ttl_anew() {
        let origin = Origin::now(|call| match call.header("if-none-match") {
            Some(_) => answer(304, &[("etag", "\"a\"")], ""),
            None => answer(200, &[("etag", "\"a\"")], "1"),
        });
        let app = app(origin, minute());
        app.get("/").await;
        after(70.0).await;
        let validated = app.get("/").await;
        assert_eq!(
            validated.told(),
            "larder; fwd=stale; fwd-status=304; stored"
        );
        assert_eq!(app.get("/").await.told(), "larder; hit; ttl=60");
    }

    #[tokio::test(start_paused = true)]
    async fn a_given_ttl_is_kept_on_servers() {
        let cache = Cache::new(Asking::new());
        let app = App::on(cache, Origin::with(&[]), |layer| {
            layer.policy(minute()).unwrap()
        });
        app.get("/").await;
        app.cache.flush().await;
        after(10.0).await;
        assert_eq!(app.get("/").await.told(), "larder; hit; ttl=50");
    }

    #[tokio::test(start_paused = true)]
    async fn a_plain_layer_reads_what_a_policy_gave_a_ttl() {
        let cache = Cache::memory();
        let policed = App::on(cache.clone(), Origin::with(&[]), |layer| {
            layer.policy(minute()).unwrap()
        });
        policed.get("/").await;
        let plain = App::on(cache, Origin::with(&[]), |layer| layer);
        assert!(plain.get("/").await.is_hit());
    }
}

mod conditions {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nothing_is_looked_up_or_stored_for_requests_that_are_left_out() {
        let policy = minute().unless(|request| request.headers.contains_key("x-preview"));
        let app = app(Origin::with(&[]), policy);
        let left_out = app.get_with("/", &[("x-preview", "1")]).await;
        assert_eq!(left_out.told(), "larder; fwd=bypass; detail=unless");
        assert_eq!(app.get("/").await.text(), "2");
        assert_eq!(app.get_with("/", &[("x-preview", "1")]).await.text(), "3");
        assert_eq!(app.get("/").await.text(), "2");
    }

    #[tokio::test(start_paused = true)]
    async fn a_forced_update_replaces_what_is_stored() {
        let policy = minute().force_update(|request| request.headers.contains_key("x-new"));
        let app = app(Origin::with(&[("etag", "\"a\"")]), policy);
        app.get("/").await;
        let forced = app.get_with("/", &[("x-new", "1")]).await;
        assert_eq!(forced.told(), "larder; fwd=request; stored");
        assert_eq!(app.origin.last_header("if-none-match"), None);
        let hit = app.get("/").await;
        assert!(hit.is_hit() && hit.text() == "2");
    }

    #[tokio::test(start_paused = true)]
    async fn a_forced_update_replaces_a_variant_on_a_server() {
        let policy = minute()
            .vary_by_header("x-a")
            .force_update(|request| request.headers.contains_key("x-new"));
        let app = App::on(Cache::new(Asking::new()), Origin::with(&[]), |layer| {
            layer.policy(policy).unwrap()
        });
        app.get("/").await;
        app.cache.flush().await;
        app.get_with("/", &[("x-new", "1")]).await;
        app.cache.flush().await;
        let hit = app.get("/").await;
        assert!(hit.is_hit() && hit.text() == "2", "{}", hit.told());
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_is_not_picked_is_not_stored_and_leaves_what_was() {
        let origin = Origin::now(|call| {
            let control = if call.number == 1 {
                "max-age=1, stale-if-error=90"
            } else {
                "max-age=1"
            };
            answer(
                200,
                &[
                    ("cache-control", control),
                    ("x-number", &call.number.to_string()),
                ],
                "",
            )
        });
        let policy = new()
            .store_if(|response| response.status == 200 && response.headers["x-number"] != "2");
        let app = app(origin, policy);
        assert!(app.get("/").await.is_stored());
        after(2.0).await;
        let refused = app.get("/").await;
        assert_eq!(refused.told(), "larder; fwd=stale; detail=store-if");
        assert!(app.get("/").await.is_stored());
        assert!(app.get("/").await.is_hit());
    }

    #[tokio::test(start_paused = true)]
    async fn a_route_may_store_nothing() {
        let app = app(
            Origin::with(&[("cache-control", "max-age=60")]),
            new().no_store(),
        );
        for _ in 0..2 {
            let passed = app.get("/").await;
            assert_eq!(passed.told(), "larder; fwd=bypass; detail=policy-no-store");
        }
        assert_eq!(app.cache.stats().reasons[Reason::PolicyNoStore], 2);
    }

    #[tokio::test(start_paused = true)]
    async fn responses_end_with_the_tags_of_their_policy() {
        let origin = Origin::with(&[("cache-tag", "own")]);
        let app = app(origin, minute().tag("items").tag("all"));
        for tag in ["items", "all", "own"] {
            app.get("/").await;
            assert!(app.get("/").await.is_hit(), "{tag}");
            app.cache.invalidate_tag(tag).await.unwrap();
            assert!(!app.get("/").await.is_hit(), "{tag}");
        }
        assert_eq!(app.get("/").await.header("cache-tag"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn hits_are_marked() {
        let policy = minute().hit_header("X-Cache");
        let app = app(Origin::with(&[("x-cache", "MISS from afar")]), policy);
        assert_eq!(app.get("/").await.header("x-cache"), Some("MISS from afar"));
        assert_eq!(app.get("/").await.header("x-cache"), Some("HIT"));
        let head = app.send("HEAD", "/", &[]).await;
        assert_eq!(head.header("x-cache"), Some("HIT"));
    }
}

mod from_handlers {
    use super::*;

    fn saying(policy: CachePolicy) -> Origin {
        Origin::now(move |call| {
            let mut response = answer(200, &[], call.number.to_string());
            response.extensions_mut().insert(policy.clone());
            response
        })
    }

    async fn told(policy: CachePolicy) -> String {
        App::new(saying(policy)).get("/").await.told()
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_gives_a_ttl_by_a_policy_in_its_response() {
        let app = App::new(saying(minute()));
        app.get("/").await;
        assert_eq!(app.get("/").await.told(), "larder; hit; ttl=60");
        assert_eq!(ttl(saying(new()), new().ttl(secs(9))).await, Some(9));
        assert_eq!(ttl(saying(minute()), new().ttl(secs(9))).await, Some(60));
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_keeps_a_response_from_being_stored() {
        let no_store = new().no_store();
        assert_eq!(
            told(no_store).await,
            "larder; fwd=uri-miss; detail=policy-no-store"
        );
        let never = minute().store_if(|_| false);
        assert_eq!(told(never).await, "larder; fwd=uri-miss; detail=store-if");
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_tags_a_response_by_a_policy() {
        let app = App::new(saying(minute().tag("items")));
        app.get("/").await;
        assert!(app.get("/").await.is_hit());
        app.cache.invalidate_tag("items").await.unwrap();
        assert!(!app.get("/").await.is_hit());
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_too_late_is_refused() {
        for policy in [
            minute().query(QueryKey::None),
            minute().sort_query(true),
            minute().vary_by_header("x-a"),
            minute().vary_by_cookie("a"),
            minute().vary_by(|name: &String| name.clone()),
            minute().per_user(|name: &String| name.clone()),
            minute().unless(|_| false),
            minute().hit_header("x-cache"),
        ] {
            let told = told(policy).await;
            assert_eq!(told, "larder; fwd=uri-miss; detail=policy-too-late");
        }
        let invalid = told(new().ttl(Duration::ZERO)).await;
        assert_eq!(invalid, "larder; fwd=uri-miss; detail=policy-invalid");
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_a_part_of_axum_s_responses() {
        let handler = async || (minute(), "an item");
        let app =
            CacheLayer::new(Cache::memory()).around_service(Router::new().route("/", get(handler)));
        send(&app, request("GET", "/", &[])).await;
        assert!(send(&app, request("GET", "/", &[])).await.is_hit());
    }

    #[tokio::test(start_paused = true)]
    async fn a_ttl_by_a_handler_outlives_a_validation_without_one() {
        let origin = Origin::now(|call| {
            if call.header("if-none-match").is_some() {
                return answer(304, &[("etag", "\"a\"")], "");
            }
            let mut response = answer(200, &[("etag", "\"a\"")], "1");
            response.extensions_mut().insert(minute());
            response
        });
        let app = App::new(origin);
        app.get("/").await;
        after(70.0).await;
        app.get("/").await;
        assert_eq!(app.get("/").await.told(), "larder; hit; ttl=60");
    }
}

mod routes {
    use super::*;

    fn policies() -> Policies {
        Policies::builder()
            .route("/items/{id}", new().ttl(secs(1)))
            .route("/items/best", new().ttl(secs(2)))
            .route("/files/{*path}", new().ttl(secs(3)))
            .route("/v1/things/{id}", new().ttl(secs(4)))
            .others(new().ttl(secs(5)))
            .build()
            .unwrap()
    }

    async fn ttl_of(get: impl AsyncFn(&str) -> Answer, uri: &str) -> String {
        get(uri).await;
        get(uri).await.told().replace("larder; hit; ttl=", "")
    }

    #[tokio::test(start_paused = true)]
    async fn each_route_has_its_own() {
        let app = App::changed(Origin::with(&[]), |layer| {
            layer.policies(policies()).unwrap()
        });
        for (uri, expected) in [
            ("/items/7", "1"),
            ("/items/7?a=b", "1"),
            ("http://other.example/items/7", "1"),
            ("/items/best", "2"),
            ("/files/a/b/c", "3"),
            ("/items", "5"),
            ("/items/7/8", "5"),
            ("/Items/7", "5"),
            ("/", "5"),
        ] {
            let left = ttl_of(async |uri| app.get(uri).await, uri).await;
            assert_eq!(left, expected, "{uri}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_path_that_the_client_asked_for_counts_inside_nested_routers() {
        let layer = CacheLayer::new(Cache::memory())
            .policies(policies())
            .unwrap();
        let inner = Router::new()
            .route("/things/{id}", get(async || "a thing"))
            .layer(layer);
        let app = Router::new().nest("/v1", inner.clone()).nest("/v2", inner);
        let get = async |uri: &str| send(&app, request("GET", uri, &[])).await;
        assert_eq!(ttl_of(get, "/v1/things/7").await, "4");
        let get = async |uri: &str| send(&app, request("GET", uri, &[])).await;
        assert_eq!(ttl_of(get, "/v2/things/7").await, "5");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_policy_a_route_goes_by_its_handlers() {
        let policies = Policies::builder().route("/a", minute()).build().unwrap();
        let app = App::changed(Origin::with(&[]), |layer| layer.policies(policies).unwrap());
        assert!(app.get("/a").await.is_stored());
        assert_eq!(
            app.get("/b").await.told(),
            "larder; fwd=uri-miss; detail=no-freshness"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_layer_with_a_policy_inside_another_keeps_the_other_from_storing() {
        let cache = Cache::memory();
        let inner = CacheLayer::new(cache.clone())
            .policy(minute().vary_by_header("x-a"))
            .unwrap();
        let handler = async || ([("cache-control", "max-age=60")], "an item");
        let router = Router::new().route("/", get(handler).layer(inner));
        let app = CacheLayer::new(cache).around_service(router);
        for _ in 0..2 {
            let told = send(&app, request("GET", "/", &[])).await.told();
            assert_eq!(told, "larder; fwd=uri-miss; detail=policy-inside");
        }
    }
}

mod building {
    use super::*;

    fn problems(policy: CachePolicy) -> Vec<String> {
        let Err(error) = Policies::builder().route("/a", policy).build() else {
            return Vec::new();
        };
        assert_eq!(error.kind(), ErrorKind::Settings);
        let error = error.to_string();
        let lines = error
            .lines()
            .map(|line| line.strip_prefix("policy of /a: ").unwrap());
        lines.map(str::to_owned).collect()
    }

    #[test]
    fn what_contradicts_itself_is_said_in_one_sentence() {
        let years = |years: u64| secs(years * 365 * 24 * 3600);
        for (policy, problem) in [
            (
                new().ttl(Duration::ZERO),
                "a TTL of zero stores nothing; leave it out, or say `no_store`",
            ),
            (
                new().negative_ttl(years(10) + secs(1)),
                "a TTL is longer than ten years",
            ),
            (
                new().ttl_for(StatusCode::PARTIAL_CONTENT, secs(1)),
                "responses with status 206 are never stored",
            ),
            (
                new().ttl_for(StatusCode::NOT_MODIFIED, secs(1)),
                "responses with status 304 are never stored",
            ),
            (
                new().ttl_for(StatusCode::CONTINUE, secs(1)),
                "responses with status 100 are never stored",
            ),
            (
                minute()
                    .ttl_for(StatusCode::OK, secs(1))
                    .ttl_for(StatusCode::OK, secs(2)),
                "there are two TTLs for status 200",
            ),
            (
                new().override_ttl(),
                "`override_ttl` has no TTL to override with",
            ),
            (
                minute().no_store(),
                "`no_store` stores nothing that a TTL could be for",
            ),
            (
                new().no_store().vary_by_header("x-a"),
                "`no_store` looks nothing up, so nothing else can be said beside it",
            ),
            (
                new().query(QueryKey::Only(Vec::new())),
                "`QueryKey::Only` names no parameter; `QueryKey::None` means none",
            ),
            (
                new().query(QueryKey::Ignore(Vec::new())),
                "`QueryKey::Ignore` names no parameter; `QueryKey::All` means all",
            ),
            (
                new().query(QueryKey::only([""])),
                "the name of a query parameter is empty",
            ),
            (
                new().query(QueryKey::only(["a", "a"])),
                "the query parameter `a` is named twice",
            ),
            (
                new().query(QueryKey::All).query(QueryKey::None),
                "`query` is said twice",
            ),
            (
                new().query(QueryKey::None).sort_query(true),
                "`sort_query` has nothing to sort where no query is in the key",
            ),
            (
                new().vary_by_header("Host"),
                "`vary_by_header` names `host`, which is in the key anyway",
            ),
            (
                new().vary_by_header("a b"),
                "`vary_by_header` names \"a b\", which is no field name",
            ),
            (
                new().vary_by_header("*"),
                "`vary_by_header` cannot take all fields; name them",
            ),
            (
                new().vary_by_header("If-None-Match"),
                "`vary_by_header` names `if-none-match`, which chooses no response",
            ),
            (
                new().vary_by_header("x-a").vary_by_header("X-A"),
                "`vary_by_header` names `x-a` twice",
            ),
            (
                new().vary_by_cookie("a=b"),
                "`vary_by_cookie` names \"a=b\", which is no cookie's name",
            ),
            (
                new().vary_by_cookie("a").vary_by_cookie("a"),
                "`vary_by_cookie` names `a` twice",
            ),
            (
                new().vary_by_cookie("a").vary_by_header("cookie"),
                "`vary_by_header` takes all cookies, and `vary_by_cookie` some of them",
            ),
            (
                new().ignore_cookies().vary_by_header("cookie"),
                "`vary_by_header` takes all cookies, and `ignore_cookies` none",
            ),
            (
                new().per_user(name).per_user(name),
                "`per_user` is said twice; one identity has to tell all users apart",
            ),
            (
                new().per_user(name).ignore_cookies(),
                "`per_user` keeps responses apart by user, so there are no cookies to ignore",
            ),
            (
                new().hit_header("ETag"),
                "`hit_header` names `etag`, which means something else",
            ),
            (
                new().hit_header("cache-status"),
                "`hit_header` names `cache-status`, which means something else",
            ),
            (
                new().hit_header("a:b"),
                "`hit_header` names \"a:b\", which is no field name",
            ),
            (new().tag(""), "a tag has between 1 and 256 bytes"),
            (new().tag("a").tag("a"), "the tag `a` is named twice"),
            (
                new().max_variants(0),
                "`max_variants` is not between 1 and 4096",
            ),
        ] {
            assert_eq!(problems(policy), [problem]);
        }
    }

    struct Name(String);

    fn name(name: &Name) -> Vec<u8> {
        name.0.clone().into()
    }

    #[test]
    fn a_parameter_that_is_picked_and_ignored_is_named() {
        let policy = new()
            .query(QueryKey::only(["a", "b"]))
            .query(QueryKey::ignore(["b"]));
        assert_eq!(
            problems(policy)[0],
            "the query parameter `b` is picked and ignored"
        );
    }

    #[test]
    fn everything_is_told_at_once() {
        let error = Policies::builder()
            .route("/a", new().ttl(Duration::ZERO).vary_by_header("host"))
            .route("/a/{x}", minute())
            .route("/a/{y}", minute())
            .route("/a", minute())
            .route("b", minute())
            .route("/c/:id", minute())
            .route("/d/{", minute())
            .route("/e/{*rest}/f", minute())
            .others(new().override_ttl())
            .others(minute())
            .build()
            .unwrap_err();
        let expected = "\
policy of /a: a TTL of zero stores nothing; leave it out, or say `no_store`
policy of /a: `vary_by_header` names `host`, which is in the key anyway
policy of /a/{y}: it matches the same paths as /a/{x}
policy of /a: there are two policies for this route
policy of b: a route starts with `/`
policy of /c/:id: parameters are written `{name}` and `{*name}`
policy of /d/{: the route is malformed: parameters must be registered with a valid name
policy of /e/{*rest}/f: the route is malformed: catch-all parameters are only allowed at the end of a route
policy of (others): there are two of them
policy of (others): `override_ttl` has no TTL to override with";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn what_contradicts_the_layer_is_told_when_it_is_given_to_it() {
        let by_cookie = || minute().vary_by_cookie("a");
        let layer = CacheLayer::new(Cache::memory()).set_cookie(SetCookie::Always);
        let error = layer.policy(by_cookie()).unwrap_err();
        assert!(error.to_string().contains("`SetCookie::Always`"), "{error}");
        let layer = CacheLayer::new(Cache::memory()).policy(minute()).unwrap();
        let error = layer.policy(minute()).unwrap_err();
        assert!(
            error.to_string().contains("has policies already"),
            "{error}"
        );
    }

    #[test]
    fn secrets_in_the_key_need_a_hash_key_on_a_shared_backend() {
        let on_shared = |policy| CacheLayer::new(Cache::new(Asking::new())).policy(policy);
        for policy in [
            minute().vary_by_cookie("a"),
            minute().vary_by_header("cookie"),
            minute().vary_by_header("authorization"),
            minute().vary_by(name),
            minute().per_user(name),
        ] {
            let error = on_shared(policy.clone()).unwrap_err();
            assert!(error.to_string().contains("CACHE_HASH_KEY"), "{error}");
            let cache = Cache::builder(Asking::new()).hash_key(b"a secret").build();
            assert!(CacheLayer::new(cache).policy(policy.clone()).is_ok());
            assert!(CacheLayer::new(Cache::memory()).policy(policy).is_ok());
        }
        assert!(on_shared(minute().vary_by_header("accept-language")).is_ok());
    }

    #[test]
    fn policies_are_shown_as_a_table_by_names() {
        let policies = Policies::builder()
            .route(
                "/items",
                minute()
                    .query(QueryKey::only(["page", "size"]))
                    .sort_query(true),
            )
            .route(
                "/me/{*rest}",
                minute()
                    .negative_ttl(secs(5))
                    .override_ttl()
                    .per_user(name)
                    .vary_by_cookie("theme"),
            )
            .route("/admin", new().no_store())
            .others(
                new()
                    .ttl_for(StatusCode::FOUND, secs(1))
                    .vary_by_header("Accept-Language")
                    .unless(|_| false)
                    .store_if(|_| true)
                    .hit_header("X-Cache"),
            )
            .build()
            .unwrap();
        let expected = "\
route        lifetimes                           key                                           conditions
/items       60s                                 query of only page, size; query sorted        -
/me/{*rest}  60s; negative 5s; over the handler's  cookie theme; per user: Name by function  -
/admin       not stored                          -                                             -
(others)     302 1s                              header Accept-Language                        unless by function; store_if by function; marks hits in X-Cache
";
        let squeeze = |text: &str| -> Vec<Vec<String>> {
            let cells = |line: &str| {
                let cells = line
                    .split("  ")
                    .map(str::trim)
                    .filter(|cell| !cell.is_empty());
                cells.map(str::to_owned).collect()
            };
            text.lines().map(cells).collect()
        };
        assert_eq!(squeeze(&policies.to_string()), squeeze(expected));
    }

    #[test]
    fn every_policy_has_a_line_for_debugging() {
        let policy = minute().vary_by_cookie("theme").unless(|_| false);
        assert_eq!(
            format!("{policy:?}"),
            "CachePolicy { 60s; cookie theme; unless by function }"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn every_way_from_the_store_marks_a_hit_and_hides_what_is_for_the_cache() {
    let origin = Origin::new(|_| async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let fields = [
            ("etag", "\"a\""),
            ("cache-tag", "shelf"),
            ("surrogate-key", "shelf"),
            ("larder-cache-control", "max-age=60"),
        ];
        Ok(answer(200, &fields, "many jars"))
    });
    let policy = minute().hit_header("X-Cache").tag("shelf");
    let app = App::changed(origin, |layer| layer.policy(policy).unwrap());
    let (first, joined) = tokio::join!(app.get("/"), app.get("/"));
    assert!(joined.told().contains("collapsed") && app.calls() == 1);
    let mut answers = vec![joined];
    for fields in [
        &[][..],
        &[("if-none-match", "\"a\"")],
        &[("range", "bytes=0-1")],
        &[("range", "bytes=0-1,4-5")],
        &[("range", "bytes=99-")],
    ] {
        answers.push(app.get_with("/", fields).await);
    }
    answers.push(app.send("HEAD", "/", &[]).await);
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 200, 304, 206, 206, 416, 200]);
    for answer in &answers {
        assert_eq!(answer.header("x-cache"), Some("HIT"), "{answer:?}");
    }
    for answer in answers.iter().chain([&first]) {
        for hidden in ["cache-tag", "surrogate-key", "larder-cache-control"] {
            assert_eq!(answer.header(hidden), None, "{answer:?}");
        }
    }
}
