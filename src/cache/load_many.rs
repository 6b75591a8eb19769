//! The batch form of `get_or_load`.

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    sync::Arc,
};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    Cache, LoadError, Ttl,
    flight::{Follower, Joined, Leader},
    generation::Load,
    load::Loaded,
    stats::Event,
    waiting::Place,
};
use crate::Key;

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
    /// The other loader left without a result.
    HandedOver,
    /// The other loader's result is of another type.
    OtherType,
}

pub(super) async fn load_many<K, T, E, F, Fut>(
    cache: &Cache,
    names: Vec<K>,
    mut load: F,
) -> Result<Vec<Option<Arc<T>>>, LoadError<E>>
where
    K: AsRef<[u8]> + Clone,
    T: Serialize + DeserializeOwned + Send + Sync + 'static,
    E: Send + Sync + 'static,
    F: FnMut(Vec<K>) -> Fut,
    Fut: Future<Output = Result<Vec<Option<T>>, E>>,
{
    let keys: Vec<Key> = names
        .iter()
        .map(|name| cache.values().key(name.as_ref()).to_key())
        .collect();
    let mut known = cache.fetch_known(&keys).await;
    let mut asked = HashSet::new();
    let mut missing: Vec<(K, Key)> = names
        .into_iter()
        .zip(keys.iter().cloned())
        .filter(|(_, key)| !known.contains_key(key) && asked.insert(key.clone()))
        .collect();
    let place = Place::current();
    while !missing.is_empty() {
        let mut led = Vec::new();
        let mut followed = Vec::new();
        for (name, key) in missing.drain(..) {
            match cache.shared().value_flights.join(&key) {
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
        lead(cache, led, &place, &mut load, &mut known).await?;
        for (name, key, follower) in followed {
            match follow(cache, &place, follower).await? {
                Followed::Value(value) => drop(known.insert(key, Some(value))),
                Followed::HandedOver => missing.push((name, key)),
                Followed::OtherType => {
                    cache.count(Event::Load);
                    let results = load(vec![name]).await.map_err(Arc::new);
                    let value = results.map_err(LoadError::Loader)?.pop().flatten();
                    known.insert(key, value.map(Arc::new));
                }
            }
        }
    }
    Ok(keys
        .iter()
        .map(|key| known.get(key).cloned().flatten())
        .collect())
}

async fn lead<K, T, E, F, Fut>(
    cache: &Cache,
    mut led: Vec<Led<K>>,
    place: &Place,
    load: &mut F,
    known: &mut HashMap<Key, Option<Arc<T>>>,
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
    // Whoever led before may have stored since this caller looked.
    let keys: Vec<Key> = led.iter().map(|led| led.key.clone()).collect();
    known.extend(cache.fetch_known(&keys).await);
    led.retain(|led| match known.get(&led.key) {
        Some(Some(value)) => {
            led.leader.announce(Loaded::Value(value.clone()));
            false
        }
        _ => true,
    });
    if led.is_empty() {
        return Ok(());
    }
    cache.count(Event::Load);
    let flights: Vec<_> = led.iter().map(|led| led.leader.id()).collect();
    let asked: Vec<K> = led.iter().map(|led| led.name.clone()).collect();
    let results = match place.lead(flights, load(asked)).await {
        Ok(results) => results,
        Err(error) => {
            cache.count(Event::LoadError);
            let error = Arc::new(error);
            for led in &led {
                led.leader.announce(Loaded::Error(error.clone()));
            }
            return Err(LoadError::Loader(error));
        }
    };
    if results.len() != led.len() {
        return Err(LoadError::Length {
            asked: led.len(),
            got: results.len(),
        });
    }
    for (led, value) in led.into_iter().zip(results) {
        let value = value.map(Arc::new);
        if let Some(value) = &value {
            led.leader.announce(Loaded::Value(value.clone()));
            match led.generation.may_store().await {
                Some(_may) => cache.keep_loaded(&led.key, value, Ttl::Default).await,
                None => cache.count(Event::LoadLate),
            }
        }
        known.insert(led.key, value);
    }
    Ok(())
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
    Ok(match follower.outcome().await {
        Some(Loaded::Value(value)) => match Arc::downcast(value) {
            Ok(value) => {
                cache.count(Event::LoadShared);
                Followed::Value(value)
            }
            Err(_) => Followed::OtherType,
        },
        Some(Loaded::Error(error)) => match Arc::downcast(error) {
            Ok(error) => return Err(LoadError::Loader(error)),
            Err(_) => Followed::OtherType,
        },
        None => Followed::HandedOver,
    })
}
