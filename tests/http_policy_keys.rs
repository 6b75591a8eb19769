//! Policies: which requests share a stored response, and which never do.

#![cfg(all(feature = "axum", feature = "memory"))]

mod support;

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::body::Body;
use http::Request;
use larder::{Cache, CacheLayer, CachePolicy, Policies, QueryKey, Reason, SetCookie};
use support::{Answer, App, Asking, Call, Origin, answer, request, send};

fn new() -> CachePolicy {
    CachePolicy::new()
}

fn minute() -> CachePolicy {
    new().ttl(Duration::from_secs(60))
}

fn app(origin: Origin, policy: CachePolicy) -> App {
    on(Cache::memory(), origin, policy)
}

fn on(cache: Cache, origin: Origin, policy: CachePolicy) -> App {
    App::on(cache, origin, |layer| layer.policy(policy).unwrap())
}

/// A shared backend that only answers when it is asked.
fn server() -> Cache {
    Cache::builder(Asking::new()).hash_key(b"a secret").build()
}

#[derive(Clone)]
struct User(String);

fn user() -> CachePolicy {
    minute().per_user(|user: &User| user.0.clone())
}

fn from(name: &str, method: &str, uri: &str, fields: &[(&str, &str)]) -> Request<Body> {
    let mut request = request(method, uri, fields);
    request.extensions_mut().insert(User(name.to_owned()));
    request
}

async fn get_as(app: &App, name: &str, uri: &str, fields: &[(&str, &str)]) -> Answer {
    send(&app.service, from(name, "GET", uri, fields)).await
}

mod queries {
    use super::*;

    async fn share(policy: &CachePolicy, one: &str, other: &str) -> bool {
        let app = app(Origin::with(&[]), policy.clone());
        app.get(one).await;
        app.get(other).await.is_hit()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_in_the_key_does_not_keep_responses_apart() {
        let paged = minute().query(QueryKey::only(["page"]));
        assert!(share(&paged, "/?page=1&utm=a", "/?x&page=1").await);
        assert!(share(&paged, "/?utm=a", "/").await);
        assert!(!share(&paged, "/?page=1", "/?page=2").await);
        assert!(!share(&paged, "/?page=1", "/?p%61ge=1").await);
        assert!(!share(&paged, "/?page=1", "/?page=1&page=2").await);
        let untracked = minute().query(QueryKey::ignore(["utm"]));
        assert!(share(&untracked, "/?a&utm=1&b", "/?a&b&utm=2").await);
        assert!(!share(&untracked, "/?a&b", "/?b&a").await);
        let blind = minute().query(QueryKey::None);
        assert!(share(&blind, "/?a", "/?b").await);
        assert!(!share(&blind, "/a?x", "/b?x").await);
        assert!(!share(&minute(), "/?a", "/?b").await);
    }

    #[tokio::test(start_paused = true)]
    async fn sorted_parameters_share_a_response_in_any_order_of_their_names() {
        let sorted = minute().sort_query(true);
        assert!(share(&sorted, "/?a=1&b=2", "/?b=2&a=1").await);
        assert!(!share(&sorted, "/?a=1&a=2", "/?a=2&a=1").await);
        assert!(!share(&minute(), "/?a=1&b=2", "/?b=2&a=1").await);
    }

    #[tokio::test(start_paused = true)]
    async fn the_handler_sees_the_query_as_it_was_sent() {
        let app = app(
            Origin::with(&[]),
            minute().query(QueryKey::None).sort_query(false),
        );
        app.get("/?b=2&a=1").await;
        assert_eq!(app.origin.last().uri, "/?b=2&a=1");
    }

    #[tokio::test(start_paused = true)]
    async fn an_unsafe_request_ends_what_its_key_is_of() {
        let policy = || minute().query(QueryKey::only(["page"])).sort_query(true);
        let app = app(Origin::with(&[("location", "/b?x=9&page=1")]), policy());
        for uri in ["/a?page=1&utm=1", "/a?page=2", "/b?page=1&y"] {
            app.get(uri).await;
        }
        app.send("POST", "/a?utm=7&page=1", &[]).await;
        assert!(!app.get("/a?page=1").await.is_hit());
        assert!(app.get("/a?page=2").await.is_hit());
        assert!(!app.get("/b?page=1").await.is_hit());
    }

    #[tokio::test(start_paused = true)]
    async fn a_purge_ends_it_too() {
        let app = app(
            Origin::with(&[]),
            minute().query(QueryKey::only(["page"])).sort_query(true),
        );
        app.get("/a?x=1&page=2").await;
        assert!(
            app.cache
                .purge("http://test.example/a?y=3&page=2&x=4")
                .await
                .unwrap()
        );
        assert!(!app.get("/a?page=2").await.is_hit());
        let other = App::on(app.cache.clone(), Origin::with(&[]), |layer| {
            layer.default_ttl(Duration::from_secs(60))
        });
        other.get("/a?x=1&page=2").await;
        assert!(
            other
                .cache
                .purge("http://test.example/a?x=1&page=2")
                .await
                .unwrap()
        );
        assert!(!other.get("/a?x=1&page=2").await.is_hit());
    }

    #[tokio::test(start_paused = true)]
    async fn another_rule_does_not_read_what_was_stored_by_this_one() {
        let cache = Cache::memory();
        let blind = on(
            cache.clone(),
            Origin::with(&[]),
            minute().query(QueryKey::None),
        );
        blind.get("/?a").await;
        let seeing = on(cache.clone(), Origin::with(&[]), minute());
        assert!(!seeing.get("/").await.is_hit());
        assert!(seeing.get("/").await.is_hit());
        let picking = on(
            cache,
            Origin::with(&[]),
            minute().query(QueryKey::only(["a"])),
        );
        assert!(!picking.get("/").await.is_hit());
    }
}

mod fields {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_header_in_the_key_chooses_from_the_first_request_on() {
        let app = app(
            Origin::with(&[]),
            minute().vary_by_header("Accept-Language"),
        );
        let get = async |language: &str| app.get_with("/", &[("accept-language", language)]).await;
        get("de, en;q=0.5").await;
        assert_eq!(get("en").await.told(), "larder; fwd=vary-miss; stored");
        assert!(get("en;q=0.50 ,DE").await.is_hit());
        assert!(!app.get("/").await.is_hit());
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_handler_names_in_vary_chooses_beside_it() {
        let app = app(
            Origin::with(&[("vary", "x-b")]),
            minute().vary_by_header("x-a"),
        );
        let get = async |a: &str, b: &str| app.get_with("/", &[("x-a", a), ("x-b", b)]).await;
        for (a, b) in [("1", "1"), ("1", "2"), ("2", "1"), ("12", "")] {
            assert!(!get(a, b).await.is_hit(), "{a} {b}");
        }
        for (a, b) in [("1", "1"), ("1", "2"), ("2", "1"), ("12", "")] {
            assert!(get(a, b).await.is_hit(), "{a} {b}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_cookie_chooses_and_the_others_do_not() {
        let origin = Origin::with(&[("cache-control", "max-age=60")]);
        let app = app(origin, new().vary_by_cookie("theme"));
        let get = async |cookie: &str| app.get_with("/", &[("cookie", cookie)]).await;
        get("theme=dark; sid=1").await;
        assert!(get("sid=2; theme=dark").await.is_hit());
        assert!(!get("theme=light").await.is_hit());
        assert!(!get("th%65me=dark").await.is_hit());
        assert!(!app.get("/").await.is_hit());
    }

    #[tokio::test(start_paused = true)]
    async fn a_given_ttl_is_for_requests_without_cookies_that_are_not_in_the_key() {
        let app = app(Origin::with(&[]), minute().vary_by_cookie("theme"));
        let get = async |cookie: &str| app.get_with("/", &[("cookie", cookie)]).await;
        assert!(get("theme=dark").await.is_stored());
        assert!(get("theme=dark").await.is_hit());
        assert!(!get("theme=dark; sid=1").await.is_hit());
        assert!(!get("sid=1").await.is_stored());
    }

    #[tokio::test(start_paused = true)]
    async fn no_cookie_of_the_key_is_on_a_server() {
        let backend = Asking::new();
        let cache = Cache::builder(backend.clone())
            .hash_key(b"a secret")
            .build();
        let app = on(cache, Origin::with(&[]), minute().vary_by_cookie("theme"));
        app.get_with("/", &[("cookie", "theme=solarized")]).await;
        app.cache.flush().await;
        assert!(
            app.get_with("/", &[("cookie", "theme=solarized")])
                .await
                .is_hit()
        );
        assert!(!backend.was_given(b"solarized"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_cookie_for_one_visitor_is_not_stored_for_all_who_are_alike() {
        let origin = Origin::with(&[("cache-control", "max-age=60"), ("set-cookie", "sid=1")]);
        let app = App::changed(origin, |layer| {
            let layer = layer.policy(new().vary_by_cookie("sid")).unwrap();
            layer.set_cookie(SetCookie::Always)
        });
        assert_eq!(
            app.get("/").await.told(),
            "larder; fwd=uri-miss; detail=set-cookie"
        );
    }
}

mod extensions {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_part_of_an_extension_chooses() {
        let app = app(
            Origin::with(&[]),
            minute().vary_by(|user: &User| [user.0.len() as u8]),
        );
        get_as(&app, "ann", "/", &[]).await;
        assert!(get_as(&app, "bob", "/", &[]).await.is_hit());
        assert!(!get_as(&app, "carl", "/", &[]).await.is_hit());
    }

    #[tokio::test(start_paused = true)]
    async fn two_parts_do_not_run_into_each_other() {
        #[derive(Clone)]
        struct Pair(&'static str, &'static str);
        let policy = minute()
            .vary_by(|pair: &Pair| pair.0)
            .vary_by(|pair: &Pair| pair.1);
        let app = app(Origin::with(&[]), policy);
        for pair in [
            Pair("a", "bc"),
            Pair("ab", "c"),
            Pair("abc", ""),
            Pair("", "abc"),
        ] {
            let mut request = request("GET", "/", &[]);
            request.extensions_mut().insert(pair);
            assert!(!send(&app.service, request).await.is_hit());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_the_extension_nothing_is_looked_up_or_stored() {
        let app = app(
            Origin::with(&[("cache-control", "max-age=60")]),
            new().vary_by(|user: &User| user.0.clone()),
        );
        for _ in 0..2 {
            let told = app.get("/").await.told();
            assert_eq!(told, "larder; fwd=bypass; detail=no-key-part");
        }
        assert_eq!(app.cache.stats().reasons[Reason::NoKeyPart], 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_version_is_in_the_key() {
        let cache = Cache::memory();
        let of = |version| {
            let policy = minute().vary_by_header("x-a").version(version);
            on(cache.clone(), Origin::with(&[]), policy)
        };
        of(1).get("/").await;
        assert!(of(1).get("/").await.is_hit());
        assert!(!of(2).get("/").await.is_hit());
    }
}

mod users {
    use proptest::prelude::*;

    use super::*;

    /// Answers each user with the own name and the URI, as handlers say it who think of one client.
    fn greeting() -> Origin {
        Origin::now(|call| {
            let name = call
                .request
                .extensions
                .get::<User>()
                .map_or("nobody", |user| &*user.0);
            let body = format!("{name} {}", call.request.uri);
            answer(200, &[("cache-control", "private, max-age=60")], body)
        })
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_private_is_stored_for_its_user_alone() {
        for cache in [Cache::memory(), server()] {
            let app = on(cache, greeting(), user());
            let stored = get_as(&app, "ann", "/", &[]).await;
            assert_eq!(stored.told(), "larder; fwd=uri-miss; stored");
            app.cache.flush().await;
            let hit = get_as(&app, "ann", "/", &[]).await;
            assert!(hit.is_hit() && hit.text() == "ann /", "{}", hit.told());
            let other = get_as(&app, "bob", "/", &[]).await;
            assert_eq!(other.told(), "larder; fwd=vary-miss; stored");
            assert_eq!(other.text(), "bob /");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_keep_nothing_from_being_stored_for_their_user() {
        let app = app(Origin::with(&[]), user());
        let credentials = [("authorization", "Bearer a"), ("cookie", "sid=1")];
        assert!(get_as(&app, "ann", "/", &credentials).await.is_stored());
        assert!(get_as(&app, "ann", "/", &credentials).await.is_hit());
        assert!(!get_as(&app, "bob", "/", &credentials).await.is_hit());
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_not_be_stored_is_not_stored_for_a_user_either() {
        let app = app(Origin::with(&[("cache-control", "no-store")]), user());
        let told = get_as(&app, "ann", "/", &[]).await.told();
        assert_eq!(told, "larder; fwd=uri-miss; detail=no-store");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_shares_with_those_who_have_no_name() {
        let app = app(greeting(), user());
        let expected = "larder; fwd=bypass; detail=no-identity";
        for _ in 0..2 {
            assert_eq!(app.get("/").await.told(), expected);
            assert_eq!(get_as(&app, "", "/", &[]).await.told(), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_other_layer_reads_what_is_stored_for_a_user_and_the_reverse() {
        for cache in [Cache::memory(), server()] {
            let mine = on(cache.clone(), greeting(), user());
            let public = Origin::with(&[("cache-control", "public, max-age=60")]);
            let plain = App::on(cache.clone(), public, |layer| layer);
            let by_header = on(cache.clone(), greeting(), minute().vary_by_header("x-a"));
            get_as(&mine, "ann", "/", &[]).await;
            cache.flush().await;
            assert!(!get_as(&plain, "ann", "/", &[]).await.is_hit());
            cache.flush().await;
            assert_eq!(get_as(&mine, "ann", "/", &[]).await.text(), "ann /");
            cache.flush().await;
            assert!(!get_as(&by_header, "ann", "/", &[]).await.is_hit());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_foreign_response_is_not_even_validated() {
        let tagged = Origin::with(&[("cache-control", "max-age=1"), ("etag", "\"a\"")]);
        let cache = Cache::memory();
        let plain = App::on(cache.clone(), tagged.clone(), |layer| layer);
        plain.get("/").await;
        support::after(2.0).await;
        let mine = on(cache, tagged.clone(), user());
        get_as(&mine, "ann", "/", &[]).await;
        assert_eq!(tagged.last_header("if-none-match"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn forty_users_of_one_uri_all_hit() {
        let app = app(greeting(), user());
        for round in 0..2 {
            for number in 0..40 {
                let hit = get_as(&app, &format!("user {number}"), "/", &[])
                    .await
                    .is_hit();
                assert_eq!(hit, round == 1, "{number}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn users_wait_for_themselves_and_not_for_each_other() {
        let origin = Origin::new(|call: Call| async move {
            let name = call
                .request
                .extensions
                .get::<User>()
                .map_or("", |user| &*user.0);
            let slow = if name == "ann" { 4 } else { 1 };
            tokio::time::sleep(Duration::from_secs(slow)).await;
            Ok(answer(200, &[], name.to_owned()))
        });
        let app = app(origin, user());
        let begun = tokio::time::Instant::now();
        let (first, second, other) = tokio::join!(
            get_as(&app, "ann", "/", &[]),
            get_as(&app, "ann", "/", &[]),
            async {
                let answer = get_as(&app, "bob", "/", &[]).await;
                (answer, begun.elapsed())
            },
        );
        assert_eq!(
            (first.text(), second.text(), other.0.text()),
            ("ann", "ann", "bob")
        );
        assert!(other.1 < Duration::from_secs(2), "{:?}", other.1);
        assert_eq!(app.calls(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unsafe_request_ends_what_every_user_has() {
        for cache in [Cache::memory(), server()] {
            let app = on(cache, greeting(), user());
            for name in ["ann", "bob"] {
                get_as(&app, name, "/", &[]).await;
            }
            app.cache.flush().await;
            send(&app.service, from("ann", "POST", "/", &[])).await;
            for name in ["ann", "bob"] {
                assert!(!get_as(&app, name, "/", &[]).await.is_hit(), "{name}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_purge_ends_what_every_user_has() {
        let app = app(greeting(), user());
        for name in ["ann", "bob"] {
            get_as(&app, name, "/", &[]).await;
        }
        assert!(app.cache.purge("http://test.example/").await.unwrap());
        for name in ["ann", "bob"] {
            assert!(!get_as(&app, name, "/", &[]).await.is_hit(), "{name}");
        }
    }

    /// What a visitor sends; most of it means nothing.
    #[derive(Clone, Debug)]
    struct Visit {
        name: &'static str,
        method: &'static str,
        uri: &'static str,
        fields: Vec<(&'static str, &'static str)>,
    }

    fn visit() -> impl Strategy<Value = Visit> {
        let field = prop::sample::select(vec![
            ("authorization", "Bearer a"),
            ("cookie", "sid=1"),
            ("cookie", "user=bob"),
            ("x-user", "bob"),
            ("accept-language", "de"),
            ("cache-control", "no-cache"),
            ("cache-control", "max-stale"),
            ("if-none-match", "*"),
            ("range", "bytes=0-1"),
        ]);
        let methods = prop::sample::select(vec!["GET", "GET", "GET", "GET", "HEAD", "POST"]);
        let uris = prop::sample::select(vec!["/", "/?a", "/?b=1&a=2", "/?a=2&b=1"]);
        let names = prop::sample::select(vec!["ann", "bob", ""]);
        let fields = prop::collection::vec(field, 0..3);
        (names, methods, uris, fields).prop_map(|(name, method, uri, fields)| Visit {
            name,
            method,
            uri,
            fields,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn nobody_ever_gets_what_is_another_s(
            visits in prop::collection::vec(visit(), 1..20), shared: bool, by_language: bool,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let cache = if shared { server() } else { Cache::memory() };
                let policy = user().query(QueryKey::only(["a"])).sort_query(true);
                let policy = match by_language {
                    true => policy.vary_by_header("accept-language"),
                    false => policy,
                };
                let app = on(cache, greeting(), policy);
                for visit in visits {
                    let Visit { name, method, uri, fields } = &visit;
                    let request = from(name, method, uri, fields);
                    let answer = send(&app.service, request).await;
                    app.cache.flush().await;
                    let text = answer.text();
                    let own = format!("{name} /");
                    // A part of a body begins like the whole.
                    let is_own = text.starts_with(&own) || own.starts_with(text);
                    prop_assert!(is_own, "{visit:?} got {text:?}");
                }
                Ok(())
            })?;
        }
    }
}

mod variants {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_unsafe_request_ends_every_variant_of_a_policy() {
        for cache in [Cache::memory(), server()] {
            let origin = Origin::with(&[("cache-control", "max-age=60")]);
            let policy = new().vary_by_header("x-a").vary_by_cookie("theme");
            let app = on(cache, origin, policy);
            let visits = [
                &[("x-a", "1")][..],
                &[("x-a", "2")],
                &[("cookie", "theme=dark")],
                &[],
            ];
            for fields in visits {
                app.get_with("/", fields).await;
                app.cache.flush().await;
                assert!(app.get_with("/", fields).await.is_hit(), "{fields:?}");
            }
            app.send("DELETE", "/", &[]).await;
            for fields in visits {
                assert!(!app.get_with("/", fields).await.is_hit(), "{fields:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_policy_reads_no_variant_of_the_old_one() {
        for cache in [Cache::memory(), server()] {
            let old = on(
                cache.clone(),
                Origin::with(&[]),
                minute().vary_by_header("x-a"),
            );
            old.get("/").await;
            cache.flush().await;
            assert!(old.get("/").await.is_hit());
            for changed in [
                minute(),
                minute().vary_by_header("x-b"),
                minute().vary_by_header("x-a").vary_by_header("x-b"),
                minute().vary_by_cookie("x-a"),
            ] {
                let new = on(cache.clone(), Origin::with(&[]), changed);
                assert!(!new.get("/").await.is_hit());
                cache.flush().await;
                assert!(new.get("/").await.is_hit());
                assert!(!old.get("/").await.is_hit());
                cache.flush().await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_limit_of_a_policy_counts() {
        let app = app(
            Origin::with(&[]),
            minute().vary_by_header("x-a").max_variants(2),
        );
        for value in ["1", "2", "3"] {
            app.get_with("/", &[("x-a", value)]).await;
        }
        assert!(app.get_with("/", &[("x-a", "3")]).await.is_hit());
        assert!(app.get_with("/", &[("x-a", "2")]).await.is_hit());
        assert!(!app.get_with("/", &[("x-a", "1")]).await.is_hit());
    }

    #[tokio::test(start_paused = true)]
    async fn a_post_answer_is_not_kept_where_a_policy_chooses() {
        let fields = [("cache-control", "max-age=60"), ("content-location", "/")];
        for (policy, is_kept) in [(minute(), true), (minute().vary_by_header("x-a"), false)] {
            let app = app(Origin::with(&fields), policy);
            app.send("POST", "/", &[]).await;
            assert_eq!(app.get("/").await.is_hit(), is_kept);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_log_says_once_for_a_route_that_parameters_are_not_in_the_key() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _listening = tracing::subscriber::set_default(subscriber);
    let picking = || minute().query(QueryKey::only(["page"]));
    let policies = Policies::builder()
        .route("/a", picking())
        .route("/b", picking())
        .build();
    let layer = CacheLayer::new(Cache::memory())
        .policies(policies.unwrap())
        .unwrap();
    let app = tower::Layer::layer(&layer, Origin::with(&[]));
    for uri in ["/a?page=1", "/a?x=secret", "/a?y", "/b?z", "/b?z"] {
        send(&app, request("GET", uri, &[])).await;
    }
    let said = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(said.matches("out of the key").count(), 2, "{said}");
    assert!(
        said.contains("route=\"/a\"") && !said.contains("secret"),
        "{said}"
    );
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
