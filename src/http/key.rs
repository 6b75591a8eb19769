//! The cache key of a request: scheme, authority, path and query (RFC 9111 §2).

use http::{Extensions, HeaderMap, Uri, header::HOST, uri::Authority};

use crate::key::{KeyBuf, KeyHead};

/// The key of the effective request URI, or `None` where it cannot be told: several `Host` fields, or one that is no
/// authority.
///
/// The authority is the URI's own where it has one, as in absolute form and HTTP/2, else `Host`; lower-cased, and without
/// the port that its scheme has by default (RFC 9110 §4.2.3).
pub(super) fn base(
    head: &KeyHead,
    uri: &Uri,
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Option<KeyBuf> {
    let uri = original_uri(extensions).unwrap_or(uri);
    let authority = authority(uri, headers)?;
    Some(of(
        head,
        uri.scheme_str(),
        authority,
        uri.path(),
        uri.query(),
    ))
}

/// The key of a URI of the same origin as a request's, for invalidation.
pub(super) fn of(
    head: &KeyHead,
    scheme: Option<&str>,
    authority: &[u8],
    path: &str,
    query: Option<&str>,
) -> KeyBuf {
    let scheme = scheme.unwrap_or("http");
    let mut key = head.start();
    key.push(scheme.as_bytes());
    key.push(b"://");
    key.push_lowercase(without_default_port(scheme, authority));
    // "http://host" and "http://host/" are the same (RFC 9110 §4.2.3).
    key.push(if path.is_empty() {
        b"/"
    } else {
        path.as_bytes()
    });
    if let Some(query) = query {
        key.push(b"?");
        key.push(query.as_bytes());
    }
    key
}

/// The authority that a request is for.
pub(super) fn authority<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a [u8]> {
    if let Some(authority) = uri.authority() {
        return Some(without_userinfo(authority));
    }
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => Some(b""),
        (Some(host), None) => {
            let host = host.as_bytes();
            // What could end an authority would let one host name another's URI.
            let plain = |byte: &u8| byte.is_ascii_graphic() && !b"/?#@\\".contains(byte);
            host.iter().all(plain).then_some(host)
        }
        _ => None,
    }
}

/// The URI that the client asked for: inside nested routers axum keeps it, and the request's own lacks the prefix.
pub(super) fn original_uri(extensions: &Extensions) -> Option<&Uri> {
    #[cfg(feature = "axum")]
    return crate::axum::original_uri(extensions);
    #[cfg(not(feature = "axum"))]
    {
        let _ = extensions;
        None
    }
}

fn without_userinfo(authority: &Authority) -> &[u8] {
    let text = authority.as_str();
    text.rsplit_once('@')
        .map_or(text, |(_, host)| host)
        .as_bytes()
}

fn without_default_port<'a>(scheme: &str, authority: &'a [u8]) -> &'a [u8] {
    let port: &[u8] = if scheme == "https" { b":443" } else { b":80" };
    authority
        .strip_suffix(port)
        .or(authority.strip_suffix(b":"))
        .unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request};

    use super::*;
    use crate::KeySpace;

    fn key(uri: &str, host: Option<&str>) -> Option<String> {
        let mut request = Request::builder().uri(uri).body(()).unwrap();
        if let Some(host) = host {
            request
                .headers_mut()
                .insert(HOST, HeaderValue::from_str(host).unwrap());
        }
        let head = KeyHead::new("t", KeySpace::Response, None);
        let key = base(
            &head,
            request.uri(),
            request.headers(),
            request.extensions(),
        )?;
        Some(String::from_utf8_lossy(key.as_key_ref().name()).into_owned())
    }

    #[test]
    fn the_host_is_part_of_the_key_in_lower_case_and_without_its_default_port() {
        assert_eq!(
            key("/a?b=1", Some("Example.ORG:80")).unwrap(),
            "http://example.org/a?b=1"
        );
        assert_eq!(
            key("http://example.org:80", None).unwrap(),
            "http://example.org/"
        );
        assert_eq!(
            key("https://example.org:443/a", None).unwrap(),
            "https://example.org/a"
        );
        assert_eq!(
            key("/a", Some("example.org:8080")).unwrap(),
            "http://example.org:8080/a"
        );
    }

    #[test]
    fn the_uri_s_own_authority_wins_over_the_host_field() {
        assert_eq!(
            key("http://one.example/", Some("two.example")).unwrap(),
            "http://one.example/"
        );
    }

    #[test]
    fn a_host_that_could_name_another_s_uri_has_no_key() {
        assert_eq!(key("/b", Some("example.org/a")), None);
        assert_eq!(key("/b", Some("user@example.org")), None);
    }
}
