//! Waiting before something is asked for again.

use std::time::Duration;

use tokio::time::sleep;

/// Pauses that grow and differ between those who wait.
pub(super) struct Pauses {
    left: Duration,
    next: Duration,
}

impl Pauses {
    /// Pauses that take no longer than `limit` together.
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
