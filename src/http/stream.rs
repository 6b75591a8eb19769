//! A body that several read while it comes: its own request and those that waited for it.
//!
//! Whoever wants more than there is polls the body, so that it goes on as long as anybody reads. While it is kept for
//! the store, nobody waits for anybody; afterwards, those who are ahead wait for those who are behind.

mod alarm;
mod chunks;
mod driving;
mod keeping;
mod reader;
mod readers;

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use http_body::{Body, Frame, SizeHint};

use super::{body_error::BodyError, budget::Reserved, commit::Commit, directives::Targets};
use alarm::Alarm;
use chunks::Chunks;
use driving::Turn;
use readers::Readers;

pub(super) use keeping::Keeping;
pub(super) use reader::Reader;

/// What a stream reads: a body of any type, and its errors as ours.
pub(super) type Inner = Pin<Box<dyn Body<Data = Bytes, Error = BodyError> + Send>>;

/// So many bytes beyond the slowest reader are kept of a body that is not kept for the store.
const WINDOW: u64 = 256 * 1024;

/// A body under way, or one that has ended while its response is on its way into the store.
pub(super) struct Stream {
    state: Mutex<State>,
    alarm: Arc<Alarm>,
    /// Wakes everybody who waits; what the body is polled with.
    waker: Waker,
}

struct State {
    /// Absent before the stream begins, while somebody polls it, and after its end.
    body: Option<Inner>,
    end: Option<End>,
    /// Why the body broke off, for the one whose own it is.
    error: Option<BodyError>,
    chunks: Chunks,
    trailers: Option<Trailers>,
    keeping: Option<Keeping>,
    /// The fields that are for nobody but the first reader, should they come as trailers.
    private: Vec<HeaderName>,
    /// Which field is for nobody at all.
    targets: Targets,
    /// Counts what is here.
    reserved: Arc<Reserved>,
    /// Whether everything from the first byte on is here, so that others can join.
    is_whole: bool,
    readers: Readers,
    /// What the body said of its size when it came.
    size: SizeHint,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Well,
    Broken,
}

/// What came behind a body.
struct Trailers {
    /// For the one whose own they are.
    whole: HeaderMap,
    /// For everybody else.
    shared: HeaderMap,
}

impl Trailers {
    /// Those that a reader may be given, where there are any.
    fn of(&self, reader: &Reader) -> Option<&HeaderMap> {
        let own = match reader.is_first() {
            true => &self.whole,
            false => &self.shared,
        };
        Some(own).filter(|own| !own.is_empty())
    }
}

/// What there is for a reader.
enum Next {
    Frame(Frame<Bytes>),
    End,
    Failed(BodyError),
    /// What the body has not given yet.
    More,
}

impl Stream {
    /// A stream that is still to [begin](Self::begin), and the reader whose request brought the body.
    pub(super) fn new(commit: &Commit) -> (Arc<Self>, Reader) {
        let mut state = State::of(commit);
        let first = state.readers.add();
        let stream = Self::of(state);
        let reader = Reader::new(stream.clone(), first, true);
        (stream, reader)
    }

    /// A body that is there already.
    pub(super) fn ended(commit: &Commit, body: &Bytes, trailers: &HeaderMap) -> Arc<Self> {
        let mut state = State::of(commit);
        state.chunks.push(body);
        state.trailers = Some(Trailers {
            whole: HeaderMap::new(),
            shared: trailers.clone(),
        });
        state.end = Some(End::Well);
        Self::of(state)
    }

    /// Gives the stream its body, which is kept for the store while it comes.
    pub(super) fn begin(&self, body: Inner, keeping: Keeping) {
        let mut state = self.lock();
        state.size = body.size_hint();
        state.body = Some(body);
        state.keeping = Some(keeping);
        drop(state);
        self.alarm.ring();
    }

    fn of(state: State) -> Arc<Self> {
        let alarm = Arc::new(Alarm::default());
        Arc::new(Self {
            state: Mutex::new(state),
            waker: alarm.clone().into(),
            alarm,
        })
    }

    /// Another reader, from the first byte on; `None` where that is not there any more, or the body broke off.
    pub(super) fn join(self: &Arc<Self>) -> Option<Reader> {
        let mut state = self.lock();
        if !state.is_whole || state.end == Some(End::Broken) {
            return None;
        }
        let id = state.readers.add();
        Some(Reader::new(self.clone(), id, false))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whoever panics while it polls the body breaks the stream off; see `Turn`.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll(
        &self,
        reader: &mut Reader,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            let mut state = self.lock();
            let next = state.next(reader);
            let len = state.chunks.len();
            if state.readers.makes_room(len) {
                self.alarm.ring();
            }
            match next {
                Next::Frame(frame) => return Poll::Ready(Some(Ok(frame))),
                Next::End => return Poll::Ready(None),
                Next::Failed(error) => return Poll::Ready(Some(Err(error))),
                Next::More => {}
            }
            if !state.is_whole && state.readers.most_behind(len) >= WINDOW {
                if reader.has_waited(state.readers.patience(), cx) {
                    state.readers.cut_off(len);
                    state.trim();
                    self.alarm.ring();
                    continue;
                }
                self.alarm.wait(reader.id(), cx.waker());
                return Poll::Pending;
            }
            reader.waits_no_more();
            let Some(body) = state.body.take() else {
                // Somebody polls it just now, and will say what came of it.
                self.alarm.wait(reader.id(), cx.waker());
                return Poll::Pending;
            };
            if !self.alarm.is_ready_or_wait(reader.id(), cx.waker()) {
                state.body = Some(body);
                return Poll::Pending;
            }
            drop(state);
            return Turn::new(self, body).poll(reader, cx);
        }
    }

    fn leave(&self, id: usize) {
        let mut state = self.lock();
        state.readers.remove(id);
        state.trim();
        let is_left = state.readers.is_empty() && state.end.is_none();
        let left = match is_left {
            true => {
                state.end = Some(End::Broken);
                Some((state.body.take(), state.keeping.take()))
            }
            false => None,
        };
        drop(state);
        self.alarm.forget(id);
        match left {
            // The client has gone, and nobody else reads: what is not whole is not stored.
            Some((body, keeping)) => {
                drop(body);
                keeping.into_iter().for_each(Keeping::broken);
            }
            // It may have been the one who was to go on, or the one whom others waited for.
            None => self.alarm.ring(),
        }
    }

    fn is_keeping(&self) -> bool {
        self.lock().keeping.is_some()
    }

    fn is_end(&self, reader: &Reader) -> bool {
        let state = self.lock();
        state.end == Some(End::Well)
            && state.chunks.len() == reader.read()
            && state.trailers_for(reader).is_none()
    }

    fn size_hint(&self, reader: &Reader) -> SizeHint {
        let state = self.lock();
        let (read, there) = (reader.read(), state.chunks.len());
        if state.end == Some(End::Well) && state.trailers_for(reader).is_none() {
            return SizeHint::with_exact(there.saturating_sub(read));
        }
        let lower = state.size.lower().max(there).saturating_sub(read);
        let mut hint = SizeHint::new();
        hint.set_lower(lower);
        if let Some(upper) = state.size.upper() {
            hint.set_upper(upper.saturating_sub(read).max(lower));
        }
        hint
    }
}

impl State {
    fn of(commit: &Commit) -> Self {
        Self {
            body: None,
            end: None,
            error: None,
            chunks: Chunks::default(),
            trailers: None,
            private: commit.private.clone(),
            targets: commit.config.rules.targets.clone(),
            keeping: None,
            reserved: commit.reserved.clone(),
            is_whole: true,
            readers: Readers::new(commit.config.follower_wait),
            size: SizeHint::default(),
        }
    }

    fn next(&mut self, reader: &mut Reader) -> Next {
        if self.readers.is_cut_off(reader.id()) {
            return Next::Failed(BodyError::broken_off());
        }
        if let Some(data) = self.chunks.read(reader.place()) {
            self.readers.advance(reader.id(), reader.read());
            self.trim();
            return Next::Frame(Frame::data(data));
        }
        match self.end {
            None => Next::More,
            Some(End::Well) => match self.trailers_for(reader).cloned() {
                Some(trailers) => {
                    reader.has_trailers();
                    Next::Frame(Frame::trailers(trailers))
                }
                None => Next::End,
            },
            Some(End::Broken) => {
                let own = self.error.take_if(|_| reader.is_first());
                Next::Failed(own.unwrap_or_else(BodyError::broken_off))
            }
        }
    }

    /// The trailers that a reader is still to be given.
    fn trailers_for(&self, reader: &Reader) -> Option<&HeaderMap> {
        let trailers = self.trailers.as_ref().filter(|_| reader.wants_trailers())?;
        trailers.of(reader)
    }

    /// Lets go of what every reader has, where nobody else is to come.
    fn trim(&mut self) {
        if !self.is_whole {
            let behind = self.readers.most_behind(self.chunks.len());
            self.chunks.trim(self.chunks.len() - behind);
            self.reserved.lower(self.chunks.held());
        }
    }
}
