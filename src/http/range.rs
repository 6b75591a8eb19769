//! Ranges of bytes: what a request asks for, and what that is of a representation (RFC 9110 §14).
//!
//! A client has to be ready for the whole in every case, so whatever cannot be read, or asks for too much at once, is
//! answered with it.

mod answer;
mod content_range;
mod parts;
mod validator;

use std::ops::Range;

use http::{HeaderMap, header};
use smallvec::SmallVec;

use super::text::{tokens, trim};
use crate::Timestamp;

pub(crate) use answer::{Slices, partial, partial_of, slice, unsatisfiable};
pub(crate) use content_range::ContentRange;
pub(crate) use parts::{Known, Parts, Piece};
#[cfg(feature = "compression")]
pub(crate) use validator::is_by_date;

/// RFC 9110 §14.2: many ranges at once are an attack more often than a wish.
const MAX_RANGES: usize = 32;

/// What a request has in `Range`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RangeField {
    /// Nothing, or something that the method gives no meaning: only GET has ranges (RFC 9110 §14.2).
    None,
    /// Ranges of bytes.
    Bytes,
    /// Another unit, or what cannot be read.
    Other,
}

impl RangeField {
    pub(crate) fn read(headers: &HeaderMap) -> Self {
        match Ranges::parse(headers) {
            Some(_) => Self::Bytes,
            None if headers.contains_key(header::RANGE) => Self::Other,
            None => Self::None,
        }
    }
}

/// Ranges of a representation, in bytes.
pub(crate) type Spans = SmallVec<[Range<u64>; 1]>;

/// The ranges that a request asks for, whatever there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ranges(SmallVec<[Spec; 1]>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spec {
    /// From the first to the last byte, both included; without a last one to the end.
    From { first: u64, last: u64 },
    /// So many bytes at the end.
    Last(u64),
}

/// What the ranges of a request are of a certain representation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it, as if the request had no ranges.
    Whole,
    /// Nothing that there is.
    Unsatisfiable,
    /// These: not empty, within the representation, no two of them touching.
    Spans(Spans),
}

impl Ranges {
    /// Reads `Range`. `None` where the field is to be ignored: another unit than bytes, several lines, an invalid range,
    /// more than 32 of them.
    pub(crate) fn parse(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(header::RANGE).iter();
        let (Some(line), None) = (lines.next(), lines.next()) else {
            return None;
        };
        let line = trim(line.as_bytes());
        let equals = line.iter().position(|&byte| byte == b'=')?;
        if !line[..equals].eq_ignore_ascii_case(b"bytes") {
            return None;
        }
        let members = line[equals + 1..].split(|&byte| byte == b',').map(trim);
        let mut specs = SmallVec::new();
        // RFC 9110 §5.6.1.2: empty members of a list are no members.
        for member in members.filter(|member| !member.is_empty()) {
            if specs.len() == MAX_RANGES {
                return None;
            }
            specs.push(Spec::read(member)?);
        }
        (!specs.is_empty()).then_some(Self(specs))
    }

    /// What they are of a representation of `len` bytes.
    ///
    /// Those that overlap or follow each other without a gap are one, in the place of the first of them
    /// (RFC 9110 §15.3.7.2).
    pub(crate) fn of(&self, len: u64) -> Wanted {
        let mut spans = Spans::new();
        for spec in &self.0 {
            match *spec {
                Spec::From { first, last } if first < len => {
                    join(&mut spans, first..last.saturating_add(1).min(len));
                }
                // The last bytes of nothing: there is no Content-Range to say so with.
                Spec::Last(1..) if len == 0 => return Wanted::Whole,
                Spec::Last(count @ 1..) => join(&mut spans, len.saturating_sub(count)..len),
                Spec::From { .. } | Spec::Last(0) => {}
            }
        }
        match spans.is_empty() {
            true => Wanted::Unsatisfiable,
            false => Wanted::Spans(spans),
        }
    }
}

impl Spec {
    fn read(spec: &[u8]) -> Option<Self> {
        let dash = spec.iter().position(|&byte| byte == b'-')?;
        match (&spec[..dash], &spec[dash + 1..]) {
            ([], count) => number(count).map(Self::Last),
            (first, []) => Some(Self::From {
                first: number(first)?,
                last: u64::MAX,
            }),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                // RFC 9110 §14.1.1: one that ends before it begins is invalid, and with it the field.
                (first <= last).then_some(Self::From { first, last })
            }
        }
    }
}

/// Digits only; what lies beyond 64 bits lies beyond every representation.
fn number(digits: &[u8]) -> Option<u64> {
    let add = |number: u64, &byte: &u8| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        Some(number.saturating_mul(10).saturating_add(digit))
    };
    match digits {
        [] => None,
        digits => digits.iter().try_fold(0, add),
    }
}

impl Wanted {
    /// The one range of a representation of `len` bytes, or that there is none; nothing where the whole answers, or where
    /// one range is not enough.
    pub(crate) fn one_span(self, len: u64) -> Option<Result<ContentRange, u64>> {
        match self {
            Self::Unsatisfiable => Some(Err(len)),
            Self::Spans(spans) => match &spans[..] {
                [span] => {
                    let span = span.clone();
                    Some(Ok(ContentRange { span, len }))
                }
                _ => None,
            },
            Self::Whole => None,
        }
    }
}

/// Adds a range to others, of which no two touch.
fn join(spans: &mut Spans, mut span: Range<u64>) {
    let (mut place, mut at) = (usize::MAX, 0);
    while let Some(there) = spans.get(at) {
        if there.start <= span.end && span.start <= there.end {
            span = there.start.min(span.start)..there.end.max(span.end);
            spans.remove(at);
            place = place.min(at);
        } else {
            at += 1;
        }
    }
    spans.insert(place.min(spans.len()), span);
}

/// What a request is to get of a representation of `len` bytes that came with these fields at `received`.
///
/// Preconditions come first and are for the caller (RFC 9110 §13.2.2), and so does whether the answer is a 200.
pub(crate) fn wanted(
    request: &HeaderMap,
    response: &HeaderMap,
    received: Timestamp,
    len: u64,
) -> Wanted {
    let Some(ranges) = Ranges::parse(request) else {
        return Wanted::Whole;
    };
    // RFC 9110 §14.3: the handler's own word.
    let has_none =
        tokens(response, &header::ACCEPT_RANGES).any(|unit| unit.eq_ignore_ascii_case(b"none"));
    if has_none || !validator::if_range(request, response, received) {
        return Wanted::Whole;
    }
    match ranges.of(len) {
        // A multipart body would be taken for encoded itself.
        Wanted::Spans(spans) if spans.len() > 1 && is_encoded(response) => Wanted::Whole,
        wanted => wanted,
    }
}

fn is_encoded(response: &HeaderMap) -> bool {
    tokens(response, &header::CONTENT_ENCODING)
        .any(|coding| !coding.eq_ignore_ascii_case(b"identity"))
}

#[cfg(test)]
mod tests;
