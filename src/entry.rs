//! Entries: what a backend keeps under a key.

mod tags;

use std::{
    any::Any,
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{CodecId, Error, ErrorKind, Result, Timestamp};

pub use tags::TagStamp;
pub(crate) use tags::marker;

const MAGIC: u8 = 0xC5;
/// The format of an entry without tags.
const PLAIN: u8 = 1;
/// The format of an entry with tags: their number is where the plain format has a zero, and they follow the header.
const TAGGED: u8 = 2;
const NEVER: u64 = (1 << 48) - 1;

/// What a backend keeps under a key: payload bytes, the codec that made them, and the times it lives between.
///
/// A backend that lives on a server stores [`to_bytes`](Self::to_bytes) and reads [`from_bytes`](Self::from_bytes);
/// the header adds [`HEADER_LEN`](Self::HEADER_LEN) bytes to the payload, and more for an entry with
/// [tags](Self::tags). A backend in process can keep the entry as it is. Cloning costs one atomic increment, and clones share the decoded form of the payload.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use larder::{CodecId, Entry, Timestamp};
///
/// let now = Timestamp::from_secs(1_000);
/// let entry = Entry::new(CodecId::JSON, "[1,2]", now).with_ttl(Some(Duration::from_secs(60)), now);
/// let read = Entry::from_bytes(entry.to_bytes())?;
/// assert_eq!(read.payload(), "[1,2]");
/// assert_eq!(read.expires_at(), Some(Timestamp::from_secs(1_060)));
/// # Ok::<(), larder::Error>(())
/// ```
#[derive(Clone)]
pub struct Entry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    codec: CodecId,
    created_at: Timestamp,
    /// Milliseconds since the epoch, [`NEVER`] for an entry without an end.
    expires_at: u64,
    version: u64,
    payload: Bytes,
    decoded: OnceLock<Decoded>,
    decoded_weight: usize,
    tags: Option<Arc<[TagStamp]>>,
    /// Since when a tag says that the entry is stale. It is a finding of whoever read it, and is not stored.
    outdated: Option<Timestamp>,
    /// Belongs to the memory backend: the latest clearing that the entry is known to have survived.
    epoch: AtomicU64,
}

#[derive(Clone, Debug)]
struct Decoded {
    codec: CodecId,
    value: Arc<dyn Any + Send + Sync>,
}

impl Clone for Inner {
    fn clone(&self) -> Self {
        Self {
            payload: self.payload.clone(),
            decoded: self.decoded.clone(),
            tags: self.tags.clone(),
            epoch: AtomicU64::new(self.epoch.load(Ordering::Relaxed)),
            ..*self
        }
    }
}

impl Entry {
    /// The bytes that an entry without tags takes on a server beside its payload: magic, format version, codec, the
    /// number of tags, and the times of creation and expiry in 48 bits each. Each tag takes 18 bytes and the key of its
    /// marker.
    pub const HEADER_LEN: usize = 16;

    /// The most tags that an entry has.
    pub const MAX_TAGS: usize = 64;

    /// What an empty entry weighs.
    pub(crate) const BOOKKEEPING: usize = size_of::<Inner>();

    /// An entry that never expires, with `payload` as `codec` made it.
    pub fn new(codec: CodecId, payload: impl Into<Bytes>, now: Timestamp) -> Self {
        let payload = payload.into();
        Self(Arc::new(Inner {
            codec,
            created_at: now,
            expires_at: NEVER,
            version: 0,
            decoded_weight: payload.len(),
            payload,
            decoded: OnceLock::new(),
            tags: None,
            outdated: None,
            epoch: AtomicU64::new(0),
        }))
    }

    /// A counter that never expires.
    pub fn counter(value: i64, now: Timestamp) -> Self {
        Self::new(CodecId::COUNTER, value.to_string(), now)
    }

    /// The same entry, ending `ttl` from `now`; `None` never ends it.
    #[must_use]
    pub fn with_ttl(self, ttl: Option<Duration>, now: Timestamp) -> Self {
        self.with_expires_at(ttl.map(|ttl| now + ttl))
    }

    /// The same entry, ending at `expires_at`; `None` never ends it.
    #[must_use]
    pub fn with_expires_at(self, expires_at: Option<Timestamp>) -> Self {
        self.change(|inner| {
            inner.expires_at = expires_at.map_or(NEVER, |at| at.as_millis().min(NEVER - 1));
        })
    }

    /// The same entry with the version that its backend gave it.
    #[must_use]
    pub fn with_version(self, version: u64) -> Self {
        self.change(|inner| inner.version = version)
    }

    /// The same entry with these tags and no others.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidTag`] for more than [`MAX_TAGS`](Self::MAX_TAGS).
    pub fn with_tags(self, tags: impl Into<Arc<[TagStamp]>>) -> Result<Self> {
        let tags = tags.into();
        if tags.len() > Self::MAX_TAGS {
            let message = "an entry has at most 64 tags";
            return Err(Error::new(ErrorKind::InvalidTag, message));
        }
        Ok(self.change(|inner| {
            inner.tags = (!tags.is_empty()).then_some(tags);
            inner.outdated = None;
        }))
    }

    /// The same entry, found to be stale by one of its tags.
    pub(crate) fn outdated(self, since: Timestamp) -> Self {
        self.change(|inner| inner.outdated = Some(since))
    }

    /// Whether a tag says that the entry is stale, as far as whoever read it has found out.
    pub(crate) fn is_outdated(&self) -> bool {
        self.0.outdated.is_some()
    }

    /// Since when a tag says that the entry is stale.
    pub(crate) fn outdated_since(&self) -> Option<Timestamp> {
        self.0.outdated
    }

    /// The same entry with its decoded form beside the bytes. `weight` is the decoded form's size in memory.
    pub(crate) fn with_decoded<T: Send + Sync + 'static>(
        self,
        value: Arc<T>,
        weight: usize,
    ) -> Self {
        self.change(|inner| {
            inner.decoded_weight = weight;
            inner.decoded = OnceLock::from(Decoded {
                codec: inner.codec,
                value,
            });
        })
    }

    /// The same entry, whose decoded form is still to be made and will weigh so much.
    pub(crate) fn with_decoded_weight(self, weight: usize) -> Self {
        self.change(|inner| inner.decoded_weight = weight)
    }

    #[cfg(feature = "memory")]
    pub(crate) fn with_epoch(self, epoch: u64) -> Self {
        self.change(|inner| inner.epoch = AtomicU64::new(epoch))
    }

    fn change(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// The bytes of the value, as its codec made them.
    pub fn payload(&self) -> &Bytes {
        &self.0.payload
    }

    /// The codec that made the payload.
    pub fn codec(&self) -> CodecId {
        self.0.codec
    }

    /// The tags, each with the ids that its marker had when the entry was made.
    pub fn tags(&self) -> &[TagStamp] {
        self.0.tags.as_deref().unwrap_or_default()
    }

    #[inline]
    pub(crate) fn has_tags(&self) -> bool {
        self.0.tags.is_some()
    }

    /// The tags, to keep.
    pub(crate) fn tags_shared(&self) -> Option<Arc<[TagStamp]>> {
        self.0.tags.clone()
    }

    /// When the entry was made.
    pub fn created_at(&self) -> Timestamp {
        self.0.created_at
    }

    /// When the entry ends; `None` for never.
    pub fn expires_at(&self) -> Option<Timestamp> {
        (self.0.expires_at != NEVER).then(|| Timestamp::from_millis(self.0.expires_at))
    }

    /// Whether the entry's time is over at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.0.expires_at <= now.as_millis() && self.0.expires_at != NEVER
    }

    /// The time left at `now`; `None` for an entry that never expires.
    pub fn remaining(&self, now: Timestamp) -> Option<Duration> {
        self.expires_at().map(|at| at.since(now))
    }

    /// The version the backend gave the entry, for [`PutMode::IfVersion`](crate::PutMode::IfVersion).
    pub fn version(&self) -> u64 {
        self.0.version
    }

    /// The value of a counter.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WrongType`] for an entry that holds a value.
    pub fn as_counter(&self) -> Result<i64> {
        let text = (self.codec() == CodecId::COUNTER).then(|| std::str::from_utf8(self.payload()));
        match text.map(|text| text.ok().and_then(|text| text.parse().ok())) {
            Some(Some(value)) => Ok(value),
            Some(None) => Err(Error::new(
                ErrorKind::Decode,
                "the stored counter is not a number",
            )),
            None => Err(Error::new(
                ErrorKind::WrongType,
                "the key holds a value, not a counter",
            )),
        }
    }

    /// The entry as one byte string for a server. Copies the payload.
    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.head_len() + self.payload().len());
        self.write_to(&mut bytes);
        bytes.freeze()
    }

    /// How many bytes come before the payload.
    pub(crate) fn head_len(&self) -> usize {
        Self::HEADER_LEN + tags::len(self.tags())
    }

    pub(crate) fn write_to(&self, bytes: &mut BytesMut) {
        let tags = self.tags();
        let count = u8::try_from(tags.len()).expect("more than 64 tags were refused");
        let format = if tags.is_empty() { PLAIN } else { TAGGED };
        bytes.put_slice(&[MAGIC, format, self.codec().as_u8(), count]);
        bytes.put_uint(self.0.created_at.as_millis().min(NEVER), 6);
        bytes.put_uint(self.0.expires_at, 6);
        tags::write(tags, bytes);
        bytes.put_slice(self.payload());
    }

    /// The entry that [`to_bytes`](Self::to_bytes) wrote; its payload is a slice of `bytes`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Decode`] for bytes that are not an entry of this format. A backend passes it on and the cache takes
    /// the entry for absent.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Self> {
        let mut bytes: Bytes = bytes.into();
        let damaged = || Error::new(ErrorKind::Decode, "the stored bytes are not a larder entry");
        let (entry, count) = Self::read_header(&bytes).ok_or_else(damaged)?;
        bytes.advance(Self::HEADER_LEN);
        let tags = tags::read(count, &mut bytes).ok_or_else(damaged)?;
        Ok(entry.change(|inner| {
            inner.decoded_weight = bytes.len();
            inner.payload = bytes;
            inner.tags = (count > 0).then(|| tags.into());
        }))
    }

    /// The entry that begins like this, without its tags and its payload.
    #[cfg(feature = "redis")]
    pub(crate) fn from_header(bytes: &[u8]) -> Option<Self> {
        Self::read_header(bytes).map(|(entry, _)| entry)
    }

    /// The entry without its payload, and how many tags follow the header.
    fn read_header(bytes: &[u8]) -> Option<(Self, usize)> {
        let header: &[u8; Self::HEADER_LEN] = bytes.first_chunk()?;
        let [MAGIC, format, codec, count, times @ ..] = header else {
            return None;
        };
        let count = usize::from(*count);
        match *format {
            PLAIN if count == 0 => {}
            TAGGED if (1..=Self::MAX_TAGS).contains(&count) => {}
            _ => return None,
        }
        let number = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0, |sum, &byte| sum << 8 | u64::from(byte))
        };
        let created_at = Timestamp::from_millis(number(&times[..6]));
        let entry = Self::new(CodecId::from_u8(*codec), Bytes::new(), created_at);
        Some((
            entry.change(|inner| inner.expires_at = number(&times[6..])),
            count,
        ))
    }

    /// What the entry takes in memory, in bytes: the payload, its decoded form, the tags, and the bookkeeping of all.
    pub fn weight(&self) -> usize {
        let tags: usize = self.tags().iter().map(TagStamp::weight).sum();
        Self::BOOKKEEPING + self.0.payload.len() + self.0.decoded_weight + tags
    }

    /// The decoded form, if it is there and of this type.
    pub(crate) fn decoded<T: Send + Sync + 'static>(&self, codec: CodecId) -> Option<&T> {
        let decoded = self
            .0
            .decoded
            .get()
            .filter(|decoded| decoded.codec == codec)?;
        decoded.value.downcast_ref()
    }

    /// The decoded form, if it is there and of this type, to keep.
    pub(crate) fn decoded_shared<T: Send + Sync + 'static>(
        &self,
        codec: CodecId,
    ) -> Option<Arc<T>> {
        let decoded = self
            .0
            .decoded
            .get()
            .filter(|decoded| decoded.codec == codec)?;
        Arc::downcast(decoded.value.clone()).ok()
    }

    /// Keeps a decoded form for the next reader, unless one of another type is there already.
    pub(crate) fn keep_decoded<T: Send + Sync + 'static>(&self, codec: CodecId, value: &Arc<T>) {
        let _ = self.0.decoded.set(Decoded {
            codec,
            value: value.clone(),
        });
    }

    #[cfg(feature = "memory")]
    pub(crate) fn epoch(&self) -> &AtomicU64 {
        &self.0.epoch
    }
}

/// Shows sizes and times, never the payload.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("codec", &self.codec())
            .field("bytes", &self.payload().len())
            .field("created_at", &self.created_at())
            .field("expires_at", &self.expires_at())
            .field("tags", &self.tags().len())
            .finish_non_exhaustive()
    }
}
