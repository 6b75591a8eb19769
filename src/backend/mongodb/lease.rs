//! What is noted of a key when a load begins.

use super::{
    super::{absence, generation::Generation},
    commands::Condition,
    stored::Stored,
};
use crate::Lease;

/// Lowest bit of a lease's last number, where there was no document.
const ABSENT: u64 = 1;

/// A lease on what was found.
pub(super) fn give(generation: Generation, found: Option<&Stored>) -> Lease {
    let (version, invalidation) = match found {
        Some(stored) => (stored.version, 0),
        None => (0, absence::STEPS.now() << 1 | ABSENT),
    };
    Lease {
        generation: generation.as_u64(),
        version,
        invalidation,
    }
}

/// The condition that a lease stands for; `None` where it has ended whatever the server says.
pub(super) fn condition(lease: Lease, generation: Generation) -> Option<Condition> {
    if lease.generation != generation.as_u64() {
        return None;
    }
    match lease.invalidation {
        0 => Some(Condition::Version(lease.version)),
        given if absence::STEPS.is_recent(given >> 1) => Some(Condition::NoDocument),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::absence::TRACE;

    #[tokio::test(start_paused = true)]
    async fn a_lease_on_an_absent_key_grows_old() {
        let generation = Generation::random();
        let lease = give(generation, None);
        assert!(condition(lease, generation).is_some());
        tokio::time::advance(TRACE).await;
        assert!(condition(lease, generation).is_none());
    }

    #[test]
    fn a_lease_of_another_generation_has_ended() {
        let lease = give(Generation::random(), None);
        assert!(condition(lease, Generation::random()).is_none());
    }
}
