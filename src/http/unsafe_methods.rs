//! Requests that may change something: passed on, and what they change is invalidated (RFC 9111 §4.4). The answer to a
//! POST may be stored for later GETs.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, response::Parts};
use http_body::{Body, SizeHint};
use tokio::runtime::Handle;
use tower_service::Service;

#[cfg(feature = "compression")]
use super::precompress;
use super::{
    answer::Telling,
    asked::{Asked, is_ambiguous},
    body::CacheBody,
    body_error::BoxError,
    commit::Commit,
    freshness::Times,
    future::Call,
    invalidation::{Target, invalidates},
    key::{self, Host},
    layer::Config,
    lookup,
    patience::Patience,
    place::{Offer, Refused},
    policies::{UNKEYED, refusal, said},
    status::{Forward, Outcome},
    storable::RequestFacts,
    tags::{self, CacheTags},
    telling::{Deciding, Decision, decided},
    work::Inside,
};
use crate::{
    Key, Timestamp,
    cache::{Collected, Event, Load, storing},
};

/// The URI of a request, kept while the request is with the inner service.
struct Origin {
    scheme: String,
    authority: String,
    path_and_query: String,
}

impl Origin {
    fn of<B>(request: &Request<B>) -> Option<Self> {
        let uri = key::original_uri(request.extensions()).unwrap_or(request.uri());
        let authority = key::authority(uri, Host::read(request.headers()))?;
        Some(Self {
            scheme: uri.scheme_str().unwrap_or("http").to_owned(),
            authority: String::from_utf8(authority.to_vec()).ok()?,
            path_and_query: uri
                .path_and_query()
                .map_or("/", |path| path.as_str())
                .to_owned(),
        })
    }

    fn key(&self, config: &Config, path_and_query: &str) -> Key {
        let authority = self.authority.as_bytes();
        let head = config.cache.responses();
        let policies = config.policies.as_ref();
        key::of(
            head,
            policies,
            Some(&self.scheme),
            authority,
            path_and_query,
        )
        .key
        .to_key()
    }

    fn target(&self) -> Target<'_> {
        Target {
            scheme: &self.scheme,
            authority: &self.authority,
            path_and_query: &self.path_and_query,
        }
    }

    fn path(&self) -> &str {
        let path = self.path_and_query.split('?').next().unwrap_or_default();
        if path.is_empty() { "/" } else { path }
    }

    fn own_key(&self, config: &Config) -> Key {
        self.key(config, &self.path_and_query)
    }

    fn keys<R>(&self, config: &Config, response: &Response<R>) -> Vec<Key> {
        let others = self.target().also_invalidated(response.headers());
        let others = others.iter().map(|uri| self.key(config, uri.as_str()));
        std::iter::once(self.own_key(config))
            .chain(others)
            .collect()
    }
}

/// What is still to be invalidated. A client that leaves takes the request with it, and the handler may have changed
/// something before that; the same goes for a service that failed without an answer.
struct Pending {
    config: Arc<Config>,
    keys: Vec<Key>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        let keys = std::mem::take(&mut self.keys);
        if keys.is_empty() {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            let config = self.config.clone();
            let write = config.cache.shared().writes.begin();
            runtime.spawn(async move {
                config.cache.invalidate_responses(&keys).await;
                drop(write);
            });
        }
    }
}

/// Calls the inner service, and invalidates before the client hears of its success.
pub(super) async fn change<S, B, R>(
    config: Arc<Config>,
    inner: S,
    mut request: Request<B>,
) -> Result<Response<CacheBody<R>>, S::Error>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    decided(&config, request.extensions(), Decision::Bypass);
    let deciding = Deciding::of(&config, request.extensions());
    config.cache.count(Event::HttpBypass);
    let method = request.method().clone();
    let origin = Origin::of(&request);
    let by_policies = config.policies.as_ref().is_none_or(|policies| {
        let path = origin.as_ref().map_or("/", Origin::path);
        policies
            .find(path)
            .is_none_or(|policy| policy.takes_posts())
    });
    // In strict mode the handlers of unsafe methods see what is in no key.
    let takes_posts = by_policies && !config.strict;
    #[cfg(feature = "compression")]
    let takes_posts = takes_posts && !precompress::may_come_in_coding(&config, request.headers());
    let speaks_for_gets = method == Method::POST && takes_posts && !is_ambiguous(&request);
    let client = speaks_for_gets.then(|| request.headers().clone());
    // Begun before the call, so that a change by somebody else meanwhile keeps this answer from being stored. Where that
    // would take a lease, which this request's own invalidation ends, the answer is not stored.
    let may_keep = client.is_some() && !config.cache.capabilities().leases;
    let extensions = request.extensions_mut();
    let collected = match may_keep {
        true => Inside::mark_collecting(extensions, &config),
        false => {
            Inside::mark(extensions, &config.cache);
            None
        }
    };
    let load = match origin.as_ref().filter(|_| may_keep) {
        Some(origin) => {
            let generations = &config.cache.shared().generations;
            let mut load = generations.begin(&origin.own_key(&config)).await;
            load.see_tags(lookup::see_tags(&config).await);
            Some(load)
        }
        None => None,
    };
    let mut pending = Pending {
        config: config.clone(),
        keys: origin
            .iter()
            .map(|origin| origin.own_key(&config))
            .collect(),
    };
    let sent = Timestamp::now();
    let mut response = storing(Call::new(inner, request)).await?;
    let tags = tags::of_made(&mut response, config.rules.pass_tags, collected.as_deref());
    let times = Times {
        request: sent,
        response: Timestamp::now(),
    };
    let mut telling = Telling::forwarded(Forward::Method, None);
    let origin = origin.filter(|_| invalidates(&method, response.status()));
    let Some(origin) = origin else {
        pending.keys.clear();
        let mut response = response.map(|body| CacheBody::pass(body, &config));
        telling.append(&config, response.headers_mut());
        return Ok(response);
    };
    pending.keys = origin.keys(&config, &response);
    config.cache.invalidate_responses(&pending.keys).await;
    pending.keys.clear();
    deciding.decided(Decision::Invalidated);
    let (mut parts, body) = response.into_parts();
    let kept = client
        .zip(load)
        .filter(|_| origin.target().is_content_location(&parts.headers));
    let body = match kept {
        Some((client, mut load)) => {
            load.pass_own_invalidation();
            let answer = Answer {
                parts: &parts,
                tags: &tags,
                collected: collected.as_ref(),
                size: body.size_hint(),
                times,
            };
            let placed = keep_for_get(&config, &origin, &client, answer, load);
            match placed.await {
                Ok((commit, len)) => {
                    telling.outcome = Outcome::answered(Forward::Method, None, true);
                    commit.keep(body, len)
                }
                Err(_) => CacheBody::pass(body, &config),
            }
        }
        None => CacheBody::pass(body, &config),
    };
    telling.append(&config, &mut parts.headers);
    Ok(Response::from_parts(parts, body))
}

/// What the inner service answered to a POST.
struct Answer<'a> {
    parts: &'a Parts,
    tags: &'a CacheTags,
    collected: Option<&'a Arc<Collected>>,
    size: SizeHint,
    times: Times,
}

/// Prepares for storing the answer to a POST that says to be what a GET of the same URI would bring (RFC 9110 §9.3.3).
async fn keep_for_get(
    config: &Arc<Config>,
    origin: &Origin,
    client: &HeaderMap,
    answer: Answer<'_>,
    load: Load,
) -> Result<(Box<Commit>, Option<u64>), Refused> {
    let base = origin.own_key(config);
    let (asked, _) = Asked::read(false, client);
    let handler = answer.parts.extensions.get();
    let offer = Offer {
        config,
        base: &base,
        method: &Method::POST,
        tags: answer.tags,
        collected: answer.collected,
        was_made_of: &[],
        client,
        facts: RequestFacts {
            said: said(None, handler, answer.parts.status),
            ..asked.facts()
        },
        status: answer.parts.status,
        headers: &answer.parts.headers,
        is_part: false,
        times: answer.times,
        patience: &Patience::new(config.cache.backend_timeout()),
        stale: None,
        route: None,
        policy: None,
        keyed: &UNKEYED,
        refusal: refusal(None, handler, answer.parts),
    };
    offer.place_body(answer.size, load, None).await
}
