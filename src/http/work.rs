//! What becomes of a GET or HEAD that a fresh stored response does not answer at once.

use std::sync::Arc;

use bytes::Bytes;
use http::{Extensions, Request, Response};
use http_body::Body;
use tokio::{
    runtime::Handle,
    time::{Instant, timeout_at},
};
use tower_service::Service;

#[cfg(feature = "compression")]
use super::precompress;
use super::{
    Landing,
    answer::{self, Telling},
    asked::Asked,
    body::{CacheBody, drain},
    body_error::BoxError,
    following::{Followed, Following},
    layer::Config,
    lookup::{self, Looked},
    patience::Patience,
    policies::{Met, UNKEYED},
    range::RangeField,
    reuse::{Reuse, reuse},
    status::Forward,
    telling::{self, Decision, decided},
    variants::{self, Selector, Variant},
};
use crate::{
    Cache, Entry, Key, Reason, Timestamp,
    cache::{Collected, Event, Joined, Leader},
};

/// In the extensions of a request on its way to the inner service: a layer of this cache is around it already.
#[derive(Clone, Copy)]
pub(super) struct Inside(usize);

impl Inside {
    /// Gives the handlers their cache, and tells further layers of the same cache to keep out.
    pub(super) fn mark(extensions: &mut Extensions, cache: &Cache) {
        Self::give(extensions, cache.clone());
    }

    /// [`mark`](Self::mark) where the response is to carry the tags of what its handler reads.
    pub(super) fn mark_collecting(
        extensions: &mut Extensions,
        config: &Config,
    ) -> Option<Arc<Collected>> {
        if !config.carry_tags {
            Self::mark(extensions, &config.cache);
            return None;
        }
        let (cache, collected) = config.cache.collecting();
        Self::give(extensions, cache);
        Some(collected)
    }

    fn give(extensions: &mut Extensions, cache: Cache) {
        extensions.insert(Self(cache.address()));
        extensions.insert(cache);
    }

    pub(super) fn is_same(extensions: &Extensions, cache: &Cache) -> bool {
        extensions
            .get()
            .is_some_and(|inside: &Self| inside.0 == cache.address())
    }
}

/// A stored response that does not answer as it is, and the variant that it is.
pub(super) type Stale = (Entry, Option<Variant>);

/// A request, with everything that answering it takes.
pub(super) struct Work<S, B> {
    pub(super) config: Arc<Config>,
    pub(super) inner: S,
    pub(super) request: Request<B>,
    pub(super) asked: Asked,
    /// The key of the URI, or of the parts of its response.
    pub(super) base: Key,
    /// The key of the URI, where `base` is that of parts.
    pub(super) whole: Option<Key>,
    /// What the policy of the route makes of the request, where there is one.
    pub(super) met: Option<Met>,
    pub(super) patience: Patience,
}

/// What to do, going by what is stored.
pub(super) enum Weighed {
    Answer(Decision, Telling),
    AnswerAndRevalidate(Telling),
    Forward(Reason),
    /// What is stored is not for this request, and its answer not for others.
    ForwardAlone,
}

impl<S, B, R> Work<S, B>
where
    S: Service<Request<B>, Response = Response<R>> + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Send + 'static,
    R: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    ///
    /// What a request needs for the length of a question only, and what few requests need, is boxed here and further in:
    /// the room for all of it would be carried around by everybody.
    pub(super) async fn run(
        self: Box<Self>,
        mut looked: Looked,
        now: Timestamp,
    ) -> Result<Response<CacheBody<R>>, S::Error> {
        let mut just_now = Some(now);
        let config = self.config.clone();
        let flights = config.cache.shared().response_flights.clone();
        let deadline = Instant::now() + config.follower_wait;
        let mut waited: Vec<Key> = Vec::new();
        let (why, stale, leader, load) = loop {
            if let Looked::Ask = looked {
                let selector = self.selector();
                let fetching = lookup::fetch(&config, &self.base, selector, &self.patience);
                looked = Box::pin(fetching).await;
                just_now = None;
            }
            if let Looked::Unreachable = looked {
                return Box::pin(self.forward_unkept()).await;
            }
            let now = just_now.take().unwrap_or_else(Timestamp::now);
            let why = match self.weigh(&looked, now, !waited.is_empty()) {
                Weighed::Answer(decision, telling) => {
                    self.count(decision);
                    #[cfg(feature = "compression")]
                    let looked = match self.asked.coding {
                        None => looked,
                        Some(_) => {
                            let (asked, patience) = (&self.asked, &self.patience);
                            Box::pin(precompress::find(&config, asked, patience, looked, now)).await
                        }
                    };
                    return Ok(self.answer(&looked, now, telling));
                }
                Weighed::AnswerAndRevalidate(telling) => {
                    self.count(Decision::Stale);
                    self.explain(Reason::StaleWhileRevalidate);
                    let response = self.answer(&looked, now, telling);
                    self.revalidate_behind(looked);
                    return Ok(response);
                }
                Weighed::Forward(why) => why,
                Weighed::ForwardAlone if self.asked.directives.only_if_cached => {
                    return Ok(answer::only_if_cached(&config));
                }
                Weighed::ForwardAlone => break (Reason::Personal, None, None, None),
            };
            let is_about_a_part = self.is_about_a_part(&looked);
            if is_about_a_part && self.asked.range == RangeField::Bytes {
                return Box::pin(self.run_part(why)).await;
            }
            if self.asked.directives.only_if_cached {
                return Ok(answer::only_if_cached(&config));
            }
            if is_about_a_part {
                break (why, stale(looked), None, None);
            }
            let key = self.flight_key(&looked);
            if !self.may_wait(why, now) || waited.contains(&key) {
                break (why, stale(looked), None, None);
            }
            let follower = match flights.join(&key) {
                Joined::Leader(leader) => {
                    // The one who led before may have stored since this request looked.
                    let (selector, patience) = (self.selector(), &self.patience);
                    let again = lookup::begin(&config, &self.base, selector, now, patience);
                    let asking = leader.ask();
                    let (again, load) = again.await;
                    drop(asking);
                    let is_answered = matches!(self.weigh(&again, now, false), Weighed::Answer(..));
                    if is_answered || self.is_about_a_part(&again) {
                        looked = again;
                        continue;
                    }
                    let stale = stale(again);
                    let leader = match load.is_given_up() {
                        // Nothing will be stored, and so there is nothing to wait for.
                        true => {
                            leader.land(Landing::Unshared);
                            None
                        }
                        false => Some(leader),
                    };
                    break (why, stale, leader, Some(load));
                }
                Joined::Follower(follower) => follower,
            };
            let following = Following {
                config: &config,
                asked: &self.asked,
                selector: self.selector(),
                patience: &self.patience,
            };
            match Box::pin(following.follow(follower, &key, deadline)).await {
                Followed::Answer(mut response) => {
                    self.count(Decision::Collapsed);
                    self.mark_hit(&mut response);
                    return Ok(*response);
                }
                Followed::LookAgain => waited.push(key),
                Followed::Alone => {
                    // Where a lease takes a round trip it is not worth its time: most likely nothing can be stored, or
                    // the one who leads will do it.
                    let load = match config.cache.capabilities().leases {
                        true => lookup::begin_unkept(&config, &self.base).await,
                        false => lookup::begin_unseen(&config, &self.base, &self.patience).await,
                    };
                    // What was stored may have been invalidated while this request waited.
                    if let Looked::Found(..) = looked {
                        let (selector, patience) = (self.selector(), &self.patience);
                        looked = lookup::look(&config, &self.base, selector, now, patience).await;
                    }
                    break (why, stale(looked), None, Some(load));
                }
                Followed::Failed(gate) => {
                    // Held until the inner service has answered: a few at a time.
                    let permit = Box::pin(timeout_at(deadline, gate.acquire_owned())).await;
                    let (selector, patience) = (self.selector(), &self.patience);
                    let again = lookup::look(&config, &self.base, selector, now, patience).await;
                    if let Weighed::Forward(..) = self.weigh(&again, now, true) {
                        let stale = stale(again);
                        let says_nothing = self.asked.is_head && stale.is_none();
                        let (base, patience) = (&self.base, &self.patience);
                        let load =
                            lookup::begin_forward(&config, base, patience, says_nothing).await;
                        let response = self.forward(why, stale, None, load).await;
                        drop(permit);
                        return response;
                    }
                    waited.push(key);
                    looked = again;
                    continue;
                }
                // Somebody has to lead now.
                Followed::Over => {}
            }
            let (selector, patience) = (self.selector(), &self.patience);
            looked = lookup::look(&config, &self.base, selector, now, patience).await;
        };
        let load = match load {
            Some(load) => load,
            None => {
                let says_nothing = self.asked.is_head && stale.is_none();
                let (base, patience) = (&self.base, &self.patience);
                lookup::begin_forward(&config, base, patience, says_nothing).await
            }
        };
        self.forward(why, stale, leader, load).await
    }

    /// Asks the inner service while the backend is out of reach. Nothing is stored, and so there is nothing that others
    /// could wait for.
    async fn forward_unkept(self: Box<Self>) -> Result<Response<CacheBody<R>>, S::Error> {
        if self.asked.directives.only_if_cached {
            return Ok(answer::only_if_cached(&self.config));
        }
        let load = lookup::begin_unkept(&self.config, &self.base).await;
        self.forward(Reason::Backend, None, None, load).await
    }

    /// What of the request chooses among what is stored for its URI.
    pub(super) fn selector(&self) -> Selector<'_> {
        Selector {
            headers: self.request.headers(),
            keyed: self.met.as_ref().map_or(&UNKEYED, |met| &met.keyed),
        }
    }

    pub(super) fn weigh(&self, looked: &Looked, now: Timestamp, collapsed: bool) -> Weighed {
        let (entry, variant) = match looked {
            Looked::Found(entry, variant) => (entry, variant),
            Looked::NoVariant(_) => return Weighed::Forward(Reason::OtherVariant),
            Looked::NoUri => return Weighed::Forward(Reason::NothingStored),
            Looked::Ask | Looked::Unreachable => return Weighed::Forward(Reason::Backend),
        };
        let Some(stored) = lookup::response(&self.config, entry) else {
            return Weighed::Forward(Reason::Damaged);
        };
        let policy = lookup::policy(entry, stored, variant.as_ref(), now);
        if policy.is_implied() && self.asked.is_personal() {
            return Weighed::ForwardAlone;
        }
        if self.met.as_ref().is_some_and(|met| met.forced) {
            return Weighed::Forward(Reason::ForceUpdate);
        }
        let ttl = policy.ttl(now);
        match reuse(&policy, &self.asked.directives, now, &self.config.rules) {
            Reuse::Fresh { .. } if collapsed => {
                Weighed::Answer(Decision::Collapsed, Telling::collapsed())
            }
            Reuse::Fresh { .. } => Weighed::Answer(Decision::Hit, Telling::hit(ttl)),
            Reuse::StaleAllowed { .. } => Weighed::Answer(Decision::Stale, Telling::hit(ttl)),
            Reuse::WhileRevalidating { .. } if Handle::try_current().is_ok() => {
                let detail = Some(Reason::StaleWhileRevalidate);
                Weighed::AnswerAndRevalidate(Telling {
                    detail,
                    ..Telling::hit(ttl)
                })
            }
            Reuse::WhileRevalidating { .. } => Weighed::Forward(Reason::Stale),
            Reuse::Revalidate(why) => Weighed::Forward(why),
        }
    }

    /// Whether the inner service is asked for a part only: nobody waits for that, and it waits for nobody. Where the
    /// whole is stored, though it does not answer as it is, and where the handler gave no parts lately, the whole is asked
    /// for, and the ranges are taken from that.
    fn is_about_a_part(&self, looked: &Looked) -> bool {
        let has_whole = || match looked {
            Looked::Found(entry, _) => lookup::response(&self.config, entry).is_some(),
            _ => false,
        };
        match self.asked.range {
            RangeField::None => false,
            RangeField::Bytes => !has_whole() && !self.serves_no_ranges(),
            RangeField::Other => true,
        }
    }

    /// Whether the handler is asked for the whole by a request for ranges: it lately gave something else than a part, or
    /// what it would give may be of another coding than the client has.
    pub(super) fn serves_no_ranges(&self) -> bool {
        let unranged = &self.config.unranged;
        self.may_mix() || unranged.contains(&self.base, false, Timestamp::now())
    }

    /// Whether a part that the handler gives may be of another coding than what the client has.
    #[cfg(feature = "compression")]
    pub(super) fn may_mix(&self) -> bool {
        precompress::may_mix(&self.config, self.request.headers())
    }

    #[cfg(not(feature = "compression"))]
    pub(super) fn may_mix(&self) -> bool {
        false
    }

    /// Whether the answer to another request could be this one's too.
    fn may_wait(&self, why: Reason, now: Timestamp) -> bool {
        let asked = &self.asked;
        let forces = asked.directives.no_cache && !self.config.rules.ignore_client_directives;
        !asked.is_head
            && !asked.is_ambiguous
            && !asked.authorization
            && !forces
            && why != Reason::NoCache
            && Forward::of(why) != Forward::Request
            && !self.config.follower_wait.is_zero()
            // Waiting has an end only where there are timers.
            && Handle::try_current().is_ok()
            && !self.config.unshared.contains(&self.base, asked.cookie, now)
    }

    /// Requests that a variant would answer wait for that variant, and those with the same key parts for each other.
    fn flight_key(&self, looked: &Looked) -> Key {
        let keyed = self
            .met
            .as_ref()
            .and_then(|met| met.keyed.selection.as_ref());
        match (looked, keyed) {
            (Looked::Found(_, Some(Variant { id, .. })) | Looked::NoVariant(id), _) => {
                lookup::variant_key(&self.config, id)
            }
            (_, Some(selection)) => {
                variants::selected_key(&self.config.cache, &self.base, selection)
            }
            (_, None) => self.base.clone(),
        }
    }

    /// The answer of a response that was found.
    pub(super) fn answer(
        &self,
        looked: &Looked,
        now: Timestamp,
        telling: Telling,
    ) -> Response<CacheBody<R>> {
        let config = &self.config;
        let entry = match looked {
            Looked::Found(entry, _) => lookup::response(config, entry),
            _ => None,
        };
        match entry {
            Some(stored) => {
                let headers = self.request.headers();
                let mut response =
                    answer::from_store(config, stored, &self.asked, headers, now, telling);
                self.mark_hit(&mut response);
                response
            }
            // weigh() answers from what was found only.
            None => answer::only_if_cached(config),
        }
    }

    /// Says that the handler was not asked, where the route's policy wants that said.
    fn mark_hit(&self, response: &mut Response<CacheBody<R>>) {
        if let Some(met) = &self.met {
            met.policy.mark_hit(response.headers_mut());
        }
    }

    pub(super) fn count(&self, decision: Decision) {
        let event = match decision {
            Decision::Collapsed => Event::HttpCollapsed,
            Decision::Stale => Event::HttpStale,
            _ => Event::HttpHit,
        };
        self.config.cache.count(event);
        decided(&self.config, self.request.extensions(), decision);
    }

    pub(super) fn explain(&self, reason: Reason) {
        let route = telling::route(&self.config, self.request.extensions());
        telling::explained(&self.config, route, reason);
    }

    /// Revalidates in a task of its own, with this very request, unless somebody does so already.
    pub(super) fn revalidate_behind(self: Box<Self>, looked: Looked) {
        let key = self.flight_key(&looked);
        let flights = &self.config.cache.shared().response_flights;
        let (Joined::Leader(leader), Ok(runtime)) = (flights.join(&key), Handle::try_current())
        else {
            return;
        };
        let write = self.config.cache.shared().writes.begin();
        runtime.spawn(async move {
            if let Ok(response) = self.background(stale(looked), leader).await {
                drain(response.into_body()).await;
            }
            drop(write);
        });
    }

    async fn background(
        mut self: Box<Self>,
        stale: Option<Stale>,
        leader: Leader<Landing>,
    ) -> Result<Response<CacheBody<R>>, S::Error> {
        // Who was answered already has no conditions any more, and a HEAD asks for what a GET would bring.
        self.asked.conditional = false;
        self.asked.is_head = false;
        self.patience = Patience::new(self.config.cache.backend_timeout());
        *self.request.method_mut() = http::Method::GET;
        let asking = leader.ask();
        let (base, patience) = (&self.base, &self.patience);
        let load = lookup::begin_unseen(&self.config, base, patience).await;
        drop(asking);
        self.forward(Reason::Stale, stale, Some(leader), load).await
    }
}

pub(super) fn stale(looked: Looked) -> Option<Stale> {
    match looked {
        Looked::Found(entry, variant) => Some((entry, variant)),
        _ => None,
    }
}
