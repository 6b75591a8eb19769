//! The verbs that read.

use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, Pipeline, Value};

use super::{
    Shared,
    asking::Request,
    deleting::step,
    errors, reply,
    space::Space,
    stored::{self, HEAD_LEN, Stored},
};
use crate::{Entry, Key, Lease, Leased, Result, Timestamp, backend::generation::Generation};

/// So many keys are asked for by one command; other clients wait while the server carries it out.
const CHUNK: usize = 1000;

/// A counter that was found: its place among the keys asked for, the key it is stored under, and its value.
type Counter = (usize, Vec<u8>, i64);

impl Shared {
    pub(super) async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let space = self.spaces.of(key);
        let stored_key = |generation| space.stored_key(generation, key.as_key_ref());
        let answers = self.ask(&space, |generation, _| {
            let stored_key = stored_key(generation);
            let len = "MGET".len() + stored_key.len() + space.marker().len();
            let mut command = Cmd::with_capacity(3, len);
            command.arg("MGET").arg(stored_key);
            Request::Read(command)
        });
        let answers = answers.await?;
        let generation = answers.generation;
        let Some(bytes) = reply::bytes(answers.only()?)? else {
            return Ok(None);
        };
        match Stored::read(bytes)? {
            Stored::Entry(entry) => Ok(Some(entry).filter(|it| !it.is_expired(Timestamp::now()))),
            Stored::Counter(value) => {
                let mut place = [None];
                let counters = vec![(0, stored_key(generation), value)];
                self.add_counters(counters, &mut place).await?;
                let [entry] = place;
                Ok(entry)
            }
        }
    }

    pub(super) async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>> {
        let mut entries = vec![None; keys.len()];
        for (space, places) in self.by_space(keys.iter()) {
            let chunks: Vec<_> = places.chunks(CHUNK).collect();
            let (generation, values) = self
                .read_chunks(&space, chunks.len(), |generation, chunk, command| {
                    for &place in chunks[chunk] {
                        command.arg(space.stored_key(generation, keys[place].as_key_ref()));
                    }
                })
                .await?;
            let values = values.into_iter().flatten().map(reply::bytes);
            let values = values.collect::<Result<Vec<_>>>()?;
            let found = places.into_iter().zip(values);
            self.add(&space, generation, keys, found, &mut entries)
                .await?;
        }
        self.link.open().map(|()| entries)
    }

    /// Several keys with what their leases need, each read in one step with the counter of its deletions.
    pub(super) async fn get_leased_many(&self, keys: &[Key]) -> Result<Vec<Leased>> {
        let mut entries = vec![None; keys.len()];
        let mut leases = vec![None; keys.len()];
        for (space, places) in self.by_space(keys.iter()) {
            let (generation, pairs) = self.with_counters(&space, keys, &places).await?;
            let mut found = Vec::with_capacity(places.len());
            for (place, (value, counter)) in places.into_iter().zip(pairs) {
                let bytes = reply::bytes(value)?;
                leases[place] = Some(Lease {
                    generation: generation.as_u64(),
                    version: stored::version(bytes.as_ref()),
                    // 0 where the server had no room for a counter: such a lease is worth nothing.
                    invalidation: reply::number(&counter).map_or(0, i64::cast_unsigned),
                });
                found.push((place, bytes));
            }
            self.add(&space, generation, keys, found, &mut entries)
                .await?;
        }
        let leased = entries.into_iter().zip(leases);
        let leased = leased.map(|(entry, lease)| {
            let lease = lease.ok_or_else(errors::unexpected)?;
            Ok(Leased { entry, lease })
        });
        self.link.open().and_then(|()| leased.collect())
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
        let chunks: Vec<_> = places.chunks(CHUNK).zip(counters.chunks(CHUNK)).collect();
        let mut made = false;
        loop {
            let (generation, values) = self
                .read_chunks(space, chunks.len(), |generation, chunk, command| {
                    let (places, counters) = chunks[chunk];
                    for &place in places {
                        command.arg(space.stored_key(generation, keys[place].as_key_ref()));
                    }
                    command.arg(counters);
                })
                .await?;
            let pairs = values.into_iter().flat_map(|mut values| {
                let counters = values.split_off(values.len() / 2);
                values.into_iter().zip(counters)
            });
            let pairs: Vec<_> = pairs.collect();
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
            self.link.live().await?.ask_all(&pipeline).await?;
            made = true;
        }
    }

    pub(super) async fn contains(&self, key: &Key) -> Result<bool> {
        let space = self.spaces.of(key);
        let answers = self.ask(&space, |generation, _| {
            let mut pipeline = Pipeline::new();
            let stored_key = space.stored_key(generation, key.as_key_ref());
            let head = pipeline.cmd("GETRANGE").arg(stored_key);
            head.arg(0).arg(HEAD_LEN - 1);
            Request::Commands(pipeline)
        });
        let head = reply::bytes(answers.await?.only()?)?.unwrap_or_default();
        Ok(Stored::is_live(&head, Timestamp::now()))
    }

    /// Reads the keys that `fill` adds for each chunk, by one command a chunk.
    async fn read_chunks(
        &self,
        space: &Space,
        count: usize,
        fill: impl Fn(Generation, usize, &mut Cmd),
    ) -> Result<(Generation, Vec<Vec<Value>>)> {
        let answers = self.ask(space, |generation, _| {
            let mut commands = (0..count).map(|chunk| {
                let mut command = redis::cmd("MGET");
                fill(generation, chunk, &mut command);
                command
            });
            match (count, commands.next()) {
                (1, Some(command)) => Request::Read(command),
                (_, first) => {
                    let mut pipeline = Pipeline::new();
                    for command in first.into_iter().chain(commands) {
                        pipeline.add_command(command);
                    }
                    Request::Commands(pipeline)
                }
            }
        });
        let answers = answers.await?;
        let values = match count {
            1 => vec![answers.values],
            _ => {
                let arrays = answers.values.into_iter().map(reply::array);
                arrays.collect::<Result<_>>()?
            }
        };
        Ok((answers.generation, values))
    }

    /// Puts what was found in its place, if it is live.
    async fn add(
        &self,
        space: &Space,
        generation: Generation,
        keys: &[Key],
        found: impl IntoIterator<Item = (usize, Option<Bytes>)>,
        entries: &mut [Option<Entry>],
    ) -> Result<()> {
        let now = Timestamp::now();
        let mut counters = Vec::new();
        for (place, bytes) in found {
            match bytes.map(Stored::read).transpose()? {
                None => {}
                Some(Stored::Entry(entry)) => {
                    entries[place] = Some(entry).filter(|entry| !entry.is_expired(now));
                }
                Some(Stored::Counter(value)) => {
                    let stored_key = space.stored_key(generation, keys[place].as_key_ref());
                    counters.push((place, stored_key, value));
                }
            }
        }
        self.add_counters(counters, entries).await
    }

    /// Puts counters in their places, with their ends, which take a round trip of their own to ask for.
    async fn add_counters(
        &self,
        counters: Vec<Counter>,
        entries: &mut [Option<Entry>],
    ) -> Result<()> {
        if counters.is_empty() {
            return Ok(());
        }
        let mut pipeline = Pipeline::new();
        for (_, stored_key, _) in &counters {
            pipeline.cmd("PTTL").arg(stored_key);
        }
        let answers = self.link.live().await?.ask_all(&pipeline).await?;
        let now = Timestamp::now();
        for ((place, _, value), answer) in counters.into_iter().zip(answers) {
            entries[place] = match reply::integer(&answer)? {
                // It ended since it was read.
                -2 => None,
                left => {
                    let ttl = u64::try_from(left).ok().map(Duration::from_millis);
                    Some(stored::counter(value, now).with_ttl(ttl, now))
                }
            };
        }
        Ok(())
    }
}
