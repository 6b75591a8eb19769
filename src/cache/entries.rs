//! Finding entries, and turning them into values and back.

use std::{collections::HashMap, iter, sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use super::{Cache, Event, Load, LoadError, storing::is_storing, tags::Stamped};
use crate::{
    CodecId, CodecKind, Entry, Error, ErrorKind, Key, Peek, Result, Timestamp, backend::join::join,
};

impl Cache {
    /// What the backend can say at once, or else the key to ask it with.
    #[inline]
    pub(super) fn look(&self, name: &[u8]) -> Result<Option<Entry>, Key> {
        let key = self.values().key(name);
        match self.peek_value(key.as_key_ref(), Timestamp::now()) {
            Peek::Hit(entry) => Ok(Some(entry)),
            Peek::Miss => Ok(None),
            Peek::Ask => Err(key.to_key()),
        }
    }

    /// The live entry under a key. One that has ended by its tags is none; a stale one
    /// [says so](Entry::is_outdated).
    pub(crate) async fn fetch(&self, key: &Key) -> Result<Option<Entry>> {
        match self.fetch_raw(key).await? {
            Some(entry) => self.check(entry).await,
            None => Ok(None),
        }
    }

    /// [`fetch`](Self::fetch) for an answer that is only shown: it may be of a moment ago, where the backend has replicas.
    /// What is made of an answer and stored is made of what is true now. Tags are always looked at as they are.
    pub(crate) async fn fetch_relaxed(&self, key: &Key) -> Result<Option<Entry>> {
        let found = match self.may_be_late() {
            true => self.backend().get_relaxed(key).await,
            false => self.backend().get(key).await,
        };
        match self.found(found)? {
            Some(entry) => self.check(entry).await,
            None => Ok(None),
        }
    }

    /// [`fetch_relaxed`](Self::fetch_relaxed) for values, which are absent where a response is stale.
    pub(super) async fn fetch_value_relaxed(&self, key: &Key) -> Result<Option<Entry>> {
        self.fetch_relaxed(key).await.map(value)
    }

    /// Whether what is read is only shown. A handle that collects tags is that of a handler whose answer may be stored.
    fn may_be_late(&self) -> bool {
        self.1.is_none() && !is_storing()
    }

    /// [`fetch`](Self::fetch) for values, which are absent where a response is stale.
    pub(super) async fn fetch_value(&self, key: &Key) -> Result<Option<Entry>> {
        self.fetch(key).await.map(value)
    }

    /// The live entry under a key, whatever its tags say; one that the backend could not make sense of is absent.
    pub(super) async fn fetch_raw(&self, key: &Key) -> Result<Option<Entry>> {
        self.found(self.backend().get(key).await)
    }

    /// What a backend's answer comes to.
    fn found(&self, found: Result<Option<Entry>>) -> Result<Option<Entry>> {
        match found {
            Err(error) if error.kind() == ErrorKind::Decode => {
                self.damaged(&error);
                Ok(None)
            }
            found => {
                let now = Timestamp::now();
                Ok(self.observe(found)?.filter(|entry| !entry.is_expired(now)))
            }
        }
    }

    /// The live entry under the key of a load that begins, and a lease for the load where the backend gives leases.
    pub(crate) async fn fetch_leased(&self, load: &mut Load) -> Result<Option<Entry>> {
        let found = match self.capabilities().leases {
            true => self.lease(load).await,
            false => self.fetch_raw(load.key()).await,
        };
        let found = match found {
            Ok(Some(entry)) => self.check(entry).await,
            found => found,
        };
        if self.ends_loads(&found) {
            load.give_up();
        }
        found
    }

    /// Whether what is loaded after such an answer cannot be kept. Without a lease nobody can tell what others did
    /// meanwhile, whatever the reason; and a backend that is out of reach had better not be asked again.
    fn ends_loads<T>(&self, found: &Result<T>) -> bool {
        let leases = self.capabilities().leases;
        found
            .as_ref()
            .is_err_and(|error| leases || error.is_outage())
    }

    async fn lease(&self, load: &mut Load) -> Result<Option<Entry>> {
        let leased = match self.backend().get_leased(load.key()).await {
            Err(error) if error.kind() == ErrorKind::Decode => {
                self.damaged(&error);
                load.give_up();
                // No lease is to be had on what cannot be read; the next load finds nothing there and gets one.
                self.observe(self.backend().delete(load.key()).await)?;
                return Ok(None);
            }
            leased => self.observe(leased)?,
        };
        Ok(load.hold(leased, Timestamp::now()))
    }

    /// [`fetch_leased`](Self::fetch_leased) for several loads, with one call where that can be.
    pub(super) async fn fetch_leased_many(
        &self,
        loads: &mut [&mut Load],
    ) -> Result<Vec<Option<Entry>>> {
        let found = match self.capabilities().leases {
            true => self.lease_many(loads).await,
            false => {
                let keys: Vec<Key> = loads.iter().map(|load| load.key().clone()).collect();
                self.fetch_raw_many(&keys).await
            }
        };
        self.check_all(found?).await
    }

    async fn lease_many(&self, loads: &mut [&mut Load]) -> Result<Vec<Option<Entry>>> {
        let keys: Vec<Key> = loads.iter().map(|load| load.key().clone()).collect();
        let leased = match self.backend().get_leased_many(&keys).await {
            Err(error) if error.kind() == ErrorKind::Decode => {
                // Which of them it is has to be found out, so that it does not cost the others.
                let mut found = Vec::with_capacity(keys.len());
                for load in loads {
                    found.push(self.lease(load).await?);
                }
                return Ok(found);
            }
            leased => self.observe(leased)?,
        };
        let now = Timestamp::now();
        let leased = loads.iter_mut().zip(leased);
        Ok(leased
            .map(|(load, leased)| load.hold(leased, now))
            .collect())
    }

    /// The live entries of values under several keys, each as [`fetch_value_relaxed`](Self::fetch_value_relaxed) finds it.
    pub(super) async fn fetch_values(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>> {
        let found = self.fetch_all(keys, self.may_be_late()).await?;
        let found = self.check_all(found).await?;
        Ok(found.into_iter().map(value).collect())
    }

    /// The live entries under several keys, each as [`fetch_raw`](Self::fetch_raw) finds it.
    pub(super) async fn fetch_raw_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>> {
        self.fetch_all(keys, false).await
    }

    async fn fetch_all(&self, keys: &[Key], relaxed: bool) -> Result<Vec<Option<Entry>>> {
        let mut found = vec![None; keys.len()];
        let mut asked: Vec<_> = iter::once(0..keys.len()).collect();
        while let Some(places) = asked.pop() {
            let found_there = match relaxed {
                true => self.backend().get_many_relaxed(&keys[places.clone()]).await,
                false => self.backend().get_many(&keys[places.clone()]).await,
            };
            let entries = match found_there {
                Err(error) if error.kind() == ErrorKind::Decode && !places.is_empty() => {
                    if let [key] = &keys[places.clone()] {
                        found[places.start] = self.fetch_raw(key).await?;
                        continue;
                    }
                    // Which of them it is has to be found out by halves, so that it does not cost the others.
                    let middle = places.start + places.len() / 2;
                    asked.extend([places.start..middle, middle..places.end]);
                    continue;
                }
                entries => self.observe(entries)?,
            };
            let now = Timestamp::now();
            for (place, entry) in places.zip(entries) {
                found[place] = entry.filter(|entry| !entry.is_expired(now));
            }
        }
        Ok(found)
    }

    /// The values that are there for loads that begin, by key; failures are misses.
    pub(super) async fn fetch_known<T, E>(
        &self,
        loads: &mut [&mut Load],
    ) -> Result<HashMap<Key, (Arc<T>, Stamped)>, LoadError<E>>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        let mut known = HashMap::new();
        let found = self.fetch_leased_many(loads).await;
        if self.ends_loads(&found) {
            loads.iter_mut().for_each(|load| load.give_up());
        }
        for (load, entry) in loads.iter().zip(found.unwrap_or_default()) {
            let Some(entry) = value(entry) else { continue };
            if let Some(found) = self.decode_or_miss(&entry)? {
                known.insert(load.key().clone(), (found, Stamped::of(&entry)));
            }
        }
        self.add(Event::Hit, known.len());
        Ok(known)
    }

    /// Removes what is under a key of a value and has ended by its tags, and says whether it was there.
    pub(super) async fn remove_ended(&self, key: &Key) -> bool {
        let Ok(Some(entry)) = self.fetch_raw(key).await else {
            return false;
        };
        let version = entry.version();
        if !entry.has_tags() || !matches!(self.check(entry).await.map(value), Ok(None)) {
            return false;
        }
        let removed = self.backend().delete_if(key, version).await;
        self.observe(removed).unwrap_or(false)
    }

    /// Lets what is under a key live for `ttl` from now, and its markers with it.
    pub(super) async fn touch_live(&self, key: &Key, ttl: Option<Duration>) -> Result<bool> {
        let touch = self.backend().touch(key, ttl);
        let (entry, touched) = match self.peek_value(key.as_key_ref(), Timestamp::now()) {
            Peek::Hit(entry) => (Some(entry), self.observe(touch.await)?),
            Peek::Miss => return Ok(false),
            Peek::Ask => {
                let (found, touched) = join(self.backend().get(key), touch).await;
                // Of two failures, the caller's own verb is the one to tell of.
                let touched = self.observe(touched)?;
                (self.found(found)?, touched)
            }
        };
        let Some(entry) = entry.filter(Entry::has_tags) else {
            return Ok(touched);
        };
        let Some(entry) = self.check(entry).await.map(value)? else {
            // It would stay for longer than before, and is of no use.
            self.remove_ended(key).await;
            return Ok(false);
        };
        self.let_markers_outlive(&entry, ttl).await?;
        Ok(touched)
    }

    pub(super) fn encode<T>(&self, value: &Arc<T>, ttl: Option<Duration>) -> Result<Entry>
    where
        T: Serialize + Send + Sync + 'static,
    {
        let now = Timestamp::now();
        let codec = self.shared().codec;
        let payload = codec.encode(&**value)?;
        // What the value has on the heap is not known; its encoded form is taken for an estimate.
        let weight = size_of::<T>() + payload.len();
        let entry = Entry::new(codec.id(), payload, now).with_decoded(value.clone(), weight);
        Ok(entry.with_ttl(ttl, now))
    }

    /// The value of an entry; `None` for one of another codec, and, counted, for one that is damaged.
    pub(super) fn decode<T: DeserializeOwned>(&self, entry: &Entry) -> Result<Option<T>> {
        let value = decode_entry(self.shared().codec, entry);
        Ok(self.unless_damaged(value)?.flatten())
    }

    pub(super) fn decode_shared<T>(&self, entry: &Entry) -> Result<Option<Arc<T>>>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        let value = decode_entry_shared(self.shared().codec, entry);
        Ok(self.unless_damaged(value)?.flatten())
    }

    pub(super) fn unless_damaged<T>(&self, value: Result<T>) -> Result<Option<T>> {
        match value {
            Err(error) if error.kind() == ErrorKind::Decode => {
                self.damaged(&error);
                Ok(None)
            }
            value => value.map(Some),
        }
    }

    pub(crate) fn damaged(&self, error: &Error) {
        self.count(Event::Damaged);
        tracing::warn!(%error, "a stored entry is taken for absent");
    }
}

/// A value is not there when it is stale.
fn value(found: Option<Entry>) -> Option<Entry> {
    found.filter(|entry| !entry.is_outdated())
}

fn decode_entry<T: DeserializeOwned>(codec: CodecKind, entry: &Entry) -> Result<Option<T>> {
    let refused = |kind, message: &'static str| Err(Error::new(kind, message));
    match entry.codec() {
        id if id == codec.id() => codec.decode(entry.payload()).map(Some),
        CodecId::COUNTER => refused(ErrorKind::WrongType, "the key holds a counter, not a value"),
        CodecId::RESPONSE | CodecId::VARIANTS => {
            refused(ErrorKind::Decode, "the key holds a response, not a value")
        }
        other => {
            tracing::debug!(codec = ?other, "an entry of another codec is taken for absent");
            Ok(None)
        }
    }
}

/// The value of an entry, decoded once for all readers of its type; `None` for one of another codec.
pub(super) fn decode_entry_shared<T>(codec: CodecKind, entry: &Entry) -> Result<Option<Arc<T>>>
where
    T: DeserializeOwned + Send + Sync + 'static,
{
    let id = codec.id();
    if let Some(value) = entry.decoded_shared(id) {
        return Ok(Some(value));
    }
    let Some(value) = decode_entry(codec, entry)?.map(Arc::new) else {
        return Ok(None);
    };
    entry.keep_decoded(id, &value);
    // Somebody else may have been quicker; then all have theirs.
    Ok(entry.decoded_shared(id).or(Some(value)))
}
