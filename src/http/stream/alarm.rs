use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Wake, Waker},
};

/// Wakes everybody who waits for more of a body.
///
/// Whoever is woken first goes on; waking all of them means that none has to rely on another one being polled. Whenever
/// the body is ready, everybody who has waited until then has been woken.
#[derive(Default)]
pub(super) struct Alarm(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    /// The body was polled, and has not said since then that polling it again is worth it.
    is_waited_for: bool,
    /// By the reader's number.
    wakers: Vec<Option<Waker>>,
}

impl Waiting {
    fn add(&mut self, id: usize, waker: &Waker) {
        if self.wakers.len() <= id {
            self.wakers.resize(id + 1, None);
        }
        match &mut self.wakers[id] {
            Some(known) => known.clone_from(waker),
            empty => *empty = Some(waker.clone()),
        }
    }
}

impl Alarm {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes everybody; the body is worth polling.
    pub(super) fn ring(&self) {
        let mut waiting = self.lock();
        waiting.is_waited_for = false;
        let wakers = std::mem::take(&mut waiting.wakers);
        drop(waiting);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Waits until somebody rings.
    pub(super) fn wait(&self, id: usize, waker: &Waker) {
        self.lock().add(id, waker);
    }

    /// Takes it on to poll the body, or waits when that is no use yet.
    pub(super) fn is_ready_or_wait(&self, id: usize, waker: &Waker) -> bool {
        let mut waiting = self.lock();
        if waiting.is_waited_for {
            waiting.add(id, waker);
            return false;
        }
        waiting.is_waited_for = true;
        true
    }

    /// The body had nothing: waits, unless it has rung since it was polled. Then everybody is to try again, but not here
    /// and now: a body that wants to give way to others does so by ringing at once.
    pub(super) fn wait_for_body(&self, id: usize, waker: &Waker) {
        let mut waiting = self.lock();
        waiting.add(id, waker);
        let has_rung = !waiting.is_waited_for;
        drop(waiting);
        if has_rung {
            self.ring();
        }
    }

    pub(super) fn forget(&self, id: usize) {
        if let Some(waker) = self.lock().wakers.get_mut(id) {
            *waker = None;
        }
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}
