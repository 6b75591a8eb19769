use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;
use crate::http::directives::Targets;
use crate::http::policies::Said;

const NOW: Timestamp = Timestamp::from_secs(1_763_640_000);
const NOTHING: RequestFacts = RequestFacts {
    authorization: false,
    cookie: false,
    no_store: false,
    is_ambiguous: false,
    said: Said::NONE,
};
const AT_ONCE: Times = Times {
    request: NOW,
    response: NOW,
};

fn rules() -> Rules {
    Rules::default()
}

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let line = |(name, value): &(&'static str, &str)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        )
    };
    lines.iter().map(line).collect()
}

fn policy_with(
    request: RequestFacts,
    status: u16,
    lines: &[(&'static str, &str)],
    times: Times,
    rules: &Rules,
) -> ResponsePolicy {
    let headers = headers(lines);
    let directives = ResponseDirectives::read(&headers, &Targets::default());
    let status = StatusCode::from_u16(status).unwrap();
    ResponsePolicy::new(&request, status, &headers, &directives, times, rules)
}

fn policy(lines: &[(&'static str, &str)]) -> ResponsePolicy {
    policy_with(NOTHING, 200, lines, AT_ONCE, &rules())
}

/// How long a response that came just now stays fresh, in seconds.
fn fresh_for(lines: &[(&'static str, &str)]) -> u64 {
    policy(lines).fresh_until().since(NOW).as_secs()
}

/// A date `offset` seconds from now.
fn date(offset: i64) -> String {
    let at = NOW.as_secs().checked_add_signed(offset).unwrap();
    date::format(Timestamp::from_secs(at))
        .to_str()
        .unwrap()
        .to_owned()
}

#[test]
fn s_maxage_comes_before_max_age_before_expires() {
    let expires = ("expires", &*date(30));
    let control = |value| ("cache-control", value);
    for (lines, expected) in [
        (&[control("max-age=3600, s-maxage=1"), expires][..], 1),
        (&[control("s-maxage=1"), control("max-age=3600")], 1),
        (&[control("max-age=1, s-maxage=3600")], 3600),
        (
            &[control("max-age=0, s-maxage=3600"), ("expires", &date(-10))],
            3600,
        ),
        (&[control("max-age=3600"), ("expires", &date(-7200))], 3600),
        (&[control("max-age=3600"), ("expires", "0")], 3600),
        (&[control("max-age=0"), expires], 0),
        (&[control("public"), expires], 30),
        (&[expires], 30),
    ] {
        assert_eq!(fresh_for(lines), expected, "{lines:?}");
    }
}

#[test]
fn huge_lifetimes_saturate() {
    for value in ["max-age=2147483648", "max-age=99999999999"] {
        assert_eq!(
            fresh_for(&[("cache-control", value)]),
            u64::from(MAX_SECONDS),
            "{value}"
        );
    }
    assert_eq!(
        fresh_for(&[("expires", "Fri, 31 Dec 9999 23:59:59 GMT")]),
        u64::from(MAX_SECONDS)
    );
}

#[test]
fn expires_counts_from_the_date() {
    for (expires, sent, expected) in [
        (30, 0, 30),
        (0, 0, 0),
        (-10, 0, 0),
        (300, 400, 0),
        (10, -10, 10),
        (20, 10, 10),
    ] {
        let lines = [("expires", &*date(expires)), ("date", &*date(sent))];
        assert_eq!(fresh_for(&lines), expected, "{expires} {sent}");
    }
    assert_eq!(fresh_for(&[("expires", &date(10)), ("date", "foo")]), 10);
}

#[test]
fn an_invalid_expires_is_in_the_past() {
    for expires in ["0", "", "-1", "tomorrow"] {
        let policy = policy(&[("expires", expires), ("last-modified", &date(-86_400))]);
        assert_eq!(policy.fresh_until(), NOW, "{expires}");
        assert!(!policy.is_implied());
    }
    assert_eq!(
        fresh_for(&[("expires", &date(30)), ("expires", &date(30))]),
        0
    );
}

#[test]
fn a_response_without_a_date_is_of_the_time_it_came() {
    assert_eq!(policy(&[("cache-control", "max-age=10")]).age(NOW), 0);
    let two = [
        ("cache-control", "max-age=10"),
        ("date", &*date(-5)),
        ("date", &*date(-5)),
    ];
    assert_eq!(policy(&two).age(NOW), 0);
}

#[test]
fn an_old_date_is_an_age() {
    let policy = policy(&[("cache-control", "max-age=3600"), ("date", &date(-7200))]);
    assert_eq!(policy.age(NOW), 7200);
    assert_eq!(policy.ttl(NOW), -3600);
}

#[test]
fn a_date_of_this_second_is_no_age() {
    let now = Timestamp::from_millis(NOW.as_millis() + 999);
    let times = Times {
        request: now,
        response: now,
    };
    let lines = [("cache-control", "max-age=1"), ("date", &*date(0))];
    let policy = policy_with(NOTHING, 200, &lines, times, &rules());
    assert_eq!(policy.fresh_until(), now + Duration::from_secs(1));
}

#[test]
fn the_first_member_of_the_first_age_counts() {
    for (lines, expected) in [
        (&["7200"][..], 7200),
        (&["7200, 0"], 7200),
        (&["0, 7200"], 0),
        (&["7200", "0"], 7200),
        (&["0", "7200"], 0),
        (&[" 7 , 0"], 7),
        (&["abc"], 0),
        (&["-7200"], 0),
        (&["7200.0"], 0),
        (&["7200;foo=bar"], 0),
        (&[", 7200"], 0),
        (&[""], 0),
        (&["2147483647"], 2_147_483_647),
        (&["2147483648"], MAX_SECONDS),
        (&["18446744073709551616"], MAX_SECONDS),
    ] {
        let mut all = vec![("cache-control", "max-age=3600")];
        all.extend(lines.iter().map(|line| ("age", *line)));
        let policy = policy(&all);
        assert_eq!(policy.age(NOW), expected, "{lines:?}");
        assert_eq!(policy.age(Timestamp::from_millis(u64::MAX)), MAX_SECONDS);
        assert_eq!(NOW < policy.fresh_until(), expected < 3600, "{lines:?}");
    }
}

#[test]
fn the_greater_of_age_and_date_counts() {
    let day = date(-10);
    for (age, expected) in [("5", 10), ("25", 25)] {
        let read = policy(&[
            ("cache-control", "max-age=60"),
            ("date", &day),
            ("age", age),
        ]);
        assert_eq!(read.age(NOW), expected);
    }
}

#[test]
fn the_time_that_the_handler_took_counts() {
    let times = Times {
        request: NOW,
        response: NOW + Duration::from_secs(5),
    };
    let lines = [("cache-control", "max-age=60"), ("age", "10")];
    let policy = policy_with(NOTHING, 200, &lines, times, &rules());
    assert_eq!(policy.age(times.response), 15);
    assert_eq!(policy.fresh_until(), NOW + Duration::from_secs(50));
}

#[test]
fn age_grows_with_the_time_in_store() {
    let policy = policy(&[("cache-control", "max-age=60"), ("age", "30")]);
    assert_eq!(policy.age(NOW + Duration::from_millis(2_999)), 32);
    assert_eq!(policy.ttl(NOW + Duration::from_secs(10)), 20);
    assert_eq!(policy.ttl(NOW + Duration::from_secs(40)), -10);
}

#[test]
fn a_clock_that_goes_back_does_not_make_a_negative_age() {
    let policy = policy(&[("cache-control", "max-age=60"), ("age", "30")]);
    assert_eq!(policy.age(Timestamp::from_secs(0)), 30);
}

#[test]
fn last_modified_gives_a_tenth_of_its_age_and_at_most_a_day() {
    for (modified, expected) in [
        (-100, 10),
        (-86_400, 8_640),
        (-100 * 86_400, 86_400),
        (100, 0),
    ] {
        let lines = [("last-modified", &*date(modified)), ("date", &*date(0))];
        assert_eq!(fresh_for(&lines), expected, "{modified}");
    }
    assert_eq!(fresh_for(&[("last-modified", "x")]), 0);
    assert_eq!(fresh_for(&[]), 0);
}

#[test]
fn heuristics_need_a_fitting_status_or_public() {
    let modified = date(-86_400);
    let lines = [("last-modified", &*modified), ("date", &*date(0))];
    let fresh = |status, lines: &[(&'static str, &str)]| {
        NOW < policy_with(NOTHING, status, lines, AT_ONCE, &rules()).fresh_until()
    };
    for status in [200, 203, 204, 404, 405, 410, 414, 501] {
        assert!(fresh(status, &lines), "{status}");
    }
    for status in [201, 202, 403, 502, 503, 504, 599] {
        assert!(!fresh(status, &lines), "{status}");
        let public = [lines[0], lines[1], ("cache-control", "public")];
        assert!(fresh(status, &public), "{status}");
    }
}

#[test]
fn freshness_is_not_implied_for_what_may_be_one_users() {
    let modified = ("last-modified", &*date(-86_400));
    let rules = Rules {
        default_ttl: Some(Duration::from_secs(60)),
        ..rules()
    };
    let is_fresh = |request, lines: &[(&'static str, &str)]| {
        NOW < policy_with(request, 200, lines, AT_ONCE, &rules).fresh_until()
    };
    assert!(is_fresh(NOTHING, &[modified]));
    assert!(!is_fresh(
        RequestFacts {
            cookie: true,
            ..NOTHING
        },
        &[modified]
    ));
    assert!(!is_fresh(
        RequestFacts {
            authorization: true,
            ..NOTHING
        },
        &[modified]
    ));
    assert!(!is_fresh(NOTHING, &[modified, ("set-cookie", "id=1")]));
    assert!(!is_fresh(NOTHING, &[modified, ("pragma", "no-cache")]));
}

#[test]
fn the_switch_turns_heuristics_off() {
    let rules = Rules {
        heuristics: false,
        ..rules()
    };
    let lines = [("last-modified", &*date(-86_400))];
    assert_eq!(
        policy_with(NOTHING, 200, &lines, AT_ONCE, &rules).fresh_until(),
        NOW
    );
}

#[test]
fn the_default_ttl_is_for_responses_that_are_silent() {
    let rules = Rules {
        default_ttl: Some(Duration::from_millis(1_500)),
        ..rules()
    };
    let fresh_for = |status, lines: &[(&'static str, &str)]| {
        policy_with(NOTHING, status, lines, AT_ONCE, &rules)
            .fresh_until()
            .since(NOW)
            .as_millis()
    };
    assert_eq!(fresh_for(200, &[]), 1_500);
    assert_eq!(fresh_for(200, &[("last-modified", &date(-86_400))]), 1_500);
    assert_eq!(fresh_for(500, &[]), 0);
    assert_eq!(fresh_for(200, &[("cache-control", "public")]), 0);
    assert_eq!(fresh_for(200, &[("cache-control", "")]), 0);
    assert_eq!(fresh_for(200, &[("expires", "0")]), 0);
    assert_eq!(fresh_for(200, &[("pragma", "no-cache")]), 0);
}

#[test]
fn a_response_is_worth_storing_when_it_can_answer_a_request() {
    for (lines, expected) in [
        (&[][..], false),
        (&[("cache-control", "max-age=0")], false),
        (&[("cache-control", "max-age=1")], true),
        (
            &[("cache-control", "max-age=0, stale-while-revalidate=1")],
            true,
        ),
        (&[("cache-control", "max-age=0, stale-if-error=1")], true),
        (
            &[(
                "cache-control",
                "max-age=0, stale-while-revalidate=1, must-revalidate",
            )],
            false,
        ),
        (&[("cache-control", "max-age=1, no-cache")], false),
        (&[("cache-control", "no-cache"), ("etag", "\"a\"")], true),
        (&[("etag", "\"a\"")], true),
        (
            &[
                ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
                ("expires", "0"),
            ],
            true,
        ),
        (&[("last-modified", "yesterday")], false),
    ] {
        assert_eq!(policy(lines).is_worth_storing(), expected, "{lines:?}");
    }
}

#[test]
fn a_response_is_kept_as_long_as_it_can_be_of_use() {
    let kept =
        |lines: &[(&'static str, &str)]| policy(lines).keep_until(&rules()).since(NOW).as_secs();
    let tag = ("etag", "\"a\"");
    for (lines, expected) in [
        (&[("cache-control", "max-age=100")][..], 160),
        (&[("cache-control", "max-age=100, stale-if-error=0")], 100),
        (&[("cache-control", "max-age=100, stale-if-error=500")], 600),
        (
            &[("cache-control", "max-age=100, stale-while-revalidate=500")],
            600,
        ),
        (
            &[(
                "cache-control",
                "max-age=100, must-revalidate, stale-if-error=500",
            )],
            100,
        ),
        (&[("cache-control", "s-maxage=100")], 100),
        (&[("cache-control", "max-age=100"), tag], 700),
        (&[("cache-control", "max-age=1000"), tag], 2_000),
        (&[("cache-control", "max-age=1000000"), tag], 1_086_400),
        (&[("cache-control", "no-cache"), tag], 600),
        (
            &[("cache-control", "max-age=100"), ("age", "1000000"), tag],
            700 - 100,
        ),
    ] {
        assert_eq!(kept(lines), expected, "{lines:?}");
    }
}

proptest! {
    #[test]
    fn no_headers_and_no_clock_make_it_panic(
        lines in proptest::collection::vec((0..6_usize, ".*|[0-9]{1,25}|max-age=[0-9]{1,25}"), 0..6),
        status in 100..1000_u16,
        request: u64, response: u64, now: u64, default_ttl: Option<Duration>, stale_if_error: Duration,
    ) {
        let names = ["cache-control", "expires", "date", "age", "last-modified", "etag"];
        let lines: Vec<_> = lines
            .iter()
            .filter(|(_, value)| HeaderValue::from_str(value).is_ok())
            .map(|(at, value)| (names[*at], value.as_str()))
            .collect();
        let rules = Rules { default_ttl, stale_if_error, ..rules() };
        let [request, response, now] = [request, response, now].map(Timestamp::from_millis);
        let policy = policy_with(NOTHING, status, &lines, Times { request, response }, &rules);
        let _ = (policy.age(now), policy.ttl(now), policy.keep_until(&rules), policy.is_worth_storing());
    }
}
