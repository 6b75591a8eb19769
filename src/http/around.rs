use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{ServiceExt, body::Body, routing::IntoMakeService};
use http::{Request, Response};
use tower_service::Service;

use super::{
    body::{CacheBody, Unwrapped},
    future::ResponseFuture,
    layer::CacheLayer,
    service::CacheService,
};

/// A whole router with [`CacheLayer`] around it, whose responses have axum's own body again.
///
/// A hit here costs less than inside the router, because routing and boxing are left out. Made by
/// [`CacheLayer::around_service`]; [`CacheLayer::around`] makes what `axum::serve` takes.
#[derive(Clone, Debug)]
pub struct Around<S>(CacheService<S>);

impl<S> Around<S> {
    pub(super) fn new(layer: &CacheLayer, service: S) -> Self {
        Self(CacheService::new(service, layer.config()))
    }

    /// What `axum::serve` takes.
    pub fn into_make_service(self) -> IntoMakeService<Self>
    where
        Self: Service<Request<Body>>,
    {
        ServiceExt::<Request<Body>>::into_make_service(self)
    }
}

impl<S> Service<Request<Body>> for Around<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = AroundFuture<S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        AroundFuture {
            future: self.0.call(request),
        }
    }
}

pin_project_lite::pin_project! {
    /// The response of an [`Around`] to come.
    pub struct AroundFuture<S>
    where
        S: Service<Request<Body>>,
    {
        #[pin]
        future: ResponseFuture<S, Body, Body>,
    }
}

impl<S> Future for AroundFuture<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Ok(response) = ready!(self.project().future.poll(cx));
        Poll::Ready(Ok(response.map(unwrap)))
    }
}

impl<S> std::fmt::Debug for AroundFuture<S>
where
    S: Service<Request<Body>>,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AroundFuture")
    }
}

fn unwrap(body: CacheBody<Body>) -> Body {
    match body.unwrap() {
        Unwrapped::Stored(bytes) => Body::from(bytes),
        Unwrapped::Pass(body) => body,
        Unwrapped::Other(body) => Body::new(body),
    }
}
