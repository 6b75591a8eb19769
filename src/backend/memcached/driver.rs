//! What happens on one connection: requests go out as they come, and answers come back in their order.
//!
//! Whoever gave up a request leaves it here: its answer is read and thrown away, so that nobody gets another one's.

use std::{
    collections::VecDeque,
    future::Future,
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    sync::{mpsc, oneshot},
    time::{Sleep, sleep},
};

use super::{
    errors,
    protocol::{Dialect, Malformed, Reply},
    space::Space,
};
use crate::{Error, Result, backend::single};

/// A connection on which nothing was answered for so long is given up.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Once so many bytes wait to be sent, those of further requests wait with their makers.
const MOST_TO_SEND: usize = 256 << 10;

/// So many pieces are handed to the system at once.
const PIECES: usize = 16;

/// Room that is made for what is read next.
const CHUNK: usize = 16 << 10;

/// Commands that are sent together, and answered together.
pub(super) struct Request {
    pub(super) pieces: Vec<Bytes>,
    /// The numbers of the commands follow each other from this one on.
    pub(super) first: u32,
    pub(super) count: usize,
    /// Where they write, if they do.
    pub(super) writes_to: Option<Arc<Space>>,
    pub(super) answer: oneshot::Sender<Result<Vec<Reply>>>,
}

/// What others see of a connection.
#[derive(Debug, Default)]
pub(super) struct Health {
    broken: AtomicBool,
    silent: AtomicBool,
}

impl Health {
    /// Whether it is of no more use.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Whether answers are owed, and nothing has come for a while.
    pub(super) fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Acquire)
    }
}

/// A request whose answers are not all there.
struct Waiting {
    next: u32,
    left: usize,
    replies: Vec<Reply>,
    writes_to: Option<Arc<Space>>,
    answer: oneshot::Sender<Result<Vec<Reply>>>,
}

pub(super) struct Driver<S> {
    stream: S,
    dialect: Dialect,
    requests: mpsc::Receiver<Request>,
    health: Arc<Health>,
    waiting: VecDeque<Waiting>,
    output: VecDeque<Bytes>,
    to_send: usize,
    is_flushed: bool,
    /// Whether each piece is handed over by itself.
    by_records: bool,
    input: BytesMut,
    /// Half of the time after which a connection without answers is called silent.
    tick: Duration,
    ticking: Option<Pin<Box<Sleep>>>,
    /// Ticks since anything was read.
    ticks: u32,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    pub(super) fn new(
        stream: S,
        dialect: Dialect,
        requests: mpsc::Receiver<Request>,
        health: Arc<Health>,
        silence: Duration,
    ) -> Self {
        Self {
            stream,
            dialect,
            requests,
            health,
            waiting: VecDeque::new(),
            output: VecDeque::new(),
            to_send: 0,
            is_flushed: true,
            by_records: false,
            input: BytesMut::new(),
            tick: silence.max(Duration::from_millis(2)) / 2,
            ticking: None,
            ticks: 0,
        }
    }

    /// Has each piece begin a TLS record.
    pub(super) fn by_records(mut self) -> Self {
        self.by_records = true;
        self
    }

    /// Goes on until the connection is of no more use. `None` where nobody needs it any longer.
    fn turn(&mut self, context: &mut Context<'_>) -> Poll<Option<Error>> {
        let nobody_asks = self.take_requests(context);
        if let Poll::Ready(Err(error)) = self.send(context) {
            return Poll::Ready(Some(errors::broken(error)));
        }
        match self.receive(context) {
            Poll::Ready(Err(error)) => return Poll::Ready(Some(error)),
            Poll::Ready(Ok(never)) => match never {},
            Poll::Pending => {}
        }
        if self.waiting.is_empty() && nobody_asks {
            return Poll::Ready(None);
        }
        ready!(self.wait(context));
        Poll::Ready(Some(errors::silent()))
    }

    /// Whether nobody is left who could ask for anything.
    fn take_requests(&mut self, context: &mut Context<'_>) -> bool {
        while self.to_send < MOST_TO_SEND {
            match self.requests.poll_recv(context) {
                Poll::Ready(Some(request)) => {
                    self.to_send += request.pieces.iter().map(Bytes::len).sum::<usize>();
                    self.output.extend(request.pieces);
                    self.waiting.push_back(Waiting {
                        next: request.first,
                        left: request.count,
                        replies: Vec::with_capacity(request.count),
                        writes_to: request.writes_to,
                        answer: request.answer,
                    });
                }
                Poll::Ready(None) => return true,
                Poll::Pending => return false,
            }
        }
        // They are asked for again when some of it is sent, which wakes this task.
        false
    }

    fn send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let most = if self.by_records { 1 } else { PIECES };
            let count = self.output.len().min(most);
            let mut slices = [IoSlice::new(&[]); PIECES];
            for (slice, piece) in slices[..count].iter_mut().zip(&self.output) {
                *slice = IoSlice::new(piece);
            }
            let stream = Pin::new(&mut self.stream);
            let sent = ready!(stream.poll_write_vectored(context, &slices[..count]))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.is_flushed = false;
            self.sent(sent);
            self.take_requests(context);
        }
        if !self.is_flushed {
            ready!(Pin::new(&mut self.stream).poll_flush(context))?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    fn sent(&mut self, mut sent: usize) {
        self.to_send -= sent;
        while let Some(piece) = self.output.front_mut() {
            let of_piece = sent.min(piece.len());
            piece.advance(of_piece);
            sent -= of_piece;
            if !piece.is_empty() {
                break;
            }
            self.output.pop_front();
        }
    }

    /// Reads and hands out answers for as long as there are any.
    fn receive(&mut self, context: &mut Context<'_>) -> Poll<Result<std::convert::Infallible>> {
        loop {
            self.input.reserve(CHUNK);
            let reading = pin!(self.stream.read_buf(&mut self.input));
            match ready!(reading.poll(context)) {
                Ok(0) => return Poll::Ready(Err(errors::closed_by_server())),
                Ok(_) => {
                    self.ticks = 0;
                    self.health.silent.store(false, Ordering::Release);
                }
                Err(error) => return Poll::Ready(Err(errors::broken(error))),
            }
            while let Some(reply) = self
                .dialect
                .read(&mut self.input)
                .map_err(|Malformed| errors::out_of_step())?
            {
                self.hand_out(reply)?;
            }
        }
    }

    fn hand_out(&mut self, reply: Reply) -> Result<()> {
        let waiting = self.waiting.front_mut().ok_or_else(errors::out_of_step)?;
        if reply.number.is_some_and(|number| number != waiting.next) {
            return Err(errors::out_of_step());
        }
        waiting.next = waiting.next.wrapping_add(1);
        waiting.left -= 1;
        waiting.replies.push(reply);
        if waiting.left == 0
            && let Some(done) = self.waiting.pop_front()
        {
            // Nobody may be there to take it.
            let _ = done.answer.send(Ok(done.replies));
        }
        Ok(())
    }

    /// Ready when the connection has been silent for too long while answers are owed.
    fn wait(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(ticking) = &mut self.ticking else {
                if self.waiting.is_empty() {
                    return Poll::Pending;
                }
                self.ticks = 0;
                self.ticking = Some(Box::pin(sleep(self.tick)));
                continue;
            };
            ready!(ticking.as_mut().poll(context));
            if self.waiting.is_empty() {
                // It goes on when something is asked for again, and costs nothing until then.
                self.ticking = None;
                return Poll::Pending;
            }
            ticking.set(sleep(self.tick));
            self.ticks += 1;
            // The first tick may have begun before anything was asked for.
            if self.ticks > 2 {
                self.health.silent.store(true, Ordering::Release);
            }
            if self.tick * self.ticks >= PATIENCE {
                return Poll::Ready(());
            }
        }
    }

    /// Tells everybody who waits. What was to be written may have been, or may yet be when the server comes to it, so
    /// the places that it goes to begin anew before anything is read there.
    fn end(&mut self, error: &Error) {
        for waiting in &self.waiting {
            if let Some(space) = &waiting.writes_to {
                space.lose();
            }
        }
        self.health.broken.store(true, Ordering::Release);
        for waiting in self.waiting.drain(..) {
            let _ = waiting.answer.send(Err(error.clone()));
        }
        self.requests.close();
        while let Ok(request) = self.requests.try_recv() {
            let _ = request.answer.send(Err(error.clone()));
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Driver<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let error = ready!(self.turn(context));
        self.end(&error.unwrap_or_else(single::closed));
        Poll::Ready(())
    }
}

/// A runtime that ends drops its tasks where they are.
impl<S> Drop for Driver<S> {
    fn drop(&mut self) {
        for waiting in &self.waiting {
            if let Some(space) = &waiting.writes_to {
                space.lose();
            }
        }
        self.health.broken.store(true, Ordering::Release);
    }
}
