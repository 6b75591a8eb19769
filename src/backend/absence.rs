//! Leases on keys under which nothing is: good for as long as the server keeps a trace of every deletion since.

use std::{sync::LazyLock, time::Duration};

use tokio::time::Instant;

/// How long what was deleted leaves a trace on the server, and the least that the server keeps an entry for: who began to
/// load within that time finds out that somebody has put or deleted the key meanwhile.
pub(super) const TRACE: Duration = Duration::from_secs(60);

/// The time of a lease is counted in steps so long that two leases which follow each other are equal.
const STEP: Duration = Duration::from_secs(25);

/// From so many steps on a lease is too old: it was given at most twice a step ago before that, so no trace of a deletion
/// since then is gone.
const TOO_OLD: u64 = 2;
const _: () = assert!(STEP.as_secs() * TOO_OLD < TRACE.as_secs());

/// The time for a lease that is given now.
pub(super) fn now() -> u64 {
    // The monotonic clock: what the wall clock does changes no lease.
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_secs() / STEP.as_secs()
}

/// Whether a lease of this time is still good.
pub(super) fn is_recent(given: u64) -> bool {
    now().saturating_sub(given) < TOO_OLD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lease_ends_before_the_trace_of_a_deletion() {
        let given = now();
        tokio::time::advance(STEP).await;
        assert!(is_recent(given));
        tokio::time::advance(STEP).await;
        assert!(!is_recent(given));
    }
}
