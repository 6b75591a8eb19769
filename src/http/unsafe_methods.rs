//! Requests that may change something: passed on, and what they change is invalidated (RFC 9111 §4.4).

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::{
    answer::Telling,
    body::CacheBody,
    future::Call,
    invalidation::{Target, invalidates},
    key,
    layer::Config,
    status::Forward,
    telling::{Decision, decided},
    work::Inside,
};
use crate::{Key, cache::Event};

/// The URI of a request, kept while the request is with the inner service.
struct Origin {
    scheme: String,
    authority: String,
    path_and_query: String,
}

impl Origin {
    fn of<B>(request: &Request<B>) -> Option<Self> {
        let uri = key::original_uri(request.extensions()).unwrap_or(request.uri());
        let authority = key::authority(uri, request.headers())?;
        Some(Self {
            scheme: uri.scheme_str().unwrap_or("http").to_owned(),
            authority: String::from_utf8(authority.to_vec()).ok()?,
            path_and_query: uri
                .path_and_query()
                .map_or("/", |path| path.as_str())
                .to_owned(),
        })
    }

    fn key(&self, config: &Config, path: &str, query: Option<&str>) -> Key {
        let authority = self.authority.as_bytes();
        key::of(
            config.cache.responses(),
            Some(&self.scheme),
            authority,
            path,
            query,
        )
        .to_key()
    }

    fn keys<R>(&self, config: &Config, response: &Response<R>) -> Vec<Key> {
        let target = Target {
            scheme: &self.scheme,
            authority: &self.authority,
            path_and_query: &self.path_and_query,
        };
        let (path, query) = match self.path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.path_and_query.as_str(), None),
        };
        let others = target.also_invalidated(response.headers());
        let others = others
            .iter()
            .map(|uri| self.key(config, uri.path(), uri.query()));
        std::iter::once(self.key(config, path, query))
            .chain(others)
            .collect()
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
    R: Body<Data = Bytes>,
{
    decided(&config, request.extensions(), Decision::Bypass);
    config.cache.count(Event::HttpBypass);
    let method = request.method().clone();
    let origin = Origin::of(&request);
    Inside::mark(request.extensions_mut(), &config.cache);
    let mut response = Call::new(inner, request).await?;
    if let Some(origin) = origin.filter(|_| invalidates(&method, response.status())) {
        for key in origin.keys(&config, &response) {
            config.cache.invalidate_response(&key).await;
        }
        tracing::debug!(decision = Decision::Invalidated.as_str(), "HTTP cache");
    }
    Telling::forwarded(Forward::Method, None).append(&config, response.headers_mut());
    Ok(response.map(CacheBody::pass))
}
