//! Opening, the task that finds out when the backend is back, and the end.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{runtime::Handle, sync::Notify, task::JoinHandle, time::timeout};

use super::{
    Guarded, WHOLE_TIMEOUTS,
    breaker::{Admitted, Closed, Core, Verb},
    is_left_undone,
    journal::{Batch, Invalidation},
    times,
};
use crate::{Error, ErrorKind, Key, Result};

/// After so many batches, what is invalidated meanwhile is not noted but done at once. Where that happens more often than
/// a batch can be replayed, there would be another one without end, and nothing would ever be read again.
const NOTED_BATCHES: usize = 2;

/// How long ending waits, for the last replay and for the backend each.
const END_WAIT: Duration = Duration::from_secs(5);

impl Guarded {
    /// Begins open, because connecting failed with `cause`, and tries at once to reach the backend.
    pub(crate) fn open_at_start(&self, cause: Error) {
        self.open(&cause, None, Duration::ZERO);
    }

    /// Lets a call that invalidates nothing pass, or refuses it.
    #[inline]
    pub(super) fn admit(&self, verb: Verb) -> Result<()> {
        if self.breaker.is_open() {
            return self.decide(|core, can_clear| match core.refuse(verb, None, can_clear) {
                Some(error) => Err(error),
                None => Ok(()),
            });
        }
        Ok(())
    }

    /// Lets an invalidation pass, or refuses it and remembers it.
    #[inline]
    pub(super) fn admit_invalidation(
        &self,
        verb: Verb,
        what: Invalidation<'_>,
    ) -> Result<Admitted> {
        if self.breaker.is_open() {
            return self.decide(|core, can_clear| core.admit_invalidation(verb, what, can_clear));
        }
        Ok(Admitted::Whole)
    }

    #[cold]
    fn decide<T>(&self, decide: impl FnOnce(&mut Core, bool) -> Result<T>) -> Result<T> {
        let can_clear = self.inner.capabilities().clear;
        let mut core = self.breaker.lock();
        if self.breaker.is_abandoned(&core) {
            let cause = Error::new(
                ErrorKind::Unavailable,
                "a runtime ended with invalidations under way",
            );
            self.breaker.open(&mut core, self.name, &cause);
        }
        let decided = decide(&mut core, can_clear);
        if decided.is_err() {
            // The task ends with the runtime that it was started in.
            self.start_task(&mut core, self.rules.delay);
        }
        decided
    }

    /// Remembers an invalidation that failed, and lets nothing through before it was replayed.
    pub(super) fn invalidation_failed(&self, what: Invalidation<'_>, cause: &Error) {
        self.open(cause, Some(what), Duration::ZERO);
    }

    /// Remembers an invalidation whose caller does not wait for it any more, and replays it.
    pub(super) fn given_up(&self, what: Invalidation<'_>) {
        if Handle::try_current().is_err() {
            let cause = Error::new(
                ErrorKind::Unavailable,
                "an invalidation was dropped outside of a runtime",
            );
            return self.invalidation_failed(what, &cause);
        }
        let can_clear = self.inner.capabilities().clear;
        let mut core = self.breaker.lock();
        if !core.ended {
            core.journal.note(what, can_clear);
            self.start_task(&mut core, Duration::ZERO);
        }
    }

    /// Opens the breaker, if it is closed, and has the backend probed after `wait`; remembers `what` in the same step.
    pub(super) fn open(&self, cause: &Error, what: Option<Invalidation<'_>>, wait: Duration) {
        let can_clear = self.inner.capabilities().clear;
        let opened = {
            let mut core = self.breaker.lock();
            if let Some(what) = what.filter(|_| !core.ended) {
                core.journal.note(what, can_clear);
            }
            let opened = self.breaker.open(&mut core, self.name, cause);
            if opened {
                // A backend that answers pings and fails otherwise would open and close the breaker all the time.
                let wait = match core.just_closed(self.rules.delay) {
                    true => self.rules.delay,
                    false => wait,
                };
                self.start_task(&mut core, wait);
            }
            opened
        };
        if opened {
            tracing::error!(
                backend = self.name,
                error = %cause,
                "the cache's backend is out of reach: going on without it (circuit breaker open)"
            );
        }
    }

    fn start_task(&self, core: &mut Core, wait: Duration) {
        if core.ended || core.task.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            let attending = Attending {
                guard: self.this.clone(),
                is_done: false,
            };
            let task = recover(attending, self.wake.clone(), wait);
            core.task = Some(runtime.spawn(task));
        }
    }

    /// Tries to reach the backend and to replay what it missed, and says whether that is done.
    async fn recovered(&self) -> bool {
        if self.breaker.is_open() {
            let ping = self.bounded(Verb::Ping, 1, self.inner.ping()).await;
            if let Err(error) = ping {
                tracing::debug!(%error, "the cache's backend is still out of reach");
                self.breaker.lock().still_out(self.name, &error);
                return false;
            }
        }
        for number in 0.. {
            if number == NOTED_BATCHES {
                self.breaker.lock().catch_up();
            }
            let batch = match self.breaker.next_or_close() {
                Ok(batch) => batch,
                Err(closed) => {
                    self.tell(closed);
                    return true;
                }
            };
            if let Err(error) = self.replay(&batch).await {
                tracing::debug!(%error, "the cache's backend does not take what it missed yet");
                self.open(&error, None, self.rules.delay);
                self.breaker.lock().still_out(self.name, &error);
                return false;
            }
            self.breaker.lock().replayed(&batch);
        }
        false
    }

    fn tell(&self, closed: Option<Closed>) {
        if let Some(closed) = closed {
            tracing::info!(
                backend = self.name,
                open_for = ?closed.lasted,
                refused = closed.refused,
                replayed = closed.replayed,
                "the cache's backend is back (circuit breaker closed)"
            );
        }
    }

    /// Does what the batch says. Only an outage and a lack of room are errors: what the backend refuses for another reason,
    /// it would refuse for ever.
    pub(super) async fn replay(&self, batch: &Batch) -> Result<()> {
        match batch {
            Batch::Namespace(namespace) => {
                let clear = self.inner.clear(namespace);
                unless_refused(Verb::Clear, self.bounded(Verb::Clear, 1, clear).await)
            }
            Batch::Version(key, version) => {
                let delete = self.inner.delete_if(key, *version);
                unless_refused(
                    Verb::DeleteIf,
                    self.bounded(Verb::DeleteIf, 1, delete).await,
                )
            }
            Batch::Prefix(prefix) => {
                let delete = self.inner.delete_prefix(prefix);
                let deleted = self.bounded(Verb::DeletePrefix, WHOLE_TIMEOUTS, delete);
                unless_refused(Verb::DeletePrefix, deleted.await)
            }
            Batch::Bucket(bucket) => {
                let clear = self.inner.clear_bucket(bucket);
                match self.bounded(Verb::ClearBucket, 1, clear).await {
                    // The cache ends the bucket by its tag.
                    Err(error) if error.kind() == ErrorKind::Unsupported => Ok(()),
                    cleared => unless_refused(Verb::ClearBucket, cleared),
                }
            }
            Batch::Keys(keys) => {
                let delete = self.inner.delete_many(keys);
                let deleted = self
                    .bounded(Verb::DeleteMany, times(keys.len()), delete)
                    .await;
                match deleted {
                    // One key that the backend does not take must not keep the others from being deleted.
                    Err(error) if !is_left_undone(Verb::DeleteMany, &error) => {
                        self.replay_each(keys).await
                    }
                    deleted => deleted.map(drop),
                }
            }
        }
    }

    async fn replay_each(&self, keys: &[Key]) -> Result<()> {
        for key in keys {
            let delete = self.inner.delete(key);
            unless_refused(Verb::Delete, self.bounded(Verb::Delete, 1, delete).await)?;
        }
        Ok(())
    }

    /// Ends the task, tries a last time to replay what is left, and closes the backend.
    pub(super) async fn end(&self) -> Result<()> {
        let task = {
            let mut core = self.breaker.lock();
            core.ended = true;
            core.task.take()
        };
        let _ = timeout(END_WAIT, self.replay_the_rest(task)).await;
        let left = {
            let mut core = self.breaker.lock();
            self.breaker.close(&mut core);
            core.journal.give_up()
        };
        warn_of_lost(self.name, left);
        self.within(Verb::Close, END_WAIT, self.inner.close()).await
    }

    async fn replay_the_rest(&self, task: Option<JoinHandle<()>>) {
        if let Some(task) = task {
            task.abort();
            // It must have let go of its batch before that is taken again.
            let _ = task.await;
        }
        loop {
            let batch = self.breaker.lock().journal.next();
            let Some(batch) = batch else { return };
            if self.replay(&batch).await.is_err() {
                return;
            }
            self.breaker.lock().replayed(&batch);
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let left = {
            let mut core = self.breaker.lock();
            if let Some(task) = core.task.take() {
                task.abort();
            }
            core.journal.give_up()
        };
        warn_of_lost(self.name, left);
    }
}

fn unless_refused<T>(verb: Verb, answer: Result<T>) -> Result<()> {
    match answer {
        Err(error) if is_left_undone(verb, &error) => Err(error),
        Err(error) => {
            tracing::warn!(%error, "the cache's backend refuses an invalidation that it missed");
            Ok(())
        }
        Ok(_) => Ok(()),
    }
}

fn warn_of_lost(backend: &'static str, invalidations: usize) {
    if invalidations > 0 {
        tracing::warn!(
            backend,
            invalidations,
            "the cache ends with invalidations that its backend never got"
        );
    }
}

/// The task's hold on the guard, which tells when the task ends with its runtime and not by itself.
struct Attending {
    guard: Weak<Guarded>,
    is_done: bool,
}

impl Drop for Attending {
    fn drop(&mut self) {
        if let Some(guard) = self.guard.upgrade().filter(|_| !self.is_done) {
            guard.breaker.abandoned();
        }
    }
}

/// Probes the backend after `wait`, and then again and again, until it is back or the cache is gone.
async fn recover(mut attending: Attending, wake: Arc<Notify>, mut wait: Duration) {
    loop {
        if !wait.is_zero() {
            let _ = timeout(wait, wake.notified()).await;
        }
        let Some(guard) = attending.guard.upgrade() else {
            return;
        };
        wait = guard.rules.delay;
        if guard.recovered().await {
            attending.is_done = true;
            return;
        }
    }
}
