//! The wrapper that a cache puts around a backend outside this process.

mod breaker;
mod journal;
mod recovery;

use std::{
    fmt,
    future::Future,
    slice,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{sync::Notify, time::timeout};

use super::{Backend, Capabilities, Leased, Peek, PutMode, Usage};
use crate::{Entry, Error, ErrorKind, Key, KeyRef, Result, Timestamp};

pub use breaker::BreakerState;

use breaker::{Admitted, Breaker, Verb};
use journal::Invalidation;

/// How long a backend may take, and when it is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GuardRules {
    /// The time for one call, or for each thousand keys of one.
    pub(crate) timeout: Duration,
    /// After how many failures in a row the breaker opens.
    pub(crate) failures: u32,
    /// The time between two attempts to reach the backend while it is open.
    pub(crate) delay: Duration,
}

impl Default for GuardRules {
    fn default() -> Self {
        Self {
            timeout: Duration::from_millis(250),
            failures: 5,
            delay: Duration::from_secs(1),
        }
    }
}

/// A backend whose failures cost little and lose no invalidation.
///
/// * **Time-outs.** Every call has a limit. It needs the timers of the tokio runtime that it runs in
///   (`enable_time`), as the clients of servers do anyway.
/// * **A circuit breaker.** After some failures in a row, calls are refused without asking the server. One task asks for
///   a sign of life meanwhile, so no request pays for finding out.
/// * **Invalidations are remembered** when they fail, are refused, or the server has no room to note them: `delete`,
///   `delete_many`, `delete_if`, `delete_prefix`, `clear`, `clear_bucket`, and puts of [`PutMode::Always`], whose callers
///   say that what was there before is no longer true; the key is deleted
///   when the server is back. An invalidation that fails opens the breaker at once, and it closes when all of them have
///   been replayed, so nothing is read before. While that goes on, new ones are done at once and not remembered any more,
///   so that a busy cache comes to an end of it.
///
/// Other writes are not remembered. A conditional put leaves the old value too when its condition does not hold, so
/// its callers cope with that; `touch` says nothing about the value; and to delete a counter because of one failed
/// `increment` would lose more than the increment.
///
/// An invalidation whose future was dropped is remembered and replayed at once, but the breaker opens only if that
/// fails: nobody was told that it had happened, so whatever is read meanwhile is no older than it may be, and a client
/// that hangs up must not cut off the others. What is put under the key meanwhile may be lost with it.
///
/// A read that began before an invalidation failed may end after it: the two are concurrent. A *write* that began
/// before must not make old data visible after the replay. Writes of this process that are still under way are the
/// business of the cache, whose invalidations wait for loads that are being stored and make others come too late. What
/// the server itself does late, having received it before the time-out, only a lease can refuse
/// ([`PutMode::IfUnchanged`]); without leases, and on a server that reorders what it was sent, it may stay until its TTL
/// ends.
pub(crate) struct Guarded {
    inner: Arc<dyn Backend>,
    name: &'static str,
    rules: GuardRules,
    breaker: Breaker,
    /// Wakes the task that waits to probe the backend.
    wake: Arc<Notify>,
    /// What the task holds on to, so that it ends with the cache.
    this: Weak<Self>,
}

/// What statistics say of a guarded backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GuardReading {
    pub(crate) breaker: BreakerState,
    pub(crate) outages: u64,
    pub(crate) pending: usize,
}

/// How many keys have the time of one call.
const KEYS_PER_TIMEOUT: usize = 1_000;

/// What works through all entries may take longer than other calls; no request waits for it.
const WHOLE_TIMEOUTS: usize = 10;

impl Guarded {
    pub(crate) fn new(inner: Arc<dyn Backend>, rules: GuardRules) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            name: inner.name(),
            inner,
            rules,
            breaker: Breaker::default(),
            wake: Arc::default(),
            this: this.clone(),
        })
    }

    pub(crate) fn rules(&self) -> &GuardRules {
        &self.rules
    }

    pub(crate) fn reading(&self) -> GuardReading {
        let core = self.breaker.lock();
        GuardReading {
            breaker: core.state(),
            outages: core.outages,
            pending: core.journal.len(),
        }
    }

    /// Asks the backend, if it is within reach.
    async fn ask<T, F>(&self, verb: Verb, times: usize, call: impl FnOnce() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        self.admit(verb)?;
        let answer = self.bounded(verb, times, call()).await;
        self.judge(&answer);
        answer
    }

    /// Asks the backend to invalidate, and remembers to do so later if it does not.
    async fn invalidate<T, F>(
        &self,
        verb: Verb,
        what: Invalidation<'_>,
        call: impl FnOnce() -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let admitted = self.admit_invalidation(verb, what)?;
        let mut unfinished = Unfinished {
            guard: self,
            what: Some(what),
        };
        if let Admitted::InvalidationOnly(refusal) = admitted {
            let replayed = self.replay(&what.into()).await;
            unfinished.what = None;
            if let Err(error) = replayed {
                self.invalidation_failed(what, &error);
            }
            return Err(refusal);
        }
        let times = match what {
            Invalidation::Keys(keys) => times(keys.len()),
            Invalidation::Prefix(_) => WHOLE_TIMEOUTS,
            Invalidation::Version(..) | Invalidation::Namespace(_) | Invalidation::Bucket(_) => 1,
        };
        let answer = self.bounded(verb, times, call()).await;
        unfinished.what = None;
        match &answer {
            Err(error) if is_left_undone(verb, error) => self.invalidation_failed(what, error),
            answer => self.judge(answer),
        }
        answer
    }

    async fn bounded<T>(
        &self,
        verb: Verb,
        times: usize,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let times = u32::try_from(times).unwrap_or(u32::MAX);
        self.within(verb, self.rules.timeout.saturating_mul(times), call)
            .await
    }

    async fn within<T>(
        &self,
        verb: Verb,
        limit: Duration,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        timeout(limit, call).await.unwrap_or_else(|_| {
            let message = format!("no answer within {} ms", limit.as_millis());
            Err(Error::new(ErrorKind::Timeout, message).on(self.name, verb.name()))
        })
    }

    /// Counts failures in a row, and opens the breaker when they are too many.
    fn judge<T>(&self, answer: &Result<T>) {
        match answer {
            Err(error) if error.is_outage() => {
                tracing::debug!(%error, "the cache's backend fails");
                if self.breaker.failed() >= self.rules.failures {
                    self.open(error, None, self.rules.delay);
                }
            }
            _ => self.breaker.answered(),
        }
    }
}

/// How many time-outs a call for so many keys may take.
fn times(keys: usize) -> usize {
    keys.div_ceil(KEYS_PER_TIMEOUT).max(1)
}

/// Whether an invalidation that ended in this error has yet to be done. A server that has no room for a put removes what
/// was to be replaced; one that has no room to remove anything has not done it.
fn is_left_undone(verb: Verb, error: &Error) -> bool {
    let has_no_room = error.kind() == ErrorKind::TooLarge
        && matches!(
            verb,
            Verb::Delete | Verb::DeleteMany | Verb::DeleteIf | Verb::Clear | Verb::ClearBucket
        );
    has_no_room || error.is_outage()
}

/// An invalidation under way. Dropping it before its end leaves the outcome unknown.
struct Unfinished<'a> {
    guard: &'a Guarded,
    what: Option<Invalidation<'a>>,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(what) = self.what {
            self.guard.given_up(what);
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Backend for Guarded {
    fn name(&self) -> &'static str {
        self.name
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    /// While the breaker is open, what the backend has at hand may be what a remembered invalidation is about.
    fn peek(&self, key: KeyRef<'_>, now: Timestamp) -> Peek {
        if self.breaker.is_open() {
            return Peek::Ask;
        }
        self.inner.peek(key, now)
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        self.ask(Verb::Get, 1, || self.inner.get(key)).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>> {
        let call = || self.inner.get_many(keys);
        self.ask(Verb::GetMany, times(keys.len()), call).await
    }

    async fn get_relaxed(&self, key: &Key) -> Result<Option<Entry>> {
        let call = || self.inner.get_relaxed(key);
        self.ask(Verb::GetRelaxed, 1, call).await
    }

    async fn get_many_relaxed(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>> {
        let call = || self.inner.get_many_relaxed(keys);
        self.ask(Verb::GetManyRelaxed, times(keys.len()), call)
            .await
    }

    async fn get_leased(&self, key: &Key) -> Result<Leased> {
        let call = || self.inner.get_leased(key);
        self.ask(Verb::GetLeased, 1, call).await
    }

    async fn get_leased_many(&self, keys: &[Key]) -> Result<Vec<Leased>> {
        let call = || self.inner.get_leased_many(keys);
        self.ask(Verb::GetLeasedMany, times(keys.len()), call).await
    }

    async fn put(&self, key: &Key, entry: Entry, mode: PutMode) -> Result<bool> {
        let call = || self.inner.put(key, entry, mode);
        match mode {
            PutMode::Always => {
                let what = Invalidation::Keys(slice::from_ref(key));
                self.invalidate(Verb::Put, what, call).await
            }
            _ => self.ask(Verb::Put, 1, call).await,
        }
    }

    async fn put_many(&self, entries: Vec<(Key, Entry, PutMode)>) -> Result<Vec<bool>> {
        let replaced: Vec<Key> = entries
            .iter()
            .filter(|(_, _, mode)| *mode == PutMode::Always)
            .map(|(key, ..)| key.clone())
            .collect();
        let count = entries.len();
        let call = || self.inner.put_many(entries);
        if replaced.is_empty() {
            return self.ask(Verb::PutMany, times(count), call).await;
        }
        let what = Invalidation::Keys(&replaced);
        self.invalidate(Verb::PutMany, what, call).await
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        let call = || self.inner.contains(key);
        self.ask(Verb::Contains, 1, call).await
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        let what = Invalidation::Keys(slice::from_ref(key));
        let call = || self.inner.delete(key);
        self.invalidate(Verb::Delete, what, call).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Result<Vec<bool>> {
        let call = || self.inner.delete_many(keys);
        let what = Invalidation::Keys(keys);
        self.invalidate(Verb::DeleteMany, what, call).await
    }

    async fn delete_if(&self, key: &Key, version: u64) -> Result<bool> {
        let call = || self.inner.delete_if(key, version);
        let what = Invalidation::Version(key, version);
        self.invalidate(Verb::DeleteIf, what, call).await
    }

    async fn touch(&self, key: &Key, ttl: Option<Duration>) -> Result<bool> {
        let call = || self.inner.touch(key, ttl);
        self.ask(Verb::Touch, 1, call).await
    }

    async fn increment(&self, key: &Key, delta: i64, ttl: Option<Duration>) -> Result<i64> {
        let call = || self.inner.increment(key, delta, ttl);
        self.ask(Verb::Increment, 1, call).await
    }

    async fn clear(&self, namespace: &str) -> Result<()> {
        let call = || self.inner.clear(namespace);
        let what = Invalidation::Namespace(namespace);
        self.invalidate(Verb::Clear, what, call).await
    }

    async fn delete_prefix(&self, prefix: &Key) -> Result<usize> {
        let call = || self.inner.delete_prefix(prefix);
        if !self.inner.capabilities().delete_prefix {
            return call().await;
        }
        let what = Invalidation::Prefix(prefix);
        self.invalidate(Verb::DeletePrefix, what, call).await
    }

    async fn clear_bucket(&self, bucket: &Key) -> Result<bool> {
        let call = || self.inner.clear_bucket(bucket);
        let what = Invalidation::Bucket(bucket);
        self.invalidate(Verb::ClearBucket, what, call).await
    }

    async fn remove_expired(&self, limit: usize) -> Result<usize> {
        let call = || self.inner.remove_expired(limit);
        self.ask(Verb::RemoveExpired, WHOLE_TIMEOUTS, call).await
    }

    /// Goes to the server even while the breaker is open.
    async fn ping(&self) -> Result<()> {
        let answer = self.bounded(Verb::Ping, 1, self.inner.ping()).await;
        let Some(open_for) = self.breaker.lock().open_for() else {
            self.judge(&answer);
            return answer;
        };
        match answer {
            Ok(()) => {
                self.wake.notify_one();
                Ok(())
            }
            Err(error) if error.is_outage() => {
                let message = format!(
                    "no sign of life; the circuit breaker has been open for {} s",
                    open_for.as_secs_f32()
                );
                let error = Error::new(error.kind(), message).caused_by(error);
                Err(error.on(self.name, Verb::Ping.name()))
            }
            Err(error) => Err(error),
        }
    }

    async fn close(&self) -> Result<()> {
        self.end().await
    }

    fn usage(&self) -> Option<Usage> {
        self.inner.usage()
    }
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded")
            .field("backend", &self.name)
            .field("rules", &self.rules)
            .field("reading", &self.reading())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "memory", feature = "testing"))]
mod tests;
