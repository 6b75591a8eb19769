//! The variants of a URI: which request fields choose one, and under which keys they are (RFC 9111 §4.1).

use std::{sync::Mutex, time::Duration};

use bytes::{BufMut, Bytes};
use http::{
    HeaderMap, HeaderName,
    header::{AUTHORIZATION, COOKIE},
};

use super::{
    policies::KeyedBy,
    vary::{self, Buffer},
};
use crate::{Cache, Error, ErrorKind, Key, Result, Timestamp, key::KeyHead};

const FORMAT: u8 = 3;

/// More names than this are not remembered of one URI's responses.
const MAX_UNION: usize = 64;

/// What is stored under the key of a URI whose responses carry `Vary`, in place of a response.
///
/// Deleting it ends all variants: the next record has another nonce, and with it other keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VariantRecord {
    /// The union of what the responses named so far, sorted. Choosing by more fields than a response needs is never
    /// wrong, and handlers that name different fields for one URI do not push each other out.
    pub(super) fields: Vec<HeaderName>,
    nonce: [u8; 16],
    /// Of the key parts that a policy declares, by which the variants are chosen beside the fields.
    fingerprint: u64,
    /// When the URI was last purged softly. A variant carries what was there when it was stored: where that is something
    /// else now, the variant is stale.
    purged: Option<Timestamp>,
    /// The latest first.
    variants: Vec<Id>,
    recent: Recent,
}

/// What requests had in the fields lately, and which variants they chose by it: most repeat what others sent, and need
/// no normalising and hashing then. It stays in this process, and credentials are never in it.
#[derive(Debug, Default)]
struct Recent(Mutex<Vec<(Box<[u8]>, Chosen)>>);

/// A variant and the key that it is under.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub(super) variant: Variant,
    pub(super) key: Key,
}

/// A variant, as its record has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Variant {
    pub(super) id: Id,
    /// When its URI was last purged softly.
    pub(super) purged: Option<Timestamp>,
}

/// So many selections are remembered for a URI, and none longer than this.
const RECENT: usize = 4;
const RECENT_LEN: usize = 192;

impl Clone for Recent {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Recent {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Recent {}

impl Recent {
    fn find(&self, raw: &[u8]) -> Option<Chosen> {
        // Whoever does not get the lock at once computes.
        let recent = self.0.try_lock().ok()?;
        recent
            .iter()
            .find(|(known, _)| **known == *raw)
            .map(|(_, chosen)| chosen.clone())
    }

    fn note(&self, raw: &[u8], chosen: &Chosen) {
        if let Ok(mut recent) = self.0.try_lock()
            && raw.len() <= RECENT_LEN
        {
            recent.truncate(RECENT - 1);
            recent.insert(0, (raw.into(), chosen.clone()));
        }
    }
}

/// What of a request chooses among the variants of its URI.
#[derive(Clone, Copy)]
pub(super) struct Selector<'a> {
    /// For the fields that responses name in `Vary`.
    pub(super) headers: &'a HeaderMap,
    pub(super) keyed: &'a KeyedBy,
}

/// The hash that names a variant.
pub(super) type Id = [u8; 16];

impl VariantRecord {
    pub(super) fn new(fields: Vec<HeaderName>, fingerprint: u64) -> Self {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).expect("the operating system has a source of random numbers");
        Self {
            fields,
            nonce,
            fingerprint,
            purged: None,
            variants: Vec::new(),
            recent: Recent::default(),
        }
    }

    /// What no other record has, not even a later one of the same URI, or this one before it was purged softly.
    pub(super) fn mark(&self) -> ([u8; 16], Option<Timestamp>) {
        (self.nonce, self.purged)
    }

    /// The record of the same variants, all of which are stale from `now` on.
    pub(super) fn purged_at(&self, now: Timestamp) -> Self {
        // Another time each time, though two purges fall into one millisecond or the clock was set back.
        let earliest = |last: Timestamp| last + Duration::from_millis(1);
        let purged = self.purged.map_or(now, |last| now.max(earliest(last)));
        Self {
            purged: Some(purged),
            ..self.clone()
        }
    }

    /// Whether the variants were chosen by the same key parts as a request is to be.
    pub(super) fn is_for(&self, keyed: &KeyedBy) -> bool {
        self.fingerprint == keyed.fingerprint
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
        // Responses that never stop naming new fields begin anew.
        let fields = match union.len() <= MAX_UNION {
            true => union,
            false => fields.to_vec(),
        };
        Some(Self::new(fields, self.fingerprint))
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

    /// The variant that a request chooses; `None` where the fields may not be hashed, and where the variants are of
    /// another policy.
    pub(super) fn choose(&self, cache: &Cache, request: Selector<'_>) -> Option<Chosen> {
        if !self.is_for(request.keyed) {
            return None;
        }
        if self.is_secret(request) {
            return self.compute(cache, request);
        }
        let mut raw = Buffer::new();
        vary::copy(&self.fields, request.headers, &mut raw);
        if let Some(selection) = &request.keyed.selection {
            raw.extend_from_slice(selection);
        }
        if let Some(chosen) = self.recent.find(&raw) {
            return Some(chosen);
        }
        let chosen = self.compute(cache, request)?;
        self.recent.note(&raw, &chosen);
        Some(chosen)
    }

    /// The nonce stands for the URI and the fields: no other record has it.
    fn compute(&self, cache: &Cache, request: Selector<'_>) -> Option<Chosen> {
        let hash_key = hash_key(cache, self.is_secret(request))?;
        let mut selection = Buffer::new();
        selection.extend_from_slice(&self.nonce);
        vary::select(&self.fields, request.headers, &mut selection);
        if let Some(by_policy) = &request.keyed.selection {
            selection.extend_from_slice(by_policy);
        }
        let hash = blake3::keyed_hash(hash_key, &selection);
        let mut id = [0; 16];
        id.copy_from_slice(&hash.as_bytes()[..16]);
        let key = key(cache.responses(), &id);
        let purged = self.purged;
        let variant = Variant { id, purged };
        Some(Chosen { variant, key })
    }

    fn is_secret(&self, request: Selector<'_>) -> bool {
        request.keyed.is_secret || self.fields.iter().any(is_secret)
    }

    /// What the record may come to take in memory beside its encoded form, in bytes.
    pub(super) fn weight(&self) -> usize {
        let names: usize = self.fields.iter().map(|field| field.as_str().len()).sum();
        let recent = RECENT * (RECENT_LEN + size_of::<(Box<[u8]>, Chosen)>() + 64);
        size_of::<Self>() + names + self.variants.len() * size_of::<Id>() + recent
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut bytes = vec![FORMAT];
        bytes.put_slice(&self.nonce);
        bytes.put_u64(self.fingerprint);
        bytes.put_u64(self.purged.map_or(0, Timestamp::as_millis));
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
        let (&fingerprint, rest) = rest.split_first_chunk()?;
        let (&purged, rest) = rest.split_first_chunk()?;
        let purged = u64::from_be_bytes(purged);
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
            fingerprint: u64::from_be_bytes(fingerprint),
            purged: Some(Timestamp::from_millis(purged)).filter(|_| purged != 0),
            variants: variants.to_vec(),
            recent: Recent::default(),
        })
    }
}

/// The key of a variant; never that of a URI, whose scheme is followed by two slashes.
pub(super) fn key(head: &KeyHead, id: &Id) -> Key {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut name = *b"v:00000000000000000000000000000000";
    for (digits, byte) in name[2..].chunks_exact_mut(2).zip(id) {
        digits.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
    head.key(&name).to_key()
}

/// A key for those to wait under who have the same in a policy's key parts, while no record of the URI is known. It never
/// leaves this process.
pub(super) fn selected_key(cache: &Cache, base: &Key, selection: &[u8]) -> Key {
    let (hash_key, _) = cache.hash_key();
    let mut hasher = blake3::Hasher::new_keyed(hash_key);
    hasher.update(&(base.encoded().len() as u64).to_le_bytes());
    hasher.update(base.encoded()).update(selection);
    let mut name = *b"s:00000000000000000000000000000000";
    name[2..].copy_from_slice(&hasher.finalize().as_bytes()[..32]);
    cache.responses().key(&name).to_key()
}

/// The key to hash with, or `None` when what is secret may not be hashed: on a backend that others can read, hashes of
/// credentials need a secret that was given.
fn hash_key(cache: &Cache, is_secret: bool) -> Option<&[u8; 32]> {
    let (key, given) = cache.hash_key();
    if given || !cache.capabilities().shared {
        return Some(key);
    }
    (!is_secret).then_some(&[0; 32])
}

fn is_secret(field: &HeaderName) -> bool {
    [AUTHORIZATION, COOKIE].contains(field)
}

/// The keys of variants that have to go.
pub(super) fn keys(head: &KeyHead, ids: &[Id]) -> Vec<Key> {
    ids.iter().map(|id| key(head, id)).collect()
}
