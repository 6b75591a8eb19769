use http::{HeaderMap, HeaderValue, header};
use proptest::prelude::*;

use super::*;
use crate::http::text::MAX_SECONDS;

fn headers(lines: &[&str]) -> HeaderMap {
    lines
        .iter()
        .map(|line| (header::CACHE_CONTROL, HeaderValue::from_str(line).unwrap()))
        .collect()
}

fn response(lines: &[&str]) -> ResponseDirectives {
    ResponseDirectives::of_cache_control(&headers(lines))
}

fn request(lines: &[&str]) -> RequestDirectives {
    RequestDirectives::parse(&headers(lines))
}

#[test]
fn every_response_directive_is_read() {
    let read = response(&[
        "no-store, no-cache, private, public, max-age=1, s-maxage=2, must-revalidate",
        "proxy-revalidate,must-understand,immutable,stale-while-revalidate=3,stale-if-error=4",
    ]);
    let expected = ResponseDirectives {
        no_store: true,
        no_cache: true,
        no_cache_fields: vec![],
        private: true,
        private_fields: vec![],
        public: true,
        max_age: Some(1),
        s_maxage: Some(2),
        must_revalidate: true,
        proxy_revalidate: true,
        must_understand: true,
        immutable: true,
        stale_while_revalidate: Some(3),
        stale_if_error: Some(4),
        targeted: false,
    };
    assert_eq!(read, expected);
}

#[test]
fn names_are_read_in_any_letter_case() {
    assert_eq!(response(&["MaX-aGe=3600"]).max_age, Some(3600));
    assert!(response(&["No-StOrE"]).no_store);
    assert!(request(&["NO-CACHE"]).no_cache);
}

#[test]
fn max_age_is_read_as_the_strictest_of_what_it_could_mean() {
    for (lines, expected) in [
        (&["max-age=3600"][..], Some(3600)),
        (&["max-age=003600"], Some(3600)),
        (&["max-age=\"3600\""], Some(3600)),
        (&["max-age=\"3\\600\""], Some(3600)),
        (&["max-age=2147483647"], Some(2_147_483_647)),
        (&["max-age=2147483648"], Some(MAX_SECONDS)),
        (&["max-age=99999999999999999999"], Some(MAX_SECONDS)),
        (&["foobar, max-age=3600"], Some(3600)),
        (&["foobar=\"a, b\";x, ,max-age=3600,"], Some(3600)),
        (&["max-age=1800, max-age=1"], Some(1)),
        (&["max-age=1, max-age=1800"], Some(1)),
        (&["max-age=1800", "max-age=1"], Some(1)),
        (&["max-age=1", "max-age=1800"], Some(1)),
        (&["max-age=10, max-age=x"], Some(0)),
        (&["max-age='3600'"], Some(0)),
        (&["max-age=-3600"], Some(0)),
        (&["max-age=3600.0"], Some(0)),
        (&["max-age=a3600"], Some(0)),
        (&["max-age=3600a"], Some(0)),
        (&["max-age=3600;x"], Some(0)),
        (&["max-age=3600 private"], Some(0)),
        (&["max-age=\"3600\"0"], Some(0)),
        (&["max-age=\" 3600\""], Some(0)),
        (&["max-age"], Some(0)),
        (&["max-age="], Some(0)),
        (&["max-age=\"\""], Some(0)),
        (&["max-age =3600"], Some(0)),
        (&["max-age= 3600"], Some(0)),
        (&["xmax-age=3600"], None),
        (&["max-agex=3600"], None),
        (&[""], None),
        (&[], None),
    ] {
        assert_eq!(response(lines).max_age, expected, "{lines:?}");
    }
}

#[test]
fn a_directive_inside_a_quoted_string_is_none() {
    for line in [
        "extension=\"max-age=3600\", max-age=1",
        "max-age=1, extension=\"max-age=3600\"",
        "extension=\"a, max-age=0, no-store, \\\", private\", max-age=1",
        "\"no-store, x\", max-age=1",
        "x=y\"no-store, private\", max-age=1",
    ] {
        let read = response(&[line]);
        let expected = ResponseDirectives {
            max_age: Some(1),
            ..Default::default()
        };
        assert_eq!(read, expected, "{line}");
    }
}

#[test]
fn a_quoted_string_without_an_end_hides_no_restriction_and_ends_freshness() {
    let read = response(&["s-maxage=60, extension=\"a, private, max-age=3600"]);
    assert!(read.private);
    assert_eq!((read.max_age, read.s_maxage), (Some(0), Some(0)));
    assert_eq!(response(&["max-age=60, x=\"a\\\""]).max_age, Some(0));
}

#[test]
fn qualified_forms_name_fields() {
    let read = response(&["no-cache=\"a, B\", private=\"set-cookie\"", "private=c"]);
    assert_eq!(read.no_cache_fields, ["a", "b"]);
    assert_eq!(read.private_fields, ["set-cookie", "c"]);
    assert!(!read.no_cache && !read.private);
}

#[test]
fn a_qualified_form_that_names_no_fields_is_about_the_whole_response() {
    for line in [
        "private",
        "private=",
        "private=\"\"",
        "private=\" , \"",
        "private=\"a b\"",
        "private='set-cookie'",
        "private =\"a\"",
        "private=\"a\"b",
        "private=\"a",
        "private=\"vary\"",
        "private=\"a\", private",
    ] {
        assert!(response(&[line]).private, "{line}");
    }
    let long: Vec<String> = (0..40).map(|n| format!("f{n}")).collect();
    assert!(response(&[&format!("no-cache=\"{}\"", long.join(","))]).no_cache);
}

#[test]
fn a_permission_with_an_argument_is_none() {
    let read = response(&["public=1, must-understand=\"x\", immutable=yes"]);
    assert_eq!(read, ResponseDirectives::default());
    assert!(response(&["no-store=1"]).no_store);
}

#[test]
fn every_request_directive_is_read() {
    let read = request(&[
        "no-store, no-cache, max-age=1",
        "min-fresh=2, max-stale=3, only-if-cached",
    ]);
    assert!(read.no_store && read.no_cache && read.only_if_cached && !read.is_empty());
    assert_eq!((read.max_age, read.min_fresh), (Some(1), Some(2)));
    assert_eq!(read.max_stale, MaxStale::Secs(3));
}

#[test]
fn unknown_request_directives_ask_for_nothing() {
    for line in ["foo", "foo=\"no-cache, max-age=0\"", "no-transform", ""] {
        assert!(request(&[line]).is_empty(), "{line}");
        assert_eq!(request(&[line]), RequestDirectives::NONE, "{line}");
    }
}

#[test]
fn of_duplicate_request_directives_the_one_that_asks_for_most_wins() {
    let read =
        request(&["max-age=5, max-age=3, min-fresh=5, min-fresh=9, max-stale=5, max-stale=3"]);
    assert_eq!((read.max_age, read.min_fresh), (Some(3), Some(9)));
    assert_eq!(read.max_stale, MaxStale::Secs(3));
    assert_eq!(
        request(&["max-stale, max-stale=3"]).max_stale,
        MaxStale::Secs(3)
    );
    assert_eq!(
        request(&["max-stale=3, max-stale"]).max_stale,
        MaxStale::Secs(3)
    );
    assert_eq!(request(&["max-stale"]).max_stale, MaxStale::Any);
    let wrong = request(&["max-age=x, min-fresh=x, max-stale=x"]);
    assert_eq!(
        (wrong.max_age, wrong.min_fresh),
        (Some(0), Some(MAX_SECONDS))
    );
    assert_eq!(wrong.max_stale, MaxStale::Secs(0));
}

#[test]
fn pragma_counts_without_cache_control_only() {
    let mut headers = HeaderMap::new();
    headers.insert(header::PRAGMA, HeaderValue::from_static("x, No-Cache"));
    assert!(RequestDirectives::parse(&headers).no_cache);
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("max-age=60"),
    );
    assert!(!RequestDirectives::parse(&headers).no_cache);
    headers.clear();
    headers.insert(header::PRAGMA, HeaderValue::from_static("extension"));
    assert!(RequestDirectives::parse(&headers).is_empty());
}

proptest! {
    #[test]
    fn no_bytes_make_the_readers_panic(lines: Vec<Vec<u8>>) {
        let headers: HeaderMap = lines
            .iter()
            .filter_map(|line| HeaderValue::from_bytes(line).ok())
            .map(|line| (header::CACHE_CONTROL, line))
            .collect();
        let _ = (ResponseDirectives::of_cache_control(&headers), RequestDirectives::parse(&headers));
    }

    #[test]
    fn a_restriction_is_seen_whatever_stands_before_it(before in "[a-z=\", \\\\]{0,20}") {
        let line = format!("{before},no-store");
        prop_assert!(response(&[&line]).no_store, "{line}");
    }
}
