use http::{HeaderMap, HeaderValue, StatusCode, header};
use proptest::prelude::*;

use super::*;
use crate::http::{
    directives::{ResponseDirectives, Targets},
    freshness::Times,
    storable::RequestFacts,
};

const NOW: Timestamp = Timestamp::from_secs(1_763_640_000);

fn after(millis: u64) -> Timestamp {
    NOW + Duration::from_millis(millis)
}

fn stored(cache_control: &str) -> ResponsePolicy {
    let value = HeaderValue::from_str(cache_control).unwrap();
    let headers = HeaderMap::from_iter([(header::CACHE_CONTROL, value)]);
    let directives = ResponseDirectives::read(&headers, &Targets::default());
    let times = Times {
        request: NOW,
        response: NOW,
    };
    let request = RequestFacts::default();
    ResponsePolicy::new(
        &request,
        StatusCode::OK,
        &headers,
        &directives,
        times,
        &Rules::default(),
    )
}

/// What becomes of a response so many milliseconds after it came.
fn asked(response: &str, request: &str, millis: u64) -> Reuse {
    let value = HeaderValue::from_str(request).unwrap();
    let lines = (!request.is_empty()).then_some((header::CACHE_CONTROL, value));
    let request = RequestDirectives::parse(&HeaderMap::from_iter(lines));
    reuse(
        &stored(response),
        &request,
        after(millis),
        &Rules::default(),
    )
}

const STALE: Reuse = Reuse::Revalidate(Reason::Stale);
const NO_CACHE: Reuse = Reuse::Revalidate(Reason::RequestNoCache);
const MAX_AGE: Reuse = Reuse::Revalidate(Reason::RequestMaxAge);
const MIN_FRESH: Reuse = Reuse::Revalidate(Reason::RequestMinFresh);

#[test]
fn a_response_answers_until_its_lifetime_ends() {
    assert_eq!(asked("max-age=60", "", 0), Reuse::Fresh { age: 0 });
    assert_eq!(asked("max-age=60", "", 59_999), Reuse::Fresh { age: 59 });
    assert_eq!(asked("max-age=60", "", 60_000), STALE);
    assert_eq!(asked("max-age=0", "", 0), STALE);
}

#[test]
fn unknown_request_directives_change_nothing() {
    assert_eq!(
        asked("max-age=60", "foo, bar=\"no-cache\"", 0),
        Reuse::Fresh { age: 0 }
    );
}

#[test]
fn no_cache_asks_for_validation_on_either_side() {
    assert_eq!(
        asked("max-age=60, no-cache", "", 0),
        Reuse::Revalidate(Reason::NoCache)
    );
    assert_eq!(
        asked("max-age=60, no-cache", "max-stale", 0),
        Reuse::Revalidate(Reason::NoCache)
    );
    assert_eq!(
        asked("max-age=60, no-cache=\"a\"", "", 0),
        Reuse::Fresh { age: 0 }
    );
    assert_eq!(asked("max-age=60", "no-cache", 0), NO_CACHE);
}

#[test]
fn a_request_can_want_a_newer_response() {
    assert_eq!(asked("max-age=60", "max-age=0", 0), MAX_AGE);
    assert_eq!(asked("max-age=60", "max-age=0, max-stale", 0), MAX_AGE);
    assert_eq!(
        asked("max-age=60", "max-age=10", 10_000),
        Reuse::Fresh { age: 10 }
    );
    assert_eq!(asked("max-age=60", "max-age=10", 10_001), MAX_AGE);
}

#[test]
fn a_request_can_want_a_response_that_stays_fresh() {
    assert_eq!(
        asked("max-age=60", "min-fresh=50", 10_000),
        Reuse::Fresh { age: 10 }
    );
    assert_eq!(asked("max-age=60", "min-fresh=50", 10_001), MIN_FRESH);
    assert_eq!(
        asked("max-age=60", "min-fresh=50, max-stale", 70_000),
        MIN_FRESH
    );
}

#[test]
fn a_request_can_take_a_stale_response() {
    let stale = Reuse::StaleAllowed { age: 70 };
    assert_eq!(asked("max-age=60", "max-stale", 70_000), stale);
    assert_eq!(asked("max-age=60", "max-stale=10", 70_000), stale);
    assert_eq!(asked("max-age=60", "max-stale=9", 70_000), STALE);
    assert_eq!(asked("max-age=60", "max-age=70, max-stale", 70_000), stale);
    assert_eq!(
        asked("max-age=60", "max-age=69, max-stale", 70_000),
        MAX_AGE
    );
}

#[test]
fn a_response_can_forbid_to_be_served_stale() {
    for forbidding in ["must-revalidate", "proxy-revalidate", "s-maxage=60"] {
        let response = format!("max-age=60, {forbidding}");
        assert_eq!(asked(&response, "max-stale", 70_000), STALE, "{forbidding}");
        assert!(!serve_on_error(
            &stored(&response),
            after(70_000),
            &Rules::default()
        ));
    }
}

#[test]
fn stale_while_revalidate_ends_with_its_window() {
    let response = "max-age=1, stale-while-revalidate=4";
    assert_eq!(asked(response, "", 999), Reuse::Fresh { age: 0 });
    assert_eq!(
        asked(response, "", 1_000),
        Reuse::WhileRevalidating { age: 1 }
    );
    assert_eq!(
        asked(response, "", 4_999),
        Reuse::WhileRevalidating { age: 4 }
    );
    assert_eq!(asked(response, "", 5_000), STALE);
    let shared = "s-maxage=1, stale-while-revalidate=4";
    assert_eq!(
        asked(shared, "", 1_000),
        Reuse::WhileRevalidating { age: 1 }
    );
    let strict = "max-age=1, stale-while-revalidate=4, must-revalidate";
    assert_eq!(asked(strict, "", 1_000), STALE);
}

#[test]
fn a_request_that_wants_a_fresh_response_does_not_get_one_while_revalidating() {
    let response = "max-age=1, stale-while-revalidate=60";
    for (request, revalidate) in [
        ("no-cache", NO_CACHE),
        ("max-age=30", MAX_AGE),
        ("min-fresh=1", MIN_FRESH),
    ] {
        assert_eq!(asked(response, request, 5_000), revalidate, "{request}");
    }
    let stale = Reuse::WhileRevalidating { age: 5 };
    assert_eq!(asked(response, "max-stale=60", 5_000), stale);
}

#[test]
fn the_switch_ignores_what_clients_want() {
    let rules = Rules {
        ignore_client_directives: true,
        ..Rules::default()
    };
    for wish in ["no-cache", "max-age=0", "min-fresh=100"] {
        let value = HeaderValue::from_static(wish);
        let request =
            RequestDirectives::parse(&HeaderMap::from_iter([(header::CACHE_CONTROL, value)]));
        let fresh = reuse(&stored("max-age=60"), &request, NOW, &rules);
        assert_eq!(fresh, Reuse::Fresh { age: 0 }, "{wish}");
        let stale = reuse(&stored("max-age=60"), &request, after(60_000), &rules);
        assert_eq!(stale, STALE, "{wish}");
        let no_cache = reuse(&stored("max-age=60, no-cache"), &request, NOW, &rules);
        assert_eq!(no_cache, Reuse::Revalidate(Reason::NoCache), "{wish}");
    }
}

#[test]
fn a_stale_response_answers_for_a_handler_that_fails_for_a_while() {
    for (response, millis, expected) in [
        ("max-age=2", 1_000, true),
        ("max-age=2", 61_999, true),
        ("max-age=2", 62_000, false),
        ("max-age=2, stale-if-error=600", 601_999, true),
        ("max-age=2, stale-if-error=600", 602_000, false),
        ("max-age=2, stale-if-error=0", 2_000, false),
        ("max-age=2, stale-if-error=x", 2_000, false),
        ("s-maxage=2", 1_999, true),
        ("s-maxage=2", 2_000, false),
        ("s-maxage=2, stale-if-error=60", 2_000, true),
        (
            "max-age=2, stale-if-error=60, must-revalidate",
            2_000,
            false,
        ),
        (
            "max-age=2, stale-if-error=60, proxy-revalidate",
            2_000,
            false,
        ),
        ("max-age=2, stale-if-error=60, no-cache", 0, false),
        ("max-age=2, stale-if-error=60, no-cache", 2_000, false),
    ] {
        let served = serve_on_error(&stored(response), after(millis), &Rules::default());
        assert_eq!(served, expected, "{response} {millis}");
    }
}

#[test]
fn no_stale_response_answers_for_errors_when_that_is_turned_off() {
    let rules = Rules {
        stale_if_error: Duration::ZERO,
        ..Rules::default()
    };
    assert!(!serve_on_error(&stored("max-age=2"), after(2_000), &rules));
    assert!(serve_on_error(
        &stored("max-age=2, stale-if-error=1"),
        after(2_000),
        &rules
    ));
}

proptest! {
    #[test]
    fn the_short_way_decides_like_the_long_one(
        response in "(max-age=[0-9]{1,2})?(, no-cache)?(, s-maxage=[0-9])?(, stale-while-revalidate=[0-9])?",
        millis in 0..100_000_u64,
    ) {
        let policy = stored(&response);
        let short = reuse(&policy, &RequestDirectives::NONE, after(millis), &Rules::default());
        prop_assert_eq!(short, weigh(&policy, &RequestDirectives::NONE, after(millis)));
    }

    #[test]
    fn no_directives_and_no_clock_make_it_panic(response in "[ -~]*", request in "[ -~]*", now: u64) {
        let policy = stored(&response);
        let value = HeaderValue::from_str(&request).unwrap();
        let request = RequestDirectives::parse(&HeaderMap::from_iter([(header::CACHE_CONTROL, value)]));
        let now = Timestamp::from_millis(now);
        let _ = reuse(&policy, &request, now, &Rules::default());
        let _ = serve_on_error(&policy, now, &Rules::default());
    }
}
