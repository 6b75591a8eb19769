//! The verbs that read.

use std::time::Duration;

use futures_util::future::join_all;
use redis::{Pipeline, Value};

use super::{
    Shared,
    asking::{Answers, Request},
    deleting::step,
    errors,
    location::Location,
    reply,
    space::Space,
    stored::{self, HEAD_LEN, Stored},
};
use crate::{
    Entry, ErrorKind, Key, Lease, Leased, Result, Timestamp, backend::generation::Generation,
};

/// A counter that was found: its place among what is to be returned, where it is stored, and its value.
type Counter = (usize, Location, i64);

impl Shared {
    pub(super) async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let space = self.spaces.of(key);
        let answers = self.ask(&space, |generation, _| {
            let mut locations = Vec::with_capacity(2);
            locations.push(space.locate(generation, key));
            Request::Read(locations)
        });
        let answers = answers.await?;
        let generation = answers.generation;
        let Some(bytes) = reply::entry(answers.only()?)? else {
            return Ok(None);
        };
        match Stored::read(bytes)? {
            Stored::Entry(entry) => Ok(Some(entry).filter(|it| !it.is_expired(Timestamp::now()))),
            Stored::Counter(value) => {
                let counters = vec![(0, space.locate(generation, key), value)];
                let found = self.with_ends(&space, counters).await?;
                Ok(found.into_iter().next().and_then(|(_, entry)| entry))
            }
        }
    }

    pub(super) async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>> {
        let parts = self.by_space(keys.iter()).into_iter();
        let parts = parts.map(|(space, places)| async move {
            let answers = self.ask(&space, |generation, _| {
                let places = places.iter();
                let stored = places.map(|&place| space.locate(generation, &keys[place]));
                Request::Read(stored.collect())
            });
            let Answers {
                generation, values, ..
            } = answers.await?;
            let found = places.into_iter().zip(values);
            self.entries(&space, generation, keys, found).await
        });
        let mut entries = vec![None; keys.len()];
        for part in join_all(parts).await {
            part?
                .into_iter()
                .for_each(|(place, entry)| entries[place] = entry);
        }
        self.reach.open().map(|()| entries)
    }

    /// Several keys with what their leases need.
    pub(super) async fn get_leased_many(&self, keys: &[Key]) -> Result<Vec<Leased>> {
        let parts = self.by_space(keys.iter()).into_iter();
        let parts = parts.map(|(space, places)| async move {
            let (generation, pairs) = self.with_counters(&space, keys, &places).await?;
            let mut leases = Vec::with_capacity(places.len());
            let mut found = Vec::with_capacity(places.len());
            for (place, (value, counter)) in places.into_iter().zip(pairs) {
                leases.push(Lease {
                    generation: generation.as_u64(),
                    version: stored::version(&value),
                    // 0 where the server had no room for a counter: such a lease is worth nothing.
                    invalidation: reply::number(&counter).map_or(0, i64::cast_unsigned),
                });
                found.push((place, value));
            }
            let entries = self.entries(&space, generation, keys, found).await?;
            Result::Ok(entries.into_iter().zip(leases))
        });
        let mut leased = vec![None; keys.len()];
        for part in join_all(parts).await {
            for ((place, entry), lease) in part? {
                leased[place] = Some(Leased { entry, lease });
            }
        }
        self.reach.open()?;
        let leased = leased.into_iter();
        leased.map(|it| it.ok_or_else(errors::unexpected)).collect()
    }

    /// The values of keys, each with that of its counter. A counter that is absent is made: its absence could not be
    /// told from its absence at another time.
    async fn with_counters(
        &self,
        space: &Space,
        keys: &[Key],
        places: &[usize],
    ) -> Result<(Generation, Vec<(Value, Value)>)> {
        let counters = places.iter().map(|&place| space.counter_key(&keys[place]));
        let counters: Vec<_> = counters.collect();
        let mut made = false;
        loop {
            let answers = self.ask(space, |generation, _| {
                let places = places.iter();
                let stored = places.map(|&place| space.locate(generation, &keys[place]));
                let counters = counters.iter().cloned().map(Location::Key);
                Request::Read(stored.chain(counters).collect())
            });
            let Answers {
                generation,
                live,
                mut values,
            } = answers.await?;
            let of_counters = values.split_off(values.len() / 2);
            let pairs: Vec<_> = values.into_iter().zip(of_counters).collect();
            let with_keys = pairs.iter().zip(&counters);
            let absent = with_keys.filter(|((_, counter), _)| *counter == Value::Nil);
            let absent: Vec<_> = absent.map(|(_, key)| key).collect();
            if absent.is_empty() || made {
                return Ok((generation, pairs));
            }
            let mut pipeline = Pipeline::new();
            for counter in absent {
                pipeline.cmd("SET").arg(counter).arg(step()).arg("NX");
            }
            let making = self
                .reach
                .send(space.slot(), live, Request::Commands(pipeline));
            making.await?;
            made = true;
        }
    }

    pub(super) async fn contains(&self, key: &Key) -> Result<bool> {
        let space = self.spaces.of(key);
        let answers = self.ask(&space, |generation, _| {
            let mut pipeline = Pipeline::new();
            pipeline.add_command(match space.locate(generation, key) {
                Location::Key(key) => {
                    let mut head = redis::cmd("GETRANGE");
                    head.arg(key).arg(0).arg(HEAD_LEN - 1);
                    head
                }
                // Of a field there is only the whole.
                field => field.get(),
            });
            Request::Commands(pipeline)
        });
        match reply::entry(answers.await?.only()?) {
            Ok(head) => Ok(Stored::is_live(&head.unwrap_or_default(), Timestamp::now())),
            Err(error) if error.kind() == ErrorKind::Decode => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What was found in these places, as entries if they are live.
    pub(super) async fn entries(
        &self,
        space: &Space,
        generation: Generation,
        keys: &[Key],
        found: impl IntoIterator<Item = (usize, Value)>,
    ) -> Result<Vec<(usize, Option<Entry>)>> {
        let now = Timestamp::now();
        let mut counters = Vec::new();
        let mut entries = Vec::new();
        for (place, value) in found {
            let entry = match reply::entry(value)?.map(Stored::read).transpose()? {
                None => None,
                Some(Stored::Entry(entry)) => Some(entry).filter(|entry| !entry.is_expired(now)),
                Some(Stored::Counter(value)) => {
                    let location = space.locate(generation, &keys[place]);
                    counters.push((entries.len(), location, value));
                    None
                }
            };
            entries.push((place, entry));
        }
        for (place, counter) in self.with_ends(space, counters).await? {
            entries[place].1 = counter;
        }
        Ok(entries)
    }

    /// Counters with their ends, which take a round trip of their own to ask for.
    async fn with_ends(
        &self,
        space: &Space,
        counters: Vec<Counter>,
    ) -> Result<Vec<(usize, Option<Entry>)>> {
        if counters.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = Pipeline::new();
        for (_, location, _) in &counters {
            pipeline.add_command(location.ttl());
        }
        let live = self.reach.live(space.slot()).await?;
        let asking = self
            .reach
            .send(space.slot(), live, Request::Commands(pipeline));
        let (_, answers) = asking.await?;
        let now = Timestamp::now();
        let counters = counters.into_iter().zip(answers);
        let counters = counters.map(|((place, _, value), answer)| {
            let entry = match reply::ttl(&answer)? {
                // It ended since it was read.
                -2 => None,
                left => {
                    let ttl = u64::try_from(left).ok().map(Duration::from_millis);
                    Some(stored::counter(value, now).with_ttl(ttl, now))
                }
            };
            Ok((place, entry))
        });
        counters.collect()
    }
}
