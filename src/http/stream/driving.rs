use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;

use super::{
    End, Inner, Keeping, Reader, State, Stream, Trailers,
    keeping::{Fate, Verdict},
};
use crate::http::{body_error::BodyError, trailers};

type Given = Option<Result<Frame<Bytes>, BodyError>>;

/// The turn of one reader to poll the body, which nobody else can meanwhile. A panic of the body ends the stream.
pub(super) struct Turn<'a> {
    stream: &'a Stream,
    body: Option<Inner>,
}

impl<'a> Turn<'a> {
    pub(super) fn new(stream: &'a Stream, body: Inner) -> Self {
        Self {
            stream,
            body: Some(body),
        }
    }

    /// Polls the body once. What it gives is for everybody, and for `reader` as it is.
    pub(super) fn poll(mut self, reader: &mut Reader, cx: &mut Context<'_>) -> Poll<Given> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let mut waker = Context::from_waker(&self.stream.waker);
        let Poll::Ready(given) = body.as_mut().poll_frame(&mut waker) else {
            self.stream.lock().body = self.body.take();
            let alarm = &self.stream.alarm;
            alarm.wait_for_body(reader.id(), cx.waker());
            return Poll::Pending;
        };
        // Whoever sees an end here does not poll again, and nothing comes behind trailers.
        let ends = match &given {
            None => true,
            Some(Ok(frame)) => frame.is_trailers() || body.is_end_stream(),
            Some(Err(_)) => false,
        };
        // In memory the response is stored when anybody sees the end; nobody waits for the lock meanwhile.
        let fate = self.stream.lock().fate(&given, ends);
        fate.come(cx);
        let mut state = self.stream.lock();
        let given = state.take_in(given, reader);
        if ends {
            state.end = Some(End::Well);
        }
        if state.end.is_none() {
            state.body = self.body.take();
        }
        state.trim();
        drop(state);
        self.body = None;
        self.stream.alarm.ring();
        Poll::Ready(given)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.body.is_none() {
            return;
        }
        let mut state = self.stream.lock();
        state.end = Some(End::Broken);
        let keeping = state.keeping.take();
        drop(state);
        keeping.into_iter().for_each(Keeping::broken);
        self.stream.alarm.ring();
    }
}

impl State {
    /// What becomes of the response that is kept, now that the body gave this.
    fn fate(&mut self, given: &Given, ends: bool) -> Fate {
        let frame = given.as_ref().and_then(|given| given.as_ref().ok());
        let data = frame.and_then(Frame::data_ref);
        if let Some(whole) = frame.and_then(Frame::trailers_ref) {
            let shared = trailers::shared(whole, &self.private);
            let mut whole = whole.clone();
            trailers::hide(&mut whole, &self.targets);
            self.trailers = Some(Trailers { whole, shared });
        }
        let Some(keeping) = self.keeping.take() else {
            // More than was stored: nobody else can have the whole of it.
            self.is_whole &= data.is_none_or(Bytes::is_empty);
            return Fate::Open;
        };
        let len = self.chunks.len() + data.map_or(0, |data| data.len() as u64);
        let shared = self.trailers.as_ref().map(|trailers| &trailers.shared);
        let verdict = match given {
            Some(Err(_)) => Verdict::Broken,
            _ => keeping.weigh(len, shared, ends),
        };
        match verdict {
            Verdict::Open => {
                self.keeping = Some(keeping);
                Fate::Open
            }
            Verdict::Whole => {
                let trailers = shared.cloned().unwrap_or_default();
                Fate::Store(keeping, self.chunks.with(data), trailers)
            }
            Verdict::Refused(reason) => {
                self.is_whole = false;
                Fate::GiveUp(keeping, reason)
            }
            Verdict::Broken => Fate::Broken(keeping),
        }
    }

    /// Takes in what the body gave, and returns what of it is for the reader whose turn it is.
    fn take_in(&mut self, given: Given, reader: &mut Reader) -> Given {
        let frame = match given? {
            Ok(frame) => frame,
            Err(error) => {
                self.end = Some(End::Broken);
                if reader.is_first() {
                    return Some(Err(error));
                }
                self.error = Some(error);
                return Some(Err(BodyError::broken_off()));
            }
        };
        if let Some(data) = frame.data_ref() {
            // An endless body that nobody else reads leaves nothing here.
            match !self.is_whole && self.readers.is_one() {
                true => self.chunks.skip(data.len()),
                false => self.chunks.push(data),
            }
            *reader.place() = self.chunks.end();
            self.readers.advance(reader.id(), reader.read());
        } else if frame.is_trailers() {
            reader.has_trailers();
            // Nothing comes behind them.
            let own = self.trailers.as_ref()?.of(reader)?;
            return Some(Ok(Frame::trailers(own.clone())));
        }
        Some(Ok(frame))
    }
}
