//! Finding the stored response that a request selects.

use http::HeaderMap;

use super::{
    layer::Config,
    stored::StoredResponse,
    variants::{self, Chosen, Id, VariantRecord},
};
use crate::{CodecId, Entry, Key, KeyRef, Peek, Timestamp};

/// What is stored for a request.
#[derive(Clone, Debug)]
pub(super) enum Looked {
    /// A response, under the URI's key or that of a variant.
    Found(Entry, Option<Id>),
    /// Nothing for the URI.
    NoUri,
    /// Variants of the URI, but not this one.
    NoVariant(Id),
    /// The backend has to be asked.
    Ask,
}

/// Looks without waiting.
#[inline]
pub(super) fn peek(
    config: &Config,
    base: KeyRef<'_>,
    request: &HeaderMap,
    now: Timestamp,
) -> Looked {
    let entry = match config.cache.backend().peek(base, now) {
        Peek::Hit(entry) => entry,
        Peek::Miss => return Looked::NoUri,
        Peek::Ask => return Looked::Ask,
    };
    if entry.codec() == CodecId::RESPONSE {
        return Looked::Found(entry, None);
    }
    let Some(Chosen { id, key }) = choose(config, &entry, request) else {
        return Looked::NoUri;
    };
    match config.cache.backend().peek(key.as_key_ref(), now) {
        Peek::Hit(entry) => Looked::Found(entry, Some(id)),
        Peek::Miss => Looked::NoVariant(id),
        Peek::Ask => Looked::Ask,
    }
}

/// Looks, asking the backend; its failures look like nothing stored.
pub(super) async fn fetch(config: &Config, base: &Key, request: &HeaderMap) -> Looked {
    let Ok(Some(entry)) = config.cache.fetch(base).await else {
        return Looked::NoUri;
    };
    if entry.codec() == CodecId::RESPONSE {
        return Looked::Found(entry, None);
    }
    let Some(Chosen { id, key }) = choose(config, &entry, request) else {
        return Looked::NoUri;
    };
    match config.cache.fetch(&key).await {
        Ok(Some(entry)) => Looked::Found(entry, Some(id)),
        _ => Looked::NoVariant(id),
    }
}

/// Looks, asking the backend only when it cannot tell at once.
pub(super) async fn look(
    config: &Config,
    base: &Key,
    request: &HeaderMap,
    now: Timestamp,
) -> Looked {
    match peek(config, base.as_key_ref(), request, now) {
        Looked::Ask => fetch(config, base, request).await,
        looked => looked,
    }
}

pub(super) fn variant_key(config: &Config, id: &Id) -> Key {
    variants::key(config.cache.responses(), id)
}

/// The variant that a request chooses by the record under its URI's key.
fn choose(config: &Config, entry: &Entry, request: &HeaderMap) -> Option<Chosen> {
    record(config, entry)?.choose(&config.cache, request)
}

/// The record of variants that an entry holds, if it holds one.
pub(super) fn record<'a>(config: &Config, entry: &'a Entry) -> Option<&'a VariantRecord> {
    read(config, entry, CodecId::VARIANTS, |entry| {
        VariantRecord::decode(entry.payload())
    })
}

/// The response that an entry holds, if it holds one.
pub(super) fn response<'a>(config: &Config, entry: &'a Entry) -> Option<&'a StoredResponse> {
    let rules = &config.rules;
    read(config, entry, CodecId::RESPONSE, |entry| {
        StoredResponse::decode(entry.payload(), rules)
    })
}

#[inline]
fn read<'a, T: Send + Sync + 'static>(
    config: &Config,
    entry: &'a Entry,
    codec: CodecId,
    decode: impl FnOnce(&Entry) -> crate::Result<T>,
) -> Option<&'a T> {
    if let Some(decoded) = entry.decoded(codec) {
        return Some(decoded);
    }
    if entry.codec() != codec {
        return None;
    }
    match decode(entry) {
        Ok(decoded) => entry.keep_decoded(codec, &std::sync::Arc::new(decoded)),
        Err(error) => config.cache.damaged(&error),
    }
    entry.decoded(codec)
}
