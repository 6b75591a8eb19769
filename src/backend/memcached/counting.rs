//! Counters: the server's own numbers, which it adds to in one step.
//!
//! It counts modulo 2^64 and knows no sign. So does two's complement: adding is the same in both, below zero too, and
//! only what leaves the range of `i64` has to be found out afterwards. It is taken back then, which is exact whatever
//! others have added meanwhile.

use std::time::Duration;

use super::{
    errors,
    node::{Answers, Node, ROUNDS},
    parts::whole,
    protocol::{Command, Condition, Status, Verb},
    stored::{Seen, Stored, counted, counter_ttl, digits, mark_of_item, not_a_counter, overflow},
};
use crate::{Key, Result, Timestamp, backend::single};

impl Node {
    pub(super) async fn increment(
        &self,
        key: &Key,
        delta: i64,
        ttl: Option<Duration>,
    ) -> Result<i64> {
        let space = self.spaces.of(key);
        let ttl = counter_ttl(ttl, Timestamp::now());
        for _ in 0..ROUNDS {
            let add = Verb::Add {
                delta: delta.cast_unsigned(),
                made_for: Some(ttl),
            };
            let answers = self.ask(&space, |generation| {
                let item = space.item(generation, key.as_key_ref());
                vec![Command::new(&item, add.clone())]
            });
            let Answers {
                generation,
                live,
                replies,
            } = answers.await?;
            let reply = replies.first().ok_or_else(errors::unexpected)?;
            let begun = match reply.status {
                Status::Done => {
                    let sum = reply.value.as_deref().and_then(counted);
                    let sum = sum.ok_or_else(errors::unexpected)?;
                    if sum.wrapping_sub(delta).checked_add(delta).is_some() {
                        return Ok(sum);
                    }
                    // By the same connection and in a task of its own: whoever asked may leave.
                    let item = space.item(generation, key.as_key_ref());
                    let (space, live) = (space.clone(), live.clone());
                    let taking_back = tokio::spawn(async move {
                        let subtract = Verb::Add {
                            delta: delta.wrapping_neg().cast_unsigned(),
                            made_for: None,
                        };
                        let subtract = Command::new(&item, subtract);
                        live.ask(&[subtract], Some(&space)).await
                    });
                    taking_back.await.map_err(|_| single::closed())??;
                    return Err(overflow());
                }
                Status::Absent => self.put_count(key, delta, ttl, None).await?,
                Status::NotANumber => self.replace_by_count(key, delta, ttl).await?,
                other => return Err(errors::refused(other)),
            };
            if begun {
                return Ok(delta);
            }
        }
        Err(errors::contended())
    }

    /// Begins a counter in place of an item that holds nothing: whether it did, or somebody else was quicker.
    async fn replace_by_count(&self, key: &Key, delta: i64, ttl: i32) -> Result<bool> {
        let space = self.spaces.of(key);
        let answers = self.ask(&space, |generation| {
            let item = space.item(generation, key.as_key_ref());
            vec![Command::new(&item, Verb::Get)]
        });
        let answers = answers.await?;
        let (generation, live) = (answers.generation, answers.live.clone());
        let Some(found) = Stored::of(answers.only()?)? else {
            return Ok(false);
        };
        if found.count().is_some() {
            return Ok(false);
        }
        let seen = found.seen(generation);
        if let Some(found) = whole(found, &space, generation, &live).await?
            && found.entry(generation, Timestamp::now())?.is_some()
        {
            return Err(not_a_counter());
        }
        self.put_count(key, delta, ttl, Some(seen)).await
    }

    /// Puts a counter in place of what was seen under the key, or where nothing is: whether it did, or somebody else was
    /// quicker.
    pub(super) async fn put_count(
        &self,
        key: &Key,
        count: i64,
        ttl: i32,
        seen: Option<Seen>,
    ) -> Result<bool> {
        let space = self.spaces.of(key);
        let mark = mark_of_item(ttl, Timestamp::now());
        let answers = self.ask(&space, |generation| {
            let condition = match seen {
                Some(seen) => seen.condition(generation),
                None => Some(Condition::Absent),
            };
            let item = space.item(generation, key.as_key_ref());
            let put = condition.map(|condition| Verb::Set {
                condition,
                value: digits(count),
                mark,
                ttl,
            });
            put.map(|put| Command::new(&item, put))
                .into_iter()
                .collect()
        });
        match answers.await?.replies.first().map(|reply| reply.status) {
            Some(Status::Done) => Ok(true),
            Some(Status::Refused | Status::Absent) | None => Ok(false),
            Some(other) => Err(errors::refused(other)),
        }
    }
}
