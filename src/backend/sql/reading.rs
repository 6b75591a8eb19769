//! The verbs that read.

use std::collections::HashMap;

use bytes::Bytes;

use super::{
    driver::{Argument, Row, Statement},
    errors::{self, Failure},
    namespaces::{self, Group, ROUNDS, restless},
    shared::Sql,
    statements::READ,
};
use crate::{
    Entry, Error, ErrorKind, Key, Lease, Leased, Result, Timestamp, backend::generation::Namespace,
};

/// The end of what never ends.
pub(super) const NEVER: i64 = i64::MAX;

/// Kinds of rows.
pub(super) const ENTRY: i64 = 1;
pub(super) const COUNTER: i64 = 2;

/// So many ids are asked for by one statement.
const CHUNK: usize = 256;

/// A time as rows have it.
pub(super) fn millis(time: Timestamp) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(NEVER)
}

/// The end of an entry as rows have it.
pub(super) fn end(entry: &Entry) -> i64 {
    entry.expires_at().map_or(NEVER, millis)
}

/// A row that was found.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) kind: i64,
    version: i64,
    pub(super) expires_at: i64,
    pub(super) number: i64,
    value: Option<Bytes>,
}

impl Found {
    fn read(row: &mut Row) -> Option<(Bytes, Self)> {
        let id = row.bytes(2)?;
        let found = Self {
            kind: row.int(3)?,
            version: row.int(4)?,
            expires_at: row.int(5)?,
            number: row.int(6)?,
            value: row.bytes(7),
        };
        Some((id, found))
    }

    pub(super) fn is_live(&self, now: Timestamp) -> bool {
        self.expires_at > millis(now)
    }

    /// The entry, where it is live.
    fn entry(self, now: Timestamp) -> Result<Option<Entry>> {
        if !self.is_live(now) {
            return Ok(None);
        }
        let entry = match (self.kind, self.value) {
            (COUNTER, _) => Entry::counter(self.number, now),
            (ENTRY, Some(value)) => Entry::from_bytes(value)?,
            _ => return Err(damaged()),
        };
        // A touch moves the end in the row alone.
        let end = (self.expires_at != NEVER)
            .then(|| Timestamp::from_millis(self.expires_at.unsigned_abs()));
        let entry = entry.with_expires_at(end);
        Ok(Some(entry.with_version(self.version.cast_unsigned())))
    }
}

fn damaged() -> Error {
    Error::new(ErrorKind::Decode, "the row is not one of larder's")
}

/// What was found under several ids of a namespace.
pub(super) struct Reading {
    generation: i64,
    sweeps: i64,
    found: HashMap<Bytes, Found>,
}

impl Reading {
    pub(super) fn found(&self, id: &Bytes) -> Option<&Found> {
        self.found.get(id)
    }

    fn leased(&self, id: &Bytes, now: Timestamp) -> Leased {
        let found = self.found.get(id);
        let lease = Lease {
            generation: self.generation.cast_unsigned(),
            // Versions are never 0.
            version: found.map_or(0, |found| found.version.cast_unsigned()),
            invalidation: self.sweeps.cast_unsigned(),
        };
        // What is damaged may be replaced by what is loaded.
        let entry = found.and_then(|found| found.clone().entry(now).ok().flatten());
        Leased { entry, lease }
    }
}

impl Sql {
    /// What is under ids of a namespace, values only of what ends after `threshold`.
    pub(super) async fn read(
        &self,
        namespace: &Namespace,
        ids: &[Bytes],
        threshold: i64,
    ) -> Result<Reading, Failure> {
        // A text for each power of two, so that the server has few of them to keep.
        let places = ids.len().next_power_of_two();
        let padded = ids.iter().chain(std::iter::repeat(&ids[ids.len() - 1]));
        let padded = padded.take(places).cloned().map(Argument::Bytes);
        let mut arguments = vec![Argument::Int(threshold)];
        arguments.extend(padded);
        arguments.push(namespaces::name(namespace));
        for _ in 0..ROUNDS {
            let before = namespace.generation();
            let text = self.statements.read(places);
            let ask = Statement::read(text, arguments.clone(), READ);
            let mut rows = self.run_one(ask).await?.rows;
            let Some(first) = rows.first() else {
                self.begin(namespace).await?;
                continue;
            };
            let (Some(generation), Some(sweeps)) = (first.int(0), first.int(1)) else {
                return Err(errors::unexpected().into());
            };
            if self.learn(namespace, before, generation).await? {
                return Ok(Reading {
                    generation,
                    sweeps,
                    found: rows.iter_mut().filter_map(Found::read).collect(),
                });
            }
        }
        Err(restless())
    }

    pub(super) async fn get(&self, key: &Key) -> Result<Option<Entry>, Failure> {
        let now = Timestamp::now();
        match self.find(key, millis(now)).await? {
            Some(found) => Ok(found.entry(now)?),
            None => Ok(None),
        }
    }

    pub(super) async fn contains(&self, key: &Key) -> Result<bool, Failure> {
        // Nothing ends later, so no value is sent.
        let found = self.find(key, NEVER).await?;
        Ok(found.is_some_and(|found| found.is_live(Timestamp::now())))
    }

    async fn find(&self, key: &Key, threshold: i64) -> Result<Option<Found>, Failure> {
        let mut found = None;
        for group in self.groups(std::iter::once(key)) {
            let mut reading = self.read(&group.namespace, &group.ids, threshold).await?;
            found = reading.found.remove(&group.ids[0]);
        }
        Ok(found)
    }

    pub(super) async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>, Failure> {
        let now = Timestamp::now();
        let mut entries = vec![None; keys.len()];
        let each = |place: usize, reading: &Reading, id: &Bytes| {
            let found = reading.found(id).cloned();
            // Among many, what is damaged is absent, so that it does not keep the others from their callers.
            entries[place] = found.and_then(|found| found.entry(now).ok().flatten());
        };
        self.read_many(keys, now, each).await?;
        Ok(entries)
    }

    pub(super) async fn get_leased_many(&self, keys: &[Key]) -> Result<Vec<Leased>, Failure> {
        let now = Timestamp::now();
        let mut leases = vec![None; keys.len()];
        let each = |place: usize, reading: &Reading, id: &Bytes| {
            leases[place] = Some(reading.leased(id, now));
        };
        self.read_many(keys, now, each).await?;
        let leases: Option<Vec<_>> = leases.into_iter().collect();
        leases.ok_or_else(|| errors::unexpected().into())
    }

    async fn read_many(
        &self,
        keys: &[Key],
        now: Timestamp,
        mut each: impl FnMut(usize, &Reading, &Bytes),
    ) -> Result<(), Failure> {
        self.open()?;
        for Group {
            namespace,
            places,
            ids,
        } in self.groups(keys.iter())
        {
            for (places, ids) in places.chunks(CHUNK).zip(ids.chunks(CHUNK)) {
                let reading = self.read(&namespace, ids, millis(now)).await?;
                for (place, id) in places.iter().zip(ids) {
                    each(*place, &reading, id);
                }
            }
        }
        Ok(())
    }
}
