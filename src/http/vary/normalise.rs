//! Brings field values that mean the same into one form.

use std::ops::Range;

use http::{HeaderMap, HeaderName};
use smallvec::SmallVec;

use crate::http::text::{members, split, trim};

/// Most values fit, so that choosing a variant allocates nothing.
pub(crate) type Buffer = SmallVec<[u8; 256]>;

/// All lines of a field as one value (RFC 9110 §5.3).
pub(super) fn combine(request: &HeaderMap, name: &HeaderName, separator: &[u8]) -> Buffer {
    let mut combined = Buffer::new();
    for (at, line) in request.get_all(name).iter().enumerate() {
        if at > 0 {
            combined.extend_from_slice(separator);
        }
        combined.extend_from_slice(trim(line.as_bytes()));
    }
    combined
}

/// A list of a syntax that is not known here: only the white space around its commas goes.
pub(super) fn list(value: &[u8]) -> Buffer {
    let mut normal = Buffer::new();
    for (at, member) in members(value).enumerate() {
        if at > 0 {
            normal.push(b',');
        }
        normal.extend_from_slice(member);
    }
    normal
}

/// A list of preferences (RFC 9110 §12.5): sorted, in lower case, with weights in their shortest form.
pub(super) fn preferences(value: &[u8], into: &mut Buffer) {
    let mut normal = Buffer::new();
    let mut ranges: SmallVec<[Range<usize>; 16]> = SmallVec::new();
    for member in members(value).filter(|member| !member.is_empty()) {
        let start = normal.len();
        preference(member, &mut normal);
        ranges.push(start..normal.len());
    }
    ranges.sort_unstable_by(|one, other| normal[one.clone()].cmp(&normal[other.clone()]));
    ranges.dedup_by(|one, other| normal[one.clone()] == normal[other.clone()]);
    into.extend_from_slice(&(ranges.len() as u64).to_le_bytes());
    for range in ranges {
        super::feed(&normal[range], into);
    }
}

fn preference(member: &[u8], normal: &mut Buffer) {
    for (at, part) in split(member, b';').enumerate() {
        if at == 0 {
            normal.extend(part.iter().map(u8::to_ascii_lowercase));
            continue;
        }
        let equals = part
            .iter()
            .position(|&byte| byte == b'=')
            .unwrap_or(part.len());
        let (name, value) = part.split_at(equals);
        let name = trim(name);
        let value = value.strip_prefix(b"=").map(trim);
        let weight = value
            .filter(|_| name.eq_ignore_ascii_case(b"q"))
            .and_then(weight);
        // RFC 9110 §12.4.2: no weight is a weight of 1.
        if weight == Some(b"1") {
            continue;
        }
        normal.push(b';');
        normal.extend(name.iter().map(u8::to_ascii_lowercase));
        if let Some(value) = weight.or(value) {
            normal.push(b'=');
            normal.extend_from_slice(value);
        }
    }
}

/// A well-formed weight without the zeros at its end; `None` for anything else, which stays as it is.
fn weight(value: &[u8]) -> Option<&[u8]> {
    let (whole, decimals) = match value {
        [whole] => (whole, &[][..]),
        [whole, b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return None,
    };
    let is_weight = match whole {
        b'0' => decimals.iter().all(u8::is_ascii_digit),
        b'1' => decimals.iter().all(|&digit| digit == b'0'),
        _ => false,
    };
    is_weight.then(|| match decimals.iter().rposition(|&digit| digit != b'0') {
        Some(last) => &value[..last + 3],
        None => &value[..1],
    })
}
