//! The settings that the rules of HTTP leave open, and the one decision made of a response that comes.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use http::{HeaderMap, Method, StatusCode};

use super::{
    directives::{ResponseDirectives, Targets},
    freshness::{ResponsePolicy, Times},
    storable::{RequestFacts, storable},
    tags::TagField,
};
use crate::Reason;

/// What a layer does where the RFCs leave the choice.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Rules {
    /// How long a response is fresh whose handler says nothing about caching; `None` does not store it.
    pub(crate) default_ttl: Option<Duration>,
    /// Whether `Last-Modified` gives a freshness where nothing else does (RFC 9111 §4.2.2).
    pub(crate) heuristics: bool,
    pub(crate) set_cookie: SetCookie,
    /// Whether errors that are not cacheable by themselves are stored when they say that they are fresh.
    pub(crate) store_errors: bool,
    /// How long a stale response answers for a handler that fails, when the response does not say.
    pub(crate) stale_if_error: Duration,
    /// Whether freshness alone decides, whatever `no-cache`, `max-age`, `min-fresh` and `max-stale` a request has.
    pub(crate) ignore_client_directives: bool,
    /// The fields that are listened to before `Cache-Control`.
    pub(crate) targets: Targets,
    /// Whether a stored body without an `ETag` gets one.
    pub(crate) generate_etags: bool,
    /// The field that passes the tags of responses on; `None` keeps them from clients.
    pub(crate) pass_tags: Option<TagField>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            default_ttl: None,
            heuristics: true,
            set_cookie: SetCookie::PublicOnly,
            store_errors: true,
            stale_if_error: Duration::from_secs(60),
            ignore_client_directives: false,
            targets: Targets::default(),
            generate_etags: false,
            pass_tags: None,
        }
    }
}

impl Rules {
    /// What tells what these rules make of a stored response from what others do, in this process.
    pub(crate) fn view(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

/// Whether responses with `Set-Cookie` are stored, and so sent to others with that cookie.
///
/// A response that keeps its cookies out of caches by `private="set-cookie"` or `no-cache="set-cookie"` is stored
/// without them whatever is chosen here.
///
/// # Examples
///
/// ```
/// assert_eq!(larder::SetCookie::default(), larder::SetCookie::PublicOnly);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SetCookie {
    /// Stores those that say `public` or `s-maxage`, and so are meant for shared caches in so many words.
    ///
    /// Stricter than RFC 9111 §7.3 asks: a session cookie in a stored response logs everyone in as one user.
    #[default]
    PublicOnly,
    /// Stores them like any other response, which is what RFC 9111 allows.
    Always,
    /// Never stores them.
    Never,
}

/// Decides whether a response is stored, and by what it is reused then.
///
/// Whether a POST's `Content-Location` is its own URI is for the caller to see
/// ([`Target::is_content_location`](super::invalidation::Target::is_content_location)).
pub(crate) fn assess(
    method: &Method,
    request: &RequestFacts,
    status: StatusCode,
    headers: &HeaderMap,
    directives: &ResponseDirectives,
    times: Times,
    rules: &Rules,
) -> Result<ResponsePolicy, Reason> {
    storable(method, request, status, headers, directives, rules)?;
    let policy = ResponsePolicy::new(request, status, headers, directives, times, rules);
    if policy.is_worth_storing() {
        Ok(policy)
    } else {
        Err(Reason::NoFreshness)
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::Timestamp;

    fn assessed(
        lines: &[(&'static str, &'static str)],
        change: fn(&mut ResponseDirectives),
    ) -> Result<ResponsePolicy, Reason> {
        let line = |(name, value): &(&'static str, &'static str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        let headers: HeaderMap = lines.iter().map(line).collect();
        let mut directives = ResponseDirectives::read(&headers, &Targets::default());
        change(&mut directives);
        let now = Timestamp::from_secs(1_763_640_000);
        let times = Times {
            request: now,
            response: now,
        };
        let (request, rules) = (RequestFacts::default(), Rules::default());
        assess(
            &Method::GET,
            &request,
            StatusCode::OK,
            &headers,
            &directives,
            times,
            &rules,
        )
    }

    #[test]
    fn a_response_that_could_never_answer_is_not_stored() {
        for lines in [
            &[][..],
            &[("cache-control", "max-age=0")],
            &[("expires", "0")],
        ] {
            assert_eq!(
                assessed(lines, |_| {}),
                Err(Reason::NoFreshness),
                "{lines:?}"
            );
        }
        assert!(assessed(&[("cache-control", "max-age=1")], |_| {}).is_ok());
        assert!(assessed(&[("expires", "0"), ("etag", "\"a\"")], |_| {}).is_ok());
    }

    #[test]
    fn what_may_not_be_stored_is_refused_for_that_reason() {
        let refused = assessed(&[("cache-control", "no-store")], |_| {});
        assert_eq!(refused, Err(Reason::NoStore));
    }

    #[test]
    fn a_targeted_field_stands_in_for_expires_and_for_a_word_about_cookies() {
        let lines = [
            ("expires", "Fri, 31 Dec 9999 23:59:59 GMT"),
            ("set-cookie", "id=1"),
        ];
        let refused = assessed(&lines, |directives| directives.targeted = true);
        assert_eq!(refused, Err(Reason::Credentials));
        let stored = assessed(&lines, |directives| {
            directives.targeted = true;
            directives.max_age = Some(5);
        });
        assert_eq!(stored.unwrap().ttl(Timestamp::from_secs(1_763_640_000)), 5);
    }
}
