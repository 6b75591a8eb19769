use proptest::prelude::*;

use super::*;

const RECEIVED: Timestamp = Timestamp::from_secs(1_763_640_000);
const DAY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const NEXT_DAY: &str = "Mon, 07 Nov 1994 08:49:37 GMT";
const DAY_BEFORE: &str = "Sat, 05 Nov 1994 08:49:37 GMT";

fn headers(lines: &[(HeaderName, &str)]) -> HeaderMap {
    let line = |(name, value): &(HeaderName, &str)| {
        (
            name.clone(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        )
    };
    lines.iter().map(line).collect()
}

fn answers_304(request: &[(HeaderName, &str)], response: &[(HeaderName, &str)]) -> bool {
    not_modified(
        &headers(request),
        StatusCode::OK,
        &headers(response),
        RECEIVED,
    )
}

#[test]
fn if_none_match_finds_the_stored_tag() {
    for (list, etag, expected) in [
        ("\"a\"", "\"a\"", true),
        ("\"a\"", "\"b\"", false),
        ("\"a\"", "\"A\"", false),
        ("W/\"a\"", "\"a\"", true),
        ("\"a\"", "W/\"a\"", true),
        ("W/\"a\"", "W/\"a\"", true),
        ("w/\"a\"", "w/\"a\"", true),
        ("\"a\", \"b\", \"c\"", "\"a\"", true),
        ("\"b\", \"a\", \"c\"", "\"a\"", true),
        ("\"b\",,W/\"c\"\t,\"a\" ", "\"a\"", true),
        ("\"b\", \"c\"", "\"a\"", false),
        ("\"b, \\\", \"a\"", "\"a\"", true),
        ("\"x,a,y\"", "\"a\"", false),
        ("\"abcdefü\"", "\"abcdefü\"", true),
        ("\"\"", "\"\"", true),
        ("a", "\"a\"", true),
        ("\"a\"", "a", true),
        ("a", "a", true),
        ("a b", "\"a\"", false),
        ("\"b\" \"a\"", "\"a\"", false),
        ("\"a", "\"a\"", false),
        ("*", "\"a\"", true),
        ("*, \"b\"", "*", false),
        ("", "\"a\"", false),
        ("", "", false),
    ] {
        let request = [(header::IF_NONE_MATCH, list)];
        assert_eq!(
            answers_304(&request, &[(header::ETAG, etag)]),
            expected,
            "{list} {etag}"
        );
    }
}

#[test]
fn if_none_match_may_take_several_lines() {
    let request = [
        (header::IF_NONE_MATCH, "\"b\""),
        (header::IF_NONE_MATCH, "\"a\""),
    ];
    assert!(answers_304(&request, &[(header::ETAG, "\"a\"")]));
}

#[test]
fn a_star_matches_a_response_without_a_tag() {
    assert!(answers_304(&[(header::IF_NONE_MATCH, " * ")], &[]));
}

#[test]
fn if_none_match_takes_precedence() {
    let response = [(header::ETAG, "\"a\""), (header::LAST_MODIFIED, DAY)];
    let with = |tag, since| {
        answers_304(
            &[
                (header::IF_NONE_MATCH, tag),
                (header::IF_MODIFIED_SINCE, since),
            ],
            &response,
        )
    };
    assert!(with("\"a\"", DAY_BEFORE));
    assert!(!with("\"b\"", DAY));
    assert!(!answers_304(
        &[
            (header::IF_NONE_MATCH, "\"a\""),
            (header::IF_MODIFIED_SINCE, DAY)
        ],
        &[(header::LAST_MODIFIED, DAY)],
    ));
}

#[test]
fn if_modified_since_is_compared_with_last_modified() {
    for (since, expected) in [
        (DAY, true),
        (NEXT_DAY, true),
        (DAY_BEFORE, false),
        ("Sunday, 06-Nov-94 08:49:37 GMT", true),
        ("Sun Nov  6 08:49:37 1994", true),
        ("yesterday", false),
        ("", false),
    ] {
        let request = [(header::IF_MODIFIED_SINCE, since)];
        assert_eq!(
            answers_304(&request, &[(header::LAST_MODIFIED, DAY)]),
            expected,
            "{since}"
        );
    }
}

#[test]
fn several_lines_of_if_modified_since_are_ignored() {
    let request = [
        (header::IF_MODIFIED_SINCE, DAY),
        (header::IF_MODIFIED_SINCE, DAY),
    ];
    assert!(!answers_304(&request, &[(header::LAST_MODIFIED, DAY)]));
}

#[test]
fn without_last_modified_the_date_is_compared() {
    let request = [(header::IF_MODIFIED_SINCE, DAY)];
    assert!(answers_304(&request, &[(header::DATE, DAY)]));
    assert!(!answers_304(&request, &[(header::DATE, NEXT_DAY)]));
    assert!(!answers_304(&request, &[]), "received long after");
    assert!(!answers_304(
        &request,
        &[(header::LAST_MODIFIED, "x"), (header::DATE, DAY)]
    ));
    let received = date::format(RECEIVED);
    assert!(answers_304(
        &[(header::IF_MODIFIED_SINCE, received.to_str().unwrap())],
        &[]
    ));
}

#[test]
fn only_a_200_becomes_a_304() {
    let request = headers(&[(header::IF_NONE_MATCH, "*")]);
    for status in [
        StatusCode::NO_CONTENT,
        StatusCode::MOVED_PERMANENTLY,
        StatusCode::NOT_FOUND,
    ] {
        assert!(!not_modified(&request, status, &HeaderMap::new(), RECEIVED));
    }
}

#[test]
fn a_request_without_conditions_is_answered_in_full() {
    assert!(!answers_304(
        &[],
        &[(header::ETAG, "\"a\""), (header::LAST_MODIFIED, DAY)]
    ));
}

#[test]
fn a_304_repeats_what_clients_update_by() {
    let kept = [
        (header::AGE, "1"),
        (header::CACHE_CONTROL, "max-age=1"),
        (header::CACHE_CONTROL, "public"),
        (header::CONTENT_LOCATION, "/a"),
        (header::DATE, DAY),
        (header::ETAG, "\"a\""),
        (header::EXPIRES, DAY),
        (header::LAST_MODIFIED, DAY),
        (header::VARY, "accept"),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (HeaderName::from_static("cache-status"), "larder; hit"),
    ];
    let dropped = [
        (header::CONTENT_TYPE, "text/plain"),
        (header::CONTENT_LENGTH, "5"),
        (header::CONTENT_ENCODING, "gzip"),
        (header::SET_COOKIE, "id=1"),
    ];
    let all: Vec<_> = kept.iter().chain(&dropped).cloned().collect();
    assert_eq!(not_modified_headers(&headers(&all)), headers(&kept));
}

#[test]
fn revalidation_puts_the_stored_validators_in_place_of_the_clients_conditions() {
    let mut request = headers(&[
        (header::IF_NONE_MATCH, "\"client\""),
        (header::IF_MODIFIED_SINCE, NEXT_DAY),
        (header::IF_MATCH, "*"),
        (header::IF_UNMODIFIED_SINCE, DAY),
        (header::IF_RANGE, "\"client\""),
        (header::ACCEPT, "text/plain"),
    ]);
    let stored = headers(&[(header::ETAG, "W/\"a\""), (header::LAST_MODIFIED, DAY)]);
    assert!(revalidation_headers(&stored, &mut request));
    let expected = headers(&[
        (header::IF_NONE_MATCH, "W/\"a\""),
        (header::IF_MODIFIED_SINCE, DAY),
        (header::ACCEPT, "text/plain"),
    ]);
    assert_eq!(request, expected);
}

#[test]
fn revalidation_without_a_validator_is_unconditional() {
    let mut request = headers(&[(header::IF_NONE_MATCH, "\"client\"")]);
    let stored = headers(&[(header::LAST_MODIFIED, "yesterday"), (header::ETAG, "")]);
    assert!(!revalidation_headers(&stored, &mut request));
    assert!(request.is_empty());
}

proptest! {
    #[test]
    fn no_headers_make_it_panic(list: Vec<u8>, etag: Vec<u8>, since: Vec<u8>, received: u64) {
        let map = |lines: [(HeaderName, Vec<u8>); 2]| -> HeaderMap {
            let line = |(name, value): (HeaderName, Vec<u8>)| {
                HeaderValue::from_bytes(&value).ok().map(|value| (name, value))
            };
            lines.into_iter().filter_map(line).collect()
        };
        let mut request = map([(header::IF_NONE_MATCH, list), (header::IF_MODIFIED_SINCE, since.clone())]);
        let response = map([(header::ETAG, etag), (header::LAST_MODIFIED, since)]);
        not_modified(&request, StatusCode::OK, &response, Timestamp::from_millis(received));
        revalidation_headers(&response, &mut request);
    }
}
