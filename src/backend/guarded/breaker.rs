//! The circuit breaker: whether calls go through, and what refused ones are told.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinHandle;

use super::journal::{Batch, Invalidation, Journal};
use crate::{Error, ErrorKind, Timestamp};

/// Whether calls to a backend outside this process go through; see [`Stats::breaker`](crate::Stats::breaker).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum BreakerState {
    /// They do. It is always so for a backend in this process.
    #[default]
    Closed,
    /// They fail at once, because the backend was out of reach, until it is back and has got the invalidations that it
    /// missed.
    Open,
}

macro_rules! verbs {
    ($($verb:ident = $name:literal),* $(,)?) => {
        /// A verb that asks the server.
        #[derive(Clone, Copy)]
        pub(super) enum Verb { $($verb),* }

        const VERBS: [&str; [$($name),*].len()] = [$($name),*];
    };
}

verbs! {
    Get = "get",
    GetMany = "get_many",
    GetRelaxed = "get",
    GetManyRelaxed = "get_many",
    GetLeased = "get_leased",
    GetLeasedMany = "get_leased_many",
    Put = "put",
    PutMany = "put_many",
    Contains = "contains",
    Delete = "delete",
    DeleteMany = "delete_many",
    DeleteIf = "delete_if",
    Touch = "touch",
    Increment = "increment",
    Clear = "clear",
    DeletePrefix = "delete_prefix",
    ClearBucket = "clear_bucket",
    RemoveExpired = "remove_expired",
    Ping = "ping",
    Close = "close",
}

impl Verb {
    pub(super) fn name(self) -> &'static str {
        VERBS[self as usize]
    }

    /// Whether it is an invalidation that puts something in the place of what it ends.
    fn writes(self) -> bool {
        matches!(self, Self::Put | Self::PutMany)
    }
}

#[derive(Default)]
pub(super) struct Breaker {
    /// Whether there is an outage, for everybody who only has to know that there is none.
    open: AtomicBool,
    /// Failures since the last answer.
    failures: AtomicU32,
    core: Mutex<Core>,
}

/// What changes together. Nothing is logged, and no backend called, while it is locked.
#[derive(Default)]
pub(super) struct Core {
    outage: Option<Outage>,
    pub(super) outages: u64,
    pub(super) journal: Journal,
    closed_at: Option<Timestamp>,
    pub(super) task: Option<JoinHandle<()>>,
    /// The backend was closed; nothing is remembered any more.
    pub(super) ended: bool,
}

struct Outage {
    since: Timestamp,
    /// The error of each verb, made beforehand: being refused allocates nothing and copies no text.
    refusals: [Error; VERBS.len()],
    refused: u64,
    replayed: usize,
    /// Whether invalidations are done at once already, though nothing may be read yet.
    catching_up: bool,
}

/// Whether an invalidation goes to the backend.
pub(super) enum Admitted {
    /// As it is.
    Whole,
    /// What it invalidates alone, and its caller is told this.
    InvalidationOnly(Error),
}

/// An outage that is over.
pub(super) struct Closed {
    pub(super) lasted: Duration,
    pub(super) refused: u64,
    pub(super) replayed: usize,
}

impl Breaker {
    pub(super) fn lock(&self) -> MutexGuard<'_, Core> {
        // Every change is whole before anything can panic.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Notes an answer of the server, whatever it was.
    pub(super) fn answered(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// Notes that there was none, and says how often that was so in a row.
    pub(super) fn failed(&self) -> u32 {
        let before = self.failures.fetch_add(1, Ordering::Relaxed);
        before.saturating_add(1)
    }

    /// Opens, if it is closed, and says whether it was.
    pub(super) fn open(&self, core: &mut Core, backend: &'static str, cause: &Error) -> bool {
        if core.outage.is_some() || core.ended {
            return false;
        }
        core.outages += 1;
        core.outage = Some(Outage {
            since: Timestamp::now(),
            refusals: refusals(backend, cause),
            refused: 0,
            replayed: 0,
            catching_up: false,
        });
        self.open.store(true, Ordering::Release);
        true
    }

    /// Has the next call look at what is to be replayed, because nobody else does any more. It takes no lock: tasks can
    /// end wherever one is held.
    pub(super) fn abandoned(&self) {
        self.open.store(true, Ordering::Release);
    }

    /// Takes back [`abandoned`](Self::abandoned) where nothing is to be replayed; else says so.
    pub(super) fn is_abandoned(&self, core: &Core) -> bool {
        if core.outage.is_some() {
            return false;
        }
        let is_running = core.task.as_ref().is_some_and(|task| !task.is_finished());
        let is_abandoned = !core.ended && !is_running && core.journal.len() > 0;
        if !is_abandoned {
            self.open.store(false, Ordering::Release);
        }
        is_abandoned
    }

    /// What is to be replayed before anything may be read, or else closes and says what the outage was like, if there
    /// was one. That nothing is left and that calls go through again is one step, so that no invalidation is noted
    /// in between and forgotten.
    pub(super) fn next_or_close(&self) -> Result<Batch, Option<Closed>> {
        let core = &mut *self.lock();
        if let Some(batch) = core.journal.next() {
            return Ok(batch);
        }
        // This is called by the task, which ends now; a new outage needs a new one.
        core.task = None;
        Err(self.close(core))
    }

    pub(super) fn close(&self, core: &mut Core) -> Option<Closed> {
        self.open.store(false, Ordering::Release);
        let outage = core.outage.take()?;
        let now = Timestamp::now();
        core.closed_at = Some(now);
        self.failures.store(0, Ordering::Relaxed);
        Some(Closed {
            lasted: now.since(outage.since),
            refused: outage.refused,
            replayed: outage.replayed,
        })
    }
}

impl Core {
    /// The error of a call that is refused, which leaves its invalidation behind; `None` when it may go on.
    pub(super) fn refuse(
        &mut self,
        verb: Verb,
        what: Option<Invalidation<'_>>,
        can_clear: bool,
    ) -> Option<Error> {
        let outage = self.outage.as_mut()?;
        outage.refused += 1;
        if let Some(what) = what {
            self.journal.note(what, can_clear);
        }
        Some(outage.refusals[verb as usize].clone())
    }

    /// What becomes of an invalidation; the error of one that is refused, which leaves it behind.
    pub(super) fn admit_invalidation(
        &mut self,
        verb: Verb,
        what: Invalidation<'_>,
        can_clear: bool,
    ) -> Result<Admitted, Error> {
        match &mut self.outage {
            Some(outage) if outage.catching_up && !verb.writes() => Ok(Admitted::Whole),
            Some(outage) if outage.catching_up => {
                outage.refused += 1;
                let refusal = outage.refusals[verb as usize].clone();
                Ok(Admitted::InvalidationOnly(refusal))
            }
            _ => match self.refuse(verb, Some(what), can_clear) {
                Some(error) => Err(error),
                None => Ok(Admitted::Whole),
            },
        }
    }

    /// From now on invalidations are done at once.
    pub(super) fn catch_up(&mut self) {
        if let Some(outage) = &mut self.outage {
            outage.catching_up = true;
        }
    }

    /// Takes a batch that was replayed out of the journal.
    pub(super) fn replayed(&mut self, batch: &Batch) {
        self.journal.done();
        if let Some(outage) = &mut self.outage {
            outage.replayed += batch.len();
        }
    }

    /// Tells calls that are refused from now on of a later error.
    pub(super) fn still_out(&mut self, backend: &'static str, cause: &Error) {
        if let Some(outage) = &mut self.outage {
            outage.refusals = refusals(backend, cause);
            outage.catching_up = false;
        }
    }

    pub(super) fn state(&self) -> BreakerState {
        match self.outage {
            Some(_) => BreakerState::Open,
            None => BreakerState::Closed,
        }
    }

    /// How long calls have been refused.
    pub(super) fn open_for(&self) -> Option<Duration> {
        let since = self.outage.as_ref()?.since;
        Some(Timestamp::now().since(since))
    }

    /// Whether the last outage ended less than `delay` ago.
    pub(super) fn just_closed(&self, delay: Duration) -> bool {
        self.closed_at
            .is_some_and(|at| Timestamp::now().since(at) < delay)
    }
}

fn refusals(backend: &'static str, cause: &Error) -> [Error; VERBS.len()] {
    let message =
        format!("the backend is out of reach (circuit breaker open); the last error was: {cause}");
    let error = Error::new(ErrorKind::Unavailable, message);
    VERBS.map(|verb| error.clone().on(backend, verb))
}
