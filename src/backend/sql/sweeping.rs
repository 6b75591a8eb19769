//! Reclaiming what has ended, and what was cleared.
//!
//! What has ended leaves its row, by which a load that began before finds out that it comes too late. Removing rows
//! therefore ends every lease on an absent key: a count of sweeps is raised in the same transaction, and whoever puts by
//! such a lease waits for it. No clock decides that.

use std::{sync::Weak, time::Duration};

use tokio::{sync::watch, time::timeout};

use super::{
    driver::{Argument, Column::Int, Statement},
    errors::{self, Failure},
    keys,
    namespaces::{self, Group},
    reading::millis,
    shared::Sql,
};
use crate::{Key, Timestamp};

/// So many rows are removed at a time: others wait for as long.
const BATCH: usize = 500;

/// So many generations are looked at by one call.
const GENERATIONS: usize = 64;

/// The time between two batches of the sweeper, for others.
const BREATH: Duration = Duration::from_millis(20);

/// Rows that were removed, by what they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Removed {
    expired: usize,
    deleted: usize,
    cleared: usize,
}

impl Removed {
    fn all(self) -> usize {
        self.expired + self.deleted + self.cleared
    }
}

/// Removes what has ended, again and again, until the backend is closed or dropped.
pub(super) async fn sweep(sql: Weak<Sql>, interval: Duration, mut end: watch::Receiver<bool>) {
    // Until then nothing can have ended, and processes that begin together do not sweep together.
    while is_going_on(jittered(interval), &mut end).await {
        let mut total = Removed::default();
        loop {
            let Some(sql) = sql.upgrade() else {
                return;
            };
            let removed = match sql.remove(BATCH).await {
                Ok(removed) => removed,
                Err(failure) => {
                    tracing::debug!(error = %failure.error, "what has ended could not be removed");
                    break;
                }
            };
            drop(sql);
            total.expired += removed.expired;
            total.deleted += removed.deleted;
            total.cleared += removed.cleared;
            if removed.all() == 0 {
                break;
            }
            if !is_going_on(BREATH, &mut end).await {
                return;
            }
        }
        if total.all() > 0 {
            tracing::debug!(
                expired = total.expired,
                deleted = total.deleted,
                cleared = total.cleared,
                "removed rows that had ended"
            );
        }
    }
}

/// Waits, and says whether nobody ended the sweeper meanwhile.
async fn is_going_on(pause: Duration, end: &mut watch::Receiver<bool>) -> bool {
    timeout(pause, end.changed()).await.is_err()
}

/// Between one half of the interval and one and a half.
fn jittered(interval: Duration) -> Duration {
    let mut random = [0; 1];
    // Without randomness all sweep together, which is no failure.
    let _ = getrandom::fill(&mut random);
    interval.mul_f32(0.5 + f32::from(random[0]) / 255.0)
}

impl Sql {
    pub(super) async fn remove_expired(&self, limit: usize) -> Result<usize, Failure> {
        self.open()?;
        let mut removed = 0;
        while removed < limit {
            match self.remove(BATCH.min(limit - removed)).await?.all() {
                0 => break,
                some => removed += some,
            }
        }
        Ok(removed)
    }

    /// Removes one batch: of what has ended, or else of what was cleared.
    async fn remove(&self, limit: usize) -> Result<Removed, Failure> {
        let now = millis(Timestamp::now());
        let ask = Statement::read(self.statements.first_end(), Vec::new(), &[Int]);
        let first = self.run_one(ask).await?.rows;
        let mut removed = Removed::default();
        match first.first().and_then(|row| row.int(0)) {
            Some(0) => removed.deleted = self.remove_ended(0, 0, limit).await?,
            Some(end) if end <= now => removed.expired = self.remove_ended(1, now, limit).await?,
            _ => removed.cleared = self.remove_cleared(limit).await?,
        }
        Ok(removed)
    }

    async fn remove_ended(&self, from: i64, to: i64, limit: usize) -> Result<usize, Failure> {
        let count = Statement::write(self.statements.count_sweep(), Vec::new());
        let arguments = [from, to, integer(limit)].map(Argument::Int).to_vec();
        let remove = Statement::write(self.statements.sweep(), arguments);
        let outcomes = self.run(&[count.repeatable(), remove.repeatable()]).await?;
        affected(outcomes.last().map(|outcome| outcome.affected))
    }

    /// Removes rows of the next generation that no namespace has any more.
    async fn remove_cleared(&self, limit: usize) -> Result<usize, Failure> {
        let mut searched = self.searched.lock().await;
        let start = *searched;
        let mut is_second_round = false;
        for _ in 0..GENERATIONS {
            let arguments = vec![Argument::Int(*searched)];
            let ask = Statement::read(self.statements.next_generation(), arguments, &[Int, Int]);
            let rows = self.run_one(ask).await?.rows;
            let Some(row) = rows.first() else {
                return Err(errors::unexpected().into());
            };
            match row.int(0) {
                Some(generation) if is_second_round && generation > start => return Ok(0),
                Some(generation) => {
                    if row.int(1).is_none() {
                        let removed = self.remove_generation(generation, limit).await?;
                        if removed > 0 {
                            return Ok(removed);
                        }
                    }
                    *searched = generation;
                }
                None if is_second_round => return Ok(0),
                None => {
                    is_second_round = true;
                    *searched = i64::MIN;
                }
            }
        }
        Ok(0)
    }

    async fn remove_generation(&self, generation: i64, limit: usize) -> Result<usize, Failure> {
        let arguments = [generation, generation, integer(limit)].map(Argument::Int);
        let text = self.statements.remove_generation();
        let remove = Statement::write(text, arguments.to_vec()).repeatable();
        affected(Some(self.run_one(remove).await?.affected))
    }

    /// Deletes what is under keys that begin with `prefix`, and ends the leases on it.
    pub(super) async fn delete_prefix(&self, prefix: &Key) -> Result<usize, Failure> {
        self.open()?;
        let (first, after) = keys::range(prefix)?;
        let mut deleted = 0;
        for Group { namespace, .. } in self.groups(std::iter::once(prefix)) {
            let at = Argument::Int(millis(Timestamp::now()));
            let delete = |live: bool| {
                let arguments = vec![
                    Argument::Int(self.versions.next().cast_signed()),
                    namespaces::name(&namespace),
                    Argument::Bytes(first.clone()),
                    Argument::Bytes(after.clone()),
                    at.clone(),
                ];
                Statement::write(self.statements.delete_range(live), arguments)
            };
            let count = Statement::write(self.statements.count_sweep(), Vec::new());
            // The live ones last: those that the other statement deletes are not live either.
            let outcomes = self.run(&[count, delete(false), delete(true)]).await?;
            deleted = affected(outcomes.last().map(|outcome| outcome.affected))?;
        }
        Ok(deleted)
    }
}

fn integer(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn affected(rows: Option<u64>) -> Result<usize, Failure> {
    let rows = rows.and_then(|rows| usize::try_from(rows).ok());
    rows.ok_or_else(|| errors::unexpected().into())
}
