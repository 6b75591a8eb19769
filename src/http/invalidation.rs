//! What a request that changes something makes untrue (RFC 9111 §4.4).

use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{CONTENT_LOCATION, LOCATION},
    uri::PathAndQuery,
};
use smallvec::SmallVec;

use super::text::trim;

/// A longer reference is not looked at.
const MAX_REFERENCE: usize = 8 * 1024;

/// Whether a method only reads (RFC 9110 §9.2.1). One that is not known here may do anything.
pub(crate) fn is_safe(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE].contains(method)
}

/// Whether an answer to `method` ends what is stored for its URI. A failed request changed nothing.
pub(crate) fn invalidates(method: &Method, status: StatusCode) -> bool {
    !is_safe(method) && (status.is_success() || status.is_redirection())
}

/// The target URI of a request, in its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    pub(crate) scheme: &'a str,
    /// Host and port, in any letter case, with the default port or without.
    pub(crate) authority: &'a str,
    pub(crate) path_and_query: &'a str,
}

impl Target<'_> {
    /// What `Location` and `Content-Location` name besides the target itself: paths and queries at the authority of
    /// the target, for other origins are not this response's to speak for (RFC 9111 §4.4).
    pub(crate) fn also_invalidated(&self, response: &HeaderMap) -> SmallVec<[PathAndQuery; 2]> {
        let references = [LOCATION, CONTENT_LOCATION]
            .into_iter()
            .filter_map(|name| response.get(name));
        let mut targets = SmallVec::new();
        for target in references.filter_map(|reference| self.resolve(reference)) {
            if target.as_str() != self.path_and_query && !targets.contains(&target) {
                targets.push(target);
            }
        }
        targets
    }

    /// Whether a response says that it is what a GET of the target would bring, as one to a POST must in order to be
    /// stored (RFC 9110 §9.3.3).
    pub(crate) fn is_content_location(&self, response: &HeaderMap) -> bool {
        let mut lines = response.get_all(CONTENT_LOCATION).iter();
        let (Some(reference), None) = (lines.next(), lines.next()) else {
            return false;
        };
        self.resolve(reference)
            .is_some_and(|target| target.as_str() == self.path_and_query)
    }

    /// Resolves a reference against the target (RFC 3986 §5.2); `None` for another origin and for what is no URI.
    fn resolve(&self, reference: &HeaderValue) -> Option<PathAndQuery> {
        let reference = std::str::from_utf8(trim(reference.as_bytes())).ok()?;
        let is_plain = reference
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
        (is_plain && reference.len() <= MAX_REFERENCE).then_some(())?;
        let reference = reference.split('#').next().unwrap_or_default();
        let reference = match scheme_of(reference) {
            Some(scheme) => {
                scheme.eq_ignore_ascii_case(self.scheme).then_some(())?;
                let rest = &reference[scheme.len() + 1..];
                // An URI with a scheme and without an authority is not one of HTTP.
                rest.starts_with("//").then_some(rest)?
            }
            None => reference,
        };
        let (path, query) = match reference.strip_prefix("//") {
            Some(rest) => {
                let end = rest.find(['/', '?']).unwrap_or(rest.len());
                let (authority, rest) = rest.split_at(end);
                self.is_authority(authority).then_some(())?;
                let (path, query) = divide(rest);
                (
                    without_dots(if path.is_empty() { "/" } else { path }),
                    query,
                )
            }
            None => self.merge(reference),
        };
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        PathAndQuery::try_from(path + &query).ok()
    }

    /// The path and query of a reference that has neither scheme nor authority.
    fn merge<'r>(&'r self, reference: &'r str) -> (String, Option<&'r str>) {
        let (base, base_query) = divide(self.path_and_query);
        let base = if base.starts_with('/') { base } else { "/" };
        let (path, query) = divide(reference);
        if path.is_empty() {
            return (base.to_owned(), query.or(base_query));
        }
        if path.starts_with('/') {
            return (without_dots(path), query);
        }
        let folder = base.rfind('/').map_or("/", |end| &base[..=end]);
        (without_dots(&format!("{folder}{path}")), query)
    }

    fn is_authority(&self, authority: &str) -> bool {
        let own = self.without_default_port(self.authority);
        own.eq_ignore_ascii_case(self.without_default_port(authority))
    }

    fn without_default_port<'a>(&self, authority: &'a str) -> &'a str {
        let default = if self.scheme.eq_ignore_ascii_case("https") {
            ":443"
        } else {
            ":80"
        };
        authority
            .strip_suffix(default)
            .or_else(|| authority.strip_suffix(':'))
            .unwrap_or(authority)
    }
}

/// The scheme at the start of a reference (RFC 3986 §3.1): a colon in a path does not end one.
fn scheme_of(reference: &str) -> Option<&str> {
    let end = reference.find([':', '/', '?'])?;
    let (scheme, rest) = reference.split_at(end);
    rest.starts_with(':').then_some(scheme)
}

fn divide(path_and_query: &str) -> (&str, Option<&str>) {
    match path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path_and_query, None),
    }
}

/// A path that starts with a slash, without its `.` and `..` segments (RFC 3986 §5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept: SmallVec<[&str; 16]> = SmallVec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
        if is_last && matches!(segment, "." | "..") {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TARGET: Target<'_> = Target {
        scheme: "http",
        authority: "Example.com:80",
        path_and_query: "/a/b/c?q",
    };

    fn resolved(reference: &str) -> Option<String> {
        let reference = HeaderValue::from_bytes(reference.as_bytes()).ok()?;
        TARGET
            .resolve(&reference)
            .map(|target| target.as_str().to_owned())
    }

    #[test]
    fn unsafe_and_unknown_methods_invalidate_when_they_succeed() {
        for method in ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "get"] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            for status in [200, 201, 204, 301, 303] {
                assert!(
                    invalidates(&method, StatusCode::from_u16(status).unwrap()),
                    "{method}"
                );
            }
            for status in [100, 400, 404, 500, 503] {
                assert!(
                    !invalidates(&method, StatusCode::from_u16(status).unwrap()),
                    "{method}"
                );
            }
        }
    }

    #[test]
    fn safe_methods_invalidate_nothing() {
        for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE] {
            assert!(!invalidates(&method, StatusCode::OK), "{method}");
        }
    }

    #[test]
    fn references_are_resolved_against_the_target() {
        for (reference, expected) in [
            ("http://example.com/x", "/x"),
            ("HTTP://EXAMPLE.COM:80/x?y#z", "/x?y"),
            ("http://example.com:/x", "/x"),
            ("http://example.com", "/"),
            ("http://example.com?x", "/?x"),
            ("//example.com/x", "/x"),
            ("/x", "/x"),
            ("/x/./y/../z", "/x/z"),
            ("x", "/a/b/x"),
            ("./x", "/a/b/x"),
            ("../x", "/a/x"),
            ("../../../x", "/x"),
            ("..", "/a/"),
            (".", "/a/b/"),
            ("x/..", "/a/b/"),
            ("./x:y", "/a/b/x:y"),
            ("?x", "/a/b/c?x"),
            ("#x", "/a/b/c?q"),
            ("", "/a/b/c?q"),
            ("x//y/", "/a/b/x//y/"),
            ("/x?../y", "/x?../y"),
        ] {
            assert_eq!(
                resolved(reference).as_deref(),
                Some(expected),
                "{reference:?}"
            );
        }
    }

    #[test]
    fn other_origins_and_what_is_no_reference_are_left_alone() {
        for reference in [
            "https://example.com/x",
            "http://example.com:8080/x",
            "http://example.org/x",
            "http://example.com.evil.org/x",
            "http://user@example.com/x",
            "//example.org/x",
            "///x",
            "mailto:a@example.com",
            "javascript:x",
            "x:y",
            "http:/x",
            "http:x",
            "/a b",
            "/\u{f6}",
            "\\\\example.com\\x",
            "/x\\..\\y",
        ] {
            assert_eq!(resolved(reference), None, "{reference:?}");
        }
        assert_eq!(resolved(&format!("/{}", "x".repeat(MAX_REFERENCE))), None);
    }

    #[test]
    fn the_default_port_depends_on_the_scheme() {
        let https = Target {
            scheme: "https",
            authority: "example.com",
            path_and_query: "/",
        };
        let resolve = |reference| {
            https
                .resolve(&HeaderValue::from_static(reference))
                .is_some()
        };
        assert!(resolve("https://example.com:443/x"));
        assert!(!resolve("https://example.com:80/x"));
    }

    #[test]
    fn location_and_content_location_are_invalidated_beside_the_target() {
        let response = |lines: &[(http::HeaderName, &'static str)]| -> HeaderMap {
            let line = |(name, value): &(http::HeaderName, &'static str)| {
                (name.clone(), HeaderValue::from_static(value))
            };
            lines.iter().map(line).collect()
        };
        let targets = TARGET.also_invalidated(&response(&[
            (LOCATION, "/x"),
            (CONTENT_LOCATION, "http://example.com/y"),
        ]));
        assert_eq!(targets[..], ["/x", "/y"]);
        let targets =
            TARGET.also_invalidated(&response(&[(LOCATION, "/x"), (CONTENT_LOCATION, "/x")]));
        assert_eq!(targets[..], ["/x"]);
        let itself = response(&[
            (CONTENT_LOCATION, "/a/b/c?q"),
            (LOCATION, "http://example.org/"),
        ]);
        assert!(TARGET.also_invalidated(&itself).is_empty());
        assert!(TARGET.is_content_location(&itself));
        assert!(!TARGET.is_content_location(&response(&[(CONTENT_LOCATION, "/a/b/c")])));
        assert!(!TARGET.is_content_location(&response(&[])));
    }

    proptest! {
        #[test]
        fn no_reference_makes_it_panic(reference: Vec<u8>, base in ".*") {
            if let Ok(reference) = HeaderValue::from_bytes(&reference) {
                let _ = TARGET.resolve(&reference);
                let _ = Target { path_and_query: &base, ..TARGET }.resolve(&reference);
            }
        }

        #[test]
        fn what_is_resolved_is_a_path_without_dot_segments(reference in "[a-z./?:#]{0,20}") {
            if let Some(target) = resolved(&reference).filter(|target| *target != "/a/b/c?q") {
                let path = target.split('?').next().unwrap();
                prop_assert!(path.starts_with('/'));
                prop_assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
            }
        }
    }
}
