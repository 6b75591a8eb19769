//! The verbs that change or remove what is there.

use std::time::Duration;

use bytes::Bytes;

use super::{
    driver::{Argument, Statement},
    errors::Failure,
    namespaces::{self, Group, ROUNDS},
    reading::{ENTRY, NEVER, millis},
    shared::Sql,
    statements::Upsert,
};
use crate::{Error, ErrorKind, Key, Timestamp, backend::generation::Namespace};

/// So many keys are deleted by one statement.
const ROWS: usize = 128;

/// The rows in parts of a power of two each, so that there are few texts of statements and the server keeps all of them.
pub(super) fn powers<T>(rows: &[T], most: usize) -> impl Iterator<Item = &[T]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let len = rest
            .len()
            .checked_ilog2()
            .map_or(0, |power| 1 << power)
            .min(most);
        let (part, tail) = rest.split_at(len);
        rest = tail;
        (len > 0).then_some(part)
    })
}

impl Sql {
    pub(super) async fn delete_many(&self, keys: &[Key]) -> Result<Vec<bool>, Failure> {
        self.open()?;
        let mut removed = vec![false; keys.len()];
        for Group {
            namespace,
            places,
            ids,
        } in self.groups(keys.iter())
        {
            // Of two equal keys the first one removes, and the second one finds nothing.
            let mut rows: Vec<_> = ids.iter().zip(&places).collect();
            rows.sort();
            rows.dedup_by_key(|(id, _)| *id);
            for rows in powers(&rows, ROWS) {
                let ids: Vec<_> = rows.iter().map(|(id, _)| (*id).clone()).collect();
                let were_live = self.delete_ids(&namespace, &ids).await?;
                for ((_, place), was_live) in rows.iter().zip(were_live) {
                    removed[**place] = was_live;
                }
            }
        }
        Ok(removed)
    }

    /// Leaves a trace under ids that differ and are sorted, and says under which of them something live was.
    pub(super) async fn delete_ids(
        &self,
        namespace: &Namespace,
        ids: &[Bytes],
    ) -> Result<Vec<bool>, Failure> {
        let now = Argument::Int(millis(Timestamp::now()));
        let rows = ids.iter().map(|id| (id.clone(), Vec::new()));
        let left = self.upsert(
            namespace,
            Upsert::Delete,
            rows.collect(),
            vec![now],
            Vec::new(),
        );
        Ok(left.await?.iter().map(|left| left.number > 0).collect())
    }

    pub(super) async fn delete_if(&self, key: &Key, version: u64) -> Result<bool, Failure> {
        let mut deleted = false;
        for group in self.groups(std::iter::once(key)) {
            let arguments = vec![
                Argument::Int(self.version()),
                namespaces::name(&group.namespace),
                Argument::Bytes(group.ids[0].clone()),
                Argument::Int(version.cast_signed()),
                Argument::Int(millis(Timestamp::now())),
            ];
            let delete = Statement::write(self.statements.delete_if(), arguments);
            deleted = self.run_one(delete).await?.affected > 0;
        }
        Ok(deleted)
    }

    pub(super) async fn touch(&self, key: &Key, ttl: Option<Duration>) -> Result<bool, Failure> {
        let now = Timestamp::now();
        let mut touched = false;
        for group in self.groups(std::iter::once(key)) {
            let arguments = vec![
                Argument::Int(ttl.map_or(NEVER, |ttl| millis(now + ttl))),
                namespaces::name(&group.namespace),
                Argument::Bytes(group.ids[0].clone()),
                Argument::Int(millis(now)),
            ];
            let touch = Statement::write(self.statements.touch(), arguments).repeatable();
            touched = self.run_one(touch).await?.affected > 0;
        }
        Ok(touched)
    }

    pub(super) async fn increment(
        &self,
        key: &Key,
        delta: i64,
        ttl: Option<Duration>,
    ) -> Result<i64, Failure> {
        // The counts that have room for the delta.
        let (low, high) = match delta {
            0.. => (i64::MIN, i64::MAX - delta),
            _ => (i64::MIN - delta, i64::MAX),
        };
        for _ in 0..ROUNDS {
            let now = Timestamp::now();
            let end = ttl.map_or(NEVER, |ttl| millis(now + ttl));
            let at = Argument::Int(millis(now));
            for group in self.groups(std::iter::once(key)) {
                let (namespace, id) = (&group.namespace, &group.ids[0]);
                let row = (id.clone(), vec![Argument::Int(end), Argument::Int(delta)]);
                let changes = vec![at.clone(), at.clone()];
                let condition = vec![at.clone(), Argument::Int(low), Argument::Int(high)];
                let left = self
                    .upsert(namespace, Upsert::Increment, vec![row], changes, condition)
                    .await?;
                if let Some(left) = left.first().filter(|left| left.is_ours) {
                    return Ok(left.number);
                }
                // A value, or a counter at its end; or one of them a moment ago.
                let reading = self.read(namespace, &group.ids, NEVER).await?;
                match reading.found(id).filter(|found| found.is_live(now)) {
                    Some(found) if found.kind == ENTRY => {
                        return Err(Error::new(
                            ErrorKind::WrongType,
                            "the key holds a value, not a counter",
                        )
                        .into());
                    }
                    Some(found) if found.number.checked_add(delta).is_none() => {
                        return Err(Error::new(
                            ErrorKind::Overflow,
                            "the counter would leave the range of i64",
                        )
                        .into());
                    }
                    _ => {}
                }
            }
        }
        Err(Error::new(ErrorKind::Backend, "the key changed at every attempt").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_powers_of_two_and_leave_nothing_out() {
        for len in 0..600 {
            let rows: Vec<_> = (0..len).collect();
            let parts: Vec<_> = powers(&rows, 128).collect();
            assert_eq!(parts.concat(), rows);
            assert!(
                parts
                    .iter()
                    .all(|part| part.len().is_power_of_two() && part.len() <= 128)
            );
        }
    }
}
