//! The verbs, each of one step that is atomic on the server.

use std::{slice, time::Duration};

use async_trait::async_trait;

use super::{
    super::{Backend, Capabilities, Leased, Peek, PutMode, Usage, frame, generation::Generation},
    MongoDb, NAME,
    commands::{self, Condition},
    ids::Id,
    lease,
    link::{Found, Link},
    many::{Answer, Duplicates},
    stored::{self, Stored, damaged},
};
use crate::{Entry, Error, ErrorKind, Key, KeyRef, Result, Timestamp};

/// The largest payload. The server's limit is 16 MiB for a document, and what is left is for the key and the tags.
const LARGEST: usize = (16 << 20) - (64 << 10);

#[async_trait]
impl Backend for MongoDb {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            stores: true,
            counters: true,
            if_absent: true,
            versions: true,
            leases: true,
            touch: true,
            clear: true,
            delete_prefix: true,
            field_expiry: false,
            remove_expired: true,
            shared: true,
            persistent: true,
            ttl_resolution: Duration::from_millis(1),
            max_value_len: Some(LARGEST),
        }
    }

    fn peek(&self, _: KeyRef<'_>, _: Timestamp) -> Peek {
        Peek::Ask
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let answers = self.0.read("get", slice::from_ref(key), true).await?;
        let now = Timestamp::now();
        let found = answers.into_iter().find_map(|(found, _)| found);
        let entry = found.map(|found| found.stored.ok_or_else(damaged)?.entry(now));
        entry
            .unwrap_or(Ok(None))
            .map_err(|error| error.on(NAME, "get"))
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>> {
        let answers = self.0.read("get_many", keys, true).await?;
        let now = Timestamp::now();
        Ok(answers
            .into_iter()
            .map(|(found, _)| live(found, now))
            .collect())
    }

    async fn get_leased(&self, key: &Key) -> Result<Leased> {
        let answers = self
            .0
            .read("get_leased", slice::from_ref(key), true)
            .await?;
        let now = Timestamp::now();
        let mut leases = answers.into_iter().map(|answer| leased(answer, now));
        Ok(leases.next().expect("every key has an answer"))
    }

    async fn get_leased_many(&self, keys: &[Key]) -> Result<Vec<Leased>> {
        let answers = self.0.read("get_leased_many", keys, true).await?;
        let now = Timestamp::now();
        Ok(answers
            .into_iter()
            .map(|answer| leased(answer, now))
            .collect())
    }

    async fn put(&self, key: &Key, entry: Entry, mode: PutMode) -> Result<bool> {
        let kept = self.0.put("put", &[key], |_| (&entry, mode)).await?;
        Ok(kept == [true])
    }

    async fn put_many(&self, entries: Vec<(Key, Entry, PutMode)>) -> Result<Vec<bool>> {
        let keys: Vec<_> = entries.iter().map(|(key, ..)| key).collect();
        let put = |number: usize| (&entries[number].1, entries[number].2);
        self.0.put("put_many", &keys, put).await
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        let answers = self.0.read("contains", slice::from_ref(key), false).await?;
        let now = Timestamp::now();
        let found = answers.into_iter().find_map(|(found, _)| found);
        Ok(found.is_some_and(|found| found.stored.is_none_or(|stored| stored.is_live(now))))
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        let deleted = self.0.delete("delete", &[key]).await?;
        Ok(deleted == [true])
    }

    async fn delete_many(&self, keys: &[Key]) -> Result<Vec<bool>> {
        let keys: Vec<_> = keys.iter().collect();
        self.0.delete("delete_many", &keys).await
    }

    async fn delete_if(&self, key: &Key, version: u64) -> Result<bool> {
        let link = &self.0;
        let size = |_| frame::OVERHEAD;
        let keys = [key];
        let done = link.write_many("delete_if", &keys, Duplicates::Again, size, |_, id, _| {
            let now = Timestamp::now();
            let trace = stored::deleted(id, link.versions.next(), now);
            let condition = Condition::LiveVersion(version);
            Some(commands::put_if(id, trace, condition, now))
        });
        Ok(done.await?.iter().all(|done| done.is_written()))
    }

    async fn touch(&self, key: &Key, ttl: Option<Duration>) -> Result<bool> {
        let link = &self.0;
        let touch = link.keyed("touch", key, |id| async move {
            let now = Timestamp::now();
            let statement = commands::touch(&id, stored::end_after(ttl, now), now);
            let (_, touched) = link.update(vec![statement]).await?;
            Ok(touched > 0)
        });
        touch.await
    }

    async fn increment(&self, key: &Key, delta: i64, ttl: Option<Duration>) -> Result<i64> {
        let link = &self.0;
        let count = link.keyed("increment", key, |id| async move {
            let (now, version) = (Timestamp::now(), link.versions.next());
            let fresh = stored::counter(&id, delta, version, stored::end_after(ttl, now), now);
            let count = commands::count(&id, delta, version, fresh, now);
            let stored = link.find_and_modify(count).await?;
            match stored.count() {
                Some(count) if stored.version == version => Ok(count),
                Some(_) => {
                    let message = "the counter would leave the range of i64";
                    Err(Error::new(ErrorKind::Overflow, message).into())
                }
                None => {
                    let message = "the key holds a value, not a counter";
                    Err(Error::new(ErrorKind::WrongType, message).into())
                }
            }
        });
        count.await
    }

    async fn clear(&self, namespace: &str) -> Result<()> {
        self.0.clear(namespace).await
    }

    async fn delete_prefix(&self, prefix: &Key) -> Result<usize> {
        self.0.delete_prefix(prefix).await
    }

    async fn remove_expired(&self, limit: usize) -> Result<usize> {
        self.0.remove_expired(limit).await
    }

    async fn ping(&self) -> Result<()> {
        self.0.ping().await
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await;
        Ok(())
    }

    fn usage(&self) -> Option<Usage> {
        None
    }
}

/// Among many, what is damaged is absent, so that it does not keep the others from their callers.
fn live(found: Option<Found>, now: Timestamp) -> Option<Entry> {
    found?.stored?.entry(now).ok().flatten()
}

/// What is damaged may be replaced by what is loaded.
fn leased((found, generation): Answer, now: Timestamp) -> Leased {
    let stored: Option<Stored> = found.and_then(|found| found.stored);
    let lease = lease::give(generation, stored.as_ref());
    let entry = stored.and_then(|stored| stored.entry(now).ok().flatten());
    Leased { entry, lease }
}

impl Link {
    async fn put<'a>(
        &self,
        operation: &'static str,
        keys: &[&Key],
        put: impl Fn(usize) -> (&'a Entry, PutMode),
    ) -> Result<Vec<bool>> {
        let fits = |number: usize| fits(keys[number], put(number).0);
        let size = |number: usize| match fits(number) {
            true => put(number).0.payload().len(),
            false => frame::OVERHEAD,
        };
        let statement = |number: usize, id: &Id, generation| {
            let (entry, mode) = put(number);
            let now = Timestamp::now();
            let condition = condition(mode, generation, fits(number))?;
            // What does not fit removes what is there, which is no longer the newest.
            let document = match fits(number) {
                true => stored::entry(id, entry, self.versions.next(), now),
                false => stored::deleted(id, self.versions.next(), now),
            };
            Some(match condition {
                None => commands::put(id, document),
                Some(condition) => commands::put_if(id, document, condition, now),
            })
        };
        let done = self.write_many(operation, keys, Duplicates::Again, size, statement);
        let done = done.await?.into_iter().enumerate();
        Ok(done
            .map(|(number, done)| done.is_written() && fits(number))
            .collect())
    }
}

fn fits(key: &Key, entry: &Entry) -> bool {
    let len = entry.payload().len();
    // The tags, and the key, which may be there twice and take two bytes for one.
    let beside = entry.head_len() + 5 * key.encoded().len();
    len <= LARGEST && beside <= (64 << 10) - (4 << 10)
}

/// The condition of a put, if it has one; `None` where it is refused whatever the server says.
fn condition(mode: PutMode, generation: Generation, fits: bool) -> Option<Option<Condition>> {
    match mode {
        PutMode::Always => Some(None),
        PutMode::IfAbsent if fits => Some(Some(Condition::NothingLive)),
        PutMode::IfAbsent => None,
        PutMode::IfVersion(version) => Some(Some(Condition::LiveVersion(version))),
        PutMode::IfUnchanged(lease) => lease::condition(lease, generation).map(Some),
    }
}
