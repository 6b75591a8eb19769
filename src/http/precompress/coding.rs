use std::io::{self, Write as _};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{
        ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG, Entry,
    },
};

use crate::http::text::{members, quality, split, tokens, trim};

/// A content coding that larder can make (RFC 9110 §8.4.1).
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "memory")] {
/// use larder::{Cache, CacheLayer, Coding};
///
/// let layer = CacheLayer::new(Cache::memory()).precompress([Coding::Brotli, Coding::Gzip]);
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Coding {
    /// `br` (RFC 7932), at quality 5: about as fast as gzip at its default, and smaller.
    Brotli,
    /// `gzip` (RFC 1952), at level 6.
    Gzip,
}

/// Compressing less than this saves no packet.
const MIN_LEN: usize = 1_024;

/// Between the entity tag of a handler and the name of a coding: not what handlers end their own tags with.
const SEPARATOR: &[u8] = b"--";

const BROTLI_QUALITY: u32 = 5;
const BROTLI_WINDOW: u32 = 22;
const BROTLI_BUFFER: usize = 32 * 1024;

/// Digests are of the bytes as they are sent, or of the representation, which a coding is part of: they would be wrong of
/// others (RFC 9530 §2, §3).
const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("repr-digest"),
];

impl Coding {
    pub(crate) const ALL: [Self; 2] = [Self::Brotli, Self::Gzip];

    /// The name in `Accept-Encoding` and `Content-Encoding`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }

    pub(crate) const fn value(self) -> HeaderValue {
        HeaderValue::from_static(self.as_str())
    }

    fn is_named(self, name: &[u8]) -> bool {
        let also = matches!(self, Self::Gzip) && name.eq_ignore_ascii_case(b"x-gzip");
        also || name.eq_ignore_ascii_case(self.as_str().as_bytes())
    }

    /// The body in this coding; `None` where that would not be smaller.
    pub(crate) fn encode(self, body: &[u8]) -> Option<Bytes> {
        let encoded = match self {
            Self::Gzip => gzip(body),
            Self::Brotli => brotli(body),
        };
        // Writing into memory does not fail.
        let encoded = encoded.ok()?;
        (encoded.len() < body.len()).then(|| encoded.into())
    }
}

fn gzip(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 3), Compression::default());
    encoder.write_all(body)?;
    encoder.finish()
}

fn brotli(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoded = Vec::with_capacity(body.len() / 3);
    let mut encoder =
        brotli::CompressorWriter::new(&mut encoded, BROTLI_BUFFER, BROTLI_QUALITY, BROTLI_WINDOW);
    encoder.write_all(body)?;
    drop(encoder);
    Ok(encoded)
}

/// The coding among `offered` that a request prefers, or `None` for the body as it is (RFC 9110 §12.5.3). Of equal ones
/// the first of those offered wins.
pub(crate) fn negotiate(offered: &[Coding], request: &HeaderMap) -> Option<Coding> {
    let mut weights = [None; Coding::ALL.len()];
    let (mut any, mut identity) = (None, None);
    let lines = request.get_all(ACCEPT_ENCODING).iter();
    for member in lines.flat_map(|line| members(line.as_bytes())) {
        let mut parts = split(member, b';');
        let name = trim(parts.next().unwrap_or_default());
        let weight = parts.find_map(quality).unwrap_or(1_000);
        if name == b"*" {
            any = any.or(Some(weight));
        } else if name.eq_ignore_ascii_case(b"identity") {
            identity = identity.or(Some(weight));
        } else if let Some(at) = Coding::ALL.iter().position(|coding| coding.is_named(name)) {
            weights[at] = weights[at].or(Some(weight));
        }
    }
    let weight = |coding: &Coding| weights[*coding as usize].or(any).unwrap_or(0);
    // `max_by_key` takes the last of equal ones.
    let best = offered.iter().rev().max_by_key(|coding| weight(coding))?;
    let least = identity.unwrap_or(0).max(1);
    (weight(best) >= least).then_some(*best)
}

/// Whether a response may be sent compressed: a whole one, of a type that gets smaller, and nobody minds.
pub(crate) fn may_encode(status: StatusCode, headers: &HeaderMap) -> bool {
    status == StatusCode::OK
        && !headers.contains_key(CONTENT_ENCODING)
        && !headers.contains_key(CONTENT_RANGE)
        && !has_digest(headers)
        // RFC 9111 §5.2.2.6.
        && !tokens(headers, &CACHE_CONTROL).any(|token| token.eq_ignore_ascii_case(b"no-transform"))
        && headers.get(CONTENT_TYPE).is_some_and(is_text_like)
}

/// Whether fields before or behind a body tell a digest of it.
pub(crate) fn has_digest(fields: &HeaderMap) -> bool {
    DIGESTS.iter().any(|digest| fields.contains_key(digest))
}

/// Whether a body of this length is worth it.
pub(crate) fn is_worth_encoding(len: usize) -> bool {
    len >= MIN_LEN
}

fn is_text_like(value: &HeaderValue) -> bool {
    let essence = split(value.as_bytes(), b';').next().map(trim);
    let essence = essence.unwrap_or_default().to_ascii_lowercase();
    let named: [&[u8]; 9] = [
        b"application/json",
        b"application/javascript",
        b"application/xml",
        b"application/wasm",
        b"application/x-ndjson",
        b"application/manifest+json",
        b"application/vnd.ms-fontobject",
        b"image/svg+xml",
        b"font/ttf",
    ];
    let is_structured = essence.ends_with(b"+json") || essence.ends_with(b"+xml");
    let is_stream = essence == b"text/event-stream";
    (essence.starts_with(b"text/") && !is_stream) || is_structured || named.contains(&&*essence)
}

/// The entity tag of a response in this coding: a strong one may not be that of other bytes, a weak one may (RFC 9110
/// §8.8.3.3).
pub(crate) fn encoded_tag(headers: &HeaderMap, coding: Coding) -> Option<HeaderValue> {
    let tag = headers.get(ETAG)?.as_bytes();
    let opaque = tag.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let tag = [b"\"", opaque, SEPARATOR, coding.as_str().as_bytes(), b"\""].concat();
    HeaderValue::from_bytes(&tag).ok()
}

/// Gives the tags in this field back the form that the handler knows them by, and says whether one had another.
pub(crate) fn restore_tags(offered: &[Coding], request: &mut HeaderMap, name: &HeaderName) -> bool {
    let mut is_any = false;
    let Entry::Occupied(mut field) = request.entry(name) else {
        return is_any;
    };
    for value in field.iter_mut() {
        let restored = restored(offered, value.as_bytes());
        if let Some(restored) = restored.and_then(|text| HeaderValue::from_bytes(&text).ok()) {
            *value = restored;
            is_any = true;
        }
    }
    is_any
}

/// The value with the endings that [`encoded_tag`] adds taken away; `None` where there are none.
fn restored(offered: &[Coding], value: &[u8]) -> Option<Vec<u8>> {
    let mut text = value.to_vec();
    for coding in offered {
        let ending = [SEPARATOR, coding.as_str().as_bytes(), b"\""].concat();
        while let Some(at) = text
            .windows(ending.len())
            .position(|there| *there == *ending)
        {
            text.drain(at..at + ending.len() - 1);
        }
    }
    (text.len() != value.len()).then_some(text)
}

#[cfg(test)]
mod tests;
