//! Stored responses compressed once, and answered with in the coding that a client takes (RFC 9110 §8.4, §12.5.3).
//!
//! The handler is asked for the response as it is, and that is what is stored. Its compressed forms are responses of
//! their own, under a hash of the stored one: they end with it, because nothing leads to them any more.

mod coding;
#[cfg(fuzzing)]
pub(super) mod fuzzing;

use std::{pin::pin, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request,
    header::{
        ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, ETAG, IF_MATCH, IF_RANGE, RANGE, VARY,
    },
};
use tokio::runtime::Handle;

use self::coding::{
    encoded_tag, has_digest, is_worth_encoding, may_encode, negotiate, restore_tags,
};
use super::{
    asked::Asked,
    layer::Config,
    lookup::{self, Looked},
    patience::Patience,
    policy::Rules,
    range::is_by_date,
    stored::{StoredHead, StoredResponse},
    tags::{self, TagField},
    text::tokens,
    variants,
};
use crate::{CodecId, Entry, Key, Peek, PutMode, TagStamp, Timestamp, cache::Joined};

pub use coding::Coding;

/// The codings that a layer makes, in the order of its preference; none unless it was told to.
#[derive(Clone, Debug, Default)]
pub(super) struct Precompress(Arc<[Coding]>);

/// What there is of a stored response in the coding that a request takes.
pub(super) enum Encoded {
    /// Nothing: the response answers as it is stored.
    Plain,
    /// The response in that coding.
    Found(Entry),
    /// The backend has to be asked.
    Ask(Key),
}

impl FromIterator<Coding> for Precompress {
    fn from_iter<I: IntoIterator<Item = Coding>>(codings: I) -> Self {
        let mut offered: Vec<Coding> = Vec::new();
        for coding in codings {
            if !offered.contains(&coding) {
                offered.push(coding);
            }
        }
        Self(offered.into())
    }
}

impl Precompress {
    pub(super) fn is_on(&self) -> bool {
        !self.0.is_empty()
    }

    /// Takes the wish for a coding out of a request, so that the handler answers with the bytes as they are.
    pub(super) fn take_wish<B>(&self, request: &mut Request<B>, asked: &mut Asked) {
        if self.is_on() {
            let has_range = request.headers().contains_key(RANGE);
            asked.coding = negotiate(&self.0, request.headers()).filter(|_| !has_range);
            request.headers_mut().remove(ACCEPT_ENCODING);
        }
    }

    /// Lets the handler be asked by the entity tags that it knows: what may not be changed otherwise than on a condition
    /// is its own business (RFC 9110 §13.1.1).
    pub(super) fn restore_tags<B>(&self, request: &mut Request<B>) {
        if self.is_on() && request.headers().contains_key(IF_MATCH) {
            let is_coded = restore_tags(&self.0, request.headers_mut(), &IF_MATCH);
            if is_coded {
                // The handler's bytes are not those that the client has.
                request.headers_mut().remove(RANGE);
            }
        }
    }
}

/// Whether a request goes on with something by a date, which a response and its compressed forms have in common (RFC 9110
/// §13.1.5): the client may have one of those, and a handler would give it bytes as they are.
pub(super) fn may_mix(config: &Config, request: &HeaderMap) -> bool {
    hides_wish(config) && is_by_date(request)
}

/// [`may_mix`] for a stored response. One that was stored before the layer made codings does not say that it varies by
/// them.
pub(super) fn may_mix_with(config: &Config, request: &HeaderMap, stored: &StoredResponse) -> bool {
    let head = &stored.head;
    may_mix(config, request) && may_encode(head.status, &head.headers)
}

/// Makes a request that is not for the cache one for the whole, where what it goes on with may be in another coding.
pub(super) fn ask_for_whole<B>(config: &Config, mut request: Request<B>) -> Request<B> {
    if may_mix(config, request.headers()) {
        request.headers_mut().remove(RANGE);
        request.headers_mut().remove(IF_RANGE);
    }
    request
}

/// Says that the answer depends on the coding that a client takes, where it may come in one.
pub(super) fn announce(config: &Config, status: http::StatusCode, headers: &mut HeaderMap) {
    if hides_wish(config) && may_encode(status, headers) {
        // A map that is full has no room for it; what is not said then is not compressed either.
        let _ = vary_by_coding(headers);
    }
}

fn vary_by_coding(headers: &mut HeaderMap) -> Option<()> {
    if tokens(headers, &VARY).any(|name| name.eq_ignore_ascii_case(b"accept-encoding")) {
        return Some(());
    }
    let field = HeaderValue::from_static("accept-encoding");
    headers.try_append(VARY, field).ok().map(drop)
}

/// Whether handlers are asked without `Accept-Encoding`. In shadow mode they see requests as they are.
fn hides_wish(config: &Config) -> bool {
    config.precompress.is_on() && config.shadow.is_none()
}

/// Whether the answer to a POST may be in a coding that later GETs do not take: its wish is not taken out, and there are
/// no variants by it.
pub(super) fn may_come_in_coding(config: &Config, request: &HeaderMap) -> bool {
    hides_wish(config) && request.contains_key(ACCEPT_ENCODING)
}

/// The fields that select a variant: where the handler is never asked with `Accept-Encoding`, that is none.
pub(super) fn selecting(config: &Config, mut fields: Vec<HeaderName>) -> Vec<HeaderName> {
    if hides_wish(config) {
        fields.retain(|field| *field != ACCEPT_ENCODING);
    }
    fields
}

/// The form of a stored response that a request takes, without waiting.
pub(super) fn peek(config: &Arc<Config>, asked: &Asked, entry: &Entry, now: Timestamp) -> Encoded {
    let Some((stored, coding)) = wished(config, asked, entry) else {
        return Encoded::Plain;
    };
    let key = key(config, entry, stored, coding);
    match config.cache.peek(key.as_key_ref(), now) {
        Peek::Hit(encoded) => Encoded::Found(encoded),
        Peek::Miss => {
            encode_behind(config, entry, key, coding, now);
            Encoded::Plain
        }
        Peek::Ask => Encoded::Ask(key),
    }
}

/// The compressed form, where there is one that can be read, and else the response as it is stored.
pub(super) fn either<'a>(
    config: &Config,
    encoded: Option<&'a Entry>,
    stored: &'a StoredResponse,
) -> &'a StoredResponse {
    let encoded = encoded.and_then(|entry| lookup::response(config, entry));
    encoded.unwrap_or(stored)
}

/// What was found, in the form that a request takes, asking the backend where it cannot tell at once.
pub(super) async fn find(
    config: &Arc<Config>,
    asked: &Asked,
    patience: &Patience,
    looked: Looked,
    now: Timestamp,
) -> Looked {
    let Looked::Found(entry, _) = &looked else {
        return looked;
    };
    let encoded = match peek(config, asked, entry, now) {
        Encoded::Plain => None,
        Encoded::Found(encoded) => Some(encoded),
        Encoded::Ask(key) => {
            let asked_for = {
                let fetching = pin!(config.cache.fetch(&key));
                patience.wait(fetching).await
            };
            match (asked_for, asked.coding) {
                (Some(Ok(None)), Some(coding)) => {
                    encode_behind(config, entry, key, coding, now);
                    None
                }
                // A failure is counted and logged there; the response answers as it is stored.
                (found, _) => found.and_then(|found| found.ok().flatten()),
            }
        }
    };
    match encoded.filter(|encoded| lookup::response(config, encoded).is_some()) {
        Some(encoded) => Looked::Found(encoded, None),
        None => looked,
    }
}

/// The stored response and the coding, where the request takes one and the response may come in it.
fn wished<'a>(
    config: &Config,
    asked: &Asked,
    entry: &'a Entry,
) -> Option<(&'a StoredResponse, Coding)> {
    let coding = asked.coding?;
    let stored = lookup::response(config, entry)?;
    let may = may_encode(stored.head.status, &stored.head.headers)
        && !stored.trailers().is_some_and(has_digest);
    (may && is_worth_encoding(stored.body.len())).then_some((stored, coding))
}

fn key(config: &Config, entry: &Entry, stored: &StoredResponse, coding: Coding) -> Key {
    let mut hasher = blake3::Hasher::new_derive_key("larder: a stored response in a coding");
    hasher.update(&stored.digest(entry.payload()));
    hasher.update(coding.as_str().as_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    variants::key(config.cache.responses(), &id)
}

/// Makes the form that was missing, once for all who miss it, while they are answered without it.
fn encode_behind(config: &Arc<Config>, entry: &Entry, key: Key, coding: Coding, now: Timestamp) {
    let Ok(runtime) = Handle::try_current() else {
        return;
    };
    if config.unshared.contains(&key, false, now) {
        return;
    }
    let shared = config.cache.shared();
    let Joined::Leader(leader) = shared.response_flights.join(&key) else {
        return;
    };
    let (config, entry, write) = (config.clone(), entry.clone(), shared.writes.begin());
    runtime.clone().spawn(async move {
        let (own, plain) = (config.clone(), entry.clone());
        let encoding = runtime.spawn_blocking(move || {
            let stored = lookup::response(&own, &plain)?;
            encode(stored, plain.tags(), coding, &own.rules)
        });
        let encoded = encoding.await.ok().flatten();
        match encoded {
            Some((payload, stored)) => {
                let weight = stored.weight();
                let encoded = Entry::new(CodecId::RESPONSE, payload, now)
                    .with_decoded(Arc::new(stored), weight)
                    .with_expires_at(entry.expires_at());
                let cache = &config.cache;
                // A failure is counted and logged there; the response answers as it is.
                let _ = cache.observe(cache.backend().put(&key, encoded, PutMode::Always).await);
            }
            None => config.unshared.insert(&key, false, Timestamp::now()),
        }
        drop((leader, write));
    });
}

/// The stored response in a coding, as bytes and decoded; `None` where it would not be smaller.
fn encode(
    stored: &StoredResponse,
    stamps: &[TagStamp],
    coding: Coding,
    rules: &Rules,
) -> Option<(Bytes, StoredResponse)> {
    let body = coding.encode(&stored.body)?;
    let mut headers = stored.head.headers.clone();
    // What was stored before the layer made codings does not say so.
    vary_by_coding(&mut headers)?;
    headers.try_insert(CONTENT_ENCODING, coding.value()).ok()?;
    headers.remove(CONTENT_LENGTH);
    // The form has no tags of its own to end by, and layers that pass on those of the response want to know them.
    tags::pass_stored(&mut headers, stamps, Some(TagField::CacheTag));
    if let Some(tag) = encoded_tag(&headers, coding) {
        headers.insert(ETAG, tag);
    }
    let mut head = StoredHead {
        headers,
        made_etag: None,
        ..StoredHead::clone(&stored.head)
    };
    head.make_etag(std::slice::from_ref(&body), rules);
    let trailers = stored.trailers().cloned().unwrap_or_default();
    let (payload, body_at) = head.encode(&[body], &trailers);
    let body = payload.slice(body_at..);
    let mut encoded = StoredResponse::new(Arc::new(head), body, trailers, stored.policy, rules);
    encoded.pass_tags(&[], rules);
    Some((payload, encoded))
}
