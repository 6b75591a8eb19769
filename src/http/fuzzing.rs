//! Everything here that reads bytes which larder did not write, for the targets in `fuzz/`.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::{
    conditional,
    directives::{RequestDirectives, ResponseDirectives},
    fields,
    freshness::Times,
    invalidation::Target,
    policy::{Rules, assess},
    reuse::{reuse, serve_on_error},
    storable::RequestFacts,
    stored::StoredResponse,
    variants::VariantRecord,
    vary::{self, Vary},
};
use crate::Timestamp;

/// Reads a stored response and a record of variants, as from a server that was written to by somebody else.
pub fn stored(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(stored) = StoredResponse::decode(&bytes, &Rules::default()) {
        let headers = stored.hit_headers(false, None, 0, 0);
        assert!(headers.contains_key(header::AGE));
    }
    if let Ok(record) = VariantRecord::decode(&bytes) {
        assert!(VariantRecord::decode(&record.encode()).is_ok_and(|again| again == record));
    }
}

/// Puts lines of `name: value` through every rule, as the fields of a request and of a response.
pub fn rules(text: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in text.split(|&byte| byte == b'\n') {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else {
            continue;
        };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(&line[colon + 1..]);
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let now = Timestamp::from_secs(1_700_000_000);
    let times = Times {
        request: now,
        response: now,
    };
    let rules = Rules::default();
    let request = RequestDirectives::parse(&headers);
    let directives = ResponseDirectives::read(&headers, &rules.targets);
    let facts = RequestFacts::default();
    let (method, status) = (&Method::GET, StatusCode::OK);
    if let Ok(policy) = assess(method, &facts, status, &headers, &directives, times, &rules) {
        reuse(&policy, &request, now, &rules);
        serve_on_error(&policy, now, &rules);
        policy.keep_until(&rules);
    }
    if let Vary::Fields(names) = Vary::parse(&headers) {
        vary::select(&names, &headers, &mut vary::Buffer::new());
    }
    conditional::not_modified(&headers, status, &headers, now);
    let target = Target {
        scheme: "http",
        authority: "example.org",
        path_and_query: "/a/b?c",
    };
    target.also_invalidated(&headers);
    let mut stored = headers.clone();
    fields::freshen(&mut stored, &headers);
    fields::strip_for_store(&mut stored, &directives);
}
