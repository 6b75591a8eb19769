//! What becomes of the inner service's answer.

mod ranges;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, header::SET_COOKIE, response::Parts};
use http_body::Body;
use tokio::{runtime::Handle, sync::Semaphore};

use self::ranges::Kind;
#[cfg(feature = "compression")]
use super::precompress;
use super::{
    Landing,
    answer::{self, Telling},
    asked::Asked,
    body::{CacheBody, drain},
    body_error::BoxError,
    commit::announce,
    conditional,
    fields::{self, ByHead},
    freshness::Times,
    layer::Config,
    lookup,
    patience::Patience,
    place::{Lasts, Offer, Refused},
    policies::{self, FromInside, Met, Policy, Said, UNKEYED},
    range::{self, RangeField},
    reuse::serve_on_error,
    status::{Forward, Outcome},
    storable::RequestFacts,
    stored::{StoredResponse, judged},
    tags::{self, CacheTags},
    telling::explained,
    work::Stale,
};
use crate::{
    Entry, Key, Reason, TagStamp,
    cache::{Collected, Event, Leader, Load},
};

/// How many of those who waited for a leader that failed run at the same time.
const AFTER_FAILURE: usize = 4;

/// What is known of a request when the inner service has answered.
pub(super) struct Answered {
    pub(super) config: Arc<Config>,
    pub(super) asked: Asked,
    pub(super) base: Key,
    /// The load of the whole response, where `base` is the key of its parts.
    pub(super) whole: Option<Load>,
    /// The client's own fields; what the inner service saw may differ in its conditions.
    pub(super) client: HeaderMap,
    pub(super) times: Times,
    pub(super) stale: Option<Stale>,
    /// Why what is stored does not answer.
    pub(super) why: Reason,
    pub(super) route: Option<Arc<str>>,
    /// The client's conditions were kept from the inner service, and are to be evaluated against its answer.
    pub(super) evaluate: bool,
    /// The inner service was asked for ranges.
    pub(super) saw_range: bool,
    /// What the policy of the route makes of the request, where there is one.
    pub(super) met: Option<Met>,
    pub(super) patience: Patience,
    /// What the handler named.
    pub(super) tags: CacheTags,
    /// What the handler read, and may still read for the body.
    pub(super) collected: Option<Arc<Collected>>,
}

impl Answered {
    /// The stale response in place of a failure, where it may be served (RFC 9111 §4.2.4, RFC 5861 §4).
    pub(super) async fn stale_for_error<R>(
        &self,
        load: &Load,
        leader: Option<&Leader<Landing>>,
        status: Option<u16>,
    ) -> Option<Response<CacheBody<R>>> {
        announce(leader, failed());
        let stored = self.servable()?;
        // What was invalidated while the handler ran is not served any more.
        if self.has_ended(load).await {
            return None;
        }
        self.config.cache.count(Event::HttpStale);
        explained(&self.config, self.route.as_deref(), Reason::StaleIfError);
        let telling = self.telling(status, false, Some(Reason::StaleIfError));
        Some(self.reuse(stored, telling))
    }

    /// Whether what is stored was invalidated since the load began, by its key or by one of its tags.
    async fn has_ended(&self, load: &Load) -> bool {
        let tags = self.stale.as_ref().map_or(&[][..], |(it, _)| it.tags());
        let markers: Vec<_> = tags.iter().map(|tag| tag.marker().clone()).collect();
        load.is_late().await || load.have_tags_changed(&markers)
    }

    /// The response that is stored for the request.
    fn stored(&self) -> Option<&StoredResponse> {
        let (entry, _) = self.stale.as_ref()?;
        lookup::response(&self.config, entry)
    }

    /// The stored response, where it may stand in for a failure.
    fn servable(&self) -> Option<&StoredResponse> {
        let (now, rules) = (self.times.response, &self.config.rules);
        let (entry, variant) = self.stale.as_ref()?;
        self.stored().filter(|stored| {
            let policy = lookup::policy(entry, stored, variant.as_ref(), now);
            serve_on_error(&policy, now, rules) && answer::has_ranges(stored, &self.client)
        })
    }

    fn reuse<R>(&self, stored: &StoredResponse, telling: Telling) -> Response<CacheBody<R>> {
        let now = self.times.response;
        answer::from_store(
            &self.config,
            stored,
            &self.asked,
            &self.client,
            now,
            telling,
        )
    }

    /// `said` is what policies say of the response.
    fn offer<'a>(&'a self, status: StatusCode, headers: &'a HeaderMap, said: Said) -> Offer<'a> {
        Offer {
            config: &self.config,
            base: &self.base,
            method: &Method::GET,
            tags: &self.tags,
            collected: self.collected.as_ref(),
            was_made_of: &[],
            client: &self.client,
            facts: RequestFacts {
                said,
                ..self.asked.facts()
            },
            status,
            headers,
            is_part: self.whole.is_some() && status == StatusCode::PARTIAL_CONTENT,
            times: self.times,
            patience: &self.patience,
            stale: self.stale.as_ref(),
            route: self.route.as_ref(),
            policy: self.policy(),
            keyed: self.met.as_ref().map_or(&UNKEYED, |met| &met.keyed),
            refusal: None,
        }
    }

    /// The stored response with fields that an answer without a body brought up to date. It keeps its tags beside those
    /// that came: nothing says which of them the body has become independent of.
    fn offer_anew<'a>(
        &'a self,
        stored: &StoredResponse,
        headers: &'a mut HeaderMap,
        answer: &Parts,
    ) -> Offer<'a> {
        let entry = self.stale.as_ref().map(|(entry, _)| entry);
        let was_made_of = entry.map_or(&[][..], Entry::tags);
        self.write_tags(was_made_of, headers);
        let status = stored.head.status;
        let handler = answer.extensions.get();
        let mut said = policies::said(self.policy(), handler, status);
        if said.lifetime.is_none() {
            // What the handler said by a policy when it made the response holds for it still.
            let before = stored.head.facts.said;
            (said.lifetime, said.overrides) = (before.lifetime, before.overrides);
        }
        Offer {
            was_made_of,
            refusal: policies::refusal(None, handler, answer),
            ..self.offer(status, headers, said)
        }
    }

    /// Passes the tags on in the fields of a response that has those of another one too.
    fn write_tags(&self, was_made_of: &[TagStamp], headers: &mut HeaderMap) {
        if let Some(field) = self.config.rules.pass_tags {
            let collected = self.collected.as_ref().and_then(|all| all.stamps());
            let tags = tags::with(&self.tags, &collected.unwrap_or_default());
            field.write(&tags::with(&tags, was_made_of), headers);
        }
    }

    fn policy(&self) -> Option<&Policy> {
        self.met.as_ref().map(|met| &*met.policy)
    }

    fn telling(&self, status: Option<u16>, stored: bool, detail: Option<Reason>) -> Telling {
        Telling {
            outcome: Outcome::answered(Forward::of(self.why), status, stored),
            why: Some(self.why),
            detail,
        }
    }

    /// A 304 to the cache's own question: the stored response is brought up to date and answers (RFC 9111 §4.3.4).
    pub(super) async fn validated<R>(
        &self,
        from_304: &Parts,
        load: Load,
        leader: Option<Leader<Landing>>,
    ) -> Response<CacheBody<R>> {
        let is_about =
            |stored: &&StoredResponse| fields::is_about(&stored.head.headers, &from_304.headers);
        let Some(stored) = self.stored().filter(is_about) else {
            return self.contradicted(&load).await;
        };
        self.config.cache.count(Event::HttpRevalidated);
        let mut headers = stored.head.headers.clone();
        let trailers = stored.trailers().cloned().unwrap_or_default();
        fields::freshen(&mut headers, &from_304.headers);
        let offer = self.offer_anew(stored, &mut headers, from_304);
        let (kept, detail) = match offer.place(load, leader).await {
            Ok(commit) => {
                commit.store_whole(stored.body.clone(), trailers.clone());
                (true, None)
            }
            Err(refused) => {
                self.refused(&refused);
                (false, Some(refused.reason))
            }
        };
        let fresh = offer.stored(stored.body.clone(), trailers);
        self.reuse(&fresh, self.telling(Some(304), kept, detail))
    }

    /// The inner service says "not modified" of something else than it was asked about: neither its answer nor the
    /// stored response can be trusted.
    async fn contradicted<R>(&self, load: &Load) -> Response<CacheBody<R>> {
        tracing::warn!("a handler answered 304 with a validator it was not asked about");
        self.forget();
        explained(&self.config, self.route.as_deref(), Reason::Contradicting);
        let telling = Telling::forwarded(Forward::Stale, Some(Reason::Contradicting));
        if let Some(stored) = self.servable()
            && !self.has_ended(load).await
        {
            return self.reuse(stored, telling);
        }
        let mut response = Response::new(CacheBody::empty());
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        telling.append(&self.config, response.headers_mut());
        response
    }

    /// Whether the client has what came, by the conditions that the inner service did not see.
    fn is_not_modified(&self, came: &Parts) -> bool {
        let received = self.times.response;
        self.evaluate
            && conditional::not_modified(&self.client, came.status, &came.headers, received)
    }

    /// Passes the inner service's answer on, and keeps a copy of it where it may.
    pub(super) fn arrived<R>(
        &mut self,
        response: Response<R>,
        load: Load,
        leader: Option<Leader<Landing>>,
    ) -> impl Future<Output = Response<CacheBody<R>>> + Send
    where
        R: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        // An async fn would have room for what it is called with twice.
        let (mut parts, body) = response.into_parts();
        async move {
            if self.asked.is_head {
                let updated = Box::pin(self.heard_by_head(&parts, load)).await;
                let came = parts.status;
                let is_made = self.is_not_modified(&parts);
                if is_made {
                    make_not_modified(&mut parts);
                }
                let telling = self.telling(is_made.then_some(came.as_u16()), updated, None);
                telling.append(&self.config, &mut parts.headers);
                return Response::from_parts(parts, CacheBody::pass(body, &self.config));
            }
            #[cfg(feature = "compression")]
            precompress::announce(&self.config, parts.status, &mut parts.headers);
            let (came, received) = (parts.status, self.times.response);
            let not_modified = self.is_not_modified(&parts);
            let kind = self.kind_of(&parts, &body.size_hint());
            let status = match kind {
                Kind::Part(..) => judged(parts.status),
                Kind::Whole | Kind::OfOne(_) => parts.status,
            };
            let handler = parts.extensions.get();
            let inner: Option<&FromInside> = parts.extensions.get();
            let said = policies::said(self.policy(), handler, status);
            let refusal = policies::refusal(self.policy(), handler, &parts);
            let refusal = refusal.or(inner.map(|_| Reason::PolicyInside));
            let placed = match kind {
                Kind::OfOne(reason) => {
                    announce(leader.as_ref(), Landing::Unshared);
                    Err(Refused::once(reason))
                }
                Kind::Part(part) => {
                    let (piece, headers) = *part;
                    let part = (piece, headers, said, refusal);
                    Box::pin(self.place_piece(part, load, leader)).await
                }
                Kind::Whole => {
                    let offer = Offer {
                        refusal,
                        ..self.offer(parts.status, &parts.headers, said)
                    };
                    offer.place_body(body.size_hint(), load, leader).await
                }
            };
            let is_placed = placed.is_ok();
            let mut ranges = None;
            let (mut body, detail) = match placed {
                Ok((commit, len)) => {
                    let is_whole = parts.status == StatusCode::OK && !not_modified;
                    if let (RangeField::Bytes, true, Some(len)) = (self.asked.range, is_whole, len)
                    {
                        let wanted = range::wanted(&self.client, &parts.headers, received, len);
                        ranges = wanted.one_span(len);
                    }
                    (commit.keep(body, len), None)
                }
                Err(refused) => {
                    self.refused(&refused);
                    (CacheBody::pass(body, &self.config), Some(refused.reason))
                }
            };
            if not_modified {
                make_not_modified(&mut parts);
                let unread = std::mem::replace(&mut body, CacheBody::empty());
                self.drain_behind(unread);
            }
            let status = (not_modified || ranges.is_some()).then_some(came.as_u16());
            let telling = self.telling(status, is_placed, detail);
            telling.append(&self.config, &mut parts.headers);
            match ranges {
                None => Response::from_parts(parts, body),
                Some(ranges) => self.ranges_of(ranges, parts, body),
            }
        }
    }

    /// Brings the stored response up to date from the answer to a HEAD, or ends it, as that says (RFC 9111 §4.3.5); tells
    /// whether it did the former.
    async fn heard_by_head(&self, from_head: &Parts, load: Load) -> bool {
        let Some(stored) = self.stored().filter(|_| from_head.status == StatusCode::OK) else {
            return false;
        };
        let head = &stored.head;
        match fields::by_head(&head.headers, stored.body.len(), &from_head.headers) {
            ByHead::Current if head.status == StatusCode::OK => {}
            ByHead::Unknown => return false,
            ByHead::Current | ByHead::Outdated => {
                self.forget();
                return false;
            }
        }
        let mut headers = head.headers.clone();
        fields::freshen(&mut headers, &from_head.headers);
        let offer = self.offer_anew(stored, &mut headers, from_head);
        match offer.place(load, None).await {
            Ok(commit) => {
                let trailers = stored.trailers().cloned().unwrap_or_default();
                commit.store_whole(stored.body.clone(), trailers);
                true
            }
            Err(refused) => {
                self.refused(&refused);
                false
            }
        }
    }

    /// Reads a body to its end for the store, when the client needs none of it.
    fn drain_behind<R>(&self, body: CacheBody<R>)
    where
        R: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        if body.is_keeping()
            && let Ok(runtime) = Handle::try_current()
        {
            let write = self.config.cache.shared().writes.begin();
            runtime.spawn(async move {
                drain(body).await;
                drop(write);
            });
        }
    }

    fn refused(&self, refused: &Refused) {
        let now = self.times.response;
        self.config.cache.count(Event::HttpRefused);
        explained(&self.config, self.route.as_deref(), refused.reason);
        let route = self.route.as_deref().unwrap_or_default();
        if matches!(
            refused.reason,
            Reason::PolicyTooLate | Reason::PolicyInvalid | Reason::PolicyInside
        ) && self.config.policy_routes.is_first(route)
        {
            tracing::warn!(
                route,
                reason = refused.reason.as_str(),
                "a CachePolicy in a response was not followed, and the response not stored: see larder::Reason"
            );
        }
        if refused.reason == Reason::SetCookie && self.config.cookie_routes.is_first(route) {
            tracing::info!(
                route,
                "a response with Set-Cookie is not stored; it would be if it said `public`, or by CacheLayer::set_cookie"
            );
        }
        if refused.reason == Reason::UndeclaredVary && self.config.vary_routes.is_first(route) {
            tracing::warn!(
                route,
                "a response names a field in Vary that is not declared, and strict mode does not store it: declare it by CachePolicy::vary_by_header"
            );
        }
        if refused.lasts == Lasts::ForCookies {
            self.config.unshared.insert(&self.base, true, now);
        }
        if refused.lasts == Lasts::ForAll {
            self.config.unshared.insert(&self.base, false, now);
            // What is stored has been replaced by something that is not to be.
            self.forget();
        }
    }

    /// Deletes the stored response, unless a newer one has taken its place. The client does not wait for a server.
    fn forget(&self) {
        let Some((entry, variant)) = &self.stale else {
            return;
        };
        let key = match variant {
            Some(variant) => lookup::variant_key(&self.config, &variant.id),
            None => self.base.clone(),
        };
        let (cache, version) = (self.config.cache.clone(), entry.version());
        let forgetting = async move {
            let deleted = match cache.capabilities().versions {
                true => cache.backend().delete_if(&key, version).await,
                false => cache.backend().delete(&key).await,
            };
            // Counted and logged there; the entry is stale in any case.
            let _ = cache.observe(deleted);
        };
        self.config.cache.shared().writes.run(forgetting, None);
    }
}

/// Makes a 304 of an answer to a client that has it already.
fn make_not_modified(parts: &mut Parts) {
    parts.status = StatusCode::NOT_MODIFIED;
    let whole = std::mem::take(&mut parts.headers);
    parts.headers = conditional::not_modified_headers(&whole);
    // What the handler sets for this client is no part of what the client has already.
    for cookie in whole.get_all(SET_COOKIE) {
        parts.headers.append(SET_COOKIE, cookie.clone());
    }
}

/// What is left to those who waited for a response that is a failure.
pub(super) fn failed() -> Landing {
    Landing::Failed(Arc::new(Semaphore::new(AFTER_FAILURE)))
}

/// The failures that a stale response may stand in for (RFC 5861 §4).
pub(super) fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}
