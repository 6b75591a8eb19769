//! The service under test, whatever its types are.

use std::{
    fmt::Debug,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::answer::Answer;

pub(super) type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;
pub(super) type Served = Box<dyn FnMut(Request<Bytes>) -> Answering + Send>;

/// An answer that takes so long has no end, as a stream of events has none.
const LIMIT: Duration = Duration::from_secs(30);
/// More of a body is not read.
const MAX_BODY: usize = 16 << 20;

pub(super) fn serve<B, S, R>(service: S) -> Served
where
    B: From<Bytes> + Send + 'static,
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Debug,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Debug,
{
    Box::new(move |request| {
        let service = service.clone();
        Box::pin(async move {
            let answer = tokio::time::timeout(LIMIT, ask(service, request.map(B::from)));
            let late = |_| Answer::failed(format!("no end of the answer within {LIMIT:?}"));
            answer.await.unwrap_or_else(late)
        })
    })
}

async fn ask<B, S, R>(mut service: S, request: Request<B>) -> Answer
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Debug,
    R: Body<Data = Bytes>,
    R::Error: Debug,
{
    if let Err(error) = poll_fn(|context| service.poll_ready(context)).await {
        return Answer::failed(format!("{error:?}"));
    }
    let (head, body) = match service.call(request).await {
        Ok(response) => response.into_parts(),
        Err(error) => return Answer::failed(format!("{error:?}")),
    };
    let mut whole = BytesMut::new();
    let mut body = pin!(body);
    while whole.len() < MAX_BODY {
        match poll_fn(|context| body.as_mut().poll_frame(context)).await {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    whole.extend_from_slice(data);
                }
            }
            Some(Err(error)) => {
                whole.extend_from_slice(format!("... the body failed: {error:?}").as_bytes());
                break;
            }
            None => break,
        }
    }
    Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body: whole.freeze(),
    }
}

/// Two answers under way at the same time. The first is polled first.
pub(super) async fn both(mut one: Answering, mut other: Answering) -> (Answer, Answer) {
    let (mut first, mut second) = (None, None);
    poll_fn(move |context| {
        for (answering, answer) in [(&mut one, &mut first), (&mut other, &mut second)] {
            if answer.is_none()
                && let Poll::Ready(ready) = answering.as_mut().poll(context)
            {
                *answer = Some(ready);
            }
        }
        match (first.take(), second.take()) {
            (Some(one), Some(other)) => Poll::Ready((one, other)),
            (one, other) => {
                (first, second) = (one, other);
                Poll::Pending
            }
        }
    })
    .await
}
