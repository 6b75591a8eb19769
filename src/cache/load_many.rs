//! The batch form of `get_or_load`.

use std::{
    any::TypeId,
    collections::{HashMap, HashSet},
    future::Future,
    sync::Arc,
};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    Cache, LoadError,
    flight::{Follower, Joined, Leader},
    generation::Load,
    keeping::Keeping,
    load::Loaded,
    stats::Event,
    tags::Stamped,
    waiting::Place,
};
use crate::Key;

/// What is known by key: a value, or that there is none.
type Known<T> = HashMap<Key, Option<Arc<T>>>;

/// A key of the batch that this caller loads.
struct Led<K> {
    name: K,
    key: Key,
    leader: Leader<Loaded>,
    generation: Load,
}

/// What became of a key that somebody else was loading.
enum Followed<T> {
    Value(Arc<T>),
    /// The other loader says that there is no such thing.
    Nothing,
    /// The other loader left without a result.
    HandedOver,
    /// The other loader's result is of another type.
    OtherType,
}

pub(super) async fn load_many<K, T, E, F, Fut>(
    cache: &Cache,
    names: Vec<K>,
    keeping: &Keeping,
    mut load: F,
) -> Result<Vec<Option<Arc<T>>>, LoadError<E>>
where
    K: AsRef<[u8]> + Clone,
    T: Serialize + DeserializeOwned + Send + Sync + 'static,
    E: Send + Sync + 'static,
    F: FnMut(Vec<K>) -> Fut,
    Fut: Future<Output = Result<Vec<Option<T>>, E>>,
{
    let looked: Vec<Result<Arc<T>, Key>> = names
        .iter()
        .map(|name| cache.look_shared(name.as_ref()))
        .collect();
    let mut asked = HashSet::new();
    let mut missing: Vec<(K, Key)> = names
        .into_iter()
        .zip(&looked)
        .filter_map(|(name, looked)| Some((name, looked.as_ref().err()?.clone())))
        .filter(|(_, key)| asked.insert(key.clone()))
        .collect();
    let mut known = Known::new();
    let place = Place::current();
    while !missing.is_empty() {
        let mut led = Vec::new();
        let mut followed = Vec::new();
        for (name, key) in missing.drain(..) {
            let flights = &cache.shared().value_flights;
            match flights.join_tagged(&key, keeping.tags.shared()) {
                Joined::Leader(leader) => {
                    let generation = cache.shared().generations.begin(&key).await;
                    led.push(Led {
                        name,
                        key,
                        leader,
                        generation,
                    });
                }
                Joined::Follower(follower) => followed.push((name, key, follower)),
            }
        }
        lead(cache, led, keeping, &place, &mut load, &mut known).await?;
        for (name, key, follower) in followed {
            let value = match follow(cache, &place, follower).await? {
                Followed::Value(value) => Some(value),
                Followed::Nothing => None,
                Followed::HandedOver => {
                    missing.push((name, key));
                    continue;
                }
                Followed::OtherType => {
                    if !keeping.tags.is_empty() {
                        cache.collect_stamps(&Stamped::Unknown);
                    }
                    call(cache, 1, load(vec![name])).await?.pop().flatten()
                }
            };
            known.insert(key, value);
        }
    }
    let answer = |looked| match looked {
        Ok(value) => Some(value),
        Err(key) => known.get(&key).cloned().flatten(),
    };
    Ok(looked.into_iter().map(answer).collect())
}

async fn lead<K, T, E, F, Fut>(
    cache: &Cache,
    mut led: Vec<Led<K>>,
    keeping: &Keeping,
    place: &Place,
    load: &mut F,
    known: &mut Known<T>,
) -> Result<(), LoadError<E>>
where
    K: Clone,
    T: Serialize + DeserializeOwned + Send + Sync + 'static,
    E: Send + Sync + 'static,
    F: FnMut(Vec<K>) -> Fut,
    Fut: Future<Output = Result<Vec<Option<T>>, E>>,
{
    if led.is_empty() {
        return Ok(());
    }
    // Whoever led before may have stored since this caller looked, and a server is asked here, once for all.
    let mut loads: Vec<_> = led.iter_mut().map(|led| &mut led.generation).collect();
    let mut found: HashMap<Key, (Arc<T>, Stamped)> = cache.fetch_known(&mut loads).await?;
    led.retain(|led| match found.remove(&led.key) {
        Some((value, stamped)) => {
            known.insert(led.key.clone(), Some(value.clone()));
            led.leader.announce(Loaded::Value(value, stamped));
            false
        }
        None => true,
    });
    if led.is_empty() {
        return Ok(());
    }
    cache.add(Event::Miss, led.len());
    // What is invalidated after this ends these ids, and with them what is loaded.
    let stamped = cache.stamp_before_load(keeping).await;
    let flights: Vec<_> = led.iter().map(|led| led.leader.id()).collect();
    let asked: Vec<K> = led.iter().map(|led| led.name.clone()).collect();
    let loading = place.lead(flights, load(asked));
    let values = call(cache, led.len(), loading).await.inspect_err(|error| {
        if let LoadError::Loader(error) = error {
            for led in &led {
                led.leader.announce(Loaded::Error(error.clone()));
            }
        }
    })?;
    // Everybody who waits is answered before anything is stored, which may take its time.
    let mut loaded = Vec::new();
    for (led, value) in led.into_iter().zip(values) {
        known.insert(led.key.clone(), value.clone());
        match value {
            Some(value) => {
                let outcome = Loaded::Value(value.clone(), stamped.clone());
                led.leader.announce(outcome);
                loaded.push((led, value));
            }
            None => led.leader.land(Loaded::Nothing(TypeId::of::<T>())),
        }
    }
    if !loaded.is_empty() {
        cache.collect_stamps(&stamped);
    }
    keep(cache, loaded, keeping, &stamped).await;
    Ok(())
}

/// Waits for a loader that was asked for `asked` keys, and holds it to one result for each.
async fn call<T, E>(
    cache: &Cache,
    asked: usize,
    loading: impl Future<Output = Result<Vec<Option<T>>, E>>,
) -> Result<Vec<Option<Arc<T>>>, LoadError<E>> {
    cache.count(Event::Load);
    let error = match loading.await {
        Ok(values) if values.len() == asked => {
            return Ok(values
                .into_iter()
                .map(|value| value.map(Arc::new))
                .collect());
        }
        Ok(values) => LoadError::Length {
            asked,
            got: values.len(),
        },
        Err(error) => LoadError::Loader(Arc::new(error)),
    };
    cache.count(Event::LoadError);
    Err(error)
}

/// Stores what was loaded and not invalidated meanwhile, with one call.
async fn keep<K, T>(
    cache: &Cache,
    mut loaded: Vec<(Led<K>, Arc<T>)>,
    keeping: &Keeping,
    stamped: &Stamped,
) where
    T: Serialize + Send + Sync + 'static,
{
    // In one order everywhere, so that batches that store the same keys never wait for each other in a circle.
    loaded.sort_unstable_by(|(one, _), (other, _)| one.key.cmp(&other.key));
    let mut permits = Vec::new();
    let mut entries = Vec::new();
    for (led, value) in &loaded {
        if led.generation.is_given_up() {
            continue;
        }
        if led.generation.have_tags_changed(keeping.tags.markers()) {
            cache.count(Event::LoadLate);
            continue;
        }
        let Some(permit) = led.generation.may_store().await else {
            cache.count(Event::LoadLate);
            continue;
        };
        if let Some(entry) = cache.encode_loaded(value, keeping, stamped) {
            entries.push((led.key.clone(), entry, permit.mode));
            permits.push(permit);
        }
    }
    if entries.is_empty() {
        return;
    }
    let put = cache.backend().put_many(entries).await;
    let kept = cache.observe(put).unwrap_or_default();
    cache.add(Event::Put, kept.iter().filter(|kept| **kept).count());
}

async fn follow<T, E>(
    cache: &Cache,
    place: &Place,
    follower: Follower<Loaded>,
) -> Result<Followed<T>, LoadError<E>>
where
    T: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    let Some(_waiting) = place.wait_for(follower.id()) else {
        return Err(LoadError::Reentrant);
    };
    let followed = match follower.outcome().await {
        Some(Loaded::Value(value, stamped)) => match Arc::downcast(value) {
            Ok(value) => {
                cache.collect_stamps(&stamped);
                Followed::Value(value)
            }
            Err(_) => return Ok(Followed::OtherType),
        },
        Some(Loaded::Nothing(of)) if of == TypeId::of::<T>() => Followed::Nothing,
        Some(Loaded::Error(error)) => match Arc::downcast(error) {
            Ok(error) => return Err(LoadError::Loader(error)),
            Err(_) => return Ok(Followed::OtherType),
        },
        Some(Loaded::Nothing(_)) | None => return Ok(Followed::HandedOver),
    };
    cache.count(Event::LoadShared);
    Ok(followed)
}
