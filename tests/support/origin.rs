use std::{
    convert::Infallible,
    error::Error,
    future::Future,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use axum::body::Body;
use futures_util::future::BoxFuture;
use http::{HeaderName, HeaderValue, Request, Response, request::Parts};
use tower::Service;

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;
pub(crate) type Reply = Result<Response<Body>, BoxError>;

/// A call of the inner service.
pub(crate) struct Call {
    /// The first is 1.
    pub(crate) number: usize,
    pub(crate) request: Parts,
    pub(crate) body: Body,
}

impl Call {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.request.headers.get(name)?.to_str().ok()
    }
}

/// An inner service that answers as its script says and remembers what it was asked.
#[derive(Clone)]
pub(crate) struct Origin {
    script: Arc<dyn Fn(Call) -> BoxFuture<'static, Reply> + Send + Sync>,
    seen: Arc<Mutex<Vec<Parts>>>,
}

impl Origin {
    pub(crate) fn new<F>(script: impl Fn(Call) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        Self {
            script: Arc::new(move |call| Box::pin(script(call))),
            seen: Arc::default(),
        }
    }

    /// Answers at once.
    pub(crate) fn now(script: impl Fn(Call) -> Response<Body> + Send + Sync + 'static) -> Self {
        Self::new(move |call| std::future::ready(Ok(script(call))))
    }

    /// Answers every call with these fields, and with the number of the call as the body.
    pub(crate) fn with(fields: &[(&str, &str)]) -> Self {
        Self::of(200, fields)
    }

    /// Answers every call with this status and these fields, and with the number of the call as the body.
    pub(crate) fn of(status: u16, fields: &[(&str, &str)]) -> Self {
        let owned: Vec<(String, String)> = fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Self::now(move |call| {
            let fields: Vec<_> = owned.iter().map(|(a, b)| (&**a, &**b)).collect();
            answer(status, &fields, call.number.to_string())
        })
    }

    pub(crate) fn calls(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// What the latest call asked for.
    pub(crate) fn last(&self) -> Parts {
        self.seen.lock().unwrap().last().unwrap().clone()
    }

    /// The value of a field in the latest call.
    pub(crate) fn last_header(&self, name: &str) -> Option<String> {
        let last = self.last();
        Some(last.headers.get(name)?.to_str().unwrap().to_owned())
    }
}

impl Service<Request<Body>> for Origin {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Reply>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (request, body) = request.into_parts();
        let number = {
            let mut seen = self.seen.lock().unwrap();
            seen.push(request.clone());
            seen.len()
        };
        (self.script)(Call {
            number,
            request,
            body,
        })
    }
}

impl Origin {
    /// The same as something that a router takes; a script that fails then panics.
    pub(crate) fn infallible(
        self,
    ) -> impl Service<
        Request<Body>,
        Response = Response<Body>,
        Error = Infallible,
        Future: Send + 'static,
    > + Clone
    + Send
    + Sync
    + 'static {
        tower::service_fn(move |request| {
            let answer = self.clone().call(request);
            async move { Ok(answer.await.unwrap()) }
        })
    }
}

pub(crate) fn answer(
    status: u16,
    fields: &[(&str, &str)],
    body: impl Into<Body>,
) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status.try_into().unwrap();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        response.headers_mut().append(name, value);
    }
    response
}
