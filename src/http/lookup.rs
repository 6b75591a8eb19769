//! Finding the stored response that a request selects.

use std::{borrow::Cow, pin::pin, sync::atomic::Ordering};

use super::{
    freshness::ResponsePolicy,
    layer::Config,
    patience::Patience,
    stored::StoredResponse,
    variants::{self, Chosen, Id, Selector, Variant, VariantRecord},
};
use crate::{
    CodecId, Entry, Key, KeyRef, Peek, Result, Timestamp,
    backend::join::join,
    cache::{Load, Seen},
};

/// What is stored for a request.
#[derive(Clone, Debug)]
pub(super) enum Looked {
    /// A response, under the URI's key or that of a variant.
    Found(Entry, Option<Variant>),
    /// Nothing for the URI.
    NoUri,
    /// Variants of the URI, but not this one.
    NoVariant(Id),
    /// The backend has to be asked.
    Ask,
    /// The backend was asked, and is out of reach.
    Unreachable,
}

/// Looks without waiting. What is found may be of another policy: see [`own`].
#[inline]
pub(super) fn peek(
    config: &Config,
    base: KeyRef<'_>,
    request: Selector<'_>,
    now: Timestamp,
) -> Looked {
    let entry = match config.cache.peek(base, now) {
        Peek::Hit(entry) => entry,
        Peek::Miss => return Looked::NoUri,
        Peek::Ask => return Looked::Ask,
    };
    if entry.codec() == CodecId::RESPONSE {
        return Looked::Found(entry, None);
    }
    let Some(Chosen { variant, key }) = choose(config, &entry, request) else {
        return Looked::NoUri;
    };
    match config.cache.peek(key.as_key_ref(), now) {
        Peek::Hit(entry) => Looked::Found(entry, Some(variant)),
        Peek::Miss => Looked::NoVariant(variant.id),
        Peek::Ask => Looked::Ask,
    }
}

/// Looks, asking the backend; an entry that it cannot read looks like nothing stored.
pub(super) async fn fetch(
    config: &Config,
    base: &Key,
    request: Selector<'_>,
    patience: &Patience,
) -> Looked {
    let Some(found) = patience.wait(pin!(config.cache.fetch_relaxed(base))).await else {
        return Looked::Unreachable;
    };
    follow(config, found, request, patience, true).await
}

/// Begins a load, so that the backend can tell when it ends whether it comes too late, and looks once more.
pub(super) async fn begin(
    config: &Config,
    base: &Key,
    request: Selector<'_>,
    now: Timestamp,
    patience: &Patience,
) -> (Looked, Load) {
    let mut load = config.cache.shared().generations.begin(base).await;
    // Only asking brings a lease.
    let looked = match config.cache.capabilities().leases {
        true => Looked::Ask,
        false => own(
            config,
            peek(config, base.as_key_ref(), request, now),
            request,
        ),
    };
    let looked = match looked {
        Looked::Ask => match lease(config, &mut load, patience).await {
            Some(found) => Box::pin(follow(config, found, request, patience, false)).await,
            None => Looked::Unreachable,
        },
        looked => {
            load.see_tags(see_tags(config).await);
            looked
        }
    };
    if let Looked::Unreachable = looked {
        load.give_up();
    }
    (looked, load)
}

/// Begins the load of what the inner service will answer, for somebody who will not look. Nothing is kept of the answer to
/// a HEAD where nothing is stored: it says something of that, and else nothing (RFC 9111 §4.3.5).
pub(super) async fn begin_forward(
    config: &Config,
    base: &Key,
    patience: &Patience,
    says_nothing: bool,
) -> Load {
    match says_nothing {
        true => begin_unkept(config, base).await,
        false => begin_unseen(config, base, patience).await,
    }
}

/// Begins a load for somebody who will not look.
pub(super) async fn begin_unseen(config: &Config, base: &Key, patience: &Patience) -> Load {
    let mut load = config.cache.shared().generations.begin(base).await;
    match config.cache.capabilities().leases {
        true => {
            // A failure is counted and logged there, and the load is not kept then.
            if lease(config, &mut load, patience).await.is_none() {
                load.give_up();
            }
        }
        false => load.see_tags(see_tags(config).await),
    }
    load
}

/// Asks for what is stored and for a lease, and beside that for the tags that were invalidated lately; `None` when the
/// request has waited for long enough.
async fn lease(
    config: &Config,
    load: &mut Load,
    patience: &Patience,
) -> Option<Result<Option<Entry>>> {
    // Boxed, because requests that need none of it would carry its size around.
    let (found, seen) = Box::pin(async {
        let asking = pin!(config.cache.fetch_leased(load));
        join(patience.wait(asking), see_tags(config)).await
    })
    .await;
    load.see_tags(seen);
    found
}

/// What is known of the tags invalidated lately, for a load that begins: a response may turn out to have tags. On a
/// backend that is shared it costs a question, beside the one for the response, so a layer asks from the first response
/// on that had tags, which is not stored, unless it was told to expect some.
pub(super) async fn see_tags(config: &Config) -> Option<Seen> {
    if !config.has_tags.load(Ordering::Relaxed) && config.cache.capabilities().shared {
        return None;
    }
    config.cache.see_tags().await
}

/// From what is under the URI's key to the response that the request selects, which may be of a moment ago too where it is
/// only to be shown.
async fn follow(
    config: &Config,
    found: Result<Option<Entry>>,
    request: Selector<'_>,
    patience: &Patience,
    shown: bool,
) -> Looked {
    let entry = match found {
        Ok(Some(entry)) => entry,
        Err(error) if error.is_outage() => return Looked::Unreachable,
        Ok(None) | Err(_) => return Looked::NoUri,
    };
    if entry.codec() == CodecId::RESPONSE {
        return own(config, Looked::Found(entry, None), request);
    }
    let Some(Chosen { variant, key }) = choose(config, &entry, request) else {
        return Looked::NoUri;
    };
    let fetching = async {
        match shown {
            true => config.cache.fetch_relaxed(&key).await,
            false => config.cache.fetch(&key).await,
        }
    };
    match patience.wait(pin!(fetching)).await {
        None => Looked::Unreachable,
        Some(Ok(Some(entry))) => Looked::Found(entry, Some(variant)),
        Some(Err(error)) if error.is_outage() => Looked::Unreachable,
        Some(Ok(None) | Err(_)) => Looked::NoVariant(variant.id),
    }
}

/// Begins a load whose result is not stored.
pub(super) async fn begin_unkept(config: &Config, base: &Key) -> Load {
    let mut load = config.cache.shared().generations.begin(base).await;
    load.give_up();
    load
}

/// Looks, asking the backend only when it cannot tell at once.
pub(super) async fn look(
    config: &Config,
    base: &Key,
    request: Selector<'_>,
    now: Timestamp,
    patience: &Patience,
) -> Looked {
    match peek(config, base.as_key_ref(), request, now) {
        Looked::Ask => Box::pin(fetch(config, base, request, patience)).await,
        looked => own(config, looked, request),
    }
}

/// What [`peek`] has found, unless it was stored under other key parts than the request has, by another policy: then it
/// is not for this request, not even to be validated.
pub(super) fn own(config: &Config, looked: Looked, request: Selector<'_>) -> Looked {
    match &looked {
        Looked::Found(entry, _) => match response(config, entry) {
            Some(stored) if !stored.is_for(request.keyed) => Looked::NoUri,
            _ => looked,
        },
        _ => looked,
    }
}

pub(super) fn variant_key(config: &Config, id: &Id) -> Key {
    variants::key(config.cache.responses(), id)
}

/// The variant that a request chooses by the record under its URI's key.
fn choose(config: &Config, entry: &Entry, request: Selector<'_>) -> Option<Chosen> {
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
    let decode =
        |entry: &Entry| StoredResponse::decode(entry.payload(), entry.tags(), &config.rules);
    let stored = read(config, entry, CodecId::RESPONSE, decode)?;
    // Another layer of the same cache may have read it first.
    stored.seen_by(config.view, || decode(entry).ok())
}

/// By what a response that was found is reused at `now`: what it says itself, unless its URI was purged softly since or
/// one of its tags expired.
#[inline]
pub(super) fn policy<'a>(
    entry: &Entry,
    stored: &'a StoredResponse,
    variant: Option<&Variant>,
    now: Timestamp,
) -> Cow<'a, ResponsePolicy> {
    let own = stored.head.purged;
    let purged = match variant {
        None => own,
        Some(variant) => variant.purged.filter(|purged| own != Some(*purged)),
    };
    let stale = match entry.outdated_since() {
        None => purged,
        Some(at) => Some(purged.map_or(at, |purged| purged.min(at))),
    };
    match stale {
        None => Cow::Borrowed(&stored.policy),
        // A purge is over whatever the clock of the one who purged said.
        Some(at) => Cow::Owned(stored.policy.stale_from(at.min(now))),
    }
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
