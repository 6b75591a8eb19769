//! `get_or_load`: read-through with one loader per key at a time.

use std::{
    any::{Any, TypeId},
    error::Error as StdError,
    fmt,
    future::Future,
    sync::Arc,
};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    Cache, PutOptions,
    entries::decode_entry_shared,
    flight::{Joined, Leader},
    generation::Load,
    keeping::Keeping,
    load_many::load_many,
    stats::Event,
    tags::Stamped,
    waiting::Place,
};
use crate::{Entry, ErrorKind, Key, Peek, Timestamp};

/// Why a value could not be loaded.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoadError<E> {
    /// The loader failed. Every caller that waited for it gets the same error; it is not cached.
    Loader(Arc<E>),
    /// The loader asked, directly or by way of other loaders, for the key it was loading; waiting would never end.
    Reentrant,
    /// The key holds a counter; nothing was loaded.
    WrongType,
    /// A tag is empty or longer than 256 bytes, or there are more than 64; nothing was loaded.
    InvalidTag,
    /// The loader of `get_or_load_many` did not return one result per key.
    Length {
        /// How many keys it was asked for.
        asked: usize,
        /// How many results it returned.
        got: usize,
    },
}

impl<E> Clone for LoadError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Loader(error) => Self::Loader(error.clone()),
            Self::Reentrant => Self::Reentrant,
            Self::WrongType => Self::WrongType,
            Self::InvalidTag => Self::InvalidTag,
            Self::Length { asked, got } => Self::Length {
                asked: *asked,
                got: *got,
            },
        }
    }
}

impl<E> fmt::Display for LoadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loader(_) => f.write_str("the loader failed"),
            Self::Reentrant => f.write_str("a loader asked for the key that it was loading"),
            Self::WrongType => f.write_str("the key holds a counter, not a value"),
            Self::InvalidTag => f.write_str("a value has at most 64 tags, of 1 to 256 bytes each"),
            Self::Length { asked, got } => {
                write!(
                    f,
                    "the loader was asked for {asked} keys and returned {got} results"
                )
            }
        }
    }
}

impl<E: StdError + 'static> StdError for LoadError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Loader(error) => Some(&**error),
            _ => None,
        }
    }
}

/// What the leader of a flight leaves to those who waited: an `Arc<T>` or an `Arc<E>` of its own types.
#[derive(Clone)]
pub(crate) enum Loaded {
    Value(Arc<dyn Any + Send + Sync>, Stamped),
    /// A loader of several says that there is no such thing of its type.
    Nothing(TypeId),
    Error(Arc<dyn Any + Send + Sync>),
}

impl Cache {
    /// Returns the value under `key`, or loads, keeps and returns it.
    ///
    /// Concurrent calls for one key run one loader and share its result; a caller's own loader runs only when there is
    /// nobody to wait for. Failures of the backend count as misses and never fail the call.
    ///
    /// * A loader's error reaches everybody who waited, and is not cached.
    /// * A loader that panics panics its own caller only; one of the others loads then.
    /// * A value whose key is deleted, put or cleared while it is being loaded, or one of whose tags is invalidated, is
    ///   returned, but not kept.
    /// * Nothing is spawned, so the loader may borrow. Callers wait as long as the loader takes: bound it with
    ///   [`tokio::time::timeout`] where that can be long.
    /// * Calls for one key with different types do not share; each loads for itself.
    ///
    /// # Errors
    ///
    /// [`LoadError::Loader`] when the loader failed, [`LoadError::WrongType`] for the key of a counter,
    /// [`LoadError::Reentrant`] when the loader asked for its own key. The latter is found within one task; a loader that waits for a task it spawned to ask for the same key waits for ever.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future of the caller whose loader runs hands over to one of those who wait: at most two loads.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use larder::Cache;
    ///
    /// let cache = Cache::memory();
    /// let user = cache
    ///     .get_or_load("user:7", || async { Ok::<_, std::io::Error>(String::from("Ada")) })
    ///     .await?;
    /// assert_eq!(*user, "Ada");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get_or_load<T, E, F, Fut>(
        &self,
        key: impl AsRef<[u8]>,
        load: F,
    ) -> Result<Arc<T>, LoadError<E>>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        match self.look_shared::<T>(key.as_ref()) {
            Ok(value) => Ok(value),
            Err(key) => self.load_missing(key, PutOptions::new(), load).await,
        }
    }

    /// [`get_or_load`](Self::get_or_load) with a TTL, or with [`PutOptions`], for a value that has to be loaded.
    ///
    /// Of the options, the TTL and the tags count; a condition has no meaning here. The markers of the tags are looked
    /// up before the loader runs, so that what it loads ends with the invalidations that it may have missed.
    ///
    /// # Errors
    ///
    /// As [`get_or_load`](Self::get_or_load), and [`LoadError::InvalidTag`].
    ///
    /// # Cancel safety
    ///
    /// As [`get_or_load`](Self::get_or_load).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::{convert::Infallible, time::Duration};
    /// use larder::{Cache, PutOptions};
    ///
    /// let cache = Cache::memory();
    /// let rate = cache
    ///     .get_or_load_with("rate", Duration::from_secs(5), || async { Ok::<_, Infallible>(1.08) })
    ///     .await?;
    /// assert_eq!(*rate, 1.08);
    ///
    /// let tagged = PutOptions::new().tags(["rates"]);
    /// cache.get_or_load_with("dollar", tagged, || async { Ok::<_, Infallible>(0.92) }).await?;
    /// cache.invalidate_tag("rates").await?;
    /// assert!(!cache.contains("dollar").await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get_or_load_with<T, E, F, Fut>(
        &self,
        key: impl AsRef<[u8]>,
        options: impl Into<PutOptions>,
        load: F,
    ) -> Result<Arc<T>, LoadError<E>>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        match self.look_shared::<T>(key.as_ref()) {
            Ok(value) => Ok(value),
            Err(key) => self.load_missing(key, options.into(), load).await,
        }
    }

    async fn load_missing<T, E, F, Fut>(
        &self,
        key: Key,
        options: PutOptions,
        load: F,
    ) -> Result<Arc<T>, LoadError<E>>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let keeping = self.keeping(options)?;
        loop {
            let place = Place::current();
            let flights = &self.shared().value_flights;
            let follower = match flights.join_tagged(&key, keeping.tags.shared()) {
                Joined::Leader(leader) => {
                    return self.lead(&key, &keeping, leader, &place, load).await;
                }
                Joined::Follower(follower) => follower,
            };
            let Some(_waiting) = place.wait_for(follower.id()) else {
                return Err(LoadError::Reentrant);
            };
            match follower.outcome().await {
                Some(Loaded::Value(value, stamped)) => match Arc::downcast(value) {
                    Ok(value) => {
                        self.collect_stamps(&stamped);
                        self.count(Event::LoadShared);
                        return Ok(value);
                    }
                    Err(_) => return self.load_alone(&keeping, load).await,
                },
                Some(Loaded::Error(error)) => match Arc::downcast(error) {
                    Ok(error) => return Err(LoadError::Loader(error)),
                    Err(_) => return self.load_alone(&keeping, load).await,
                },
                // Who loads one key knows no such answer, and loads.
                Some(Loaded::Nothing(_)) | None => {}
            }
        }
    }

    /// The value under a key without waiting, or else the key.
    pub(super) fn look_shared<T>(&self, name: &[u8]) -> Result<Arc<T>, Key>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        let key = self.values().key(name);
        if let Peek::Hit(entry) = self.peek_value(key.as_key_ref(), Timestamp::now())
            // Damage is counted by whoever fetches the entry to load in its place.
            && let Ok(Some(value)) = decode_entry_shared(self.shared().codec, &entry)
        {
            self.count(Event::Hit);
            return Ok(value);
        }
        Err(key.to_key())
    }

    async fn lead<T, E, F, Fut>(
        &self,
        key: &Key,
        keeping: &Keeping,
        leader: Leader<Loaded>,
        place: &Place,
        load: F,
    ) -> Result<Arc<T>, LoadError<E>>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        // Whoever led before may have stored since this caller looked, and a server is asked here, once for all.
        let mut generation = self.shared().generations.begin(key).await;
        if let Some((value, stamped)) = self.fetch_shared::<T, E>(&mut generation).await? {
            leader.announce(Loaded::Value(value.clone(), stamped));
            return Ok(value);
        }
        // What is invalidated after this ends these ids, and with them what is loaded.
        let stamped = self.stamp_before_load(keeping).await;
        self.count(Event::Load);
        match place.lead(vec![leader.id()], load()).await {
            Ok(value) => {
                let value = Arc::new(value);
                leader.announce(Loaded::Value(value.clone(), stamped.clone()));
                self.collect_stamps(&stamped);
                self.keep_loaded(&generation, &value, keeping, &stamped)
                    .await;
                Ok(value)
            }
            Err(error) => {
                self.count(Event::LoadError);
                let error = Arc::new(error);
                leader.announce(Loaded::Error(error.clone()));
                Err(LoadError::Loader(error))
            }
        }
    }

    /// Loads outside of any flight, and without keeping the value, for a caller whose type is not that of the flight
    /// under way.
    async fn load_alone<T, E, F, Fut>(
        &self,
        keeping: &Keeping,
        load: F,
    ) -> Result<Arc<T>, LoadError<E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        if !keeping.tags.is_empty() {
            self.collect_stamps(&Stamped::Unknown);
        }
        self.count(Event::Load);
        load().await.map(Arc::new).map_err(|error| {
            self.count(Event::LoadError);
            LoadError::Loader(Arc::new(error))
        })
    }

    /// The value under a key that `peek` missed, with every failure taken for a miss.
    async fn fetch_shared<T, E>(
        &self,
        load: &mut Load,
    ) -> Result<Option<(Arc<T>, Stamped)>, LoadError<E>>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        let found = self.fetch_leased(load).await.ok().flatten();
        let found = found.filter(|entry| !entry.is_outdated());
        let value = found
            .map(|entry| {
                let value = self.decode_or_miss(&entry)?;
                Ok(value.map(|value| (value, Stamped::of(&entry))))
            })
            .transpose()?
            .flatten();
        self.count(if value.is_some() {
            Event::Hit
        } else {
            Event::Miss
        });
        Ok(value)
    }

    /// The value of an entry; only a counter is an error, because loading would replace it.
    pub(super) fn decode_or_miss<T, E>(&self, entry: &Entry) -> Result<Option<Arc<T>>, LoadError<E>>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        match self.decode_shared(entry) {
            Err(error) if error.kind() == ErrorKind::WrongType => Err(LoadError::WrongType),
            value => Ok(value.ok().flatten()),
        }
    }

    /// Returns the values under `keys`, loading those that are missing with one call.
    ///
    /// The loader gets the missing keys, each once, and returns one result for each, in their order; `None` says that
    /// there is no such thing; those who wait for it are told so, and it is not cached. The answer has the order and
    /// length of `keys`. Keys that somebody else is loading are waited for, after the own ones were loaded, so that
    /// callers with overlapping keys never wait for each other in a circle. The loader is called a second time only for keys whose loader elsewhere gave up.
    ///
    /// # Errors
    ///
    /// As [`get_or_load`](Self::get_or_load), and [`LoadError::Length`] for a loader that does not return one result
    /// per key.
    ///
    /// # Cancel safety
    ///
    /// As [`get_or_load`](Self::get_or_load).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::convert::Infallible;
    /// use larder::Cache;
    ///
    /// let cache = Cache::memory();
    /// cache.put("a", 1).await?;
    /// let values = cache
    ///     .get_or_load_many(["a", "b"], |missing: Vec<&str>| async move {
    ///         assert_eq!(missing, ["b"]);
    ///         Ok::<_, Infallible>(vec![Some(2)])
    ///     })
    ///     .await?;
    /// assert_eq!(values.iter().flatten().map(|value| **value).collect::<Vec<i32>>(), [1, 2]);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get_or_load_many<K, T, E, F, Fut>(
        &self,
        keys: impl IntoIterator<Item = K>,
        load: F,
    ) -> Result<Vec<Option<Arc<T>>>, LoadError<E>>
    where
        K: AsRef<[u8]> + Clone,
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
        E: Send + Sync + 'static,
        F: FnMut(Vec<K>) -> Fut,
        Fut: Future<Output = Result<Vec<Option<T>>, E>>,
    {
        self.get_or_load_many_with(keys, PutOptions::new(), load)
            .await
    }

    /// [`get_or_load_many`](Self::get_or_load_many) with a TTL, or with [`PutOptions`], for the values that have to be
    /// loaded, as [`get_or_load_with`](Self::get_or_load_with) has.
    ///
    /// # Errors
    ///
    /// As [`get_or_load_many`](Self::get_or_load_many), and [`LoadError::InvalidTag`].
    ///
    /// # Cancel safety
    ///
    /// As [`get_or_load`](Self::get_or_load).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::convert::Infallible;
    /// use larder::{Cache, PutOptions};
    ///
    /// let cache = Cache::memory();
    /// let letters = PutOptions::new().tags(["letters"]);
    /// cache
    ///     .get_or_load_many_with(["a", "b"], letters, |_missing| async {
    ///         Ok::<_, Infallible>(vec![Some(1), Some(2)])
    ///     })
    ///     .await?;
    /// cache.invalidate_tag("letters").await?;
    /// assert_eq!(cache.get::<i32>("a").await?, None);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get_or_load_many_with<K, T, E, F, Fut>(
        &self,
        keys: impl IntoIterator<Item = K>,
        options: impl Into<PutOptions>,
        load: F,
    ) -> Result<Vec<Option<Arc<T>>>, LoadError<E>>
    where
        K: AsRef<[u8]> + Clone,
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
        E: Send + Sync + 'static,
        F: FnMut(Vec<K>) -> Fut,
        Fut: Future<Output = Result<Vec<Option<T>>, E>>,
    {
        let names: Vec<K> = keys.into_iter().collect();
        let keeping = self.keeping(options.into())?;
        load_many(self, names, &keeping, load).await
    }
}
