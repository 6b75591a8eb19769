//! Leases on keys under which nothing is: good for as long as the server keeps a trace of every deletion since.

use std::{sync::LazyLock, time::Duration};

use tokio::time::Instant;

/// How long what was deleted leaves a trace on most servers, and the least that they keep an entry for: who began to load
/// within that time finds out that somebody has put or deleted the key meanwhile.
#[cfg(any(feature = "aerospike", feature = "mongodb"))]
pub(super) const TRACE: Duration = Duration::from_secs(60);

/// The steps that go with it.
#[cfg(any(feature = "aerospike", feature = "mongodb"))]
pub(super) const STEPS: Steps = Steps::within(TRACE, Duration::from_secs(25));

/// The time of a lease is counted in steps so long that two leases which follow each other are equal.
#[derive(Clone, Copy)]
pub(super) struct Steps(Duration);

/// From so many steps on a lease is too old: it was given at most twice a step ago before that.
const TOO_OLD: u64 = 2;

impl Steps {
    /// Steps after which, while a lease is good, no trace of a deletion since then is gone.
    pub(super) const fn within(trace: Duration, step: Duration) -> Self {
        assert!(step.as_secs() * TOO_OLD < trace.as_secs());
        Self(step)
    }

    /// The time for a lease that is given now.
    pub(super) fn now(self) -> u64 {
        // The monotonic clock: what the wall clock does changes no lease.
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        START.elapsed().as_secs() / self.0.as_secs()
    }

    /// Whether a lease of this time is still good.
    pub(super) fn is_recent(self, given: u64) -> bool {
        self.now().saturating_sub(given) < TOO_OLD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lease_ends_before_the_trace_of_a_deletion() {
        let step = Duration::from_secs(25);
        let steps = Steps::within(3 * step, step);
        let given = steps.now();
        tokio::time::advance(step).await;
        assert!(steps.is_recent(given));
        tokio::time::advance(step).await;
        assert!(!steps.is_recent(given));
    }
}
