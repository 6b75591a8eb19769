//! The layer and the handle on real servers, seen by two clients that share one: what two processes are to each other.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "it is for tests only")]

mod support;
mod support_servers;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use larder::{Cache, CacheLayer, CachePolicy, ErrorKind, PurgeOptions, PutOptions};
use support::{App, Origin, answer, request, send};
use support_servers::{Pair, Server};
use tokio::sync::Notify;

impl Pair {
    /// Two services that answer alike, as two processes of one program do.
    fn apps(&self, origin: impl Fn() -> Origin) -> (App, App) {
        let on = |cache: &Cache| App::on(cache.clone(), origin(), |layer| layer);
        (on(&self.one), on(&self.other))
    }

    /// The same under one policy.
    fn apps_by(&self, origin: impl Fn() -> Origin, policy: CachePolicy) -> (App, App) {
        let on = |cache: &Cache| {
            let by_policy = |layer: CacheLayer| layer.policy(policy.clone()).unwrap();
            App::on(cache.clone(), origin(), by_policy)
        };
        (on(&self.one), on(&self.other))
    }
}

support_servers::on_every_server! { all_behaviours_are_there, super::shows }

async fn shows(server: Server) {
    server.shows(TOGETHER).await;
    server.shows(ALONE).await;
}

// Purging by a prefix may end loads of others under way, which are not stored then.
support_servers::behaviours! { ALONE: a_prefix_is_purged_where_the_server_finds_it_and_refused_elsewhere }

support_servers::behaviours! { TOGETHER:
    a_response_stored_by_one_is_a_hit_for_the_other
    head_is_answered_from_what_the_other_stored
    an_unsafe_request_at_one_ends_it_for_the_other
    variants_are_shared
    an_unsafe_request_ends_all_variants_for_the_other
    a_variant_by_cookie_is_shared_under_the_same_secret
    a_lifetime_by_a_policy_is_shared
    what_is_private_is_shared_for_its_user_alone
    an_unsafe_request_ends_every_variant_of_a_policy_for_the_other
    what_another_policy_stored_is_not_read
    what_one_stored_is_revalidated_by_the_other
    a_stale_variant_is_revalidated_and_replaced
    a_head_at_one_brings_up_to_date_what_the_other_stored
    a_head_made_before_an_invalidation_elsewhere_updates_nothing
    a_field_for_this_cache_is_followed_and_hidden_by_both
    a_made_tag_is_the_same_for_both
    concurrent_requests_for_one_uri_call_the_handler_once
    concurrent_requests_for_one_variant_call_the_handler_once
    both_may_miss_at_once
    a_response_made_before_an_invalidation_elsewhere_is_not_stored
    a_variant_made_before_an_invalidation_elsewhere_is_not_stored
    the_first_variant_made_before_an_invalidation_elsewhere_is_not_stored
    a_purge_at_one_ends_all_variants_for_the_other
    a_soft_purge_at_one_makes_it_stale_for_the_other
    a_soft_purge_at_one_makes_every_variant_stale_for_the_other
    what_was_made_before_a_purge_elsewhere_is_not_kept_as_fresh
    the_answer_to_a_post_is_not_stored
    those_who_waited_for_what_came_too_late_do_not_run_all_at_once
    a_tag_invalidated_at_one_ends_responses_for_the_other
    a_tag_expired_at_one_makes_responses_stale_for_the_other
    a_value_invalidated_at_one_ends_what_the_other_made_of_it
    what_was_made_before_an_invalidation_of_its_tag_elsewhere_is_not_kept
    a_body_in_many_pieces_is_stored_whole
    a_body_over_the_limit_passes_and_is_not_stored
    nobody_queues_for_a_body_that_the_server_has_no_room_for
    flush_waits_for_what_is_on_its_way
    a_clear_at_one_ends_everything_for_the_other
    values_are_shared
    a_value_is_loaded_once_for_both
    a_value_loaded_before_a_delete_elsewhere_is_not_kept
    values_loaded_before_a_delete_elsewhere_are_not_kept
    a_value_put_elsewhere_while_loading_stays
    counters_count_together
    one_of_both_gets_the_lock
}

const FRESH: &[(&str, &str)] = &[("cache-control", "max-age=60")];
const LANGUAGES: &[(&str, &str)] = &[("cache-control", "max-age=60"), ("vary", "accept-language")];

fn fresh() -> Origin {
    Origin::with(FRESH)
}

/// An answer that names the language that was asked for.
fn languages() -> Origin {
    Origin::now(|call| {
        let language = call.header("accept-language").unwrap_or("none").to_owned();
        answer(200, LANGUAGES, format!("{language} {}", call.number))
    })
}

#[derive(Clone)]
struct User(&'static str);

async fn get_as(app: &App, name: &'static str) -> support::Answer {
    let mut request = request("GET", "/", &[("authorization", "Bearer a")]);
    request.extensions_mut().insert(User(name));
    send(&app.service, request).await
}

fn per_user() -> CachePolicy {
    CachePolicy::new().per_user(|user: &User| user.0)
}

fn private() -> Origin {
    Origin::with(&[("cache-control", "private, max-age=60")])
}

async fn a_lifetime_by_a_policy_is_shared(pair: Pair) {
    let policy = CachePolicy::new().ttl(Duration::from_secs(60));
    let (one, other) = pair.apps_by(|| Origin::with(&[]), policy);
    assert!(one.get("/").await.is_stored());
    pair.one.flush().await;
    assert!(other.get("/").await.is_hit());
}

async fn what_is_private_is_shared_for_its_user_alone(pair: Pair) {
    let (one, other) = pair.apps_by(private, per_user());
    assert!(get_as(&one, "ann").await.is_stored());
    pair.one.flush().await;
    assert!(get_as(&other, "ann").await.is_hit());
    let bob = get_as(&other, "bob").await;
    assert_eq!(bob.told(), "larder; fwd=vary-miss; stored");
    pair.other.flush().await;
    assert!(get_as(&one, "bob").await.is_hit());
    assert_eq!((one.calls(), other.calls()), (1, 1));
}

async fn an_unsafe_request_ends_every_variant_of_a_policy_for_the_other(pair: Pair) {
    let (one, other) = pair.apps_by(private, per_user());
    for name in ["ann", "bob"] {
        get_as(&one, name).await;
        pair.one.flush().await;
        assert!(get_as(&other, name).await.is_hit());
    }
    other.send("POST", "/", &[]).await;
    for name in ["ann", "bob"] {
        assert!(!get_as(&one, name).await.is_hit());
    }
}

async fn what_another_policy_stored_is_not_read(pair: Pair) {
    let (one, _) = pair.apps_by(private, per_user());
    let (plain, _) = pair.apps(fresh);
    get_as(&one, "ann").await;
    pair.one.flush().await;
    assert!(plain.get("/").await.is_stored());
    pair.one.flush().await;
    assert!(plain.get("/").await.is_hit());
    let own = get_as(&one, "ann").await;
    assert!(!own.is_hit(), "{}", own.told());
}

async fn a_response_stored_by_one_is_a_hit_for_the_other(pair: Pair) {
    let (one, other) = pair.apps(fresh);
    assert!(one.get("/").await.is_stored());
    pair.one.flush().await;
    let hit = other.get("/").await;
    assert!(hit.is_hit(), "{}", hit.told());
    assert_eq!((hit.text(), other.calls()), ("1", 0));
    assert_eq!(hit.header("cache-control"), Some("max-age=60"));
}

async fn head_is_answered_from_what_the_other_stored(pair: Pair) {
    let (one, other) = pair.apps(fresh);
    one.get("/").await;
    pair.one.flush().await;
    let head = other.send("HEAD", "/", &[]).await;
    assert!(head.is_hit(), "{}", head.told());
    assert_eq!(head.text(), "");
}

async fn an_unsafe_request_at_one_ends_it_for_the_other(pair: Pair) {
    let (one, other) = pair.apps(fresh);
    for round in 1..4 {
        one.get("/").await;
        pair.one.flush().await;
        assert!(other.get("/").await.is_hit());
        other.send("POST", "/", &[]).await;
        let after = one.get("/").await;
        assert!(!after.is_hit(), "in round {round}: {}", after.told());
        pair.one.flush().await;
        assert!(other.get("/").await.is_hit());
        one.send("DELETE", "/", &[]).await;
        assert!(!other.get("/").await.is_hit());
        pair.other.flush().await;
        one.send("PUT", "/", &[]).await;
    }
}

async fn variants_are_shared(pair: Pair) {
    let (one, other) = pair.apps(languages);
    for language in ["de", "en"] {
        one.get_with("/", &[("accept-language", language)]).await;
        pair.one.flush().await;
    }
    other.get_with("/", &[("accept-language", "fr")]).await;
    pair.other.flush().await;
    for (app, language, body) in [
        (&other, "de", "de 1"),
        (&other, "en", "en 2"),
        (&one, "fr", "fr 1"),
    ] {
        let hit = app.get_with("/", &[("accept-language", language)]).await;
        assert!(hit.is_hit(), "{language}: {}", hit.told());
        assert_eq!(hit.text(), body);
    }
}

async fn an_unsafe_request_ends_all_variants_for_the_other(pair: Pair) {
    let (one, other) = pair.apps(languages);
    for language in ["de", "en"] {
        one.get_with("/", &[("accept-language", language)]).await;
        pair.one.flush().await;
    }
    other.send("POST", "/", &[]).await;
    for language in ["de", "en"] {
        let after = one.get_with("/", &[("accept-language", language)]).await;
        assert!(!after.is_hit(), "{language}: {}", after.told());
    }
}

async fn a_variant_by_cookie_is_shared_under_the_same_secret(pair: Pair) {
    let origin = || Origin::with(&[("cache-control", "public, max-age=60"), ("vary", "cookie")]);
    let (one, other) = pair.apps(origin);
    one.get_with("/", &[("cookie", "theme=dark")]).await;
    pair.one.flush().await;
    let same = other.get_with("/", &[("cookie", "theme=dark")]).await;
    assert!(same.is_hit(), "{}", same.told());
    let another = other.get_with("/", &[("cookie", "theme=light")]).await;
    assert!(!another.is_hit(), "{}", another.told());
}

/// Answers with a validator, and with a 304 where it is asked by it.
fn validating(fields: &'static [(&str, &str)]) -> Origin {
    Origin::now(move |call| match call.header("if-none-match") {
        Some("\"tag\"") => answer(304, fields, ""),
        _ => answer(200, fields, call.number.to_string()),
    })
}

async fn what_one_stored_is_revalidated_by_the_other(pair: Pair) {
    const SHORT: &[(&str, &str)] = &[("cache-control", "max-age=1"), ("etag", "\"tag\"")];
    let (one, other) = pair.apps(|| validating(SHORT));
    one.get("/").await;
    pair.one.flush().await;
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let validated = other.get("/").await;
    assert_eq!(
        other.origin.last_header("if-none-match").as_deref(),
        Some("\"tag\"")
    );
    assert_eq!(validated.text(), "1");
    pair.other.flush().await;
    assert!(one.get("/").await.is_hit());
}

async fn a_head_at_one_brings_up_to_date_what_the_other_stored(pair: Pair) {
    const SHORT: &[(&str, &str)] = &[("cache-control", "max-age=1"), ("etag", "\"tag\"")];
    const NOW: &[(&str, &str)] = &[("cache-control", "max-age=60"), ("etag", "\"tag\"")];
    let heads = || {
        Origin::now(|call| match call.request.method.as_str() {
            "HEAD" => answer(200, NOW, ""),
            _ => answer(200, SHORT, call.number.to_string()),
        })
    };
    let (one, other) = pair.apps(heads);
    one.get("/").await;
    pair.one.flush().await;
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    assert!(other.send("HEAD", "/", &[]).await.is_stored());
    pair.other.flush().await;
    let hit = one.get("/").await;
    assert_eq!((hit.is_hit(), hit.text()), (true, "1"));
}

async fn a_head_made_before_an_invalidation_elsewhere_updates_nothing(pair: Pair) {
    const TAGGED: &[(&str, &str)] = &[("cache-control", "max-age=60"), ("etag", "\"tag\"")];
    let (arrived, leave) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = {
        let (arrived, leave) = (arrived.clone(), leave.clone());
        Origin::new(move |call| {
            let (arrived, leave) = (arrived.clone(), leave.clone());
            async move {
                if call.request.method == "HEAD" {
                    arrived.notify_one();
                    leave.notified().await;
                }
                Ok(answer(200, TAGGED, "made before"))
            }
        })
    };
    let (one, other) = pair.apps(move || slow.clone());
    one.get("/").await;
    pair.one.flush().await;
    let head = {
        let one = one.clone();
        tokio::spawn(async move {
            one.send("HEAD", "/", &[("cache-control", "no-cache")])
                .await
        })
    };
    arrived.notified().await;
    other.send("PUT", "/", &[]).await;
    leave.notify_one();
    head.await.unwrap();
    pair.one.flush().await;
    assert!(!other.get("/").await.is_hit());
}

async fn a_field_for_this_cache_is_followed_and_hidden_by_both(pair: Pair) {
    const OWN: &[(&str, &str)] = &[
        ("cache-control", "no-store"),
        ("larder-cache-control", "max-age=60"),
    ];
    let (one, other) = pair.apps(|| Origin::with(OWN));
    let first = one.get("/").await;
    pair.one.flush().await;
    let hit = other.get("/").await;
    assert!(hit.is_hit());
    for answer in [first, hit] {
        assert_eq!(answer.header("larder-cache-control"), None);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
}

async fn a_made_tag_is_the_same_for_both(pair: Pair) {
    let on = |cache: &Cache| App::on(cache.clone(), fresh(), |layer| layer.generate_etags(true));
    let (one, other) = (on(&pair.one), on(&pair.other));
    one.get("/").await;
    pair.one.flush().await;
    let hit = other.get("/").await;
    let tag = hit.header("etag").unwrap();
    let conditional = one.get_with("/", &[("if-none-match", tag)]).await;
    assert_eq!((conditional.status, conditional.is_hit()), (304, true));
}

async fn a_stale_variant_is_revalidated_and_replaced(pair: Pair) {
    const SHORT: &[(&str, &str)] = &[
        ("cache-control", "max-age=1"),
        ("etag", "\"tag\""),
        ("vary", "accept-language"),
    ];
    let (one, other) = pair.apps(|| validating(SHORT));
    let german = [("accept-language", "de")];
    one.get_with("/", &german).await;
    pair.one.flush().await;
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    assert_eq!(other.get_with("/", &german).await.text(), "1");
    pair.other.flush().await;
    let hit = one.get_with("/", &german).await;
    assert!(hit.is_hit(), "{}", hit.told());
}

/// Takes its time.
fn slow(fields: &'static [(&str, &str)]) -> Origin {
    Origin::new(move |call| async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        Ok(answer(200, fields, call.number.to_string()))
    })
}

async fn all_at_once(app: &App, count: usize) {
    let requests: Vec<_> = (0..count)
        .map(|_| {
            let app = app.clone();
            tokio::spawn(async move { app.get("/").await })
        })
        .collect();
    for request in requests {
        assert_eq!(request.await.unwrap().text(), "1");
    }
}

async fn concurrent_requests_for_one_uri_call_the_handler_once(pair: Pair) {
    let (one, _) = pair.apps(|| slow(FRESH));
    all_at_once(&one, 64).await;
    assert_eq!(one.calls(), 1);
}

async fn concurrent_requests_for_one_variant_call_the_handler_once(pair: Pair) {
    let (one, _) = pair.apps(|| slow(LANGUAGES));
    all_at_once(&one, 64).await;
    assert_eq!(one.calls(), 1);
}

async fn both_may_miss_at_once(pair: Pair) {
    let (one, other) = pair.apps(|| slow(FRESH));
    tokio::join!(all_at_once(&one, 8), all_at_once(&other, 8));
    tokio::join!(pair.one.flush(), pair.other.flush());
    // One that comes late finds what the other has stored.
    let calls = (one.calls(), other.calls());
    assert!(matches!(calls, (1, 1) | (1, 0) | (0, 1)), "{calls:?}");
    assert!(one.get("/").await.is_hit());
    assert!(other.get("/").await.is_hit());
}

/// Answers each call when it is told to, and says when it was called.
#[derive(Clone, Default)]
struct Gate {
    called: Arc<Notify>,
    open: Arc<Notify>,
}

impl Gate {
    fn origin(&self, fields: &'static [(&str, &str)]) -> Origin {
        let gate = self.clone();
        Origin::new(move |call| {
            let gate = gate.clone();
            async move {
                if call.request.method == "GET" {
                    gate.called.notify_one();
                    gate.open.notified().await;
                }
                Ok(answer(200, fields, "made before"))
            }
        })
    }
}

/// While a GET is with the handler of one, a POST at the other changes what it was made from.
async fn change_meanwhile(pair: &Pair, fields: &'static [(&str, &str)], before: &[&str]) {
    let german = [("accept-language", "de")];
    let other = App::on(pair.other.clone(), Origin::with(fields), |layer| layer);
    for language in before {
        other.get_with("/", &[("accept-language", language)]).await;
        pair.other.flush().await;
    }
    let gate = Gate::default();
    let one = App::on(pair.one.clone(), gate.origin(fields), |layer| layer);
    let request = tokio::spawn({
        let one = one.clone();
        async move { one.get_with("/", &german).await }
    });
    gate.called.notified().await;
    other.send("POST", "/", &[]).await;
    gate.open.notify_one();
    assert_eq!(request.await.unwrap().text(), "made before");
    pair.one.flush().await;
    let after = other.get_with("/", &german).await;
    assert!(!after.is_hit(), "{}: {}", after.told(), after.text());
    assert_ne!(after.text(), "made before");
}

async fn a_response_made_before_an_invalidation_elsewhere_is_not_stored(pair: Pair) {
    change_meanwhile(&pair, FRESH, &[]).await;
}

async fn a_variant_made_before_an_invalidation_elsewhere_is_not_stored(pair: Pair) {
    change_meanwhile(&pair, LANGUAGES, &["en", "fr"]).await;
}

async fn the_first_variant_made_before_an_invalidation_elsewhere_is_not_stored(pair: Pair) {
    change_meanwhile(&pair, LANGUAGES, &[]).await;
}

const URI: &str = "https://test.example/";

async fn a_purge_at_one_ends_all_variants_for_the_other(pair: Pair) {
    let (one, other) = pair.apps(languages);
    let ask = async |app: &App, language| app.get_with("/", &[("accept-language", language)]).await;
    for language in ["en", "fr"] {
        ask(&one, language).await;
        pair.one.flush().await;
    }
    assert!(ask(&other, "en").await.is_hit());
    assert!(pair.one.purge(URI).await.unwrap());
    assert!(!pair.other.purge(URI).await.unwrap());
    for language in ["en", "fr"] {
        let after = ask(&other, language).await;
        assert!(!after.is_hit(), "{language}: {}", after.told());
        pair.other.flush().await;
    }
}

async fn a_soft_purge_at_one_makes_it_stale_for_the_other(pair: Pair) {
    let origin = || {
        Origin::now(|call| match call.header("if-none-match") {
            Some(_) => answer(304, &[("etag", "\"1\"")], ""),
            None => answer(
                200,
                &[("cache-control", "max-age=60"), ("etag", "\"1\"")],
                "kept",
            ),
        })
    };
    let (one, other) = pair.apps(origin);
    one.get("/").await;
    pair.one.flush().await;
    for _ in 0..2 {
        assert!(other.get("/").await.is_hit());
        assert!(pair.one.purge_soft(URI).await.unwrap());
        let after = other.get("/").await;
        assert_eq!(after.told(), "larder; fwd=stale; fwd-status=304; stored");
        assert_eq!(after.text(), "kept");
        pair.other.flush().await;
    }
    assert!(!pair.one.purge_soft("http://test.example/b").await.unwrap());
}

async fn a_soft_purge_at_one_makes_every_variant_stale_for_the_other(pair: Pair) {
    let (one, other) = pair.apps(languages);
    let ask = async |app: &App, language| app.get_with("/", &[("accept-language", language)]).await;
    for language in ["en", "fr"] {
        ask(&one, language).await;
        pair.one.flush().await;
    }
    assert!(pair.other.purge_soft(URI).await.unwrap());
    for language in ["en", "fr"] {
        let after = ask(&one, language).await;
        assert!(
            after.told().starts_with("larder; fwd=stale"),
            "{}",
            after.told()
        );
        pair.one.flush().await;
        assert!(ask(&other, language).await.is_hit());
    }
}

/// While a GET is with the handler of one, its URI is purged at the other.
async fn what_was_made_before_a_purge_elsewhere_is_not_kept_as_fresh(pair: Pair) {
    let german = [("accept-language", "de")];
    for (fields, before) in [(FRESH, None), (LANGUAGES, None), (LANGUAGES, Some("fr"))] {
        for is_soft in [false, true] {
            pair.other.purge(URI).await.unwrap();
            let other = App::on(pair.other.clone(), Origin::with(fields), |layer| layer);
            if let Some(language) = before {
                other.get_with("/", &[("accept-language", language)]).await;
                pair.other.flush().await;
            }
            let gate = Gate::default();
            let one = App::on(pair.one.clone(), gate.origin(fields), |layer| layer);
            let request = tokio::spawn({
                let one = one.clone();
                async move { one.get_with("/", &german).await }
            });
            gate.called.notified().await;
            match is_soft {
                true => pair.other.purge_soft(URI).await.unwrap(),
                false => pair.other.purge(URI).await.unwrap(),
            };
            gate.open.notify_one();
            assert_eq!(request.await.unwrap().text(), "made before");
            pair.one.flush().await;
            let after = other.get_with("/", &german).await;
            assert!(!after.is_hit(), "soft: {is_soft}: {}", after.told());
            pair.other.flush().await;
        }
    }
}

/// Two services whose responses have the tag `page`, and that have had a response with a tag before.
async fn tagged(pair: &Pair) -> (App, App) {
    let (one, other) = pair.apps(|| {
        let fields = [("cache-control", "max-age=60"), ("cache-tag", "page")];
        Origin::with(&fields)
    });
    for app in [&one, &other] {
        app.get("/warm").await;
        app.cache.flush().await;
    }
    (one, other)
}

async fn a_tag_invalidated_at_one_ends_responses_for_the_other(pair: Pair) {
    let (one, other) = tagged(&pair).await;
    for _ in 0..3 {
        one.get("/").await;
        pair.one.flush().await;
        assert!(other.get("/").await.is_hit());
        pair.one.invalidate_tag("page").await.unwrap();
        let after = other.get("/").await;
        assert!(!after.is_hit(), "{}", after.told());
        pair.other.flush().await;
        assert!(one.get("/").await.is_hit());
        pair.other.invalidate_tags(["other", "page"]).await.unwrap();
        assert!(!one.get("/").await.is_hit());
        pair.one.flush().await;
    }
}

async fn a_tag_expired_at_one_makes_responses_stale_for_the_other(pair: Pair) {
    let (one, other) = tagged(&pair).await;
    one.get("/").await;
    pair.one.flush().await;
    for _ in 0..2 {
        assert!(other.get("/").await.is_hit());
        pair.one.expire_tag("page").await.unwrap();
        let after = other.get("/").await;
        assert!(
            after.told().starts_with("larder; fwd=stale"),
            "{}",
            after.told()
        );
        pair.other.flush().await;
    }
}

async fn a_value_invalidated_at_one_ends_what_the_other_made_of_it(pair: Pair) {
    let origin = || {
        Origin::new(|call| {
            let cache = call.request.extensions.get::<Cache>().unwrap().clone();
            async move {
                let name: Option<String> = cache.get("name").await.unwrap();
                Ok(answer(200, FRESH, name.unwrap_or_default()))
            }
        })
    };
    let (one, other) = pair.apps(origin);
    let put = async |name: &'static str| {
        let options = PutOptions::new().tags(["user:7"]);
        pair.one.put_with("name", name, options).await.unwrap();
    };
    put("Ada").await;
    assert_eq!(other.get("/").await.text(), "Ada");
    pair.other.flush().await;
    assert!(one.get("/").await.is_hit());
    pair.one.invalidate_tag("user:7").await.unwrap();
    put("Grace").await;
    assert_eq!(other.get("/").await.text(), "Grace");
}

async fn what_was_made_before_an_invalidation_of_its_tag_elsewhere_is_not_kept(pair: Pair) {
    const TAGGED: &[(&str, &str)] = &[("cache-control", "max-age=60"), ("cache-tag", "page")];
    let (_, other) = tagged(&pair).await;
    let gate = Gate::default();
    let one = App::on(pair.one.clone(), gate.origin(TAGGED), |layer| layer);
    let ask = |uri: &'static str| {
        let one = one.clone();
        tokio::spawn(async move { one.get(uri).await.text().to_owned() })
    };
    for (uri, tag, is_kept) in [
        // The first response with a tag is not kept in any case.
        ("/first", "other", false),
        ("/a", "other", true),
        ("/b", "page", false),
    ] {
        let request = ask(uri);
        gate.called.notified().await;
        pair.other.invalidate_tag(tag).await.unwrap();
        gate.open.notify_one();
        assert_eq!(request.await.unwrap(), "made before");
        pair.one.flush().await;
        let after = other.get(uri).await;
        let is_old = after.text() == "made before";
        assert_eq!(is_old, is_kept, "{uri}: {}", after.told());
        pair.other.flush().await;
    }
}

/// Where keys are in an order that can be asked for; elsewhere tags do what prefixes do.
async fn a_prefix_is_purged_where_the_server_finds_it_and_refused_elsewhere(pair: Pair) {
    let (one, other) = pair.apps(languages);
    for (uri, language) in [("/a/1", "de"), ("/a/1", "en"), ("/a/2", "de"), ("/b", "de")] {
        one.get_with(uri, &[("accept-language", language)]).await;
        pair.one.flush().await;
    }
    let is_hit = async |uri| {
        let german = [("accept-language", "de")];
        other.get_with(uri, &german).await.is_hit()
    };
    let prefix = format!("{URI}a/");
    let purged = pair.one.purge_prefix(&prefix).await;
    let finds = pair.direct.capabilities().delete_prefix;
    match finds {
        true => assert_eq!(purged.unwrap(), 2),
        false => assert_eq!(purged.unwrap_err().kind(), ErrorKind::Unsupported),
    }
    for uri in ["/a/1", "/a/2"] {
        assert_eq!(is_hit(uri).await, !finds, "{uri}");
    }
    assert!(is_hit("/b").await);
    let softly = PurgeOptions::new().prefix().soft();
    let refused = pair.one.purge_with(&prefix, softly).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
}

async fn the_answer_to_a_post_is_not_stored(pair: Pair) {
    const FIELDS: &[(&str, &str)] = &[("cache-control", "max-age=60"), ("content-location", "/")];
    let (one, other) = pair.apps(|| Origin::with(FIELDS));
    one.send("POST", "/", &[]).await;
    pair.one.flush().await;
    assert!(!one.get("/").await.is_hit());
    pair.one.flush().await;
    assert!(other.get("/").await.is_hit());
}

/// While one has a response made for many who wait, the other changes what it is made from.
async fn those_who_waited_for_what_came_too_late_do_not_run_all_at_once(pair: Pair) {
    let (asked, open) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let gated = Origin::new({
        let (asked, open) = (asked.clone(), open.clone());
        move |call| {
            let (asked, open) = (asked.clone(), open.clone());
            async move {
                if call.request.method == "GET" && call.number == 1 {
                    asked.notify_one();
                    open.notified().await;
                }
                Ok(answer(200, FRESH, call.number.to_string()))
            }
        }
    });
    let one = App::on(pair.one.clone(), gated, |layer| layer);
    let requests: Vec<_> = (0..20)
        .map(|_| {
            let one = one.clone();
            tokio::spawn(async move { one.get("/").await.status })
        })
        .collect();
    asked.notified().await;
    // All of them are waiting by now, or come too late to wait.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let other = App::on(pair.other.clone(), fresh(), |layer| layer);
    other.send("PUT", "/", &[]).await;
    open.notify_one();
    for request in requests {
        assert_eq!(request.await.unwrap(), 200);
    }
    // What was asked for before the change may be what was there before it, and is not kept.
    pair.one.flush().await;
    assert_ne!(one.get("/").await.text(), "1");
    pair.one.flush().await;
    assert!(one.get("/").await.is_hit());
    assert!(one.calls() <= 3, "{} calls", one.calls());
}

async fn a_body_in_many_pieces_is_stored_whole(pair: Pair) {
    let pieces = || {
        Origin::now(|_| {
            let pieces = (0..300).map(|piece| Ok::<_, std::io::Error>(vec![piece as u8; 1_000]));
            let body = axum::body::Body::from_stream(futures_util::stream::iter(pieces));
            answer(200, FRESH, body)
        })
    };
    let (one, other) = pair.apps(pieces);
    let made = one.get("/").await;
    pair.one.flush().await;
    let hit = other.get("/").await;
    assert!(hit.is_hit(), "{}", hit.told());
    assert_eq!(hit.body.len(), 300_000);
    assert_eq!(hit.body, made.body);
}

async fn a_body_over_the_limit_passes_and_is_not_stored(pair: Pair) {
    let (one, _) = pair.apps(|| Origin::now(|_| answer(200, FRESH, "x".repeat(1_100_000))));
    assert_eq!(one.get("/").await.body.len(), 1_100_000);
    pair.one.flush().await;
    let again = one.get("/").await;
    assert!(!again.is_hit(), "{}", again.told());
}

/// A megabyte and its head are more than a record of Aerospike or an item of DynamoDB holds, and nothing to Redis.
async fn nobody_queues_for_a_body_that_the_server_has_no_room_for(pair: Pair) {
    const BODY: usize = 1 << 20;
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let origin = Origin::new({
        let most = most.clone();
        move |_| {
            let (running, most) = (running.clone(), most.clone());
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(100)).await;
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(answer(200, FRESH, "x".repeat(BODY)))
            }
        }
    });
    let one = App::on(pair.one.clone(), origin, |layer| {
        layer.max_body_bytes(2 << 20)
    });
    let requests: Vec<_> = (0..16)
        .map(|_| {
            let one = one.clone();
            tokio::spawn(async move { one.get("/").await.body.len() })
        })
        .collect();
    for request in requests {
        assert_eq!(request.await.unwrap(), BODY);
    }
    // Who comes while the body is under way shares it; the others run side by side.
    let most = most.load(Ordering::SeqCst);
    assert!(
        one.calls() <= 4 || most > 4,
        "of {} at most {most} ran at the same time",
        one.calls()
    );
}

async fn flush_waits_for_what_is_on_its_way(pair: Pair) {
    let (one, other) = pair.apps(fresh);
    for number in 0..50 {
        one.get(&format!("/{number}")).await;
    }
    pair.one.flush().await;
    for number in 0..50 {
        assert!(other.get(&format!("/{number}")).await.is_hit());
    }
}

async fn a_clear_at_one_ends_everything_for_the_other(pair: Pair) {
    let (one, other) = pair.apps(languages);
    one.get("/").await;
    pair.one.put("value", 1).await.unwrap();
    pair.one.increment("counter", 1).await.unwrap();
    pair.one.flush().await;
    assert!(other.get("/").await.is_hit());
    pair.one.clear().await.unwrap();
    assert!(!other.get("/").await.is_hit());
    assert_eq!(pair.other.get::<i32>("value").await.unwrap(), None);
    assert_eq!(pair.other.counter("counter").await.unwrap(), None);
}

async fn values_are_shared(pair: Pair) {
    pair.one.put("value", vec![1, 2, 3]).await.unwrap();
    let found = pair.other.get::<Vec<i32>>("value").await.unwrap();
    assert_eq!(found, Some(vec![1, 2, 3]));
    pair.other.delete("value").await.unwrap();
    assert_eq!(pair.one.get::<Vec<i32>>("value").await.unwrap(), None);
}

async fn load(cache: &Cache, name: &str, value: i32) -> i32 {
    let load = || async { Ok::<_, std::io::Error>(value) };
    *cache.get_or_load(name, load).await.unwrap()
}

async fn a_value_is_loaded_once_for_both(pair: Pair) {
    assert_eq!(load(&pair.one, "value", 1).await, 1);
    assert_eq!(load(&pair.other, "value", 2).await, 1);
    assert_eq!((pair.one.stats().loads, pair.other.stats().loads), (1, 0));
}

async fn a_value_loaded_before_a_delete_elsewhere_is_not_kept(pair: Pair) {
    for (name, before) in [("absent", None), ("present", Some(0))] {
        if let Some(before) = before {
            pair.other.put(name, before).await.unwrap();
            pair.other.delete(name).await.unwrap();
        }
        let other = pair.other.clone();
        let late = pair.one.get_or_load(name, || async move {
            other.delete(name).await.unwrap();
            Ok::<_, std::io::Error>(1)
        });
        assert_eq!(*late.await.unwrap(), 1);
        assert_eq!(pair.other.get::<i32>(name).await.unwrap(), None, "{name}");
        assert_eq!(load(&pair.one, name, 2).await, 2);
        assert_eq!(load(&pair.other, name, 3).await, 2);
    }
    assert_eq!(pair.one.stats().loads_late, 2);
}

/// On Redis keys share the counters of deletions: now and then another lease ends too.
async fn values_loaded_before_a_delete_elsewhere_are_not_kept(pair: Pair) {
    let mut kept = Vec::new();
    for round in 0..5 {
        let names = ["a", "b", "c"].map(|name| format!("{name} {round}"));
        let loaded = pair
            .one
            .get_or_load_many(names.clone(), |missing: Vec<String>| {
                let (other, deleted) = (pair.other.clone(), names[1].clone());
                async move {
                    other.delete(deleted).await.unwrap();
                    Ok::<_, std::io::Error>(missing.iter().map(|_| Some(1)).collect())
                }
            });
        assert_eq!(loaded.await.unwrap().iter().flatten().count(), 3);
        kept = pair.other.get_many::<i32>(&names).await.unwrap();
        assert_eq!(kept[1], None);
        if kept == [Some(1), None, Some(1)] {
            return;
        }
    }
    panic!("others were not kept either: {kept:?}");
}

async fn a_value_put_elsewhere_while_loading_stays(pair: Pair) {
    let other = pair.other.clone();
    let late = pair.one.get_or_load("value", || async move {
        other.put("value", 2).await.unwrap();
        Ok::<_, std::io::Error>(1)
    });
    late.await.unwrap();
    assert_eq!(pair.one.get::<i32>("value").await.unwrap(), Some(2));
}

async fn counters_count_together(pair: Pair) {
    for round in 0..20 {
        assert_eq!(pair.one.increment("hits", 1).await.unwrap(), 2 * round + 1);
        assert_eq!(
            pair.other.increment("hits", 1).await.unwrap(),
            2 * round + 2
        );
    }
}

async fn one_of_both_gets_the_lock(pair: Pair) {
    let lock = PutOptions::new().ttl(Duration::from_secs(5)).if_absent();
    for round in 0..20 {
        let name = format!("lock {round}");
        let (one, other) = tokio::join!(
            pair.one.put_with(&name, "one", lock.clone()),
            pair.other.put_with(&name, "other", lock.clone()),
        );
        assert!(one.unwrap() != other.unwrap(), "{name}");
    }
}
