//! The verbs that read.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    errors,
    link::Live,
    node::{Node, STEP},
    parts::whole,
    protocol::{Command, Condition, Status, Verb},
    space::Space,
    stored::{LOADING, Stored, is_live, mark_of_item},
};
use crate::{Entry, Key, Lease, Leased, Result, Timestamp, backend::generation::Generation};

/// Stands in a lease that holds.
const HOLDS: u64 = 1;

impl Node {
    pub(super) async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let space = self.spaces.of(key);
        let answers = self.ask(&space, |generation| {
            let item = space.item(generation, key.as_key_ref());
            vec![Command::new(&item, Verb::Get)]
        });
        let answers = answers.await?;
        let (generation, live) = (answers.generation, answers.live.clone());
        let Some(found) = Stored::of(answers.only()?)? else {
            return Ok(None);
        };
        match whole(found, &space, generation, &live).await? {
            Some(found) => found.entry(generation, Timestamp::now()),
            None => Ok(None),
        }
    }

    /// The entry of what was found; `None` where it is damaged, so that it does not keep others from their callers.
    async fn entry(
        found: Stored,
        space: &Space,
        generation: Generation,
        live: &Live,
    ) -> Result<Option<Entry>> {
        let found = whole(found, space, generation, live).await?;
        let entry = found.map(|found| found.entry(generation, Timestamp::now()));
        Ok(entry.and_then(Result::ok).flatten())
    }

    /// Several keys of one namespace. What is damaged is absent.
    pub(super) async fn get_many(
        &self,
        space: &Arc<Space>,
        keys: &[&Key],
    ) -> Result<Vec<Option<Entry>>> {
        let mut entries = Vec::with_capacity(keys.len());
        for keys in keys.chunks(STEP) {
            let answers = self.ask(space, |generation| {
                let items = keys
                    .iter()
                    .map(|key| space.item(generation, key.as_key_ref()));
                items.map(|item| Command::new(&item, Verb::Get)).collect()
            });
            let answers = answers.await?;
            for reply in answers.replies {
                entries.push(match Stored::of(reply)? {
                    Some(found) => {
                        Self::entry(found, space, answers.generation, &answers.live).await?
                    }
                    None => None,
                });
            }
        }
        Ok(entries)
    }

    /// Several keys of one namespace, each with what tells that nobody has changed it since.
    ///
    /// Where there is nothing, the server makes an empty item in the same step. Its cas, or that of what is there, is the
    /// lease: whoever puts the key gives it another one, and whoever deletes it removes it.
    pub(super) async fn get_leased_many(
        &self,
        space: &Arc<Space>,
        keys: &[&Key],
    ) -> Result<Vec<Leased>> {
        let mut leased = Vec::with_capacity(keys.len());
        for keys in keys.chunks(STEP) {
            let mark = mark_of_item(LOADING, Timestamp::now());
            let answers = self.ask(space, |generation| {
                let items = keys
                    .iter()
                    .map(|key| space.item(generation, key.as_key_ref()));
                let look = Verb::GetOrMake { ttl: LOADING, mark };
                items
                    .map(|item| Command::new(&item, look.clone()))
                    .collect()
            });
            let answers = answers.await?;
            let generation = answers.generation;
            for (key, reply) in keys.iter().zip(answers.replies) {
                // A server without room for an empty item promises nothing.
                let stored = match reply.status {
                    Status::NoRoom => None,
                    _ => Stored::of(reply)?,
                };
                let (mut entry, mut cas) = (None, None);
                if let Some(found) = stored {
                    cas = Some(found.cas);
                    let (is_steady, ended) = (found.is_steady(Timestamp::now()), found.cas);
                    entry = Self::entry(found, space, generation, &answers.live).await?;
                    if entry.is_none() && !is_steady {
                        // It could be gone before the load ends.
                        cas = self.begin_load(space, generation, key, ended).await?;
                    }
                }
                leased.push(Leased {
                    entry,
                    lease: lease(generation, cas),
                });
            }
        }
        Ok(leased)
    }

    /// Puts an empty item in place of one that has ended, and says what it is known by; `None` where somebody else was
    /// quicker.
    async fn begin_load(
        &self,
        space: &Arc<Space>,
        generation: Generation,
        key: &Key,
        ended: u64,
    ) -> Result<Option<u64>> {
        let item = space.item(generation, key.as_key_ref());
        let empty = Verb::Set {
            condition: Condition::Cas(ended),
            value: Bytes::new(),
            mark: mark_of_item(LOADING, Timestamp::now()),
            ttl: LOADING,
        };
        let live = self.link.live().await?;
        let replies = live.ask(&[Command::new(&item, empty)], Some(space)).await?;
        let reply = replies.first().ok_or_else(errors::unexpected)?;
        Ok((reply.status == Status::Done).then_some(reply.cas))
    }

    pub(super) async fn contains(&self, key: &Key) -> Result<bool> {
        let space = self.spaces.of(key);
        let answers = self.ask(&space, |generation| {
            let item = space.item(generation, key.as_key_ref());
            vec![Command::new(&item, Verb::Look)]
        });
        let look = answers.await?.only()?;
        match look.status {
            Status::Done | Status::Absent => Ok(is_live(&look, Timestamp::now())),
            other => Err(errors::refused(other)),
        }
    }
}

fn lease(generation: Generation, cas: Option<u64>) -> Lease {
    Lease {
        generation: generation.as_u64(),
        version: cas.unwrap_or_default(),
        invalidation: cas.map_or(0, |_| HOLDS),
    }
}

/// The lease on what nobody could be asked about; nothing is put by it.
pub(super) fn no_lease() -> Lease {
    Lease {
        generation: 0,
        version: 0,
        invalidation: 0,
    }
}

/// The cas that a lease stands for, if it holds in this generation.
pub(super) fn leased_cas(lease: Lease, generation: Generation) -> Option<u64> {
    let holds = lease.invalidation == HOLDS && lease.generation == generation.as_u64();
    holds.then_some(lease.version).filter(|cas| *cas != 0)
}
