mod window;

use std::{
    fmt,
    future::poll_fn,
    ops::Range,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use self::window::Window;
use super::{
    body_error::{BodyError, BoxError},
    layer::Config,
    shadow::Comparison,
    stream::Reader,
    trailers,
};

pin_project_lite::pin_project! {
    /// The body of a response that went through [`CacheLayer`](crate::CacheLayer).
    ///
    /// From the store it is one frame that shares the stored bytes, several where several ranges were asked for, and
    /// another for trailers where the response came with them. A body of the inner service is passed on frame by frame as
    /// it comes; one that is to be stored is kept by reference meanwhile, and shared with the requests that wait for it.
    pub struct CacheBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project_lite::pin_project! {
    #[project = KindProj]
    enum Kind<B> {
        Stored { bytes: Option<Bytes> },
        // Seldom, and boxed for the sake of all others.
        Trailed { rest: Box<(Option<Bytes>, Option<HeaderMap>)> },
        // A layer takes out of the trailers what is not for clients.
        Pass { #[pin] body: B, layer: Option<Arc<Config>> },
        Watched { #[pin] body: B, layer: Arc<Config>, comparison: Option<Box<Comparison>> },
        // Boxed, because few bodies are ranges and every hit is moved around.
        Chunks { chunks: Box<Chunks> },
        Window { window: Box<Window<B>> },
        Shared { reader: Box<Reader> },
    }
}

/// Stored bytes with others between them.
struct Chunks {
    rest: std::vec::IntoIter<Bytes>,
    len: u64,
}

impl<B> CacheBody<B> {
    pub(super) fn stored(bytes: Bytes) -> Self {
        Self {
            kind: Kind::Stored {
                bytes: Some(bytes).filter(|bytes| !bytes.is_empty()),
            },
        }
    }

    /// A stored body with what came behind it.
    pub(super) fn trailed(bytes: Bytes, trailers: HeaderMap) -> Self {
        let bytes = Some(bytes).filter(|bytes| !bytes.is_empty());
        Self {
            kind: Kind::Trailed {
                rest: Box::new((bytes, Some(trailers))),
            },
        }
    }

    pub(super) fn empty() -> Self {
        Self {
            kind: Kind::Stored { bytes: None },
        }
    }

    /// A body as it is.
    pub(super) fn raw(body: B) -> Self {
        Self {
            kind: Kind::Pass { body, layer: None },
        }
    }

    /// A body of the inner service, but for trailers that clients are not given.
    pub(super) fn pass(body: B, layer: &Arc<Config>) -> Self {
        Self {
            kind: Kind::Pass {
                body,
                layer: Some(layer.clone()),
            },
        }
    }

    pub(super) fn shared(reader: Reader) -> Self {
        Self {
            kind: Kind::Shared {
                reader: Box::new(reader),
            },
        }
    }

    /// A body of the inner service that is compared with a stored one as it goes by.
    pub(super) fn watched(body: B, layer: &Arc<Config>, comparison: Comparison) -> Self {
        Self {
            kind: Kind::Watched {
                body,
                layer: layer.clone(),
                comparison: Some(Box::new(comparison)),
            },
        }
    }

    /// A body of these, none of which is empty.
    pub(super) fn chunks(chunks: Vec<Bytes>) -> Self {
        let len = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let rest = chunks.into_iter();
        Self {
            kind: Kind::Chunks {
                chunks: Box::new(Chunks { rest, len }),
            },
        }
    }

    /// One range of this body, which is read to its end for the store all the same.
    pub(super) fn window(self, span: &Range<u64>) -> Self {
        Self {
            kind: Kind::Window {
                window: Box::new(Window::new(self, span)),
            },
        }
    }

    /// Whether the body is being kept for the store.
    pub(super) fn is_keeping(&self) -> bool {
        match &self.kind {
            Kind::Shared { reader } => reader.is_keeping(),
            Kind::Window { window } => window.is_keeping(),
            Kind::Stored { .. }
            | Kind::Trailed { .. }
            | Kind::Pass { .. }
            | Kind::Watched { .. }
            | Kind::Chunks { .. } => false,
        }
    }

    /// The stored bytes or the inner service's own body, when there is nothing more to this one.
    #[cfg(feature = "axum")]
    pub(super) fn unwrap(self) -> Unwrapped<B>
    where
        B: Body,
    {
        match self.kind {
            Kind::Stored { bytes } => Unwrapped::Stored(bytes.unwrap_or_default()),
            Kind::Pass { body, layer } if layer.is_none() || body.is_end_stream() => {
                Unwrapped::Pass(body)
            }
            kind => Unwrapped::Other(Self { kind }),
        }
    }
}

/// What a [`CacheBody`] consists of.
#[cfg(feature = "axum")]
pub(super) enum Unwrapped<B> {
    Stored(Bytes),
    Pass(B),
    Other(CacheBody<B>),
}

impl<B: Body<Data = Bytes, Error: Into<BoxError>>> Body for CacheBody<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.project().kind.project() {
            KindProj::Stored { bytes } => {
                Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))))
            }
            KindProj::Trailed { rest } => {
                let (bytes, trailers) = &mut **rest;
                let data = bytes.take().map(Frame::data);
                Poll::Ready(
                    data.or_else(|| trailers.take().map(Frame::trailers))
                        .map(Ok),
                )
            }
            KindProj::Pass { body, layer } => poll_told(body, layer.as_deref(), cx),
            KindProj::Shared { reader } => reader.poll_frame(cx),
            KindProj::Watched {
                mut body,
                layer,
                comparison,
            } => {
                let frame = ready!(poll_told(body.as_mut(), Some(layer), cx));
                if let Some(mut watching) = comparison.take() {
                    let data = match &frame {
                        Some(Ok(frame)) => Some(frame.data_ref().map_or(&[][..], |data| data)),
                        // What broke off is not compared.
                        Some(Err(_)) => return Poll::Ready(frame),
                        None => None,
                    };
                    let goes_on = data.is_some_and(|data| watching.data(data));
                    match data {
                        Some(_) if goes_on && !body.is_end_stream() => *comparison = Some(watching),
                        Some(_) if !goes_on => {}
                        _ => watching.end(),
                    }
                }
                Poll::Ready(frame)
            }
            KindProj::Chunks { chunks } => {
                let next = chunks.rest.next();
                chunks.len -= next.as_ref().map_or(0, |chunk| chunk.len() as u64);
                Poll::Ready(next.map(|chunk| Ok(Frame::data(chunk))))
            }
            KindProj::Window { window } => window.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Stored { bytes } => bytes.is_none(),
            Kind::Chunks { chunks } => chunks.len == 0,
            Kind::Window { window } => window.len() == 0,
            Kind::Trailed { rest } => rest.1.is_none(),
            Kind::Pass { body, .. } | Kind::Watched { body, .. } => body.is_end_stream(),
            Kind::Shared { reader } => reader.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        match &self.kind {
            Kind::Stored { bytes } => SizeHint::with_exact(len(bytes)),
            // A server that knew the length would declare it, and have no room for trailers.
            Kind::Trailed { rest } => {
                let mut hint = SizeHint::new();
                hint.set_lower(len(&rest.0));
                hint
            }
            Kind::Chunks { chunks } => SizeHint::with_exact(chunks.len),
            Kind::Window { window } => SizeHint::with_exact(window.len()),
            Kind::Pass { body, .. } | Kind::Watched { body, .. } => body.size_hint(),
            Kind::Shared { reader } => reader.size_hint(),
        }
    }
}

impl<B: Default> Default for CacheBody<B> {
    fn default() -> Self {
        Self::raw(B::default())
    }
}

impl<B> fmt::Debug for CacheBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Stored { .. } => "CacheBody::Stored",
            Kind::Trailed { .. } => "CacheBody::Trailed",
            Kind::Pass { .. } => "CacheBody::Pass",
            Kind::Watched { .. } => "CacheBody::Watched",
            Kind::Chunks { .. } => "CacheBody::Chunks",
            Kind::Window { .. } => "CacheBody::Window",
            Kind::Shared { .. } => "CacheBody::Shared",
        })
    }
}

/// Polls a body of the inner service, and leaves out of what it gives what clients are not given.
fn poll_told<B: Body<Data = Bytes, Error: Into<BoxError>>>(
    mut body: Pin<&mut B>,
    layer: Option<&Config>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
    loop {
        let mut frame = ready!(body.as_mut().poll_frame(cx).map_err(BodyError::inner));
        if let (Some(Ok(frame)), Some(layer)) = (&mut frame, layer)
            && let Some(trailers) = frame.trailers_mut()
        {
            trailers::hide(trailers, &layer.rules.targets);
            if trailers.is_empty() {
                continue;
            }
        }
        return Poll::Ready(frame);
    }
}

/// Reads a body as long as that brings something into the store.
pub(super) async fn drain<B: Body<Data = Bytes, Error: Into<BoxError>>>(body: CacheBody<B>) {
    let mut body = pin!(body);
    while body.is_keeping() {
        if !matches!(
            poll_fn(|cx| body.as_mut().poll_frame(cx)).await,
            Some(Ok(_))
        ) {
            return;
        }
    }
}
