//! Which fields a stored response keeps, and what a 304 changes in it (RFC 9111 §3.1, §3.2, §4.3.4).

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{self, CONNECTION},
};
use smallvec::SmallVec;

use super::{
    conditional::EntityTag,
    date,
    directives::{ResponseDirectives, is_targeted},
    stored::MAX_FIELDS,
    text::tokens,
};
use crate::Timestamp;

/// RFC 9110 §7.6.1 and RFC 9111 §3.1: fields between two neighbours, and those for a proxy.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authentication-info"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Without these a stored response would be read wrongly or reused wrongly, so no other field can ask for their
/// removal (RFC 9110 §7.6.1: `Cache-Control` is never a connection option).
const ESSENTIAL: [HeaderName; 12] = [
    header::AGE,
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_LOCATION,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::DATE,
    header::ETAG,
    header::EXPIRES,
    header::LAST_MODIFIED,
    header::VARY,
];

/// RFC 9111 §3.2: what describes the stored body stays as it was stored.
const OF_THE_BODY: [HeaderName; 4] = [
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
];

/// Whether a stored response cannot do without the field.
pub(super) fn is_essential(name: &HeaderName) -> bool {
    ESSENTIAL.contains(name) || is_targeted(name)
}

/// Removes what is not stored: hop-by-hop fields, those that `Connection` names, and those that `private` and
/// `no-cache` name (RFC 9111 §5.2.2.4, §5.2.2.7; not keeping them is the strict reading of both).
pub(crate) fn strip_for_store(headers: &mut HeaderMap, directives: &ResponseDirectives) {
    for name in connection_options(headers) {
        headers.remove(name);
    }
    for name in directives
        .private_fields
        .iter()
        .chain(&directives.no_cache_fields)
    {
        headers.remove(name);
    }
    let own: SmallVec<[HeaderName; 2]> = headers
        .keys()
        .filter(|name| is_hop_by_hop(name))
        .cloned()
        .collect();
    for name in own {
        headers.remove(name);
    }
}

/// Brings the fields of a stored response up to date from the 304 that validated it.
///
/// The age starts anew: `Date` and `Age` are the 304's or gone, for a handler seldom sends a `Date` and the old one
/// would make the response old at once. `Set-Cookie` is left to the one client that asked (ours). What the merged
/// response says decides the rest: [`strip_for_store`] and the policy are to be applied to it again.
pub(crate) fn freshen(stored: &mut HeaderMap, from_304: &HeaderMap) {
    let connection = connection_options(from_304);
    stored.remove(header::AGE);
    stored.remove(header::DATE);
    for name in from_304.keys() {
        let stays = OF_THE_BODY.contains(name)
            || is_hop_by_hop(name)
            || connection.contains(name)
            || name == header::SET_COOKIE;
        if stays {
            continue;
        }
        stored.remove(name);
        for value in from_304.get_all(name) {
            // Beyond this, fields are not stored; a full map would panic.
            if stored.len() < MAX_FIELDS {
                stored.append(name, value.clone());
            }
        }
    }
}

/// Whether a 304 to a request made from the stored response speaks of it (RFC 9111 §4.3.4).
///
/// A validator in the 304 has to be the stored one: a strong `ETag` byte for byte, a weak one weakly, and without an
/// `ETag` the `Last-Modified`. A 304 with no validator can only be about the one that it was asked about.
pub(crate) fn is_about(stored: &HeaderMap, from_304: &HeaderMap) -> bool {
    if let Some(new) = from_304.get(header::ETAG).map(EntityTag::new) {
        let known = stored.get(header::ETAG).map(EntityTag::new);
        return known.is_some_and(|known| match new.is_weak {
            true => known.opaque == new.opaque,
            false => known == new,
        });
    }
    match (
        from_304.get(header::LAST_MODIFIED),
        stored.get(header::LAST_MODIFIED),
    ) {
        (Some(new), Some(known)) => is_same_date(new, known),
        _ => true,
    }
}

/// What the answer to a HEAD says of a stored response (RFC 9111 §4.3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ByHead {
    /// It is the current one.
    Current,
    /// It is not.
    Outdated,
    /// Nothing. Ours: where no validator came with the answer, a length that is the same is no proof.
    Unknown,
}

/// Compares the answer to a HEAD with a stored response whose body has this length.
pub(crate) fn by_head(stored: &HeaderMap, body_len: usize, from_head: &HeaderMap) -> ByHead {
    let agrees = |name: HeaderName, same: fn(&HeaderValue, &HeaderValue) -> bool| {
        let new = from_head.get(&name)?;
        Some(stored.get(&name).is_some_and(|known| same(known, new)))
    };
    let etag = agrees(header::ETAG, |one, other| {
        EntityTag::new(one) == EntityTag::new(other)
    });
    let modified = agrees(header::LAST_MODIFIED, is_same_date);
    let length = from_head.get(header::CONTENT_LENGTH);
    let is_of_length = length.is_none_or(|length| {
        let length = length.to_str().ok().and_then(|text| text.parse().ok());
        length == Some(body_len)
    });
    if !is_of_length || etag == Some(false) || modified == Some(false) {
        return ByHead::Outdated;
    }
    match etag.or(modified) {
        Some(_) => ByHead::Current,
        None => ByHead::Unknown,
    }
}

fn is_same_date(one: &HeaderValue, other: &HeaderValue) -> bool {
    let epoch = Timestamp::from_secs(0);
    let read = |value: &HeaderValue| date::parse(value.as_bytes(), epoch);
    one == other || read(one).is_some_and(|date| read(other) == Some(date))
}

fn connection_options(headers: &HeaderMap) -> SmallVec<[HeaderName; 2]> {
    tokens(headers, &CONNECTION)
        .filter_map(|option| HeaderName::from_bytes(option).ok())
        .filter(|name| !is_essential(name))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http::directives::Targets;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &'static str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        lines.iter().map(line).collect()
    }

    fn stripped(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = headers(lines);
        let directives = ResponseDirectives::read(&headers, &Targets::default());
        strip_for_store(&mut headers, &directives);
        headers
    }

    #[test]
    fn hop_by_hop_fields_are_not_stored() {
        let kept = stripped(&[
            ("connection", "close"),
            ("keep-alive", "timeout=5"),
            ("proxy-authenticate", "Basic"),
            ("proxy-authentication-info", "x"),
            ("proxy-authorization", "x"),
            ("proxy-connection", "close"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("x-kept", "1"),
        ]);
        assert_eq!(kept, headers(&[("x-kept", "1")]));
    }

    #[test]
    fn fields_that_connection_names_are_not_stored() {
        let kept = stripped(&[
            ("connection", "A, b, no such field"),
            ("connection", "C"),
            ("a", "1"),
            ("b", "2"),
            ("c", "3"),
            ("d", "4"),
        ]);
        assert_eq!(kept, headers(&[("d", "4")]));
    }

    #[test]
    fn connection_cannot_take_away_what_reuse_depends_on() {
        let kept = stripped(&[
            (
                "connection",
                "cache-control, larder-cache-control, vary, content-encoding, etag",
            ),
            ("cache-control", "max-age=1"),
            ("larder-cache-control", "max-age=1"),
            ("content-encoding", "gzip"),
            ("etag", "\"a\""),
            ("vary", "accept-encoding"),
        ]);
        assert_eq!(kept.len(), 5);
    }

    #[test]
    fn fields_that_qualified_directives_name_are_not_stored() {
        let kept = stripped(&[
            ("cache-control", "private=\"set-cookie\", no-cache=\"A, b\""),
            ("set-cookie", "id=1"),
            ("a", "1"),
            ("b", "2"),
            ("c", "3"),
        ]);
        assert!(kept.contains_key("c") && kept.len() == 2, "{kept:?}");
    }

    #[test]
    fn a_304_replaces_fields_by_name() {
        let mut stored = headers(&[
            ("cache-control", "max-age=1"),
            ("content-type", "text/plain"),
            ("content-length", "36"),
            ("x", "1"),
            ("x", "2"),
            ("y", "kept"),
        ]);
        freshen(
            &mut stored,
            &headers(&[
                ("cache-control", "max-age=3600"),
                ("connection", "z"),
                ("content-encoding", "gzip"),
                ("content-length", "0"),
                ("content-range", "bytes 0-1/2"),
                ("content-type", "text/html"),
                ("set-cookie", "id=1"),
                ("x", "3"),
                ("z", "1"),
            ]),
        );
        let expected = headers(&[
            ("cache-control", "max-age=3600"),
            ("content-type", "text/plain"),
            ("content-length", "36"),
            ("x", "3"),
            ("y", "kept"),
        ]);
        assert_eq!(stored, expected);
    }

    #[test]
    fn a_304_without_a_date_leaves_none() {
        let mut stored = headers(&[("date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("age", "5")]);
        freshen(&mut stored, &HeaderMap::new());
        assert_eq!(stored, HeaderMap::new());
    }

    #[test]
    fn a_304_speaks_of_the_response_with_its_validator() {
        let (day, other) = (
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Mon, 07 Nov 1994 08:49:37 GMT",
        );
        let (etag, modified) = ("etag", "last-modified");
        for (stored, from_304, expected) in [
            (&[(etag, "\"a\"")][..], &[(etag, "\"a\"")][..], true),
            (&[(etag, "\"a\"")], &[(etag, "\"b\"")], false),
            (&[(etag, "\"a\"")], &[(etag, "W/\"a\"")], true),
            (&[(etag, "W/\"a\"")], &[(etag, "\"a\"")], false),
            (&[(etag, "W/\"a\"")], &[(etag, "W/\"a\"")], true),
            (&[(etag, "\"a\"")], &[], true),
            (&[(modified, day)], &[(etag, "\"a\"")], false),
            (&[(modified, day)], &[(modified, day)], true),
            (
                &[(modified, day)],
                &[(modified, "Sunday, 06-Nov-94 08:49:37 GMT")],
                true,
            ),
            (&[(modified, day)], &[(modified, other)], false),
            (
                &[(etag, "\"a\""), (modified, day)],
                &[(etag, "\"a\""), (modified, other)],
                true,
            ),
            (&[(etag, "\"a\"")], &[(modified, day)], true),
        ] {
            let about = is_about(&headers(stored), &headers(from_304));
            assert_eq!(about, expected, "{stored:?} {from_304:?}");
        }
    }

    #[test]
    fn a_head_s_validators_and_length_have_to_be_the_stored_ones() {
        let (day, other) = (
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Mon, 07 Nov 1994 08:49:37 GMT",
        );
        let (etag, modified, length) = ("etag", "last-modified", "content-length");
        let stored = headers(&[(etag, "\"a\""), (modified, day)]);
        for (from_head, expected) in [
            (&[(etag, "\"a\"")][..], ByHead::Current),
            (&[(modified, day)], ByHead::Current),
            (
                &[(modified, "Sunday, 06-Nov-94 08:49:37 GMT")],
                ByHead::Current,
            ),
            (&[(etag, "\"a\""), (length, "5")], ByHead::Current),
            (&[(etag, "\"a\""), (length, "6")], ByHead::Outdated),
            (&[(etag, "\"a\""), (length, "x")], ByHead::Outdated),
            (&[(etag, "W/\"a\"")], ByHead::Outdated),
            (&[(etag, "\"b\"")], ByHead::Outdated),
            (&[(etag, "\"a\""), (modified, other)], ByHead::Outdated),
            (&[(length, "6")], ByHead::Outdated),
            (&[(length, "5")], ByHead::Unknown),
            (&[], ByHead::Unknown),
        ] {
            assert_eq!(
                by_head(&stored, 5, &headers(from_head)),
                expected,
                "{from_head:?}"
            );
        }
        let bare = HeaderMap::new();
        assert_eq!(
            by_head(&bare, 5, &headers(&[(etag, "\"a\"")])),
            ByHead::Outdated
        );
    }

    proptest! {
        #[test]
        fn no_connection_field_makes_it_panic(line: Vec<u8>) {
            let mut map = HeaderMap::new();
            map.extend(HeaderValue::from_bytes(&line).ok().map(|line| (CONNECTION, line)));
            strip_for_store(&mut map, &ResponseDirectives::default());
            prop_assert!(map.is_empty());
        }
    }
}
