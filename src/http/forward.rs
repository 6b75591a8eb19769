//! Asking the inner service, and what its answer becomes.

use std::sync::Arc;

use bytes::Bytes;
use http::{
    HeaderMap, Method, Request, Response, StatusCode,
    header::{IF_MODIFIED_SINCE, IF_NONE_MATCH, SET_COOKIE},
    response::Parts,
};
use http_body::Body;
use tokio::{runtime::Handle, sync::Semaphore};
use tower_service::Service;

use super::{
    Landing,
    answer::{self, Telling},
    body::{CacheBody, drain},
    conditional, fields,
    freshness::Times,
    future::Call,
    lookup,
    place::{Lasts, Offer, Refused},
    reuse::serve_on_error,
    status::{Forward, Outcome},
    storable::Refusal,
    stored::StoredResponse,
    telling::{self, Decision, decided},
    work::{Inside, Stale, Work},
};
use crate::{
    Timestamp,
    cache::{Event, Leader, Load},
};

/// How many of those who waited for a leader that failed run at the same time.
pub(super) const AFTER_FAILURE: usize = 4;

/// What is known when the inner service has answered.
struct Answered {
    /// The client's own fields; what the inner service saw may differ in its conditions.
    client: HeaderMap,
    times: Times,
    load: Load,
    leader: Option<Leader<Landing>>,
    stale: Option<Stale>,
    reason: Forward,
    route: Option<String>,
    /// The client's conditions were kept from the inner service, and are to be evaluated against its answer.
    evaluate: bool,
}

impl<S, B, R> Work<S, B>
where
    S: Service<Request<B>, Response = Response<R>> + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
{
    /// Asks the inner service, conditionally where a stored response has a validator.
    pub(super) async fn forward(
        mut self,
        reason: Forward,
        stale: Option<Stale>,
        leader: Option<Leader<Landing>>,
    ) -> Result<Response<CacheBody<R>>, S::Error> {
        let config = self.config.clone();
        let client = self.request.headers().clone();
        let (is_validating, evaluate) = self.set_conditions(stale.as_ref());
        config.cache.count(Event::HttpMiss);
        decided(&config, self.request.extensions(), Decision::Miss);
        let route = telling::route(&config, self.request.extensions()).map(str::to_owned);
        Inside::mark(self.request.extensions_mut(), &config.cache);
        let load = config.cache.shared().generations.begin(&self.base).await;
        let request = Timestamp::now();
        let Self {
            inner,
            request: forwarded,
            asked,
            base,
            ..
        } = self;
        let result = Call::new(inner, forwarded).await;
        let times = Times {
            request,
            response: Timestamp::now(),
        };
        let this = Work {
            config,
            inner: (),
            request: Request::new(()),
            asked,
            base,
        };
        let answered = Answered {
            client,
            times,
            load,
            leader,
            stale,
            reason,
            route,
            evaluate,
        };
        match result {
            Err(error) => this.stale_for_error(&answered, None).await.ok_or(error),
            Ok(response) if is_failure(response.status()) => {
                let status = response.status();
                match this.stale_for_error(&answered, Some(status)).await {
                    Some(stale) => Ok(stale),
                    None => Ok(this.arrived(response, answered).await),
                }
            }
            Ok(response) if is_validating && response.status() == StatusCode::NOT_MODIFIED => {
                Ok(this.validated(response.into_parts().0, answered).await)
            }
            Ok(response) => Ok(this.arrived(response, answered).await),
        }
    }

    fn is_unshared(&self) -> bool {
        self.config
            .unshared
            .contains(&self.base, self.asked.cookie, Timestamp::now())
    }

    /// Makes the request ask for what the cache needs: whether the stored response is still good, or a whole new one.
    /// Says whether it does the former, and whether conditions of the client were taken out.
    fn set_conditions(&mut self, stale: Option<&Stale>) -> (bool, bool) {
        if self.asked.is_head {
            return (false, false);
        }
        let is_unshared = self.is_unshared();
        let headers = self.request.headers_mut();
        let stored = stale.and_then(|(entry, _)| lookup::response(&self.config, entry));
        if let Some(stored) = stored {
            let validates = conditional::revalidation_headers(&stored.head.headers, headers);
            return (validates, self.asked.conditional);
        }
        // A 304 could not be stored. Where nothing is stored anyway, the handler had better see the conditions.
        if !self.asked.conditional || is_unshared {
            return (false, false);
        }
        headers.remove(IF_NONE_MATCH);
        headers.remove(IF_MODIFIED_SINCE);
        (false, true)
    }
}

impl Work<(), ()> {
    /// The stale response in place of a failure, where it may be served (RFC 9111 §4.2.4, RFC 5861 §4).
    async fn stale_for_error<R>(
        &self,
        answered: &Answered,
        status: Option<StatusCode>,
    ) -> Option<Response<CacheBody<R>>> {
        if let Some(leader) = &answered.leader {
            leader.announce(Landing::Failed(Arc::new(Semaphore::new(AFTER_FAILURE))));
        }
        let (entry, _) = answered.stale.as_ref()?;
        let stored = lookup::response(&self.config, entry)?;
        let now = answered.times.response;
        if !serve_on_error(&stored.policy, now, &self.config.rules) {
            return None;
        }
        // What was invalidated while the handler ran is not served any more.
        drop(answered.load.may_store().await?);
        self.config.cache.count(Event::HttpStale);
        let telling = Telling {
            outcome: Outcome::Fwd {
                reason: answered.reason,
                status: status.map(|status| status.as_u16()),
                stored: false,
                collapsed: false,
            },
            detail: Some("stale-if-error"),
        };
        Some(self.reuse_stored(stored, &answered.client, now, telling))
    }

    fn reuse_stored<R>(
        &self,
        stored: &StoredResponse,
        client: &HeaderMap,
        now: Timestamp,
        telling: Telling,
    ) -> Response<CacheBody<R>> {
        answer::from_store(&self.config, stored, &self.asked, client, now, telling)
    }

    /// A 304 to the cache's own question: the stored response is brought up to date and answers (RFC 9111 §4.3.4).
    async fn validated<R>(&self, parts: Parts, answered: Answered) -> Response<CacheBody<R>> {
        let Answered {
            client,
            times,
            load,
            leader,
            stale,
            reason,
            route,
            ..
        } = answered;
        let stored = stale
            .as_ref()
            .and_then(|(entry, _)| lookup::response(&self.config, entry));
        let Some(stored) = stored.filter(|old| fields::is_about(&old.head.headers, &parts.headers))
        else {
            return self
                .contradicted(stale.as_ref(), &client, times.response)
                .await;
        };
        self.config.cache.count(Event::HttpRevalidated);
        let mut headers = stored.head.headers.clone();
        fields::freshen(&mut headers, &parts.headers);
        let offer = Offer {
            config: &self.config,
            base: &self.base,
            method: &Method::GET,
            client: &client,
            facts: self.asked.facts(),
            status: stored.head.status,
            headers: &headers,
            times,
        };
        let (kept, detail) = match offer.place(load, leader).await {
            Ok(commit) => {
                commit.store(vec![stored.body.clone()], None);
                (true, None)
            }
            Err(refused) => {
                self.refused(&refused, route.as_deref(), stale.as_ref(), times.response)
                    .await;
                (false, Some(refused.reason))
            }
        };
        let outcome = Outcome::Fwd {
            reason,
            status: Some(304),
            stored: kept,
            collapsed: false,
        };
        let fresh = offer.stored(stored.body.clone());
        self.reuse_stored(&fresh, &client, times.response, Telling { outcome, detail })
    }

    /// The inner service says "not modified" of something else than it was asked about: neither its answer nor the
    /// stored response can be trusted.
    async fn contradicted<R>(
        &self,
        stale: Option<&Stale>,
        client: &HeaderMap,
        now: Timestamp,
    ) -> Response<CacheBody<R>> {
        tracing::warn!("a handler answered 304 with a validator it was not asked about");
        self.forget(stale).await;
        let telling = Telling::forwarded(Forward::Stale, Some("contradicting-304"));
        let stored = stale.and_then(|(entry, _)| lookup::response(&self.config, entry));
        if let Some(stored) = stored
            && serve_on_error(&stored.policy, now, &self.config.rules)
        {
            return self.reuse_stored(stored, client, now, telling);
        }
        let mut response = Response::new(CacheBody::empty());
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        telling.append(&self.config, response.headers_mut());
        response
    }

    /// Passes the inner service's answer on, and keeps a copy of it where it may.
    async fn arrived<R>(&self, response: Response<R>, answered: Answered) -> Response<CacheBody<R>>
    where
        R: Body<Data = Bytes> + Send + 'static,
    {
        let Answered {
            client,
            times,
            load,
            leader,
            stale,
            reason,
            route,
            evaluate,
        } = answered;
        let (mut parts, body) = response.into_parts();
        let not_modified = evaluate
            && conditional::not_modified(&client, parts.status, &parts.headers, times.response);
        let offer = Offer {
            config: &self.config,
            base: &self.base,
            method: &Method::GET,
            client: &client,
            facts: self.asked.facts(),
            status: parts.status,
            headers: &parts.headers,
            times,
        };
        let placed = match self.asked.is_head {
            true => Err(Refused {
                reason: "head",
                lasts: Lasts::Once,
            }),
            false => offer.place_body(body.size_hint(), load, leader).await,
        };
        let stored = placed.is_ok();
        let mut outcome = Outcome::Fwd {
            reason,
            status: None,
            stored,
            collapsed: false,
        };
        let mut detail = None;
        let mut body = match placed {
            Ok((commit, len)) => commit.keep(body, len),
            Err(refused) => {
                if !self.asked.is_head {
                    self.refused(&refused, route.as_deref(), stale.as_ref(), times.response)
                        .await;
                    detail = Some(refused.reason);
                }
                CacheBody::pass(body)
            }
        };
        if not_modified {
            outcome = Outcome::Fwd {
                reason,
                status: Some(parts.status.as_u16()),
                stored,
                collapsed: false,
            };
            parts.status = StatusCode::NOT_MODIFIED;
            let whole = std::mem::take(&mut parts.headers);
            parts.headers = conditional::not_modified_headers(&whole);
            // What the handler sets for this client is no part of what the client has already.
            for cookie in whole.get_all(SET_COOKIE) {
                parts.headers.append(SET_COOKIE, cookie.clone());
            }
            let unread = std::mem::replace(&mut body, CacheBody::empty());
            self.drain_behind(unread);
        }
        Telling { outcome, detail }.append(&self.config, &mut parts.headers);
        Response::from_parts(parts, body)
    }

    /// Reads a body to its end for the store, when the client needs none of it.
    fn drain_behind<R>(&self, body: CacheBody<R>)
    where
        R: Body<Data = Bytes> + Send + 'static,
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

    async fn refused(
        &self,
        refused: &Refused,
        route: Option<&str>,
        stale: Option<&Stale>,
        now: Timestamp,
    ) {
        self.config.cache.count(Event::HttpRefused);
        let route = route.unwrap_or_default();
        if refused.reason == Refusal::SetCookie.as_str()
            && self.config.cookie_routes.is_first(route)
        {
            tracing::info!(
                route,
                "a response with Set-Cookie is not stored; it would be if it said `public`, or by CacheLayer::set_cookie"
            );
        }
        if refused.lasts == Lasts::ForCookies {
            self.config.unshared.insert(&self.base, true, now);
        }
        if refused.lasts == Lasts::ForAll {
            self.config.unshared.insert(&self.base, false, now);
            // What is stored has been replaced by something that is not to be.
            self.forget(stale).await;
        }
    }

    async fn forget(&self, stale: Option<&Stale>) {
        let Some((entry, id)) = stale else { return };
        let key = match id {
            Some(id) => lookup::variant_key(&self.config, id),
            None => self.base.clone(),
        };
        let backend = self.config.cache.backend();
        let deleted = match self.config.cache.capabilities().versions {
            // Somebody may have stored a newer one meanwhile.
            true => backend.delete_if(&key, entry.version()).await,
            false => backend.delete(&key).await,
        };
        // Counted and logged there; the entry is stale in any case.
        let _ = self.config.cache.observe(deleted);
    }
}

/// The failures that a stale response may stand in for (RFC 5861 §4).
pub(super) fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}
