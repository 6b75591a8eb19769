//! Flights: several callers for one key wait for the work of one.

use std::{
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
    outcome: watch::Receiver<Option<O>>,
    /// The markers of the tags that what is loaded will have.
    tags: Option<Arc<[Key]>>,
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
            let outcome = under.outcome.clone();
            return Joined::Follower(Follower {
                id: under.id,
                outcome,
            });
        }
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let (sender, outcome) = watch::channel(None);
        shard.insert(key.clone(), Under { id, outcome, tags });
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
    sender: watch::Sender<Option<O>>,
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
        self.sender.send_replace(Some(outcome));
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

/// Waits for the outcome of a flight.
pub(crate) struct Follower<O> {
    id: u64,
    outcome: watch::Receiver<Option<O>>,
}

impl<O: Clone> Follower<O> {
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The outcome, or `None` when the leader left without one.
    pub(crate) async fn outcome(mut self) -> Option<O> {
        self.outcome.wait_for(Option::is_some).await.ok()?.clone()
    }
}

/// What the leader of a collapsed request leaves to those who waited for it.
#[derive(Clone, Debug)]
pub(crate) enum Landing {
    /// Something was stored that may answer them, or tells which variant to wait for.
    LookAgain,
    /// The response is not for them: each runs by itself.
    Unshared,
    /// The inner service failed: each runs by itself, a few at a time.
    Failed(Arc<Semaphore>),
}
