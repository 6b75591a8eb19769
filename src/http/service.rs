use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Method, Request, Response, Version};
use http_body::Body;
use tower_service::Service;

#[cfg(feature = "compression")]
use super::precompress::{self, Encoded};
use super::{
    answer::{self, Telling},
    asked::{Asked, is_ambiguous},
    body::CacheBody,
    body_error::BoxError,
    future::{Call, Passed, ResponseFuture},
    invalidation,
    key::{self, Keyed},
    layer::Config,
    lookup::{self, Looked},
    patience::Patience,
    policies::{FromInside, Met, UNKEYED},
    purging,
    reuse::{Reuse, reuse},
    status::{Forward, append_key},
    telling::{Decision, decided, explained, route},
    unsafe_methods::change,
    variants::Selector,
    work::{Inside, Work},
};
use crate::{Key, Reason, Timestamp, cache::Event};

/// The service that [`CacheLayer`](crate::CacheLayer) makes of another.
///
/// It is always ready. The inner service is cloned for every request that needs it, and that clone is waited for.
#[derive(Clone)]
pub struct CacheService<S> {
    inner: S,
    config: Arc<Config>,
}

impl<S> CacheService<S> {
    pub(super) fn new(inner: S, config: Arc<Config>) -> Self {
        Self { inner, config }
    }
}

impl<S, B, R> Service<Request<B>> for CacheService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Body + Send + 'static,
    R: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<CacheBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, B, R>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if !self.config.status_key {
            return self.answer(request);
        }
        let head = self.config.cache.responses();
        let host = key::Host::read(request.headers());
        let policies = self.config.policies.as_ref();
        let base = key::base(head, policies, request.uri(), host, request.extensions())
            .map(|keyed| keyed.key);
        let answer = self.answer(request);
        ResponseFuture::work(async move {
            let mut response = answer.await?;
            if let Some(base) = base {
                append_key(response.headers_mut(), base.as_key_ref().name());
            }
            Ok(response)
        })
    }
}

impl<S> CacheService<S> {
    /// Answers from the store at once, or with the help of the inner service.
    #[inline]
    fn answer<B, R>(&self, request: Request<B>) -> ResponseFuture<S, B, R>
    where
        S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Send,
        B: Body + Send + 'static,
        R: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let mut request = request;
        #[cfg(feature = "compression")]
        self.config.precompress.restore_tags(&mut request);
        let is_head = request.method() == Method::HEAD;
        if !is_head && request.method() != Method::GET {
            return self.call_other(request);
        }
        let config = &self.config;
        // In shadow mode handlers see requests as they are, and are asked by the layer around this one as by a client.
        if !config.languages.is_empty()
            && config.shadow.is_none()
            && !Inside::is_same(request.extensions(), &config.cache)
        {
            config.languages.settle(request.headers_mut());
        }
        let (mut asked, host) = Asked::read(is_head, request.headers());
        if let Some(reason) = asked.bypass {
            return self.pass(request, reason);
        }
        if asked.directives.no_store {
            return self.pass(request, Reason::RequestNoStore);
        }
        let head = config.cache.responses();
        let policies = config.policies.as_ref();
        let (uri, extensions) = (request.uri(), request.extensions());
        let mut base = Keyed::empty();
        if !base.write_base(head, policies, uri, host, extensions) {
            return self.pass(request, Reason::Host);
        }
        let Keyed { key: base, policy } = &base;
        let mut met = None;
        if let Some(policy) = policy {
            if Inside::is_same(request.extensions(), &config.cache) {
                return self.pass_to_outer(request);
            }
            let (back, result) = policy.meet(request, &mut asked);
            request = back;
            match result {
                Ok(own) => met = Some(own),
                Err(reason) => return self.pass(request, reason),
            }
        }
        let is_forced = met.as_ref().is_some_and(|met| met.forced);
        if let Some(shadow) = config.shadow.clone()
            && !Inside::is_same(request.extensions(), &config.cache)
        {
            if has_unannounced_content(&request) {
                return self.pass(request, Reason::Content);
            }
            let work = self.work(request, asked, base.to_key(), met);
            return ResponseFuture::work(work.shadow(shadow));
        }
        #[cfg(feature = "compression")]
        config.precompress.take_wish(&mut request, &mut asked);
        let now = Timestamp::now();
        let keyed = met.as_ref().map_or(&UNKEYED, |met| &met.keyed);
        let headers = request.headers();
        let selector = Selector { headers, keyed };
        let looked = lookup::peek(config, base.as_key_ref(), selector, now);
        if let Looked::Found(entry, variant) = &looked
            && let Some(stored) = lookup::response(config, entry)
            && stored.is_for(keyed)
            && !is_forced
            && let policy = lookup::policy(entry, stored, variant.as_ref(), now)
            && !(policy.is_implied() && asked.is_personal())
            && let Reuse::Fresh { .. } | Reuse::StaleAllowed { .. } =
                reuse(&policy, &asked.directives, now, &config.rules)
        {
            let ttl = policy.ttl(now);
            #[cfg(feature = "compression")]
            let encoded = match precompress::peek(config, &asked, entry, now) {
                Encoded::Plain => None,
                Encoded::Found(encoded) => Some(encoded),
                Encoded::Ask(_) => {
                    let work = self.work(request, asked, base.to_key(), met);
                    return ResponseFuture::work(work.run(looked, now));
                }
            };
            #[cfg(feature = "compression")]
            let stored = precompress::either(config, encoded.as_ref(), stored);
            let (event, decision) = match ttl >= 0 {
                true => (Event::HttpHit, Decision::Hit),
                false => (Event::HttpStale, Decision::Stale),
            };
            config.cache.count(event);
            decided(config, request.extensions(), decision);
            let telling = Telling::hit(ttl);
            let mut response = answer::from_store(config, stored, &asked, headers, now, telling);
            if let Some(met) = &met {
                met.policy.mark_hit(response.headers_mut());
            }
            return ResponseFuture::ready(response);
        }
        if has_unannounced_content(&request) {
            return self.pass(request, Reason::Content);
        }
        if Inside::is_same(request.extensions(), &config.cache) {
            return self.pass_untold(request);
        }
        let looked = lookup::own(config, looked, selector);
        let work = self.work(request, asked, base.to_key(), met);
        ResponseFuture::work(work.run(looked, now))
    }

    fn work<B>(
        &self,
        request: Request<B>,
        mut asked: Asked,
        base: Key,
        met: Option<Met>,
    ) -> Box<Work<S, B>>
    where
        S: Clone,
    {
        asked.is_ambiguous = is_ambiguous(&request);
        Box::new(Work {
            config: self.config.clone(),
            inner: self.inner.clone(),
            request,
            asked,
            base,
            whole: None,
            met,
            patience: Patience::new(self.config.cache.backend_timeout()),
        })
    }

    /// Methods other than GET and HEAD.
    fn call_other<B, R>(&self, request: Request<B>) -> ResponseFuture<S, B, R>
    where
        S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
        S::Future: Send,
        B: Send + 'static,
        R: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        if let Some(authoriser) = &self.config.purge
            && purging::is_purge(request.method())
            && !Inside::is_same(request.extensions(), &self.config.cache)
        {
            let (config, authoriser) = (self.config.clone(), authoriser.clone());
            let (request, _) = request.into_parts();
            let answer = purging::answer(config, authoriser, request);
            return ResponseFuture::work(async move { Ok(answer.await) });
        }
        if invalidation::is_safe(request.method()) || request.method() == Method::CONNECT {
            return self.pass(request, Reason::Method);
        }
        if Inside::is_same(request.extensions(), &self.config.cache) {
            return self.pass_untold(request);
        }
        ResponseFuture::work(change(self.config.clone(), self.inner.clone(), request))
    }

    fn pass<B, R>(&self, request: Request<B>, reason: Reason) -> ResponseFuture<S, B, R>
    where
        S: Service<Request<B>> + Clone,
    {
        if Inside::is_same(request.extensions(), &self.config.cache) {
            return self.pass_untold(request);
        }
        let config = &self.config;
        #[cfg(feature = "compression")]
        let request = precompress::ask_for_whole(config, request);
        config.cache.count(Event::HttpBypass);
        decided(config, request.extensions(), Decision::Bypass);
        explained(config, route(config, request.extensions()), reason);
        // What becomes another protocol is left as it is.
        let untouched = reason == Reason::Upgrade || request.method() == Method::CONNECT;
        // The method is what `fwd` says already.
        let detail = Some(reason).filter(|reason| *reason != Reason::Method);
        let telling = Telling::forwarded(Forward::of(reason), detail);
        let passed = Passed {
            status: telling.value(config),
            layer: config.clone(),
        };
        self.inner_call(request, Some(passed).filter(|_| !untouched))
    }

    /// A layer of the same cache is around this one, and does everything.
    fn pass_untold<B, R>(&self, request: Request<B>) -> ResponseFuture<S, B, R>
    where
        S: Service<Request<B>> + Clone,
    {
        self.inner_call(request, None)
    }

    /// A layer of the same cache is around this one, and hears that this one has a policy for the request.
    #[cold]
    fn pass_to_outer<B, R>(&self, request: Request<B>) -> ResponseFuture<S, B, R>
    where
        S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Send,
        B: Send + 'static,
        R: Body<Data = Bytes> + Send + 'static,
    {
        let answer = self.pass_untold(request);
        ResponseFuture::work(async move {
            let mut response: Response<CacheBody<R>> = answer.await?;
            response.extensions_mut().insert(FromInside);
            Ok(response)
        })
    }

    fn inner_call<B, R>(
        &self,
        mut request: Request<B>,
        telling: Option<Passed>,
    ) -> ResponseFuture<S, B, R>
    where
        S: Service<Request<B>> + Clone,
    {
        // The layer around this one may have given the handlers a handle of its own.
        if !Inside::is_same(request.extensions(), &self.config.cache) {
            Inside::mark(request.extensions_mut(), &self.config.cache);
        }
        ResponseFuture::pass(Call::new(self.inner.clone(), request), telling)
    }
}

/// Whether a request has content that no field tells of, as HTTP/2 allows (RFC 9113 §8.1.1): a handler may go by it, and it
/// is not in the key (ours).
fn has_unannounced_content<B: Body>(request: &Request<B>) -> bool {
    request.version() >= Version::HTTP_2 && !request.body().is_end_stream()
}

impl<S: fmt::Debug> fmt::Debug for CacheService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheService")
            .field("inner", &self.inner)
            .field("cache", &self.config.cache)
            .finish_non_exhaustive()
    }
}
