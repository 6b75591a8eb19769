//! What is noted of a key when a load begins.

use aerospike::{RecordExistsAction, expressions::Expression};

use super::{
    super::{absence, generation::Generation},
    record::{Found, is_count, is_version},
};
use crate::Lease;

/// Kinds of what is under the key, in the lowest bits of a lease's last number.
const ENTRY: u64 = 1;
const COUNTER: u64 = 2;
const ABSENT: u64 = 3;
const KIND_BITS: u32 = 2;

/// A lease on what was found.
pub(super) fn give(generation: Generation, found: Option<&Found>) -> Lease {
    let (version, invalidation) = match found {
        Some(Found::Counter(value)) => (value.cast_unsigned(), COUNTER),
        Some(blob) => (blob.version().unwrap_or_default(), ENTRY),
        None => (0, absence::STEPS.now() << KIND_BITS | ABSENT),
    };
    Lease {
        generation: generation.as_u64(),
        version,
        invalidation,
    }
}

/// The condition that a lease stands for; `None` where it has ended whatever the server says.
pub(super) fn condition(
    lease: Lease,
    generation: Generation,
) -> Option<(RecordExistsAction, Option<Expression>)> {
    if lease.generation != generation.as_u64() {
        return None;
    }
    let (given, kind) = (
        lease.invalidation >> KIND_BITS,
        lease.invalidation & ((1 << KIND_BITS) - 1),
    );
    match kind {
        ENTRY => Some((
            RecordExistsAction::ReplaceOnly,
            Some(is_version(lease.version)),
        )),
        COUNTER => Some((
            RecordExistsAction::ReplaceOnly,
            Some(is_count(lease.version.cast_signed())),
        )),
        ABSENT if absence::STEPS.is_recent(given) => Some((RecordExistsAction::CreateOnly, None)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::super::absence::TRACE, *};

    #[tokio::test(start_paused = true)]
    async fn a_lease_on_an_entry_does_not_grow_old() {
        let generation = Generation::random();
        let lease = give(generation, Some(&Found::Counter(0)));
        tokio::time::advance(100 * TRACE).await;
        assert!(condition(lease, generation).is_some());
    }

    #[test]
    fn a_lease_of_another_generation_has_ended() {
        let lease = give(Generation::random(), Some(&Found::Counter(0)));
        assert!(condition(lease, Generation::random()).is_none());
    }

    #[test]
    fn a_counter_of_zero_is_not_an_absent_key() {
        let generation = Generation::random();
        let (zero, absent) = (
            give(generation, Some(&Found::Counter(0))),
            give(generation, None),
        );
        assert_ne!(zero, absent);
    }
}
