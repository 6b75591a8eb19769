//! How long a request waits for the backend, all its questions together.

use std::{
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::{Instant, timeout};

/// What is left of the time-out of one call, for all that a request asks.
///
/// Every call has its own limit, and a request makes several; where each is slow and none fails, only this keeps their
/// sum within bounds.
#[derive(Debug)]
pub(super) struct Patience {
    limit: Option<Duration>,
    /// In microseconds.
    waited: AtomicU64,
}

impl Patience {
    /// Patience for as long as one call may take; without end where calls have no limit.
    pub(super) fn new(limit: Option<Duration>) -> Self {
        Self {
            limit,
            waited: AtomicU64::new(0),
        }
    }

    /// [`wait`](Self::wait) for several answers, of which each has the limit of one call and all together do not.
    pub(super) async fn wait_for_all<T>(
        &self,
        answers: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        self.waited.fetch_max(1, Ordering::Relaxed);
        self.wait(answers).await
    }

    /// Waits for an answer; `None` when the request has waited for long enough.
    ///
    /// The answer is pinned where it is asked for: moved in here it would be in the caller's own future several times.
    pub(super) async fn wait<T>(&self, answer: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        let Some(limit) = self.limit else {
            return Some(answer.await);
        };
        let begun = Instant::now();
        let answer = match self.waited.load(Ordering::Relaxed) {
            // The call itself has this limit.
            0 => Some(answer.await),
            waited => {
                let left = limit.saturating_sub(Duration::from_micros(waited));
                timeout(left, answer).await.ok()
            }
        };
        let waited = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.waited.fetch_add(waited.max(1), Ordering::Relaxed);
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::time::sleep;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(250);

    #[tokio::test(start_paused = true)]
    async fn slow_answers_add_up() {
        let (patience, begun) = (Patience::new(Some(LIMIT)), Instant::now());
        let slow = || sleep(Duration::from_millis(100));
        assert!(patience.wait(pin!(slow())).await.is_some());
        assert!(patience.wait(pin!(slow())).await.is_some());
        assert!(patience.wait(pin!(slow())).await.is_none());
        assert!(patience.wait(pin!(slow())).await.is_none());
        assert!(begun.elapsed() <= LIMIT + Duration::from_millis(5));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_answer_is_left_to_its_own_limit() {
        let patience = Patience::new(Some(LIMIT));
        assert!(patience.wait(pin!(sleep(2 * LIMIT))).await.is_some());
        assert!(patience.wait(pin!(sleep(LIMIT))).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn several_answers_have_one_limit() {
        let (patience, begun) = (Patience::new(Some(LIMIT)), Instant::now());
        assert!(
            patience
                .wait_for_all(pin!(sleep(2 * LIMIT)))
                .await
                .is_none()
        );
        assert!(begun.elapsed() <= LIMIT + Duration::from_millis(5));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_there_is_no_end() {
        let patience = Patience::new(None);
        for _ in 0..5 {
            assert!(patience.wait(pin!(sleep(10 * LIMIT))).await.is_some());
        }
    }
}
