//! For tests of your own: [`LeakTest`], which looks for what a cached service gives to the wrong visitor, and the
//! behaviour suite for people who write a backend.
//!
//! # The behaviour suite
//!
//! A backend is done when the suite passes for the capabilities that it declares. The suite needs a function that
//! starts a client of the backend; it calls it for every behaviour, and twice where
//! [`shared`](crate::Capabilities::shared) is declared, so that races are run between two clients. Each call has to
//! lead to the same server, or the same file.
//!
//! ```
//! use larder::Memory;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let report = larder::testing::suite(|| async { Memory::new() }).await;
//! assert!(report.passed().any(|name| name == "a_value_reads_as_it_was_put"));
//! # }
//! ```
//!
//! # Writing a backend
//!
//! Implement [`Backend`]; its documentation is the contract, and the suite checks it.
//!
//! * Store an entry as [`Entry::to_bytes`](crate::Entry::to_bytes) under [`Key::encoded`](crate::Key::encoded), and read
//!   it with [`Entry::from_bytes`](crate::Entry::from_bytes). Where the server limits keys, shorten long ones by a
//!   strong hash; never cut them.
//! * Give the server [`Entry::remaining`](crate::Entry::remaining) as its TTL, rounded **up** to what it can count, and
//!   look at [`Entry::is_expired`](crate::Entry::is_expired) when reading.
//! * Give what was read a version with [`Entry::with_version`](crate::Entry::with_version): the server's own (cas,
//!   revision), or a hash of the stored bytes.
//! * Keep counters as the server's own integers, and give them out as [`Entry::counter`](crate::Entry::counter).
//! * Declare in [`Capabilities`] what the server can do in one atomic step, and answer with
//!   [`Error::unsupported`](crate::Error::unsupported) to the rest.
//!
//! `examples/custom_backend.rs` in the repository is a whole one.
//!
//! # Running the suite
//!
//! Each behaviour runs in a random namespace, so runs can share a server. What they put there ends within ten minutes,
//! or is removed.
//!
//! * In process, run it under tokio's paused clock (`start_paused = true`): no test waits.
//! * Against a server, run it in real time: under a paused clock every time-out fires at once. Expiry is waited for, as
//!   shortly as [`ttl_resolution`](crate::Capabilities::ttl_resolution) permits.
//! * On a runtime with several threads the races (`concurrent_…`) are the sharper ones.
//!
//! For one test result a behaviour, go through [`behaviours`] and run each by itself with [`Behaviour::run`].

/// Behaviours from the functions that check them, under what they need.
macro_rules! behaviours {
    ($($needs:expr => $($check:ident)+;)*) => {
        &[$($(Behaviour {
            name: stringify!($check),
            needs: $needs,
            check: |stage| Box::pin($check(stage)),
        },)+)*]
    };
}

mod buckets;
mod clearing;
mod conditions;
mod counters;
mod dropping;
mod expiry;
mod keys;
mod leaks;
mod leases;
mod lifecycle;
mod many;
mod races;
mod refusals;
mod report;
mod stage;
mod tags;
mod values;

use std::{
    any::Any,
    fmt,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use crate::{Backend, Capabilities, Result};

use stage::{Need, Stage};

pub use leaks::{Leak, LeakKind, LeakReport, LeakTest};
pub use report::{Outcome, Report};

/// Runs every behaviour on the backend that `start` gives a client of, and prints a table of what passed, what was
/// left out for which capability, and what failed.
///
/// # Panics
///
/// When a behaviour fails, with the names and reasons of all that failed. [`examine`] neither prints nor panics.
pub async fn suite<B, F>(start: impl Fn() -> F) -> Report
where
    B: Backend,
    F: Future<Output = B>,
{
    let report = examine(start).await;
    println!("{report}");
    let failed: Vec<_> = report.failed().collect();
    assert!(failed.is_empty(), "the backend fails: {failed:#?}");
    report
}

/// Runs every behaviour as [`suite`] does, and leaves the judgement to the caller.
pub async fn examine<B, F>(start: impl Fn() -> F) -> Report
where
    B: Backend,
    F: Future<Output = B>,
{
    let mut report = Report::default();
    for behaviour in behaviours() {
        report.add(behaviour.name(), behaviour.run(&start).await);
    }
    report
}

/// Runs every behaviour as [`examine`] does, on keys in a bucket: for backends that keep buckets in a way of their own.
///
/// # Examples
///
/// ```
/// use larder::{Memory, testing::examine_in_bucket};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let report = examine_in_bucket(|| async { Memory::new() }).await;
/// assert_eq!(report.failed().count(), 0);
/// # }
/// ```
pub async fn examine_in_bucket<B, F>(start: impl Fn() -> F) -> Report
where
    B: Backend,
    F: Future<Output = B>,
{
    let mut report = Report::default();
    for behaviour in behaviours() {
        let outcome = behaviour.run_in(&start, Some("bucket: \u{e9}")).await;
        report.add(behaviour.name(), outcome);
    }
    report
}

/// Every behaviour there is.
///
/// # Examples
///
/// ```
/// use larder::{Memory, testing::{Outcome, behaviours}};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// for behaviour in behaviours().filter(|it| it.name().starts_with("a_counter")) {
///     assert_eq!(behaviour.run(&|| async { Memory::new() }).await, Outcome::Passed);
/// }
/// # }
/// ```
pub fn behaviours() -> impl Iterator<Item = &'static Behaviour> {
    let topics = [
        values::ALL,
        keys::ALL,
        many::ALL,
        conditions::ALL,
        expiry::ALL,
        counters::ALL,
        clearing::ALL,
        buckets::ALL,
        leases::ALL,
        tags::ALL,
        races::ALL,
        dropping::ALL,
        lifecycle::ALL,
        refusals::ALL,
    ];
    topics.into_iter().flatten()
}

/// One thing that backends do, and the check that this one does it.
pub struct Behaviour {
    name: &'static str,
    needs: &'static [Need],
    check: fn(Stage) -> Check,
}

type Check = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// A check that takes so long hangs.
const LIMIT: Duration = Duration::from_secs(60);

impl Behaviour {
    /// What the backend does: a sentence in snake case.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The capability that a backend lacks for this, if it lacks one.
    pub fn missing(&self, capabilities: &Capabilities) -> Option<&'static str> {
        let missing = self.needs.iter().find(|need| !(need.met)(capabilities));
        missing.map(|need| need.name)
    }

    /// Checks this one behaviour, where the backend declares what it needs. A panic is a failure.
    pub async fn run<B, F>(&self, start: &impl Fn() -> F) -> Outcome
    where
        B: Backend,
        F: Future<Output = B>,
    {
        self.run_in(start, None).await
    }

    async fn run_in<B, F>(&self, start: &impl Fn() -> F, bucket: Option<&'static str>) -> Outcome
    where
        B: Backend,
        F: Future<Output = B>,
    {
        match catch(self.check(start, bucket)).await {
            Ok(outcome) => outcome,
            Err(panic) => Outcome::Failed(message(&*panic)),
        }
    }

    async fn check<B, F>(&self, start: &impl Fn() -> F, bucket: Option<&'static str>) -> Outcome
    where
        B: Backend,
        F: Future<Output = B>,
    {
        let backend: Arc<dyn Backend> = Arc::new(start().await);
        let capabilities = backend.capabilities();
        if let Some(missing) = self.missing(&capabilities) {
            return Outcome::Skipped(missing);
        }
        let other = if capabilities.shared {
            Arc::new(start().await)
        } else {
            backend.clone()
        };
        let stage = Stage::new(backend, other, bucket);
        let limit = LIMIT + 10 * capabilities.ttl_resolution;
        let outcome = match tokio::time::timeout(limit, (self.check)(stage.clone())).await {
            Ok(Ok(())) => Outcome::Passed,
            Ok(Err(error)) => Outcome::Failed(error.to_string()),
            Err(_) => Outcome::Failed(format!("it hangs: no end within {limit:?}")),
        };
        stage.end().await;
        outcome
    }
}

impl fmt::Debug for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Behaviour").field(&self.name).finish()
    }
}

/// The result of `future`, or what it panicked with.
async fn catch<T>(future: impl Future<Output = T>) -> Result<T, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    // Nothing that the panic broke is seen again: the future is not polled any more.
    poll_fn(
        |context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        },
    )
    .await
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".into())
}
