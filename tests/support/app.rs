use std::fmt::Debug;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use larder::{Cache, CacheLayer, CacheService};
use tower::{Layer, Service, ServiceExt};

use super::{BoxError, Origin};

/// An inner service with the layer around it.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) cache: Cache,
    pub(crate) origin: Origin,
    pub(crate) service: CacheService<Origin>,
}

impl App {
    pub(crate) fn new(origin: Origin) -> Self {
        Self::changed(origin, |layer| layer)
    }

    /// An app whose layer is set up differently.
    pub(crate) fn changed(origin: Origin, change: impl FnOnce(CacheLayer) -> CacheLayer) -> Self {
        Self::on(Cache::memory(), origin, change)
    }

    pub(crate) fn on(
        cache: Cache,
        origin: Origin,
        change: impl FnOnce(CacheLayer) -> CacheLayer,
    ) -> Self {
        let service = change(CacheLayer::new(cache.clone())).layer(origin.clone());
        Self {
            cache,
            origin,
            service,
        }
    }

    pub(crate) async fn get(&self, uri: &str) -> Answer {
        self.send("GET", uri, &[]).await
    }

    pub(crate) async fn get_with(&self, uri: &str, fields: &[(&str, &str)]) -> Answer {
        self.send("GET", uri, fields).await
    }

    pub(crate) async fn send(&self, method: &str, uri: &str, fields: &[(&str, &str)]) -> Answer {
        send(&self.service, request(method, uri, fields)).await
    }

    pub(crate) async fn try_get(&self, uri: &str) -> Result<Answer, BoxError> {
        try_send(&self.service, request("GET", uri, &[])).await
    }

    /// The response with its body unread.
    pub(crate) async fn open(
        &self,
        uri: &str,
        fields: &[(&str, &str)],
    ) -> Response<larder::CacheBody<Body>> {
        let service = self.service.clone();
        service.oneshot(request("GET", uri, fields)).await.unwrap()
    }

    pub(crate) fn calls(&self) -> usize {
        self.origin.calls()
    }
}

/// A request to `test.example`, unless its URI or its fields name another host.
pub(crate) fn request(method: &str, uri: &str, fields: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    *request.method_mut() = method.parse().unwrap();
    *request.uri_mut() = uri.parse().unwrap();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        request.headers_mut().append(name, value);
    }
    if !request.headers().contains_key("host") {
        let authority = request.uri().authority().map(|own| own.as_str());
        let host = HeaderValue::from_str(authority.unwrap_or("test.example")).unwrap();
        request.headers_mut().insert("host", host);
    }
    request
}

/// Sends a request and reads the answer to its end.
pub(crate) async fn send<S, B>(service: &S, request: Request<Body>) -> Answer
where
    S: Service<Request<Body>, Response = Response<B>, Error: Debug> + Clone,
    B: http_body::Body<Data = Bytes, Error: Debug>,
{
    try_send(service, request).await.unwrap()
}

pub(crate) async fn try_send<S, B>(service: &S, request: Request<Body>) -> Result<Answer, S::Error>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone,
    B: http_body::Body<Data = Bytes, Error: Debug>,
{
    let (head, body) = service.clone().oneshot(request).await?.into_parts();
    let body = body.collect().await;
    Ok(Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        is_whole: body.is_ok(),
        body: body.map(|body| body.to_bytes()).unwrap_or_default(),
    })
}

/// An answer, read to its end.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Whether the body ended well; what there was of one that broke is left out.
    pub(crate) is_whole: bool,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        Some(self.headers.get(name)?.to_str().unwrap())
    }

    /// `Cache-Status`, several lines as one list.
    pub(crate) fn told(&self) -> String {
        let lines = self.headers.get_all("cache-status").iter();
        let lines: Vec<_> = lines.map(|line| line.to_str().unwrap()).collect();
        lines.join(", ")
    }

    pub(crate) fn is_hit(&self) -> bool {
        self.told().contains("larder; hit")
    }

    pub(crate) fn is_stored(&self) -> bool {
        self.told().contains("; stored")
    }

    pub(crate) fn age(&self) -> Option<u64> {
        self.header("age")?.parse().ok()
    }
}
