//! What is noted of a key when a load begins.

use std::time::Duration;

use super::item::{self, Condition, Found, TRACE};
use crate::{
    Lease,
    backend::{absence::Steps, generation::Generation},
};

/// Kinds of what is under the key, in the lowest bits of a lease's last number.
const ENTRY: u64 = 1;
const COUNTER: u64 = 2;
const ABSENT: u64 = 3;
const KIND_BITS: u32 = 2;
const KINDS: u64 = (1 << KIND_BITS) - 1;

/// The time of a lease on an absent key is counted in these. When it is too old the trace of a deletion since then is
/// still there, and would be if clocks differed by three quarters of an hour.
const STEPS: Steps = Steps::within(Duration::from_secs(TRACE.as_secs() / 4), STEP);
const STEP: Duration = Duration::from_secs(5 * 60);

/// A lease on what was found.
pub(super) fn give(generation: Generation, found: Option<&Found>) -> Lease {
    let (version, invalidation) = match found {
        Some(counter) if counter.is_counter() => (
            counter.count().unwrap_or_default().cast_unsigned(),
            // A counter that was deleted and has come to the same count is another one.
            counter.version().unwrap_or_default() & !KINDS | COUNTER,
        ),
        Some(entry) => (entry.version().unwrap_or_default(), ENTRY),
        None => (0, STEPS.now() << KIND_BITS | ABSENT),
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
    let (kind, rest) = (lease.invalidation & KINDS, lease.invalidation & !KINDS);
    match kind {
        ENTRY => Some(item::is_version(lease.version)),
        COUNTER => Some(item::is_count(
            lease.version.cast_signed(),
            rest..=rest | KINDS,
        )),
        ABSENT if STEPS.is_recent(rest >> KIND_BITS) => Some(item::is_missing()),
        _ => None,
    }
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
