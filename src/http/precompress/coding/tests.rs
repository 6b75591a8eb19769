use std::io::Read;

use proptest::prelude::*;

use super::*;

const BOTH: [Coding; 2] = [Coding::Brotli, Coding::Gzip];

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let line = |(name, value): &(&'static str, &'static str)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    };
    lines.iter().map(line).collect()
}

fn negotiated(accept: &'static str) -> Option<Coding> {
    negotiate(&BOTH, &headers(&[("accept-encoding", accept)]))
}

#[test]
fn a_client_gets_what_it_prefers_and_else_what_comes_first() {
    for (accept, coding) in [
        ("gzip, deflate, br", Some(Coding::Brotli)),
        ("gzip", Some(Coding::Gzip)),
        ("X-GZIP", Some(Coding::Gzip)),
        ("br;q=0.5, gzip;q=0.8", Some(Coding::Gzip)),
        ("br ; Q=1.000 , gzip ; q=0.999", Some(Coding::Brotli)),
        ("*", Some(Coding::Brotli)),
        ("br;q=0, *", Some(Coding::Gzip)),
        ("*;q=0", None),
        ("br;q=0.1, identity;q=0.5", None),
        ("identity", None),
        ("deflate, zstd", None),
        ("", None),
        ("br;q=2, gzip;q=x", None),
        ("br;q=1.001", None),
        ("br;q=0.0001", None),
        ("br;q=0.001", Some(Coding::Brotli)),
        ("br;q=0, br", None),
    ] {
        assert_eq!(negotiated(accept), coding, "{accept:?}");
    }
    assert_eq!(negotiate(&BOTH, &HeaderMap::new()), None);
    assert_eq!(negotiate(&[], &headers(&[("accept-encoding", "br")])), None);
    let lines = [("accept-encoding", "deflate"), ("accept-encoding", "gzip")];
    assert_eq!(negotiate(&BOTH, &headers(&lines)), Some(Coding::Gzip));
}

#[test]
fn what_is_compressed_says_so_by_its_type() {
    let may = |kind| may_encode(StatusCode::OK, &headers(&[("content-type", kind)]));
    for kind in [
        "text/html; charset=utf-8",
        "TEXT/CSS",
        "application/json",
        "application/problem+json",
        "image/svg+xml",
    ] {
        assert!(may(kind), "{kind}");
    }
    for kind in [
        "image/png",
        "video/mp4",
        "text/event-stream",
        "application/zip",
        "",
    ] {
        assert!(!may(kind), "{kind}");
    }
}

#[test]
fn what_may_not_be_changed_is_left_as_it_is() {
    let text = ("content-type", "text/plain");
    let may = |line| may_encode(StatusCode::OK, &headers(&[text, line]));
    assert!(may(("x-other", "1")));
    assert!(!may(("cache-control", "max-age=60, No-Transform")));
    assert!(!may(("content-encoding", "gzip")));
    assert!(!may(("content-range", "bytes 0-1/2")));
    assert!(!may(("content-digest", "sha-256=:AA==:")));
    assert!(!may_encode(StatusCode::PARTIAL_CONTENT, &headers(&[text])));
}

#[test]
fn a_strong_tag_is_another_for_other_bytes_and_a_weak_one_is_not() {
    let tag = |tag| encoded_tag(&headers(&[("etag", tag)]), Coding::Brotli);
    assert_eq!(tag("\"a\"").unwrap(), "\"a--br\"");
    assert_eq!(tag("W/\"a\""), None);
    assert_eq!(tag("a"), None);
}

#[test]
fn a_handler_is_asked_by_the_tags_that_it_knows() {
    let mut request = headers(&[
        ("if-match", "\"a--br\", W/\"b\", \"c--gzip\", \"d--brx\""),
        ("if-none-match", "\"a--br\""),
    ]);
    restore_tags(&BOTH, &mut request, &http::header::IF_MATCH);
    assert_eq!(request["if-match"], "\"a\", W/\"b\", \"c\", \"d--brx\"");
    assert_eq!(request["if-none-match"], "\"a--br\"");
}

#[test]
fn a_body_that_does_not_get_smaller_is_not_encoded() {
    for coding in BOTH {
        assert_eq!(coding.encode(b"abc"), None, "{coding:?}");
        assert_eq!(coding.encode(b""), None, "{coding:?}");
    }
}

fn decode(coding: Coding, encoded: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    match coding {
        Coding::Gzip => flate2::read::GzDecoder::new(encoded).read_to_end(&mut body),
        Coding::Brotli => brotli::Decompressor::new(encoded, 4096).read_to_end(&mut body),
    }
    .unwrap();
    body
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_is_encoded_is_what_it_was(words in proptest::collection::vec("[a-e]{1,8}", 0..2_000)) {
        let body = words.concat().into_bytes();
        for coding in BOTH {
            if let Some(encoded) = coding.encode(&body) {
                prop_assert!(encoded.len() < body.len());
                prop_assert_eq!(decode(coding, &encoded), &*body);
            }
        }
    }

    #[test]
    fn no_field_makes_it_panic(line: Vec<u8>) {
        if let Ok(value) = HeaderValue::from_bytes(&line) {
            let mut request = HeaderMap::new();
            request.insert(ACCEPT_ENCODING, value.clone());
            request.insert(ETAG, value);
            negotiate(&BOTH, &request);
            encoded_tag(&request, Coding::Gzip);
            restore_tags(&BOTH, &mut request, &ETAG);
        }
    }
}
