use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{runtime::Handle, task::AbortHandle};

use super::Shared;
use crate::Timestamp;

/// How often expired entries are looked for, when one is due.
const INTERVAL: Duration = Duration::from_secs(5);
/// After so many removals the sweeper lets others run.
const STEP: usize = 4096;

/// The background task that frees what expired unread.
///
/// It runs on the runtime of whoever needed it first, and is started again when that runtime has ended.
#[derive(Default)]
pub(super) struct Sweeper {
    running: AtomicBool,
    task: Mutex<Option<AbortHandle>>,
}

impl Sweeper {
    /// Starts the task unless it runs already. Without a runtime nothing is swept: expiry on reading is exact anyway.
    pub(super) fn start(&self, shared: &Arc<Shared>) {
        if self.running.load(Ordering::Relaxed) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if self.running.swap(true, Ordering::AcqRel) {
            return;
        }
        let running = Running(Arc::downgrade(shared));
        let task = runtime.spawn(run(running)).abort_handle();
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    pub(super) fn stop(&self) {
        if let Some(task) = self
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            task.abort();
        }
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Says that the sweeper runs, until the task ends or its runtime drops it. After a panic it goes on saying so: a runtime
/// without timers would panic again with every write.
struct Running(Weak<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        if !std::thread::panicking()
            && let Some(shared) = self.0.upgrade()
        {
            shared.sweeper.running.store(false, Ordering::Release);
        }
    }
}

async fn run(running: Running) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let Some(shared) = running.0.upgrade() else {
            return;
        };
        while shared.sweep(Timestamp::now(), STEP) >= STEP {
            tokio::task::yield_now().await;
        }
    }
}
