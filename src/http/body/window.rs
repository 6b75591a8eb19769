//! One range of a body that comes from the inner service whole.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame};

use super::CacheBody;
use crate::http::body_error::{BodyError, BoxError};

/// Passes one range of a body on, and reads all of it for the store.
///
/// Whoever reads stops at the end of the range, so the last bytes of it are held back until the copy is complete.
pub(super) struct Window<B> {
    whole: Pin<Box<CacheBody<B>>>,
    /// Bytes before the range.
    skip: u64,
    /// Bytes of the range that are still to come.
    left: u64,
    last: Option<Bytes>,
}

impl<B> Window<B> {
    pub(super) fn new(whole: CacheBody<B>, span: &std::ops::Range<u64>) -> Self {
        Self {
            whole: Box::pin(whole),
            skip: span.start,
            left: span.end - span.start,
            last: None,
        }
    }

    /// Bytes that the reader has not had yet.
    pub(super) fn len(&self) -> u64 {
        self.left + self.last.as_ref().map_or(0, |last| last.len() as u64)
    }

    pub(super) fn is_keeping(&self) -> bool {
        self.whole.is_keeping()
    }

    /// What of the next bytes lies in the range.
    fn cut(&mut self, mut data: Bytes) -> Bytes {
        let before = self.skip.min(data.len() as u64);
        let mut data = data.split_off(before as usize);
        data.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.skip -= before;
        self.left -= data.len() as u64;
        data
    }
}

impl<B: Body<Data = Bytes, Error: Into<BoxError>>> Window<B> {
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        while self.left > 0 || self.whole.is_keeping() {
            match ready!(self.whole.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let data = frame.into_data().map(|data| self.cut(data));
                    match data {
                        Ok(data) if data.is_empty() => {}
                        Ok(data) if self.left > 0 => {
                            return Poll::Ready(Some(Ok(Frame::data(data))));
                        }
                        Ok(data) => self.last = Some(data),
                        // Trailers are of the whole.
                        Err(_) => {}
                    }
                }
                Some(Err(error)) if self.left > 0 => return Poll::Ready(Some(Err(error))),
                Some(Err(_)) | None => break,
            }
        }
        Poll::Ready(self.last.take().map(|last| Ok(Frame::data(last))))
    }
}
