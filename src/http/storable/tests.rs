use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;
use crate::http::directives::Targets;

const ANONYMOUS: RequestFacts = RequestFacts {
    authorization: false,
    cookie: false,
    no_store: false,
    is_ambiguous: false,
    said: Said::NONE,
};
const AUTHORIZED: RequestFacts = RequestFacts {
    authorization: true,
    ..ANONYMOUS
};
const WITH_COOKIE: RequestFacts = RequestFacts {
    cookie: true,
    ..ANONYMOUS
};

struct Case {
    method: Method,
    request: RequestFacts,
    status: u16,
    rules: Rules,
}

const fn get(status: u16) -> Case {
    let rules = Rules {
        default_ttl: None,
        heuristics: true,
        set_cookie: SetCookie::PublicOnly,
        store_errors: true,
        stale_if_error: std::time::Duration::ZERO,
        ignore_client_directives: false,
        targets: Targets {
            own: None,
            cdn: false,
        },
        generate_etags: false,
        pass_tags: None,
    };
    Case {
        method: Method::GET,
        request: ANONYMOUS,
        status,
        rules,
    }
}

impl Case {
    fn judge(&self, headers: &[(&'static str, &str)]) -> Result<(), Reason> {
        let line = |(name, value): &(&'static str, &str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            )
        };
        let headers: HeaderMap = headers.iter().map(line).collect();
        let directives = ResponseDirectives::read(&headers, &Targets::default());
        let status = StatusCode::from_u16(self.status).unwrap();
        storable(
            &self.method,
            &self.request,
            status,
            &headers,
            &directives,
            &self.rules,
        )
    }

    fn says(&self, cache_control: &str) -> Result<(), Reason> {
        self.judge(&[("cache-control", cache_control)])
    }
}

#[test]
fn any_final_status_with_explicit_freshness_is_stored() {
    for status in [
        200, 201, 203, 204, 299, 302, 303, 307, 400, 403, 404, 418, 499, 500, 503, 599,
    ] {
        assert_eq!(get(status).says("max-age=60"), Ok(()), "{status}");
        assert_eq!(get(status).says("s-maxage=60"), Ok(()), "{status}");
        assert_eq!(get(status).judge(&[("expires", "0")]), Ok(()), "{status}");
    }
}

#[test]
fn what_answers_one_request_alone_is_not_stored() {
    for status in [
        100, 101, 103, 206, 304, 401, 406, 407, 408, 411, 412, 413, 415, 416, 417, 421, 425, 426,
        428, 429, 431, 511,
    ] {
        assert_eq!(
            get(status).says("public, max-age=60"),
            Err(Reason::Status),
            "{status}"
        );
    }
}

#[test]
fn errors_are_stored_on_their_word_unless_told_otherwise() {
    for (status, expected) in [(200, true), (404, true), (400, false), (500, false)] {
        let mut case = get(status);
        assert_eq!(case.says("max-age=60"), Ok(()), "{status}");
        case.rules.store_errors = false;
        let judged = case.says("public, max-age=60");
        assert_eq!(judged.is_ok(), expected, "{status}");
    }
}

#[test]
fn without_freshness_only_heuristically_cacheable_statuses_are_stored() {
    for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
        assert_eq!(get(status).judge(&[]), Ok(()), "{status}");
    }
    for status in [201, 202, 302, 303, 307, 403, 500, 502, 503, 504, 599] {
        assert_eq!(get(status).judge(&[]), Err(Reason::Status), "{status}");
        assert_eq!(get(status).says("public"), Ok(()), "{status}");
    }
}

#[test]
fn other_methods_are_not_stored() {
    for method in [
        Method::HEAD,
        Method::PUT,
        Method::DELETE,
        Method::OPTIONS,
        Method::PATCH,
    ] {
        let case = Case { method, ..get(200) };
        assert_eq!(case.says("max-age=60"), Err(Reason::Method));
    }
}

#[test]
fn a_post_is_stored_with_explicit_freshness_and_a_content_location() {
    let post = Case {
        method: Method::POST,
        ..get(200)
    };
    let location = ("content-location", "/a");
    assert_eq!(
        post.judge(&[("cache-control", "max-age=60"), location]),
        Ok(())
    );
    assert_eq!(post.says("max-age=60"), Err(Reason::Method));
    assert_eq!(
        post.judge(&[("cache-control", "public"), location]),
        Err(Reason::Method)
    );
}

#[test]
fn no_store_on_either_side_refuses() {
    assert_eq!(get(200).says("max-age=60, no-store"), Err(Reason::NoStore));
    let case = Case {
        request: RequestFacts {
            no_store: true,
            ..ANONYMOUS
        },
        ..get(200)
    };
    assert_eq!(case.says("max-age=60"), Err(Reason::RequestNoStore));
}

#[test]
fn must_understand_decides_by_the_status() {
    assert_eq!(
        get(200).says("max-age=60, no-store, must-understand"),
        Ok(())
    );
    let refused = Err(Reason::NotUnderstood);
    assert_eq!(
        get(599).says("max-age=60, no-store, must-understand"),
        refused
    );
    assert_eq!(get(599).says("max-age=60, must-understand"), refused);
}

#[test]
fn private_refuses_and_its_qualified_form_does_not() {
    assert_eq!(get(200).says("private, max-age=60"), Err(Reason::Private));
    assert_eq!(get(200).says("private=\"a\", max-age=60"), Ok(()));
}

#[test]
fn varying_by_everything_refuses() {
    let fresh = ("cache-control", "max-age=60");
    assert_eq!(
        get(200).judge(&[fresh, ("vary", "a, *")]),
        Err(Reason::Vary)
    );
    assert_eq!(get(200).judge(&[fresh, ("vary", "a")]), Ok(()));
}

#[test]
fn streams_of_events_are_not_stored() {
    let fresh = ("cache-control", "max-age=60");
    for value in ["text/event-stream", "Text/Event-Stream ; charset=utf-8"] {
        let refused = get(200).judge(&[fresh, ("content-type", value)]);
        assert_eq!(refused, Err(Reason::EventStream), "{value}");
    }
    assert_eq!(
        get(200).judge(&[fresh, ("content-type", "text/event-streams")]),
        Ok(())
    );
}

#[test]
fn authorised_responses_are_stored_when_they_say_so() {
    let authorised = Case {
        request: AUTHORIZED,
        ..get(200)
    };
    assert_eq!(authorised.says("max-age=60"), Err(Reason::Authorization));
    assert_eq!(authorised.judge(&[]), Err(Reason::Authorization));
    assert_eq!(
        authorised.says("max-age=60, proxy-revalidate"),
        Err(Reason::Authorization)
    );
    for permission in [
        "max-age=60, public",
        "max-age=60, must-revalidate",
        "s-maxage=60",
    ] {
        assert_eq!(authorised.says(permission), Ok(()), "{permission}");
    }
}

#[test]
fn a_cookie_that_is_set_needs_a_word_for_shared_caches() {
    let cookie = ("set-cookie", "id=1");
    for (rule, cache_control, stored) in [
        (SetCookie::PublicOnly, "max-age=60", false),
        (SetCookie::PublicOnly, "max-age=60, must-revalidate", false),
        (SetCookie::PublicOnly, "max-age=60, public", true),
        (SetCookie::PublicOnly, "s-maxage=60", true),
        (
            SetCookie::PublicOnly,
            "max-age=60, private=\"Set-Cookie\"",
            true,
        ),
        (SetCookie::Always, "max-age=60", true),
        (SetCookie::Never, "public, s-maxage=60", false),
        (
            SetCookie::Never,
            "max-age=60, no-cache=\"set-cookie\"",
            true,
        ),
    ] {
        let case = Case {
            rules: Rules {
                set_cookie: rule,
                ..get(200).rules
            },
            ..get(200)
        };
        let expected = if stored {
            Ok(())
        } else {
            Err(Reason::SetCookie)
        };
        let judged = case.judge(&[("cache-control", cache_control), cookie]);
        assert_eq!(judged, expected, "{rule:?} {cache_control}");
    }
}

#[test]
fn what_may_be_one_users_is_stored_on_the_handlers_word_only() {
    let tag = ("etag", "\"a\"");
    let with_cookie = Case {
        request: WITH_COOKIE,
        ..get(200)
    };
    let refused = Err(Reason::Credentials);
    assert_eq!(with_cookie.judge(&[tag]), refused);
    assert_eq!(
        with_cookie.judge(&[tag, ("cache-control", "must-revalidate")]),
        refused
    );
    for word in ["max-age=60", "public", "no-cache"] {
        assert_eq!(
            with_cookie.judge(&[tag, ("cache-control", word)]),
            Ok(()),
            "{word}"
        );
    }
    let default_ttl = Some(std::time::Duration::from_secs(60));
    let always = Rules {
        set_cookie: SetCookie::Always,
        default_ttl,
        ..get(200).rules
    };
    let case = Case {
        rules: always,
        ..get(200)
    };
    assert_eq!(case.judge(&[("set-cookie", "id=1")]), refused);
    let authorised = Case {
        request: AUTHORIZED,
        ..get(200)
    };
    assert_eq!(authorised.says("must-revalidate"), refused);
}

#[test]
fn reasons_are_tokens() {
    for refusal in [Reason::Method, Reason::RequestNoStore, Reason::NoFreshness] {
        let is_token = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
        assert!(refusal.as_str().bytes().all(is_token));
    }
}

proptest! {
    #[test]
    fn no_headers_make_it_panic(
        lines in proptest::collection::vec((0..6_usize, ".*"), 0..6), status in 100..1000_u16,
    ) {
        let names = ["cache-control", "expires", "vary", "content-type", "set-cookie", "pragma"];
        let lines: Vec<_> = lines
            .iter()
            .filter(|(_, value)| HeaderValue::from_str(value).is_ok())
            .map(|(at, value)| (names[*at], value.as_str()))
            .collect();
        let _ = get(status).judge(&lines);
    }
}
