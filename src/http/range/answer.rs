//! Answers with a part of a representation, and with none (RFC 9110 §15.3.7, §15.5.17).

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use smallvec::SmallVec;

use super::{ContentRange, Spans, content_range::unsatisfied};
use crate::http::{body::CacheBody, status::CACHE_STATUS};

/// What describes the content of one message, which is not that of another.
pub(super) const OF_THE_MESSAGE: [HeaderName; 2] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("content-md5"),
];

/// RFC 9110 §15.3.7: who asks with `If-Range` has these already.
const KNOWN: [HeaderName; 3] = [
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
];

/// What a 416 has of the fields of a 200. Those that describe the representation or its freshness are left out: another
/// cache might take the 416 for an answer to others.
const IN_UNSATISFIABLE: [HeaderName; 4] = [header::AGE, CACHE_STATUS, header::DATE, header::VARY];

/// Slices of a representation, in the order in which they are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slices {
    slices: SmallVec<[(Range<u64>, Bytes); 1]>,
    /// The length of the whole.
    len: u64,
}

impl Slices {
    /// The bytes of `spans`, of each as `take` finds it; `None` where it does not find one.
    pub(crate) fn new(
        spans: Spans,
        len: u64,
        take: impl Fn(&Range<u64>) -> Option<Bytes>,
    ) -> Option<Self> {
        let with_bytes = |span: Range<u64>| take(&span).map(|bytes| (span, bytes));
        let slices = spans.into_iter().map(with_bytes).collect::<Option<_>>()?;
        Some(Self { slices, len })
    }
}

/// The slice of a whole body.
pub(crate) fn slice(body: &Bytes, span: &Range<u64>) -> Option<Bytes> {
    let span = usize::try_from(span.start).ok()?..usize::try_from(span.end).ok()?;
    (span.start <= span.end && span.end <= body.len()).then(|| body.slice(span))
}

/// A 206 with these slices. `headers` are those of the 200 that stands behind it.
pub(crate) fn partial<R>(
    slices: Slices,
    headers: HeaderMap,
    request: &HeaderMap,
) -> Response<CacheBody<R>> {
    let Slices { mut slices, len } = slices;
    if slices.len() == 1 {
        let (span, bytes) = slices.remove(0);
        return partial_of(
            ContentRange { span, len },
            headers,
            request,
            CacheBody::stored(bytes),
        );
    }
    let multipart = Multipart::new(&slices, len, headers.get(header::CONTENT_TYPE));
    let mut headers = partial_headers(headers, request);
    set(&mut headers, header::CONTENT_TYPE, multipart.content_type);
    set(&mut headers, header::CONTENT_LENGTH, multipart.len.into());
    response(
        StatusCode::PARTIAL_CONTENT,
        headers,
        CacheBody::chunks(multipart.chunks),
    )
}

/// A 206 with one range. `headers` are those of the 200 that stands behind it, and `body` is that range.
pub(crate) fn partial_of<R>(
    range: ContentRange,
    headers: HeaderMap,
    request: &HeaderMap,
    body: CacheBody<R>,
) -> Response<CacheBody<R>> {
    let mut headers = partial_headers(headers, request);
    let len = range.span.end - range.span.start;
    set(&mut headers, header::CONTENT_RANGE, range.value());
    set(&mut headers, header::CONTENT_LENGTH, len.into());
    response(StatusCode::PARTIAL_CONTENT, headers, body)
}

fn partial_headers(mut headers: HeaderMap, request: &HeaderMap) -> HeaderMap {
    for name in OF_THE_MESSAGE {
        headers.remove(name);
    }
    if request.contains_key(header::IF_RANGE) {
        for name in KNOWN {
            headers.remove(name);
        }
        if headers.contains_key(header::ETAG) {
            headers.remove(header::LAST_MODIFIED);
        }
    }
    accept(&mut headers);
    headers
}

/// A 416 for a representation of `len` bytes whose 200 would have these fields.
pub(crate) fn unsatisfiable<R>(len: u64, headers: &HeaderMap) -> Response<CacheBody<R>> {
    let stays = |name: &HeaderName| {
        IN_UNSATISFIABLE.contains(name) || name.as_str().starts_with("access-control-")
    };
    let lines = headers.iter().filter(|(name, _)| stays(name));
    let mut headers: HeaderMap = lines
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    accept(&mut headers);
    set(&mut headers, header::CONTENT_RANGE, unsatisfied(len));
    set(&mut headers, header::CONTENT_LENGTH, 0.into());
    response(
        StatusCode::RANGE_NOT_SATISFIABLE,
        headers,
        CacheBody::empty(),
    )
}

fn response<R>(
    status: StatusCode,
    headers: HeaderMap,
    body: CacheBody<R>,
) -> Response<CacheBody<R>> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Says that ranges are served, where the handler did not say anything itself (RFC 9110 §14.3).
fn accept(headers: &mut HeaderMap) {
    if !headers.contains_key(header::ACCEPT_RANGES) {
        set(
            headers,
            header::ACCEPT_RANGES,
            HeaderValue::from_static("bytes"),
        );
    }
}

/// A map that is full has no room; inserting would panic.
fn set(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    let _ = headers.try_insert(name, value);
}

/// A body of several parts (RFC 9110 §14.6).
struct Multipart {
    content_type: HeaderValue,
    chunks: Vec<Bytes>,
    len: u64,
}

impl Multipart {
    fn new(slices: &[(Range<u64>, Bytes)], len: u64, content_type: Option<&HeaderValue>) -> Self {
        let boundary = boundary();
        let mut between = BytesMut::new();
        let mut chunks = Vec::with_capacity(2 * slices.len() + 1);
        for (span, bytes) in slices {
            let line_end: &[u8] = if chunks.is_empty() { b"" } else { b"\r\n" };
            between.put_slice(line_end);
            between.put_slice(b"--");
            between.put_slice(&boundary);
            if let Some(content_type) = content_type {
                between.put_slice(b"\r\nContent-Type: ");
                between.put_slice(content_type.as_bytes());
            }
            let span = span.clone();
            between.put_slice(b"\r\nContent-Range: ");
            between.put_slice(ContentRange { span, len }.value().as_bytes());
            between.put_slice(b"\r\n\r\n");
            chunks.push(between.split().freeze());
            chunks.push(bytes.clone());
        }
        between.put_slice(b"\r\n--");
        between.put_slice(&boundary);
        between.put_slice(b"--\r\n");
        chunks.push(between.freeze());
        let mut content_type = b"multipart/byteranges; boundary=".to_vec();
        content_type.extend_from_slice(&boundary);
        Self {
            content_type: HeaderValue::try_from(content_type)
                .expect("letters and digits are visible ASCII"),
            len: chunks.iter().map(|chunk| chunk.len() as u64).sum(),
            chunks,
        }
    }
}

/// What no body has in it, because nobody could foresee it.
fn boundary() -> [u8; 32] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut random = [0; 16];
    getrandom::fill(&mut random).expect("the operating system has a source of random numbers");
    let mut digits = [0; 32];
    for (digits, byte) in digits.chunks_exact_mut(2).zip(random) {
        digits.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
    digits
}
