//! The verbs that write.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use redis::{Cmd, Pipeline, Value};

use super::{
    MAX_VALUE_LEN, Shared,
    asking::{Answers, Request},
    deleting::step,
    errors,
    link::Live,
    reply,
    scripts::version_text,
    space::Space,
};
use crate::{
    Entry, Error, ErrorKind, Key, Lease, PutMode, Result, Timestamp,
    backend::{frame::frame, generation::Generation},
};

/// Where the header of an entry has its end.
const END: std::ops::Range<usize> = 10..16;

/// What is put for no more milliseconds than these may have ended before a load that began earlier does, which would
/// find the key as it was. A deletion leaves a trace in its counter, and so does such a put.
const BRIEF: u64 = 30_000;

/// A thousand years and more. Some servers have no number for the end of a field that is further away.
const LONGEST: u64 = 1 << 45;

/// What is done for an entry that is put.
enum Plan {
    /// `SET`, or `SET NX`.
    Set(Writing, bool),
    /// The script, where the version is this one.
    IfVersion(Writing, u64),
    /// The script, where the version and the counter of deletions are those of the lease.
    IfUnchanged(Writing, Lease),
    /// What is there goes: it is not the truth any more, and nothing can come in its place.
    Remove { kept: bool },
    /// Nothing.
    Refuse,
}

/// What is written: the bytes, and for how many milliseconds; 0 for what has ended already, `None` for ever.
struct Writing {
    frame: Bytes,
    ttl: Option<u64>,
}

impl Writing {
    fn is_brief(&self) -> bool {
        self.ttl.is_some_and(|ttl| ttl <= BRIEF)
    }
}

impl Plan {
    /// Whether a command comes before its own that raises the counter.
    fn raises(&self) -> bool {
        matches!(self, Self::Set(writing, _) if writing.is_brief())
    }

    /// Whether it takes a command under this generation. A lease names one generation and is over under another.
    fn applies(&self, generation: Generation) -> bool {
        match self {
            Self::Set(..) | Self::IfVersion(..) => true,
            Self::IfUnchanged(_, lease) => lease.generation == generation.as_u64(),
            Self::Remove { .. } | Self::Refuse => false,
        }
    }
}

impl Shared {
    pub(super) async fn put(&self, key: &Key, entry: &Entry, mode: PutMode) -> Result<bool> {
        let space = self.spaces.of(key);
        let kept = self.put_in(&space, vec![(key, self.plan(entry, mode))]);
        kept.await?.first().copied().ok_or_else(errors::unexpected)
    }

    pub(super) async fn put_many(&self, entries: &[(Key, Entry, PutMode)]) -> Result<Vec<bool>> {
        let parts = self.by_space(entries.iter().map(|(key, ..)| key));
        // All of them are tried, whatever becomes of some: what they replace has to go.
        let parts = parts.into_iter().map(|(space, places)| async move {
            let plans = places.iter().map(|&place| {
                let (key, entry, mode) = &entries[place];
                (key, self.plan(entry, *mode))
            });
            let answers = self.put_in(&space, plans.collect()).await?;
            Ok::<_, Error>(places.into_iter().zip(answers))
        });
        let mut kept = vec![false; entries.len()];
        let mut refused = None;
        for part in join_all(parts).await {
            match part {
                Ok(part) => part.for_each(|(place, answer)| kept[place] = answer),
                Err(error) if error.kind() == ErrorKind::TooLarge => refused = Some(error),
                Err(error) => return Err(error),
            }
        }
        match refused {
            Some(error) => Err(error),
            None => self.reach.open().map(|()| kept),
        }
    }

    fn plan(&self, entry: &Entry, mode: PutMode) -> Plan {
        let too_large = entry.payload().len() > MAX_VALUE_LEN;
        let ttl = ttl(entry, Timestamp::now());
        let writing = || Writing {
            frame: frame(entry, self.versions.next()),
            ttl,
        };
        match mode {
            PutMode::Always if too_large || ttl == Some(0) => Plan::Remove { kept: !too_large },
            PutMode::Always => Plan::Set(writing(), false),
            _ if too_large => Plan::Refuse,
            PutMode::IfAbsent => Plan::Set(writing(), true),
            // They stand for nothing that is there, and for nothing that was seen.
            PutMode::IfVersion(0)
            | PutMode::IfUnchanged(Lease {
                invalidation: 0, ..
            }) => Plan::Refuse,
            PutMode::IfVersion(version) => Plan::IfVersion(writing(), version),
            PutMode::IfUnchanged(lease) => Plan::IfUnchanged(writing(), lease),
        }
    }

    /// Carries out the plans for keys of one namespace.
    async fn put_in(&self, space: &Space, plans: Vec<(&Key, Plan)>) -> Result<Vec<bool>> {
        let mut kept = vec![false; plans.len()];
        let mut removed = Vec::new();
        let mut open = Vec::with_capacity(plans.len());
        for (place, (key, plan)) in plans.into_iter().enumerate() {
            match plan {
                Plan::Remove { kept: is_kept } => {
                    kept[place] = is_kept;
                    removed.push(key);
                }
                Plan::Refuse => {}
                plan => open.push((place, key, plan)),
            }
        }
        if !removed.is_empty() {
            self.delete_in(space, &removed).await?;
        }
        let mut full = Vec::new();
        let mut refused = None;
        let mut is_healed = false;
        // Again for those whose script the server has forgotten, by its text.
        while !open.is_empty() {
            let answers = self.ask(space, |generation, live| {
                let mut pipeline = Pipeline::with_capacity(open.len() + 1);
                for (_, key, plan) in &open {
                    if plan.raises() {
                        let counter = space.counter_key(key);
                        pipeline.cmd("INCRBY").arg(counter).arg(step());
                    }
                    let command = self.command(space, generation, live, key, plan);
                    command.map(|command| pipeline.add_command(command));
                }
                Request::Commands(pipeline)
            });
            let Answers {
                generation,
                live,
                values,
            } = answers.await?;
            let mut values = values.into_iter();
            let mut again = Vec::new();
            let mut foreign = Vec::new();
            for (place, key, plan) in open {
                if !plan.applies(generation) {
                    continue;
                }
                let raised = plan.raises().then(|| values.next());
                let value = values.next().ok_or_else(errors::unexpected)?;
                let answer = match &plan {
                    Plan::Set(..) => match raised.flatten().as_ref().map(reply::integer) {
                        Some(Err(error)) => Err(error),
                        _ => reply::was_set(&value),
                    },
                    _ if !self.scripts.put.answered(&live, &value) => {
                        again.push((place, key, plan));
                        continue;
                    }
                    _ => reply::any(&value),
                };
                match answer {
                    Ok(answer) => kept[place] = answer,
                    // Others put something else where a bucket's hash should be.
                    Err(error)
                        if error.kind() == ErrorKind::WrongType
                            && matches!(plan, Plan::Set(..))
                            && !is_healed =>
                    {
                        foreign.push(key);
                        again.push((place, key, plan));
                    }
                    Err(error) if error.kind() == ErrorKind::TooLarge => {
                        if matches!(plan, Plan::Set(_, false)) {
                            full.push(key);
                        }
                        refused = Some(error);
                    }
                    Err(error) => return Err(error),
                }
            }
            if !foreign.is_empty() {
                self.remove_foreign(space, &foreign).await?;
                is_healed = true;
            }
            open = again;
        }
        if !full.is_empty() {
            // What is there is not the truth any more, and the server has no room for what would be.
            self.delete_in(space, &full).await?;
        }
        match refused {
            Some(error) => Err(error),
            None => self.reach.open().map(|()| kept),
        }
    }

    /// The command of a plan under a generation, if it takes one.
    fn command(
        &self,
        space: &Space,
        generation: Generation,
        live: &Live,
        key: &Key,
        plan: &Plan,
    ) -> Option<Cmd> {
        if !plan.applies(generation) {
            return None;
        }
        let location = space.locate(generation, key);
        let (writing, version, counter) = match plan {
            Plan::Set(Writing { frame, ttl }, if_absent) => {
                // An entry that has ended is put where none is, and that is the end of it.
                let ttl = ttl.map(|ttl| ttl.max(1));
                return Some(location.set(frame, ttl, *if_absent));
            }
            Plan::IfVersion(writing, version) => (writing, version, None),
            Plan::IfUnchanged(writing, lease) => {
                (writing, &lease.version, Some(lease.invalidation))
            }
            Plan::Remove { .. } | Plan::Refuse => return None,
        };
        let raises = writing.ttl == Some(0) || (counter.is_none() && writing.is_brief());
        let mut command = self.scripts.put.call(live, 2);
        command
            .arg(location.key())
            .arg(space.counter_key(key))
            .arg(version_text(*version))
            .arg(counter.map_or_else(String::new, |counter| counter.to_string()))
            .arg(&writing.frame[..])
            .arg(writing.ttl.map_or_else(String::new, |ttl| ttl.to_string()))
            .arg(if raises {
                step().to_string()
            } else {
                String::new()
            });
        location.field().map(|field| command.arg(field));
        Some(command)
    }

    pub(super) async fn touch(&self, key: &Key, left: Option<Duration>) -> Result<bool> {
        let now = Timestamp::now();
        // Of anything with that end, only the header is of interest.
        let touched = Entry::counter(0, now).with_ttl(left, now);
        let header = touched.to_bytes();
        let script = &self.scripts.touch;
        let ttl = ttl(&touched, now).map_or_else(String::new, |ttl| ttl.to_string());
        let answer = self.call(script, key, 1, |command| {
            command.arg(&header[END]).arg(&ttl);
        });
        reply::any(&answer.await?.only()?)
    }

    pub(super) async fn increment(
        &self,
        key: &Key,
        delta: i64,
        left: Option<Duration>,
    ) -> Result<i64> {
        let now = Timestamp::now();
        let counter = Entry::counter(0, now).with_ttl(left, now);
        let sum = match ttl(&counter, now) {
            // Two commands in one step: between them the counter could end, and the second would make one without an end.
            Some(ttl) => {
                let script = &self.scripts.count;
                let answers = self.call(script, key, 1, |command| {
                    command.arg(delta).arg(ttl.max(1));
                });
                answers.await?.only()?
            }
            None => {
                let space = self.spaces.of(key);
                let answers = self.ask(&space, |generation, _| {
                    let mut pipeline = Pipeline::new();
                    pipeline.add_command(space.locate(generation, key).add(delta));
                    Request::Commands(pipeline)
                });
                answers.await?.only()?
            }
        };
        match sum {
            Value::ServerError(error) => Err(match error.details() {
                Some(details) if details.contains("not an integer") => {
                    Error::new(ErrorKind::WrongType, "the key holds a value, not a counter")
                }
                Some(details) if details.contains("overflow") => Error::new(
                    ErrorKind::Overflow,
                    "the counter would leave the range of i64",
                ),
                _ => errors::refused(&error),
            }),
            Value::BulkString(_) => reply::number(&sum).ok_or_else(errors::unexpected),
            sum => reply::integer(&sum),
        }
    }
}

/// How many milliseconds an entry has left; 0 where it has ended, `None` where it never ends.
fn ttl(entry: &Entry, now: Timestamp) -> Option<u64> {
    let left = entry.remaining(now)?;
    Some(u64::try_from(left.as_millis()).map_or(LONGEST, |left| left.min(LONGEST)))
}
