//! The variants of a URI: which request fields choose one, and under which keys they are (RFC 9111 §4.1).

use bytes::{BufMut, Bytes};
use http::{
    HeaderMap, HeaderName,
    header::{AUTHORIZATION, COOKIE},
};

use super::vary::{self, Buffer};
use crate::{
    Cache, Error, ErrorKind, Key, Result,
    key::{KeyBuf, KeyHead},
};

const FORMAT: u8 = 1;

/// What is stored under the key of a URI whose responses carry `Vary`, in place of a response.
///
/// Deleting it ends all variants: the next record has another nonce, and with it other keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VariantRecord {
    /// The union of what the responses named so far, sorted. Choosing by more fields than a response needs is never
    /// wrong, and handlers that name different fields for one URI do not push each other out.
    pub(super) fields: Vec<HeaderName>,
    nonce: [u8; 16],
    /// The latest first.
    variants: Vec<Id>,
}

/// The hash that names a variant.
pub(super) type Id = [u8; 16];

impl VariantRecord {
    pub(super) fn new(fields: Vec<HeaderName>) -> Self {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).expect("the operating system has a source of random numbers");
        Self {
            fields,
            nonce,
            variants: Vec::new(),
        }
    }

    /// A record that chooses by these fields too, or `None` when this one does already.
    pub(super) fn widened(&self, fields: &[HeaderName]) -> Option<Self> {
        if fields.iter().all(|field| self.fields.contains(field)) {
            return None;
        }
        let mut union = self.fields.clone();
        union.extend_from_slice(fields);
        union.sort_unstable_by(|one, two| one.as_str().cmp(two.as_str()));
        union.dedup();
        Some(Self::new(union))
    }

    /// Notes a variant, and returns those that have to go to stay within `limit`; `None` when it is noted already.
    pub(super) fn note(&mut self, id: Id, limit: usize) -> Option<Vec<Id>> {
        if self.variants.contains(&id) {
            return None;
        }
        self.variants.insert(0, id);
        Some(
            self.variants
                .split_off(limit.max(1).min(self.variants.len())),
        )
    }

    /// The variant that a request chooses. The nonce stands for the URI and the fields: no other record has it.
    pub(super) fn choose(&self, request: &HeaderMap, hash_key: &[u8; 32]) -> Id {
        let mut selection = Buffer::new();
        selection.extend_from_slice(&self.nonce);
        vary::select(&self.fields, request, &mut selection);
        let hash = blake3::keyed_hash(hash_key, &selection);
        let mut id = [0; 16];
        id.copy_from_slice(&hash.as_bytes()[..16]);
        id
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut bytes = vec![FORMAT];
        bytes.put_slice(&self.nonce);
        bytes.put_u16(self.fields.len() as u16);
        for field in &self.fields {
            bytes.put_u16(field.as_str().len() as u16);
            bytes.put_slice(field.as_str().as_bytes());
        }
        for variant in &self.variants {
            bytes.put_slice(variant);
        }
        bytes.into()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        Self::read(bytes).ok_or_else(|| {
            Error::new(
                ErrorKind::Decode,
                "the stored record of variants is damaged",
            )
        })
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (&FORMAT, rest) = bytes.split_first()? else {
            return None;
        };
        let (&nonce, rest) = rest.split_first_chunk()?;
        let (&count, mut rest) = rest.split_first_chunk()?;
        let mut fields = Vec::new();
        for _ in 0..u16::from_be_bytes(count) {
            let (&len, tail) = rest.split_first_chunk()?;
            let (name, tail) = tail.split_at_checked(u16::from_be_bytes(len).into())?;
            fields.push(HeaderName::from_bytes(name).ok()?);
            rest = tail;
        }
        let (variants, rest) = rest.as_chunks();
        rest.is_empty().then(|| Self {
            fields,
            nonce,
            variants: variants.to_vec(),
        })
    }
}

/// The key of a variant; never that of a URI, whose scheme is followed by two slashes.
pub(super) fn key(head: &KeyHead, id: &Id) -> KeyBuf {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut name = *b"v:00000000000000000000000000000000";
    for (digits, byte) in name[2..].chunks_exact_mut(2).zip(id) {
        digits.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
    head.key(&name)
}

/// The key to hash with, or `None` when these fields may not be hashed: on a backend that others can read, hashes of
/// credentials need a secret that was given.
pub(super) fn hash_key<'a>(cache: &'a Cache, fields: &[HeaderName]) -> Option<&'a [u8; 32]> {
    let (key, given) = cache.hash_key();
    if given || !cache.capabilities().shared {
        return Some(key);
    }
    let secret = fields
        .iter()
        .any(|field| [AUTHORIZATION, COOKIE].contains(field));
    (!secret).then_some(&[0; 32])
}

/// The keys of variants that have to go.
pub(super) fn keys(head: &KeyHead, ids: &[Id]) -> Vec<Key> {
    ids.iter().map(|id| key(head, id).to_key()).collect()
}
