//! The cache key of a request: scheme, authority, path and query (RFC 9111 §2).

use std::sync::Arc;

use http::{Extensions, HeaderMap, HeaderValue, Uri, Version, header::HOST, uri::Authority};

use super::policies::{Policies, Policy};
use crate::key::{KeyBuf, KeyHead};

/// The key of the effective request URI, or `None` where it cannot be told: see [`Keyed::write_base`].
pub(super) fn base<'p>(
    head: &KeyHead,
    policies: Option<&'p Policies>,
    uri: &Uri,
    host: Host<'_>,
    extensions: &Extensions,
) -> Option<Keyed<'p>> {
    let mut keyed = Keyed::empty();
    let is_told = keyed.write_base(head, policies, uri, host, extensions);
    is_told.then_some(keyed)
}

/// The key of a URI in its parts.
pub(super) fn of<'p>(
    head: &KeyHead,
    policies: Option<&'p Policies>,
    scheme: Option<&str>,
    authority: &[u8],
    path_and_query: &str,
) -> Keyed<'p> {
    let mut keyed = Keyed::empty();
    keyed.write(head, policies, scheme, authority, path_and_query);
    keyed
}

/// The key of a URI, and the policy of its route.
pub(super) struct Keyed<'p> {
    pub(super) key: KeyBuf,
    pub(super) policy: Option<&'p Arc<Policy>>,
}

impl<'p> Keyed<'p> {
    /// A key that is still to be written, in the place where it is to stay.
    #[inline]
    pub(super) const fn empty() -> Self {
        Self {
            key: KeyBuf::new(),
            policy: None,
        }
    }

    /// Writes the key of the effective request URI; `false` where it cannot be told: several `Host` fields, one that is
    /// no authority, or one that is not the URI's.
    ///
    /// The authority is the URI's own where it has one, as in absolute form and HTTP/2, else `Host`; lower-cased, and
    /// without the port that its scheme has by default (RFC 9110 §4.2.3).
    #[inline]
    pub(super) fn write_base(
        &mut self,
        head: &KeyHead,
        policies: Option<&'p Policies>,
        uri: &Uri,
        host: Host<'_>,
        extensions: &Extensions,
    ) -> bool {
        let uri = original_uri(extensions).unwrap_or(uri);
        let authority = match (uri.authority(), host) {
            (None, Host::Several) => return false,
            (None, Host::None) => &b""[..],
            (None, Host::One(host)) => host.as_bytes(),
            (Some(_), host) if !agrees(uri, host) => return false,
            (Some(authority), _) => without_userinfo(authority),
        };
        let path_and_query = uri.path_and_query().map_or("/", |path| path.as_str());
        self.write(head, policies, uri.scheme_str(), authority, path_and_query)
    }

    /// Writes the key of a URI in its parts; `false` where the authority is none. Every key of a URI is made here, so
    /// that whoever invalidates means the same as whoever stores.
    fn write(
        &mut self,
        head: &KeyHead,
        policies: Option<&'p Policies>,
        scheme: Option<&str>,
        authority: &[u8],
        path_and_query: &str,
    ) -> bool {
        let key = &mut self.key;
        key.push(head.encoded());
        let authority = match scheme {
            None => {
                key.push(b"http://");
                without_port(b":80", authority)
            }
            Some(scheme) => {
                key.push(scheme.as_bytes());
                key.push(b"://");
                without_default_port(scheme, authority)
            }
        };
        let is_authority = key.push_by(authority, &LOWERCASE_IN_AUTHORITY);
        // "http://host?query" and "http://host/?query" are the same (RFC 9110 §4.2.3); "*" is no path (RFC 9112 §3.2.4).
        if !path_and_query.starts_with(['/', '*']) {
            key.push(b"/");
        }
        self.policy = policies.and_then(|policies| push_by_policy(policies, path_and_query, key));
        if self.policy.is_none() {
            key.push(path_and_query.as_bytes());
        }
        is_authority
    }
}

/// Writes path and query as the policy of the route has them; nothing where there is none.
fn push_by_policy<'p>(
    policies: &'p Policies,
    path_and_query: &str,
    key: &mut KeyBuf,
) -> Option<&'p Arc<Policy>> {
    let end = path_and_query.find('?').unwrap_or(path_and_query.len());
    let (path, query) = path_and_query.split_at(end);
    let policy = policies.find(if path.is_empty() { "/" } else { path })?;
    key.push(path.as_bytes());
    if let Some(query) = query.strip_prefix('?') {
        let rule = &policy.parts.query;
        if rule.write(query, |part| key.push(part.as_bytes())) {
            policy.tell_of_query();
        }
    }
    Some(policy)
}

/// What a request has in `Host`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Host<'a> {
    None,
    One(&'a HeaderValue),
    Several,
}

impl<'a> Host<'a> {
    pub(super) fn read(headers: &'a HeaderMap) -> Self {
        headers.get_all(HOST).iter().fold(Self::None, Self::and)
    }

    /// With one more line of the field.
    pub(super) fn and(self, value: &'a HeaderValue) -> Self {
        match self {
            Self::None => Self::One(value),
            _ => Self::Several,
        }
    }
}

/// Whether `Host` names the authority that the URI has. A handler that goes by the field where RFC 9112 §3.2.2 has it
/// ignored would otherwise answer for one host what is stored for another.
fn agrees(uri: &Uri, host: Host<'_>) -> bool {
    let (authority, host) = match (uri.authority(), host) {
        (Some(authority), Host::One(host)) => (authority, host),
        (_, host) => return !matches!(host, Host::Several),
    };
    let scheme = uri.scheme_str().unwrap_or("http");
    let own = without_default_port(scheme, without_userinfo(authority));
    own.eq_ignore_ascii_case(without_default_port(scheme, host.as_bytes()))
}

/// Whether a request names its authority in no other way than its key does, so that a handler which goes by the letter
/// answers it as it answers everyone.
///
/// RFC 9110 §4.2.3 has `Example.org:80` and `example.org` mean the same, and so they share what is stored; but a handler
/// may know one of them only, or build links from it, and behind a proxy that speaks TLS `:80` is not the port of the
/// links. The same goes for userinfo (§4.2.4), and for HTTP/1 without a `Host` (RFC 9112 §3.2).
pub(super) fn is_plain(
    uri: &Uri,
    host: Host<'_>,
    extensions: &Extensions,
    version: Version,
) -> bool {
    let uri = original_uri(extensions).unwrap_or(uri);
    let scheme = uri.scheme_str().unwrap_or("http");
    let is_plain = |authority: &[u8]| {
        without_default_port(scheme, authority) == authority
            && !authority.iter().any(u8::is_ascii_uppercase)
    };
    match (uri.authority(), host) {
        (_, Host::Several) => false,
        (None, Host::None) => true,
        (None, Host::One(host)) => is_plain(host.as_bytes()),
        (Some(authority), Host::One(host)) => {
            let text = authority.as_str().as_bytes();
            text == host.as_bytes() && without_userinfo(authority) == text && is_plain(text)
        }
        (Some(authority), Host::None) => {
            let text = authority.as_str().as_bytes();
            version >= Version::HTTP_2 && without_userinfo(authority) == text && is_plain(text)
        }
    }
}

/// The authority that a request is for.
pub(super) fn authority<'a>(uri: &'a Uri, host: Host<'a>) -> Option<&'a [u8]> {
    if let Some(authority) = uri.authority() {
        return Some(without_userinfo(authority));
    }
    match host {
        Host::None => Some(b""),
        Host::One(host) => host_only(host.as_bytes()),
        Host::Several => None,
    }
}

/// A host as it is, unless it has in it what could end an authority: that would let one host name another's URI.
pub(super) fn host_only(host: &[u8]) -> Option<&[u8]> {
    host.iter()
        .all(|&byte| LOWERCASE_IN_AUTHORITY[usize::from(byte)] != 0)
        .then_some(host)
}

/// The bytes of an authority in lower case; zero for those that an authority does not have.
static LOWERCASE_IN_AUTHORITY: [u8; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let byte = at as u8;
        if byte.is_ascii_graphic() && !matches!(byte, b'/' | b'?' | b'#' | b'@' | b'\\') {
            table[at] = byte.to_ascii_lowercase();
        }
        at += 1;
    }
    table
};

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

pub(super) fn without_default_port<'a>(scheme: &str, authority: &'a [u8]) -> &'a [u8] {
    without_port(if scheme == "https" { b":443" } else { b":80" }, authority)
}

fn without_port<'a>(port: &[u8], authority: &'a [u8]) -> &'a [u8] {
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
        let host = Host::read(request.headers());
        let key = base(&head, None, request.uri(), host, request.extensions())?.key;
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
    fn a_host_field_beside_the_uri_s_own_authority_has_to_agree_with_it() {
        assert_eq!(
            key("https://one.example/", Some("One.example:443")).unwrap(),
            "https://one.example/"
        );
        assert_eq!(key("http://one.example/", Some("two.example")), None);
    }

    #[test]
    fn what_is_no_path_is_not_taken_for_one() {
        assert_eq!(key("*", Some("a.example")).unwrap(), "http://a.example*");
        assert_ne!(key("*", Some("a.example")), key("/*", Some("a.example")));
        assert_ne!(key("*", Some("a*")), key("/", Some("a**")));
    }

    #[test]
    fn only_one_spelling_of_an_authority_is_plain() {
        let is_plain = |uri: &str, host: Option<&str>, version| {
            let mut request = Request::builder().uri(uri).body(()).unwrap();
            if let Some(host) = host {
                let host = HeaderValue::from_str(host).unwrap();
                request.headers_mut().insert(HOST, host);
            }
            let host = Host::read(request.headers());
            is_plain(request.uri(), host, request.extensions(), version)
        };
        for (uri, host) in [
            ("/", None),
            ("/", Some("a.example")),
            ("/", Some("a.example:8080")),
            ("/", Some("[::1]")),
            ("http://a.example/", Some("a.example")),
            ("https://a.example:80/", Some("a.example:80")),
        ] {
            assert!(is_plain(uri, host, Version::HTTP_11), "{uri} {host:?}");
        }
        for (uri, host) in [
            ("/", Some("A.example")),
            ("/", Some("a.example:80")),
            ("/", Some("a.example:")),
            ("http://a.example/", Some("a.example:80")),
            ("http://a.example:80/", Some("a.example:80")),
            ("http://me@a.example/", Some("a.example")),
            ("http://me@a.example/", Some("me@a.example")),
            ("https://a.example:443/", Some("a.example")),
            ("http://a.example/", None),
        ] {
            assert!(!is_plain(uri, host, Version::HTTP_11), "{uri} {host:?}");
        }
        assert!(is_plain("http://a.example/", None, Version::HTTP_2));
        assert!(!is_plain("http://A.example/", None, Version::HTTP_2));
        assert!(!is_plain("http://me@a.example/", None, Version::HTTP_2));
    }

    #[test]
    fn a_host_that_could_name_another_s_uri_has_no_key() {
        assert_eq!(key("/b", Some("example.org/a")), None);
        assert_eq!(key("/b", Some("user@example.org")), None);
    }
}
