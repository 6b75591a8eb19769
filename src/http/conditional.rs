//! Conditional requests (RFC 9110 §13): answered from a stored response, and made from one.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::{
    date::{self, DateField},
    directives::is_targeted,
    status::CACHE_STATUS,
    text::trim,
};
use crate::Timestamp;

/// What a request may ask of the version it gets.
const CONDITIONS: [HeaderName; 5] = [
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
];

/// RFC 9110 §15.4.5: what a 304 repeats of the 200. `Last-Modified` is here for clients that have it as a validator.
const IN_NOT_MODIFIED: [HeaderName; 9] = [
    header::AGE,
    header::CACHE_CONTROL,
    CACHE_STATUS,
    header::CONTENT_LOCATION,
    header::DATE,
    header::ETAG,
    header::EXPIRES,
    header::LAST_MODIFIED,
    header::VARY,
];

/// An entity tag (RFC 9110 §8.8.3), taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntityTag<'a> {
    pub(crate) is_weak: bool,
    /// What is compared: the text between the quotes. Quotes that are missing are read as if they were there.
    pub(crate) opaque: &'a [u8],
}

impl<'a> EntityTag<'a> {
    pub(crate) fn new(value: &'a HeaderValue) -> Self {
        Self::read(trim(value.as_bytes()))
    }

    fn read(tag: &'a [u8]) -> Self {
        let strong = tag.strip_prefix(b"W/").or_else(|| tag.strip_prefix(b"w/"));
        let quoted = strong.unwrap_or(tag);
        let opaque = quoted
            .strip_prefix(b"\"")
            .and_then(|tag| tag.strip_suffix(b"\""));
        Self {
            is_weak: strong.is_some(),
            opaque: opaque.unwrap_or(quoted),
        }
    }
}

/// Whether a stored response answers a conditional GET or HEAD with a 304.
///
/// `received` is when the response came: it stands in for a `Date` that is missing (RFC 9111 §4.3.2).
pub(crate) fn not_modified(
    request: &HeaderMap,
    status: StatusCode,
    response: &HeaderMap,
    received: Timestamp,
) -> bool {
    // RFC 9111 §4.3.2: a part answers for the whole.
    if !matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
        return false;
    }
    // RFC 9110 §13.2.2: If-Modified-Since is looked at only without If-None-Match.
    let mut tags = request.get_all(header::IF_NONE_MATCH).iter();
    if let Some(first) = tags.next() {
        return matches_stored(first, tags, response.get(header::ETAG));
    }
    // RFC 9110 §13.1.3: a field that is not one valid date is ignored.
    let since = date::single(request, &header::IF_MODIFIED_SINCE, received);
    let DateField::At(since) = since else {
        return false;
    };
    let changed = match date::single(response, &header::LAST_MODIFIED, received) {
        DateField::At(modified) => modified,
        DateField::Invalid => return false,
        DateField::Absent => date::single(response, &header::DATE, received)
            .valid()
            // As the Date that the answer is given has it: in whole seconds.
            .unwrap_or(Timestamp::from_secs(received.as_secs())),
    };
    changed <= since
}

/// RFC 9110 §13.1.2: `*`, or a list of tags that are compared weakly.
fn matches_stored<'a>(
    first: &'a HeaderValue,
    others: impl Iterator<Item = &'a HeaderValue>,
    stored: Option<&HeaderValue>,
) -> bool {
    let mut others = others.peekable();
    if others.peek().is_none() && trim(first.as_bytes()) == b"*" {
        return true;
    }
    let Some(stored) = stored.map(EntityTag::new) else {
        return false;
    };
    let mut lines = std::iter::once(first).chain(others);
    lines.any(|line| tags(line.as_bytes()).any(|tag| tag.opaque == stored.opaque))
}

/// The entity tags of a list; members that are none are left out.
fn tags(list: &[u8]) -> impl Iterator<Item = EntityTag<'_>> {
    let mut rest = list;
    let members = std::iter::from_fn(move || {
        (!rest.is_empty()).then(|| {
            let end = member_len(rest);
            let member = trim(&rest[..end]);
            rest = rest.get(end + 1..).unwrap_or_default();
            member
        })
    });
    members.filter(|member| is_tag(member)).map(EntityTag::read)
}

/// A tag without its quotes is one, for the sake of clients that lose them; `*` and an empty member are not.
fn is_tag(member: &[u8]) -> bool {
    let opaque = EntityTag::read(member).opaque;
    let is_plain = |byte: &u8| !byte.is_ascii_whitespace() && *byte != b'"';
    match member.ends_with(b"\"") {
        true => !opaque.contains(&b'"'),
        false => !opaque.is_empty() && member != b"*" && opaque.iter().all(is_plain),
    }
}

/// Up to the next comma that is not within a tag's quotes. A tag has no escapes (RFC 9110 §8.8.3).
fn member_len(list: &[u8]) -> usize {
    let mut is_quoted = false;
    let comma = list.iter().position(|&byte| {
        is_quoted ^= byte == b'"';
        byte == b',' && !is_quoted
    });
    comma.unwrap_or(list.len())
}

/// The fields of the 304 that stands for a stored response with these.
///
/// Beside what RFC 9110 §15.4.5 asks for, the fields that speak to some caches stay as `Cache-Control` does, and so do
/// the `Access-Control-*` fields: a browser does not show a page the answer
/// to its own conditional request without them.
pub(crate) fn not_modified_headers(response: &HeaderMap) -> HeaderMap {
    let stays = |name: &HeaderName| {
        IN_NOT_MODIFIED.contains(name)
            || is_targeted(name)
            || name.as_str().starts_with("access-control-")
    };
    let lines = response.iter().filter(|(name, _)| stays(name));
    lines
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Makes a request ask whether the stored response is still the current one (RFC 9111 §4.3.1).
///
/// The client's own conditions are removed, for they are evaluated against the result. `false` says that the stored
/// response has no validator: the request is then unconditional.
pub(crate) fn revalidation_headers(stored: &HeaderMap, request: &mut HeaderMap) -> bool {
    for name in CONDITIONS {
        request.remove(name);
    }
    let validators = validators(stored);
    let mut is_asked = false;
    if let Some(etag) = validators.etag {
        is_asked |= request
            .try_insert(header::IF_NONE_MATCH, etag.clone())
            .is_ok();
    }
    if let Some(modified) = validators.last_modified {
        is_asked |= request
            .try_insert(header::IF_MODIFIED_SINCE, modified.clone())
            .is_ok();
    }
    is_asked
}

/// Whether a response can be validated.
pub(crate) fn has_validator(response: &HeaderMap) -> bool {
    let validators = validators(response);
    validators.etag.is_some() || validators.last_modified.is_some()
}

struct Validators<'a> {
    etag: Option<&'a HeaderValue>,
    last_modified: Option<&'a HeaderValue>,
}

fn validators(response: &HeaderMap) -> Validators<'_> {
    let epoch = Timestamp::from_secs(0);
    let is_date = date::single(response, &header::LAST_MODIFIED, epoch)
        .valid()
        .is_some();
    Validators {
        etag: response
            .get(header::ETAG)
            .filter(|etag| !trim(etag.as_bytes()).is_empty()),
        last_modified: response.get(header::LAST_MODIFIED).filter(|_| is_date),
    }
}

#[cfg(test)]
mod tests;
