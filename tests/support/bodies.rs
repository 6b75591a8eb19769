use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Frame, SizeHint};
use tokio::sync::mpsc;

use super::BoxError;

/// What a body does next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Data(&'static str),
    Trailer(&'static str, &'static str),
    Trailers(&'static [(&'static str, &'static str)]),
    Break,
}

impl Step {
    fn frame(self) -> Result<Frame<Bytes>, BoxError> {
        match self {
            Self::Data(text) => Ok(Frame::data(text.into())),
            Self::Trailer(name, value) => Ok(trailers(&[(name, value)])),
            Self::Trailers(fields) => Ok(trailers(fields)),
            Self::Break => Err("the body breaks".into()),
        }
    }
}

fn trailers(fields: &[(&'static str, &'static str)]) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    for (name, value) in fields {
        trailers.append(*name, HeaderValue::from_static(value));
    }
    Frame::trailers(trailers)
}

/// A body without a declared length that takes these steps.
pub(crate) fn frames(steps: &[Step]) -> Body {
    let (feed, body) = feed();
    for step in steps {
        feed.send(*step);
    }
    body
}

/// A body of one frame, without a declared length.
pub(crate) fn body_of(text: &'static str) -> Body {
    frames(&[Step::Data(text)])
}

/// Steers a body from outside. The body ends when this is dropped.
pub(crate) struct Feed(mpsc::UnboundedSender<Step>);

impl Feed {
    /// Says nothing about whether somebody still reads.
    pub(crate) fn send(&self, step: Step) {
        let _ = self.0.send(step);
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.0.is_closed()
    }
}

pub(crate) fn feed() -> (Feed, Body) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Feed(sender), Body::new(Fed(receiver)))
}

struct Fed(mpsc::UnboundedReceiver<Step>);

impl http_body::Body for Fed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(cx).map(|step| step.map(Step::frame))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
