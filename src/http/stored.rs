//! Stored responses: in memory ready to be answered with, on a server as one byte string.

use std::sync::{Mutex, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{AGE, DATE},
};

use super::{
    conditional, date,
    directives::ResponseDirectives,
    freshness::{ResponsePolicy, Times},
    policy::Rules,
    status::{CACHE_STATUS, CacheStatus, Outcome},
    storable::RequestFacts,
};
use crate::{Error, ErrorKind, Result, Timestamp};

const FORMAT: u8 = 1;
const AUTHORIZATION: u8 = 1;
const COOKIE: u8 = 2;

/// The head of a response as it is stored: without what belongs to one connection or one client.
#[derive(Clone, Debug)]
pub(super) struct StoredHead {
    pub(super) status: StatusCode,
    /// As the handler sent them; `Age` too, which the freshness is computed from.
    pub(super) headers: HeaderMap,
    pub(super) times: Times,
    pub(super) facts: RequestFacts,
}

/// A stored response.
#[derive(Debug)]
pub(super) struct StoredResponse {
    pub(super) head: StoredHead,
    /// The headers of an answer: a slot for `Age`, and one for `Cache-Status` unless an upstream cache has told something
    /// in that field, are there to be overwritten, because inserting a field may grow the map.
    pub(super) answer: HeaderMap,
    pub(super) body: Bytes,
    pub(super) policy: ResponsePolicy,
    pub(super) has_status_slot: bool,
    not_modified: OnceLock<HeaderMap>,
    told: Mutex<Option<Told>>,
}

/// What a hit told last. It changes once a second.
#[derive(Debug)]
struct Told {
    ttl: i64,
    writer: CacheStatus,
    value: HeaderValue,
}

impl StoredHead {
    /// The head and `body` as one byte string, and where the body begins in it.
    pub(super) fn encode(&self, body: &[Bytes]) -> (Bytes, usize) {
        let body_len: usize = body.iter().map(Bytes::len).sum();
        let head_len: usize = self
            .headers
            .iter()
            .map(|(name, value)| 6 + name.as_str().len() + value.len())
            .sum();
        let mut bytes = BytesMut::with_capacity(24 + head_len + body_len);
        let facts = (u8::from(self.facts.authorization) * AUTHORIZATION)
            | (u8::from(self.facts.cookie) * COOKIE);
        bytes.put_slice(&[FORMAT, facts]);
        bytes.put_u16(self.status.as_u16());
        bytes.put_u64(self.times.request.as_millis());
        bytes.put_u64(self.times.response.as_millis());
        bytes.put_u16(self.headers.len() as u16);
        for (name, value) in &self.headers {
            bytes.put_u16(name.as_str().len() as u16);
            bytes.put_slice(name.as_str().as_bytes());
            bytes.put_u32(value.len() as u32);
            bytes.put_slice(value.as_bytes());
        }
        let body_at = bytes.len();
        body.iter().for_each(|chunk| bytes.put_slice(chunk));
        (bytes.freeze(), body_at)
    }

    fn read(mut bytes: &[u8]) -> Option<(Self, usize)> {
        let whole = bytes.len();
        let [FORMAT, facts] = take(&mut bytes)? else {
            return None;
        };
        let status = StatusCode::from_u16(u16::from_be_bytes(take(&mut bytes)?)).ok()?;
        let request = Timestamp::from_millis(u64::from_be_bytes(take(&mut bytes)?));
        let response = Timestamp::from_millis(u64::from_be_bytes(take(&mut bytes)?));
        let count = u16::from_be_bytes(take(&mut bytes)?);
        let mut headers = HeaderMap::try_with_capacity(usize::from(count).min(256)).ok()?;
        for _ in 0..count {
            let len = u16::from_be_bytes(take(&mut bytes)?);
            let name = HeaderName::from_bytes(bytes.split_off(..usize::from(len))?).ok()?;
            let len = usize::try_from(u32::from_be_bytes(take(&mut bytes)?)).ok()?;
            let value = HeaderValue::from_bytes(bytes.split_off(..len)?).ok()?;
            headers.try_append(name, value).ok()?;
        }
        let facts = RequestFacts {
            authorization: facts & AUTHORIZATION != 0,
            cookie: facts & COOKIE != 0,
            no_store: false,
        };
        let head = Self {
            status,
            headers,
            times: Times { request, response },
            facts,
        };
        Some((head, whole - bytes.len()))
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

impl StoredResponse {
    pub(super) fn new(head: StoredHead, body: Bytes, rules: &Rules) -> Self {
        let directives = ResponseDirectives::parse(&head.headers);
        let policy = ResponsePolicy::new(
            &head.facts,
            head.status,
            &head.headers,
            &directives,
            head.times,
            rules,
        );
        let mut answer = head.headers.clone();
        answer.insert(AGE, HeaderValue::from_static("0"));
        if !answer.contains_key(DATE) {
            // RFC 9110 §6.6.1: the time of origination. The server would put the time of each answer there.
            answer.insert(DATE, date::format(head.times.response));
        }
        let has_status_slot = !answer.contains_key(&CACHE_STATUS);
        if has_status_slot {
            answer.insert(CACHE_STATUS, HeaderValue::from_static(""));
        }
        Self {
            head,
            answer,
            body,
            policy,
            has_status_slot,
            not_modified: OnceLock::new(),
            told: Mutex::default(),
        }
    }

    /// The headers of a 304 that stands for the response.
    pub(super) fn not_modified(&self) -> &HeaderMap {
        self.not_modified
            .get_or_init(|| conditional::not_modified_headers(&self.answer))
    }

    /// What a hit tells in `Cache-Status`, written anew only when the second has changed.
    pub(super) fn hit_status(&self, writer: &CacheStatus, ttl: i64) -> HeaderValue {
        let write = || writer.value(Outcome::Hit { ttl }, None);
        // Whoever does not get the lock at once is faster by writing.
        let Ok(mut told) = self.told.try_lock() else {
            return write();
        };
        match &*told {
            Some(last) if last.ttl == ttl && last.writer == *writer => last.value.clone(),
            _ => {
                let value = write();
                *told = Some(Told {
                    ttl,
                    writer: writer.clone(),
                    value: value.clone(),
                });
                value
            }
        }
    }

    /// Reads what [`StoredHead::encode`] wrote; the body is a slice of `payload`.
    pub(super) fn decode(payload: &Bytes, rules: &Rules) -> Result<Self> {
        let (head, body_at) = StoredHead::read(payload)
            .ok_or_else(|| Error::new(ErrorKind::Decode, "the stored response is damaged"))?;
        Ok(Self::new(head, payload.slice(body_at..), rules))
    }

    /// What the response takes in memory beside its encoded form, in bytes: the header maps.
    pub(super) fn weight(&self) -> usize {
        // An entry of the map is a name, a value, a link and a place in the index.
        let map =
            |headers: &HeaderMap| headers.capacity() * 2 * size_of::<(HeaderName, HeaderValue)>();
        let text = |headers: &HeaderMap| {
            headers
                .iter()
                .map(|(name, value)| name.as_str().len() + value.len())
                .sum::<usize>()
        };
        size_of::<Self>() + map(&self.head.headers) + map(&self.answer) + 2 * text(&self.answer)
    }
}
