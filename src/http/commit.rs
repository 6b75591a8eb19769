//! Storing a response, once its body is there.

use std::{sync::Arc, task::Context};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::ACCEPT_RANGES};
use http_body::Body;

use super::{
    Landing,
    body::CacheBody,
    body_error::BoxError,
    budget::Reserved,
    freshness::ResponsePolicy,
    layer::Config,
    lookup,
    range::{Known, Piece},
    sharing::Sharing,
    stored::{StoredHead, StoredResponse},
    stream::{Keeping, Stream},
    telling::explained,
    text::tokens,
    variants::{Variant, VariantRecord},
};
use crate::{
    CodecId, Entry, ErrorKind, Key, Peek, PutMode, Reason, TagStamp, Timestamp,
    cache::{Collected, Event, Leader, Load, Tags},
};

/// Everything that storing a response takes, but for its body.
pub(super) struct Commit {
    pub(super) config: Arc<Config>,
    pub(super) key: Key,
    pub(super) head: Arc<StoredHead>,
    pub(super) policy: ResponsePolicy,
    pub(super) load: Load,
    /// The tags to look up the ids of, and what the handler reads.
    pub(super) tags: Tags,
    pub(super) collected: Option<Arc<Collected>>,
    /// The condition for a variant; a response under the URI's own key goes by the load.
    pub(super) on_variant: Option<PutMode>,
    /// What part the body is, where it is not the whole.
    pub(super) piece: Option<Box<Piece>>,
    pub(super) leader: Option<Leader<Landing>>,
    pub(super) route: Option<Arc<str>>,
    /// The flight for the URI, of a leader who has come to know that there are variants.
    pub(super) before: Option<Leader<Landing>>,
    /// The variant that the response is, for those who wait for it.
    pub(super) variant: Option<(Variant, VariantRecord)>,
    /// What `Trailer` announces.
    pub(super) trailer: Option<HeaderValue>,
    /// The fields that the response has for one client only.
    pub(super) private: Vec<HeaderName>,
    /// What the body may take while it is under way.
    pub(super) reserved: Arc<Reserved>,
}

impl Commit {
    /// A body that is stored when it has been read, or at once when there is nothing to read: servers do not poll an
    /// empty body. Those who wait for the response have it from now on, and read the body with whoever gets this.
    pub(super) fn keep<B>(mut self: Box<Self>, body: B, expected: Option<u64>) -> CacheBody<B>
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        if body.is_end_stream() || expected == Some(0) {
            let passed = CacheBody::pass(body, &self.config);
            match expected {
                None | Some(0) => self.store_whole(Bytes::new(), HeaderMap::new()),
                Some(_) => self.broken(),
            }
            return passed;
        }
        let (stream, reader) = Stream::new(&self);
        self.share(&stream, expected);
        let body = Box::pin(CacheBody::raw(body));
        stream.begin(body, Keeping::new(self, expected));
        CacheBody::shared(reader)
    }

    /// Stores a response whose body is there. Those who wait for it have it before it is stored.
    pub(super) fn store_whole(mut self: Box<Self>, body: Bytes, trailers: HeaderMap) {
        let stream = Stream::ended(&self, &body, &trailers);
        self.share(&stream, Some(body.len() as u64));
        self.store(vec![body], trailers, None);
    }

    /// Gives the response to those who wait for it, and to those who come while it is under way.
    fn share(&mut self, stream: &Arc<Stream>, len: Option<u64>) {
        if self.leader.is_none() && self.before.is_none() {
            return;
        }
        let sharing = Landing::Shared(Arc::new(Sharing::new(self, stream.clone(), len)));
        announce(self.leader.as_ref(), sharing.clone());
        if let Some(before) = self.before.take() {
            before.land(sharing);
        }
    }

    /// Stores the response with this body. In memory that has happened when the call returns; else it goes on in a task
    /// that `Cache::flush` waits for.
    pub(super) fn store(
        self: Box<Self>,
        body: Vec<Bytes>,
        trailers: HeaderMap,
        cx: Option<&mut Context<'_>>,
    ) {
        let cache = self.config.cache.clone();
        cache.shared().writes.run(self.put(body, trailers), cx);
    }

    async fn put(self: Box<Self>, body: Vec<Bytes>, trailers: HeaderMap) {
        let stamps = match self.stamps().await {
            Ok(stamps) => stamps,
            Err(Reason::Late) => return self.late(),
            Err(reason) => {
                announce(self.leader.as_ref(), Landing::Unshared);
                return self.not_stored(Event::HttpRefused, reason);
            }
        };
        let Some(permit) = self.load.may_store().await else {
            return self.late();
        };
        let mode = self.on_variant.unwrap_or(permit.mode);
        let now = Timestamp::now();
        let entry = match self.entry(body, trailers, stamps, now) {
            Ok(entry) => entry,
            Err(Reason::Late) => {
                announce(self.leader.as_ref(), Landing::LookAgain);
                return self.not_stored(Event::LoadLate, Reason::Late);
            }
            Err(reason) => return self.not_stored(Event::HttpRefused, reason),
        };
        let cache = &self.config.cache;
        let most = cache.capabilities().max_value_len;
        let is_too_large = most.is_some_and(|most| entry.payload().len() > most);
        let kept = cache.put_beside_ended(&self.key, entry, mode).await;
        let landing = match cache.observe(kept) {
            Ok(true) => {
                cache.count(Event::HttpStored);
                Landing::LookAgain
            }
            Ok(false) if is_too_large => {
                self.config.unshared.insert(self.load.key(), false, now);
                self.not_stored(Event::HttpRefused, Reason::TooLarge);
                Landing::Unshared
            }
            // Somebody else was quicker, or the URI was invalidated. In either case those who wait had better look
            // again, and one of them leads where nothing is found.
            Ok(false) if mode != PutMode::Always => return self.late(),
            Ok(false) | Err(_) => {
                self.not_stored(Event::HttpRefused, Reason::Backend);
                Landing::Unshared
            }
        };
        let is_kept = matches!(landing, Landing::LookAgain);
        announce(self.leader.as_ref(), landing);
        let is_whole = self.head.status != StatusCode::PARTIAL_CONTENT;
        if is_kept && is_whole {
            self.forget_parts(now).await;
        }
    }

    /// What is stored; an error says why that is nothing.
    fn entry(
        &self,
        body: Vec<Bytes>,
        trailers: HeaderMap,
        stamps: Vec<TagStamp>,
        now: Timestamp,
    ) -> Result<Entry, Reason> {
        let config = &self.config;
        let there = match config.cache.peek(self.key.as_key_ref(), now) {
            Peek::Hit(entry) => Some(entry),
            Peek::Miss | Peek::Ask => None,
        };
        let entry = there.as_ref();
        let there = entry.and_then(|entry| lookup::response(config, entry));
        if self.is_outdated(there, now) {
            return Err(Reason::Late);
        }
        // What has other tags would end with them no more.
        let is_tagged = |tags: &[TagStamp]| tags.iter().all(|tag| stamps.contains(tag));
        let joined = there.filter(|_| entry.is_some_and(|entry| is_tagged(entry.tags())));
        let body = self.joined(body, joined);
        let trailers = match self.piece.is_some() {
            // What ends a part is not what ends the whole.
            true => HeaderMap::new(),
            false => trailers,
        };
        let (policy, rules) = (self.policy, &config.rules);
        let mut head = self.head.clone();
        if head.wants_etag(rules) {
            Arc::make_mut(&mut head).make_etag(&body, rules);
        }
        let (payload, body_at) = head.encode(&body, &trailers);
        let body = payload.slice(body_at..);
        let mut stored = StoredResponse::new(head, body, trailers, policy, rules);
        stored.pass_tags(&stamps, rules);
        let weight = stored.weight();
        let entry = Entry::new(CodecId::RESPONSE, payload, now)
            .with_decoded(Arc::new(stored), weight)
            .with_expires_at(Some(policy.keep_until(rules)));
        match stamps.is_empty() {
            true => Ok(entry),
            false => entry.with_tags(stamps).map_err(|_| Reason::Tags),
        }
    }

    /// The body in the form that is stored: of a part together with those that are stored, as far as can be told by now.
    fn joined(&self, body: Vec<Bytes>, there: Option<&StoredResponse>) -> Vec<Bytes> {
        let Some(piece) = &self.piece else {
            return body;
        };
        if self.head.status != StatusCode::PARTIAL_CONTENT {
            return piece.whole(&body);
        }
        let limit = self.config.max_body;
        let known = there.and_then(Known::of).filter(|known| self.is_of(known));
        match known {
            Some(known) => piece.with(known.parts).encode(&body, limit),
            None => piece.encode(&body, limit),
        }
    }

    /// Whether stored parts are of the version that this part is of.
    fn is_of(&self, known: &Known<'_>) -> bool {
        known.is_of(&self.head.headers, self.head.times.response)
    }

    /// The tags of the response with their ids; an error says why it is not stored.
    async fn stamps(&self) -> Result<Vec<TagStamp>, Reason> {
        let carried = match &self.collected {
            Some(collected) => collected.stamps().ok_or(Reason::Tags)?,
            None => Vec::new(),
        };
        if self.tags.is_empty() && carried.is_empty() {
            return Ok(carried);
        }
        let keep_until = self.policy.keep_until(&self.config.rules);
        let ttl = Some(keep_until.since(Timestamp::now()));
        let cache = &self.config.cache;
        let stamping = cache.stamp_loaded(&self.load, &self.tags, &carried, ttl);
        match Box::pin(stamping).await {
            Ok(stamps) => stamps.ok_or(Reason::Late),
            Err(error) if error.kind() == ErrorKind::InvalidTag => Err(Reason::Tags),
            Err(_) => Err(Reason::Backend),
        }
    }

    /// Whether a response that came later is stored already, because this one's body took longer (RFC 9111 §4: of
    /// several the most recent one is used). One of the future is of a clock that was wrong.
    fn is_outdated(&self, there: Option<&StoredResponse>, now: Timestamp) -> bool {
        there.is_some_and(|there| {
            let came = there.head.times.response;
            let is_joined =
                self.piece.is_some() && Known::of(there).is_some_and(|known| self.is_of(&known));
            came > self.head.times.response && came <= now && !is_joined
        })
    }

    /// What was overtaken is for nobody who asks from now on: one of them leads.
    fn late(&self) {
        retract(self.leader.as_ref());
        self.not_stored(Event::LoadLate, Reason::Late);
    }

    /// The body cannot be stored: it is too large, or there is no room for it.
    pub(super) fn give_up(&self, reason: Reason) {
        self.not_stored(Event::HttpRefused, reason);
        announce(self.leader.as_ref(), Landing::Unshared);
    }

    /// The body broke off. One of those who wait leads.
    pub(super) fn broken(&self) {
        retract(self.leader.as_ref());
        self.not_stored(Event::HttpBroken, Reason::Broken);
    }

    fn not_stored(&self, event: Event, reason: Reason) {
        self.config.cache.count(event);
        explained(&self.config, self.route.as_deref(), reason);
    }

    /// A whole response takes the place of parts. Where a look costs a round trip, only one of a handler that has parts
    /// does.
    async fn forget_parts(&self, now: Timestamp) {
        let (cache, uri) = (&self.config.cache, self.load.key());
        let are_there = match cache.peek(uri.of_parts_buf().as_key_ref(), now) {
            Peek::Hit(_) => true,
            Peek::Miss => false,
            Peek::Ask => self.piece.is_some() || accepts_ranges(&self.head.headers),
        };
        if are_there {
            let parts = uri.of_parts();
            // Counted and logged there; they end by themselves.
            let _ = cache.observe(cache.backend().delete(&parts).await);
        }
    }
}

fn accepts_ranges(headers: &HeaderMap) -> bool {
    tokens(headers, &ACCEPT_RANGES).any(|unit| unit.eq_ignore_ascii_case(b"bytes"))
}

/// Takes back what those who wait were told: they look again, and one of them leads.
fn retract(leader: Option<&Leader<Landing>>) {
    if let Some(leader) = leader {
        leader.retract();
    }
}

/// Tells those who wait for a response what became of it.
pub(super) fn announce(leader: Option<&Leader<Landing>>, landing: Landing) {
    if let Some(leader) = leader {
        leader.announce(landing);
    }
}
