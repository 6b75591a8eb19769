//! `Content-Range` (RFC 9110 §14.4).

use std::ops::Range;

use http::{HeaderMap, HeaderValue, header};

use crate::http::text::trim;

/// Which part of a representation a message has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContentRange {
    /// Not empty, and within the representation.
    pub(crate) span: Range<u64>,
    /// The length of the whole representation.
    pub(crate) len: u64,
}

impl ContentRange {
    /// Reads the field; `None` where it is not there once, is not about bytes, does not tell the length of the whole, or
    /// names a part that does not exist.
    pub(crate) fn parse(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(header::CONTENT_RANGE).iter();
        let (Some(line), None) = (lines.next(), lines.next()) else {
            return None;
        };
        let line = std::str::from_utf8(trim(line.as_bytes())).ok()?;
        let (unit, range) = line.split_once(' ')?;
        let (span, len) = range.split_once('/')?;
        let (first, last) = span.split_once('-')?;
        let (first, last, len) = (number(first)?, number(last)?, number(len)?);
        let is_there = unit.eq_ignore_ascii_case("bytes") && first <= last && last < len;
        is_there.then(|| Self {
            span: first..last + 1,
            len,
        })
    }

    pub(crate) fn value(&self) -> HeaderValue {
        let (first, last) = (self.span.start, self.span.end - 1);
        let text = format!("bytes {first}-{last}/{}", self.len);
        HeaderValue::try_from(text).expect("digits are visible ASCII")
    }
}

/// What a 416 says of a representation of `len` bytes.
pub(super) fn unsatisfied(len: u64) -> HeaderValue {
    HeaderValue::try_from(format!("bytes */{len}")).expect("digits are visible ASCII")
}

/// Digits only, for `str::parse` takes a sign too.
fn number(text: &str) -> Option<u64> {
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    is_digits.then(|| text.parse().ok()).flatten()
}
