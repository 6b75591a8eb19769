//! A handler that uses the cache by itself, and what its calls are answered while the backend fails.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use larder::{Cache, Error, ErrorKind};
use tokio::time::sleep;

/// What `Cache::get` and `Cache::put` of one key were answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calls {
    /// The times that failing calls took, by what they failed with.
    failures: BTreeMap<String, Vec<Duration>>,
    /// How often a value came back that is older than one whose put was acknowledged before.
    pub(crate) stale: u64,
    /// The longest call, whatever it was answered.
    pub(crate) longest: Duration,
}

impl Calls {
    fn note<T>(&mut self, answer: &Result<T, Error>, taken: Duration) {
        self.longest = self.longest.max(taken);
        if let Err(error) = answer {
            let kind = kind(error.kind());
            self.failures.entry(kind).or_default().push(taken);
        }
    }
}

fn kind(kind: ErrorKind) -> String {
    format!("`{kind:?}`")
}

/// Puts a number that grows and gets it again, until it is told to stop.
pub(super) async fn go_on(
    cache: Cache,
    calls: Arc<Mutex<Calls>>,
    stop: Arc<AtomicBool>,
    pause: Duration,
) {
    const KEY: &str = "a handler's own";
    let (mut number, mut least) = (0_u64, 0);
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let begun = Instant::now();
        let put = cache.put(KEY, number).await;
        calls.lock().unwrap().note(&put, begun.elapsed());
        if let Ok(true) = put {
            least = number;
        }
        sleep(pause).await;
        let begun = Instant::now();
        let got = cache.get::<u64>(KEY).await;
        let mut calls = calls.lock().unwrap();
        calls.note(&got, begun.elapsed());
        if got.is_ok_and(|got| got.is_some_and(|got| got < least)) {
            calls.stale += 1;
        }
    }
}

/// The kinds of failures, the most frequent first, each with its usual and its longest time.
impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut failures: Vec<_> = self.failures.iter().collect();
        failures.sort_by_key(|(_, times)| std::cmp::Reverse(times.len()));
        if failures.is_empty() {
            return write!(f, "no error, {}", Short(self.longest));
        }
        for (number, (kind, times)) in failures.iter().enumerate() {
            let mut times = (*times).clone();
            times.sort_unstable();
            let (usual, longest) = (times[times.len() / 2], times[times.len() - 1]);
            let comma = if number == 0 { "" } else { "; " };
            write!(
                f,
                "{comma}{kind} in {}, at most {}",
                Short(usual),
                Short(longest)
            )?;
        }
        Ok(())
    }
}

/// A time in the unit that suits it.
struct Short(Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_micros() {
            micros @ 0..1_000 => write!(f, "{micros} µs"),
            micros => write!(f, "{} ms", micros.div_ceil(1_000)),
        }
    }
}
