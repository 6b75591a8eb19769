//! `Cache-Status`: what the cache did with a request (RFC 9211).

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use crate::{Error, ErrorKind, Reason, Result};

/// The field that the members are written to.
pub(crate) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Writes the member of `Cache-Status` that this cache adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CacheStatus(Arc<Member>);

#[derive(Debug, PartialEq, Eq)]
struct Member {
    /// The name of the cache, as a structured-field token or string.
    name: Line,
    /// What most answers of the inner service say: nothing was stored, and now something is.
    stored: HeaderValue,
}

const STORED: Outcome = Outcome::answered(Forward::UriMiss, None, true);

/// How much `Cache-Status` tells in its parameter `detail` (RFC 9211 §2.8), in the words of [`Reason`].
///
/// # Examples
///
/// ```
/// use larder::{Cache, CacheLayer, StatusDetail};
///
/// let layer = CacheLayer::new(Cache::memory()).status_detail(StatusDetail::All);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StatusDetail {
    /// Nothing.
    None,
    /// Why a response was not stored, or was reused although it is stale.
    #[default]
    Storing,
    /// Also why what is stored did not answer the request. For development: it tells clients what others asked for.
    All,
}

/// What was done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was answered from the store, with so many seconds of freshness left.
    Hit { ttl: i64 },
    /// It went to the inner service.
    Fwd {
        reason: Forward,
        /// The status that the inner service answered with, when it is not the answer's.
        status: Option<u16>,
        /// Whether the answer was stored.
        stored: bool,
        /// Whether the request waited for another one's answer.
        collapsed: bool,
    },
}

impl Outcome {
    /// A request that went to the inner service, and no more to tell.
    pub(crate) const fn forwarded(reason: Forward) -> Self {
        Self::answered(reason, None, false)
    }

    /// A request that went to the inner service, and what came of it.
    pub(crate) const fn answered(reason: Forward, status: Option<u16>, stored: bool) -> Self {
        Self::Fwd {
            reason,
            status,
            stored,
            collapsed: false,
        }
    }
}

/// Why a request went to the inner service (RFC 9211 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Forward {
    Bypass,
    Method,
    UriMiss,
    VaryMiss,
    Miss,
    Request,
    Stale,
    Partial,
}

impl Forward {
    /// What a request is forwarded for, where this is why nothing stored answers it.
    pub(crate) const fn of(reason: Reason) -> Self {
        match reason {
            Reason::Stale | Reason::NoCache | Reason::Contradicting => Self::Stale,
            Reason::RequestNoCache
            | Reason::RequestMaxAge
            | Reason::RequestMinFresh
            | Reason::RequestNoStore
            | Reason::ForceUpdate
            | Reason::OnlyIfCached => Self::Request,
            Reason::OtherVariant => Self::VaryMiss,
            Reason::OtherPart => Self::Partial,
            Reason::Method => Self::Method,
            Reason::NothingStored | Reason::OtherPolicy | Reason::Damaged | Reason::Backend => {
                Self::UriMiss
            }
            _ => Self::Bypass,
        }
    }

    /// The reason as `fwd` has it, and as metrics do.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Miss => "miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

impl CacheStatus {
    /// A writer for a cache of this name: a token where the name is one, else a string.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`] for an empty name and for one with other than visible ASCII and spaces.
    pub(crate) fn new(name: &str) -> Result<Self> {
        if name.is_empty() || !name.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            let message =
                "the name of the cache in Cache-Status must be visible ASCII and not empty";
            return Err(Error::new(ErrorKind::Settings, message));
        }
        let mut item = Line::new();
        push_item(name, &mut item);
        Ok(Self(Arc::new(Member {
            stored: write(&item, STORED, None),
            name: item,
        })))
    }

    /// The member of an answer that is the cache's own.
    pub(crate) fn detail(&self, detail: &'static str) -> HeaderValue {
        let mut line = self.0.name.clone();
        line.extend_from_slice(b"; detail=");
        push_item(detail, &mut line);
        HeaderValue::from_bytes(&line).expect("names and details are written as visible ASCII")
    }

    /// The member for one request. Allocates once.
    pub(crate) fn value(&self, outcome: Outcome, detail: Option<&str>) -> HeaderValue {
        match (outcome, detail) {
            (STORED, None) => self.0.stored.clone(),
            (outcome, detail) => write(&self.0.name, outcome, detail),
        }
    }
}

fn write(name: &[u8], outcome: Outcome, detail: Option<&str>) -> HeaderValue {
    let mut line = Line::from_slice(name);
    match outcome {
        Outcome::Hit { ttl } => {
            line.extend_from_slice(b"; hit; ttl=");
            push_number(ttl, &mut line);
        }
        Outcome::Fwd {
            reason,
            status,
            stored,
            collapsed,
        } => {
            line.extend_from_slice(b"; fwd=");
            line.extend_from_slice(reason.as_str().as_bytes());
            if let Some(status) = status {
                line.extend_from_slice(b"; fwd-status=");
                push_number(status.into(), &mut line);
            }
            for (name, on) in [("; stored", stored), ("; collapsed", collapsed)] {
                line.extend_from_slice(if on { name.as_bytes() } else { b"" });
            }
        }
    }
    if let Some(detail) = detail {
        line.extend_from_slice(b"; detail=");
        push_item(detail, &mut line);
    }
    HeaderValue::from_bytes(&line).expect("names and details are written as visible ASCII")
}

/// A line of ordinary length stays on the stack until it is copied into the value.
type Line = SmallVec<[u8; 128]>;

/// Writes a structured-field token, or a string where the text is no token (RFC 9651 §3.3.3, §3.3.4).
fn push_item(text: &str, line: &mut Line) {
    let is_first = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'*';
    let is_next = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte);
    if text.as_bytes().first().is_some_and(is_first) && text.bytes().all(is_next) {
        line.extend_from_slice(text.as_bytes());
        return;
    }
    push_string(text.as_bytes(), line);
}

fn push_string(text: &[u8], line: &mut Line) {
    line.push(b'"');
    for &byte in text {
        match byte {
            b'"' | b'\\' => line.extend_from_slice(&[b'\\', byte]),
            b' '..=b'~' => line.push(byte),
            // A structured-field string has no way to say it.
            _ => line.push(b'?'),
        }
    }
    line.push(b'"');
}

/// More of a key is not shown.
const MAX_KEY: usize = 512;

/// Adds the parameter `key` to the last member that a response has (RFC 9211 §2.7).
pub(crate) fn append_key(headers: &mut HeaderMap, key: &[u8]) {
    let mut values: Vec<HeaderValue> = headers.get_all(CACHE_STATUS).iter().cloned().collect();
    let Some(last) = values.last_mut() else {
        return;
    };
    let mut line = Line::from_slice(last.as_bytes());
    line.extend_from_slice(b"; key=");
    push_string(&key[..key.len().min(MAX_KEY)], &mut line);
    if let Ok(value) = HeaderValue::from_bytes(&line) {
        *last = value;
    }
    headers.remove(CACHE_STATUS);
    for value in values {
        headers.append(CACHE_STATUS, value);
    }
}

/// Writes an integer within the fifteen digits that structured fields have (RFC 9651 §3.3.1).
fn push_number(number: i64, line: &mut Line) {
    const MAX: i64 = 999_999_999_999_999;
    let number = number.clamp(-MAX, MAX);
    if number < 0 {
        line.push(b'-');
    }
    let mut digits = [0; 15];
    let mut rest = number.unsigned_abs();
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    line.extend_from_slice(&digits[start..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn status() -> CacheStatus {
        CacheStatus::new("larder").unwrap()
    }

    #[test]
    fn a_hit_tells_its_freshness() {
        let hit = |ttl| status().value(Outcome::Hit { ttl }, None);
        assert_eq!(hit(30), "larder; hit; ttl=30");
        assert_eq!(hit(0), "larder; hit; ttl=0");
        assert_eq!(hit(-412), "larder; hit; ttl=-412");
        assert_eq!(hit(i64::MAX), "larder; hit; ttl=999999999999999");
        assert_eq!(hit(i64::MIN), "larder; hit; ttl=-999999999999999");
    }

    #[test]
    fn a_forwarded_request_tells_why_and_what_came_of_it() {
        let stale = Outcome::Fwd {
            reason: Forward::Stale,
            status: Some(304),
            stored: true,
            collapsed: true,
        };
        assert_eq!(
            status().value(stale, None),
            "larder; fwd=stale; fwd-status=304; stored; collapsed"
        );
        let miss = Outcome::forwarded(Forward::UriMiss);
        assert_eq!(
            status().value(miss, Some("set-cookie")),
            "larder; fwd=uri-miss; detail=set-cookie"
        );
    }

    #[test]
    fn a_name_or_detail_that_is_no_token_is_quoted() {
        let named = CacheStatus::new("my \"own\" \\ cache").unwrap();
        let value = named.value(Outcome::Hit { ttl: 1 }, Some("5 s"));
        assert_eq!(value, r#""my \"own\" \\ cache"; hit; ttl=1; detail="5 s""#);
        assert_eq!(
            CacheStatus::new("1")
                .unwrap()
                .value(Outcome::Hit { ttl: 1 }, None),
            "\"1\"; hit; ttl=1"
        );
    }

    #[test]
    fn a_key_is_told_behind_the_last_member() {
        let mut headers = HeaderMap::new();
        append_key(&mut headers, b"http://example.org/");
        assert!(headers.is_empty());
        headers.append(CACHE_STATUS, HeaderValue::from_static("upstream; hit"));
        headers.append(CACHE_STATUS, HeaderValue::from_static("larder; hit; ttl=1"));
        append_key(&mut headers, b"http://example.org/\"\xff");
        let values: Vec<_> = headers.get_all(CACHE_STATUS).iter().collect();
        let told = r#"larder; hit; ttl=1; key="http://example.org/\"?""#;
        assert_eq!(values, ["upstream; hit", told]);
    }

    #[test]
    fn a_name_that_cannot_be_written_is_an_error() {
        for name in ["", "a\nb", "caf\u{e9}", "\u{7f}"] {
            assert_eq!(
                CacheStatus::new(name).unwrap_err().kind(),
                ErrorKind::Settings,
                "{name:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn every_name_that_is_taken_can_be_written(name in ".*", ttl: i64) {
            if let Ok(status) = CacheStatus::new(&name) {
                status.value(Outcome::Hit { ttl }, Some("with \u{e9}"));
            }
        }
    }
}
