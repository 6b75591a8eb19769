//! The verbs, each of one step that is atomic on the service.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{
    DynamoDb,
    connection::{Connection, SIDE_BY_SIDE, Update},
    error::{Failure, changed_at_every_attempt},
    item::{self, Condition, Found, Item},
    lease,
    many::{Answer, waves},
    markers::ATTEMPTS,
};
use crate::{
    Entry, Error, ErrorKind, Key, KeyRef, Result, Timestamp,
    backend::{Backend, Capabilities, Leased, Peek, PutMode, Usage, generation::Generation},
};

/// About so many bytes an item has beside the payload of its entry.
const ITEM_OVERHEAD: usize = 256;

#[async_trait]
impl Backend for DynamoDb {
    fn name(&self) -> &'static str {
        "dynamodb"
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
            delete_prefix: false,
            field_expiry: false,
            // The service does it by itself. To find what a clearing has ended, the whole table would have to be read.
            remove_expired: false,
            shared: true,
            persistent: true,
            // The service's own is seconds, and days late; entries and counters end by the end in their items.
            ttl_resolution: Duration::from_millis(1),
            max_value_len: Some(item::MAX_VALUE_LEN),
        }
    }

    fn peek(&self, _: KeyRef<'_>, _: Timestamp) -> Peek {
        Peek::Ask
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let (found, _) = self.0.read_one("get", key, false).await?;
        let entry = found.map(|found| found.entry(Timestamp::now()));
        entry
            .unwrap_or(Ok(None))
            .map_err(|error| error.on("dynamodb", "get"))
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>> {
        let answers = self.0.read_all("get_many", keys, false).await?;
        let now = Timestamp::now();
        let found = answers.into_iter().map(|(found, _)| found);
        Ok(found.map(|found| live(found, now)).collect())
    }

    async fn get_leased(&self, key: &Key) -> Result<Leased> {
        let answer = self.0.read_one("get_leased", key, false).await?;
        Ok(leased(answer, Timestamp::now()))
    }

    async fn get_leased_many(&self, keys: &[Key]) -> Result<Vec<Leased>> {
        let answers = self.0.read_all("get_leased_many", keys, false).await?;
        let now = Timestamp::now();
        let answers = answers.into_iter();
        Ok(answers.map(|answer| leased(answer, now)).collect())
    }

    async fn put(&self, key: &Key, entry: Entry, mode: PutMode) -> Result<bool> {
        self.0.put_one("put", key, &entry, mode).await
    }

    async fn put_many(&self, entries: Vec<(Key, Entry, PutMode)>) -> Result<Vec<bool>> {
        let link = &self.0;
        link.clients()
            .map_err(|closed| closed.on("dynamodb", "put_many"))?;
        let mut kept = vec![false; entries.len()];
        let fits = |number: usize| item::fits(&entries[number].1);
        for wave in waves(entries.iter().map(|(key, ..)| key)) {
            let is_plain = |number: &usize| entries[*number].2 == PutMode::Always;
            let (plain, conditional): (Vec<_>, Vec<_>) = wave.into_iter().partition(is_plain);
            let keys: Vec<_> = plain.iter().map(|&number| &entries[number].0).collect();
            let written = link.write(&keys, |place, stored| {
                let entry = &entries[plain[place]].1;
                let size = ITEM_OVERHEAD + entry.payload().len();
                (link.item_of(stored, entry, item::fits(entry)), size)
            });
            written
                .await
                .map_err(|failure| link.explain("put_many", failure))?;
            for number in plain {
                kept[number] = fits(number);
            }
            let puts = stream::iter(conditional).map(|number| {
                let (key, entry, mode) = &entries[number];
                async move {
                    let done = link.put_one("put_many", key, entry, *mode).await?;
                    Ok::<_, Error>((number, done))
                }
            });
            let done: Vec<_> = puts.buffer_unordered(SIDE_BY_SIDE).try_collect().await?;
            for (number, done) in done {
                kept[number] = done;
            }
        }
        Ok(kept)
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        let (found, _) = self.0.read_one("contains", key, true).await?;
        let now = Timestamp::now();
        Ok(found.is_some_and(|found| found.is_live(now)))
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        let link = &self.0;
        link.keyed("delete", key, |stored, _| async move {
            let now = Timestamp::now();
            let before = link.replace(link.deleted(stored)).await?;
            Ok(before.is_some_and(|before| Found::new(before).is_live(now)))
        })
        .await
    }

    async fn delete_many(&self, keys: &[Key]) -> Result<Vec<bool>> {
        let link = &self.0;
        let mut deleted = vec![false; keys.len()];
        // What is there twice was deleted by the first of the two.
        let once = waves(keys).into_iter().next().unwrap_or_default();
        let distinct: Vec<_> = once.iter().map(|&number| &keys[number]).collect();
        let done = async {
            let found = link.read(&distinct, true).await?;
            let now = Timestamp::now();
            link.write(&distinct, |_, stored| (link.deleted(stored), ITEM_OVERHEAD))
                .await?;
            for (number, (found, _)) in once.iter().zip(found) {
                deleted[*number] = found.is_some_and(|found| found.is_live(now));
            }
            Ok::<_, Failure>(())
        };
        done.await
            .map_err(|failure| link.explain("delete_many", failure))?;
        Ok(deleted)
    }

    async fn delete_if(&self, key: &Key, version: u64) -> Result<bool> {
        let link = &self.0;
        link.keyed("delete_if", key, |stored, _| async move {
            let condition = item::is_live_version(version, Timestamp::now());
            link.put(link.deleted(stored), Some(condition)).await
        })
        .await
    }

    async fn touch(&self, key: &Key, ttl: Option<Duration>) -> Result<bool> {
        let link = &self.0;
        link.keyed("touch", key, |stored, _| async move {
            let now = Timestamp::now();
            let end = item::end_of(ttl.map(|ttl| now + ttl));
            let update = Update {
                text: "SET e = :end, x = :removal",
                values: vec![
                    (":end", item::number(end)),
                    (":removal", item::number(item::removal(end, now))),
                ],
                condition: item::is_live(now),
            };
            Ok(link.update(stored, update).await?.is_some())
        })
        .await
    }

    async fn increment(&self, key: &Key, delta: i64, ttl: Option<Duration>) -> Result<i64> {
        let link = &self.0;
        link.keyed("increment", key, |stored, _| link.count(stored, delta, ttl))
            .await
    }

    async fn clear(&self, namespace: &str) -> Result<()> {
        let cleared = self.0.clear(namespace).await;
        cleared.map_err(|failure| self.0.explain("clear", failure))
    }

    async fn remove_expired(&self, _: usize) -> Result<usize> {
        self.0
            .clients()
            .map_err(|closed| closed.on("dynamodb", "remove_expired"))?;
        Err(Error::unsupported("dynamodb", "remove_expired"))
    }

    async fn ping(&self) -> Result<()> {
        let answered = async {
            self.0.know().await?;
            self.0.ask().await
        };
        answered
            .await
            .map_err(|failure| self.0.explain("ping", failure))
    }

    async fn close(&self) -> Result<()> {
        self.0.close();
        Ok(())
    }

    fn usage(&self) -> Option<Usage> {
        None
    }
}

/// Among many, what is damaged is absent, so that it does not keep the others from their callers.
fn live(found: Option<Found>, now: Timestamp) -> Option<Entry> {
    found?.entry(now).ok().flatten()
}

/// What is damaged may be replaced by what is loaded.
fn leased((found, generation): Answer, now: Timestamp) -> Leased {
    let lease = lease::give(generation, found.as_ref());
    let entry = live(found, now);
    Leased { entry, lease }
}

/// How an entry is put.
struct Plan {
    item: Item,
    condition: Option<Condition>,
    /// Whether the entry is kept when this is done.
    keeps: bool,
}

impl Connection {
    async fn read_one(&self, operation: &'static str, key: &Key, signs: bool) -> Result<Answer> {
        let answer = async {
            let mut answers = self.read(&[key], signs).await?;
            answers.pop().ok_or_else(changed_at_every_attempt)
        };
        answer
            .await
            .map_err(|failure| self.explain(operation, failure))
    }

    async fn read_all(
        &self,
        operation: &'static str,
        keys: &[Key],
        signs: bool,
    ) -> Result<Vec<Answer>> {
        let keys: Vec<_> = keys.iter().collect();
        let answers = self.read(&keys, signs).await;
        answers.map_err(|failure| self.explain(operation, failure))
    }

    async fn put_one(
        &self,
        operation: &'static str,
        key: &Key,
        entry: &Entry,
        mode: PutMode,
    ) -> Result<bool> {
        self.keyed(operation, key, |stored, generation| async move {
            let fits = item::fits(entry);
            let Some(plan) = self.plan_put(stored.clone(), entry, mode, generation, fits) else {
                return Ok(false);
            };
            match self.put(plan.item, plan.condition).await {
                // By another measure than ours.
                Err(Failure::TooLarge(_)) => {
                    if let Some(plan) = self.plan_put(stored, entry, mode, generation, false) {
                        self.put(plan.item, plan.condition).await?;
                    }
                    Ok(false)
                }
                done => Ok(done? && plan.keeps),
            }
        })
        .await
    }

    /// What to write for a put; `None` where it is refused whatever the service says. What does not fit removes what is
    /// there, which is no longer the newest.
    fn plan_put(
        &self,
        stored: Vec<u8>,
        entry: &Entry,
        mode: PutMode,
        generation: Generation,
        fits: bool,
    ) -> Option<Plan> {
        let now = Timestamp::now();
        let condition = match mode {
            PutMode::Always => None,
            PutMode::IfAbsent if fits => Some(item::is_dead(now)),
            PutMode::IfAbsent => return None,
            PutMode::IfVersion(version) => Some(item::is_live_version(version, now)),
            PutMode::IfUnchanged(lease) => Some(lease::condition(lease, generation)?),
        };
        Some(Plan {
            item: self.item_of(stored, entry, fits),
            condition,
            keeps: fits,
        })
    }

    /// The item of an entry, or the trace of a deletion in place of one that does not fit.
    fn item_of(&self, stored: Vec<u8>, entry: &Entry, fits: bool) -> Item {
        match fits {
            true => item::entry(stored, entry, self.versions.next(), Timestamp::now()),
            false => self.deleted(stored),
        }
    }

    fn deleted(&self, stored: Vec<u8>) -> Item {
        item::deleted(stored, self.versions.next(), Timestamp::now())
    }

    /// Adds to the counter: in one step where it is there or nothing is, in two where something has ended.
    async fn count(
        &self,
        stored: Vec<u8>,
        delta: i64,
        ttl: Option<Duration>,
    ) -> Result<i64, Failure> {
        for _ in 0..ATTEMPTS {
            let now = Timestamp::now();
            let end = item::end_of(ttl.map(|ttl| now + ttl));
            let update = Update {
                text: "SET n = if_not_exists(n, :zero) + :delta, e = if_not_exists(e, :end), \
                       x = if_not_exists(x, :removal), v = if_not_exists(v, :version)",
                values: vec![
                    (":zero", item::number(0)),
                    (":delta", item::number(delta)),
                    (":end", item::number(end)),
                    (":removal", item::number(item::removal(end, now))),
                    (":version", item::number(self.versions.next())),
                ],
                condition: item::counts(delta, now),
            };
            if let Some(done) = self.update(stored.clone(), update).await? {
                let sum = Found::new(done).count();
                let message = "the service gave no sum";
                return sum.ok_or_else(|| Error::new(ErrorKind::Backend, message).into());
            }
            let starting = item::counter(stored.clone(), delta, self.versions.next(), ttl, now);
            if self.put(starting, Some(item::is_dead(now))).await? {
                return Ok(delta);
            }
            // Neither: a value, a counter at its end, or one that somebody else has just started.
            let found = self.get(stored.clone()).await?.map(Found::new);
            let Some(found) = found.filter(|found| found.is_live(now)) else {
                continue;
            };
            if !found.is_counter() {
                let message = "the key holds a value, not a counter";
                return Err(Error::new(ErrorKind::WrongType, message).into());
            }
            match found.count().map(|count| count.checked_add(delta)) {
                Some(Some(_)) => {}
                Some(None) => {
                    let message = "the counter would leave the range of i64";
                    return Err(Error::new(ErrorKind::Overflow, message).into());
                }
                None => {
                    let message = "the counter is no whole number";
                    return Err(Error::new(ErrorKind::WrongType, message).into());
                }
            }
        }
        Err(changed_at_every_attempt())
    }
}
