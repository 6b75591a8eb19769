//! Stored responses: in memory ready to be answered with, on a server as one byte string.

use std::{
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, DATE, ETAG, TRAILER},
};

use super::{
    age::age_value,
    conditional, date,
    directives::ResponseDirectives,
    freshness::{ResponsePolicy, Times},
    policies::{KeyedBy, Said},
    policy::Rules,
    range::Parts,
    status::{CACHE_STATUS, CacheStatus, Outcome},
    storable::RequestFacts,
    tags, trailers,
};
use crate::{Error, ErrorKind, Result, TagStamp, Timestamp};

/// A response with more lines than this is not stored: header maps have a limit, and adding beyond it panics.
pub(super) const MAX_FIELDS: usize = 8192;

/// As many fields come on top of those that a response is stored with, at most.
const MOST_ADDED: usize = 6;

const FORMAT: u8 = 1;
/// With trailers, between the headers and the body. A reader that does not know them takes it for damage, and not for a
/// body that begins with them.
const FORMAT_TRAILED: u8 = 2;
const AUTHORIZATION: u8 = 1;
const COOKIE: u8 = 2;
/// The time of a soft purge follows.
const PURGED: u8 = 4;
const MADE_ETAG: u8 = 8;
/// The lifetime that a policy gave follows.
const GIVEN: u8 = 16;
const OVERRIDES: u8 = 32;
/// The fingerprint of a policy's key parts follows.
const KEYED: u8 = 64;

/// The head of a response as it is stored: without what belongs to one connection or one client.
#[derive(Clone, Debug)]
pub(super) struct StoredHead {
    pub(super) status: StatusCode,
    /// As the handler sent them; `Age` too, which the freshness is computed from.
    pub(super) headers: HeaderMap,
    pub(super) times: Times,
    pub(super) facts: RequestFacts,
    /// When it was purged softly. Of a variant it is what the record of variants said when the variant was stored.
    pub(super) purged: Option<Timestamp>,
    /// A tag that the handler did not send, and is not asked about.
    pub(super) made_etag: Option<HeaderValue>,
}

/// A stored response.
#[derive(Debug)]
pub(super) struct StoredResponse {
    pub(super) head: Arc<StoredHead>,
    /// The headers of an answer: a slot for `Age`, and one for `Cache-Status` unless an upstream cache has told something
    /// in that field, are there to be overwritten, because inserting a field may grow the map.
    answer: HeaderMap,
    /// The whole, or in a stored 206 the [parts](Parts) of it in the form they are stored in.
    pub(super) body: Bytes,
    /// Seldom there, and boxed for the sake of all others.
    trailers: Option<Box<HeaderMap>>,
    pub(super) parts: Option<Box<Parts>>,
    pub(super) policy: ResponsePolicy,
    /// By whose [rules](Rules::view) `answer` and `policy` are made.
    view: u64,
    /// The same response by other rules, of another layer of the same cache. It weighs nothing, for it is seldom there.
    other: OnceLock<Box<Self>>,
    has_status_slot: bool,
    #[cfg(feature = "compression")]
    digest: OnceLock<[u8; 16]>,
    not_modified: OnceLock<HeaderMap>,
    latest: Mutex<Option<Latest>>,
}

/// The headers of the latest hit. They change once a second.
#[derive(Debug)]
struct Latest {
    age: u32,
    ttl: i64,
    writer: Option<CacheStatus>,
    /// Of a whole answer and of a 304. Kept from the second hit of a second on: a response that is seldom asked for does
    /// not pay for it.
    headers: [Option<Arc<HeaderMap>>; 2],
}

impl StoredHead {
    /// The head, `trailers` and `body` as one byte string, and where the body begins in it.
    pub(super) fn encode(&self, body: &[Bytes], trailers: &HeaderMap) -> (Bytes, usize) {
        let body_len: usize = body.iter().map(Bytes::len).sum();
        let made = self.made_etag.iter().map(|etag| (&ETAG, etag));
        let fields = self.headers.iter().chain(trailers).chain(made);
        let head_len: usize = fields
            .map(|(name, value)| 6 + name.as_str().len() + value.len())
            .sum();
        let mut bytes = BytesMut::with_capacity(48 + head_len + body_len);
        let said = &self.facts.said;
        let facts = (u8::from(self.facts.authorization) * AUTHORIZATION)
            | (u8::from(self.facts.cookie) * COOKIE)
            | (u8::from(self.purged.is_some()) * PURGED)
            | (u8::from(self.made_etag.is_some()) * MADE_ETAG)
            | (u8::from(said.lifetime.is_some()) * GIVEN)
            | (u8::from(said.overrides) * OVERRIDES)
            | (u8::from(said.fingerprint != 0) * KEYED);
        let format = match trailers.is_empty() {
            true => FORMAT,
            false => FORMAT_TRAILED,
        };
        bytes.put_slice(&[format, facts]);
        bytes.put_u16(self.status.as_u16());
        bytes.put_u64(self.times.request.as_millis());
        bytes.put_u64(self.times.response.as_millis());
        if let Some(purged) = self.purged {
            bytes.put_u64(purged.as_millis());
        }
        if let Some(lifetime) = said.lifetime {
            bytes.put_u64(u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX));
        }
        if said.fingerprint != 0 {
            bytes.put_u64(said.fingerprint);
        }
        put_fields(&self.headers, self.made_etag.as_ref(), &mut bytes);
        if !trailers.is_empty() {
            put_fields(trailers, None, &mut bytes);
        }
        let body_at = bytes.len();
        body.iter().for_each(|chunk| bytes.put_slice(chunk));
        (bytes.freeze(), body_at)
    }

    /// Whether the response has no tag and may be given one.
    pub(super) fn wants_etag(&self, rules: &Rules) -> bool {
        rules.generate_etags && self.status == StatusCode::OK && !self.headers.contains_key(ETAG)
    }

    /// Gives the response a strong tag if it [wants](Self::wants_etag) one (RFC 9110 §8.8.1): other bytes, or the same ones
    /// to be read in another way, have another tag.
    pub(super) fn make_etag(&mut self, body: &[Bytes], rules: &Rules) {
        if !self.wants_etag(rules) {
            return;
        }
        let mut hasher = blake3::Hasher::new();
        for name in [CONTENT_TYPE, CONTENT_ENCODING] {
            for value in self.headers.get_all(name) {
                hasher.update(&(value.len() as u64).to_le_bytes());
                hasher.update(value.as_bytes());
            }
            hasher.update(&u64::MAX.to_le_bytes());
        }
        for chunk in body {
            hasher.update(chunk);
        }
        let hash = hasher.finalize().to_hex();
        self.made_etag = HeaderValue::from_str(&format!("\"{}\"", &hash[..32])).ok();
    }

    /// The head, the trailers, and where the body begins.
    fn read(mut bytes: &[u8]) -> Option<(Self, HeaderMap, usize)> {
        let whole = bytes.len();
        let [format @ (FORMAT | FORMAT_TRAILED), facts] = take(&mut bytes)? else {
            return None;
        };
        let status = StatusCode::from_u16(u16::from_be_bytes(take(&mut bytes)?)).ok()?;
        let request = Timestamp::from_millis(u64::from_be_bytes(take(&mut bytes)?));
        let response = Timestamp::from_millis(u64::from_be_bytes(take(&mut bytes)?));
        let purged = match facts & PURGED {
            0 => None,
            _ => Some(Timestamp::from_millis(u64::from_be_bytes(take(
                &mut bytes,
            )?))),
        };
        let lifetime = match facts & GIVEN {
            0 => None,
            _ => Some(Duration::from_millis(u64::from_be_bytes(take(&mut bytes)?))),
        };
        let fingerprint = match facts & KEYED {
            0 => 0,
            _ => u64::from_be_bytes(take(&mut bytes)?),
        };
        let mut headers = take_fields(&mut bytes)?;
        let made_etag = match facts & MADE_ETAG != 0 {
            true => headers.remove(ETAG),
            false => None,
        };
        let trailers = match format {
            FORMAT_TRAILED => take_fields(&mut bytes)?,
            _ => HeaderMap::new(),
        };
        let facts = RequestFacts {
            authorization: facts & AUTHORIZATION != 0,
            cookie: facts & COOKIE != 0,
            no_store: false,
            is_ambiguous: false,
            said: Said {
                lifetime,
                overrides: facts & OVERRIDES != 0,
                fingerprint,
                ..Said::NONE
            },
        };
        let head = Self {
            status,
            headers,
            times: Times { request, response },
            facts,
            purged,
            made_etag,
        };
        Some((head, trailers, whole - bytes.len()))
    }
}

fn put_fields(fields: &HeaderMap, made_etag: Option<&HeaderValue>, bytes: &mut BytesMut) {
    let made = made_etag.map(|etag| (&ETAG, etag));
    bytes.put_u16((fields.len() + usize::from(made.is_some())) as u16);
    for (name, value) in fields.iter().chain(made) {
        bytes.put_u16(name.as_str().len() as u16);
        bytes.put_slice(name.as_str().as_bytes());
        bytes.put_u32(value.len() as u32);
        bytes.put_slice(value.as_bytes());
    }
}

fn take_fields(bytes: &mut &[u8]) -> Option<HeaderMap> {
    let count = usize::from(u16::from_be_bytes(take(bytes)?));
    // A tag that was made comes on top.
    if count > MAX_FIELDS + 1 {
        return None;
    }
    let mut fields = HeaderMap::with_capacity(count.min(64));
    for _ in 0..count {
        let len = u16::from_be_bytes(take(bytes)?);
        let name = HeaderName::from_bytes(bytes.split_off(..usize::from(len))?).ok()?;
        let len = usize::try_from(u32::from_be_bytes(take(bytes)?)).ok()?;
        let value = HeaderValue::from_bytes(bytes.split_off(..len)?).ok()?;
        fields.try_append(name, value).ok()?;
    }
    Some(fields)
}

/// The status that decides how a stored response is reused. Only parts are stored as a 206, and they are reused as the
/// whole would be.
pub(super) fn judged(status: StatusCode) -> StatusCode {
    match status {
        StatusCode::PARTIAL_CONTENT => StatusCode::OK,
        status => status,
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

impl StoredResponse {
    /// A response with the policy that was read from its head.
    pub(super) fn new(
        head: Arc<StoredHead>,
        body: Bytes,
        trailers: HeaderMap,
        policy: ResponsePolicy,
        rules: &Rules,
    ) -> Self {
        let trailers = Some(trailers).filter(|trailers| !trailers.is_empty());
        let announced = trailers.as_ref().and_then(trailers::announce);
        // What declares its length has no room for trailers (RFC 9112 §6.3).
        let len = Some(body.len() as u64).filter(|_| trailers.is_none());
        let parts = match head.status {
            StatusCode::PARTIAL_CONTENT => Parts::read(&body).map(Box::new),
            _ => None,
        };
        Self {
            body,
            parts,
            trailers: trailers.map(Box::new),
            ..Self::begun(head, policy, len, announced, rules)
        }
    }

    /// A response whose body is still to come: of this length where that is known, and with these trailers announced.
    pub(super) fn begun(
        head: Arc<StoredHead>,
        policy: ResponsePolicy,
        len: Option<u64>,
        trailer: Option<HeaderValue>,
        rules: &Rules,
    ) -> Self {
        // With room for what is added: to clone the map and enlarge it costs more than to make it.
        let mut answer = HeaderMap::with_capacity(head.headers.len() + MOST_ADDED);
        for (name, value) in &head.headers {
            answer.append(name, value.clone());
        }
        rules.targets.hide(&mut answer);
        answer.insert(AGE, HeaderValue::from_static("0"));
        if !answer.contains_key(DATE) {
            // RFC 9110 §6.6.1: the time of origination. The server would put the time of each answer there.
            answer.insert(DATE, date::format(head.times.response));
        }
        if let Some(etag) = &head.made_etag {
            answer.insert(ETAG, etag.clone());
        }
        let has_length =
            answer.contains_key(CONTENT_LENGTH) || head.status == StatusCode::NO_CONTENT;
        if let Some(len) = len.filter(|_| !has_length) {
            // The server would add it, and might have to enlarge the map for that.
            answer.insert(CONTENT_LENGTH, HeaderValue::from(len));
        }
        if let Some(trailer) = trailer {
            answer.insert(TRAILER, trailer);
        }
        let has_status_slot = !answer.contains_key(&CACHE_STATUS);
        if has_status_slot {
            answer.insert(CACHE_STATUS, HeaderValue::from_static(""));
        }
        Self {
            head,
            answer,
            body: Bytes::new(),
            parts: None,
            trailers: None,
            policy,
            view: rules.view(),
            other: OnceLock::new(),
            has_status_slot,
            #[cfg(feature = "compression")]
            digest: OnceLock::new(),
            not_modified: OnceLock::new(),
            latest: Mutex::default(),
        }
    }

    /// The response as a layer sees it whose rules have this view; `read` makes that where it is not there yet.
    #[inline]
    pub(super) fn seen_by(
        &self,
        view: u64,
        read: impl Fn() -> Option<StoredResponse>,
    ) -> Option<&Self> {
        let mut seen = self;
        while seen.view != view {
            if seen.other.get().is_none() {
                // Somebody else may be quicker, with the same or with yet other rules.
                let _ = seen.other.set(Box::new(read()?));
            }
            seen = seen.other.get()?;
        }
        Some(seen)
    }

    /// Tells the tags of the response in the field that this layer passes them on in, and in no other. The layer that
    /// stored it may have had another one, or none.
    pub(super) fn pass_tags(&mut self, stamps: &[TagStamp], rules: &Rules) {
        tags::pass_stored(&mut self.answer, stamps, rules.pass_tags);
    }

    /// Whether the response was stored under the same key parts as a request is looked up by.
    #[inline]
    pub(super) fn is_for(&self, keyed: &KeyedBy) -> bool {
        self.head.facts.said.fingerprint == keyed.fingerprint
    }

    /// What came behind the body.
    pub(super) fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_deref()
    }

    /// The headers of a fresh hit or of the 304 for it, made anew only when the second has changed.
    pub(super) fn hit_headers(
        &self,
        not_modified: bool,
        writer: Option<&CacheStatus>,
        age: u32,
        ttl: i64,
    ) -> HeaderMap {
        let make = |writer: Option<&CacheStatus>| {
            let mut headers = self.plain_headers(not_modified).clone();
            let status = writer.map(|writer| writer.value(Outcome::Hit { ttl }, None));
            self.tell(&mut headers, age, status);
            headers
        };
        // Whoever does not get the lock at once is faster by making them.
        let Ok(mut latest) = self.latest.try_lock() else {
            return make(writer);
        };
        match &mut *latest {
            Some(now) if now.age == age && now.ttl == ttl && now.writer.as_ref() == writer => {
                let kept = &mut now.headers[usize::from(not_modified)];
                if let Some(headers) = kept.clone() {
                    drop(latest);
                    return HeaderMap::clone(&headers);
                }
                let headers = make(writer);
                *kept = Some(Arc::new(headers.clone()));
                headers
            }
            latest => {
                let writer = writer.cloned();
                let headers = [None, None];
                *latest = Some(Latest {
                    age,
                    ttl,
                    writer,
                    headers,
                });
                make(latest.as_ref().and_then(|now| now.writer.as_ref()))
            }
        }
    }

    /// The headers of a whole answer or of a 304, with slots for what each answer tells.
    pub(super) fn plain_headers(&self, not_modified: bool) -> &HeaderMap {
        match not_modified {
            true => self
                .not_modified
                .get_or_init(|| conditional::not_modified_headers(&self.answer)),
            false => &self.answer,
        }
    }

    /// Writes `Age` and `Cache-Status` into their slots, or the latter behind what upstream caches told.
    pub(super) fn tell(&self, headers: &mut HeaderMap, age: u32, status: Option<HeaderValue>) {
        let set = |headers: &mut HeaderMap, name: HeaderName, value| match headers.get_mut(&name) {
            Some(slot) => *slot = value,
            None => drop(headers.insert(name, value)),
        };
        set(headers, AGE, age_value(age));
        match status {
            Some(status) if self.has_status_slot => set(headers, CACHE_STATUS, status),
            Some(status) => drop(headers.append(CACHE_STATUS, status)),
            None if self.has_status_slot => drop(headers.remove(CACHE_STATUS)),
            None => {}
        }
    }

    /// What no other stored response has: a hash of `payload`, which is this one's.
    #[cfg(feature = "compression")]
    pub(super) fn digest(&self, payload: &[u8]) -> [u8; 16] {
        *self.digest.get_or_init(|| {
            let mut digest = [0; 16];
            digest.copy_from_slice(&blake3::hash(payload).as_bytes()[..16]);
            digest
        })
    }

    /// Reads what [`StoredHead::encode`] wrote, of an entry with these tags; the body is a slice of `payload`.
    pub(super) fn decode(payload: &Bytes, stamps: &[TagStamp], rules: &Rules) -> Result<Self> {
        let damaged = || Error::new(ErrorKind::Decode, "the stored response is damaged");
        let (head, trailers, body_at) = StoredHead::read(payload).ok_or_else(damaged)?;
        let directives = ResponseDirectives::read(&head.headers, &rules.targets);
        let (facts, headers) = (&head.facts, &head.headers);
        let status = judged(head.status);
        let policy = ResponsePolicy::new(facts, status, headers, &directives, head.times, rules);
        let body = payload.slice(body_at..);
        let mut stored = Self::new(Arc::new(head), body, trailers, policy, rules);
        stored.pass_tags(stamps, rules);
        let has_parts = stored.head.status == StatusCode::PARTIAL_CONTENT;
        match has_parts && stored.parts.is_none() {
            true => Err(damaged()),
            false => Ok(stored),
        }
    }

    /// What the response takes in memory beside its encoded form, in bytes: the header maps,
    /// counting those that hits and 304s make.
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
        let trailers = self.trailers().map_or(0, |own| map(own) + text(own));
        let head = map(&self.head.headers) + 3 * map(&self.answer) + 2 * text(&self.answer);
        size_of::<Self>() + size_of::<StoredHead>() + head + trailers
    }
}
