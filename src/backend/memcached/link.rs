//! The one connection to a server: made on first use, shared by everybody, and made anew when it broke.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

use super::{
    connecting::Route,
    driver::{Driver, Health, Request},
    errors,
    protocol::{Command, Dialect, Output, Reply},
    space::Space,
};
use crate::{Error, Result, Timestamp};

/// After a failed attempt to connect the next one is made no sooner than this, and twice that after each further one,
/// up to the limit. Verbs in between fail at once.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// So many requests wait in the connection's queue before those that make more of them have to.
const QUEUE: usize = 1024;

/// A connection that works, as far as is known.
pub(super) struct Live {
    requests: mpsc::Sender<Request>,
    health: Arc<Health>,
    dialect: Dialect,
    is_tls: bool,
    numbers: AtomicU32,
}

impl Live {
    /// The answers to commands that are carried out one after the other. `space` is where they write.
    ///
    /// When this is dropped they have been carried out, will be, or never are; nobody else gets their answers.
    pub(super) async fn ask(
        &self,
        commands: &[Command],
        space: Option<&Arc<Space>>,
    ) -> Result<Vec<Reply>> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let (answer, answered) = oneshot::channel();
        let request = self.request(commands, space, answer);
        let sent = self.requests.send(request).await;
        sent.map_err(|_| errors::closed_by_server())?;
        answered
            .await
            .unwrap_or_else(|_| Err(errors::closed_by_server()))
    }

    fn request(
        &self,
        commands: &[Command],
        space: Option<&Arc<Space>>,
        answer: oneshot::Sender<Result<Vec<Reply>>>,
    ) -> Request {
        let count = u32::try_from(commands.len()).expect("the callers ask in steps");
        let first = self.numbers.fetch_add(count, Ordering::Relaxed);
        let mut output = Output::new(self.is_tls);
        for (number, command) in (0..count).zip(commands) {
            self.dialect
                .write(command, first.wrapping_add(number), &mut output);
        }
        let writes = commands.iter().any(Command::writes);
        Request {
            pieces: output.into_pieces(),
            first,
            count: commands.len(),
            writes_to: space.filter(|_| writes).cloned(),
            answer,
        }
    }
}

type Outcome = Result<Arc<Live>>;

enum State {
    /// Not connected; the next attempt is made after the pause, which the failure that caused it began.
    Apart(Option<Pause>),
    /// Somebody's attempt is under way, and everybody waits for it.
    Connecting(watch::Receiver<Option<Outcome>>),
    Live(Arc<Live>),
    Closed,
}

struct Pause {
    error: Error,
    until: Timestamp,
    length: Duration,
}

impl Pause {
    /// An end that is further away than the pause is long is of a clock that somebody has set back since.
    fn is_over(&self, now: Timestamp) -> bool {
        now >= self.until || self.until.since(now) > self.length + Duration::from_millis(1)
    }
}

/// The way to a server.
#[derive(Clone)]
pub(super) struct Link(Arc<Inner>);

struct Inner {
    route: Route,
    connect_timeout: Duration,
    /// After how long without an answer a connection is called silent.
    silence: Duration,
    state: Mutex<State>,
    /// The largest item, as the server said last; 0 before it was asked.
    item_size: AtomicUsize,
}

impl Link {
    pub(super) fn new(route: Route, connect_timeout: Duration, silence: Duration) -> Self {
        Self(Arc::new(Inner {
            route,
            connect_timeout,
            silence,
            state: Mutex::new(State::Apart(None)),
            item_size: AtomicUsize::new(0),
        }))
    }

    /// Fails a verb that needs no connection where there will be none.
    pub(super) fn open(&self) -> Result<()> {
        match *self.0.state() {
            State::Closed => Err(errors::closed()),
            _ => Ok(()),
        }
    }

    /// Gives the connection back, and makes no other.
    pub(super) fn close(&self) {
        *self.0.state() = State::Closed;
    }

    /// The most bytes that an item takes; `None` before the server was asked.
    pub(super) fn item_size(&self) -> Option<usize> {
        let size = self.0.item_size.load(Ordering::Relaxed);
        (size > 0).then_some(size)
    }

    /// Whether answers are owed by the connection there is, and nothing has come for a while.
    pub(super) fn is_silent(&self) -> bool {
        matches!(&*self.0.state(), State::Live(live) if live.health.is_silent())
    }

    /// The connection, made now if there is none that works.
    pub(super) async fn live(&self) -> Outcome {
        loop {
            let mut attempt = match self.0.step() {
                Step::Done(outcome) => return outcome,
                Step::Wait(attempt) => attempt,
            };
            let outcome = attempt.wait_for(Option::is_some).await;
            if let Some(outcome) = outcome.ok().and_then(|outcome| outcome.clone()) {
                return outcome;
            }
            // Its task ended with the runtime it ran on, which is not ours.
            self.0.abandon(&attempt);
        }
    }
}

enum Step {
    Done(Outcome),
    Wait(watch::Receiver<Option<Outcome>>),
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(self: &Arc<Self>) -> Step {
        let mut state = self.state();
        let pause = match &mut *state {
            State::Closed => return Step::Done(Err(errors::closed())),
            State::Live(live) if !live.health.is_broken() => return Step::Done(Ok(live.clone())),
            State::Live(_) => None,
            State::Connecting(attempt) => return Step::Wait(attempt.clone()),
            State::Apart(Some(pause)) if !pause.is_over(Timestamp::now()) => {
                return Step::Done(Err(pause.error.clone()));
            }
            State::Apart(pause) => pause.take(),
        };
        let (sender, receiver) = watch::channel(None);
        *state = State::Connecting(receiver.clone());
        // In a task of its own, because whoever asked may wait for less long than connecting takes.
        let (inner, before) = (self.clone(), pause.map(|pause| pause.length));
        tokio::spawn(async move {
            let outcome = inner.connect().await;
            inner.settle(&outcome, before);
            sender.send_replace(Some(outcome));
        });
        Step::Wait(receiver)
    }

    fn settle(&self, outcome: &Outcome, pause_before: Option<Duration>) {
        let mut state = self.state();
        if matches!(*state, State::Closed) {
            return;
        }
        *state = match outcome {
            Ok(live) => State::Live(live.clone()),
            Err(error) => {
                let length = pause_before.map_or(FIRST_PAUSE, |before| before * 2);
                let length = length.min(LONGEST_PAUSE);
                State::Apart(Some(Pause {
                    error: error.clone(),
                    until: Timestamp::now() + length,
                    length,
                }))
            }
        };
    }

    fn abandon(&self, attempt: &watch::Receiver<Option<Outcome>>) {
        let mut state = self.state();
        if matches!(&*state, State::Connecting(current) if current.same_channel(attempt)) {
            *state = State::Apart(None);
        }
    }

    async fn connect(&self) -> Outcome {
        let connected = timeout(self.connect_timeout, self.route.connect()).await;
        let (is_tls, dialect) = (self.route.tls.is_some(), self.route.dialect);
        let (stream, facts) = connected.map_err(|_| errors::slow_to_connect(is_tls, dialect))??;
        if let Some(size) = facts.item_size {
            self.item_size.store(size, Ordering::Relaxed);
        }
        let (requests, incoming) = mpsc::channel(QUEUE);
        let health = Arc::new(Health::default());
        let driver = Driver::new(stream, dialect, incoming, health.clone(), self.silence);
        let driver = if is_tls { driver.by_records() } else { driver };
        tokio::spawn(driver);
        Ok(Arc::new(Live {
            requests,
            health,
            dialect,
            is_tls,
            numbers: AtomicU32::new(0),
        }))
    }
}

/// Shows the state, and nothing of how to get to the server.
impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.0.route.address)?;
        f.write_str(match &*self.0.state() {
            State::Apart(None) => "(not connected)",
            State::Apart(Some(_)) => "(unreachable)",
            State::Connecting(_) => "(connecting)",
            State::Live(_) => "(connected)",
            State::Closed => "(closed)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_ends_though_the_clock_was_set_back() {
        let begun = Timestamp::from_secs(10_000);
        let pause = Pause {
            error: errors::closed(),
            until: begun + LONGEST_PAUSE,
            length: LONGEST_PAUSE,
        };
        assert!(!pause.is_over(begun));
        assert!(!pause.is_over(begun + LONGEST_PAUSE / 2));
        assert!(pause.is_over(begun + LONGEST_PAUSE));
        assert!(pause.is_over(Timestamp::from_secs(6_400)));
    }
}
