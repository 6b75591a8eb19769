//! The verbs that put, and the one that moves an end.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    errors,
    item_key::ItemKey,
    mark,
    node::{Node, ROUNDS, STEP},
    parts::{Split, whole},
    protocol::{Command, Condition, Reply, Status, Verb},
    reading::leased_cas,
    space::Space,
    stored::{self, Seen, Stored, counter_ttl, entry_ttl, is_live},
};
use crate::{
    Entry, Error, ErrorKind, Key, PutMode, Result, Timestamp, backend::generation::Generation,
};

/// An entry on its way to the server.
struct Put<'a> {
    /// Its place among those that are put together.
    place: usize,
    key: &'a Key,
    /// What is put under the key: the whole, or the head of what is split.
    value: Bytes,
    split: Option<Split>,
    mark: u32,
    ttl: i32,
    next: Next,
}

/// What is to be done next for an entry.
#[derive(Clone, Copy)]
enum Next {
    /// Put it, whatever is there.
    Set,
    /// Put it where there is no item, and look at the one that there is.
    Add,
    /// Look whether the item of this version is live.
    Check(u64),
    /// Put it in place of this item, which is a live one of the version asked for.
    Exchange(Seen),
    /// Put it in place of this item, which has ended.
    Succeed(Seen),
    /// Put it in place of the item of a lease.
    Load(crate::Lease),
    /// Remove what is there: it is not the truth any more, and nothing can come in its place.
    Remove,
}

impl Put<'_> {
    fn commands(&self, space: &Space, generation: Generation) -> Vec<Command> {
        let item = &space.item(generation, self.key.as_key_ref());
        let own = self.own_commands(item, generation);
        match &self.split {
            // What has ended is not put anywhere.
            Some(split) if self.puts(&own) && self.ttl >= 0 => {
                let mut commands = split.put(space, generation, self.ttl);
                commands.extend(own);
                commands
            }
            _ => own,
        }
    }

    fn puts(&self, own: &[Command]) -> bool {
        own.iter().any(|it| matches!(it.verb, Verb::Set { .. }))
    }

    fn own_commands(&self, item: &ItemKey, generation: Generation) -> Vec<Command> {
        let set = |condition| {
            Command::new(
                item,
                Verb::Set {
                    condition,
                    value: self.value.clone(),
                    mark: self.mark,
                    ttl: self.ttl,
                },
            )
        };
        match self.next {
            Next::Set => vec![set(Condition::Always)],
            Next::Add => vec![set(Condition::Absent), Command::new(item, Verb::Look)],
            Next::Check(_) => vec![Command::new(item, Verb::Look)],
            Next::Exchange(seen) | Next::Succeed(seen) => {
                seen.condition(generation).map(set).into_iter().collect()
            }
            Next::Load(lease) => leased_cas(lease, generation)
                .map(|cas| set(Condition::Cas(cas)))
                .into_iter()
                .collect(),
            Next::Remove => vec![Command::new(item, Verb::Delete(None))],
        }
    }

    /// What the answers to its commands mean: whether it is kept, or what comes next.
    fn judge(
        &self,
        generation: Generation,
        replies: &[Reply],
        own: usize,
        now: Timestamp,
    ) -> Result<Judged> {
        let (parts, replies) = replies.split_at(replies.len() - own);
        if parts.iter().any(|part| part.status != Status::Done) {
            // Without all its parts the head is worth nothing.
            return Ok(Judged::Full(Some(Next::Remove)));
        }
        let Some(reply) = replies.first() else {
            // Nothing was asked, because what it is to replace is of another generation.
            return Ok(match self.next {
                Next::Succeed(_) => Judged::Next(Next::Add),
                _ => Judged::Kept(false),
            });
        };
        let seen = |cas| Seen { generation, cas };
        Ok(match (self.next, reply.status) {
            (Next::Check(version), Status::Done) if is_live(reply, now) => {
                match stored::cas(generation, version) {
                    Some(cas) if cas == reply.cas => Judged::Next(Next::Exchange(seen(cas))),
                    _ => Judged::Kept(false),
                }
            }
            (Next::Check(_), Status::Done | Status::Absent) => Judged::Kept(false),
            (Next::Remove, Status::Done | Status::Absent) => Judged::Kept(false),
            (Next::Add, Status::Refused) => match replies.get(1) {
                Some(look) if is_live(look, now) => Judged::Kept(false),
                Some(look) if look.status == Status::Done => {
                    Judged::Next(Next::Succeed(seen(look.cas)))
                }
                _ => Judged::Next(Next::Add),
            },
            (Next::Succeed(_), Status::Refused | Status::Absent) => Judged::Next(Next::Add),
            (_, Status::Done) => Judged::Kept(true),
            (_, Status::Refused | Status::Absent) => Judged::Kept(false),
            (Next::Set, Status::TooLarge) => Judged::Next(Next::Remove),
            (_, Status::TooLarge) => Judged::Kept(false),
            (Next::Set, Status::NoRoom) => Judged::Full(Some(Next::Remove)),
            (_, Status::NoRoom) => Judged::Full(None),
            (_, other) => return Err(errors::refused(other)),
        })
    }
}

enum Judged {
    Kept(bool),
    Next(Next),
    /// The server has no room for it, and this is to be done all the same.
    Full(Option<Next>),
}

impl Node {
    /// Puts entries of one namespace.
    pub(super) async fn put_many(
        &self,
        space: &Arc<Space>,
        entries: &[(&Key, &Entry, PutMode)],
    ) -> Result<Vec<bool>> {
        let mut kept = vec![false; entries.len()];
        let mut refused = None;
        for (number, entries) in entries.chunks(STEP).enumerate() {
            let done = self.put_step(space, entries, &mut kept[number * STEP..]);
            match done.await {
                // What the others replace has to go all the same.
                Err(error) if error.kind() == ErrorKind::TooLarge => refused = Some(error),
                done => done?,
            }
        }
        refused.map_or(Ok(kept), Err)
    }

    async fn put_step(
        &self,
        space: &Arc<Space>,
        entries: &[(&Key, &Entry, PutMode)],
        kept: &mut [bool],
    ) -> Result<()> {
        let places = entries.iter().enumerate();
        let open = places
            .filter_map(|(place, (key, entry, mode))| self.plan(place, key, entry, *mode))
            .collect();
        self.carry_out(space, open, kept).await
    }

    async fn carry_out(
        &self,
        space: &Arc<Space>,
        mut open: Vec<Put<'_>>,
        kept: &mut [bool],
    ) -> Result<()> {
        let mut full: Option<Error> = None;
        for _ in 0..ROUNDS {
            if open.is_empty() {
                // A cache that was closed says so, whatever is put.
                return match full {
                    Some(error) => Err(error),
                    None => self.link.open(),
                };
            }
            let answers = self.ask(space, |generation| {
                let commands = open.iter().map(|put| put.commands(space, generation));
                commands.flatten().collect()
            });
            let answers = answers.await?;
            let (generation, now) = (answers.generation, Timestamp::now());
            let mut replies = &answers.replies[..];
            let (mut again, mut orphans) = (Vec::new(), Vec::new());
            for mut put in open {
                let own = put.own_commands(space.marker(), generation).len();
                let (its, others) = replies.split_at(put.commands(space, generation).len());
                replies = others;
                match put.judge(generation, its, own, now)? {
                    Judged::Kept(is_kept) => {
                        kept[put.place] = is_kept;
                        if let (false, Some(split)) = (is_kept, &put.split) {
                            orphans.extend(split.remove(space, generation));
                        }
                    }
                    Judged::Next(next) => {
                        put.next = next;
                        again.push(put);
                    }
                    Judged::Full(next) => {
                        full = Some(errors::no_room());
                        if let Some(next) = next {
                            put.next = next;
                            again.push(put);
                        }
                    }
                }
            }
            if !orphans.is_empty() {
                answers.live.ask(&orphans, Some(space)).await?;
            }
            open = again;
        }
        Err(errors::contended())
    }

    /// What to do for an entry; `None` where it is refused whatever the server says.
    fn plan<'a>(
        &self,
        place: usize,
        key: &'a Key,
        entry: &Entry,
        mode: PutMode,
    ) -> Option<Put<'a>> {
        let len = entry.head_len() + entry.payload().len();
        let fits = len <= self.longest_entry();
        let next = match mode {
            PutMode::Always if !fits => Next::Remove,
            _ if !fits => return None,
            PutMode::Always => Next::Set,
            PutMode::IfAbsent => Next::Add,
            PutMode::IfVersion(version) => Next::Check(version),
            PutMode::IfUnchanged(lease) => Next::Load(lease),
        };
        Some(self.put_of(place, key, entry, next))
    }

    fn put_of<'a>(&self, place: usize, key: &'a Key, entry: &Entry, next: Next) -> Put<'a> {
        let value = match next {
            Next::Remove => Bytes::new(),
            _ => entry.to_bytes(),
        };
        let split = match value.len() <= self.longest() {
            true => None,
            false => Split::new(value.clone(), self.longest(), entry.expires_at()),
        };
        Put {
            place,
            key,
            value: split.as_ref().map_or(value, Split::head),
            split,
            mark: mark::of_entry(entry),
            ttl: entry_ttl(entry, Timestamp::now()),
            next,
        }
    }

    pub(super) async fn touch(&self, key: &Key, ttl: Option<Duration>) -> Result<bool> {
        let space = self.spaces.of(key);
        let expires_at = ttl.map(|ttl| Timestamp::now() + ttl);
        for _ in 0..ROUNDS {
            let answers = self.ask(&space, |generation| {
                let item = space.item(generation, key.as_key_ref());
                vec![Command::new(&item, Verb::Get)]
            });
            let answers = answers.await?;
            let (generation, live) = (answers.generation, answers.live.clone());
            let Some(stored) = Stored::of(answers.only()?)? else {
                return Ok(false);
            };
            let Some(stored) = whole(stored, &space, generation, &live).await? else {
                return Ok(false);
            };
            let now = Timestamp::now();
            let Some(entry) = stored.entry(generation, now)? else {
                return Ok(false);
            };
            let seen = stored.seen(generation);
            let is_done = match stored.count() {
                Some(count) => {
                    let ttl = counter_ttl(ttl, now);
                    self.put_count(key, count, ttl, Some(seen)).await?
                }
                None => {
                    let entry = entry.with_expires_at(expires_at);
                    let put = self.put_of(0, key, &entry, Next::Exchange(seen));
                    let mut kept = [false];
                    self.carry_out(&space, vec![put], &mut kept).await?;
                    kept[0]
                }
            };
            if is_done {
                return Ok(true);
            }
        }
        Err(errors::contended())
    }
}
