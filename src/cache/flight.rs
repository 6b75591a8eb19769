//! Flights: several callers for one key wait for the work of one.

use std::{
    any::Any,
    collections::HashMap,
    hash::BuildHasher,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use foldhash::fast::RandomState;
use tokio::sync::{Semaphore, watch};

use crate::Key;

const SHARDS: usize = 16;

/// The flights under way, by key. `O` is what a leader leaves to its followers.
pub(crate) struct Flights<O> {
    shards: [Shard<O>; SHARDS],
    hasher: RandomState,
}

/// Ids are unique in the process, so that flights of different caches can be told apart.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

type Shard<O> = Mutex<HashMap<Key, Under<O>, RandomState>>;

struct Under<O> {
    id: u64,
    told: watch::Sender<Told<O>>,
    /// The markers of the tags that what is loaded will have.
    tags: Option<Arc<[Key]>>,
}

/// What a leader has told so far.
struct Told<O> {
    outcome: Option<O>,
    /// It waits for the backend, and not for the work itself.
    is_asking: bool,
}

/// What a caller has become by asking to join.
pub(crate) enum Joined<O> {
    /// The one who does the work.
    Leader(Leader<O>),
    /// One who waits for it.
    Follower(Follower<O>),
}

impl<O> Default for Flights<O> {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::default(),
        }
    }
}

impl<O: Clone + Send + Sync> Flights<O> {
    /// Joins the flight for `key`, or begins it.
    pub(crate) fn join(self: &Arc<Self>, key: &Key) -> Joined<O> {
        self.join_tagged(key, None)
    }

    /// [`join`](Self::join), with the markers of the tags that what this caller would load has.
    pub(crate) fn join_tagged(self: &Arc<Self>, key: &Key, tags: Option<Arc<[Key]>>) -> Joined<O> {
        let mut shard = self.shard(key);
        if let Some(under) = shard.get(key) {
            let told = under.told.subscribe();
            return Joined::Follower(Follower { id: under.id, told });
        }
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let sender = watch::Sender::new(Told {
            outcome: None,
            is_asking: false,
        });
        let told = sender.clone();
        shard.insert(key.clone(), Under { id, told, tags });
        Joined::Leader(Leader {
            id,
            key: key.clone(),
            sender,
            flights: self.clone(),
        })
    }

    /// Lets the flight for `key` end for those who are in it; who asks from now on begins another.
    pub(crate) fn detach(&self, key: &Key) {
        self.shard(key).remove(key);
    }

    /// Detaches every flight whose key is chosen.
    pub(crate) fn detach_all(&self, chosen: impl Fn(&Key) -> bool) {
        for shard in &self.shards {
            lock(shard).retain(|key, _| !chosen(key));
        }
    }

    /// Detaches every flight that has one of these tags.
    pub(crate) fn detach_tagged(&self, markers: &[Key]) {
        let has_one = |tags: &Arc<[Key]>| tags.iter().any(|tag| markers.contains(tag));
        for shard in &self.shards {
            lock(shard).retain(|_, under| !under.tags.as_ref().is_some_and(has_one));
        }
    }

    /// How many flights are under way.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }
}

impl<O> Flights<O> {
    /// [`detach`](Self::detach) for this one flight; after that another may be there.
    pub(crate) fn end(&self, key: &Key, id: u64) {
        let mut shard = self.shard(key);
        if shard.get(key).is_some_and(|under| under.id == id) {
            shard.remove(key);
        }
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, HashMap<Key, Under<O>, RandomState>> {
        lock(&self.shards[self.hasher.hash_one(key) as usize % SHARDS])
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The map is whole after every statement, so a panic elsewhere leaves nothing broken.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does the work of a flight. Dropping it without an outcome, by a panic or a cancelled caller, hands the flight over:
/// its followers join again, and the first of them leads.
pub(crate) struct Leader<O> {
    id: u64,
    key: Key,
    sender: watch::Sender<Told<O>>,
    flights: Arc<Flights<O>>,
}

impl<O> Leader<O> {
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// Gives the followers their outcome. Until the leader is dropped, later callers get it at once.
    pub(crate) fn announce(&self, outcome: O) {
        self.tell(|told| told.outcome = Some(outcome));
    }

    /// Changes what is told, and wakes those who wait. Most leaders have no followers, and waking nobody costs more than
    /// all else here; one who comes at this moment looks at what is told after it was changed.
    fn tell(&self, change: impl FnOnce(&mut Told<O>)) {
        self.sender.send_if_modified(|told| {
            change(told);
            self.sender.receiver_count() > 0
        });
    }

    /// Tells the followers that the leader waits for the backend, until the guard is dropped: they wait for it too.
    pub(crate) fn ask(&self) -> Asking<'_, O> {
        self.tell(|told| told.is_asking = true);
        Asking(self)
    }

    /// Takes back the outcome and ends the flight, as if the leader had left without one.
    pub(crate) fn retract(&self) {
        self.leave();
        self.tell(|told| told.outcome = None);
    }

    /// Ends the flight, and then gives its followers their outcome: who asks again begins another.
    pub(crate) fn land(self, outcome: O) {
        self.leave();
        self.announce(outcome);
    }

    fn leave(&self) {
        self.flights.end(&self.key, self.id);
    }
}

impl<O> Drop for Leader<O> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// A leader waits for the backend while this lives.
pub(crate) struct Asking<'a, O>(&'a Leader<O>);

impl<O> Drop for Asking<'_, O> {
    fn drop(&mut self) {
        self.0.tell(|told| told.is_asking = false);
    }
}

/// Waits for the outcome of a flight.
pub(crate) struct Follower<O> {
    id: u64,
    told: watch::Receiver<Told<O>>,
}

/// What a follower waits for.
pub(crate) enum Phase<O> {
    /// The backend, which the leader asks.
    Backend,
    /// Nothing more: the outcome, or `None` when the leader left without one.
    Over(Option<O>),
}

impl<O: Clone> Follower<O> {
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The outcome, or `None` when the leader left without one.
    pub(crate) async fn outcome(mut self) -> Option<O> {
        let told = self.told.wait_for(|told| told.outcome.is_some()).await;
        told.ok()?.outcome.clone()
    }

    /// Waits until there is an outcome that this one waits for, or the leader asks the backend.
    pub(crate) async fn phase(&mut self, is_awaited: impl Fn(&O) -> bool) -> Phase<O> {
        let is_over = |told: &Told<O>| told.outcome.as_ref().is_some_and(&is_awaited);
        match self
            .told
            .wait_for(|told| is_over(told) || told.is_asking)
            .await
        {
            Ok(told) if !is_over(&told) => Phase::Backend,
            Ok(told) => Phase::Over(told.outcome.clone()),
            Err(_) => Phase::Over(None),
        }
    }

    /// Waits until the leader asks the backend no more.
    pub(crate) async fn answered(&mut self) {
        let is_over = |told: &Told<O>| told.outcome.is_some() || !told.is_asking;
        // A leader that has left asks nothing either.
        let _ = self.told.wait_for(is_over).await;
    }
}

/// What the leader of a collapsed request leaves to those who waited for it.
#[derive(Clone, Debug)]
pub(crate) enum Landing {
    /// Something was stored that may answer them, or tells which variant to wait for.
    LookAgain,
    /// The response has come, and its body is under way: what that is, `http` knows.
    Shared(Arc<dyn Any + Send + Sync>),
    /// The response is not for them: each runs by itself.
    Unshared,
    /// The inner service failed: each runs by itself, a few at a time.
    Failed(Arc<Semaphore>),
}
