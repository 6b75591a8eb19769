//! Rows that are inserted, or change what is there in one step.

use std::collections::HashMap;

use bytes::Bytes;

use super::{
    driver::{Argument, Outcome, Statement},
    errors::{Cause, Failure},
    namespaces::{self, ROUNDS, restless},
    shared::Sql,
    statements::{Upsert, WRITTEN},
};
use crate::backend::generation::Namespace;

/// What an upsert left of a row.
pub(super) struct Left {
    /// Whether the row is as this upsert wanted it.
    pub(super) is_ours: bool,
    pub(super) number: i64,
}

impl Sql {
    pub(super) fn version(&self) -> i64 {
        self.versions.next().cast_signed()
    }

    /// Upserts rows, each an id and what follows its version; ids differ and are sorted.
    pub(super) async fn upsert(
        &self,
        namespace: &Namespace,
        by: Upsert,
        rows: Vec<(Bytes, Vec<Argument>)>,
        changes: Vec<Argument>,
        condition: Vec<Argument>,
    ) -> Result<Vec<Left>, Failure> {
        let name = namespaces::name(namespace);
        let mut arguments = Vec::with_capacity(rows.len() * 6 + 4);
        let mut written = Vec::with_capacity(rows.len());
        for (id, rest) in rows {
            let version = self.version();
            arguments.extend([
                name.clone(),
                Argument::Bytes(id.clone()),
                Argument::Int(version),
            ]);
            arguments.extend(rest);
            written.push((id, version));
        }
        arguments.extend(self.dialect.in_order(changes, condition));

        let mut statements = vec![Statement {
            repeats: matches!(by, Upsert::Always | Upsert::Delete),
            ..Statement::write(self.statements.upsert(by, written.len()), arguments)
        }];
        if by != Upsert::Always {
            if self.dialect.has_returning() {
                statements[0].columns = WRITTEN;
            } else {
                let mut arguments = vec![name];
                arguments.extend(written.iter().map(|(id, _)| Argument::Bytes(id.clone())));
                let text = self.statements.written(written.len());
                statements.push(Statement {
                    ..Statement::read(text, arguments, WRITTEN)
                });
            }
        }
        let outcomes = self.write_in(namespace, &statements).await?;
        if by == Upsert::Always {
            let left = written.iter().map(|_| Left {
                is_ours: true,
                number: 0,
            });
            return Ok(left.collect());
        }
        let mut answers = outcomes.into_iter().next_back().unwrap_or_default().rows;
        let answers = answers.iter_mut().filter_map(|row| {
            let id = row.bytes(0)?;
            Some((id, (row.int(1)?, row.int(2)?)))
        });
        let answers: HashMap<_, _> = answers.collect();
        let left = written.iter().map(|(id, version)| {
            let answer = answers.get(id);
            Left {
                is_ours: answer.is_some_and(|(left, _)| left == version),
                number: answer.map_or(0, |(_, number)| *number),
            }
        });
        Ok(left.collect())
    }

    /// Writes rows, and again where their namespace had no generation.
    async fn write_in(
        &self,
        namespace: &Namespace,
        statements: &[Statement],
    ) -> Result<Vec<Outcome>, Failure> {
        self.know(namespace).await?;
        for _ in 0..ROUNDS {
            match self.run(statements).await {
                Err(failure) if failure.cause == Cause::NoNamespace => {
                    self.begin(namespace).await?
                }
                done => return done,
            }
        }
        Err(restless())
    }
}
