use std::{
    convert::Infallible,
    fmt,
    future::Future,
    sync::{Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::{
    runtime::Handle,
    sync::{Mutex as AsyncMutex, mpsc},
};

/// Writes that go on in the background, and the means to wait for them.
///
/// Every write holds a clone of a sender that is never sent on; when the last clone is gone, so are the writes.
pub(crate) struct Writes {
    current: Mutex<(mpsc::Sender<Infallible>, mpsc::Receiver<Infallible>)>,
    /// Batches that a flush waits for. They stay here until they ended, so that a cancelled flush loses none.
    ending: AsyncMutex<Vec<mpsc::Receiver<Infallible>>>,
}

/// A write in the background; dropping it says that it ended.
pub(crate) struct Write {
    _ended: mpsc::Sender<Infallible>,
}

impl Default for Writes {
    fn default() -> Self {
        Self {
            current: Mutex::new(mpsc::channel(1)),
            ending: AsyncMutex::default(),
        }
    }
}

impl Writes {
    pub(crate) fn begin(&self) -> Write {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        Write {
            _ended: current.0.clone(),
        }
    }

    /// Does as much of a write as can be done at once, which in memory is all of it, and the rest in a task.
    pub(crate) fn run(
        &self,
        work: impl Future<Output = ()> + Send + 'static,
        cx: Option<&mut Context<'_>>,
    ) {
        let write = self.begin();
        let mut noop = Context::from_waker(Waker::noop());
        let mut work = Box::pin(work);
        if work.as_mut().poll(cx.unwrap_or(&mut noop)) == Poll::Pending
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(async move {
                work.await;
                drop(write);
            });
        }
    }

    /// Waits for the writes begun before the call.
    pub(crate) async fn flush(&self) {
        let mut ending = self.ending.lock().await;
        {
            let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            let (_, receiver) = std::mem::replace(&mut *current, mpsc::channel(1));
            ending.push(receiver);
        }
        while let Some(batch) = ending.last_mut() {
            batch.recv().await;
            ending.pop();
        }
    }
}

impl fmt::Debug for Writes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writes")
    }
}
