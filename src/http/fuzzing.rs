//! Everything here that reads bytes which larder did not write, for the targets in `fuzz/`.
//!
//! Each function takes whatever there is, and panics where something is found that must not be.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri,
    header::{self, CONTENT_LOCATION, HOST},
};
use http_body::SizeHint;

use super::{
    conditional, date,
    directives::{RequestDirectives, ResponseDirectives},
    fields,
    freshness::Times,
    invalidation::Target,
    key::{self, Host},
    policy::{Rules, assess},
    range::{ContentRange, Piece, Ranges, Wanted},
    reuse::{reuse, serve_on_error},
    status::{CACHE_STATUS, CacheStatus, Forward, Outcome, append_key},
    storable::RequestFacts,
    stored::StoredResponse,
    tags::{self, TagField},
    text,
    variants::VariantRecord,
    vary::{self, Vary},
};
use crate::{KeySpace, Timestamp, key::KeyHead};

pub use super::policies::fuzzing::{cookies, queries};
#[cfg(feature = "compression")]
pub use super::precompress::fuzzing::codings;
pub use crate::cache::fuzzing::tag_log;

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

/// Reads a stored response and a record of variants, as from a server that was written to by somebody else.
pub fn stored(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(stored) = StoredResponse::decode(&bytes, &[], &Rules::default()) {
        for not_modified in [false, true] {
            let headers = stored.hit_headers(not_modified, None, 0, 0);
            assert!(headers.contains_key(header::AGE));
        }
        let trailers = stored.trailers().cloned().unwrap_or_default();
        let body = std::slice::from_ref(&stored.body);
        let (again, body_at) = stored.head.encode(body, &trailers);
        assert_eq!(again[body_at..], stored.body);
        let again = StoredResponse::decode(&again, &[], &Rules::default());
        let again = again.expect("what was written can be read");
        assert_eq!(again.head.headers, stored.head.headers);
        assert_eq!(again.trailers(), stored.trailers());
        assert_eq!(again.policy, stored.policy);
        if let Some(parts) = &stored.parts {
            assert_eq!(parts.take(&(0..parts.len())).is_some(), parts.is_whole());
        }
    }
    variants(&bytes);
}

/// Reads a record of variants.
pub fn variants(bytes: &[u8]) {
    if let Ok(record) = VariantRecord::decode(bytes) {
        assert!(VariantRecord::decode(&record.encode()).is_ok_and(|again| again == record));
    }
}

/// Puts lines of `name: value` through every rule, as the fields of a request and of a response.
pub fn rules(text: &[u8]) {
    let headers = lines(text);
    let times = Times {
        request: NOW,
        response: NOW,
    };
    let rules = Rules::default();
    let request = RequestDirectives::parse(&headers);
    let directives = ResponseDirectives::read(&headers, &rules.targets);
    let facts = RequestFacts::default();
    let (method, status) = (&Method::GET, StatusCode::OK);
    if let Ok(policy) = assess(method, &facts, status, &headers, &directives, times, &rules) {
        assert!(!directives.private, "a private response is stored");
        reuse(&policy, &request, NOW, &rules);
        serve_on_error(&policy, NOW, &rules);
        assert!(policy.age(NOW) <= text::MAX_SECONDS);
        policy.keep_until(&rules);
    }
    conditional::not_modified(&headers, status, &headers, NOW);
    let _ = Piece::of(&headers, &headers, NOW, &SizeHint::new(), None);
    let mut stored = headers.clone();
    fields::freshen(&mut stored, &headers);
    fields::strip_for_store(&mut stored, &directives);
    assert!(!stored.contains_key(header::CONNECTION));
    let _ = fields::is_about(&stored, &headers);
    let _ = fields::by_head(&stored, 0, &headers);
}

/// Reads `Cache-Control` of a request and of a response, and the fields that take its place.
pub fn directives(text: &[u8]) {
    let headers = lines(text);
    let rules = Rules::default();
    RequestDirectives::parse(&headers);
    ResponseDirectives::read(&headers, &rules.targets);
    // Whatever there is beside it, a restriction in a line of its own counts.
    let mut control = HeaderMap::new();
    for line in headers.get_all(header::CACHE_CONTROL) {
        control.append(header::CACHE_CONTROL, line.clone());
    }
    for name in ["no-store", "private", "no-cache", "max-age=0"] {
        let mut restricted = control.clone();
        restricted.append(header::CACHE_CONTROL, HeaderValue::from_static(name));
        let response = ResponseDirectives::read(&restricted, &rules.targets);
        let request = RequestDirectives::parse(&restricted);
        match name {
            "no-store" => assert!(response.no_store && request.no_store),
            "private" => assert!(response.private),
            "no-cache" => assert!(response.no_cache && request.no_cache),
            _ => assert!(response.max_age == Some(0) && request.max_age == Some(0)),
        }
    }
}

/// Reads a date.
pub fn dates(text: &[u8]) {
    if let Some(at) = date::parse(text, NOW) {
        // Years of five digits have no form; a leap second may lead there.
        let last = Timestamp::from_secs(253_402_300_799);
        let (at, written) = (at.min(last), date::format(at));
        assert_eq!(date::parse(written.as_bytes(), NOW), Some(at));
    }
}

/// Chooses by `Vary` of a response in a request.
pub fn selecting(text: &[u8]) {
    let headers = lines(text);
    let Vary::Fields(names) = Vary::parse(&headers) else {
        return;
    };
    let select = |headers: &HeaderMap| {
        let mut selection = vary::Buffer::new();
        vary::select(&names, headers, &mut selection);
        selection
    };
    let selection = select(&headers);
    let mut without = headers.clone();
    for name in &names {
        // An absent field is another one than any that is there.
        if without.remove(name).is_some() {
            assert_ne!(select(&without), selection);
        }
    }
    vary::copy(&names, &headers, &mut vary::Buffer::new());
}

/// Reads `Range` and `Content-Range`, for a representation whose length is in the first two bytes.
pub fn ranges(bytes: &[u8]) {
    let Some((len, text)) = bytes.split_first_chunk() else {
        return;
    };
    let len = u64::from(u16::from_be_bytes(*len));
    let Ok(value) = HeaderValue::from_bytes(text) else {
        return;
    };
    let headers = HeaderMap::from_iter([(header::RANGE, value)]);
    let Some(ranges) = Ranges::parse(&headers) else {
        return;
    };
    let wanted = ranges.of(len);
    if let Wanted::Spans(spans) = &wanted {
        assert!(!spans.is_empty());
        let is_there = |span: &std::ops::Range<u64>| span.start < span.end && span.end <= len;
        assert!(spans.iter().all(is_there), "{spans:?} of {len}");
        let touches = |one: &std::ops::Range<u64>, two: &std::ops::Range<u64>| {
            one.start <= two.end && two.start <= one.end
        };
        for (at, span) in spans.iter().enumerate() {
            assert!(!spans[at + 1..].iter().any(|other| touches(span, other)));
        }
    }
    if let Some(Ok(part)) = wanted.one_span(len) {
        let ContentRange { span, len: whole } = &part;
        assert_eq!(*whole, len);
        assert!(span.end <= len);
        part.value();
    }
}

/// Evaluates conditions of a request against a response, and asks with those that are made from it.
pub fn conditions(text: &[u8]) {
    let headers = lines(text);
    conditional::not_modified(&headers, StatusCode::OK, &headers, NOW);
    let mut asked = HeaderMap::new();
    if conditional::revalidation_headers(&headers, &mut asked) {
        assert!(conditional::has_validator(&headers));
        // What is asked of a response is true of it; a tag that lost one of its quotes is only the handler's to judge.
        let tag = headers
            .get(header::ETAG)
            .map_or(&[][..], HeaderValue::as_bytes);
        let quotes = tag.iter().filter(|byte| **byte == b'"').count();
        let is_tag = tag.is_empty()
            || quotes == 2
                && tag.ends_with(b"\"")
                && (tag.starts_with(b"\"") || tag.starts_with(b"W/\""));
        assert!(!is_tag || conditional::not_modified(&asked, StatusCode::OK, &headers, NOW));
        assert!(fields::is_about(&headers, &headers));
    }
    let not_modified = conditional::not_modified_headers(&headers);
    assert!(!not_modified.contains_key(header::SET_COOKIE));
}

/// Makes the key of a request with a target in the first line and a host in the second, and resolves what the rest names
/// against it.
pub fn uris(text: &[u8]) {
    let mut parts = text.splitn(3, |&byte| byte == b'\n');
    let mut next = || parts.next().unwrap_or_default();
    let (target, host, reference) = (next(), next(), next());
    let Ok(uri) = Uri::try_from(target) else {
        return;
    };
    let mut headers = HeaderMap::new();
    if let Ok(host) = HeaderValue::from_bytes(host) {
        headers.insert(HOST, host);
    }
    let (host, extensions) = (Host::read(&headers), http::Extensions::new());
    let head = KeyHead::new("fuzz", KeySpace::Response, None);
    let Some(key) = key::base(&head, None, &uri, host, &extensions) else {
        return;
    };
    let own = key.key.as_key_ref().name().to_vec();
    key::is_plain(&uri, host, &extensions, http::Version::HTTP_11);
    let Some(authority) = key::authority(&uri, host) else {
        return;
    };
    // No authority ends another's.
    let ends = |byte: &u8| matches!(byte, b'/' | b'?' | b'#' | b'@' | b'\\');
    assert!(!authority.iter().any(ends), "{own:?}");
    let (Ok(authority), Ok(reference)) = (
        std::str::from_utf8(authority),
        HeaderValue::from_bytes(reference),
    ) else {
        return;
    };
    let target = Target {
        scheme: uri.scheme_str().unwrap_or("http"),
        authority,
        path_and_query: uri.path_and_query().map_or("/", |path| path.as_str()),
    };
    let response = HeaderMap::from_iter([(CONTENT_LOCATION, reference)]);
    for other in target.also_invalidated(&response) {
        assert!(other.as_str().starts_with(['/', '*', '?']), "{other:?}");
    }
    target.is_content_location(&response);
}

/// Reads the tags of a response, and writes them again.
pub fn tags(text: &[u8]) {
    let headers = lines(text);
    for field in [TagField::CacheTag, TagField::SurrogateKey] {
        let mut response = Response::new(());
        *response.headers_mut() = headers.clone();
        let tags = tags::of(&mut response, Some(field));
        // A field may have no way to say some of them, but it says no others.
        let said = tags::of(&mut response, None);
        assert!(said.iter().all(|said| tags.iter().any(|tag| tag == said)));
    }
}

/// Writes what the cache did with a request, under a name and with a key that are divided by a line feed.
pub fn telling(text: &[u8]) {
    let at = text
        .iter()
        .position(|&byte| byte == b'\n')
        .unwrap_or(text.len());
    let (name, key) = text.split_at(at);
    let writer = std::str::from_utf8(name)
        .ok()
        .and_then(|name| CacheStatus::new(name).ok());
    let Some(writer) = writer else {
        return;
    };
    let outcome = Outcome::forwarded(Forward::UriMiss);
    let mut headers = HeaderMap::new();
    headers.insert(CACHE_STATUS, writer.value(outcome, None));
    append_key(&mut headers, key);
    let told = headers[&CACHE_STATUS].as_bytes();
    assert!(told.iter().all(|byte| (b' '..=b'~').contains(byte)));
    // Quotes come in pairs, so that nothing that is told ends early.
    let mut quotes = 0;
    let mut bytes = told.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'"' => quotes += 1,
            _ => {}
        }
    }
    assert_eq!(quotes % 2, 0);
}

/// Fields from lines of `name: value`; what is none is left out.
pub(super) fn lines(text: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in text.split(|&byte| byte == b'\n') {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else {
            continue;
        };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(text::trim(&line[colon + 1..]));
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}
