//! What is left to do where the namespace is full: the server refuses every write, even a smaller one, and removes records
//! all the same. A removal leaves no trace then.

use std::collections::HashSet;

use aerospike::{
    BatchDeletePolicy, BatchOperation, BatchReadPolicy, Bins, expressions::Expression,
};

use super::{super::frame, connection::Connection, policies::Write, record::is_live};
use crate::{Key, Result, Timestamp};

impl Connection {
    /// Removes the record where it meets the condition, and says whether something live was removed.
    pub(super) async fn remove(
        &self,
        record: &aerospike::Key,
        condition: Option<Expression>,
    ) -> aerospike::Result<bool> {
        let was_live = self.is_there(record).await?;
        let policy = self.policies.write(Write {
            condition,
            ..Write::ALWAYS
        });
        Ok(self.delete(&policy, record).await? && was_live)
    }

    /// Removes the records of `keys`, and says of each whether something live was removed.
    pub(super) async fn remove_many(
        &self,
        operation: &'static str,
        keys: &[&Key],
    ) -> Result<Vec<bool>> {
        let live = BatchReadPolicy {
            filter_expression: Some(is_live(Timestamp::now())),
            ..self.policies.read_row.clone()
        };
        let found = self.look_many(operation, keys, |record| {
            BatchOperation::read(&live, record, Bins::None)
        });
        let found = found.await?;
        let removed = self.write_many(
            operation,
            keys,
            |_| frame::OVERHEAD,
            |_, record, _| {
                let policy = BatchDeletePolicy::default();
                Some(BatchOperation::delete(&policy, record))
            },
        );
        removed.await?;
        let mut seen = HashSet::new();
        let first = keys.iter().map(|key| seen.insert(*key));
        Ok(first
            .zip(found)
            .map(|(is_first, found)| is_first && found.is_some())
            .collect())
    }

    /// Whether something live is there.
    pub(super) async fn is_there(&self, record: &aerospike::Key) -> aerospike::Result<bool> {
        let policy = self.policies.read_if(is_live(Timestamp::now()));
        self.exists(&policy, record).await
    }
}
