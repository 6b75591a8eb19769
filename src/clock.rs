//! The only place where larder reads time.
//!
//! Wall time is the system's, moved by how far tokio's clock is from the real one, so that `tokio::time::pause` and
//! `advance` drive expiry and HTTP ages in tests. In ordinary programs the two clocks are the same.

use std::{
    fmt,
    sync::{
        LazyLock,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// A point in wall time, in whole milliseconds since the Unix epoch.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use larder::Timestamp;
///
/// let later = Timestamp::from_millis(1_000) + Duration::from_secs(2);
/// assert_eq!(later.as_millis(), 3_000);
/// assert_eq!(later.since(Timestamp::from_millis(1_000)), Duration::from_secs(2));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The present, by larder's clock: one reading of the monotonic clock, about 25 ns.
    pub fn now() -> Self {
        now()
    }

    /// The point `millis` milliseconds after the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// The point `seconds` seconds after the Unix epoch.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since the Unix epoch.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// The time from `earlier` to `self`; zero when `earlier` is the later one.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;

    /// Saturates at the end of time, and rounds parts of a millisecond up, so that a TTL is never cut to nothing.
    fn add(self, duration: Duration) -> Self {
        let millis = duration.as_nanos().div_ceil(1_000_000);
        Self(
            self.0
                .saturating_add(u64::try_from(millis).unwrap_or(u64::MAX)),
        )
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}s", self.0 / 1000, self.0 % 1000)
    }
}

/// How long the distance between the two system clocks is taken for constant: a changed wall clock is followed within it.
const REANCHOR_NANOS: i64 = 1_000_000_000;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);
/// Wall time minus monotonic time since [`START`], in nanoseconds.
static OFFSET: AtomicI64 = AtomicI64::new(0);
/// When [`OFFSET`] was measured, in nanoseconds since [`START`]; at first so long ago that it is measured anew.
static ANCHORED: AtomicI64 = AtomicI64::new(i64::MIN / 2);

fn now() -> Timestamp {
    let elapsed = nanos_since_start(tokio::time::Instant::now().into_std());
    if elapsed.abs_diff(ANCHORED.load(Ordering::Acquire)) > REANCHOR_NANOS as u64 {
        anchor();
    }
    let nanos = elapsed.saturating_add(OFFSET.load(Ordering::Relaxed));
    Timestamp(u64::try_from(nanos / 1_000_000).unwrap_or(0))
}

/// A smaller change of the distance is one of the measurement, and would move a clock that stands still.
const TOLERANCE_NANOS: u64 = 1_000_000;

#[cold]
fn anchor() {
    let monotonic = nanos_since_start(Instant::now());
    // A pause between the two readings makes their distance larger, never smaller.
    let offset = (0..3).map(|_| distance()).min().unwrap_or_default();
    if offset.abs_diff(OFFSET.load(Ordering::Relaxed)) > TOLERANCE_NANOS {
        OFFSET.store(offset, Ordering::Relaxed);
    }
    ANCHORED.store(monotonic, Ordering::Release);
}

/// Wall time minus monotonic time, measured.
fn distance() -> i64 {
    let monotonic = nanos_since_start(Instant::now());
    let wall = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(wall.as_nanos()).unwrap_or(i64::MAX) - monotonic
}

fn nanos_since_start(instant: Instant) -> i64 {
    let start = *START;
    match instant.checked_duration_since(start) {
        Some(after) => nanos(after),
        None => -nanos(start - instant),
    }
}

/// Saturates after 292 years.
fn nanos(duration: Duration) -> i64 {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    let nanos = seconds.saturating_mul(1_000_000_000);
    nanos.saturating_add(duration.subsec_nanos().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_system_clock() {
        let system = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_millis() as u64;
        assert!(Timestamp::now().as_millis().abs_diff(system) < 1_000);
    }

    #[tokio::test(start_paused = true)]
    async fn follows_the_paused_clock_of_tokio() {
        let before = Timestamp::now();
        tokio::time::advance(Duration::from_secs(3_600)).await;
        let passed = Timestamp::now().since(before);
        assert!(passed >= Duration::from_secs(3_600), "{passed:?}");
        assert!(passed < Duration::from_secs(3_605), "{passed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_clock_stands_still_however_often_it_is_read() {
        // So far from the real time that the two clocks are compared at every reading.
        tokio::time::advance(Duration::from_secs(3_600)).await;
        for _ in 0..20_000 {
            // To any part of a millisecond, so that some are close to its end.
            tokio::time::advance(Duration::from_nanos(100)).await;
            let first = Timestamp::now();
            for _ in 0..20 {
                assert_eq!(Timestamp::now(), first);
            }
        }
    }

    #[test]
    fn a_part_of_a_millisecond_rounds_up() {
        assert_eq!(
            (Timestamp::from_millis(5) + Duration::from_nanos(1)).as_millis(),
            6
        );
    }
}
