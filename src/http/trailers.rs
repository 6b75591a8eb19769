//! Trailers: the fields behind a body (RFC 9110 §6.5).

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{
    directives::{Targets, is_targeted},
    tags::{names_tags, strip_tags},
};

/// Trailers of more lines are not stored.
const MAX_LINES: usize = 64;

/// Nor are those of more bytes.
const MAX_BYTES: usize = 8 * 1024;

/// RFC 9110 §6.5.1: what is needed to frame, route, authorise or understand a message comes before its content. Nor may
/// a trailer change how a response is cached, which was decided without it.
const FORBIDDEN: [HeaderName; 32] = [
    header::AGE,
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::DATE,
    header::EXPECT,
    header::EXPIRES,
    header::HOST,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::LOCATION,
    header::MAX_FORWARDS,
    header::PRAGMA,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::RANGE,
    header::RETRY_AFTER,
    header::SET_COOKIE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::VARY,
    header::WWW_AUTHENTICATE,
];

/// The trailers that others than the first client may be given: not those that no trailer may be, nor those that the
/// response has named as `private` for one client (RFC 9111 §5.2.2.7).
pub(super) fn shared(trailers: &HeaderMap, private: &[HeaderName]) -> HeaderMap {
    let is_shared = |name: &HeaderName| {
        let speaks_to_caches = is_targeted(name) || names_tags(name);
        !FORBIDDEN.contains(name) && !speaks_to_caches && !private.contains(name)
    };
    trailers
        .iter()
        .filter(|(name, _)| is_shared(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Takes out what no client is given: the field for this cache alone, and those that name tags, which are passed on before
/// a body or not at all.
pub(super) fn hide(trailers: &mut HeaderMap, targets: &Targets) {
    targets.hide(trailers);
    strip_tags(trailers);
}

/// What `Trailer` says of them (RFC 9110 §6.6.2); servers send no trailer that it does not name.
pub(super) fn announce(trailers: &HeaderMap) -> Option<HeaderValue> {
    let names: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
    HeaderValue::from_str(&names.join(", ")).ok()
}

/// Whether so many trailers are stored.
pub(super) fn are_few(trailers: &HeaderMap) -> bool {
    let bytes = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
    trailers.len() <= MAX_LINES && trailers.iter().map(bytes).sum::<usize>() <= MAX_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_may_not_be_trailers_are_dropped() {
        let mut trailers = HeaderMap::new();
        let to_caches = [
            "cdn-cache-control",
            "a-cache-control",
            "cache-tag",
            "surrogate-key",
        ];
        let to_caches = to_caches.map(HeaderName::from_static);
        for name in FORBIDDEN.into_iter().chain(to_caches) {
            trailers.append(name, HeaderValue::from_static("1"));
        }
        assert!(shared(&trailers, &[]).is_empty());
    }

    #[test]
    fn several_lines_of_a_trailer_stay_several() {
        let mut trailers = HeaderMap::new();
        trailers.append("server-timing", HeaderValue::from_static("a"));
        trailers.append("server-timing", HeaderValue::from_static("b"));
        assert_eq!(shared(&trailers, &[]), trailers);
    }

    #[test]
    fn what_is_private_is_for_nobody_else() {
        let mut trailers = HeaderMap::new();
        trailers.append("x-user", HeaderValue::from_static("ada"));
        assert!(shared(&trailers, &[HeaderName::from_static("x-user")]).is_empty());
    }

    #[test]
    fn many_or_long_trailers_are_not_stored() {
        let mut trailers = HeaderMap::new();
        for _ in 0..MAX_LINES {
            trailers.append("x", HeaderValue::from_static("1"));
        }
        assert!(are_few(&trailers));
        trailers.append("x", HeaderValue::from_static("1"));
        assert!(!are_few(&trailers));
        let long = HeaderValue::from_bytes(&vec![b'x'; MAX_BYTES]).unwrap();
        assert!(!are_few(&HeaderMap::from_iter([(header::ETAG, long)])));
    }
}
