//! Stored parts of a response: which bytes of the whole they are, and how more are added (RFC 9111 §3.3, §3.4).

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body::SizeHint;

use super::{ContentRange, answer::OF_THE_MESSAGE, slice, validator};
use crate::{
    Reason, Timestamp,
    http::{fields, stored::StoredResponse},
};

/// So many parts of one response are stored, as far as they do not touch.
const MAX_PARTS: usize = 32;

/// The parts of one version of a representation that are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    /// The length of the whole.
    len: u64,
    /// Sorted, and no two touch.
    spans: Vec<Range<u64>>,
    /// The bytes of all spans, one after the other.
    bytes: Bytes,
}

impl Parts {
    /// Reads what [`encode`] wrote; the bytes are a slice of it.
    pub(crate) fn read(encoded: &Bytes) -> Option<Self> {
        let (&len, rest) = encoded.split_first_chunk()?;
        let (&count, rest) = rest.split_first_chunk()?;
        let (len, count) = (
            u64::from_be_bytes(len),
            usize::from(u16::from_be_bytes(count)),
        );
        let (table, bytes) = rest.split_at_checked(count.checked_mul(16)?)?;
        let (numbers, _) = table.as_chunks();
        let numbers: Vec<_> = numbers.iter().copied().map(u64::from_be_bytes).collect();
        let (pairs, _) = numbers.as_chunks();
        let spans: Vec<_> = pairs.iter().map(|&[start, end]| start..end).collect();
        let are_apart = spans.windows(2).all(|pair| pair[0].end < pair[1].start);
        let are_there = spans
            .iter()
            .all(|span| span.start < span.end && span.end <= len);
        let sum = spans.iter().try_fold(0_u64, |sum, span| {
            sum.checked_add(span.end.checked_sub(span.start)?)
        });
        let is_whole = are_apart && are_there && count > 0 && sum == Some(bytes.len() as u64);
        is_whole.then(|| Self {
            len,
            spans,
            bytes: encoded.slice(encoded.len() - bytes.len()..),
        })
    }

    /// The length of the whole.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing is missing.
    #[cfg(fuzzing)]
    pub(crate) fn is_whole(&self) -> bool {
        self.bytes.len() as u64 == self.len
    }

    /// The bytes of `wanted`, where all of them are in one part.
    pub(crate) fn take(&self, wanted: &Range<u64>) -> Option<Bytes> {
        let (own, bytes) = self
            .each()
            .find(|(own, _)| own.start <= wanted.start && wanted.end <= own.end)?;
        slice(&bytes, &(wanted.start - own.start..wanted.end - own.start))
    }

    fn each(&self) -> impl Iterator<Item = (Range<u64>, Bytes)> + '_ {
        let mut at = 0;
        self.spans.iter().map(move |span| {
            let from = at;
            // The bytes are all there, so their number fits.
            at += (span.end - span.start) as usize;
            (span.clone(), self.bytes.slice(from..at))
        })
    }
}

/// A part of a response on its way into the store.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    range: ContentRange,
    /// What is stored of the same version.
    with: Option<Parts>,
}

/// The stored response that a new part may belong to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) received: Timestamp,
    pub(crate) parts: &'a Parts,
}

impl<'a> Known<'a> {
    /// The parts that a stored response consists of, if it is not whole.
    pub(crate) fn of(stored: &'a StoredResponse) -> Option<Self> {
        Some(Self {
            headers: &stored.head.headers,
            received: stored.head.times.response,
            parts: stored.parts.as_deref()?,
        })
    }

    /// Whether they are of the version that these fields speak of (RFC 9111 §3.4: by a strong validator), in the same
    /// coding.
    pub(crate) fn is_of(&self, headers: &HeaderMap, received: Timestamp) -> bool {
        let version = validator::strong(headers, received);
        version.is_some()
            && version == validator::strong(self.headers, self.received)
            && self.is_in_coding_of(headers)
    }

    /// A part that answers `If-Range` need not say its coding (RFC 9110 §15.3.7), which a tag tells then; a date does not.
    fn is_in_coding_of(&self, headers: &HeaderMap) -> bool {
        let coding = header::CONTENT_ENCODING;
        let is_told = headers.contains_key(&coding) || !headers.contains_key(header::ETAG);
        !is_told || self.headers.get_all(&coding) == headers.get_all(&coding)
    }
}

impl Piece {
    /// Takes a 206 that came at `received`, and gives the fields of the whole that it is a part of.
    ///
    /// # Errors
    ///
    /// [`Reason::Partial`] for one that does not say in one `Content-Range` which part it is, that has more or less of it
    /// or does not tell how much, that has no strong validator, or lacks fields because `If-Range` asked for it.
    pub(crate) fn of(
        request: &HeaderMap,
        response: &HeaderMap,
        received: Timestamp,
        body: &SizeHint,
        known: Option<Known<'_>>,
    ) -> Result<(Self, HeaderMap), Reason> {
        let range = honest_range(response, body).ok_or(Reason::Partial)?;
        validator::strong(response, received).ok_or(Reason::Partial)?;
        let is_same =
            |known: &Known<'_>| known.parts.len == range.len && known.is_of(response, received);
        let known = known.filter(is_same);
        let mut headers = match known {
            Some(known) => {
                let mut headers = known.headers.clone();
                fields::freshen(&mut headers, response);
                headers
            }
            // RFC 9110 §15.3.7: it may lack what this client knows already, and others do not.
            None if request.contains_key(header::IF_RANGE) => return Err(Reason::Partial),
            None => response.clone(),
        };
        headers.remove(header::CONTENT_RANGE);
        headers.remove(header::TRAILER);
        for name in OF_THE_MESSAGE {
            headers.remove(name);
        }
        let len = range.len.into();
        headers
            .try_insert(header::CONTENT_LENGTH, len)
            .map_err(|_| Reason::TooManyFields)?;
        let with = known.map(|known| known.parts.clone());
        Ok((Self { range, with }, headers))
    }

    /// Whether it is added to others.
    pub(crate) fn is_joined(&self) -> bool {
        self.with.is_some()
    }

    /// How many bytes the part has.
    pub(crate) fn len(&self) -> u64 {
        self.range.span.end - self.range.span.start
    }

    /// The same part, to be added to `parts` instead, where they are of as long a whole.
    pub(crate) fn with(&self, parts: &Parts) -> Self {
        let others = Some(parts).filter(|parts| parts.len == self.range.len);
        Self {
            range: self.range.clone(),
            with: others.or(self.with.as_ref()).cloned(),
        }
    }

    /// Whether nothing is missing once this part is there, and the whole has no more than `limit` bytes.
    pub(crate) fn completes(&self, limit: u64) -> bool {
        let ContentRange { span, len } = &self.range;
        let spans = self.with.iter().flat_map(|parts| &parts.spans);
        let mut spans: Vec<_> = spans.chain([span]).collect();
        spans.sort_unstable_by_key(|span| span.start);
        let end = spans
            .into_iter()
            .fold(0, |end, span| match span.start <= end {
                true => end.max(span.end),
                false => end,
            });
        end == *len && *len <= limit
    }

    /// The bytes of the whole, where this part, which consists of `chunks`, [completes](Self::completes) it.
    pub(crate) fn whole(&self, chunks: &[Bytes]) -> Vec<Bytes> {
        let kept = self.with.iter().flat_map(Parts::each).collect();
        self.combined(kept, chunks)
            .into_iter()
            .map(|(_, bytes)| bytes)
            .collect()
    }

    /// This part, which consists of `chunks`, and as many others as stay within `limit` bytes, in the form that is
    /// stored. Those that are farthest from this one go first.
    pub(crate) fn encode(&self, chunks: &[Bytes], limit: u64) -> Vec<Bytes> {
        let mut kept: Vec<_> = self.with.iter().flat_map(Parts::each).collect();
        let new = &self.range.span;
        let mut sum: u64 = kept.iter().map(|(span, _)| span.end - span.start).sum();
        while kept.len() >= MAX_PARTS || sum + self.len() > limit {
            let (Some((first, _)), Some((last, _))) = (kept.first(), kept.last()) else {
                break;
            };
            let before = new.start.saturating_sub(first.end);
            let is_first = before >= last.start.saturating_sub(new.end);
            let gone = kept.remove(if is_first { 0 } else { kept.len() - 1 });
            sum -= gone.0.end - gone.0.start;
        }
        let pieces = self.combined(kept, chunks);
        let mut spans: Vec<Range<u64>> = Vec::new();
        for (start, bytes) in &pieces {
            let end = start + bytes.len() as u64;
            match spans.last_mut() {
                Some(last) if last.end == *start => last.end = end,
                _ => spans.push(*start..end),
            }
        }
        let mut table = BytesMut::with_capacity(10 + 16 * spans.len());
        table.put_u64(self.range.len);
        table.put_u16(spans.len() as u16);
        for span in spans {
            table.put_u64(span.start);
            table.put_u64(span.end);
        }
        let bytes = pieces.into_iter().map(|(_, bytes)| bytes);
        std::iter::once(table.freeze()).chain(bytes).collect()
    }

    /// This part, and of the others what it does not have, sorted by where they begin.
    fn combined(&self, kept: Vec<(Range<u64>, Bytes)>, chunks: &[Bytes]) -> Vec<(u64, Bytes)> {
        let new = &self.range.span;
        let mut pieces = Vec::with_capacity(kept.len() + chunks.len() + 1);
        for (span, bytes) in kept {
            for part in [
                span.start..span.end.min(new.start),
                span.start.max(new.end)..span.end,
            ] {
                if part.start < part.end {
                    let within = part.start - span.start..part.end - span.start;
                    pieces.extend(slice(&bytes, &within).map(|bytes| (part.start, bytes)));
                }
            }
        }
        let mut at = new.start;
        for chunk in chunks {
            pieces.push((at, chunk.clone()));
            at += chunk.len() as u64;
        }
        pieces.sort_by_key(|(start, _)| *start);
        pieces
    }
}

/// The range that a 206 has, where everything that it says of it agrees.
fn honest_range(response: &HeaderMap, body: &SizeHint) -> Option<ContentRange> {
    let range = ContentRange::parse(response)?;
    let multipart = response.get(header::CONTENT_TYPE).is_some_and(|value| {
        let name = b"multipart/byteranges";
        let start = value.as_bytes().get(..name.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(name))
    });
    let len = range.span.end - range.span.start;
    let mut declared = response.get_all(header::CONTENT_LENGTH).iter();
    let is_declared = match (declared.next(), declared.next()) {
        (None, _) => body.exact().is_some(),
        (Some(value), None) => value.to_str().is_ok_and(|text| text.parse() == Ok(len)),
        (Some(_), Some(_)) => false,
    };
    let is_len = body.exact().is_none_or(|exact| exact == len);
    (is_declared && is_len && !multipart).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(len: u64, spans: &[(u64, u64)], bytes: &[u8]) -> Bytes {
        let mut encoded = BytesMut::new();
        encoded.put_u64(len);
        encoded.put_u16(spans.len() as u16);
        for (start, end) in spans {
            encoded.put_u64(*start);
            encoded.put_u64(*end);
        }
        encoded.put_slice(bytes);
        encoded.freeze()
    }

    #[test]
    fn parts_that_are_apart_and_all_there_are_read() {
        let parts = Parts::read(&encoded(9, &[(0, 2), (4, 7)], b"abxyz")).unwrap();
        assert_eq!(parts.take(&(4..6)), Some(Bytes::from("xy")));
        assert_eq!(parts.take(&(1..5)), None);
    }

    #[test]
    fn parts_that_cannot_be_are_none() {
        for (spans, bytes) in [
            (&[(4, 2)][..], &b""[..]),
            (&[(0, 2), (7, 4)], b"ab"),
            (&[(0, 2), (2, 4)], b"abcd"),
            (&[(8, 10)], b"ab"),
            (&[(0, 2)], b"abc"),
            (&[(0, u64::MAX), (0, u64::MAX)], b""),
            (&[], b""),
        ] {
            assert_eq!(Parts::read(&encoded(9, spans, bytes)), None, "{spans:?}");
        }
    }
}
