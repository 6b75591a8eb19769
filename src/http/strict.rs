//! Strict mode: the inner service sees of a request what is in the key, and nothing else.

use http::{
    Extensions, HeaderMap, HeaderName, Method, Request, Uri,
    header::{CONTENT_LENGTH, COOKIE, HOST, IF_RANGE, RANGE},
    uri::PathAndQuery,
};

use super::{key, policies::KeyParts, vary::Vary};

/// What is seen whatever is declared: the host is in the key, and a length is zero, because a request with content is not
/// for the cache. The conditions by which a stored response is validated are added later, by the layer itself.
const ALWAYS: [HeaderName; 2] = [HOST, CONTENT_LENGTH];

/// What is seen of a request for ranges. An answer that was made from these is never stored, nor told of by one to HEAD.
const OF_RANGES: [HeaderName; 2] = [RANGE, IF_RANGE];

/// Takes out of a request what its key has not: the parameters of the query that a policy leaves out, cookies and fields
/// that it does not name, `Authorization` among them.
///
/// What is left is a function of the key, so that requests which share an answer are one to the inner service. The values of
/// fields are as they were sent, though the key has them normalised, as `Vary` does (RFC 9111 §4.1).
pub(super) fn narrow<B>(request: &mut Request<B>, parts: Option<&KeyParts>) {
    let is_of_ranges = request.method() == Method::GET && request.headers().contains_key(RANGE);
    narrow_fields(request.headers_mut(), parts, is_of_ranges);
    let Some(parts) = parts else {
        return;
    };
    if let Some(uri) = narrowed(request.uri(), parts) {
        *request.uri_mut() = uri;
    }
    let original = key::original_uri(request.extensions());
    if let Some(uri) = original.and_then(|uri| narrowed(uri, parts)) {
        set_original_uri(request.extensions_mut(), uri);
    }
}

fn narrow_fields(headers: &mut HeaderMap, parts: Option<&KeyParts>, is_of_ranges: bool) {
    let declared = parts.map_or(&[][..], |parts| &parts.headers);
    let cookies = match parts {
        Some(parts) if !declared.contains(&COOKIE) => parts.cookies_of(headers),
        _ => Vec::new(),
    };
    let is_seen = |name: &HeaderName| {
        ALWAYS.contains(name) || is_of_ranges && OF_RANGES.contains(name) || declared.contains(name)
    };
    let is_hidden = |name: &&HeaderName| !is_seen(name);
    let hidden: Vec<_> = headers.keys().filter(is_hidden).cloned().collect();
    for name in hidden {
        headers.remove(name);
    }
    for cookie in cookies {
        headers.append(COOKIE, cookie);
    }
}

/// The URI with the query that its key has, where that is another one.
fn narrowed(uri: &Uri, parts: &KeyParts) -> Option<Uri> {
    let query = uri.query()?;
    let mut target = uri.path().to_owned();
    parts.query.write(query, |part| target.push_str(part));
    if uri.path_and_query().is_some_and(|own| *own == *target) {
        return None;
    }
    let mut whole = uri.clone().into_parts();
    // Parts of a query, put together again, are a query.
    whole.path_and_query = PathAndQuery::try_from(target).ok();
    Uri::from_parts(whole).ok()
}

#[cfg_attr(
    not(feature = "axum"),
    expect(unused_variables, reason = "only axum keeps the original URI")
)]
fn set_original_uri(extensions: &mut Extensions, uri: Uri) {
    #[cfg(feature = "axum")]
    crate::axum::set_original_uri(extensions, uri);
}

/// Whether a response says that it varies by what its handler was not shown.
///
/// A handler that means what it says is in need of a declaration, and one that says more than it means loses nothing but
/// its place in the store.
pub(super) fn varies_by_undeclared(vary: &[HeaderName], parts: Option<&KeyParts>) -> bool {
    let is_declared = |name: &HeaderName| {
        *name == HOST
            || parts.is_some_and(|parts| {
                parts.headers.contains(name) || *name == COOKIE && !parts.cookies.is_empty()
            })
    };
    !vary.iter().all(is_declared)
}

/// The fields that a response names in `Vary`; none for `*`, which is refused for itself.
pub(super) fn named_in_vary(headers: &HeaderMap) -> Vec<HeaderName> {
    match Vary::parse(headers) {
        Vary::Fields(fields) => fields,
        Vary::None | Vary::Star => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::{CachePolicy, QueryKey, http::policies::Policy};

    fn parts(policy: CachePolicy) -> KeyParts {
        let mut problems = Vec::new();
        let parts = Policy::new("/", policy, &mut problems).parts;
        assert_eq!(problems, [""; 0]);
        parts
    }

    fn request(uri: &str, fields: &[(&'static str, &str)]) -> Request<()> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    fn seen(policy: CachePolicy, mut request: Request<()>) -> (String, Vec<(String, String)>) {
        narrow(&mut request, Some(&parts(policy)));
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        let headers = request.headers().iter();
        let headers = headers.map(|(name, value)| (name.to_string(), text(value)));
        (request.uri().to_string(), headers.collect())
    }

    fn fields(fields: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        fields.iter().map(owned).collect()
    }

    const NOSY: [(&str, &str); 6] = [
        ("host", "a.example"),
        ("authorization", "Bearer 1"),
        ("cookie", "sid=1; theme=dark"),
        ("accept-language", "de"),
        ("cache-control", "no-cache"),
        ("if-none-match", "\"a\""),
    ];

    #[test]
    fn without_a_policy_the_whole_uri_is_seen_and_of_the_fields_the_host() {
        let mut request = request("/a?b=1&c", &NOSY);
        narrow(&mut request, None);
        assert_eq!(request.uri(), "/a?b=1&c");
        assert_eq!(request.headers().len(), 1);
        assert_eq!(request.headers()["host"], "a.example");
    }

    #[test]
    fn ranges_are_seen_where_they_are_asked_for() {
        let fields = [("range", "bytes=0-1"), ("if-range", "\"a\"")];
        let left = |method: Method, fields: &[(&'static str, &str)]| {
            let mut request = request("/", fields);
            *request.method_mut() = method;
            narrow(&mut request, None);
            request.headers().len()
        };
        assert_eq!(left(Method::GET, &fields), 2);
        assert_eq!(left(Method::GET, &fields[1..]), 0);
        assert_eq!(left(Method::HEAD, &fields), 0);
    }

    #[test]
    fn what_is_declared_is_seen() {
        let policy = CachePolicy::new()
            .query(QueryKey::only(["b"]))
            .vary_by_header("accept-language")
            .vary_by_cookie("theme");
        let (uri, headers) = seen(policy, request("http://a.example/a?x=1&b=2&y", &NOSY));
        assert_eq!(uri, "http://a.example/a?b=2");
        let expected = [
            ("host", "a.example"),
            ("accept-language", "de"),
            ("cookie", "theme=dark"),
        ];
        assert_eq!(headers, fields(&expected));
    }

    #[test]
    fn a_query_is_seen_in_the_order_of_the_key() {
        let policy = || CachePolicy::new().sort_query(true);
        assert_eq!(seen(policy(), request("/?b=2&a=1", &[])).0, "/?a=1&b=2");
        let none = CachePolicy::new().query(QueryKey::None);
        assert_eq!(seen(none, request("/?b=2&a=1", &[])).0, "/");
    }

    #[test]
    fn all_cookies_are_seen_where_the_field_is_declared() {
        let policy = CachePolicy::new().vary_by_header("cookie");
        let (_, headers) = seen(policy, request("/", &NOSY[2..3]));
        assert_eq!(headers, fields(&NOSY[2..3]));
    }

    #[test]
    fn a_vary_of_what_is_not_declared_is_told() {
        let declared = parts(
            CachePolicy::new()
                .vary_by_header("accept")
                .vary_by_cookie("theme"),
        );
        let undeclared = |vary: &str, parts: Option<&KeyParts>| {
            let mut headers = HeaderMap::new();
            headers.insert("vary", HeaderValue::from_str(vary).unwrap());
            varies_by_undeclared(&named_in_vary(&headers), parts)
        };
        for fine in ["", "Accept", "host, cookie", "accept,Accept"] {
            assert!(!undeclared(fine, Some(&declared)), "{fine}");
        }
        assert!(undeclared("accept, origin", Some(&declared)));
        assert!(undeclared("authorization", Some(&declared)));
        assert!(undeclared("cookie", None) && !undeclared("host", None));
    }

    proptest! {
        #[test]
        fn requests_that_share_a_key_are_one_to_the_handler(
            one in "[ab=&;%]{0,8}", other in "[ab=&;%]{0,8}",
            lines in prop::collection::vec("[ab=; ]{0,6}", 0..3),
            other_lines in prop::collection::vec("[ab=; ]{0,6}", 0..3),
        ) {
            for policy in [
                CachePolicy::new().query(QueryKey::only(["a"])).vary_by_cookie("a"),
                CachePolicy::new().query(QueryKey::ignore(["a"])).sort_query(true).vary_by_cookie("b"),
            ] {
                let parts = parts(policy);
                let made = |query: &str, lines: &[String]| {
                    let mut request = request(&format!("/?{query}"), &[]);
                    for line in lines {
                        request.headers_mut().append(COOKIE, line.parse().unwrap());
                    }
                    let mut key = String::new();
                    parts.query.write(query, |part| key.push_str(part));
                    let selected = parts.select(request.headers(), request.extensions()).unwrap();
                    narrow(&mut request, Some(&parts));
                    let cookies: Vec<_> = request.headers().get_all(COOKIE).iter().cloned().collect();
                    ((key, selected.map(|it| it.to_vec())), (request.uri().clone(), cookies))
                };
                let (one, other) = (made(&one, &lines), made(&other, &other_lines));
                if one.0 == other.0 {
                    prop_assert_eq!(one.1, other.1);
                }
            }
        }
    }
}
