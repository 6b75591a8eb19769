//! Waiting for others to be done with a record.

use std::time::Duration;

use tokio::time::sleep;

use super::error::is_busy;

/// Asks again, with growing pauses, while too many others write to the same record. The server has done nothing then.
pub(super) async fn patiently<T, F>(limit: Duration, ask: impl Fn() -> F) -> aerospike::Result<T>
where
    F: Future<Output = aerospike::Result<T>>,
{
    let mut pauses = Pauses::new(limit);
    loop {
        match ask().await {
            Err(error) if is_busy(&error) && pauses.next().await => {}
            answer => return answer,
        }
    }
}

/// Pauses that grow and differ between those who wait.
pub(super) struct Pauses {
    left: Duration,
    next: Duration,
}

impl Pauses {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            left: limit,
            next: Duration::from_millis(1),
        }
    }

    /// Waits, unless all the time has been waited for.
    pub(super) async fn next(&mut self) -> bool {
        if self.left.is_zero() {
            return false;
        }
        let mut random = [0; 1];
        // Without randomness all wait alike, which is no failure.
        let _ = getrandom::fill(&mut random);
        let pause = self.next.mul_f32(0.5 + f32::from(random[0]) / 256.0);
        let pause = pause.min(self.left);
        sleep(pause).await;
        self.left -= pause;
        self.next = (2 * self.next).min(Duration::from_millis(16));
        true
    }
}
