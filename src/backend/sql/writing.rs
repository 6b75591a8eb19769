//! The verbs that put.

use std::collections::HashSet;

use bytes::Bytes;

use super::{
    changing::powers,
    driver::{Argument, Statement},
    errors::{self, Failure},
    namespaces,
    reading::{end, millis},
    shared::Sql,
    statements::Upsert,
};
use crate::{
    Entry, Error, ErrorKind, Key, Lease, PutMode, Result, Timestamp, backend::generation::Namespace,
};

/// So many rows, and about so many bytes, are written by one statement, unless the database takes fewer.
const ROWS: usize = 128;
const BYTES: usize = 1 << 20;

/// What a row has beside its payload, its key and the name of its namespace.
const ROW: usize = 128;

/// What is done for an entry that is put.
enum Plan {
    /// Rows of one upsert.
    Upsert(Upsert),
    /// Where the live entry has this version.
    Replace(u64),
    /// Where the lease holds.
    Lease(Lease),
    /// What is there goes: it is not the truth any more, and nothing can come in its place.
    Remove,
    /// Nothing.
    Refuse,
}

/// A row to write.
struct Writing<'a> {
    place: usize,
    id: &'a Bytes,
    entry: &'a Entry,
    plan: Plan,
}

impl Writing<'_> {
    fn bytes(&self) -> usize {
        // The names of namespaces are no longer than keys.
        self.entry.payload().len() + 2 * self.id.len() + ROW
    }
}

/// Writes that go together.
#[derive(Default)]
struct Batch<'a> {
    writings: Vec<Writing<'a>>,
    ids: HashSet<&'a Bytes>,
    bytes: usize,
    most: usize,
}

impl<'a> Batch<'a> {
    /// Whether one more fits, and does not meet another one of them.
    fn takes(&self, writing: &Writing<'_>) -> bool {
        let Some(last) = self.writings.last() else {
            return true;
        };
        let together = match (&last.plan, &writing.plan) {
            (Plan::Upsert(one), Plan::Upsert(other)) => one == other,
            (Plan::Replace(_) | Plan::Lease(_), Plan::Replace(_) | Plan::Lease(_)) => true,
            (Plan::Remove, Plan::Remove) => true,
            _ => false,
        };
        together
            && self.writings.len() < ROWS
            && self.bytes + writing.bytes() <= self.most
            && !self.ids.contains(writing.id)
    }

    fn add(&mut self, writing: Writing<'a>) {
        self.bytes += writing.bytes();
        self.ids.insert(writing.id);
        self.writings.push(writing);
    }
}

impl Sql {
    pub(super) async fn put(
        &self,
        key: &Key,
        entry: Entry,
        mode: PutMode,
    ) -> Result<bool, Failure> {
        let kept = self.put_many(&[(key.clone(), entry, mode)]).await?;
        kept.first()
            .copied()
            .ok_or_else(|| errors::unexpected().into())
    }

    pub(super) async fn put_many(
        &self,
        entries: &[(Key, Entry, PutMode)],
    ) -> Result<Vec<bool>, Failure> {
        self.open()?;
        let mut kept = vec![false; entries.len()];
        let mut refused = None;
        for group in self.groups(entries.iter().map(|(key, ..)| key)) {
            let empty = || Batch {
                most: BYTES.min(self.largest()),
                ..Batch::default()
            };
            let mut batch = empty();
            for (&place, id) in group.places.iter().zip(&group.ids) {
                let (_, entry, mode) = &entries[place];
                let writing = Writing {
                    place,
                    id,
                    entry,
                    plan: self.plan(entry, *mode),
                };
                if matches!(writing.plan, Plan::Refuse) {
                    continue;
                }
                if !batch.takes(&writing) {
                    let full = std::mem::replace(&mut batch, empty());
                    self.put_batch(&group.namespace, full, &mut kept, &mut refused)
                        .await?;
                }
                batch.add(writing);
            }
            self.put_batch(&group.namespace, batch, &mut kept, &mut refused)
                .await?;
        }
        match refused {
            Some(error) => Err(error),
            None => Ok(kept),
        }
    }

    fn plan(&self, entry: &Entry, mode: PutMode) -> Plan {
        let too_large = entry.payload().len() > self.largest();
        match mode {
            PutMode::Always if too_large => Plan::Remove,
            PutMode::Always => Plan::Upsert(Upsert::Always),
            _ if too_large => Plan::Refuse,
            PutMode::IfAbsent => Plan::Upsert(Upsert::IfAbsent),
            // It stands for nothing that is there.
            PutMode::IfVersion(0) => Plan::Refuse,
            PutMode::IfVersion(version) => Plan::Replace(version),
            PutMode::IfUnchanged(lease) => Plan::Lease(lease),
        }
    }

    /// Carries out one batch. Where there is no room for it, what it was to replace goes, and the rest is still tried.
    async fn put_batch(
        &self,
        namespace: &Namespace,
        batch: Batch<'_>,
        kept: &mut [bool],
        refused: &mut Option<Failure>,
    ) -> Result<(), Failure> {
        let mut open = vec![batch.writings];
        while let Some(mut writings) = open.pop() {
            // In one order for everybody, so that nobody waits for who waits for them.
            writings.sort_unstable_by(|one, other| one.id.cmp(other.id));
            let whole = writings.len();
            let first = powers(&writings, ROWS).next().map_or(0, <[_]>::len);
            if first < whole {
                open.push(writings.split_off(first));
            }
            match self.put_together(namespace, &writings).await {
                Ok(answers) => {
                    for (writing, answer) in writings.iter().zip(answers) {
                        kept[writing.place] = answer;
                    }
                }
                Err(failure) if failure.error.kind() != ErrorKind::TooLarge => {
                    return Err(failure);
                }
                // One of them may be the reason.
                Err(_) if writings.len() > 1 => {
                    open.extend(writings.into_iter().map(|writing| vec![writing]));
                }
                Err(failure) => {
                    *refused = Some(failure);
                    for writing in &writings {
                        if matches!(writing.plan, Plan::Upsert(Upsert::Always)) {
                            self.delete_without_room(namespace, writing.id).await?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    async fn put_together(
        &self,
        namespace: &Namespace,
        writings: &[Writing<'_>],
    ) -> Result<Vec<bool>, Failure> {
        match writings.first().map(|writing| &writing.plan) {
            None => Ok(Vec::new()),
            Some(Plan::Upsert(by)) => self.upsert_batch(namespace, *by, writings).await,
            Some(Plan::Remove) => {
                let ids: Vec<_> = writings.iter().map(|it| it.id.clone()).collect();
                self.delete_ids(namespace, &ids).await?;
                Ok(vec![false; writings.len()])
            }
            Some(_) => self.swap_batch(namespace, writings).await,
        }
    }

    /// Removes what could not be replaced. Where there is no room for that either, the database is of no use: what it
    /// holds is no longer true.
    async fn delete_without_room(&self, namespace: &Namespace, id: &Bytes) -> Result<(), Failure> {
        match self.delete_ids(namespace, std::slice::from_ref(id)).await {
            Err(failure) if failure.error.kind() == ErrorKind::TooLarge => {
                let message =
                    "there is no room to put anything, nor to remove what was to be replaced";
                Err(Error::new(ErrorKind::Backend, message)
                    .caused_by(failure.error)
                    .into())
            }
            done => {
                done?;
                Ok(())
            }
        }
    }

    async fn upsert_batch(
        &self,
        namespace: &Namespace,
        by: Upsert,
        writings: &[Writing<'_>],
    ) -> Result<Vec<bool>, Failure> {
        let now = Argument::Int(millis(Timestamp::now()));
        let rows = writings.iter().map(|writing| {
            let rest = vec![
                Argument::Int(end(writing.entry)),
                Argument::Bytes(writing.entry.to_bytes()),
            ];
            (writing.id.clone(), rest)
        });
        let condition = match by {
            Upsert::IfAbsent => vec![now],
            _ => Vec::new(),
        };
        let left = self.upsert(namespace, by, rows.collect(), Vec::new(), condition);
        let left = left.await?;
        Ok(left.iter().map(|left| left.is_ours).collect())
    }

    /// Puts on condition of a version or a lease, each by a statement of its own.
    async fn swap_batch(
        &self,
        namespace: &Namespace,
        writings: &[Writing<'_>],
    ) -> Result<Vec<bool>, Failure> {
        let now = Argument::Int(millis(Timestamp::now()));
        let name = namespaces::name(namespace);
        let statements = writings.iter().map(|writing| {
            let id = Argument::Bytes(writing.id.clone());
            let values = [
                Argument::Int(self.version()),
                Argument::Int(end(writing.entry)),
                Argument::Bytes(writing.entry.to_bytes()),
            ];
            let number = |number: u64| Argument::Int(number.cast_signed());
            let (text, arguments) = match writing.plan {
                Plan::Lease(lease) if lease.version == 0 => (
                    self.statements.fill.clone(),
                    [
                        &[id][..],
                        &values,
                        &[
                            name.clone(),
                            number(lease.generation),
                            number(lease.invalidation),
                        ],
                    ]
                    .concat(),
                ),
                Plan::Lease(lease) => (
                    self.statements.swap.clone(),
                    [
                        &values[..],
                        &[
                            number(lease.generation),
                            id,
                            number(lease.version),
                            name.clone(),
                        ],
                    ]
                    .concat(),
                ),
                Plan::Replace(version) => (
                    self.statements.replace(),
                    [
                        &values[..],
                        &[name.clone(), id, number(version), now.clone()],
                    ]
                    .concat(),
                ),
                // Batches are of these only.
                Plan::Upsert(_) | Plan::Remove | Plan::Refuse => return Err(errors::unexpected()),
            };
            Ok(Statement::write(text, arguments))
        });
        let statements = statements.collect::<Result<Vec<_>>>()?;
        let outcomes = self.run(&statements).await?;
        Ok(outcomes
            .iter()
            .map(|outcome| outcome.affected > 0)
            .collect())
    }
}
