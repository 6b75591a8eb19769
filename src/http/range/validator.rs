//! Strong validators: what two parts of one representation have in common (RFC 9110 §8.8, §13.1.5).

use std::time::Duration;

use http::{HeaderMap, header};

use crate::{
    Timestamp,
    http::{
        date::{self, DateField},
        text::{tokens, trim},
    },
};

/// What tells the bytes of one version from those of every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strong<'a> {
    Tag(&'a [u8]),
    Date(Timestamp),
}

/// The strong validator of a response that came at `received`. Beside a tag, its date is none.
pub(super) fn strong(response: &HeaderMap, received: Timestamp) -> Option<Strong<'_>> {
    match response.contains_key(header::ETAG) {
        true => etag(response).filter(|tag| is_tag(tag)).map(Strong::Tag),
        false => strong_date(response, received).map(Strong::Date),
    }
}

/// Whether the condition of `If-Range` is true, or there is none.
pub(super) fn if_range(request: &HeaderMap, response: &HeaderMap, received: Timestamp) -> bool {
    let mut lines = request.get_all(header::IF_RANGE).iter();
    let condition = match (lines.next(), lines.next()) {
        (None, _) => return true,
        (Some(line), None) => trim(line.as_bytes()),
        (Some(_), Some(_)) => return false,
    };
    if is_tag(condition) {
        return etag(response) == Some(condition);
    }
    // RFC 9110 §13.1.5: exactly the date of the last change, and only where that is strong.
    !is_one_of_several_codings(response)
        && date::parse(condition, received)
            .is_some_and(|date| strong_date(response, received) == Some(date))
}

/// Whether a request for ranges goes by anything but a strong entity tag: what the client has may have come in another
/// coding.
#[cfg(feature = "compression")]
pub(crate) fn is_by_date(request: &HeaderMap) -> bool {
    let mut conditions = request.get_all(header::IF_RANGE).iter();
    conditions.any(|condition| !is_tag(trim(condition.as_bytes())))
        || request.contains_key(header::IF_UNMODIFIED_SINCE)
}

/// RFC 9110 §8.8.1: a date that a representation has in several codings is the validator of none.
fn is_one_of_several_codings(response: &HeaderMap) -> bool {
    tokens(response, &header::VARY).any(|name| name.eq_ignore_ascii_case(b"accept-encoding"))
}

fn etag(response: &HeaderMap) -> Option<&[u8]> {
    let mut lines = response.get_all(header::ETAG).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => Some(trim(line.as_bytes())),
        _ => None,
    }
}

/// A strong entity tag. A weak one begins with `W/` and stands for no certain bytes.
fn is_tag(text: &[u8]) -> bool {
    text.len() > 1 && text.starts_with(b"\"") && text.ends_with(b"\"")
}

/// `Last-Modified`, where the representation could not change once more within the same second (RFC 9110 §8.8.2.2).
fn strong_date(response: &HeaderMap, received: Timestamp) -> Option<Timestamp> {
    let modified = date::single(response, &header::LAST_MODIFIED, received).valid()?;
    let date = match date::single(response, &header::DATE, received) {
        DateField::At(date) => date,
        DateField::Absent => Timestamp::from_secs(received.as_secs()),
        DateField::Invalid => return None,
    };
    (date.since(modified) >= Duration::from_secs(1)).then_some(modified)
}
