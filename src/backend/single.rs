//! The one connection to a server that everybody shares: made on first use, and made anew when it broke.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use crate::{Error, ErrorKind, Result, Timestamp};

/// After a failed attempt to connect the next one is made no sooner than this, and twice that after each further one,
/// up to the limit. Verbs in between fail at once.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// What is shared.
pub(super) trait Connection: Send + Sync + 'static {
    /// Whether it works, as far as is known. One that does not is replaced.
    fn is_usable(&self) -> bool;
}

type Outcome<C> = Result<Arc<C>>;

/// An attempt to connect, to which everybody listens who wants the connection meanwhile.
type Attempt<C> = watch::Receiver<Option<Outcome<C>>>;

/// The place of the connection.
pub(super) struct Single<C>(Mutex<State<C>>);

enum State<C> {
    /// Not connected; the next attempt is made after the pause, which the failure that caused it began.
    Apart(Option<Pause>),
    /// Somebody's attempt is under way, and everybody waits for it.
    Connecting(Attempt<C>),
    Live(Arc<C>),
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

enum Step<C> {
    Done(Outcome<C>),
    Wait(Attempt<C>),
}

impl<C: Connection> Single<C> {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State::Apart(None))))
    }

    /// Fails a verb that needs no connection where there will be none.
    pub(super) fn open(&self) -> Result<()> {
        match *self.state() {
            State::Closed => Err(closed()),
            _ => Ok(()),
        }
    }

    /// Gives the connection back, and makes no other.
    pub(super) fn close(&self) {
        *self.state() = State::Closed;
    }

    /// The connection there is, usable or not.
    pub(super) fn current(&self) -> Option<Arc<C>> {
        match &*self.state() {
            State::Live(live) => Some(live.clone()),
            _ => None,
        }
    }

    /// The connection, made now by `connect` if there is none that works.
    ///
    /// Connecting goes on when the future is dropped, for whoever asks next.
    pub(super) async fn live<F>(self: &Arc<Self>, connect: impl Fn() -> F) -> Outcome<C>
    where
        F: Future<Output = Outcome<C>> + Send + 'static,
    {
        loop {
            let mut attempt = match self.step(&connect) {
                Step::Done(outcome) => return outcome,
                Step::Wait(attempt) => attempt,
            };
            let outcome = attempt.wait_for(Option::is_some).await;
            if let Some(outcome) = outcome.ok().and_then(|outcome| outcome.clone()) {
                return outcome;
            }
            // Its task ended with the runtime it ran on, which is not ours.
            self.abandon(&attempt);
        }
    }

    /// The connection, if there is one that works now. One that does not is made anew meanwhile, and nobody waits for it.
    #[cfg(feature = "redis")]
    pub(super) fn at_once<F>(self: &Arc<Self>, connect: impl Fn() -> F) -> Option<Arc<C>>
    where
        F: Future<Output = Outcome<C>> + Send + 'static,
    {
        match self.step(connect) {
            Step::Done(outcome) => outcome.ok(),
            Step::Wait(attempt) => {
                if attempt.has_changed().is_err() && attempt.borrow().is_none() {
                    self.abandon(&attempt);
                }
                None
            }
        }
    }

    fn step<F>(self: &Arc<Self>, connect: impl Fn() -> F) -> Step<C>
    where
        F: Future<Output = Outcome<C>> + Send + 'static,
    {
        let mut state = self.state();
        let pause = match &mut *state {
            State::Closed => return Step::Done(Err(closed())),
            State::Live(live) if live.is_usable() => return Step::Done(Ok(live.clone())),
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
        let (single, connecting) = (self.clone(), connect());
        tokio::spawn(async move {
            let outcome = connecting.await;
            single.settle(&outcome, pause.map(|pause| pause.length));
            sender.send_replace(Some(outcome));
        });
        Step::Wait(receiver)
    }

    fn settle(&self, outcome: &Outcome<C>, pause_before: Option<Duration>) {
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

    fn abandon(&self, attempt: &Attempt<C>) {
        let mut state = self.state();
        if matches!(&*state, State::Connecting(current) if current.same_channel(attempt)) {
            *state = State::Apart(None);
        }
    }

    /// How it is, for `Debug`.
    pub(super) fn word(&self) -> &'static str {
        match &*self.state() {
            State::Apart(None) => "not connected",
            State::Apart(Some(_)) => "unreachable",
            State::Connecting(_) => "connecting",
            State::Live(_) => "connected",
            State::Closed => "closed",
        }
    }

    fn state(&self) -> MutexGuard<'_, State<C>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the cache was closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_ends_though_the_clock_was_set_back() {
        let begun = Timestamp::from_secs(10_000);
        let pause = Pause {
            error: closed(),
            until: begun + LONGEST_PAUSE,
            length: LONGEST_PAUSE,
        };
        assert!(!pause.is_over(begun));
        assert!(!pause.is_over(begun + LONGEST_PAUSE / 2));
        assert!(pause.is_over(begun + LONGEST_PAUSE));
        assert!(pause.is_over(Timestamp::from_secs(6_400)));
    }
}
