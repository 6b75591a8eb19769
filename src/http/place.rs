//! Whether and where a response is stored.

use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use http::{
    HeaderMap, Method, StatusCode,
    header::{CONTENT_LENGTH, TRAILER},
};
use http_body::SizeHint;

#[cfg(feature = "compression")]
use super::precompress;
use super::{
    Landing,
    answered::{failed, is_failure},
    budget::Reserved,
    commit::{Commit, announce},
    directives::ResponseDirectives,
    fields,
    freshness::{ResponsePolicy, Times},
    layer::Config,
    lookup,
    patience::Patience,
    policies::{KeyedBy, Policy},
    policy::assess,
    range::Piece,
    storable::{RequestFacts, is_about_one_request},
    stored::{MAX_FIELDS, StoredHead, StoredResponse, judged},
    strict,
    tags::CacheTags,
    variants::{self, Id, Selector, Variant, VariantRecord},
    vary::Vary,
    work::Stale,
};
use crate::{
    CodecId, Entry, Key, PutMode, Reason, TagStamp, Timestamp,
    cache::{Collected, Joined, Leader, Load, Tags},
};

/// A response that could be stored.
#[derive(Clone, Copy)]
pub(super) struct Offer<'a> {
    pub(super) config: &'a Arc<Config>,
    pub(super) base: &'a Key,
    /// What the response answers: a GET, or a POST for later GETs.
    pub(super) method: &'a Method,
    /// The tags that the handler named; its fields have none any more.
    pub(super) tags: &'a CacheTags,
    /// What the handler read, and may still read for the body.
    pub(super) collected: Option<&'a Arc<Collected>>,
    /// The tags of the stored response whose body this one has.
    pub(super) was_made_of: &'a [TagStamp],
    /// The fields that the client sent, which `Vary` selects from.
    pub(super) client: &'a HeaderMap,
    pub(super) facts: RequestFacts,
    pub(super) status: StatusCode,
    pub(super) headers: &'a HeaderMap,
    /// What is offered are parts under the key for parts, as a 206.
    pub(super) is_part: bool,
    pub(super) times: Times,
    pub(super) patience: &'a Patience,
    /// What is stored for the request, and does not answer it as it is.
    pub(super) stale: Option<&'a Stale>,
    pub(super) route: Option<&'a Arc<str>>,
    pub(super) policy: Option<&'a Policy>,
    /// What the request has in the key parts of its policy.
    pub(super) keyed: &'a KeyedBy,
    /// Why policies do not want the response stored.
    pub(super) refusal: Option<Reason>,
}

/// Why a response is not stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused {
    pub(super) reason: Reason,
    pub(super) lasts: Lasts,
}

impl Refused {
    const BACKEND: Self = Self::once(Reason::Backend);
    const LATE: Self = Self::once(Reason::Late);

    pub(super) const fn once(reason: Reason) -> Self {
        Self {
            reason,
            lasts: Lasts::Once,
        }
    }
}

/// To which requests the next refusal is likely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lasts {
    Once,
    ForCookies,
    ForAll,
}

impl Lasts {
    fn of(reason: Reason, status: StatusCode) -> Self {
        match reason {
            // Nobody makes what is stored go away, or others run side by side, by asking what cannot be answered. Whoever
            // has to log in now is not to be answered from what everyone could read before.
            _ if is_failure(status) || says_nothing_of_the_uri(status) => Self::Once,
            Reason::RequestNoStore
            | Reason::Ambiguous
            | Reason::StoreIf
            | Reason::Authorization
            | Reason::SetCookie => Self::Once,
            Reason::Credentials => Self::ForCookies,
            _ => Self::ForAll,
        }
    }
}

fn says_nothing_of_the_uri(status: StatusCode) -> bool {
    let is_about_it = status == StatusCode::UNAUTHORIZED;
    status == StatusCode::BAD_REQUEST || is_about_one_request(status) && !is_about_it
}

/// How often a record of variants is tried to be changed while others change it too.
const ATTEMPTS: usize = 4;

impl Offer<'_> {
    /// Prepares for storing the response with this body. Those who wait for it learn now if it is not for them.
    pub(super) async fn place_body(
        &self,
        size: SizeHint,
        load: Load,
        leader: Option<Leader<Landing>>,
    ) -> Result<(Commit, Option<u64>), Refused> {
        let declared = self.headers.get(CONTENT_LENGTH).map(|value| value.to_str());
        let declared = declared.and_then(|value| value.ok()?.parse::<u64>().ok());
        let expected = declared.or(size.exact());
        let is_too_large = expected.unwrap_or(size.lower()) > self.config.max_body;
        let has_too_many_fields = self.headers.len() > MAX_FIELDS;
        if is_too_large || has_too_many_fields {
            let refused = Refused {
                reason: match is_too_large {
                    true => Reason::TooLarge,
                    false => Reason::TooManyFields,
                },
                lasts: Lasts::ForAll,
            };
            return Err(self.release(refused, leader.as_ref()));
        }
        let reserved = self.reserve();
        if !reserved.raise(expected.unwrap_or(size.lower())) {
            let refused = Refused::once(Reason::InFlight);
            return Err(self.release(refused, leader.as_ref()));
        }
        let mut commit = self.place(load, leader).await?;
        commit.reserved = reserved;
        Ok((commit, expected))
    }

    /// Room for the body among all that are under way; none at first.
    fn reserve(&self) -> Arc<Reserved> {
        self.config.in_flight.begin(&self.config.cache)
    }

    /// Prepares for storing a part of a response, or, where nothing is missing then, the whole.
    pub(super) async fn place_piece(
        &self,
        piece: Piece,
        load: Load,
        leader: Option<Leader<Landing>>,
    ) -> Result<(Commit, Option<u64>), Refused> {
        let len = piece.len();
        let reason = match len > self.config.max_body {
            true => Some(Reason::TooLarge),
            false => (self.headers.len() > MAX_FIELDS).then_some(Reason::TooManyFields),
        };
        if let Some(reason) = reason {
            return Err(self.release(Refused::once(reason), leader.as_ref()));
        }
        // Nobody waits for a part, and nobody reads it with its client.
        announce(leader.as_ref(), Landing::Unshared);
        let commit = self.place(load, None).await?;
        let piece = Some(Box::new(piece));
        Ok((Commit { piece, ..commit }, Some(len)))
    }

    /// The status that decides whether the response is stored. A 206 is a response of its own only among parts.
    fn judged(&self) -> StatusCode {
        match self.is_part {
            true => judged(self.status),
            false => self.status,
        }
    }

    /// Prepares for storing the response, whatever its body.
    pub(super) async fn place(
        &self,
        load: Load,
        leader: Option<Leader<Landing>>,
    ) -> Result<Commit, Refused> {
        if let Some(reason) = self.refusal {
            let lasts = Lasts::of(reason, self.status);
            return Err(self.release(Refused { reason, lasts }, leader.as_ref()));
        }
        let rules = &self.config.rules;
        let directives = ResponseDirectives::read(self.headers, &rules.targets);
        let (facts, headers, times) = (&self.facts, self.headers, self.times);
        let assessed = assess(
            self.method,
            facts,
            self.judged(),
            headers,
            &directives,
            times,
            rules,
        );
        let assessed = match self.varies_by_undeclared() {
            true => assessed.and(Err(Reason::UndeclaredVary)),
            false => assessed,
        };
        let assessed = assessed.and_then(|policy| Ok((policy, self.tags()?)));
        let (policy, tags) = assessed.map_err(|reason| {
            let refused = Refused {
                reason,
                lasts: Lasts::of(reason, self.status),
            };
            self.release(refused, leader.as_ref())
        })?;
        let keep_until = policy.keep_until(rules);
        let asking = leader.as_ref().map(|leader| leader.ask());
        let chosen = {
            let choosing = pin!(self.choose(&load, keep_until));
            self.patience.wait_for_all(choosing).await
        };
        drop(asking);
        let chosen = chosen.unwrap_or(Err(Refused::BACKEND));
        let (key, variant) = chosen.map_err(|refused| self.release(refused, leader.as_ref()))?;
        let is_reusable = times.response < policy.fresh_until() && !policy.must_be_validated();
        let (leader, before) = match leader {
            Some(leader) if !is_reusable => {
                leader.announce(Landing::Unshared);
                (None, None)
            }
            // Who asks from now on looks for the variant, and waits for that.
            Some(leader) if variant.is_some() && *leader.key() != key => {
                let joined = self.config.cache.shared().response_flights.join(&key);
                match joined {
                    Joined::Leader(of_variant) => (Some(of_variant), Some(leader)),
                    Joined::Follower(_) => (None, Some(leader)),
                }
            }
            leader => (leader, None),
        };
        match is_reusable {
            true => self.config.unshared.remove(self.base),
            false => self
                .config
                .unshared
                .insert(self.base, false, times.response),
        }
        let config = self.config.clone();
        let purged = variant.as_ref().and_then(|(variant, _)| variant.purged);
        let head = StoredHead {
            purged,
            ..self.head(&directives)
        };
        let on_variant = variant
            .as_ref()
            .map(|(variant, _)| self.on_variant(variant.id));
        let private = [directives.private_fields, directives.no_cache_fields].concat();
        let collected = self.collected.cloned();
        Ok(Commit {
            config,
            key,
            head,
            policy,
            tags,
            collected,
            load,
            on_variant,
            piece: None,
            leader,
            route: self.route.cloned(),
            before,
            variant,
            trailer: headers.get(TRAILER).cloned(),
            private,
            reserved: self.reserve(),
        })
    }

    /// The tags to look up the ids of.
    fn tags(&self) -> Result<Tags, Reason> {
        let names: Vec<_> = self.tags.iter().collect();
        let tags = self.config.cache.tags_and(&names, self.was_made_of);
        let is_complete = self.collected.is_none_or(|all| all.stamps().is_some());
        let tags = tags.ok().filter(|_| is_complete).ok_or(Reason::Tags)?;
        if !tags.is_empty() {
            self.config.has_tags.store(true, Ordering::Relaxed);
        }
        Ok(tags)
    }

    /// Whether the handler says that it goes by what strict mode does not show it.
    fn varies_by_undeclared(&self) -> bool {
        if !self.config.strict && !self.policy.is_some_and(Policy::is_strict) {
            return false;
        }
        let fields = strict::named_in_vary(self.headers);
        #[cfg(feature = "compression")]
        let fields = precompress::selecting(self.config, fields);
        strict::varies_by_undeclared(&fields, self.policy.map(|policy| &policy.parts))
    }

    /// The condition to store a variant under. It hangs on the record under the URI's key and ends with it; where others
    /// store too, one that they have stored meanwhile is as good.
    fn on_variant(&self, id: Id) -> PutMode {
        let seen = self
            .stale
            .filter(|(_, stale)| stale.is_some_and(|stale| stale.id == id));
        match seen {
            _ if !self.config.cache.capabilities().leases => PutMode::Always,
            Some((entry, _)) => PutMode::IfVersion(entry.version()),
            None => PutMode::IfAbsent,
        }
    }

    /// The response as it is stored, for an answer made from it at once.
    pub(super) fn stored(&self, body: Bytes, trailers: HeaderMap) -> StoredResponse {
        let (facts, headers, rules) = (&self.facts, self.headers, &self.config.rules);
        let directives = ResponseDirectives::read(headers, &rules.targets);
        let policy = ResponsePolicy::new(
            facts,
            self.judged(),
            headers,
            &directives,
            self.times,
            rules,
        );
        let mut head = self.head(&directives);
        head.make_etag(std::slice::from_ref(&body), rules);
        StoredResponse::new(head, body, trailers, policy, rules)
    }

    /// The head as it is stored.
    fn head(&self, directives: &ResponseDirectives) -> StoredHead {
        let mut headers = self.headers.clone();
        fields::strip_for_store(&mut headers, directives);
        #[cfg(feature = "compression")]
        precompress::announce(self.config, self.status, &mut headers);
        StoredHead {
            status: self.status,
            headers,
            times: self.times,
            facts: self.facts,
            purged: None,
            made_etag: None,
        }
    }

    /// Lets those go who wait, at once or, after a failure, a few at a time.
    fn release(&self, refused: Refused, leader: Option<&Leader<Landing>>) -> Refused {
        let landing = match is_failure(self.status) {
            true => failed(),
            false => Landing::Unshared,
        };
        announce(leader, landing);
        refused
    }

    /// The key to store under, and which variant that is.
    async fn choose(
        &self,
        load: &Load,
        keep_until: Timestamp,
    ) -> Result<(Key, Option<(Variant, VariantRecord)>), Refused> {
        if load.is_given_up() {
            return Err(Refused::BACKEND);
        }
        let fields = match Vary::parse(self.headers) {
            Vary::Fields(fields) => fields,
            Vary::None | Vary::Star => Vec::new(),
        };
        #[cfg(feature = "compression")]
        let fields = precompress::selecting(self.config, fields);
        let seen = load.held().map(|held| held.entry.as_ref());
        let is_plain = |entry: &Entry| entry.codec() != CodecId::VARIANTS;
        let by_uri = fields.is_empty() && self.keyed.selection.is_none();
        if by_uri && seen.is_some_and(|seen| seen.is_none_or(is_plain)) {
            // Should somebody put a record there meanwhile, the lease is over.
            return Ok((self.base.clone(), None));
        }
        for _ in 0..ATTEMPTS {
            let (there, mode) = self.look(load).await?;
            let record = there
                .as_ref()
                .and_then(|entry| lookup::record(self.config, entry))
                // The variants of another policy are not added to.
                .filter(|record| record.is_for(self.keyed));
            let record = match record {
                None if by_uri => return Ok((self.base.clone(), None)),
                None => VariantRecord::new(fields.clone(), self.keyed.fingerprint),
                Some(record) => record.widened(&fields).unwrap_or_else(|| record.clone()),
            };
            if let Some(variant) = self.note(record.clone(), there, mode, keep_until).await? {
                let key = lookup::variant_key(self.config, &variant.id);
                return Ok((key, Some((variant, record))));
            }
        }
        Err(Refused::once(Reason::Contention))
    }

    fn max_variants(&self) -> usize {
        let of_layer = self.config.max_variants;
        let policy = self.policy;
        policy.map_or(of_layer, |policy| policy.max_variants(of_layer))
    }

    /// What is under the URI's key now, and the condition to replace it under.
    async fn look(&self, load: &Load) -> Result<(Option<Entry>, PutMode), Refused> {
        let cache = &self.config.cache;
        let Some(held) = load.held() else {
            let there = match cache.fetch(self.base).await {
                Err(error) if error.is_outage() => return Err(Refused::BACKEND),
                there => there.ok().flatten(),
            };
            let mode = match &there {
                _ if !cache.capabilities().versions => PutMode::Always,
                Some(entry) => PutMode::IfVersion(entry.version()),
                None => PutMode::IfAbsent,
            };
            return Ok((there, mode));
        };
        let leased = cache.observe(cache.backend().get_leased(self.base).await);
        let leased = leased.map_err(|_| Refused::BACKEND)?;
        // An invalidation ends a record, and the next one has another mark.
        let record =
            |entry: &Option<Entry>| Some(lookup::record(self.config, entry.as_ref()?)?.mark());
        let (before, now) = (record(&held.entry), record(&leased.entry));
        if leased.lease != held.lease && (before.is_none() || before != now) {
            return Err(Refused::LATE);
        }
        Ok((leased.entry, PutMode::IfUnchanged(leased.lease)))
    }

    /// Notes this response's variant in the record; `None` when somebody else changed the record meanwhile.
    async fn note(
        &self,
        mut record: VariantRecord,
        there: Option<Entry>,
        mode: PutMode,
        keep_until: Timestamp,
    ) -> Result<Option<Variant>, Refused> {
        let cache = &self.config.cache;
        let selector = Selector {
            headers: self.client,
            keyed: self.keyed,
        };
        let variant = record
            .choose(cache, selector)
            .ok_or(Refused {
                reason: Reason::VaryBySecret,
                lasts: Lasts::ForAll,
            })?
            .variant;
        let outlived = record.note(variant.id, self.max_variants());
        let ends = there.as_ref().and_then(Entry::expires_at);
        if outlived.is_none() && ends.is_some_and(|ends| ends >= keep_until) {
            return Ok(Some(variant));
        }
        let payload = record.encode();
        let weight = record.weight();
        let entry = Entry::new(CodecId::VARIANTS, payload, self.times.response)
            .with_decoded(Arc::new(record), weight)
            .with_expires_at(ends.max(Some(keep_until)));
        let kept = cache.observe(cache.put_beside_ended(self.base, entry, mode).await);
        let is_kept = kept.map_err(|_| Refused::BACKEND)?;
        if !is_kept {
            return Ok(None);
        }
        if let Some(outlived) = outlived.filter(|outlived| !outlived.is_empty()) {
            let keys = variants::keys(cache.responses(), &outlived);
            // What cannot be deleted ends by itself, and nothing leads to it any more.
            let _ = cache.observe(cache.backend().delete_many(&keys).await);
        }
        Ok(Some(variant))
    }
}
