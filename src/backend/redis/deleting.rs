//! The verbs that delete, and the counters by which loads elsewhere learn of it.
//!
//! A deletion raises a counter and then removes the key, in this order: whoever reads the old counter reads it before
//! the key is gone, and finds it raised when a load ends. It does not matter whether anything was under the key.

use futures_util::future::join_all;
use redis::{Pipeline, Value};

use super::{Shared, asking::Request, reply, scripts::version_text, space::Space};
use crate::{ErrorKind, Key, Result};

/// What a counter is raised by: so much that a counter which was lost and begun anew is not taken for the old one.
pub(super) fn step() -> i64 {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).expect("the operating system has a source of random numbers");
    i64::from(u32::from_le_bytes(bytes) >> 1) + 1
}

impl Shared {
    pub(super) async fn delete_many(&self, keys: &[Key]) -> Result<Vec<bool>> {
        let parts = self.by_space(keys.iter()).into_iter();
        let parts = parts.map(|(space, numbers)| async move {
            let keys: Vec<_> = numbers.iter().map(|&number| &keys[number]).collect();
            let answers = self.delete_in(&space, &keys).await?;
            Result::Ok(numbers.into_iter().zip(answers))
        });
        let mut removed = vec![false; keys.len()];
        // All of them are tried, whatever becomes of some.
        for part in join_all(parts)
            .await
            .into_iter()
            .collect::<Result<Vec<_>>>()?
        {
            for (number, answer) in part {
                removed[number] = answer;
            }
        }
        Ok(removed)
    }

    /// Deletes keys of one namespace.
    pub(super) async fn delete_in(&self, space: &Space, keys: &[&Key]) -> Result<Vec<bool>> {
        let mut counters: Vec<_> = keys.iter().map(|key| space.counter_key(key)).collect();
        counters.sort_unstable();
        counters.dedup();
        let steps: Vec<_> = counters.iter().map(|_| step()).collect();
        let answers = self.ask(space, |generation, _| {
            let mut pipeline = Pipeline::new();
            for (counter, step) in counters.iter().zip(&steps) {
                pipeline.cmd("INCRBY").arg(counter).arg(*step);
            }
            for key in keys {
                pipeline.add_command(space.locate(generation, key).remove());
            }
            Request::Commands(pipeline)
        });
        let answers = answers.await?;
        let (raised, unlinked) = answers.values.split_at(counters.len());
        let mut removed = self.removed(space, keys, unlinked).await?;
        if raised.iter().any(|value| reply::integer(value).is_err()) {
            let again = self.delete_without_room(space, keys, &counters).await?;
            removed = removed
                .iter()
                .zip(again)
                .map(|(one, two)| *one || two)
                .collect();
        } else if let Some((counter, value)) = counters.pop().zip(raised.last()) {
            space.deleted(answers.live.number(), counter, reply::integer(value)?);
        }
        Ok(removed)
    }

    /// What a deletion is on a server that has no room for a larger number: the counters are removed, which ends all
    /// leases too, and the keys once more, because a load may have ended before that.
    async fn delete_without_room(
        &self,
        space: &Space,
        keys: &[&Key],
        counters: &[Vec<u8>],
    ) -> Result<Vec<bool>> {
        space.forget_deletions();
        let answers = self.ask(space, |generation, _| {
            let mut pipeline = Pipeline::new();
            pipeline.cmd("UNLINK").arg(counters);
            for key in keys {
                pipeline.add_command(space.locate(generation, key).remove());
            }
            Request::Commands(pipeline)
        });
        let values = answers.await?.values;
        let removed = values.get(1..).unwrap_or_default();
        self.removed(space, keys, removed).await
    }

    /// Which of the keys were removed. What others put where a bucket's hash should be goes as a whole.
    async fn removed(&self, space: &Space, keys: &[&Key], answers: &[Value]) -> Result<Vec<bool>> {
        let mut removed = Vec::with_capacity(keys.len());
        let mut foreign = Vec::new();
        for (&key, answer) in keys.iter().zip(answers) {
            removed.push(match reply::any(answer) {
                Err(error) if error.kind() == ErrorKind::WrongType => {
                    foreign.push(key);
                    false
                }
                answer => answer?,
            });
        }
        self.remove_foreign(space, &foreign).await?;
        Ok(removed)
    }

    /// Removes all that is under the keys of the server that these keys lead to.
    pub(super) async fn remove_foreign(&self, space: &Space, keys: &[&Key]) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let answers = self.ask(space, |generation, _| {
            let mut pipeline = Pipeline::with_capacity(keys.len() + 1);
            for key in keys {
                let location = space.locate(generation, key);
                pipeline.cmd("UNLINK").arg(location.key());
            }
            Request::Commands(pipeline)
        });
        let answers = answers.await?.values;
        answers
            .iter()
            .try_for_each(|answer| reply::any(answer).map(drop))
    }

    /// Ends a bucket that is in one hash, and says whether it is kept so.
    pub(super) async fn clear_bucket(&self, bucket: &Key) -> Result<bool> {
        let space = self.spaces.of(bucket);
        let counters = space.counter_keys_of_bucket(bucket);
        let steps: Vec<_> = counters.iter().map(|_| step()).collect();
        let remove = async |raises: bool| {
            let answers = self.ask(&space, |generation, _| {
                let mut pipeline = Pipeline::with_capacity(counters.len() + 2);
                let location = space.locate(generation, bucket);
                if location.field().is_some() {
                    for (counter, step) in counters.iter().zip(&steps) {
                        match raises {
                            true => pipeline.cmd("INCRBY").arg(counter).arg(*step),
                            // On a server that has no room for a larger number.
                            false => pipeline.cmd("UNLINK").arg(counter),
                        };
                    }
                    pipeline.cmd("UNLINK").arg(location.key());
                }
                Request::Commands(pipeline)
            });
            answers.await
        };
        let answers = remove(true).await?;
        let Some((removed, raised)) = answers.values.split_last() else {
            return Ok(false);
        };
        reply::any(removed)?;
        if raised.iter().any(|value| reply::integer(value).is_err()) {
            space.forget_deletions();
            let answers = remove(false).await?.values;
            answers
                .iter()
                .try_for_each(|answer| reply::any(answer).map(drop))?;
        } else if let Some((counter, value)) = counters.last().zip(raised.last()) {
            let value = reply::integer(value)?;
            space.deleted(answers.live.number(), counter.clone(), value);
        }
        Ok(true)
    }

    pub(super) async fn delete_if(&self, key: &Key, version: u64) -> Result<bool> {
        // Stands for an absent entry, which cannot be deleted.
        if version == 0 {
            return self.reach.open().map(|()| false);
        }
        let space = self.spaces.of(key);
        let (counter, step) = (space.counter_key(key), step());
        let answers = self.call(&self.scripts.delete, key, 2, |command| {
            command.arg(&counter).arg(version_text(version)).arg(step);
        });
        let answers = answers.await?;
        let connection = answers.live.number();
        let mut parts = reply::array(answers.only()?)?.into_iter();
        let removed = parts.next().as_ref().map_or(Ok(false), reply::any)?;
        if removed {
            match parts.next().as_ref().and_then(reply::number) {
                Some(value) => space.deleted(connection, counter, value),
                None => space.forget_deletions(),
            }
        }
        Ok(removed)
    }
}
