//! Which responses are stored (RFC 9111 §3).

use http::{HeaderMap, Method, StatusCode, header};

use super::{
    directives::ResponseDirectives,
    policies::Said,
    policy::{Rules, SetCookie},
    text::trim,
    vary::Vary,
};
use crate::Reason;

/// What storing depends on beside the response: what the request has, and what policies say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestFacts {
    /// It had `Authorization`.
    pub(crate) authorization: bool,
    /// It had `Cookie`.
    pub(crate) cookie: bool,
    /// It said `Cache-Control: no-store`.
    pub(crate) no_store: bool,
    /// A handler may have taken it for a request for something else than its key says.
    pub(crate) is_ambiguous: bool,
    /// What the policy of its route says of the response, and the handler by a policy.
    pub(crate) said: Said,
}

/// Whether a response may be stored. Whether it is of use is seen from its freshness.
pub(crate) fn storable(
    method: &Method,
    request: &RequestFacts,
    status: StatusCode,
    headers: &HeaderMap,
    directives: &ResponseDirectives,
    rules: &Rules,
) -> Result<(), Reason> {
    let is_explicit = has_explicit_freshness(headers, directives);
    let refuse = |refused: bool, refusal| if refused { Err(refusal) } else { Ok(()) };

    refuse(
        !is_method_storable(method, headers, is_explicit),
        Reason::Method,
    )?;
    refuse(is_about_one_request(status), Reason::Status)?;
    refuse(!rules.store_errors && is_error(status), Reason::Status)?;
    refuse(request.no_store, Reason::RequestNoStore)?;
    // Ours: what cannot be told to be the URI's answer is not given to others as such.
    refuse(request.is_ambiguous, Reason::Ambiguous)?;

    // RFC 9111 §5.2.2.3: must-understand overrides no-store where the status is understood, and nowhere else.
    let is_understood = is_understood(status);
    refuse(
        directives.must_understand && !is_understood,
        Reason::NotUnderstood,
    )?;
    refuse(
        directives.no_store && !directives.must_understand,
        Reason::NoStore,
    )?;
    // A key that says whose the response is makes the cache that user's own.
    refuse(
        directives.private && !request.said.per_user,
        Reason::Private,
    )?;
    refuse(Vary::parse(headers) == Vary::Star, Reason::Vary)?;
    refuse(is_event_stream(headers), Reason::EventStream)?;

    // RFC 9111 §3.5.
    let is_shared = directives.public || directives.s_maxage.is_some();
    let is_for_all = is_shared || directives.must_revalidate;
    refuse(request.authorization && !is_for_all, Reason::Authorization)?;
    let sets_cookie = sets_cookie(headers, directives);
    let takes_cookie = match rules.set_cookie {
        SetCookie::PublicOnly => is_shared || directives.targeted,
        SetCookie::Always if request.said.tells_visitors_apart => is_shared,
        SetCookie::Always => true,
        SetCookie::Never => false,
    };
    refuse(sets_cookie && !takes_cookie, Reason::SetCookie)?;

    let is_given = request.said.lifetime.is_some();
    let is_cacheable =
        is_explicit || is_given || directives.public || is_heuristically_cacheable(status);
    refuse(!is_cacheable, Reason::Status)?;
    // Ours: what may be one user's is stored on the handler's word only. Validation before every reuse is such a word.
    let is_asked_for = is_explicit || directives.public || directives.no_cache;
    let is_personal = request.authorization || request.cookie || sets_cookie;
    refuse(is_personal && !is_asked_for, Reason::Credentials)
}

/// Whether a freshness that the handler did not give may be used: not for what may be one user's (ours).
pub(super) fn may_imply_freshness(
    request: &RequestFacts,
    headers: &HeaderMap,
    directives: &ResponseDirectives,
) -> bool {
    let is_personal = request.authorization || request.cookie || sets_cookie(headers, directives);
    !is_personal && !headers.contains_key(header::PRAGMA)
}

/// Whether the response says itself how long it is fresh (RFC 9111 §3, last point).
pub(super) fn has_explicit_freshness(headers: &HeaderMap, directives: &ResponseDirectives) -> bool {
    directives.has_lifetime() || !directives.targeted && headers.contains_key(header::EXPIRES)
}

/// RFC 9110 §15.1: the statuses that are cacheable without being told so; 206 is left out.
pub(super) fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    )
}

/// GET, and POST on the conditions of RFC 9110 §9.3.3.
fn is_method_storable(method: &Method, headers: &HeaderMap, is_explicit: bool) -> bool {
    *method == Method::GET
        || *method == Method::POST && is_explicit && headers.contains_key(header::CONTENT_LOCATION)
}

/// Whether the status answers what one request alone had in it, or is not the end of the answer.
///
/// RFC 6585 §3 to §6 forbids to store 428, 429, 431 and 511. The others are ours: they answer credentials, preferences,
/// conditions, content, or the connection, none of which is in the key, so that one such request would spoil the URI for
/// everyone.
pub(super) fn is_about_one_request(status: StatusCode) -> bool {
    status.is_informational()
        || matches!(
            status.as_u16(),
            206 | 304 | 401 | 406..=408 | 411..=413 | 415..=417 | 421 | 425 | 426 | 428 | 429 | 431 | 511
        )
}

/// The errors that are stored on their own word only.
fn is_error(status: StatusCode) -> bool {
    status.as_u16() >= 400 && !is_heuristically_cacheable(status)
}

/// Whether everything that RFC 9110 says of caching such a response is done here.
fn is_understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200..=205 | 300..=303 | 307 | 308 | 400..=411 | 413..=415 | 421 | 422 | 426 | 500..=505
    )
}

/// A stream of events has no end that it could be stored at.
fn is_event_stream(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| {
        const ESSENCE: &[u8] = b"text/event-stream";
        let value = trim(value.as_bytes());
        value
            .split_at_checked(ESSENCE.len())
            .is_some_and(|(essence, rest)| {
                let ends = || matches!(trim(rest), [] | [b';', ..]);
                essence.eq_ignore_ascii_case(ESSENCE) && ends()
            })
    })
}

/// Whether the stored copy would have a `Set-Cookie`.
fn sets_cookie(headers: &HeaderMap, directives: &ResponseDirectives) -> bool {
    let mut left_out = directives
        .private_fields
        .iter()
        .chain(&directives.no_cache_fields);
    headers.contains_key(header::SET_COOKIE) && !left_out.any(|name| name == header::SET_COOKIE)
}

#[cfg(test)]
mod tests;
