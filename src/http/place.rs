//! Whether and where a response is stored.

mod choosing;

use std::sync::{Arc, atomic::Ordering};

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
    patience::Patience,
    policies::{KeyedBy, Policy},
    policy::assess,
    range::Piece,
    storable::{RequestFacts, is_about_one_request},
    stored::{MAX_FIELDS, StoredHead, StoredResponse, judged},
    strict,
    tags::CacheTags,
    work::Stale,
};
use crate::{
    Key, Reason, TagStamp,
    cache::{Collected, Leader, Load, Tags},
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

impl Offer<'_> {
    /// Prepares for storing the response with this body. Those who wait for it learn now if it is not for them.
    pub(super) fn place_body(
        &self,
        size: SizeHint,
        load: Load,
        leader: Option<Leader<Landing>>,
    ) -> impl Future<Output = Result<(Box<Commit>, Option<u64>), Refused>> + Send {
        let prepared = self.prepare_body(&size, load, leader);
        async move {
            let (mut commit, expected) = prepared?;
            self.settle(&mut commit).await?;
            Ok((commit, expected))
        }
    }

    fn prepare_body(
        &self,
        size: &SizeHint,
        load: Load,
        leader: Option<Leader<Landing>>,
    ) -> Result<(Box<Commit>, Option<u64>), Refused> {
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
        let commit = self.prepare(reserved, load, leader)?;
        Ok((commit, expected))
    }

    /// Room for the body among all that are under way; none at first.
    fn reserve(&self) -> Reserved {
        self.config.in_flight.begin(&self.config.cache)
    }

    /// Prepares for storing a part of a response, or, where nothing is missing then, the whole.
    pub(super) async fn place_piece(
        &self,
        piece: Piece,
        load: Load,
        leader: Option<Leader<Landing>>,
    ) -> Result<(Box<Commit>, Option<u64>), Refused> {
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
        let mut commit = self.place(load, None).await?;
        commit.piece = Some(Box::new(piece));
        Ok((commit, Some(len)))
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
    ) -> Result<Box<Commit>, Refused> {
        let mut commit = self.prepare(self.reserve(), load, leader)?;
        self.settle(&mut commit).await?;
        Ok(commit)
    }

    /// Prepares for storing the response under the URI's own key.
    fn prepare(
        &self,
        reserved: Reserved,
        load: Load,
        leader: Option<Leader<Landing>>,
    ) -> Result<Box<Commit>, Refused> {
        let directives = ResponseDirectives::read(self.headers, &self.config.rules.targets);
        let (policy, tags) = self.judge(&directives).map_err(|reason| {
            let refused = Refused {
                reason,
                lasts: Lasts::of(reason, self.status),
            };
            self.release(refused, leader.as_ref())
        })?;
        Ok(Box::new(Commit {
            config: self.config.clone(),
            key: self.base.clone(),
            head: Arc::new(self.head(&directives)),
            policy,
            tags,
            collected: self.collected.cloned(),
            load,
            on_variant: None,
            piece: None,
            leader,
            route: self.route.cloned(),
            before: None,
            variant: None,
            trailer: self.headers.get(TRAILER).cloned(),
            private: [directives.private_fields, directives.no_cache_fields].concat(),
            reserved: Arc::new(reserved),
        }))
    }

    /// Whether the response is stored, by what is known without asking: for how long, and with which tags.
    fn judge(&self, directives: &ResponseDirectives) -> Result<(ResponsePolicy, Tags), Reason> {
        if let Some(reason) = self.refusal {
            return Err(reason);
        }
        let policy = assess(
            self.method,
            &self.facts,
            self.judged(),
            self.headers,
            directives,
            self.times,
            &self.config.rules,
        )?;
        if self.varies_by_undeclared() {
            return Err(Reason::UndeclaredVary);
        }
        Ok((policy, self.tags()?))
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
        StoredResponse::new(Arc::new(head), body, trailers, policy, rules)
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
}
