//! What is noted of a key when a load begins.

use std::{sync::LazyLock, time::Duration};

use tokio::time::Instant;

use super::item::{self, Condition, Found, TRACE};
use crate::{Lease, backend::generation::Generation};

/// Kinds of what is under the key, in the lowest bits of a lease's last number.
const ENTRY: u64 = 1;
const COUNTER: u64 = 2;
const ABSENT: u64 = 3;
const KIND_BITS: u32 = 2;

/// The time of a lease on an absent key is counted in steps so long that two leases which follow each other are equal.
const STEP: Duration = Duration::from_secs(5 * 60);

/// From so many steps on a lease on an absent key is too old. It was given at most twice a step ago before that, when
/// the trace of a deletion since then is still there, and would be if clocks differed by three quarters of an hour.
const TOO_OLD: u64 = 2;
const _: () = assert!(4 * STEP.as_secs() * TOO_OLD < TRACE.as_secs());

/// A lease on what was found.
pub(super) fn give(generation: Generation, found: Option<&Found>) -> Lease {
    let (version, invalidation) = match found {
        Some(counter) if counter.is_counter() => {
            (counter.count().unwrap_or_default().cast_unsigned(), COUNTER)
        }
        Some(entry) => (entry.version().unwrap_or_default(), ENTRY),
        None => (0, step() << KIND_BITS | ABSENT),
    };
    Lease {
        generation: generation.as_u64(),
        version,
        invalidation,
    }
}

/// The condition that a lease stands for; `None` where it has ended whatever the service says.
pub(super) fn condition(lease: Lease, generation: Generation) -> Option<Condition> {
    if lease.generation != generation.as_u64() {
        return None;
    }
    let (given, kind) = (
        lease.invalidation >> KIND_BITS,
        lease.invalidation & ((1 << KIND_BITS) - 1),
    );
    match kind {
        ENTRY => Some(item::is_version(lease.version)),
        COUNTER => Some(item::is_count(lease.version.cast_signed())),
        ABSENT if step().saturating_sub(given) < TOO_OLD => Some(item::is_missing()),
        _ => None,
    }
}

/// Steps of the monotonic clock: what the wall clock does changes no lease.
fn step() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_secs() / STEP.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;

    fn zero() -> Found {
        Found::new(item::counter(vec![1], 0, 1, None, Timestamp::from_secs(1)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_on_an_absent_key_ends_before_the_trace_of_a_deletion() {
        let generation = Generation::random();
        let lease = give(generation, None);
        tokio::time::advance(STEP).await;
        assert!(condition(lease, generation).is_some());
        tokio::time::advance(STEP).await;
        assert!(condition(lease, generation).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_on_what_is_there_does_not_grow_old() {
        let generation = Generation::random();
        let lease = give(generation, Some(&zero()));
        tokio::time::advance(100 * STEP).await;
        assert!(condition(lease, generation).is_some());
    }

    #[test]
    fn a_lease_of_another_generation_has_ended() {
        let lease = give(Generation::random(), Some(&zero()));
        assert!(condition(lease, Generation::random()).is_none());
    }

    #[test]
    fn a_counter_of_zero_is_not_an_absent_key() {
        let generation = Generation::random();
        assert_ne!(give(generation, Some(&zero())), give(generation, None));
    }
}
