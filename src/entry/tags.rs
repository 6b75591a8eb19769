//! The tags of an entry, and how they are written between its header and its payload.

use std::{borrow::Cow, fmt};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{Error, ErrorKind, Key, KeySpace, Result, key::KeyHead};

/// The bytes of what a marker holds: an id that ends entries when it changes, and one that makes them stale.
const IDS_LEN: usize = 16;

/// A tag of an entry, with the ids that the tag's marker had when the entry was made.
///
/// The entry lives as long as the marker has these ids. It ends when the marker is gone or has another *hard* id, the
/// first eight bytes, and it is stale when the marker has another *soft* id, the others.
///
/// A tag belongs to a namespace: `user:7` in `shop` and `user:7` in `blog` are two tags. An entry can have tags of
/// other namespaces than its own.
///
/// # Examples
///
/// ```
/// use larder::{CodecId, Entry, TagStamp, Timestamp};
///
/// let stamp = TagStamp::new("shop", "user:7", [7; 16])?;
/// assert_eq!(stamp.marker().encoded(), b"shop@tag:user:7");
///
/// let entry = Entry::new(CodecId::JSON, "[1,2]", Timestamp::from_secs(1_000)).with_tags([stamp])?;
/// let read = Entry::from_bytes(entry.to_bytes())?;
/// assert_eq!(read.tags()[0].tag(), b"user:7");
/// # Ok::<(), larder::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct TagStamp {
    marker: Key,
    ids: [u8; IDS_LEN],
}

impl TagStamp {
    /// The longest name of a tag, in bytes.
    pub const MAX_LEN: usize = 256;

    /// The tag `tag` of `namespace`, whose marker has these ids.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidTag`] for a tag of no bytes or of more than [`MAX_LEN`](Self::MAX_LEN), and for a namespace
    /// of more than 64 KiB.
    pub fn new(namespace: &str, tag: impl AsRef<[u8]>, ids: [u8; 16]) -> Result<Self> {
        let head = KeyHead::new(namespace, KeySpace::Tag, None);
        Ok(Self::of(marker(&head, tag.as_ref())?, ids))
    }

    /// The stamp of a marker that [`marker`] made.
    pub(crate) fn of(marker: Key, ids: [u8; IDS_LEN]) -> Self {
        Self { marker, ids }
    }

    /// The name of the tag.
    pub fn tag(&self) -> &[u8] {
        self.marker.name()
    }

    /// The namespace that the tag belongs to.
    pub fn namespace(&self) -> Cow<'_, str> {
        self.marker.namespace()
    }

    /// The key of the tag's marker.
    pub fn marker(&self) -> &Key {
        &self.marker
    }

    /// The ids that the marker had: eight bytes of the hard one, and eight of the soft one.
    pub fn ids(&self) -> &[u8; 16] {
        &self.ids
    }

    /// Whether it is the tag that a bucket has by itself.
    pub(crate) fn is_of_bucket(&self) -> bool {
        self.marker.as_key_ref().bucket_key().is_some()
    }

    pub(super) fn weight(&self) -> usize {
        size_of::<Self>() + self.marker.encoded().len()
    }

    fn len(&self) -> usize {
        2 + self.marker.encoded().len() + IDS_LEN
    }

    fn write(&self, bytes: &mut BytesMut) {
        let marker = self.marker.encoded();
        let len = u16::try_from(marker.len()).expect("a longer marker's key was refused");
        bytes.put_u16(len);
        bytes.put_slice(marker);
        bytes.put_slice(&self.ids);
    }

    fn read(bytes: &mut Bytes) -> Option<Self> {
        let len = usize::from(bytes.try_get_u16().ok()?);
        if bytes.len() < len + IDS_LEN {
            return None;
        }
        let marker = Key::from_encoded(&bytes.split_to(len))?;
        if marker.space() != KeySpace::Tag || !is_tag(marker.name()) {
            return None;
        }
        let mut ids = [0; IDS_LEN];
        bytes.copy_to_slice(&mut ids);
        Some(Self { marker, ids })
    }
}

/// The key of a tag's marker.
pub(crate) fn marker(head: &KeyHead, tag: &[u8]) -> Result<Key> {
    let invalid = |message: &'static str| Err(Error::new(ErrorKind::InvalidTag, message));
    if !is_tag(tag) {
        return invalid("a tag has 1 to 256 bytes");
    }
    let marker = head.key(tag).to_key();
    match u16::try_from(marker.encoded().len()) {
        Ok(_) => Ok(marker),
        Err(_) => invalid("the namespace is too long for tags"),
    }
}

fn is_tag(name: &[u8]) -> bool {
    (1..=TagStamp::MAX_LEN).contains(&name.len())
}

/// How many bytes tags take between the header and the payload.
pub(super) fn len(tags: &[TagStamp]) -> usize {
    tags.iter().map(TagStamp::len).sum()
}

pub(super) fn write(tags: &[TagStamp], bytes: &mut BytesMut) {
    for tag in tags {
        tag.write(bytes);
    }
}

/// Takes so many tags off the start of `bytes`; `None` where they are not tags.
pub(super) fn read(count: usize, bytes: &mut Bytes) -> Option<Vec<TagStamp>> {
    (0..count).map(|_| TagStamp::read(bytes)).collect()
}

/// Shows the namespace and the length of the tag only: a name can hold what must not reach a log.
impl fmt::Debug for TagStamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TagStamp({:?})", self.marker)
    }
}
