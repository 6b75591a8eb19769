//! Asking the inner service.

use std::sync::Arc;

use bytes::Bytes;
use http::{
    Request, Response, StatusCode,
    header::{IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE},
};
use http_body::Body;
use tower_service::Service;

use super::{
    Landing, answer,
    answered::{Answered, is_failure},
    body::CacheBody,
    body_error::BoxError,
    conditional,
    freshness::Times,
    future::Call,
    lookup,
    range::RangeField,
    strict,
    tags::{self, CacheTags},
    telling::{self, Decision, decided},
    work::{Inside, Stale, Work},
};
use crate::{
    Reason, Timestamp,
    cache::{Event, Leader, Load, storing},
};

impl<S, B, R> Work<S, B>
where
    S: Service<Request<B>, Response = Response<R>> + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Send + 'static,
    R: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    /// Asks the inner service, conditionally where a stored response has a validator.
    #[expect(
        clippy::manual_async_fn,
        reason = "an async fn would have room for what it is called with twice"
    )]
    pub(super) fn forward(
        mut self: Box<Self>,
        why: Reason,
        stale: Option<Stale>,
        leader: Option<Leader<Landing>>,
        load: Load,
    ) -> impl Future<Output = Result<Response<CacheBody<R>>, S::Error>> + Send {
        async move {
            let config = self.config.clone();
            let asking = leader.as_ref().map(Leader::ask);
            let whole = match self.whole.take() {
                Some(key) if load.is_given_up() => {
                    Some(Box::pin(lookup::begin_unkept(&config, &key)).await)
                }
                Some(key) => {
                    let beginning = lookup::begin_unseen(&config, &key, &self.patience);
                    Some(Box::pin(beginning).await)
                }
                None => None,
            };
            drop(asking);
            let client = self.request.headers().clone();
            let may_mix = self.may_mix();
            if self.is_strict() {
                let parts = self.met.as_ref().map(|met| &met.policy.parts);
                strict::narrow(&mut self.request, parts);
            }
            let (is_validating, evaluate) = self.set_conditions(stale.as_ref());
            let takes_bytes = self.asked.range == RangeField::Bytes;
            let is_about_a_part =
                takes_bytes && (whole.is_some() || stale.is_none() && !self.serves_no_ranges());
            if takes_bytes && !is_about_a_part || may_mix {
                self.request.headers_mut().remove(RANGE);
                self.request.headers_mut().remove(IF_RANGE);
            }
            let saw_range =
                self.asked.range != RangeField::None && self.request.headers().contains_key(RANGE);
            config.cache.count(Event::HttpMiss);
            decided(&config, self.request.extensions(), Decision::Miss);
            let route = telling::route(&config, self.request.extensions()).map(Arc::from);
            telling::explained(&config, route.as_deref(), why);
            let extensions = self.request.extensions_mut();
            let collected = match load.is_given_up() {
                // Nothing will be stored that could end.
                true => {
                    Inside::mark(extensions, &config.cache);
                    None
                }
                false => Inside::mark_collecting(extensions, &config),
            };
            let request = Timestamp::now();
            let mut result = storing(Call::new(self.inner, self.request)).await;
            let tags = match &mut result {
                Ok(response) => {
                    if let Some(met) = &self.met {
                        met.policy.tag(response);
                    }
                    tags::of_made(response, config.rules.pass_tags, collected.as_deref())
                }
                Err(_) => CacheTags::default(),
            };
            let mut answered = Answered {
                config,
                asked: self.asked,
                base: self.base,
                whole,
                client,
                times: Times {
                    request,
                    response: Timestamp::now(),
                },
                stale,
                why,
                route,
                evaluate,
                saw_range,
                met: self.met,
                patience: self.patience,
                tags,
                collected,
            };
            let response = match result {
                Ok(response) => response,
                Err(error) => {
                    let stale = answered.stale_for_error(&load, leader.as_ref(), None);
                    return Box::pin(stale).await.ok_or(error);
                }
            };
            if is_failure(response.status()) {
                let status = Some(response.status().as_u16());
                let stale = answered.stale_for_error(&load, leader.as_ref(), status);
                if let Some(stale) = Box::pin(stale).await {
                    return Ok(stale);
                }
            }
            if is_validating && response.status() == StatusCode::NOT_MODIFIED {
                let (from_304, _) = response.into_parts();
                return Ok(Box::pin(answered.validated(&from_304, load, leader)).await);
            }
            Ok(answered.arrived(response, load, leader).await)
        }
    }

    /// Whether the inner service sees only what is in the key. Shadow mode changes no answer.
    fn is_strict(&self) -> bool {
        let by_policy = || self.met.as_ref().is_some_and(|met| met.policy.is_strict());
        self.config.shadow.is_none() && (self.config.strict || by_policy())
    }

    /// Makes the request ask for what the cache needs: whether the stored response is still good, or a whole new one.
    /// Says whether it does the former, and whether conditions of the client were taken out.
    fn set_conditions(&mut self, stale: Option<&Stale>) -> (bool, bool) {
        if self.config.shadow.is_some() {
            // The handler sees what it would see without the layer.
            return (false, false);
        }
        let is_strict = self.is_strict();
        if self.asked.is_head {
            return (false, is_strict && self.asked.conditional);
        }
        let headers = self.request.headers_mut();
        let stored = stale.and_then(|(entry, _)| lookup::response(&self.config, entry));
        // Who asks for it anew wants no word that it is still good.
        let stored = stored.filter(|_| self.met.as_ref().is_none_or(|met| !met.forced));
        // A 304 to parts that lack what is asked for would be no answer.
        if let Some(stored) = stored.filter(|stored| answer::has_ranges(stored, headers)) {
            let if_range = headers.get(IF_RANGE).filter(|_| stored.parts.is_some());
            let if_range = if_range.cloned();
            let validates = conditional::revalidation_headers(&stored.head.headers, headers);
            if let Some(if_range) = if_range {
                // Where the version is another one, the client wants the whole of it.
                let _ = headers.try_insert(IF_RANGE, if_range);
            }
            return (validates, self.asked.conditional);
        }
        // A 304 could not be stored. Where nothing is stored anyway, the handler had better see the conditions.
        let had_better = || {
            let (unshared, now) = (&self.config.unshared, Timestamp::now());
            unshared.contains(&self.base, self.asked.cookie, now)
        };
        if !self.asked.conditional || !is_strict && had_better() {
            return (false, false);
        }
        headers.remove(IF_NONE_MATCH);
        headers.remove(IF_MODIFIED_SINCE);
        (false, true)
    }
}
