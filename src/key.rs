//! Keys: a namespace, an optional bucket, and a name, encoded so that no two different keys meet.

use std::{
    borrow::Cow,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

/// Ends the head of an encoded key; everything after the first one is the name, as it is.
const END: u8 = b':';
const SPACE: u8 = b'@';
const BUCKET: u8 = b'/';
const ESCAPE: u8 = b'%';

/// What an encoded namespace is followed by, and does not contain.
pub(crate) const NAMESPACE_ENDS: [u8; 3] = [END, SPACE, BUCKET];

/// What kind of entry lives under a key, so that a handler's key never meets one of the HTTP layer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeySpace {
    /// Values and counters of [`Cache`](crate::Cache).
    Value,
    /// Responses stored by [`CacheLayer`](crate::CacheLayer).
    Response,
    /// Markers of tags, by which [`Cache::invalidate_tag`](crate::Cache::invalidate_tag) ends entries.
    Tag,
}

impl KeySpace {
    const fn mark(self) -> &'static [u8] {
        match self {
            Self::Value => b"",
            Self::Response => b"http",
            Self::Tag => b"tag",
        }
    }
}

/// An owned key: a namespace, an optional bucket within it, and a name of any bytes.
///
/// It is held as one encoded byte string, the one that servers see: `namespace:name`, `namespace/bucket:name` for
/// buckets, `namespace@http:name` for stored responses, `namespace@tag:name` for the markers of tags, with `%`, `:`, `/`
/// and `@` escaped in namespace and bucket.
/// The encoding is injective: two different keys never share one encoded form. Cloning costs one atomic increment.
///
/// # Examples
///
/// ```
/// use larder::Key;
///
/// let key = Key::new("shop", None, "user:7");
/// assert_eq!(key.encoded(), b"shop:user:7");
/// assert_eq!(key.namespace(), "shop");
/// assert_eq!(key.name(), b"user:7");
/// assert_ne!(key, Key::new("shop:user", None, "7"));
/// ```
#[derive(Clone)]
pub struct Key(Arc<[u8]>);

impl Key {
    /// The key of the value called `name` in `namespace`, and in `bucket` when one is given.
    pub fn new(namespace: &str, bucket: Option<&str>, name: impl AsRef<[u8]>) -> Self {
        KeyHead::new(namespace, KeySpace::Value, bucket)
            .key(name.as_ref())
            .to_key()
    }

    /// The key that these bytes are the encoded form of, wherever they come from; `None` where they are that of none.
    pub(crate) fn from_encoded(encoded: &[u8]) -> Option<Self> {
        encoded.contains(&END).then_some(())?;
        let key = KeyRef(encoded);
        let head = KeyHead::new(&key.namespace(), key.space(), key.bucket().as_deref());
        // What is written in another way than it would be here is no key, or two could meet.
        let is_key = head.key(key.name()).as_key_ref() == key;
        is_key.then(|| key.to_key())
    }

    /// The whole key as the bytes that a server stores it under.
    pub fn encoded(&self) -> &[u8] {
        &self.0
    }

    /// The namespace that [`Backend::clear`](crate::Backend::clear) ends as a whole.
    pub fn namespace(&self) -> Cow<'_, str> {
        self.as_key_ref().namespace()
    }

    /// The kind of entry under this key.
    pub fn space(&self) -> KeySpace {
        self.as_key_ref().space()
    }

    /// The bucket, when the key is of a field in one.
    pub fn bucket(&self) -> Option<Cow<'_, str>> {
        self.as_key_ref().bucket()
    }

    /// The name, as it was given.
    pub fn name(&self) -> &[u8] {
        self.as_key_ref().name()
    }

    /// The key beside a response's own under which parts of it are. No request's URI has a fragment, so no other key is
    /// the same.
    pub(crate) fn of_parts(&self) -> Self {
        Self([&self.0, PARTS].concat().into())
    }

    /// [`of_parts`](Self::of_parts), to look up by.
    pub(crate) fn of_parts_buf(&self) -> KeyBuf {
        let mut buffer = KeyBuf::new();
        buffer.push(&self.0);
        buffer.push(PARTS);
        buffer
    }

    /// The same key, borrowed.
    pub fn as_key_ref(&self) -> KeyRef<'_> {
        KeyRef(&self.0)
    }
}

/// A borrowed [`Key`], made without an allocation for look-ups.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyRef<'a>(&'a [u8]);

impl<'a> KeyRef<'a> {
    /// The whole key as the bytes that a server stores it under.
    pub fn encoded(&self) -> &'a [u8] {
        self.0
    }

    /// The namespace that [`Backend::clear`](crate::Backend::clear) ends as a whole.
    pub fn namespace(&self) -> Cow<'a, str> {
        unescape(self.encoded_namespace())
    }

    /// The kind of entry under this key.
    pub fn space(&self) -> KeySpace {
        let Some(rest) = self.head()[self.encoded_namespace().len()..].strip_prefix(&[SPACE])
        else {
            return KeySpace::Value;
        };
        match rest.split(|&byte| byte == BUCKET).next() {
            Some(b"http") => KeySpace::Response,
            Some(b"tag") => KeySpace::Tag,
            _ => KeySpace::Value,
        }
    }

    /// The bucket, when the key is of a field in one.
    pub fn bucket(&self) -> Option<Cow<'a, str>> {
        let head = self.head();
        let start = head.iter().position(|&byte| byte == BUCKET)?;
        Some(unescape(&head[start + 1..]))
    }

    /// The name, as it was given.
    pub fn name(&self) -> &'a [u8] {
        &self.0[self.head().len() + 1..]
    }

    /// What the keys of all fields of this key's bucket begin with, as a key without a name; `None` without a bucket.
    pub(crate) fn bucket_key(&self) -> Option<Self> {
        let head = self.head();
        let has_bucket = head.contains(&BUCKET);
        has_bucket.then(|| Self(&self.0[..=head.len()]))
    }

    /// An owned copy: one allocation.
    pub fn to_key(&self) -> Key {
        Key(Arc::from(self.0))
    }

    fn head(&self) -> &'a [u8] {
        let end = self.0.iter().position(|&byte| byte == END);
        &self.0[..end.expect("every key is made by KeyHead, which ends the head")]
    }

    pub(crate) fn encoded_namespace(&self) -> &'a [u8] {
        let end = self.0.iter().position(|byte| NAMESPACE_ENDS.contains(byte));
        &self.0[..end.expect("every key is made by KeyHead, which ends the head")]
    }
}

/// The part of a key that a handle knows beforehand, encoded once.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct KeyHead(Arc<[u8]>);

impl KeyHead {
    pub(crate) fn new(namespace: &str, space: KeySpace, bucket: Option<&str>) -> Self {
        let mut head = encode_namespace(namespace);
        if space != KeySpace::Value {
            head.push(SPACE);
            head.extend_from_slice(space.mark());
        }
        if let Some(bucket) = bucket {
            head.push(BUCKET);
            escape(bucket, &mut head);
        }
        head.push(END);
        Self(head.into())
    }

    /// The key of `name` under this head, without an allocation for names of ordinary length.
    #[inline]
    pub(crate) fn key(&self, name: &[u8]) -> KeyBuf {
        let mut buffer = KeyBuf::new();
        buffer.push(&self.0);
        buffer.push(name);
        buffer
    }

    /// What every key under this head begins with.
    #[inline]
    pub(crate) fn encoded(&self) -> &[u8] {
        &self.0
    }
}

/// What the keys of parts end with.
const PARTS: &[u8] = b"#parts";

/// Keys up to this length are looked up without an allocation.
const INLINE: usize = 160;

/// A key under construction, on the stack as long as it fits.
#[derive(Clone)]
pub(crate) struct KeyBuf {
    len: usize,
    inline: [u8; INLINE],
    /// The whole key when it is longer than that.
    heap: Vec<u8>,
}

impl KeyBuf {
    #[inline]
    pub(crate) const fn new() -> Self {
        Self {
            len: 0,
            inline: [0; INLINE],
            heap: Vec::new(),
        }
    }

    #[inline]
    pub(crate) fn push(&mut self, part: &[u8]) {
        let end = self.len + part.len();
        match self.inline.get_mut(self.len..end) {
            Some(room) if self.heap.is_empty() => room.copy_from_slice(part),
            _ => self.spill(part),
        }
        self.len = end;
    }

    #[cold]
    fn spill(&mut self, part: &[u8]) {
        if self.heap.is_empty() {
            self.heap.extend_from_slice(&self.inline[..self.len]);
        }
        self.heap.extend_from_slice(part);
    }

    /// Pushes each byte as `table` has it, and says whether it has them all: zero stands for one that it has not.
    #[inline]
    pub(crate) fn push_by(&mut self, part: &[u8], table: &[u8; 256]) -> bool {
        let mut has_all = true;
        let mut by_table = |byte: &u8| {
            let byte = table[usize::from(*byte)];
            has_all &= byte != 0;
            byte
        };
        let end = self.len + part.len();
        match self.inline.get_mut(self.len..end) {
            Some(room) if self.heap.is_empty() => {
                for (to, byte) in room.iter_mut().zip(part) {
                    *to = by_table(byte);
                }
                self.len = end;
            }
            _ => {
                let bytes: Vec<u8> = part.iter().map(by_table).collect();
                self.push(&bytes);
            }
        }
        has_all
    }

    #[inline]
    pub(crate) fn as_key_ref(&self) -> KeyRef<'_> {
        KeyRef(match self.heap.is_empty() {
            true => &self.inline[..self.len],
            false => &self.heap,
        })
    }

    pub(crate) fn to_key(&self) -> Key {
        self.as_key_ref().to_key()
    }
}

/// A namespace in the form it has within keys.
pub(crate) fn encode_namespace(namespace: &str) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(namespace.len() + 16);
    escape(namespace, &mut encoded);
    encoded
}

fn escape(text: &str, into: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in text.as_bytes() {
        if [END, SPACE, BUCKET, ESCAPE].contains(&byte) {
            let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
            into.push(ESCAPE);
            into.extend_from_slice(&digits);
        } else {
            into.push(byte);
        }
    }
}

fn unescape(encoded: &[u8]) -> Cow<'_, str> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default() as u8;
    if !encoded.contains(&ESCAPE) {
        return String::from_utf8_lossy(encoded);
    }
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let [first, tail @ ..] = rest {
        match (first, tail) {
            (&ESCAPE, [high, low, tail @ ..]) => {
                bytes.push(digit(*high) << 4 | digit(*low));
                rest = tail;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned().into()
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_key_ref().hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.0);
    }
}

impl equivalent::Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self.0 == *key.0
    }
}

/// Shows the namespace and the length of the name only: a name can hold what must not reach a log.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_key_ref().fmt(f)
    }
}

impl fmt::Debug for KeyRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, {} bytes)", self.namespace(), self.name().len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_encoded_key_gives_back_its_parts(
            namespace in ".*", bucket in proptest::option::of(".*"), name: Vec<u8>, space in 0..3_usize,
        ) {
            let space = [KeySpace::Value, KeySpace::Response, KeySpace::Tag][space];
            let head = KeyHead::new(&namespace, space, bucket.as_deref());
            let key = head.key(&name).to_key();
            prop_assert_eq!(key.namespace(), namespace.as_str());
            let found = key.bucket();
            prop_assert_eq!(found.as_deref(), bucket.as_deref());
            prop_assert_eq!(key.space(), space);
            prop_assert_eq!(key.name(), &name[..]);
            prop_assert_eq!(Key::from_encoded(key.encoded()), Some(key));
        }

        #[test]
        fn what_reads_as_a_key_is_the_encoded_form_of_it(bytes in "[a%23:/@FAft]{0,12}") {
            if let Some(key) = Key::from_encoded(bytes.as_bytes()) {
                let head = KeyHead::new(&key.namespace(), key.space(), key.bucket().as_deref());
                let again = head.key(key.name()).to_key();
                prop_assert_eq!(again.encoded(), bytes.as_bytes());
            }
        }
    }

    #[test]
    fn debug_does_not_show_the_name() {
        assert_eq!(
            format!("{:?}", Key::new("shop", None, "token-s3cret")),
            "Key(shop, 12 bytes)"
        );
    }
}
