use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{HeaderValue, Request, Response};
use tower_service::Service;

use super::{body::CacheBody, layer::Config, status::CACHE_STATUS, tags};

/// What a response that is passed on tells of it.
pub(super) struct Passed {
    pub(super) status: Option<HeaderValue>,
    pub(super) layer: Arc<Config>,
}

impl Passed {
    fn tell<R>(self, mut response: Response<R>) -> Response<CacheBody<R>> {
        let rules = &self.layer.rules;
        tags::pass_on(&mut response, rules.pass_tags);
        rules.targets.hide(response.headers_mut());
        if let Some(status) = self.status {
            // A map that is full has no room to tell in; adding to it would panic.
            let _ = response.headers_mut().try_append(CACHE_STATUS, status);
        }
        response.map(|body| CacheBody::pass(body, &self.layer))
    }
}

type Boxed<R, E> = Pin<Box<dyn Future<Output = Result<Response<CacheBody<R>>, E>> + Send>>;

pin_project_lite::pin_project! {
    /// The response of a [`CacheService`](super::CacheService) to come. A hit is there already, without an allocation.
    pub struct ResponseFuture<S, B, R>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        kind: Kind<S, B, R>,
    }
}

pin_project_lite::pin_project! {
    #[project = KindProj]
    enum Kind<S, B, R>
    where
        S: Service<Request<B>>,
    {
        Ready { response: Option<Response<CacheBody<R>>> },
        // Boxed, or every hit would be moved around in the room that a request takes.
        Pass { call: Pin<Box<Call<S, B>>>, telling: Option<Passed> },
        Work { future: Boxed<R, S::Error> },
    }
}

impl<S, B, R> ResponseFuture<S, B, R>
where
    S: Service<Request<B>>,
{
    pub(super) fn ready(response: Response<CacheBody<R>>) -> Self {
        Self {
            kind: Kind::Ready {
                response: Some(response),
            },
        }
    }

    /// The inner service's own response, which is left as it is unless something is to be told of it.
    pub(super) fn pass(call: Call<S, B>, telling: Option<Passed>) -> Self {
        Self {
            kind: Kind::Pass {
                call: Box::pin(call),
                telling,
            },
        }
    }

    pub(super) fn work(
        future: impl Future<Output = Result<Response<CacheBody<R>>, S::Error>> + Send + 'static,
    ) -> Self {
        Self {
            kind: Kind::Work {
                future: Box::pin(future),
            },
        }
    }
}

impl<S, B, R> Future for ResponseFuture<S, B, R>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Output = Result<Response<CacheBody<R>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProj::Ready { response } => Poll::Ready(Ok(response
                .take()
                .expect("a future is not polled after its end"))),
            KindProj::Pass { call, telling } => {
                let response = ready!(call.as_mut().poll(cx))?;
                Poll::Ready(Ok(match telling.take() {
                    Some(passed) => passed.tell(response),
                    None => response.map(CacheBody::raw),
                }))
            }
            KindProj::Work { future } => future.as_mut().poll(cx),
        }
    }
}

impl<S, B, R> fmt::Debug for ResponseFuture<S, B, R>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Ready { .. } => "ResponseFuture::Ready",
            Kind::Pass { .. } => "ResponseFuture::Pass",
            Kind::Work { .. } => "ResponseFuture::Work",
        })
    }
}

pin_project_lite::pin_project! {
    /// Waits until a service is ready, and calls that same one.
    #[project = CallProj]
    pub(super) enum Call<S, B>
    where
        S: Service<Request<B>>,
    {
        Waiting { inner: S, request: Option<Request<B>> },
        Calling { #[pin] future: S::Future },
    }
}

impl<S, B> Call<S, B>
where
    S: Service<Request<B>>,
{
    pub(super) fn new(inner: S, request: Request<B>) -> Self {
        Self::Waiting {
            inner,
            request: Some(request),
        }
    }
}

impl<S, B> Future for Call<S, B>
where
    S: Service<Request<B>>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match self.as_mut().project() {
                CallProj::Waiting { inner, request } => {
                    ready!(inner.poll_ready(cx))?;
                    let request = request.take().expect("the state changes with the call");
                    let future = inner.call(request);
                    self.set(Self::Calling { future });
                }
                CallProj::Calling { future } => return future.poll(cx),
            }
        }
    }
}
