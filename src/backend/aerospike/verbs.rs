//! The verbs, each of one step that is atomic on the server.

use std::time::Duration;

use aerospike::{
    BatchOperation, Bin, Expiration, RecordExistsAction, ResultCode, Value, operations,
};
use async_trait::async_trait;

use super::{
    super::{
        Backend, Capabilities, Leased, Peek, PutMode, Usage, absence::TRACE, frame,
        generation::Generation,
    },
    Aerospike,
    connection::Connection,
    error::{Failure, is_full, is_too_large},
    lease,
    many::Answer,
    markers::{ATTEMPTS, changed_at_every_attempt},
    policies::{self, Write},
    record::{self, Found},
};
use crate::{Entry, Error, ErrorKind, Key, KeyRef, Result, Timestamp};

#[async_trait]
impl Backend for Aerospike {
    fn name(&self) -> &'static str {
        "aerospike"
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
            // The server does it, as far as there is a TTL. It cannot tell which entries a clearing has ended.
            remove_expired: false,
            shared: true,
            persistent: true,
            // A TTL of a second lasts up to two.
            ttl_resolution: Duration::from_secs(2),
            max_value_len: Some(self.0.largest()),
        }
    }

    fn peek(&self, _: KeyRef<'_>, _: Timestamp) -> Peek {
        Peek::Ask
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let (found, _) = self.0.find("get", key).await?;
        let entry = found.map(|found| found?.entry(Timestamp::now()));
        entry
            .unwrap_or(Ok(None))
            .map_err(|error| error.on("aerospike", "get"))
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>> {
        let answers = self.0.read_many("get_many", keys).await?;
        let now = Timestamp::now();
        let entries = answers.into_iter();
        Ok(entries
            .map(|(answer, _)| live(found(answer), now))
            .collect())
    }

    async fn get_leased(&self, key: &Key) -> Result<Leased> {
        let (found, generation) = self.0.find("get_leased", key).await?;
        Ok(leased(found, generation, Timestamp::now()))
    }

    async fn get_leased_many(&self, keys: &[Key]) -> Result<Vec<Leased>> {
        let answers = self.0.read_many("get_leased_many", keys).await?;
        let now = Timestamp::now();
        let leases = answers.into_iter();
        Ok(leases
            .map(|(answer, generation)| leased(found(answer), generation, now))
            .collect())
    }

    async fn put(&self, key: &Key, entry: Entry, mode: PutMode) -> Result<bool> {
        let (link, entry) = (&self.0, &entry);
        link.keyed("put", key, |record, generation| async move {
            let Some(plan) = link.plan(entry, mode, generation, link.fits(entry)) else {
                return Ok(false);
            };
            let policy = link.policies.write(plan.write);
            let done = match link.write(&policy, &record, &plan.bin).await {
                // The limit was lowered since it was read.
                Err(error) if is_too_large(&error) => {
                    let Some(plan) = link.plan(entry, mode, generation, false) else {
                        return Ok(false);
                    };
                    let policy = link.policies.write(plan.write);
                    link.write(&policy, &record, &plan.bin).await.map(|_| false)
                }
                done => done.map(|done| done && plan.keeps),
            };
            if let Err(error) = &done
                && is_full(error)
                && mode == PutMode::Always
            {
                // What is there is not the truth any more.
                link.remove(&record, None).await?;
            }
            Ok(done?)
        })
        .await
    }

    async fn put_many(&self, entries: Vec<(Key, Entry, PutMode)>) -> Result<Vec<bool>> {
        let link = &self.0;
        let keys: Vec<_> = entries.iter().map(|(key, ..)| key).collect();
        let size = |number: usize| entries[number].1.payload().len();
        let answers = link.write_many("put_many", &keys, size, |number, key, generation| {
            let (_, entry, mode) = &entries[number];
            let plan = link.plan(entry, *mode, generation, link.fits(entry))?;
            let put = vec![operations::put(&plan.bin)];
            Some(BatchOperation::write(&policies::row(plan.write), key, put))
        });
        let answers = answers.await;
        if answers.as_ref().is_err_and(is_without_room) {
            // What is there is not the truth any more.
            let replaced = entries.iter().filter(|(.., mode)| *mode == PutMode::Always);
            let replaced: Vec<_> = replaced.map(|(key, ..)| key).collect();
            link.remove_many("put_many", &replaced).await?;
        }
        let answers = answers?.into_iter().zip(&entries);
        Ok(answers
            .map(|(answer, (_, entry, _))| answer.is_some() && link.fits(entry))
            .collect())
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        let link = &self.0;
        link.keyed("contains", key, |record, _| async move {
            Ok(link.is_there(&record).await?)
        })
        .await
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        let link = &self.0;
        link.keyed("delete", key, |record, _| async move {
            let (write, bin) = link.removal(RecordExistsAction::Update);
            let delete = [record::was_live(Timestamp::now()), operations::put(&bin)];
            let policy = link.policies.write(write);
            match link.operate(&policy, &record, &delete).await {
                Err(error) if is_full(&error) => Ok(link.remove(&record, None).await?),
                done => Ok(done?.is_some_and(|done| record::said_live(&done))),
            }
        })
        .await
    }

    async fn delete_many(&self, keys: &[Key]) -> Result<Vec<bool>> {
        let link = &self.0;
        let keys: Vec<_> = keys.iter().collect();
        let size = |_| frame::OVERHEAD;
        let answers = link.write_many("delete_many", &keys, size, |_, key, _| {
            let (write, bin) = link.removal(RecordExistsAction::Update);
            let delete = vec![record::was_live(Timestamp::now()), operations::put(&bin)];
            Some(BatchOperation::write(&policies::row(write), key, delete))
        });
        let answers = match answers.await {
            Err(error) if is_without_room(&error) => {
                return link.remove_many("delete_many", &keys).await;
            }
            answers => answers?.into_iter(),
        };
        Ok(answers
            .map(|done| done.is_some_and(|done| record::said_live(&done)))
            .collect())
    }

    async fn delete_if(&self, key: &Key, version: u64) -> Result<bool> {
        let link = &self.0;
        link.keyed("delete_if", key, |record, _| async move {
            let (mut write, bin) = link.removal(RecordExistsAction::ReplaceOnly);
            write.condition = Some(record::is_live_version(version, Timestamp::now()));
            let policy = link.policies.write(write.clone());
            match link.write(&policy, &record, &bin).await {
                Err(error) if is_full(&error) => {
                    Ok(link.remove(&record, write.condition.clone()).await?)
                }
                done => Ok(done?),
            }
        })
        .await
    }

    async fn touch(&self, key: &Key, ttl: Option<Duration>) -> Result<bool> {
        let link = &self.0;
        link.keyed("touch", key, |record, _| link.end(record, ttl))
            .await
    }

    async fn increment(&self, key: &Key, delta: i64, ttl: Option<Duration>) -> Result<i64> {
        let link = &self.0;
        link.keyed("increment", key, |record, _| link.count(record, delta, ttl))
            .await
    }

    async fn clear(&self, namespace: &str) -> Result<()> {
        self.0.clear(namespace).await
    }

    async fn remove_expired(&self, _: usize) -> Result<usize> {
        self.0.open("remove_expired")?;
        Err(Error::unsupported("aerospike", "remove_expired"))
    }

    async fn ping(&self) -> Result<()> {
        self.0.ping().await
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await
    }

    fn usage(&self) -> Option<Usage> {
        None
    }
}

/// Whether the server has no room for what was written.
fn is_without_room(error: &Error) -> bool {
    error.kind() == ErrorKind::TooLarge
}

fn found(answer: Answer) -> Option<Result<Found>> {
    answer.map(Found::read)
}

/// Among many, what is damaged is absent, so that it does not keep the others from their callers.
fn live(found: Option<Result<Found>>, now: Timestamp) -> Option<Entry> {
    found?.and_then(|found| found.entry(now)).ok().flatten()
}

/// What is damaged may be replaced by what is loaded.
fn leased(found: Option<Result<Found>>, generation: Generation, now: Timestamp) -> Leased {
    let found = found.and_then(Result::ok);
    let lease = lease::give(generation, found.as_ref());
    let entry = found.and_then(|found| found.entry(now).ok().flatten());
    Leased { entry, lease }
}

/// How an entry is put.
struct Plan {
    write: Write,
    bin: Bin,
    /// Whether the entry is kept when this is done.
    keeps: bool,
}

impl Connection {
    async fn find(
        &self,
        operation: &'static str,
        key: &Key,
    ) -> Result<(Option<Result<Found>>, Generation)> {
        self.keyed(operation, key, |record, generation| async move {
            Ok((found(self.read(&record).await?), generation))
        })
        .await
    }

    fn fits(&self, entry: &Entry) -> bool {
        entry.payload().len() <= self.largest()
    }

    /// What to write for a put; `None` where it is refused whatever the server says. What does not fit removes what
    /// is there, which is no longer the newest.
    fn plan(
        &self,
        entry: &Entry,
        mode: PutMode,
        generation: Generation,
        fits: bool,
    ) -> Option<Plan> {
        let now = Timestamp::now();
        let (action, condition) = match mode {
            PutMode::Always => (RecordExistsAction::Replace, None),
            // The server asks for the condition only where a record is.
            PutMode::IfAbsent if fits => (RecordExistsAction::Replace, Some(record::is_dead(now))),
            PutMode::IfAbsent => return None,
            PutMode::IfVersion(version) => (
                RecordExistsAction::ReplaceOnly,
                Some(record::is_live_version(version, now)),
            ),
            PutMode::IfUnchanged(lease) => lease::condition(lease, generation)?,
        };
        let (mut write, removed) = self.removal(action);
        write.condition = condition;
        if !fits {
            return Some(Plan {
                write,
                bin: removed,
                keeps: false,
            });
        }
        write.expiration = record::expiration(entry.expires_at(), now);
        Some(Plan {
            write,
            bin: record::entry(entry, self.versions.next()),
            keeps: true,
        })
    }

    /// What to write to remove what is there.
    fn removal(&self, action: RecordExistsAction) -> (Write, Bin) {
        let write = Write {
            action,
            condition: None,
            expiration: record::lasting(Some(TRACE)),
        };
        (write, record::deleted(self.versions.next()))
    }

    /// Moves the end of what is there.
    async fn end(&self, key: aerospike::Key, ttl: Option<Duration>) -> Result<bool, Failure> {
        let now = Timestamp::now();
        let expires_at = ttl.map(|ttl| now + ttl);
        let policy = self.policies.write(Write {
            action: RecordExistsAction::UpdateOnly,
            condition: Some(record::is_live(now)),
            expiration: record::expiration(expires_at, now),
        });
        match self
            .operate(&policy, &key, &[record::end_after(ttl, now)])
            .await
        {
            // A counter, whose end is the server's alone.
            Err(error) if error.server_result_code() == Some(ResultCode::BinTypeError) => {}
            ended => return Ok(ended?.is_some()),
        }
        let policy = self.policies.write(Write {
            action: RecordExistsAction::Update,
            condition: Some(record::is_counter()),
            expiration: record::lasting(ttl),
        });
        self.touch(&policy, &key).await.map_err(Failure::from)
    }

    /// Adds to the counter, in one step when it is there and in a second one when it is not.
    async fn count(
        &self,
        key: aerospike::Key,
        delta: i64,
        ttl: Option<Duration>,
    ) -> Result<i64, Failure> {
        let step = record::counter(delta);
        let add = [operations::add(&step), operations::get_bin(record::BIN)];
        let adding = self.policies.write(Write {
            action: RecordExistsAction::UpdateOnly,
            condition: Some(record::has_room_for(delta)),
            expiration: Expiration::DontUpdate,
        });
        for _ in 0..ATTEMPTS {
            if let Some(done) = self.operate(&adding, &key, &add).await? {
                return match done.operation_result(1) {
                    Some(Value::Int(sum)) => Ok(*sum),
                    _ => Err(Error::new(ErrorKind::Backend, "the server gave no sum").into()),
                };
            }
            let now = Timestamp::now();
            let starting = self.policies.write(Write {
                action: RecordExistsAction::Replace,
                condition: Some(record::is_dead(now)),
                expiration: record::lasting(ttl),
            });
            if self.write(&starting, &key, &step).await? {
                return Ok(delta);
            }
            // Neither: a value, a counter at its end, or one that somebody else has just started.
            match found(self.read(&key).await?).transpose()? {
                Some(Found::Counter(count)) if count.checked_add(delta).is_none() => {
                    let message = "the counter would leave the range of i64";
                    return Err(Error::new(ErrorKind::Overflow, message).into());
                }
                Some(blob @ Found::Blob(_)) if blob.is_live(now) => {
                    let message = "the key holds a value, not a counter";
                    return Err(Error::new(ErrorKind::WrongType, message).into());
                }
                _ => {}
            }
        }
        Err(changed_at_every_attempt().into())
    }
}
