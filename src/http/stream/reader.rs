use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::{
    runtime::Handle,
    time::{Sleep, sleep},
};

use super::{Stream, chunks::Place};
use crate::http::body_error::BodyError;

/// Reads a [`Stream`] at a speed of its own. Dropping it leaves the stream to the others.
pub(in crate::http) struct Reader {
    stream: Arc<Stream>,
    id: usize,
    /// Whether it is the one whose request brought the body.
    is_first: bool,
    wants_trailers: bool,
    place: Place,
    /// Ends when those who are behind have been waited for long enough.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Reader {
    pub(super) fn new(stream: Arc<Stream>, id: usize, is_first: bool) -> Self {
        Self {
            stream,
            id,
            is_first,
            wants_trailers: true,
            place: Place::default(),
            waiting: None,
        }
    }

    pub(in crate::http) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let stream = self.stream.clone();
        stream.poll(self, cx)
    }

    pub(in crate::http) fn is_end_stream(&self) -> bool {
        self.stream.is_end(self)
    }

    pub(in crate::http) fn size_hint(&self) -> SizeHint {
        self.stream.size_hint(self)
    }

    /// Whether reading on brings something into the store.
    pub(in crate::http) fn is_keeping(&self) -> bool {
        self.stream.is_keeping()
    }

    pub(super) fn id(&self) -> usize {
        self.id
    }

    pub(super) fn is_first(&self) -> bool {
        self.is_first
    }

    pub(super) fn wants_trailers(&self) -> bool {
        self.wants_trailers
    }

    pub(super) fn has_trailers(&mut self) {
        self.wants_trailers = false;
    }

    pub(super) fn place(&mut self) -> &mut Place {
        &mut self.place
    }

    /// Bytes since the beginning of the body.
    pub(super) fn read(&self) -> u64 {
        self.place.read
    }

    /// Whether those who are behind have been waited for as long as `patience`. Where there are no timers, they are not
    /// waited for at all.
    pub(super) fn has_waited(&mut self, patience: Duration, cx: &mut Context<'_>) -> bool {
        if patience.is_zero() || Handle::try_current().is_err() {
            return true;
        }
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(sleep(patience)));
        waiting.as_mut().poll(cx).is_ready()
    }

    pub(super) fn waits_no_more(&mut self) {
        self.waiting = None;
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stream.leave(self.id);
    }
}
