//! The copy that is kept of a body while it streams, and what becomes of it.

use std::{sync::Arc, task::Context};

use bytes::{Bytes, BytesMut};
use http_body::Body;

use super::{
    Landing,
    body::CacheBody,
    freshness::ResponsePolicy,
    layer::Config,
    lookup,
    stored::{StoredHead, StoredResponse},
    telling::explained,
};
use crate::{
    CodecId, Entry, ErrorKind, Key, Peek, PutMode, Reason, TagStamp, Timestamp,
    cache::{Collected, Event, Leader, Load, Tags},
};

/// Chunks below this many bytes are copied.
const SMALL: usize = 1024;

/// Keeps the chunks of a body by reference, up to a limit, and commits a body that ended well.
pub(super) struct Tee {
    chunks: Vec<Bytes>,
    /// Small chunks since the last large one, copied: each would hold on to a whole buffer of its connection.
    small: BytesMut,
    len: u64,
    limit: u64,
    /// What `Content-Length` promised.
    expected: Option<u64>,
    commit: Option<Commit>,
}

/// Everything that storing a response takes, but for its body.
pub(super) struct Commit {
    pub(super) config: Arc<Config>,
    pub(super) key: Key,
    pub(super) head: StoredHead,
    pub(super) policy: ResponsePolicy,
    pub(super) load: Load,
    /// The tags to look up the ids of, and what the handler reads.
    pub(super) tags: Tags,
    pub(super) collected: Option<Arc<Collected>>,
    /// The condition for a variant; a response under the URI's own key goes by the load.
    pub(super) on_variant: Option<PutMode>,
    pub(super) leader: Option<Leader<Landing>>,
    pub(super) route: Option<Arc<str>>,
}

impl Tee {
    fn new(commit: Commit, expected: Option<u64>) -> Self {
        let limit = commit.config.max_body;
        Self {
            chunks: Vec::new(),
            small: BytesMut::new(),
            len: 0,
            limit,
            expected,
            commit: Some(commit),
        }
    }

    pub(super) fn keep(&mut self, data: &Bytes) {
        if self.commit.is_none() || data.is_empty() {
            return;
        }
        self.len += data.len() as u64;
        if self.len > self.expected.unwrap_or(self.limit).min(self.limit) {
            return self.give_up(Reason::TooLarge);
        }
        if data.len() < SMALL {
            return self.small.extend_from_slice(data);
        }
        self.gather();
        self.chunks.push(data.clone());
    }

    fn forget(&mut self) {
        self.chunks = Vec::new();
        self.small = BytesMut::new();
    }

    fn gather(&mut self) {
        if !self.small.is_empty() {
            self.chunks.push(self.small.split().freeze());
        }
    }

    pub(super) fn is_keeping(&self) -> bool {
        self.commit.is_some()
    }

    /// Whether everything that `Content-Length` promised is there; servers do not poll a body beyond that.
    pub(super) fn is_full(&self) -> bool {
        self.expected == Some(self.len)
    }

    /// The body ended: stores it, in memory at once, on a server in a task of its own.
    pub(super) fn end(&mut self, cx: &mut Context<'_>) {
        let Some(commit) = self.commit.take() else {
            return;
        };
        if self.expected.is_some_and(|expected| expected != self.len) {
            return commit.broken();
        }
        self.gather();
        commit.store(std::mem::take(&mut self.chunks), Some(cx));
    }

    /// The body cannot be stored: too large, or with trailers, which a stored copy would lack.
    pub(super) fn give_up(&mut self, reason: Reason) {
        self.forget();
        if let Some(commit) = self.commit.take() {
            commit.not_stored(Event::HttpRefused, reason);
            announce(commit.leader.as_ref(), Landing::Unshared);
        }
    }

    /// The body broke off.
    pub(super) fn break_off(&mut self) {
        self.forget();
        if let Some(commit) = self.commit.take() {
            commit.broken();
        }
    }
}

impl Drop for Tee {
    /// A body that was not read to its end is not stored; the client has gone, perhaps.
    fn drop(&mut self) {
        self.break_off();
    }
}

impl Commit {
    /// A body whose copy is stored when it has been read, or at once when there is nothing to read: servers do not poll
    /// an empty body.
    pub(super) fn keep<B: Body<Data = Bytes>>(
        self,
        body: B,
        expected: Option<u64>,
    ) -> CacheBody<B> {
        if body.is_end_stream() || expected == Some(0) {
            match expected {
                None | Some(0) => self.store(Vec::new(), None),
                Some(_) => self.broken(),
            }
            return CacheBody::pass(body);
        }
        CacheBody::tee(body, Tee::new(self, expected))
    }

    /// Stores the response with this body. In memory that has happened when the call returns; else it goes on in a task
    /// that `Cache::flush` waits for.
    pub(super) fn store(self, body: Vec<Bytes>, cx: Option<&mut Context<'_>>) {
        let cache = self.config.cache.clone();
        let storing = async move { self.put(&body).await };
        cache.shared().writes.run(storing, cx);
    }

    async fn put(self, body: &[Bytes]) {
        let stamps = match self.stamps().await {
            Ok(stamps) => stamps,
            Err(Reason::Late) => return self.not_stored(Event::LoadLate, Reason::Late),
            Err(reason) => {
                announce(self.leader.as_ref(), Landing::Unshared);
                return self.not_stored(Event::HttpRefused, reason);
            }
        };
        let Some(permit) = self.load.may_store().await else {
            return self.not_stored(Event::LoadLate, Reason::Late);
        };
        let mode = self.on_variant.unwrap_or(permit.mode);
        let now = Timestamp::now();
        if self.is_outdated(now) {
            announce(self.leader.as_ref(), Landing::LookAgain);
            return self.not_stored(Event::LoadLate, Reason::Late);
        }
        let Self {
            config,
            key,
            mut head,
            policy,
            leader,
            route,
            ..
        } = self;
        let refused = |event, reason| not_stored(&config, route.as_deref(), event, reason);
        head.make_etag(body, &config.rules);
        let (payload, body_at) = head.encode(body);
        let stored = StoredResponse::new(head, payload.slice(body_at..), policy, &config.rules);
        let weight = stored.weight();
        let most = config.cache.capabilities().max_value_len;
        let is_too_large = most.is_some_and(|most| payload.len() > most);
        let entry = Entry::new(CodecId::RESPONSE, payload, now)
            .with_decoded(Arc::new(stored), weight)
            .with_expires_at(Some(policy.keep_until(&config.rules)))
            .with_tags(stamps);
        let Ok(entry) = entry else {
            return refused(Event::HttpRefused, Reason::Tags);
        };
        let cache = &config.cache;
        let kept = cache.put_beside_ended(&key, entry, mode).await;
        let landing = match cache.observe(kept) {
            Ok(true) => {
                cache.count(Event::HttpStored);
                Landing::LookAgain
            }
            Ok(false) if is_too_large => {
                config.unshared.insert(self.load.key(), false, now);
                refused(Event::HttpRefused, Reason::TooLarge);
                Landing::Unshared
            }
            // Somebody else was quicker, or the URI was invalidated. In either case those who wait had better look
            // again, and one of them leads where nothing is found: dropping the leader without a word hands over.
            Ok(false) if mode != PutMode::Always => {
                return refused(Event::LoadLate, Reason::Late);
            }
            Ok(false) | Err(_) => {
                refused(Event::HttpRefused, Reason::Backend);
                Landing::Unshared
            }
        };
        announce(leader.as_ref(), landing);
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
        match cache
            .stamp_loaded(&self.load, &self.tags, &carried, ttl)
            .await
        {
            Ok(stamps) => stamps.ok_or(Reason::Late),
            Err(error) if error.kind() == ErrorKind::InvalidTag => Err(Reason::Tags),
            Err(_) => Err(Reason::Backend),
        }
    }

    /// Whether a response that came later is stored already, because this one's body took longer (RFC 9111 §4: of
    /// several the most recent one is used). One of the future is of a clock that was wrong.
    fn is_outdated(&self, now: Timestamp) -> bool {
        let Peek::Hit(entry) = self.config.cache.peek(self.key.as_key_ref(), now) else {
            return false;
        };
        lookup::response(&self.config, &entry).is_some_and(|there| {
            let came = there.head.times.response;
            came > self.head.times.response && came <= now
        })
    }

    /// Dropping the leader without a word hands its flight over to one of those who wait.
    fn broken(self) {
        self.not_stored(Event::HttpBroken, Reason::Broken);
    }

    fn not_stored(&self, event: Event, reason: Reason) {
        not_stored(&self.config, self.route.as_deref(), event, reason);
    }
}

fn not_stored(config: &Config, route: Option<&str>, event: Event, reason: Reason) {
    config.cache.count(event);
    explained(config, route, reason);
}

/// Tells those who wait for a response what became of it.
pub(super) fn announce(leader: Option<&Leader<Landing>>, landing: Landing) {
    if let Some(leader) = leader {
        leader.announce(landing);
    }
}
