use std::{
    fmt,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use super::{Reason, Reasons};
use crate::{BreakerState, Usage};

const SHARDS: usize = 8;

macro_rules! counts {
    ($($(#[$doc:meta])* $event:ident => $field:ident),* $(,)?) => {
        /// Something that is counted.
        #[derive(Clone, Copy)]
        pub(crate) enum Event { $($event),* }

        const EVENTS: usize = [$(Event::$event),*].len();

        /// What a cache has done since it was made, and what its backend holds now.
        ///
        /// A reading, not a live view: taking it costs a few dozen loads and changes nothing.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $field: u64,)*
            /// Why requests were not answered from the store, and responses not stored.
            pub reasons: Reasons,
            /// Loads and requests under way that others may be waiting for.
            pub flights: u64,
            /// Bytes that response bodies take on their way into the store, or have reserved there
            /// ([`CacheLayer::max_in_flight_bytes`](crate::CacheLayer::max_in_flight_bytes)).
            pub http_in_flight_bytes: u64,
            /// Entries and bytes held, where the backend can tell without counting.
            pub usage: Option<Usage>,
            /// Whether calls to a backend outside this process go through.
            pub breaker: BreakerState,
            /// How often they stopped doing so.
            pub outages: u64,
            /// Invalidations that the backend has missed and will get before anything is read from it.
            pub pending_invalidations: u64,
        }

        impl Counters {
            pub(crate) fn read(&self) -> Stats {
                Stats {
                    $($field: self.sum(Event::$event),)*
                    reasons: Reasons::read(|reason| self.total(|shard| &shard.reasons.0[reason as usize])),
                    flights: 0,
                    http_in_flight_bytes: 0,
                    usage: None,
                    breaker: BreakerState::Closed,
                    outages: 0,
                    pending_invalidations: 0,
                }
            }
        }
    };
}

counts! {
    /// Values found.
    Hit => hits,
    /// Values not found.
    Miss => misses,
    /// Entries kept.
    Put => puts,
    /// Entries removed.
    Delete => deletes,
    /// Loaders that were run by `get_or_load` and `get_or_load_many`.
    Load => loads,
    /// Loaders that failed.
    LoadError => load_errors,
    /// Calls that were given the result of another call's loader.
    LoadShared => loads_shared,
    /// Loaded values that were not kept, because the key was invalidated meanwhile.
    LoadLate => loads_late,
    /// Tags that were invalidated or expired.
    TagInvalidated => tag_invalidations,
    /// Stored bytes that could not be read and were taken for absent.
    Damaged => damaged,
    /// Failures of the backend, and loaded values that could not be written.
    Error => errors,
    /// Requests answered from a fresh stored response, 304 included.
    HttpHit => http_hits,
    /// Requests answered from a stale stored response.
    HttpStale => http_stale,
    /// Requests forwarded because nothing stored could answer them.
    HttpMiss => http_misses,
    /// Stored responses that were revalidated with a 304.
    HttpRevalidated => http_revalidated,
    /// Requests that the layer let through without looking.
    HttpBypass => http_bypasses,
    /// Requests answered by the response to another request under way.
    HttpCollapsed => http_collapsed,
    /// Responses stored.
    HttpStored => http_stored,
    /// Responses not stored although the request would have allowed it.
    HttpRefused => http_refused,
    /// Response bodies that broke off, or were given up by their client, before they could be stored.
    HttpBroken => http_broken,
    /// URIs whose stored responses were invalidated by an unsafe request.
    HttpInvalidated => http_invalidated,
}

/// Counters of their own for groups of threads, so that counting a hit is no meeting point.
pub(crate) struct Counters {
    shards: [Shard; SHARDS],
}

/// As large as two cache lines, which processors fetch in pairs.
#[repr(align(128))]
#[derive(Default)]
struct Shard {
    events: Numbers<EVENTS>,
    reasons: Numbers<{ Reason::ALL.len() }>,
}

struct Numbers<const N: usize>([AtomicU64; N]);

impl<const N: usize> Default for Numbers<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

thread_local! {
    static SHARD: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS
    };
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Shard::default()),
        }
    }
}

impl Counters {
    pub(crate) fn add(&self, event: Event, count: u64) {
        self.shard().events.0[event as usize].fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn count(&self, event: Event) {
        self.add(event, 1);
    }

    pub(crate) fn reason(&self, reason: Reason) {
        self.shard().reasons.0[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn shard(&self) -> &Shard {
        // The thread's shard is gone only while the thread ends.
        &self.shards[SHARD.try_with(|shard| *shard).unwrap_or(0)]
    }

    fn sum(&self, event: Event) -> u64 {
        self.total(|shard| &shard.events.0[event as usize])
    }

    fn total(&self, number: impl Fn(&Shard) -> &AtomicU64) -> u64 {
        let read = |shard| number(shard).load(Ordering::Relaxed);
        self.shards.iter().map(read).sum()
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.read().fmt(f)
    }
}
